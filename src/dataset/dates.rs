//! The order of a date column, in whichever of the usual formats it is written.

use jiff::civil::DateTime;
use jiff::{Timestamp, tz::Offset};

/// A way to write dates.
#[derive(Debug, Clone, Copy)]
enum Format {
    /// A whole number: seconds, `20240131`, a count.
    Number,
    /// `2024-01-31T16:00:00-05:00`
    Instant,
    /// `2024-01-31`, `2024-01-31 16:00:00`
    Iso,
    /// `2024-01`
    Month,
    /// By strptime.
    Pattern(&'static str),
}

/// Where day and month could be taken for each other, both are tried: the first date that fits only one of them, or is in order only
/// under one of them, settles it.
const FORMATS: &[Format] = &[
    Format::Number,
    Format::Instant,
    Format::Iso,
    Format::Month,
    Format::Pattern("%Y/%m/%d"),
    Format::Pattern("%Y/%m/%d %H:%M"),
    Format::Pattern("%Y/%m/%d %H:%M:%S"),
    Format::Pattern("%Y-%m-%d %H:%M"),
    Format::Pattern("%m/%d/%Y"),
    Format::Pattern("%m/%d/%Y %H:%M"),
    Format::Pattern("%m/%d/%Y %H:%M:%S"),
    Format::Pattern("%d/%m/%Y"),
    Format::Pattern("%d/%m/%Y %H:%M"),
    Format::Pattern("%d/%m/%Y %H:%M:%S"),
    Format::Pattern("%d.%m.%Y"),
    Format::Pattern("%d.%m.%Y %H:%M"),
    Format::Pattern("%d.%m.%Y %H:%M:%S"),
    Format::Pattern("%d-%m-%Y"),
    Format::Pattern("%d-%b-%Y"),
    Format::Pattern("%b %d, %Y"),
];

impl Format {
    /// A number that grows with the date, if `text` is written in this format.
    fn key(self, text: &str) -> Option<i128> {
        let date: DateTime = match self {
            Format::Number => return text.parse::<i64>().ok().map(i128::from),
            Format::Instant => return text.parse::<Timestamp>().ok().map(Timestamp::as_nanosecond),
            Format::Iso => text.parse().ok()?,
            Format::Month => format!("{text}-01").parse().ok()?,
            Format::Pattern(pattern) => DateTime::strptime(pattern, text).ok()?,
        };
        Offset::UTC.to_timestamp(date).ok().map(Timestamp::as_nanosecond)
    }
}

/// Whether `text` is a date for certain: a plain number could be anything.
pub(super) fn is_date(text: &str) -> bool {
    Format::Number.key(text).is_none() && FORMATS.iter().any(|format| format.key(text).is_some())
}

/// Takes a column's dates one after another and says when one is wrong.
pub(super) struct Order {
    /// The formats that fit all dates so far, in order, each with the last date's key.
    fitting: Vec<(Format, i128)>,
}

/// What is wrong with a date.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Wrong {
    Unreadable,
    Duplicate,
    Earlier,
}

impl Order {
    pub(super) fn new() -> Self {
        Order { fitting: FORMATS.iter().map(|&format| (format, i128::MIN)).collect() }
    }

    /// Takes the next row's date.
    pub(super) fn push(&mut self, text: &str) -> Result<(), Wrong> {
        let mut wrong = Wrong::Unreadable;
        self.fitting.retain_mut(|(format, last)| match format.key(text) {
            Some(key) if key > *last => {
                *last = key;
                true
            }
            Some(key) => {
                wrong = if key == *last { Wrong::Duplicate } else { Wrong::Earlier };
                false
            }
            None => false,
        });
        if self.fitting.is_empty() { Err(wrong) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        ] {
            assert!(is_date(text), "{text}");
        }
        for text in ["", "20240131", "3.5", "Close", "2024-02-30", "31"] {
            assert!(!is_date(text), "{text}");
        }
    }

    #[test]
    fn a_day_above_12_settles_day_or_month() {
        let mut order = Order::new();
        for text in ["01/02/2024", "02/02/2024", "13/02/2024", "01/03/2024"] {
            assert_eq!(order.push(text), Ok(()), "{text}");
        }
        assert_eq!(order.push("13/02/2024"), Err(Wrong::Earlier));
    }

    #[test]
    fn offsets_count() {
        let mut order = Order::new();
        assert_eq!(order.push("2024-11-03T01:30:00-04:00"), Ok(()));
        assert_eq!(order.push("2024-11-03T01:00:00-05:00"), Ok(()));
    }

    #[test]
    fn numbers_count_as_dates_in_a_date_column() {
        let mut order = Order::new();
        assert_eq!(order.push("20240131"), Ok(()));
        assert_eq!(order.push("20240201"), Ok(()));
        assert_eq!(order.push("20240201"), Err(Wrong::Duplicate));
    }
}
