//! Products of matrices that may be strided or transposed, split over threads.

use gemm_common::Parallelism;
use gemm_common::gemm::set_lhs_packing_threshold_single_thread;
use gemm_f32::gemm::f32::get_gemm_fn;

use super::rows::Rows;
use super::threads::parallel;

/// A matrix in memory, as it is or transposed.
#[derive(Clone, Copy, Debug)]
pub struct Matrix {
    rows: Rows,
    transposed: bool,
}

impl Matrix {
    /// Rows as they are.
    pub fn plain(rows: Rows) -> Self {
        Matrix { rows, transposed: false }
    }

    /// Rows as columns.
    pub fn transposed(rows: Rows) -> Self {
        Matrix { rows, transposed: true }
    }

    fn flipped(&self) -> Self {
        Matrix { transposed: !self.transposed, ..*self }
    }

    fn n_row(&self) -> usize {
        if self.transposed { self.rows.columns } else { self.rows.rows }
    }

    fn n_column(&self) -> usize {
        if self.transposed { self.rows.rows } else { self.rows.columns }
    }

    /// Elements from one row to the next and from one column to the next.
    fn strides(&self) -> (isize, isize) {
        let stride = self.rows.stride as isize;
        if self.transposed { (1, stride) } else { (stride, 1) }
    }

    fn rows_at(&self, range: std::ops::Range<usize>) -> Self {
        let rows = if self.transposed { self.rows.columns_at(range) } else { self.rows.rows_at(range) };
        Matrix { rows, ..*self }
    }

    fn columns_at(&self, range: std::ops::Range<usize>) -> Self {
        let rows = if self.transposed { self.rows.rows_at(range) } else { self.rows.columns_at(range) };
        Matrix { rows, ..*self }
    }
}

/// Multiplications below which a product is not worth splitting further.
const LEAST_WORK: usize = 1 << 19;
/// Parts that a large product is split into: enough for many threads, few enough that packing costs little.
const MOST_TASKS: usize = 16;
/// Parts begin at multiples of this many rows or columns, whole tiles of the product's inner kernel.
const TILE: usize = 16;

/// Rows of a result, in tiles of the inner kernel, up to which a factor that lies in order is multiplied where it is: to pack 128 x 128
/// elements for a part of 64 rows takes an eighth of its product's time.
const UNPACKED_TILES: usize = 22;

/// Sets what the gemm crate keeps for the whole process; the sums, and so the bits, are the same.
pub fn prepare() {
    set_lhs_packing_threshold_single_thread(UNPACKED_TILES);
}

/// Returns the number of parts to split a product of this many multiplications into.
pub fn task_count(work: usize) -> usize {
    (work / LEAST_WORK).clamp(1, MOST_TASKS)
}

/// Part `task` of `0..len` split into at most `n_task` parts of whole tiles.
pub fn part(len: usize, n_task: usize, task: usize) -> std::ops::Range<usize> {
    let step = len.div_ceil(n_task).next_multiple_of(TILE);
    (task * step).min(len)..((task + 1) * step).min(len)
}

/// `result = a b`, or `result += a b`, on this thread.
pub fn multiply(result: Matrix, a: Matrix, b: Matrix, add: bool) {
    let (m, n, k) = (result.n_row(), result.n_column(), a.n_column());
    assert!(a.n_row() == m && b.n_row() == k && b.n_column() == n);
    // The crate writes results column by column: rows in order are columns of the transposed product.
    let by_columns = result.transposed;
    let (result, a, b) = if by_columns { (result, a, b) } else { (result.flipped(), b.flipped(), a.flipped()) };
    let (m, n) = if by_columns { (m, n) } else { (n, m) };
    let ((r_row, r_column), (a_row, a_column), (b_row, b_column)) = (result.strides(), a.strides(), b.strides());
    let (result, a, b) = (result.rows.as_ptr(), a.rows.as_ptr(), b.rows.as_ptr());
    // SAFETY: the shapes agree, every matrix lies in its tensor, and the result overlaps neither factor.
    unsafe {
        get_gemm_fn()(
            m,
            n,
            k,
            result,
            r_column,
            r_row,
            add,
            a,
            a_column,
            a_row,
            b,
            b_column,
            b_row,
            1.0,
            1.0,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

/// `result = a b` on all threads, split over the longer side of the result.
pub fn multiply_parallel(result: Matrix, a: Matrix, b: Matrix) {
    let (m, n, k) = (result.n_row(), result.n_column(), a.n_column());
    let n_task = task_count(m * n * k);
    parallel(n_task, |task| {
        if m >= n {
            let rows = part(m, n_task, task);
            if !rows.is_empty() {
                multiply(result.rows_at(rows.clone()), a.rows_at(rows), b, false);
            }
        } else {
            let columns = part(n, n_task, task);
            if !columns.is_empty() {
                multiply(result.columns_at(columns.clone()), a, b.columns_at(columns), false);
            }
        }
    });
}
