//! Scores of forecasts.

use serde::{Deserialize, Serialize};

/// How far forecasts are from what came, over all windows, steps and targets.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Mean squared error.
    pub mse: f64,
    /// Its root.
    pub rmse: f64,
    /// Mean absolute error.
    pub mae: f64,
    /// Share of the variance explained: 1 is perfect, 0 as good as the mean of what came; NaN where that never changed.
    pub r2: f64,
}

impl Metrics {
    /// Scores `forecast` against `actual`, as many values each, in the same unit.
    ///
    /// ```
    /// let scores = scanrnn::metrics::Metrics::new(&[1.0, 2.0, 4.0], &[1.0, 2.0, 3.0]);
    /// assert_eq!((scores.mse, scores.r2), (1.0 / 3.0, 0.5));
    /// ```
    pub fn new(forecast: &[f64], actual: &[f64]) -> Self {
        let n = actual.len() as f64;
        let errors = || forecast.iter().zip(actual).map(|(forecast, actual)| forecast - actual);
        let mse = errors().map(|error| error * error).sum::<f64>() / n;
        let mean = actual.iter().sum::<f64>() / n;
        let variance = actual.iter().map(|actual| (actual - mean).powi(2)).sum::<f64>() / n;
        let r2 = if variance > 0.0 { 1.0 - mse / variance } else { f64::NAN };
        Metrics { mse, rmse: mse.sqrt(), mae: errors().map(f64::abs).sum::<f64>() / n, r2 }
    }
}
