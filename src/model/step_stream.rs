//! The step form of a forecaster as a session: one row of each sequence in, a forecast out, states kept on the device.

use super::quantiles::rearrange;
use super::{Forecaster, ForecasterConfig, Pass};
use crate::backend::{Backend, Session, write_parameters};
use crate::error::{Error, Result};
use crate::graph::{Graph, Program, Tensor};
use crate::ops::Elementwise;

/// The program of one step for a batch of sequences. Its memory does not depend on how many steps are taken.
///
/// ```
/// use scanrnn::cpu::Cpu;
/// use scanrnn::model::{ForecasterConfig, ModelKind, StepGraph, initial_values};
///
/// # pollster::block_on(async {
/// let steps = StepGraph::new(&ForecasterConfig::new(ModelKind::Mamba, 16), 1)?;
/// let parameters: Vec<_> = initial_values(steps.graph(), 0).into_iter().map(|(_, values)| values).collect();
/// let mut stream = steps.load(&Cpu, &parameters).await?;
/// for x in [0.1, 0.2, 0.3] {
///     let forecast = stream.step(&[x]).await?;
///     assert_eq!(forecast.len(), 1);
/// }
/// # Ok::<(), scanrnn::Error>(())
/// # })?;
/// # Ok::<(), scanrnn::Error>(())
/// ```
#[derive(Debug)]
pub struct StepGraph {
    graph: Graph,
    prepare: Program,
    step: Program,
    /// `(batch, features)`.
    x: Tensor,
    /// `(batch, horizon * targets * levels)`.
    y: Tensor,
    n_level: usize,
    states: Vec<Tensor>,
    most_steps: Option<usize>,
    /// `(batch, 1)`: 1 where the step begins a sequence.
    reset: Tensor,
    walk: Option<Walk>,
}

/// Many steps at once, in the form of a sequence.
#[derive(Debug)]
struct Walk {
    program: Program,
    n_step: usize,
    /// `(batch, step, features)`.
    x: Tensor,
    /// `(batch, horizon * targets * levels)`.
    y: Tensor,
}

impl StepGraph {
    /// Records the step of `n_batch` sequences side by side.
    ///
    /// # Errors
    /// As [`Forecaster::new`].
    pub fn new(config: &ForecasterConfig, n_batch: usize) -> Result<Self> {
        Self::walking(config, n_batch, 1)
    }

    /// As [`StepGraph::new`], with a second program by which [`StepStream::walk`] takes `n_walk` steps at once; none for 1, nor where states
    /// hold a number of steps.
    ///
    /// # Errors
    /// As [`StepGraph::new`].
    pub fn walking(config: &ForecasterConfig, n_batch: usize, n_walk: usize) -> Result<Self> {
        let mut graph = Graph::new();
        let forecaster = Forecaster::new(&mut graph, config)?;
        let x = graph.input("x", &[n_batch, config.features]);
        let shapes = forecaster.state_shapes(n_batch);
        let states: Vec<_> = shapes.iter().enumerate().map(|(index, shape)| graph.state(&format!("state.{index}"), shape)).collect();
        let reset = graph.indices("reset", &[n_batch, 1]);
        let pass = Pass { states: Some(&states), reset: Some(reset), in_place: true, ..Pass::default() };
        let forecast = forecaster.step(&mut graph, x, &pass)?;
        for (&x, &y) in forecast.last_states.iter().zip(&states) {
            if x != y {
                graph.push(Elementwise::Copy { x, y });
            }
        }
        let (prepare, step) = graph.finish_prepared("prepare", "step");
        let y = forecast.y;
        let most_steps = forecaster.most_steps();
        let walk = if n_walk > 1 && most_steps.is_none() {
            let x = graph.input("walk.x", &[n_batch, n_walk, config.features]);
            let forecast = forecaster.forward(&mut graph, x, &Pass { states: Some(&states), ..Pass::default() })?;
            for (&x, &y) in forecast.last_states.iter().zip(&states) {
                graph.push(Elementwise::Copy { x, y });
            }
            Some(Walk { program: graph.finish("walk"), n_step: n_walk, x, y: forecast.y })
        } else {
            None
        };
        Ok(StepGraph { graph, prepare, step, x, y, n_level: config.levels, states, most_steps, reset, walk })
    }

    /// The graph, for its parameters' names and shapes.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Loads the step on a backend with the values of all parameters, in the order of [`Graph::parameters`]. The states are zero.
    ///
    /// # Errors
    /// [`Error::Shape`] where the parameters are not this model's, [`Error::Gpu`] where the device fails.
    pub async fn load<'a>(&'a self, backend: &'a dyn Backend, parameters: &[Vec<f32>]) -> Result<StepStream<'a>> {
        let mut session = backend.load(&self.graph).await?;
        write_parameters(&mut *session, &self.graph, parameters)?;
        session.run(self.prepare, 1)?;
        let n_batch = self.graph.shape(self.x)[0];
        Ok(StepStream { steps: self, session, seen: vec![0; n_batch], begins: None })
    }
}

/// Sequences that are forecast step by step.
pub struct StepStream<'a> {
    steps: &'a StepGraph,
    session: Box<dyn Session + 'a>,
    /// Steps that the states of each row have seen.
    seen: Vec<usize>,
    /// The rows that begin a sequence with the next step, where any was marked.
    begins: Option<Vec<u32>>,
}

impl StepStream<'_> {
    /// Takes the next row of every sequence, `(batch, features)`, and returns the forecasts after it, `(batch, horizon * targets * levels)`.
    ///
    /// # Errors
    /// [`Error::Shape`] where the number of values differs, [`Error::Gpu`] where the device fails, [`Error::Unsupported`] where the states
    /// can hold no further step ([`ForecasterConfig::cache`]).
    pub async fn step(&mut self, x: &[f32]) -> Result<Vec<f32>> {
        self.advance(x)?;
        self.forecast(self.steps.y).await
    }

    /// Takes several rows of every sequence, `(batch, row, features)`, and returns the forecasts after the last, as [`StepStream::step`] does
    /// of each: many at once where the graph is one of [`StepGraph::walking`].
    ///
    /// # Errors
    /// As [`StepStream::step`]; [`Error::Shape`] where there is no row.
    pub async fn walk(&mut self, rows: &[f32]) -> Result<Vec<f32>> {
        let [n_batch, n_feature] = self.steps.graph.axes("stream", self.steps.x)?;
        let n_row = rows.len() / (n_batch * n_feature);
        if n_row == 0 || rows.len() != n_batch * n_row * n_feature {
            return Err(Error::shape("stream", "rows", format!("({n_batch}, rows, {n_feature})"), &[rows.len()]));
        }
        let part = |first: usize, n: usize| -> Vec<f32> {
            rows.chunks(n_row * n_feature).flat_map(|rows| &rows[first * n_feature..(first + n) * n_feature]).copied().collect()
        };
        let steps = self.steps;
        // what fills no walk comes first, by itself; so does a row that begins a sequence
        let n_alone = match &steps.walk {
            None => n_row,
            Some(walk) if self.begins.is_some() && n_row.is_multiple_of(walk.n_step) => walk.n_step,
            Some(walk) => n_row % walk.n_step,
        };
        for row in 0..n_alone {
            self.advance(&part(row, 1))?;
        }
        let Some(walk) = steps.walk.as_ref().filter(|_| n_alone < n_row) else { return self.forecast(steps.y).await };
        for first in (n_alone..n_row).step_by(walk.n_step) {
            self.session.write(walk.x, &part(first, walk.n_step))?;
            self.session.run(walk.program, 1)?;
        }
        for seen in &mut self.seen {
            *seen += n_row - n_alone;
        }
        self.forecast(walk.y).await
    }

    /// Takes a step.
    fn advance(&mut self, x: &[f32]) -> Result<()> {
        if let Some(most) = self.steps.most_steps.filter(|most| self.seen.iter().any(|seen| seen >= most)) {
            let what = message!("its key-value cache of {} steps is full: begin anew, if need be with a larger --cache", most);
            return Err(Error::Unsupported { operation: "stream", what });
        }
        self.session.write(self.steps.x, x)?;
        self.session.run(self.steps.step, 1)?;
        for seen in &mut self.seen {
            *seen += 1;
        }
        self.cancel_begin()
    }

    /// The forecasts that a program left.
    async fn forecast(&self, y: Tensor) -> Result<Vec<f32>> {
        let mut forecast = self.session.read(y).await?;
        rearrange(&mut forecast, self.steps.n_level);
        Ok(forecast)
    }

    /// Begins new sequences at the next step in the marked rows of the batch; the others go on.
    ///
    /// # Errors
    /// [`Error::Shape`] where there are not as many marks as rows.
    pub fn begin(&mut self, rows: &[bool]) -> Result<()> {
        let mut begins: Vec<u32> = rows.iter().map(|&begins| u32::from(begins)).collect();
        // of those that were marked before, no step has begun yet
        for (begins, before) in begins.iter_mut().zip(self.begins.iter().flatten()) {
            *begins |= before;
        }
        self.session.write_indices(self.steps.reset, &begins)?;
        for (seen, _) in self.seen.iter_mut().zip(&begins).filter(|(_, begins)| **begins != 0) {
            *seen = 0;
        }
        self.begins = Some(begins);
        Ok(())
    }

    /// The states after the last step, in the order of [`Forecaster::state_shapes`].
    ///
    /// # Errors
    /// [`Error::Gpu`] where the device fails.
    pub async fn states(&self) -> Result<Vec<Vec<f32>>> {
        let mut states = Vec::new();
        for &state in &self.steps.states {
            states.push(self.session.read(state).await?);
        }
        Ok(states)
    }

    /// Replaces the states, so that a stream goes on where another stopped.
    ///
    /// # Errors
    /// [`Error::Shape`] where the states are not this model's.
    pub fn set_states(&mut self, states: &[Vec<f32>]) -> Result<()> {
        if states.len() != self.steps.states.len() {
            return Err(Error::shape("stream", "states", format!("{} tensors", self.steps.states.len()), &[states.len()]));
        }
        self.cancel_begin()?;
        for (&state, values) in self.steps.states.iter().zip(states) {
            self.session.write(state, values)?;
        }
        self.seen.fill(0);
        // Counts of steps are the only states with one axis.
        let counts = self.steps.states.iter().zip(states).filter(|(state, _)| self.steps.graph.shape(**state).len() == 1);
        for (row, &count) in counts.flat_map(|(_, values)| values.iter().enumerate()) {
            self.seen[row] = self.seen[row].max(count as usize);
        }
        Ok(())
    }

    /// No row begins a sequence with the next step.
    fn cancel_begin(&mut self) -> Result<()> {
        let Some(mut begins) = self.begins.take() else { return Ok(()) };
        begins.fill(0);
        self.session.write_indices(self.steps.reset, &begins)
    }

    /// Begins all sequences anew: every state is zero.
    ///
    /// # Errors
    /// [`Error::Gpu`] where the device fails.
    pub fn reset(&mut self) -> Result<()> {
        self.cancel_begin()?;
        for &state in &self.steps.states {
            self.session.write(state, &vec![0.0; self.steps.graph.spec(state).len()])?;
        }
        self.seen.fill(0);
        Ok(())
    }
}
