//! Which columns of a file have its dates.

use csv::ByteRecord;
use jiff::civil::Date;

use super::cell;
use crate::Message;
use crate::Result;
use crate::dataset::dates::{has_time, is_count, is_date};
use crate::dataset::table::{bare, find_column};

/// Names of date columns, compared without case, `<` and `>`. Where none is there, a column is recognised by its first cell.
const DATE_NAMES: [&str; 9] = ["date", "datetime", "date_time", "timestamp", "time", "open time", "open_time", "ds", "ts"];

/// Where rows have their dates.
#[derive(Debug, Clone, Default)]
pub(super) struct DateColumns {
    /// The dates' column, or those that make up a date; none where there are no dates.
    pub columns: Vec<usize>,
    join: Join,
}

/// How several cells are one date.
#[derive(Debug, Clone, Copy, Default)]
enum Join {
    /// A day and a time, or a year and a month's name, with a space between them.
    #[default]
    Space,
    /// The numbers of a year and a quarter, as `1959Q1`.
    Quarter,
    /// The numbers of a year, a month, and maybe of a day and an hour, as `1959-01` or `1959-01-31 05:00`.
    Month,
}

impl DateColumns {
    /// The date of a row.
    pub(super) fn text(&self, record: &ByteRecord) -> String {
        if let [column] = self.columns[..] {
            return cell(record, column).to_string();
        }
        let cells: Vec<&str> = self.columns.iter().map(|&column| cell(record, column)).collect();
        let number = |cell: &&str| cell.strip_suffix(".0").unwrap_or(cell).parse::<u16>().ok();
        let numbers = || cells.iter().map(number).collect::<Option<Vec<u16>>>();
        match (self.join, numbers().as_deref()) {
            (Join::Quarter, Some([year, quarter])) => format!("{year:04}Q{quarter}"),
            (Join::Month, Some([year, month])) => format!("{year:04}-{month:02}"),
            (Join::Month, Some([year, month, day])) => format!("{year:04}-{month:02}-{day:02}"),
            (Join::Month, Some(&[year, month, day, hour])) => match day_after(year, month, day).filter(|_| hour == 24) {
                Some(next) => format!("{next} 00:00"),
                None => format!("{year:04}-{month:02}-{day:02} {hour:02}:00"),
            },
            _ => cells.join(" "),
        }
    }
}

/// The day at whose beginning the hour 24 of another one ends.
fn day_after(year: u16, month: u16, day: u16) -> Option<Date> {
    Date::new(year.try_into().ok()?, month.try_into().ok()?, day.try_into().ok()?).ok()?.tomorrow().ok()
}

/// The date column, `date` or the one that is found; none where there is none. `first` is the first row, `is_unnamed` says that the first
/// column has no name of its own. What may be dates by all rows only is asked of `are_dates`: years, and their parts beside them. Where
/// none of these are, and nothing else is for certain, the second result has the parts of dates that were refused.
pub(super) fn date_columns(
    place: impl Into<Message>,
    names: &[String],
    date: Option<&str>,
    is_unnamed: bool,
    first: &ByteRecord,
    is_free: impl Fn(usize) -> bool,
    are_dates: impl Fn(&DateColumns) -> bool,
) -> Result<(DateColumns, Option<DateColumns>)> {
    if let Some(name) = date {
        return Ok((with_time(find_column(place, names, name)?, names, first, is_free), None));
    }
    let found = find_dates(names, first, &is_free);
    if found.columns.first().is_some_and(|&column| !is_count(cell(first, column))) {
        return Ok((found, None));
    }
    let index = (is_unnamed && is_free(0)).then(|| DateColumns { columns: vec![0], join: Join::Space });
    let is_possible = |dates: &DateColumns| dates.columns.len() < names.len();
    let candidates: Vec<DateColumns> = years(names, is_free).into_iter().chain(index).filter(is_possible).collect();
    Ok(match candidates.iter().find(|dates| are_dates(dates)) {
        Some(dates) => (dates.clone(), None),
        None => (found, candidates.into_iter().find(|dates| dates.columns.len() > 1)),
    })
}

/// The date column: by its name, but for a mere count, else the first free one that starts with a date. A column `time` goes with one of
/// days.
fn find_dates(names: &[String], first: &ByteRecord, is_free: impl Fn(usize) -> bool) -> DateColumns {
    let free = || (0..names.len()).filter(|&column| is_free(column));
    let cell = |column: usize| cell(first, column);
    let has_name = |column: &usize| DATE_NAMES.iter().any(|name| bare(&names[*column]).eq_ignore_ascii_case(name));
    let is_time = |column: &usize| is_time(&names[*column], cell(*column));
    let named = || free().filter(|column| has_name(column) && !is_time(column));
    let date = named().find(|&column| !is_count(cell(column))).or_else(|| free().find(|&column| is_date(cell(column))));
    let Some(date) = date.or_else(|| named().next()).or_else(|| free().find(is_time)) else { return DateColumns::default() };
    // the same day with its time, in a column of its own
    let day = cell(date);
    let with_day = |column: &usize| cell(*column).len() > day.len() && cell(*column).starts_with(day) && has_time(cell(*column));
    let timed = free().find(|column| is_date(day) && !has_time(day) && with_day(column));
    with_time(timed.unwrap_or(date), names, first, is_free)
}

/// A column of dates, and the column `time` that goes with it where it is one of days.
fn with_time(date: usize, names: &[String], first: &ByteRecord, is_free: impl Fn(usize) -> bool) -> DateColumns {
    let cell = |column: usize| cell(first, column);
    let mut others = (0..names.len()).filter(|&column| is_free(column) && column != date);
    let time = others.find(|&column| is_time(&names[column], cell(column))).filter(|_| !cell(date).contains(':'));
    DateColumns { columns: std::iter::once(date).chain(time).collect(), join: Join::Space }
}

/// Whether a column holds times of days that another column has.
fn is_time(name: &str, cell: &str) -> bool {
    bare(name).eq_ignore_ascii_case("time") && !is_date(cell) && is_date(&format!("2024-01-31 {cell}"))
}

/// The free column called `year`, alone and with those of its parts, as many as may be.
fn years(names: &[String], is_free: impl Fn(usize) -> bool) -> Vec<DateColumns> {
    let find = |name: &str| (0..names.len()).find(|&column| is_free(column) && bare(&names[column]).eq_ignore_ascii_case(name));
    let Some(year) = find("year") else { return Vec::new() };
    let quarter = find("quarter").or_else(|| find("qtr")).map(|quarter| DateColumns { columns: vec![year, quarter], join: Join::Quarter });
    let parts: Vec<usize> = std::iter::once(year).chain(["month", "day", "hour"].into_iter().map_while(find)).collect();
    let parted = (2..=parts.len()).rev().map(|n| DateColumns { columns: parts[..n].to_vec(), join: Join::Month });
    let alone = DateColumns { columns: vec![year], join: Join::Space };
    std::iter::once(alone).chain(parted).chain(quarter).collect()
}
