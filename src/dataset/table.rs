//! Named columns of numbers, in time order.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use crate::Message;
use crate::{Error, Result};

/// Where a table's numbers come from. Its text belongs in every output made from them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file.
    File(PathBuf),
    /// One of several series of a file.
    Series {
        /// The file.
        path: PathBuf,
        /// The value of its rows in the column that tells series apart.
        id: String,
    },
    /// A download of daily prices.
    Download {
        /// The ticker that was asked for.
        ticker: String,
        /// The server that answered.
        host: String,
    },
    /// Made up from a seed: no market ever quoted these prices.
    Synthetic {
        /// The generator's seed.
        seed: u64,
    },
    /// Made in memory by the caller, who names it.
    Memory(String),
}

impl Source {
    /// The text.
    pub fn message(&self) -> Message {
        match self {
            Source::File(path) => path.display().into(),
            Source::Series { path, id } => format!("{}, {id}", path.display()).into(),
            Source::Download { ticker, host } => message!("{} from {}", ticker, host),
            Source::Synthetic { seed } => message!("synthetic series (seed {})", seed),
            Source::Memory(name) => name.into(),
        }
    }

    /// The text without the series' id.
    pub fn file(&self) -> Message {
        match self {
            Source::Series { path, .. } => path.display().into(),
            other => other.message(),
        }
    }

    /// The id that tells the series from the others in its file.
    pub fn id(&self) -> Option<&String> {
        match self {
            Source::Series { id, .. } => Some(id),
            _ => None,
        }
    }
}

impl From<&Source> for Message {
    fn from(source: &Source) -> Self {
        source.message()
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.message().fmt(f)
    }
}

/// The dates of a table's rows, in order and without duplicates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dates {
    /// The column's name.
    pub name: String,
    /// One date a row, as the source wrote it.
    pub text: Vec<String>,
}

/// Names of the columns that the time of day gives: a day has these waves.
#[cfg(feature = "cli")]
pub const CALENDAR: [&str; 8] = [
    "calendar:day.sin.1",
    "calendar:day.cos.1",
    "calendar:day.sin.2",
    "calendar:day.cos.2",
    "calendar:day.sin.3",
    "calendar:day.cos.3",
    "calendar:day.sin.4",
    "calendar:day.cos.4",
];

/// Named columns of finite numbers, one row a time step, in time order.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    source: Source,
    dates: Option<Dates>,
    names: Vec<String>,
    /// One vector a column, each `(row)`.
    columns: Vec<Vec<f64>>,
    /// Last rows of each column that were filled from the one before them; empty where none were.
    n_filled_behind: Vec<usize>,
}

impl Table {
    /// A table of the given columns, each a name and its values `(row)`.
    ///
    /// # Errors
    /// [`Error::Data`] if there is no column or no row, if columns or dates differ in length, if two columns share a name, or if a value is
    /// NaN or infinite.
    ///
    /// ```
    /// use scanrnn::dataset::{Source, Table};
    /// let wave = (0..100).map(|row| (row as f64 / 10.0).sin()).collect();
    /// let table = Table::new(Source::Memory("sine".into()), None, vec![("wave".into(), wave)])?;
    /// assert_eq!(table.n_row(), 100);
    /// # Ok::<(), scanrnn::Error>(())
    /// ```
    pub fn new(source: Source, dates: Option<Dates>, columns: Vec<(String, Vec<f64>)>) -> Result<Self> {
        let error = |what: Message, remedy: Message| Err(Error::data(&source, what, remedy));
        let n_row = columns.first().map_or(0, |(_, values)| values.len());
        if n_row == 0 {
            return error(message!("no numbers"), message!("give at least one column of at least one row"));
        }
        if let Some((name, values)) = columns.iter().find(|(_, values)| values.len() != n_row) {
            let what = message!(
                "column {} has {} rows, column {} has {}",
                format!("{name:?}"),
                values.len(),
                format!("{:?}", columns[0].0),
                n_row
            );
            return error(what, message!("give columns of one length"));
        }
        if let Some(dates) = dates.as_ref().filter(|dates| dates.text.len() != n_row) {
            return error(message!("{} dates for {} rows", dates.text.len(), n_row), message!("give one date per row"));
        }
        for (column, (name, values)) in columns.iter().enumerate() {
            if columns[..column].iter().any(|(other, _)| other == name) {
                return error(message!("two columns are called {}", format!("{name:?}")), message!("rename one of them"));
            }
            if let Some(row) = values.iter().position(|value| !value.is_finite()) {
                return error(
                    message!("column {} is {} in row {}", format!("{name:?}"), values[row], row),
                    message!("give finite numbers"),
                );
            }
        }
        let (names, columns) = columns.into_iter().unzip();
        Ok(Table { source, dates, names, columns, n_filled_behind: Vec::new() })
    }

    /// Where the numbers come from.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// The rows' dates, where the source has them.
    pub fn dates(&self) -> Option<&Dates> {
        self.dates.as_ref()
    }

    /// A row's date, or its number where there are no dates.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn row_name(&self, row: usize) -> String {
        self.dates.as_ref().map_or_else(|| row.to_string(), |dates| dates.text[row].clone())
    }

    /// Whether the values are made up, which every output must then say.
    pub fn is_synthetic(&self) -> bool {
        matches!(self.source, Source::Synthetic { .. })
    }

    /// The columns' names, without the dates'.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// How many rows there are, at least 1.
    pub fn n_row(&self) -> usize {
        self.columns[0].len()
    }

    /// The columns' values, each `(row)`, in the order of [`names`](Self::names).
    pub fn columns(&self) -> impl ExactSizeIterator<Item = &[f64]> {
        self.columns.iter().map(Vec::as_slice)
    }

    /// One column's values, `(row)`. Where none has just this name, it is the only one that has it but for case, `<` and `>`.
    ///
    /// # Errors
    /// [`Error::Data`] if there is no such column, with the ones there are.
    pub fn column(&self, name: &str) -> Result<&[f64]> {
        Ok(&self.columns[find_column(&self.source, &self.names, name)?])
    }

    /// The table with the columns [`CALENDAR`] behind its own: sines and cosines of the time of day and of its multiples.
    ///
    /// # Errors
    /// [`Error::Data`] where the rows have no dates with a time of day.
    #[cfg(feature = "cli")]
    pub fn with_calendar(&self) -> Result<Table> {
        let error = || {
            Error::data(
                &self.source,
                message!("its rows have no dates with a time of day"),
                message!("give a date column with times, or train with --calendar off"),
            )
        };
        let waves = self.dates.as_ref().and_then(Dates::calendar).ok_or_else(error)?;
        let mut columns: Vec<_> = self.names.iter().cloned().zip(self.columns.iter().cloned()).collect();
        columns.extend(CALENDAR.into_iter().map(String::from).zip(waves));
        Ok(Table { n_filled_behind: self.n_filled_behind.clone(), ..Table::new(self.source.clone(), self.dates.clone(), columns)? })
    }

    /// The table as one whose columns were filled in so many of the last rows.
    #[cfg(feature = "cli")]
    pub(super) fn filled_behind(self, n_filled_behind: Vec<usize>) -> Table {
        Table { n_filled_behind, ..self }
    }

    /// Last rows in which one of the named columns has no value of its own, but the last one before them.
    #[cfg(feature = "cli")]
    pub(crate) fn n_filled_behind(&self, names: &[String]) -> usize {
        let columns = names.iter().filter_map(|name| find_column(&self.source, &self.names, name).ok());
        columns.filter_map(|column| self.n_filled_behind.get(column).copied()).max().unwrap_or(0)
    }

    /// The table's own name of the column that is found by `name`.
    #[cfg(feature = "cli")]
    pub(crate) fn own_name(&self, name: &str) -> Option<&String> {
        find_column(&self.source, &self.names, name).ok().map(|column| &self.names[column])
    }

    /// The table with the named columns only, in that order.
    ///
    /// # Errors
    /// [`Error::Data`] if there is no such column, or if one is named twice.
    pub fn select(&self, names: &[&str]) -> Result<Table> {
        let column = |&name: &&str| {
            let column = find_column(&self.source, &self.names, name)?;
            Ok((self.names[column].clone(), self.columns[column].clone()))
        };
        let columns = names.iter().map(column).collect::<Result<_>>()?;
        Table::new(self.source.clone(), self.dates.clone(), columns)
    }

    /// The table with these rows only.
    ///
    /// # Errors
    /// [`Error::Shape`] if it has not all of them; [`Error::Data`] if there is none.
    pub fn between(&self, rows: Range<usize>) -> Result<Table> {
        if rows.start > rows.end || rows.end > self.n_row() {
            return Err(Error::shape("table", "rows", format!("at most {}", self.n_row()), &[rows.end]));
        }
        let dates = self.dates.as_ref().map(|dates| Dates { name: dates.name.clone(), text: dates.text[rows.clone()].to_vec() });
        let columns = self.names.iter().zip(&self.columns).map(|(name, values)| (name.clone(), values[rows.clone()].to_vec()));
        Table::new(self.source.clone(), dates, columns.collect())
    }
}

/// A column's name without space, and without the `<` and `>` around those of Stooq and MetaTrader.
pub(super) fn bare(name: &str) -> &str {
    name.trim().trim_matches(['<', '>']).trim()
}

/// Whether two names are one but for case and what [`bare`] leaves out.
pub(super) fn is_alike(name: &str, other: &str) -> bool {
    bare(name).eq_ignore_ascii_case(bare(other))
}

/// The index of the column that alone is called much like `name`.
pub(super) fn alike(names: &[impl AsRef<str>], name: &str) -> Option<usize> {
    let mut found = (0..names.len()).filter(|&column| is_alike(names[column].as_ref(), name));
    found.next().filter(|_| found.next().is_none())
}

/// The index of the one column called `name`, or else of the only one that [`is_alike`].
pub(super) fn find_column(place: impl Into<Message>, names: &[String], name: &str) -> Result<usize> {
    let error = |what, remedy| Error::data(place, what, remedy);
    let mut found = (0..names.len()).filter(|&column| names[column] == name);
    match (found.next().or_else(|| alike(names, name)), found.next()) {
        (Some(column), None) => Ok(column),
        (Some(_), Some(_)) => Err(error(message!("two columns are called {}", format!("{name:?}")), message!("rename one of them"))),
        (None, _) => {
            let shown = |name: &String| if name.contains(',') { format!("{name:?}") } else { name.escape_debug().to_string() };
            let there = names.iter().map(shown).collect::<Vec<_>>().join(", ");
            Err(error(message!("no column {}", format!("{name:?}")), message!("choose one of: {}", there)))
        }
    }
}
