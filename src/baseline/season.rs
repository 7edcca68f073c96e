//! The length of a season, from how a series resembles itself some rows earlier.

use crate::dataset::Windows;

/// Training rows of a series that are looked at, the last ones.
const MOST_ROWS: usize = 20_000;
/// Series that are looked at.
const MOST_SERIES: usize = 8;
/// The longest season that is looked for.
const LONGEST: usize = 1500;
/// An autocorrelation below this is no season.
const LEAST: f64 = 0.1;

/// The season of the targets in training rows: the shortest lag whose autocorrelation, of the differences from row to row, is a peak nearly
/// as high as the highest. None where no peak stands out, as in a random walk.
pub fn find_season(windows: &Windows) -> Option<usize> {
    let mut sum = Vec::new();
    let (mut n_series, mut n_row) = (0, 0);
    'members: for member in windows.members() {
        for target in 0..windows.n_target() {
            if n_series == MOST_SERIES {
                break 'members;
            }
            let rows = member.split.training_rows();
            let rows = rows.end - rows.len().min(MOST_ROWS)..rows.end;
            let value = |row: usize| f64::from(windows.values()[(member.rows.start + row) * windows.n_feature() + target]);
            let differences: Vec<f64> = rows.clone().skip(1).map(|row| value(row) - value(row - 1)).collect();
            let Some(correlations) = autocorrelations(&differences) else { continue };
            if n_series == 0 {
                sum = correlations;
            } else {
                sum.truncate(correlations.len());
                sum.iter_mut().zip(&correlations).for_each(|(sum, correlation)| *sum += correlation);
            }
            (n_series, n_row) = (n_series + 1, n_row.max(rows.len()));
        }
    }
    let mean: Vec<f64> = sum.iter().map(|sum| sum / n_series as f64).collect();
    let noise = 4.0 / (n_row as f64).sqrt();
    // `mean[lag]`: a peak is as high as both its neighbours.
    let peaks: Vec<usize> = (2..mean.len().saturating_sub(1))
        .filter(|&lag| mean[lag] > LEAST.max(noise) && mean[lag] >= mean[lag - 1] && mean[lag] >= mean[lag + 1])
        .collect();
    // Of a smooth rise to a longer season noise makes peaks, too: one that counts stands out of the lags before it. The first lag tells of
    // noise in the values and is left out where there are others.
    let stands_out = |&lag: &usize| {
        let before = mean[if lag > 3 { 2 } else { 1 }..lag].iter().copied().fold(f64::INFINITY, f64::min);
        mean[lag] - before > noise
    };
    let peaks: Vec<usize> = peaks.into_iter().filter(stands_out).collect();
    let highest = peaks.iter().map(|&lag| mean[lag]).fold(0.0, f64::max);
    // Noise splits a broad peak into many: of the lags near the first of them, the middle of the peak.
    let first = peaks.into_iter().find(|&lag| mean[lag] >= 0.9 * highest)?;
    let reach = (first / 32).min(mean.len() - 1 - first);
    let last = (first + first / 4).min(mean.len() - 1 - reach);
    let around = |lag: usize| mean[lag - reach..=lag + reach].iter().sum::<f64>();
    (first..=last).max_by(|&a, &b| around(a).total_cmp(&around(b)).then(b.cmp(&a)))
}

/// Autocorrelations at every lag from 0 to a third of the values; none where there are too few or they never change.
fn autocorrelations(values: &[f64]) -> Option<Vec<f64>> {
    let n_lag = (values.len() / 3).min(LONGEST + 1);
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let centred: Vec<f64> = values.iter().map(|value| value - mean).collect();
    let product = |lag: usize| centred.iter().zip(&centred[lag..]).map(|(a, b)| a * b).sum::<f64>();
    let variance = product(0);
    (n_lag >= 3 && variance > 0.0).then(|| (0..=n_lag).map(|lag| product(lag) / variance).collect())
}
