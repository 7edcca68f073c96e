//! Tables of numbers over time: where they come from, how they are split, scaled and cut into windows.
//!
//! The way of a series: a [`Table`] (a CSV, a download, a synthetic series, or columns made in memory), a [`Layout`] of its columns and a
//! [`Partition`] of its rows in time order, and [`Windows`]: the scaled values with one [`Scaler`] a column, fitted on the training rows only.
//!
//! The parts that need a file system or a network (`read_csv`, `Table::save_csv`, `download`, `prices`, `synthetic`) come with the `cli`
//! feature; the rest is plain arithmetic.

#[cfg(feature = "cli")]
mod csv;
#[cfg(feature = "cli")]
mod dates;
#[cfg(feature = "cli")]
pub mod download;
#[cfg(feature = "cli")]
pub mod prices;
mod scaler;
mod split;
mod starts;
#[cfg(feature = "cli")]
pub mod synthetic;
mod table;
mod windows;

#[cfg(feature = "cli")]
pub use self::csv::{Columns, CsvOptions, CsvRows, CsvTables, Missing, has_column, is_close, read_csv};
#[cfg(feature = "cli")]
pub use dates::{Spacing, Step};
pub use scaler::{Scaler, Scaling};
pub use split::{Partition, Split};
pub use starts::Starts;
#[cfg(feature = "cli")]
pub use table::CALENDAR;
pub use table::{Dates, Source, Table};
pub use windows::{Channels, Layout, Member, Windows};
