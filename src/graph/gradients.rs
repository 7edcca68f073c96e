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
    /// Views of the root whose gradient has been written. No two share an element.
    written: Vec<Tensor>,
    /// Views of the root to whose gradient something has been added.
    added: Vec<Tensor>,
    filled: bool,
}

impl RootGradient {
    /// Whether an element of the view has a gradient already.
    fn meets(&self, graph: &Graph, view: Tensor) -> bool {
        self.written.iter().chain(&self.added).any(|&other| overlap(graph, other, view))
    }
}

impl Gradients {
    /// The gradient of a tensor, where any was written.
    pub fn of(&self, graph: &mut Graph, tensor: Tensor) -> Option<Tensor> {
        let root = self.roots.get(&graph.spec(tensor).root)?;
        root.meets(graph, tensor).then(|| mirror(graph, root.tensor, tensor))
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
            self.roots.insert(root, RootGradient { tensor: gradient, written: vec![input], added: Vec::new(), filled: false });
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
            self.roots.insert(root, RootGradient { tensor, written: Vec::new(), added: Vec::new(), filled: !whole });
        }
        let gradient = &self.roots[&root];
        let (tensor, is_free) = (gradient.tensor, !gradient.meets(graph, input));
        let place = mirror(graph, tensor, input);
        if let Some(gradient) = self.roots.get_mut(&root) {
            if is_free { &mut gradient.written } else { &mut gradient.added }.push(input);
        }
        if is_free {
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

    /// A gradient whose parts were all written needs no zeros first: what is added to a part before it is written keeps it from being so.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Backend;
    use crate::reference::Reference;

    /// Every order in which a tensor is read whole, by its first columns and by its last ones, here of 4 columns.
    #[test]
    fn parts_and_the_whole_may_be_read_in_any_order() {
        let views = [(0, 4), (0, 2), (2, 2), (1, 2)];
        for code in 0..views.len().pow(3) {
            let reads: Vec<(usize, usize)> = (0..3).map(|place| views[code / views.len().pow(place) % views.len()]).collect();
            let mut graph = Graph::new();
            let x = graph.variable("x", &[2, 4]);
            let h = graph.neg_exp("h", x);
            let mut seeds = Vec::new();
            for &(start, len) in &reads {
                let view = graph.columns(h, "view", start, len);
                let y = graph.neg_exp("y", view);
                seeds.push((y, graph.input("seed", &[2, len])));
            }
            let gradients = graph.backward(&seeds).expect("shapes fit");
            let grad_x = gradients.of(&mut graph, x).expect("a gradient");
            let program = graph.finish("all");
            let backend = Reference::<f64>::new();
            let got = pollster::block_on(async {
                let mut session = backend.load(&graph).await?;
                for (tensor, spec) in graph.computed() {
                    session.write(tensor, &vec![f32::NAN; spec.len()])?;
                }
                session.write(x, &[0.0; 8])?;
                for &(_, seed) in &seeds {
                    session.write(seed, &vec![1.0; graph.spec(seed).len()])?;
                }
                session.run(program, 1)?;
                session.read(grad_x).await
            });
            // h = -1 and y = -exp(-1) everywhere
            let of_one = (-1f64).exp();
            let n_reader = |column: usize| reads.iter().filter(|(start, len)| (*start..start + len).contains(&column)).count();
            for (column, got) in got.expect("the reference runs").into_iter().enumerate() {
                let want = n_reader(column % 4) as f64 * of_one;
                assert!((f64::from(got) - want).abs() < 1e-6, "{reads:?}, column {}: {got}, not {want}", column % 4);
            }
        }
    }
}
