//! What a trainer records: the programs of a training step, of an evaluation and of early stopping.

use super::evaluation::{Evaluation, EvaluationPlan, spare_rows};
use super::{Series, TrainingConfig};
use crate::backend::Session;
use crate::error::Result;
use crate::graph::{Graph, Program, Tensor};
use crate::model::{Forecast, Forecaster, ForecasterConfig, Pass};
use crate::ops::{DropoutSource, Elementwise, Window, WindowSource};

/// Programs that keep the parameters of the best epoch on the device.
#[derive(Debug)]
pub(super) struct BestParameters {
    pub(super) keep: Program,
    pub(super) restore: Program,
}

impl BestParameters {
    /// Label of the state that they are kept in.
    pub(super) const LABEL: &str = "best_parameters";

    pub(super) fn new(graph: &mut Graph) -> Self {
        let parameters = graph.flat_parameters();
        let shape = graph.shape(parameters).to_vec();
        let best = graph.state(Self::LABEL, &shape);
        graph.push(Elementwise::Copy { x: parameters, y: best });
        let keep = graph.finish("keep");
        graph.push(Elementwise::Copy { x: best, y: parameters });
        BestParameters { keep, restore: graph.finish("restore") }
    }
}

/// A program, training or evaluation, and its tensors.
#[derive(Debug)]
pub(super) struct WindowProgram {
    pub(super) program: Program,
    /// First rows of the windows, `(step, batch)`.
    pub(super) starts: Tensor,
    pub(super) counter: Tensor,
    /// `(window, horizon, target * level)`.
    pub(super) forecasts: Tensor,
    /// States that each run leaves to the next.
    pub(super) states: Vec<Tensor>,
}

impl WindowProgram {
    /// Writes the rows at which windows begin, of as many steps as are run next or fewer than there is room for, and the count of steps
    /// before them.
    pub(super) fn begin(&self, session: &mut dyn Session, graph: &Graph, starts: &[u32], n_before: usize) -> Result<()> {
        let mut rows = starts.to_vec();
        rows.resize(graph.spec(self.starts).len(), starts.last().copied().unwrap_or(0));
        session.write_indices(self.starts, &rows)?;
        session.write_indices(self.counter, &[0, n_before as u32])
    }

    /// Lets the next run begin at zero states.
    pub(super) fn clear_states(&self, session: &mut dyn Session, graph: &Graph) -> Result<()> {
        self.states.iter().try_for_each(|&state| session.write(state, &vec![0.0; graph.spec(state).len()]))
    }
}

/// The series on a device and which of its features are forecast.
#[derive(Clone, Copy, Debug)]
pub(super) struct SeriesTensors {
    /// `(row, features)`, spare rows behind the series among them.
    values: Tensor,
    /// Values of the spare rows.
    n_spare: usize,
    /// The features that are forecast, `(target)`: the first ones.
    targets: Tensor,
    n_target: usize,
}

impl SeriesTensors {
    pub(super) fn write(&self, session: &mut dyn Session, series: &Series<'_>) -> Result<()> {
        match self.n_spare {
            0 => session.write(self.values, series.values)?,
            n_spare => session.write(self.values, &[series.values, &vec![0.0; n_spare]].concat())?,
        }
        session.write_indices(self.targets, &(0..self.n_target as u32).collect::<Vec<_>>())
    }
}

/// What the programs are recorded from.
pub(super) struct Recorder<'a> {
    config: &'a TrainingConfig,
    model: &'a ForecasterConfig,
    forecaster: Forecaster,
    pub(super) series: SeriesTensors,
}

/// A program under construction.
pub(super) struct OpenProgram {
    pub(super) starts: Tensor,
    pub(super) counter: Tensor,
    pub(super) window: Window,
    pub(super) forecast: Forecast,
    pub(super) states: Vec<Tensor>,
}

impl<'a> Recorder<'a> {
    /// Adds the model and a series of `n_row` rows to a graph.
    pub(super) fn new(graph: &mut Graph, model: &'a ForecasterConfig, config: &'a TrainingConfig, n_row: usize) -> Result<Self> {
        let forecaster = Forecaster::new(graph, model)?;
        let n_spare = spare_rows(config, model);
        let values = graph.input("series", &[n_row + n_spare, model.features]);
        let targets = graph.indices("targets", &[model.targets]);
        Ok(Recorder {
            config,
            model,
            forecaster,
            series: SeriesTensors { values, n_spare: n_spare * model.features, targets, n_target: model.targets },
        })
    }

    /// The program that forecasts windows, for evaluations of `n_window` of them.
    pub(super) fn evaluation(&self, graph: &mut Graph, n_window: usize) -> Result<Evaluation> {
        let plan = EvaluationPlan::new(self.config, n_window, self.model);
        let evaluation = self.record(graph, "evaluation", plan.sizes(), false)?;
        let program = self.finish(graph, "evaluation", evaluation, &plan.forecasts(self.model.horizon))?;
        Ok(Evaluation { plan, program })
    }

    /// `n_step` times a batch of windows, and the forecasts after them, or after every step where a walk needs them.
    pub(super) fn record(
        &self,
        graph: &mut Graph,
        name: &str,
        [n_step, n_batch, length]: [usize; 3],
        is_training: bool,
    ) -> Result<OpenProgram> {
        let starts = graph.indices(&format!("{name}.starts"), &[n_step, n_batch]);
        let counter = graph.indices(&format!("{name}.counter"), &[2]);
        let TrainingConfig { normalisation, dropout, seed, carry_state, .. } = *self.config;
        let (SeriesTensors { values, targets, .. }, horizon) = (self.series, self.model.horizon);
        let source = WindowSource { series: values, starts, targets, counter, n_step: length, horizon, normalisation };
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
        Ok(OpenProgram { starts, counter, window, forecast, states })
    }

    /// Collects the forecasts, hands the states to the next run, and closes the program.
    pub(super) fn finish(&self, graph: &mut Graph, name: &str, recorded: OpenProgram, shape: &[usize]) -> Result<WindowProgram> {
        let OpenProgram { starts, counter, window, forecast, states } = recorded;
        let forecasts = graph.tensor(&format!("{name}.forecasts"), shape);
        graph.restore(forecast.y, &window, counter, forecasts)?;
        for (&x, &y) in forecast.last_states.iter().zip(&states) {
            graph.push(Elementwise::Copy { x, y });
        }
        graph.advance(counter)?;
        Ok(WindowProgram { program: graph.finish(name), starts, counter, forecasts, states })
    }
}

/// Pushes an L1 penalty on every parameter that is not a bias. Returns its mask and the mask's values.
pub(super) fn l1_penalty(graph: &mut Graph, strength: f32) -> Result<(Tensor, Vec<f32>)> {
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
