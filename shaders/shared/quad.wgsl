// What an invocation takes together: four neighbouring elements of a row.
alias Value = vec4<f32>;

fn total(value: Value) -> f32 {
    return dot(value, Value(1.0));
}

fn element_of(value: Value, i: u32) -> f32 {
    return value[i];
}

fn with_element(value: Value, i: u32, element: f32) -> Value {
    var changed = value;
    changed[i] = element;
    return changed;
}
