// Gates of a Value, of one element.

fn silu_each(x: Value) -> Value {
    return silu(x);
}

fn silu_derivative_each(x: Value) -> Value {
    return silu_derivative(x);
}
