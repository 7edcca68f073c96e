//! `mamba-lab`: the lab's simplified state space model, a fixed diagonal decay with a gated, clipped read-out.

use super::{Sequence, fan_in};
use crate::error::Result;
use crate::graph::{Graph, Init, Tensor};
use crate::ops::Recurrence;

/// One layer's parameters.
#[derive(Clone, Debug)]
pub struct MambaLab {
    /// `W_in (hidden, input)`.
    pub input_weight: Tensor,
    /// `A (state)`: logarithms of the decays.
    pub a: Tensor,
    /// `B (hidden, state)`.
    pub b: Tensor,
    /// `C (hidden, state)`.
    pub c: Tensor,
    /// `D (hidden)`.
    pub d: Tensor,
    n_state: usize,
}

impl MambaLab {
    /// Declares the parameters under `prefix` (`layers.0.`).
    pub fn new(graph: &mut Graph, prefix: &str, n_input: usize, n_hidden: usize, n_state: usize) -> Self {
        let mut parameter = |name: &str, shape: &[usize], init| graph.parameter(&format!("{prefix}{name}"), shape, init);
        MambaLab {
            input_weight: parameter("W_in", &[n_hidden, n_input], fan_in(n_input)),
            a: parameter("A", &[n_state], Init::Range { low: -2.0, high: -0.05 }),
            b: parameter("B", &[n_hidden, n_state], fan_in(n_hidden)),
            c: parameter("C", &[n_hidden, n_state], fan_in(n_state)),
            d: parameter("D", &[n_hidden], Init::Constant(1.0)),
            n_state,
        }
    }

    /// Shape of the state that goes in and comes out, for a batch.
    pub fn state_shapes(&self, n_batch: usize) -> Vec<Vec<usize>> {
        vec![vec![n_batch, self.n_state]]
    }

    /// Runs over `x (batch, step, input)`.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] where `x` does not fit the parameters.
    pub fn forward(&self, graph: &mut Graph, label: &str, x: Tensor, recurrence: &Recurrence) -> Result<Sequence> {
        let p = graph.linear(&format!("{label}p"), x, self.input_weight, None)?;
        let (y, last) = graph.mamba_lab(&format!("{label}y"), p, self.a, self.b, self.c, self.d, recurrence)?;
        Ok(Sequence { y, last_states: vec![last] })
    }
}
