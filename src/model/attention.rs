//! The attention layers of `hybrid`: causal multi-head attention in a block with RMSNorm and residual.

use super::mamba::NORM_EPS;
use super::{Sequence, fan_in};
use crate::error::Result;
use crate::graph::{Graph, Init, Tensor};
use crate::ops::AttentionInputs;

/// A block: `x + out_proj(attention(in_proj(rms_norm(x))))`.
#[derive(Clone, Debug)]
pub struct AttentionBlock {
    /// `(d_model)`.
    pub norm: Tensor,
    /// `(3 d_model, d_model)`: queries, keys, values.
    pub in_proj: Tensor,
    /// `(d_model, d_model)`.
    pub out_proj: Tensor,
    d_model: usize,
    n_head: usize,
}

impl AttentionBlock {
    /// Declares the parameters under `prefix` (`layers.1.`); `n_head` divides `d_model`.
    pub fn new(graph: &mut Graph, prefix: &str, d_model: usize, n_head: usize) -> Self {
        let mut parameter = |name: &str, shape: &[usize], init| graph.parameter(&format!("{prefix}{name}"), shape, init);
        AttentionBlock {
            norm: parameter("norm.weight", &[d_model], Init::Constant(1.0)),
            in_proj: parameter("mixer.in_proj.weight", &[3 * d_model, d_model], fan_in(d_model)),
            out_proj: parameter("mixer.out_proj.weight", &[d_model, d_model], fan_in(d_model)),
            d_model,
            n_head,
        }
    }

    /// Runs over `x (batch, step, d_model)`; `reset` is that of [`AttentionInputs`].
    ///
    /// # Errors
    /// [`crate::Error::Shape`] where `x` does not fit the parameters.
    pub fn forward(&self, graph: &mut Graph, label: &str, x: Tensor, reset: Option<Tensor>) -> Result<Sequence> {
        let name = |tensor: &str| format!("{label}{tensor}");
        let normed = graph.rms_norm(&name("normed"), x, self.norm, NORM_EPS)?;
        let qkv = graph.linear(&name("qkv"), normed, self.in_proj, None)?;
        let [q, k, v] = [("q", 0), ("k", 1), ("v", 2)]
            .map(|(tensor, index)| graph.columns(qkv, &name(tensor), index * self.d_model, self.d_model));
        let (y, _) = graph.attention(&name("y"), &AttentionInputs { q, k, v, n_head: self.n_head, past: None, reset })?;
        let y = graph.linear(&name("out"), y, self.out_proj, None)?;
        Ok(Sequence { y: graph.sum(&name("residual"), x, y)?, last_states: Vec::new() })
    }
}
