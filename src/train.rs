//! Training: one graph with a step and an evaluation program, run for a number of epochs on any backend.

use std::ops::Range;

use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::backend::{Backend, Session};
use crate::error::{Error, Result};
use crate::graph::{Graph, Program, Tensor};
use crate::metrics::Metrics;
use crate::model::{Forecast, Forecaster, ForecasterConfig, ModelKind, Pass, initial_values};
use crate::ops::{DropoutSource, Elementwise, Loss, Normalisation, Optimizer, Update, Window, WindowSource};
use crate::reference::loss;
use crate::schedule::{Rates, Schedule};

/// How a forecaster is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainingConfig {
    /// Steps of a window.
    pub window: usize,
    /// Windows of a step; what fills no batch is left out, the oldest windows.
    pub batch: usize,
    /// Passes over the training windows.
    pub epochs: usize,
    /// Update rule.
    pub optimizer: Optimizer,
    /// Step size.
    pub learning_rate: f32,
    /// How the step size changes.
    #[serde(default)]
    pub schedule: Schedule,
    /// What is minimised, in the units that the model sees.
    #[serde(default)]
    pub loss: Loss,
    /// Strength of an L1 penalty on every parameter that is no bias; 0 for none.
    #[serde(default)]
    pub l1: f32,
    /// Largest global norm of a gradient; unbounded where absent.
    pub clip_norm: Option<f32>,
    /// Largest absolute value of a gradient's element, clipped after the norm; unbounded where absent.
    #[serde(default)]
    pub clip_value: Option<f32>,
    /// Early stopping: training ends after so many epochs in a row without a smaller validation loss, and the best epoch's parameters are
    /// the result. Where absent, every epoch is run and the last one's are.
    #[serde(default)]
    pub patience: Option<usize>,
    /// Share of what passes from one layer to the next that is dropped in training.
    #[serde(default)]
    pub dropout: f32,
    /// Truncated BPTT: each row of a batch walks through a stretch of its own of the series, window by window, and every window begins with
    /// the state after the one before. The order is not shuffled; each epoch begins at zero states, at one row drawn from the seed.
    #[serde(default)]
    pub carry_state: bool,
    /// What is done to each window before the model, and undone after it.
    pub normalisation: Normalisation,
    /// Of the first parameters, the order of the windows and the masks of dropout.
    pub seed: u64,
}

impl TrainingConfig {
    /// The lab's settings for a model: window 32, batch 32, 5 epochs, SGD 0.01 (the Mambas 0.005) with weight decay 1e-4, norm at most 1.
    pub fn lab(model: ModelKind) -> Self {
        TrainingConfig {
            window: 32,
            batch: 32,
            epochs: 5,
            optimizer: Optimizer::sgd(1e-4),
            learning_rate: Self::lab_rate(model),
            schedule: Schedule::Constant,
            loss: Loss::Mse,
            l1: 0.0,
            clip_norm: Some(1.0),
            clip_value: None,
            patience: None,
            dropout: 0.0,
            carry_state: false,
            normalisation: Normalisation::Last,
            seed: 0,
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
            return Err(Error::option(option, 0, "must be at least 1"));
        }
        if !(self.learning_rate.is_finite() && self.learning_rate > 0.0) {
            return Err(Error::option("--lr", self.learning_rate, "must be a finite number above 0"));
        }
        for (option, bound) in [("--clip-norm", self.clip_norm), ("--clip-value", self.clip_value)] {
            if let Some(bound) = bound.filter(|bound| bound.is_nan() || *bound <= 0.0) {
                return Err(Error::option(option, bound, "must be a number above 0"));
            }
        }
        if !(self.l1.is_finite() && self.l1 >= 0.0) {
            return Err(Error::option("--l1", self.l1, "must be a number from 0"));
        }
        if self.patience == Some(0) {
            return Err(Error::option("--patience", 0, "must be at least 1"));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(Error::option("--dropout", self.dropout, "must be from 0 to below 1"));
        }
        if self.carry_state && self.normalisation != Normalisation::None {
            let needed = "it needs --window-norm none: a window with units of its own cannot go on from the state of another";
            return Err(Error::option("--carry-state", "given", needed));
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
            return Err(Error::option("--dropout", self.dropout, "it acts between layers: it needs --layers 2 or more"));
        }
        if self.carry_state && model.model == ModelKind::Hybrid {
            let needed = "it cannot go with hybrid, whose key-value cache would grow with every window";
            return Err(Error::option("--carry-state", "given", needed));
        }
        if self.carry_state && model.bidirectional {
            let needed = "it cannot go with --bidirectional, whose backward direction begins with the future";
            return Err(Error::option("--carry-state", "given", needed));
        }
        Ok(())
    }

    /// Training steps of an epoch over so many windows.
    fn steps_per_epoch(&self, n_train: usize) -> Result<usize> {
        let row = n_train / self.batch;
        let n_step = if self.carry_state { row / self.window } else { row };
        if row == 0 {
            return Err(Error::option("--batch", self.batch, format!("there are only {n_train} training windows")));
        }
        if n_step == 0 {
            let needed = format!("with --carry-state each walks through {row} rows, fewer than --window {}: take fewer", self.window);
            return Err(Error::option("--batch", self.batch, needed));
        }
        Ok(n_step)
    }
}

/// A scaled series and the windows in it that are trained on and scored.
#[derive(Clone, Debug)]
pub struct Series<'a> {
    /// `(row, features)`.
    pub values: &'a [f32],
    /// First rows of the training windows.
    pub train: Range<usize>,
    /// First rows of the validation windows.
    pub valid: Range<usize>,
}

/// Scores after an epoch, in scaled units, over forecasts with the window's normalisation undone.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochScore {
    /// Mean squared error of the training forecasts, each made before the step that learns from it.
    pub train_mse: f64,
    /// Mean squared error on the validation windows after the epoch.
    pub valid_mse: f64,
    /// The loss that is trained on, over the validation forecasts after the epoch: what early stopping and plateaus go by.
    pub valid_loss: f64,
    /// The learning rate of the epoch's last step.
    pub learning_rate: f32,
}

/// What training gives.
#[derive(Clone, Debug)]
pub struct Fit {
    /// Scores, an epoch each.
    pub epochs: Vec<EpochScore>,
    /// The epoch, counted from 1, whose parameters and forecasts these are: the last one, or the best one with early stopping.
    pub best_epoch: usize,
    /// The loss before each step, in the units that the model sees.
    pub losses: Vec<f32>,
    /// Forecasts of the validation windows, `(window, horizon, target, level)`, scaled; one level but for a quantile loss.
    pub forecasts: Vec<f32>,
    /// Scores of the forecasts, scaled.
    pub metrics: Metrics,
    /// Every parameter's values, in the order of [`Graph::parameters`].
    pub parameters: Vec<Vec<f32>>,
    /// Seconds spent in training steps.
    pub seconds: f64,
    /// Training steps.
    pub steps: usize,
    /// Mean squared error of predicting the last value again on the windows that were trained on, scaled.
    pub train_persistence_mse: f64,
}

/// News from a training run.
#[derive(Clone, Copy, Debug)]
pub enum Event {
    /// So many of all steps are done.
    Steps {
        /// Done since the start.
        done: usize,
        /// To be done.
        total: usize,
    },
    /// An epoch is over.
    Epoch {
        /// Counted from 1.
        epoch: usize,
        /// Its scores.
        score: EpochScore,
    },
}

/// A forecaster's graph with its training step and its evaluation.
///
/// ```
/// use scanrnn::cpu::Cpu;
/// use scanrnn::model::{ForecasterConfig, ModelKind};
/// use scanrnn::train::{Series, Trainer, TrainingConfig};
/// let wave: Vec<f32> = (0..120).map(|row| (row as f32 / 5.0).sin()).collect();
/// let series = Series { values: &wave, train: 0..80, valid: 80..112 };
/// let model = ForecasterConfig::new(ModelKind::MinGruScan, 8);
/// let training = TrainingConfig { window: 8, batch: 8, ..TrainingConfig::lab(model.model) };
/// let trainer = Trainer::new(&model, &training, wave.len(), series.train.len(), series.valid.len())?;
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
    plan: ValidPlan,
    series: Tensor,
    /// The features that are forecast: the first ones.
    targets: Tensor,
    train: Side,
    valid: Side,
    losses: Tensor,
    learning_rates: Tensor,
    /// Values of the mask of the L1 penalty, where there is one.
    l1_mask: Option<(Tensor, Vec<f32>)>,
    /// Where early stopping is asked for.
    best: Option<BestParameters>,
    /// Values that take the place of drawn ones.
    initial: Vec<(Tensor, Vec<f32>)>,
}

/// Programs that keep the parameters of the best epoch on the device.
#[derive(Debug)]
struct BestParameters {
    keep: Program,
    restore: Program,
}

impl BestParameters {
    fn new(graph: &mut Graph) -> Self {
        let parameters = graph.flat_parameters();
        let shape = graph.shape(parameters).to_vec();
        let best = graph.state("best_parameters", &shape);
        graph.push(Elementwise::Copy { x: parameters, y: best });
        let keep = graph.finish("keep");
        graph.push(Elementwise::Copy { x: best, y: parameters });
        BestParameters { keep, restore: graph.finish("restore") }
    }
}

/// The best epoch so far.
struct Best {
    /// Counted from 1.
    epoch: usize,
    loss: f64,
    forecasts: Vec<f32>,
}

/// A program, training or evaluation, and its tensors.
#[derive(Debug)]
struct Side {
    program: Program,
    /// First rows of the windows, `(step, batch)`.
    starts: Tensor,
    counter: Tensor,
    /// `(window, horizon, target * level)`.
    forecasts: Tensor,
    /// States that each run leaves to the next.
    states: Vec<Tensor>,
}

impl Side {
    /// Writes the rows at which windows begin, the count of steps before, and zero states.
    fn begin(&self, session: &mut dyn Session, graph: &Graph, starts: &[u32], n_before: usize) -> Result<()> {
        session.write_indices(self.starts, starts)?;
        session.write_indices(self.counter, &[0, n_before as u32])?;
        for &state in &self.states {
            session.write(state, &vec![0.0; graph.spec(state).len()])?;
        }
        Ok(())
    }
}

/// How the validation windows are forecast.
#[derive(Debug)]
struct ValidPlan {
    n_valid: usize,
    window: usize,
    /// Whether one row walks through the series with its state carried, instead of windows side by side that begin at zero states.
    is_walk: bool,
    /// Runs of the program.
    n_step: usize,
    /// Windows side by side, or steps of the walk, that a run takes.
    width: usize,
    /// Rows of the series before the validation windows that a walk takes too, so that its runs are equally long.
    n_before: usize,
}

impl ValidPlan {
    fn new(config: &TrainingConfig, n_valid: usize) -> Self {
        let TrainingConfig { carry_state: is_walk, window, .. } = *config;
        if !is_walk {
            let width = config.batch.max(VALID_BATCH).min(n_valid.max(1));
            return ValidPlan { n_valid, window, is_walk, n_step: n_valid.div_ceil(width), width, n_before: 0 };
        }
        let n_row = n_valid + window - 1;
        let n_step = n_row.div_ceil(VALID_BATCH).max(1);
        let width = n_row.div_ceil(n_step).max(1);
        ValidPlan { n_valid, window, is_walk, n_step, width, n_before: n_step * width - n_row }
    }

    /// Runs, windows side by side and steps of a window.
    fn sizes(&self) -> [usize; 3] {
        if self.is_walk { [self.n_step, 1, self.width] } else { [self.n_step, self.width, self.window] }
    }

    /// Shape of all forecasts.
    fn forecasts(&self, horizon: usize, n_column: usize) -> [usize; 3] {
        if self.is_walk { [self.n_step, self.width * horizon, n_column] } else { [self.n_valid, horizon, n_column] }
    }

    /// Rows at which the windows, or the parts of the walk, begin.
    fn starts(&self, valid: &Range<usize>) -> Vec<u32> {
        if self.is_walk {
            let first = valid.start.saturating_sub(self.n_before);
            return (0..self.n_step).map(|step| (first + step * self.width) as u32).collect();
        }
        let last = valid.end.saturating_sub(1);
        (0..self.n_step * self.width).map(|index| (valid.start + index).min(last) as u32).collect()
    }

    /// Of all forecasts, those of the validation windows.
    fn select(&self, mut forecasts: Vec<f32>) -> Vec<f32> {
        if self.is_walk {
            let n_item = self.n_step * self.width;
            forecasts.drain(..forecasts.len() / n_item * (n_item - self.n_valid));
        }
        forecasts
    }
}

/// What the programs are recorded from.
struct Recorder<'a> {
    config: &'a TrainingConfig,
    model: &'a ForecasterConfig,
    forecaster: Forecaster,
    series: Tensor,
    targets: Tensor,
}

/// A program under construction.
struct Recorded {
    starts: Tensor,
    counter: Tensor,
    window: Window,
    forecast: Forecast,
    states: Vec<Tensor>,
}

impl Recorder<'_> {
    /// `n_step` times a batch of windows, and the forecasts after them, or after every step where a walk needs them.
    fn record(&self, graph: &mut Graph, name: &str, [n_step, n_batch, length]: [usize; 3], is_training: bool) -> Result<Recorded> {
        let starts = graph.indices(&format!("{name}.starts"), &[n_step, n_batch]);
        let counter = graph.indices(&format!("{name}.counter"), &[2]);
        let TrainingConfig { normalisation, dropout, seed, carry_state, .. } = *self.config;
        let (series, targets, horizon) = (self.series, self.targets, self.model.horizon);
        let source = WindowSource { series, starts, targets, counter, n_step: length, horizon, normalisation };
        let window = graph.window(&format!("{name}.window"), &source)?;
        let shapes = if carry_state { self.forecaster.state_shapes(n_batch) } else { Vec::new() };
        let states: Vec<_> = shapes.iter().enumerate().map(|(index, shape)| graph.state(&format!("{name}.state.{index}"), shape)).collect();
        let dropout = (is_training && dropout > 0.0).then_some(DropoutSource { rate: dropout, seed, counter });
        let pass = Pass { states: carry_state.then_some(states.as_slice()), dropout, ..Pass::default() };
        let forecast = if carry_state && !is_training {
            self.forecaster.every_step(graph, window.x, &pass)?
        } else {
            self.forecaster.forward(graph, window.x, &pass)?
        };
        Ok(Recorded { starts, counter, window, forecast, states })
    }

    /// Collects the forecasts, hands the states to the next run, and closes the program.
    fn finish(&self, graph: &mut Graph, name: &str, recorded: Recorded, shape: &[usize]) -> Result<Side> {
        let Recorded { starts, counter, window, forecast, states } = recorded;
        let forecasts = graph.tensor(&format!("{name}.forecasts"), shape);
        graph.restore(forecast.y, &window, counter, forecasts)?;
        for (&x, &y) in forecast.last_states.iter().zip(&states) {
            graph.push(Elementwise::Copy { x, y });
        }
        graph.advance(counter)?;
        Ok(Side { program: graph.finish(name), starts, counter, forecasts, states })
    }
}

/// Pushes an L1 penalty on every parameter that is no bias; its mask and the mask's values.
fn l1_penalty(graph: &mut Graph, strength: f32) -> Result<(Tensor, Vec<f32>)> {
    let is_bias = |name: &str| name.rsplit('.').next().is_some_and(|last| last == "bias" || last.starts_with("b_"));
    let parameters = graph.flat_parameters();
    let shape = graph.shape(parameters).to_vec();
    let mut values = vec![0.0; shape[0]];
    for parameter in graph.parameters().iter().filter(|parameter| !is_bias(&parameter.name)) {
        let spec = graph.spec(parameter.tensor);
        values[spec.offset..spec.offset + spec.len()].fill(1.0);
    }
    let mask = graph.input("l1_mask", &shape);
    graph.l1_penalty(strength, mask)?;
    Ok((mask, values))
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

/// Windows that an evaluation runs at once, at least, and most steps of a walk that it runs at once.
const VALID_BATCH: usize = 128;

/// Times an epoch's steps are waited for, so that progress can be shown.
const SLICES: usize = 10;

impl Trainer {
    /// Builds the graph for a series of `n_row` rows with so many training and validation windows.
    ///
    /// # Errors
    /// [`Error::Option`] where a setting cannot be used, a batch holds more windows than there are, or the model's levels are not those of
    /// the loss.
    pub fn new(model: &ForecasterConfig, config: &TrainingConfig, n_row: usize, n_train: usize, n_valid: usize) -> Result<Self> {
        config.check()?;
        model.check()?;
        config.check_model(model)?;
        let n_train_step = config.steps_per_epoch(n_train)?;
        let (n_level, n_step) = (config.loss.columns_per_output(), config.epochs * n_train_step);
        if model.levels != n_level {
            return Err(Error::option("levels of the model", model.levels, format!("must be {n_level}, those of the loss")));
        }
        config.schedule.check(n_step)?;
        let mut graph = Graph::new();
        let forecaster = Forecaster::new(&mut graph, model)?;
        let series = graph.input("series", &[n_row, model.features]);
        let targets = graph.indices("targets", &[model.targets]);
        let losses = graph.state("losses", &[n_train_step]);
        let learning_rates = graph.input("learning_rates", &[n_train_step]);

        let recorder = Recorder { config, model, forecaster, series, targets };
        let n_column = model.targets * model.levels;
        let train = recorder.record(&mut graph, "train", [n_train_step, config.batch, config.window], true)?;
        let counter = train.counter;
        let forecast = graph.reshape(train.forecast.y, &[config.batch, model.horizon, n_column])?;
        graph.loss("loss", config.loss.clone(), forecast, train.window.y, counter, losses)?;
        graph.backward(&[])?;
        let l1_mask = if config.l1 > 0.0 { Some(l1_penalty(&mut graph, config.l1)?) } else { None };
        let clip = config.clip_norm.map(|norm| graph.clip_grad_norm(norm)).transpose()?;
        graph.optimize(&Update { optimizer: config.optimizer, clip, clip_value: config.clip_value, learning_rates, counter })?;
        let train = recorder.finish(&mut graph, "train", train, &[n_train_step * config.batch, model.horizon, n_column])?;

        let plan = ValidPlan::new(config, n_valid);
        let valid = recorder.record(&mut graph, "valid", plan.sizes(), false)?;
        let valid = recorder.finish(&mut graph, "valid", valid, &plan.forecasts(model.horizon, n_column))?;
        let best = config.patience.map(|_| BestParameters::new(&mut graph));
        Ok(Trainer {
            graph,
            config: config.clone(),
            model: model.clone(),
            n_train_step,
            plan,
            series,
            targets,
            train,
            valid,
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
    pub fn start_from(&mut self, values: Vec<(Tensor, Vec<f32>)>) {
        self.initial = values;
    }

    /// Trains on a backend. `observe` hears of progress.
    ///
    /// # Errors
    /// [`Error::Diverged`] where a loss is not finite; [`Error::Gpu`] where the device fails; [`Error::Shape`] where the series is not what
    /// the trainer was built for.
    pub async fn fit(&self, backend: &dyn Backend, series: &Series<'_>, observe: &mut dyn FnMut(Event)) -> Result<Fit> {
        let mut session = backend.load(&self.graph).await?;
        for (tensor, values) in initial_values(&self.graph, self.config.seed).iter().chain(&self.initial) {
            session.write(*tensor, values)?;
        }
        self.write_data(&mut *session, series)?;
        if let Some((mask, values)) = &self.l1_mask {
            session.write(*mask, values)?;
        }
        let n_step = self.config.epochs * self.n_train_step;
        let mut rates = Rates::new(self.config.schedule, f64::from(self.config.learning_rate), n_step);
        let order = self.order(series.train.clone());
        let (mut epochs, mut losses, mut seconds) = (Vec::new(), Vec::new(), 0.0);
        let mut best = Best { epoch: 0, loss: f64::INFINITY, forecasts: Vec::new() };
        for epoch in 1..=self.config.epochs {
            let first_step = (epoch - 1) * self.n_train_step;
            let epoch_rates = rates.of(first_step..first_step + self.n_train_step);
            session.write(self.learning_rates, &epoch_rates)?;
            self.train.begin(&mut *session, &self.graph, &order, first_step)?;
            session.wait().await?;
            seconds += self.train_epoch(&mut *session, epoch, observe).await?;
            let epoch_losses = session.read(self.losses).await?;
            self.check_finite(&epoch_losses, losses.len())?;
            losses.extend(epoch_losses);
            let train_mse = self.score(&session.read(self.train.forecasts).await?, order.iter().map(|&row| row as usize), series).mse;
            let forecasts = self.evaluate(&mut *session, series).await?;
            let score = EpochScore {
                train_mse,
                valid_mse: self.score(&forecasts, series.valid.clone(), series).mse,
                valid_loss: self.loss(&forecasts, series.valid.clone(), series),
                learning_rate: epoch_rates[self.n_train_step - 1],
            };
            self.check_finite(&[score.valid_loss as f32], losses.len() - 1)?;
            epochs.push(score);
            observe(Event::Epoch { epoch, score });
            rates.observe(score.valid_loss);
            if self.best.is_none() || score.valid_loss < best.loss {
                best = Best { epoch, loss: score.valid_loss, forecasts };
                if let Some(programs) = &self.best {
                    session.run(programs.keep, 1)?;
                }
            } else if self.config.patience.is_some_and(|patience| epoch - best.epoch >= patience) {
                break;
            }
        }
        if let Some(programs) = &self.best {
            session.run(programs.restore, 1)?;
        }
        let mut parameters = Vec::new();
        for parameter in self.graph.parameters() {
            parameters.push(session.read(parameter.tensor).await?);
        }
        let metrics = self.score(&best.forecasts, series.valid.clone(), series);
        let steps = losses.len();
        let train_persistence_mse = self.persistence(order.iter().map(|&row| row as usize), series).mse;
        Ok(Fit {
            epochs,
            best_epoch: best.epoch,
            losses,
            forecasts: best.forecasts,
            metrics,
            parameters,
            seconds,
            steps,
            train_persistence_mse,
        })
    }

    /// First rows of the windows of every epoch, `(step, batch)`, of all those in `rows`.
    ///
    /// They are shuffled once, and what fills no batch is left out at the old end: only where every epoch takes the same windows in the same
    /// order do the epochs' losses compare. Shuffling anew adds more noise than an epoch gains on prices.
    fn order(&self, rows: Range<usize>) -> Vec<u32> {
        let TrainingConfig { batch, window, carry_state, seed, .. } = self.config;
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        if carry_state {
            let (n_row, offset) = (rows.len() / batch, random.random_range(0..window));
            let stretch = |step: usize| (0..batch).map(move |row| row * n_row + offset + step * window);
            return (0..self.n_train_step).flat_map(stretch).map(|at| (rows.start + at) as u32).collect();
        }
        let left_out = rows.len() - self.n_train_step * batch;
        let mut order: Vec<u32> = rows.skip(left_out).map(|row| row as u32).collect();
        order.shuffle(&mut random);
        order
    }

    fn write_data(&self, session: &mut dyn Session, series: &Series<'_>) -> Result<()> {
        session.write(self.series, series.values)?;
        session.write_indices(self.targets, &(0..self.model.targets as u32).collect::<Vec<_>>())
    }

    /// Forecasts of the validation windows with given parameters, `(window, horizon, target, level)`, scaled.
    ///
    /// # Errors
    /// [`Error::Gpu`] where the device fails, [`Error::Shape`] where the parameters are not this model's.
    pub async fn forecast(&self, backend: &dyn Backend, series: &Series<'_>, parameters: &[Vec<f32>]) -> Result<Vec<f32>> {
        let mut session = backend.load(&self.graph).await?;
        for (parameter, values) in self.graph.parameters().iter().zip(parameters) {
            session.write(parameter.tensor, values)?;
        }
        self.write_data(&mut *session, series)?;
        self.evaluate(&mut *session, series).await
    }

    /// The forecast of each target alone, `(window, horizon, target)`, of forecasts `(window, horizon, target, level)`: that of the level
    /// nearest the median.
    pub fn central(&self, forecasts: &[f32]) -> Vec<f32> {
        forecasts.iter().skip(self.config.loss.central_column()).step_by(self.model.levels).copied().collect()
    }

    /// Scores forecasts of the windows that begin at `starts`, in scaled units, by [`Trainer::central`].
    pub fn score(&self, forecasts: &[f32], starts: impl Iterator<Item = usize>, series: &Series<'_>) -> Metrics {
        Metrics::new(&wide(&self.central(forecasts)), &self.actual(starts, series))
    }

    /// The loss that is trained on, over forecasts of the windows that begin at `starts`, in scaled units.
    pub fn loss(&self, forecasts: &[f32], starts: impl Iterator<Item = usize>, series: &Series<'_>) -> f64 {
        loss::mean(&self.config.loss, &wide(forecasts), &self.actual(starts, series))
    }

    /// The levels of a quantile loss, each with the share of what came that lies at or below its forecast; none with another loss.
    pub fn coverage(&self, forecasts: &[f32], starts: impl Iterator<Item = usize>, series: &Series<'_>) -> Vec<(f32, f64)> {
        let Loss::Quantile { levels } = &self.config.loss else { return Vec::new() };
        let actual = self.actual(starts, series);
        let below = |level: usize| {
            let of_level = forecasts.iter().skip(level).step_by(levels.len());
            of_level.zip(&actual).filter(|(forecast, actual)| **actual <= f64::from(**forecast)).count()
        };
        levels.iter().enumerate().map(|(index, &level)| (level, below(index) as f64 / actual.len() as f64)).collect()
    }

    /// Scores of predicting every window's last value again.
    pub fn persistence(&self, starts: impl Iterator<Item = usize> + Clone, series: &Series<'_>) -> Metrics {
        let features = self.model.features;
        let last = |start: usize| (start + self.config.window - 1) * features;
        let repeated =
            |start: usize| (0..self.model.horizon).flat_map(move |_| (0..self.model.targets).map(move |target| last(start) + target));
        let forecast: Vec<f64> = starts.clone().flat_map(repeated).map(|index| f64::from(series.values[index])).collect();
        Metrics::new(&forecast, &self.actual(starts, series))
    }

    fn actual(&self, starts: impl Iterator<Item = usize>, series: &Series<'_>) -> Vec<f64> {
        let features = self.model.features;
        starts
            .flat_map(|start| (0..self.model.horizon).map(move |step| (start + self.config.window + step) * features))
            .flat_map(|row| (0..self.model.targets).map(move |target| f64::from(series.values[row + target])))
            .collect()
    }

    async fn train_epoch(&self, session: &mut dyn Session, epoch: usize, observe: &mut dyn FnMut(Event)) -> Result<f64> {
        let total = self.config.epochs * self.n_train_step;
        let slice = self.n_train_step.div_ceil(SLICES);
        let mut seconds = 0.0;
        let mut done = 0;
        while done < self.n_train_step {
            let count = slice.min(self.n_train_step - done);
            let clock = web_time::Instant::now();
            session.run(self.train.program, count)?;
            session.wait().await?;
            seconds += clock.elapsed().as_secs_f64();
            done += count;
            observe(Event::Steps { done: (epoch - 1) * self.n_train_step + done, total });
        }
        Ok(seconds)
    }

    async fn evaluate(&self, session: &mut dyn Session, series: &Series<'_>) -> Result<Vec<f32>> {
        self.valid.begin(session, &self.graph, &self.plan.starts(&series.valid), 0)?;
        session.run(self.valid.program, self.plan.n_step)?;
        Ok(self.plan.select(session.read(self.valid.forecasts).await?))
    }

    fn check_finite(&self, losses: &[f32], before: usize) -> Result<()> {
        match losses.iter().position(|loss| !loss.is_finite()) {
            None => Ok(()),
            Some(index) => Err(Error::Diverged {
                model: self.model.model.to_string(),
                loss: losses[index],
                step: before + index + 1,
                learning_rate: self.config.learning_rate,
            }),
        }
    }
}
