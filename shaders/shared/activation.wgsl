// Gates of a Value and their derivatives, guarded so that no argument overflows on the way: as in reference/activation.rs.

// sigmoid(x) and sigmoid(-x), with exp taken of negative numbers only
struct Sigmoids {
    positive: Value,
    negative: Value,
}

fn sigmoids(x: Value) -> Sigmoids {
    let e = exp(-abs(x));
    let large = 1.0 / (1.0 + e);
    let small = e * large;
    let is_large = x >= Value(0.0);
    return Sigmoids(select(small, large, is_large), select(large, small, is_large));
}

fn sigmoid(x: Value) -> Value {
    return sigmoids(x).positive;
}

// sigmoid(x) sigmoid(-x)
fn sigmoid_derivative(x: Value) -> Value {
    let both = sigmoids(x);
    return both.positive * both.negative;
}

fn silu(x: Value) -> Value {
    return x * sigmoid(x);
}

fn silu_derivative(x: Value) -> Value {
    let both = sigmoids(x);
    return both.positive * (1.0 + x * both.negative);
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
