//! How windows are forecast in evaluation.

use super::TrainingConfig;
use super::programs::WindowProgram;
use crate::backend::Session;
use crate::dataset::Starts;
use crate::error::Result;
use crate::graph::Graph;
use crate::model::{ForecasterConfig, rearrange};

/// Windows that an evaluation runs at once, at least, where they are not long, and most steps of a walk that it runs at once.
const WIDTH: usize = 128;

/// Rows behind a series of which a walk may read values, which no forecast that is kept comes from: it ends with a whole run.
pub(super) fn spare_rows(config: &TrainingConfig, model: &ForecasterConfig) -> usize {
    if config.carry_state { WIDTH + model.horizon } else { 0 }
}

/// Steps of all windows at once beyond which there are no more of them than in a batch of training.
const MOST_STEPS_AT_ONCE: usize = 1 << 18;

/// Forecasts that are kept on the device between two reads, at most, unless one run makes more.
const MOST_FORECASTS_KEPT: usize = 1 << 23;

/// The program that forecasts windows, and how it is run.
#[derive(Debug)]
pub(super) struct Evaluation {
    pub(super) plan: EvaluationPlan,
    pub(super) program: WindowProgram,
}

impl Evaluation {
    /// Forecasts of windows, `(window, horizon, target * level)`.
    pub(super) async fn forecast(&self, session: &mut dyn Session, graph: &Graph, windows: &Starts) -> Result<Vec<f32>> {
        let Evaluation { plan, program } = self;
        let (starts, n_behind) = plan.starts(windows);
        let n_beside = if plan.is_walk { 1 } else { plan.width };
        let mut forecasts = Vec::new();
        program.clear_states(session, graph)?;
        for chunk in starts.chunks(plan.n_run * n_beside) {
            let n_run = chunk.len() / n_beside;
            program.begin(session, graph, chunk, 0)?;
            session.run(program.program, n_run)?;
            forecasts.extend_from_slice(&session.read(program.forecasts).await?[..n_run * plan.width * plan.n_output]);
        }
        rearrange(&mut forecasts, plan.n_level);
        let n_forecast = windows.len() * plan.n_output;
        if plan.is_walk {
            forecasts.drain(..forecasts.len() - n_forecast - n_behind * plan.n_output);
        }
        forecasts.truncate(n_forecast);
        Ok(forecasts)
    }
}

/// How windows are forecast: side by side, each from zero states, or by a walk of one row through the series with its state carried.
#[derive(Debug)]
pub(super) struct EvaluationPlan {
    window: usize,
    is_walk: bool,
    /// Windows side by side, or steps of the walk, that a run of the program takes.
    width: usize,
    /// Runs between two reads of the forecasts.
    n_run: usize,
    /// `horizon * target * level`, the forecasts of a window.
    n_output: usize,
    n_level: usize,
}

impl EvaluationPlan {
    /// A plan whose runs suit `n_window` windows.
    pub(super) fn new(config: &TrainingConfig, n_window: usize, model: &ForecasterConfig) -> Self {
        let n_output = model.horizon * model.targets * model.levels;
        let TrainingConfig { carry_state: is_walk, window, batch, .. } = *config;
        let n_item = if is_walk { n_window + window - 1 } else { n_window };
        let width = if is_walk {
            n_item.div_ceil(n_item.div_ceil(WIDTH).max(1))
        } else {
            batch.max(WIDTH.min(MOST_STEPS_AT_ONCE / window)).min(n_item)
        }
        .max(1);
        let most = (MOST_FORECASTS_KEPT / (width * n_output)).max(1);
        EvaluationPlan { window, is_walk, width, n_run: n_item.div_ceil(width).clamp(1, most), n_output, n_level: model.levels }
    }

    /// Runs, windows side by side and steps of a window, of the program.
    pub(super) fn sizes(&self) -> [usize; 3] {
        if self.is_walk { [self.n_run, 1, self.width] } else { [self.n_run, self.width, self.window] }
    }

    /// Shape of the forecasts of all runs, for a horizon: `(window, horizon, target * level)`, or all horizons of a walk's run as one.
    pub(super) fn forecasts(&self, horizon: usize) -> [usize; 3] {
        let n_column = self.n_output / horizon;
        if self.is_walk { [self.n_run, self.width * horizon, n_column] } else { [self.n_run * self.width, horizon, n_column] }
    }

    /// Rows at which the windows, or the parts of the walk, begin, run by run. The last run is filled up with the last window; a walk takes
    /// rows before its first window instead, so that its runs are equally long, and where there are too few of them some behind its last: their
    /// number comes with it.
    fn starts(&self, windows: &Starts) -> (Vec<u32>, usize) {
        let (Some(first), Some(last)) = (windows.get(0), windows.len().checked_sub(1).and_then(|last| windows.get(last))) else {
            return (Vec::new(), 0);
        };
        if self.is_walk {
            let n_walked = windows.len() + self.window - 1;
            let n_run = n_walked.div_ceil(self.width);
            let n_more = n_run * self.width - n_walked;
            let n_behind = n_more.saturating_sub(first);
            let first = first.saturating_sub(n_more);
            return ((0..n_run).map(|run| (first + run * self.width) as u32).collect(), n_behind);
        }
        let n_item = windows.len().next_multiple_of(self.width);
        (windows.iter().chain(std::iter::repeat(last)).take(n_item).map(|row| row as u32).collect(), 0)
    }
}
