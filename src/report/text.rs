//! Lines of text in the pictures: measured, and drawn with every glyph at its own place.

use ab_glyph::{Font, FontArc, Glyph, PxScale, point};
use plotters::coord::Shift;
use plotters::prelude::{BitMapBackend, Color, DrawingArea, RGBColor};

use super::font::Typeface;

/// An area of the picture, with its own origin.
pub(super) type Area<'a> = DrawingArea<BitMapBackend<'a>, Shift>;

/// How a line of text looks.
#[derive(Clone, Copy)]
pub(super) struct Type {
    /// Pixels of an em.
    pub size: f64,
    pub is_bold: bool,
    pub color: RGBColor,
}

/// Which point of a line of text lies at its place; up and down it is always the middle of the capitals.
#[derive(Clone, Copy)]
pub(super) enum Anchor {
    Left,
    Centre,
    Right,
    /// As `Centre`, read from bottom to top.
    Upward,
}

/// The width of `text` in pixels.
pub(super) fn width(typeface: &Typeface, text: &str, kind: Type) -> i32 {
    lay_out(typeface, text, kind).1.ceil() as i32
}

/// Draws `text` with its anchor at `place`. A character that no font has becomes a question mark.
pub(super) fn draw(area: &Area, typeface: &Typeface, text: &str, kind: Type, place: (i32, i32), anchor: Anchor) {
    let font = typeface.font(kind.is_bold);
    let (glyphs, width) = lay_out(typeface, text, kind);
    let left = match anchor {
        Anchor::Left => 0.0,
        Anchor::Centre | Anchor::Upward => -width / 2.0,
        Anchor::Right => -width,
    };
    let capital = font.glyph_id('H').with_scale(scale(font, kind.size));
    let middle = font.outline_glyph(capital).map_or(0.0, |outline| outline.px_bounds().height() / 2.0);
    for (font, mut glyph) in glyphs {
        glyph.position += point(left, middle);
        let Some(outline) = font.outline_glyph(glyph) else { continue };
        let corner = outline.px_bounds().min;
        outline.draw(|x, y, coverage| {
            let (x, y) = (corner.x as i32 + x as i32, corner.y as i32 + y as i32);
            let (x, y) = if matches!(anchor, Anchor::Upward) { (y, -x) } else { (x, y) };
            let color = kind.color.mix(f64::from(coverage.min(1.0)));
            // A buffer in memory takes every pixel, and ignores those outside.
            let _ = area.draw_pixel((place.0 + x, place.1 + y), &color);
        });
    }
}

/// The glyphs of `text` on a base line from the origin, each with its font, and its width.
fn lay_out(typeface: &Typeface, text: &str, kind: Type) -> (Vec<(FontArc, Glyph)>, f32) {
    let own = typeface.font(kind.is_bold);
    let mut glyphs: Vec<(FontArc, Glyph)> = Vec::new();
    let mut pen = 0.0;
    let mut previous = None;
    for c in text.chars() {
        let (font, c) = typeface.font_of(kind.is_bold, c).map_or_else(|| (own.clone(), '?'), |font| (font, c));
        let id = font.glyph_id(c);
        let scale = scale(&font, kind.size);
        let per_unit = scale.y / font.height_unscaled();
        let current = (own.glyph_id(c) == id).then_some(id);
        if let (Some(previous), Some(current)) = (previous, current) {
            pen += per_unit * font.kern_unscaled(previous, current);
        }
        previous = current;
        let glyph = id.with_scale_and_position(scale, point(pen, 0.0));
        pen += per_unit * font.h_advance_unscaled(id);
        glyphs.push((font, glyph));
    }
    (glyphs, pen)
}

/// The scale at which an em has `size` pixels: ab_glyph counts from ascent to descent.
fn scale(font: &FontArc, size: f64) -> PxScale {
    PxScale::from(size as f32 * font.height_unscaled() / font.units_per_em().unwrap_or(1000.0))
}
