// Gates of a Value, of four elements.

fn silu_each(x: Value) -> Value {
    return Value(silu(x.x), silu(x.y), silu(x.z), silu(x.w));
}

fn silu_derivative_each(x: Value) -> Value {
    return Value(silu_derivative(x.x), silu_derivative(x.y), silu_derivative(x.z), silu_derivative(x.w));
}
