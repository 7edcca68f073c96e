//! Losses: blocks of outputs.

use std::ops::Range;

use super::rows::Rows;
use super::threads::parallel;
use crate::graph::Graph;
use crate::memory::Memory;
use crate::ops::{MeanLoss, MeanLossBackward};

/// Outputs of a block.
const BLOCK: usize = 1 << 13;

/// Floats of scratch memory.
pub fn scratch(op: &MeanLoss, graph: &Graph) -> usize {
    graph.spec(op.target).len().div_ceil(BLOCK)
}

/// The mean, where the counter says.
pub fn forward(op: &MeanLoss, memory: &mut Memory<f32>, mut free: Rows) {
    let [prediction, target, counter, losses] = [op.prediction, op.target, op.counter, op.losses].map(|tensor| Rows::of(memory, tensor));
    let errors = Errors { n_level: op.loss.columns_per_output(), prediction, target };
    let sums = Rows::scratch(&mut free, errors.n_output().div_ceil(BLOCK), 1);
    parallel(sums.rows, |task| {
        let mut sum = 0.0;
        errors.of_block(task, |_, error, level| sum += op.loss.of_error(error, level));
        sums.row_mut(task)[0] = sum;
    });
    let sum: f32 = (0..sums.rows).map(|task| sums.row(task)[0]).sum();
    if let Some(loss) = losses.row_mut(0).get_mut(counter.row(0)[0] as usize) {
        *loss = sum / errors.n_element() as f32;
    }
}

/// The gradient of the prediction.
pub fn backward(op: &MeanLossBackward, memory: &mut Memory<f32>) {
    let [prediction, target, gradient] = [op.prediction, op.target, op.grad_prediction].map(|tensor| Rows::of(memory, tensor));
    let errors = Errors { n_level: op.loss.columns_per_output(), prediction, target };
    let count = errors.n_element() as f32;
    parallel(errors.n_output().div_ceil(BLOCK), |task| {
        errors.of_block(task, |(row, column), error, level| {
            gradient.part_mut(row, column..column + 1)[0] = op.loss.derivative(error, level) / count;
        });
    });
}

/// Differences of predictions, `(.., output * level)`, and targets, `(.., output)`, which may be cut into rows differently.
#[derive(Clone, Copy)]
struct Errors {
    n_level: usize,
    prediction: Rows,
    target: Rows,
}

impl Errors {
    fn n_output(&self) -> usize {
        self.target.rows * self.target.columns
    }

    fn n_element(&self) -> usize {
        self.n_output() * self.n_level
    }

    /// Calls `f` with row and column in the prediction, difference and level, of every element of a block of outputs.
    #[inline(always)]
    fn of_block(&self, block: usize, mut f: impl FnMut((usize, usize), f32, usize)) {
        let Errors { n_level, prediction, target } = *self;
        let Range { start: mut output, end } = block * BLOCK..((block + 1) * BLOCK).min(self.n_output());
        while output < end {
            // As far as both rows reach.
            let (row, column) = (output * n_level / prediction.columns, output * n_level % prediction.columns);
            let (target_row, target_column) = (output / target.columns, output % target.columns);
            let count = (end - output).min((prediction.columns - column) / n_level).min(target.columns - target_column);
            let predictions = prediction.part(row, column..column + count * n_level).chunks_exact(n_level);
            let targets = target.part(target_row, target_column..target_column + count);
            for (index, (predictions, target)) in predictions.zip(targets).enumerate() {
                for (level, prediction) in predictions.iter().enumerate() {
                    f((row, column + index * n_level + level), prediction - target, level);
                }
            }
            output += count;
        }
    }
}
