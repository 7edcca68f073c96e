//! Learning rates over the course of training, with PyTorch's formulas (`torch.optim.lr_scheduler`).

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// How the learning rate changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Schedule {
    /// It does not.
    #[default]
    Constant,
    /// A linear rise, then half a cosine down to `min_rate` behind the last step (Loshchilov and Hutter 2017, arXiv 1608.03983): `LinearLR` from
    /// `1 / (warmup_steps + 1)` followed by `CosineAnnealingLR`, a step each.
    Cosine {
        /// Steps of the rise; 0 for none.
        warmup_steps: usize,
        /// What the rate falls to.
        min_rate: f64,
    },
    /// `ReduceLROnPlateau`: multiplied by `factor` once the validation loss has not fallen by a ten-thousandth for more than `patience`
    /// epochs.
    Plateau {
        /// Between 0 and 1.
        factor: f64,
        /// Epochs without improvement that pass before the rate falls.
        patience: usize,
        /// What the rate never falls below.
        min_rate: f64,
    },
}

/// Share by which a loss must fall to count as better.
const THRESHOLD: f64 = 1e-4;

/// A smaller change of the rate is left out.
const LEAST_CHANGE: f64 = 1e-8;

impl Schedule {
    /// Checks that every number can be used with the rate `base` and `n_step` training steps in all.
    ///
    /// # Errors
    /// [`Error::Option`] naming the first that cannot.
    pub fn check(&self, base: f32, n_step: usize) -> Result<()> {
        let (Schedule::Cosine { min_rate, .. } | Schedule::Plateau { min_rate, .. }) = *self else { return Ok(()) };
        if !(min_rate >= 0.0 && min_rate.is_finite()) {
            return Err(Error::option("--min-lr", min_rate, message!("must be a number, 0 or more")));
        }
        if min_rate as f32 > base {
            return Err(Error::option("--min-lr", min_rate, message!("must be at most --lr {}", base)));
        }
        match *self {
            Schedule::Cosine { warmup_steps, .. } if warmup_steps >= n_step => {
                Err(Error::option("--warmup-steps", warmup_steps, message!("must be below {}, the steps of all epochs", n_step)))
            }
            Schedule::Plateau { factor, .. } if !(factor > 0.0 && factor < 1.0) => {
                Err(Error::option("--plateau-factor", factor, message!("must be between 0 and 1")))
            }
            _ => Ok(()),
        }
    }
}

/// A schedule under way.
#[derive(Clone, Debug)]
pub struct Rates {
    schedule: Schedule,
    base: f64,
    /// Training steps of all epochs.
    n_step: usize,
    /// The rate that plateaus have left.
    reduced: f64,
    best: f64,
    bad_epochs: usize,
}

impl Rates {
    /// Starts at the rate `base`, for `n_step` training steps in all.
    pub fn new(schedule: Schedule, base: f64, n_step: usize) -> Self {
        Rates { schedule, base, n_step, reduced: base, best: f64::INFINITY, bad_epochs: 0 }
    }

    /// The rates of steps, counted from 0 over all epochs.
    ///
    /// ```
    /// use scanrnn::schedule::{Rates, Schedule};
    /// let rates = Rates::new(Schedule::Cosine { warmup_steps: 1, min_rate: 0.0 }, 0.1, 5);
    /// assert_eq!(rates.of(0..4), [0.05, 0.1, 0.08535534, 0.05]);
    /// ```
    pub fn of(&self, steps: Range<usize>) -> Vec<f32> {
        steps.map(|step| self.at(step) as f32).collect()
    }

    fn at(&self, step: usize) -> f64 {
        match self.schedule {
            Schedule::Constant => self.base,
            Schedule::Plateau { .. } => self.reduced,
            Schedule::Cosine { warmup_steps, .. } if step < warmup_steps => self.base * (step + 1) as f64 / (warmup_steps + 1) as f64,
            Schedule::Cosine { warmup_steps, min_rate } => {
                let n_fall = self.n_step.saturating_sub(warmup_steps).max(1);
                let done = ((step - warmup_steps) as f64 / n_fall as f64).min(1.0);
                min_rate + (self.base - min_rate) * (1.0 + (std::f64::consts::PI * done).cos()) / 2.0
            }
        }
    }

    /// Records the validation loss after an epoch.
    pub fn observe(&mut self, valid_loss: f64) {
        let Schedule::Plateau { factor, patience, min_rate } = self.schedule else { return };
        if valid_loss < self.best * (1.0 - THRESHOLD) {
            self.best = valid_loss;
            self.bad_epochs = 0;
        } else {
            self.bad_epochs += 1;
        }
        if self.bad_epochs > patience {
            self.bad_epochs = 0;
            let next = (self.reduced * factor).max(min_rate);
            if self.reduced - next > LEAST_CHANGE {
                self.reduced = next;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(got: &[f32], want: &[f64]) {
        assert_eq!(got.len(), want.len());
        for (got, want) in got.iter().zip(want) {
            assert!((f64::from(*got) - want).abs() <= 1e-7 * want.abs().max(1e-3), "{got} is not {want}");
        }
    }

    #[test]
    fn a_constant_rate_stays() {
        let mut rates = Rates::new(Schedule::Constant, 0.1, 10);
        rates.observe(1.0);
        close(&rates.of(7..10), &[0.1; 3]);
    }

    #[test]
    fn cosine_falls_as_torch_does() {
        // SGD at 0.1 under CosineAnnealingLR(T_max=4, eta_min=0.02)
        let rates = Rates::new(Schedule::Cosine { warmup_steps: 0, min_rate: 0.02 }, 0.1, 4);
        close(&rates.of(0..4), &[0.1, 0.08828427124746191, 0.06, 0.0317157287525381]);
    }

    #[test]
    fn a_warm_up_rises_to_the_rate_and_the_cosine_begins_there() {
        // LinearLR(start_factor=1/4, total_iters=3), then CosineAnnealingLR(T_max=2)
        let rates = Rates::new(Schedule::Cosine { warmup_steps: 3, min_rate: 0.0 }, 0.8, 5);
        close(&rates.of(0..5), &[0.2, 0.4, 0.6, 0.8, 0.4]);
    }

    #[test]
    fn a_plateau_reduces_as_torch_does() {
        // ReduceLROnPlateau(factor=0.5, patience=1, min_lr=0.3): an improvement of less than 1e-4 is none
        let mut rates = Rates::new(Schedule::Plateau { factor: 0.5, patience: 1, min_rate: 0.3 }, 1.0, 100);
        let losses = [1.0, 0.99995, 0.99991, 0.5, 0.6, 0.6, f64::NAN, 0.55, 0.4];
        let want = [1.0, 1.0, 0.5, 0.5, 0.5, 0.3, 0.3, 0.3, 0.3];
        for (epoch, (loss, want)) in losses.into_iter().zip(want).enumerate() {
            rates.observe(loss);
            close(&rates.of(epoch..epoch + 1), &[want]);
        }
    }

    #[test]
    fn what_a_schedule_refuses() {
        let message = |schedule: Schedule| schedule.check(0.1, 10).expect_err("refused").to_string();
        assert!(message(Schedule::Cosine { warmup_steps: 10, min_rate: 0.0 }).starts_with("--warmup-steps is 10: must be below 10"));
        assert!(message(Schedule::Cosine { warmup_steps: 1, min_rate: -1.0 }).starts_with("--min-lr is -1"));
        assert!(message(Schedule::Cosine { warmup_steps: 0, min_rate: 0.2 }).starts_with("--min-lr is 0.2: must be at most --lr 0.1"));
        assert!(message(Schedule::Plateau { factor: 1.0, patience: 1, min_rate: 0.0 }).starts_with("--plateau-factor is 1"));
        assert!(Schedule::Plateau { factor: 0.5, patience: 1, min_rate: 0.1 }.check(0.1, 10).is_ok());
        assert!(Schedule::Constant.check(0.1, 0).is_ok());
    }
}
