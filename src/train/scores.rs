//! Scores of forecasts, in scaled units.

use super::{Series, Trainer};
use crate::dataset::Starts;
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::model::ForecasterConfig;
use crate::reference::loss;

impl Trainer {
    /// The forecast of each target alone, `(window, horizon, target)`, of forecasts `(window, horizon, target, level)`: that of the level
    /// nearest the median.
    pub fn central(&self, forecasts: &[f32]) -> Vec<f32> {
        self.central_of(forecasts).collect()
    }

    fn central_of<'a>(&self, forecasts: &'a [f32]) -> impl Iterator<Item = f32> + use<'a> {
        forecasts.iter().skip(self.config.loss.central_column()).step_by(self.model.levels).copied()
    }

    /// Checks that windows and what follows them lie in the series.
    pub(super) fn check_windows(&self, windows: &Starts, series: &Series<'_>) -> Result<()> {
        Series::check_within(windows, self.n_row(series), self.config.window.saturating_add(self.model.horizon))
    }

    /// Values of the forecasts of a window.
    fn n_forecast(&self) -> usize {
        self.model.horizon * self.model.targets * self.model.levels
    }

    fn check_forecasts(&self, forecasts: &[f32], windows: &Starts, series: &Series<'_>) -> Result<()> {
        self.check_windows(windows, series)?;
        let want = windows.len() * self.n_forecast();
        match forecasts.len() == want {
            true => Ok(()),
            false => {
                Err(Error::shape("scores", "forecasts", format!("{want} values, those of {} windows", windows.len()), &[forecasts.len()]))
            }
        }
    }

    /// Scores forecasts of windows, in scaled units, by [`Trainer::central`].
    ///
    /// # Errors
    /// [`Error::Shape`] where the series has no such windows, or the forecasts are not theirs.
    pub fn score(&self, forecasts: &[f32], windows: &Starts, series: &Series<'_>) -> Result<Metrics> {
        self.check_forecasts(forecasts, windows, series)?;
        Ok(Metrics::of(self.central_of(forecasts).map(f64::from).zip(self.actual(windows, series))))
    }

    /// The loss over forecasts of windows, in units of the scaled series, whatever those of the training are.
    ///
    /// # Errors
    /// As [`Trainer::score`].
    pub fn loss(&self, forecasts: &[f32], windows: &Starts, series: &Series<'_>) -> Result<f64> {
        self.check_forecasts(forecasts, windows, series)?;
        let of_window = |(start, forecasts): (usize, &[f32])| {
            let forecasts: Vec<f64> = forecasts.iter().map(|&value| f64::from(value)).collect();
            loss::mean(&self.config.loss, &forecasts, &self.following(start, series).collect::<Vec<_>>())
        };
        Ok(windows.iter().zip(forecasts.chunks_exact(self.n_forecast())).map(of_window).sum::<f64>() / windows.len() as f64)
    }

    /// Scores of predicting every window's last value again.
    ///
    /// # Errors
    /// [`Error::Shape`] where the series has no such windows.
    pub fn persistence(&self, windows: &Starts, series: &Series<'_>) -> Result<Metrics> {
        self.check_windows(windows, series)?;
        let repeated = windows.iter().flat_map(|start| self.repeated(start, series));
        Ok(Metrics::of(repeated.zip(self.actual(windows, series))))
    }

    fn actual<'a>(&'a self, windows: &'a Starts, series: &'a Series<'_>) -> impl Iterator<Item = f64> + 'a {
        windows.iter().flat_map(move |start| self.following(start, series))
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
