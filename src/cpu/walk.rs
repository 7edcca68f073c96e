//! In which order a recurrence visits the steps of a batch, and where it forgets.

use std::ops::Range;

use pulp::Simd;

use super::rows::Rows;
use super::simd::Lanes;
use super::threads::parallel;
use crate::memory::Memory;
use crate::ops::Recurrence;

/// Steps in whose time a cache line comes from memory.
const AHEAD: usize = 16;

/// Direction and borders of a recurrence over `(batch, step, ..)` tensors, as in [`crate::reference::Run`].
#[derive(Clone, Copy, Debug)]
pub struct Walk {
    /// Length of the step axis.
    pub n_step: usize,
    reverse: bool,
    /// `(batch, step)`.
    reset: Option<Rows>,
}

impl Walk {
    /// The walk of an operation over the given number of steps.
    pub fn new(memory: &mut Memory<f32>, recurrence: &Recurrence, n_step: usize) -> Self {
        Walk { n_step, reverse: recurrence.reverse, reset: Rows::of_optional(memory, recurrence.reset) }
    }

    /// The row of a `(batch, step, ..)` tensor visited at `position`.
    #[inline(always)]
    pub fn row(&self, batch: usize, position: usize) -> usize {
        batch * self.n_step + if self.reverse { self.n_step - 1 - position } else { position }
    }

    /// Has columns of the rows fetched that are visited some steps behind `position`: a processor does not foresee rows far apart.
    #[inline(always)]
    pub fn fetch_ahead<const N: usize>(&self, batch: usize, position: usize, tensors: [Rows; N], columns: &Range<usize>) {
        self.fetch(batch, (position + AHEAD).min(self.n_step - 1), tensors, columns);
    }

    /// [`Walk::fetch_ahead`] where positions go down.
    #[inline(always)]
    pub fn fetch_behind<const N: usize>(&self, batch: usize, position: usize, tensors: [Rows; N], columns: &Range<usize>) {
        self.fetch(batch, position.saturating_sub(AHEAD), tensors, columns);
    }

    #[inline(always)]
    fn fetch<const N: usize>(&self, batch: usize, position: usize, tensors: [Rows; N], columns: &Range<usize>) {
        let row = self.row(batch, position);
        for tensor in tensors {
            tensor.fetch(row, columns);
        }
    }

    /// The rows of a `(batch, step, ..)` tensor visited at `position`, one a batch row.
    #[inline(always)]
    pub fn at(&self, rows: Rows, position: usize) -> Rows {
        rows.every(self.n_step, self.row(0, position))
    }

    /// Whether a border lies between `position` and the one visited before it.
    #[inline(always)]
    pub fn begins(&self, batch: usize, position: usize) -> bool {
        let Some(reset) = self.reset else { return false };
        let reset = reset.row(batch);
        if self.reverse { position > 0 && reset[self.n_step - position] != 0.0 } else { reset[position] != 0.0 }
    }
}

/// Parts of `columns`, of `width` each but the last.
#[inline(always)]
pub fn parts(columns: Range<usize>, width: usize) -> impl Iterator<Item = Range<usize>> {
    columns.clone().step_by(width).map(move |start| start..(start + width).min(columns.end))
}

/// Rows that are summed before they are added to the rest, which keeps rounding small.
const BLOCK: usize = 64;

/// Sums over rows: `add` gives a row and the sums so far, and takes the sums with that row.
#[inline(always)]
pub fn sum_rows<S: Simd, const N: usize>(
    simd: S,
    rows: Range<usize>,
    add: impl Fn(usize, [Lanes<S>; N]) -> [Lanes<S>; N],
) -> [Lanes<S>; N] {
    let mut total = [Lanes::splat(simd, 0.0); N];
    for block in parts(rows, BLOCK) {
        let mut part = [Lanes::splat(simd, 0.0); N];
        for row in block {
            part = add(row, part);
        }
        for (total, part) in total.iter_mut().zip(part) {
            *total += part;
        }
    }
    total
}

/// Runs a task for each batch row and some neighbouring channels: some cache lines, fewer where there would be too few tasks for many
/// threads.
pub fn each_task(n_batch: usize, n_channel: usize, task: impl Fn(usize, Range<usize>) + Send + Sync) {
    let wanted = 16usize.div_ceil(n_batch);
    let width = n_channel.div_ceil(wanted).next_multiple_of(16).min(64);
    let n_block = n_channel.div_ceil(width);
    parallel(n_batch * n_block, |index| {
        let first = index % n_block * width;
        task(index / n_block, first..(first + width).min(n_channel));
    });
}
