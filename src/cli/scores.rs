//! The table of scores beside persistence.

use crate::dataset::{Source, Table as Data, Windows};
use crate::metrics::Metrics;
use crate::report::Table;
use crate::report::table::significant;
use crate::train::{Fit, Series, Trainer};

/// Scores of models and of persistence on the validation windows, with what must be said about them in words.
pub fn table(models: &[(&str, Metrics)], persistence: &Metrics, data: &Data, windows: &Windows) -> String {
    let mut table = Table::new(["validation", "MSE", "RMSE", "MAE", "R2", "MSE / persistence"]);
    for (name, metrics) in models.iter().chain([&("persistence", *persistence)]) {
        table.push([
            (*name).to_string(),
            significant(metrics.mse, 5),
            significant(metrics.rmse, 5),
            significant(metrics.mae, 5),
            format!("{:.5}", metrics.r2),
            format!("{:.4}", metrics.mse / persistence.mse),
        ]);
    }
    let scaler = &windows.scalers()[0];
    let unit = scaler.inverse(1.0) - scaler.inverse(0.0);
    let mut text = format!("{table}In scaled units: 1 is {} of {}.\n", significant(unit, 5), data.names()[0]);
    for (name, _) in models.iter().filter(|(_, metrics)| metrics.mse > persistence.mse) {
        text += &format!("{name} is worse than persistence (tomorrow = today) on these windows.\n");
    }
    if is_synthetic(data) {
        text += "SYNTHETIC DATA: no market ever quoted them.\n";
    }
    text
}

/// What training ended with, where that is more than scores: the epoch that early stopping kept, how often each quantile held.
pub fn remarks(name: &str, trainer: &Trainer, fit: &Fit, series: &Series<'_>) -> String {
    let mut text = String::new();
    if fit.best_epoch < fit.epochs.len() {
        text += &format!("{name}: stopped after epoch {}; the parameters are those of epoch {}.\n", fit.epochs.len(), fit.best_epoch);
    }
    for (level, share) in trainer.coverage(&fit.forecasts, &series.valid, series) {
        text += &format!("{name}: {:.1} % of what came lies at or below the forecast of level {level}.\n", 100.0 * share);
    }
    text
}

/// Whether a series is made up.
pub fn is_synthetic(table: &Data) -> bool {
    matches!(table.source(), Source::Synthetic { .. })
}
