//! minGRU, whose gates see only the input, as a scan: see `reference/min_gru_scan.rs`.

use super::{Operation, Recurrence, present};
use crate::error::{Error, Result};
use crate::gpu::{Constant, Kernel, MOST_ITERATIONS, Operand, Planner, Shader};
use crate::graph::{Gradients, Graph, Tensor};

const NAME: &str = "min_gru_scan";

pub(crate) const SHADER: Shader = Shader {
    name: NAME,
    source: include_str!("../../shaders/min_gru_scan.wgsl"),
    shared: &[include_str!("../../shaders/shared/activation.wgsl"), include_str!("../../shaders/shared/recurrence.wgsl")],
    constants: &[
        ("HAS_H0", Constant::Bool(false)),
        ("HAS_RESET", Constant::Bool(false)),
        ("HAS_GRAD_H", Constant::Bool(false)),
        ("HAS_GRAD_LAST", Constant::Bool(false)),
        ("HAS_GRAD_P", Constant::Bool(false)),
        ("HAS_GRAD_H0", Constant::Bool(false)),
    ],
};

/// `h = (1 - z) h' + z v`, with `z = sigmoid(p_z)`, `v = g(p_h)` and `h'` the state before.
#[derive(Clone, Debug)]
pub struct MinGruScan {
    /// `(batch, step, 2 hidden)`: `[z | h]`, rows may lie apart.
    pub p: Tensor,
    /// Initial state `(batch, hidden)`, reset mask `(batch, step)`, direction.
    pub recurrence: Recurrence,
    /// `(batch, step, hidden)`.
    pub h: Tensor,
    /// `(batch, hidden)`: the state after the step that is visited last.
    pub last: Tensor,
}

/// Gradients of [`MinGruScan`].
#[derive(Clone, Debug)]
pub struct MinGruScanBackward {
    /// The forward operation.
    pub forward: MinGruScan,
    /// `(batch, step, hidden)`.
    pub grad_h: Option<Tensor>,
    /// `(batch, hidden)`.
    pub grad_last: Option<Tensor>,
    /// `(batch, step, 2 hidden)`.
    pub grad_p: Option<Tensor>,
    /// `(batch, hidden)`.
    pub grad_h0: Option<Tensor>,
}

impl Graph {
    /// minGRU over `p (batch, step, 2 hidden)`, the pre-activations `W x + b` stacked as `[z | h]`. Returns `h (batch, step, hidden)`
    /// and the last state `(batch, hidden)`.
    ///
    /// # Errors
    /// [`Error::Shape`] where the shapes do not fit.
    pub fn min_gru_scan(&mut self, label: &str, p: Tensor, recurrence: &Recurrence) -> Result<(Tensor, Tensor)> {
        let [n_batch, n_step, two_hidden] = self.axes(NAME, p)?;
        if two_hidden % 2 != 0 {
            return Err(Error::shape(NAME, &self.spec(p).label, "an even number of columns", self.shape(p)));
        }
        let n_hidden = two_hidden / 2;
        recurrence.check(self, NAME, n_batch, n_step, &[n_batch, n_hidden])?;
        let h = self.tensor(label, &[n_batch, n_step, n_hidden]);
        let last = self.tensor(&format!("{label}.last"), &[n_batch, n_hidden]);
        self.push(MinGruScan { p, recurrence: *recurrence, h, last });
        Ok((h, last))
    }
}

impl Operation for MinGruScan {
    fn name(&self) -> &'static str {
        NAME
    }

    fn inputs(&self) -> Vec<Tensor> {
        present([Some(self.p), self.recurrence.initial_state, self.recurrence.reset])
    }

    fn outputs(&self) -> Vec<Tensor> {
        vec![self.h, self.last]
    }

    fn backward(&self, graph: &mut Graph, gradients: &mut Gradients) -> Result<()> {
        let (grad_h, grad_last) = (gradients.of(graph, self.h), gradients.of(graph, self.last));
        if grad_h.is_none() && grad_last.is_none() {
            return Ok(());
        }
        let grad_p = gradients.target(graph, self.p);
        let grad_h0 = gradients.optional_target(graph, self.recurrence.initial_state);
        graph.push(MinGruScanBackward { forward: self.clone(), grad_h, grad_last, grad_p, grad_h0 });
        Ok(())
    }

    fn flops(&self, graph: &Graph) -> usize {
        // sigmoid(p_z), its complement, g(p_h), two products and a sum
        12 * graph.spec(self.h).len()
    }

    fn encode(&self, plan: &mut Planner) -> Result<()> {
        let whole = Layout::new(plan, self);
        for layout in whole.windows(plan, &[self.p, self.h]) {
            let part = |tensor: Tensor| layout.part(tensor, whole.n_batch);
            let h0 = self.recurrence.initial_state.map(part);
            if layout.n_chunk == 1 {
                let kernel = layout.kernel(plan, "forward", self, whole.n_batch).flops(layout.flops(12)).bind_optional("h0", h0);
                kernel.bind("h", part(self.h)).bind("last", part(self.last)).lanes(layout.lanes())?;
                continue;
            }
            let chunks = plan.scratch(2 * layout.lanes());
            layout.kernel(plan, "summarize_forward", self, whole.n_batch).bind("chunks", chunks).lanes(layout.lanes())?;
            layout
                .kernel(plan, "carry_forward", self, whole.n_batch)
                .bind("chunks", chunks)
                .bind_optional("h0", h0)
                .lanes(layout.n_batch * layout.n_hidden)?;
            let kernel = layout.kernel(plan, "forward_chunk", self, whole.n_batch).flops(layout.flops(12)).bind("chunks", chunks);
            kernel.bind("h", part(self.h)).bind("last", part(self.last)).lanes(layout.lanes())?;
        }
        Ok(())
    }
}

impl Operation for MinGruScanBackward {
    fn name(&self) -> &'static str {
        "min_gru_scan_backward"
    }

    fn inputs(&self) -> Vec<Tensor> {
        let MinGruScan { p, recurrence, h, .. } = self.forward;
        present([Some(p), recurrence.initial_state, recurrence.reset, Some(h), self.grad_h, self.grad_last])
    }

    fn outputs(&self) -> Vec<Tensor> {
        present([self.grad_p, self.grad_h0])
    }

    fn flops(&self, graph: &Graph) -> usize {
        20 * graph.spec(self.forward.h).len()
    }

    fn encode(&self, plan: &mut Planner) -> Result<()> {
        let op = &self.forward;
        let whole = Layout::new(plan, op);
        for layout in whole.windows(plan, &present([Some(op.p), Some(op.h), self.grad_h, self.grad_p])) {
            let part = |tensor: Tensor| layout.part(tensor, whole.n_batch);
            let (grad_h, grad_last) = (self.grad_h.map(part), self.grad_last.map(part));
            let chunks = plan.scratch(2 * layout.lanes());
            if layout.n_chunk > 1 {
                let kernel = layout.kernel(plan, "summarize_backward", op, whole.n_batch).bind_optional("grad_h", grad_h);
                kernel.bind("chunks", chunks).lanes(layout.lanes())?;
                let kernel = layout.kernel(plan, "carry_backward", op, whole.n_batch).bind_optional("grad_last", grad_last);
                kernel.bind("chunks", chunks).lanes(layout.n_batch * layout.n_hidden)?;
            }
            layout
                .kernel(plan, if layout.n_chunk > 1 { "backward_chunk" } else { "backward" }, op, whole.n_batch)
                .flops(layout.flops(20))
                .bind("chunks", chunks)
                .bind_optional("h0", op.recurrence.initial_state.map(part))
                .bind("h", part(op.h))
                .bind_optional("grad_h", grad_h)
                .bind_optional("grad_last", grad_last)
                .bind_optional("grad_p", self.grad_p.map(part))
                .bind_optional("grad_h0", self.grad_h0.map(part))
                .lanes(layout.lanes())?;
        }
        Ok(())
    }
}

/// Invocations that fill a GPU: the `chunked` kernel cuts the run into chunks until there are as many.
const FILLING: usize = 1 << 14;

/// The fewest steps of a chunk: shorter ones spend more on carries than they gain.
const MIN_CHUNK: usize = 32;

/// How the run is cut into chunks.
#[derive(Clone, Copy)]
struct Layout {
    /// The first sequence of a window of the batch.
    first_batch: usize,
    n_batch: usize,
    n_step: usize,
    n_hidden: usize,
    chunk_steps: usize,
    n_chunk: usize,
}

impl Layout {
    fn new(plan: &Planner, op: &MinGruScan) -> Self {
        let shape = &plan.spec(op.h).shape;
        let (n_batch, n_step, n_hidden) = (shape[0], shape[1], shape[2]);
        let chunked = match plan.chosen(NAME, &[n_batch, n_step, n_hidden]) {
            Some(kernel) => kernel == "chunked",
            None => !plan.traits().software && n_batch * n_hidden < FILLING,
        };
        let wanted_chunks = FILLING.div_ceil((n_batch * n_hidden).max(1));
        let chunk_steps = if chunked { n_step.div_ceil(wanted_chunks).max(MIN_CHUNK) } else { n_step };
        let chunk_steps = chunk_steps.clamp(1, MOST_ITERATIONS);
        Layout { first_batch: 0, n_batch, n_step, n_hidden, chunk_steps, n_chunk: n_step.div_ceil(chunk_steps).max(1) }
    }

    /// Windows of sequences for which tensors can be bound.
    fn windows(self, plan: &Planner, tensors: &[Tensor]) -> impl Iterator<Item = Layout> + use<> {
        plan.windows(self.n_batch, tensors).into_iter().map(move |(first_batch, n_batch)| Layout { first_batch, n_batch, ..self })
    }

    /// The window's sequences of a tensor.
    fn part(&self, tensor: Tensor, n_batch: usize) -> Operand {
        Operand::Part { tensor, first: self.first_batch, count: self.n_batch, of: n_batch }
    }

    /// Floating-point operations of the window, so many for a state.
    fn flops(&self, of_state: usize) -> usize {
        of_state * self.n_batch * self.n_step * self.n_hidden
    }

    /// Invocations that have one chunk of one channel each.
    fn lanes(&self) -> usize {
        self.n_batch * self.n_chunk * self.n_hidden
    }

    /// Starts a dispatch with everything set that is the same for all of them.
    fn kernel<'p, 'a>(&self, plan: &'p mut Planner<'a>, entry: &'static str, op: &MinGruScan, n_batch: usize) -> Kernel<'p, 'a> {
        plan.kernel(&SHADER, entry)
            .bind("p", self.part(op.p, n_batch))
            .bind_optional("reset", op.recurrence.reset.map(|reset| self.part(reset, n_batch)))
            .param("n_batch", self.n_batch)
            .param("n_step", self.n_step)
            .param("n_hidden", self.n_hidden)
            .param("reverse", op.recurrence.reverse)
            .param("chunk_steps", self.chunk_steps)
            .param("n_chunk", self.n_chunk)
    }
}
