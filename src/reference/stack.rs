//! Columns of a tensor as rows below one another, and back.
//!
//! ```text
//! tall[part * row + r, c] = wide[r, part * own + c]            where c < own
//!                           wide[r, parts * own + c - own]     else: a column that all parts share
//! ```
//! Without common columns each is the other's inverse and gradient.

use ndarray::{Array2, ArrayView2};

use super::Float;
use crate::memory::Memory;
use crate::ops::Stack;

/// `(part * row, own + common)` of `wide (row, part * own + common)`.
pub fn stack<T: Float>(wide: ArrayView2<T>, n_part: usize, n_common: usize) -> Array2<T> {
    let n_row = wide.nrows();
    let n_own = (wide.ncols() - n_common) / n_part;
    Array2::from_shape_fn((n_part * n_row, n_own + n_common), |(row, column)| {
        let part = row / n_row;
        wide[[row % n_row, if column < n_own { part * n_own + column } else { n_part * n_own + column - n_own }]]
    })
}

/// `(row, part * own)` of `tall (part * row, own)`.
pub fn unstack<T: Float>(tall: ArrayView2<T>, n_part: usize) -> Array2<T> {
    let (n_row, n_own) = (tall.nrows() / n_part, tall.ncols());
    Array2::from_shape_fn((n_row, n_part * n_own), |(row, column)| tall[[column / n_own * n_row + row, column % n_own]])
}

pub(super) fn run<T: Float>(op: &Stack, memory: &mut Memory<T>) {
    if op.back {
        let wide = unstack(memory.rows(op.tall), op.n_part);
        memory.store(op.wide, &wide);
    } else {
        let tall = stack(memory.rows(op.wide), op.n_part, op.n_common);
        memory.store(op.tall, &tall);
    }
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn parts_below_one_another() {
        let wide = array![[1.0, 2.0, 3.0, 4.0, 9.0], [5.0, 6.0, 7.0, 8.0, 0.0]];
        let tall = array![[1.0, 2.0, 9.0], [5.0, 6.0, 0.0], [3.0, 4.0, 9.0], [7.0, 8.0, 0.0]];
        assert_eq!(stack(wide.view(), 2, 1), tall);
        let alone = wide.slice(ndarray::s![.., ..4]);
        assert_eq!(unstack(stack(alone, 2, 0).view(), 2), alone);
    }
}
