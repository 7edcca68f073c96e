//! The outputs of the selective scan.

use pulp::{Simd, WithSimd};

use super::{Block, CHUNK, Common, STATES, Tile, VECTORS};
use crate::cpu::rows::Rows;
use crate::cpu::simd::{Lanes, dispatch, each};
use crate::cpu::threads::parallel;
use crate::memory::Memory;
use crate::ops::SelectiveScan;

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
