//! Operations on each element alone: the sums of residuals, the sign and exponent of `A = -exp(A_log)`.

use ndarray::{Array, ArrayView, Dimension};

use super::Float;
use crate::memory::Memory;
use crate::ops::Elementwise;

/// `y = -exp(x)`, of any shape.
pub fn neg_exp<T: Float, D: Dimension>(x: ArrayView<T, D>) -> Array<T, D> {
    x.mapv(|x| -x.exp())
}

/// The gradient of `x`, `∂L/∂y y`, given `y` and `grad_y` of one shape.
pub fn neg_exp_backward<T: Float, D: Dimension>(y: ArrayView<T, D>, grad_y: ArrayView<T, D>) -> Array<T, D> {
    &y * &grad_y
}

pub(super) fn run<T: Float>(op: &Elementwise, memory: &mut Memory<T>) {
    match *op {
        Elementwise::Fill { y, value } => memory.view_mut(y).fill(T::from_f64(f64::from(value))),
        Elementwise::Copy { x, y } => memory.store(y, &memory.array(x)),
        Elementwise::Add { x, y } => memory.store(y, &(memory.array(y) + memory.view(x))),
        Elementwise::Sum { a, b, y } => memory.store(y, &(memory.array(a) + memory.view(b))),
        Elementwise::NegExp { x, y } => memory.store(y, &neg_exp(memory.view(x))),
        Elementwise::NegExpBackward { y, grad_y, grad_x } => memory.store(grad_x, &neg_exp_backward(memory.view(y), memory.view(grad_y))),
    }
}
