//! Date columns: their order, the step from one row to the next, and how they go on.

mod week;

use std::collections::HashMap;
use std::fmt;

use jiff::civil::DateTime;
use jiff::{Timestamp, ToSpan, tz::Offset};

use self::week::Week;
use super::{CALENDAR, Dates};
use crate::Message;
use crate::{Error, Result};

/// A way to write dates.
#[derive(Debug, Clone, Copy)]
enum Format {
    /// A whole number: seconds, milliseconds, a count.
    Number,
    /// `2024-01-31T16:00:00-05:00`
    Instant,
    /// `2024-01-31`, `2024-01-31 16:00:00`
    Iso,
    /// By strptime, which for months has no day and reads no quarter.
    Pattern(&'static str),
}

/// Where day and month could be taken for each other, both are tried: the first date that fits only one of them, or is in order only
/// under one of them, settles it, else the one by which more rows keep one step, as the first days of months do. So it is with digits
/// alone, which may be dates or numbers. Where as many rows keep a step, the one that stands first here is taken.
const FORMATS: &[Format] = &[
    Format::Pattern("%Y%m%d"),
    Format::Pattern("%Y%m%d%H"),
    Format::Pattern("%Y%m%d%H%M"),
    Format::Pattern("%Y%m%d%H%M%S"),
    Format::Pattern("%Y%m"),
    Format::Number,
    Format::Instant,
    Format::Iso,
    Format::Pattern("%Y-%m"),
    Format::Pattern("%YM%m"),
    Format::Pattern("%Ym%m"),
    Format::Pattern("%YQ%q"),
    Format::Pattern("%Yq%q"),
    Format::Pattern("%Y-Q%q"),
    Format::Pattern("%Y Q%q"),
    Format::Pattern("Q%q %Y"),
    Format::Pattern("Q%q-%Y"),
    Format::Pattern("%b %Y"),
    Format::Pattern("%B %Y"),
    Format::Pattern("%Y %b"),
    Format::Pattern("%Y %B"),
    Format::Pattern("%b-%y"),
    Format::Pattern("%b-%Y"),
    Format::Pattern("%Y-%b"),
    Format::Pattern("%Y年%m月"),
    Format::Pattern("%Y年%m月%d日"),
    Format::Pattern("%Y.%m.%d"),
    Format::Pattern("%Y.%m.%d %H:%M"),
    Format::Pattern("%Y.%m.%d %H:%M:%S"),
    Format::Pattern("%Y/%m/%d"),
    Format::Pattern("%Y/%m/%d %H:%M"),
    Format::Pattern("%Y/%m/%d %H:%M:%S"),
    Format::Pattern("%Y-%m-%d %H:%M"),
    Format::Pattern("%Y%m%d %H:%M"),
    Format::Pattern("%Y%m%d %H:%M:%S"),
    Format::Pattern("%Y%m%dT%H%M%S"),
    Format::Pattern("%m/%d/%Y"),
    Format::Pattern("%m/%d/%Y %H:%M"),
    Format::Pattern("%m/%d/%Y %H:%M:%S"),
    Format::Pattern("%m/%d/%Y %I:%M %p"),
    Format::Pattern("%m/%d/%Y %I:%M:%S %p"),
    Format::Pattern("%d/%m/%Y"),
    Format::Pattern("%d/%m/%Y %H:%M"),
    Format::Pattern("%d/%m/%Y %H:%M:%S"),
    Format::Pattern("%d/%m/%Y %I:%M %p"),
    Format::Pattern("%d/%m/%Y %I:%M:%S %p"),
    Format::Pattern("%d.%m.%Y"),
    Format::Pattern("%d.%m.%Y %H:%M"),
    Format::Pattern("%d.%m.%Y %H:%M:%S"),
    Format::Pattern("%d-%m-%Y"),
    Format::Pattern("%d-%m-%Y %H:%M"),
    Format::Pattern("%d-%m-%Y %H:%M:%S"),
    Format::Pattern("%m-%d-%Y"),
    Format::Pattern("%m-%d-%Y %H:%M"),
    Format::Pattern("%m-%d-%Y %H:%M:%S"),
    Format::Pattern("%d-%b-%Y"),
    Format::Pattern("%d-%b-%Y %H:%M:%S"),
    Format::Pattern("%d %b %Y"),
    Format::Pattern("%d %B %Y"),
    Format::Pattern("%b %d, %Y"),
    Format::Pattern("%B %d, %Y"),
    Format::Pattern("%b %d %Y"),
    Format::Pattern("%B %d %Y"),
    Format::Pattern("%b-%d-%Y"),
    Format::Pattern("%m/%d/%y"),
    Format::Pattern("%m/%d/%y %H:%M"),
    Format::Pattern("%d/%m/%y"),
    Format::Pattern("%d/%m/%y %H:%M"),
    Format::Pattern("%d.%m.%y"),
    Format::Pattern("%d-%m-%y"),
    Format::Pattern("%m-%d-%y"),
    Format::Pattern("%d-%b-%y"),
];

const SECOND: i128 = 1_000_000_000;
const DAY: i128 = 86_400 * SECOND;

impl Format {
    /// A number that grows with the date, if `text` is written in this format: nanoseconds, and the number itself of [`Format::Number`].
    fn key(self, text: &str) -> Option<i128> {
        let date: DateTime = match self {
            Format::Number => return text.parse::<i64>().ok().map(i128::from),
            Format::Instant => return text.parse::<Timestamp>().ok().map(Timestamp::as_nanosecond),
            // one with an offset from UTC is an instant, of which the day and the time alone are another
            Format::Iso if text.get(10..).is_some_and(|rest| rest.contains(['+', '-', '['])) => return None,
            Format::Iso => text.parse().ok()?,
            Format::Pattern(pattern) if n_digit(pattern).is_some_and(|n| text.len() != n || !is_digits(text)) => return None,
            Format::Pattern(pattern) if pattern.contains("%q") => {
                // strptime reads no quarter, but the first month of one in its place
                let letter = if pattern.contains('Q') { "Q" } else { "q" };
                let (before, quarter) = text.split_once(letter)?;
                let digit = quarter.chars().next()?.to_digit(5).filter(|&digit| digit > 0)?;
                let text = format!("{before}M{:02}{} 1", digit * 3 - 2, &quarter[1..]);
                DateTime::strptime(pattern.replace(&format!("{letter}%q"), "M%m") + " %d", text).ok()?
            }
            Format::Pattern(pattern) if !pattern.contains("%d") => DateTime::strptime(format!("{pattern} %d"), format!("{text} 1")).ok()?,
            Format::Pattern(pattern) => DateTime::strptime(pattern, text).ok()?,
        };
        let is_likely = match self {
            // what begins otherwise is a count, or a time since 1970
            Format::Pattern(pattern) if n_digit(pattern).is_some_and(|n| n != 8) => (1900..2100).contains(&date.year()),
            // two digits are read as a year of the first century, unless the pattern says that they are two
            _ => date.year() >= 100,
        };
        if !is_likely {
            return None;
        }
        Offset::UTC.to_timestamp(date).ok().map(Timestamp::as_nanosecond)
    }

    /// Patterns that a date like `text` may be written by, and what stands behind it as it is.
    fn styles(self, text: &str) -> (Vec<String>, &str) {
        let iso = || {
            let days = ["%Y-%m-%d ", "%Y-%m-%dT", "%Y%m%d ", "%Y%m%dT"];
            let times = ["%H:%M", "%H:%M:%S", "%H:%M:%S%.3f", "%H:%M:%S%.6f", "%H:%M:%S%.9f", "%H%M", "%H%M%S"];
            let with_times = days.into_iter().flat_map(move |day| times.map(|time| format!("{day}{time}")));
            std::iter::once("%Y-%m-%d".to_string()).chain(with_times).collect()
        };
        match self {
            Format::Number => (Vec::new(), ""),
            Format::Iso => (iso(), ""),
            Format::Instant => {
                let zone = text.char_indices().position(|(at, c)| at > 10 && matches!(c, 'Z' | 'z' | '+' | '-')).unwrap_or(text.len());
                (iso(), &text[zone..])
            }
            Format::Pattern(pattern) => {
                let bare = pattern.replace("%m", "%-m").replace("%d", "%-d");
                let styles = [pattern.into(), bare.clone(), bare.replace("%H", "%-H").replace("%I", "%-I")];
                let upper = styles.clone().map(|style: String| style.replace("%b", "%^b").replace("%B", "%^B"));
                (styles.into_iter().chain(upper).collect(), "")
            }
        }
    }
}

/// How many digits dates of a pattern have that has nothing else.
fn n_digit(pattern: &str) -> Option<usize> {
    match pattern {
        "%Y%m" => Some(6),
        "%Y%m%d" => Some(8),
        "%Y%m%d%H" => Some(10),
        "%Y%m%d%H%M" => Some(12),
        "%Y%m%d%H%M%S" => Some(14),
        _ => None,
    }
}

fn is_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The columns [`CALENDAR`] of one row by its date alone; none where that is no time.
pub(super) fn calendar_of(date: &str) -> Option<[f64; CALENDAR.len()]> {
    let shares = one(date).shares_of_day()?;
    Some(std::array::from_fn(|index| wave(index, shares[0])))
}

/// Whether a date is written with a time of day.
pub(super) fn has_time(date: &str) -> bool {
    Keys::new(&one(date)).is_some_and(|keys| match keys.format {
        Format::Number => keys.unit.is_some(),
        Format::Instant => true,
        Format::Iso => date.contains([':', 'T']),
        Format::Pattern(pattern) => pattern.contains("%H") || pattern.contains("%I"),
    })
}

/// A column of one date.
fn one(date: &str) -> Dates {
    Dates { name: String::new(), text: vec![date.into()] }
}

/// A column of [`CALENDAR`] at a share of the day.
fn wave(index: usize, share: f64) -> f64 {
    let angle = std::f64::consts::TAU * share * (index / 2 + 1) as f64;
    if index.is_multiple_of(2) { angle.sin() } else { angle.cos() }
}

/// Whether `text` is a date for certain: a plain number could be anything.
pub(super) fn is_date(text: &str) -> bool {
    Format::Number.key(text).is_none() && FORMATS.iter().any(|format| format.key(text).is_some())
}

/// Whether `text` is a number that counts: no date, no year, no time since 1970.
pub(super) fn is_count(text: &str) -> bool {
    let is_small = |number| unit(number).is_none() && !(1500..=2100).contains(&number);
    let is_pattern = |format: &Format| matches!(format, Format::Pattern(_));
    Format::Number.key(text).is_some_and(is_small)
        && !FORMATS.iter().filter(|format| is_pattern(format)).any(|format| format.key(text).is_some())
}

/// Takes a column's dates one after another and says when one is wrong. They may run forward or, all of them, backward.
pub(super) struct Order {
    /// What fits all dates so far.
    fitting: Vec<Fitting>,
}

struct Fitting {
    format: Format,
    is_backward: bool,
    /// The last date's key.
    last: Option<i128>,
}

/// What is wrong with a date.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Wrong {
    Unreadable,
    Duplicate,
    Disorder,
}

impl Order {
    pub(super) fn new() -> Self {
        let fitting = |is_backward| FORMATS.iter().map(move |&format| Fitting { format, is_backward, last: None });
        Order { fitting: fitting(false).chain(fitting(true)).collect() }
    }

    /// Of dates that may run forward only.
    pub(super) fn forward() -> Self {
        let mut order = Order::new();
        order.fitting.retain(|fitting| !fitting.is_backward);
        order
    }

    /// Takes the next row's date.
    pub(super) fn push(&mut self, text: &str) -> Result<(), Wrong> {
        let mut wrong = Wrong::Unreadable;
        self.fitting.retain_mut(|Fitting { format, is_backward, last }| {
            let Some(key) = format.key(text) else { return false };
            match last.replace(key) {
                Some(before) if key == before => wrong = Wrong::Duplicate,
                Some(before) if (key < before) != *is_backward => {
                    if wrong == Wrong::Unreadable {
                        wrong = Wrong::Disorder;
                    }
                }
                _ => return true,
            }
            false
        });
        if self.fitting.is_empty() { Err(wrong) } else { Ok(()) }
    }

    /// Whether the dates run backward.
    pub(super) fn is_backward(&self) -> bool {
        self.fitting.first().is_some_and(|fitting| fitting.is_backward)
    }
}

/// The distance from one row to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Numbers that are no times.
    Count(i64),
    /// So many nanoseconds.
    Fixed(i64),
    /// So many nanoseconds, but for times of the week at which there are never rows: nights, weekends.
    Business(i64),
    /// So many months.
    Months(i32),
}

impl Step {
    /// The step in words.
    pub fn message(self) -> Message {
        type Count = fn(i128) -> Message;
        let units: [(i128, Count); 5] = [
            (7 * DAY, |n| if n == 1 { message!("1 week") } else { message!("{} weeks", n) }),
            (DAY, |n| if n == 1 { message!("1 day") } else { message!("{} days", n) }),
            (3600 * SECOND, |n| if n == 1 { message!("1 hour") } else { message!("{} hours", n) }),
            (60 * SECOND, |n| if n == 1 { message!("1 minute") } else { message!("{} minutes", n) }),
            (SECOND, |n| if n == 1 { message!("1 second") } else { message!("{} seconds", n) }),
        ];
        match self {
            Step::Count(n) => Message::verbatim(n),
            Step::Business(nanoseconds) if i128::from(nanoseconds) == DAY => message!("1 business day"),
            Step::Business(nanoseconds) => message!("{} of business").with(Step::Fixed(nanoseconds).message()),
            Step::Months(1) => message!("1 month"),
            Step::Months(n) => message!("{} months", n),
            Step::Fixed(nanoseconds) => {
                let n = i128::from(nanoseconds);
                match units.into_iter().find(|(unit, _)| n % unit == 0) {
                    Some((unit, message)) => message(n / unit),
                    None => message!("{} seconds", nanoseconds as f64 / SECOND as f64),
                }
            }
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.message().fmt(f)
    }
}

/// How a column's dates follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spacing {
    /// The step of most rows.
    pub step: Step,
    /// How many rows do not follow the one before at that step. Holidays are not counted: whole days of business without a row, with at
    /// most ten days from one row to the next.
    pub n_irregular: usize,
    /// The first of them.
    pub first_irregular: Option<usize>,
}

/// Rows that tell how dates are written.
const RECENT: usize = 100;

/// A date column read again.
struct Keys {
    format: Format,
    /// Nanoseconds of the clock on the wall, or numbers that are no times.
    keys: Vec<i128>,
    /// Nanoseconds of each row's own clock where they may be others, as summer time makes them.
    clocks: Option<Vec<i128>>,
    /// Nanoseconds of one of the numbers of [`Format::Number`], where they are times.
    unit: Option<i128>,
}

impl Keys {
    fn new(dates: &Dates) -> Option<Self> {
        let mut order = Order::new();
        dates.text.iter().try_for_each(|text| order.push(text)).ok()?;
        let fitting = order.fitting.iter().filter_map(|fitting| Self::of(dates, fitting.format));
        fitting.min_by_key(|keys| keys.spacing().map_or(usize::MAX, |spacing| spacing.n_irregular))
    }

    fn of(dates: &Dates, format: Format) -> Option<Self> {
        let last = dates.text.last()?;
        let unit = match format {
            Format::Number => unit(format.key(last)?),
            _ => Some(1),
        };
        let offset = |text| match format {
            Format::Instant => offset(text).map(|offset| i128::from(offset.seconds()) * SECOND),
            _ => Some(0),
        };
        let last = offset(last)?;
        let times = || dates.text.iter().map(|text| format.key(text).map(|key| key * unit.unwrap_or(1)));
        let keys = times().map(|key| Some(key? + last)).collect::<Option<_>>()?;
        let own_clock = || times().zip(&dates.text).map(|(key, text)| Some(key? + offset(text)?)).collect::<Option<_>>();
        let clocks = if matches!(format, Format::Instant) { Some(own_clock()?) } else { None };
        Some(Keys { format, keys, clocks, unit })
    }

    fn clocks(&self) -> &[i128] {
        self.clocks.as_ref().unwrap_or(&self.keys)
    }

    fn spacing(&self) -> Option<Spacing> {
        let steps = |index: &dyn Fn(i128) -> i128| self.keys.windows(2).map(|pair| index(pair[1]) - index(pair[0])).collect::<Vec<_>>();
        let differences = steps(&|key| key);
        let spacing = |step, is_regular: &dyn Fn(usize) -> bool| {
            let irregular: Vec<usize> = (0..differences.len()).filter(|&row| !is_regular(row)).map(|row| row + 1).collect();
            Spacing { step, n_irregular: irregular.len(), first_irregular: irregular.first().copied() }
        };
        let (usual, n_usual) = most_frequent(&differences)?;
        let is_kept = 2 * n_usual > differences.len();
        let fixed = || Some(spacing(Step::Fixed(i64::try_from(usual).ok()?), &|row| differences[row] == usual));
        if self.unit.is_none() {
            let step = Step::Count(i64::try_from(usual).ok().filter(|_| is_kept)?);
            return Some(spacing(step, &|row| differences[row] == usual));
        }
        // months without days are no steps of days, even where all have as many
        let has_days = !matches!(self.format, Format::Pattern(pattern) if !pattern.contains("%d"));
        if n_usual == differences.len() && has_days {
            return fixed();
        }
        // Months are looked for only where no step is shorter than the shortest month.
        if differences.iter().all(|difference| *difference >= 28 * DAY) {
            let months = steps(&|key| civil(key).map_or(0, |date| i128::from(date.year()) * 12 + i128::from(date.month())));
            let (usual, n_usual) = most_frequent(&months)?;
            if usual > 0 && 2 * n_usual > months.len() {
                return Some(spacing(Step::Months(i32::try_from(usual).ok()?), &|row| months[row] == usual));
            }
        }
        if let Some(week) = Week::new(self.clocks(), usual) {
            let clocks = self.clocks();
            let step = Step::Business(i64::try_from(usual).ok()?);
            return Some(spacing(step, &|row| week.is_regular(clocks[row], clocks[row + 1])));
        }
        if is_kept { fixed() } else { None }
    }

    /// The keys of the next `n` rows behind the last.
    fn continued(&self, step: Step, n: usize) -> Option<Vec<i128>> {
        let last = *self.keys.last()?;
        let ahead = 1..=i64::try_from(n).ok()?;
        match step {
            Step::Count(step) | Step::Fixed(step) => Some(ahead.map(|ahead| last + i128::from(ahead) * i128::from(step)).collect()),
            Step::Business(usual) => Some(Week::new(self.clocks(), usual.into())?.continued(last, n)),
            Step::Months(months) => {
                let last = civil(last)?;
                // The last day of a month is followed by that of the next, and so is its last business day, or its first.
                let days: [fn(DateTime) -> DateTime; 4] =
                    [DateTime::last_of_month, DateTime::first_of_month, last_business_day, first_business_day];
                let all_are =
                    |day: &fn(DateTime) -> DateTime| self.keys.iter().all(|&key| civil(key).is_some_and(|date| date == day(date)));
                let day = days.into_iter().find(all_are);
                let key = |ahead: i64| {
                    let date = last.checked_add(i64::from(months).checked_mul(ahead)?.months()).ok()?;
                    Offset::UTC.to_timestamp(day.map_or(date, |day| day(date))).ok().map(Timestamp::as_nanosecond)
                };
                ahead.map(key).collect()
            }
        }
    }
}

impl Dates {
    /// How the dates follow each other; none where there are fewer than two, or no step that most of them keep.
    pub fn spacing(&self) -> Option<Spacing> {
        Keys::new(self)?.spacing()
    }

    /// The time of day of each row as a share of the day, in the clock of the dates themselves; none where all have the same, as dates
    /// without a time do, or where they are no times.
    pub fn time_of_day(&self) -> Option<Vec<f64>> {
        let shares = self.shares_of_day()?;
        shares.iter().any(|share| *share != shares[0]).then_some(shares)
    }

    /// The time of day of each row as a share of the day; none where they are no times.
    fn shares_of_day(&self) -> Option<Vec<f64>> {
        let keys = Keys::new(self).filter(|keys| keys.unit.is_some())?;
        Some(keys.clocks().iter().map(|clock| clock.rem_euclid(DAY) as f64 / DAY as f64).collect())
    }

    /// The columns [`CALENDAR`], each `(row)`, where the dates are written with times of day, be it the same in all rows.
    pub fn calendar(&self) -> Option<Vec<Vec<f64>>> {
        let is_written = |shares: &Vec<f64>| shares.iter().any(|share| *share != shares[0]) || has_time(&self.text[0]);
        let shares = self.shares_of_day().filter(is_written)?;
        Some((0..CALENDAR.len()).map(|index| shares.iter().map(|&share| wave(index, share)).collect()).collect())
    }

    /// The next `n` dates behind the last, at the dates' own step and written as most of the last hundred are.
    ///
    /// # Errors
    /// [`Error::Data`] where the dates have no step of their own.
    ///
    /// ```
    /// use scanrnn::dataset::Dates;
    /// let days = ["2024-02-28", "2024-02-29", "2024-03-01", "2024-03-04"].map(String::from).to_vec();
    /// let dates = Dates { name: "Date".into(), text: days };
    /// assert_eq!(dates.continued(5)?, ["2024-03-05", "2024-03-06", "2024-03-07", "2024-03-08", "2024-03-11"]);
    /// # Ok::<(), scanrnn::Error>(())
    /// ```
    pub fn continued(&self, n: usize) -> Result<Vec<String>> {
        let continued = || {
            let keys = Keys::new(self)?;
            let step = keys.spacing()?.step;
            let last = self.text.last()?;
            let (styles, tail) = keys.format.styles(last);
            let write = |key, style: &str| Some(civil(key)?.strftime(style).to_string() + tail);
            // one row alone does not tell whether hours below ten have a zero before them
            let recent = || keys.keys.iter().zip(&self.text).rev().take(RECENT);
            let style = styles.iter().min_by_key(|style| recent().filter(|&(&key, text)| write(key, style).as_ref() != Some(text)).count());
            let text = |key: i128| match (style, keys.unit) {
                (Some(style), _) => write(key, style),
                (None, unit) => Some((key / unit.unwrap_or(1)).to_string()),
            };
            keys.continued(step, n)?.into_iter().map(text).collect::<Option<Vec<_>>>()
        };
        continued().ok_or_else(|| Error::Data {
            place: message!("column {}", self.name),
            what: message!("its dates have no step at which they could go on"),
            remedy: message!("give rows at one step, such as one an hour or one a day"),
        })
    }
}

/// Nanoseconds of one, by the size that numbers of our times have in each unit.
fn unit(number: i128) -> Option<i128> {
    let digits = number.unsigned_abs().checked_ilog10().unwrap_or(0);
    match digits {
        8..=10 => Some(SECOND),
        11..=13 => Some(1_000_000),
        14..=16 => Some(1_000),
        17.. => Some(1),
        _ => None,
    }
}

fn offset(instant: &str) -> Option<Offset> {
    let pieces = jiff::fmt::temporal::Pieces::parse(instant).ok()?;
    pieces.to_numeric_offset().or(Some(Offset::UTC))
}

fn civil(key: i128) -> Option<DateTime> {
    Timestamp::from_nanosecond(key).ok().map(|timestamp| Offset::UTC.to_datetime(timestamp))
}

/// The last Monday to Friday of a date's month.
fn last_business_day(date: DateTime) -> DateTime {
    let last = date.last_of_month();
    let n_weekend = i64::from(last.weekday().to_monday_zero_offset()) - 4;
    last.saturating_sub(n_weekend.max(0).days())
}

/// The first Monday to Friday of a date's month.
fn first_business_day(date: DateTime) -> DateTime {
    let first = date.first_of_month();
    let n_weekend = 7 - i64::from(first.weekday().to_monday_zero_offset());
    if n_weekend <= 2 { first.saturating_add(n_weekend.days()) } else { first }
}

fn most_frequent(values: &[i128]) -> Option<(i128, usize)> {
    let mut counts = HashMap::new();
    for &value in values {
        *counts.entry(value).or_insert(0) += 1;
    }
    counts.into_iter().max_by_key(|&(value, count)| (count, std::cmp::Reverse(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dates(text: &[&str]) -> Dates {
        Dates { name: "date".into(), text: text.iter().map(ToString::to_string).collect() }
    }

    #[test]
    fn reads_the_usual_formats() {
        for text in [
            "2024-01-31",
            "2024-01-31 16:00:00",
            "2024-01-31 16:00",
            "2024-01-31T16:00:00Z",
            "2000-03-01 00:00:00-05:00",
            "1949-01",
            "2024/01/31",
            "1/31/2024",
            "31.01.2024 09:30",
            "31-Jan-2024",
            "Jan 31, 2024",
            "31 JANUARY 2024",
            "20240131T160000",
        ] {
            assert!(is_date(text), "{text}");
        }
        for text in [
            "",
            "20240131",
            "202401311600",
            "3.5",
            "Close",
            "2024-02-30",
            "31",
            "2024Q5",
            "2024Q0",
            "2024Q",
            "2024Q12",
            "Q1",
            "2024M13",
            "May",
        ] {
            assert!(!is_date(text), "{text}");
        }
    }

    #[test]
    fn a_day_above_12_settles_day_or_month() {
        let mut order = Order::new();
        for text in ["01/02/2024", "02/02/2024", "13/02/2024", "01/03/2024"] {
            assert_eq!(order.push(text), Ok(()), "{text}");
        }
        assert_eq!(order.push("13/02/2024"), Err(Wrong::Disorder));
    }

    #[test]
    fn dates_may_all_run_backward() {
        let mut order = Order::new();
        for text in ["2024-01-31", "2024-01-30", "2024-01-29"] {
            assert_eq!(order.push(text), Ok(()), "{text}");
        }
        assert!(order.is_backward());
        assert_eq!(order.push("2024-01-30"), Err(Wrong::Disorder));
    }

    #[test]
    fn offsets_count() {
        let mut order = Order::new();
        assert_eq!(order.push("2024-11-03T01:30:00-04:00"), Ok(()));
        assert_eq!(order.push("2024-11-03T01:00:00-05:00"), Ok(()));
        assert!(!order.is_backward());
        assert_eq!(order.push("2024-11-03 02:00-04:00"), Err(Wrong::Duplicate));
    }

    #[test]
    fn a_time_of_day_is_that_of_the_rows_own_clock() {
        let instants = ["2024-01-01T12:00:00-05:00", "2024-07-01T12:00:00-04:00", "2024-07-01T18:00:00-04:00"];
        assert_eq!(dates(&instants).time_of_day(), Some(vec![0.5, 0.5, 0.75]));
        for (date, wave) in [
            (instants[0], Some(-1.0)),
            ("2024-01-31 06:00", Some(0.0)),
            ("1704110400", Some(-1.0)),
            ("2024013112", Some(-1.0)),
            ("noon", None),
        ] {
            let cosine = calendar_of(date).map(|waves| waves[1].round());
            assert_eq!(cosine.map(|cosine| cosine + 0.0), wave, "{date}");
        }
        assert!(has_time("2024-01-31 00:00") && has_time("20240131T000000") && has_time("1704110400"));
        assert!(has_time("2024013116") && has_time("202401311600") && has_time("20240131160000") && !has_time("202401"));
        assert!(!has_time("2024-01-31") && !has_time("20240131") && !has_time("31.01.2024") && !has_time("noon"));
    }

    #[test]
    fn numbers_count_as_dates_in_a_date_column() {
        let mut order = Order::new();
        assert_eq!(order.push("20240131"), Ok(()));
        assert_eq!(order.push("20240201"), Ok(()));
        assert_eq!(order.push("20240201"), Err(Wrong::Duplicate));
    }

    #[test]
    fn every_format_goes_on_as_it_is_written() {
        let cases: [(&[&str], &str, [&str; 2]); 71] = [
            (&["2024-01-30", "2024-01-31"], "1 day", ["2024-02-01", "2024-02-02"]),
            (&["2016-07-01 22:00:00", "2016-07-01 23:00:00"], "1 hour", ["2016-07-02 00:00:00", "2016-07-02 01:00:00"]),
            (&["2024-01-31T23:30", "2024-01-31T23:45"], "15 minutes", ["2024-02-01T00:00", "2024-02-01T00:15"]),
            (&["2024-01-31T23:00:00Z", "2024-01-31T23:30:00Z"], "30 minutes", ["2024-02-01T00:00:00Z", "2024-02-01T00:30:00Z"]),
            (
                &["2024-01-31 23:00:00-05:00", "2024-01-31 23:30:00-05:00"],
                "30 minutes",
                ["2024-02-01 00:00:00-05:00", "2024-02-01 00:30:00-05:00"],
            ),
            (&["31/01/2024", "01/02/2024"], "1 day", ["02/02/2024", "03/02/2024"]),
            (&["30/12/99", "31/12/99"], "1 day", ["01/01/00", "02/01/00"]),
            (&["31-Dec-21", "1-Jan-22"], "1 day", ["2-Jan-22", "3-Jan-22"]),
            (&["01/30/2024", "01/31/2024"], "1 day", ["02/01/2024", "02/02/2024"]),
            (&["1/30/2024 9:00", "1/31/2024 9:00"], "1 day", ["2/1/2024 9:00", "2/2/2024 9:00"]),
            (&["30-01-2024", "31-01-2024"], "1 day", ["01-02-2024", "02-02-2024"]),
            (&["01-30-2024", "01-31-2024"], "1 day", ["02-01-2024", "02-02-2024"]),
            (&["01-30-24", "01-31-24"], "1 day", ["02-01-24", "02-02-24"]),
            (&["31-01-2024 22:00", "31-01-2024 23:00"], "1 hour", ["01-02-2024 00:00", "01-02-2024 01:00"]),
            (&["01-31-2024 22:00", "01-31-2024 23:00"], "1 hour", ["02-01-2024 00:00", "02-01-2024 01:00"]),
            (&["01-31-2024 23:59:58", "01-31-2024 23:59:59"], "1 second", ["02-01-2024 00:00:00", "02-01-2024 00:00:01"]),
            (&["30.01.2024", "31.01.2024"], "1 day", ["01.02.2024", "02.02.2024"]),
            (&["2024.01.30", "2024.01.31"], "1 day", ["2024.02.01", "2024.02.02"]),
            (&["2024.01.31 22:00:00", "2024.01.31 23:00:00"], "1 hour", ["2024.02.01 00:00:00", "2024.02.01 01:00:00"]),
            (&["1/31/2024 8:00 AM", "1/31/2024 12:00 PM"], "4 hours", ["1/31/2024 4:00 PM", "1/31/2024 8:00 PM"]),
            (&["31/01/2024 10:59:59 PM", "31/01/2024 11:59:59 PM"], "1 hour", ["01/02/2024 12:59:59 AM", "01/02/2024 01:59:59 AM"]),
            (&["30 Jan 2024", "31 Jan 2024"], "1 day", ["01 Feb 2024", "02 Feb 2024"]),
            (&["31-Jan-2024 22:00:00", "31-Jan-2024 23:00:00"], "1 hour", ["01-Feb-2024 00:00:00", "01-Feb-2024 01:00:00"]),
            (&["Oct 2023", "Nov 2023", "Dec 2023"], "1 month", ["Jan 2024", "Feb 2024"]),
            (&["Oct-23", "Nov-23", "Dec-23"], "1 month", ["Jan-24", "Feb-24"]),
            (&["2023Q2", "2023Q3", "2023Q4"], "3 months", ["2024Q1", "2024Q2"]),
            (&["2023-Q2", "2023-Q3", "2023-Q4"], "3 months", ["2024-Q1", "2024-Q2"]),
            (&["2023q2", "2023q3", "2023q4"], "3 months", ["2024q1", "2024q2"]),
            (&["2023 Q2", "2023 Q3", "2023 Q4"], "3 months", ["2024 Q1", "2024 Q2"]),
            (&["Q2 2023", "Q3 2023", "Q4 2023"], "3 months", ["Q1 2024", "Q2 2024"]),
            (&["Q2-2023", "Q3-2023", "Q4-2023"], "3 months", ["Q1-2024", "Q2-2024"]),
            (&["2023M10", "2023M11", "2023M12"], "1 month", ["2024M01", "2024M02"]),
            (&["2023M7", "2023M8", "2023M9", "2023M10"], "1 month", ["2023M11", "2023M12"]),
            (&["2023m7", "2023m8", "2023m9", "2023m10"], "1 month", ["2023m11", "2023m12"]),
            (&["2023 Oct", "2023 Nov", "2023 Dec"], "1 month", ["2024 Jan", "2024 Feb"]),
            (&["2023-Oct", "2023-Nov", "2023-Dec"], "1 month", ["2024-Jan", "2024-Feb"]),
            (&["Oct-2023", "Nov-2023", "Dec-2023"], "1 month", ["Jan-2024", "Feb-2024"]),
            (&["OCT 2023", "NOV 2023", "DEC 2023"], "1 month", ["JAN 2024", "FEB 2024"]),
            (&["May 2023", "June 2023", "July 2023"], "1 month", ["August 2023", "September 2023"]),
            (&["2023 October", "2023 November", "2023 December"], "1 month", ["2024 January", "2024 February"]),
            (&["Oct-1-2023", "Nov-1-2023", "Dec-1-2023"], "1 month", ["Jan-1-2024", "Feb-1-2024"]),
            (&["Dec 30 2023", "Dec 31 2023"], "1 day", ["Jan 01 2024", "Jan 02 2024"]),
            (&["December 30 2023", "December 31 2023"], "1 day", ["January 01 2024", "January 02 2024"]),
            (&["December 30, 2023", "December 31, 2023"], "1 day", ["January 01, 2024", "January 02, 2024"]),
            (&["30 December 2023", "31 December 2023"], "1 day", ["01 January 2024", "02 January 2024"]),
            (&["2023年10月", "2023年11月", "2023年12月"], "1 month", ["2024年01月", "2024年02月"]),
            (&["2024年1月30日", "2024年1月31日"], "1 day", ["2024年2月1日", "2024年2月2日"]),
            (&["20240130", "20240131"], "1 day", ["20240201", "20240202"]),
            (&["20240131 233000", "20240131 234500"], "15 minutes", ["20240201 000000", "20240201 001500"]),
            (&["20240131T233000", "20240131T234500"], "15 minutes", ["20240201T000000", "20240201T001500"]),
            (&["2024-01-31 2330", "2024-01-31 2345"], "15 minutes", ["2024-02-01 0000", "2024-02-01 0015"]),
            (&["202411", "202412", "202501"], "1 month", ["202502", "202503"]),
            (&["201910", "201911", "201912"], "1 month", ["202001", "202002"]),
            (&["100001", "100002", "100003"], "1", ["100004", "100005"]),
            (&["202309", "202312", "202403", "202406"], "3 months", ["202409", "202412"]),
            (&["2024013122", "2024013123", "2024020100"], "1 hour", ["2024020101", "2024020102"]),
            (&["202401312330", "202401312345", "202402010000"], "15 minutes", ["202402010015", "202402010030"]),
            (&["20240131235930", "20240131235945", "20240201000000"], "15 seconds", ["20240201000015", "20240201000030"]),
            (&["200011", "200012", "200013"], "1", ["200014", "200015"]),
            (&["1706010100", "1706010200", "1706010300"], "100 seconds", ["1706010400", "1706010500"]),
            (&["1704067200", "1704070800"], "1 hour", ["1704074400", "1704078000"]),
            (&["1704067200000", "1704070800000"], "1 hour", ["1704074400000", "1704078000000"]),
            (&["1", "3", "5"], "2", ["7", "9"]),
            (&["1949-11", "1949-12"], "1 month", ["1950-01", "1950-02"]),
            (&["1949-12", "1950-01", "1950-02"], "1 month", ["1950-03", "1950-04"]),
            (&["2023-12-31", "2024-01-31", "2024-02-29"], "1 month", ["2024-03-31", "2024-04-30"]),
            (&["2020-01-31", "2020-02-28", "2020-03-31", "2020-04-30"], "1 month", ["2020-05-29", "2020-06-30"]),
            (&["2020-01-01", "2020-02-03", "2020-03-02", "2020-04-01"], "1 month", ["2020-05-01", "2020-06-01"]),
            (&["2020-06-30", "2020-09-30", "2020-12-31", "2021-03-31"], "3 months", ["2021-06-30", "2021-09-30"]),
            (&["2023-01-01", "2023-04-01", "2023-07-01"], "3 months", ["2023-10-01", "2024-01-01"]),
            (&["2024-02-01", "2024-02-02", "2024-02-05", "2024-02-06"], "1 business day", ["2024-02-07", "2024-02-08"]),
        ];
        for (text, step, next) in cases {
            let dates = dates(text);
            let spacing = dates.spacing().unwrap_or_else(|| panic!("{text:?} has a step"));
            assert_eq!((spacing.step.to_string().as_str(), spacing.n_irregular), (step, 0), "{text:?}");
            assert_eq!(dates.continued(2).expect("a step"), next, "{text:?}");
        }
    }

    #[test]
    fn steps_settle_day_or_month_where_no_day_does() {
        let months: Vec<String> = (2019..2022).flat_map(|year| (1..=12).map(move |month| format!("{month:02}/{year}"))).collect();
        let first_days = months.iter().map(|month| format!("01/{month}")).collect::<Vec<_>>();
        let american = months.iter().map(|month| month.replace('/', "/01/")).collect::<Vec<_>>();
        let dashed = |dates: &[String]| dates.iter().map(|date| date.replace('/', "-")).collect::<Vec<_>>();
        let (first_dashed, american_dashed) = (dashed(&first_days), dashed(&american));
        for (text, next) in
            [(first_days, "01/01/2022"), (american, "01/01/2022"), (first_dashed, "01-01-2022"), (american_dashed, "01-01-2022")]
        {
            let dates = Dates { name: "date".into(), text };
            let spacing = dates.spacing().expect("a step");
            assert_eq!((spacing.step, spacing.n_irregular), (Step::Months(1), 0), "{:?}", dates.text[1]);
            assert_eq!(dates.continued(1).expect("a step"), [next]);
        }
    }

    #[test]
    fn steps_that_are_not_the_usual_one_are_counted() {
        let hours = dates(&["2024-01-01 00:00", "2024-01-01 01:00", "2024-01-01 03:00", "2024-01-01 04:00", "2024-01-01 05:00"]);
        let spacing = hours.spacing().expect("a step");
        assert_eq!((spacing.n_irregular, spacing.first_irregular), (1, Some(2)));
        let none = dates(&["2024-01-01 00:00", "2024-01-01 01:00", "2024-01-01 03:00", "2024-01-01 07:00"]);
        assert_eq!(none.spacing(), None);
        assert!(none.continued(1).expect_err("no step").to_string().contains("no step"));
        let counts = dates(&["1", "2", "4", "5", "6"]);
        assert_eq!(counts.spacing().map(|spacing| (spacing.step, spacing.n_irregular)), Some((Step::Count(1), 1)));
        for irregular in [["1", "2", "4", "7", "8"], ["20240101", "20240102", "20240104", "20240109", "20240111"]] {
            assert_eq!(dates(&irregular).spacing(), None, "{irregular:?}");
            assert!(dates(&irregular).continued(1).is_err(), "{irregular:?}");
        }
        let holidays = dates(&["2001-09-07", "2001-09-10", "2001-09-17", "2001-09-18", "2001-09-19", "2001-09-20", "2001-09-21"]);
        assert_eq!(holidays.spacing().map(|spacing| (spacing.step, spacing.n_irregular)), Some((Step::Business(DAY as i64), 0)));
    }
}
