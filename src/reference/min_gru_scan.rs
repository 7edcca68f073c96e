//! minGRU, whose gates see only the input: Feng et al. 2024, arXiv 2410.01201, appendix B (`g` of the log-space form).
//!
//! `p_t = [p_z | p_h]` are the pre-activations `W x_t + b` of gate and candidate. For each hidden channel:
//! ```text
//! z_t = sigmoid(p_z)      v_t = g(p_h)      g(a) = a + 1/2 where a >= 0, else sigmoid(a)
//! h_t = (1 - z_t) h_{t-1} + z_t v_t
//! ```
//! `1 - z_t` is computed as `sigmoid(-p_z)`, which keeps its leading digits where `z_t` is close to 1. Backward, with `η_t = ∂L/∂h_t`:
//! ```text
//! ∂p_z = η_t (v_t - h_{t-1}) z_t (1 - z_t)           ∂p_h = η_t z_t g'(p_h)           ∂h_{t-1} = η_t (1 - z_t)
//! ```

use ndarray::{Array2, Array3, ArrayView2, ArrayView3, Ix3};

use super::activation::{sigmoid, sigmoid_derivative};
use super::session::reset_mask;
use super::{Float, Run};
use crate::memory::Memory;
use crate::ops::{MinGruScan, MinGruScanBackward};

/// What the recurrence reads.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a, T> {
    /// `(batch, step, 2 hidden)`: `[z | h]`.
    pub p: ArrayView3<'a, T>,
    /// `(batch, hidden)`: the state itself; 0 where absent.
    pub h0: Option<ArrayView2<'a, T>>,
    /// Direction and borders.
    pub run: Run<'a>,
}

/// What the recurrence computes.
#[derive(Clone, Debug)]
pub struct Outputs<T> {
    /// `(batch, step, hidden)`.
    pub h: Array3<T>,
    /// `(batch, hidden)`: the state after the step that the run visits last.
    pub last: Array2<T>,
}

/// The gradients of the inputs of the same names and shapes.
#[derive(Clone, Debug)]
pub struct Gradients<T> {
    /// `(batch, step, 2 hidden)`.
    pub grad_p: Array3<T>,
    /// `(batch, hidden)`, where there is an `h0`.
    pub grad_h0: Option<Array2<T>>,
}

/// `g`: the candidate, positive for every argument.
pub fn candidate<T: Float>(a: T) -> T {
    if a >= T::zero() { a + T::from_f64(0.5) } else { sigmoid(a) }
}

/// The derivative of [`candidate`]; at 0, where it jumps, the one from above.
pub fn candidate_derivative<T: Float>(a: T) -> T {
    if a >= T::zero() { T::one() } else { sigmoid_derivative(a) }
}

/// The outputs.
pub fn forward<T: Float>(inputs: &Inputs<T>) -> Outputs<T> {
    let (n_batch, n_step, n_hidden) = dimensions(inputs);
    let mut h = Array3::zeros((n_batch, n_step, n_hidden));
    let mut last = inputs.h0.map_or_else(|| Array2::zeros((n_batch, n_hidden)), |h0| h0.to_owned());
    for batch in 0..n_batch {
        for channel in 0..n_hidden {
            let state = &mut last[[batch, channel]];
            for position in 0..n_step {
                let step = inputs.run.step(position, n_step);
                if inputs.run.begins(batch, position, n_step) {
                    *state = T::zero();
                }
                let (p_z, p_h) = (inputs.p[[batch, step, channel]], inputs.p[[batch, step, n_hidden + channel]]);
                *state = sigmoid(-p_z) * *state + sigmoid(p_z) * candidate(p_h);
                h[[batch, step, channel]] = *state;
            }
        }
    }
    Outputs { h, last }
}

/// The gradients, given `grad_h`, `(batch, step, hidden)`, and `grad_last`, `(batch, hidden)`, 0 where absent.
pub fn backward<T: Float>(inputs: &Inputs<T>, grad_h: ArrayView3<T>, grad_last: Option<ArrayView2<T>>) -> Gradients<T> {
    let (n_batch, n_step, n_hidden) = dimensions(inputs);
    let h = forward(inputs).h;
    let mut grad_p = Array3::zeros(inputs.p.dim());
    let mut grad_h0 = grad_last.map_or_else(|| Array2::zeros((n_batch, n_hidden)), |grad| grad.to_owned());
    for batch in 0..n_batch {
        for channel in 0..n_hidden {
            let carry = &mut grad_h0[[batch, channel]];
            for position in (0..n_step).rev() {
                let step = inputs.run.step(position, n_step);
                let begins = inputs.run.begins(batch, position, n_step);
                let previous = match position {
                    _ if begins => T::zero(),
                    0 => inputs.h0.map_or(T::zero(), |h0| h0[[batch, channel]]),
                    _ => h[[batch, inputs.run.step(position - 1, n_step), channel]],
                };
                let (p_z, p_h) = (inputs.p[[batch, step, channel]], inputs.p[[batch, step, n_hidden + channel]]);
                let grad_state = *carry + grad_h[[batch, step, channel]];
                grad_p[[batch, step, channel]] = grad_state * (candidate(p_h) - previous) * sigmoid_derivative(p_z);
                grad_p[[batch, step, n_hidden + channel]] = grad_state * sigmoid(p_z) * candidate_derivative(p_h);
                *carry = if begins { T::zero() } else { grad_state * sigmoid(-p_z) };
            }
        }
    }
    Gradients { grad_p, grad_h0: inputs.h0.map(|_| grad_h0) }
}

/// `(n_batch, n_step, n_hidden)`.
fn dimensions<T>(inputs: &Inputs<T>) -> (usize, usize, usize) {
    let (n_batch, n_step, two_hidden) = inputs.p.dim();
    (n_batch, n_step, two_hidden / 2)
}

pub(super) fn run<T: Float>(op: &MinGruScan, memory: &mut Memory<T>) {
    let reset = reset_mask(op.recurrence.reset, memory);
    let Outputs { h, last } = forward(&read(op, reset.as_ref(), memory));
    memory.store(op.h, &h);
    memory.store(op.last_state, &last);
}

pub(super) fn run_backward<T: Float>(op: &MinGruScanBackward, memory: &mut Memory<T>) {
    let reset = reset_mask(op.forward.recurrence.reset, memory);
    let inputs = read(&op.forward, reset.as_ref(), memory);
    let zero = Array3::zeros(memory.axes::<Ix3>(op.forward.h).dim());
    let grad_h = op.grad_h.map_or(zero.view(), |grad_h| memory.axes(grad_h));
    let gradients = backward(&inputs, grad_h, op.grad_last_state.map(|grad_last| memory.axes(grad_last)));
    if let Some(grad_p) = op.grad_p {
        memory.store(grad_p, &gradients.grad_p);
    }
    if let (Some(tensor), Some(grad_h0)) = (op.grad_initial_state, gradients.grad_h0) {
        memory.store(tensor, &grad_h0);
    }
}

fn read<'a, T: Float>(op: &MinGruScan, reset: Option<&'a Array2<bool>>, memory: &'a Memory<T>) -> Inputs<'a, T> {
    Inputs {
        p: memory.axes(op.p),
        h0: op.recurrence.initial_state.map(|h0| memory.axes(h0)),
        run: Run { reverse: op.recurrence.reverse, reset: reset.map(|reset| reset.view()) },
    }
}
