//! Attention: each task takes a block of queries of one head (its gradients: one head) against blocks of keys. Scores are products of
//! matrices, small enough for the cache; the softmax is online, so that no row of scores is ever whole.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::elementwise;
use super::product::{Matrix, multiply};
use super::rows::Rows;
use super::simd::{Lanes, dispatch};
use super::threads::parallel;
use super::walk::parts;
use crate::graph::Graph;
use crate::memory::Memory;
use crate::ops::{Attention, AttentionAppend, AttentionBackward, AttentionInputs};

/// Queries and keys of a block of scores.
const BLOCK: usize = 64;

/// Floats of scratch memory for the outputs: one block of scores a task.
pub fn scratch(op: &Attention, graph: &Graph) -> usize {
    let shape = graph.shape(op.log_sum);
    shape[0] * shape[1] * shape[2].div_ceil(BLOCK) * BLOCK * BLOCK
}

/// Floats of scratch memory for the gradients: the probabilities and their gradients, one block a task.
pub fn scratch_backward(op: &AttentionBackward, graph: &Graph) -> usize {
    let shape = graph.shape(op.forward.log_sum);
    shape[0] * shape[1] * 2 * BLOCK * BLOCK
}

/// The outputs.
pub fn forward(op: &Attention, memory: &mut Memory<f32>, free: Rows) {
    let common = Common::new(&op.inputs, memory);
    let [y, log_sum] = [op.y, op.log_sum].map(|tensor| Rows::of(memory, tensor));
    let n_block = common.n_step.div_ceil(BLOCK);
    let n_task = common.n_batch * common.n_head * n_block;
    let tiles = free.reshaped(n_task * BLOCK, BLOCK);
    parallel(n_task, |task| {
        let head = common.head(task / n_block);
        let queries = block(task % n_block, common.n_step);
        let tile = tiles.rows_at(task * BLOCK..(task + 1) * BLOCK);
        let y = head.steps(y, &queries);
        let log_sum = log_sum.part_mut(head.index, queries.clone());
        head.forward(queries, tile, y, log_sum);
    });
}

/// The gradients, each where it is asked for.
pub fn backward(op: &AttentionBackward, memory: &mut Memory<f32>, free: Rows) {
    let common = Common::new(&op.forward.inputs, memory);
    let [y, log_sum, grad_y] = [op.forward.y, op.forward.log_sum, op.grad_y].map(|tensor| Rows::of(memory, tensor));
    let [grad_q, grad_k, grad_v, grad_past_k, grad_past_v] =
        [op.grad_q, op.grad_k, op.grad_v, op.grad_past_k, op.grad_past_v].map(|tensor| Rows::of_optional(memory, tensor));
    let n_task = common.n_batch * common.n_head;
    let tiles = free.reshaped(2 * n_task * BLOCK, BLOCK);
    parallel(n_task, |task| {
        let head = common.head(task);
        let tiles = [2 * task, 2 * task + 1].map(|tile| tiles.rows_at(tile * BLOCK..(tile + 1) * BLOCK));
        let steps = |rows: Option<Rows>| rows.map(|rows| head.steps(rows, &(0..common.n_step)));
        let past = |rows: Option<Rows>| rows.map(|rows| head.past_rows(rows, &(0..common.capacity)));
        let targets = [[steps(grad_k), steps(grad_v)], [past(grad_past_k), past(grad_past_v)]];
        let grad_q = steps(grad_q);
        for target in targets.iter().flatten().chain([&grad_q]).flatten() {
            (0..target.rows).for_each(|row| target.row_mut(row).fill(0.0));
        }
        for index in 0..common.n_step.div_ceil(BLOCK) {
            let queries = block(index, common.n_step);
            let [y, grad_y] = [y, grad_y].map(|rows| head.steps(rows, &queries));
            let grad_q = grad_q.map(|grad_q| grad_q.rows_at(queries.clone()));
            head.backward(&queries, tiles, y, log_sum.part(head.index, queries.clone()), grad_y, grad_q, &targets);
        }
    });
}

/// Appends keys and values to a cache, row by row.
pub fn append(op: &AttentionAppend, memory: &mut Memory<f32>) {
    for copy in op.copies() {
        elementwise::run(&copy, memory);
    }
    let Some(length) = Rows::of_optional(memory, op.last.length) else { return };
    let reset = Rows::of_optional(memory, op.reset);
    let (n_step, capacity) = (memory.spec(op.k).shape[1], memory.spec(op.last.k).shape[1]);
    let pairs = [(op.k, op.last.k), (op.v, op.last.v)].map(|(new, cache)| (Rows::of(memory, new), Rows::of(memory, cache)));
    for (batch, length) in length.row_mut(0).iter_mut().enumerate() {
        let border = reset.and_then(|reset| reset.row(batch).iter().rposition(|&begins| begins != 0.0));
        let (first, start) = border.map_or((0, (*length as usize).min(capacity)), |border| (border, 0));
        for (step, row) in (first..n_step).zip(start..capacity) {
            for (new, cache) in &pairs {
                cache.row_mut(batch * capacity + row).copy_from_slice(new.row(batch * n_step + step));
            }
        }
        *length = (start + n_step - first).min(capacity) as f32;
    }
}

fn block(index: usize, len: usize) -> Range<usize> {
    index * BLOCK..((index + 1) * BLOCK).min(len)
}

#[derive(Clone, Copy)]
struct Common {
    q: Rows,
    k: Rows,
    v: Rows,
    past: Option<[Rows; 2]>,
    /// `(batch)`.
    length: Option<Rows>,
    /// `(batch, step)`.
    reset: Option<Rows>,
    n_batch: usize,
    n_step: usize,
    n_head: usize,
    capacity: usize,
    scale: f32,
}

impl Common {
    fn new(inputs: &AttentionInputs, memory: &mut Memory<f32>) -> Self {
        let [q, k, v] = [inputs.q, inputs.k, inputs.v].map(|tensor| Rows::of(memory, tensor));
        let shape = &memory.spec(inputs.q).shape;
        let (n_batch, n_step) = (shape[0], shape[1]);
        Common {
            q,
            k,
            v,
            past: inputs.past.map(|past| [past.k, past.v].map(|tensor| Rows::of(memory, tensor))),
            length: Rows::of_optional(memory, inputs.past.and_then(|past| past.length)),
            reset: Rows::of_optional(memory, inputs.reset),
            n_batch,
            n_step,
            n_head: inputs.n_head,
            capacity: inputs.past.map_or(0, |past| memory.spec(past.k).shape[1]),
            scale: ((q.columns / inputs.n_head) as f32).sqrt().recip(),
        }
    }

    fn head(&self, index: usize) -> Head<'_> {
        let head_dim = self.q.columns / self.n_head;
        let first = index % self.n_head * head_dim;
        let batch = index / self.n_head;
        let n_past = self.length.map_or(self.capacity, |length| (length.row(0)[batch] as usize).min(self.capacity));
        Head { common: self, index, batch, columns: first..first + head_dim, n_past }
    }
}

/// One head of one batch row.
struct Head<'a> {
    common: &'a Common,
    index: usize,
    batch: usize,
    columns: Range<usize>,
    n_past: usize,
}

/// Keys and values of one block: past ones or those of some steps.
struct Keys {
    k: Rows,
    v: Rows,
    is_past: bool,
    range: Range<usize>,
}

/// The past keys and the steps that a query sees.
#[derive(Clone)]
struct Seen {
    n_past: usize,
    steps: Range<usize>,
}

impl Seen {
    /// Which keys of a block they are.
    fn of(&self, keys: &Keys) -> Range<usize> {
        let seen = if keys.is_past { 0..self.n_past } else { self.steps.clone() };
        let clamp = |at: usize| at.clamp(keys.range.start, keys.range.end) - keys.range.start;
        clamp(seen.start)..clamp(seen.end)
    }
}

impl Head<'_> {
    /// This head's part of some steps of a `(batch, step, channel)` tensor.
    fn steps(&self, rows: Rows, steps: &Range<usize>) -> Rows {
        let first = self.batch * self.common.n_step;
        rows.rows_at(first + steps.start..first + steps.end).columns_at(self.columns.clone())
    }

    /// This head's part of some rows of a `(batch, capacity, channel)` tensor.
    fn past_rows(&self, rows: Rows, range: &Range<usize>) -> Rows {
        let first = self.batch * self.common.capacity;
        rows.rows_at(first + range.start..first + range.end).columns_at(self.columns.clone())
    }

    fn seen(&self, step: usize) -> Seen {
        let border = self.common.reset.and_then(|reset| reset.row(self.batch)[..=step].iter().rposition(|&begins| begins != 0.0));
        Seen { n_past: if border.is_some() { 0 } else { self.n_past }, steps: border.unwrap_or(0)..step + 1 }
    }

    /// The blocks of keys that some of these queries see.
    fn keys(&self, queries: &Range<usize>) -> impl Iterator<Item = Keys> {
        let first = self.seen(queries.start);
        let past = parts(0..first.n_past, BLOCK).map(|range| {
            let [k, v] = self.common.past.unwrap_or([self.common.k; 2]).map(|rows| self.past_rows(rows, &range));
            Keys { k, v, is_past: true, range }
        });
        let new = parts(first.steps.start..queries.end, BLOCK).map(|range| {
            let [k, v] = [self.common.k, self.common.v].map(|rows| self.steps(rows, &range));
            Keys { k, v, is_past: false, range }
        });
        past.chain(new)
    }

    fn forward(&self, queries: Range<usize>, tile: Rows, y: Rows, log_sum: &mut [f32]) {
        let q = self.steps(self.common.q, &queries);
        let seen: Vec<Seen> = queries.clone().map(|step| self.seen(step)).collect();
        let mut totals = [0.0; BLOCK];
        log_sum.fill(f32::NEG_INFINITY);
        (0..y.rows).for_each(|row| y.row_mut(row).fill(0.0));
        for keys in self.keys(&queries) {
            let scores = tile.rows_at(0..q.rows).columns_at(0..keys.k.rows);
            multiply(Matrix::plain(scores), Matrix::plain(q), Matrix::transposed(keys.k), false);
            dispatch(Online { scores, y, seen: &seen, keys: &keys, peaks: log_sum, totals: &mut totals, scale: self.common.scale });
            multiply(Matrix::plain(y), Matrix::plain(scores), Matrix::plain(keys.v), true);
        }
        for (row, (log_sum, total)) in log_sum.iter_mut().zip(totals).enumerate() {
            let inverse = total.recip();
            y.row_mut(row).iter_mut().for_each(|y| *y *= inverse);
            *log_sum += total.ln();
        }
    }

    #[allow(clippy::too_many_arguments, reason = "the rows of one block of queries")]
    fn backward(
        &self,
        queries: &Range<usize>,
        tiles: [Rows; 2],
        y: Rows,
        log_sum: &[f32],
        grad_y: Rows,
        grad_q: Option<Rows>,
        targets: &[[Option<Rows>; 2]; 2],
    ) {
        let q = self.steps(self.common.q, queries);
        let seen: Vec<Seen> = queries.clone().map(|step| self.seen(step)).collect();
        let mut d = [0.0; BLOCK];
        for (row, d) in d[..q.rows].iter_mut().enumerate() {
            *d = grad_y.row(row).iter().zip(y.row(row)).map(|(grad_y, y)| grad_y * y).sum();
        }
        for keys in self.keys(queries) {
            let [p, grad_s] = tiles.map(|tile| tile.rows_at(0..q.rows).columns_at(0..keys.k.rows));
            multiply(Matrix::plain(p), Matrix::plain(q), Matrix::transposed(keys.k), false);
            multiply(Matrix::plain(grad_s), Matrix::plain(grad_y), Matrix::transposed(keys.v), false);
            dispatch(Scores { p, grad_s, seen: &seen, keys: &keys, log_sum, d: &d, scale: self.common.scale });
            let [grad_k, grad_v] = targets[usize::from(keys.is_past)].map(|target| target.map(|target| target.rows_at(keys.range.clone())));
            if let Some(grad_v) = grad_v {
                multiply(Matrix::plain(grad_v), Matrix::transposed(p), Matrix::plain(grad_y), true);
            }
            if let Some(grad_k) = grad_k {
                multiply(Matrix::plain(grad_k), Matrix::transposed(grad_s), Matrix::plain(q), true);
            }
            if let Some(grad_q) = grad_q {
                multiply(Matrix::plain(grad_q), Matrix::plain(grad_s), Matrix::plain(keys.k), true);
            }
        }
    }
}

/// Turns a block of products `q · k` into exponentials under the highest score so far, and `y` and the totals with it.
struct Online<'a> {
    scores: Rows,
    y: Rows,
    seen: &'a [Seen],
    keys: &'a Keys,
    peaks: &'a mut [f32],
    totals: &'a mut [f32],
    scale: f32,
}

impl WithSimd for Online<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Online { scores, y, seen, keys, peaks, totals, scale } = self;
        for (row, seen) in seen.iter().enumerate() {
            let scores = only(scores.row_mut(row), seen.of(keys));
            if scores.is_empty() {
                continue;
            }
            let peak = peaks[row].max(scale * highest(simd, scores));
            let kept = (peaks[row] - peak).exp();
            peaks[row] = peak;
            let mut sum = Lanes::splat(simd, 0.0);
            let mut rest = 0.0;
            for part in scores.chunks_mut(S::F32_LANES) {
                let p = Lanes::load_partial(simd, part).mul_add(Lanes::splat(simd, scale), Lanes::splat(simd, -peak)).exp();
                p.store_partial(part);
                if part.len() == S::F32_LANES {
                    sum += p;
                } else {
                    rest = part.iter().sum();
                }
            }
            totals[row] = totals[row] * kept + (sum.sum() + rest);
            y.row_mut(row).iter_mut().for_each(|y| *y *= kept);
        }
    }
}

/// Turns blocks of `q · k` and `grad_y · v` into the probabilities and the gradients of the products `q · k`.
struct Scores<'a> {
    p: Rows,
    grad_s: Rows,
    seen: &'a [Seen],
    keys: &'a Keys,
    log_sum: &'a [f32],
    d: &'a [f32],
    scale: f32,
}

impl WithSimd for Scores<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Scores { p, grad_s, seen, keys, log_sum, d, scale } = self;
        let scale = Lanes::splat(simd, scale);
        for (row, seen) in seen.iter().enumerate() {
            let seen = seen.of(keys);
            let p = only(p.row_mut(row), seen.clone()).chunks_mut(S::F32_LANES);
            let grad_s = only(grad_s.row_mut(row), seen).chunks_mut(S::F32_LANES);
            let (least, d) = (Lanes::splat(simd, -log_sum[row]), Lanes::splat(simd, d[row]));
            for (p, grad_s) in p.zip(grad_s) {
                let value = Lanes::load_partial(simd, p).mul_add(scale, least).exp();
                let grad = scale * value * (Lanes::load_partial(simd, grad_s) - d);
                value.store_partial(p);
                grad.store_partial(grad_s);
            }
        }
    }
}

/// A part of a row, what lies beside it set to 0.
fn only(row: &mut [f32], range: Range<usize>) -> &mut [f32] {
    row[..range.start].fill(0.0);
    row[range.end..].fill(0.0);
    &mut row[range]
}

#[inline(always)]
fn highest<S: Simd>(simd: S, values: &[f32]) -> f32 {
    let whole = values.chunks_exact(S::F32_LANES);
    let rest = whole.remainder().iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut lanes = Lanes::splat(simd, f32::NEG_INFINITY);
    for part in whole {
        let part = Lanes::load(simd, part);
        lanes = lanes.select_less(part, part, lanes);
    }
    rest.max(simd.reduce_max_f32s(lanes.1))
}
