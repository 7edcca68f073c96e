//! What a person sees of a run: the picture and the tables, in English or Chinese.

mod axis;
pub mod board;
mod canvas;
pub mod chart;
pub mod chinese;
pub mod font;
pub mod language;
pub mod page;
pub mod picture;
pub mod table;
mod text;

pub use font::Typeface;
pub use language::Lang;
pub use picture::Comparison;
pub use table::TextTable;

use std::io::Write;
use std::path::Path;

use crate::Result;

/// Writes what is drawn with the typeface of a language to `path`: in `lang`, or in English with a warning to show.
fn write_picture(lang: Lang, path: &Path, draw: impl FnOnce(&Typeface) -> Result<Vec<u8>>) -> Result<Option<&'static str>> {
    let (typeface, warning) = Typeface::system(lang);
    let bytes = draw(&typeface)?;
    crate::file::save(path, |writer| writer.write_all(&bytes))?;
    Ok(warning.or_else(|| typeface.warning(lang)))
}
