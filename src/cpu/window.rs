//! Batches of normalised windows, and predictions in other units: windows of a batch side by side.

use super::elementwise::each_block;
use super::rows::Rows;
use super::threads::parallel;
use crate::memory::Memory;
use crate::ops::{Gather, Normalisation, Rescale, Restore};
use crate::reference::window::guarded;

/// The windows, what follows them, and the shift and scale of each.
pub fn gather(op: &Gather, memory: &mut Memory<f32>) {
    let source = &op.source;
    let [series, starts, targets, counter] =
        [source.series, source.starts, source.targets, source.counter].map(|tensor| Rows::of(memory, tensor));
    let [x, y, shift, scale] = [op.window.x, op.window.y, op.window.shift, op.window.scale].map(|tensor| Rows::of(memory, tensor));
    let (n_step, starts) = (source.n_step, starts.row((counter.row(0)[0] as usize).min(starts.rows - 1)));
    parallel(starts.len(), |batch| {
        let start = starts[batch] as usize;
        let (shift, scale) = (shift.row_mut(batch), scale.row_mut(batch));
        statistics(&series.rows_at(start..start + n_step), source.normalisation, shift, scale);
        for step in 0..n_step {
            let to = x.row_mut(batch * n_step + step).iter_mut().zip(series.row(start + step));
            to.zip(shift.iter().zip(&*scale)).for_each(|((to, value), (shift, scale))| *to = (value - shift) / scale);
        }
        for step in 0..source.horizon {
            let following = series.row(start + n_step + step);
            let to = y.row_mut(batch * source.horizon + step).iter_mut().zip(targets.row(0));
            for (to, &target) in to {
                let feature = target as usize;
                *to = (following[feature] - shift[feature]) / scale[feature];
            }
        }
    });
}

/// What each column of a window is shifted and scaled by; a column's sums are those of the reference, term by term.
fn statistics(window: &Rows, normalisation: Normalisation, shift: &mut [f32], scale: &mut [f32]) {
    let last = window.row(window.rows - 1);
    let count = window.rows as f32;
    shift.fill(0.0);
    scale.fill(0.0);
    match normalisation {
        Normalisation::None => scale.fill(1.0),
        Normalisation::Last => {
            for step in 1..window.rows {
                let pairs = window.row(step).iter().zip(window.row(step - 1));
                scale.iter_mut().zip(pairs).for_each(|(sum, (value, before))| *sum += (value - before) * (value - before));
            }
            shift.copy_from_slice(last);
            for (scale, shift) in scale.iter_mut().zip(&*shift) {
                *scale = guarded((*scale / (count - 1.0).max(1.0)).sqrt(), *shift);
            }
        }
        Normalisation::MeanStd => {
            for step in 0..window.rows {
                let differences = window.row(step).iter().zip(last);
                shift.iter_mut().zip(differences).for_each(|(sum, (value, last))| *sum += value - last);
            }
            shift.iter_mut().for_each(|sum| *sum /= count);
            for step in 0..window.rows {
                for ((sum, offset), (value, last)) in scale.iter_mut().zip(&*shift).zip(window.row(step).iter().zip(last)) {
                    let difference = value - last - offset;
                    *sum += difference * difference;
                }
            }
            for ((scale, shift), last) in scale.iter_mut().zip(shift).zip(last) {
                *shift += last;
                *scale = guarded((*scale / count).sqrt(), *shift);
            }
        }
    }
}

/// Values times a factor of their target's scale.
pub fn rescale(op: &Rescale, memory: &mut Memory<f32>) {
    let [x, targets, scale, y] = [op.x, op.window.targets, op.window.scale, op.y].map(|tensor| Rows::of(memory, tensor));
    let (targets, n_level) = (targets.row(0), x.columns / targets.columns);
    let horizon = x.rows / scale.rows.max(1);
    each_block(y.rows, y.columns, |rows, columns| {
        for row in rows {
            let scale = scale.row(row / horizon);
            let to = y.part_mut(row, columns.clone()).iter_mut().zip(x.part(row, columns.clone()));
            for ((to, value), column) in to.zip(columns.clone()) {
                *to = value * op.rescaling.factor(scale[targets[column / n_level] as usize]);
            }
        }
    });
}

/// Predictions on the scale of the series, at their items of `out`.
pub fn restore(op: &Restore, memory: &mut Memory<f32>) {
    let [n_item, horizon] = [0, 1].map(|axis| memory.spec(op.out).shape[axis]);
    let [prediction, counter, out] = [op.prediction, op.counter, op.out].map(|tensor| Rows::of(memory, tensor));
    let [targets, shift, scale] = [op.window.targets, op.window.shift, op.window.scale].map(|tensor| Rows::of(memory, tensor));
    let (targets, n_level, n_batch) = (targets.row(0), out.columns / targets.columns, shift.rows);
    let first = (counter.row(0)[0] as usize).saturating_mul(n_batch).min(n_item);
    parallel(n_batch.min(n_item - first), |batch| {
        let (shift, scale) = (shift.row(batch), scale.row(batch));
        for step in 0..horizon {
            let to = out.row_mut((first + batch) * horizon + step);
            let first = (batch * horizon + step) * out.columns;
            for (column, to) in to.iter_mut().enumerate() {
                let (row, at) = ((first + column) / prediction.columns, (first + column) % prediction.columns);
                let feature = targets[column / n_level] as usize;
                *to = prediction.row(row)[at] * scale[feature] + shift[feature];
            }
        }
    });
}
