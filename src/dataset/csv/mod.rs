//! Tables from and to CSV files.

mod dates;
mod dialect;
mod lines;
mod missing;
mod rows;

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::Path;

use csv::{ByteRecord, ErrorKind, Position, Reader, ReaderBuilder, Writer};
use flate2::bufread::MultiGzDecoder;

use self::dates::{DateColumns, date_columns};
use self::dialect::{BLANKS, Dialect, Points, amount, byte_of, has_unit, is_wide, take_delimiter};
use self::lines::Lines;
pub use self::missing::Missing;
use self::missing::{fill, is_missing};
pub use self::rows::CsvRows;
use super::dates::{Order, Wrong, is_date};
use super::table::{bare, find_column};
use super::{Dates, Source, Spacing, Table};
use crate::Message;
use crate::{Error, Result, file};

/// Which columns to read. Only these have to be numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Columns<'a> {
    /// Every column of numbers but the dates' and the one that tells series apart.
    #[default]
    All,
    /// The closing price ([`is_close`]), where there is one; else all.
    CloseOrAll,
    /// The named ones, in this order.
    Named(&'a [&'a str]),
}

/// How a CSV file is read.
#[derive(Debug, Clone, Copy, Default)]
pub struct CsvOptions<'a> {
    /// Which columns.
    pub columns: Columns<'a>,
    /// The column of dates; where it is not named, one called `date`, `time` or the like, else the first that begins with a date, else one
    /// called `year` of years in order, else `year` with columns of its months, days and hours or quarters, else a first column without a
    /// name of years in order.
    pub date: Option<&'a str>,
    /// The column that tells series apart, whose rows may be mixed.
    pub id: Option<&'a str>,
    /// What is done about cells without a value.
    pub missing: Missing,
}

/// What a CSV file holds.
#[derive(Debug, Clone, PartialEq)]
pub struct CsvTables {
    /// The file's series, in the order of their first rows: one where no column tells them apart.
    pub tables: Vec<Table>,
    /// What a reader of the tables should know, a line each: what was left out or filled, steps between dates that are not the usual one.
    /// What is so of several series is said of the first, with how many more there are.
    pub notes: Vec<Message>,
}

/// Bytes from which the dialect is told.
const SAMPLE: usize = 1 << 16;

impl Table {
    /// Reads a CSV file of one series as [`read_csv`] does.
    ///
    /// # Errors
    /// Those of [`read_csv`].
    pub fn read_csv(path: &Path, columns: Columns<'_>) -> Result<Table> {
        let CsvTables { mut tables, .. } = read_csv(path, &CsvOptions { columns, ..CsvOptions::default() })?;
        Ok(tables.remove(0))
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

/// Reads a CSV file, plain or compressed by gzip: a row a time step, in the order of time or, all of them, against it. Delimiter (comma,
/// semicolon, tab, `|`, what a first line such as `sep=;` names, or blanks), header and decimal comma are told from the first rows; without
/// a header the columns are called `c1`, `c2` and so on. Dates stay as they are written; a column `time` beside a column of days is joined
/// to it, and so are the numbers of years and their parts, in columns of their own.
///
/// # Errors
/// [`Error::File`] or [`Error::Data`], naming file, line and column, for: a file that is missing, empty, without rows or not UTF-8; no
/// such column; a row of another length than the header; a quote that is never closed; a cell that is no number or infinite,
/// or has no value where that is an error; a date that cannot be read, comes twice or is out of order.
pub fn read_csv(path: &Path, options: &CsvOptions<'_>) -> Result<CsvTables> {
    let place = path.display().to_string();
    let error = |what: Message, remedy: Message| Error::data(&place, what, remedy);
    let (mut reader, dialect) = reader(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => error(message!("no such file"), message!("check the path")),
        _ => Error::reading(path, source),
    })?;
    let mut notes = Vec::new();
    let mut record = ByteRecord::new();
    let mut names = Vec::new();
    let mut is_unnamed = false;
    let mut header = ByteRecord::new();
    if dialect.has_header {
        header.clone_from(reader.byte_headers().map_err(|error| csv_error(path, error))?);
        if header.is_empty() {
            return Err(error(message!("the file is empty"), message!("give a CSV file with a header row")));
        }
        (names, is_unnamed) = header_names(&header, path)?;
    }
    let mut read = |record: &mut ByteRecord| {
        let read = reader.read_byte_record(record);
        read.map_err(|error| unclosed(path, record).unwrap_or_else(|| csv_error(path, error)))
    };
    if !read(&mut record)? {
        if let Some(error) = unclosed(path, &header) {
            return Err(error);
        }
        return Err(error(message!("no rows below the header"), message!("give a CSV file with a row for each time step")));
    }
    if !dialect.has_header {
        names.extend((1..=record.len()).map(|column| format!("c{column}")));
        notes.push(message!("{} has no header: its columns are called c1 to c{}", place, names.len()));
    }

    let layout = Layout::new(path, options, &names, is_unnamed, &record, &mut notes)?;
    let cells = Cells { path, names: &names, decimal_comma: dialect.decimal_comma, missing: options.missing };
    let mut all: Vec<Rows> = Vec::new();
    let mut index_of: HashMap<String, usize> = HashMap::new();
    let mut points = vec![Points::default(); layout.selected.len()];
    let mut next = ByteRecord::new();
    loop {
        let id = layout.id.map_or(Ok(""), |column| text(&record, column, path, Some(&names)))?;
        let index = match index_of.get(id) {
            Some(&index) => index,
            None => {
                index_of.insert(id.to_string(), all.len());
                all.push(Rows::new(id, layout.selected.len()));
                all.len() - 1
            }
        };
        all[index].push(&record, &layout, &cells).map_err(|error| unclosed(path, &record).unwrap_or(error))?;
        layout.selected.iter().zip(&mut points).for_each(|(&column, points)| points.push(cell(&record, column)));
        if !read(&mut next)? {
            break;
        }
        std::mem::swap(&mut record, &mut next);
    }
    if let Some(error) = unclosed(path, &record) {
        return Err(error);
    }
    for (&column, points) in layout.selected.iter().zip(points) {
        // who parts thousands by points has decimal commas, and seldom commas between cells
        notes.extend(points.note(&place, &names[column])?.filter(|_| dialect.delimiter != b','));
    }
    let mut of_series = Vec::new();
    let tables = all.into_iter().map(|rows| rows.into_table(&layout, &cells, &mut of_series)).collect::<Result<_>>()?;
    notes.extend(once_each(of_series, |byte| line_at(path, byte).unwrap_or(1)));
    Ok(CsvTables { tables, notes })
}

/// The columns' names, and whether the first has none.
fn header_names(header: &ByteRecord, path: &Path) -> Result<(Vec<String>, bool)> {
    let names: Vec<&str> = (0..header.len()).map(|column| text(header, column, path, None)).collect::<Result<_>>()?;
    let is_unnamed = names.first().is_some_and(|name| name.is_empty() || *name == "Unnamed: 0");
    let named = |(column, name): (usize, &str)| if name.is_empty() { format!("c{}", column + 1) } else { name.to_string() };
    Ok((names.into_iter().enumerate().map(named).collect(), is_unnamed))
}

/// A note on a series.
struct Note {
    /// What it says. Where it names a line, the last sentence still lacks that.
    sentences: Vec<Message>,
    /// The byte whose line is named: to find the line, the file is read again from its beginning.
    byte: Option<u64>,
}

impl From<Message> for Note {
    fn from(sentence: Message) -> Self {
        Note { sentences: vec![sentence], byte: None }
    }
}

impl Note {
    fn is_alike(&self, other: &Note) -> bool {
        let both = || self.sentences.iter().zip(&other.sentences);
        self.sentences.len() == other.sentences.len() && both().all(|(sentence, other)| sentence.is_alike(other))
    }

    fn message(mut self, line: impl FnOnce(u64) -> u64) -> Message {
        if let Some(byte) = self.byte
            && let Some(last) = self.sentences.pop()
        {
            self.sentences.push(last.with(Message::verbatim(line(byte))));
        }
        Message::list(self.sentences)
    }
}

/// The first of the notes that differ in names and numbers alone, with how many more there are; `line` gives a byte's line.
fn once_each(notes: Vec<Note>, line: impl Fn(u64) -> u64) -> Vec<Message> {
    let mut kinds: Vec<(Note, usize)> = Vec::new();
    for note in notes {
        match kinds.iter_mut().find(|(first, _)| first.is_alike(&note)) {
            Some((_, n_more)) => *n_more += 1,
            None => kinds.push((note, 0)),
        }
    }
    let note = |(first, n_more): (Note, usize)| match n_more {
        0 => first.message(&line),
        _ => message!("{}; so it is in {} more series").with(first.message(&line)).with(Message::verbatim(n_more)),
    };
    kinds.into_iter().map(note).collect()
}

/// Opens a file and tells how it is written.
fn reader(path: &Path) -> io::Result<(Reader<Box<dyn Read>>, Dialect)> {
    let mut file = open(path)?;
    let mut sample = Vec::new();
    file.by_ref().take(SAMPLE as u64).read_to_end(&mut sample)?;
    let whole_lines = if sample.len() < SAMPLE { sample.len() } else { sample.iter().rposition(|&byte| byte == b'\n').unwrap_or(SAMPLE) };
    let known = take_delimiter(&mut sample);
    let dialect = Dialect::new(&sample[..whole_lines], known);
    let mut builder = ReaderBuilder::new();
    builder.delimiter(byte_of(dialect.delimiter)).has_headers(dialect.has_header).buffer_capacity(1 << 16);
    let mut text: Box<dyn Read> = Box::new(Cursor::new(sample).chain(file));
    if dialect.delimiter == BLANKS {
        text = Box::new(Lines::new(BufReader::with_capacity(1 << 16, text)).parted_by_blanks());
    }
    Ok((builder.from_reader(text), dialect))
}

/// Whether a file can be read again and has a column that is found by `name`.
pub fn has_column(path: &Path, name: &str) -> bool {
    let header = |(mut reader, dialect): (Reader<_>, Dialect)| reader.byte_headers().ok().filter(|_| dialect.has_header).cloned();
    let Some(header) = again(path, reader).and_then(header) else { return false };
    let names: Vec<String> = header.iter().map(|name| String::from_utf8_lossy(name).into()).collect();
    find_column("", &names, name).is_ok()
}

/// Opens a file once more, by `open`; not where it cannot be read again, as a pipe cannot.
fn again<T>(path: &Path, open: impl Fn(&Path) -> io::Result<T>) -> Option<T> {
    if path.is_file() { open(path).ok() } else { None }
}

/// A file's text, decompressed where it begins as gzip does.
fn open(path: &Path) -> io::Result<Box<dyn Read>> {
    let mut file = BufReader::with_capacity(1 << 16, File::open(path)?);
    let is_gzip = file.fill_buf()?.starts_with(&[0x1f, 0x8b]);
    Ok(if is_gzip { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) })
}

/// Which columns are what.
struct Layout {
    dates: DateColumns,
    /// The columns of years and their parts that are no dates, as they are not in order.
    disordered: Vec<usize>,
    id: Option<usize>,
    selected: Vec<usize>,
}

impl Layout {
    /// `is_unnamed` says that the first column has no name of its own.
    fn new(
        path: &Path,
        options: &CsvOptions<'_>,
        names: &[String],
        is_unnamed: bool,
        first: &ByteRecord,
        notes: &mut Vec<Message>,
    ) -> Result<Self> {
        let place = path.display().to_string();
        let find = |name: &str| find_column(&place, names, name);
        let id = options.id.map(find).transpose()?;
        let close = || names.iter().find(|name| is_close(name));
        let named = match options.columns {
            Columns::All => None,
            Columns::CloseOrAll => close().map(|name| Ok(vec![find(name)?])).transpose()?,
            Columns::Named(wanted) => {
                let mut columns = Vec::new();
                for name in wanted {
                    // one may be named in two ways
                    let column = find(name)?;
                    if !columns.contains(&column) {
                        columns.push(column);
                    }
                }
                Some(columns)
            }
        };
        let is_free = |column: usize| Some(column) != id && !named.as_ref().is_some_and(|named| named.contains(&column));
        let are_in_order = |dates: &DateColumns| check_order(path, names, id, dates).is_ok();
        let (dates, refused) = date_columns(&place, names, options.date, is_unnamed, first, is_free, are_in_order)?;
        if named.is_none() && dates.columns.is_empty() && is_wide(names) {
            let what = message!("its columns are years: each row seems to be a series, not a time step");
            return Err(Error::data(place, what, message!("turn the table, so that each row is a year, or name columns by --features")));
        }
        if let Some(refused) = &refused {
            let parts = refused.columns.iter().map(|&column| names[column].escape_debug().to_string()).collect::<Vec<_>>().join(", ");
            let why = match check_order(path, names, id, refused) {
                Err(Some(byte)) => message!("line {} is out of their order", line_at(path, byte).unwrap_or(1)),
                _ => message!("the file cannot be read a second time"),
            };
            let note = match named {
                Some(_) => message!("{}, columns {}: they are no dates, {}", place, parts),
                None => message!("{}, columns {}: left out, they are no dates, {}; name them to read them", place, parts),
            };
            notes.push(note.with(why));
        }
        let disordered = refused.map_or_else(Vec::new, |refused| refused.columns);
        let mut layout = Layout { dates, disordered, id, selected: Vec::new() };
        layout.selected = match named {
            Some(named) => named,
            None => {
                let counts_rows = is_unnamed && names.len() > 1 && counts_rows(path, first);
                layout.numbers(path, names, counts_rows, first, notes)?
            }
        };
        Ok(layout)
    }

    /// The columns of numbers; others are left out with a note. `counts_rows` says that the first one does no more than that.
    fn numbers(
        &self,
        path: &Path,
        names: &[String],
        counts_rows: bool,
        first: &ByteRecord,
        notes: &mut Vec<Message>,
    ) -> Result<Vec<usize>> {
        let place = path.display().to_string();
        let is_amount = |cell: &str| is_missing(cell) || amount(cell, true).is_some();
        // text with the unit of a number is one where the cells below it are numbers too; else the first that is not
        let no_number = |column: usize| {
            let first = cell(first, column);
            let mut wrong = first.to_string();
            let is_right = |record: &ByteRecord| {
                wrong = cell(record, column).to_string();
                is_amount(&wrong)
            };
            let is_number = !is_text(first) || has_unit(first) && every_record(path, is_right);
            (!is_number).then_some(wrong)
        };
        let mut selected = Vec::new();
        let mut others = Vec::new();
        for (column, name) in names.iter().enumerate() {
            let name = name.escape_debug();
            if self.dates.columns.contains(&column) {
                others.push(message!("column {} has dates", name));
            } else if self.disordered.contains(&column) {
                others.push(message!("column {} has parts of dates", name));
            } else if Some(column) == self.id {
                others.push(message!("column {} tells series apart", name));
            } else if column == 0 && counts_rows {
                others.push(message!("column {} counts rows", name));
                notes.push(message!("{}, column {}: left out, it has no name and counts rows; name it to read it", place, name));
            } else if let Some(cell) = no_number(column) {
                others.push(message!("column {} has {}, no number", name, quoted(&cell)));
                notes.push(message!("{}, column {}: left out, {} is no number", place, name, quoted(&cell)));
            } else {
                selected.push(column);
            }
        }
        if selected.is_empty() {
            let what = message!("no column of numbers is left: {}").with(Message::list(others));
            return Err(Error::data(place, what, message!("give at least one column of numbers")));
        }
        Ok(selected)
    }
}

/// A cell without the space around it, empty where it is not UTF-8.
fn cell(record: &ByteRecord, column: usize) -> &str {
    record.get(column).and_then(|cell| str::from_utf8(cell).ok()).unwrap_or_default().trim()
}

/// Whether a cell is text or a date for certain: with a letter in it, but no value that is missing, nor what begins with a sign as prices do.
fn is_text(cell: &str) -> bool {
    let is_word = cell.starts_with(char::is_alphanumeric) && cell.contains(char::is_alphabetic);
    (is_word || cell.contains(':') || is_date(cell)) && !is_missing(cell) && cell.parse::<f64>().is_err()
}

/// Whether a column is called `Close`, in any case, `<CLOSE>`, `Close/Last` as NASDAQ writes it, or 收盘.
pub fn is_close(name: &str) -> bool {
    ["close", "close/last", "收盘", "收盘价"].contains(&bare(name).to_lowercase().as_str())
}

/// Whether what may be dates is in order in every series of a file; if not, the byte at which the first row begins that is not, or none
/// where the file cannot be read again. One column alone must be of years of four digits, and one without a name of years that are no other
/// numbers.
fn check_order(path: &Path, names: &[String], id: Option<usize>, dates: &DateColumns) -> Result<(), Option<u64>> {
    let is_year = |text: &str, name: &str| {
        let year = text.parse::<u32>().ok().filter(|_| text.len() == 4);
        year.is_some_and(|year| bare(name).eq_ignore_ascii_case("year") || (1500..=2100).contains(&year))
    };
    let mut orders: HashMap<String, Order> = HashMap::new();
    let mut byte = None;
    let are_in_order = every_record(path, |record| {
        byte = record.position().map(Position::byte);
        let date = dates.text(record);
        let series = id.map_or("", |id| cell(record, id)).to_string();
        let may_be_date = match dates.columns[..] {
            [column] => is_year(&date, &names[column]),
            _ => true,
        };
        may_be_date && orders.entry(series).or_insert_with(Order::new).push(&date).is_ok()
    });
    if are_in_order { Ok(()) } else { Err(byte) }
}

/// Whether the first column counts rows: from 0 or 1, or by 1 from whatever number, up or down.
fn counts_rows(path: &Path, first: &ByteRecord) -> bool {
    let Ok(first) = cell(first, 0).parse::<i64>() else { return false };
    let counts_by = |step: i64| {
        let mut rows = 0..;
        every_record(path, |record| {
            let expected = rows.next().and_then(|row: i64| first.checked_add(step * row));
            cell(record, 0).parse().ok() == expected
        })
    };
    matches!(first, 0 | 1) || counts_by(1) || counts_by(-1)
}

/// Whether every record of a file is right; not where it cannot be read again, as a pipe cannot.
fn every_record(path: &Path, mut is_right: impl FnMut(&ByteRecord) -> bool) -> bool {
    let Some((reader, _)) = again(path, reader) else { return false };
    reader.into_byte_records().all(|record| record.is_ok_and(|record| is_right(&record)))
}

/// How cells are read, and what errors about them say.
struct Cells<'a> {
    path: &'a Path,
    names: &'a [String],
    decimal_comma: bool,
    missing: Missing,
}

impl Cells<'_> {
    /// A cell's number, NaN where it has no value.
    fn number(&self, record: &ByteRecord, column: usize) -> Result<f64> {
        let text = text(record, column, self.path, Some(self.names))?;
        let example = if self.decimal_comma { "1234,5" } else { "1234.5" };
        let (what, remedy) = match amount(text, self.decimal_comma) {
            Some(value) if value.is_finite() => return Ok(value),
            _ if is_missing(text) && self.missing != Missing::Error => return Ok(f64::NAN),
            _ if text.is_empty() => (message!("the cell is empty"), message!("fill it in, remove the row or choose --missing")),
            _ if is_missing(text) => (message!("{} is no value", quoted(text)), message!("fill it in, remove the row or choose --missing")),
            Some(_) => (message!("{} is not finite", quoted(text)), message!("give a finite number or remove the row")),
            None => (message!("{} is not a number", quoted(text)), message!("write it as {} or choose another column", example)),
        };
        Err(Error::Data { place: cell_place(record, column, self.path, Some(self.names)), what, remedy })
    }
}

/// The rows of one series.
struct Rows {
    id: String,
    order: Order,
    dates: Vec<String>,
    /// One vector a column, each `(row)`.
    values: Vec<Vec<f64>>,
    /// The byte at which each row begins.
    bytes: Vec<u64>,
}

impl Rows {
    fn new(id: &str, n_column: usize) -> Self {
        Rows { id: id.into(), order: Order::new(), dates: Vec::new(), values: vec![Vec::new(); n_column], bytes: Vec::new() }
    }

    fn push(&mut self, record: &ByteRecord, layout: &Layout, cells: &Cells<'_>) -> Result<()> {
        if let Some(&column) = layout.dates.columns.first() {
            layout.dates.columns.iter().try_for_each(|&column| text(record, column, cells.path, Some(cells.names)).map(|_| ()))?;
            let date = layout.dates.text(record);
            let place = || cell_place(record, column, cells.path, Some(cells.names));
            let id = layout.id.map(|_| &*self.id);
            self.order.push(&date).map_err(|wrong| date_error(wrong, &date, &self.dates, id, place()))?;
            self.dates.push(date);
        }
        for (&column, values) in layout.selected.iter().zip(&mut self.values) {
            values.push(cells.number(record, column)?);
        }
        self.bytes.push(record.position().map_or(0, Position::byte));
        Ok(())
    }

    fn into_table(mut self, layout: &Layout, cells: &Cells<'_>, notes: &mut Vec<Note>) -> Result<Table> {
        let file = cells.path.display();
        let place = if layout.id.is_some() { format!("{file}, {}", self.id.escape_debug()) } else { file.to_string() };
        if self.order.is_backward() && self.dates.len() > 1 {
            notes.push(message!("{}: the newest rows come first; they are read from the last to the first", place).into());
            self.dates.reverse();
            self.bytes.reverse();
            self.values.iter_mut().for_each(|column| column.reverse());
        }
        let n_behind = |column: &Vec<f64>| column.iter().rev().take_while(|value| value.is_nan()).count();
        let n_filled_behind = match cells.missing {
            Missing::ForwardFill => self.values.iter().map(n_behind).collect(),
            _ => Vec::new(),
        };
        self.fill(layout, cells, &place, notes)?;
        let dates = layout.dates.columns.first().map(|&column| Dates { name: cells.names[column].clone(), text: self.dates });
        match dates.as_ref().map(Dates::spacing) {
            Some(Some(Spacing { step, n_irregular, first_irregular: Some(first) })) => {
                let n_step = self.bytes.len() - 1;
                let sentence = message!("{}: {} of {} steps are not {}, the first before line {}", place, n_irregular, n_step);
                notes.push(Note { sentences: vec![sentence.with(step.message())], byte: Some(self.bytes[first]) });
            }
            Some(None) if self.bytes.len() > 2 => notes.push(message!("{}: the dates have no step that most of them keep", place).into()),
            _ => {}
        }
        let columns = layout.selected.iter().map(|&column| cells.names[column].clone()).zip(self.values).collect();
        let source = match layout.id {
            Some(_) => Source::Series { path: cells.path.into(), id: self.id },
            None => Source::File(cells.path.into()),
        };
        Ok(Table::new(source, dates, columns)?.filled_behind(n_filled_behind))
    }

    /// Fills missing values and leaves out rows that still have some.
    fn fill(&mut self, layout: &Layout, cells: &Cells<'_>, place: &str, notes: &mut Vec<Note>) -> Result<()> {
        let n_hole = |columns: &[Vec<f64>]| columns.iter().flatten().filter(|value| value.is_nan()).count();
        let n_missing = n_hole(&self.values);
        if n_missing == 0 {
            return Ok(());
        }
        let n_row = self.bytes.len();
        let rows = fill(cells.missing, &mut self.values);
        let n_filled = n_missing - n_hole(&self.values);
        if rows.is_empty() {
            let is_empty = |column: &Vec<f64>| column.iter().all(|value| value.is_nan());
            return Err(match self.values.iter().position(is_empty) {
                Some(column) => {
                    let name = cells.names[layout.selected[column]].escape_debug();
                    Error::data(
                        format!("{place}, column {name}"),
                        message!("no row has a value"),
                        message!("choose other columns by --features"),
                    )
                }
                None => {
                    let remedy = message!("choose other columns, or --missing forward-fill");
                    Error::data(place, message!("no row has a value in every column"), remedy)
                }
            });
        }
        let mut note = Note::from(message!("{}: {} cells have no value", place, n_missing));
        if n_filled == n_missing {
            note.sentences.push(message!("they are filled"));
        } else if n_filled > 0 {
            note.sentences.push(message!("{} of them are filled", n_filled));
        }
        if let Some(first) = (0..n_row).find(|row| rows.get(*row) != Some(row)) {
            note.sentences.push(message!("{} rows are left out, the first at line {}", n_row - rows.len()));
            note.byte = Some(self.bytes[first]);
        }
        notes.push(note);
        if rows.len() < n_row {
            for column in &mut self.values {
                *column = rows.iter().map(|&row| column[row]).collect();
            }
            self.bytes = rows.iter().map(|&row| self.bytes[row]).collect();
            if !self.dates.is_empty() {
                self.dates = rows.iter().map(|&row| std::mem::take(&mut self.dates[row])).collect();
            }
        }
        Ok(())
    }
}

/// A cell without the space around it.
fn text<'a>(record: &'a ByteRecord, column: usize, path: &Path, names: Option<&[String]>) -> Result<&'a str> {
    str::from_utf8(&record[column]).map(str::trim).map_err(|_| Error::Data {
        place: cell_place(record, column, path, names),
        what: message!("the text is not UTF-8"),
        remedy: message!("save the file as UTF-8"),
    })
}

/// What is wrong with a date that comes after those `before` it, of the series `id` where a column tells them apart.
fn date_error(wrong: Wrong, text: &str, before: &[String], id: Option<&str>, place: Message) -> Error {
    let is_twice = wrong == Wrong::Duplicate || wrong == Wrong::Disorder && before.iter().any(|date| date == text);
    let (text, last) = (quoted(text), before.last().map_or_else(String::new, |last| quoted(last)));
    let (what, remedy) = match (wrong, id) {
        (Wrong::Duplicate | Wrong::Disorder, Some(id)) if is_twice => (
            message!("the date {} is there twice", text),
            message!("rows of series {} share a date: tell them apart by one column, such as store and item joined", id.escape_debug()),
        ),
        (Wrong::Unreadable, _) if last.is_empty() => (message!("{} is not a date", text), message!("write dates as 2024-01-31")),
        (Wrong::Unreadable, _) => (message!("{} is not a date like {} before it", text, last), message!("write every date in one format")),
        (Wrong::Duplicate, _) => (
            message!("the date {} is there twice", text),
            message!("keep one row a date, or name the column that tells series apart by --id"),
        ),
        (Wrong::Disorder, Some(_)) => (message!("the date {} comes after {}", text, last), message!("sort the rows by date, oldest first")),
        (Wrong::Disorder, None) => (
            message!("the date {} comes after {}", text, last),
            message!("sort the rows by date, or name the column that tells series apart by --id"),
        ),
    };
    Error::Data { place, what, remedy }
}

/// `prices.csv:17, column Close`; without `names`, the header itself is meant.
fn cell_place(record: &ByteRecord, column: usize, path: &Path, names: Option<&[String]>) -> Message {
    let line = line(path, record.position());
    let name = names.map_or_else(|| (column + 1).to_string(), |names| names[column].escape_debug().to_string());
    message!("{}:{}, column {}", path.display(), line, name)
}

/// The line that a record begins on, from 1. The reader's own count lags: it takes the second half of a CRLF, and blank lines, for the
/// beginning of the next record.
fn line(path: &Path, record: Option<&Position>) -> u64 {
    record.map_or(1, |record| line_at(path, record.byte()).unwrap_or(record.line()))
}

/// The line of the first byte from `byte` on that ends no line, from 1; none where the file cannot be read again.
fn line_at(path: &Path, byte: u64) -> Option<u64> {
    let before = bytes(path)?.take_while(|&(place, read)| place < byte || matches!(read, b'\r' | b'\n'));
    Some(1 + before.filter(|&(_, read)| read == b'\n').count() as u64)
}

/// The bytes of a file's text, each with its place; none where the file cannot be read again, as a pipe cannot.
fn bytes(path: &Path) -> Option<impl Iterator<Item = (u64, u8)>> {
    Some((0..).zip(BufReader::new(again(path, open)?).bytes().map_while(Result::ok)))
}

/// The error of a file's last record where a quote opens in it that nothing closes: it then has what were rows in a cell. A record that
/// closes its quotes has an even number of them.
fn unclosed(path: &Path, record: &ByteRecord) -> Option<Error> {
    let position = record.position().filter(|_| record.iter().flatten().any(|byte| matches!(byte, b'\r' | b'\n')))?;
    let n_quote = bytes(path)?.filter(|&(place, read)| place >= position.byte() && read == b'"').count();
    (n_quote % 2 == 1).then(|| Error::Data {
        place: message!("{}:{}", path.display(), line(path, Some(position))),
        what: message!("the quote that opens here is never closed"),
        remedy: message!("close it or remove it"),
    })
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
            place: message!("{}:{}", path.display(), line),
            what: message!("the row has {} cells, the header has {}", len, expected_len),
            remedy: message!("give every row as many cells as the header"),
        },
        ErrorKind::Io(source) => Error::reading(path, source),
        other => Error::Data {
            place: message!("{}:{}", path.display(), line),
            what: Message::verbatim(format!("{other:?}")),
            remedy: message!("give a CSV file"),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// Otherwise the file would be read again for each of thousands of series.
    #[test]
    fn lines_are_looked_up_for_the_notes_that_are_shown() {
        let note = |series: usize| Note {
            sentences: vec![message!("{}: {} cells have no value", series, 1), message!("{} rows are left out, the first at line {}", 1)],
            byte: Some(10 * series as u64),
        };
        let bytes = RefCell::new(Vec::new());
        let line = |byte| {
            bytes.borrow_mut().push(byte);
            byte / 5
        };
        let notes = once_each((7..2007).map(note).collect(), line);
        let text = "7: 1 cells have no value; 1 rows are left out, the first at line 14; so it is in 1999 more series";
        assert_eq!(notes.iter().map(Message::to_string).collect::<Vec<_>>(), [text]);
        assert_eq!(bytes.into_inner(), [70]);
    }
}
