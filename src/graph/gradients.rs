//! Reverse-mode differentiation.

use std::collections::HashMap;

use super::{Graph, Tensor, TensorSpec};
use crate::error::Result;
use crate::ops::{Elementwise, Op, Operation};

impl Graph {
    /// Appends the backward pass of the program under construction.
    ///
    /// `seeds` pairs outputs with the gradients that come from outside (same shapes); a loss seeds itself. Every parameter's gradient is
    /// written: zero where nothing depends on it.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) where a seed has not its output's shape, and whatever an operation's own backward rule refuses.
    pub fn backward(&mut self, seeds: &[(Tensor, Tensor)]) -> Result<Gradients> {
        seeds.iter().try_for_each(|&(output, seed)| self.expect("backward", seed, self.shape(output)))?;
        let tape = self.ops.clone();
        let mut gradients = Gradients::default();
        for tensor in tape.iter().flat_map(Operation::inputs).chain(seeds.iter().map(|(output, _)| *output)) {
            *gradients.readers.entry(self.spec(tensor).root).or_default() += 1;
        }
        for &(output, cotangent) in seeds {
            gradients.pass_on_always(self, cotangent, output);
            gradients.flush(self);
        }
        for op in tape.iter().rev() {
            let reached = op.outputs().iter().any(|&output| gradients.of(self, output).is_some());
            if reached || op.is_loss() {
                op.backward(self, &mut gradients)?;
                gradients.flush(self);
            }
        }
        let mut unreached: Vec<_> = self.parameter_gradients.iter().filter(|(root, _)| !gradients.roots.contains_key(*root)).collect();
        unreached.sort();
        let unreached: Vec<_> = unreached.into_iter().map(|(_, gradient)| *gradient).collect();
        for y in unreached {
            self.push(Elementwise::Fill { y, value: 0.0 });
        }
        gradients.drop_needless_fills(self);
        Ok(gradients)
    }
}

/// The gradients that a backward pass writes, by tensor.
#[derive(Debug, Default)]
pub struct Gradients {
    roots: HashMap<Tensor, RootGradient>,
    /// How many gradients meet at a root: one for each operation that reads it, and each seed.
    readers: HashMap<Tensor, usize>,
    pending: Vec<(Tensor, Tensor)>,
}

#[derive(Debug)]
struct RootGradient {
    tensor: Tensor,
    /// Views of the root whose gradient has been written.
    written: Vec<Tensor>,
    filled: bool,
}

impl Gradients {
    /// The gradient of a tensor, where any was written.
    pub fn of(&self, graph: &mut Graph, tensor: Tensor) -> Option<Tensor> {
        let root = self.roots.get(&graph.spec(tensor).root)?;
        let reached = root.written.iter().any(|&written| overlap(graph, written, tensor));
        reached.then(|| mirror(graph, root.tensor, tensor))
    }

    /// Where an operation writes the gradient of its input (never adds to it); nowhere if no gradient flows there.
    ///
    /// An input that has several consumers gets a fresh tensor for each further one, which is added afterwards.
    pub fn target(&mut self, graph: &mut Graph, input: Tensor) -> Option<Tensor> {
        graph.requires_grad(input).then(|| self.target_always(graph, input))
    }

    /// [`Gradients::target`] for an input that may be absent.
    pub fn optional_target(&mut self, graph: &mut Graph, input: Option<Tensor>) -> Option<Tensor> {
        input.and_then(|input| self.target(graph, input))
    }

    /// Passes an output's gradient on to an input unchanged, as for a term of a sum; without a copy if the input has no other.
    pub fn pass_on(&mut self, graph: &mut Graph, gradient: Tensor, input: Tensor) {
        if graph.requires_grad(input) {
            self.pass_on_always(graph, gradient, input);
        }
    }

    fn pass_on_always(&mut self, graph: &mut Graph, gradient: Tensor, input: Tensor) {
        let root = graph.spec(input).root;
        let (of, spec) = (graph.spec(gradient), graph.spec(root));
        let is_alone = self.readers.get(&root) == Some(&1) && !graph.parameter_gradients.contains_key(&root);
        if is_alone && of.shape == spec.shape && of.is_contiguous() && graph.spec(input).len() == spec.len() {
            self.roots.insert(root, RootGradient { tensor: gradient, written: vec![input], filled: false });
        } else {
            let y = self.target_always(graph, input);
            graph.push(Elementwise::Copy { x: gradient, y });
        }
    }

    #[allow(clippy::map_entry, reason = "the entry's value is made by the graph, which the map is kept for")]
    fn target_always(&mut self, graph: &mut Graph, input: Tensor) -> Tensor {
        let root = graph.spec(input).root;
        if !self.roots.contains_key(&root) {
            let spec = graph.spec(root);
            let (label, shape, whole) = (format!("grad_{}", spec.label), spec.shape.clone(), graph.spec(input).len() == spec.len());
            let tensor = match graph.parameter_gradients.get(&root) {
                Some(&gradient) => gradient,
                None => graph.tensor(&label, &shape),
            };
            if !whole {
                graph.push(Elementwise::Fill { y: tensor, value: 0.0 });
            }
            self.roots.insert(root, RootGradient { tensor, written: Vec::new(), filled: !whole });
        }
        let tensor = self.roots[&root].tensor;
        let place = mirror(graph, tensor, input);
        let free = !self.roots[&root].written.iter().any(|&written| overlap(graph, written, input));
        if free {
            if let Some(entry) = self.roots.get_mut(&root) {
                entry.written.push(input);
            }
            return place;
        }
        let spec = graph.spec(place);
        let (label, shape) = (format!("{}'", spec.label), spec.shape.clone());
        let term = graph.tensor(&label, &shape);
        self.pending.push((place, term));
        term
    }

    fn flush(&mut self, graph: &mut Graph) {
        for (sum, term) in self.pending.drain(..) {
            graph.push(Elementwise::Add { x: term, y: sum });
        }
    }

    /// A gradient whose parts were all written needs no zeros first.
    fn drop_needless_fills(&self, graph: &mut Graph) {
        let whole: Vec<Tensor> = self
            .roots
            .values()
            .filter(|root| {
                root.filled && root.written.iter().map(|&part| graph.spec(part).len()).sum::<usize>() == graph.spec(root.tensor).len()
            })
            .map(|root| root.tensor)
            .collect();
        graph.ops.retain(|op| !matches!(op, Op::Elementwise(Elementwise::Fill { y, .. }) if whole.contains(y)));
    }
}

/// The view of `root` (a gradient) that lies as `like` lies in its own root.
fn mirror(graph: &mut Graph, root: Tensor, like: Tensor) -> Tensor {
    let spec = graph.spec(like).clone();
    if spec.root == like {
        return root;
    }
    let offset = spec.offset - graph.spec(spec.root).offset;
    graph.view(root, &format!("grad_{}", spec.label), &spec.shape, offset, Some(spec.row_stride))
}

/// Whether two views of one root share an element. Views with one row stride are compared as rectangles, others by their spans.
fn overlap(graph: &Graph, a: Tensor, b: Tensor) -> bool {
    let (a, b) = (graph.spec(a), graph.spec(b));
    let meet = |a: (usize, usize), b: (usize, usize)| a.0 < b.0 + b.1 && b.0 < a.0 + a.1;
    let spans_meet = meet((a.offset, a.span()), (b.offset, b.span()));
    if a.row_stride == b.row_stride && !a.is_contiguous() && !b.is_contiguous() {
        let start = graph.spec(a.root).offset;
        let column = |spec: &TensorSpec| ((spec.offset - start) % spec.row_stride, spec.columns());
        return spans_meet && meet(column(a), column(b));
    }
    spans_meet
}
