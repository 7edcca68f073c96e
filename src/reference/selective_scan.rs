//! The selective scan (S6) of Mamba: Gu and Dao 2023, arXiv 2312.00752, section 3.2 and algorithm 2, with the simplified discretisation
//! of B that the published models use.
//!
//! For each batch, channel `d` and state `n`, with `δ = softplus(delta + delta_bias)` (softplus and bias optional):
//! ```text
//! h_t[n] = a_t[n] h_{t-1}[n] + δ_t u_t B_t[n]        a_t[n] = exp(δ_t A[n])
//! s_t    = Σ_n h_t[n] C_t[n] + D u_t                 D optional
//! y_t    = s_t SiLU(z_t)                             z optional
//! ```
//! Backward, with `σ_t = ∂L/∂s_t = ∂L/∂y_t SiLU(z_t)` and `η_t[n] = ∂L/∂h_t[n]`, which runs against the scan:
//! ```text
//! η_t   = σ_t C_t + a_{t+1} η_{t+1}                  the last step adds ∂L/∂last_state
//! ∂z_t  = ∂L/∂y_t s_t SiLU'(z_t)
//! ∂C_t  = Σ_d σ_t h_t                                ∂D = Σ_{b,t} σ_t u_t
//! ∂B_t  = Σ_d η_t δ_t u_t                            ∂A = Σ_{b,t} η_t h_{t-1} a_t δ_t
//! ∂u_t  = σ_t D + Σ_n η_t δ_t B_t
//! ∂δ_t  = Σ_n η_t (h_{t-1} a_t A + u_t B_t)          through softplus' to delta, and summed over b, t to delta_bias
//! ∂h_0  = a_1 η_1
//! ```
//! Where a sequence begins, `h_{t-1}` is 0 and nothing passes back.

use ndarray::{Array, Array1, Array2, Array3, ArrayD, ArrayView1, ArrayView2, ArrayView3, s};

use super::activation::{silu, silu_derivative, softplus, softplus_derivative};
use super::session::reset_mask;
use super::{Float, Run};
use crate::graph::Tensor;
use crate::memory::Memory;
use crate::ops::{SelectiveScan, SelectiveScanBackward, SelectiveScanInputs};

/// What the scan reads.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a, T> {
    /// `(batch, step, channel)`.
    pub u: ArrayView3<'a, T>,
    /// `(batch, step, channel)`.
    pub delta: ArrayView3<'a, T>,
    /// `(channel, state)`.
    pub a: ArrayView2<'a, T>,
    /// `(batch, step, state)`.
    pub b: ArrayView3<'a, T>,
    /// `(batch, step, state)`.
    pub c: ArrayView3<'a, T>,
    /// `(channel)`.
    pub d: Option<ArrayView1<'a, T>>,
    /// `(batch, step, channel)`.
    pub z: Option<ArrayView3<'a, T>>,
    /// `(channel)`.
    pub delta_bias: Option<ArrayView1<'a, T>>,
    /// `(batch, channel, state)`; 0 where absent.
    pub initial_state: Option<ArrayView3<'a, T>>,
    /// Whether the step size is `softplus(delta + delta_bias)` or `delta + delta_bias` itself.
    pub delta_softplus: bool,
    /// Direction and borders.
    pub run: Run<'a>,
}

/// What the scan computes.
#[derive(Clone, Debug)]
pub struct Outputs<T> {
    /// `(batch, step, channel)`.
    pub y: Array3<T>,
    /// `(batch, channel, state)`: the state after the step that the run visits last.
    pub last_state: Array3<T>,
}

/// The gradients of the inputs of the same names and shapes.
#[derive(Clone, Debug)]
pub struct Gradients<T> {
    /// `(batch, step, channel)`.
    pub grad_u: Array3<T>,
    /// `(batch, step, channel)`.
    pub grad_delta: Array3<T>,
    /// `(channel, state)`.
    pub grad_a: Array2<T>,
    /// `(batch, step, state)`.
    pub grad_b: Array3<T>,
    /// `(batch, step, state)`.
    pub grad_c: Array3<T>,
    /// `(channel)`, where there is a `d`.
    pub grad_d: Option<Array1<T>>,
    /// `(batch, step, channel)`, where there is a `z`.
    pub grad_z: Option<Array3<T>>,
    /// `(channel)`, where there is a `delta_bias`.
    pub grad_delta_bias: Option<Array1<T>>,
    /// `(batch, channel, state)`, where there is an `initial_state`.
    pub grad_initial_state: Option<Array3<T>>,
}

/// The outputs.
pub fn forward<T: Float>(inputs: &Inputs<T>) -> Outputs<T> {
    let (n_batch, n_step, n_channel) = inputs.u.dim();
    let mut y = Array3::zeros(inputs.u.dim());
    let mut last_state = Array3::zeros((n_batch, n_channel, inputs.a.ncols()));
    for batch in 0..n_batch {
        for channel in 0..n_channel {
            let states = states(inputs, batch, channel);
            for position in 0..n_step {
                let step = inputs.run.step(position, n_step);
                let gate = inputs.z.map_or(T::one(), |z| silu(z[[batch, step, channel]]));
                y[[batch, step, channel]] = read_out(inputs, batch, step, channel, states.row(position + 1)) * gate;
            }
            last_state.slice_mut(s![batch, channel, ..]).assign(&states.row(n_step));
        }
    }
    Outputs { y, last_state }
}

/// The gradients, given `grad_y`, `(batch, step, channel)`, and `grad_last_state`, `(batch, channel, state)`, 0 where absent.
pub fn backward<T: Float>(inputs: &Inputs<T>, grad_y: ArrayView3<T>, grad_last_state: Option<ArrayView3<T>>) -> Gradients<T> {
    let (n_batch, n_step, n_channel) = inputs.u.dim();
    let n_state = inputs.a.ncols();
    let mut grad_u = Array3::zeros(inputs.u.dim());
    let mut grad_delta = Array3::zeros(inputs.u.dim());
    let mut grad_a = Array2::zeros(inputs.a.dim());
    let mut grad_b = Array3::zeros(inputs.b.dim());
    let mut grad_c = Array3::zeros(inputs.c.dim());
    let mut grad_d = Array1::zeros(n_channel);
    let mut grad_z = Array3::zeros(inputs.u.dim());
    let mut grad_delta_bias = Array1::zeros(n_channel);
    let mut grad_initial_state = Array3::zeros((n_batch, n_channel, n_state));

    for batch in 0..n_batch {
        for channel in 0..n_channel {
            let states = states(inputs, batch, channel);
            // a_{t+1} η_{t+1}: what reaches the state of a step from the steps visited after it.
            let mut carry = match grad_last_state {
                Some(grad) => grad.slice(s![batch, channel, ..]).to_owned(),
                None => Array1::zeros(n_state),
            };
            for position in (0..n_step).rev() {
                let step = inputs.run.step(position, n_step);
                let at = [batch, step, channel];
                let begins = inputs.run.begins(batch, position, n_step);
                let state = states.row(position + 1);
                let u = inputs.u[at];
                let step_size = step_size(inputs, at);

                let mut grad_read_out = grad_y[at];
                if let Some(z) = inputs.z {
                    grad_z[at] = grad_y[at] * read_out(inputs, batch, step, channel, state) * silu_derivative(z[at]);
                    grad_read_out *= silu(z[at]);
                }
                grad_d[channel] += grad_read_out * u;
                if let Some(d) = inputs.d {
                    grad_u[at] = grad_read_out * d[channel];
                }

                let mut grad_step_size = T::zero();
                for n in 0..n_state {
                    let (a, b, c) = (inputs.a[[channel, n]], inputs.b[[batch, step, n]], inputs.c[[batch, step, n]]);
                    let decay = (step_size * a).exp();
                    let previous = if begins { T::zero() } else { states[[position, n]] };
                    let grad_state = carry[n] + grad_read_out * c;
                    grad_c[[batch, step, n]] += grad_read_out * state[n];
                    grad_b[[batch, step, n]] += grad_state * step_size * u;
                    grad_a[[channel, n]] += grad_state * previous * decay * step_size;
                    grad_u[at] += grad_state * step_size * b;
                    grad_step_size += grad_state * (previous * decay * a + u * b);
                    carry[n] = if begins { T::zero() } else { grad_state * decay };
                }
                grad_delta[at] =
                    if inputs.delta_softplus { grad_step_size * softplus_derivative(biased_delta(inputs, at)) } else { grad_step_size };
                grad_delta_bias[channel] += grad_delta[at];
            }
            grad_initial_state.slice_mut(s![batch, channel, ..]).assign(&carry);
        }
    }
    Gradients {
        grad_u,
        grad_delta,
        grad_a,
        grad_b,
        grad_c,
        grad_d: inputs.d.map(|_| grad_d),
        grad_z: inputs.z.map(|_| grad_z),
        grad_delta_bias: inputs.delta_bias.map(|_| grad_delta_bias),
        grad_initial_state: inputs.initial_state.map(|_| grad_initial_state),
    }
}

/// `(position + 1, state)`: the initial state of one channel, then its state after each position of the run.
fn states<T: Float>(inputs: &Inputs<T>, batch: usize, channel: usize) -> Array2<T> {
    let n_step = inputs.u.dim().1;
    let n_state = inputs.a.ncols();
    let mut states = Array2::zeros((n_step + 1, n_state));
    if let Some(initial_state) = inputs.initial_state {
        states.row_mut(0).assign(&initial_state.slice(s![batch, channel, ..]));
    }
    for position in 0..n_step {
        let step = inputs.run.step(position, n_step);
        let at = [batch, step, channel];
        let begins = inputs.run.begins(batch, position, n_step);
        let step_size = step_size(inputs, at);
        for n in 0..n_state {
            let previous = if begins { T::zero() } else { states[[position, n]] };
            let decay = (step_size * inputs.a[[channel, n]]).exp();
            states[[position + 1, n]] = decay * previous + step_size * inputs.u[at] * inputs.b[[batch, step, n]];
        }
    }
    states
}

/// `s_t` of one channel: the state read through C, and the skip D.
fn read_out<T: Float>(inputs: &Inputs<T>, batch: usize, step: usize, channel: usize, state: ArrayView1<T>) -> T {
    let skip = inputs.d.map_or(T::zero(), |d| d[channel] * inputs.u[[batch, step, channel]]);
    state.iter().zip(inputs.c.slice(s![batch, step, ..])).map(|(&h, &c)| h * c).sum::<T>() + skip
}

fn biased_delta<T: Float>(inputs: &Inputs<T>, at: [usize; 3]) -> T {
    inputs.delta[at] + inputs.delta_bias.map_or(T::zero(), |bias| bias[at[2]])
}

fn step_size<T: Float>(inputs: &Inputs<T>, at: [usize; 3]) -> T {
    let delta = biased_delta(inputs, at);
    if inputs.delta_softplus { softplus(delta) } else { delta }
}

/// Runs the operation over a graph's memory.
pub(super) fn run<T: Float>(op: &SelectiveScan, memory: &mut Memory<T>) {
    let reset = reset_mask(op.inputs.recurrence.reset, memory);
    let outputs = forward(&tensors(&op.inputs, memory, reset.as_ref()));
    memory.store(op.y, &outputs.y);
    memory.store(op.last_state, &outputs.last_state);
}

/// Runs the gradient operation over a graph's memory.
pub(super) fn run_backward<T: Float>(op: &SelectiveScanBackward, memory: &mut Memory<T>) {
    let reset = reset_mask(op.inputs.recurrence.reset, memory);
    let inputs = tensors(&op.inputs, memory, reset.as_ref());
    let zeros = Array3::zeros(inputs.u.dim());
    let grad_y = op.grad_y.map_or(zeros.view(), |grad_y| memory.axes(grad_y));
    let gradients = backward(&inputs, grad_y, op.grad_last_state.map(|grad| memory.axes(grad)));
    let mut store = |tensor: Option<Tensor>, values: Option<ArrayD<T>>| {
        if let (Some(tensor), Some(values)) = (tensor, values) {
            memory.store(tensor, &values);
        }
    };
    store(op.grad_u, Some(gradients.grad_u.into_dyn()));
    store(op.grad_delta, Some(gradients.grad_delta.into_dyn()));
    store(op.grad_a, Some(gradients.grad_a.into_dyn()));
    store(op.grad_b, Some(gradients.grad_b.into_dyn()));
    store(op.grad_c, Some(gradients.grad_c.into_dyn()));
    store(op.grad_d, gradients.grad_d.map(Array::into_dyn));
    store(op.grad_z, gradients.grad_z.map(Array::into_dyn));
    store(op.grad_delta_bias, gradients.grad_delta_bias.map(Array::into_dyn));
    store(op.grad_initial_state, gradients.grad_initial_state.map(Array::into_dyn));
}

fn tensors<'a, T: Float>(inputs: &SelectiveScanInputs, memory: &'a Memory<T>, reset: Option<&'a Array2<bool>>) -> Inputs<'a, T> {
    Inputs {
        u: memory.axes(inputs.u),
        delta: memory.axes(inputs.delta),
        a: memory.axes(inputs.a),
        b: memory.axes(inputs.b),
        c: memory.axes(inputs.c),
        d: inputs.d.map(|d| memory.axes(d)),
        z: inputs.z.map(|z| memory.axes(z)),
        delta_bias: inputs.delta_bias.map(|delta_bias| memory.axes(delta_bias)),
        initial_state: inputs.recurrence.initial_state.map(|initial_state| memory.axes(initial_state)),
        delta_softplus: inputs.delta_softplus,
        run: Run { reverse: inputs.recurrence.reverse, reset: reset.map(|reset| reset.view()) },
    }
}
