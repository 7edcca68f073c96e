//! Updates of all parameters, in blocks.

use pulp::{Simd, WithSimd};

use super::elementwise::each_block;
use super::rows::Rows;
use super::simd::dispatch;
use crate::memory::Memory;
use crate::ops::{Optimize, Optimizer};

/// Updates the parameters and the moments.
pub fn run(op: &Optimize, memory: &mut Memory<f32>) {
    let update = op.update;
    let [parameters, gradients, rates, counter] =
        [op.parameters, op.gradients, update.learning_rates, update.counter].map(|tensor| Rows::of(memory, tensor).row_of_all());
    let [clip, first, second] = [update.clip, op.first, op.second].map(|tensor| Rows::of_optional(memory, tensor));
    let [at, done] = [counter.row(0)[0], counter.row(0)[1]];
    let rates = rates.row(0);
    let settings = Settings {
        optimizer: update.optimizer,
        learning_rate: f64::from(op.rate * rates[(at as usize).min(rates.len() - 1)]),
        weight_decay: update.optimizer.weight_decay(),
        clip_factor: clip.map_or(1.0, |clip| clip.row(0)[1]),
        clip_value: update.clip_value.unwrap_or(f32::INFINITY),
        step: f64::from(done) + 1.0,
    };
    each_block(1, parameters.columns, |_, columns| {
        let of = |rows: Option<Rows>| rows.map_or(&mut [][..], |rows| rows.part_mut(0, columns.clone()));
        let (w, g) = (parameters.part_mut(0, columns.clone()), gradients.part(0, columns.clone()));
        dispatch(Block { settings, w, g, first: of(first), second: of(second) });
    });
}

#[derive(Clone, Copy)]
struct Settings {
    optimizer: Optimizer,
    learning_rate: f64,
    weight_decay: f64,
    clip_factor: f32,
    clip_value: f32,
    /// Counted from 1.
    step: f64,
}

struct Block<'a> {
    settings: Settings,
    w: &'a mut [f32],
    g: &'a [f32],
    /// Empty where the rule has none, as `second`.
    first: &'a mut [f32],
    second: &'a mut [f32],
}

impl WithSimd for Block<'_> {
    type Output = ();

    /// The formulas of [`crate::reference::optimizer`], in loops that the compiler turns into vectors.
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Block { settings, w, g, first, second } = self;
        let Settings { optimizer, learning_rate, weight_decay, clip_factor, clip_value, step } = settings;
        let (rate, decay) = (learning_rate as f32, weight_decay as f32);
        let clipped = |g: f32| (g * clip_factor).clamp(-clip_value, clip_value);
        match optimizer {
            Optimizer::Sgd { momentum: 0.0, .. } => {
                for (w, &g) in w.iter_mut().zip(g) {
                    *w -= rate * (clipped(g) + decay * *w);
                }
            }
            Optimizer::Sgd { momentum, nesterov, .. } => {
                let momentum = momentum as f32;
                for ((w, &g), m) in w.iter_mut().zip(g).zip(first) {
                    let g = clipped(g) + decay * *w;
                    *m = momentum * *m + g;
                    *w -= rate * if nesterov { g + momentum * *m } else { *m };
                }
            }
            Optimizer::Adam { betas, eps, .. } | Optimizer::AdamW { betas, eps, .. } => {
                let apart = matches!(optimizer, Optimizer::AdamW { .. });
                let [beta1, beta2] = betas.map(|beta| beta as f32);
                let [rest1, rest2] = betas.map(|beta| (1.0 - beta) as f32);
                let step_size = (learning_rate / (1.0 - betas[0].powf(step))) as f32;
                let correction = (1.0 - betas[1].powf(step)).sqrt() as f32;
                let (eps, shrink) = (eps as f32, (1.0 - learning_rate * weight_decay) as f32);
                for (((w, &g), m), v) in w.iter_mut().zip(g).zip(first).zip(second) {
                    let mut g = clipped(g);
                    if apart {
                        *w *= shrink;
                    } else {
                        g += decay * *w;
                    }
                    *m = beta1 * *m + rest1 * g;
                    *v = beta2 * *v + rest2 * g * g;
                    *w -= step_size * *m / (v.sqrt() / correction + eps);
                }
            }
            Optimizer::RmsProp { alpha, eps, momentum, .. } => {
                let (keep, rest, eps, momentum) = (alpha as f32, (1.0 - alpha) as f32, eps as f32, momentum as f32);
                let mut first = first.iter_mut();
                for ((w, &g), v) in w.iter_mut().zip(g).zip(second) {
                    let g = clipped(g) + decay * *w;
                    *v = keep * *v + rest * g * g;
                    let mut change = g / (v.sqrt() + eps);
                    if let Some(m) = first.next() {
                        *m = momentum * *m + change;
                        change = *m;
                    }
                    *w -= rate * change;
                }
            }
        }
    }
}
