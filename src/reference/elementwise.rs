//! Operations on each element alone: the sums of residuals, the sign and exponent of `A = -exp(A_log)`.

use ndarray::{Array, ArrayView, Dimension};

use super::Float;

/// `y = -exp(x)`, of any shape.
pub fn neg_exp<T: Float, D: Dimension>(x: ArrayView<T, D>) -> Array<T, D> {
    x.mapv(|x| -x.exp())
}

/// The gradient of `x`, `∂L/∂y y`, given `y` and `grad_y` of one shape.
pub fn neg_exp_backward<T: Float, D: Dimension>(y: ArrayView<T, D>, grad_y: ArrayView<T, D>) -> Array<T, D> {
    &y * &grad_y
}

/// `a + b`, both of one shape. Its gradient passes to both as it is.
pub fn add<T: Float, D: Dimension>(a: ArrayView<T, D>, b: ArrayView<T, D>) -> Array<T, D> {
    &a + &b
}

/// `factor x`, of any shape. Its gradient is scaled alike.
pub fn scale<T: Float, D: Dimension>(x: ArrayView<T, D>, factor: T) -> Array<T, D> {
    x.mapv(|x| x * factor)
}
