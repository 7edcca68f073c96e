//! Pictures made of panels: training curves, forecasts with their bands, scores side by side.

use std::path::Path;

use plotters::prelude::*;

use super::axis::Axis;
use super::canvas::{
    self, Canvas, Drawn, FAINT, GAP, LABEL, LEGEND, MEDIUM, PERSISTENCE, Stroke, THICK, TITLE, WIDTH, dots, level, line, stroke,
};
use super::font::Typeface;
use super::language::Lang;
use super::table::significant;
use super::text::Area;
use crate::Result;

/// A picture of panels in a grid, with a title and a legend above them.
#[derive(Clone, Debug, Default)]
pub struct Chart {
    /// In large letters.
    pub title: String,
    /// Below the title, in one line.
    pub remarks: Vec<String>,
    /// Whether the data are made up, which the picture then says.
    pub is_synthetic: bool,
    /// Names of the looks that the panels share.
    pub legend: Vec<(String, Look)>,
    /// The panels, row by row.
    pub panels: Vec<Panel>,
    /// Panels beside each other.
    pub n_column: usize,
}

/// Whose line it is: each has its colour and its stroke in every panel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// What came.
    Actual,
    /// What models are held against.
    Baseline,
    /// The model at this place.
    Model(usize),
    /// The model at this place, on the rows that it was trained on.
    Training(usize),
}

impl Look {
    fn stroke(self) -> Stroke {
        match self {
            Look::Actual => Stroke { color: FAINT, width: MEDIUM, is_dashed: false },
            Look::Baseline => PERSISTENCE,
            Look::Model(index) => stroke(index, THICK),
            Look::Training(index) => Stroke { is_dashed: true, ..stroke(index, MEDIUM) },
        }
    }
}

/// One panel.
#[derive(Clone, Debug)]
pub enum Panel {
    /// Lines over a common axis.
    Lines {
        /// What is shown.
        heading: String,
        /// The horizontal axis.
        x: Places,
        /// Name of the vertical axis.
        y_label: String,
        /// Drawn in this order, bands first.
        lines: Vec<Line>,
        /// A horizontal line to compare with.
        level: Option<f64>,
        /// A place on the horizontal axis at which something begins, as a vertical line.
        border: Option<f64>,
    },
    /// A figure for each name, with how far it varies.
    Scores {
        /// What is shown.
        heading: String,
        /// Name of the figures.
        label: String,
        /// Name, look, mean and standard deviation.
        rows: Vec<(String, Look, f64, f64)>,
        /// The figure to beat.
        level: Option<f64>,
    },
}

/// A horizontal axis.
#[derive(Clone, Debug)]
pub enum Places {
    /// Rows `0..`, with their dates.
    Rows(Vec<String>),
    /// Whole numbers from 1, with the axis's name.
    Counts(usize, String),
}

/// A line of a panel.
#[derive(Clone, Debug)]
pub struct Line {
    /// Whose it is.
    pub look: Look,
    /// Places and values.
    pub points: Vec<(f64, f64)>,
    /// Places, lower and upper ends of a band around the line.
    pub band: Vec<(f64, f64, f64)>,
}

impl Line {
    /// Values at the places from `first` on.
    pub fn new(look: Look, first: usize, values: impl IntoIterator<Item = f64>) -> Self {
        let points = values.into_iter().enumerate().map(|(index, value)| ((first + index) as f64, value)).collect();
        Line { look, points, band: Vec::new() }
    }
}

/// Draws a chart, made for the language that it is given, and writes it to `path` as a PNG: in `lang`, or in English with a warning to show.
///
/// # Errors
/// [`Error::File`](crate::Error::File) where `path` cannot be written; what was there before is then still there.
pub fn write(lang: Lang, path: &Path, chart: impl FnOnce(Lang) -> Chart) -> Result<Option<&'static str>> {
    super::write_picture(lang, path, |typeface| png(&chart(typeface.lang()), typeface))
}

/// The picture as the bytes of a PNG file, 2000 pixels wide. Values that are not finite are left out.
///
/// # Errors
/// [`Error::Unsupported`](crate::Error::Unsupported) where plotters or the encoder fails, which no data should cause.
pub fn png(chart: &Chart, typeface: &Typeface) -> Result<Vec<u8>> {
    let heights = chart.row_heights();
    let header = HEADER - if chart.legend.is_empty() { LEGEND_HEIGHT } else { 0 };
    let height = header + heights.iter().sum::<i32>() + GAP * heights.len() as i32 + 2 * canvas::MARGIN;
    canvas::png(height as usize, |area| chart.draw(area, &Canvas::new(typeface), header, &heights))
}

/// Height of title, remarks and legend, in pixels as drawn.
const HEADER: i32 = 320;
const LEGEND_HEIGHT: i32 = 110;
const LINES_HEIGHT: i32 = 860;
/// A panel of one row of panels that are all that there is.
const TALL: i32 = 1500;

impl Chart {
    fn n_column(&self) -> usize {
        self.n_column.clamp(1, self.panels.len().max(1))
    }

    fn row_heights(&self) -> Vec<i32> {
        let is_single = self.panels.len() <= self.n_column();
        let height = |panel: &Panel| match panel {
            Panel::Lines { .. } if is_single => TALL,
            Panel::Lines { .. } => LINES_HEIGHT,
            Panel::Scores { rows, .. } => 260 + 90 * rows.len().max(2) as i32,
        };
        self.panels.chunks(self.n_column()).map(|row| row.iter().map(height).max().unwrap_or(0)).collect()
    }

    fn draw(&self, area: &Area, canvas: &Canvas, header: i32, heights: &[i32]) -> Drawn {
        let (top, mut rest) = area.split_vertically(header);
        let width = top.dim_in_pixel().0 as i32;
        let badge_width = if self.is_synthetic { canvas.badge(&top, canvas.texts.synthetic)? } else { 0 };
        canvas.fitted(&top, &self.title, TITLE, (0, 40), width - badge_width);
        canvas.fitted(&top, &self.remarks.join("   |   "), LABEL, (0, 135), width);
        let legend: Vec<_> = self.legend.iter().map(|(name, look)| (name.as_str(), look.stroke())).collect();
        if !legend.is_empty() {
            canvas.legend(&top, &legend, LEGEND, 220)?;
        }
        let n_column = self.n_column();
        let column_width = (WIDTH as i32 - 2 * canvas::MARGIN - GAP * (n_column as i32 - 1)) / n_column as i32;
        for (row, &height) in self.panels.chunks(n_column).zip(heights) {
            let (mut line, below) = rest.split_vertically(height + GAP);
            for panel in row {
                let (cell, right) = line.split_horizontally(column_width + GAP);
                panel.draw(&cell.margin(0, GAP, 0, if n_column == 1 { 0 } else { GAP }), canvas)?;
                line = right;
            }
            rest = below;
        }
        Ok(())
    }
}

impl Panel {
    fn draw(&self, area: &Area, canvas: &Canvas) -> Drawn {
        match self {
            Panel::Lines { heading, x, y_label, lines, level, border } => {
                let body = canvas.heading(area, heading);
                let (x, x_label) = match x {
                    Places::Rows(dates) => {
                        let dates: Vec<&str> = dates.iter().map(String::as_str).collect();
                        (canvas.dates(&body, &dates), canvas.texts.date)
                    }
                    Places::Counts(n, label) => (Axis::counts(*n, 10), label.as_str()),
                };
                draw_lines(&body, canvas, (x, x_label), y_label, lines, *level, *border)
            }
            Panel::Scores { heading, label, rows, level } => {
                let body = canvas.heading(area, heading);
                draw_scores(&body, canvas, label, rows, *level)
            }
        }
    }
}

fn draw_lines(
    area: &Area,
    canvas: &Canvas,
    x: (Axis, &str),
    y_label: &str,
    lines: &[Line],
    level_at: Option<f64>,
    border: Option<f64>,
) -> Drawn {
    let values = lines.iter().flat_map(|line| line.points.iter().map(|point| point.1));
    let ends = lines.iter().flat_map(|line| line.band.iter().flat_map(|band| [band.1, band.2]));
    let y = Axis::linear(values.chain(ends).chain(level_at), 6);
    let Some(mut panel) = canvas.panel(area, x, (y, y_label), &[])? else { return Ok(()) };
    for Line { look, band, .. } in lines.iter().filter(|line| !line.band.is_empty()) {
        let outline = band.iter().map(|band| (band.0, band.1)).chain(band.iter().rev().map(|band| (band.0, band.2)));
        let outline: Vec<_> = outline.filter(|point| point.1.is_finite()).collect();
        panel.draw_series([Polygon::new(outline, look.stroke().color.mix(0.2))])?;
    }
    if let Some(at) = level_at {
        level(&mut panel, at, PERSISTENCE)?;
    }
    if let Some(at) = border {
        let range = panel.y_range();
        line(&mut panel, [(at, range.start), (at, range.end)], Stroke { color: FAINT, width: 3, is_dashed: true })?;
    }
    for Line { look, points, .. } in lines {
        line(&mut panel, points.iter().copied(), look.stroke())?;
        if points.len() <= 25 && !matches!(look, Look::Training(_)) {
            dots(&mut panel, points.iter().copied(), Stroke { width: 12, ..look.stroke() })?;
        }
    }
    Ok(())
}

fn draw_scores(area: &Area, canvas: &Canvas, label: &str, rows: &[(String, Look, f64, f64)], level_at: Option<f64>) -> Drawn {
    let ends = rows.iter().flat_map(|&(_, _, mean, deviation)| [mean - deviation, mean, mean + deviation]);
    let Some(x) = Axis::linear(ends.chain(level_at), 5) else { return Ok(()) };
    let y = Axis::named(rows.iter().map(|row| row.0.clone()).collect());
    let figure = |mean: f64| if mean.is_finite() { significant(mean, 4) } else { "–".into() };
    let figures: Vec<String> = rows.iter().map(|row| figure(row.2)).collect();
    let Some(mut panel) = canvas.panel(area, (x, label), (Some(y), ""), &figures)? else { return Ok(()) };
    for (y, &(_, look, mean, deviation)) in rows.iter().enumerate() {
        let color = look.stroke().color;
        line(&mut panel, [(mean - deviation, y as f64), (mean + deviation, y as f64)], Stroke { color, width: 12, is_dashed: false })?;
        dots(&mut panel, [(mean, y as f64)], Stroke { color, width: 20, is_dashed: false })?;
    }
    if let Some(at) = level_at {
        let range = panel.y_range();
        line(&mut panel, [(at, range.start), (at, range.end)], PERSISTENCE)?;
    }
    Ok(())
}
