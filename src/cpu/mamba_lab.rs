//! The lab's model: what is the same for all steps is products over all of them; only the few states walk through the steps.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::product::{Matrix, multiply, part, task_count};
use super::rows::Rows;
use super::simd::{Lanes, dispatch};
use super::threads::parallel;
use super::walk::{self, Walk, parts};
use crate::graph::Graph;
use crate::memory::Memory;
use crate::ops::{MambaLab, MambaLabBackward};
use crate::reference::mamba_lab::{INPUT_LIMIT, READ_OUT_LIMIT};

/// Floats of scratch memory for the states.
pub fn scratch(op: &MambaLab, graph: &Graph) -> usize {
    graph.spec(op.a).len()
}

/// Floats of scratch memory for the gradients.
pub fn scratch_backward(op: &MambaLabBackward, graph: &Graph) -> usize {
    let [p, last_state] = [op.forward.p, op.forward.last_state].map(|tensor| graph.spec(tensor));
    let (n_state, n_task) = (last_state.columns(), task_count(p.len() * last_state.columns()));
    (2 * last_state.rows() + 1) * n_state + n_task * (2 * n_state + 1) * p.columns()
}

/// `y`, the last state, and what the gradient needs.
pub fn forward(op: &MambaLab, memory: &mut Memory<f32>, mut free: Rows) {
    let [p, a, b, c, d] = [op.p, op.a, op.b, op.c, op.d].map(|tensor| Rows::of(memory, tensor));
    let [y, last_state, gate, states, read_out] =
        [op.y, op.last_state, op.gate, op.states, op.read_out].map(|tensor| Rows::of(memory, tensor));
    let initial_state = Rows::of_optional(memory, op.recurrence.initial_state);
    let walk = Walk::new(memory, &op.recurrence, y.rows / last_state.rows);
    each_block(y.rows, y.columns * states.columns, |_, rows| {
        dispatch(Gate { p, gate, rows: rows.clone() });
        multiply(Matrix::plain(states.rows_at(rows.clone())), Matrix::plain(gate.rows_at(rows)), Matrix::plain(b), false);
    });
    let decays = decays(a, &mut free);
    parallel(last_state.rows, |batch| {
        let state = last_state.row_mut(batch);
        match initial_state {
            Some(initial_state) => state.copy_from_slice(initial_state.row(batch)),
            None => state.fill(0.0),
        }
        for position in 0..walk.n_step {
            let begins = walk.begins(batch, position);
            let next = states.row_mut(walk.row(batch, position));
            for ((state, next), decay) in state.iter_mut().zip(next).zip(decays.row(0)) {
                if !begins {
                    *next += decay * *state;
                }
                *state = *next;
            }
        }
    });
    each_block(y.rows, y.columns * states.columns, |_, rows| {
        multiply(Matrix::plain(read_out.rows_at(rows.clone())), Matrix::plain(states.rows_at(rows.clone())), Matrix::transposed(c), false);
        dispatch(ReadOut { p, d, gate, read_out, y, rows });
    });
}

/// The gradients, each where it is asked for.
pub fn backward(op: &MambaLabBackward, memory: &mut Memory<f32>, mut free: Rows) {
    let forward = &op.forward;
    let [p, a, b, c, d] = [forward.p, forward.a, forward.b, forward.c, forward.d].map(|tensor| Rows::of(memory, tensor));
    let [last_state, gate, states, read_out] =
        [forward.last_state, forward.gate, forward.states, forward.read_out].map(|tensor| Rows::of(memory, tensor));
    let [grad_read_out, grad_states, grad_gate] = [op.grad_read_out, op.grad_states, op.grad_gate].map(|tensor| Rows::of(memory, tensor));
    let [grad_y, grad_last_state, grad_p, grad_initial_state] =
        [op.grad_y, op.grad_last_state, op.grad_p, op.grad_initial_state].map(|tensor| Rows::of_optional(memory, tensor));
    let [grad_a, grad_b, grad_c, grad_d] = [op.grad_a, op.grad_b, op.grad_c, op.grad_d].map(|tensor| Rows::of_optional(memory, tensor));
    let initial_state = Rows::of_optional(memory, forward.recurrence.initial_state);
    let (n_batch, n_state) = (last_state.rows, last_state.columns);
    let walk = Walk::new(memory, &forward.recurrence, p.rows / n_batch);
    let decays = decays(a, &mut free);
    let carries = Rows::scratch(&mut free, n_batch, n_state);
    let grad_rates = Rows::scratch(&mut free, n_batch, n_state);
    let work = p.columns * n_state;

    each_block(p.rows, work, |_, rows| {
        dispatch(GradReadOut { grad_y, gate, read_out, grad_read_out, rows: rows.clone() });
        let grad_states = Matrix::plain(grad_states.rows_at(rows.clone()));
        multiply(grad_states, Matrix::plain(grad_read_out.rows_at(rows)), Matrix::plain(c), false);
    });
    parallel(n_batch, |batch| {
        let (carry, grad_rates) = (carries.row_mut(batch), grad_rates.row_mut(batch));
        match grad_last_state {
            Some(grad_last_state) => carry.copy_from_slice(grad_last_state.row(batch)),
            None => carry.fill(0.0),
        }
        grad_rates.fill(0.0);
        for position in (0..walk.n_step).rev() {
            let grad_states = grad_states.row_mut(walk.row(batch, position));
            let begins = walk.begins(batch, position);
            let previous = match position {
                0 => initial_state.map(|initial_state| initial_state.row(batch)),
                _ => Some(states.row(walk.row(batch, position - 1))),
            };
            for state in 0..n_state {
                grad_states[state] += carry[state];
                carry[state] = if begins { 0.0 } else { grad_states[state] * decays.row(0)[state] };
                grad_rates[state] += carry[state] * previous.map_or(0.0, |previous| previous[state]);
            }
        }
    });
    // sums over each task's rows, which are still in its cache; channels side by side
    let n_task = task_count(p.rows * work);
    let products = [(grad_b, grad_states, gate), (grad_c, states, grad_read_out)].map(|(grad, states, channels)| {
        let sums = Rows::scratch(&mut free, n_task * n_state, p.columns);
        (grad, sums, states, channels)
    });
    let sums_d = Rows::scratch(&mut free, n_task, p.columns);
    each_block(p.rows, work, |task, rows| {
        let product = Matrix::plain(grad_gate.rows_at(rows.clone()));
        multiply(product, Matrix::plain(grad_states.rows_at(rows.clone())), Matrix::transposed(b), false);
        dispatch(GradP { grad_y, p, d, read_out, grad_read_out, grad_gate, grad_p, rows: rows.clone() });
        for (_, sums, states, channels) in products.iter().filter(|(grad, ..)| grad.is_some()) {
            let sums = Matrix::plain(sums.rows_at(task * n_state..(task + 1) * n_state));
            multiply(sums, Matrix::transposed(states.rows_at(rows.clone())), Matrix::plain(channels.rows_at(rows.clone())), false);
        }
        let [a, b] = [grad_read_out, p].map(|factor| factor.rows_at(rows.clone()));
        dispatch(SumProducts { a, b, sum: sums_d.rows_at(task..task + 1) });
    });
    add_tasks(n_task, products.map(|(grad, sums, ..)| (grad, sums)), (grad_d, sums_d));
    if let Some(grad_a) = grad_a {
        for (state, grad) in grad_a.row_mut(0).iter_mut().enumerate() {
            *grad = (0..n_batch).map(|batch| grad_rates.row(batch)[state]).sum();
        }
    }
    if let Some(grad_initial_state) = grad_initial_state {
        for batch in 0..n_batch {
            grad_initial_state.row_mut(batch).copy_from_slice(carries.row(batch));
        }
    }
}

/// The gradients of B and C, `(channel, state)`, and of D: the tasks' sums `(task, state, channel)` and `(task, channel)` added up in order.
fn add_tasks(n_task: usize, of_states: [(Option<Rows>, Rows); 2], (grad_d, sums_d): (Option<Rows>, Rows)) {
    let n_channel = sums_d.columns;
    parallel(n_channel.div_ceil(COLUMNS), |block| {
        for channel in block * COLUMNS..((block + 1) * COLUMNS).min(n_channel) {
            let total = |sums: Rows, row: usize| (0..n_task).map(|task| sums.row(task * (sums.rows / n_task) + row)[channel]).sum();
            for (grad, sums) in of_states.iter().filter_map(|(grad, sums)| Some(((*grad)?, *sums))) {
                for (state, grad) in grad.row_mut(channel).iter_mut().enumerate() {
                    *grad = total(sums, state);
                }
            }
            if let Some(grad_d) = grad_d {
                grad_d.part_mut(0, channel..channel + 1)[0] = total(sums_d, 0);
            }
        }
    });
}

/// `exp(A)`, `(1, state)`.
fn decays(a: Rows, free: &mut Rows) -> Rows {
    let decays = Rows::scratch(free, 1, a.columns);
    for (decay, a) in decays.row_mut(0).iter_mut().zip(a.row(0)) {
        *decay = a.exp();
    }
    decays
}

/// Channels whose gradients one task completes.
const COLUMNS: usize = 64;

/// Runs numbered tasks over blocks of rows, some of which may have none, each row worth `work` multiplications.
fn each_block(n_row: usize, work: usize, task: impl Fn(usize, Range<usize>) + Send + Sync) {
    let n_task = task_count(n_row * work);
    parallel(n_task, |index| task(index, part(n_row, n_task, index)));
}

/// `x` within `[-limit, limit]`, and 1 where it was, else 0.
#[inline(always)]
fn clip<S: Simd>(x: Lanes<S>, limit: f64) -> (Lanes<S>, Lanes<S>) {
    let limit = limit as f32;
    let (zero, one) = (Lanes::splat(x.0, 0.0), Lanes::splat(x.0, 1.0));
    (x.at_least(-limit).at_most(limit), Lanes::splat(x.0, limit).select_less(x.abs(), zero, one))
}

struct Gate {
    p: Rows,
    gate: Rows,
    rows: Range<usize>,
}

impl WithSimd for Gate {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for row in self.rows {
            for part in parts(0..self.p.columns, S::F32_LANES) {
                let p = self.p.lanes(simd, row, &part);
                self.gate.set_lanes(row, &part, clip(p, INPUT_LIMIT).0.silu());
            }
        }
    }
}

/// Completes `u = C s + D p` and `y`.
struct ReadOut {
    p: Rows,
    d: Rows,
    gate: Rows,
    read_out: Rows,
    y: Rows,
    rows: Range<usize>,
}

impl WithSimd for ReadOut {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for row in self.rows {
            for part in parts(0..self.p.columns, S::F32_LANES) {
                let (p, gate, read_out) =
                    (self.p.lanes(simd, row, &part), self.gate.lanes(simd, row, &part), self.read_out.lanes(simd, row, &part));
                let u = self.d.lanes(simd, 0, &part).mul_add(p, read_out);
                self.read_out.set_lanes(row, &part, u);
                self.y.set_lanes(row, &part, gate * clip(u, READ_OUT_LIMIT).0);
            }
        }
    }
}

struct GradReadOut {
    grad_y: Option<Rows>,
    gate: Rows,
    read_out: Rows,
    grad_read_out: Rows,
    rows: Range<usize>,
}

impl WithSimd for GradReadOut {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for row in self.rows {
            let Some(grad_y) = self.grad_y else {
                self.grad_read_out.row_mut(row).fill(0.0);
                continue;
            };
            for part in parts(0..self.gate.columns, S::F32_LANES) {
                let (grad_y, gate, read_out) =
                    (grad_y.lanes(simd, row, &part), self.gate.lanes(simd, row, &part), self.read_out.lanes(simd, row, &part));
                self.grad_read_out.set_lanes(row, &part, grad_y * gate * clip(read_out, READ_OUT_LIMIT).1);
            }
        }
    }
}

/// Completes the gradient of the gate and takes it to `p`.
struct GradP {
    grad_y: Option<Rows>,
    p: Rows,
    d: Rows,
    read_out: Rows,
    grad_read_out: Rows,
    grad_gate: Rows,
    grad_p: Option<Rows>,
    rows: Range<usize>,
}

impl WithSimd for GradP {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for row in self.rows {
            for part in parts(0..self.p.columns, S::F32_LANES) {
                let (p, read_out, grad_read_out, mut grad_gate) = (
                    self.p.lanes(simd, row, &part),
                    self.read_out.lanes(simd, row, &part),
                    self.grad_read_out.lanes(simd, row, &part),
                    self.grad_gate.lanes(simd, row, &part),
                );
                if let Some(grad_y) = self.grad_y {
                    grad_gate = grad_y.lanes(simd, row, &part).mul_add(clip(read_out, READ_OUT_LIMIT).0, grad_gate);
                }
                if let Some(grad_p) = self.grad_p {
                    let (clipped, inside) = clip(p, INPUT_LIMIT);
                    let derivative = clipped.silu_with_derivative().1 * inside;
                    let d = self.d.lanes(simd, 0, &part);
                    grad_p.set_lanes(row, &part, grad_gate.mul_add(derivative, grad_read_out * d));
                }
            }
        }
    }
}

/// `sum[column]` = the sum over all rows of `a b`.
struct SumProducts {
    a: Rows,
    b: Rows,
    sum: Rows,
}

impl WithSimd for SumProducts {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for columns in parts(0..self.sum.columns, S::F32_LANES) {
            let [total] = walk::sum_rows(
                simd,
                0..self.a.rows,
                #[inline(always)]
                |row, [sum]| [self.a.lanes(simd, row, &columns).mul_add(self.b.lanes(simd, row, &columns), sum)],
            );
            self.sum.set_lanes(0, &columns, total);
        }
    }
}
