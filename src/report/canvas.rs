//! What every picture is drawn with: panels with axes, lines, legends, and the way to a PNG.

use std::ops::Range;

use plotters::prelude::*;

use super::axis::Axis;
use super::font::Typeface;
use super::language::Texts;
use super::text::{self, Anchor, Area, Type};
use crate::Message;
use crate::{Error, Result};

/// The picture is drawn at twice its size and then halved: plotters does not smooth thick lines.
/// All lengths below are in pixels as drawn.
pub(super) const WIDTH: usize = 4000;
pub(super) const MARGIN: i32 = 80;
/// Between panels.
pub(super) const GAP: i32 = 60;
pub(super) const HEADING_HEIGHT: i32 = 80;
/// Below a panel, for its tick labels and its axis label.
pub(super) const LABELS_HEIGHT: i32 = 135;
pub(super) const DASH: i32 = 22;
/// Left of a panel, at least, so that panels above each other are in line.
pub(super) const LABELS_WIDTH: i32 = 190;
pub(super) const INK: RGBColor = RGBColor(34, 34, 34);
pub(super) const FAINT: RGBColor = RGBColor(95, 95, 95);
pub(super) const GRID: RGBColor = RGBColor(226, 226, 226);
/// Told apart by colour-blind readers too (Okabe and Ito 2008, "Color universal design").
pub(super) const PALETTE: [RGBColor; 6] = [
    RGBColor(213, 94, 0),
    RGBColor(0, 114, 178),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
];

pub(super) const TITLE: Type = Type { size: 76.0, is_bold: true, color: INK };
pub(super) const HEADING: Type = Type { size: 46.0, is_bold: true, color: INK };
pub(super) const LEGEND: Type = Type { size: 44.0, is_bold: false, color: INK };
pub(super) const TEXT: Type = Type { size: 38.0, is_bold: false, color: INK };
pub(super) const LABEL: Type = Type { color: FAINT, ..TEXT };

pub(super) const THIN: u32 = 3;
pub(super) const MEDIUM: u32 = 6;
pub(super) const THICK: u32 = 9;
pub(super) const PERSISTENCE: Stroke = Stroke { color: INK, width: MEDIUM, is_dashed: true };

/// A line of a panel or of a legend.
#[derive(Clone, Copy)]
pub(super) struct Stroke {
    pub color: RGBColor,
    pub width: u32,
    pub is_dashed: bool,
}

pub(super) type Drawn<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;
pub(super) type Panel<'a, 'b> = ChartContext<'b, BitMapBackend<'a>, Cartesian2d<Axis, Axis>>;

/// The picture as the bytes of a PNG file, 2000 pixels wide: `draw` gets the area within the margins, as wide as [`WIDTH`] less those.
///
/// # Errors
/// [`Error::Unsupported`] where plotters or the encoder fails, which no data should cause.
pub(super) fn png(height: usize, draw: impl FnOnce(&Area) -> Drawn) -> Result<Vec<u8>> {
    let mut pixels = vec![0; 3 * WIDTH * height];
    let drawn = (|| {
        let area = BitMapBackend::with_buffer(&mut pixels, (WIDTH as u32, height as u32)).into_drawing_area();
        area.fill(&WHITE)?;
        draw(&area.margin(MARGIN, MARGIN / 2, MARGIN, MARGIN))?;
        area.present()?;
        Ok(())
    })();
    drawn
        .and_then(|()| encode(&pixels, height))
        .map_err(|error| Error::Unsupported { operation: "picture", what: Message::verbatim(error) })
}

/// A hand that writes and draws.
#[derive(Clone, Copy)]
pub(super) struct Canvas<'a> {
    pub typeface: &'a Typeface,
    pub texts: &'static Texts,
}

impl<'a> Canvas<'a> {
    /// One that writes in a typeface and its language.
    pub fn new(typeface: &'a Typeface) -> Self {
        Canvas { typeface, texts: typeface.lang().texts() }
    }

    /// A filled label in the upper right corner; returns the width to keep free for it.
    pub fn badge(&self, area: &Area, text: &str) -> Drawn<i32> {
        let kind = Type { color: WHITE, ..HEADING };
        let (width, right) = (text::width(self.typeface, text, kind) + 80, area.dim_in_pixel().0 as i32);
        area.draw(&Rectangle::new([(right - width, -10), (right, 90)], INK.filled()))?;
        text::draw(area, self.typeface, text, kind, (right - width / 2, 40), Anchor::Centre);
        Ok(width + GAP)
    }

    /// Keys and names from left to right at height `y`, smaller where they would not fit.
    pub fn legend(&self, area: &Area, entries: &[(&str, Stroke)], kind: Type, y: i32) -> Drawn {
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

    /// Writes a line of text from `place` to the right, smaller where it would be wider than `width`.
    pub fn fitted(&self, area: &Area, text: &str, kind: Type, place: (i32, i32), width: i32) {
        text::draw(area, self.typeface, text, self.shrunk(text, kind, width), place, Anchor::Left);
    }

    /// `kind`, smaller where `text` would be wider than `width`.
    pub fn shrunk(&self, text: &str, kind: Type, width: i32) -> Type {
        let factor = f64::from(width) / f64::from(text::width(self.typeface, text, kind).max(1));
        Type { size: kind.size * factor.min(1.0), ..kind }
    }

    /// Writes a panel's heading and returns what is left below.
    pub fn heading<'b>(&self, area: &Area<'b>, text: &str) -> Area<'b> {
        let (top, body) = area.split_vertically(HEADING_HEIGHT);
        self.fitted(&top, text, HEADING, (0, 20), top.dim_in_pixel().0 as i32);
        body
    }

    /// An axis of dates for a panel of `area`, with as many ticks as have room beside each other, 8 at most.
    pub fn dates(&self, area: &Area, dates: &[&str]) -> Axis {
        let width = f64::from(area.dim_in_pixel().0 as i32 - LABELS_WIDTH);
        let has_room = |axis: &Axis| {
            let ends = |(value, text): &(f64, String)| {
                let (at, half) = (axis.fraction(*value) * width, f64::from(text::width(self.typeface, text, TEXT)) / 2.0);
                (at - half, at + half)
            };
            let ends: Vec<(f64, f64)> = axis.ticks().iter().map(ends).collect();
            ends.windows(2).all(|pair| pair[0].1 + TEXT.size / 2.0 <= pair[1].0)
        };
        (2..=8).rev().map(|n_tick| Axis::dates(dates, n_tick)).find(has_room).unwrap_or_else(|| Axis::dates(dates, 1))
    }

    /// Draws the axes and the grid, with `figures` to the right of the ticks of `y`. Where `y` is none, says that there is nothing to show.
    pub fn panel<'c, 'b>(
        &self,
        area: &'b Area<'c>,
        (x, x_label): (Axis, &str),
        (y, y_label): (Option<Axis>, &str),
        figures: &[String],
    ) -> Drawn<Option<Panel<'c, 'b>>> {
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
        let (x_label, y_label) = (&x.named_with_power(x_label), &y.named_with_power(y_label));
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
pub(super) fn stroke(index: usize, width: u32) -> Stroke {
    Stroke { color: PALETTE[index % PALETTE.len()], width, is_dashed: false }
}

/// Draws a horizontal line at `y`.
pub(super) fn level(panel: &mut Panel, y: f64, stroke: Stroke) -> Drawn {
    let Range { start, end } = panel.x_range();
    line(panel, [(start, y), (end, y)], stroke)
}

/// Draws a line through the points, with gaps where one cannot be drawn.
pub(super) fn line(panel: &mut Panel, points: impl IntoIterator<Item = (f64, f64)>, stroke: Stroke) -> Drawn {
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
pub(super) fn dots(panel: &mut Panel, points: impl IntoIterator<Item = (f64, f64)>, stroke: Stroke) -> Drawn {
    let (x, y) = (panel.as_coord_spec().x_spec().clone(), panel.as_coord_spec().y_spec().clone());
    let points = points.into_iter().filter(|point| x.has(point.0) && y.has(point.1));
    panel.draw_series(points.map(|point| Circle::new(point, stroke.width, stroke.color.filled())))?;
    Ok(())
}

/// Values with their places on an axis of rows.
pub(super) fn numbered(values: impl IntoIterator<Item = f64>) -> impl Iterator<Item = (f64, f64)> {
    values.into_iter().enumerate().map(|(row, value)| (row as f64, value))
}

/// Halves the drawn picture, averaging each four pixels, and encodes it.
fn encode(pixels: &[u8], height: usize) -> Drawn<Vec<u8>> {
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
    let mut encoder = png::Encoder::new(&mut bytes, WIDTH as u32 / 2, height as u32 / 2);
    encoder.set_color(png::ColorType::Rgb);
    encoder.write_header()?.write_image_data(&half)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_dates_keep_apart_in_a_narrow_panel() {
        let (typeface, _) = Typeface::system(crate::report::Lang::En);
        let canvas = Canvas::new(&typeface);
        let hours: Vec<String> = (0..84).map(|hour| format!("2024-01-{:02} {:02}:00:00", 14 + hour / 24, hour % 24)).collect();
        let hours: Vec<&str> = hours.iter().map(String::as_str).collect();
        let n_tick = |width: u32| {
            let mut pixels = vec![0; 3 * width as usize];
            let area = BitMapBackend::with_buffer(&mut pixels, (width, 1)).into_drawing_area();
            canvas.dates(&area, &hours).ticks().len()
        };
        assert_eq!([4000, 1200, 300].map(n_tick), [6, 3, 1]);
    }
}
