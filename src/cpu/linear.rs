//! Linear layers: products of a gemm crate, each thread its part of the result; with one input column each row is a multiple of the weight.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::product::{Matrix, multiply, multiply_parallel, part, task_count};
use super::rows::Rows;
use super::simd::{Lanes, dispatch};
use super::threads::parallel;
use super::walk::{self, parts};
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

/// Floats of scratch memory for the gradients: each task's sums, where there is one input column.
pub fn scratch_backward(op: &LinearBackward, graph: &Graph) -> usize {
    let [x, grad_y] = [op.x, op.grad_y].map(|tensor| graph.spec(tensor));
    if x.columns() == 1 { 2 * column_task_count(grad_y.rows(), grad_y.columns()) * grad_y.columns() } else { 0 }
}

/// How many tasks rows are worth that a layer with one input column reads or writes.
fn column_task_count(n_row: usize, n_out: usize) -> usize {
    task_count(n_row * n_out * RESULT)
}

/// Whether there is one input column, its weights side by side.
fn is_column(x: Rows, weight: Rows) -> bool {
    x.columns == 1 && weight.stride == 1
}

/// Whether parts of the rows are tasks, each of which would pack the whole weight.
fn is_cut_by_rows(n_row: usize, n_out: usize, n_in: usize) -> bool {
    n_row >= n_out && task_count(n_row * n_out * n_in) > 1
}

/// `y = x W^T + b`.
pub fn forward(op: &Linear, memory: &mut Memory<f32>, mut free: Rows) {
    let [x, weight, y] = [op.x, op.weight, op.y].map(|tensor| Rows::of(memory, tensor));
    let bias = Rows::of_optional(memory, op.bias);
    if is_column(x, weight) {
        let (weight, n_task) = (weight.row_of_all(), column_task_count(y.rows, y.columns));
        return parallel(n_task, |task| dispatch(Multiples { x, weight, bias, y, rows: part(y.rows, n_task, task) }));
    }
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

/// `y = x w + b`, `x` one element a row.
struct Multiples {
    x: Rows,
    weight: Rows,
    bias: Option<Rows>,
    y: Rows,
    rows: Range<usize>,
}

impl WithSimd for Multiples {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for row in self.rows {
            let x = Lanes::splat(simd, self.x.row(row)[0]);
            for columns in parts(0..self.y.columns, S::F32_LANES) {
                let bias = self.bias.map_or(Lanes::splat(simd, 0.0), |bias| bias.lanes(simd, 0, &columns));
                self.y.set_lanes(row, &columns, x.mul_add(self.weight.lanes(simd, 0, &columns), bias));
            }
        }
    }
}

/// The gradients, each where it is asked for.
pub fn backward(op: &LinearBackward, memory: &mut Memory<f32>, mut free: Rows) {
    let [x, weight, grad_y] = [op.x, op.weight, op.grad_y].map(|tensor| Rows::of(memory, tensor));
    if let Some(grad_x) = Rows::of_optional(memory, op.grad_x) {
        multiply_parallel(Matrix::plain(grad_x), Matrix::plain(grad_y), Matrix::plain(weight));
    }
    let [grad_weight, grad_bias] = [op.grad_weight, op.grad_bias].map(|tensor| Rows::of_optional(memory, tensor));
    if let Some(grad_weight) = grad_weight
        && is_column(x, grad_weight)
    {
        let n_task = column_task_count(grad_y.rows, grad_y.columns);
        let sums = Rows::scratch(&mut free, 2 * n_task, grad_y.columns);
        parallel(n_task, |task| dispatch(SumMultiples { x, grad_y, sums: sums.every(n_task, task), rows: part(x.rows, n_task, task) }));
        let of_tasks = [(Some(grad_weight), 0..n_task), (grad_bias, n_task..2 * n_task)];
        for (grad, tasks) in of_tasks.into_iter().filter_map(|(grad, tasks)| Some((grad?, tasks))) {
            dispatch(SumRows { rows: sums.rows_at(tasks), sum: grad.row_of_all() });
        }
        return;
    }
    if let Some(grad_weight) = grad_weight {
        multiply_parallel(Matrix::plain(grad_weight), Matrix::transposed(grad_y), Matrix::plain(x));
    }
    if let Some(grad_bias) = grad_bias {
        sum_rows(grad_y, grad_bias);
    }
}

/// Columns that one task sums: some cache lines.
const COLUMNS: usize = 64;

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
            let [total] = walk::sum_rows(
                simd,
                0..rows.rows,
                #[inline(always)]
                |row, [sum]| [sum + rows.lanes(simd, row, &columns)],
            );
            sum.set_lanes(0, &columns, total);
        }
    }
}

/// `sums` of the rows times their element of `x`, and below it of the rows.
struct SumMultiples {
    x: Rows,
    grad_y: Rows,
    sums: Rows,
    rows: Range<usize>,
}

impl WithSimd for SumMultiples {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let SumMultiples { x, grad_y, sums, rows } = self;
        for columns in parts(0..grad_y.columns, S::F32_LANES) {
            let total = walk::sum_rows(
                simd,
                rows.clone(),
                #[inline(always)]
                |row, [multiples, sum]| {
                    let (x, grad_y) = (Lanes::splat(simd, x.row(row)[0]), grad_y.lanes(simd, row, &columns));
                    [x.mul_add(grad_y, multiples), sum + grad_y]
                },
            );
            sums.set_lanes(0, &columns, total[0]);
            sums.set_lanes(1, &columns, total[1]);
        }
    }
}
