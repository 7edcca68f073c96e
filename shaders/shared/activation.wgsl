// Gates of a Value and their derivatives, guarded so that no argument overflows on the way: as in reference/activation.rs.

// 1 / (1 + exp(-x)), with exp taken of negative numbers only
fn sigmoid(x: Value) -> Value {
    let e = exp(-abs(x));
    return select(e, Value(1.0), x >= Value(0.0)) / (1.0 + e);
}

// sigmoid(x) sigmoid(-x)
fn sigmoid_derivative(x: Value) -> Value {
    return sigmoid(x) * sigmoid(-x);
}

fn silu(x: Value) -> Value {
    return x * sigmoid(x);
}

fn silu_derivative(x: Value) -> Value {
    return sigmoid(x) * (1.0 + x * sigmoid(-x));
}

// some drivers give NaN above 40; beyond 10 the result rounds to 1
fn tanh_guarded(x: Value) -> Value {
    return tanh(clamp(x, Value(-10.0), Value(10.0)));
}

// log(1 + exp(x)) = max(x, 0) + 2 atanh(e / (2 + e)) with e = exp(-|x|). The series of atanh keeps the relative error where e is small;
// log, near 1 exact only to 2^-21, would lose it.
fn softplus(x: Value) -> Value {
    let e = exp(-abs(x));
    let s = e / (2.0 + e);
    let w = s * s;
    let series = 1.0 + w * (1.0 / 3.0 + w * (1.0 / 5.0 + w * (1.0 / 7.0 + w * (1.0 / 9.0 + w * (1.0 / 11.0 + w * (1.0 / 13.0))))));
    return max(x, Value(0.0)) + 2.0 * s * series;
}
