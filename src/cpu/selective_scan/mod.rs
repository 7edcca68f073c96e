//! The selective scan: channels are the lanes of vectors, a few states at a time in registers, steps in chunks that stay in the
//! first-level cache.
//!
//! A task walks a group of channels of one batch row, chunk by chunk. Forward saves the states before each chunk; backward recomputes a
//! chunk's states from there and then runs against it, so that each pass takes one exponential a channel, state and step. What backward
//! sums over channels is kept as vectors, one a step and state, and its lanes are added once a chunk and group.

mod backward;
mod forward;

pub use backward::backward;
pub use forward::forward;

use std::f32::consts::LOG2_E;
use std::ops::Range;

use pulp::Simd;

use super::rows::Rows;
use super::simd::{Lanes, each};
use super::threads::parallel;
use super::walk::Walk;
use crate::graph::Graph;
use crate::memory::Memory;
use crate::ops::{SelectiveScan, SelectiveScanBackward, SelectiveScanInputs};

/// Steps of a chunk.
const CHUNK: usize = 32;
/// Chunks after which the groups' parts of the gradients of B and C are added up, which bounds the memory for them.
const WINDOW: usize = 32;
/// Vectors of channels that are walked together.
const VECTORS: usize = 2;
/// States that are walked together.
const STATES: usize = 2;
/// Rows of states are padded to a multiple of this: [`VECTORS`] of the widest vectors.
const PADDING: usize = 32;
/// Lanes of the widest vectors.
const MOST_LANES: usize = 16;
/// Tasks that there should be at least, for many threads.
const TASKS: usize = 16;

/// Lengths of all axes and what follows from them.
#[derive(Clone, Copy)]
struct Shape {
    n_batch: usize,
    n_step: usize,
    n_channel: usize,
    n_state: usize,
    /// Channels of a group.
    group: usize,
}

impl Shape {
    fn new(n_batch: usize, n_step: usize, n_channel: usize, n_state: usize) -> Self {
        let group = n_channel.div_ceil(TASKS.div_ceil(n_batch)).next_multiple_of(PADDING);
        Shape { n_batch, n_step, n_channel, n_state, group }
    }

    fn of(inputs: &SelectiveScanInputs, graph: &Graph) -> Self {
        let (u, a) = (graph.shape(inputs.u), graph.shape(inputs.a));
        Shape::new(u[0], u[1], u[2], a[1])
    }

    fn n_group(&self) -> usize {
        self.n_channel.div_ceil(self.group)
    }

    fn n_task(&self) -> usize {
        self.n_batch * self.n_group()
    }

    fn n_chunk(&self) -> usize {
        self.n_step.div_ceil(CHUNK)
    }

    fn padded(&self) -> usize {
        self.n_channel.next_multiple_of(PADDING)
    }

    /// Positions that the groups' parts of the gradients of B and C are kept for; 0 where there is one group, which writes the whole.
    fn window(&self) -> usize {
        if self.n_group() == 1 { 0 } else { self.n_chunk().min(WINDOW) * CHUNK }
    }
}

/// Floats of scratch memory for the scan.
pub fn scratch(op: &SelectiveScan, graph: &Graph) -> usize {
    let shape = Shape::of(&op.inputs, graph);
    (shape.n_batch + 1) * shape.n_state * shape.padded() + shape.n_task() * 2 * shape.n_state * CHUNK
}

/// Floats of scratch memory for the gradients.
pub fn scratch_backward(op: &SelectiveScanBackward, graph: &Graph) -> usize {
    let shape = Shape::of(&op.inputs, graph);
    let states = shape.n_state * shape.padded();
    let task = 2 * shape.n_state * (CHUNK + CHUNK * MOST_LANES + shape.window());
    (2 * shape.n_batch + 1) * states + 2 * shape.n_batch * shape.padded() + shape.n_task() * task
}

/// The inputs and the memory that both passes share.
#[derive(Clone, Copy)]
struct Common {
    shape: Shape,
    walk: Walk,
    u: Rows,
    delta: Rows,
    b: Rows,
    c: Rows,
    d: Option<Rows>,
    z: Option<Rows>,
    delta_bias: Option<Rows>,
    delta_softplus: bool,
    /// `(state, padded channel)`: `A log2(e)`.
    rates: Rows,
    /// `(batch * state, padded channel)`: states, or the gradients that reach them from steps visited later.
    states: Rows,
    /// `(task * 2, state * CHUNK)`: B and C of a chunk, the steps of a state side by side.
    coefficients: Rows,
    /// `(batch * chunk, channel * state)`: the states before each chunk, those of a block side by side.
    borders: Rows,
}

impl Common {
    fn new(inputs: &SelectiveScanInputs, borders: crate::graph::Tensor, memory: &mut Memory<f32>, free: &mut Rows) -> Self {
        let shape = Shape::of(inputs, memory.graph());
        let [u, delta, a, b, c, borders] =
            [inputs.u, inputs.delta, inputs.a, inputs.b, inputs.c, borders].map(|tensor| Rows::of(memory, tensor));
        let [d, z, delta_bias] = [inputs.d, inputs.z, inputs.delta_bias].map(|tensor| Rows::of_optional(memory, tensor));
        let walk = Walk::new(memory, &inputs.recurrence, shape.n_step);
        let rates = Rows::scratch(free, shape.n_state, shape.padded());
        for state in 0..shape.n_state {
            let rates = rates.row_mut(state);
            rates.fill(0.0);
            for (channel, rate) in rates[..shape.n_channel].iter_mut().enumerate() {
                *rate = a.row(channel)[state] * LOG2_E;
            }
        }
        let states = Rows::scratch(free, shape.n_batch * shape.n_state, shape.padded());
        let coefficients = Rows::scratch(free, shape.n_task() * 2, shape.n_state * CHUNK);
        let borders = borders.reshaped(shape.n_batch * shape.n_chunk(), shape.n_state * shape.n_channel);
        let delta_softplus = inputs.delta_softplus;
        Common { shape, walk, u, delta, b, c, d, z, delta_bias, delta_softplus, rates, states, coefficients, borders }
    }

    /// Takes `(batch, channel, state)` values, or zeros, as states.
    fn set_states(&self, values: Option<Rows>) {
        let Shape { n_state, n_channel, .. } = self.shape;
        parallel(self.shape.n_batch, |batch| {
            for state in 0..n_state {
                let states = self.states.row_mut(batch * n_state + state);
                states.fill(0.0);
                if let Some(values) = values {
                    for (channel, to) in states[..n_channel].iter_mut().enumerate() {
                        *to = values.row(batch * n_channel + channel)[state];
                    }
                }
            }
        });
    }

    /// Gives the states as `(batch, channel, state)` values.
    fn get_states(&self, values: Rows) {
        let Shape { n_state, n_channel, .. } = self.shape;
        parallel(self.shape.n_batch, |batch| {
            for channel in 0..n_channel {
                for (state, to) in values.row_mut(batch * n_channel + channel).iter_mut().enumerate() {
                    *to = self.states.row(batch * n_state + state)[channel];
                }
            }
        });
    }

    /// The batch row and the channels of a task.
    fn task(&self, task: usize) -> (usize, Range<usize>) {
        let Shape { n_channel, group, .. } = self.shape;
        let first = task % self.shape.n_group() * group;
        (task / self.shape.n_group(), first..(first + group).min(n_channel))
    }

    /// The positions of a chunk.
    #[inline(always)]
    fn positions(&self, chunk: usize) -> Range<usize> {
        chunk * CHUNK..((chunk + 1) * CHUNK).min(self.shape.n_step)
    }

    /// Copies B and C of a chunk to the task's place, and tells at which of its positions a sequence begins, a bit each.
    #[inline(always)]
    fn chunk<'a>(&self, task: usize, batch: usize, chunk: usize) -> (&'a [f32], &'a [f32], u32) {
        let mut begins = 0;
        let (b, c) = (self.coefficients.row_mut(2 * task), self.coefficients.row_mut(2 * task + 1));
        for (t, position) in self.positions(chunk).enumerate() {
            begins |= u32::from(self.walk.begins(batch, position)) << t;
            let row = self.walk.row(batch, position);
            for (to, from) in [(&mut *b, self.b), (&mut *c, self.c)] {
                for (state, &value) in from.row(row).iter().enumerate() {
                    to[state * CHUNK + t] = value;
                }
            }
        }
        (b, c, begins)
    }

    /// The step sizes before softplus.
    #[inline(always)]
    fn biased_delta<S: Simd>(&self, simd: S, row: usize, block: &Block) -> [Lanes<S>; VECTORS] {
        let delta = block.load(simd, self.delta, row);
        let Some(bias) = self.delta_bias else { return delta };
        let bias = block.load(simd, bias, 0);
        each(
            #[inline(always)]
            |v| delta[v] + bias[v],
        )
    }

    /// Step sizes, and their derivatives by those before softplus.
    #[inline(always)]
    fn step_sizes<S: Simd>(&self, simd: S, row: usize, block: &Block) -> [(Lanes<S>, Lanes<S>); VECTORS] {
        let delta = self.biased_delta(simd, row, block);
        each(
            #[inline(always)]
            |v| if self.delta_softplus { delta[v].softplus_with_derivative() } else { (delta[v], Lanes::splat(simd, 1.0)) },
        )
    }
}

/// Neighbouring channels, a vector each [`VECTORS`] of them.
struct Block {
    first: usize,
    end: usize,
}

impl Block {
    /// The blocks of a group.
    #[inline(always)]
    fn all<S: Simd>(channels: Range<usize>) -> impl Iterator<Item = Block> {
        let width = VECTORS * S::F32_LANES;
        channels.clone().step_by(width).map(move |first| Block { first, end: (first + width).min(channels.end) })
    }

    /// A state of the block's channels in a row of [`Common::borders`].
    #[inline(always)]
    fn border(&self, borders: Rows, n_state: usize, state: usize) -> (Block, Rows) {
        let len = self.end - self.first;
        let start = self.first * n_state + state * len;
        (Block { first: 0, end: len }, borders.columns_at(start..start + len))
    }

    #[inline(always)]
    fn part<S: Simd>(&self, vector: usize) -> Range<usize> {
        (self.first + vector * S::F32_LANES).min(self.end)..(self.first + (vector + 1) * S::F32_LANES).min(self.end)
    }

    /// The block's channels of a row; beyond the last channel, zeros.
    #[inline(always)]
    fn load<S: Simd>(&self, simd: S, rows: Rows, row: usize) -> [Lanes<S>; VECTORS] {
        each(
            #[inline(always)]
            |v| Lanes::load_partial(simd, rows.part(row, self.part::<S>(v))),
        )
    }

    #[inline(always)]
    fn store<S: Simd>(&self, values: [Lanes<S>; VECTORS], rows: Rows, row: usize) {
        for (v, value) in values.into_iter().enumerate() {
            value.store_partial(rows.part_mut(row, self.part::<S>(v)));
        }
    }

    /// As [`Block::load`], of a padded row.
    #[inline(always)]
    fn load_padded<S: Simd>(&self, simd: S, rows: Rows, row: usize) -> [Lanes<S>; VECTORS] {
        let row = rows.part(row, self.first..self.first + VECTORS * S::F32_LANES);
        each(
            #[inline(always)]
            |v| Lanes::load(simd, &row[v * S::F32_LANES..]),
        )
    }

    #[inline(always)]
    fn store_padded<S: Simd>(&self, values: [Lanes<S>; VECTORS], rows: Rows, row: usize) {
        let row = rows.part_mut(row, self.first..self.first + VECTORS * S::F32_LANES);
        for (v, value) in values.into_iter().enumerate() {
            value.store(&mut row[v * S::F32_LANES..]);
        }
    }
}

/// A value for each step of a chunk and each channel of a block.
type Tile<S> = [[Lanes<S>; VECTORS]; CHUNK];
