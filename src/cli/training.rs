//! Options of training that commands share.
//!
//! The defaults are settings for forecasts that are to be used; in `bench` they are the lab's.

use clap::ValueEnum;

use crate::Message;
use crate::baseline::Linear;
use crate::dataset::Channels;
use crate::error::{Error, Result};
use crate::model::{ForecasterConfig, ModelKind};
use crate::ops::{Loss, Normalisation, Optimizer};
use crate::schedule::Schedule;
use crate::train::{LossUnits, Shuffle, TrainingConfig};

/// Sizes of the model and how it is trained.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Training")]
pub struct TrainingArgs {
    /// Steps that a forecast looks back on [default: 32 to 512, chosen by a linear map's error on the validation windows, fewer if the
    /// series is short; bench: 32]
    #[arg(long)]
    window: Option<usize>,
    /// Hidden channels [default: 32; bench: 128]
    #[arg(long)]
    hidden: Option<usize>,
    /// Steps to forecast at once
    #[arg(long, default_value_t = 1)]
    pub horizon: usize,
    /// Layers [default: 1; hybrid: 2]
    #[arg(long)]
    layers: Option<usize>,
    /// Every N-th layer is attention (hybrid)
    #[arg(long, value_name = "N", default_value_t = 2)]
    attention_every: usize,
    /// Attention heads (hybrid)
    #[arg(long, default_value_t = 4)]
    heads: usize,
    /// States per channel (mamba, hybrid), or of the whole layer (mamba-lab)
    #[arg(long, value_name = "STATES", default_value_t = 16)]
    d_state: usize,
    /// Taps of the convolution (mamba, hybrid)
    #[arg(long, value_name = "TAPS", default_value_t = 4)]
    d_conv: usize,
    /// Inner channels per hidden channel (mamba, hybrid)
    #[arg(long, value_name = "CHANNELS", default_value_t = 2)]
    expand: usize,
    /// Run each layer over the window in both directions
    #[arg(long)]
    pub bidirectional: bool,
    /// Whether each target is forecast from its own window and the covariates alone, or from all columns
    #[arg(long, value_enum, default_value = "independent")]
    channels: Channels,
    /// Linear maps from a target's window to its forecast, added to the recurrent path; they start as the best linear forecast [default:
    /// shared, or none if windows have more than 4096 steps or are not normalised; bench: none]
    #[arg(long, value_enum, value_name = "MAPS", num_args = 0..=1, default_missing_value = "shared")]
    linear_skip: Option<LinearSkip>,
    /// Share of the values passed between layers that is dropped in training
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    dropout: f32,
    /// Truncated BPTT: in time order, every window begins with the state in which the one before it ended (needs --window-norm none)
    #[arg(long)]
    carry_state: bool,
    /// Windows per training step [default: 32, fewer if there are not as many or if independent targets make more than 256 series of them;
    /// bench: 32]
    #[arg(long)]
    batch: Option<usize>,
    /// Passes over the training windows [default: 8, more if that is less than 1000 steps, up to 100; bench: 5]
    #[arg(long)]
    epochs: Option<usize>,
    /// Most steps of an epoch: of windows drawn anew each time, or with --shuffle once of the newest [default: 1000 with --shuffle epoch,
    /// otherwise all]
    #[arg(long, value_name = "STEPS")]
    epoch_steps: Option<usize>,
    /// Learning rate, of which a linear skip has a tenth [default: sgd 0.01, for the Mambas 0.005; adam, adamw 0.001; rmsprop 0.01]
    #[arg(long)]
    lr: Option<f32>,
    /// How each window is normalised before the model, and restored after it [default: last or mean-std, whichever suits a linear map
    /// better on the validation windows; bench: last]
    #[arg(long, value_enum)]
    window_norm: Option<Normalisation>,
    /// Units of the loss [default: balanced; bench: window]
    #[arg(long, value_enum, value_name = "UNITS")]
    loss_units: Option<LossUnits>,
    /// When to draw the order of the training windows [default: epoch; bench: once]
    #[arg(long, value_enum)]
    shuffle: Option<Shuffle>,
    /// Seed for initial parameters and window order
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Stop after this many epochs in a row without a smaller validation loss, and keep the parameters of the best epoch, or those of the
    /// start if none is 1 % better [default: three eighths of the epochs, at least 3; bench: never]
    #[arg(long, value_name = "EPOCHS")]
    patience: Option<usize>,
    /// Loss to minimise
    #[arg(long, value_enum, default_value = "mse")]
    loss: LossName,
    /// Error at which the Huber loss turns from squared to absolute, in --loss-units; on the validation windows in units of the scaled series
    /// [default: 1]
    #[arg(long, value_name = "ERROR")]
    huber_delta: Option<f32>,
    /// Levels of the quantile loss; one of them must be 0.5, the forecast that is scored [default: 0.1,0.5,0.9]
    #[arg(long, value_name = "LEVELS", value_delimiter = ',')]
    quantiles: Option<Vec<f32>>,
    /// Update rule [default: adamw; bench: sgd]
    #[arg(long, value_enum)]
    optimizer: Option<OptimizerName>,
    /// Momentum: share of the last update that is kept (sgd, rmsprop) [default: 0]
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
    /// L2 penalty, or AdamW's decay [default: sgd 0.0001, adamw 0.01; else 0]
    #[arg(long)]
    weight_decay: Option<f64>,
    /// Strength of an L1 penalty on all parameters except biases
    #[arg(long, default_value_t = 0.0)]
    l1: f32,
    /// Global norm to which gradients are clipped; 0 for no clipping
    #[arg(long, default_value_t = 1.0)]
    clip_norm: f32,
    /// Absolute value to which the elements of gradients are clipped
    #[arg(long)]
    clip_value: Option<f32>,
    /// How the learning rate changes [default: cosine; bench: constant]
    #[arg(long, value_enum)]
    schedule: Option<ScheduleName>,
    /// Steps over which the rate rises (cosine) [default: 0]
    #[arg(long, value_name = "STEPS")]
    warmup_steps: Option<usize>,
    /// Smallest learning rate (cosine, plateau) [default: 0]
    #[arg(long)]
    min_lr: Option<f64>,
    /// Factor for the rate when the validation loss stops improving (plateau) [default: 0.1]
    #[arg(long, value_name = "FACTOR")]
    plateau_factor: Option<f64>,
    /// Epochs without improvement before the rate falls (plateau) [default: 10]
    #[arg(long, value_name = "EPOCHS")]
    plateau_patience: Option<usize>,
    /// Whether the lab's settings are the defaults.
    #[arg(skip)]
    is_lab: bool,
}

/// Least training steps in all, by default: short epochs are repeated until there are as many, up to [`MOST_EPOCHS`].
const LEAST_STEPS: usize = 1000;
/// Series in a step by default, at most, where each target of a window is one.
const MOST_SERIES: usize = 256;
/// Epochs by default, at most.
const MOST_EPOCHS: usize = 100;

/// Windows that are chosen from.
const WINDOWS: [usize; 8] = [8, 16, 32, 64, 96, 192, 336, 512];

/// `--linear-skip`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum LinearSkip {
    /// None
    None,
    /// One map for all targets
    Shared,
    /// One map for all targets, and one more for each
    Own,
}

/// `--loss`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum LossName {
    /// Squared error
    Mse,
    /// Absolute error
    Mae,
    /// Squared for small errors, absolute for large ones
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
    /// Adam with weight decay separate from the gradient
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
    /// Down whenever the validation loss stops improving
    Plateau,
}

fn betas(text: &str) -> Result<[f64; 2], Message> {
    let fail = || message!("it must be two numbers, such as 0.9,0.999");
    let (first, second) = text.split_once(',').ok_or_else(fail)?;
    let number = |text: &str| text.trim().parse().map_err(|_| fail());
    Ok([number(first)?, number(second)?])
}

impl TrainingArgs {
    /// Checks that every option can be used for the models of a command.
    ///
    /// # Errors
    /// [`Error::Option`] naming the first that cannot.
    pub fn check(&self, kinds: &[ModelKind]) -> Result<()> {
        let defaults = ForecasterConfig::new(ModelKind::Hybrid, self.hidden());
        let (attention, blocks) = ([ModelKind::Hybrid], [ModelKind::Mamba, ModelKind::Hybrid]);
        let stateful = [ModelKind::MambaLab, ModelKind::Mamba, ModelKind::Hybrid];
        let of_some = [
            ("--attention-every", self.attention_every, defaults.attention_every, &attention[..]),
            ("--heads", self.heads, defaults.heads, &attention),
            ("--d-state", self.d_state, defaults.d_state, &stateful),
            ("--d-conv", self.d_conv, defaults.d_conv, &blocks),
            ("--expand", self.expand, defaults.expand, &blocks),
        ];
        for (option, value, default, models) in of_some {
            if value != default && !models.iter().any(|model| kinds.contains(model)) {
                let names: Vec<&str> = models.iter().map(|model| model.name()).collect();
                return Err(Error::option(option, value, message!("it is an option of {}", names.join(", "))));
            }
        }
        kinds.iter().try_for_each(|&kind| {
            let (model, config) = (self.model(kind), self.config(kind)?);
            config.check()?;
            // with more steps than there can be: how many there are shows in the data
            config.schedule.check(config.learning_rate, usize::MAX)?;
            model.check()?;
            config.check_model(&model)
        })
    }

    /// The same where the lab's settings are the defaults, or PyTorch's where the lab has none.
    pub fn of_lab(&self) -> Self {
        TrainingArgs { is_lab: true, ..self.clone() }
    }

    /// Whether the lab's settings are the defaults.
    pub fn is_lab(&self) -> bool {
        self.is_lab
    }

    /// The settings of options that are not given, so far as no other option decides them.
    fn defaults(&self) -> TrainingConfig {
        let of = if self.is_lab { TrainingConfig::lab } else { TrainingConfig::forecasting };
        of(ModelKind::MinGru)
    }

    /// The window, where it is given or chosen.
    pub fn given_window(&self) -> Option<usize> {
        self.window
    }

    /// The same with a window and its normalisation.
    pub fn with_window(&self, window: usize, normalisation: Normalisation) -> Self {
        TrainingArgs { window: Some(window), window_norm: Some(normalisation), ..self.clone() }
    }

    /// The same with the batch and the epochs that suit `n_window` training windows of `n_target` targets.
    pub fn for_windows(&self, n_window: usize, n_target: usize) -> Self {
        if self.is_lab {
            return self.clone();
        }
        let n_series = if self.channels == Channels::Independent { n_target } else { 1 };
        let batch = self.batch.unwrap_or((MOST_SERIES / n_series.max(1)).min(n_window).clamp(1, self.defaults().batch));
        let TrainingArgs { carry_state, epoch_steps, .. } = *self;
        let config = TrainingConfig { batch: batch.max(1), window: self.window().max(1), carry_state, epoch_steps, ..self.defaults() };
        let steps_per_epoch = config.steps_per_epoch(n_window).unwrap_or(1).max(1);
        let epochs = self.epochs.unwrap_or(LEAST_STEPS.div_ceil(steps_per_epoch).min(MOST_EPOCHS).max(self.epochs()));
        TrainingArgs { batch: Some(batch), epochs: Some(epochs), ..self.clone() }
    }

    /// The options that hold what was chosen from the series.
    pub fn chosen(&self) -> toml::Table {
        let number = |name: &str, value: usize| (name.to_string(), toml::Value::Integer(value as i64));
        let norm = ("window-norm".to_string(), toml::Value::String(self.norm_name()));
        [number("window", self.window()), number("batch", self.batch()), number("epochs", self.epochs()), norm].into_iter().collect()
    }

    /// Name of the normalisation, where that is given or chosen.
    pub fn norm_name(&self) -> String {
        let value = self.window_norm.and_then(|norm| norm.to_possible_value());
        value.map(|value| value.get_name().to_string()).unwrap_or_default()
    }

    /// Returns the windows to choose from, for series of `n_row` training rows: up to a quarter of these. Windows shorter than the lab's
    /// are for series that have too few rows for it.
    pub fn windows(&self, n_row: usize) -> Vec<usize> {
        match self.window {
            Some(window) => vec![window],
            None if self.is_lab => vec![self.defaults().window],
            None => {
                let fit: Vec<usize> = WINDOWS.into_iter().filter(|&window| window == WINDOWS[0] || 4 * window <= n_row).collect();
                let n_short = fit.iter().filter(|&&window| window < self.defaults().window).count();
                fit[n_short.min(fit.len() - 1)..].to_vec()
            }
        }
    }

    /// Returns the normalisations to choose from.
    pub fn normalisations(&self) -> Vec<Normalisation> {
        match self.window_norm {
            Some(normalisation) => vec![normalisation],
            None if self.is_lab => vec![self.defaults().normalisation],
            None => vec![Normalisation::Last, Normalisation::MeanStd],
        }
    }

    /// Steps that a forecast looks back on, where that is given or chosen, else the lab's.
    pub fn window(&self) -> usize {
        self.window.unwrap_or(self.defaults().window)
    }

    /// Hidden channels.
    pub fn hidden(&self) -> usize {
        self.hidden.unwrap_or(if self.is_lab { 128 } else { 32 })
    }

    /// Windows of a training step.
    pub fn batch(&self) -> usize {
        self.batch.unwrap_or(self.defaults().batch)
    }

    /// Passes over the training windows.
    pub fn epochs(&self) -> usize {
        self.epochs.unwrap_or(self.defaults().epochs)
    }

    fn linear_skip(&self) -> LinearSkip {
        // Only where windows have units of their own is there a map that is good from the start.
        let has_start = self.window() <= Linear::LONGEST_WINDOW && self.window_norm != Some(Normalisation::None);
        let is_default = !self.is_lab && !self.carry_state && has_start;
        self.linear_skip.unwrap_or(if is_default { LinearSkip::Shared } else { LinearSkip::None })
    }

    /// Whether the model has a linear skip.
    pub fn has_skip(&self) -> bool {
        self.linear_skip() != LinearSkip::None
    }

    fn shuffle(&self) -> Shuffle {
        match self.shuffle {
            Some(shuffle) => shuffle,
            None if self.carry_state => Shuffle::Once,
            None => self.defaults().shuffle,
        }
    }

    fn optimizer_name(&self) -> OptimizerName {
        self.optimizer.unwrap_or(if self.is_lab { OptimizerName::Sgd } else { OptimizerName::Adamw })
    }

    fn schedule_name(&self) -> ScheduleName {
        self.schedule.unwrap_or(if self.is_lab { ScheduleName::Constant } else { ScheduleName::Cosine })
    }

    /// Sizes of a model.
    pub fn model(&self, kind: ModelKind) -> ForecasterConfig {
        ForecasterConfig {
            layers: self.layers.unwrap_or(kind.default_layers()),
            horizon: self.horizon,
            levels: self.loss().columns_per_output(),
            linear_skip: self.has_skip().then(|| self.window()),
            own_skip: self.linear_skip() == LinearSkip::Own,
            bidirectional: self.bidirectional,
            independent: self.channels == Channels::Independent,
            attention_every: self.attention_every,
            heads: self.heads,
            d_state: self.d_state,
            d_conv: self.d_conv,
            expand: self.expand,
            ..ForecasterConfig::new(kind, self.hidden())
        }
    }

    /// Loss to minimise.
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
            OptimizerName::Adam | OptimizerName::Adamw => 1e-3,
            OptimizerName::Rmsprop => 1e-2,
        };
        Ok(TrainingConfig {
            window: self.window(),
            batch: self.batch(),
            epochs: self.epochs(),
            epoch_steps: self.epoch_steps.or((self.shuffle() == Shuffle::Epoch).then_some(TrainingConfig::EPOCH_STEPS)),
            optimizer: self.optimizer(lab.optimizer.weight_decay()),
            learning_rate: self.lr.unwrap_or(default_rate),
            schedule: self.schedule(),
            loss: self.loss(),
            loss_units: self.loss_units.unwrap_or(self.defaults().loss_units),
            l1: self.l1,
            clip_norm: (self.clip_norm != 0.0).then_some(self.clip_norm),
            clip_value: self.clip_value,
            patience: self.patience.or(self.defaults().patience.map(|least| (self.epochs().saturating_mul(3) / 8).max(least))),
            dropout: self.dropout,
            carry_state: self.carry_state,
            shuffle: self.shuffle(),
            normalisation: self.normalisations()[0],
            seed: self.seed,
        })
    }

    fn optimizer(&self, lab_decay: f64) -> Optimizer {
        let (betas, alpha, eps) = (self.betas.unwrap_or([0.9, 0.999]), self.alpha.unwrap_or(0.99), self.eps.unwrap_or(1e-8));
        let (momentum, decay) = (self.momentum.unwrap_or(0.0), |default| self.weight_decay.unwrap_or(default));
        match self.optimizer_name() {
            OptimizerName::Sgd => Optimizer::Sgd { momentum, nesterov: self.nesterov, weight_decay: decay(lab_decay) },
            OptimizerName::Adam => Optimizer::Adam { betas, eps, weight_decay: decay(0.0) },
            OptimizerName::Adamw => Optimizer::AdamW { betas, eps, weight_decay: decay(0.01) },
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
        let needs = |option: &str| message!("it needs {}", option);
        let either = |option: &str, other: &str| message!("it needs {} or {}", option, other);
        let moments = optimizer(&[OptimizerName::Adam, OptimizerName::Adamw]);
        let options = [
            ("--huber-delta", self.huber_delta.is_some(), loss(&[LossName::Huber]), needs("--loss huber")),
            ("--quantiles", self.quantiles.is_some(), loss(&[LossName::Quantile]), needs("--loss quantile")),
            (
                "--momentum",
                self.momentum.is_some(),
                optimizer(&[OptimizerName::Sgd, OptimizerName::Rmsprop]),
                either("--optimizer sgd", "rmsprop"),
            ),
            ("--nesterov", self.nesterov, optimizer(&[OptimizerName::Sgd]), needs("--optimizer sgd")),
            ("--betas", self.betas.is_some(), moments, either("--optimizer adam", "adamw")),
            ("--alpha", self.alpha.is_some(), optimizer(&[OptimizerName::Rmsprop]), needs("--optimizer rmsprop")),
            ("--eps", self.eps.is_some(), !optimizer(&[OptimizerName::Sgd]), either("--optimizer adam, adamw", "rmsprop")),
            ("--warmup-steps", self.warmup_steps.is_some(), schedule(&[ScheduleName::Cosine]), needs("--schedule cosine")),
            ("--min-lr", self.min_lr.is_some(), !schedule(&[ScheduleName::Constant]), either("--schedule cosine", "plateau")),
            ("--plateau-factor", self.plateau_factor.is_some(), schedule(&[ScheduleName::Plateau]), needs("--schedule plateau")),
            ("--plateau-patience", self.plateau_patience.is_some(), schedule(&[ScheduleName::Plateau]), needs("--schedule plateau")),
        ];
        if let Some((option, _, _, needed)) = options.into_iter().find(|(_, given, chosen, _)| *given && !chosen) {
            return Err(Error::given(option, needed));
        }
        match &self.quantiles {
            Some(levels) if !levels.contains(&0.5) => {
                let given = levels.iter().map(f32::to_string).collect::<Vec<_>>().join(",");
                Err(Error::option("--quantiles", given, message!("0.5 must be one of them: it is the forecast that is scored and drawn")))
            }
            _ => Ok(()),
        }
    }
}
