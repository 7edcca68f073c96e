//! Rows of a table one by one, as they come.

use std::io::BufRead;

use csv::{Reader, ReaderBuilder, StringRecord, Trim};

use super::dates::{DateColumns, date_columns};
use super::dialect::{BLANKS, amount, byte_of, delimiter_of, is_decimal_comma};
use super::lines::Lines;
use super::missing::{Missing, is_missing};
use crate::Message;
use crate::dataset::CALENDAR;
use crate::dataset::dates::{Order, Wrong, calendar_of, has_time};
use crate::dataset::table::{alike, is_alike};
use crate::error::{Error, Result};

/// Reads rows of known columns, each as soon as its line has come. The first line tells the delimiter, as it does in a file; it is a
/// header where it names one of the columns, and others are then left out. Where the delimiter is no comma, `12,5` is a number, and once
/// such has come, `12,500`.
pub struct CsvRows<'a, R> {
    reader: Reader<Lines<R>>,
    record: StringRecord,
    /// `12,5` is a number: the delimiter is no comma.
    may_have_commas: bool,
    /// So is `12,500`: such a number has come.
    decimal_comma: bool,
    /// What the rows come from, for errors.
    place: Message,
    /// The columns to read but those of [`CALENDAR`].
    names: Vec<&'a str>,
    /// Of the columns to read, those of [`CALENDAR`] follow the others.
    needs_dates: bool,
    order: Order,
    /// The last row's date, where dates are read.
    last_date: String,
    /// The column of dates, where it is named.
    date: Option<&'a str>,
    missing: Missing,
    /// The last value of each of `names`; NaN before its first.
    last: Vec<f64>,
    cells: Option<Cells>,
}

/// Which cells of a row are read.
struct Cells {
    columns: Vec<usize>,
    dates: DateColumns,
    /// How many a row has.
    n: usize,
}

impl<'a, R: BufRead> CsvRows<'a, R> {
    /// The given columns of what `place` names, in their order; those of [`CALENDAR`], which stand behind the others, are made from the
    /// column of dates: the one called `date`, else the one that a file's would be.
    ///
    /// # Errors
    /// [`Error::Data`] where the first line cannot be read. [`Error::Option`] for [`Missing::Interpolate`], which asks for rows to come.
    pub fn new(input: R, place: Message, columns: &[&'a str], date: Option<&'a str>, missing: Missing) -> Result<Self> {
        if missing == Missing::Interpolate {
            let expected = message!("the rows after a gap have not come yet: choose error, drop or forward-fill");
            return Err(Error::Option { option: "--missing".into(), got: Message::verbatim("interpolate"), expected });
        }
        let mut lines = Lines::new(input);
        while lines.line.iter().all(u8::is_ascii_whitespace) {
            if !lines.advance().map_err(|error| unreadable(&place, None, &error))? {
                break;
            }
        }
        let names: Vec<&str> = columns.iter().copied().filter(|name| !CALENDAR.contains(name)).collect();
        let delimiter = delimiter_of(&lines.line, &names);
        if delimiter == BLANKS {
            lines = lines.parted_by_blanks();
        }
        let mut reader = ReaderBuilder::new();
        reader.delimiter(byte_of(delimiter)).has_headers(false).flexible(true).trim(Trim::All);
        Ok(CsvRows {
            reader: reader.from_reader(lines),
            record: StringRecord::new(),
            may_have_commas: delimiter != b',',
            decimal_comma: false,
            place,
            needs_dates: names.len() < columns.len(),
            order: Order::forward(),
            last_date: String::new(),
            last: vec![f64::NAN; names.len()],
            names,
            date,
            missing,
            cells: None,
        })
    }

    /// The next row's values, one a column, NaN where a cell has none and is not filled; none behind the last row.
    ///
    /// # Errors
    /// [`Error::Data`], naming the line, for: a header without one of the columns, a row of another length than the first, a cell that is
    /// no finite number or no time, one without a value by [`Missing::Error`], a date that is read and does not come after the last one, text
    /// that is not UTF-8.
    pub fn next_row(&mut self) -> Result<Option<Vec<f64>>> {
        if !self.read()? {
            return Ok(None);
        }
        if self.cells.is_none() && !self.begin()? {
            return Ok(None);
        }
        let Some(cells) = &self.cells else { return Ok(None) };
        self.check_len(cells.n)?;
        self.decimal_comma |= self.may_have_commas && cells.columns.iter().any(|&column| is_decimal_comma(&self.record[column]));
        let row = self.parse(cells)?;
        if self.needs_dates {
            let date = cells.dates.text(self.record.as_byte_record());
            self.order.push(&date).map_err(|wrong| self.out_of_order(wrong, &date))?;
            self.last_date = date;
        }
        if self.missing == Missing::ForwardFill {
            self.last.copy_from_slice(&row[..self.names.len()]);
        }
        Ok(Some(row))
    }

    /// Finds the columns by the first row, and goes on to the row below it where that is a header; whether there is a row to parse.
    fn begin(&mut self) -> Result<bool> {
        if !self.is_header() {
            if self.needs_dates {
                let needed = message!("the checkpoint reads the time of day: give one that names the column of dates too");
                return Err(self.wrong(message!("there is no header"), needed));
            }
            self.cells = Some(Cells { columns: (0..self.names.len()).collect(), dates: DateColumns::default(), n: self.names.len() });
            return Ok(true);
        }
        let header: Vec<String> = self.record.iter().map(String::from).collect();
        let columns = self.named()?;
        if !self.read()? {
            return Ok(false);
        }
        self.check_len(header.len())?;
        self.cells = Some(Cells { dates: self.dates(&header, &columns)?, columns, n: header.len() });
        Ok(true)
    }

    fn read(&mut self) -> Result<bool> {
        let read = self.reader.read_record(&mut self.record);
        read.map_err(|error| unreadable(&self.place, Some(self.reader.get_ref().number), &error))
    }

    fn check_len(&self, n: usize) -> Result<()> {
        if self.record.len() == n {
            return Ok(());
        }
        Err(self.wrong(message!("{} cells where {} are expected", self.record.len(), n), self.needed()))
    }

    fn is_header(&self) -> bool {
        self.record.iter().any(|cell| self.names.iter().any(|name| is_alike(name, cell)))
    }

    /// Where the header has the columns.
    fn named(&self) -> Result<Vec<usize>> {
        let header: Vec<&str> = self.record.iter().collect();
        let find = |name: &&str| header.iter().position(|cell| cell == name).or_else(|| alike(&header, name));
        let missing: Vec<&str> = self.names.iter().copied().filter(|name| find(name).is_none()).collect();
        if missing.is_empty() {
            return Ok(self.names.iter().filter_map(find).collect());
        }
        Err(self.wrong(message!("the header has no column {}", missing.join(", ")), message!("name every column of the checkpoint")))
    }

    /// Where the row below the header has its date.
    fn dates(&self, header: &[String], columns: &[usize]) -> Result<DateColumns> {
        if !self.needs_dates {
            return Ok(DateColumns::default());
        }
        let is_free = |column: usize| !columns.contains(&column);
        let record = self.record.as_byte_record();
        let has_time = |dates: &DateColumns| has_time(&dates.text(record));
        let (dates, _) = date_columns(self.place.clone(), header, self.date, false, record, is_free, has_time)?;
        if !has_time(&dates) {
            let needed = message!("the checkpoint reads the time of day: give one, or name it by --date");
            return Err(self.wrong(message!("there is no column of dates with times"), needed));
        }
        Ok(dates)
    }

    fn parse(&self, cells: &Cells) -> Result<Vec<f64>> {
        let cell = |column: usize| self.record.get(column).unwrap_or_default();
        let value = |((name, &column), &last): ((&&str, &usize), &f64)| match amount(cell(column), self.decimal_comma) {
            Some(value) if value.is_finite() => Ok(value),
            _ if is_missing(cell(column)) && self.missing != Missing::Error => Ok(last),
            _ => {
                let text = cell(column);
                let needed = match amount(text, self.may_have_commas) {
                    Some(value) if value.is_finite() => {
                        message!("a comma before three digits may part thousands: write it as {}", text.replace(',', "."))
                    }
                    _ if is_missing(text) => message!("fill it in, or choose --missing drop or forward-fill"),
                    _ => self.needed(),
                };
                Err(self.wrong(message!("{} is {}, no finite number", name, format!("{text:?}")), needed))
            }
        };
        let mut row = self.names.iter().zip(&cells.columns).zip(&self.last).map(value).collect::<Result<Vec<_>>>()?;
        if self.needs_dates {
            let date = cells.dates.text(self.record.as_byte_record());
            let waves = calendar_of(&date).ok_or_else(|| {
                self.wrong(message!("{} is not a date", format!("{date:?}")), message!("write dates as 2024-01-31 16:00"))
            })?;
            row.extend(waves);
        }
        Ok(row)
    }

    /// What is wrong with a date that does not follow the last.
    fn out_of_order(&self, wrong: Wrong, date: &str) -> Error {
        let (date, last) = (format!("{date:?}"), format!("{:?}", self.last_date));
        let what = match wrong {
            Wrong::Unreadable => message!("{} is not a date like {} before it", date, last),
            Wrong::Duplicate => message!("the date {} is there twice", date),
            Wrong::Disorder => message!("the date {} comes after {}", date, last),
        };
        self.wrong(what, message!("give rows in the order of time, one a date, and every date in one format"))
    }

    fn needed(&self) -> Message {
        message!("give rows of {}, or a header that names them", self.names.join(", "))
    }

    fn wrong(&self, what: Message, remedy: Message) -> Error {
        Error::Data { place: at_line(&self.place, self.reader.get_ref().number), what, remedy }
    }
}

fn at_line(place: &Message, line: u64) -> Message {
    message!("{}:{}").with(place.clone()).with(Message::verbatim(line))
}

fn unreadable(place: &Message, line: Option<u64>, error: &impl std::fmt::Display) -> Error {
    Error::Data {
        place: line.map_or_else(|| place.clone(), |line| at_line(place, line)),
        what: message!("cannot be read ({})", error),
        remedy: message!("give CSV rows in UTF-8"),
    }
}
