//! The tables of scores beside the baselines.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::data::SeriesColumns;
use crate::baseline::{Baseline, Linear};
use crate::dataset::{Starts, Table, Windows};
use crate::error::Result;
use crate::metrics::{Evaluation, Scores, SeriesScores};
use crate::ops::Loss;
use crate::report::language::{Texts, fill};
use crate::report::table::significant;
use crate::report::{Lang, TextTable};
use crate::train::Fit;

/// A model's or a baseline's scores.
struct Entry {
    name: String,
    evaluation: Evaluation,
}

/// Scores of models and baselines on the same windows.
pub struct Scoreboard<'a> {
    texts: &'static Texts,
    windows: &'a Windows,
    starts: &'a Starts,
    season: usize,
    models: Vec<Entry>,
    /// Persistence first.
    baselines: Vec<Entry>,
}

impl<'a> Scoreboard<'a> {
    /// The baselines' scores on the windows that begin at `starts`, to be shown in `lang`. A season of 1 is none.
    pub fn new(windows: &'a Windows, starts: &'a Starts, season: usize, baselines: &[Baseline], lang: Lang) -> Self {
        let scored = |baseline: &Baseline| Entry { name: baseline.name(), evaluation: baseline.evaluate(windows, starts, season) };
        let baselines = baselines.iter().map(scored).collect();
        Scoreboard { texts: lang.texts(), windows, starts, season, models: Vec::new(), baselines }
    }

    /// Adds a model's forecasts of the same windows, `(window, horizon, target, level)`, scaled.
    pub fn add(&mut self, name: &str, forecasts: &[f32], loss: &Loss) {
        let evaluation = Evaluation::new(self.windows, self.starts, forecasts, loss.levels(), self.season);
        self.models.push(Entry { name: name.into(), evaluation });
    }

    /// The first column that is forecast.
    pub fn target(&self) -> &str {
        &self.windows.layout().targets[0]
    }

    /// Scores of persistence.
    pub fn persistence(&self) -> &Scores {
        &self.baselines[0].evaluation.overall
    }

    /// The tables, with what must be said about them in words; `part` names the windows.
    pub fn text(&self, part: &str, data: &[Table]) -> String {
        let tables = self.tables(part).iter().map(TextTable::to_string).collect::<Vec<_>>();
        let mut text = format!("{}{}", tables.join("\n"), self.units(data));
        text.extend(self.warnings().iter().map(|line| format!("{line}\n")));
        if data.iter().any(Table::is_synthetic) {
            text += &format!("{}\n", self.texts.made_up);
        }
        text
    }

    /// All scores; by steps ahead where there are several, by target where there are several.
    pub fn tables(&self, part: &str) -> Vec<TextTable> {
        let part = self.texts.part(part);
        let layout = self.windows.layout();
        let steps = (layout.horizon > 1).then(|| self.steps(part));
        let targets = (layout.targets.len() > 1).then(|| self.targets(part));
        [self.overall(part)].into_iter().chain(steps).chain(targets).collect()
    }

    fn overall(&self, part: &str) -> TextTable {
        let persistence = self.persistence().scaled.mse;
        let mut table = TextTable::new([part, "MSE", "RMSE", "MAE", "R2", self.texts.to_persistence, "MASE", "sMAPE %"]);
        for Entry { name, evaluation: Evaluation { overall, .. } } in self.models.iter().chain(&self.baselines) {
            table.push([
                name.clone(),
                significant(overall.scaled.mse, 5),
                significant(overall.scaled.rmse, 5),
                significant(overall.scaled.mae, 5),
                fixed(overall.scaled.r2, 5),
                ratio(overall.scaled.mse, persistence),
                known(overall.mase, significant(overall.mase, 4)),
                significant(overall.smape, 4),
            ]);
        }
        table
    }

    /// What must be said in words: which models lose to persistence, on how many of several series they win, and where nothing can be won.
    pub fn warnings(&self) -> Vec<String> {
        let persistence = self.persistence().scaled.mse;
        let lost = self.models.iter().filter(|model| model.evaluation.overall.scaled.mse > persistence);
        let mut lines: Vec<String> = lost
            .map(|Entry { name, evaluation }| {
                let share = evaluation.overall.scaled.mse / persistence;
                fill(self.texts.lost, [name, &format!("{share:.4}")])
            })
            .collect();
        let persistence_by_series = &self.baselines[0].evaluation.series;
        if persistence_by_series.len() > 1 {
            lines.extend(self.models.iter().map(|Entry { name, evaluation }| {
                let pairs = evaluation.series.iter().zip(persistence_by_series);
                let n_won = pairs.filter(|(model, persistence)| model.scores.scaled.mse < persistence.scores.scaled.mse).count();
                fill(self.texts.won, [name, &n_won.to_string(), &persistence_by_series.len().to_string()])
            }));
        }
        let is_random_walk = |entry: &Entry| entry.evaluation.overall.scaled.mse > 0.98 * persistence;
        if self.windows.layout().horizon == 1 && self.baselines.iter().chain(&self.models).all(is_random_walk) {
            lines.push(self.texts.random_walk.into());
        }
        lines
    }

    fn units(&self, data: &[Table]) -> String {
        let layout = self.windows.layout();
        match (self.windows.scalers(), &layout.targets[..]) {
            ([scalers], [target]) => {
                let unit = scalers[0].inverse(1.0) - scalers[0].inverse(0.0);
                fill(self.texts.unit_of_one, [&significant(unit, 5), target]) + "\n"
            }
            _ => fill(self.texts.units_of_many, [&data.len().to_string()]) + "\n",
        }
    }

    /// MSE at some steps ahead.
    fn steps(&self, part: &str) -> TextTable {
        let horizon = self.windows.layout().horizon;
        let mut steps = vec![1, horizon.div_ceil(4), horizon.div_ceil(2), horizon];
        steps.dedup();
        let header = steps.iter().map(|step| fill(self.texts.mse_ahead, [&step.to_string()]));
        let mut table = TextTable::new([part.to_string()].into_iter().chain(header));
        for Entry { name, evaluation } in self.models.iter().chain(&self.baselines) {
            let cells = steps.iter().map(|step| significant(evaluation.steps[step - 1].scaled.mse, 5));
            table.push([name.clone()].into_iter().chain(cells));
        }
        table
    }

    /// Scores of each target, for the models and persistence.
    fn targets(&self, part: &str) -> TextTable {
        let texts = self.texts;
        let mut table =
            TextTable::new([part, texts.target, "MSE", "MAE", texts.to_persistence, texts.rmse_in_unit, texts.mae_in_unit, "MASE"]);
        for Entry { name, evaluation } in self.models.iter().chain(&self.baselines[..1]) {
            for (target, persistence) in evaluation.targets.iter().zip(&self.baselines[0].evaluation.targets) {
                let scores = &target.scores;
                table.push([
                    name.clone(),
                    target.target.clone(),
                    significant(scores.scaled.mse, 5),
                    significant(scores.scaled.mae, 5),
                    ratio(scores.scaled.mse, persistence.scores.scaled.mse),
                    significant(scores.original.rmse, 5),
                    significant(scores.original.mae, 5),
                    known(scores.mase, significant(scores.mase, 4)),
                ]);
            }
        }
        table
    }

    /// How often each quantile held.
    pub fn coverage(&self) -> String {
        let mut text = String::new();
        for Entry { name, evaluation } in &self.models {
            for level in &evaluation.overall.levels {
                let (share, pinball) = (format!("{:.1}", 100.0 * level.coverage), significant(level.pinball_scaled, 4));
                text += &(fill(self.texts.coverage, [name, &share, &level.level.to_string(), &pinball]) + "\n");
            }
        }
        text
    }

    /// Rows of a file of scores: for each series that has windows their number, then MSE, MAE and MASE of the first model and of persistence.
    fn rows_by_series(&self) -> impl Iterator<Item = (usize, Vec<String>)> {
        let [model, persistence] = [&self.models[0], &self.baselines[0]].map(|entry| &entry.evaluation.series);
        model.iter().zip(persistence).map(|(model, persistence)| {
            let figures = [model, persistence].into_iter().flat_map(|SeriesScores { scores: Scores { scaled, mase, .. }, .. }| {
                [scaled.mse.to_string(), scaled.mae.to_string(), if mase.is_nan() { String::new() } else { mase.to_string() }]
            });
            (model.table, std::iter::once(model.n_window.to_string()).chain(figures).collect())
        })
    }

    /// Every figure but those of each series.
    pub fn json(&self) -> Value {
        let entries = |entries: &[Entry]| {
            let named = entries.iter().map(|entry| (entry.name.clone(), json!(entry.evaluation)));
            Value::Object(named.collect::<Map<_, _>>())
        };
        json!({ "season": self.season, "models": entries(&self.models), "baselines": entries(&self.baselines) })
    }
}

/// Writes the scores of each series, in each part, as CSV; `id` is the column that tells series apart.
pub fn save_by_series(path: &Path, parts: &[(&str, Scoreboard<'_>)], tables: &[Table], id: Option<&str>) -> Result<()> {
    const FIGURES: [&str; 7] = ["windows", "mse", "mae", "mase", "persistence_mse", "persistence_mae", "persistence_mase"];
    let series = SeriesColumns::new(tables, id);
    crate::file::save(path, |file| {
        let mut writer = csv::Writer::from_writer(file);
        writer.write_record(["part".to_string()].into_iter().chain(series.header()).chain(FIGURES.map(String::from)))?;
        for (part, comparison) in parts {
            for (table, figures) in comparison.rows_by_series() {
                writer.write_record([part.to_string()].into_iter().chain(series.of(&tables[table])).chain(figures))?;
            }
        }
        writer.flush()
    })
}

/// An error over that of persistence as a cell: a dash where both are 0, as on a series that keeps its value.
pub fn ratio(mse: f64, persistence: f64) -> String {
    fixed(mse / persistence, 4)
}

/// A figure with so many decimals as a cell, a dash where there is none.
pub fn fixed(figure: f64, n_decimal: usize) -> String {
    known(figure, format!("{figure:.n_decimal$}"))
}

/// A figure as a cell, a dash where there is none: R2 of a single value, MASE without training rows.
pub fn known(figure: f64, cell: String) -> String {
    if figure.is_nan() { "–".into() } else { cell }
}

/// The baselines, the linear one where it is given, and what is said about their season.
pub fn baselines(season: usize, linear: Option<Linear>, lang: Lang) -> Vec<Baseline> {
    if season > 1 {
        println!("{}", fill(lang.texts().season, [&season.to_string()]));
    }
    Baseline::all(season, linear)
}

/// A line that says which epoch's parameters were kept, where they are not the last one's.
pub fn stopped(name: &str, fit: &Fit, lang: Lang) -> String {
    if fit.best_epoch == fit.epochs.len() {
        return String::new();
    }
    let n_epoch = fit.epochs.len().to_string();
    let texts = lang.texts();
    match fit.best_epoch {
        0 => fill(texts.never_better, [name, &n_epoch]) + "\n",
        epoch => fill(texts.stopped, [name, &n_epoch, &epoch.to_string()]) + "\n",
    }
}
