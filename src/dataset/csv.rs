//! Tables from and to CSV files.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use csv::{ByteRecord, ErrorKind, Position, ReaderBuilder, Writer};

use super::dates::{Order, Wrong, is_date};
use super::table::find_column;
use super::{Dates, Source, Table};
use crate::{Error, Result, file};

/// Which columns to read. Only these have to be numbers.
#[derive(Debug, Clone, Copy)]
pub enum Columns<'a> {
    /// Every column but the dates'.
    All,
    /// The named ones, in this order.
    Named(&'a [&'a str]),
}

/// Names of date columns, compared without case. Where none is there, a column is recognised by its first cell.
const DATE_NAMES: [&str; 5] = ["date", "datetime", "date_time", "timestamp", "time"];

impl Table {
    /// Reads a CSV file: a header row, then a row a time step, oldest first. Dates stay as they are written; they must be in order.
    ///
    /// # Errors
    /// [`Error::File`] or [`Error::Data`], naming file, line and column, for: a file that is missing, empty, without rows or not UTF-8; no
    /// such column; a row of another length than the header; a cell that is empty, not a number, NaN or infinite; a date that cannot be
    /// read, comes twice or is out of order.
    pub fn read_csv(path: &Path, columns: Columns<'_>) -> Result<Table> {
        let place = path.display().to_string();
        let error = |what: &str, remedy: &str| Error::Data { place: place.clone(), what: what.into(), remedy: remedy.into() };
        let file = File::open(path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => error("no such file", "check the path"),
            _ => Error::File { path: path.into(), action: "read", source },
        })?;
        let mut reader = ReaderBuilder::new().buffer_capacity(1 << 16).from_reader(file);

        let header = reader.byte_headers().map_err(|error| csv_error(path, error))?;
        if header.is_empty() {
            return Err(error("the file is empty", "give a CSV file with a header row"));
        }
        let names = (0..header.len()).map(|column| text(header, column, path, None).map(str::to_string)).collect::<Result<Vec<_>>>()?;
        let mut record = ByteRecord::new();
        if !reader.read_byte_record(&mut record).map_err(|error| csv_error(path, error))? {
            return Err(error("no rows below the header", "give a CSV file with a row for each time step"));
        }

        let named = match columns {
            Columns::All => Vec::new(),
            Columns::Named(wanted) => wanted.iter().map(|name| find_column(&place, &names, name)).collect::<Result<Vec<_>>>()?,
        };
        let date = find_dates(&names, &named, &record);
        let selected = match columns {
            Columns::All => (0..names.len()).filter(|&column| Some(column) != date).collect(),
            Columns::Named(_) => named,
        };

        let mut order = Order::new();
        let mut dates = Vec::new();
        let mut values = vec![Vec::new(); selected.len()];
        loop {
            if let Some(column) = date {
                let text = text(&record, column, path, Some(&names))?;
                order.push(text).map_err(|wrong| date_error(wrong, text, dates.last(), cell_place(&record, column, path, Some(&names))))?;
                dates.push(text.to_string());
            }
            for (&column, values) in selected.iter().zip(&mut values) {
                values.push(number(&record, column, path, &names)?);
            }
            if !reader.read_byte_record(&mut record).map_err(|error| csv_error(path, error))? {
                break;
            }
        }

        let dates = date.map(|column| Dates { name: names[column].clone(), text: dates });
        let columns = selected.iter().map(|&column| names[column].clone()).zip(values).collect();
        Table::new(Source::File(path.into()), dates, columns)
    }

    /// Writes the table as CSV, dates first, values in full precision; whole or not at all.
    ///
    /// # Errors
    /// [`Error::File`] if the file cannot be written.
    pub fn save_csv(&self, path: &Path) -> Result<()> {
        file::save(path, |file| {
            let mut writer = Writer::from_writer(file);
            let dates = self.dates();
            writer.write_record(dates.map(|dates| &dates.name).into_iter().chain(self.names()))?;
            for row in 0..self.n_row() {
                if let Some(dates) = dates {
                    writer.write_field(&dates.text[row])?;
                }
                for column in self.columns() {
                    writer.write_field(column[row].to_string())?;
                }
                writer.write_record(None::<&[u8]>)?;
            }
            writer.flush()
        })
    }
}

/// The date column: by its name, else the first that is not among the `selected` and starts with a date.
fn find_dates(names: &[String], selected: &[usize], first: &ByteRecord) -> Option<usize> {
    let free = || (0..names.len()).filter(|column| !selected.contains(column));
    free()
        .find(|&column| DATE_NAMES.iter().any(|name| names[column].eq_ignore_ascii_case(name)))
        .or_else(|| free().find(|&column| str::from_utf8(&first[column]).is_ok_and(|text| is_date(text.trim()))))
}

/// A cell without the space around it.
fn text<'a>(record: &'a ByteRecord, column: usize, path: &Path, names: Option<&[String]>) -> Result<&'a str> {
    str::from_utf8(&record[column]).map(str::trim).map_err(|_| Error::Data {
        place: cell_place(record, column, path, names),
        what: "the text is not UTF-8".into(),
        remedy: "save the file as UTF-8".into(),
    })
}

fn number(record: &ByteRecord, column: usize, path: &Path, names: &[String]) -> Result<f64> {
    let text = text(record, column, path, Some(names))?;
    let (what, remedy) = match text.parse::<f64>() {
        Ok(value) if value.is_finite() => return Ok(value),
        Ok(_) => (format!("{} is not finite", quoted(text)), "give a finite number or remove the row"),
        Err(_) if text.is_empty() => ("the cell is empty".into(), "fill it in or remove the row"),
        Err(_) => (format!("{} is not a number", quoted(text)), "write it as 1234.5 or choose another column"),
    };
    Err(Error::Data { place: cell_place(record, column, path, Some(names)), what, remedy: remedy.into() })
}

fn date_error(wrong: Wrong, text: &str, last: Option<&String>, place: String) -> Error {
    let (text, last) = (quoted(text), last.map_or_else(String::new, |last| quoted(last)));
    let (what, remedy) = match wrong {
        Wrong::Unreadable if last.is_empty() => (format!("{text} is not a date"), "write dates as 2024-01-31"),
        Wrong::Unreadable => (format!("{text} is not a date like {last} before it"), "write every date in one format"),
        Wrong::Duplicate => (format!("the date {text} is there twice"), "keep one row a date"),
        Wrong::Earlier => (format!("the date {text} comes after {last}"), "sort the rows by date, oldest first"),
    };
    Error::Data { place, what, remedy: remedy.into() }
}

/// `prices.csv:17, column Close`; without `names`, the header itself is meant.
fn cell_place(record: &ByteRecord, column: usize, path: &Path, names: Option<&[String]>) -> String {
    let line = line(path, record.position());
    let name = names.map_or_else(|| (column + 1).to_string(), |names| names[column].escape_debug().to_string());
    format!("{}:{line}, column {name}", path.display())
}

/// The line that a record begins on, from 1. The reader's own count lags: it takes the second half of a CRLF, and blank lines, for the
/// beginning of the next record. So the file's line ends are counted up to the record's first byte that is none.
fn line(path: &Path, record: Option<&Position>) -> u64 {
    let Some(record) = record else { return 1 };
    // A pipe cannot be read again.
    let Some(file) = path.is_file().then(|| File::open(path).ok()).flatten() else { return record.line() };
    let bytes = BufReader::new(file).bytes().map_while(Result::ok);
    let before = (0..).zip(bytes).take_while(|&(place, byte)| place < record.byte() || matches!(byte, b'\r' | b'\n'));
    1 + before.filter(|&(_, byte)| byte == b'\n').count() as u64
}

/// A cell's text in quotes, on one line, cut where it is long.
fn quoted(text: &str) -> String {
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}

fn csv_error(path: &Path, error: csv::Error) -> Error {
    let line = line(path, error.position());
    match error.into_kind() {
        ErrorKind::UnequalLengths { expected_len, len, .. } => Error::Data {
            place: format!("{}:{line}", path.display()),
            what: format!("the row has {len} cells, the header has {expected_len}"),
            remedy: "give every row as many cells as the header".into(),
        },
        ErrorKind::Io(source) => Error::File { path: path.into(), action: "read", source },
        other => Error::Data { place: format!("{}:{line}", path.display()), what: format!("{other:?}"), remedy: "give a CSV file".into() },
    }
}
