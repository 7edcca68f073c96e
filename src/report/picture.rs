//! The picture of a comparison: losses, errors and predictions of every model.

use std::io::Write;
use std::ops::Range;
use std::path::Path;

use plotters::prelude::*;

use super::axis::Axis;
use super::font::Typeface;
use super::language::{Lang, Texts, fill};
use super::table;
use super::text::{self, Anchor, Area, Type};
use crate::{Error, Result};

/// Everything that the picture shows.
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    /// What is predicted, for the title: `AAPL Close`.
    pub series: String,
    /// The unit of its values, where it is known: `USD`.
    pub unit: Option<String>,
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

/// Draws `comparison` in `lang` and writes it to `path` as a PNG. Returns a warning to show where the texts had to be in English.
///
/// # Errors
/// [`Error::File`] where `path` cannot be written; what was there before is then still there.
pub fn write(comparison: &Comparison, lang: Lang, path: &Path) -> Result<Option<&'static str>> {
    let (typeface, warning) = Typeface::system(lang);
    let bytes = png(comparison, &typeface)?;
    crate::file::save(path, |writer| writer.write_all(&bytes))?;
    Ok(warning)
}

/// The picture as the bytes of a PNG file, 2000 x 1120 pixels. Values that are not finite are left out.
///
/// # Errors
/// [`Error::Unsupported`] where plotters or the encoder fails, which no data should cause.
pub fn png(comparison: &Comparison, typeface: &Typeface) -> Result<Vec<u8>> {
    let mut pixels = vec![0; 3 * WIDTH * HEIGHT];
    let drawn = Canvas { comparison, typeface, texts: typeface.lang().texts() }.draw(&mut pixels);
    drawn.and_then(|()| encode(&pixels)).map_err(|error| Error::Unsupported { operation: "picture", what: error.to_string() })
}

/// The picture is drawn at twice its size and then halved: plotters does not smooth thick lines.
/// All lengths below are in pixels as drawn.
const WIDTH: usize = 4000;
const HEIGHT: usize = 2240;
const MARGIN: i32 = 80;
/// Between panels.
const GAP: i32 = 60;
const HEADING_HEIGHT: i32 = 80;
/// Below a panel, for its tick labels and its axis label.
const LABELS_HEIGHT: i32 = 135;
const DASH: i32 = 22;
/// Left of a panel, at least, so that panels above each other are in line.
const LABELS_WIDTH: i32 = 190;
/// So many last rows are shown enlarged.
const N_ENLARGED: usize = 60;

const INK: RGBColor = RGBColor(34, 34, 34);
const FAINT: RGBColor = RGBColor(95, 95, 95);
const GRID: RGBColor = RGBColor(226, 226, 226);
/// Told apart by colour-blind readers too (Okabe and Ito 2008, "Color universal design").
const PALETTE: [RGBColor; 6] = [
    RGBColor(213, 94, 0),
    RGBColor(0, 114, 178),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
];

const TITLE: Type = Type { size: 76.0, is_bold: true, color: INK };
const HEADING: Type = Type { size: 46.0, is_bold: true, color: INK };
const LEGEND: Type = Type { size: 44.0, is_bold: false, color: INK };
const TEXT: Type = Type { size: 38.0, is_bold: false, color: INK };
const LABEL: Type = Type { color: FAINT, ..TEXT };

const THIN: u32 = 3;
const MEDIUM: u32 = 6;
const THICK: u32 = 9;
const ACTUAL: Stroke = Stroke { color: RGBColor(185, 185, 185), width: 16, is_dashed: false };
const PERSISTENCE: Stroke = Stroke { color: INK, width: MEDIUM, is_dashed: true };

/// A line of a panel or of a legend.
#[derive(Clone, Copy)]
struct Stroke {
    color: RGBColor,
    width: u32,
    is_dashed: bool,
}

type Drawn<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;
type Panel<'a, 'b> = ChartContext<'b, BitMapBackend<'a>, Cartesian2d<Axis, Axis>>;

struct Canvas<'a> {
    comparison: &'a Comparison,
    typeface: &'a Typeface,
    texts: &'static Texts,
}

impl Canvas<'_> {
    fn draw(&self, pixels: &mut [u8]) -> Drawn {
        let area = BitMapBackend::with_buffer(pixels, (WIDTH as u32, HEIGHT as u32)).into_drawing_area();
        area.fill(&WHITE)?;
        let (header, body) = area.margin(MARGIN, MARGIN / 2, MARGIN, MARGIN).split_vertically(320);
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
        self.predictions(&whole.margin(0, GAP, 0, 0), self.texts.predictions, rows)?;
        if is_short {
            self.changes(&below, enlarged)?;
        } else {
            let (last, change) = below.split_vertically(660);
            let heading = fill(self.texts.last_rows, [&enlarged.len().to_string()]);
            self.predictions(&last.margin(0, GAP, 0, 0), &heading, enlarged.clone())?;
            self.changes(&change, enlarged)?;
        }
        area.present()?;
        Ok(())
    }

    fn header(&self, area: &Area) -> Drawn {
        let Comparison { series, source, settings, rows, models, is_synthetic, .. } = self.comparison;
        let width = area.dim_in_pixel().0 as i32;
        let names: Vec<&str> = models.iter().map(|model| model.name.as_str()).collect();
        let badge_width = if *is_synthetic { self.badge(area, self.texts.synthetic)? } else { 0 };
        let title = fill(self.texts.title, [&names.join(self.texts.versus), series]);
        self.fitted(area, &title, TITLE, (0, 40), width - badge_width);
        let mut parts = vec![fill(self.texts.source, [source])];
        if let [first, .., last] = &rows[..] {
            parts.push(fill(self.texts.validated_on, [&first.date, &last.date]));
        }
        parts.push(settings.clone());
        self.fitted(area, &parts.join("   |   "), LABEL, (0, 135), width);
        let mut entries = vec![(self.texts.actual, ACTUAL), (self.texts.persistence, PERSISTENCE)];
        entries.extend(models.iter().enumerate().map(|(index, model)| (model.name.as_str(), stroke(index, 12))));
        self.legend(area, &entries, LEGEND, 220)
    }

    /// A filled label in the upper right corner; returns the width to keep free for it.
    fn badge(&self, area: &Area, text: &str) -> Drawn<i32> {
        let kind = Type { color: WHITE, ..HEADING };
        let (width, right) = (text::width(self.typeface, text, kind) + 80, area.dim_in_pixel().0 as i32);
        area.draw(&Rectangle::new([(right - width, -10), (right, 90)], INK.filled()))?;
        text::draw(area, self.typeface, text, kind, (right - width / 2, 40), Anchor::Centre);
        Ok(width + GAP)
    }

    /// Keys and names from left to right at height `y`, smaller where they would not fit.
    fn legend(&self, area: &Area, entries: &[(&str, Stroke)], kind: Type, y: i32) -> Drawn {
        // A key, the gap after it and the gap after the name, in ems.
        let (key, near, far) = (2.2, 0.5, 1.3);
        let names: i32 = entries.iter().map(|entry| text::width(self.typeface, entry.0, kind)).sum();
        let total = f64::from(names) + (key + near + far) * kind.size * entries.len() as f64;
        let kind = Type { size: kind.size * (f64::from(area.dim_in_pixel().0) / total).min(1.0), ..kind };
        let mut left = 0.0;
        for (name, stroke) in entries {
            let style: ShapeStyle = stroke.color.stroke_width(stroke.width);
            let n_piece = if stroke.is_dashed { 5 } else { 1 };
            for piece in (0..n_piece).step_by(2) {
                let end = |piece: i32| ((left + key * kind.size * f64::from(piece) / f64::from(n_piece)) as i32, y);
                area.draw(&PathElement::new([end(piece), end(piece + 1)], style))?;
            }
            left += (key + near) * kind.size;
            text::draw(area, self.typeface, name, kind, (left as i32, y), Anchor::Left);
            left += f64::from(text::width(self.typeface, name, kind)) + far * kind.size;
        }
        Ok(())
    }

    /// Training and validation loss of every model, with persistence as the line to beat.
    fn losses(&self, area: &Area) -> Drawn {
        let Comparison { models, .. } = self.comparison;
        let n_epoch = models.iter().map(|model| model.epochs.len()).max().unwrap_or(0);
        let losses = models.iter().flat_map(|model| &model.epochs).flat_map(|epoch| [epoch.train_ratio, epoch.valid_ratio]);
        let y = Axis::wide(losses.chain([1.0]), 8);
        let body = self.heading(area, self.texts.loss);
        let key = |is_dashed| Stroke { color: FAINT, width: THICK, is_dashed };
        self.legend(&body, &[(self.texts.validation, key(false)), (self.texts.training, key(true))], TEXT, 10)?;
        let body = body.margin(60, 0, 0, 0);
        let Some(mut panel) = self.panel(&body, (Axis::counts(n_epoch, 10), self.texts.epoch), (y, self.texts.mse_ratio), &[])? else {
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
        let body = self.heading(area, self.texts.against_persistence);
        let x = Axis::wide(ratios.iter().copied().chain([1.0]), 5).expect("1 is finite");
        let y = Axis::named(models.iter().map(|model| model.name.clone()).collect());
        let figures: Vec<String> =
            ratios.iter().map(|&ratio| if ratio.is_finite() { table::significant(ratio, 4) } else { "–".into() }).collect();
        let Some(mut panel) = self.panel(&body, (x, self.texts.mse_ratio), (Some(y), ""), &figures)? else { return Ok(()) };
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
        let body = self.heading(area, heading);
        let y = Axis::linear(actual().chain(models.iter().flat_map(predictions)), 6);
        let Some(mut panel) = self.panel(&body, self.dates(shown), (y, &self.with_unit(series)), &[])? else { return Ok(()) };
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
        let body = self.heading(area, self.texts.change);
        let y = Axis::linear(models.iter().flat_map(change).chain([0.0]), 5);
        let label = self.with_unit(self.texts.change_axis);
        let Some(mut panel) = self.panel(&body, self.dates(shown), (y, &label), &[])? else { return Ok(()) };
        level(&mut panel, 0.0, PERSISTENCE)?;
        for (index, model) in models.iter().enumerate() {
            line(&mut panel, numbered(change(model)), stroke(index, MEDIUM))?;
        }
        Ok(())
    }

    fn with_unit(&self, quantity: &str) -> String {
        self.comparison.unit.as_ref().map_or_else(|| quantity.into(), |unit| fill(self.texts.in_unit, [quantity, unit]))
    }

    fn dates(&self, rows: &[Row]) -> (Axis, &'static str) {
        let dates: Vec<&str> = rows.iter().map(|row| row.date.as_str()).collect();
        (Axis::dates(&dates, 8), self.texts.date)
    }

    /// Writes a line of text from `place` to the right, smaller where it would be wider than `width`.
    fn fitted(&self, area: &Area, text: &str, kind: Type, place: (i32, i32), width: i32) {
        text::draw(area, self.typeface, text, self.shrunk(text, kind, width), place, Anchor::Left);
    }

    /// `kind`, smaller where `text` would be wider than `width`.
    fn shrunk(&self, text: &str, kind: Type, width: i32) -> Type {
        let factor = f64::from(width) / f64::from(text::width(self.typeface, text, kind).max(1));
        Type { size: kind.size * factor.min(1.0), ..kind }
    }

    /// Writes a panel's heading and returns what is left below.
    fn heading<'a>(&self, area: &Area<'a>, text: &str) -> Area<'a> {
        let (top, body) = area.split_vertically(HEADING_HEIGHT);
        self.fitted(&top, text, HEADING, (0, 20), top.dim_in_pixel().0 as i32);
        body
    }

    /// Draws the axes and the grid, with `figures` to the right of the ticks of `y`. Where `y` is none, says that there is nothing to show.
    fn panel<'a, 'b>(
        &self,
        area: &'b Area<'a>,
        (x, x_label): (Axis, &str),
        (y, y_label): (Option<Axis>, &str),
        figures: &[String],
    ) -> Drawn<Option<Panel<'a, 'b>>> {
        let (width, height) = (area.dim_in_pixel().0 as i32, area.dim_in_pixel().1 as i32);
        let write = |text: &str, kind, place, anchor| text::draw(area, self.typeface, text, kind, place, anchor);
        let Some(y) = y else {
            write(self.texts.no_finite_values, LABEL, (width / 2, height / 2), Anchor::Centre);
            return Ok(None);
        };
        let widest = |texts: &[&str], kind| texts.iter().map(|text| text::width(self.typeface, text, kind)).max().unwrap_or(0);
        let tick_texts: Vec<&str> = y.ticks().iter().map(|tick| tick.1.as_str()).collect();
        let figure_texts: Vec<&str> = figures.iter().map(String::as_str).collect();
        let left = (widest(&tick_texts, TEXT) + if y_label.is_empty() { 25 } else { 90 }).max(LABELS_WIDTH).min(width / 2);
        let right = (widest(&figure_texts, HEADING) + 30).min(width / 4);
        let panel = ChartBuilder::on(area).margin_left(left).margin_right(right).margin_bottom(LABELS_HEIGHT).build_cartesian_2d(x, y)?;
        let (x, y) = (panel.as_coord_spec().x_spec(), panel.as_coord_spec().y_spec());
        let bottom = height - LABELS_HEIGHT;
        for (value, text) in x.ticks() {
            let place = left + (x.fraction(*value) * f64::from(width - left - right)) as i32;
            area.draw(&PathElement::new([(place, 0), (place, bottom)], GRID.stroke_width(THIN)))?;
            write(text, TEXT, (place, bottom + 38), Anchor::Centre);
        }
        for (index, (value, text)) in y.ticks().iter().enumerate() {
            let place = bottom - (y.fraction(*value) * f64::from(bottom)) as i32;
            area.draw(&PathElement::new([(left, place), (width - right, place)], GRID.stroke_width(THIN)))?;
            write(text, TEXT, (left - 20, place), Anchor::Right);
            if let Some(figure) = figures.get(index) {
                write(figure, HEADING, (width, place), Anchor::Right);
            }
        }
        area.draw(&PathElement::new([(left, 0), (left, bottom), (width - right, bottom)], FAINT.stroke_width(THIN)))?;
        write(x_label, LABEL, ((left + width - right) / 2, bottom + 100), Anchor::Centre);
        write(y_label, self.shrunk(y_label, LABEL, bottom), (20, bottom / 2), Anchor::Upward);
        Ok(Some(panel))
    }
}

/// The line of the model at `index`.
fn stroke(index: usize, width: u32) -> Stroke {
    Stroke { color: PALETTE[index % PALETTE.len()], width, is_dashed: false }
}

/// Draws a horizontal line at `y`.
fn level(panel: &mut Panel, y: f64, stroke: Stroke) -> Drawn {
    let Range { start, end } = panel.x_range();
    line(panel, [(start, y), (end, y)], stroke)
}

/// Draws a line through the points, with gaps where one cannot be drawn.
fn line(panel: &mut Panel, points: impl IntoIterator<Item = (f64, f64)>, stroke: Stroke) -> Drawn {
    let points: Vec<(f64, f64)> = points.into_iter().collect();
    let style = stroke.color.stroke_width(stroke.width);
    let (x, y) = (panel.as_coord_spec().x_spec().clone(), panel.as_coord_spec().y_spec().clone());
    for run in points.split(|point| !(x.has(point.0) && y.has(point.1))) {
        if stroke.is_dashed && run.len() > 1 {
            panel.draw_series(DashedLineSeries::new(run.iter().copied(), DASH, DASH, style))?;
        } else {
            // Piece by piece with round joints: the mitred ones of a whole path overshoot at every peak.
            panel.draw_series(run.windows(2).map(|piece| PathElement::new(piece, style)))?;
            dots(panel, run.iter().copied(), Stroke { width: stroke.width / 2, ..stroke })?;
        }
    }
    Ok(())
}

/// Draws a disc at each point that can be drawn, with the stroke's width as its radius.
fn dots(panel: &mut Panel, points: impl IntoIterator<Item = (f64, f64)>, stroke: Stroke) -> Drawn {
    let (x, y) = (panel.as_coord_spec().x_spec().clone(), panel.as_coord_spec().y_spec().clone());
    let points = points.into_iter().filter(|point| x.has(point.0) && y.has(point.1));
    panel.draw_series(points.map(|point| Circle::new(point, stroke.width, stroke.color.filled())))?;
    Ok(())
}

/// Values with their places on an axis of rows.
fn numbered(values: impl IntoIterator<Item = f64>) -> impl Iterator<Item = (f64, f64)> {
    values.into_iter().enumerate().map(|(row, value)| (row as f64, value))
}

/// Halves the drawn picture, averaging each four pixels, and encodes it.
fn encode(pixels: &[u8]) -> Drawn<Vec<u8>> {
    let row = 3 * WIDTH;
    let mut half = Vec::with_capacity(pixels.len() / 4);
    for pair in pixels.chunks_exact(2 * row) {
        let (upper, lower) = pair.split_at(row);
        for (upper, lower) in upper.chunks_exact(6).zip(lower.chunks_exact(6)) {
            half.extend(
                (0..3).map(|c| ((u16::from(upper[c]) + u16::from(upper[c + 3]) + u16::from(lower[c]) + u16::from(lower[c + 3])) / 4) as u8),
            );
        }
    }
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, WIDTH as u32 / 2, HEIGHT as u32 / 2);
    encoder.set_color(png::ColorType::Rgb);
    encoder.write_header()?.write_image_data(&half)?;
    Ok(bytes)
}
