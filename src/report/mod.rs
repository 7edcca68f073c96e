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
pub use table::Table;
