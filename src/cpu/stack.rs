//! Columns as rows below one another: blocks of rows, which lie in the cache while one part after another is taken from them.

use super::rows::Rows;
use super::threads::parallel;
use crate::memory::Memory;
use crate::ops::Stack;

/// Rows of a block.
const BLOCK: usize = 64;

/// `tall` of `wide`, or `wide` of `tall`.
pub fn run(op: &Stack, memory: &mut Memory<f32>) {
    let [wide, tall] = [op.wide, op.tall].map(|tensor| Rows::of(memory, tensor));
    let (n_row, n_own) = (wide.rows, tall.columns - op.n_common);
    let first_common = op.n_part * n_own;
    parallel(n_row.div_ceil(BLOCK), |task| {
        let block = task * BLOCK..((task + 1) * BLOCK).min(n_row);
        for (part, row) in (0..op.n_part).flat_map(|part| block.clone().map(move |row| (part, row))) {
            let own = part * n_own..(part + 1) * n_own;
            let tall_row = part * n_row + row;
            if op.back {
                copy(tall.part(tall_row, 0..n_own), wide.part_mut(row, own));
            } else {
                let to = tall.row_mut(tall_row);
                copy(wide.part(row, own), &mut to[..n_own]);
                copy(wide.part(row, first_common..wide.columns), &mut to[n_own..]);
            }
        }
    });
}

/// As `copy_from_slice`, which for a few elements is a call that costs more than they do.
#[inline(always)]
fn copy(from: &[f32], to: &mut [f32]) {
    from.iter().zip(to).for_each(|(from, to)| *to = *from);
}
