//! The selective scan: channels are the lanes of vectors, a few states at a time in registers, steps in chunks that stay in the
//! first-level cache.
//!
//! A task walks a group of channels of one batch row, chunk by chunk. Forward saves the states before each chunk; backward recomputes a
//! chunk's states from there and then runs against it, so that each pass takes one exponential a channel, state and step. What backward
//! sums over channels is kept as vectors, one a step and state, and its lanes are added once a chunk and group.

use std::f32::consts::{LN_2, LOG2_E};
use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::rows::Rows;
use super::simd::{Lanes, dispatch, each};
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

/// `y` and the last state.
pub fn forward(op: &SelectiveScan, memory: &mut Memory<f32>, mut free: Rows) {
    let common = Common::new(&op.inputs, op.borders, memory, &mut free);
    let [y, last_state] = [op.y, op.last_state].map(|tensor| Rows::of(memory, tensor));
    common.set_states(Rows::of_optional(memory, op.inputs.recurrence.initial_state));
    parallel(common.shape.n_task(), |task| dispatch(Forward { common: &common, y, task }));
    common.get_states(last_state);
}

struct Forward<'a> {
    common: &'a Common,
    y: Rows,
    task: usize,
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Forward { common, y, task } = self;
        let (batch, channels) = common.task(task);
        let n_state = common.shape.n_state;
        let zero = [[Lanes::splat(simd, 0.0); VECTORS]; CHUNK];
        let (mut delta, mut delta_u, mut sums) = (zero, zero, zero);
        for chunk in 0..common.shape.n_chunk() {
            let (b, c, begins) = common.chunk(task, batch, chunk);
            let positions = common.positions(chunk);
            let len = positions.len();
            let border = batch * common.shape.n_chunk() + chunk;
            for block in Block::all::<S>(channels.clone()) {
                let skip = match common.d {
                    Some(d) => block.load(simd, d, 0),
                    None => zero[0],
                };
                for (t, position) in positions.clone().enumerate() {
                    let (row, columns) = (common.walk.row(batch, position), block.first..block.end);
                    common.walk.fetch_ahead(batch, position, [common.u, common.delta], &columns);
                    for tensor in [common.z, Some(y)].into_iter().flatten() {
                        tensor.fetch(row, &columns);
                    }
                    let (u, step_sizes) = (block.load(simd, common.u, row), common.step_sizes(simd, row, &block));
                    delta[t] = each(
                        #[inline(always)]
                        |v| step_sizes[v].0,
                    );
                    delta_u[t] = each(
                        #[inline(always)]
                        |v| delta[t][v] * u[v],
                    );
                    sums[t] = each(
                        #[inline(always)]
                        |v| skip[v] * u[v],
                    );
                }
                let (pairs, rest) = (n_state / STATES * STATES, n_state);
                for state in (0..pairs).step_by(STATES) {
                    walk::<S, STATES>(simd, common, batch, border, &block, state, (b, c), begins, &delta[..len], &delta_u, &mut sums);
                }
                for state in pairs..rest {
                    walk::<S, 1>(simd, common, batch, border, &block, state, (b, c), begins, &delta[..len], &delta_u, &mut sums);
                }
                for (t, position) in positions.clone().enumerate() {
                    let row = common.walk.row(batch, position);
                    let gated = match common.z {
                        Some(z) => {
                            let z = block.load(simd, z, row);
                            each(
                                #[inline(always)]
                                |v| sums[t][v] * z[v].silu(),
                            )
                        }
                        None => sums[t],
                    };
                    block.store(gated, y, row);
                }
            }
        }
    }
}

/// Walks states `first..first + N` of a block through a chunk and adds what is read from them to `sums`.
#[inline(always)]
fn walk<S: Simd, const N: usize>(
    simd: S,
    common: &Common,
    batch: usize,
    border: usize,
    block: &Block,
    first: usize,
    (b, c): (&[f32], &[f32]),
    begins: u32,
    delta: &[[Lanes<S>; VECTORS]],
    delta_u: &Tile<S>,
    sums: &mut Tile<S>,
) {
    let n_state = common.shape.n_state;
    let rates: [[Lanes<S>; VECTORS]; N] = each(
        #[inline(always)]
        |n| block.load_padded(simd, common.rates, first + n),
    );
    let mut states: [[Lanes<S>; VECTORS]; N] = each(
        #[inline(always)]
        |n| block.load_padded(simd, common.states, batch * n_state + first + n),
    );
    for (n, state) in states.iter().enumerate() {
        let (block, borders) = block.border(common.borders, n_state, first + n);
        block.store(*state, borders, border);
    }
    let b: [&[f32]; N] = each(
        #[inline(always)]
        |n| &b[(first + n) * CHUNK..][..CHUNK],
    );
    let c: [&[f32]; N] = each(
        #[inline(always)]
        |n| &c[(first + n) * CHUNK..][..CHUNK],
    );
    for (t, delta) in delta.iter().enumerate().take(CHUNK) {
        if begins >> t & 1 != 0 {
            states = [[Lanes::splat(simd, 0.0); VECTORS]; N];
        }
        let (delta_u, mut sum) = (delta_u[t], sums[t]);
        for n in 0..N {
            let (b, c) = (Lanes::splat(simd, b[n][t]), Lanes::splat(simd, c[n][t]));
            for v in 0..VECTORS {
                let decay = (delta[v] * rates[n][v]).exp2_bounded();
                states[n][v] = decay.mul_add(states[n][v], delta_u[v] * b);
                sum[v] = states[n][v].mul_add(c, sum[v]);
            }
        }
        sums[t] = sum;
    }
    for (n, state) in states.into_iter().enumerate() {
        block.store_padded(state, common.states, batch * n_state + first + n);
    }
}

/// The gradients, each where it is asked for.
pub fn backward(op: &SelectiveScanBackward, memory: &mut Memory<f32>, mut free: Rows) {
    let common = Common::new(&op.inputs, op.borders, memory, &mut free);
    let shape = common.shape;
    let Shape { n_batch, n_state, n_channel, .. } = shape;
    let [grad_y, grad_last_state, grad_u, grad_delta, grad_z] =
        [op.grad_y, op.grad_last_state, op.grad_u, op.grad_delta, op.grad_z].map(|tensor| Rows::of_optional(memory, tensor));
    let [grad_a, grad_b, grad_c, grad_d, grad_delta_bias, grad_initial_state] =
        [op.grad_a, op.grad_b, op.grad_c, op.grad_d, op.grad_delta_bias, op.grad_initial_state]
            .map(|tensor| Rows::of_optional(memory, tensor));
    let grad_rates = Rows::scratch(&mut free, n_batch * n_state, shape.padded());
    let grad_channels = Rows::scratch(&mut free, n_batch * 2, shape.padded());
    let lanes = Rows::scratch(&mut free, shape.n_task() * 2, n_state * CHUNK * MOST_LANES);
    let window = shape.window();
    let parts = Rows::scratch(&mut free, shape.n_task() * 2 * window, n_state);
    let pass = Backward { common, grad_y, grad_u, grad_delta, grad_z, grad_b, grad_c, grad_rates, grad_channels, lanes, parts };
    common.set_states(grad_last_state);
    for rows in [grad_rates, grad_channels] {
        for row in 0..rows.rows {
            rows.row_mut(row).fill(0.0);
        }
    }
    let chunks_per_window = if window == 0 { shape.n_chunk() } else { window / CHUNK };
    for first in (0..shape.n_chunk()).step_by(chunks_per_window).rev() {
        let chunks = first..(first + chunks_per_window).min(shape.n_chunk());
        parallel(shape.n_task(), |task| dispatch(BackwardTask { pass: &pass, task, chunks: chunks.clone() }));
        if window > 0 {
            parallel(n_batch * chunks.len(), |task| pass.add_parts(task / chunks.len(), first, first + task % chunks.len()));
        }
    }
    if let Some(grad_initial_state) = grad_initial_state {
        common.get_states(grad_initial_state);
    }
    if let Some(grad_a) = grad_a {
        for channel in 0..n_channel {
            for (state, grad) in grad_a.row_mut(channel).iter_mut().enumerate() {
                *grad = (0..n_batch).map(|batch| grad_rates.row(batch * n_state + state)[channel]).sum();
            }
        }
    }
    for (index, grad) in [grad_d, grad_delta_bias].into_iter().enumerate() {
        if let Some(grad) = grad {
            for (channel, grad) in grad.row_mut(0).iter_mut().enumerate() {
                *grad = (0..n_batch).map(|batch| grad_channels.row(2 * batch + index)[channel]).sum();
            }
        }
    }
}

struct Backward {
    common: Common,
    grad_y: Option<Rows>,
    grad_u: Option<Rows>,
    grad_delta: Option<Rows>,
    grad_z: Option<Rows>,
    grad_b: Option<Rows>,
    grad_c: Option<Rows>,
    /// `(batch * state, padded channel)`: each batch row's part of the gradient of A.
    grad_rates: Rows,
    /// `(batch * 2, padded channel)`: each batch row's parts of the gradients of D and of the bias.
    grad_channels: Rows,
    /// `(task * 2, state * CHUNK * lanes)`: sums over the blocks of a group for the gradients of B and C, zero between chunks.
    lanes: Rows,
    /// `(task * 2 * window, state)`: each group's part of the gradients of B and C, where there are several.
    parts: Rows,
}

impl Backward {
    /// Adds up the groups' parts of a chunk, in the order of the groups.
    fn add_parts(&self, batch: usize, first_chunk: usize, chunk: usize) {
        let (n_group, window) = (self.common.shape.n_group(), self.common.shape.window());
        for (which, grad) in [self.grad_b, self.grad_c].into_iter().enumerate() {
            let Some(grad) = grad else { continue };
            for position in self.common.positions(chunk) {
                let sum = grad.row_mut(self.common.walk.row(batch, position));
                sum.fill(0.0);
                for group in 0..n_group {
                    let part = ((batch * n_group + group) * 2 + which) * window + position - first_chunk * CHUNK;
                    for (sum, part) in sum.iter_mut().zip(self.parts.row(part)) {
                        *sum += part;
                    }
                }
            }
        }
    }
}

struct BackwardTask<'a> {
    pass: &'a Backward,
    task: usize,
    chunks: Range<usize>,
}

/// What a chunk of a block is given and what its states add up, on the way back.
struct Tiles<S: Simd> {
    delta: Tile<S>,
    /// Derivatives of the step sizes by those before softplus.
    slopes: Tile<S>,
    delta_u: Tile<S>,
    /// Gradient of y times the derivative of the gate.
    grad_gates: Tile<S>,
    /// Gradient of what is read from the states.
    grad_sums: Tile<S>,
    /// What is read from the states.
    sums: Tile<S>,
    /// Sum over states of the state's gradient times B.
    grad_inputs: Tile<S>,
    /// Sum over states of the gradient of the decay's exponent, in powers of 2, times `A log2(e)`.
    grad_exponents: Tile<S>,
}

impl WithSimd for BackwardTask<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let BackwardTask { pass, task, chunks } = self;
        let common = &pass.common;
        let (batch, channels) = common.task(task);
        let n_state = common.shape.n_state;
        let none = [Lanes::splat(simd, 0.0); VECTORS];
        let zero = [none; CHUNK];
        let mut tiles = Tiles {
            delta: zero,
            slopes: zero,
            delta_u: zero,
            grad_gates: zero,
            grad_sums: zero,
            sums: zero,
            grad_inputs: zero,
            grad_exponents: zero,
        };
        let used = 0..n_state * CHUNK * S::F32_LANES;
        let (lanes_b, lanes_c) = (pass.lanes.part_mut(2 * task, used.clone()), pass.lanes.part_mut(2 * task + 1, used));
        let first_position = chunks.start * CHUNK;
        if chunks.end == common.shape.n_chunk() {
            lanes_b.fill(0.0);
            lanes_c.fill(0.0);
        }
        for chunk in chunks.rev() {
            let (b, c, begins) = common.chunk(task, batch, chunk);
            let positions = common.positions(chunk);
            let len = positions.len();
            let border = batch * common.shape.n_chunk() + chunk;
            for block in Block::all::<S>(channels.clone()) {
                for (t, position) in positions.clone().enumerate() {
                    let (row, columns) = (common.walk.row(batch, position), block.first..block.end);
                    // what the next chunk reads, and where this one's gradients go
                    let next = common.walk.row(batch, position.saturating_sub(CHUNK));
                    for tensor in [Some(common.u), Some(common.delta), pass.grad_y, common.z].into_iter().flatten() {
                        tensor.fetch(next, &columns);
                    }
                    for tensor in [pass.grad_u, pass.grad_delta, pass.grad_z].into_iter().flatten() {
                        tensor.fetch(row, &columns);
                    }
                    let (u, step_sizes) = (block.load(simd, common.u, row), common.step_sizes(simd, row, &block));
                    tiles.delta[t] = each(
                        #[inline(always)]
                        |v| step_sizes[v].0,
                    );
                    tiles.slopes[t] = each(
                        #[inline(always)]
                        |v| step_sizes[v].1,
                    );
                    tiles.delta_u[t] = each(
                        #[inline(always)]
                        |v| tiles.delta[t][v] * u[v],
                    );
                    let grad_y = match pass.grad_y {
                        Some(grad_y) => block.load(simd, grad_y, row),
                        None => none,
                    };
                    tiles.grad_sums[t] = grad_y;
                    if let Some(z) = common.z {
                        let z = block.load(simd, z, row);
                        let gates: [_; VECTORS] = each(
                            #[inline(always)]
                            |v| z[v].silu_with_derivative(),
                        );
                        tiles.grad_sums[t] = each(
                            #[inline(always)]
                            |v| grad_y[v] * gates[v].0,
                        );
                        tiles.grad_gates[t] = each(
                            #[inline(always)]
                            |v| grad_y[v] * gates[v].1,
                        );
                    }
                    tiles.sums[t] = none;
                    tiles.grad_inputs[t] = none;
                    tiles.grad_exponents[t] = none;
                }
                let pairs = n_state / STATES * STATES;
                for state in (0..pairs).step_by(STATES) {
                    walk_back::<S, STATES>(simd, pass, batch, border, &block, state, (b, c), (lanes_b, lanes_c), begins, len, &mut tiles);
                }
                for state in pairs..n_state {
                    walk_back::<S, 1>(simd, pass, batch, border, &block, state, (b, c), (lanes_b, lanes_c), begins, len, &mut tiles);
                }
                pass.finish(simd, batch, positions.clone(), &block, &tiles);
            }
            for (which, (grad, lanes)) in [(pass.grad_b, &mut *lanes_b), (pass.grad_c, &mut *lanes_c)].into_iter().enumerate() {
                let Some(grad) = grad else { continue };
                for (t, position) in positions.clone().enumerate() {
                    let to = if common.shape.window() == 0 {
                        grad.row_mut(common.walk.row(batch, position))
                    } else {
                        pass.parts.row_mut((2 * task + which) * common.shape.window() + position - first_position)
                    };
                    for (state, to) in to.iter_mut().enumerate() {
                        let lanes = &mut lanes[(state * CHUNK + t) * S::F32_LANES..];
                        *to = Lanes::load(simd, lanes).sum();
                        Lanes::splat(simd, 0.0).store(lanes);
                    }
                }
            }
        }
    }
}

impl Backward {
    /// The gradients of a block that do not run through the steps.
    #[inline(always)]
    fn finish<S: Simd>(&self, simd: S, batch: usize, positions: Range<usize>, block: &Block, tiles: &Tiles<S>) {
        let common = &self.common;
        let skip = match common.d {
            Some(d) => block.load(simd, d, 0),
            None => [Lanes::splat(simd, 0.0); VECTORS],
        };
        let mut grad_skip = block.load_padded(simd, self.grad_channels, 2 * batch);
        let mut grad_bias = block.load_padded(simd, self.grad_channels, 2 * batch + 1);
        for (t, position) in positions.enumerate() {
            let row = common.walk.row(batch, position);
            let u = block.load(simd, common.u, row);
            let Tiles { delta, slopes, grad_gates, grad_sums, sums, grad_inputs, grad_exponents, .. } = tiles;
            let ln_2 = Lanes::splat(simd, LN_2);
            let grad_delta: [Lanes<S>; VECTORS] = each(
                #[inline(always)]
                |v| grad_exponents[t][v].mul_add(ln_2, u[v] * grad_inputs[t][v]) * slopes[t][v],
            );
            grad_skip = each(
                #[inline(always)]
                |v| grad_sums[t][v].mul_add(u[v], grad_skip[v]),
            );
            grad_bias = each(
                #[inline(always)]
                |v| grad_bias[v] + grad_delta[v],
            );
            if let Some(to) = self.grad_u {
                block.store(
                    each(
                        #[inline(always)]
                        |v| delta[t][v].mul_add(grad_inputs[t][v], skip[v] * grad_sums[t][v]),
                    ),
                    to,
                    row,
                );
            }
            if let Some(to) = self.grad_delta {
                block.store(grad_delta, to, row);
            }
            if let Some(to) = self.grad_z {
                block.store(
                    each(
                        #[inline(always)]
                        |v| grad_gates[t][v] * skip[v].mul_add(u[v], sums[t][v]),
                    ),
                    to,
                    row,
                );
            }
        }
        block.store_padded(grad_skip, self.grad_channels, 2 * batch);
        block.store_padded(grad_bias, self.grad_channels, 2 * batch + 1);
    }
}

/// Recomputes states `first..first + N` of a block in a chunk, then takes their gradients back through it.
#[inline(always)]
fn walk_back<S: Simd, const N: usize>(
    simd: S,
    pass: &Backward,
    batch: usize,
    border: usize,
    block: &Block,
    first: usize,
    (b, c): (&[f32], &[f32]),
    (lanes_b, lanes_c): (&mut [f32], &mut [f32]),
    begins: u32,
    len: usize,
    tiles: &mut Tiles<S>,
) {
    let common = &pass.common;
    let n_state = common.shape.n_state;
    let Tiles { delta, delta_u, grad_sums, sums, grad_inputs, grad_exponents, .. } = tiles;
    let none = [Lanes::splat(simd, 0.0); VECTORS];
    let rates: [[Lanes<S>; VECTORS]; N] = each(
        #[inline(always)]
        |n| block.load_padded(simd, common.rates, first + n),
    );
    let b: [&[f32]; N] = each(
        #[inline(always)]
        |n| &b[(first + n) * CHUNK..][..CHUNK],
    );
    let c: [&[f32]; N] = each(
        #[inline(always)]
        |n| &c[(first + n) * CHUNK..][..CHUNK],
    );
    // Decays, and decays times the states before.
    let mut decays = [[none; N]; CHUNK];
    let mut kept = [[none; N]; CHUNK];
    let mut states: [[Lanes<S>; VECTORS]; N] = each(
        #[inline(always)]
        |n| {
            let (block, borders) = block.border(common.borders, n_state, first + n);
            block.load(simd, borders, border)
        },
    );
    for t in 0..len.min(CHUNK) {
        let begins = begins >> t & 1 != 0;
        let (delta, delta_u, mut sum) = (delta[t], delta_u[t], sums[t]);
        for n in 0..N {
            let (b, c) = (Lanes::splat(simd, b[n][t]), Lanes::splat(simd, c[n][t]));
            for v in 0..VECTORS {
                let decay = (delta[v] * rates[n][v]).exp2_bounded();
                let decay = if begins { none[v] } else { decay };
                decays[t][n][v] = decay;
                kept[t][n][v] = decay * states[n][v];
                states[n][v] = delta_u[v].mul_add(b, kept[t][n][v]);
                sum[v] = states[n][v].mul_add(c, sum[v]);
            }
        }
        sums[t] = sum;
    }
    let mut carries: [[Lanes<S>; VECTORS]; N] = each(
        #[inline(always)]
        |n| block.load_padded(simd, common.states, batch * n_state + first + n),
    );
    let mut grad_rates: [[Lanes<S>; VECTORS]; N] = each(
        #[inline(always)]
        |n| block.load_padded(simd, pass.grad_rates, batch * n_state + first + n),
    );
    for t in (0..len.min(CHUNK)).rev() {
        let (delta, delta_u, grad_sum) = (delta[t], delta_u[t], grad_sums[t]);
        let (mut grad_input, mut grad_exponent) = (grad_inputs[t], grad_exponents[t]);
        for n in 0..N {
            let (b, c) = (Lanes::splat(simd, b[n][t]), Lanes::splat(simd, c[n][t]));
            let at = ((first + n) * CHUNK + t) * S::F32_LANES;
            let mut sum_b = Lanes::load(simd, &lanes_b[at..]);
            let mut sum_c = Lanes::load(simd, &lanes_c[at..]);
            for v in 0..VECTORS {
                let kept = kept[t][n][v];
                let grad_state = grad_sum[v].mul_add(c, carries[n][v]);
                sum_c = grad_sum[v].mul_add(delta_u[v].mul_add(b, kept), sum_c);
                sum_b = grad_state.mul_add(delta_u[v], sum_b);
                let grad = grad_state * kept;
                grad_exponent[v] = grad.mul_add(rates[n][v], grad_exponent[v]);
                grad_rates[n][v] = grad.mul_add(delta[v], grad_rates[n][v]);
                grad_input[v] = grad_state.mul_add(b, grad_input[v]);
                carries[n][v] = decays[t][n][v] * grad_state;
            }
            sum_b.store(&mut lanes_b[at..]);
            sum_c.store(&mut lanes_c[at..]);
        }
        (grad_inputs[t], grad_exponents[t]) = (grad_input, grad_exponent);
    }
    for n in 0..N {
        block.store_padded(carries[n], common.states, batch * n_state + first + n);
        block.store_padded(grad_rates[n], pass.grad_rates, batch * n_state + first + n);
    }
}
