//! The table of scores beside persistence.

use crate::dataset::{Source, Table as Data, Windows};
use crate::metrics::Metrics;
use crate::report::Table;
use crate::report::table::significant;

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

/// Whether a series is made up.
pub fn is_synthetic(table: &Data) -> bool {
    matches!(table.source(), Source::Synthetic { .. })
}
