//! The gradients of the selective scan.

use std::f32::consts::LN_2;
use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::{Block, CHUNK, Common, MOST_LANES, STATES, Shape, Tile, VECTORS};
use crate::cpu::rows::Rows;
use crate::cpu::simd::{Lanes, dispatch, each};
use crate::cpu::threads::parallel;
use crate::memory::Memory;
use crate::ops::SelectiveScanBackward;

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
                pass.load(simd, batch, positions.clone(), &block, &mut tiles);
                let pairs = n_state / STATES * STATES;
                for state in (0..pairs).step_by(STATES) {
                    walk_back::<S, STATES>(simd, pass, batch, border, &block, state, (b, c), (lanes_b, lanes_c), begins, len, &mut tiles);
                }
                for state in pairs..n_state {
                    walk_back::<S, 1>(simd, pass, batch, border, &block, state, (b, c), (lanes_b, lanes_c), begins, len, &mut tiles);
                }
                pass.finish(simd, batch, positions.clone(), &block, &tiles);
            }
            pass.put_sums(simd, task, batch, positions, first_position, [&mut *lanes_b, &mut *lanes_c]);
        }
    }
}

impl Backward {
    /// What a chunk of a block is given; what its states add up begins at 0.
    #[inline(always)]
    fn load<S: Simd>(&self, simd: S, batch: usize, positions: Range<usize>, block: &Block, tiles: &mut Tiles<S>) {
        let common = &self.common;
        let none = [Lanes::splat(simd, 0.0); VECTORS];
        for (t, position) in positions.enumerate() {
            let (row, columns) = (common.walk.row(batch, position), block.first..block.end);
            // what the next chunk reads, and where this one's gradients go
            let next = common.walk.row(batch, position.saturating_sub(CHUNK));
            for tensor in [Some(common.u), Some(common.delta), self.grad_y, common.z].into_iter().flatten() {
                tensor.fetch(next, &columns);
            }
            for tensor in [self.grad_u, self.grad_delta, self.grad_z].into_iter().flatten() {
                tensor.fetch(row, &columns);
            }
            let (u, step_sizes) = (block.load(simd, common.u, row), common.step_sizes(simd, row, block));
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
            let grad_y = match self.grad_y {
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
    }

    /// The gradients of B and C of a chunk, or the group's part of them: sums over the lanes, which begin at 0 again.
    #[inline(always)]
    fn put_sums<S: Simd>(
        &self,
        simd: S,
        task: usize,
        batch: usize,
        positions: Range<usize>,
        first_position: usize,
        lanes: [&mut [f32]; 2],
    ) {
        let common = &self.common;
        for (which, (grad, lanes)) in [self.grad_b, self.grad_c].into_iter().zip(lanes).enumerate() {
            let Some(grad) = grad else { continue };
            for (t, position) in positions.clone().enumerate() {
                let to = if common.shape.window() == 0 {
                    grad.row_mut(common.walk.row(batch, position))
                } else {
                    self.parts.row_mut((2 * task + which) * common.shape.window() + position - first_position)
                };
                for (state, to) in to.iter_mut().enumerate() {
                    let lanes = &mut lanes[(state * CHUNK + t) * S::F32_LANES..];
                    *to = Lanes::load(simd, lanes).sum();
                    Lanes::splat(simd, 0.0).store(lanes);
                }
            }
        }
    }

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
