//! Root-mean-square normalisation of rows (Zhang and Sennrich 2019, arXiv 1910.07467): `y = x w / sqrt(mean(x²) + eps)`.
//!
//! With `r = 1 / sqrt(mean(x²) + eps)`, `n = x r` and `g = ∂L/∂y`: `∂L/∂w = Σ_rows g n`. Since `∂r/∂x_j = -r³ x_j / n_channel`,
//! `∂L/∂x = r (g w - n mean(g w n))`.

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Ix1};

use super::Float;
use crate::memory::Memory;
use crate::ops::{RmsNorm, RmsNormBackward};

/// What the normalisation reads.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a, T> {
    /// `(rows, channel)`.
    pub x: ArrayView2<'a, T>,
    /// `(channel)`.
    pub weight: ArrayView1<'a, T>,
    /// Added to the mean square; 1e-5 in the published models.
    pub eps: T,
}

/// The gradients of the inputs of the same names and shapes.
#[derive(Clone, Debug)]
pub struct Gradients<T> {
    /// `(rows, channel)`.
    pub grad_x: Array2<T>,
    /// `(channel)`.
    pub grad_weight: Array1<T>,
}

/// `y`, `(rows, channel)`.
pub fn forward<T: Float>(inputs: &Inputs<T>) -> Array2<T> {
    let mut y = Array2::zeros(inputs.x.dim());
    for (x, mut y) in inputs.x.rows().into_iter().zip(y.rows_mut()) {
        let r = inverse_rms(x, inputs.eps);
        y.assign(&(&x * &inputs.weight * r));
    }
    y
}

/// The gradients, given `grad_y`, `(rows, channel)`.
pub fn backward<T: Float>(inputs: &Inputs<T>, grad_y: ArrayView2<T>) -> Gradients<T> {
    let mut grad_x = Array2::zeros(inputs.x.dim());
    let mut grad_weight = Array1::zeros(inputs.weight.dim());
    for ((x, g), mut grad_x) in inputs.x.rows().into_iter().zip(grad_y.rows()).zip(grad_x.rows_mut()) {
        let r = inverse_rms(x, inputs.eps);
        let normalised = x.mapv(|x| x * r);
        let gw = &g * &inputs.weight;
        let mean = (&gw * &normalised).sum() / count(x.len());
        grad_weight += &(&g * &normalised);
        grad_x.assign(&((gw - normalised * mean) * r));
    }
    Gradients { grad_x, grad_weight }
}

fn inverse_rms<T: Float>(row: ArrayView1<T>, eps: T) -> T {
    let mean_square = row.iter().map(|&x| x * x).sum::<T>() / count(row.len());
    (mean_square + eps).sqrt().recip()
}

fn count<T: Float>(n: usize) -> T {
    T::from_f64(n as f64)
}

pub(super) fn run<T: Float>(op: &RmsNorm, memory: &mut Memory<T>) {
    let eps = T::from_f64(f64::from(op.eps));
    let y = forward(&Inputs { x: memory.rows(op.x), weight: memory.axes::<Ix1>(op.weight), eps });
    memory.store(op.y, &y);
}

pub(super) fn run_backward<T: Float>(op: &RmsNormBackward, memory: &mut Memory<T>) {
    let eps = T::from_f64(f64::from(op.eps));
    let inputs = Inputs { x: memory.rows(op.x), weight: memory.axes::<Ix1>(op.weight), eps };
    let gradients = backward(&inputs, memory.rows(op.grad_y));
    if let Some(grad_x) = op.grad_x {
        memory.store(grad_x, &gradients.grad_x);
    }
    if let Some(grad_weight) = op.grad_weight {
        memory.store(grad_weight, &gradients.grad_weight);
    }
}
