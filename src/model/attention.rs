//! The attention layers of `hybrid`.

use super::{Sequence, fan_in};
use crate::error::{Error, Result};
use crate::graph::{Graph, Tensor};
use crate::ops::{AttentionInputs, KeyValueCache, Recurrence};

/// Causal multi-head attention between two linear layers: `out_proj(attention(in_proj(x)))`.
#[derive(Clone, Debug)]
pub struct CausalAttention {
    /// `(3 d_model, d_model)`: queries, keys, values.
    pub in_proj: Tensor,
    /// `(d_model, d_model)`.
    pub out_proj: Tensor,
    d_model: usize,
    n_head: usize,
    capacity: usize,
}

impl CausalAttention {
    /// Declares the parameters under `prefix` (`layers.1.mixer.`); `n_head` divides `d_model`, and states hold `capacity` steps.
    pub fn new(graph: &mut Graph, prefix: &str, d_model: usize, n_head: usize, capacity: usize) -> Self {
        let mut parameter = |name: &str, shape: &[usize], init| graph.parameter(&format!("{prefix}{name}"), shape, init);
        CausalAttention {
            in_proj: parameter("in_proj.weight", &[3 * d_model, d_model], fan_in(d_model)),
            out_proj: parameter("out_proj.weight", &[d_model, d_model], fan_in(d_model)),
            d_model,
            n_head,
            capacity,
        }
    }

    /// Shapes of the states that go in and come out, for a batch: past keys, past values, and how many there are.
    pub fn state_shapes(&self, n_batch: usize) -> Vec<Vec<usize>> {
        let rows = vec![n_batch, self.capacity, self.d_model];
        vec![rows.clone(), rows, vec![n_batch]]
    }

    /// Runs over `x (batch, step, d_model)`. `states` are those of [`CausalAttention::state_shapes`]; where they are absent, none come out. Where
    /// they may be overwritten, `in_place`, no gradient flows through them.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] where `x` does not fit the parameters, [`crate::Error::Option`] where the steps alone overflow the cache,
    /// [`crate::Error::Unsupported`] in reverse.
    pub fn forward(
        &self,
        graph: &mut Graph,
        label: &str,
        x: Tensor,
        states: Option<&[Tensor]>,
        recurrence: &Recurrence,
        in_place: bool,
    ) -> Result<Sequence> {
        let [_, n_step, _] = graph.axes("attention", x)?;
        let name = |tensor: &str| format!("{label}{tensor}");
        if recurrence.reverse {
            return Err(Error::Unsupported { operation: "attention", what: message!("is causal: it does not run in reverse") });
        }
        let past = states.map(|states| KeyValueCache { k: states[0], v: states[1], length: Some(states[2]) });
        if past.is_some() && n_step > self.capacity {
            return Err(Error::option("--cache", self.capacity, message!("must be at least {}, the steps that it has to hold", n_step)));
        }
        let qkv = graph.linear(&name("qkv"), x, self.in_proj, None)?;
        let [q, k, v] =
            [("q", 0), ("k", 1), ("v", 2)].map(|(tensor, index)| graph.columns(qkv, &name(tensor), index * self.d_model, self.d_model));
        let inputs = AttentionInputs { q, k, v, n_head: self.n_head, past, reset: recurrence.reset };
        let (y, _) = graph.attention(&name("y"), &inputs)?;
        let last = match past {
            Some(past) if in_place => graph.append_keys_in_place(k, v, &past, recurrence.reset).map(|()| Some(past))?,
            Some(past) => Some(graph.append_keys(&name("cache"), k, v, &past, recurrence.reset)?),
            None => None,
        };
        let y = graph.linear(&name("out"), y, self.out_proj, None)?;
        let last_states = last.map_or(Vec::new(), |last| [Some(last.k), Some(last.v), last.length].into_iter().flatten().collect());
        Ok(Sequence { y, last_states })
    }
}
