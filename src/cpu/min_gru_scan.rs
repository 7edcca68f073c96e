//! minGRU: each task walks some channels of one batch row through all steps, gates and recurrence in one pass.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::rows::Rows;
use super::simd::{Lanes, dispatch};
use super::walk::{Walk, each_task, parts};
use crate::memory::Memory;
use crate::ops::{MinGruScan, MinGruScanBackward};

/// Most channels of one task.
const CHANNELS: usize = 64;

/// Steps from which on a sequence has more rows than the near caches hold: then they are fetched ahead, before that it would only cost.
const LONG: usize = 1024;

/// `h` and the last state.
pub fn forward(op: &MinGruScan, memory: &mut Memory<f32>) {
    let [p, h, last] = [op.p, op.h, op.last_state].map(|tensor| Rows::of(memory, tensor));
    let h0 = Rows::of_optional(memory, op.recurrence.initial_state);
    let walk = Walk::new(memory, &op.recurrence, h.rows / last.rows);
    each_task(last.rows, h.columns, |batch, channels| dispatch(Forward { p, h0, h, last, walk, batch, channels }));
}

/// The gradients, each where it is asked for.
pub fn backward(op: &MinGruScanBackward, memory: &mut Memory<f32>) {
    let forward = &op.forward;
    let [p, h, last] = [forward.p, forward.h, forward.last_state].map(|tensor| Rows::of(memory, tensor));
    let h0 = Rows::of_optional(memory, forward.recurrence.initial_state);
    let [grad_h, grad_last, grad_p, grad_h0] =
        [op.grad_h, op.grad_last_state, op.grad_p, op.grad_initial_state].map(|tensor| Rows::of_optional(memory, tensor));
    let walk = Walk::new(memory, &forward.recurrence, h.rows / last.rows);
    each_task(last.rows, h.columns, |batch, channels| {
        dispatch(Backward { p, h0, h, grad_h, grad_last, grad_p, grad_h0, walk, batch, channels });
    });
}

struct Forward {
    p: Rows,
    h0: Option<Rows>,
    h: Rows,
    last: Rows,
    walk: Walk,
    batch: usize,
    channels: Range<usize>,
}

impl WithSimd for Forward {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Forward { p, h0, h, last, walk, batch, channels } = self;
        let n_hidden = h.columns;
        let candidates = n_hidden + channels.start..n_hidden + channels.end;
        let mut states = [Lanes::splat(simd, 0.0); CHANNELS];
        if let Some(h0) = h0 {
            for (state, part) in states.iter_mut().zip(parts(channels.clone(), S::F32_LANES)) {
                *state = h0.lanes(simd, batch, &part);
            }
        }
        for position in 0..walk.n_step {
            let row = walk.row(batch, position);
            if walk.n_step >= LONG {
                walk.fetch_ahead(batch, position, [p, h], &channels);
                walk.fetch_ahead(batch, position, [p], &candidates);
            }
            if walk.begins(batch, position) {
                states = [Lanes::splat(simd, 0.0); CHANNELS];
            }
            for (state, part) in states.iter_mut().zip(parts(channels.clone(), S::F32_LANES)) {
                let gate = p.lanes(simd, row, &part);
                let candidate = p.lanes(simd, row, &(n_hidden + part.start..n_hidden + part.end));
                let (z, keep) = gate.sigmoids();
                *state = keep.mul_add(*state, z * g(candidate).0);
                h.set_lanes(row, &part, *state);
            }
        }
        for (state, part) in states.iter().zip(parts(channels, S::F32_LANES)) {
            last.set_lanes(batch, &part, *state);
        }
    }
}

struct Backward {
    p: Rows,
    h0: Option<Rows>,
    h: Rows,
    grad_h: Option<Rows>,
    grad_last: Option<Rows>,
    grad_p: Option<Rows>,
    grad_h0: Option<Rows>,
    walk: Walk,
    batch: usize,
    channels: Range<usize>,
}

impl WithSimd for Backward {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Backward { p, h0, h, grad_h, grad_last, grad_p, grad_h0, walk, batch, channels } = self;
        let n_hidden = h.columns;
        let candidates = n_hidden + channels.start..n_hidden + channels.end;
        let zero = Lanes::splat(simd, 0.0);
        let mut carries = [zero; CHANNELS];
        if let Some(grad_last) = grad_last {
            for (carry, part) in carries.iter_mut().zip(parts(channels.clone(), S::F32_LANES)) {
                *carry = grad_last.lanes(simd, batch, &part);
            }
        }
        for position in (0..walk.n_step).rev() {
            let row = walk.row(batch, position);
            let begins = walk.begins(batch, position);
            if walk.n_step >= LONG {
                walk.fetch_behind(batch, position, [p, h, grad_h.unwrap_or(h), grad_p.unwrap_or(p)], &channels);
                walk.fetch_behind(batch, position, [p, grad_p.unwrap_or(p)], &candidates);
            }
            for (carry, part) in carries.iter_mut().zip(parts(channels.clone(), S::F32_LANES)) {
                let candidate_part = n_hidden + part.start..n_hidden + part.end;
                let gate = p.lanes(simd, row, &part);
                let candidate = p.lanes(simd, row, &candidate_part);
                let previous = match (begins, position, h0) {
                    (true, ..) | (_, 0, None) => zero,
                    (_, 0, Some(h0)) => h0.lanes(simd, batch, &part),
                    _ => h.lanes(simd, walk.row(batch, position - 1), &part),
                };
                let grad_state = match grad_h {
                    Some(grad_h) => *carry + grad_h.lanes(simd, row, &part),
                    None => *carry,
                };
                let (z, keep) = gate.sigmoids();
                let (v, derivative) = g(candidate);
                if let Some(grad_p) = grad_p {
                    grad_p.set_lanes(row, &part, grad_state * (v - previous) * (z * keep));
                    grad_p.set_lanes(row, &candidate_part, grad_state * z * derivative);
                }
                *carry = if begins { zero } else { grad_state * keep };
            }
        }
        if let Some(grad_h0) = grad_h0 {
            for (carry, part) in carries.iter().zip(parts(channels, S::F32_LANES)) {
                grad_h0.set_lanes(batch, &part, *carry);
            }
        }
    }
}

/// The candidate, `a + 1/2` where `a >= 0`, else `sigmoid(a)`, and its derivative.
#[inline(always)]
fn g<S: Simd>(a: Lanes<S>) -> (Lanes<S>, Lanes<S>) {
    let (zero, one) = (Lanes::splat(a.0, 0.0), Lanes::splat(a.0, 1.0));
    let (sigmoid, complement) = a.sigmoids();
    let above = a + Lanes::splat(a.0, 0.5);
    (a.select_less(zero, sigmoid, above), a.select_less(zero, sigmoid * complement, one))
}
