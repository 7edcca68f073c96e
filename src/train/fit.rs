//! The fit loop: epochs of training steps, each followed by an evaluation.

use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::{Series, Trainer, TrainingConfig};
use crate::backend::{Backend, Session};
use crate::dataset::Starts;
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::model::initial_values;
use crate::profile::Profile;
use crate::schedule::Rates;

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
    /// Every parameter's values, in the order of [`Graph::parameters`](crate::graph::Graph::parameters).
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

/// The best epoch so far.
struct Best {
    /// Counted from 1.
    epoch: usize,
    loss: f64,
    forecasts: Vec<f32>,
}

/// What the slices of an epoch add to.
struct Slices<'a> {
    /// Of all steps so far.
    losses: &'a mut Vec<f32>,
    /// Of all steps so far.
    seconds: &'a mut f64,
    /// Sum of the epoch's squared errors.
    squares: f64,
}

impl Trainer {
    /// Trains on a backend. `observe` hears of progress, first when one step is done.
    ///
    /// # Errors
    /// [`Error::Diverged`] where a loss is not finite; [`Error::Gpu`] where the device fails; [`Error::Shape`] where the series is not what
    /// the trainer was built for.
    pub async fn fit(&self, backend: &dyn Backend, series: &Series<'_>, observe: &mut dyn FnMut(Event)) -> Result<Fit> {
        let mut session = self.load(backend, series).await?;
        let n_step = self.config.epochs * self.n_train_step;
        let mut rates = Rates::new(self.config.schedule, f64::from(self.config.learning_rate), n_step);
        let order = self.order(&series.train);
        let (mut epochs, mut losses, mut seconds) = (Vec::new(), Vec::new(), 0.0);
        let mut best = Best { epoch: 0, loss: f64::INFINITY, forecasts: Vec::new() };
        for epoch in 1..=self.config.epochs {
            let mut train = Slices { losses: &mut losses, seconds: &mut seconds, squares: 0.0 };
            let learning_rate = self.train_epoch(&mut *session, series, &order, &rates, &mut train, observe).await?;
            let train_mse = train.squares / self.n_value(order.len());
            let forecasts = self.plan.run(&mut *session, &self.graph, &self.evaluation, &series.valid).await?;
            let score = EpochScore {
                train_mse,
                valid_mse: self.score(&forecasts, &series.valid, series).mse,
                valid_loss: self.loss(&forecasts, &series.valid, series),
                learning_rate,
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
        let metrics = self.score(&best.forecasts, &series.valid, series);
        let steps = losses.len();
        let persistent: f64 =
            order.iter().flat_map(|&start| self.squared_errors(self.repeated(start as usize, series), start, series)).sum();
        let train_persistence_mse = persistent / self.n_value(order.len());
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

    /// What a training step spends its time on: the fastest of some, after one that warms up.
    ///
    /// # Errors
    /// [`Error::Gpu`] where the device fails, [`Error::Shape`] where the series is not what the trainer was built for.
    pub async fn profile(&self, backend: &dyn Backend, series: &Series<'_>) -> Result<Profile> {
        let mut session = self.load(backend, series).await?;
        session.write(self.learning_rates, &vec![self.config.learning_rate; self.slice])?;
        let order = self.order(&series.train);
        self.train.begin(&mut *session, &self.graph, &order[..self.slice * self.config.batch], 0)?;
        Profile::fastest(&mut *session, self.train.program).await
    }

    /// The graph on a backend with the first parameters and the data.
    async fn load<'a>(&'a self, backend: &'a dyn Backend, series: &Series<'_>) -> Result<Box<dyn Session + 'a>> {
        let mut session = backend.load(&self.graph).await?;
        for (tensor, values) in initial_values(&self.graph, self.config.seed).iter().chain(&self.initial) {
            session.write(*tensor, values)?;
        }
        self.write_data(&mut *session, series)?;
        if let Some((mask, values)) = &self.l1_mask {
            session.write(*mask, values)?;
        }
        Ok(session)
    }

    /// First rows of the windows of every epoch, `(step, batch)`, of all those in `rows`.
    ///
    /// They are shuffled once, and what fills no batch is left out at the old end: only where every epoch takes the same windows in the same
    /// order do the epochs' losses compare. Shuffling anew adds more noise than an epoch gains on prices.
    fn order(&self, windows: &Starts) -> Vec<u32> {
        let TrainingConfig { batch, window, carry_state, seed, .. } = self.config;
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        if carry_state {
            let (n_row, offset) = (windows.len() / batch, random.random_range(0..window));
            let stretch = |step: usize| (0..batch).map(move |row| row * n_row + offset + step * window);
            let first = windows.get(0).unwrap_or(0);
            return (0..self.n_train_step).flat_map(stretch).map(|at| (first + at) as u32).collect();
        }
        let left_out = windows.len() - self.n_train_step * batch;
        let mut order: Vec<u32> = windows.iter().skip(left_out).map(|row| row as u32).collect();
        order.shuffle(&mut random);
        order
    }

    /// Values that so many windows are scored on.
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

    fn write_data(&self, session: &mut dyn Session, series: &Series<'_>) -> Result<()> {
        session.write(self.series, series.values)?;
        session.write_indices(self.targets, &(0..self.model.targets as u32).collect::<Vec<_>>())
    }

    /// Forecasts of windows with given parameters, `(window, horizon, target, level)`, scaled.
    ///
    /// # Errors
    /// [`Error::Gpu`] where the device fails, [`Error::Shape`] where the parameters are not this model's or the series is not what the
    /// trainer was built for.
    pub async fn forecast(
        &self,
        backend: &dyn Backend,
        series: &Series<'_>,
        windows: &Starts,
        parameters: &[Vec<f32>],
    ) -> Result<Vec<f32>> {
        let mut session = backend.load(&self.graph).await?;
        for (parameter, values) in self.graph.parameters().iter().zip(parameters) {
            session.write(parameter.tensor, values)?;
        }
        self.write_data(&mut *session, series)?;
        self.plan.run(&mut *session, &self.graph, &self.evaluation, windows).await
    }

    /// Runs an epoch's steps, a slice after the other; the learning rate of the last one.
    async fn train_epoch(
        &self,
        session: &mut dyn Session,
        series: &Series<'_>,
        order: &[u32],
        rates: &Rates,
        train: &mut Slices<'_>,
        observe: &mut dyn FnMut(Event),
    ) -> Result<f32> {
        let total = self.config.epochs * self.n_train_step;
        let mut learning_rate = 0.0;
        self.train.clear_states(session, &self.graph)?;
        // the very first step by itself, so that `observe` hears when the device has begun
        let n_first = if train.losses.is_empty() { self.config.batch } else { 0 };
        let (first, others) = order.split_at(n_first);
        for starts in first.chunks(self.config.batch).chain(others.chunks(self.slice * self.config.batch)) {
            let (first, count) = (train.losses.len(), starts.len() / self.config.batch);
            let mut slice_rates = rates.of(first..first + count);
            learning_rate = slice_rates[count - 1];
            slice_rates.resize(self.slice, learning_rate);
            session.write(self.learning_rates, &slice_rates)?;
            self.train.begin(session, &self.graph, starts, first)?;
            session.wait().await?;
            let clock = web_time::Instant::now();
            session.run(self.train.program, count)?;
            session.wait().await?;
            *train.seconds += clock.elapsed().as_secs_f64();
            let losses = &session.read(self.losses).await?[..count];
            self.check_finite(losses, first)?;
            train.losses.extend(losses);
            let forecasts = self.central(&session.read(self.train.forecasts).await?);
            for (&start, forecast) in starts.iter().zip(forecasts.chunks(self.model.horizon * self.model.targets)) {
                let forecast = forecast.iter().map(|&value| f64::from(value));
                train.squares = self.squared_errors(forecast, start, series).fold(train.squares, |sum, square| sum + square);
            }
            observe(Event::Steps { done: first + count, total });
        }
        Ok(learning_rate)
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
