//! Axes of the pictures: ranges, and ticks at round places.

use std::ops::Range;

use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};

use super::table::significant;

/// Values beyond this are drawn as missing: no axis could show them beside the others.
const LARGEST: f64 = 1e30;
/// From this ratio of largest to smallest on, an axis of positive values is logarithmic.
const LOG_RATIO: f64 = 4.0;

/// Length of a date with its hour, `YYYY-MM-DD HH`.
const HOUR: usize = 13;

/// Length of a date with its time, `MM/DD/YYYY HH:MM AM`.
const TIME: usize = 19;

/// One axis of a panel.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    range: Range<f64>,
    ticks: Vec<(f64, String)>,
    /// The power of ten that the ticks' texts count.
    power: i32,
    is_log: bool,
}

impl Axis {
    /// A linear axis around the finite ones of `values`, or none where there is none.
    pub fn linear(values: impl IntoIterator<Item = f64>, n_tick: usize) -> Option<Self> {
        let (low, high) = bounds(values)?;
        let margin = if high > low { 0.05 * (high - low) } else { (0.05 * low.abs()).max(1e-3) };
        let range = low - margin..high + margin;
        let (ticks, power) = round_ticks(&range, n_tick);
        Some(Axis { ticks, power, range, is_log: false })
    }

    /// A logarithmic axis around `values` where they are positive and far apart, else a linear one.
    pub fn wide(values: impl IntoIterator<Item = f64>, n_tick: usize) -> Option<Self> {
        let values: Vec<f64> = values.into_iter().collect();
        let (low, high) = bounds(values.iter().copied())?;
        if low <= 0.0 || high < LOG_RATIO * low {
            return Self::linear(values, n_tick);
        }
        let margin = (high / low).powf(0.06);
        let range = low / margin..high * margin;
        Some(Axis { ticks: log_ticks(&range, n_tick), power: 0, range, is_log: true })
    }

    /// An axis of whole numbers from 1 to `n`.
    pub fn counts(n: usize, n_tick: usize) -> Self {
        let n = n.max(1) as f64;
        let margin = if n > 1.0 { 0.03 * (n - 1.0) } else { 0.5 };
        let range = 1.0 - margin..n + margin;
        let step = round_step(n - 1.0, n_tick).max(1.0);
        let ticks = (1..=n as usize).filter(|&count| count == 1 || (count as f64) % step == 0.0);
        Axis { ticks: ticks.map(|count| (count as f64, count.to_string())).collect(), power: 0, range, is_log: false }
    }

    /// An axis of the rows `0..dates.len()`, with ticks where the year, the month, the day or the hour changes: the finest that gives no more
    /// than `n_tick`, or every so many days where months are too few. Dates begin with `YYYY-MM-DD`, hours follow; other texts get ticks at
    /// even distances.
    pub fn dates(dates: &[&str], n_tick: usize) -> Self {
        let last = dates.len().saturating_sub(1).max(1) as f64;
        let range = -0.01 * last..1.01 * last;
        // Where the first `length` characters change, and the number behind character `from`, less `first`, is a multiple of `every`.
        let starts = |&(length, from, first, every): &(usize, usize, u32, u32)| -> Vec<(f64, String)> {
            let part = |row: usize| dates[row].get(..length).unwrap_or(dates[row]);
            let number = |row: usize| dates[row].get(from..from + 2).and_then(|number| number.parse::<u32>().ok()).unwrap_or(first);
            (1..dates.len())
                .filter(|&row| part(row) != part(row - 1) && number(row).saturating_sub(first).is_multiple_of(every))
                .map(|row| (row as f64, if length == HOUR { format!("{}:00", &part(row)[5..]) } else { part(row).to_string() }))
                .collect()
        };
        let hours = [(HOUR, 11, 0, 1), (HOUR, 11, 0, 3), (HOUR, 11, 0, 6), (HOUR, 11, 0, 12)];
        let levels = [(10, 5, 1, 1), (7, 5, 1, 1), (7, 5, 1, 2), (7, 5, 1, 3), (7, 5, 1, 6), (4, 5, 1, 1)];
        let is_iso =
            dates.iter().all(|date| date.len() >= 10 && date.is_ascii() && date.as_bytes()[4] == b'-' && date.as_bytes()[7] == b'-');
        let has_hours = is_iso && dates.iter().all(|date| date.len() > HOUR && date.as_bytes()[HOUR] == b':');
        let hours = hours.iter().filter(|_| has_hours);
        let every = |n_day: usize| starts(&levels[0]).into_iter().step_by(n_day).collect();
        let fits = |ticks: &Vec<(f64, String)>| (2..=n_tick).contains(&ticks.len());
        let found = hours.chain(&levels).map(starts).chain([2, 5, 10].map(every)).find(fits);
        // none at the end, where a long text would leave the picture
        let even = || {
            let n = n_tick.min(dates.len()).max(1);
            let row = |tick: usize| tick * dates.len() / n;
            (0..n).map(row).filter_map(|row| Some((row as f64, dates.get(row)?.chars().take(TIME).collect()))).collect()
        };
        let ticks = found.filter(|_| is_iso).unwrap_or_else(even);
        Axis { ticks, power: 0, range, is_log: false }
    }

    /// An axis of names at 0, 1 and so on, the first at the upper end.
    pub fn named(names: Vec<String>) -> Self {
        let n = names.len().max(1) as f64;
        let ticks = names.into_iter().zip(0..).map(|(name, number)| (f64::from(number), name)).collect();
        Axis { ticks, power: 0, range: n - 0.4..-0.6, is_log: false }
    }

    /// Whether `value` has a place on the axis.
    pub fn has(&self, value: f64) -> bool {
        drawable(value) && (value > 0.0 || !self.is_log)
    }

    /// Where `value` lies between the axis's start, 0, and its end, 1.
    pub fn fraction(&self, value: f64) -> f64 {
        let place = |value: f64| if self.is_log { value.log10() } else { value };
        let start = place(self.range.start);
        (place(value) - start) / (place(self.range.end) - start)
    }

    /// Its name, with the power of ten that the ticks' texts count: `volume (1e9)`.
    pub fn named_with_power(&self, name: &str) -> String {
        if self.power == 0 { name.into() } else { format!("{name} (1e{})", self.power).trim_start().into() }
    }

    /// Values and texts of the ticks.
    pub fn ticks(&self) -> &[(f64, String)] {
        &self.ticks
    }
}

impl Ranged for Axis {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (start, end): (i32, i32)) -> i32 {
        start + (self.fraction(*value) * f64::from(end - start)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks.iter().map(|tick| tick.0).collect()
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

fn drawable(value: f64) -> bool {
    value.abs() <= LARGEST
}

/// Smallest and largest of the drawable values.
fn bounds(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    values.into_iter().filter(|&value| drawable(value)).map(|value| (value, value)).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
}

/// The smallest of 1, 2, 5, 10 times a power of ten that cuts `span` into at most `n` pieces.
fn round_step(span: f64, n: usize) -> f64 {
    let raw = (span / n.max(1) as f64).max(f64::MIN_POSITIVE);
    let power = 10f64.powf(raw.log10().floor());
    [1.0, 2.0, 5.0].into_iter().map(|factor| factor * power).find(|&step| step >= raw * (1.0 - 1e-9)).unwrap_or(10.0 * power)
}

/// Ticks, and the power of ten that their texts count: 0 but for large and for small numbers.
fn round_ticks(range: &Range<f64>, n_tick: usize) -> (Vec<(f64, String)>, i32) {
    let step = round_step(range.end - range.start, n_tick);
    let (finest, largest) = (step.log10().floor() as i32, range.start.abs().max(range.end.abs()));
    let power = if finest < -6 || largest >= 1e7 { largest.log10().floor() as i32 } else { 0 };
    let (unit, decimals) = (10f64.powi(power), (power - finest).max(0) as usize);
    let text = |value: f64| if value == 0.0 { "0".to_string() } else { format!("{:.decimals$}", value / unit) };
    let first = (range.start / step).ceil();
    let values = (0..=n_tick).map(|tick| (first + tick as f64) * step).filter(|&value| value <= range.end);
    (values.map(|value| (value, text(value))).collect(), power)
}

/// Ticks at 1, 2 and 5 times powers of ten, or at powers alone where those are too many.
fn log_ticks(range: &Range<f64>, n_tick: usize) -> Vec<(f64, String)> {
    let decades = range.start.log10().floor() as i32..=range.end.log10().ceil() as i32;
    let at = |factors: &[f64], every: i32| -> Vec<(f64, String)> {
        let exponents = decades.clone().filter(|exponent| exponent.rem_euclid(every) == 0);
        let values = exponents.flat_map(|exponent| factors.iter().map(move |factor| factor * 10f64.powi(exponent)));
        values.map(|value| (value, significant(value, 1))).filter(|tick| range.contains(&tick.0)).collect()
    };
    let candidates =
        [at(&[1.0, 2.0, 3.0, 5.0, 7.0], 1), at(&[1.0, 2.0, 5.0], 1), at(&[1.0], 1), at(&[1.0], 2), at(&[1.0], 5), at(&[1.0], 10)];
    candidates.into_iter().find(|ticks| ticks.len() <= n_tick).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_and_small_numbers_are_counted_in_a_power_of_ten_that_is_shown_once() {
        let shown = |low: f64, high: f64| {
            let axis = Axis::linear([low, high], 6).expect("an axis");
            let texts: Vec<String> = axis.ticks().iter().map(|tick| tick.1.clone()).collect();
            (texts.join(" "), axis.named_with_power("volume"))
        };
        assert_eq!(shown(0.0, 1.2e9), ("0 0.5 1.0".into(), "volume (1e9)".into()));
        assert_eq!(shown(1.5e7, 2.5e7), ("1.6 1.8 2.0 2.2 2.4".into(), "volume (1e7)".into()));
        assert_eq!(shown(-4e-8, 8e-8), ("0 5".into(), "volume (1e-8)".into()));
        assert_eq!(shown(1e9, 1e9 + 3.0).1, "volume (1e9)");
        assert_eq!(shown(0.0, 900_000.0), ("0 200000 400000 600000 800000".into(), "volume".into()));
    }

    #[test]
    fn ticks_of_dates_are_whole_days_or_whole_texts() {
        let texts = |dates: &[String], n_tick: usize| -> Vec<String> {
            let dates: Vec<&str> = dates.iter().map(String::as_str).collect();
            Axis::dates(&dates, n_tick).ticks().iter().map(|tick| tick.1.clone()).collect()
        };
        let hours: Vec<String> = (0..180).map(|hour| format!("2023-02-{:02} {:02}:00", 20 + hour / 24, hour % 24)).collect();
        assert_eq!(texts(&hours, 8), ["21", "22", "23", "24", "25", "26", "27"].map(|day| format!("2023-02-{day}")));
        assert_eq!(texts(&hours, 5), ["21", "23", "25", "27"].map(|day| format!("2023-02-{day}")));
        let american: Vec<String> = (0..24).map(|hour| format!("01/11/2023 {:02}:00 AM", hour % 12)).collect();
        assert_eq!(texts(&american, 2), ["01/11/2023 00:00 AM", "01/11/2023 00:00 AM"]);
        let written: Vec<String> = (1..29).map(|day| format!("Aug {day:02}, 2023")).collect();
        assert_eq!(texts(&written, 2), ["Aug 01, 2023", "Aug 15, 2023"]);
    }
}
