//! How a forecaster is trained.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::model::{ForecasterConfig, ModelKind};
use crate::ops::{Loss, Normalisation, Optimizer};
use crate::schedule::Schedule;

/// Units of the loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum LossUnits {
    /// Units of each normalised window
    ///
    /// As the model sees it: every window counts alike, however little it moves.
    #[default]
    Window,
    /// Units of the scaled series
    ///
    /// In which forecasts are scored: windows that move much count most.
    Series,
    /// Squared errors of the series, divided by the window's scale
    ///
    /// Between the two.
    Balanced,
}

/// When the order of the training windows is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Shuffle {
    /// Once: every epoch takes the same windows in the same order
    ///
    /// So the epochs' losses compare.
    #[default]
    Once,
    /// Anew for every epoch
    ///
    /// Over all windows.
    Epoch,
}

/// How a forecaster is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainingConfig {
    /// Steps of a window.
    pub window: usize,
    /// Windows of a step. Windows that do not fill a batch are left out, the oldest ones.
    pub batch: usize,
    /// Passes over the training windows, or over as many of them as an epoch takes.
    pub epochs: usize,
    /// Steps of an epoch at most: those of random windows where every epoch draws anew, else of the newest. All windows where absent.
    #[serde(default)]
    pub epoch_steps: Option<usize>,
    /// Update rule.
    pub optimizer: Optimizer,
    /// Step size.
    pub learning_rate: f32,
    /// How the step size changes.
    #[serde(default)]
    pub schedule: Schedule,
    /// Loss to minimise.
    #[serde(default)]
    pub loss: Loss,
    /// Its units.
    #[serde(default)]
    pub loss_units: LossUnits,
    /// Strength of an L1 penalty on every parameter that is not a bias; 0 for none.
    #[serde(default)]
    pub l1: f32,
    /// Largest global norm of a gradient; unbounded where absent.
    pub clip_norm: Option<f32>,
    /// Largest absolute value of a gradient's element, clipped after the norm; unbounded where absent.
    #[serde(default)]
    pub clip_value: Option<f32>,
    /// Early stopping: training ends after this many epochs in a row without a smaller validation loss, and the best epoch's parameters are
    /// the result. Where absent, every epoch is run and the last one's are.
    #[serde(default)]
    pub patience: Option<usize>,
    /// Share of the values passed between layers that is dropped in training.
    #[serde(default)]
    pub dropout: f32,
    /// Truncated BPTT: each row of a batch walks through a stretch of its own of the series, window by window, and every window begins with
    /// the state after the one before. The order is not shuffled; each epoch begins at zero states, at one row drawn from the seed.
    #[serde(default)]
    pub carry_state: bool,
    /// When the order of the windows is drawn.
    #[serde(default)]
    pub shuffle: Shuffle,
    /// How each window is normalised before the model, and restored after it.
    pub normalisation: Normalisation,
    /// Seed for initial parameters, window order and dropout masks.
    pub seed: u64,
}

/// Rows of a window, windows of a step, and epochs, at most: they are counted by 32 bits.
const MOST: usize = u32::MAX as usize;

impl TrainingConfig {
    /// The lab's settings for a model: window 32, batch 32, 5 epochs, SGD 0.01 (the Mambas 0.005) with weight decay 1e-4, norm at most 1.
    pub fn lab(model: ModelKind) -> Self {
        TrainingConfig {
            window: 32,
            batch: 32,
            epochs: 5,
            epoch_steps: None,
            optimizer: Optimizer::sgd(1e-4),
            learning_rate: Self::lab_rate(model),
            schedule: Schedule::Constant,
            loss: Loss::Mse,
            loss_units: LossUnits::Window,
            l1: 0.0,
            clip_norm: Some(1.0),
            clip_value: None,
            patience: None,
            dropout: 0.0,
            carry_state: false,
            shuffle: Shuffle::Once,
            normalisation: Normalisation::Last,
            seed: 0,
        }
    }

    /// Training steps of an epoch at most, where it draws its windows anew.
    pub const EPOCH_STEPS: usize = 1000;

    /// Settings for forecasts of a series, as the commands but `bench` have them: AdamW with a cosine schedule, losses in balanced units,
    /// windows drawn anew in every epoch, early stopping.
    ///
    /// ```
    /// use scanrnn::model::ModelKind;
    /// use scanrnn::train::TrainingConfig;
    /// let training = TrainingConfig { window: 96, ..TrainingConfig::forecasting(ModelKind::MinGruScan) };
    /// training.check()?;
    /// assert_eq!((training.epochs, training.patience), (8, Some(3)));
    /// # Ok::<(), scanrnn::Error>(())
    /// ```
    pub fn forecasting(model: ModelKind) -> Self {
        TrainingConfig {
            epochs: 8,
            epoch_steps: Some(Self::EPOCH_STEPS),
            optimizer: Optimizer::adam_w(0.01),
            learning_rate: 1e-3,
            schedule: Schedule::Cosine { warmup_steps: 0, min_rate: 0.0 },
            loss_units: LossUnits::Balanced,
            patience: Some(3),
            shuffle: Shuffle::Epoch,
            ..Self::lab(model)
        }
    }

    /// The lab's step size for a model.
    pub fn lab_rate(model: ModelKind) -> f32 {
        match model {
            ModelKind::MinGru | ModelKind::MinGruScan => 0.01,
            ModelKind::MambaLab | ModelKind::Mamba | ModelKind::Hybrid => 0.005,
        }
    }

    /// Checks that every setting can be used.
    ///
    /// # Errors
    /// [`Error::Option`] naming the first that cannot.
    pub fn check(&self) -> Result<()> {
        let sizes = [("--window", self.window), ("--batch", self.batch), ("--epochs", self.epochs)];
        if let Some((option, _)) = sizes.into_iter().find(|(_, size)| *size == 0) {
            return Err(Error::option(option, 0, message!("must be at least 1")));
        }
        if let Some((option, size)) = sizes.into_iter().find(|(_, size)| *size > MOST) {
            return Err(Error::option(option, size, message!("must be at most {}", MOST)));
        }
        if !(self.learning_rate.is_finite() && self.learning_rate > 0.0) {
            return Err(Error::option("--lr", self.learning_rate, message!("must be a finite number above 0")));
        }
        for (option, bound) in [("--clip-norm", self.clip_norm), ("--clip-value", self.clip_value)] {
            if let Some(bound) = bound.filter(|bound| !(bound.is_finite() && *bound > 0.0)) {
                return Err(Error::option(option, bound, message!("must be a finite number above 0")));
            }
        }
        if !(self.l1.is_finite() && self.l1 >= 0.0) {
            return Err(Error::option("--l1", self.l1, message!("must be a number, 0 or more")));
        }
        for (option, count) in [("--patience", self.patience), ("--epoch-steps", self.epoch_steps)] {
            if count == Some(0) {
                return Err(Error::option(option, 0, message!("must be at least 1")));
            }
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(Error::option("--dropout", self.dropout, message!("must be at least 0 and below 1")));
        }
        if self.carry_state && self.normalisation != Normalisation::None {
            let needed = message!("it needs --window-norm none: a window in units of its own cannot go on from another window's state");
            return Err(Error::given("--carry-state", needed));
        }
        if self.carry_state && self.shuffle == Shuffle::Epoch {
            let needed = message!("it needs --shuffle once: the windows follow one another in time");
            return Err(Error::given("--carry-state", needed));
        }
        self.optimizer.check()?;
        self.loss.check()
    }

    /// Checks that a model can be trained like this.
    ///
    /// # Errors
    /// [`Error::Option`] naming the setting that the model does not allow.
    pub fn check_model(&self, model: &ForecasterConfig) -> Result<()> {
        if self.dropout > 0.0 && model.layers < 2 {
            return Err(Error::option("--dropout", self.dropout, message!("it acts between layers: it needs --layers 2 or more")));
        }
        if self.carry_state && model.model == ModelKind::Hybrid {
            let needed = message!("it cannot be used with hybrid, whose key-value cache would grow with every window");
            return Err(Error::given("--carry-state", needed));
        }
        if self.carry_state && model.independent && model.targets > 1 {
            let needed = message!("it needs --channels mixed: independent channels read every window as a whole");
            return Err(Error::given("--carry-state", needed));
        }
        if self.carry_state && model.linear_skip.is_some() {
            let needed = message!("it cannot be used with --linear-skip, which reads every window as a whole");
            return Err(Error::given("--carry-state", needed));
        }
        if let Some(n_step) = model.linear_skip.filter(|n_step| *n_step != self.window) {
            return Err(Error::option("linear_skip", n_step, message!("must be {}, the steps of the window", self.window)));
        }
        if self.carry_state && model.bidirectional {
            let needed = message!("it cannot be used with --bidirectional, whose backward direction starts in the future");
            return Err(Error::given("--carry-state", needed));
        }
        Ok(())
    }

    /// Returns the training steps of an epoch over `n_train` windows.
    pub(crate) fn steps_per_epoch(&self, n_train: usize) -> Result<usize> {
        let row = n_train / self.batch;
        let n_step = if self.carry_state { row / self.window } else { row };
        if row == 0 {
            return Err(Error::option("--batch", self.batch, message!("there are only {} training windows", n_train)));
        }
        if n_step == 0 {
            let needed = message!(
                "with --carry-state each part of the batch covers {} rows, fewer than --window {}: use a smaller batch",
                row,
                self.window
            );
            return Err(Error::option("--batch", self.batch, needed));
        }
        Ok(self.epoch_steps.map_or(n_step, |most| n_step.min(most)))
    }
}
