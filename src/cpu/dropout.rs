//! Dropout: blocks of rows and columns.

use super::elementwise::each_block;
use super::rows::Rows;
use crate::memory::Memory;
use crate::ops::Dropout;
use crate::reference::dropout::Mask;

/// `y`.
pub fn run(op: &Dropout, memory: &mut Memory<f32>) {
    let [x, counter, y] = [op.x, op.counter, op.y].map(|tensor| Rows::of(memory, tensor));
    let (mask, scale) = (Mask::new(op.stream, counter.row(0)[1] as u32, op.threshold()), op.scale());
    each_block(y.rows, y.columns, |rows, columns| {
        for row in rows {
            let first = (row * y.columns + columns.start) as u32;
            let (from, to) = (x.part(row, columns.clone()), y.part_mut(row, columns.clone()));
            for ((element, from), to) in (first..).zip(from).zip(to) {
                *to = if mask.keeps(element) { from * scale } else { 0.0 };
            }
        }
    });
}
