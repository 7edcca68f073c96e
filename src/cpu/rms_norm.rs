//! Normalisation of rows, some rows a task.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::rows::Rows;
use super::simd::{Lanes, dispatch};
use super::threads::parallel;
use super::walk::parts;
use crate::graph::Graph;
use crate::memory::Memory;
use crate::ops::{RmsNorm, RmsNormBackward};

/// Tasks that many rows are split into.
const TASKS: usize = 16;
/// Rows that a task has at least, where there are as many.
const LEAST_ROWS: usize = 16;

fn rows_per_task(n_row: usize) -> usize {
    n_row.div_ceil(TASKS).max(LEAST_ROWS)
}

/// Floats of scratch memory for the gradients.
pub fn scratch_backward(op: &RmsNormBackward, graph: &Graph) -> usize {
    let x = graph.spec(op.x);
    x.rows().div_ceil(rows_per_task(x.rows())) * x.columns()
}

/// `y`.
pub fn forward(op: &RmsNorm, memory: &mut Memory<f32>) {
    let [x, weight, y] = [op.x, op.weight, op.y].map(|tensor| Rows::of(memory, tensor));
    let per_task = rows_per_task(x.rows);
    parallel(x.rows.div_ceil(per_task), |task| {
        let rows = task * per_task..((task + 1) * per_task).min(x.rows);
        dispatch(Forward { x, weight, y, eps: op.eps, rows });
    });
}

/// The gradients, each where it is asked for.
pub fn backward(op: &RmsNormBackward, memory: &mut Memory<f32>, mut free: Rows) {
    let [x, weight, grad_y] = [op.x, op.weight, op.grad_y].map(|tensor| Rows::of(memory, tensor));
    let [grad_x, grad_weight] = [op.grad_x, op.grad_weight].map(|tensor| Rows::of_optional(memory, tensor));
    let per_task = rows_per_task(x.rows);
    let sums = Rows::scratch(&mut free, x.rows.div_ceil(per_task), x.columns);
    parallel(sums.rows, |task| {
        let rows = task * per_task..((task + 1) * per_task).min(x.rows);
        dispatch(Backward { x, weight, grad_y, grad_x, sum: sums.rows_at(task..task + 1), eps: op.eps, rows });
    });
    if let Some(grad_weight) = grad_weight {
        for (column, grad) in grad_weight.row_mut(0).iter_mut().enumerate() {
            *grad = (0..sums.rows).map(|task| sums.row(task)[column]).sum();
        }
    }
}

/// `1 / sqrt(mean(x²) + eps)`.
#[inline(always)]
fn inverse_rms<S: Simd>(simd: S, x: &[f32], eps: f32) -> f32 {
    let mut sum = Lanes::splat(simd, 0.0);
    for part in x.chunks(S::F32_LANES) {
        let x = Lanes::load_partial(simd, part);
        sum = x.mul_add(x, sum);
    }
    (sum.sum() / x.len() as f32 + eps).sqrt().recip()
}

struct Forward {
    x: Rows,
    weight: Rows,
    y: Rows,
    eps: f32,
    rows: Range<usize>,
}

impl WithSimd for Forward {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for row in self.rows {
            let r = Lanes::splat(simd, inverse_rms(simd, self.x.row(row), self.eps));
            for part in parts(0..self.x.columns, S::F32_LANES) {
                let x = self.x.lanes(simd, row, &part);
                let weight = self.weight.lanes(simd, 0, &part);
                self.y.set_lanes(row, &part, x * r * weight);
            }
        }
    }
}

struct Backward {
    x: Rows,
    weight: Rows,
    grad_y: Rows,
    grad_x: Option<Rows>,
    /// `(1, channel)`: the part of these rows of the gradient of the weight.
    sum: Rows,
    eps: f32,
    rows: Range<usize>,
}

impl WithSimd for Backward {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Backward { x, weight, grad_y, grad_x, sum, eps, rows } = self;
        sum.row_mut(0).fill(0.0);
        for row in rows {
            let r = inverse_rms(simd, x.row(row), eps);
            let lanes = Lanes::splat(simd, r);
            let mut dot = Lanes::splat(simd, 0.0);
            for part in parts(0..x.columns, S::F32_LANES) {
                let normalised = x.lanes(simd, row, &part) * lanes;
                let grad_normalised = grad_y.lanes(simd, row, &part) * normalised;
                let weight = weight.lanes(simd, 0, &part);
                dot = grad_normalised.mul_add(weight, dot);
                let to = sum.part_mut(0, part);
                (Lanes::load_partial(simd, to) + grad_normalised).store_partial(to);
            }
            let Some(grad_x) = grad_x else { continue };
            let mean = Lanes::splat(simd, dot.sum() / x.columns as f32);
            for part in parts(0..x.columns, S::F32_LANES) {
                let normalised = x.lanes(simd, row, &part) * lanes;
                let gw = grad_y.lanes(simd, row, &part) * weight.lanes(simd, 0, &part);
                grad_x.set_lanes(row, &part, (gw - normalised * mean) * lanes);
            }
        }
    }
}
