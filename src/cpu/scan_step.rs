//! The selective scan over one step, for a stream: the states of a channel are the lanes of vectors, so that nothing has to be turned.

use std::f32::consts::LOG2_E;

use pulp::{Simd, WithSimd};

use super::rows::Rows;
use super::simd::{Lanes, dispatch};
use super::threads::parallel;
use super::walk::{Walk, parts};
use crate::graph::Graph;
use crate::memory::Memory;
use crate::ops::{SelectiveScan, SelectiveScanInputs};

/// Whether a scan is one step.
pub fn fits(op: &SelectiveScan, graph: &Graph) -> bool {
    graph.shape(op.inputs.u)[1] == 1
}

/// Floats of scratch memory for a step.
pub fn scratch(op: &SelectiveScan, graph: &Graph) -> usize {
    2 * graph.spec(op.inputs.u).len()
}

/// `y` and the last state, without the states that only a gradient asks for.
pub fn forward(op: &SelectiveScan, memory: &mut Memory<f32>, mut free: Rows) {
    let SelectiveScanInputs { u, delta, a, b, c, d, z, delta_bias, delta_softplus, recurrence } = op.inputs;
    let [u, delta, a, b, c, y, last_state] = [u, delta, a, b, c, op.y, op.last_state].map(|tensor| Rows::of(memory, tensor));
    let [d, z, delta_bias, initial_state] = [d, z, delta_bias, recurrence.initial_state].map(|tensor| Rows::of_optional(memory, tensor));
    let walk = Walk::new(memory, &recurrence, 1);
    let sizes = Rows::scratch(&mut free, u.rows, u.columns);
    let inputs = Rows::scratch(&mut free, u.rows, u.columns);
    parallel(u.rows, |batch| {
        let initial_state = initial_state.filter(|_| !walk.begins(batch, 0));
        dispatch(Step { u, delta, a, b, c, d, z, delta_bias, delta_softplus, initial_state, sizes, inputs, y, last_state, batch });
    });
}

struct Step {
    u: Rows,
    delta: Rows,
    a: Rows,
    b: Rows,
    c: Rows,
    d: Option<Rows>,
    z: Option<Rows>,
    delta_bias: Option<Rows>,
    delta_softplus: bool,
    initial_state: Option<Rows>,
    /// `(batch, channel)`: step sizes times `log2(e)`.
    sizes: Rows,
    /// `(batch, channel)`: step sizes times `u`.
    inputs: Rows,
    y: Rows,
    last_state: Rows,
    batch: usize,
}

impl WithSimd for Step {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Step { u, delta, a, b, c, sizes, inputs, y, last_state, batch, .. } = self;
        let (n_channel, n_state) = (u.columns, a.columns);
        for part in parts(0..n_channel, S::F32_LANES) {
            let mut size = delta.lanes(simd, batch, &part);
            if let Some(bias) = self.delta_bias {
                size += bias.lanes(simd, 0, &part);
            }
            if self.delta_softplus {
                size = size.softplus();
            }
            inputs.set_lanes(batch, &part, size * u.lanes(simd, batch, &part));
            sizes.set_lanes(batch, &part, size * Lanes::splat(simd, LOG2_E));
        }
        let (sizes, inputs, sums) = (sizes.row(batch), inputs.row(batch), y.row_mut(batch));
        for channel in 0..n_channel {
            let row = batch * n_channel + channel;
            let (size, input) = (Lanes::splat(simd, sizes[channel]), Lanes::splat(simd, inputs[channel]));
            let mut sum = Lanes::splat(simd, 0.0);
            for part in parts(0..n_state, S::F32_LANES) {
                let mut state = input * b.lanes(simd, batch, &part);
                if let Some(initial_state) = self.initial_state {
                    let decay = (size * a.lanes(simd, channel, &part)).exp2_bounded();
                    state = decay.mul_add(initial_state.lanes(simd, row, &part), state);
                }
                last_state.set_lanes(row, &part, state);
                sum = state.mul_add(c.lanes(simd, batch, &part), sum);
            }
            sums[channel] = sum.sum();
        }
        for part in parts(0..n_channel, S::F32_LANES) {
            let mut value = y.lanes(simd, batch, &part);
            if let Some(d) = self.d {
                value = d.lanes(simd, 0, &part).mul_add(u.lanes(simd, batch, &part), value);
            }
            if let Some(z) = self.z {
                value = value * z.lanes(simd, batch, &part).silu();
            }
            y.set_lanes(batch, &part, value);
        }
    }
}
