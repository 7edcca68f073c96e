//! `min-gru`: the lab's gated cell, recurrent through its whole state (Cho et al. 2014, arXiv 1406.1078).

use super::{Sequence, fan_in};
use crate::error::Result;
use crate::graph::{Graph, Tensor};
use crate::ops::Recurrence;

/// One layer's parameters.
#[derive(Clone, Debug)]
pub struct MinGru {
    /// `(3 hidden, input)`: `W_z`, `W_r`, `W_h`.
    pub input_weight: Tensor,
    /// `(3 hidden, hidden)`: `U_z`, `U_r`, `U_h`.
    pub recurrent_weight: Tensor,
    /// `(3 hidden)`: `b_z`, `b_r`, `b_h`.
    pub bias: Tensor,
    n_hidden: usize,
}

impl MinGru {
    /// Declares the parameters under `prefix` (`layers.0.`).
    pub fn new(graph: &mut Graph, prefix: &str, n_input: usize, n_hidden: usize) -> Self {
        let mut stack = |letter: &str, shape: &[usize]| {
            let names = ["z", "r", "h"].map(|gate| format!("{prefix}{letter}_{gate}"));
            let init = if letter == "b" { crate::graph::Init::Constant(0.0) } else { fan_in(shape[1]) };
            graph.stacked_parameter(&[(&names[0], shape, init), (&names[1], shape, init), (&names[2], shape, init)])
        };
        MinGru {
            input_weight: stack("W", &[n_hidden, n_input]),
            recurrent_weight: stack("U", &[n_hidden, n_hidden]),
            bias: stack("b", &[n_hidden]),
            n_hidden,
        }
    }

    /// Shape of the state that goes in and comes out, for a batch.
    pub fn state_shapes(&self, n_batch: usize) -> Vec<Vec<usize>> {
        vec![vec![n_batch, self.n_hidden]]
    }

    /// Runs over `x (batch, step, input)`.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] where `x` does not fit the parameters.
    pub fn forward(&self, graph: &mut Graph, label: &str, x: Tensor, recurrence: &Recurrence) -> Result<Sequence> {
        let p = graph.linear(&format!("{label}p"), x, self.input_weight, Some(self.bias))?;
        let (y, last) = graph.min_gru(&format!("{label}h"), p, self.recurrent_weight, recurrence)?;
        Ok(Sequence { y, last_states: vec![last] })
    }
}
