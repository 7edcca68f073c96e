//! The lab's gated cell, given the products of its inputs: Cho et al. 2014, arXiv 1406.1078, with the reset gate before the product.
//!
//! `p_t = [p_z | p_r | p_h]` are the input's parts of the three pre-activations, `W x_t + b`, one linear layer for all steps. Per batch:
//! ```text
//! z_t = sigmoid(p_z + U_z h_{t-1})                   r_t = sigmoid(p_r + U_r h_{t-1})
//! c_t = tanh(p_h + U_h (r_t h_{t-1}))                h_t = (1 - z_t) h_{t-1} + z_t c_t
//! ```
//! Backward through time, with `η_t = ∂L/∂h_t`, its own output's gradient included, and `q_t = U_hᵀ ∂p_h`:
//! ```text
//! ∂p_h = η_t z_t (1 - c_t²)                          ∂U_h = Σ ∂p_h ⊗ (r_t h_{t-1})
//! ∂p_z = η_t (c_t - h_{t-1}) z_t (1 - z_t)           ∂U_z = Σ ∂p_z ⊗ h_{t-1}
//! ∂p_r = q_t h_{t-1} r_t (1 - r_t)                   ∂U_r = Σ ∂p_r ⊗ h_{t-1}
//! ∂h_{t-1} = η_t (1 - z_t) + q_t r_t + U_zᵀ ∂p_z + U_rᵀ ∂p_r
//! ```

use ndarray::{Array1, Array2, Array3, ArrayView1, ArrayView2, ArrayView3, Axis, Ix3, concatenate, s};

use super::activation::{sigmoid, tanh};
use super::session::reset_mask;
use super::{Float, Run};
use crate::memory::Memory;
use crate::ops::{MinGru, MinGruBackward};

/// What the cell reads.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a, T> {
    /// `(batch, step, 3 hidden)`: `[z | r | h]`.
    pub p: ArrayView3<'a, T>,
    /// `(3 hidden, hidden)`: `[U_z; U_r; U_h]`.
    pub u: ArrayView2<'a, T>,
    /// `(batch, hidden)`; 0 where absent.
    pub h0: Option<ArrayView2<'a, T>>,
    /// Direction and borders.
    pub run: Run<'a>,
}

/// What the cell computes.
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
    /// `(batch, step, 3 hidden)`.
    pub grad_p: Array3<T>,
    /// `(3 hidden, hidden)`.
    pub grad_u: Array2<T>,
    /// `(batch, hidden)`, where there is an `h0`.
    pub grad_h0: Option<Array2<T>>,
}

/// What one step computes on its way, each `(hidden)`.
struct Gates<T> {
    z: Array1<T>,
    r: Array1<T>,
    c: Array1<T>,
}

/// The outputs.
pub fn forward<T: Float>(inputs: &Inputs<T>) -> Outputs<T> {
    let (n_batch, n_step, _) = inputs.p.dim();
    let n_hidden = inputs.u.ncols();
    let mut h = Array3::zeros((n_batch, n_step, n_hidden));
    let mut last = Array2::zeros((n_batch, n_hidden));
    for batch in 0..n_batch {
        let mut state = initial(inputs, batch);
        for position in 0..n_step {
            let step = inputs.run.step(position, n_step);
            if inputs.run.begins(batch, position, n_step) {
                state.fill(T::zero());
            }
            let gates = gates(inputs, batch, step, state.view());
            state = next(&gates, &state);
            h.slice_mut(s![batch, step, ..]).assign(&state);
        }
        last.row_mut(batch).assign(&state);
    }
    Outputs { h, last }
}

/// The gradients, given `grad_h`, `(batch, step, hidden)`, and `grad_last`, `(batch, hidden)`, 0 where absent.
pub fn backward<T: Float>(inputs: &Inputs<T>, grad_h: ArrayView3<T>, grad_last: Option<ArrayView2<T>>) -> Gradients<T> {
    let (n_batch, n_step, _) = inputs.p.dim();
    let n_hidden = inputs.u.ncols();
    let h = forward(inputs).h;
    let (u_z, u_r, u_h) = split(inputs.u);
    let mut grad_p = Array3::zeros(inputs.p.dim());
    let mut grad_u = Array2::zeros(inputs.u.dim());
    let mut grad_h0 = Array2::zeros((n_batch, n_hidden));

    for batch in 0..n_batch {
        let mut carry = grad_last.map_or_else(|| Array1::zeros(n_hidden), |grad| grad.row(batch).to_owned());
        for position in (0..n_step).rev() {
            let step = inputs.run.step(position, n_step);
            let begins = inputs.run.begins(batch, position, n_step);
            let previous = match position {
                _ if begins => Array1::zeros(n_hidden),
                0 => initial(inputs, batch),
                _ => h.slice(s![batch, inputs.run.step(position - 1, n_step), ..]).to_owned(),
            };
            let Gates { z, r, c } = gates(inputs, batch, step, previous.view());

            let grad_state = carry + grad_h.slice(s![batch, step, ..]);
            let grad_p_h = &grad_state * &z * &c.mapv(|c| T::one() - c * c);
            let grad_p_z = &grad_state * &(&c - &previous) * &z.mapv(|z| z * (T::one() - z));
            let q = u_h.t().dot(&grad_p_h);
            let grad_p_r = &q * &previous * &r.mapv(|r| r * (T::one() - r));

            add_outer(&mut grad_u, 0, &grad_p_z, &previous);
            add_outer(&mut grad_u, n_hidden, &grad_p_r, &previous);
            add_outer(&mut grad_u, 2 * n_hidden, &grad_p_h, &(&r * &previous));
            let all = concatenate![Axis(0), grad_p_z, grad_p_r, grad_p_h];
            grad_p.slice_mut(s![batch, step, ..]).assign(&all);

            carry = if begins {
                Array1::zeros(n_hidden)
            } else {
                grad_state * z.mapv(|z| T::one() - z) + q * r + u_z.t().dot(&grad_p_z) + u_r.t().dot(&grad_p_r)
            };
        }
        grad_h0.row_mut(batch).assign(&carry);
    }
    Gradients { grad_p, grad_u, grad_h0: inputs.h0.map(|_| grad_h0) }
}

fn initial<T: Float>(inputs: &Inputs<T>, batch: usize) -> Array1<T> {
    inputs.h0.map_or_else(|| Array1::zeros(inputs.u.ncols()), |h0| h0.row(batch).to_owned())
}

fn gates<T: Float>(inputs: &Inputs<T>, batch: usize, step: usize, previous: ArrayView1<T>) -> Gates<T> {
    let n_hidden = inputs.u.ncols();
    let p = inputs.p.slice(s![batch, step, ..]);
    let (u_z, u_r, u_h) = split(inputs.u);
    let z = (u_z.dot(&previous) + p.slice(s![..n_hidden])).mapv(sigmoid);
    let r = (u_r.dot(&previous) + p.slice(s![n_hidden..2 * n_hidden])).mapv(sigmoid);
    let c = (u_h.dot(&(&r * &previous)) + p.slice(s![2 * n_hidden..])).mapv(tanh);
    Gates { z, r, c }
}

fn next<T: Float>(gates: &Gates<T>, previous: &Array1<T>) -> Array1<T> {
    gates.z.mapv(|z| T::one() - z) * previous + &gates.z * &gates.c
}

/// `(U_z, U_r, U_h)`, each `(hidden, hidden)`.
fn split<'a, T>(u: ArrayView2<'a, T>) -> (ArrayView2<'a, T>, ArrayView2<'a, T>, ArrayView2<'a, T>) {
    let n_hidden = u.ncols();
    let (u_z, rest) = u.split_at(Axis(0), n_hidden);
    let (u_r, u_h) = rest.split_at(Axis(0), n_hidden);
    (u_z, u_r, u_h)
}

/// Adds `column ⊗ row` to the rows of `matrix` from `first` on.
fn add_outer<T: Float>(matrix: &mut Array2<T>, first: usize, column: &Array1<T>, row: &Array1<T>) {
    for (i, &c) in column.iter().enumerate() {
        matrix.row_mut(first + i).scaled_add(c, row);
    }
}

pub(super) fn run<T: Float>(op: &MinGru, memory: &mut Memory<T>) {
    let reset = reset_mask(op.recurrence.reset, memory);
    let Outputs { h, last } = forward(&read(op, reset.as_ref(), memory));
    memory.store(op.h, &h);
    memory.store(op.last_state, &last);
}

pub(super) fn run_backward<T: Float>(op: &MinGruBackward, memory: &mut Memory<T>) {
    let reset = reset_mask(op.forward.recurrence.reset, memory);
    let inputs = read(&op.forward, reset.as_ref(), memory);
    let zero = Array3::zeros(memory.axes::<Ix3>(op.forward.h).dim());
    let grad_h = op.grad_h.map_or(zero.view(), |grad_h| memory.axes(grad_h));
    let gradients = backward(&inputs, grad_h, op.grad_last_state.map(|grad_last| memory.axes(grad_last)));
    memory.store(op.grad_p, &gradients.grad_p);
    if let Some(grad_u) = op.grad_u {
        memory.store(grad_u, &gradients.grad_u);
    }
    if let (Some(tensor), Some(grad_h0)) = (op.grad_initial_state, gradients.grad_h0) {
        memory.store(tensor, &grad_h0);
    }
}

fn read<'a, T: Float>(op: &MinGru, reset: Option<&'a Array2<bool>>, memory: &'a Memory<T>) -> Inputs<'a, T> {
    Inputs {
        p: memory.axes(op.p),
        u: memory.axes(op.u),
        h0: op.recurrence.initial_state.map(|h0| memory.axes(h0)),
        run: Run { reverse: op.recurrence.reverse, reset: reset.map(|reset| reset.view()) },
    }
}
