//! Operations on each element alone, and sums over all parameters: blocks of rows and columns.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::rows::Rows;
use super::simd::{Lanes, dispatch};
use super::threads::parallel;
use super::walk::parts;
use crate::memory::Memory;
use crate::ops::Elementwise;

/// Elements that a task has at least.
const LEAST_ELEMENTS: usize = 1 << 14;
/// Columns of a block.
const COLUMNS: usize = 1 << 12;

/// The operation, over blocks of the tensor that it writes.
pub fn run(op: &Elementwise, memory: &mut Memory<f32>) {
    let mut rows = |tensor| Rows::of(memory, tensor);
    let kernel = match *op {
        Elementwise::Fill { y, value } => Kernel { y: rows(y), what: What::Fill(value) },
        Elementwise::Copy { x, y } => Kernel { y: rows(y), what: What::Copy(rows(x)) },
        Elementwise::Add { x, y } => Kernel { y: rows(y), what: What::Sum(rows(y), rows(x)) },
        Elementwise::Sum { a, b, y } => Kernel { y: rows(y), what: What::Sum(rows(a), rows(b)) },
        Elementwise::NegExp { x, y } => Kernel { y: rows(y), what: What::NegExp(rows(x)) },
        Elementwise::NegExpBackward { y, grad_y, grad_x } => Kernel { y: rows(grad_x), what: What::Product(rows(y), rows(grad_y)) },
    };
    let Rows { rows, columns, .. } = kernel.y;
    each_block(rows, columns, |rows, columns| dispatch(Block { kernel, rows, columns }));
}

/// Runs tasks over blocks of rows and columns.
pub fn each_block(n_row: usize, n_column: usize, task: impl Fn(Range<usize>, Range<usize>) + Send + Sync) {
    let width = n_column.clamp(1, COLUMNS);
    let height = (LEAST_ELEMENTS / width).max(1);
    let n_across = n_column.div_ceil(width);
    parallel(n_row.div_ceil(height) * n_across, |index| {
        let (row, column) = (index / n_across * height, index % n_across * width);
        task(row..(row + height).min(n_row), column..(column + width).min(n_column));
    });
}

#[derive(Clone, Copy)]
struct Kernel {
    y: Rows,
    what: What,
}

#[derive(Clone, Copy)]
enum What {
    Fill(f32),
    Copy(Rows),
    Sum(Rows, Rows),
    NegExp(Rows),
    Product(Rows, Rows),
}

struct Block {
    kernel: Kernel,
    rows: Range<usize>,
    columns: Range<usize>,
}

impl WithSimd for Block {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Block { kernel: Kernel { y, what }, rows, columns } = self;
        for row in rows {
            for part in parts(columns.clone(), S::F32_LANES) {
                let value = match what {
                    What::Fill(value) => Lanes::splat(simd, value),
                    What::Copy(x) => x.lanes(simd, row, &part),
                    What::Sum(a, b) => a.lanes(simd, row, &part) + b.lanes(simd, row, &part),
                    What::NegExp(x) => -x.lanes(simd, row, &part).exp(),
                    What::Product(a, b) => a.lanes(simd, row, &part) * b.lanes(simd, row, &part),
                };
                y.set_lanes(row, &part, value);
            }
        }
    }
}
