//! How a CSV file is written, told by its first lines.

use std::borrow::Cow;
use std::ops::Range;

use csv::{ByteRecord, ReaderBuilder};

use super::lines::part_by_tabs;
use super::missing::is_missing;
use crate::dataset::dates::is_date;
use crate::dataset::table::is_alike;
use crate::error::{Error, Result};
use crate::message::Message;

/// Delimiter, header and decimal mark of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dialect {
    pub delimiter: u8,
    pub has_header: bool,
    /// `12,5` is a number. Only where the delimiter is another and no number of the first lines has a point.
    pub decimal_comma: bool,
}

/// The comma last: the others are hardly in every line by chance, the comma may be a decimal mark.
const DELIMITERS: [u8; 4] = [b'\t', b';', b'|', b','];

/// Stands for runs of blanks, by which cells are parted where no other delimiter fits.
pub(super) const BLANKS: u8 = b' ';

/// Rows that are looked at.
const MOST_ROWS: usize = 200;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Missing,
    Number,
    /// A number with a comma that cannot separate thousands.
    DecimalComma,
    Date,
    Text,
}

impl Dialect {
    /// Of a file that begins with `sample`, whole lines; its delimiter may be known.
    pub(super) fn new(sample: &[u8], known: Option<u8>) -> Self {
        // The share of rows as long as the first one counts; more of them than one in two, or the delimiter is another.
        let fit = |delimiter: u8| {
            let rows = rows(sample, delimiter);
            let width = rows.first().map_or(0, ByteRecord::len);
            let n_fitting = rows.iter().filter(|row| row.len() == width).count();
            if width > 1 && 2 * n_fitting > rows.len() { n_fitting } else { 0 }
        };
        let best = DELIMITERS.into_iter().rev().max_by_key(|&delimiter| fit(delimiter)).filter(|&delimiter| fit(delimiter) > 0);
        let delimiter = known.or(best).or_else(|| has_blanks(sample).then_some(BLANKS)).unwrap_or(b',');
        let records = rows(sample, delimiter);
        let rows: Vec<Vec<Kind>> = records.iter().map(|row| row.iter().map(|cell| kind(cell, delimiter)).collect()).collect();
        let has = |kind| rows.iter().flatten().any(|&cell| cell == kind);
        // months and times have points too
        let has_point = |column: usize| {
            let texts = records.iter().filter_map(|row| row.get(column)).filter_map(|cell| str::from_utf8(cell).ok()).map(str::trim);
            let mut points = texts.filter(|text| text.contains('.') && plain(text).is_some()).peekable();
            points.peek().is_some() && !points.all(is_month_or_time)
        };
        let n_column = records.iter().map(ByteRecord::len).max().unwrap_or(0);
        let decimal_comma = has(Kind::DecimalComma) && !(0..n_column).any(has_point);
        Dialect { delimiter, has_header: has_header(&rows) || has_numbers_for_names(&records), decimal_comma }
    }
}

/// The byte between two cells once [`part_by_tabs`] has been at [`BLANKS`].
pub(super) fn byte_of(delimiter: u8) -> u8 {
    if delimiter == BLANKS { b'\t' } else { delimiter }
}

/// The delimiter that the first line names as Excel does, `sep=;`; the line is made empty.
pub(super) fn take_delimiter(sample: &mut [u8]) -> Option<u8> {
    let end = sample.iter().position(|byte| matches!(byte, b'\r' | b'\n'))?;
    let line = &mut sample[..end];
    let text = str::from_utf8(line).ok()?.trim_start_matches('\u{feff}').trim_matches('"').to_ascii_lowercase();
    let &[delimiter] = text.strip_prefix("sep=")?.as_bytes() else { return None };
    let delimiter = Some(delimiter).filter(|delimiter| !delimiter.is_ascii_alphanumeric() && *delimiter != b'"')?;
    // what ends a line, so that bytes and lines are counted as before
    line.fill(b'\r');
    Some(delimiter)
}

/// `01.2024` or `16.30`.
fn is_month_or_time(text: &str) -> bool {
    let Some((first, second)) = text.split_once('.') else { return false };
    let is_in =
        |text: &str, n_digit: usize, range: Range<u32>| text.len() == n_digit && text.parse().is_ok_and(|number| range.contains(&number));
    is_in(first, 2, 1..13) && is_in(second, 4, 1900..2100) || is_in(first, 2, 0..24) && is_in(second, 2, 0..60)
}

/// A first row that has text above numbers or dates is a header; so is one without a number.
fn has_header(rows: &[Vec<Kind>]) -> bool {
    let Some((head, body)) = rows.split_first() else { return true };
    let is_value = |kind: Kind| matches!(kind, Kind::Number | Kind::DecimalComma | Kind::Date);
    let below = |column: usize| body.iter().filter_map(|row| row.get(column)).copied().find(|&kind| kind != Kind::Missing);
    let is_name = |(column, &kind): (usize, &Kind)| kind == Kind::Text && below(column).is_some_and(is_value);
    head.iter().enumerate().any(is_name) || !head.iter().copied().any(is_value)
}

/// Whether the first row numbers columns as pandas does that have no names, `,0,1`, above rows that have a first cell, or [`is_wide`].
fn has_numbers_for_names(records: &[ByteRecord]) -> bool {
    let Some((head, body)) = records.split_first() else { return false };
    let head: Vec<&str> = head.iter().map(|cell| str::from_utf8(cell).unwrap_or_default().trim()).collect();
    let is_numbered = head.len() > 1 && (1..head.len()).all(|column| head[column] == (column - 1).to_string());
    let has_index = || body.iter().any(|row| row.get(0).is_some_and(|cell| !cell.is_empty()));
    head.first().is_some_and(|cell| cell.is_empty()) && is_numbered && has_index() || is_wide(&head)
}

/// Whether cells are the header of a wide table, which has a column a year: text, and then three years or more that follow each other.
pub(super) fn is_wide(cells: &[impl AsRef<str>]) -> bool {
    let year = |cell: &str| cell.parse::<u32>().ok().filter(|year| (1500..=2100).contains(year));
    let is_text = |cell: &str| number(cell, false).is_none() && !is_date(cell);
    let n_text = cells.iter().take_while(|cell| is_text(cell.as_ref())).count();
    let years: Vec<u32> = cells[n_text..].iter().map_while(|cell| year(cell.as_ref())).collect();
    n_text > 0 && years.len() > 2 && years.windows(2).all(|pair| pair[1] == pair[0] + 1)
}

/// Whether blanks part nine rows in ten into as many cells as the first, two or more.
fn has_blanks(sample: &[u8]) -> bool {
    let rows = rows(sample, BLANKS);
    let n_fitting = rows.iter().filter(|row| row.len() == rows[0].len()).count();
    rows.len() > 1 && rows[0].len() > 1 && 10 * n_fitting >= 9 * rows.len()
}

fn rows(sample: &[u8], delimiter: u8) -> Vec<ByteRecord> {
    let mut sample = Cow::Borrowed(sample);
    if delimiter == BLANKS {
        part_by_tabs(sample.to_mut(), &mut false);
    }
    let mut builder = ReaderBuilder::new();
    let reader = builder.has_headers(false).flexible(true).delimiter(byte_of(delimiter)).from_reader(&sample[..]);
    reader.into_byte_records().take(MOST_ROWS).map_while(Result::ok).collect()
}

fn kind(cell: &[u8], delimiter: u8) -> Kind {
    let Ok(text) = str::from_utf8(cell) else { return Kind::Text };
    let text = text.trim();
    let bare = in_units(text).map_or(text, |(text, _)| text);
    if is_missing(text) {
        Kind::Missing
    } else if number(text, false).is_none() && delimiter != b',' && is_decimal_comma(bare) {
        Kind::DecimalComma
    } else if number(text, false).is_some() || has_unit(text) {
        Kind::Number
    } else if is_date(text) {
        Kind::Date
    } else {
        Kind::Text
    }
}

/// The delimiter of a table of which only the first line is known and the columns that are wanted: the one by which the line names most of
/// them, or has as many cells.
pub(super) fn delimiter_of(line: &[u8], names: &[&str]) -> u8 {
    let fit = |delimiter: u8| {
        let row = rows(line, delimiter).into_iter().next().unwrap_or_default();
        let n_named =
            row.iter().filter(|cell| str::from_utf8(cell).is_ok_and(|cell| names.iter().any(|name| is_alike(name, cell)))).count();
        (n_named, row.len() == names.len())
    };
    std::iter::once(BLANKS).chain(DELIMITERS).max_by_key(|&delimiter| fit(delimiter)).unwrap_or(b',')
}

/// The number that a cell's text is, with the sign of a currency or of per cent before or behind it or without.
pub(super) fn number(text: &str, decimal_comma: bool) -> Option<f64> {
    let with_comma = || without_unit(text).replacen(',', ".", 1).parse().ok();
    plain(text).or_else(|| with_comma().filter(|_| decimal_comma)).or_else(|| parted(text, ',', '.')).or_else(|| parted(text, '.', ','))
}

/// The number that a cell's text is, in thousands, millions, billions or trillions too: `57.09M`.
pub(super) fn amount(text: &str, decimal_comma: bool) -> Option<f64> {
    number(text, decimal_comma).or_else(|| {
        let (text, unit) = in_units(text)?;
        Some(number(text, decimal_comma)? * unit)
    })
}

/// Whether a text is a number in thousands or more for certain: without decimals, as `5M`, it may be a code.
pub(super) fn has_unit(text: &str) -> bool {
    in_units(text).is_some_and(|(text, _)| text.contains(['.', ',']) && number(text, true).is_some())
}

fn in_units(text: &str) -> Option<(&str, f64)> {
    [('K', 1e3), ('M', 1e6), ('B', 1e9), ('T', 1e12)].into_iter().find_map(|(letter, unit)| Some((text.strip_suffix(letter)?, unit)))
}

/// A number as computers write it.
fn plain(text: &str) -> Option<f64> {
    without_unit(text).parse().ok()
}

/// A number whose thousands are parted for certain: `1,234,567`, `1,234.5` or `1.234,5`, not `1,234`; nor `1.234.567`, as with it in a
/// column `1.234` would be one too.
fn parted(text: &str, between_thousands: char, decimal_mark: char) -> Option<f64> {
    let text = without_unit(text);
    let (whole, decimals) = text.split_once(decimal_mark).unwrap_or((text, ""));
    let groups: Vec<&str> = whole.trim_start_matches(['-', '+']).split(between_thousands).collect();
    let is_group = |(index, group): (usize, &&str)| group.len() == 3 || index == 0 && (1..3).contains(&group.len());
    let is_certain = groups.len() > 1 && text.contains(decimal_mark) || groups.len() > 2 && between_thousands == ',';
    let is_parted = is_certain && groups.iter().enumerate().all(is_group);
    is_parted.then(|| format!("{}.{decimals}", whole.replace(between_thousands, "")).parse().ok())?
}

fn without_unit(text: &str) -> &str {
    const UNITS: [char; 6] = ['$', '€', '£', '¥', '￥', '%'];
    text.strip_prefix(UNITS).or_else(|| text.strip_suffix(UNITS)).map_or(text, str::trim)
}

/// `12,5`, not `12,500`.
pub(super) fn is_decimal_comma(text: &str) -> bool {
    let Some((whole, rest)) = without_unit(text).split_once(',') else { return false };
    let whole_digits = whole.trim_start_matches(['-', '+']);
    let n_decimal = rest.bytes().take_while(u8::is_ascii_digit).count();
    let may_be_thousands = n_decimal == 3 && rest.len() == 3 && whole_digits.len() <= 3 && !whole_digits.starts_with('0');
    n_decimal > 0 && !may_be_thousands && format!("{whole}.{rest}").parse::<f64>().is_ok()
}

/// What the cells of a column say of its points.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Points {
    /// There are cells such as `1.025`.
    has_parted: bool,
    /// There are cells such as `1.025,5`.
    has_both: bool,
    /// There are cells such as `999`.
    has_whole: bool,
    /// There are others.
    has_other: bool,
}

impl Points {
    pub(super) fn push(&mut self, text: &str) {
        let is_short = |digits: &str| (1..=3).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
        let digits = without_unit(text).trim_start_matches(['-', '+']);
        match digits.split_once('.') {
            Some((whole, rest)) if is_short(whole) && !whole.starts_with('0') && is_short(rest) && rest.len() == 3 => {
                self.has_parted = true;
            }
            Some((_, rest)) if rest.contains(',') => self.has_both = true,
            None if is_short(digits) => self.has_whole = true,
            _ => self.has_other |= !is_missing(text),
        }
    }

    /// A note where the points of a column of a file may part thousands.
    ///
    /// # Errors
    /// [`Error::Data`] where they part thousands in some cells, and maybe in others, which were read as if they did not.
    pub(super) fn note(self, place: &str, column: &str) -> Result<Option<Message>> {
        let name = column.escape_debug();
        if self.has_parted && self.has_both {
            let what = message!("has numbers such as {} and such as {}, whose points may part thousands too", "1.025,5", "1.025");
            return Err(Error::data(message!("{}, column {}", place, name), what, message!("write thousands without points")));
        }
        let may_part = self.has_parted && self.has_whole && !self.has_other;
        Ok(may_part.then(|| message!("{}, column {}: the points may part thousands; they are read as decimal points", place, name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dialect(sample: &str) -> (char, bool, bool) {
        let Dialect { delimiter, has_header, decimal_comma } = Dialect::new(sample.as_bytes(), None);
        (char::from(delimiter), has_header, decimal_comma)
    }

    #[test]
    fn delimiters_are_told_apart() {
        assert_eq!(dialect("a,b\n1,2\n"), (',', true, false));
        assert_eq!(dialect("a;b\n1;2\n"), (';', true, false));
        assert_eq!(dialect("a\tb\n1\t2\n"), ('\t', true, false));
        assert_eq!(dialect("a|b\n1|2\n"), ('|', true, false));
        assert_eq!(dialect("a;b\n1,5;2,25\n3,5;4\n"), (';', true, true));
        assert_eq!(dialect("name,note\n\"a\",\"x; y\"\n"), (',', true, false));
        assert_eq!(dialect("Close\n1\n2\n"), (',', true, false));
        assert_eq!(dialect(" a   b\n 1  2.5\n-3 4\n"), (' ', true, false));
        assert_eq!(dialect("-0.3 0.08\r\n\r\n0.01\t0.08\r\n"), (' ', false, false));
        let rows = "1 2\n".repeat(9);
        assert!(dialect(&format!("{rows}3\n")).0 == ' ' && dialect(&format!("{rows}3\n4\n")).0 != ' ');
        for no_blanks in ["Close price\n1\n2\n", "a b\n1 2\n3\n", "a b;c\n1;2\n", "a b\n"] {
            assert_ne!(dialect(no_blanks).0, ' ', "{no_blanks:?}");
        }
    }

    #[test]
    fn a_line_that_names_columns_tells_its_delimiter() {
        let delimiter = |line: &str, names: &[&str]| char::from(delimiter_of(line.as_bytes(), names));
        assert_eq!(delimiter("time;load;x\n", &["load"]), ';');
        assert_eq!(delimiter("time,Temp (C|F)\n", &["Temp (C|F)"]), ',');
        assert_eq!(delimiter("1.0,\t2.0\n", &["a", "b"]), ',');
        assert_eq!(delimiter("1,5;2,5\n", &["a", "b"]), ';');
        assert_eq!(delimiter("  time   load\n", &["load"]), ' ');
        assert_eq!(delimiter("1.5  2.5\n", &["a", "b"]), ' ');
        assert_eq!(delimiter("air temp,load\n", &["load"]), ',');
        assert_eq!(delimiter("50\n", &["a"]), ',');
        assert_eq!(delimiter("", &["a"]), ',');
    }

    #[test]
    fn a_row_of_numbers_is_no_header() {
        assert_eq!(dialect("1,2\n3,4\n"), (',', false, false));
        assert_eq!(dialect("2024-01-30,2\n2024-01-31,4\n"), (',', false, false));
        assert_eq!(dialect("date,2020,2021\n2024-01-30,2,3\n"), (',', true, false));
        assert_eq!(dialect(",a\n0,1\n"), (',', true, false));
        assert_eq!(dialect("x,1\ny,2\n"), (',', false, false));
        assert_eq!(dialect(""), (',', true, false));
        // as pandas writes series and tables without names
        assert_eq!(dialect(",0\n1821,269\n"), (',', true, false));
        assert_eq!(dialect(",0,1\na,2,3\n"), (',', true, false));
        for numbers in [",0\n,1\n", ",1\n0,2\n", ",0,2\n0,1,2\n", "0,1\n0,2\n", ",0\n"] {
            assert!(!dialect(numbers).1, "{numbers:?}");
        }
        assert_eq!(dialect("name,code,1960,1961,1962,\na,b,4.5,,4,\n"), (',', true, false));
        for numbers in ["a,1960,1961\nb,1,2\n", "a,1960,1961,1963\nb,1,2,3\n", "1960,1961,1962\n1,2,3\n", "a,1,2,3\nb,4,5,6\n"] {
            assert!(!dialect(numbers).1, "{numbers:?}");
        }
    }

    #[test]
    fn thousands_are_parted_where_that_is_certain() {
        for (text, want) in [
            ("1,234.5", Some(1234.5)),
            ("-1,234,567", Some(-1_234_567.0)),
            ("$21,101,694.25", Some(21_101_694.25)),
            ("15.234,56", Some(15234.56)),
            ("12,345.", Some(12345.0)),
            ("1.234.567", None),
            ("1,234", None),
            ("1234,567.8", None),
            ("1,23,456", None),
            ("1,234,56", None),
            (",234.5", None),
            ("1,234.5,6", None),
            ("a,bcd.5", None),
        ] {
            assert_eq!(number(text, false), want, "{text}");
        }
        for (text, want) in [("57.09M", Some(57.09e6)), ("$1.5B", Some(1.5e9)), ("830K", Some(830e3)), ("1.5m", None), ("M", None)] {
            assert_eq!(amount(text, false), want, "{text}");
        }
        assert!(has_unit("-1.2T") && !has_unit("5M") && !has_unit("a.M") && !has_unit("1.2"));
        assert_eq!((number("1,234", true), number("15.234,56", true), number("1.5", true)), (Some(1.234), Some(15234.56), Some(1.5)));
        assert!(dialect("a;b\n15.234,56;1\n999,5;2\n").2 && !dialect("a;b\n1,234.5;1\n").2);
    }

    #[test]
    fn a_comma_that_may_separate_thousands_is_no_decimal_mark() {
        assert!(!dialect("a;b\n1,234;5,678\n").2);
        assert!(!dialect("a;b\n1,5;2.5\n").2);
        assert!(dialect("a;b\n0,234;5,678\n").2);
        assert!(dialect("a;b\n1;0,96K\n2;1,025K\n").2 && !dialect("a;b\n1;1,025K\n2;1,234.5K\n").2);
        assert!(dialect("month;b\n01.2024;1,5\n02.2024;2,5\n").2 && dialect("time;b\n16.30;1,5\n17.00;2,5\n").2);
        assert!(!dialect("a;b\n16.30;1,5\n17.75;2,5\n").2 && !dialect("a;b\n13.2024;1,5\n").2);
    }
}
