//! Scores of forecasts.

use serde::{Deserialize, Serialize};

use crate::dataset::{Starts, Windows};
use crate::error::{Error, Result};
use crate::ops::central_level;

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
    /// # Errors
    /// [`Error::Shape`] where there are more values of one than of the other.
    ///
    /// ```
    /// let scores = scanrnn::metrics::Metrics::new(&[1.0, 2.0, 4.0], &[1.0, 2.0, 3.0])?;
    /// assert_eq!((scores.mse, scores.r2), (1.0 / 3.0, 0.5));
    /// # Ok::<(), scanrnn::Error>(())
    /// ```
    pub fn new(forecast: &[f64], actual: &[f64]) -> Result<Self> {
        if forecast.len() != actual.len() {
            return Err(Error::shape("metrics", "forecast", format!("{} values, those of what came", actual.len()), &[forecast.len()]));
        }
        Ok(Self::of(forecast.iter().copied().zip(actual.iter().copied())))
    }

    /// Scores pairs of a forecast and what came.
    pub fn of(pairs: impl Iterator<Item = (f64, f64)>) -> Self {
        let mut moments = Moments::default();
        pairs.for_each(|(forecast, actual)| moments.add(forecast, actual));
        moments.metrics()
    }
}

/// What the metrics of a group are made of; groups add up.
#[derive(Clone, Copy, Debug, Default)]
struct Moments {
    n: f64,
    squared_errors: f64,
    absolute_errors: f64,
    /// Mean of what came, and the sum of its squared distances from it.
    mean: f64,
    squares: f64,
}

impl Moments {
    fn add(&mut self, forecast: f64, actual: f64) {
        let (error, from_mean) = (forecast - actual, actual - self.mean);
        self.n += 1.0;
        self.squared_errors += error * error;
        self.absolute_errors += error.abs();
        self.mean += from_mean / self.n;
        self.squares += from_mean * (actual - self.mean);
    }

    /// Adds a group (Chan et al. 1979).
    fn merge(&mut self, other: &Moments) {
        let n = self.n + other.n;
        if other.n > 0.0 {
            let between = other.mean - self.mean;
            self.mean += between * other.n / n;
            self.squares += other.squares + between * between * self.n * other.n / n;
        }
        self.n = n;
        self.squared_errors += other.squared_errors;
        self.absolute_errors += other.absolute_errors;
    }

    fn metrics(&self) -> Metrics {
        let mse = self.squared_errors / self.n;
        let r2 = if self.squares > 0.0 { 1.0 - self.squared_errors / self.squares } else { f64::NAN };
        Metrics { mse, rmse: mse.sqrt(), mae: self.absolute_errors / self.n, r2 }
    }
}

/// Scores of a group of forecasts, such as all of one target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// In scaled units, by the forecast of the level nearest the median.
    pub scaled: Metrics,
    /// In the columns' units.
    pub original: Metrics,
    /// Mean absolute error over that of the seasonal naive forecast, one step ahead, on the training rows of the same series (Hyndman and
    /// Koehler 2006); series that never changed are left out, NaN where there is no other.
    pub mase: f64,
    /// Mean of `200 |forecast - actual| / (|forecast| + |actual|)`, in percent of the columns' units; 0 where both are 0.
    pub smape: f64,
    /// The levels of quantile forecasts; none where there is one forecast a target.
    pub levels: Vec<LevelScores>,
}

/// Scores of the forecasts of one quantile level.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LevelScores {
    /// The level.
    pub level: f32,
    /// The share of what came that lies at or below its forecast.
    pub coverage: f64,
    /// Mean pinball loss in scaled units: `level * (actual - forecast)` where that is above 0, else `(1 - level) * (forecast - actual)`.
    pub pinball_scaled: f64,
    /// The same in the columns' units.
    pub pinball_original: f64,
}

/// Scores of one target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TargetScores {
    /// The column's name.
    pub target: String,
    /// Its scores.
    pub scores: Scores,
}

/// Scores of one series.
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesScores {
    /// The place of its table among all.
    pub table: usize,
    /// Its windows that were forecast.
    pub n_window: usize,
    /// Its scores.
    pub scores: Scores,
}

/// Scores of forecasts of many windows, each value counted once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Windows that were forecast.
    pub n_window: usize,
    /// Over everything.
    pub overall: Scores,
    /// For each target, in the order of the layout.
    pub targets: Vec<TargetScores>,
    /// For each step ahead, the next one first.
    pub steps: Vec<Scores>,
    /// For each series that has windows, in their order. There may be thousands: JSON is without them.
    #[serde(skip)]
    pub series: Vec<SeriesScores>,
}

impl Evaluation {
    /// Scores `forecasts` `(window, horizon, target, level)`, scaled, of the windows that begin at `starts`. Levels are those of quantile
    /// forecasts; none stands for one forecast a target. `season` is what MASE compares with; 1 is persistence.
    ///
    /// # Panics
    /// If a window or what follows it ends past the last row.
    pub fn new(windows: &Windows, starts: &Starts, forecasts: &[f32], levels: &[f32], season: usize) -> Self {
        let mut scorer = Scorer::new(windows, levels, season);
        for (start, forecast) in starts.iter().zip(forecasts.chunks_exact(scorer.n_value())) {
            scorer.add(start, forecast);
        }
        scorer.finish()
    }
}

/// Takes forecasts window by window.
#[derive(Debug)]
pub(crate) struct Scorer<'a> {
    windows: &'a Windows,
    levels: Vec<f32>,
    /// The level that stands for the forecast.
    central: usize,
    /// What absolute scaled errors are divided by, for each series and target; none where the series never changed.
    naive_errors: Vec<Vec<Option<f64>>>,
    /// `(column, step)`
    groups: Vec<Group>,
    /// One for each table of several.
    series: Vec<Group>,
    n_window: usize,
}

#[derive(Clone, Debug, Default)]
struct Group {
    scaled: Moments,
    original: Moments,
    /// Sum of scaled errors and how many there are.
    mase: (f64, f64),
    smape: f64,
    /// For each level: how often it held, pinball losses scaled and in the column's unit.
    levels: Vec<[f64; 3]>,
}

impl<'a> Scorer<'a> {
    pub(crate) fn new(windows: &'a Windows, levels: &[f32], season: usize) -> Self {
        let (n_target, horizon) = (windows.n_target(), windows.layout().horizon);
        let naive_error = |member: &crate::dataset::Member, target: usize| {
            let first = member.rows.start;
            let value = |row: usize| f64::from(windows.values()[(first + row) * windows.n_feature() + target]);
            let rows = season..member.split.train_end;
            let sum: f64 = rows.clone().map(|row| (value(row) - value(row - season)).abs()).sum();
            (sum > 0.0).then(|| sum / rows.len() as f64)
        };
        let naive_errors = windows.members().iter().map(|member| (0..n_target).map(|target| naive_error(member, target)).collect());
        let group = Group { levels: vec![[0.0; 3]; levels.len()], ..Group::default() };
        let n_table = windows.scalers().len();
        Scorer {
            windows,
            levels: levels.to_vec(),
            central: central_level(levels),
            naive_errors: naive_errors.collect(),
            series: if n_table > 1 { vec![group.clone(); n_table] } else { Vec::new() },
            groups: vec![group; windows.layout().targets.len() * horizon],
            n_window: 0,
        }
    }

    /// Values of a window's forecast.
    pub(crate) fn n_value(&self) -> usize {
        self.windows.layout().horizon * self.windows.n_target() * self.levels.len().max(1)
    }

    /// Adds the forecast `(horizon, target, level)` of the window that starts at row `start`.
    pub(crate) fn add(&mut self, start: usize, forecast: &[f32]) {
        let windows = self.windows;
        let Some(member) = windows.member(start) else { return };
        let (n_target, horizon, n_level) = (windows.n_target(), windows.layout().horizon, self.levels.len().max(1));
        let series = windows.members().partition_point(|other| other.rows.end <= start);
        for (step, row) in windows.following(start).chunks_exact(windows.n_feature()).enumerate() {
            for target in 0..n_target {
                let scaler = windows.scaler(member, target);
                let forecast = &forecast[(step * n_target + target) * n_level..][..n_level];
                let (scaled, came) = (f64::from(forecast[self.central]), f64::from(row[target]));
                let (original, came_original) = (scaler.inverse(scaled), scaler.inverse(came));
                let size = original.abs() + came_original.abs();
                let of_series = self.series.get_mut(member.table);
                for group in [&mut self.groups[member.columns[target] * horizon + step]].into_iter().chain(of_series) {
                    group.scaled.add(scaled, came);
                    group.original.add(original, came_original);
                    if let Some(naive) = self.naive_errors[series][target] {
                        group.mase.0 += (scaled - came).abs() / naive;
                        group.mase.1 += 1.0;
                    }
                    if size > 0.0 {
                        group.smape += 200.0 * (original - came_original).abs() / size;
                    }
                    for ((level, sums), &forecast) in self.levels.iter().zip(&mut group.levels).zip(forecast) {
                        let (level, over) = (f64::from(*level), came - f64::from(forecast));
                        let pinball = if over > 0.0 { level * over } else { (level - 1.0) * over };
                        sums[0] += f64::from(over <= 0.0);
                        sums[1] += pinball;
                        sums[2] += pinball * scaler.scale;
                    }
                }
            }
        }
        self.n_window += 1;
    }

    pub(crate) fn finish(&self) -> Evaluation {
        let horizon = self.windows.layout().horizon;
        let columns = || self.groups.chunks_exact(horizon);
        let targets = self.windows.layout().targets.iter().zip(columns());
        let overall = self.scores(self.groups.iter());
        let n_value = horizon * self.windows.n_target();
        let scored = self.series.iter().enumerate().filter(|(_, group)| group.scaled.n > 0.0);
        let series = match self.series[..] {
            [] => vec![SeriesScores { table: 0, n_window: self.n_window, scores: overall.clone() }],
            _ => scored
                .map(|(table, group)| SeriesScores {
                    table,
                    n_window: group.scaled.n as usize / n_value,
                    scores: self.scores(std::iter::once(group)),
                })
                .collect(),
        };
        Evaluation {
            n_window: self.n_window,
            overall,
            series,
            targets: targets.map(|(name, steps)| TargetScores { target: name.clone(), scores: self.scores(steps.iter()) }).collect(),
            steps: (0..horizon).map(|step| self.scores(columns().map(|steps| &steps[step]))).collect(),
        }
    }

    /// Scores of several groups together.
    fn scores<'g>(&self, groups: impl Iterator<Item = &'g Group>) -> Scores {
        let mut sum = Group { levels: vec![[0.0; 3]; self.levels.len()], ..Group::default() };
        for group in groups {
            sum.scaled.merge(&group.scaled);
            sum.original.merge(&group.original);
            sum.mase = (sum.mase.0 + group.mase.0, sum.mase.1 + group.mase.1);
            sum.smape += group.smape;
            for (sum, group) in sum.levels.iter_mut().flatten().zip(group.levels.iter().flatten()) {
                *sum += group;
            }
        }
        let n = sum.scaled.n;
        let levels = self.levels.iter().zip(&sum.levels).map(|(&level, sums)| {
            let [coverage, pinball_scaled, pinball_original] = sums.map(|sum| sum / n);
            LevelScores { level, coverage, pinball_scaled, pinball_original }
        });
        Scores {
            scaled: sum.scaled.metrics(),
            original: sum.original.metrics(),
            mase: sum.mase.0 / sum.mase.1,
            smape: sum.smape / n,
            levels: levels.collect(),
        }
    }
}
