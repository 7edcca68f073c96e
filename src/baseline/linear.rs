//! A linear map from window to horizon, in closed form.
//!
//! DLinear (Zeng et al. 2023) maps a window's moving average `A x` and the remainder `(I - A) x` by a matrix each:
//! `y = W_t A x + W_r (I - A) x + b`, the same for every channel. Least squares with a ridge on both matrices is found here through their sum
//! `V = W_t A + W_r (I - A)`: the smallest `|W_t|^2 + |W_r|^2` that gives a `V` is `tr(V M^-1 V^T)`, `M = A^T A + (I - A)^T (I - A)`, so that
//! `V = C (G + ridge M^-1)^-1` with `G` the covariance of the windows and `C` that of what follows with them.

use ndarray::linalg::general_mat_mul;
use ndarray::{Array1, Array2, Axis};

use crate::dataset::{Starts, Windows};
use crate::ops::Normalisation;

/// Steps of the moving average.
const KERNEL: usize = 25;
/// Steps of the longest window: its matrices have the square of them as elements.
const LONGEST_WINDOW: usize = 4096;
/// Windows that are fitted to, and as many that choose the ridge: evenly spaced ones where there are more.
const MOST_WINDOWS: usize = 1 << 16;
/// Windows of a product.
const CHUNK: usize = 2048;
/// Ridges that are tried, relative to the windows' mean variance.
const RIDGES: [f64; 7] = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0];

/// A fitted map.
#[derive(Clone, Debug)]
pub struct Linear {
    /// `(window, horizon)`, from a window less its shift to what follows it less the same shift.
    pub weight: Array2<f64>,
    /// `(horizon)`
    pub bias: Array1<f64>,
    /// What windows are shifted by.
    pub normalisation: Normalisation,
    /// The ridge that was chosen, relative to the windows' mean variance.
    pub ridge: f64,
}

impl Linear {
    /// Fits to the training windows by least squares, with the ridge whose squared error on the validation windows is smallest. Windows are
    /// taken less their last value or their mean, as `normalisation` does; what it divides by does not matter to a linear map. None where
    /// the values allow no fit, or a window has more than 4096 steps.
    pub fn fit(windows: &Windows, normalisation: Normalisation) -> Option<Self> {
        if windows.layout().window > LONGEST_WINDOW {
            return None;
        }
        let train = Statistics::new(windows, windows.train(), normalisation)?;
        let valid = Statistics::new(windows, windows.valid(), normalisation)?;
        let (x_mean, y_mean) = (&train.x / train.n, &train.y / train.n);
        let covariance = &train.xx / train.n - outer(&x_mean, &x_mean);
        let cross = &train.xy / train.n - outer(&x_mean, &y_mean);
        let penalty = penalty(windows.layout().window)?;
        let unit = covariance.diag().mean()?.max(f64::MIN_POSITIVE);
        let mut best: Option<(f64, Linear)> = None;
        for ridge in RIDGES {
            let Some(factor) = cholesky(&covariance + &(&penalty * (ridge * unit))) else { continue };
            let weight = solve(&factor, cross.clone());
            let bias = &y_mean - &x_mean.dot(&weight);
            let error = valid.squared_error(&weight, &bias);
            if error.is_finite() && best.as_ref().is_none_or(|(least, _)| error < *least) {
                best = Some((error, Linear { weight, bias, normalisation, ridge }));
            }
        }
        best.map(|(_, linear)| linear)
    }

    /// Forecasts of the windows that begin at `starts`, `(window, horizon, target)`, scaled.
    pub(super) fn forecast(&self, windows: &Windows, starts: &[usize]) -> Vec<f32> {
        let (n_target, horizon) = (windows.n_target(), windows.layout().horizon);
        let (x, shifts) = inputs(windows, starts, self.normalisation);
        let y = x.dot(&self.weight) + &self.bias;
        let mut forecasts = vec![0.0; starts.len() * horizon * n_target];
        for (index, (row, shift)) in y.axis_iter(Axis(0)).zip(shifts).enumerate() {
            let (window, target) = (index / n_target, index % n_target);
            for (step, value) in row.iter().enumerate() {
                forecasts[(window * horizon + step) * n_target + target] = (value + shift) as f32;
            }
        }
        forecasts
    }
}

/// Every target's window as a row, less its shift, and the shifts.
fn inputs(windows: &Windows, starts: &[usize], normalisation: Normalisation) -> (Array2<f64>, Vec<f64>) {
    let (n_target, n_feature, n_step) = (windows.n_target(), windows.n_feature(), windows.layout().window);
    let mut x = Array2::zeros((starts.len() * n_target, n_step));
    let mut shifts = Vec::with_capacity(starts.len() * n_target);
    for (index, mut row) in x.axis_iter_mut(Axis(0)).enumerate() {
        let values = windows.input(starts[index / n_target]).iter().skip(index % n_target).step_by(n_feature);
        row.iter_mut().zip(values).for_each(|(x, &value)| *x = f64::from(value));
        let shift = match normalisation {
            Normalisation::None => 0.0,
            Normalisation::Last => row[n_step - 1],
            Normalisation::MeanStd => row.sum() / n_step as f64,
        };
        row -= shift;
        shifts.push(shift);
    }
    (x, shifts)
}

/// Sums over windows `x` and what follows them, `y`.
struct Statistics {
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

impl Statistics {
    fn new(windows: &Windows, starts: &Starts, normalisation: Normalisation) -> Option<Self> {
        let (n_step, horizon, n_target) = (windows.layout().window, windows.layout().horizon, windows.n_target());
        let every = (starts.len() * n_target).div_ceil(MOST_WINDOWS).max(1);
        let taken: Vec<usize> = starts.iter().step_by(every).collect();
        let mut sums = Statistics {
            n: (taken.len() * n_target) as f64,
            x: Array1::zeros(n_step),
            y: Array1::zeros(horizon),
            xx: Array2::zeros((n_step, n_step)),
            xy: Array2::zeros((n_step, horizon)),
            yy: 0.0,
        };
        for starts in taken.chunks(CHUNK) {
            let (x, shifts) = inputs(windows, starts, normalisation);
            let mut y = Array2::zeros((x.nrows(), horizon));
            for (index, (mut row, shift)) in y.axis_iter_mut(Axis(0)).zip(shifts).enumerate() {
                let following = windows.following(starts[index / n_target]).iter().skip(index % n_target).step_by(windows.n_feature());
                row.iter_mut().zip(following).for_each(|(y, &value)| *y = f64::from(value) - shift);
            }
            general_mat_mul(1.0, &x.t(), &x, 1.0, &mut sums.xx);
            general_mat_mul(1.0, &x.t(), &y, 1.0, &mut sums.xy);
            sums.x += &x.sum_axis(Axis(0));
            sums.y += &y.sum_axis(Axis(0));
            sums.yy += y.iter().map(|value| value * value).sum::<f64>();
        }
        (sums.n > 0.0).then_some(sums)
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
    fn a_matrix_that_is_not_positive_definite_has_no_factor() {
        assert!(cholesky(ndarray::array![[1.0, 2.0], [2.0, 1.0]]).is_none());
        assert!(cholesky(ndarray::array![[f64::NAN]]).is_none());
    }
}
