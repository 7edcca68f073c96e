//! Parameter updates with the formulas and the order of PyTorch 2 (`torch.optim`).
//!
//! The gradient `g` is first clipped: multiplied by the clip factor of its global norm, then clamped to `[-clip_value, clip_value]`. Then,
//! for a parameter `w`, with learning rate `η`, weight decay `λ` and step `t` counted from 1:
//! ```text
//! SGD      g += λ w      m = μ m + g                        w -= η m, or η (g + μ m) with Nesterov's momentum
//! Adam     g += λ w      m = β₁ m + (1 - β₁) g              v = β₂ v + (1 - β₂) g²
//!                        w -= η / (1 - β₁ᵗ) m / (sqrt(v) / sqrt(1 - β₂ᵗ) + eps)
//! AdamW    w -= η λ w, then Adam without λ
//! RMSProp  g += λ w      v = α v + (1 - α) g²               m = μ m + g / (sqrt(v) + eps)          w -= η m
//! ```
//! Sources: Sutskever et al. 2013 (momentum), Kingma and Ba 2015, arXiv 1412.6980 (Adam), Loshchilov and Hutter 2019, arXiv 1711.05101
//! (AdamW), Tieleman and Hinton 2012 (RMSProp). Both moments start at 0, which is PyTorch's SGD too as long as there is no dampening.

use ndarray::{Array1, ArrayView1, ArrayViewMut1, Ix1, Zip};

use super::Float;
use super::session::index;
use crate::graph::Tensor;
use crate::memory::Memory;
use crate::ops::{L1Penalty, Optimize, Optimizer};

/// Everything that one update depends on besides parameters, gradients and moments.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// The rule and its constants.
    pub optimizer: Optimizer,
    /// `η`.
    pub learning_rate: f64,
    /// What gradients are multiplied by first: 1, or [`super::grad_norm::clip_factor`].
    pub clip_factor: f64,
    /// What gradients are clamped to next, both ways.
    pub clip_value: Option<f64>,
}

/// State carried from one update to the next: momentum or first moment, and second moment, one value per parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct State<T> {
    /// `(parameters)`: `m`.
    pub first: Array1<T>,
    /// `(parameters)`: `v`.
    pub second: Array1<T>,
}

impl<T: Float> State<T> {
    /// Zeros for `n_parameter` parameters.
    pub fn new(n_parameter: usize) -> Self {
        Self { first: Array1::zeros(n_parameter), second: Array1::zeros(n_parameter) }
    }
}

/// Update number `t`, counted from 1, of `param`, `(parameters)`, by `grad`, `(parameters)`.
pub fn step<T: Float>(settings: &Settings, t: u32, param: ArrayViewMut1<T>, grad: ArrayView1<T>, state: &mut State<T>) {
    let of = T::from_f64;
    let Settings { optimizer, learning_rate, clip_factor, clip_value } = *settings;
    let weight_decay = optimizer.weight_decay();
    Zip::from(param).and(grad).and(&mut state.first).and(&mut state.second).for_each(|w, &g, m, v| {
        let mut g = g * of(clip_factor);
        if let Some(limit) = clip_value {
            g = num_traits::clamp(g, -of(limit), of(limit));
        }
        match optimizer {
            Optimizer::AdamW { .. } => *w *= of(1.0 - learning_rate * weight_decay),
            _ => g += of(weight_decay) * *w,
        }
        match optimizer {
            Optimizer::Sgd { momentum, nesterov, .. } => {
                *m = of(momentum) * *m + g;
                *w -= of(learning_rate) * if nesterov { g + of(momentum) * *m } else { *m };
            }
            Optimizer::Adam { betas: [beta1, beta2], eps, .. } | Optimizer::AdamW { betas: [beta1, beta2], eps, .. } => {
                *m = of(beta1) * *m + of(1.0 - beta1) * g;
                *v = of(beta2) * *v + of(1.0 - beta2) * g * g;
                let step_size = of(learning_rate / (1.0 - beta1.powf(f64::from(t))));
                let correction = of((1.0 - beta2.powf(f64::from(t))).sqrt());
                *w -= step_size * *m / (v.sqrt() / correction + of(eps));
            }
            Optimizer::RmsProp { alpha, eps, momentum, .. } => {
                *v = of(alpha) * *v + of(1.0 - alpha) * g * g;
                *m = of(momentum) * *m + g / (v.sqrt() + of(eps));
                *w -= of(learning_rate) * *m;
            }
        }
    });
}

pub(super) fn run<T: Float>(op: &Optimize, memory: &mut Memory<T>) {
    let update = &op.update;
    let at = index(memory, update.counter, 0);
    let rates = memory.axes::<Ix1>(update.learning_rates);
    let settings = Settings {
        optimizer: update.optimizer,
        learning_rate: f64::from(op.rate) * rates[at.min(rates.len() - 1)].as_f64(),
        clip_factor: update.clip.map_or(1.0, |clip| memory.axes::<Ix1>(clip)[1].as_f64()),
        clip_value: update.clip_value.map(f64::from),
    };
    let t = index(memory, update.counter, 1) as u32 + 1;
    let flat = |tensor: Tensor| memory.axes::<Ix1>(tensor).to_owned();
    let mut param = flat(op.parameters);
    let zeros = || Array1::zeros(param.len());
    let mut state = State { first: op.first.map_or_else(zeros, flat), second: op.second.map_or_else(zeros, flat) };
    step(&settings, t, param.view_mut(), memory.axes::<Ix1>(op.gradients), &mut state);
    memory.store(op.parameters, &param);
    for (tensor, moment) in [(op.first, state.first), (op.second, state.second)] {
        if let Some(tensor) = tensor {
            memory.store(tensor, &moment);
        }
    }
}

/// The gradient of `strength Σ mask |w|`, added: `g += strength mask sign(w)`, 0 at 0.
pub(crate) fn run_l1_penalty<T: Float>(op: &L1Penalty, memory: &mut Memory<T>) {
    let strength = T::from_f64(f64::from(op.strength));
    let mut grad = memory.axes::<Ix1>(op.gradients).to_owned();
    Zip::from(&mut grad).and(memory.axes::<Ix1>(op.parameters)).and(memory.axes::<Ix1>(op.mask)).for_each(|g, &w, &mask| {
        let sign = if w == T::zero() { T::zero() } else { w.signum() };
        *g += strength * mask * sign;
    });
    memory.store(op.gradients, &grad);
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn gradients_are_clipped_before_weight_decay() {
        let settings = Settings { optimizer: Optimizer::sgd(0.5), learning_rate: 1.0, clip_factor: 0.5, clip_value: Some(2.0) };
        let mut param = array![8.0f64, 8.0];
        step(&settings, 1, param.view_mut(), array![2.0, -10.0].view(), &mut State::new(2));
        assert_eq!(param, array![8.0 - (1.0 + 4.0), 8.0 - (-2.0 + 4.0)]);
    }
}
