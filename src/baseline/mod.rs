//! Forecasts that a model has to beat: the last value, the last season, the last trend, and a linear map of the window.

mod linear;
mod season;

pub use linear::Linear;
pub use season::find_season;

use crate::dataset::{Starts, Windows};
use crate::metrics::{Evaluation, Scorer};

/// A forecast without training, or trained in closed form.
#[derive(Clone, Debug)]
pub enum Baseline {
    /// The window's last value again.
    Persistence,
    /// The value of the same step of the season before, where the series goes back that far, even beyond the window; else the last value.
    SeasonalNaive {
        /// Rows of a season.
        season: usize,
    },
    /// The line through the window's first and last value.
    Drift,
    /// A linear map of the window.
    Linear(Linear),
}

impl Baseline {
    /// All baselines: the seasonal one where a season has several rows (1 is none), the linear one where there is a fit.
    pub fn all(season: usize, linear: Option<Linear>) -> Vec<Baseline> {
        let seasonal = (season > 1).then_some(Baseline::SeasonalNaive { season });
        let linear = linear.map(Baseline::Linear);
        [Baseline::Persistence].into_iter().chain(seasonal).chain([Baseline::Drift]).chain(linear).collect()
    }

    /// Name in tables and files.
    pub fn name(&self) -> String {
        match self {
            Baseline::Persistence => "persistence".into(),
            Baseline::SeasonalNaive { season } => format!("seasonal-naive-{season}"),
            Baseline::Drift => "drift".into(),
            Baseline::Linear(_) => "linear".into(),
        }
    }

    /// Forecasts of the windows that begin at `starts`, `(window, horizon, target)`, scaled.
    ///
    /// # Panics
    /// If a window ends past the last row.
    pub fn forecast(&self, windows: &Windows, starts: &[usize]) -> Vec<f32> {
        if let Baseline::Linear(linear) = self {
            return linear.forecast(windows, starts);
        }
        let (n_target, n_feature, horizon) = (windows.n_target(), windows.n_feature(), windows.layout().horizon);
        let mut forecasts = Vec::with_capacity(starts.len() * horizon * n_target);
        for &start in starts {
            let last = start + windows.layout().window - 1;
            let value = |row: usize, target: usize| windows.values()[row * n_feature + target];
            let first_row = windows.member(start).map_or(start, |member| member.rows.start);
            for step in 0..horizon {
                forecasts.extend((0..n_target).map(|target| match self {
                    Baseline::SeasonalNaive { season } if *season > 0 && last + 1 >= first_row + season => {
                        value(last + 1 - season + step % season, target)
                    }
                    Baseline::Drift if last > start => {
                        let slope = (value(last, target) - value(start, target)) / (last - start) as f32;
                        value(last, target) + slope * (step + 1) as f32
                    }
                    _ => value(last, target),
                }));
            }
        }
        forecasts
    }

    /// Scores of the windows that begin at `starts`; `season` is what MASE compares with.
    ///
    /// # Panics
    /// If a window or what follows it ends past the last row.
    pub fn evaluate(&self, windows: &Windows, starts: &Starts, season: usize) -> Evaluation {
        let mut scorer = Scorer::new(windows, &[], season);
        let starts: Vec<usize> = starts.iter().collect();
        for starts in starts.chunks(CHUNK) {
            let forecasts = self.forecast(windows, starts);
            for (&start, forecast) in starts.iter().zip(forecasts.chunks_exact(scorer.n_value())) {
                scorer.add(start, forecast);
            }
        }
        scorer.finish()
    }
}

/// Windows that are forecast at once.
const CHUNK: usize = 1024;
