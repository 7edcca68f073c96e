//! The picture of a comparison: losses, errors and predictions of every model.

use std::ops::Range;
use std::path::Path;

use plotters::prelude::*;

use super::axis::Axis;
use super::canvas::{
    self, Canvas, Drawn, FAINT, GAP, LABEL, LEGEND, MEDIUM, PERSISTENCE, Stroke, TEXT, THICK, THIN, TITLE, dots, level, line, numbered,
    stroke,
};
use super::font::Typeface;
use super::language::{Lang, fill};
use super::table;
use super::text::Area;
use crate::Result;

/// Everything that the picture shows.
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    /// What is predicted, for the title: `AAPL Close`.
    pub series: String,
    /// Where the data come from: a file's name, an address.
    pub source: String,
    /// Whether the data are made up, which the picture then says.
    pub is_synthetic: bool,
    /// Settings for the subtitle: `window 32 · hidden 128`.
    pub settings: String,
    /// The validation rows, in time order.
    pub rows: Vec<Row>,
    /// The models, at least one.
    pub models: Vec<Model>,
}

/// One validation row: a value to predict.
#[derive(Clone, Debug)]
pub struct Row {
    /// `YYYY-MM-DD`, more or something else.
    pub date: String,
    /// The value.
    pub actual: f64,
    /// What persistence predicts: the value before.
    pub last: f64,
}

/// One model's results.
#[derive(Clone, Debug)]
pub struct Model {
    /// The model's name.
    pub name: String,
    /// Losses, an epoch each.
    pub epochs: Vec<Epoch>,
    /// A prediction for each of [`Comparison::rows`], in the values' unit.
    pub predictions: Vec<f64>,
}

/// One epoch's losses, each divided by that of predicting the last value again on the same rows.
#[derive(Clone, Copy, Debug)]
pub struct Epoch {
    /// Mean squared error on the training rows.
    pub train_ratio: f64,
    /// Mean squared error on the validation rows.
    pub valid_ratio: f64,
}

/// Draws a comparison, made for the language that it is given, and writes it to `path` as a PNG: in `lang`, or in English with a warning to
/// show.
///
/// # Errors
/// [`Error::File`](crate::Error::File) where `path` cannot be written; what was there before is then still there.
pub fn write(lang: Lang, path: &Path, comparison: impl FnOnce(Lang) -> Comparison) -> Result<Option<&'static str>> {
    super::write_picture(lang, path, |typeface| png(&comparison(typeface.lang()), typeface))
}

/// The picture as the bytes of a PNG file, 2000 x 1120 pixels. Values that are not finite are left out.
///
/// # Errors
/// [`Error::Unsupported`](crate::Error::Unsupported) where plotters or the encoder fails, which no data should cause.
pub fn png(comparison: &Comparison, typeface: &Typeface) -> Result<Vec<u8>> {
    canvas::png(HEIGHT, |area| Picture { comparison, canvas: Canvas::new(typeface) }.draw(area))
}

/// In pixels as drawn.
const HEIGHT: usize = 2240;
/// So many last rows are shown enlarged.
const N_ENLARGED: usize = 60;

const ACTUAL: Stroke = Stroke { color: RGBColor(185, 185, 185), width: 16, is_dashed: false };

struct Picture<'a> {
    comparison: &'a Comparison,
    canvas: Canvas<'a>,
}

impl Picture<'_> {
    fn draw(&self, area: &Area) -> Drawn {
        let (header, body) = area.split_vertically(320);
        self.header(&header)?;
        let (left, right) = body.split_horizontally(1480);
        let left = left.margin(0, 0, 0, GAP);
        let ratios_height = 220 + 90 * self.comparison.models.len().clamp(2, 6) as i32;
        let (losses, ratios) = left.split_vertically(left.dim_in_pixel().1 as i32 - ratios_height);
        self.losses(&losses.margin(0, GAP, 0, 0))?;
        self.ratios(&ratios)?;
        let rows = 0..self.comparison.rows.len();
        let enlarged = rows.end.saturating_sub(N_ENLARGED)..rows.end;
        let is_short = enlarged.start == 0;
        let (whole, below) = right.split_vertically(if is_short { 1150 } else { 640 });
        self.predictions(&whole.margin(0, GAP, 0, 0), self.canvas.texts.predictions, rows)?;
        if is_short {
            self.changes(&below, enlarged)?;
        } else {
            let (last, change) = below.split_vertically(660);
            let heading = fill(self.canvas.texts.last_rows, [&enlarged.len().to_string()]);
            self.predictions(&last.margin(0, GAP, 0, 0), &heading, enlarged.clone())?;
            self.changes(&change, enlarged)?;
        }
        Ok(())
    }

    fn header(&self, area: &Area) -> Drawn {
        let Comparison { series, source, settings, rows, models, is_synthetic, .. } = self.comparison;
        let width = area.dim_in_pixel().0 as i32;
        let names: Vec<&str> = models.iter().map(|model| model.name.as_str()).collect();
        let badge_width = if *is_synthetic { self.canvas.badge(area, self.canvas.texts.synthetic)? } else { 0 };
        let title = fill(self.canvas.texts.title, [&names.join(self.canvas.texts.versus), series]);
        self.canvas.fitted(area, &title, TITLE, (0, 40), width - badge_width);
        let mut parts = vec![fill(self.canvas.texts.source, [source])];
        if let [first, .., last] = &rows[..] {
            parts.push(fill(self.canvas.texts.validated_on, [&first.date, &last.date]));
        }
        parts.push(settings.clone());
        self.canvas.fitted(area, &parts.join("   |   "), LABEL, (0, 135), width);
        let mut entries = vec![(self.canvas.texts.actual, ACTUAL), (self.canvas.texts.persistence, PERSISTENCE)];
        entries.extend(models.iter().enumerate().map(|(index, model)| (model.name.as_str(), stroke(index, 12))));
        self.canvas.legend(area, &entries, LEGEND, 220)
    }

    /// Training and validation loss of every model, with persistence as the line to beat.
    fn losses(&self, area: &Area) -> Drawn {
        let Comparison { models, .. } = self.comparison;
        let n_epoch = models.iter().map(|model| model.epochs.len()).max().unwrap_or(0);
        let losses = models.iter().flat_map(|model| &model.epochs).flat_map(|epoch| [epoch.train_ratio, epoch.valid_ratio]);
        let y = Axis::wide(losses.chain([1.0]), 8);
        let body = self.canvas.heading(area, self.canvas.texts.loss);
        let key = |is_dashed| Stroke { color: FAINT, width: THICK, is_dashed };
        self.canvas.legend(&body, &[(self.canvas.texts.validation, key(false)), (self.canvas.texts.training, key(true))], TEXT, 10)?;
        let body = body.margin(60, 0, 0, 0);
        let Some(mut panel) =
            self.canvas.panel(&body, (Axis::counts(n_epoch, 10), self.canvas.texts.epoch), (y, self.canvas.texts.mse_ratio), &[])?
        else {
            return Ok(());
        };
        for (index, model) in models.iter().enumerate() {
            let epochs = || model.epochs.iter().zip(1..).map(|(epoch, number)| (f64::from(number), epoch));
            line(&mut panel, epochs().map(|(x, epoch)| (x, epoch.train_ratio)), Stroke { is_dashed: true, ..stroke(index, MEDIUM) })?;
            line(&mut panel, epochs().map(|(x, epoch)| (x, epoch.valid_ratio)), stroke(index, THICK))?;
            if n_epoch <= 25 {
                dots(&mut panel, epochs().map(|(x, epoch)| (x, epoch.valid_ratio)), stroke(index, 14))?;
            }
        }
        level(&mut panel, 1.0, PERSISTENCE)
    }

    /// Each model's validation error as a multiple of persistence's.
    fn ratios(&self, area: &Area) -> Drawn {
        let Comparison { models, .. } = self.comparison;
        let ratios: Vec<f64> = models.iter().map(|model| self.ratio(model)).collect();
        let body = self.canvas.heading(area, self.canvas.texts.against_persistence);
        let x = Axis::wide(ratios.iter().copied().chain([1.0]), 5).expect("1 is finite");
        let y = Axis::named(models.iter().map(|model| model.name.clone()).collect());
        let figures: Vec<String> =
            ratios.iter().map(|&ratio| if ratio.is_finite() { table::significant(ratio, 4) } else { "–".into() }).collect();
        let Some(mut panel) = self.canvas.panel(&body, (x, self.canvas.texts.mse_ratio), (Some(y), ""), &figures)? else { return Ok(()) };
        for (y, &ratio) in ratios.iter().enumerate() {
            line(&mut panel, [(1.0, y as f64), (ratio, y as f64)].into_iter().filter(|_| ratio.is_finite()), stroke(y, 14))?;
            dots(&mut panel, [(ratio, y as f64)], stroke(y, 20))?;
        }
        let Range { start, end } = panel.y_range();
        line(&mut panel, [(1.0, start), (1.0, end)], PERSISTENCE)
    }

    /// Mean squared error divided by persistence's, on the rows where all values are finite.
    fn ratio(&self, model: &Model) -> f64 {
        let rows = self.comparison.rows.iter().zip(&model.predictions);
        let squares = rows.map(|(row, prediction)| ((prediction - row.actual).powi(2), (row.last - row.actual).powi(2)));
        let finite = squares.filter(|(model, persistence)| (model + persistence).is_finite());
        let (model, persistence) = finite.fold((0.0, 0.0), |sum, square| (sum.0 + square.0, sum.1 + square.1));
        model / persistence
    }

    /// Actual values and every model's predictions.
    fn predictions(&self, area: &Area, heading: &str, rows: Range<usize>) -> Drawn {
        let Comparison { models, series, .. } = self.comparison;
        let shown = &self.comparison.rows[rows.clone()];
        let actual = || shown.iter().map(|row| row.actual);
        let predictions = |model: &Model| -> Vec<f64> { model.predictions.get(rows.clone()).unwrap_or_default().to_vec() };
        let body = self.canvas.heading(area, heading);
        let y = Axis::linear(actual().chain(models.iter().flat_map(predictions)), 6);
        let Some(mut panel) = self.canvas.panel(&body, self.dates(&body, shown), (y, series), &[])? else { return Ok(()) };
        line(&mut panel, numbered(actual()), ACTUAL)?;
        let is_close = shown.len() <= N_ENLARGED;
        for (index, model) in models.iter().enumerate() {
            // The earlier lines are wider, to be seen where a later one lies over them.
            let n_over = (models.len() - index - 1).min(3) as u32;
            let width = if is_close { MEDIUM + 6 * n_over } else { THIN + 1 + 5 * n_over };
            line(&mut panel, numbered(predictions(model)), stroke(index, width))?;
        }
        if is_close {
            dots(&mut panel, numbered(actual()), Stroke { color: FAINT, width: 11, is_dashed: false })?;
        }
        Ok(())
    }

    /// What tells the predictions apart: how far each leaves the last value.
    fn changes(&self, area: &Area, rows: Range<usize>) -> Drawn {
        let Comparison { models, .. } = self.comparison;
        let shown = &self.comparison.rows[rows.clone()];
        let change = |model: &Model| -> Vec<f64> {
            let predictions = model.predictions.get(rows.clone()).unwrap_or_default();
            predictions.iter().zip(shown).map(|(prediction, row)| prediction - row.last).collect()
        };
        let body = self.canvas.heading(area, self.canvas.texts.change);
        let y = Axis::linear(models.iter().flat_map(change).chain([0.0]), 5);
        let label = self.canvas.texts.change_axis;
        let Some(mut panel) = self.canvas.panel(&body, self.dates(&body, shown), (y, label), &[])? else { return Ok(()) };
        level(&mut panel, 0.0, PERSISTENCE)?;
        for (index, model) in models.iter().enumerate() {
            line(&mut panel, numbered(change(model)), stroke(index, MEDIUM))?;
        }
        Ok(())
    }

    fn dates(&self, area: &Area, rows: &[Row]) -> (Axis, &'static str) {
        let dates: Vec<&str> = rows.iter().map(|row| row.date.as_str()).collect();
        (self.canvas.dates(area, &dates), self.canvas.texts.date)
    }
}
