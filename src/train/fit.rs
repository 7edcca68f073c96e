//! The fit loop: epochs of training steps, each followed by an evaluation.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::programs::BestParameters;
use super::state::{Outcome, TrainPlan, TrainProgress, TrainState};
use super::{Series, Shuffle, Trainer, TrainingConfig};
use crate::backend::{Backend, Session};
use crate::dataset::Starts;
use crate::error::{Error, Result};
use crate::graph::Tensor;
use crate::metrics::Metrics;
use crate::model::{initial_values, rearrange};
use crate::profile::Profile;
use crate::schedule::Rates;

/// Scores after an epoch, in scaled units, over forecasts with the window's normalisation undone.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochScore {
    /// Mean squared error of the training forecasts, each made before the step that learns from it.
    pub train_mse: f64,
    /// Mean squared error on the validation windows after the epoch.
    pub valid_mse: f64,
    /// The loss over the validation forecasts after the epoch, in units of the scaled series; early stopping and plateaus go by it.
    pub valid_loss: f64,
    /// The learning rate of the epoch's last step.
    pub learning_rate: f32,
}

/// By how much of the start's validation loss an epoch must be better to be kept in its place: less is chance, the best of many draws.
pub const LEAST_GAIN: f64 = 0.01;

/// The result of a training.
#[derive(Clone, Debug)]
pub struct Fit {
    /// Scores, an epoch each.
    pub epochs: Vec<EpochScore>,
    /// The epoch, counted from 1, whose parameters and forecasts these are: the last one, or with early stopping the best one, which is 0
    /// where no epoch was better than the start by [`LEAST_GAIN`].
    pub best_epoch: usize,
    /// The loss before each step, in the units of [`TrainingConfig::loss_units`](super::TrainingConfig::loss_units).
    pub losses: Vec<f32>,
    /// Forecasts of the validation windows, `(window, horizon, target, level)`, scaled; one level but for a quantile loss.
    pub forecasts: Vec<f32>,
    /// Scores of the forecasts, scaled.
    pub metrics: Metrics,
    /// Every parameter's values, in the order of [`Graph::parameters`](crate::graph::Graph::parameters).
    pub parameters: Vec<Vec<f32>>,
    /// Where training ended, whichever epoch was kept.
    pub last: TrainState,
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
    /// Steps were done.
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

/// Where a training is, on the host.
struct Run {
    progress: TrainProgress,
    losses: Vec<f32>,
    rates: Rates,
    best: Best,
}

/// The best epoch so far.
struct Best {
    /// Counted from 1; 0 before the first is over, and where none has been better than the start.
    epoch: usize,
    loss: f64,
    /// Its forecasts, where it was evaluated since the training began or went on.
    forecasts: Option<Vec<f32>>,
}

impl Run {
    /// Records the loss before the first step.
    fn begin(&mut self, loss: f64) {
        self.progress.start_loss = Some(loss);
        self.best.loss = loss;
    }

    /// Records an epoch's score. Returns whether it is the best so far.
    fn observe(&mut self, score: EpochScore, keeps_best: bool) -> bool {
        self.rates.observe(score.valid_loss);
        let is_best = !keeps_best || score.valid_loss < self.best.loss;
        if is_best {
            self.best = Best { epoch: self.progress.epochs.len() + 1, loss: score.valid_loss, forecasts: None };
        }
        self.progress.epochs.push(score);
        is_best
    }
}

impl Trainer {
    /// Trains on a backend. `observe` hears of progress, first when one step is done.
    ///
    /// # Errors
    /// [`Error::Diverged`] where a loss is not finite; [`Error::Gpu`] where the device fails; [`Error::Shape`] where the series is not what
    /// the trainer was built for.
    pub async fn fit(&self, backend: &dyn Backend, series: &Series<'_>, observe: &mut dyn FnMut(Event)) -> Result<Fit> {
        let mut go_on = |event| {
            observe(event);
            ControlFlow::Continue(())
        };
        match self.fit_from(backend, series, None, &mut go_on).await? {
            Outcome::Finished(fit) => Ok(*fit),
            Outcome::Stopped(_) => Err(Error::Unsupported { operation: "training", what: message!("it stopped without being asked to") }),
        }
    }

    /// Trains on a backend, from the beginning or from where another training of the same plan stopped. `observe` hears of progress and may
    /// break: the training then stops at once, which is after some steps or an epoch, and can go on later.
    ///
    /// # Errors
    /// As [`Trainer::fit`]; [`Error::Unsupported`] where the state is of a training of another plan.
    pub async fn fit_from(
        &self,
        backend: &dyn Backend,
        series: &Series<'_>,
        state: Option<&TrainState>,
        observe: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<Outcome> {
        let mut session = self.load(backend, series).await?;
        let session = &mut *session;
        let n_step = self.config.epochs * self.n_train_step;
        let rates = Rates::new(self.config.schedule, f64::from(self.config.learning_rate), n_step);
        let best = Best { epoch: 0, loss: f64::INFINITY, forecasts: None };
        let mut run = Run { progress: TrainProgress::default(), losses: Vec::new(), rates, best };
        match (state, &self.best) {
            (Some(state), _) => self.restore(session, state, series, &mut run)?,
            (None, Some(programs)) => {
                let forecasts = self.evaluation.forecast(session, &self.graph, &series.valid).await?;
                run.begin(self.loss(&forecasts, &series.valid, series)?);
                run.best.forecasts = Some(forecasts);
                session.run(programs.keep, 1)?;
            }
            (None, None) => {}
        }
        let mut order = Vec::new();
        while run.progress.epochs.len() < self.config.epochs && !self.is_out_of_patience(&run) {
            let epoch = run.progress.epochs.len() + 1;
            if order.is_empty() || self.config.shuffle == Shuffle::Epoch {
                order = self.order(&series.train, epoch);
            }
            if self.train_epoch(session, series, &order, &mut run, observe).await?.is_break() {
                return Ok(Outcome::Stopped(Box::new(self.state(session, series, &run).await?)));
            }
            let forecasts = self.evaluation.forecast(session, &self.graph, &series.valid).await?;
            let score = EpochScore {
                train_mse: run.progress.squared_errors / self.n_value(order.len()),
                valid_mse: self.score(&forecasts, &series.valid, series)?.mse,
                valid_loss: self.loss(&forecasts, &series.valid, series)?,
                learning_rate: run.rates.of(run.losses.len() - 1..run.losses.len())[0],
            };
            self.check_finite(&[score.valid_loss as f32], run.losses.len() - 1)?;
            run.progress.squared_errors = 0.0;
            if run.observe(score, self.best.is_some()) {
                run.best.forecasts = Some(forecasts);
                if let Some(programs) = &self.best {
                    session.run(programs.keep, 1)?;
                }
            }
            let is_over = epoch == self.config.epochs || self.is_out_of_patience(&run);
            if observe(Event::Epoch { epoch, score }).is_break() && !is_over {
                return Ok(Outcome::Stopped(Box::new(self.state(session, series, &run).await?)));
            }
        }
        self.finish(session, series, run).await.map(|fit| Outcome::Finished(Box::new(fit)))
    }

    /// Whether early stopping ends the training.
    fn is_out_of_patience(&self, run: &Run) -> bool {
        self.config.patience.is_some_and(|patience| run.progress.epochs.len() - run.best.epoch >= patience)
    }

    async fn finish(&self, session: &mut dyn Session, series: &Series<'_>, mut run: Run) -> Result<Fit> {
        let last = self.state(session, series, &run).await?;
        match (&self.best, run.progress.start_loss) {
            (Some(_), Some(start)) if run.best.epoch > 0 && run.best.loss > (1.0 - LEAST_GAIN) * start => {
                self.begin(session)?;
                run.best = Best { epoch: 0, loss: start, forecasts: None };
            }
            (Some(programs), _) => session.run(programs.restore, 1)?,
            (None, _) => {}
        }
        let mut parameters = Vec::new();
        for parameter in self.graph.parameters() {
            parameters.push(session.read(parameter.tensor).await?);
        }
        let forecasts = match run.best.forecasts {
            Some(forecasts) => forecasts,
            None => self.evaluation.forecast(session, &self.graph, &series.valid).await?,
        };
        let order = self.order(&series.train, 1);
        let persistent: f64 =
            order.iter().flat_map(|&start| self.squared_errors(self.repeated(start as usize, series), start, series)).sum();
        Ok(Fit {
            best_epoch: run.best.epoch,
            steps: run.losses.len(),
            losses: run.losses,
            metrics: self.score(&forecasts, &series.valid, series)?,
            forecasts,
            parameters,
            seconds: run.progress.seconds,
            epochs: run.progress.epochs,
            last,
            train_persistence_mse: persistent / self.n_value(order.len()),
        })
    }

    /// What a training step spends its time on: the fastest of some, after one that warms up.
    ///
    /// # Errors
    /// [`Error::Gpu`] where the device fails, [`Error::Shape`] where the series is not what the trainer was built for.
    pub async fn profile(&self, backend: &dyn Backend, series: &Series<'_>) -> Result<Profile> {
        let mut session = self.load(backend, series).await?;
        session.write(self.learning_rates, &vec![self.config.learning_rate; self.slice])?;
        let order = self.order(&series.train, 1);
        self.train.begin(&mut *session, &self.graph, &order[..self.slice * self.config.batch], 0)?;
        Profile::fastest(&mut *session, self.train.program).await
    }

    /// The graph on a backend with the first parameters and the data.
    async fn load<'a>(&'a self, backend: &'a dyn Backend, series: &Series<'_>) -> Result<Box<dyn Session + 'a>> {
        let mut session = backend.load(&self.graph).await?;
        self.begin(&mut *session)?;
        self.series.write(&mut *session, series)?;
        if let Some((mask, values)) = &self.l1_mask {
            session.write(*mask, values)?;
        }
        Ok(session)
    }

    /// Writes the parameters that training starts from.
    fn begin(&self, session: &mut dyn Session) -> Result<()> {
        let drawn = initial_values(&self.graph, self.config.seed);
        drawn.iter().chain(&self.initial).try_for_each(|(tensor, values)| session.write(*tensor, values))
    }

    fn train_plan(&self, series: &Series<'_>) -> TrainPlan {
        TrainPlan {
            model: self.model.clone(),
            training: self.config.clone(),
            steps_per_epoch: self.n_train_step,
            series: series.fingerprint(),
        }
    }

    async fn state(&self, session: &dyn Session, series: &Series<'_>, run: &Run) -> Result<TrainState> {
        let mut tensors = BTreeMap::new();
        for (name, tensor) in self.kept() {
            tensors.insert(name, session.read(tensor).await?);
        }
        Ok(TrainState { plan: self.train_plan(series), progress: run.progress.clone(), losses: run.losses.clone(), tensors })
    }

    /// Checks that a training of this plan on these series can go on from a state.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where it is of a training of another plan or of other values.
    pub fn check_state(&self, state: &TrainState, series: &Series<'_>) -> Result<()> {
        state.check(&self.train_plan(series))
    }

    fn restore(&self, session: &mut dyn Session, state: &TrainState, series: &Series<'_>, run: &mut Run) -> Result<()> {
        self.check_state(state, series)?;
        for (name, tensor) in self.kept() {
            let values = state.tensors.get(&name);
            let missing = || Error::Unsupported { operation: "resume", what: message!("the state has no tensor {}: begin anew", name) };
            session.write(tensor, values.ok_or_else(missing)?)?;
        }
        if let Some(loss) = state.progress.start_loss {
            run.begin(loss);
        }
        for &score in &state.progress.epochs {
            run.observe(score, self.best.is_some());
        }
        run.progress = state.progress.clone();
        run.losses.clone_from(&state.losses);
        Ok(())
    }

    /// The tensors that one step leaves to the next, by name.
    fn kept(&self) -> Vec<(String, Tensor)> {
        let is_kept = |label: &str| matches!(label, "optimizer.first" | "optimizer.second" | BestParameters::LABEL);
        let states = self.graph.tensors().filter(|(_, spec)| is_kept(&spec.label)).map(|(tensor, spec)| (spec.label.clone(), tensor));
        let carried = self.train.states.iter().map(|&tensor| (self.graph.spec(tensor).label.clone(), tensor));
        let parameters = self.graph.parameters().iter().map(|parameter| (parameter.name.clone(), parameter.tensor));
        parameters.chain(states).chain(carried).collect()
    }

    /// First rows of the windows of an epoch, counted from 1, `(step, batch)`, of all those given. Where states are carried, each row of the
    /// batch walks through the newest windows of a stretch of its own.
    ///
    /// Shuffled once, what fills no batch is left out at the old end: only where every epoch takes the same windows in the same order do
    /// the epochs' losses compare, and shuffling anew adds more noise than an epoch gains on prices.
    fn order(&self, windows: &Starts, epoch: usize) -> Vec<u32> {
        let TrainingConfig { batch, window, carry_state, shuffle, seed, .. } = self.config;
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        if carry_state {
            let (n_row, offset) = (windows.len() / batch, random.random_range(0..window));
            let left_out = (n_row / window - self.n_train_step) * window;
            let stretch = |step: usize| (0..batch).map(move |row| row * n_row + offset + left_out + step * window);
            let first = windows.get(0).unwrap_or(0);
            return (0..self.n_train_step).flat_map(stretch).map(|at| (first + at) as u32).collect();
        }
        if shuffle == Shuffle::Epoch {
            random.set_stream(epoch as u64);
            let mut order: Vec<u32> = windows.iter().map(|row| row as u32).collect();
            order.shuffle(&mut random);
            order.truncate(self.n_train_step * batch);
            return order;
        }
        let left_out = windows.len() - self.n_train_step * batch;
        let mut order: Vec<u32> = windows.iter().skip(left_out).map(|row| row as u32).collect();
        order.shuffle(&mut random);
        order
    }

    pub(super) fn n_row(&self, series: &Series<'_>) -> usize {
        series.values.len() / self.model.features
    }

    /// Returns the number of values that `n_window` windows are scored on.
    fn n_value(&self, n_window: usize) -> f64 {
        (n_window * self.model.horizon * self.model.targets) as f64
    }

    /// Squared errors of a forecast `(horizon, target)` of what follows a window.
    fn squared_errors<'a>(
        &self,
        forecast: impl Iterator<Item = f64> + 'a,
        start: u32,
        series: &'a Series<'_>,
    ) -> impl Iterator<Item = f64> + 'a {
        forecast.zip(self.following(start as usize, series)).map(|(forecast, actual)| (forecast - actual) * (forecast - actual))
    }

    /// Runs the steps that are left of an epoch, a slice after the other.
    async fn train_epoch(
        &self,
        session: &mut dyn Session,
        series: &Series<'_>,
        order: &[u32],
        run: &mut Run,
        observe: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>> {
        let total = self.config.epochs * self.n_train_step;
        let n_done = run.losses.len() - run.progress.epochs.len() * self.n_train_step;
        if n_done == 0 {
            self.train.clear_states(session, &self.graph)?;
        }
        // the very first step by itself, so that `observe` hears when the device has begun
        let n_first = if run.losses.is_empty() { self.config.batch } else { 0 };
        let (one, others) = order[n_done * self.config.batch..].split_at(n_first);
        for starts in one.chunks(self.config.batch).chain(others.chunks(self.slice * self.config.batch)) {
            let (first, count) = (run.losses.len(), starts.len() / self.config.batch);
            let mut slice_rates = run.rates.of(first..first + count);
            slice_rates.resize(self.slice, slice_rates[count - 1]);
            session.write(self.learning_rates, &slice_rates)?;
            self.train.begin(session, &self.graph, starts, first)?;
            session.wait().await?;
            let clock = web_time::Instant::now();
            session.run(self.train.program, count)?;
            session.wait().await?;
            run.progress.seconds += clock.elapsed().as_secs_f64();
            let losses = &session.read(self.losses).await?[..count];
            self.check_finite(losses, first)?;
            run.losses.extend(losses);
            let mut forecasts = session.read(self.train.forecasts).await?;
            rearrange(&mut forecasts, self.model.levels);
            let forecasts = self.central(&forecasts);
            for (&start, forecast) in starts.iter().zip(forecasts.chunks(self.model.horizon * self.model.targets)) {
                let forecast = forecast.iter().map(|&value| f64::from(value));
                let squares = &mut run.progress.squared_errors;
                *squares = self.squared_errors(forecast, start, series).fold(*squares, |sum, square| sum + square);
            }
            if observe(Event::Steps { done: first + count, total }).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
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
