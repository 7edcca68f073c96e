//! Training: one graph with a step and an evaluation program, run for a number of epochs on any backend.

mod config;
mod evaluation;
mod evaluator;
mod fit;
mod programs;
mod scores;
mod state;

pub use config::{LossUnits, Shuffle, TrainingConfig};
pub use evaluator::Evaluator;
pub use fit::{EpochScore, Event, Fit, LEAST_GAIN};
pub use state::{Outcome, TrainPlan, TrainProgress, TrainState};

use std::ops::Range;

use ndarray::{Array2, Axis};

use crate::dataset::{Starts, Windows};
use crate::error::{Error, Result};
use crate::fingerprint::fingerprint;
use crate::graph::{Graph, Tensor};
use crate::model::ForecasterConfig;
use crate::ops::{ParameterGroup, Rescaling, Update};
use evaluation::Evaluation;
use programs::{BestParameters, Recorder, SeriesTensors, WindowProgram, l1_penalty};

/// The first parameter of a linear skip; its others are declared behind it.
const SKIP: &str = "skip.weight";

/// The learning rate of a linear skip, as a multiple of that of the recurrent path: the map that it starts as is good, and larger steps would
/// shake it.
const SKIP_RATE: f32 = 0.1;

/// Scaled series, one below another, and the windows in them that are trained on and scored.
#[derive(Clone, Debug)]
pub struct Series<'a> {
    /// `(row, features)`.
    pub values: &'a [f32],
    /// First rows of the training windows.
    pub train: Starts,
    /// First rows of the validation windows.
    pub valid: Starts,
    /// First rows of the windows that neither training nor its choices see; there may be none.
    pub test: Starts,
}

impl<'a> From<&'a Windows> for Series<'a> {
    fn from(windows: &'a Windows) -> Self {
        Series { values: windows.values(), train: windows.train().clone(), valid: windows.valid().clone(), test: windows.test().clone() }
    }
}

impl<'a> Series<'a> {
    /// Series without windows for a test.
    pub fn new(values: &'a [f32], train: impl Into<Starts>, valid: impl Into<Starts>) -> Self {
        Series { values, train: train.into(), valid: valid.into(), test: Starts::default() }
    }

    /// A fingerprint: other values, or other windows for training and validation, give another number.
    fn fingerprint(&self) -> u64 {
        let ends = [&self.train, &self.valid].into_iter().flat_map(Starts::ranges).flat_map(|range| [range.start, range.end]);
        let ends = ends.flat_map(|end| (end as u64).to_le_bytes());
        fingerprint(self.values.iter().flat_map(|value| value.to_le_bytes()).chain(ends))
    }

    /// Checks that a model with these settings can forecast every window; the series' rows.
    fn check(&self, model: &ForecasterConfig, config: &TrainingConfig) -> Result<usize> {
        config.check()?;
        model.check()?;
        config.check_model(model)?;
        let n_series = self.train.ranges().len().max(self.valid.ranges().len());
        if config.carry_state && n_series > 1 {
            return Err(Error::given("--carry-state", message!("it works on one series, not {}", n_series)));
        }
        let n_level = config.loss.columns_per_output();
        if model.levels != n_level {
            return Err(Error::option("levels", model.levels, message!("must be {}, the levels of the loss", n_level)));
        }
        let (n_row, n_needed) = (self.values.len() / model.features, config.window.saturating_add(model.horizon));
        [&self.train, &self.valid, &self.test].into_iter().try_for_each(|windows| Self::check_within(windows, n_row, n_needed))?;
        Ok(n_row)
    }

    fn check_within(windows: &Starts, n_row: usize, n_needed: usize) -> Result<()> {
        let ranges = windows.ranges().iter();
        let needed = |range: &Range<usize>| (range.end - 1).saturating_add(n_needed);
        match ranges.filter(|range| !range.is_empty()).find(|range| needed(range) > n_row) {
            Some(range) => Err(Error::shape("training", "series", format!("at least {} rows", needed(range)), &[n_row])),
            None => Ok(()),
        }
    }
}

/// Training steps of all epochs, at most: the CPU counts them in 32-bit floats.
const MOST_STEPS: usize = 1 << 24;

/// Times an epoch's steps are waited for, at least, so that progress can be shown.
const SLICES: usize = 10;

/// Forecasts of training steps that are kept on the device between two reads, at most, unless one step makes more.
const MOST_FORECASTS: usize = 1 << 22;

/// A forecaster's graph with its training step and its evaluation.
///
/// ```
/// use scanrnn::cpu::Cpu;
/// use scanrnn::model::{ForecasterConfig, ModelKind};
/// use scanrnn::train::{Series, Trainer, TrainingConfig};
/// let wave: Vec<f32> = (0..120).map(|row| (row as f32 / 5.0).sin()).collect();
/// let series = Series::new(&wave, 0..80, 80..112);
/// let model = ForecasterConfig::new(ModelKind::MinGruScan, 8);
/// let training = TrainingConfig { window: 8, batch: 8, ..TrainingConfig::lab(model.model) };
/// let trainer = Trainer::new(&model, &training, &series)?;
/// let fit = pollster::block_on(trainer.fit(&Cpu, &series, &mut |_| ()))?;
/// assert_eq!((fit.epochs.len(), fit.steps, fit.forecasts.len()), (5, 50, 32));
/// assert!(fit.epochs[4].train_mse < fit.epochs[0].train_mse);
/// # Ok::<(), scanrnn::Error>(())
/// ```
#[derive(Debug)]
pub struct Trainer {
    graph: Graph,
    config: TrainingConfig,
    model: ForecasterConfig,
    n_train_step: usize,
    /// Training steps between two reads of what they have computed.
    slice: usize,
    series: SeriesTensors,
    train: WindowProgram,
    evaluation: Evaluation,
    losses: Tensor,
    learning_rates: Tensor,
    /// Values of the mask of the L1 penalty, where there is one.
    l1_mask: Option<(Tensor, Vec<f32>)>,
    /// Where early stopping is asked for.
    best: Option<BestParameters>,
    /// Values that take the place of drawn ones.
    initial: Vec<(Tensor, Vec<f32>)>,
}

impl Trainer {
    /// Builds the graph for series of this size and number of windows.
    ///
    /// # Errors
    /// [`Error::Option`] where a setting cannot be used, a batch holds more windows than there are, or the model's levels are not those of
    /// the loss.
    pub fn new(model: &ForecasterConfig, config: &TrainingConfig, series: &Series<'_>) -> Result<Self> {
        let n_row = series.check(model, config)?;
        let n_valid = series.valid.len();
        if n_valid == 0 {
            return Err(Error::shape("training", "validation windows", "at least 1", &[0]));
        }
        let n_train_step = config.steps_per_epoch(series.train.len())?;
        let n_step = config.epochs.saturating_mul(n_train_step);
        if n_step > MOST_STEPS {
            return Err(Error::option("--epochs", config.epochs, message!("must be at most {}", MOST_STEPS / n_train_step)));
        }
        config.schedule.check(config.learning_rate, n_step)?;
        let mut graph = Graph::new();
        let recorder = Recorder::new(&mut graph, model, config, n_row)?;
        let n_column = model.targets * model.levels;
        let n_output = model.horizon * n_column;
        let slice = n_train_step.div_ceil(SLICES).clamp(1, (MOST_FORECASTS / (config.batch * n_output)).max(1));
        let losses = graph.state("losses", &[slice]);
        let learning_rates = graph.input("learning_rates", &[slice]);

        let train = recorder.record(&mut graph, "train", [slice, config.batch, config.window], true)?;
        let counter = train.counter;
        let forecast = graph.reshape(train.forecast.y, &[config.batch, model.horizon, n_column])?;
        let rescaling = match config.loss_units {
            LossUnits::Window => None,
            LossUnits::Series => Some(Rescaling::Scale),
            LossUnits::Balanced => Some(Rescaling::Root),
        };
        let (forecast, target) = match rescaling {
            None => (forecast, train.window.y),
            Some(rescaling) => {
                let forecast = graph.rescale("rescaled", forecast, &train.window, rescaling)?;
                (forecast, graph.rescale("target", train.window.y, &train.window, rescaling)?)
            }
        };
        graph.loss("loss", config.loss.clone(), forecast, target, counter, losses)?;
        graph.backward(&[])?;
        let l1_mask = if config.l1 > 0.0 { Some(l1_penalty(&mut graph, config.l1)?) } else { None };
        let clip = config.clip_norm.map(|norm| graph.clip_grad_norm(norm)).transpose()?;
        let skip = graph.parameters().iter().find(|parameter| parameter.name == SKIP);
        let group = skip.map(|parameter| ParameterGroup { first: parameter.tensor, rate: SKIP_RATE });
        graph.optimize(&Update { optimizer: config.optimizer, clip, clip_value: config.clip_value, learning_rates, counter, group })?;
        let train = recorder.finish(&mut graph, "train", train, &[slice * config.batch, model.horizon, n_column])?;

        let evaluation = recorder.evaluation(&mut graph, n_valid)?;
        let best = config.patience.map(|_| BestParameters::new(&mut graph));
        graph.share_storages(&[train.forecasts, evaluation.program.forecasts]);
        Ok(Trainer {
            graph,
            config: config.clone(),
            model: model.clone(),
            n_train_step,
            slice,
            series: recorder.series,
            train,
            evaluation,
            losses,
            learning_rates,
            l1_mask,
            best,
            initial: Vec::new(),
        })
    }

    /// The graph, for its parameters' names and shapes.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The graph alone.
    pub fn into_graph(self) -> Graph {
        self.graph
    }

    /// Lets training start from values for some parameters, such as [`read_backbone`](crate::published::read_backbone) gives; all others
    /// are drawn from the seed.
    pub fn start_from(&mut self, values: impl IntoIterator<Item = (Tensor, Vec<f32>)>) {
        self.initial.extend(values);
    }

    /// Lets training start from a linear map `(window, horizon)` and biases `(horizon, level)` of the windows as the model sees them, in the
    /// place of the linear skip that all targets share. Nothing changes where the model has none.
    ///
    /// # Errors
    /// [`Error::Shape`] where the map is not from this window to this horizon, or the biases have not the model's levels.
    pub fn start_from_linear(&mut self, map: &Array2<f64>, biases: &Array2<f64>) -> Result<()> {
        let named = |name: &str| self.graph.parameters().iter().find(|parameter| parameter.name == name).map(|parameter| parameter.tensor);
        let (Some(weight), Some(skip_bias)) = (named(SKIP), named("skip.bias")) else { return Ok(()) };
        let (window, horizon, levels) = (self.config.window, self.model.horizon, self.model.levels);
        if map.dim() != (window, horizon) {
            return Err(Error::shape("linear skip", "map", format!("({window}, {horizon}), window and horizon"), map.shape()));
        }
        if biases.dim() != (horizon, levels) {
            return Err(Error::shape("linear skip", "biases", format!("({horizon}, {levels}), horizon and levels"), biases.shape()));
        }
        let rows = map.axis_iter(Axis(1)).flat_map(|row| std::iter::repeat_n(row.to_vec(), levels));
        let weights = rows.flatten().map(|value| value as f32).collect();
        let biases = biases.iter().map(|&value| value as f32).collect();
        self.start_from([(weight, weights), (skip_bias, biases)]);
        Ok(())
    }
}
