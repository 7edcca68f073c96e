// What an invocation takes together: one element of a row.
alias Value = f32;

fn total(value: Value) -> f32 {
    return value;
}

fn element_of(value: Value, i: u32) -> f32 {
    return value;
}

fn with_element(value: Value, i: u32, element: f32) -> Value {
    return element;
}
