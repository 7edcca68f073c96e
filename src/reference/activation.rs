//! Gates and their derivatives, guarded so that no argument overflows on the way.

use super::Float;

/// `1 / (1 + exp(-x))`, with `exp` taken of negative numbers only.
pub fn sigmoid<T: Float>(x: T) -> T {
    let e = (-x.abs()).exp();
    if x >= T::zero() { T::one() / (T::one() + e) } else { e / (T::one() + e) }
}

/// The derivative of [`sigmoid`] at `x`: `sigmoid(x) sigmoid(-x)`.
pub fn sigmoid_derivative<T: Float>(x: T) -> T {
    sigmoid(x) * sigmoid(-x)
}

/// `x sigmoid(x)`.
pub fn silu<T: Float>(x: T) -> T {
    x * sigmoid(x)
}

/// The derivative of [`silu`] at `x`: `sigmoid(x) (1 + x sigmoid(-x))`.
pub fn silu_derivative<T: Float>(x: T) -> T {
    sigmoid(x) * (T::one() + x * sigmoid(-x))
}

/// `log(1 + exp(x))` as `max(x, 0) + log1p(exp(-|x|))`.
pub fn softplus<T: Float>(x: T) -> T {
    x.max(T::zero()) + (-x.abs()).exp().ln_1p()
}

/// The derivative of [`softplus`] at `x`.
pub fn softplus_derivative<T: Float>(x: T) -> T {
    sigmoid(x)
}

/// The inverse of [`softplus`], for `y > 0`: `y + log(1 - exp(-y))`.
pub fn softplus_inverse<T: Float>(y: T) -> T {
    y + (-(-y).exp_m1()).ln()
}

/// The hyperbolic tangent.
pub fn tanh<T: Float>(x: T) -> T {
    x.tanh()
}

/// The derivative of [`tanh`] at `x`: `1 - tanh(x)²`.
pub fn tanh_derivative<T: Float>(x: T) -> T {
    let y = x.tanh();
    (T::one() - y) * (T::one() + y)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extreme_arguments_stay_finite() {
        for x in [-1e30f32, -200.0, -40.0, 0.0, 40.0, 200.0, 1e30] {
            for f in [sigmoid, sigmoid_derivative, silu, silu_derivative, softplus, softplus_derivative, tanh, tanh_derivative] {
                assert!(f(x).is_finite(), "at {x}: {}", f(x));
            }
        }
        assert_eq!(softplus(100f32), 100.0);
        assert_eq!(sigmoid(-90f32), (-90f32).exp());
    }

    type Function = fn(f64) -> f64;

    #[test]
    fn derivatives_match_central_differences() {
        let pairs: [(Function, Function); 4] =
            [(sigmoid, sigmoid_derivative), (silu, silu_derivative), (softplus, softplus_derivative), (tanh, tanh_derivative)];
        for (f, derivative) in pairs {
            for i in -80..=80 {
                let x = f64::from(i) / 8.0;
                let difference = (f(x + 1e-5) - f(x - 1e-5)) / 2e-5;
                assert!((difference - derivative(x)).abs() < 1e-9, "at {x}: {difference} against {}", derivative(x));
            }
        }
    }

    #[test]
    fn softplus_and_its_inverse_undo_each_other() {
        for y in [1e-6f64, 1e-3, 0.1, 1.0, 30.0, 800.0] {
            assert!((softplus(softplus_inverse(y)) - y).abs() < 1e-12 * (1.0 + y));
        }
    }
}
