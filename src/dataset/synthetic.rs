//! A smooth, seeded series of daily prices, for when there is no data at all.

use std::f64::consts::TAU;

use jiff::civil::{Date, Weekday, date};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Dates, Source, Table};
use crate::Result;

/// Open, High, Low, Close and Volume of `n_row` working days from 2000-03-01 on: slow waves around a trend, with a little noise. The same
/// seed gives the same series.
///
/// # Errors
/// [`Error::Data`](crate::Error::Data) if `n_row` is 0.
pub fn daily_prices(n_row: usize, seed: u64) -> Result<Table> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    // Periods in rows, amplitudes of the logarithm; the phases are the seed's.
    let waves = [(900.0, 0.30), (250.0, 0.10), (63.0, 0.04), (21.0, 0.015)].map(|(period, size)| (period, size, rng.random::<f64>() * TAU));

    let mut columns = ["Open", "High", "Low", "Close", "Volume"].map(|name| (name.to_string(), Vec::with_capacity(n_row)));
    let mut noise = 0.0;
    let mut previous = None;
    for row in 0..n_row {
        let step = row as f64;
        noise = 0.9 * noise + rng.random_range(-0.004..0.004);
        let waves = waves.iter().map(|(period, size, phase)| size * (TAU * step / period + phase).sin()).sum::<f64>();
        let close = 50.0 * (1e-4 * step + waves + noise).exp();
        let open: f64 = previous.replace(close).unwrap_or(close);
        let high = open.max(close) * (1.0 + rng.random_range(0.0..0.005));
        let low = open.min(close) * (1.0 - rng.random_range(0.0..0.005));
        let volume = rng.random_range(1_000_000..10_000_000_u32);
        for ((_, column), value) in columns.iter_mut().zip([open, high, low, close, f64::from(volume)]) {
            column.push(value);
        }
    }

    let text = working_days(date(2000, 3, 1)).take(n_row).map(|day| day.to_string()).collect();
    Table::new(Source::Synthetic { seed }, Some(Dates { name: "Date".into(), text }), columns.into())
}

fn working_days(first: Date) -> impl Iterator<Item = Date> {
    let days = std::iter::successors(Some(first), |day| day.tomorrow().ok());
    days.filter(|day| !matches!(day.weekday(), Weekday::Saturday | Weekday::Sunday))
}
