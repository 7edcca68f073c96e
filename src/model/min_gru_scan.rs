//! `min-gru-scan`: minGRU, whose gates see only the input (Feng et al. 2024, arXiv 2410.01201, appendix B).

use super::{Sequence, fan_in};
use crate::error::Result;
use crate::graph::{Graph, Init, Tensor};
use crate::ops::Recurrence;

/// One layer's parameters.
#[derive(Clone, Debug)]
pub struct MinGruScan {
    /// `(2 hidden, input)`: `W_z`, `W_h`.
    pub weight: Tensor,
    /// `(2 hidden)`: `b_z`, `b_h`.
    pub bias: Tensor,
    n_hidden: usize,
}

impl MinGruScan {
    /// Declares the parameters under `prefix` (`layers.0.`).
    pub fn new(graph: &mut Graph, prefix: &str, n_input: usize, n_hidden: usize) -> Self {
        let mut stack = |letter: &str, shape: &[usize], init| {
            let names = ["z", "h"].map(|gate| format!("{prefix}{letter}_{gate}"));
            graph.stacked_parameter(&[(&names[0], shape, init), (&names[1], shape, init)])
        };
        MinGruScan {
            weight: stack("W", &[n_hidden, n_input], fan_in(n_input)),
            bias: stack("b", &[n_hidden], Init::Constant(0.0)),
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
        let p = graph.linear(&format!("{label}p"), x, self.weight, Some(self.bias))?;
        let (y, last) = graph.min_gru_scan(&format!("{label}h"), p, recurrence)?;
        Ok(Sequence { y, last_states: vec![last] })
    }
}
