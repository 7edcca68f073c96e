//! The length of a season, from how a series resembles itself some rows earlier.

use crate::dataset::Windows;

/// Training rows of a series that are looked at, the last ones.
const MOST_ROWS: usize = 20_000;
/// Series that are looked at.
const MOST_SERIES: usize = 8;
/// The longest lag at which a series is held beside itself.
const LONGEST: usize = 1500;
/// An autocorrelation below this is not taken for a season.
const LEAST: f64 = 0.1;
/// Multiples of a lag that are looked at, at most.
const MOST_MULTIPLES: usize = 4;
/// How the variogram is read: the longest lag is one of so many parts of the rows, and so many multiples of a season have to be within it;
/// values a season apart differ by `most_distance` of what values half a season further differ by, at most, in mean squares.
struct Reading {
    part: usize,
    least_multiples: usize,
    most_distance: f64,
}
/// First what many seasons tell, then what few do, where they are so pronounced that noise and random walks do not look like them.
const READINGS: [Reading; 2] =
    [Reading { part: 3, least_multiples: 3, most_distance: 0.7 }, Reading { part: 2, least_multiples: 2, most_distance: 0.3 }];
/// A season that is nearly as pronounced as the most pronounced one is taken where it is shorter.
const NEARLY: f64 = 0.9;

/// The season of the targets in training rows: the shortest of those that are pronounced nearly as much as any, in the values themselves,
/// else, as where values wander, in their differences from row to row. None where no lag stands out, as in a random walk.
pub fn find_season(windows: &Windows) -> Option<usize> {
    // a series too short for a window is left out of training, too
    let members = windows.members().iter().filter(|member| !member.split.train().is_empty());
    let targets = members.flat_map(|member| (0..windows.n_target()).map(move |target| (member, target)));
    let values = targets.take(MOST_SERIES).map(|(member, target)| {
        let rows = member.split.training_rows();
        let rows = rows.end - rows.len().min(MOST_ROWS)..rows.end;
        rows.map(|row| f64::from(windows.values()[(member.rows.start + row) * windows.n_feature() + target])).collect()
    });
    let series: Vec<Vec<f64>> = values.collect();
    let variograms: Vec<_> = series.iter().filter_map(|values| Some((values.len(), variogram(values)?))).collect();
    READINGS.iter().find_map(|reading| by_values(&variograms, reading)).or_else(|| by_differences(&series))
}

/// By the variogram, less a linear trend: values that lie a season apart, or a multiple of one, differ by little, those between by much.
/// Noise adds to both alike, and a random walk makes the longer lag's larger.
/// `variograms` come with the rows of their series.
fn by_values(variograms: &[(usize, Vec<f64>)], reading: &Reading) -> Option<usize> {
    let read = |(n_row, distances): &(usize, Vec<f64>)| {
        let n_lag = (n_row / reading.part).min(LONGEST);
        (n_lag >= 3).then(|| distances[..=n_lag].to_vec())
    };
    let distances = mean(variograms.iter().filter_map(read))?;
    let n_lag = distances.len() - 1;
    let longest = n_lag / reading.least_multiples;
    let multiples = |lag: usize| 1..=(n_lag / lag).min(MOST_MULTIPLES);
    let least_depth = 1.0 - reading.most_distance;
    // `lag` counts halves of a row
    let at_halves = |lag: usize| (distances[lag / 2] + distances[lag.div_ceil(2)]) / 2.0;
    let depth = |lag: usize| {
        let apart: f64 = multiples(lag).map(|multiple| distances[multiple * lag]).sum();
        let between: f64 = multiples(lag).map(|multiple| at_halves((2 * multiple - 1) * lag)).sum();
        1.0 - apart / between
    };
    let is_valley = |&lag: &usize| distances[lag] <= distances[lag - 1] && distances[lag] <= distances[lag + 1];
    let valleys: Vec<(usize, f64)> = (2..=longest).filter(is_valley).map(|lag| (lag, depth(lag))).collect();
    let deepest = valleys.iter().map(|valley| valley.1).fold(least_depth, f64::max);
    let (first, _) = valleys.into_iter().find(|valley| valley.1 > least_depth && valley.1 >= NEARLY * deepest)?;
    // the floor of a wide valley is told best by the multiples, which move further than the lag
    let around = first - first / 8..=(first + first / 4).min(longest);
    let n_multiple = (n_lag / *around.end()).min(MOST_MULTIPLES);
    let apart = |lag: usize| (1..=n_multiple).map(|multiple| distances[multiple * lag]).sum::<f64>();
    around.filter(|&lag| lag > 1).min_by(|&a, &b| apart(a).total_cmp(&apart(b)))
}

/// By the autocorrelation of differences from row to row, whose peaks are high where a season is sharp.
fn by_differences(series: &[Vec<f64>]) -> Option<usize> {
    let differences = series.iter().map(|values| values.windows(2).map(|pair| pair[1] - pair[0]).collect::<Vec<_>>());
    let mean = mean(differences.filter_map(|differences| autocorrelations(&differences)))?;
    let n_row = series.iter().map(Vec::len).max().unwrap_or(0);
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
    // Noise in the values makes the first lag low, beside which the next ones stand out. A season comes again after as many rows.
    let recurs = |&lag: &usize| {
        let (again, reach) = (2 * lag, lag / 4);
        if again + reach >= mean.len() {
            return lag > 3;
        }
        let low = mean[lag..again].iter().copied().fold(f64::INFINITY, f64::min);
        let high = mean[again - reach..=again + reach].iter().copied().fold(f64::NEG_INFINITY, f64::max);
        high - low > noise
    };
    let peaks: Vec<usize> = peaks.into_iter().filter(|lag| stands_out(lag) && recurs(lag)).collect();
    let highest = peaks.iter().map(|&lag| mean[lag]).fold(0.0, f64::max);
    // Noise splits a broad peak into many: of the lags near the first of them, the middle of the peak.
    let first = peaks.into_iter().find(|&lag| mean[lag] >= NEARLY * highest)?;
    let reach = (first / 32).min(mean.len() - 1 - first);
    let last = (first + first / 4).min(mean.len() - 1 - reach);
    let around = |lag: usize| mean[lag - reach..=lag + reach].iter().sum::<f64>();
    (first..=last).max_by(|&a, &b| around(a).total_cmp(&around(b)).then(b.cmp(&a)))
}

/// The mean of several series' figures at each lag, as far as all have some; none where there are no series. Series with less than half as
/// many lags as the longest are left out, for they would hide its longer seasons.
fn mean(all: impl Iterator<Item = Vec<f64>>) -> Option<Vec<f64>> {
    let mut all: Vec<Vec<f64>> = all.collect();
    let most = all.iter().map(Vec::len).max()?;
    all.retain(|figures| 2 * figures.len() >= most);
    let n_lag = all.iter().map(Vec::len).min()?;
    Some((0..n_lag).map(|lag| all.iter().map(|figures| figures[lag]).sum::<f64>() / all.len() as f64).collect())
}

/// Mean squared differences of values at every lag from 0 to half of them, less their linear trend, over their variance; none where they never
/// change.
fn variogram(values: &[f64]) -> Option<Vec<f64>> {
    let n = values.len() as f64;
    let (middle, mean) = ((n - 1.0) / 2.0, values.iter().sum::<f64>() / n);
    let row = |row: usize| row as f64 - middle;
    let spread: f64 = (0..values.len()).map(|at| row(at) * row(at)).sum();
    let slope = values.iter().enumerate().map(|(at, value)| row(at) * (value - mean)).sum::<f64>() / spread.max(1.0);
    let rest: Vec<f64> = values.iter().enumerate().map(|(at, value)| value - mean - slope * row(at)).collect();
    let variance = rest.iter().map(|value| value * value).sum::<f64>() / n;
    let n_lag = (values.len() / 2).min(LONGEST);
    let distance = |lag: usize| {
        let squares: f64 = rest.iter().zip(&rest[lag..]).map(|(a, b)| (a - b) * (a - b)).sum();
        squares / (rest.len() - lag) as f64 / variance
    };
    // of a straight line only what rounding left over varies
    let varies = variance > 1e-18 * values.iter().map(|value| value * value).sum::<f64>() / n;
    varies.then(|| (0..=n_lag).map(distance).collect())
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
