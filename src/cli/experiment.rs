//! One model trained on windows and scored on those that it has not seen: what `compare`, `backtest` and `tune` repeat.

use super::device::Device;
use super::progress::Progress;
use super::setting::Setting;
use crate::dataset::Windows;
use crate::error::{Error, Result};
use crate::metrics::Evaluation;
use crate::model::ModelKind;
use crate::ops::Loss;
use crate::report::Lang;
use crate::train::{Fit, Series};

/// A trained model and what it forecasts.
pub struct Outcome {
    /// How training went.
    pub fit: Fit,
    /// Forecasts of [`Windows::scored`], `(window, horizon, target, level)`, scaled.
    pub forecasts: Vec<f32>,
}

/// Trains a model; `title` is shown while it trains.
///
/// # Errors
/// Whatever stops the training.
pub async fn fit(kind: ModelKind, setting: &Setting, seed: u64, device: &Device, title: String, lang: Lang) -> Result<Fit> {
    let trainer = setting.trainer(kind, seed)?;
    let progress = Progress::new(title, lang);
    let fit = trainer.fit(device.backend(), &Series::from(&setting.windows), &mut |event| progress.observe(event, None)).await;
    progress.finish();
    fit
}

/// Trains a model and forecasts the windows that are scored; `title` is shown while it trains.
///
/// # Errors
/// As [`fit`].
pub async fn run(kind: ModelKind, setting: &Setting, seed: u64, device: &Device, title: String, lang: Lang) -> Result<Outcome> {
    let fit = fit(kind, setting, seed, device, title, lang).await?;
    let series = Series::from(&setting.windows);
    let forecasts = if series.test.is_empty() {
        fit.forecasts.clone()
    } else {
        setting.evaluator(kind)?.forecast(device.backend(), &series, &series.test, &fit.parameters).await?
    };
    Ok(Outcome { fit, forecasts })
}

/// Scores of forecasts of [`Windows::scored`].
pub fn evaluate(windows: &Windows, forecasts: &[f32], loss: &Loss, season: usize) -> Evaluation {
    Evaluation::new(windows, windows.scored(), forecasts, loss.levels(), season)
}

/// Name of the part that [`Windows::scored`] is.
pub fn scored_part(windows: &Windows) -> &'static str {
    if windows.test().is_empty() { "validation" } else { "test" }
}

/// Models by their names, separated by commas; `all` are the four of linear cost.
///
/// # Errors
/// [`Error::Option`] where there is none, or one has no such name.
pub fn models(list: &str) -> Result<Vec<ModelKind>> {
    let mut kinds: Vec<ModelKind> = Vec::new();
    for name in list.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let named = match name {
            "all" => ModelKind::LINEAR.to_vec(),
            _ => vec![name.parse().map_err(|_| {
                let names = ModelKind::ALL.map(ModelKind::name).join(", ");
                Error::option("--models", name, message!("each must be one of {}, or all", names))
            })?],
        };
        for kind in named {
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
    }
    if kinds.is_empty() { Err(Error::option("--models", list, message!("name at least one model"))) } else { Ok(kinds) }
}

/// Mean and standard deviation (of the sample; 0 for a single value).
pub fn spread(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
    (mean, if values.len() > 1 { (squares / (n - 1.0)).sqrt() } else { 0.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_is_that_of_the_sample() {
        assert_eq!(spread(&[1.0, 2.0, 3.0]), (2.0, 1.0));
        assert_eq!(spread(&[5.0]), (5.0, 0.0));
    }

    #[test]
    fn models_are_named_once() {
        assert_eq!(models("mamba, min-gru,mamba").expect("models"), [ModelKind::Mamba, ModelKind::MinGru]);
        assert_eq!(models("all").expect("models").len(), 4);
        assert!(models(" , ").is_err() && models("lstm").is_err());
    }
}
