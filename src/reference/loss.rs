//! Losses: a mean over batch and outputs of a function of the error `e = prediction - target`.
//!
//! | loss | of one error | derivative |
//! |---|---|---|
//! | squared | `e²` | `2 e` |
//! | absolute | `\|e\|` | `sign(e)`, 0 at 0 |
//! | Huber (1964), as PyTorch's `HuberLoss` | `e² / 2` where `\|e\| <= delta`, else `delta (\|e\| - delta / 2)` | `clamp(e, -delta, delta)` |
//! | quantile `q` (Koenker and Bassett 1978) | `max(-q e, (1 - q) e)` | `-q` below, `1 - q` above, 0 at 0 |

use ndarray::{Array1, Array2, ArrayView2};

use super::Float;
use super::session::index;
use crate::graph::Tensor;
use crate::memory::Memory;
use crate::ops::{Loss, MeanLoss, MeanLossBackward};

impl Loss {
    /// The loss of one error.
    #[inline(always)]
    pub fn of_error<T: Float>(&self, error: T, level: usize) -> T {
        match self {
            Loss::Mse => error * error,
            Loss::Mae => error.abs(),
            Loss::Huber { delta } => {
                let (delta, half) = (T::from_f64(f64::from(*delta)), T::from_f64(0.5));
                if error.abs() <= delta { half * error * error } else { delta * (error.abs() - half * delta) }
            }
            Loss::Quantile { levels } => {
                let q = T::from_f64(f64::from(levels[level]));
                (-q * error).max((T::one() - q) * error)
            }
        }
    }

    /// Its derivative.
    #[inline(always)]
    pub fn derivative<T: Float>(&self, error: T, level: usize) -> T {
        let sign = if error == T::zero() { T::zero() } else { error.signum() };
        match self {
            Loss::Mse => error + error,
            Loss::Mae => sign,
            Loss::Huber { delta } => {
                let delta = T::from_f64(f64::from(*delta));
                num_traits::clamp(error, -delta, delta)
            }
            Loss::Quantile { levels } => {
                let q = T::from_f64(f64::from(levels[level]));
                sign * if error < T::zero() { q } else { T::one() - q }
            }
        }
    }
}

/// The loss, given `prediction`, `(rows, outputs * levels)`, and `target`, `(rows, outputs)`; levels is 1 unless quantiles are asked for.
pub fn forward<T: Float>(loss: &Loss, prediction: ArrayView2<T>, target: ArrayView2<T>) -> T {
    let n_level = loss.columns_per_output();
    let sum: T =
        prediction.indexed_iter().map(|((row, column), &p)| loss.of_error(p - target[[row, column / n_level]], column % n_level)).sum();
    sum / T::from_f64(prediction.len() as f64)
}

/// The loss, given `prediction`, `(outputs * levels)`, and `target`, `(outputs)`, the levels of an output beside each other.
pub fn mean(loss: &Loss, prediction: &[f64], target: &[f64]) -> f64 {
    let rows =
        |values: &[f64], n_column| Array2::from_shape_fn((target.len(), n_column), |(output, column)| values[output * n_column + column]);
    let (prediction, target) = (rows(prediction, loss.columns_per_output()), rows(target, 1));
    forward(loss, prediction.view(), target.view())
}

/// The gradient of the prediction, `(rows, outputs * levels)`, of the same arguments.
pub fn backward<T: Float>(loss: &Loss, prediction: ArrayView2<T>, target: ArrayView2<T>) -> Array2<T> {
    let n_level = loss.columns_per_output();
    let count = T::from_f64(prediction.len() as f64);
    Array2::from_shape_fn(prediction.dim(), |(row, column)| {
        loss.derivative(prediction[[row, column]] - target[[row, column / n_level]], column % n_level) / count
    })
}

pub(super) fn run<T: Float>(op: &MeanLoss, memory: &mut Memory<T>) {
    let (prediction, target) = columns(&op.loss, memory, op.prediction, op.target);
    let value = forward(&op.loss, prediction.view(), target.view());
    let at = index(memory, op.counter, 0);
    if let Some(loss) = memory.view_mut(op.losses).iter_mut().nth(at) {
        *loss = value;
    }
}

pub(super) fn run_backward<T: Float>(op: &MeanLossBackward, memory: &mut Memory<T>) {
    let (prediction, target) = columns(&op.loss, memory, op.prediction, op.target);
    memory.store(op.grad_prediction, &backward(&op.loss, prediction.view(), target.view()));
}

/// `(outputs, levels)` and `(outputs, 1)`, an output a row.
fn columns<T: Float>(loss: &Loss, memory: &Memory<T>, prediction: Tensor, target: Tensor) -> (Array2<T>, Array2<T>) {
    let rows = |tensor, n_column| {
        let values = Array1::from_iter(memory.view(tensor).iter().copied());
        let n_row = values.len() / n_column;
        values.into_shape_with_order((n_row, n_column)).expect("the operation has checked how many elements there are")
    };
    (rows(prediction, loss.columns_per_output()), rows(target, 1))
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn values_by_hand() {
        let prediction = array![[1.0, -2.0], [0.5, 3.0]];
        let target = array![[0.0, 0.0], [0.5, 0.0]];
        let value = |loss| forward::<f64>(&loss, prediction.view(), target.view());
        assert_eq!(value(Loss::Mse), 14.0 / 4.0);
        assert_eq!(value(Loss::Mae), 6.0 / 4.0);
        assert_eq!(value(Loss::Huber { delta: 1.0 }), (0.5 + 1.5 + 2.5) / 4.0);
        assert_eq!(value(Loss::Quantile { levels: vec![0.25] }), (0.75 + 0.5 + 2.25) / 4.0);
    }

    #[test]
    fn levels_of_an_output_lie_beside_each_other() {
        let prediction = array![[1.0, 2.0, 3.0, 4.0]];
        let target = array![[1.0, 5.0]];
        let loss = Loss::Quantile { levels: vec![0.25, 0.75] };
        assert_eq!(forward::<f64>(&loss, prediction.view(), target.view()), (0.0 + 0.25 + 0.5 + 0.75) / 4.0);
        assert_eq!(backward::<f64>(&loss, prediction.view(), target.view()) * 4.0, array![[0.0, 0.25, -0.25, -0.75]]);
    }
}
