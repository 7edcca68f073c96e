//! A function of some elements, again and again: a vector of columns at a time.

use pulp::{Simd, WithSimd};

use super::rows::Rows;
use super::simd::{Lanes, dispatch};
use super::threads::parallel;
use super::walk::parts;
use crate::memory::Memory;
use crate::ops::{Iterate, Iterated};

/// Columns of a task.
const COLUMNS: usize = 256;

/// `y`.
pub fn run(op: &Iterate, memory: &mut Memory<f32>) {
    let [x, y] = [op.x, op.y].map(|tensor| Rows::of(memory, tensor));
    parallel(y.columns.div_ceil(COLUMNS), |task| {
        let columns = task * COLUMNS..((task + 1) * COLUMNS).min(y.columns);
        let [x, y] = [x, y].map(|rows| rows.columns_at(columns.clone()));
        dispatch(Block { function: op.function, times: Iterate::UNROLLED * op.n_pass, x, y });
    });
}

struct Block {
    function: Iterated,
    times: usize,
    x: Rows,
    y: Rows,
}

impl WithSimd for Block {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.function {
            Iterated::MultiplyAdd => self.run::<S, false>(simd),
            Iterated::Exponential => self.run::<S, true>(simd),
        }
    }
}

impl Block {
    #[inline(always)]
    fn run<S: Simd, const EXPONENTIAL: bool>(self, simd: S) {
        let matrix = Iterate::MATRIX.map(|row| row.map(|factor| Lanes::splat(simd, factor)));
        let term = Lanes::splat(simd, Iterate::TERM);
        for columns in parts(0..self.y.columns, S::F32_LANES) {
            let mut values = [term; Iterate::ROWS];
            for (row, value) in values.iter_mut().enumerate() {
                *value = self.x.lanes(simd, row, &columns);
            }
            for _ in 0..self.times {
                if EXPONENTIAL {
                    for value in &mut values {
                        *value = (-*value).exp();
                    }
                } else {
                    for four in values.as_chunks_mut::<4>().0 {
                        let of = *four;
                        for (sum, row) in four.iter_mut().zip(&matrix) {
                            *sum = of[3].mul_add(row[3], of[2].mul_add(row[2], of[1].mul_add(row[1], of[0].mul_add(row[0], term))));
                        }
                    }
                }
            }
            for (row, value) in values.into_iter().enumerate() {
                self.y.set_lanes(row, &columns, value);
            }
        }
    }
}
