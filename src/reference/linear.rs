//! The linear layer `y = x Wᵀ + b`.
//!
//! With `g = ∂L/∂y`: `∂L/∂x = g W`, `∂L/∂W = gᵀ x`, `∂L/∂b = Σ_rows g`.

use ndarray::linalg::general_mat_mul;
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis, Ix1, Ix2};

use super::Float;
use crate::memory::Memory;
use crate::ops::{Linear, LinearBackward};

/// What the layer reads.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a, T> {
    /// `(rows, in)`.
    pub x: ArrayView2<'a, T>,
    /// `(out, in)`.
    pub weight: ArrayView2<'a, T>,
    /// `(out)`.
    pub bias: Option<ArrayView1<'a, T>>,
}

/// The gradients of the inputs of the same names and shapes.
#[derive(Clone, Debug)]
pub struct Gradients<T> {
    /// `(rows, in)`.
    pub grad_x: Array2<T>,
    /// `(out, in)`.
    pub grad_weight: Array2<T>,
    /// `(out)`, where there is a bias.
    pub grad_bias: Option<Array1<T>>,
}

/// `y`, `(rows, out)`.
pub fn forward<T: Float>(inputs: &Inputs<T>) -> Array2<T> {
    let y = product(inputs.x, inputs.weight.t());
    match inputs.bias {
        Some(bias) => y + bias,
        None => y,
    }
}

/// The gradients, given `grad_y`, `(rows, out)`.
pub fn backward<T: Float>(inputs: &Inputs<T>, grad_y: ArrayView2<T>) -> Gradients<T> {
    Gradients {
        grad_x: product(grad_y, inputs.weight),
        grad_weight: product(grad_y.t(), inputs.x),
        grad_bias: inputs.bias.map(|_| grad_y.sum_axis(Axis(0))),
    }
}

pub(super) fn run<T: Float>(op: &Linear, memory: &mut Memory<T>) {
    let bias = op.bias.map(|bias| memory.axes::<Ix1>(bias));
    let y = forward(&Inputs { x: memory.rows(op.x), weight: memory.axes::<Ix2>(op.weight), bias });
    memory.store(op.y, &y);
}

pub(super) fn run_backward<T: Float>(op: &LinearBackward, memory: &mut Memory<T>) {
    let inputs = Inputs { x: memory.rows(op.x), weight: memory.axes::<Ix2>(op.weight), bias: None };
    let grad_y = memory.rows(op.grad_y);
    let grad_bias = op.grad_bias.map(|_| grad_y.sum_axis(Axis(0)));
    let gradients = backward(&inputs, grad_y);
    if let Some(grad_x) = op.grad_x {
        memory.store(grad_x, &gradients.grad_x);
    }
    if let Some(grad_weight) = op.grad_weight {
        memory.store(grad_weight, &gradients.grad_weight);
    }
    if let (Some(tensor), Some(grad_bias)) = (op.grad_bias, grad_bias) {
        memory.store(tensor, &grad_bias);
    }
}

/// `a b`, row-major whatever the layouts of the factors.
fn product<T: Float>(a: ArrayView2<T>, b: ArrayView2<T>) -> Array2<T> {
    let mut c = Array2::zeros((a.nrows(), b.ncols()));
    general_mat_mul(T::one(), &a, &b, T::zero(), &mut c);
    c
}
