//! The charts of a training: its curves, and what it forecast beside what came.

use super::data::sources;
use crate::dataset::{Table, Windows};
use crate::ops::Loss;
use crate::report::Lang;
use crate::report::chart::{Chart, Line, Look, Panel, Places};
use crate::report::language::fill;
use crate::report::table::significant;
use crate::train::EpochScore;

/// Training and validation error of each epoch; `persistence` is that of the validation windows, drawn where the curves keep at least a
/// third of the picture's height beside it.
pub fn curves(name: &str, epochs: &[EpochScore], persistence: f64, lang: Lang) -> Chart {
    let texts = lang.texts();
    let errors = || epochs.iter().flat_map(|epoch| [epoch.train_mse, epoch.valid_mse]).filter(|error| error.is_finite());
    let (low, high) = errors().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), error| (low.min(error), high.max(error)));
    let is_near = high <= low || high.max(persistence) - low.min(persistence) <= 3.0 * (high - low);
    let beyond = (!is_near).then(|| fill(texts.beyond_axis, [&significant(persistence, 4)]));
    let key = is_near.then(|| (texts.persistence.into(), Look::Baseline));
    let panel = Panel::Lines {
        heading: texts.curves.into(),
        x: Places::Counts(epochs.len(), texts.epoch.into()),
        y_label: texts.mse.into(),
        lines: vec![
            Line::new(Look::Training(0), 1, epochs.iter().map(|epoch| epoch.train_mse)),
            Line::new(Look::Model(0), 1, epochs.iter().map(|epoch| epoch.valid_mse)),
        ],
        level: is_near.then_some(persistence),
        border: None,
    };
    Chart {
        title: name.into(),
        remarks: beyond.into_iter().collect(),
        legend: [(name.into(), Look::Model(0))].into_iter().chain(key).collect(),
        panels: vec![panel],
        n_column: 1,
        ..Chart::default()
    }
}

/// Rows of a picture, at least, where there are so many.
const N_ROW: usize = 120;
/// Panels of a picture, at most.
pub const MOST_PANELS: usize = 8;

/// A remark where not all panels that there are were drawn.
pub fn left_out(n_drawn: usize, n_panel: usize, lang: Lang) -> Option<String> {
    (n_drawn < n_panel).then(|| fill(lang.texts().panels_shown, [&n_drawn.to_string(), &n_panel.to_string()]))
}

/// Which of the scored windows are drawn, where not all are.
#[derive(Clone, Copy, Debug)]
pub enum Shown {
    /// Those that begin at the first scored row.
    First,
    /// Those that end at the last.
    Last,
}

/// Forecasts of scored windows, beside what came.
pub struct Forecasts<'a> {
    /// The series.
    pub tables: &'a [Table],
    /// Of which those that are scored were forecast.
    pub windows: &'a Windows,
    /// `(window, horizon, target, level)`, scaled.
    pub values: &'a [f32],
    /// Its levels are those of the forecasts.
    pub loss: &'a Loss,
}

impl Forecasts<'_> {
    /// Each window drawn begins where the one before ends: a panel for each target of the first series that has such windows, in its own unit.
    pub fn chart(&self, name: &str, title: String, which: Shown, lang: Lang) -> Chart {
        let Forecasts { tables, windows, .. } = *self;
        let texts = lang.texts();
        let mut scored = windows.members().iter().zip(windows.scored().ranges()).filter(|(_, starts)| !starts.is_empty());
        let shown = scored.next().map_or(0, |(member, _)| member.table);
        let panels = self.panels(shown, which);
        let mut remarks = vec![
            fill(texts.source, [&sources(&tables[shown..=shown], lang)]),
            fill(texts.ahead, [&windows.layout().window.to_string(), &windows.layout().horizon.to_string()]),
        ];
        remarks.extend(left_out(panels.len(), windows.n_target(), lang));
        Chart {
            title,
            remarks,
            is_synthetic: tables.iter().any(Table::is_synthetic),
            legend: vec![(texts.actual.into(), Look::Actual), (name.into(), Look::Model(0))],
            n_column: if panels.len() > 1 { 2 } else { 1 },
            panels,
        }
    }

    /// The panels of the table at the place `shown`.
    fn panels(&self, shown: usize, which: Shown) -> Vec<Panel> {
        let Forecasts { tables, windows, values: forecasts, loss } = *self;
        let table = &tables[shown];
        let layout = windows.layout();
        let (horizon, n_target) = (layout.horizon, windows.n_target());
        let n_level = loss.columns_per_output();
        let n_value = horizon * n_target * n_level;
        let mut before = 0;
        let mut panels = Vec::new();
        for (member, starts) in windows.members().iter().zip(windows.scored().ranges()) {
            let of_member = &forecasts[before * n_value..(before + starts.len()) * n_value];
            before += starts.len();
            if member.table != shown || starts.is_empty() {
                continue;
            }
            let n_shown = N_ROW.max(3 * horizon).min(starts.len() + horizon - 1).div_ceil(horizon);
            let drawn: Vec<usize> = match which {
                Shown::First => (0..starts.len()).step_by(horizon).take(n_shown).collect(),
                Shown::Last => (0..starts.len()).rev().step_by(horizon).take(n_shown).rev().collect(),
            };
            let first_row = |window: usize| starts.start + window - member.rows.start + layout.window;
            let first = first_row(drawn[0]).saturating_sub(horizon.max(20));
            let last = first_row(drawn[drawn.len() - 1]) + horizon;
            for target in 0..n_target {
                let (column, scaler) = (member.columns[target], windows.scaler(member, target));
                let name = layout.columns().nth(column).unwrap_or_default().to_string();
                let values = table.column(&name).unwrap_or_default();
                let mut line = Line { look: Look::Model(0), points: Vec::new(), band: Vec::new() };
                for &window in &drawn {
                    for step in 0..horizon {
                        let at = window * n_value + (step * n_target + target) * n_level;
                        let value = |level: usize| scaler.inverse(f64::from(of_member[at + level]));
                        let place = (first_row(window) + step - first) as f64;
                        line.points.push((place, value(loss.central_column())));
                        if n_level > 1 {
                            line.band.push((place, value(0), value(n_level - 1)));
                        }
                    }
                }
                panels.push(Panel::Lines {
                    heading: name.clone(),
                    x: Places::Rows((first..last).map(|row| table.row_name(row)).collect()),
                    y_label: name,
                    lines: vec![Line::new(Look::Actual, 0, values[first..last].iter().copied()), line],
                    level: None,
                    border: Some((first_row(drawn[0]) - first) as f64 - 0.5),
                });
            }
        }
        panels.truncate(MOST_PANELS);
        panels
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::{Layout, Source};

    #[test]
    fn persistence_is_drawn_where_the_curves_are_still_seen() {
        let epochs = [(0.4, 0.5), (0.3, 0.45)].map(|(train_mse, valid_mse)| EpochScore {
            train_mse,
            valid_mse,
            valid_loss: valid_mse,
            learning_rate: 0.1,
        });
        for (persistence, is_drawn) in [(0.35, true), (0.8, true), (1.2, false), (0.01, true), (f64::INFINITY, false)] {
            let chart = curves("mamba", &epochs, persistence, Lang::En);
            let [Panel::Lines { level, .. }] = &chart.panels[..] else { panic!("not one panel: {:?}", chart.panels) };
            assert_eq!((level.is_some(), chart.legend.len(), chart.remarks.is_empty()), (is_drawn, 1 + usize::from(is_drawn), is_drawn));
        }
        assert!(curves("mamba", &epochs, 1.2, Lang::En).remarks[0].contains("1.200"));
    }

    #[test]
    fn the_first_series_with_scored_windows_is_drawn() {
        let table = |name: &str, n_row: usize| {
            let values = (0..n_row).map(|row| (row as f64 / 3.0).sin()).collect();
            Table::new(Source::Memory(name.into()), None, vec![("value".into(), values)]).expect("a table")
        };
        let tables = [table("short", 4), table("long", 60)];
        let windows = Windows::new(&tables, &Layout::one_column("value", 8, 1)).expect("windows");
        let values = vec![0.0; windows.scored().len()];
        let forecasts = Forecasts { tables: &tables, windows: &windows, values: &values, loss: &Loss::Mse };
        let chart = forecasts.chart("mamba", String::new(), Shown::Last, Lang::En);
        assert!(chart.remarks[0].contains("long") && !chart.remarks[0].contains("short"), "{:?}", chart.remarks);
        let [Panel::Lines { lines, .. }] = &chart.panels[..] else { panic!("not one panel: {:?}", chart.panels) };
        assert_eq!(lines[1].points.len(), windows.scored().len());
    }

    #[test]
    fn forecasts_begin_at_the_first_scored_row_or_end_at_the_last() {
        let values = (0..60).map(|row| (row as f64 / 3.0).sin()).collect();
        let tables = [Table::new(Source::Memory("wave".into()), None, vec![("value".into(), values)]).expect("a table")];
        let windows = Windows::new(&tables, &Layout::one_column("value", 8, 5)).expect("windows");
        // 12 rows, the last fifth: 8 windows, of which 2 follow one another
        let n_window = windows.scored().len();
        let values = vec![0.0; n_window * 5];
        for (which, rows) in [(Shown::First, 48..58), (Shown::Last, 50..60)] {
            let forecasts = Forecasts { tables: &tables, windows: &windows, values: &values, loss: &Loss::Mse };
            let chart = forecasts.chart("mamba", String::new(), which, Lang::En);
            let [Panel::Lines { lines, x: Places::Rows(names), .. }] = &chart.panels[..] else { panic!("not one panel") };
            let drawn: Vec<_> = lines[1].points.iter().map(|point| names[point.0 as usize].clone()).collect();
            assert_eq!(drawn, rows.map(|row| tables[0].row_name(row)).collect::<Vec<_>>(), "{which:?}");
        }
    }
}
