//! A linear map from window to horizon, in closed form.
//!
//! DLinear (Zeng et al. 2023) maps a window's moving average `A x` and the remainder `(I - A) x` by a matrix each:
//! `y = W_t A x + W_r (I - A) x + b`, the same for every channel. Least squares with a ridge on both matrices is found here through their sum
//! `V = W_t A + W_r (I - A)`: the smallest `|W_t|^2 + |W_r|^2` that gives a `V` is `tr(V M^-1 V^T)`, `M = A^T A + (I - A)^T (I - A)`, so that
//! `V = C (G + ridge M^-1)^-1` with `G` the covariance of the windows and `C` that of what follows with them.

use ndarray::{Array1, Array2, Axis, s};
use rayon::prelude::*;

use crate::dataset::Windows;
use crate::ops::Normalisation;
use crate::reference::window::statistics;

/// Steps of the moving average.
const KERNEL: usize = 25;
/// Windows that are fitted to, and as many that choose the ridge: evenly spaced ones where there are more.
const MOST_WINDOWS: usize = 1 << 16;
/// Windows whose residuals are sorted: evenly spaced ones where there are more.
const MOST_RESIDUALS: usize = 1 << 12;
/// Targets' windows that are forecast together.
const FORECAST_TOGETHER: usize = 1 << 11;
/// Parts of the windows whose sums are taken side by side; always as many, so that the same sums come out on every machine.
const PARTS: usize = 16;
/// Blocks of windows whose errors are compared.
const MOST_BLOCKS: usize = 64;
/// Ridges that are tried, relative to the windows' mean variance.
const RIDGES: [f64; 10] = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0, f64::INFINITY];

/// An error of at most this many times the smallest one counts as near it.
const NEAR: f64 = 1.03;

/// A fitted map.
#[derive(Clone, Debug)]
pub struct Linear {
    /// `(window, horizon)`, from a window less its shift to what follows it less the same shift.
    pub weight: Array2<f64>,
    /// `(horizon)`; 0 where windows are shifted: a model's own map of such windows, which sees them over their scale, could hold none.
    pub bias: Array1<f64>,
    /// What windows are shifted by.
    pub normalisation: Normalisation,
    /// The ridge that was chosen, relative to the windows' mean variance.
    pub ridge: f64,
    /// Mean squared error on the validation windows.
    pub valid_mse: f64,
}

impl Linear {
    /// Steps of the longest window: its matrices have the square of them as elements.
    pub const LONGEST_WINDOW: usize = 4096;

    /// Fits to the training windows by least squares, with the ridge whose squared error on the validation windows is smallest. Windows are
    /// taken less their last value or their mean, as `normalisation` does; what it divides by does not matter to a linear map. None where
    /// the values allow no fit, or a window has more than 4096 steps.
    pub fn fit(windows: &Windows, normalisation: Normalisation) -> Option<Self> {
        Self::choose(windows, &[windows.layout().window], &[normalisation], false)
    }

    /// One of the fits to the last steps of the windows, so many as each of `lengths`, with each normalisation: of those whose squared error
    /// on the validation windows is at most 3 % above the smallest, the longest or the shortest; of several as long, the best.
    ///
    /// A few validation windows beyond a horizon's length say little: where a fit with the same settings to the first half of the training
    /// windows is no better than persistence on those that follow, by the standard error of the difference, the map is that of persistence, 0
    /// from the window's last value on (the one-standard-error rule of Breiman et al. 1984).
    ///
    /// # Panics
    /// If a length is 0 or above the windows' own.
    pub fn choose(windows: &Windows, lengths: &[usize], normalisations: &[Normalisation], longest: bool) -> Option<Self> {
        if windows.layout().window > Self::LONGEST_WINDOW {
            return None;
        }
        let starts: Vec<usize> = windows.train().iter().collect();
        let (first, second) = starts.split_at(starts.len() / 2);
        let first_half = Moments::new(windows, first);
        let train = [first_half.clone(), Moments::new(windows, second)].into_iter().flatten().reduce(Moments::plus)?;
        let valid_starts: Vec<usize> = windows.valid().iter().collect();
        let valid = Moments::new(windows, &valid_starts)?;
        let best = Self::best(&train, &valid, lengths, normalisations, longest)?;
        let is_shown = |first_half| best.is_shown(&first_half, windows, &[second, &valid_starts].concat());
        if !normalisations.contains(&Normalisation::Last) || best.ridge.is_infinite() || first_half.is_none_or(is_shown) {
            return Some(best);
        }
        let length = if longest { lengths.iter().max() } else { lengths.iter().min() };
        fit(&train, &valid, *length?, Normalisation::Last, &[f64::INFINITY])
    }

    /// The fit that the validation windows choose.
    fn best(train: &Moments, valid: &Moments, lengths: &[usize], normalisations: &[Normalisation], longest: bool) -> Option<Self> {
        let candidates: Vec<_> = lengths.iter().flat_map(|&length| normalisations.iter().map(move |&shift| (length, shift))).collect();
        let fits: Vec<_> = candidates.par_iter().map(|&(length, shift)| fit(train, valid, length, shift, &RIDGES)).collect();
        let least = fits.iter().flatten().map(|fit| fit.valid_mse).fold(f64::INFINITY, f64::min);
        let length = |fit: &Linear| if longest { fit.weight.nrows() } else { usize::MAX - fit.weight.nrows() };
        let near = fits.into_iter().flatten().filter(|fit| fit.valid_mse <= NEAR * least);
        near.reduce(|best, other| {
            let order = length(&other).cmp(&length(&best)).then(best.valid_mse.total_cmp(&other.valid_mse));
            if order.is_gt() { other } else { best }
        })
    }

    /// Whether a fit with the same settings to the windows of `first_half` beats persistence on the windows that begin at `later`; also where
    /// there is none.
    fn is_shown(&self, first_half: &Moments, windows: &Windows, later: &[usize]) -> bool {
        let equations = Equations::new(&first_half.of(self.weight.nrows(), self.normalisation), self.normalisation);
        let map = equations.and_then(|equations| equations.map(self.ridge));
        map.is_none_or(|(weight, bias)| beats_persistence(windows, later, |x| predict(x, &weight, &bias, self.normalisation)))
    }

    /// Biases with which the map forecasts levels of a quantile loss, `(horizon, level)`: quantiles of what the training windows leave, in the
    /// units of each window. The map's own, `(horizon, 1)`, where there are no levels.
    pub fn biases(&self, windows: &Windows, levels: &[f32]) -> Array2<f64> {
        if levels.is_empty() {
            return self.bias.clone().insert_axis(Axis(1));
        }
        let every = (windows.train().len() * windows.n_target()).div_ceil(MOST_RESIDUALS).max(1);
        let starts: Vec<usize> = windows.train().iter().step_by(every).collect();
        let (x, horizon) = (inputs(windows, &starts), windows.layout().horizon);
        let y = rows(windows, &starts, horizon, |start| windows.following(start));
        let mut residuals = Array2::zeros((horizon, x.nrows()));
        for (index, (x, y)) in x.axis_iter(Axis(0)).zip(y.axis_iter(Axis(0))).enumerate() {
            let (shift, scale) = statistics(x, self.normalisation);
            let forecast = x.mapv(|value| (value - shift) / scale).dot(&self.weight);
            residuals.column_mut(index).assign(&(y.mapv(|value| (value - shift) / scale) - forecast));
        }
        let mut biases = Array2::zeros((horizon, levels.len()));
        for (residuals, mut biases) in residuals.axis_iter(Axis(0)).zip(biases.axis_iter_mut(Axis(0))) {
            let mut sorted = residuals.to_vec();
            sorted.sort_unstable_by(f64::total_cmp);
            let last = sorted.len().saturating_sub(1);
            for (bias, &level) in biases.iter_mut().zip(levels) {
                *bias = sorted.get((f64::from(level) * last as f64).round() as usize).copied().unwrap_or(0.0);
            }
        }
        biases
    }

    /// Forecasts of the windows that begin at `starts`, `(window, horizon, target)`, scaled.
    pub(super) fn forecast(&self, windows: &Windows, starts: &[usize]) -> Vec<f32> {
        let (n_target, horizon) = (windows.n_target(), windows.layout().horizon);
        let mut forecasts = vec![0.0; starts.len() * horizon * n_target];
        let n_together = (FORECAST_TOGETHER / n_target).max(1);
        let parts = forecasts.par_chunks_mut(n_together * horizon * n_target).zip(starts.par_chunks(n_together));
        parts.for_each(|(forecasts, starts)| {
            let rows = predict(&inputs(windows, starts), &self.weight, &self.bias, self.normalisation);
            for (index, row) in rows.axis_iter(Axis(0)).enumerate() {
                let (window, target) = (index / n_target, index % n_target);
                for (step, value) in row.iter().enumerate() {
                    forecasts[(window * horizon + step) * n_target + target] = *value as f32;
                }
            }
        });
        forecasts
    }
}

/// What follows windows `x (n, step)` by a map that reads the last of their steps: `(n, horizon)`.
fn predict(x: &Array2<f64>, weight: &Array2<f64>, bias: &Array1<f64>, normalisation: Normalisation) -> Array2<f64> {
    let n_step = weight.nrows();
    let x = x.slice(s![.., x.ncols() - n_step..]);
    let shifts = x.dot(&shares(n_step, normalisation)).insert_axis(Axis(1));
    (&x - &shifts).dot(weight) + bias + shifts
}

/// Whether the squared error of forecasts of the windows that begin at `starts` is less than persistence's by more than the standard error of
/// that difference, reckoned from blocks of neighbouring windows, as those overlap; also where there are too few to say. `predict` forecasts
/// from windows `(n, step)`.
fn beats_persistence(windows: &Windows, starts: &[usize], predict: impl Fn(&Array2<f64>) -> Array2<f64>) -> bool {
    let (n_target, horizon) = (windows.n_target(), windows.layout().horizon);
    let n_block = (starts.len() / horizon).min(MOST_BLOCKS);
    if n_block < 2 {
        return true;
    }
    let every = (starts.len() * n_target).div_ceil(MOST_WINDOWS).max(1);
    let gain = |block: usize| {
        let bounds = [block, block + 1].map(|block| block * starts.len() / n_block);
        let starts: Vec<usize> = starts[bounds[0]..bounds[1]].iter().copied().step_by(every).collect();
        let (x, y) = (inputs(windows, &starts), rows(windows, &starts, horizon, |start| windows.following(start)));
        let last = x.column(x.ncols() - 1).insert_axis(Axis(1));
        let squares = |errors: Array2<f64>| errors.iter().map(|error| error * error).sum::<f64>();
        (squares(&y - &last) - squares(y - predict(&x))) / x.nrows() as f64
    };
    let gains: Vec<f64> = (0..n_block).map(gain).collect();
    let mean = gains.iter().sum::<f64>() / n_block as f64;
    let variance = gains.iter().map(|gain| (gain - mean).powi(2)).sum::<f64>() / (n_block - 1) as f64;
    mean > (variance / n_block as f64).sqrt()
}

/// The fit to the last `n_step` steps of the training windows with the best of some ridges on the validation windows.
fn fit(train: &Moments, valid: &Moments, n_step: usize, normalisation: Normalisation, ridges: &[f64]) -> Option<Linear> {
    let equations = Equations::new(&train.of(n_step, normalisation), normalisation)?;
    let valid = valid.of(n_step, normalisation);
    let mut best: Option<Linear> = None;
    for &ridge in ridges {
        let Some((weight, bias)) = equations.map(ridge) else { continue };
        // rounding leaves less than nothing of a perfect map
        let valid_mse = (valid.squared_error(&weight, &bias) / (valid.n * bias.len() as f64)).max(0.0);
        if valid_mse.is_finite() && best.as_ref().is_none_or(|best| valid_mse < best.valid_mse) {
            best = Some(Linear { weight, bias, normalisation, ridge, valid_mse });
        }
    }
    best
}

/// What a ridge is added to; see the module's text.
struct Equations {
    /// `(window)`
    x_mean: Array1<f64>,
    /// `(horizon)`
    y_mean: Array1<f64>,
    /// `G (window, window)`
    covariance: Array2<f64>,
    /// `C (window, horizon)`
    cross: Array2<f64>,
    /// `M^-1 (window, window)`
    penalty: Array2<f64>,
    /// The windows' mean variance.
    unit: f64,
}

impl Equations {
    fn new(sums: &Moments, normalisation: Normalisation) -> Option<Self> {
        let (n_step, horizon) = sums.xy.dim();
        let (x_mean, y_mean) = match normalisation {
            Normalisation::None => (&sums.x / sums.n, &sums.y / sums.n),
            Normalisation::Last | Normalisation::MeanStd => (Array1::zeros(n_step), Array1::zeros(horizon)),
        };
        let covariance = &sums.xx / sums.n - outer(&x_mean, &x_mean);
        let cross = &sums.xy / sums.n - outer(&x_mean, &y_mean);
        let unit = covariance.diag().mean()?.max(f64::MIN_POSITIVE);
        Some(Equations { penalty: penalty(n_step)?, x_mean, y_mean, covariance, cross, unit })
    }

    /// Weight and bias with a ridge. One without end has the map 0.
    fn map(&self, ridge: f64) -> Option<(Array2<f64>, Array1<f64>)> {
        let weight = if ridge.is_finite() {
            solve(&cholesky(&self.covariance + &(&self.penalty * (ridge * self.unit)))?, self.cross.clone())
        } else {
            Array2::zeros(self.cross.dim())
        };
        let bias = &self.y_mean - &self.x_mean.dot(&weight);
        Some((weight, bias))
    }
}

/// Every target's window as a row.
fn inputs(windows: &Windows, starts: &[usize]) -> Array2<f64> {
    rows(windows, starts, windows.layout().window, |start| windows.input(start))
}

/// Every target's values of the rows that `values` gives for a start, as a row of `n_step`.
fn rows<'a>(windows: &'a Windows, starts: &[usize], n_step: usize, values: impl Fn(usize) -> &'a [f32]) -> Array2<f64> {
    let (n_target, n_feature) = (windows.n_target(), windows.n_feature());
    let mut rows = Array2::zeros((starts.len() * n_target, n_step));
    for (index, mut row) in rows.axis_iter_mut(Axis(0)).enumerate() {
        let values = values(starts[index / n_target]).iter().skip(index % n_target).step_by(n_feature);
        row.iter_mut().zip(values).for_each(|(to, &value)| *to = f64::from(value));
    }
    rows
}

/// The share of each step of a window in what the window is shifted by: the shift of a window with a 1 there alone, as shifts are linear.
fn shares(n_step: usize, normalisation: Normalisation) -> Array1<f64> {
    let mut unit = Array1::zeros(n_step);
    let share = |step: usize| {
        unit[step] = 1.0;
        let (shift, _) = statistics(unit.view(), normalisation);
        unit[step] = 0.0;
        shift
    };
    (0..n_step).map(share).collect()
}

/// Sums over windows `x` and what follows them, `y`.
#[derive(Clone)]
struct Moments {
    n: f64,
    /// `(window)`
    x: Array1<f64>,
    /// `(horizon)`
    y: Array1<f64>,
    /// `(window, window)`
    xx: Array2<f64>,
    /// `(window, horizon)`
    xy: Array2<f64>,
    /// Sum of all squares of `y`.
    yy: f64,
}

impl Moments {
    fn new(windows: &Windows, starts: &[usize]) -> Option<Self> {
        let every = (starts.len() * windows.n_target()).div_ceil(MOST_WINDOWS).max(1);
        let taken: Vec<usize> = starts.iter().copied().step_by(every).collect();
        let parts: Vec<Self> = taken.par_chunks(taken.len().div_ceil(PARTS).max(1)).map(|starts| Self::part(windows, starts)).collect();
        parts.into_iter().reduce(Moments::plus)
    }

    fn plus(self, other: Self) -> Self {
        Moments {
            n: self.n + other.n,
            x: self.x + other.x,
            y: self.y + other.y,
            xx: self.xx + other.xx,
            xy: self.xy + other.xy,
            yy: self.yy + other.yy,
        }
    }

    fn part(windows: &Windows, starts: &[usize]) -> Self {
        let x = inputs(windows, starts);
        let y = rows(windows, starts, windows.layout().horizon, |start| windows.following(start));
        Moments {
            n: x.nrows() as f64,
            x: x.sum_axis(Axis(0)),
            y: y.sum_axis(Axis(0)),
            xx: x.t().dot(&x),
            xy: x.t().dot(&y),
            yy: y.iter().map(|value| value * value).sum(),
        }
    }

    /// Those of the windows' last steps, with both sides less the windows' shifts.
    ///
    /// With a window's shift `c^T x` the window is `(I - 1 c^T) x`, so that the sums follow from those of windows that are not shifted.
    fn of(&self, n_step: usize, normalisation: Normalisation) -> Self {
        let first = self.x.len() - n_step;
        let (x, xx) = (self.x.slice(s![first..]).to_owned(), self.xx.slice(s![first.., first..]).to_owned());
        let xy = self.xy.slice(s![first.., ..]).to_owned();
        let shares = shares(n_step, normalisation);
        let (shift, shift_x, shift_y) = (shares.dot(&x), shares.dot(&xx), shares.dot(&xy));
        let squares = shares.dot(&shift_x);
        let (to_x, to_y) = (Array1::from_elem(n_step, 1.0), Array1::from_elem(self.y.len(), 1.0));
        let square = outer(&to_x, &to_x) * squares;
        Moments {
            n: self.n,
            x: x - shift,
            y: &self.y - shift,
            xx: xx - outer(&shift_x, &to_x) - outer(&to_x, &shift_x) + square,
            xy: xy - outer(&shift_x, &to_y) - outer(&to_x, &shift_y) + squares,
            yy: self.yy - 2.0 * shift_y.sum() + squares * self.y.len() as f64,
        }
    }

    /// Sum of squared errors of `x weight + bias`.
    fn squared_error(&self, weight: &Array2<f64>, bias: &Array1<f64>) -> f64 {
        let quadratic = (weight * &self.xx.dot(weight)).sum() + self.n * bias.dot(bias) + 2.0 * self.x.dot(weight).dot(bias);
        self.yy + quadratic - 2.0 * (weight * &self.xy).sum() - 2.0 * self.y.dot(bias)
    }
}

fn outer(a: &Array1<f64>, b: &Array1<f64>) -> Array2<f64> {
    a.view().insert_axis(Axis(1)).dot(&b.view().insert_axis(Axis(0)))
}

/// `M^-1 (window, window)`; see the module's text.
fn penalty(n_step: usize) -> Option<Array2<f64>> {
    let average = moving_average(n_step);
    let remainder = Array2::<f64>::eye(n_step) - &average;
    Some(solve(&cholesky(average.t().dot(&average) + remainder.t().dot(&remainder))?, Array2::<f64>::eye(n_step)))
}

/// `A (window, window)`: the moving average, with the first and last value repeated beyond the ends.
fn moving_average(n_step: usize) -> Array2<f64> {
    let reach = KERNEL / 2;
    let mut average = Array2::zeros((n_step, n_step));
    for (step, mut row) in average.axis_iter_mut(Axis(0)).enumerate() {
        for offset in 0..=2 * reach {
            row[(step + offset).saturating_sub(reach).min(n_step - 1)] += 1.0 / (2 * reach + 1) as f64;
        }
    }
    average
}

/// The lower factor `L` of `matrix = L L^T`; none where the matrix is not positive definite.
fn cholesky(mut matrix: Array2<f64>) -> Option<Array2<f64>> {
    for row in 0..matrix.nrows() {
        let (above, mut rest) = matrix.view_mut().split_at(Axis(0), row);
        let mut current = rest.row_mut(0);
        for column in 0..row {
            let known = dot(&current.as_slice()?[..column], &above.row(column).to_slice()?[..column]);
            current[column] = (current[column] - known) / above[[column, column]];
        }
        let known = dot(&current.as_slice()?[..row], &current.as_slice()?[..row]);
        let pivot = current[row] - known;
        if pivot.is_nan() || pivot <= 0.0 {
            return None;
        }
        current[row] = pivot.sqrt();
        current.as_slice_mut()?[row + 1..].fill(0.0);
    }
    Some(matrix)
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    // Eight sums side by side fill a vector register.
    let mut sums = [0.0; 8];
    let (a, b) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f64 = a.remainder().iter().zip(b.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a.zip(b) {
        for lane in 0..8 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    sums.iter().sum::<f64>() + rest
}

/// `x` of `L L^T x = y`, for every column of `y`.
fn solve(factor: &Array2<f64>, mut y: Array2<f64>) -> Array2<f64> {
    let n = factor.nrows();
    for row in 0..n {
        let (above, mut rest) = y.view_mut().split_at(Axis(0), row);
        let mut current = rest.row_mut(0);
        for other in 0..row {
            current.scaled_add(-factor[[row, other]], &above.row(other));
        }
        current /= factor[[row, row]];
    }
    for row in (0..n).rev() {
        let (mut above, below) = y.view_mut().split_at(Axis(0), row + 1);
        let mut current = above.row_mut(row);
        for other in row + 1..n {
            current.scaled_add(-factor[[other, row]], &below.row(other - row - 1));
        }
        current /= factor[[row, row]];
    }
    y
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::{Layout, Scaling, Source, Table};

    fn windows(value: impl Fn(usize) -> f64, n_row: usize, window: usize, horizon: usize) -> Windows {
        let table = Table::new(Source::Memory("test".into()), None, vec![("a".into(), (0..n_row).map(value).collect())]);
        let layout = Layout { scaling: Scaling::None, ..Layout::one_column("a", window, horizon) };
        Windows::new(&[table.expect("a table")], &layout).expect("windows")
    }

    #[test]
    fn a_linear_recurrence_is_forecast_exactly() {
        let windows = windows(|row| (row as f64 / 3.0).sin() + 0.01 * row as f64, 400, 40, 6);
        for normalisation in [Normalisation::None, Normalisation::Last, Normalisation::MeanStd] {
            let linear = Linear::fit(&windows, normalisation).expect("a fit");
            let starts: Vec<usize> = windows.valid().iter().collect();
            let forecasts = linear.forecast(&windows, &starts);
            let actual: Vec<f32> = starts.iter().flat_map(|&start| windows.following(start).to_vec()).collect();
            let worst = forecasts.iter().zip(&actual).map(|(forecast, actual)| (forecast - actual).abs()).fold(0.0, f32::max);
            assert!(worst < 1e-2, "{normalisation:?}: {worst}");
        }
    }

    /// The map that the two matrices with the same ridge would give, by their normal equations.
    #[test]
    fn the_sum_of_the_matrices_is_that_of_the_two_of_dlinear() {
        let n_step = 7;
        let random = |seed: usize| ((seed * 7919 + 13) % 1009) as f64 / 1009.0 - 0.5;
        let x = Array2::from_shape_fn((60, n_step), |(row, step)| random(row * n_step + step));
        let y = Array2::from_shape_fn((60, 2), |(row, step)| random(row * 31 + step + 5000));
        let average = moving_average(n_step);
        let parts = ndarray::concatenate(Axis(1), &[x.dot(&average.t()).view(), (&x - &x.dot(&average.t())).view()]).expect("side by side");
        let ridge = 0.3;
        let both = solve(&cholesky(parts.t().dot(&parts) + Array2::<f64>::eye(2 * n_step) * ridge).expect("definite"), parts.t().dot(&y));
        let of_parts = parts.dot(&both);
        let sum = solve(&cholesky(x.t().dot(&x) + penalty(n_step).expect("definite") * ridge).expect("definite"), x.t().dot(&y));
        let worst = (x.dot(&sum) - of_parts).iter().fold(0.0, |worst: f64, difference| worst.max(difference.abs()));
        assert!(worst < 1e-9, "{worst}");
    }

    #[test]
    fn sums_over_shifted_windows_follow_from_those_over_windows() {
        let windows = windows(|row| (row as f64 / 3.0).sin() + 0.01 * row as f64, 200, 9, 4);
        let starts: Vec<usize> = windows.train().iter().collect();
        let sums = Moments::new(&windows, &starts).expect("sums");
        for normalisation in [Normalisation::None, Normalisation::Last, Normalisation::MeanStd] {
            let sums = sums.of(6, normalisation);
            let x = inputs(&windows, &starts).slice(s![.., 3..]).to_owned();
            let shifts = x.dot(&shares(6, normalisation)).insert_axis(Axis(1));
            let y = rows(&windows, &starts, 4, |start| windows.following(start)) - &shifts;
            let x = x - &shifts;
            let near = |a: &Array2<f64>, b: &Array2<f64>| (a - b).iter().all(|difference| difference.abs() < 1e-9 * sums.n);
            assert!(near(&sums.xx, &x.t().dot(&x)) && near(&sums.xy, &x.t().dot(&y)), "{normalisation:?}");
            assert!((&sums.x - &x.sum_axis(Axis(0))).sum().abs() < 1e-6 && (&sums.y - &y.sum_axis(Axis(0))).sum().abs() < 1e-6);
            assert!((sums.yy - y.iter().map(|value| value * value).sum::<f64>()).abs() < 1e-6);
        }
    }

    #[test]
    fn levels_begin_with_their_shares_of_the_training_rows() {
        let random = |seed: usize| ((seed * 7919 + 13) % 1009) as f64 / 1009.0;
        let windows = windows(|row| (row as f64 / 4.0).sin() + 0.3 * random(row * row % 997), 900, 16, 2);
        for normalisation in [Normalisation::Last, Normalisation::MeanStd] {
            let linear = Linear::fit(&windows, normalisation).expect("a fit");
            let biases = linear.biases(&windows, &[0.1, 0.9]);
            let starts: Vec<usize> = windows.train().iter().collect();
            for step in 0..2 {
                for (level, share) in [(0, 0.1), (1, 0.9)] {
                    let below = starts.iter().filter(|&&start| {
                        let x: Array1<f64> = windows.input(start).iter().map(|&value| f64::from(value)).collect();
                        let (shift, scale) = statistics(x.view(), normalisation);
                        let forecast = x.mapv(|value| (value - shift) / scale).dot(&linear.weight.column(step)) + biases[[step, level]];
                        f64::from(windows.following(start)[step]) <= forecast * scale + shift
                    });
                    let found = below.count() as f64 / starts.len() as f64;
                    assert!((found - share).abs() < 0.01, "{normalisation:?}, step {step}: {found} is not {share}");
                }
            }
            assert_eq!(linear.biases(&windows, &[]).dim(), (2, 1));
        }
    }

    #[test]
    fn of_several_lengths_the_best_is_chosen() {
        // The value 12 rows earlier again: a window of 8 steps cannot see it.
        let random = |seed: usize| ((seed * 7919 + 13) % 1009) as f64 / 1009.0;
        let windows = windows(|row| random(row % 12) + 0.1 * random(row * row % 997), 900, 20, 3);
        for (longest, length) in [(false, 16), (true, 20)] {
            let normalisations = [Normalisation::Last, Normalisation::MeanStd];
            let chosen = Linear::choose(&windows, &[4, 8, 16, 20], &normalisations, longest).expect("a fit");
            assert_eq!(chosen.weight.dim(), (length, 3));
        }
    }

    #[test]
    fn a_random_walk_is_forecast_by_persistence() {
        let mut random = 1u64;
        let mut walk = vec![0.0];
        for _ in 0..1500 {
            let step = (0..12).map(|_| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (random >> 40) as f64 / (1u64 << 24) as f64 - 0.5
            });
            walk.push(walk[walk.len() - 1] + step.sum::<f64>());
        }
        let windows = windows(|row| walk[row], 1500, 96, 24);
        let normalisations = [Normalisation::Last, Normalisation::MeanStd];
        let chosen = Linear::choose(&windows, &[32, 96], &normalisations, false).expect("a fit");
        assert!(chosen.ridge.is_infinite() && chosen.weight.iter().all(|&weight| weight == 0.0));
        assert_eq!((chosen.weight.dim(), chosen.normalisation), ((32, 24), Normalisation::Last));
    }

    #[test]
    fn a_matrix_that_is_not_positive_definite_has_no_factor() {
        assert!(cholesky(ndarray::array![[1.0, 2.0], [2.0, 1.0]]).is_none());
        assert!(cholesky(ndarray::array![[f64::NAN]]).is_none());
    }
}
