//! Where an interrupted training stands.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{EpochScore, Fit, TrainingConfig};
use crate::Message;
use crate::error::{Error, Result};
use crate::model::ForecasterConfig;

/// All that a training needs to go on as if it had not been interrupted: the same bits come out on the same device.
///
/// What is drawn (first parameters, the order of windows, masks of dropout) depends on the seed and the count of steps alone, and the
/// schedule and early stopping on the scores so far, so that neither has a state of its own here.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainState {
    /// The model that is trained, and its settings.
    pub plan: TrainPlan,
    /// The progress so far.
    pub progress: TrainProgress,
    /// The loss before each step so far.
    pub losses: Vec<f32>,
    /// Parameters by their names, and what the device keeps from step to step: moments of the optimizer, the best epoch's parameters,
    /// carried states.
    pub tensors: BTreeMap<String, Vec<f32>>,
}

/// A model, its settings and its series. A training can go on only with an equal plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainPlan {
    /// Sizes.
    pub model: ForecasterConfig,
    /// Settings.
    pub training: TrainingConfig,
    /// Training steps of an epoch.
    pub steps_per_epoch: usize,
    /// A fingerprint of the series: other values give another number.
    pub series: u64,
}

/// The progress of a training.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TrainProgress {
    /// With early stopping: the loss over the validation windows before the first step, that of epoch 0.
    #[serde(default)]
    pub start_loss: Option<f64>,
    /// Scores of the epochs that are over.
    pub epochs: Vec<EpochScore>,
    /// Sum of the squared errors of the training forecasts of the epoch under way.
    pub squared_errors: f64,
    /// Seconds spent in training steps.
    pub seconds: f64,
}

impl TrainState {
    /// Whether the steps are those of the epochs that are over, and of one under way.
    fn is_possible(&self) -> bool {
        let (n_epoch, n_step) = (self.progress.epochs.len(), self.plan.steps_per_epoch);
        let under_way = n_epoch.checked_mul(n_step).and_then(|over| self.losses.len().checked_sub(over));
        n_epoch <= self.plan.training.epochs && under_way.is_some_and(|under_way| under_way <= n_step)
    }

    /// Checks that a training of this plan can go on from here.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where another model, other settings or other data were trained.
    pub(super) fn check(&self, plan: &TrainPlan) -> Result<()> {
        let what = if self.plan.model != plan.model {
            difference(&self.plan.model, &plan.model)
                .map_or_else(|| message!("another model"), |it| message!("another model ({})").with(it))
        } else if self.plan.training != plan.training {
            let difference = difference(&self.plan.training, &plan.training);
            difference.map_or_else(|| message!("other settings"), |it| message!("other settings ({})").with(it))
        } else if self.plan.steps_per_epoch != plan.steps_per_epoch {
            message!("another number of windows")
        } else if self.plan.series != plan.series {
            message!("other values of the series")
        } else if !self.is_possible() {
            message!("a number of steps that does not fit its epochs")
        } else {
            return Ok(());
        };
        let what = message!("the state belongs to a training with {}: use the same, or begin anew").with(what);
        Err(Error::Unsupported { operation: "resume", what })
    }
}

/// The first field in which two configurations of one kind differ, with both values.
fn difference(then: &impl Serialize, now: &impl Serialize) -> Option<Message> {
    // through text, in which a float32 has no more digits than it needs
    let fields = |of: serde_json::Result<String>| serde_json::from_str::<serde_json::Map<String, Value>>(&of.ok()?).ok();
    let (then, now) = (fields(serde_json::to_string(then))?, fields(serde_json::to_string(now))?);
    let (name, value) = then.iter().find(|(name, value)| now.get(*name) != Some(*value))?;
    Some(message!("{} was {}, now {}", name, value, now.get(name).unwrap_or(&Value::Null)))
}

/// How a training ended.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It is done.
    Finished(Box<Fit>),
    /// It was asked to stop, and can go on from this.
    Stopped(Box<TrainState>),
}
