//! A forecaster: recurrent layers over a window, a linear head on what they hold after its last step.

use serde::{Deserialize, Serialize};

use super::layer::{Layer, NORM_EPS};
use super::mamba::MixerSizes;
use super::{Sequence, fan_in};
use crate::error::{Error, Result};
use crate::graph::{Graph, Init, Tensor};
use crate::ops::{DropoutSource, Elementwise, Recurrence};

/// The models by their names on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModelKind {
    /// The lab's gated cell.
    MinGru,
    /// minGRU as a parallel scan.
    MinGruScan,
    /// The lab's simplified state space model.
    MambaLab,
    /// The selective state space block.
    Mamba,
    /// Mamba blocks, in which every few layers are causal attention instead.
    Hybrid,
}

impl ModelKind {
    /// Every model.
    pub const ALL: [ModelKind; 5] = [ModelKind::MinGru, ModelKind::MinGruScan, ModelKind::MambaLab, ModelKind::Mamba, ModelKind::Hybrid];

    /// The models whose cost grows with a sequence's length and no faster.
    pub const LINEAR: [ModelKind; 4] = [ModelKind::MinGru, ModelKind::MinGruScan, ModelKind::MambaLab, ModelKind::Mamba];

    /// Name on the command line and in files.
    pub fn name(self) -> &'static str {
        match self {
            ModelKind::MinGru => "min-gru",
            ModelKind::MinGruScan => "min-gru-scan",
            ModelKind::MambaLab => "mamba-lab",
            ModelKind::Mamba => "mamba",
            ModelKind::Hybrid => "hybrid",
        }
    }

    /// Number of layers by default.
    pub fn default_layers(self) -> usize {
        if self == ModelKind::Hybrid { 2 } else { 1 }
    }

    /// Whether the model is a backbone of Mamba's blocks.
    pub(super) fn has_mixers(self) -> bool {
        matches!(self, ModelKind::Mamba | ModelKind::Hybrid)
    }
}

impl std::str::FromStr for ModelKind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let names = ModelKind::ALL.map(ModelKind::name).join(", ");
        let found = ModelKind::ALL.into_iter().find(|model| model.name() == name);
        found.ok_or_else(|| Error::option("--model", name, message!("must be one of {}", names)))
    }
}

impl std::fmt::Display for ModelKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// Sizes of a forecaster. Fields that a model does not use change nothing, but none may be 0 except `dt_rank`, for which that is the default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForecasterConfig {
    /// The model.
    pub model: ModelKind,
    /// Columns of the window.
    pub features: usize,
    /// Steps forecast at once.
    #[serde(default = "one")]
    pub horizon: usize,
    /// Columns forecast.
    #[serde(default = "one")]
    pub targets: usize,
    /// Columns of the forecast for each target: the levels of a quantile loss, else 1.
    #[serde(default = "one")]
    pub levels: usize,
    /// Recurrent layers.
    #[serde(default = "one")]
    pub layers: usize,
    /// Hidden channels (`d_model` of `mamba`).
    pub hidden: usize,
    /// States of a channel (`mamba`) or of the layer (`mamba-lab`).
    #[serde(default = "default_state")]
    pub d_state: usize,
    /// Taps of the convolution (`mamba`).
    #[serde(default = "default_conv")]
    pub d_conv: usize,
    /// Inner channels for each hidden one (`mamba`).
    #[serde(default = "default_expand")]
    pub expand: usize,
    /// Rank of the step size (`mamba`); 0 stands for `ceil(hidden / 16)`.
    #[serde(default)]
    pub dt_rank: usize,
    /// Whether each layer runs over the window in both directions, with parameters of its own for each.
    #[serde(default)]
    pub bidirectional: bool,
    /// Whether each target is forecast from its own window and the covariates (the features behind the targets) alone, all targets by the
    /// same parameters; else every target is forecast from all features.
    #[serde(default)]
    pub independent: bool,
    /// Steps of the window that a linear map reads for its forecast, which is added to the recurrent path's; absent: no such map.
    #[serde(default)]
    pub linear_skip: Option<usize>,
    /// Whether each target has a linear map of its own beside the one that all share.
    #[serde(default)]
    pub own_skip: bool,
    /// Every layer with a number divisible by this is attention (`hybrid`).
    #[serde(default = "default_attention_every")]
    pub attention_every: usize,
    /// Attention heads, equal parts of the hidden channels (`hybrid`).
    #[serde(default = "default_heads")]
    pub heads: usize,
    /// Steps that the states of attention hold (`hybrid`).
    #[serde(default = "default_cache")]
    pub cache: usize,
}

fn one() -> usize {
    1
}
fn default_state() -> usize {
    16
}
fn default_conv() -> usize {
    4
}
fn default_expand() -> usize {
    2
}

fn default_attention_every() -> usize {
    2
}
fn default_heads() -> usize {
    4
}
fn default_cache() -> usize {
    1024
}

/// Steps of a key-value cache, at most: the CPU counts them in 32-bit floats.
const MOST_CACHE: usize = 1 << 24;

/// Hidden channels, and the sizes that a layer has beside them, at most: the square of them makes a weight.
const MOST_HIDDEN: usize = 1 << 16;
/// Layers, at most.
const MOST_LAYERS: usize = 1 << 12;

impl ForecasterConfig {
    /// One layer (`hybrid`: two) that forecasts the next value of one column from that column.
    pub fn new(model: ModelKind, hidden: usize) -> Self {
        ForecasterConfig {
            model,
            features: 1,
            horizon: 1,
            targets: 1,
            levels: 1,
            layers: model.default_layers(),
            hidden,
            d_state: default_state(),
            d_conv: default_conv(),
            expand: default_expand(),
            dt_rank: 0,
            bidirectional: false,
            independent: false,
            linear_skip: None,
            own_skip: false,
            attention_every: default_attention_every(),
            heads: default_heads(),
            cache: default_cache(),
        }
    }

    /// Sizes of the mixers of `mamba`.
    pub fn mixer_sizes(&self) -> MixerSizes {
        MixerSizes {
            d_model: self.hidden,
            d_inner: self.expand * self.hidden,
            d_state: self.d_state,
            d_conv: self.d_conv,
            dt_rank: if self.dt_rank == 0 { self.hidden.div_ceil(16) } else { self.dt_rank },
        }
    }

    /// Checks that every size can be used.
    ///
    /// # Errors
    /// [`Error::Option`] naming the first that is zero, too small, beyond what any device could hold, or does not divide what it must.
    pub fn check(&self) -> Result<()> {
        let sizes = [
            ("--features", self.features),
            ("--horizon", self.horizon),
            ("--targets", self.targets),
            ("--quantiles", self.levels),
            ("--layers", self.layers),
            ("--hidden", self.hidden),
            ("--d-state", self.d_state),
            ("--d-conv", self.d_conv),
            ("--expand", self.expand),
            ("--attention-every", self.attention_every),
            ("--heads", self.heads),
            ("--cache", self.cache),
        ];
        let inner = [
            ("--hidden", self.hidden),
            ("--d-state", self.d_state),
            ("--d-conv", self.d_conv),
            ("--expand", self.expand),
            ("--dt-rank", self.dt_rank),
        ];
        if let Some((option, size)) = inner.into_iter().find(|(_, size)| *size > MOST_HIDDEN) {
            return Err(Error::option(option, size, message!("must be at most {}", MOST_HIDDEN)));
        }
        if self.cache > MOST_CACHE {
            return Err(Error::option("--cache", self.cache, message!("must be at most {}", MOST_CACHE)));
        }
        match sizes.into_iter().find(|(_, size)| *size == 0) {
            Some((option, _)) => Err(Error::option(option, 0, message!("must be at least 1"))),
            None if self.layers > MOST_LAYERS => Err(Error::option("--layers", self.layers, message!("must be at most {}", MOST_LAYERS))),
            None if self.targets > self.features => {
                Err(Error::option("--targets", self.targets, message!("must be at most {}, the number of features", self.features)))
            }
            None if self.linear_skip == Some(0) => Err(Error::option("--linear-skip", 0, message!("it needs a window of at least 1 step"))),
            None if self.model.has_mixers() && self.d_conv < 2 => {
                Err(Error::option("--d-conv", self.d_conv, message!("must be at least 2")))
            }
            None if self.model == ModelKind::Hybrid => self.check_attention(),
            None => Ok(()),
        }
    }

    fn check_attention(&self) -> Result<()> {
        if !self.hidden.is_multiple_of(self.heads) {
            return Err(Error::option("--heads", self.heads, message!("must divide --hidden {}", self.hidden)));
        }
        if self.attention_every > self.layers {
            let what = message!("with --layers {} no layer is attention", self.layers);
            return Err(Error::option("--attention-every", self.attention_every, what));
        }
        if self.bidirectional {
            return Err(Error::given("--bidirectional", message!("it cannot be used with hybrid, whose attention is causal")));
        }
        Ok(())
    }

    /// Columns that the recurrent path reads, and targets that it forecasts, at once.
    fn path(&self) -> (usize, usize) {
        if self.independent { (1 + self.features - self.targets, 1) } else { (self.features, self.targets) }
    }

    /// Whether the recurrent path takes the windows of the targets one below another.
    fn is_stacked(&self) -> bool {
        self.independent && self.targets > 1
    }

    /// Whether a layer is attention.
    fn is_attention(&self, layer: usize) -> bool {
        self.model == ModelKind::Hybrid && (layer + 1).is_multiple_of(self.attention_every)
    }
}

/// How a forecaster runs over a batch.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pass<'a> {
    /// The states before the first step, as [`Forecaster::state_shapes`] lists them; zero where absent.
    pub states: Option<&'a [Tensor]>,
    /// `(batch, step)` indices, 1 where a step begins a new sequence, else 0: several sequences lie packed in a row.
    pub reset: Option<Tensor>,
    /// Dropout between layers, for training.
    pub dropout: Option<DropoutSource>,
    /// Whether states that are large may be overwritten with those after the last step, where no gradient is wanted.
    pub in_place: bool,
}

/// What a forecaster computes from a batch.
#[derive(Clone, Debug)]
pub struct Forecast {
    /// `(batch, output)` with `horizon * targets * levels` outputs, or `(batch, step, output)` of [`Forecaster::every_step`].
    pub y: Tensor,
    /// The states after the last step, in the order of [`Forecaster::state_shapes`]. Layers of attention give none where none came in.
    pub last_states: Vec<Tensor>,
}

/// The parameters of a forecaster.
#[derive(Clone, Debug)]
pub struct Forecaster {
    config: ForecasterConfig,
    input: Option<(Tensor, Tensor)>,
    layers: Vec<Layer>,
    norm: Option<Tensor>,
    head_weight: Tensor,
    head_bias: Tensor,
    skip: Option<LinearSkip>,
}

/// Linear maps from a target's window to its forecast, each a weight `(horizon * levels, window)` and a bias `(horizon * levels)`.
#[derive(Clone, Debug)]
struct LinearSkip {
    /// Of every target.
    shared: (Tensor, Tensor),
    /// Of each target alone, added to the shared one; there may be none.
    own: Vec<(Tensor, Tensor)>,
}

impl Forecaster {
    /// Declares the parameters.
    ///
    /// # Errors
    /// As [`ForecasterConfig::check`].
    pub fn new(graph: &mut Graph, config: &ForecasterConfig) -> Result<Self> {
        config.check()?;
        let (hidden, (features, n_together)) = (config.hidden, config.path());
        let has_mixers = config.model.has_mixers();
        let input = has_mixers.then(|| {
            let weight = graph.parameter("input.weight", &[hidden, features], fan_in(features));
            (weight, graph.parameter("input.bias", &[hidden], fan_in(features)))
        });
        let mut layers = Vec::new();
        for index in 0..config.layers {
            let (prefix, n_input) = (format!("layers.{index}."), if index == 0 { features } else { hidden });
            layers.push(Layer::new(graph, &prefix, config, n_input, config.is_attention(index)));
        }
        let norm = has_mixers.then(|| graph.parameter("norm_f.weight", &[hidden], Init::Constant(1.0)));
        let n_output = config.horizon * n_together * config.levels;
        let zero = Init::Constant(0.0);
        // Beside a linear map the recurrent path starts at nothing and learns what the map cannot.
        let head_init = if config.linear_skip.is_some() { zero } else { fan_in(hidden) };
        let head_weight = graph.parameter("head.weight", &[n_output, hidden], head_init);
        let head_bias = graph.parameter("head.bias", &[n_output], zero);
        let skip = config.linear_skip.map(|n_step| {
            let n_row = config.horizon * config.levels;
            let mut map = |name: String| {
                let weight = graph.parameter(&format!("{name}.weight"), &[n_row, n_step], zero);
                (weight, graph.parameter(&format!("{name}.bias"), &[n_row], zero))
            };
            let n_own = if config.own_skip { config.targets } else { 0 };
            LinearSkip { shared: map("skip".into()), own: (0..n_own).map(|target| map(format!("skip.{target}"))).collect() }
        });
        Ok(Forecaster { config: config.clone(), input, layers, norm, head_weight, head_bias, skip })
    }

    /// Sizes.
    pub fn config(&self) -> &ForecasterConfig {
        &self.config
    }

    /// Steps that the states can hold; unbounded where absent.
    pub fn most_steps(&self) -> Option<usize> {
        (self.config.model == ModelKind::Hybrid).then_some(self.config.cache)
    }

    /// Shapes of the states of all layers, for a batch.
    pub fn state_shapes(&self, n_batch: usize) -> Vec<Vec<usize>> {
        self.layers.iter().flat_map(|layer| layer.state_shapes(n_batch)).collect()
    }

    /// Forecasts from windows `x (batch, step, features)`, each after its last step.
    ///
    /// # Errors
    /// [`Error::Shape`] where `x` or the states do not fit, or `x` has not as many steps as the linear skip; [`Error::Unsupported`] where a
    /// bidirectional model is given states.
    pub fn forward(&self, graph: &mut Graph, x: Tensor, pass: &Pass) -> Result<Forecast> {
        let is_stacked = self.config.is_stacked();
        let stacked = if is_stacked {
            if pass.states.is_some() || pass.reset.is_some() {
                let what = message!("independent targets support neither states nor packed sequences");
                return Err(Error::Unsupported { operation: "forecaster", what });
            }
            graph.stack("windows", x, self.config.targets, self.config.features - self.config.targets)?
        } else {
            x
        };
        let layers = self.run_layers(graph, stacked, pass)?;
        let last = match self.layers.last() {
            Some(layer) => layer.last_output(graph, &layers)?,
            None => return Err(Error::option("--layers", 0, message!("must be at least 1"))),
        };
        let mut y = self.head(graph, last)?;
        if let Some(skip) = &self.skip {
            let windows = if is_stacked && self.config.features == self.config.targets { Some(stacked) } else { None };
            let linear = self.run_skip(graph, x, windows, skip)?;
            let linear = if is_stacked { linear } else { self.unstack(graph, "skip.targets", linear)? };
            y = graph.sum("forecast+skip", y, linear)?;
        }
        if is_stacked {
            y = self.unstack(graph, "forecast.targets", y)?;
        }
        Ok(Forecast { y, last_states: layers.last_states })
    }

    /// Forecasts from sequences `x (batch, step, features)` after every step: `y` is `(batch, step, horizon * targets * levels)`.
    ///
    /// # Errors
    /// As [`Forecaster::forward`]; [`Error::Unsupported`] with a linear skip or several independent targets, which need a whole window.
    pub fn every_step(&self, graph: &mut Graph, x: Tensor, pass: &Pass) -> Result<Forecast> {
        self.refuse_whole_windows()?;
        let layers = self.run_layers(graph, x, pass)?;
        Ok(Forecast { y: self.head(graph, layers.y)?, last_states: layers.last_states })
    }

    /// One step from `x (batch, features)`; `pass` holds the states before it, and a reset mask `(batch, 1)`. The states after it come out,
    /// large ones in their place where `pass` allows it.
    ///
    /// # Errors
    /// As [`Forecaster::every_step`].
    pub fn step(&self, graph: &mut Graph, x: Tensor, pass: &Pass) -> Result<Forecast> {
        self.refuse_whole_windows()?;
        let [n_batch, features] = graph.axes("forecaster", x)?;
        let x = graph.reshape(x, &[n_batch, 1, features])?;
        self.forward(graph, x, pass)
    }

    fn run_layers(&self, graph: &mut Graph, x: Tensor, pass: &Pass) -> Result<Sequence> {
        if self.config.bidirectional && pass.states.is_some() {
            let what = message!("a bidirectional model does not support states: its backward direction starts in the future");
            return Err(Error::Unsupported { operation: "forecaster", what });
        }
        let n_state: usize = self.layers.iter().map(|layer| layer.state_shapes(1).len()).sum();
        if let Some(states) = pass.states.filter(|states| states.len() != n_state) {
            return Err(Error::shape("forecaster", "states", format!("{n_state} tensors"), &[states.len()]));
        }
        let mut y = match self.input {
            Some((weight, bias)) => graph.linear("embedded", x, weight, Some(bias))?,
            None => x,
        };
        let recurrence = Recurrence { reset: pass.reset, ..Recurrence::default() };
        let mut last_states = Vec::new();
        for (index, layer) in self.layers.iter().enumerate() {
            let n_state = layer.state_shapes(1).len();
            let states = pass.states.map(|states| &states[last_states.len()..last_states.len() + n_state]);
            let label = format!("layers.{index}.");
            if let (Some(source), 1..) = (&pass.dropout, index) {
                y = graph.dropout(&format!("{label}dropped"), y, source, index as u32)?;
            }
            let output = layer.forward(graph, &label, y, states, &recurrence, pass.in_place)?;
            y = output.y;
            last_states.extend(output.last_states);
        }
        Ok(Sequence { y, last_states })
    }

    fn refuse_whole_windows(&self) -> Result<()> {
        let what = match (self.skip.is_some(), self.config.is_stacked()) {
            (true, _) => message!("a linear skip reads a whole window at once: forecast window by window, or train without it"),
            (_, true) => message!("independent targets read a whole window at once: forecast window by window, or train without them"),
            _ => return Ok(()),
        };
        Err(Error::Unsupported { operation: "forecaster", what })
    }

    /// Forecasts `(target * batch, horizon * levels)` as `(batch, horizon * targets * levels)`.
    fn unstack(&self, graph: &mut Graph, label: &str, y: Tensor) -> Result<Tensor> {
        let ForecasterConfig { horizon, targets, levels, .. } = self.config;
        if targets == 1 {
            return Ok(y);
        }
        let n_batch = graph.shape(y)[0] / targets;
        let tall = graph.reshape(y, &[targets * n_batch, horizon, levels])?;
        let wide = graph.unstack(label, tall, targets)?;
        graph.reshape(wide, &[n_batch, horizon * targets * levels])
    }

    /// The linear maps of each target's window, `(target * batch, horizon * levels)`; of `windows` where the targets' alone are stacked.
    fn run_skip(&self, graph: &mut Graph, x: Tensor, windows: Option<Tensor>, skip: &LinearSkip) -> Result<Tensor> {
        let [n_batch, n_step, _] = graph.axes("linear skip", x)?;
        graph.expect("linear skip", x, &[n_batch, graph.shape(skip.shared.0)[1], self.config.features])?;
        let targets = self.config.targets;
        let windows = match windows {
            Some(windows) => windows,
            None => {
                let own = graph.columns(x, "skip.x", 0, targets);
                graph.stack("skip.windows", own, targets, 0)?
            }
        };
        let windows = graph.reshape(windows, &[targets * n_batch, n_step])?;
        let shared = graph.linear("skip", windows, skip.shared.0, Some(skip.shared.1))?;
        if skip.own.is_empty() {
            return Ok(shared);
        }
        let own = graph.tensor("skip.own", &[targets * n_batch, self.config.horizon * self.config.levels]);
        for (target, &(weight, bias)) in skip.own.iter().enumerate() {
            let window = graph.rows(windows, &format!("skip.windows[{target}]"), target * n_batch, n_batch);
            let x = graph.linear(&format!("skip.{target}"), window, weight, Some(bias))?;
            let y = graph.rows(own, &format!("skip.own[{target}]"), target * n_batch, n_batch);
            graph.push(Elementwise::Copy { x, y });
        }
        graph.sum("skip.sum", shared, own)
    }

    fn head(&self, graph: &mut Graph, x: Tensor) -> Result<Tensor> {
        let x = match self.norm {
            Some(weight) => graph.rms_norm("norm_f", x, weight, NORM_EPS)?,
            None => x,
        };
        graph.linear("forecast", x, self.head_weight, Some(self.head_bias))
    }
}
