//! The gated cell: each thread walks its batch rows through all steps, so that threads meet only at the end.
//!
//! The recurrent weights are packed once a run and stay in the second-level cache; a step is one product of a few rows with them, whose
//! results become gates in place. The weights' gradient is one product over all steps.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::product::{Matrix, multiply_parallel};
use super::rows::Rows;
use super::simd::{Lanes, dispatch, each};
use super::threads::{count, parallel};
use super::walk::{Walk, parts};
use crate::memory::Memory;
use crate::ops::{MinGru, MinGruBackward};

/// Batch rows of one tile of a product, where there are registers for so many sums.
const TILE_ROWS: usize = 8;
/// Vectors of results of one tile.
const TILE_VECTORS: usize = 2;
/// Packed matrices have a multiple of this many columns: a tile of the widest vectors.
const PADDING: usize = 32;

/// Floats of scratch memory that either pass needs, for so many batch rows and hidden channels.
pub fn scratch(n_batch: usize, n_hidden: usize) -> usize {
    let padded = n_hidden.next_multiple_of(PADDING);
    let packed = n_hidden * ((2 * n_hidden).next_multiple_of(PADDING) + padded) + n_hidden * padded;
    packed + 2 * n_batch * n_hidden
}

/// `h`, the last state, and what the gradient needs.
pub fn forward(op: &MinGru, memory: &mut Memory<f32>, mut free: Rows) {
    let [p, u, h, last] = [op.p, op.u, op.h, op.last_state].map(|tensor| Rows::of(memory, tensor));
    let [gates, factors] = [op.gates, op.factors].map(|tensor| Rows::of(memory, tensor));
    let h0 = Rows::of_optional(memory, op.recurrence.initial_state);
    let walk = Walk::new(memory, &op.recurrence, h.rows / last.rows);
    let n_hidden = h.columns;
    let gate_weights = Packed::new(&mut free, u.rows_at(0..2 * n_hidden), true);
    let candidate_weights = Packed::new(&mut free, u.rows_at(2 * n_hidden..3 * n_hidden), true);
    each_task(last.rows, |batches| {
        dispatch(Forward { p, h0, h, last, gates, factors, gate_weights, candidate_weights, walk, batches });
    });
}

/// The gradients, each where it is asked for.
pub fn backward(op: &MinGruBackward, memory: &mut Memory<f32>, mut free: Rows) {
    let forward = &op.forward;
    let [u, last, gates, factors] = [forward.u, forward.last_state, forward.gates, forward.factors].map(|tensor| Rows::of(memory, tensor));
    let grad_p = Rows::of(memory, op.grad_p);
    let [grad_h, grad_last, grad_u, grad_h0] =
        [op.grad_h, op.grad_last_state, op.grad_u, op.grad_initial_state].map(|tensor| Rows::of_optional(memory, tensor));
    let (n_batch, n_hidden) = (last.rows, last.columns);
    let walk = Walk::new(memory, &forward.recurrence, gates.rows / n_batch);
    let gate_weights = Packed::new(&mut free, u.rows_at(0..2 * n_hidden), false);
    let candidate_weights = Packed::new(&mut free, u.rows_at(2 * n_hidden..3 * n_hidden), false);
    let carry = Rows::scratch(&mut free, n_batch, n_hidden);
    let q = Rows::scratch(&mut free, n_batch, n_hidden);
    each_task(n_batch, |batches| {
        dispatch(Backward { gates, factors, grad_h, grad_last, grad_p, grad_h0, gate_weights, candidate_weights, carry, q, walk, batches });
    });
    if let Some(grad_u) = grad_u {
        let (split, all) = (2 * n_hidden, 3 * n_hidden);
        multiply_parallel(
            Matrix::plain(grad_u.rows_at(0..split)),
            Matrix::transposed(grad_p.columns_at(0..split)),
            Matrix::plain(factors.columns_at(0..n_hidden)),
        );
        multiply_parallel(
            Matrix::plain(grad_u.rows_at(split..all)),
            Matrix::transposed(grad_p.columns_at(split..all)),
            Matrix::plain(factors.columns_at(n_hidden..split)),
        );
    }
}

/// Runs tasks over batch rows, one a thread: rows do not depend on each other, so neither do results on the split.
fn each_task(n_batch: usize, task: impl Fn(Range<usize>) + Send + Sync) {
    let per_task = n_batch.div_ceil(count()).next_multiple_of(TILE_ROWS.min(n_batch.div_ceil(count())));
    parallel(n_batch.div_ceil(per_task), |index| task(index * per_task..((index + 1) * per_task).min(n_batch)));
}

/// A matrix `(k, n)` in panels of columns, each panel as wide as a tile and contiguous; columns beyond `n` are 0.
#[derive(Clone, Copy)]
struct Packed {
    /// `(1, k * padded n)`.
    elements: Rows,
    k: usize,
    n: usize,
}

impl Packed {
    /// Packs `weights`, `(n, k)` where they are transposed, else `(k, n)`.
    fn new(free: &mut Rows, weights: Rows, transposed: bool) -> Self {
        let (k, n) = if transposed { (weights.columns, weights.rows) } else { (weights.rows, weights.columns) };
        let packed = Packed { elements: Rows::scratch(free, 1, k * n.next_multiple_of(PADDING)), k, n };
        dispatch(Pack { packed, weights, transposed });
        packed
    }

    /// `(k, width)`: the panel of the columns from `first` on.
    #[inline(always)]
    fn panel<'a>(&self, first: usize, width: usize) -> &'a [f32] {
        self.elements.part(0, first * self.k..(first + width) * self.k)
    }
}

struct Pack {
    packed: Packed,
    weights: Rows,
    transposed: bool,
}

impl WithSimd for Pack {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Pack { packed, weights, transposed } = self;
        let width = TILE_VECTORS * S::F32_LANES;
        for first in (0..packed.n).step_by(width) {
            let panel = packed.elements.part_mut(0, first * packed.k..(first + width) * packed.k);
            panel.fill(0.0);
            for column in first..(first + width).min(packed.n) {
                for k in 0..packed.k {
                    panel[k * width + column - first] = if transposed { weights.row(column)[k] } else { weights.row(k)[column] };
                }
            }
        }
    }
}

/// For the rows `batches`: `out = init + input weights`; `init` may be `out` itself.
#[inline(always)]
fn product<S: Simd>(simd: S, batches: Range<usize>, input: Rows, weights: Packed, init: Option<Rows>, out: Rows) {
    let width = TILE_VECTORS * S::F32_LANES;
    for first in (0..weights.n).step_by(width) {
        let panel = weights.panel(first, width);
        let columns = first..(first + width).min(weights.n);
        let mut first = batches.start;
        while first < batches.end {
            first += match batches.end - first {
                TILE_ROWS.. if S::REGISTER_COUNT > 16 => tile::<S, TILE_ROWS>(simd, first, input, panel, columns.clone(), init, out),
                4.. => tile::<S, 4>(simd, first, input, panel, columns.clone(), init, out),
                2.. => tile::<S, 2>(simd, first, input, panel, columns.clone(), init, out),
                _ => tile::<S, 1>(simd, first, input, panel, columns.clone(), init, out),
            };
        }
    }
}

/// The part of [`product`] whose sums stay in registers: so many rows, which it returns.
#[inline(always)]
fn tile<S: Simd, const ROWS: usize>(
    simd: S,
    first: usize,
    input: Rows,
    panel: &[f32],
    columns: Range<usize>,
    init: Option<Rows>,
    out: Rows,
) -> usize {
    let inputs: [&[f32]; ROWS] = each(
        #[inline(always)]
        |row| input.row(first + row),
    );
    let mut sums = [[Lanes::splat(simd, 0.0); TILE_VECTORS]; ROWS];
    for (k, panel) in panel.chunks_exact(TILE_VECTORS * S::F32_LANES).enumerate() {
        let weights: [Lanes<S>; TILE_VECTORS] = each(
            #[inline(always)]
            |vector| Lanes::load(simd, &panel[vector * S::F32_LANES..]),
        );
        for row in 0..ROWS {
            let x = Lanes::splat(simd, inputs[row][k]);
            for vector in 0..TILE_VECTORS {
                sums[row][vector] = x.mul_add(weights[vector], sums[row][vector]);
            }
        }
    }
    for (row, sums) in sums.iter().enumerate() {
        for (sum, part) in sums.iter().zip(parts(columns.clone(), S::F32_LANES)) {
            let sum = match init {
                Some(init) => init.lanes(simd, first + row, &part) + *sum,
                None => *sum,
            };
            out.set_lanes(first + row, &part, sum);
        }
    }
    ROWS
}

struct Forward {
    p: Rows,
    h0: Option<Rows>,
    h: Rows,
    last: Rows,
    gates: Rows,
    factors: Rows,
    gate_weights: Packed,
    candidate_weights: Packed,
    walk: Walk,
    batches: Range<usize>,
}

impl WithSimd for Forward {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Forward { p, h0, h, last, gates, factors, gate_weights, candidate_weights, walk, batches } = self;
        let n_hidden = h.columns;
        let (z_and_r, c) = (0..2 * n_hidden, 2 * n_hidden..3 * n_hidden);
        for position in 0..walk.n_step {
            let [p, h, gates, factors] = [p, h, gates, factors].map(|rows| walk.at(rows, position));
            let (previous, gated) = (factors.columns_at(0..n_hidden), factors.columns_at(n_hidden..2 * n_hidden));
            for batch in batches.clone() {
                let previous = previous.row_mut(batch);
                match h0 {
                    _ if walk.begins(batch, position) => previous.fill(0.0),
                    None if position == 0 => previous.fill(0.0),
                    Some(h0) if position == 0 => previous.copy_from_slice(h0.row(batch)),
                    _ => previous.copy_from_slice(last.row(batch)),
                }
            }
            let (p_gates, out) = (p.columns_at(z_and_r.clone()), gates.columns_at(z_and_r.clone()));
            product(simd, batches.clone(), previous, gate_weights, Some(p_gates), out);
            for batch in batches.clone() {
                for part in parts(z_and_r.clone(), S::F32_LANES) {
                    let gate = gates.lanes(simd, batch, &part).sigmoid();
                    gates.set_lanes(batch, &part, gate);
                }
                for part in parts(0..n_hidden, S::F32_LANES) {
                    let r = gates.lanes(simd, batch, &(n_hidden + part.start..n_hidden + part.end));
                    let previous = previous.lanes(simd, batch, &part);
                    gated.set_lanes(batch, &part, r * previous);
                }
            }
            product(simd, batches.clone(), gated, candidate_weights, Some(p.columns_at(c.clone())), gates.columns_at(c.clone()));
            for batch in batches.clone() {
                for part in parts(0..n_hidden, S::F32_LANES) {
                    let c = 2 * n_hidden + part.start..2 * n_hidden + part.end;
                    let z = gates.lanes(simd, batch, &part);
                    let candidate = gates.lanes(simd, batch, &c).tanh();
                    gates.set_lanes(batch, &c, candidate);
                    let previous = previous.lanes(simd, batch, &part);
                    let state = (Lanes::splat(simd, 1.0) - z).mul_add(previous, z * candidate);
                    h.set_lanes(batch, &part, state);
                    last.set_lanes(batch, &part, state);
                }
            }
        }
    }
}

struct Backward {
    gates: Rows,
    factors: Rows,
    grad_h: Option<Rows>,
    grad_last: Option<Rows>,
    grad_p: Rows,
    grad_h0: Option<Rows>,
    gate_weights: Packed,
    candidate_weights: Packed,
    carry: Rows,
    q: Rows,
    walk: Walk,
    batches: Range<usize>,
}

impl WithSimd for Backward {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Backward { gates, factors, grad_h, grad_last, grad_p, grad_h0, gate_weights, candidate_weights, carry, q, walk, batches } =
            self;
        let n_hidden = carry.columns;
        let one = Lanes::splat(simd, 1.0);
        for batch in batches.clone() {
            match grad_last {
                Some(grad_last) => carry.row_mut(batch).copy_from_slice(grad_last.row(batch)),
                None => carry.row_mut(batch).fill(0.0),
            }
        }
        for position in (0..walk.n_step).rev() {
            let [gates, factors, grad_p] = [gates, factors, grad_p].map(|rows| walk.at(rows, position));
            let grad_h = grad_h.map(|rows| walk.at(rows, position));
            for batch in batches.clone() {
                for z_part in parts(0..n_hidden, S::F32_LANES) {
                    let c_part = 2 * n_hidden + z_part.start..2 * n_hidden + z_part.end;
                    let z = gates.lanes(simd, batch, &z_part);
                    let c = gates.lanes(simd, batch, &c_part);
                    let previous = factors.lanes(simd, batch, &z_part);
                    let mut grad_state = carry.lanes(simd, batch, &z_part);
                    if let Some(grad_h) = grad_h {
                        grad_state += grad_h.lanes(simd, batch, &z_part);
                    }
                    grad_p.set_lanes(batch, &c_part, grad_state * z * (one - c * c));
                    let keep = one - z;
                    grad_p.set_lanes(batch, &z_part, grad_state * (c - previous) * (z * keep));
                    carry.set_lanes(batch, &z_part, grad_state * keep);
                }
            }
            product(simd, batches.clone(), grad_p.columns_at(2 * n_hidden..3 * n_hidden), candidate_weights, None, q);
            for batch in batches.clone() {
                for part in parts(0..n_hidden, S::F32_LANES) {
                    let r_part = n_hidden + part.start..n_hidden + part.end;
                    let r = gates.lanes(simd, batch, &r_part);
                    let q = q.lanes(simd, batch, &part);
                    let gated = factors.lanes(simd, batch, &r_part);
                    grad_p.set_lanes(batch, &r_part, q * gated * (one - r));
                    let sum = q.mul_add(r, carry.lanes(simd, batch, &part));
                    carry.set_lanes(batch, &part, sum);
                }
            }
            product(simd, batches.clone(), grad_p.columns_at(0..2 * n_hidden), gate_weights, Some(carry), carry);
            for batch in batches.clone() {
                if walk.begins(batch, position) {
                    carry.row_mut(batch).fill(0.0);
                }
            }
        }
        if let Some(grad_h0) = grad_h0 {
            for batch in batches {
                grad_h0.row_mut(batch).copy_from_slice(carry.row(batch));
            }
        }
    }
}
