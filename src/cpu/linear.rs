//! Linear layers: products of a gemm crate, each thread its part of the result.

use pulp::{Simd, WithSimd};

use super::product::{Matrix, multiply, multiply_parallel, part, task_count};
use super::rows::Rows;
use super::simd::{Lanes, dispatch};
use super::threads::parallel;
use super::walk::parts;
use crate::graph::Graph;
use crate::memory::Memory;
use crate::ops::{Linear, LinearBackward};

/// Multiplications in whose time a result is begun and written.
const RESULT: usize = 8;

/// Floats of scratch memory: the weight's columns side by side, where they are wanted so.
pub fn scratch(op: &Linear, graph: &Graph) -> usize {
    let weight = graph.spec(op.weight);
    if is_cut_by_rows(graph.spec(op.x).rows(), weight.rows(), weight.columns()) { weight.len() } else { 0 }
}

/// Whether parts of the rows are tasks, each of which would pack the whole weight.
fn is_cut_by_rows(n_row: usize, n_out: usize, n_in: usize) -> bool {
    n_row >= n_out && task_count(n_row * n_out * n_in) > 1
}

/// `y = x W^T + b`.
pub fn forward(op: &Linear, memory: &mut Memory<f32>, mut free: Rows) {
    let [x, weight, y] = [op.x, op.weight, op.y].map(|tensor| Rows::of(memory, tensor));
    let bias = Rows::of_optional(memory, op.bias);
    // once, instead of by the product of each part
    let weight = if is_cut_by_rows(y.rows, y.columns, x.columns) {
        let columns = Rows::scratch(&mut free, weight.columns, weight.rows);
        transpose(weight, columns);
        Matrix::plain(columns)
    } else {
        Matrix::transposed(weight)
    };
    let Some(bias) = bias else {
        return multiply_parallel(Matrix::plain(y), Matrix::plain(x), weight);
    };
    let n_task = task_count(y.rows * y.columns * (x.columns + RESULT));
    parallel(n_task, |task| {
        let rows = part(y.rows, n_task, task);
        for row in rows.clone() {
            y.row_mut(row).copy_from_slice(bias.row(0));
        }
        if !rows.is_empty() {
            multiply(Matrix::plain(y.rows_at(rows.clone())), Matrix::plain(x.rows_at(rows)), weight, true);
        }
    });
}

/// Rows and columns of a square that lies in the first-level cache as it is read and written.
const SQUARE: usize = 16;

/// `columns (column, row)` of `rows (row, column)`.
fn transpose(rows: Rows, columns: Rows) {
    parallel(rows.columns.div_ceil(SQUARE), |task| {
        let across = task * SQUARE..((task + 1) * SQUARE).min(rows.columns);
        for down in parts(0..rows.rows, SQUARE) {
            for column in across.clone() {
                for (row, to) in down.clone().zip(columns.part_mut(column, down.clone())) {
                    *to = rows.part(row, column..column + 1)[0];
                }
            }
        }
    });
}

/// The gradients, each where it is asked for.
pub fn backward(op: &LinearBackward, memory: &mut Memory<f32>) {
    let [x, weight, grad_y] = [op.x, op.weight, op.grad_y].map(|tensor| Rows::of(memory, tensor));
    if let Some(grad_x) = Rows::of_optional(memory, op.grad_x) {
        multiply_parallel(Matrix::plain(grad_x), Matrix::plain(grad_y), Matrix::plain(weight));
    }
    if let Some(grad_weight) = Rows::of_optional(memory, op.grad_weight) {
        multiply_parallel(Matrix::plain(grad_weight), Matrix::transposed(grad_y), Matrix::plain(x));
    }
    if let Some(grad_bias) = Rows::of_optional(memory, op.grad_bias) {
        sum_rows(grad_y, grad_bias);
    }
}

/// Columns that one task sums: some cache lines.
const COLUMNS: usize = 64;
/// Rows that are summed before they are added to the rest, which keeps rounding small.
const BLOCK: usize = 64;

/// `sum (1, columns)` of all rows.
pub fn sum_rows(rows: Rows, sum: Rows) {
    parallel(rows.columns.div_ceil(COLUMNS), |task| {
        let columns = task * COLUMNS..((task + 1) * COLUMNS).min(rows.columns);
        dispatch(SumRows { rows: rows.columns_at(columns.clone()), sum: sum.columns_at(columns) });
    });
}

struct SumRows {
    rows: Rows,
    sum: Rows,
}

impl WithSimd for SumRows {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let SumRows { rows, sum } = self;
        for first in (0..rows.columns).step_by(S::F32_LANES) {
            let columns = first..(first + S::F32_LANES).min(rows.columns);
            let mut total = Lanes::splat(simd, 0.0);
            for block in (0..rows.rows).step_by(BLOCK) {
                let mut part = Lanes::splat(simd, 0.0);
                for row in block..(block + BLOCK).min(rows.rows) {
                    part += rows.lanes(simd, row, &columns);
                }
                total += part;
            }
            sum.set_lanes(0, &columns, total);
        }
    }
}
