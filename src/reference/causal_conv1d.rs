//! Causal depthwise convolution over the steps, as before the scan of a Mamba mixer (Gu and Dao 2023, arXiv 2312.00752, section 3.4).
//!
//! Each channel has its own `kernel_size` weights, the last of which meets the current step. With `i` counting positions of the run:
//! ```text
//! s_i = bias + Σ_k weight[k] x_{i - (kernel_size - 1) + k}          y_i = s_i, or SiLU(s_i)
//! ```
//! Inputs before the run come from the initial window, inputs beyond a border are 0. Backward, with `σ_i = ∂L/∂s_i`:
//! `∂bias = Σ σ_i`, `∂weight[k] = Σ σ_i x_{i - (kernel_size - 1) + k}`, and `∂x_j` collects `σ_i weight[k]` over all pairs that read `x_j`.

use std::ops::Range;

use ndarray::{Array1, Array2, Array3, ArrayView1, ArrayView2, ArrayView3, Axis, Ix1, Ix2, Ix3, s};

use super::activation::{silu, silu_derivative};
use super::session::reset_mask;
use super::{Float, Run};
use crate::memory::Memory;
use crate::ops::{CausalConv1d, CausalConv1dBackward};

/// What follows the convolution.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    #[default]
    None,
    /// SiLU.
    Silu,
}

/// What the convolution reads.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a, T> {
    /// `(batch, step, channel)`.
    pub x: ArrayView3<'a, T>,
    /// `(channel, kernel_size)`.
    pub weight: ArrayView2<'a, T>,
    /// `(channel)`.
    pub bias: Option<ArrayView1<'a, T>>,
    /// `(batch, kernel_size - 1, channel)`: the inputs before the first position, in the order of the run, so that the last of them is
    /// the neighbour of the first position; 0 where absent.
    pub initial_window: Option<ArrayView3<'a, T>>,
    /// What follows the convolution.
    pub activation: Activation,
    /// Direction and borders.
    pub run: Run<'a>,
}

/// What the convolution computes.
#[derive(Clone, Debug)]
pub struct Outputs<T> {
    /// `(batch, step, channel)`.
    pub y: Array3<T>,
    /// `(batch, kernel_size - 1, channel)`: the initial window of a run that continues this one; 0 for inputs beyond a border.
    pub last_window: Array3<T>,
}

/// The gradients of the inputs of the same names and shapes.
#[derive(Clone, Debug)]
pub struct Gradients<T> {
    /// `(batch, step, channel)`.
    pub grad_x: Array3<T>,
    /// `(channel, kernel_size)`.
    pub grad_weight: Array2<T>,
    /// `(channel)`, where there is a bias.
    pub grad_bias: Option<Array1<T>>,
    /// `(batch, kernel_size - 1, channel)`, where there is an initial window.
    pub grad_initial_window: Option<Array3<T>>,
}

/// The outputs.
pub fn forward<T: Float>(inputs: &Inputs<T>) -> Outputs<T> {
    let (n_batch, n_step, n_channel) = inputs.x.dim();
    let n_window = inputs.weight.ncols() - 1;
    let mut y = Array3::zeros(inputs.x.dim());
    let mut last_window = Array3::zeros((n_batch, n_window, n_channel));
    for batch in 0..n_batch {
        let seen = seen(inputs, batch);
        for channel in 0..n_channel {
            let line = line(inputs, batch, channel);
            for position in 0..n_step {
                let sum = convolve(inputs, channel, &line, position, &seen[position]);
                y[[batch, inputs.run.step(position, n_step), channel]] = match inputs.activation {
                    Activation::None => sum,
                    Activation::Silu => silu(sum),
                };
            }
            for i in seen[n_step].clone() {
                last_window[[batch, i - n_step, channel]] = line[i];
            }
        }
    }
    Outputs { y, last_window }
}

/// The gradients, given `grad_y`, `(batch, step, channel)`, and `grad_last_window`, `(batch, kernel_size - 1, channel)`, 0 where absent.
pub fn backward<T: Float>(inputs: &Inputs<T>, grad_y: ArrayView3<T>, grad_last_window: Option<ArrayView3<T>>) -> Gradients<T> {
    let (n_batch, n_step, n_channel) = inputs.x.dim();
    let n_window = inputs.weight.ncols() - 1;
    let mut grad_x = Array3::zeros(inputs.x.dim());
    let mut grad_weight = Array2::zeros(inputs.weight.dim());
    let mut grad_bias = Array1::zeros(n_channel);
    let mut grad_initial_window = Array3::zeros((n_batch, n_window, n_channel));
    for batch in 0..n_batch {
        let seen = seen(inputs, batch);
        for channel in 0..n_channel {
            let line = line(inputs, batch, channel);
            let mut grad_line = Array1::zeros(line.len());
            if let Some(grad) = grad_last_window {
                for i in seen[n_step].clone() {
                    grad_line[i] += grad[[batch, i - n_step, channel]];
                }
            }
            for position in (0..n_step).rev() {
                let mut grad_sum = grad_y[[batch, inputs.run.step(position, n_step), channel]];
                if inputs.activation == Activation::Silu {
                    grad_sum *= silu_derivative(convolve(inputs, channel, &line, position, &seen[position]));
                }
                grad_bias[channel] += grad_sum;
                for i in seen[position].clone() {
                    grad_weight[[channel, i - position]] += grad_sum * line[i];
                    grad_line[i] += grad_sum * inputs.weight[[channel, i - position]];
                }
            }
            let (window, steps) = grad_line.view().split_at(Axis(0), n_window);
            grad_initial_window.slice_mut(s![batch, .., channel]).assign(&window);
            for (position, &grad) in steps.iter().enumerate() {
                grad_x[[batch, inputs.run.step(position, n_step), channel]] = grad;
            }
        }
    }
    Gradients {
        grad_x,
        grad_weight,
        grad_bias: inputs.bias.map(|_| grad_bias),
        grad_initial_window: inputs.initial_window.map(|_| grad_initial_window),
    }
}

/// `(kernel_size - 1 + n_step)`: one channel's initial window, then its inputs in the order of the run. Position `i` reads from `line[i]`.
fn line<T: Float>(inputs: &Inputs<T>, batch: usize, channel: usize) -> Array1<T> {
    let n_step = inputs.x.dim().1;
    let n_window = inputs.weight.ncols() - 1;
    Array1::from_shape_fn(n_window + n_step, |i| {
        if i < n_window {
            inputs.initial_window.map_or(T::zero(), |window| window[[batch, i, channel]])
        } else {
            inputs.x[[batch, inputs.run.step(i - n_window, n_step), channel]]
        }
    })
}

/// For each position, the part of the line that it may read; last, the part that a position after the end might, itself excluded.
fn seen<T: Float>(inputs: &Inputs<T>, batch: usize) -> Vec<Range<usize>> {
    let n_step = inputs.x.dim().1;
    let n_window = inputs.weight.ncols() - 1;
    let mut first = if inputs.initial_window.is_some() { 0 } else { n_window };
    let mut seen: Vec<_> = (0..n_step)
        .map(|position| {
            if inputs.run.begins(batch, position, n_step) {
                first = position + n_window;
            }
            first.max(position)..position + n_window + 1
        })
        .collect();
    seen.push(first.max(n_step)..n_step + n_window);
    seen
}

fn convolve<T: Float>(inputs: &Inputs<T>, channel: usize, line: &Array1<T>, position: usize, seen: &Range<usize>) -> T {
    let bias = inputs.bias.map_or(T::zero(), |bias| bias[channel]);
    seen.clone().fold(bias, |sum, i| sum + inputs.weight[[channel, i - position]] * line[i])
}

pub(super) fn run<T: Float>(op: &CausalConv1d, memory: &mut Memory<T>) {
    let reset = reset_mask(op.recurrence.reset, memory);
    let outputs = forward(&Inputs {
        x: memory.axes::<Ix3>(op.x),
        weight: memory.axes::<Ix2>(op.weight),
        bias: op.bias.map(|bias| memory.axes::<Ix1>(bias)),
        initial_window: op.recurrence.initial_state.map(|window| memory.axes::<Ix3>(window)),
        activation: op.activation,
        run: Run { reverse: op.recurrence.reverse, reset: reset.as_ref().map(|reset| reset.view()) },
    });
    memory.store(op.y, &outputs.y);
    memory.store(op.last_window, &outputs.last_window);
}

pub(super) fn run_backward<T: Float>(op: &CausalConv1dBackward, memory: &mut Memory<T>) {
    let reset = reset_mask(op.recurrence.reset, memory);
    let x = memory.axes::<Ix3>(op.x);
    let zeros = Array3::zeros(x.dim());
    let inputs = Inputs {
        x,
        weight: memory.axes::<Ix2>(op.weight),
        bias: op.bias.map(|bias| memory.axes::<Ix1>(bias)),
        initial_window: op.recurrence.initial_state.map(|window| memory.axes::<Ix3>(window)),
        activation: op.activation,
        run: Run { reverse: op.recurrence.reverse, reset: reset.as_ref().map(|reset| reset.view()) },
    };
    let grad_y = op.grad_y.map_or(zeros.view(), |grad| memory.axes::<Ix3>(grad));
    let gradients = backward(&inputs, grad_y, op.grad_last_window.map(|grad| memory.axes::<Ix3>(grad)));
    if let Some(grad_x) = op.grad_x {
        memory.store(grad_x, &gradients.grad_x);
    }
    if let Some(grad_weight) = op.grad_weight {
        memory.store(grad_weight, &gradients.grad_weight);
    }
    if let (Some(tensor), Some(grad_bias)) = (op.grad_bias, gradients.grad_bias) {
        memory.store(tensor, &grad_bias);
    }
    if let (Some(tensor), Some(grad)) = (op.grad_initial_window, gradients.grad_initial_window) {
        memory.store(tensor, &grad);
    }
}
