// What an invocation takes together: one element of a row.
alias Value = f32;

fn total(value: Value) -> f32 {
    return value;
}
