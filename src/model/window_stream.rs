//! Forecasts of a stream of rows from its last window.

use std::collections::VecDeque;

use super::quantiles::rearrange;
use super::{Forecaster, ForecasterConfig, Pass};
use crate::backend::{Backend, Session, write_parameters};
use crate::error::{Error, Result};
use crate::graph::{Graph, Program, Tensor};
use crate::ops::{Normalisation, WindowSource};

/// The program that forecasts from one window, normalised as in training.
#[derive(Debug)]
pub struct WindowGraph {
    graph: Graph,
    program: Program,
    /// `(window + horizon, features)`; the rows behind the window are not looked at.
    series: Tensor,
    targets: Tensor,
    /// `(1, horizon, target * level)`.
    y: Tensor,
    window: usize,
    horizon: usize,
    features: usize,
    n_target: usize,
    n_level: usize,
}

impl WindowGraph {
    /// Records the forecast from a window of the given number of rows.
    ///
    /// # Errors
    /// As [`Forecaster::new`].
    pub fn new(config: &ForecasterConfig, window: usize, normalisation: Normalisation) -> Result<Self> {
        let ForecasterConfig { features, horizon, targets: n_target, levels, .. } = *config;
        let mut graph = Graph::new();
        let forecaster = Forecaster::new(&mut graph, config)?;
        let series = graph.input("series", &[window + horizon, features]);
        let (starts, targets) = (graph.indices("starts", &[1, 1]), graph.indices("targets", &[n_target]));
        let counter = graph.indices("counter", &[2]);
        let source = WindowSource { series, starts, targets, counter, n_step: window, horizon, normalisation };
        let gathered = graph.window("window", &source)?;
        let forecast = forecaster.forward(&mut graph, gathered.x, &Pass::default())?.y;
        let y = graph.tensor("restored", &[1, horizon, n_target * levels]);
        graph.restore(forecast, &gathered, counter, y)?;
        let program = graph.finish("window");
        Ok(WindowGraph { graph, program, series, targets, y, window, horizon, features, n_target, n_level: levels })
    }

    /// The graph, for its parameters' names and shapes.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Loads the program on a backend with the values of all parameters, in the order of [`Graph::parameters`].
    ///
    /// # Errors
    /// [`Error::Shape`] where the parameters are not this model's, [`Error::Gpu`] where the device fails.
    pub async fn load<'a>(&'a self, backend: &'a dyn Backend, parameters: &[Vec<f32>]) -> Result<WindowStream<'a>> {
        let mut session = backend.load(&self.graph).await?;
        write_parameters(&mut *session, &self.graph, parameters)?;
        session.write_indices(self.targets, &(0..self.n_target as u32).collect::<Vec<_>>())?;
        Ok(WindowStream { windows: self, session, rows: VecDeque::new() })
    }
}

/// A sequence that is forecast window by window; it keeps the rows of one window.
pub struct WindowStream<'a> {
    windows: &'a WindowGraph,
    session: Box<dyn Session + 'a>,
    rows: VecDeque<f32>,
}

impl WindowStream<'_> {
    /// Values of a row.
    pub(super) fn n_feature(&self) -> usize {
        self.windows.features
    }

    /// Takes the next row, `(features)`, and returns the forecast from the window that it ends, `(horizon, target, level)`; none until a
    /// window is full.
    ///
    /// # Errors
    /// [`Error::Shape`] where the number of values differs, [`Error::Gpu`] where the device fails.
    pub async fn step(&mut self, row: &[f32]) -> Result<Option<Vec<f32>>> {
        let WindowGraph { series, y, window, horizon, features, program, .. } = *self.windows;
        if row.len() != features {
            return Err(Error::shape("stream", "row", format!("{features} values"), &[row.len()]));
        }
        if self.rows.len() == window * features {
            self.rows.drain(..features);
        }
        self.rows.extend(row);
        if self.rows.len() < window * features {
            return Ok(None);
        }
        let behind = std::iter::repeat_n(0.0, horizon * features);
        self.session.write(series, &self.rows.iter().copied().chain(behind).collect::<Vec<_>>())?;
        self.session.run(program, 1)?;
        let mut forecast = self.session.read(y).await?;
        rearrange(&mut forecast, self.windows.n_level);
        Ok(Some(forecast))
    }
}
