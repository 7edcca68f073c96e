//! Forecasts of a stream of rows, in one of two forms.

use super::{ForecasterConfig, StepGraph, StepStream, WindowGraph, WindowStream};
use crate::backend::Backend;
use crate::error::Result;
use crate::graph::Graph;
use crate::ops::Normalisation;

/// The program that a model is streamed by.
#[derive(Debug)]
pub enum StreamGraph {
    /// The step form, with states that are kept from row to row.
    Steps(StepGraph),
    /// A forecast from the last window, as from every window that was scored, unless states were carried.
    Windows(WindowGraph),
}

impl StreamGraph {
    /// Records the step form of one sequence; [`Stream::walk`] takes `n_walk` rows at once.
    ///
    /// # Errors
    /// As [`StepGraph::walking`].
    pub fn steps(config: &ForecasterConfig, n_walk: usize) -> Result<Self> {
        StepGraph::walking(config, 1, n_walk).map(StreamGraph::Steps)
    }

    /// Records the forecast from a window of `window` rows.
    ///
    /// # Errors
    /// As [`WindowGraph::new`].
    pub fn windows(config: &ForecasterConfig, window: usize, normalisation: Normalisation) -> Result<Self> {
        WindowGraph::new(config, window, normalisation).map(StreamGraph::Windows)
    }

    /// The graph, for its parameters' names and shapes.
    pub fn graph(&self) -> &Graph {
        match self {
            StreamGraph::Steps(steps) => steps.graph(),
            StreamGraph::Windows(windows) => windows.graph(),
        }
    }

    /// Loads the program on a backend, before its first row, with the values of all parameters, in the order of [`Graph::parameters`].
    ///
    /// # Errors
    /// As [`StepGraph::load`] and [`WindowGraph::load`].
    pub async fn load<'a>(&'a self, backend: &'a dyn Backend, parameters: &[Vec<f32>]) -> Result<Stream<'a>> {
        Ok(match self {
            StreamGraph::Steps(steps) => Stream::Steps(steps.load(backend, parameters).await?),
            StreamGraph::Windows(windows) => Stream::Windows(windows.load(backend, parameters).await?),
        })
    }
}

/// A stream of either form on a device.
pub enum Stream<'a> {
    /// By the step form.
    Steps(StepStream<'a>),
    /// By the last window.
    Windows(WindowStream<'a>),
}

impl Stream<'_> {
    /// Takes a row, scaled, `(feature)`. Returns the forecast after it, `(horizon, target, level)`; none before the first full window.
    ///
    /// # Errors
    /// As [`StepStream::step`] and [`WindowStream::step`].
    pub async fn step(&mut self, row: &[f32]) -> Result<Option<Vec<f32>>> {
        match self {
            Stream::Steps(stream) => stream.step(row).await.map(Some),
            Stream::Windows(stream) => stream.step(row).await,
        }
    }

    /// Takes several rows, scaled, `(row, feature)`. Returns the forecast after the last, as [`Stream::step`] does.
    ///
    /// # Errors
    /// As [`StepStream::walk`] and [`WindowStream::step`].
    pub async fn walk(&mut self, rows: &[f32]) -> Result<Option<Vec<f32>>> {
        match self {
            Stream::Steps(stream) => stream.walk(rows).await.map(Some),
            Stream::Windows(stream) => {
                let mut forecast = None;
                for row in rows.chunks(stream.n_feature()) {
                    forecast = stream.step(row).await?;
                }
                Ok(forecast)
            }
        }
    }
}
