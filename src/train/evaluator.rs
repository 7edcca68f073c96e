//! Forecasts of windows by parameters that are given.

use super::evaluation::Evaluation;
use super::programs::{Recorder, SeriesTensors};
use super::{Series, TrainingConfig};
use crate::backend::{Backend, write_parameters};
use crate::dataset::Starts;
use crate::error::Result;
use crate::graph::Graph;
use crate::model::ForecasterConfig;

/// A trained forecaster's graph with its evaluation alone: no gradients, no optimizer.
///
/// ```
/// use scanrnn::cpu::Cpu;
/// use scanrnn::dataset::Starts;
/// use scanrnn::model::{ForecasterConfig, ModelKind};
/// use scanrnn::train::{Evaluator, Series, Trainer, TrainingConfig};
/// let wave: Vec<f32> = (0..120).map(|row| (row as f32 / 5.0).sin()).collect();
/// let series = Series::new(&wave, 0..80, 80..112);
/// let model = ForecasterConfig::new(ModelKind::MinGruScan, 8);
/// let training = TrainingConfig { window: 8, batch: 8, ..TrainingConfig::lab(model.model) };
/// let trainer = Trainer::new(&model, &training, &series)?;
/// let fit = pollster::block_on(trainer.fit(&Cpu, &series, &mut |_| ()))?;
/// let evaluator = Evaluator::new(&model, &training, &series)?;
/// let forecasts = pollster::block_on(evaluator.forecast(&Cpu, &series, &Starts::from(100..104), &fit.parameters))?;
/// assert_eq!(forecasts, fit.forecasts[20..24]);
/// # Ok::<(), scanrnn::Error>(())
/// ```
#[derive(Debug)]
pub struct Evaluator {
    graph: Graph,
    series: SeriesTensors,
    evaluation: Evaluation,
    n_feature: usize,
    /// Rows that a window and its forecast take.
    n_needed: usize,
}

impl Evaluator {
    /// Builds the graph for series of this size. Of the windows only their number counts; there may be none to train on.
    ///
    /// # Errors
    /// [`Error::Option`](crate::Error::Option) where the model and its training do not agree, [`Error::Shape`](crate::Error::Shape) where a
    /// window does not lie in the series.
    pub fn new(model: &ForecasterConfig, config: &TrainingConfig, series: &Series<'_>) -> Result<Self> {
        let n_row = series.check(model, config)?;
        let mut graph = Graph::new();
        let recorder = Recorder::new(&mut graph, model, config, n_row)?;
        let evaluation = recorder.evaluation(&mut graph, series.valid.len().max(1))?;
        let series = recorder.series;
        graph.share_storages(&[evaluation.program.forecasts]);
        Ok(Evaluator { graph, series, evaluation, n_feature: model.features, n_needed: config.window + model.horizon })
    }

    /// The graph, for its parameters' names and shapes.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Forecasts of windows with given parameters, `(window, horizon, target, level)`, scaled.
    ///
    /// # Errors
    /// [`Error::Gpu`](crate::Error::Gpu) where the device fails, [`Error::Shape`](crate::Error::Shape) where the parameters are not this
    /// model's, the series is not of the size that this was built for or has no such windows.
    pub async fn forecast(
        &self,
        backend: &dyn Backend,
        series: &Series<'_>,
        windows: &Starts,
        parameters: &[Vec<f32>],
    ) -> Result<Vec<f32>> {
        let n_row = series.values.len() / self.n_feature;
        Series::check_within(windows, n_row, self.n_needed)?;
        let mut session = backend.load(&self.graph).await?;
        write_parameters(&mut *session, &self.graph, parameters)?;
        self.series.write(&mut *session, series)?;
        self.evaluation.forecast(&mut *session, &self.graph, windows).await
    }
}
