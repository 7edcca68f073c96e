// What an invocation takes together: four neighbouring elements of a row.
alias Value = vec4<f32>;

fn total(value: Value) -> f32 {
    return dot(value, Value(1.0));
}
