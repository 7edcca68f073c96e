//! A key-value cache that grows: see `reference/attention.rs`.

use super::{KeyValueCache, SHADER, rows_bound};
use crate::error::{Error, Result};
use crate::gpu::{Kernel, Planner};
use crate::graph::{Gradients, Graph, Tensor};
use crate::ops::{Elementwise, Operation, Sequences, Stretch, present};

const APPEND: &str = "attention_append";

/// Appends the keys and values of some steps to a cache that has a length.
#[derive(Clone, Debug)]
pub struct AttentionAppend {
    /// `(batch, step, channel)`, rows may lie apart.
    pub k: Tensor,
    /// As `k`.
    pub v: Tensor,
    /// The cache before.
    pub past: KeyValueCache,
    /// The cache after: the same tensors where it grows in place.
    pub last: KeyValueCache,
    /// `(batch, step)` indices, as in [`AttentionInputs`](super::AttentionInputs): where a sequence begins, the cache begins anew.
    pub reset: Option<Tensor>,
}

/// Gradients of [`AttentionAppend`] with respect to keys, or to values.
#[derive(Clone, Debug)]
pub struct AttentionAppendBackward {
    /// `(batch)`: rows of the cache before.
    pub length: Tensor,
    /// As in the forward operation.
    pub reset: Option<Tensor>,
    /// `(batch, capacity, channel)`: of the cache after.
    pub grad_last: Tensor,
    /// `(batch, step, channel)`.
    pub grad_new: Option<Tensor>,
    /// `(batch, capacity, channel)`: of the cache before.
    pub grad_past: Option<Tensor>,
    /// Steps appended.
    pub n_step: usize,
}

impl Graph {
    /// Appends the keys and values `(batch, step, channel)` of steps that attention has seen to the cache that it read, and returns the
    /// cache after them. Rows beyond the capacity are dropped: the caller counts them.
    ///
    /// # Errors
    /// [`Error::Shape`] where the shapes do not fit, [`Error::Unsupported`] where the cache has no length.
    pub fn append_keys(&mut self, label: &str, k: Tensor, v: Tensor, past: &KeyValueCache, reset: Option<Tensor>) -> Result<KeyValueCache> {
        let mut like = |part: &str, tensor: Tensor| {
            let shape = self.shape(tensor).to_vec();
            self.tensor(&format!("{label}.{part}"), &shape)
        };
        let last = KeyValueCache {
            k: like("last_k", past.k),
            v: like("last_v", past.v),
            length: past.length.map(|length| like("last_length", length)),
        };
        self.push_append(AttentionAppend { k, v, past: *past, last, reset })?;
        Ok(last)
    }

    /// [`Graph::append_keys`] in place: the cache itself grows, through which no gradient flows.
    ///
    /// # Errors
    /// As [`Graph::append_keys`].
    pub fn append_keys_in_place(&mut self, k: Tensor, v: Tensor, cache: &KeyValueCache, reset: Option<Tensor>) -> Result<()> {
        self.push_append(AttentionAppend { k, v, past: *cache, last: *cache, reset })
    }

    fn push_append(&mut self, op: AttentionAppend) -> Result<()> {
        let [n_batch, n_step, n_channel] = self.axes(APPEND, op.k)?;
        self.expect(APPEND, op.v, &[n_batch, n_step, n_channel])?;
        op.past.check(self, n_batch, n_channel)?;
        if op.past.length.is_none() {
            return Err(Error::Unsupported { operation: APPEND, what: message!("the cache has no length") });
        }
        if let Some(reset) = op.reset {
            self.expect(APPEND, reset, &[n_batch, n_step])?;
        }
        self.push(op);
        Ok(())
    }
}

impl AttentionAppend {
    /// Whether the cache itself grows.
    pub fn is_in_place(&self) -> bool {
        self.past.k == self.last.k
    }

    /// The copies that come before the new rows are written, where the cache does not grow in place.
    pub(crate) fn copies(&self) -> Vec<Elementwise> {
        let pairs = [Some((self.past.k, self.last.k)), Some((self.past.v, self.last.v)), self.past.length.zip(self.last.length)];
        let copies = pairs.into_iter().flatten().map(|(x, y)| Elementwise::Copy { x, y });
        copies.filter(|_| !self.is_in_place()).collect()
    }
}

impl Operation for AttentionAppend {
    fn name(&self) -> &'static str {
        APPEND
    }

    fn inputs(&self) -> Vec<Tensor> {
        let cache = [Some(self.past.k), Some(self.past.v), self.past.length];
        [self.k, self.v].into_iter().chain(present(cache)).chain(self.reset).collect()
    }

    fn outputs(&self) -> Vec<Tensor> {
        present([Some(self.last.k), Some(self.last.v), self.last.length])
    }

    fn backward(&self, graph: &mut Graph, gradients: &mut Gradients) -> Result<()> {
        let Some(length) = self.past.length.filter(|_| !self.is_in_place()) else {
            return Err(Error::Unsupported { operation: APPEND, what: message!("has no gradient where the cache grows in place") });
        };
        for (new, past, last) in [(self.k, self.past.k, self.last.k), (self.v, self.past.v, self.last.v)] {
            let Some(grad_last) = gradients.of(graph, last) else { continue };
            let op = AttentionAppendBackward {
                length,
                reset: self.reset,
                grad_last,
                grad_new: gradients.target(graph, new),
                grad_past: gradients.target(graph, past),
                n_step: graph.shape(new)[1],
            };
            graph.push(op);
        }
        Ok(())
    }

    fn encode(&self, plan: &mut Planner) -> Result<()> {
        for copy in self.copies() {
            copy.encode(plan)?;
        }
        let [n_batch, n_step] = [0, 1].map(|axis| plan.spec(self.k).shape[axis]);
        let windows = Sequences::windows(plan, n_batch, &[self.k, self.v, self.last.k, self.last.v], |_| 0);
        let shape = &plan.spec(self.last.k).shape;
        let (n_past, n_channel) = (shape[1], shape[2]);
        for window in windows {
            for (new, cache) in [(self.k, self.last.k), (self.v, self.last.v)] {
                for (steps, rows) in pairs(plan, window, (n_step, &[new]), (n_past, &[cache])) {
                    append_kernel(plan, "append", cache, self.last.length, self.reset, n_step, window)?
                        .bind("k", steps.part(new))
                        .bind("cache", rows.part(cache))
                        .param("first_query", steps.first_step)
                        .param("n_query", steps.n_step)
                        .param("first_past", rows.first_step)
                        .param("n_bound_past", rows.n_step)
                        .lanes(window.count * steps.n_step * n_channel)?;
                }
            }
            append_kernel(plan, "grow", self.last.k, self.last.length, self.reset, n_step, window)?.lanes(window.count)?;
        }
        Ok(())
    }
}

impl Operation for AttentionAppendBackward {
    fn name(&self) -> &'static str {
        "attention_append_backward"
    }

    fn inputs(&self) -> Vec<Tensor> {
        [self.grad_last, self.length].into_iter().chain(self.reset).collect()
    }

    fn outputs(&self) -> Vec<Tensor> {
        present([self.grad_new, self.grad_past])
    }

    fn encode(&self, plan: &mut Planner) -> Result<()> {
        if let Some(grad_past) = self.grad_past {
            Elementwise::Copy { x: self.grad_last, y: grad_past }.encode(plan)?;
        }
        let shape = &plan.spec(self.grad_last).shape;
        let (n_batch, n_past, n_channel) = (shape[0], shape[1], shape[2]);
        let tensors = present([Some(self.grad_last), self.grad_new, self.grad_past]);
        let (new, cache) = (present([self.grad_new]), present([Some(self.grad_last), self.grad_past]));
        for window in Sequences::windows(plan, n_batch, &tensors, |_| 0) {
            // in order: a step's gradient is 0 until the rows come that hold it
            for (steps, rows) in pairs(plan, window, (self.n_step, &new), (n_past, &cache)) {
                append_kernel(plan, "append_backward", self.grad_last, Some(self.length), self.reset, self.n_step, window)?
                    .bind("grad_last", rows.part(self.grad_last))
                    .bind_optional("grad_new", self.grad_new.map(|tensor| steps.part(tensor)))
                    .bind_optional("grad_past", self.grad_past.map(|tensor| rows.part(tensor)))
                    .param("first_query", steps.first_step)
                    .param("n_query", steps.n_step)
                    .param("first_past", rows.first_step)
                    .param("n_bound_past", rows.n_step)
                    .lanes(window.count * steps.n_step * n_channel)?;
            }
        }
        Ok(())
    }
}

/// Starts a dispatch over the new rows of some of a batch's caches. An invocation looks for the last border among all steps.
///
/// # Errors
/// As [`Planner::check_loop`], where there may be borders.
fn append_kernel<'p, 'a>(
    plan: &'p mut Planner<'a>,
    entry: &'static str,
    cache: Tensor,
    length: Option<Tensor>,
    reset: Option<Tensor>,
    n_step: usize,
    window: Sequences,
) -> Result<Kernel<'p, 'a>> {
    if reset.is_some() {
        plan.check_loop(APPEND, n_step)?;
    }
    let shape = &plan.spec(cache).shape;
    let part = |tensor: Tensor| window.part(tensor);
    let kernel = plan
        .kernel(&SHADER, entry)
        .constant("HAS_PAST", true)
        .bind_optional("length", length.map(part))
        .bind_optional("length_out", length.map(part))
        .bind_optional("reset", reset.map(part))
        .param("n_batch", window.count)
        .param("n_step", n_step)
        .param("n_past", shape[1])
        .param("n_channel", shape[2])
        .param("end_back", n_step);
    Ok(kernel)
}

/// Every range of the steps' rows with every range of a cache's.
fn pairs(
    plan: &Planner,
    window: Sequences,
    (n_step, new): (usize, &[Tensor]),
    (n_past, cache): (usize, &[Tensor]),
) -> Vec<(Stretch, Stretch)> {
    let caches = rows_bound(plan, window, n_past, cache, 1);
    let steps = rows_bound(plan, window, n_step, new, 1);
    steps.into_iter().flat_map(|steps| caches.iter().map(move |rows| (steps, *rows))).collect()
}
