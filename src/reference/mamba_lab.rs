//! The lab's simplified state space model, given `p_t = W_in x_t`: a fixed diagonal decay, a gated read-out, both clipped.
//!
//! Per batch:
//! ```text
//! g_t = SiLU(clip(p_t, -50, 50))
//! s_t = exp(A) s_{t-1} + Bᵀ g_t
//! u_t = C s_t + D p_t
//! y_t = g_t clip(u_t, -10, 10)
//! ```
//! The derivative of clip is 1 inside, its two ends included, and 0 outside. Backward, with `η_t = ∂L/∂s_t` and `γ = ∂L/∂y_t`:
//! ```text
//! ∂u_t = γ g_t clip'(u_t)                            ∂C = Σ ∂u_t ⊗ s_t              ∂D = Σ ∂u_t p_t
//! η_t  = Cᵀ ∂u_t + exp(A) η_{t+1}                    the last step adds ∂L/∂last_state
//! ∂B   = Σ g_t ⊗ η_t                                 ∂A = exp(A) Σ η_t s_{t-1}
//! ∂g_t = γ clip(u_t) + B η_t
//! ∂p_t = D ∂u_t + ∂g_t SiLU'(clip(p_t)) clip'(p_t)
//! ```

use ndarray::{Array1, Array2, Array3, ArrayView1, ArrayView2, ArrayView3, Axis, s};

use super::activation::{silu, silu_derivative};
use super::session::reset_mask;
use super::{Float, Run};
use crate::memory::Memory;
use crate::ops::{MambaLab, MambaLabBackward};

/// `p` is clipped to `[-INPUT_LIMIT, INPUT_LIMIT]` before its gate.
pub const INPUT_LIMIT: f64 = 50.0;
/// `u` is clipped to `[-READ_OUT_LIMIT, READ_OUT_LIMIT]`.
pub const READ_OUT_LIMIT: f64 = 10.0;

/// What the model reads.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a, T> {
    /// `(batch, step, hidden)`.
    pub p: ArrayView3<'a, T>,
    /// `(state)`.
    pub a: ArrayView1<'a, T>,
    /// `(hidden, state)`.
    pub b: ArrayView2<'a, T>,
    /// `(hidden, state)`.
    pub c: ArrayView2<'a, T>,
    /// `(hidden)`.
    pub d: ArrayView1<'a, T>,
    /// `(batch, state)`; 0 where absent.
    pub initial_state: Option<ArrayView2<'a, T>>,
    /// Direction and borders.
    pub run: Run<'a>,
}

/// What the model computes.
#[derive(Clone, Debug)]
pub struct Outputs<T> {
    /// `(batch, step, hidden)`.
    pub y: Array3<T>,
    /// `(batch, state)`: the state after the step that the run visits last.
    pub last_state: Array2<T>,
}

/// The gradients of the inputs of the same names and shapes.
#[derive(Clone, Debug)]
pub struct Gradients<T> {
    /// `(batch, step, hidden)`.
    pub grad_p: Array3<T>,
    /// `(state)`.
    pub grad_a: Array1<T>,
    /// `(hidden, state)`.
    pub grad_b: Array2<T>,
    /// `(hidden, state)`.
    pub grad_c: Array2<T>,
    /// `(hidden)`.
    pub grad_d: Array1<T>,
    /// `(batch, state)`, where there is an `initial_state`.
    pub grad_initial_state: Option<Array2<T>>,
}

/// The outputs.
pub fn forward<T: Float>(inputs: &Inputs<T>) -> Outputs<T> {
    let (n_batch, n_step, _) = inputs.p.dim();
    let mut y = Array3::zeros(inputs.p.dim());
    let mut last_state = Array2::zeros((n_batch, inputs.a.len()));
    for batch in 0..n_batch {
        let states = states(inputs, batch);
        for position in 0..n_step {
            let step = inputs.run.step(position, n_step);
            let u = read_out(inputs, batch, step, states.row(position + 1));
            y.slice_mut(s![batch, step, ..]).assign(&(gate(inputs, batch, step) * u.mapv(|u| clip(u, READ_OUT_LIMIT))));
        }
        last_state.row_mut(batch).assign(&states.row(n_step));
    }
    Outputs { y, last_state }
}

/// The gradients, given `grad_y`, `(batch, step, hidden)`, and `grad_last_state`, `(batch, state)`, 0 where absent.
pub fn backward<T: Float>(inputs: &Inputs<T>, grad_y: ArrayView3<T>, grad_last_state: Option<ArrayView2<T>>) -> Gradients<T> {
    let (n_batch, n_step, _) = inputs.p.dim();
    let n_state = inputs.a.len();
    let decay = inputs.a.mapv(T::exp);
    let mut grad_p = Array3::zeros(inputs.p.dim());
    let mut grad_a = Array1::zeros(n_state);
    let mut grad_b = Array2::zeros(inputs.b.dim());
    let mut grad_c = Array2::zeros(inputs.c.dim());
    let mut grad_d = Array1::zeros(inputs.d.dim());
    let mut grad_initial_state = Array2::zeros((n_batch, n_state));

    for batch in 0..n_batch {
        let states = states(inputs, batch);
        let mut carry = grad_last_state.map_or_else(|| Array1::zeros(n_state), |grad| grad.row(batch).to_owned());
        for position in (0..n_step).rev() {
            let step = inputs.run.step(position, n_step);
            let begins = inputs.run.begins(batch, position, n_step);
            let state = states.row(position + 1);
            let p = inputs.p.slice(s![batch, step, ..]);
            let g = gate(inputs, batch, step);
            let u = read_out(inputs, batch, step, state);
            let grad_y = grad_y.slice(s![batch, step, ..]);

            let grad_u = &grad_y * &g * u.mapv(|u| clip_derivative(u, READ_OUT_LIMIT));
            let grad_state = carry + inputs.c.t().dot(&grad_u);
            let grad_gate = u.mapv(|u| clip(u, READ_OUT_LIMIT)) * grad_y + inputs.b.dot(&grad_state);
            let gate_derivative = p.mapv(|p| silu_derivative(clip(p, INPUT_LIMIT)) * clip_derivative(p, INPUT_LIMIT));
            grad_p.slice_mut(s![batch, step, ..]).assign(&(&grad_u * &inputs.d + grad_gate * gate_derivative));

            grad_d += &(&grad_u * &p);
            grad_c += &outer(&grad_u, state);
            grad_b += &outer(&g, grad_state.view());
            carry = grad_state * &decay;
            if begins {
                carry.fill(T::zero());
            } else {
                grad_a += &(&carry * &states.row(position));
            }
        }
        grad_initial_state.row_mut(batch).assign(&carry);
    }
    Gradients { grad_p, grad_a, grad_b, grad_c, grad_d, grad_initial_state: inputs.initial_state.map(|_| grad_initial_state) }
}

/// `(position + 1, state)`: the initial state of one batch row, then its state after each position of the run.
fn states<T: Float>(inputs: &Inputs<T>, batch: usize) -> Array2<T> {
    let n_step = inputs.p.dim().1;
    let decay = inputs.a.mapv(T::exp);
    let mut states = Array2::zeros((n_step + 1, inputs.a.len()));
    if let Some(initial_state) = inputs.initial_state {
        states.row_mut(0).assign(&initial_state.row(batch));
    }
    for position in 0..n_step {
        let step = inputs.run.step(position, n_step);
        let input = inputs.b.t().dot(&gate(inputs, batch, step));
        let next = if inputs.run.begins(batch, position, n_step) { input } else { &states.row(position) * &decay + input };
        states.row_mut(position + 1).assign(&next);
    }
    states
}

/// `g_t`, `(hidden)`.
fn gate<T: Float>(inputs: &Inputs<T>, batch: usize, step: usize) -> Array1<T> {
    inputs.p.slice(s![batch, step, ..]).mapv(|p| silu(clip(p, INPUT_LIMIT)))
}

/// `u_t`, `(hidden)`, before it is clipped.
fn read_out<T: Float>(inputs: &Inputs<T>, batch: usize, step: usize, state: ArrayView1<T>) -> Array1<T> {
    inputs.c.dot(&state) + &inputs.d * &inputs.p.slice(s![batch, step, ..])
}

fn clip<T: Float>(x: T, limit: f64) -> T {
    let limit = T::from_f64(limit);
    num_traits::clamp(x, -limit, limit)
}

fn clip_derivative<T: Float>(x: T, limit: f64) -> T {
    if x.abs() <= T::from_f64(limit) { T::one() } else { T::zero() }
}

fn outer<T: Float>(column: &Array1<T>, row: ArrayView1<T>) -> Array2<T> {
    &column.view().insert_axis(Axis(1)) * &row.insert_axis(Axis(0))
}

pub(super) fn run<T: Float>(op: &MambaLab, memory: &mut Memory<T>) {
    let reset = reset_mask(op.recurrence.reset, memory);
    let Outputs { y, last_state } = forward(&read(op, reset.as_ref(), memory));
    memory.store(op.y, &y);
    memory.store(op.last_state, &last_state);
}

pub(super) fn run_backward<T: Float>(op: &MambaLabBackward, memory: &mut Memory<T>) {
    let reset = reset_mask(op.forward.recurrence.reset, memory);
    let inputs = read(&op.forward, reset.as_ref(), memory);
    let zero = Array3::zeros(inputs.p.dim());
    let grad_y = op.grad_y.map_or(zero.view(), |grad_y| memory.axes(grad_y));
    let gradients = backward(&inputs, grad_y, op.grad_last_state.map(|grad| memory.axes(grad)));
    if let Some(grad_p) = op.grad_p {
        memory.store(grad_p, &gradients.grad_p);
    }
    for (tensor, gradient) in [(op.grad_a, gradients.grad_a), (op.grad_d, gradients.grad_d)] {
        if let Some(tensor) = tensor {
            memory.store(tensor, &gradient);
        }
    }
    let initial_state = gradients.grad_initial_state.unwrap_or_default();
    let matrices = [(op.grad_b, gradients.grad_b), (op.grad_c, gradients.grad_c), (op.grad_initial_state, initial_state)];
    for (tensor, gradient) in matrices {
        if let Some(tensor) = tensor {
            memory.store(tensor, &gradient);
        }
    }
}

fn read<'a, T: Float>(op: &MambaLab, reset: Option<&'a Array2<bool>>, memory: &'a Memory<T>) -> Inputs<'a, T> {
    Inputs {
        p: memory.axes(op.p),
        a: memory.axes(op.a),
        b: memory.axes(op.b),
        c: memory.axes(op.c),
        d: memory.axes(op.d),
        initial_state: op.recurrence.initial_state.map(|state| memory.axes(state)),
        run: Run { reverse: op.recurrence.reverse, reset: reset.map(|reset| reset.view()) },
    }
}
