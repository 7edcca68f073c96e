//! Options of training that commands share.

use super::data::series;
use crate::dataset::{Channels, Windows};
use crate::error::{Error, Result};
use crate::model::{ForecasterConfig, ModelKind};
use crate::ops::{Loss, Normalisation, Optimizer};
use crate::schedule::Schedule;
use crate::train::{LossUnits, Shuffle, Trainer, TrainingConfig};

/// Sizes of the model and how it is trained; what is left out is the lab's setting, or PyTorch's where the lab has none, and
/// with a horizon above 1 the setting for forecasts of several steps.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Training")]
pub struct TrainingArgs {
    /// Steps that a forecast looks back on [default: 32; with a horizon above 1: 512]
    #[arg(long)]
    window: Option<usize>,
    /// Hidden channels [default: 128; with a horizon above 1: 16]
    #[arg(long)]
    hidden: Option<usize>,
    /// Steps that are forecast at once
    #[arg(long, default_value_t = 1)]
    pub horizon: usize,
    /// Layers [default: 1, for hybrid 2]
    #[arg(long)]
    layers: Option<usize>,
    /// Every so many layers, the last is one of attention (hybrid)
    #[arg(long, value_name = "LAYERS", default_value_t = 2)]
    attention_every: usize,
    /// Heads of attention (hybrid)
    #[arg(long, default_value_t = 4)]
    heads: usize,
    /// Each layer runs over the window in both directions
    #[arg(long)]
    pub bidirectional: bool,
    /// Whether each target is forecast from its own window and the covariates alone, or all from all
    #[arg(long, value_enum, default_value = "independent")]
    channels: Channels,
    /// Linear maps from a target's window to its forecast beside the recurrent path [default: none; with a horizon above 1: shared]
    #[arg(long, value_enum, value_name = "MAPS", num_args = 0..=1, default_missing_value = "shared")]
    linear_skip: Option<LinearSkip>,
    /// Share of what passes from one layer to the next that is dropped in training
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    dropout: f32,
    /// Truncated BPTT: every window begins with the state after the window before it, in the order of time (needs --window-norm none)
    #[arg(long)]
    carry_state: bool,
    /// Windows of a training step
    #[arg(long, default_value_t = 32)]
    pub batch: usize,
    /// Passes over the training windows [default: 5; with a horizon above 1: 8]
    #[arg(long)]
    epochs: Option<usize>,
    /// Learning rate [default: sgd 0.01, for the Mambas 0.005; adam, adamw 0.001, with a horizon above 1 0.0003; rmsprop 0.01]
    #[arg(long)]
    lr: Option<f32>,
    /// What is done to each window before the model and undone after it [default: last; with a horizon above 1: mean-std]
    #[arg(long, value_enum)]
    window_norm: Option<WindowNorm>,
    /// In which units the loss is taken [default: window; with a horizon above 1: balanced]
    #[arg(long, value_enum, value_name = "UNITS")]
    loss_units: Option<LossUnitsName>,
    /// When the order of the training windows is drawn [default: once; with a horizon above 1: epoch]
    #[arg(long, value_enum)]
    shuffle: Option<ShuffleName>,
    /// Of the first parameters and the order of the windows
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Stop after so many epochs in a row without a smaller validation loss, and keep the best epoch's parameters [default: never; with a
    /// horizon above 1: 3]
    #[arg(long, value_name = "EPOCHS")]
    patience: Option<usize>,
    /// What is minimised
    #[arg(long, value_enum, default_value = "mse")]
    loss: LossName,
    /// Error, in the units that the model sees, at which the Huber loss turns from squared to absolute [default: 1]
    #[arg(long, value_name = "ERROR")]
    huber_delta: Option<f32>,
    /// Levels of the quantile loss; scores use the one nearest 0.5 [default: 0.1,0.5,0.9]
    #[arg(long, value_name = "LEVELS", value_delimiter = ',')]
    quantiles: Option<Vec<f32>>,
    /// Update rule [default: sgd; with a horizon above 1: adamw]
    #[arg(long, value_enum)]
    optimizer: Option<OptimizerName>,
    /// Share of the last update that is kept (sgd, rmsprop) [default: 0]
    #[arg(long)]
    momentum: Option<f64>,
    /// Nesterov's momentum (sgd)
    #[arg(long)]
    nesterov: bool,
    /// Decays of the moments (adam, adamw) [default: 0.9,0.999]
    #[arg(long, value_name = "BETA1,BETA2", value_parser = betas)]
    betas: Option<[f64; 2]>,
    /// Decay of the second moment (rmsprop) [default: 0.99]
    #[arg(long)]
    alpha: Option<f64>,
    /// Added to the root of the second moment (adam, adamw, rmsprop) [default: 1e-8]
    #[arg(long)]
    eps: Option<f64>,
    /// L2 penalty, or AdamW's decay [default: sgd 0.0001, adamw 0.01, with a horizon above 1 1; else 0]
    #[arg(long)]
    weight_decay: Option<f64>,
    /// Strength of an L1 penalty on all parameters but biases
    #[arg(long, default_value_t = 0.0)]
    l1: f32,
    /// Largest global norm of the gradients; 0 leaves them as they are
    #[arg(long, default_value_t = 1.0)]
    clip_norm: f32,
    /// Largest absolute value of a gradient's element
    #[arg(long)]
    clip_value: Option<f32>,
    /// How the learning rate changes [default: constant; with a horizon above 1: cosine]
    #[arg(long, value_enum)]
    schedule: Option<ScheduleName>,
    /// Steps over which the rate rises (cosine) [default: 0]
    #[arg(long, value_name = "STEPS")]
    warmup_steps: Option<usize>,
    /// What the rate never falls below (cosine, plateau) [default: 0]
    #[arg(long)]
    min_lr: Option<f64>,
    /// What the rate is multiplied by where the validation loss stays (plateau) [default: 0.1]
    #[arg(long, value_name = "FACTOR")]
    plateau_factor: Option<f64>,
    /// Epochs without improvement that pass before it is (plateau) [default: 10]
    #[arg(long, value_name = "EPOCHS")]
    plateau_patience: Option<usize>,
}

/// `--window-norm`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum WindowNorm {
    /// Subtract the window's last value, divide by its one-step deviation
    Last,
    /// Subtract the window's mean, divide by its deviation
    MeanStd,
    /// Nothing: the lab as it was
    None,
}

/// `--linear-skip`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum LinearSkip {
    /// None
    None,
    /// One map for all targets
    Shared,
    /// One for all and one of each target's own
    Own,
}

/// `--loss-units`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum LossUnitsName {
    /// Those of each normalised window
    Window,
    /// Those of the scaled series
    Series,
    /// Squared errors of the series over the window's scale
    Balanced,
}

/// `--shuffle`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum ShuffleName {
    /// Once: every epoch takes the same windows in the same order
    Once,
    /// Anew for every epoch
    Epoch,
}

/// `--loss`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum LossName {
    /// Squared error
    Mse,
    /// Absolute error
    Mae,
    /// Squared error where it is small, absolute where it is large
    Huber,
    /// Pinball loss: a forecast for each level
    Quantile,
}

/// `--optimizer`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum OptimizerName {
    /// Stochastic gradient descent
    Sgd,
    /// Adam
    Adam,
    /// Adam with weight decay apart from the gradient
    Adamw,
    /// RMSProp
    Rmsprop,
}

/// `--schedule`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum ScheduleName {
    /// Not at all
    Constant,
    /// A linear rise, then half a cosine down
    Cosine,
    /// Down wherever the validation loss stays
    Plateau,
}

fn betas(text: &str) -> std::result::Result<[f64; 2], String> {
    let fail = || "two numbers such as 0.9,0.999".to_string();
    let (first, second) = text.split_once(',').ok_or_else(fail)?;
    let number = |text: &str| text.trim().parse().map_err(|_| fail());
    Ok([number(first)?, number(second)?])
}

impl TrainingArgs {
    /// Checks that every option can be used for a model.
    ///
    /// # Errors
    /// [`Error::Option`] naming the first that cannot.
    pub fn check(&self, kind: ModelKind) -> Result<()> {
        let (model, config) = (self.model(kind), self.config(kind)?);
        model.check()?;
        config.check()?;
        config.check_model(&model)
    }

    /// The same with another seed.
    pub fn with_seed(&self, seed: u64) -> Self {
        TrainingArgs { seed, ..self.clone() }
    }

    /// Whether the settings for forecasts of several steps are the defaults.
    fn is_long(&self) -> bool {
        self.horizon > 1
    }

    /// Steps that a forecast looks back on.
    pub fn window(&self) -> usize {
        self.window.unwrap_or(if self.is_long() { 512 } else { 32 })
    }

    /// Hidden channels.
    pub fn hidden(&self) -> usize {
        self.hidden.unwrap_or(if self.is_long() { 16 } else { 128 })
    }

    /// Passes over the training windows.
    pub fn epochs(&self) -> usize {
        self.epochs.unwrap_or(if self.is_long() { 8 } else { 5 })
    }

    fn linear_skip(&self) -> LinearSkip {
        self.linear_skip.unwrap_or(if self.is_long() { LinearSkip::Shared } else { LinearSkip::None })
    }

    fn optimizer_name(&self) -> OptimizerName {
        self.optimizer.unwrap_or(if self.is_long() { OptimizerName::Adamw } else { OptimizerName::Sgd })
    }

    fn schedule_name(&self) -> ScheduleName {
        self.schedule.unwrap_or(if self.is_long() { ScheduleName::Cosine } else { ScheduleName::Constant })
    }

    /// Sizes of a model.
    pub fn model(&self, kind: ModelKind) -> ForecasterConfig {
        ForecasterConfig {
            layers: self.layers.unwrap_or(kind.default_layers()),
            horizon: self.horizon,
            levels: self.loss().columns_per_output(),
            linear_skip: (self.linear_skip() != LinearSkip::None).then(|| self.window()),
            own_skip: self.linear_skip() == LinearSkip::Own,
            bidirectional: self.bidirectional,
            independent: self.channels == Channels::Independent,
            attention_every: self.attention_every,
            heads: self.heads,
            ..ForecasterConfig::new(kind, self.hidden())
        }
    }

    /// What is minimised.
    pub fn loss(&self) -> Loss {
        match self.loss {
            LossName::Mse => Loss::Mse,
            LossName::Mae => Loss::Mae,
            LossName::Huber => Loss::Huber { delta: self.huber_delta.unwrap_or(1.0) },
            LossName::Quantile => {
                let mut levels = self.quantiles.clone().unwrap_or_else(|| vec![0.1, 0.5, 0.9]);
                levels.sort_by(f32::total_cmp);
                Loss::Quantile { levels }
            }
        }
    }

    /// Settings of a model's training.
    ///
    /// # Errors
    /// [`Error::Option`] naming an option that the chosen loss, optimizer or schedule does not have.
    pub fn config(&self, kind: ModelKind) -> Result<TrainingConfig> {
        self.check_choices()?;
        let lab = TrainingConfig::lab(kind);
        let default_rate = match self.optimizer_name() {
            OptimizerName::Sgd => lab.learning_rate,
            OptimizerName::Adam | OptimizerName::Adamw if self.is_long() => 3e-4,
            OptimizerName::Adam | OptimizerName::Adamw => 1e-3,
            OptimizerName::Rmsprop => 1e-2,
        };
        Ok(TrainingConfig {
            window: self.window(),
            batch: self.batch,
            epochs: self.epochs(),
            optimizer: self.optimizer(lab.optimizer.weight_decay()),
            learning_rate: self.lr.unwrap_or(default_rate),
            schedule: self.schedule(),
            loss: self.loss(),
            loss_units: match self.loss_units {
                Some(LossUnitsName::Series) => LossUnits::Series,
                Some(LossUnitsName::Balanced) => LossUnits::Balanced,
                None if self.is_long() => LossUnits::Balanced,
                Some(LossUnitsName::Window) | None => LossUnits::Window,
            },
            l1: self.l1,
            clip_norm: (self.clip_norm != 0.0).then_some(self.clip_norm),
            clip_value: self.clip_value,
            patience: self.patience.or(self.is_long().then_some(3)),
            dropout: self.dropout,
            carry_state: self.carry_state,
            shuffle: match self.shuffle {
                Some(ShuffleName::Epoch) => Shuffle::Epoch,
                None if self.is_long() && !self.carry_state => Shuffle::Epoch,
                Some(ShuffleName::Once) | None => Shuffle::Once,
            },
            normalisation: match self.window_norm {
                Some(WindowNorm::MeanStd) => Normalisation::MeanStd,
                Some(WindowNorm::None) => Normalisation::None,
                None if self.is_long() => Normalisation::MeanStd,
                Some(WindowNorm::Last) | None => Normalisation::Last,
            },
            seed: self.seed,
        })
    }

    /// Sizes of a model for these windows.
    pub fn model_for(&self, kind: ModelKind, windows: &Windows) -> ForecasterConfig {
        ForecasterConfig { features: windows.n_feature(), targets: windows.n_target(), ..self.model(kind) }
    }

    /// A trainer for a model on these windows.
    pub fn trainer(&self, kind: ModelKind, windows: &Windows) -> Result<Trainer> {
        Trainer::new(&self.model_for(kind, windows), &self.config(kind)?, &series(windows))
    }

    fn optimizer(&self, lab_decay: f64) -> Optimizer {
        let (betas, alpha, eps) = (self.betas.unwrap_or([0.9, 0.999]), self.alpha.unwrap_or(0.99), self.eps.unwrap_or(1e-8));
        let (momentum, decay) = (self.momentum.unwrap_or(0.0), |default| self.weight_decay.unwrap_or(default));
        match self.optimizer_name() {
            OptimizerName::Sgd => Optimizer::Sgd { momentum, nesterov: self.nesterov, weight_decay: decay(lab_decay) },
            OptimizerName::Adam => Optimizer::Adam { betas, eps, weight_decay: decay(0.0) },
            OptimizerName::Adamw => Optimizer::AdamW { betas, eps, weight_decay: decay(if self.is_long() { 1.0 } else { 0.01 }) },
            OptimizerName::Rmsprop => Optimizer::RmsProp { alpha, eps, momentum, weight_decay: decay(0.0) },
        }
    }

    fn schedule(&self) -> Schedule {
        let min_rate = self.min_lr.unwrap_or(0.0);
        match self.schedule_name() {
            ScheduleName::Constant => Schedule::Constant,
            ScheduleName::Cosine => Schedule::Cosine { warmup_steps: self.warmup_steps.unwrap_or(0), min_rate },
            ScheduleName::Plateau => {
                let (factor, patience) = (self.plateau_factor.unwrap_or(0.1), self.plateau_patience.unwrap_or(10));
                Schedule::Plateau { factor, patience, min_rate }
            }
        }
    }

    /// Refuses options of a loss, an optimizer or a schedule that is not chosen.
    fn check_choices(&self) -> Result<()> {
        let loss = |names: &[LossName]| names.contains(&self.loss);
        let optimizer = |names: &[OptimizerName]| names.contains(&self.optimizer_name());
        let schedule = |names: &[ScheduleName]| names.contains(&self.schedule_name());
        let moments = optimizer(&[OptimizerName::Adam, OptimizerName::Adamw]);
        let options = [
            ("--huber-delta", self.huber_delta.is_some(), loss(&[LossName::Huber]), "--loss huber"),
            ("--quantiles", self.quantiles.is_some(), loss(&[LossName::Quantile]), "--loss quantile"),
            ("--momentum", self.momentum.is_some(), optimizer(&[OptimizerName::Sgd, OptimizerName::Rmsprop]), "--optimizer sgd or rmsprop"),
            ("--nesterov", self.nesterov, optimizer(&[OptimizerName::Sgd]), "--optimizer sgd"),
            ("--betas", self.betas.is_some(), moments, "--optimizer adam or adamw"),
            ("--alpha", self.alpha.is_some(), optimizer(&[OptimizerName::Rmsprop]), "--optimizer rmsprop"),
            ("--eps", self.eps.is_some(), !optimizer(&[OptimizerName::Sgd]), "--optimizer adam, adamw or rmsprop"),
            ("--warmup-steps", self.warmup_steps.is_some(), schedule(&[ScheduleName::Cosine]), "--schedule cosine"),
            ("--min-lr", self.min_lr.is_some(), !schedule(&[ScheduleName::Constant]), "--schedule cosine or plateau"),
            ("--plateau-factor", self.plateau_factor.is_some(), schedule(&[ScheduleName::Plateau]), "--schedule plateau"),
            ("--plateau-patience", self.plateau_patience.is_some(), schedule(&[ScheduleName::Plateau]), "--schedule plateau"),
        ];
        match options.into_iter().find(|(_, given, chosen, _)| *given && !chosen) {
            Some((option, _, _, needed)) => Err(Error::option(option, "given", format!("it needs {needed}"))),
            None => Ok(()),
        }
    }
}
