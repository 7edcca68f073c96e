//! Windows of a series with the values that follow them, each on a scale of its own.
//!
//! A window's features are normalised as `(x - shift) / scale`, by what is known at its last step alone; targets use the shift and scale of
//! their own feature, and [`restore`] puts a prediction back. Differences are taken from the window's last value before they are averaged,
//! so that a high level costs no digits and a constant window deviates by exactly 0. A scale that `f32` could not resolve at the level of
//! the shift, or at all, is 1 instead.

use ndarray::{Array2, Array3, ArrayView1, ArrayView2, ArrayView3, Axis, Ix2, Ix3, s};

use super::Float;
use super::session::index;
use crate::graph::Tensor;
use crate::memory::Memory;
use crate::ops::{Gather, Rescale, Restore};

/// What a window's features are shifted and scaled by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Normalisation {
    /// Subtract the window's last value, divide by its one-step deviation
    ///
    /// Shift: the last value. Scale: the root mean square of the window's one-step differences.
    #[default]
    Last,
    /// Subtract the window's mean, divide by its deviation
    ///
    /// Shift: the mean. Scale: the population's standard deviation.
    MeanStd,
    /// No normalisation, as in the lab
    ///
    /// Shift 0, scale 1.
    None,
}

/// Which windows of which series.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a, T> {
    /// `(rows, feature)`, in time order.
    pub series: ArrayView2<'a, T>,
    /// `(batch)`: the row at which each window begins. A window and its horizon end within the series.
    pub starts: &'a [usize],
    /// How many rows a window has, at least 1.
    pub n_step: usize,
    /// How many rows follow it as targets.
    pub horizon: usize,
    /// The features that are targets.
    pub targets: &'a [usize],
    /// What they are shifted and scaled by.
    pub normalisation: Normalisation,
}

/// The batch.
#[derive(Clone, Debug)]
pub struct Outputs<T> {
    /// `(batch, step, feature)`, normalised.
    pub x: Array3<T>,
    /// `(batch, horizon, target)`, normalised.
    pub y: Array3<T>,
    /// `(batch, feature)`.
    pub shift: Array2<T>,
    /// `(batch, feature)`, greater than 0.
    pub scale: Array2<T>,
}

/// The batch of windows that begin at `starts`.
pub fn forward<T: Float>(inputs: &Inputs<T>) -> Outputs<T> {
    let Inputs { series, starts, n_step, horizon, targets, normalisation } = *inputs;
    let n_feature = series.ncols();
    let mut x = Array3::zeros((starts.len(), n_step, n_feature));
    let mut y = Array3::zeros((starts.len(), horizon, targets.len()));
    let mut shift = Array2::zeros((starts.len(), n_feature));
    let mut scale = Array2::zeros((starts.len(), n_feature));
    for (batch, &start) in starts.iter().enumerate() {
        let window = series.slice(s![start..start + n_step, ..]);
        for feature in 0..n_feature {
            let (by, over) = statistics(window.column(feature), normalisation);
            shift[[batch, feature]] = by;
            scale[[batch, feature]] = over;
            x.slice_mut(s![batch, .., feature]).assign(&window.column(feature).mapv(|value| (value - by) / over));
        }
        for (target, &feature) in targets.iter().enumerate() {
            let (by, over) = (shift[[batch, feature]], scale[[batch, feature]]);
            let following = series.slice(s![start + n_step..start + n_step + horizon, feature]);
            y.slice_mut(s![batch, .., target]).assign(&following.mapv(|value| (value - by) / over));
        }
    }
    Outputs { x, y, shift, scale }
}

/// Predictions, `(batch, horizon, target)`, on the scale of the series, given `shift` and `scale`, `(batch, feature)`, of their windows.
pub fn restore<T: Float>(prediction: ArrayView3<T>, shift: ArrayView2<T>, scale: ArrayView2<T>, targets: &[usize]) -> Array3<T> {
    let of_targets = |values: ArrayView2<T>| values.select(Axis(1), targets).insert_axis(Axis(1));
    &prediction * &of_targets(scale) + of_targets(shift)
}

/// What errors in the units of a window are multiplied by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rescaling {
    /// The window's scale: to the units of the series.
    Scale,
    /// `scale / sqrt(max(scale, `[`LEAST_SCALE`]`))`: squares are then those of the series over the scale, so that neither the windows
    /// that move much nor those that hardly move outweigh the others.
    Root,
}

impl Rescaling {
    /// What errors of a window of so large a scale are multiplied by.
    #[inline(always)]
    pub fn factor<T: Float>(self, scale: T) -> T {
        match self {
            Rescaling::Scale => scale,
            Rescaling::Root => scale / scale.max(T::from_f64(LEAST_SCALE)).sqrt(),
        }
    }
}

/// The scale below which windows count as errors of the series do, under [`Rescaling::Root`].
pub const LEAST_SCALE: f64 = 0.1;

/// Values `(batch, horizon, column)` by the `scale`, `(batch, feature)`, of the feature that each column stands for; its own gradient.
pub fn rescale<T: Float>(values: ArrayView3<T>, scale: ArrayView2<T>, of_column: &[usize], rescaling: Rescaling) -> Array3<T> {
    let factor = scale.mapv(|scale| rescaling.factor(scale));
    &values * &factor.select(Axis(1), of_column).insert_axis(Axis(1))
}

/// The shift and the scale of one feature, `(step)`.
pub(crate) fn statistics<T: Float>(values: ArrayView1<T>, normalisation: Normalisation) -> (T, T) {
    let last = values[values.len() - 1];
    let count = T::from_f64(values.len() as f64);
    match normalisation {
        Normalisation::None => (T::zero(), T::one()),
        Normalisation::Last => {
            let squares = values.windows(2).into_iter().map(|pair| (pair[1] - pair[0]).powi(2)).sum::<T>();
            let deviation = (squares / (count - T::one()).max(T::one())).sqrt();
            (last, guarded(deviation, last))
        }
        Normalisation::MeanStd => {
            let offset = values.iter().map(|&value| value - last).sum::<T>() / count;
            let variance = values.iter().map(|&value| (value - last - offset).powi(2)).sum::<T>() / count;
            (last + offset, guarded(variance.sqrt(), last + offset))
        }
    }
}

/// `scale`, or 1 where it is too small to divide by.
pub(crate) fn guarded<T: Float>(scale: T, shift: T) -> T {
    let resolution = T::from_f64(f64::from(f32::EPSILON)) * shift.abs();
    if scale > resolution.max(T::from_f64(1e-30)) { scale } else { T::one() }
}

pub(super) fn run<T: Float>(op: &Gather, memory: &mut Memory<T>) {
    let source = &op.source;
    let starts = memory.axes::<Ix2>(source.starts);
    let row = index(memory, source.counter, 0).min(starts.nrows() - 1);
    let outputs = forward(&Inputs {
        series: memory.axes::<Ix2>(source.series),
        starts: &starts.row(row).iter().map(|start| start.as_f64() as usize).collect::<Vec<_>>(),
        n_step: source.n_step,
        horizon: source.horizon,
        targets: &indices(memory, source.targets),
        normalisation: source.normalisation,
    });
    memory.store(op.window.x, &outputs.x);
    memory.store(op.window.y, &outputs.y);
    memory.store(op.window.shift, &outputs.shift);
    memory.store(op.window.scale, &outputs.scale);
}

pub(super) fn run_rescale<T: Float>(op: &Rescale, memory: &mut Memory<T>) {
    let values = memory.axes::<Ix3>(op.x);
    let of_column = columns(&indices(memory, op.window.targets), values.dim().2);
    let rescaled = rescale(values, memory.axes::<Ix2>(op.window.scale), &of_column, op.rescaling);
    memory.store(op.y, &rescaled);
}

pub(super) fn run_restore<T: Float>(op: &Restore, memory: &mut Memory<T>) {
    let [n_item, horizon, n_column] = [0, 1, 2].map(|axis| memory.spec(op.out).shape[axis]);
    let (shift, scale) = (memory.axes::<Ix2>(op.window.shift), memory.axes::<Ix2>(op.window.scale));
    let n_batch = shift.nrows();
    let targets = indices(memory, op.window.targets);
    let of_column = columns(&targets, n_column);
    let prediction = Array3::from_shape_vec((n_batch, horizon, n_column), memory.view(op.prediction).iter().copied().collect())
        .expect("the operation has checked how many elements there are");
    let restored = restore(prediction.view(), shift, scale, &of_column);
    let first = (index(memory, op.counter, 0) * n_batch).min(n_item);
    let count = n_batch.min(n_item - first);
    let mut out = memory.view_mut(op.out);
    out.slice_axis_mut(Axis(0), (first..first + count).into()).assign(&restored.slice(s![..count, .., ..]));
}

/// The feature that each column stands for: as many columns as there are levels for a target, beside each other.
fn columns(targets: &[usize], n_column: usize) -> Vec<usize> {
    (0..n_column).map(|column| targets[column * targets.len() / n_column]).collect()
}

fn indices<T: Float>(memory: &Memory<T>, tensor: Tensor) -> Vec<usize> {
    memory.view(tensor).iter().map(|index| index.as_f64() as usize).collect()
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    fn series() -> Array2<f64> {
        array![[1.0, 10.0], [2.0, 10.0], [4.0, 10.0], [8.0, 10.0], [9.0, 11.0], [7.0, 12.0]]
    }

    fn batch(series: ArrayView2<f64>, n_step: usize, normalisation: Normalisation) -> Outputs<f64> {
        forward(&Inputs { series, starts: &[0, 1], n_step, horizon: 2, targets: &[1, 0], normalisation })
    }

    #[test]
    fn last_subtracts_the_last_value_and_divides_by_the_one_step_deviation() {
        let outputs = batch(series().view(), 3, Normalisation::Last);
        assert_eq!(outputs.shift, array![[4.0, 10.0], [8.0, 10.0]]);
        assert_eq!(outputs.scale, array![[2.5f64.sqrt(), 1.0], [10f64.sqrt(), 1.0]]);
        assert_eq!(outputs.x.slice(s![0, .., 0]), array![-3.0, -2.0, 0.0] / 2.5f64.sqrt());
        assert_eq!(outputs.y.slice(s![0, .., ..]), array![[0.0, 4.0 / 2.5f64.sqrt()], [1.0, 5.0 / 2.5f64.sqrt()]]);
    }

    #[test]
    fn mean_std_has_mean_0_and_deviation_1() {
        let outputs = batch(series().view(), 3, Normalisation::MeanStd);
        for column in outputs.x.lanes(Axis(1)) {
            assert!(column.sum().abs() < 1e-12);
            let square = column.mapv(|x| x * x).sum();
            assert!((square - 3.0).abs() < 1e-12 || square == 0.0);
        }
    }

    #[test]
    fn restore_undoes_every_normalisation() {
        for normalisation in [Normalisation::None, Normalisation::Last, Normalisation::MeanStd] {
            let outputs = batch(series().view(), 3, normalisation);
            let restored = restore(outputs.y.view(), outputs.shift.view(), outputs.scale.view(), &[1, 0]);
            for (batch, start) in [0, 1].into_iter().enumerate() {
                let want = series().slice(s![start + 3..start + 5, ..;1]).select(Axis(1), &[1, 0]);
                assert!((&restored.slice(s![batch, .., ..]) - &want).iter().all(|error| error.abs() < 1e-12));
            }
        }
    }

    #[test]
    fn a_window_without_movement_has_scale_1() {
        for value in [0.0f32, 0.1, -1e-8, 3e7] {
            let series = Array2::from_elem((40, 1), value);
            for normalisation in [Normalisation::Last, Normalisation::MeanStd] {
                for n_step in [1, 33] {
                    let inputs = Inputs { series: series.view(), starts: &[3], n_step, horizon: 1, targets: &[0], normalisation };
                    let outputs = forward(&inputs);
                    assert_eq!(outputs.scale[[0, 0]], 1.0);
                    assert!(outputs.x.iter().all(|&x| x == 0.0));
                }
            }
        }
    }
}
