//! Scores of forecasts, in scaled units.

use super::{Series, Trainer};
use crate::dataset::Starts;
use crate::metrics::Metrics;
use crate::model::ForecasterConfig;
use crate::ops::Loss;
use crate::reference::loss;

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

impl Trainer {
    /// The forecast of each target alone, `(window, horizon, target)`, of forecasts `(window, horizon, target, level)`: that of the level
    /// nearest the median.
    pub fn central(&self, forecasts: &[f32]) -> Vec<f32> {
        forecasts.iter().skip(self.config.loss.central_column()).step_by(self.model.levels).copied().collect()
    }

    /// Scores forecasts of windows, in scaled units, by [`Trainer::central`].
    pub fn score(&self, forecasts: &[f32], windows: &Starts, series: &Series<'_>) -> Metrics {
        Metrics::new(&wide(&self.central(forecasts)), &self.actual(windows, series))
    }

    /// The loss that is trained on, over forecasts of windows, in scaled units.
    pub fn loss(&self, forecasts: &[f32], windows: &Starts, series: &Series<'_>) -> f64 {
        loss::mean(&self.config.loss, &wide(forecasts), &self.actual(windows, series))
    }

    /// The levels of a quantile loss, each with the share of what came that lies at or below its forecast; none with another loss.
    pub fn coverage(&self, forecasts: &[f32], windows: &Starts, series: &Series<'_>) -> Vec<(f32, f64)> {
        let Loss::Quantile { levels } = &self.config.loss else { return Vec::new() };
        let actual = self.actual(windows, series);
        let below = |level: usize| {
            let of_level = forecasts.iter().skip(level).step_by(levels.len());
            of_level.zip(&actual).filter(|(forecast, actual)| **actual <= f64::from(**forecast)).count()
        };
        levels.iter().enumerate().map(|(index, &level)| (level, below(index) as f64 / actual.len() as f64)).collect()
    }

    /// Scores of predicting every window's last value again.
    pub fn persistence(&self, windows: &Starts, series: &Series<'_>) -> Metrics {
        let repeated = windows.iter().flat_map(|start| self.repeated(start, series));
        Metrics::new(&repeated.collect::<Vec<_>>(), &self.actual(windows, series))
    }

    fn actual(&self, windows: &Starts, series: &Series<'_>) -> Vec<f64> {
        windows.iter().flat_map(|start| self.following(start, series)).collect()
    }

    /// What follows a window, `(horizon, target)`.
    pub(super) fn following<'a>(&self, start: usize, series: &'a Series<'_>) -> impl Iterator<Item = f64> + 'a {
        let ForecasterConfig { features, horizon, targets, .. } = self.model;
        let rows = series.values[(start + self.config.window) * features..].chunks_exact(features).take(horizon);
        rows.flat_map(move |row| row[..targets].iter().map(|&value| f64::from(value)))
    }

    /// The last values of a window as the forecast of each step, `(horizon, target)`.
    pub(super) fn repeated<'a>(&self, start: usize, series: &'a Series<'_>) -> impl Iterator<Item = f64> + 'a {
        let ForecasterConfig { features, horizon, targets, .. } = self.model;
        let last = &series.values[(start + self.config.window - 1) * features..][..targets];
        std::iter::repeat_n(last, horizon).flatten().map(|&value| f64::from(value))
    }
}
