//! The formulas of every operation, forward and backward: the oracle that the CPU and GPU halves are held against.
//!
//! Written to be read, never tuned, and generic over `f32` and `f64`. Shapes are documented and not checked: a wrong one panics, so the
//! callers check theirs first. `forward` computes the outputs; `backward` takes the same inputs and the gradient of a scalar with respect
//! to each output, recomputes what it needs, and returns the gradient with respect to each input.
#![allow(clippy::needless_pass_by_value, reason = "a view is a reference, which this lint does not see")]

pub mod activation;
pub mod attention;
pub mod causal_conv1d;
pub mod counter;
pub mod dropout;
pub mod elementwise;
pub mod grad_norm;
pub mod iterate;
pub mod linear;
pub mod loss;
pub mod mamba_lab;
pub mod min_gru;
pub mod min_gru_scan;
pub mod optimizer;
pub mod rms_norm;
pub mod selective_scan;
mod session;
pub mod stack;
pub mod window;

pub use session::Reference;

use std::fmt::{Debug, Display};
use std::iter::Sum;

use ndarray::{ArrayView2, LinalgScalar, ScalarOperand};
use num_traits::NumAssign;

/// The scalars that the reference computes in: `f32` and `f64`.
pub trait Float: num_traits::Float + NumAssign + LinalgScalar + ScalarOperand + Sum + Default + Debug + Display + Send + Sync {
    /// The nearest value of this type.
    fn from_f64(value: f64) -> Self;
    /// This value as `f64`, exactly.
    fn as_f64(self) -> f64;
}

impl Float for f32 {
    fn from_f64(value: f64) -> Self {
        value as f32
    }
    fn as_f64(self) -> f64 {
        f64::from(self)
    }
}

impl Float for f64 {
    fn from_f64(value: f64) -> Self {
        value
    }
    fn as_f64(self) -> f64 {
        self
    }
}

/// How a recurrence walks over the steps of a batch: in which direction, and where it forgets.
///
/// The positions of a run count from 0 in the order in which the steps are visited; the step at a position follows from the direction.
#[derive(Clone, Copy, Debug, Default)]
pub struct Run<'a> {
    /// Run from the last step to the first. Outputs stay at their own steps.
    pub reverse: bool,
    /// `(batch, step)`: true where a new sequence begins, in time order, whatever the direction. No state and no convolution window
    /// passes the border between that step and the one before it, so that sequences of unequal length share a row. An initial state is
    /// ignored by a forward run whose step 0 begins a sequence; a state that leaves the row is never cut.
    pub reset: Option<ArrayView2<'a, bool>>,
}

impl Run<'_> {
    /// The step visited at `position` of `n_step`.
    pub fn step(&self, position: usize, n_step: usize) -> usize {
        if self.reverse { n_step - 1 - position } else { position }
    }

    /// Whether a border lies between `position` and the one visited before it.
    pub fn begins(&self, batch: usize, position: usize, n_step: usize) -> bool {
        let Some(reset) = self.reset else { return false };
        if self.reverse { position > 0 && reset[[batch, n_step - position]] } else { reset[[batch, position]] }
    }
}
