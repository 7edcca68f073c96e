//! The lab's simplified state space model over the products of its inputs: see `reference/mamba_lab.rs`.

use super::{COLUMNS, Linear, LinearBackward, Operation, QUAD, Recurrence, SINGLE, Sequences, present, width};
use crate::error::Result;
use crate::gpu::{Constant, Kernel, LANES, Planner, Shader};
use crate::graph::{Gradients, Graph, Tensor};

pub(crate) const SHADER: Shader = variant(&[SINGLE, ACTIVATION, RECURRENCE, SUM_COLUMN]);

const QUAD_SHADER: Shader = variant(&[QUAD, ACTIVATION, RECURRENCE, SUM_COLUMN]);

const ACTIVATION: &str = include_str!("../../shaders/shared/activation.wgsl");
const RECURRENCE: &str = include_str!("../../shaders/shared/recurrence.wgsl");
const SUM_COLUMN: &str = include_str!("../../shaders/shared/sum_column.wgsl");

const fn variant(shared: &'static [&'static str]) -> Shader {
    Shader {
        name: "mamba_lab",
        source: include_str!("../../shaders/mamba_lab.wgsl"),
        shared,
        constants: &[
            ("WIDTH", Constant::U32(1)),
            ("HAS_INITIAL", Constant::Bool(false)),
            ("HAS_RESET", Constant::Bool(false)),
            ("HAS_GRAD_Y", Constant::Bool(false)),
            ("HAS_GRAD_LAST", Constant::Bool(false)),
            ("HAS_GRAD_INITIAL", Constant::Bool(false)),
        ],
    }
}

/// `g = SiLU(clip(p))`, `s = exp(A) s' + B^T g`, `u = C s + D p`, `y = g clip(u)`, with `s'` the state before.
#[derive(Clone, Debug)]
pub struct MambaLab {
    /// `(batch, step, hidden)`, rows may lie apart.
    pub p: Tensor,
    /// `(state)`.
    pub a: Tensor,
    /// `(hidden, state)`.
    pub b: Tensor,
    /// `(hidden, state)`.
    pub c: Tensor,
    /// `(hidden)`.
    pub d: Tensor,
    /// Initial state `(batch, state)`, reset mask `(batch, step)`, direction.
    pub recurrence: Recurrence,
    /// `(batch, step, hidden)`.
    pub y: Tensor,
    /// `(batch, state)`: the state after the step that is visited last.
    pub last_state: Tensor,
    /// `(batch, step, hidden)`: `g`, kept for the gradient.
    pub gate: Tensor,
    /// `(batch, step, state)`: `s`, kept for the gradient.
    pub states: Tensor,
    /// `(batch, step, hidden)`: `u` before it is clipped, kept for the gradient.
    pub read_out: Tensor,
}

/// Gradients of [`MambaLab`].
#[derive(Clone, Debug)]
pub struct MambaLabBackward {
    /// The forward operation.
    pub forward: MambaLab,
    /// `(batch, step, hidden)`.
    pub grad_y: Option<Tensor>,
    /// `(batch, state)`.
    pub grad_last_state: Option<Tensor>,
    /// `(batch, step, hidden)`.
    pub grad_p: Option<Tensor>,
    /// `(state)`.
    pub grad_a: Option<Tensor>,
    /// `(hidden, state)`.
    pub grad_b: Option<Tensor>,
    /// `(hidden, state)`.
    pub grad_c: Option<Tensor>,
    /// `(hidden)`.
    pub grad_d: Option<Tensor>,
    /// `(batch, state)`.
    pub grad_initial_state: Option<Tensor>,
    /// `(batch, step, hidden)`: gradient of `read_out`, between the kernels.
    pub grad_read_out: Tensor,
    /// `(batch, step, state)`: gradient of `states`, between the kernels.
    pub grad_states: Tensor,
    /// `(batch, step, hidden)`: gradient of `gate`, between the kernels.
    pub grad_gate: Tensor,
}

impl Graph {
    /// The lab's state space model over `p (batch, step, hidden)`, with `a (state)`, `b` and `c (hidden, state)`, `d (hidden)`.
    /// Returns `y (batch, step, hidden)` and the last state `(batch, state)`.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] where the shapes do not fit.
    pub fn mamba_lab(
        &mut self,
        label: &str,
        p: Tensor,
        a: Tensor,
        b: Tensor,
        c: Tensor,
        d: Tensor,
        recurrence: &Recurrence,
    ) -> Result<(Tensor, Tensor)> {
        let [n_batch, n_step, n_hidden] = self.axes("mamba_lab", p)?;
        let [n_state] = self.axes("mamba_lab", a)?;
        self.expect("mamba_lab", b, &[n_hidden, n_state])?;
        self.expect("mamba_lab", c, &[n_hidden, n_state])?;
        self.expect("mamba_lab", d, &[n_hidden])?;
        recurrence.check(self, "mamba_lab", n_batch, n_step, &[n_batch, n_state])?;
        let y = self.tensor(label, &[n_batch, n_step, n_hidden]);
        let last_state = self.tensor(&format!("{label}.last_state"), &[n_batch, n_state]);
        let gate = self.tensor(&format!("{label}.gate"), &[n_batch, n_step, n_hidden]);
        let states = self.tensor(&format!("{label}.states"), &[n_batch, n_step, n_state]);
        let read_out = self.tensor(&format!("{label}.read_out"), &[n_batch, n_step, n_hidden]);
        self.push(MambaLab { p, a, b, c, d, recurrence: *recurrence, y, last_state, gate, states, read_out });
        Ok((y, last_state))
    }
}

impl MambaLab {
    /// Windows of the batch for which the sequences, and those of gradients, can be bound.
    fn windows(&self, plan: &Planner, gradients: &[Tensor]) -> Vec<Sequences> {
        let tensors = [&[self.p, self.gate, self.states], gradients].concat();
        Sequences::windows(plan, plan.spec(self.last_state).rows(), &tensors, |_| 0)
    }

    /// Elements of a row that an invocation takes.
    fn width(&self, plan: &Planner, gradients: &[Tensor]) -> usize {
        let tensors = [self.p, self.a, self.d, self.gate, self.states, self.read_out, self.y, self.last_state];
        width(plan, &[&tensors, &present([self.recurrence.initial_state])[..], gradients].concat())
    }

    /// A dispatch over the forward tensors of a window of the batch, with every size set.
    fn kernel<'p, 'a>(&self, plan: &'p mut Planner<'a>, entry: &'static str, window: Sequences, width: usize) -> Kernel<'p, 'a> {
        let n_state = plan.spec(self.last_state).columns();
        let n_step = plan.spec(self.y).rows() / window.of;
        let n_hidden = plan.spec(self.y).columns();
        let part = |tensor: Tensor| window.part(tensor);
        plan.kernel(if width == 1 { &SHADER } else { &QUAD_SHADER }, entry)
            .constant("WIDTH", width)
            .bind("p", part(self.p))
            .bind("a", self.a)
            .bind("d", self.d)
            .bind_optional("initial", self.recurrence.initial_state.map(part))
            .bind_optional("reset", self.recurrence.reset.map(part))
            .bind("gate", part(self.gate))
            .bind("states", part(self.states))
            .bind("raw", part(self.read_out))
            .bind("y", part(self.y))
            .bind("last", part(self.last_state))
            .param("n_batch", window.count)
            .param("n_step", n_step)
            .param("n_hidden", n_hidden / width)
            .param("n_state", n_state / width)
            .param("accumulate", window.first > 0)
            .param("reverse", self.recurrence.reverse)
    }
}

/// `y = x W` for `x (.., hidden)`, `weight (hidden, state)`, `y (.., state)`.
fn product(x: Tensor, weight: Tensor, y: Tensor) -> LinearBackward {
    LinearBackward { x: y, weight, grad_y: x, grad_x: Some(y), grad_weight: None, grad_bias: None }
}

/// `y = x W^T` for `x (.., state)`, `weight (hidden, state)`, `y (.., hidden)`.
fn transposed_product(x: Tensor, weight: Tensor, y: Tensor) -> Linear {
    Linear { x, weight, bias: None, y }
}

impl Operation for MambaLab {
    fn name(&self) -> &'static str {
        "mamba_lab"
    }

    fn inputs(&self) -> Vec<Tensor> {
        let given = [Some(self.p), Some(self.a), Some(self.b), Some(self.c), Some(self.d)];
        [present(given), present([self.recurrence.initial_state, self.recurrence.reset])].concat()
    }

    fn outputs(&self) -> Vec<Tensor> {
        vec![self.y, self.last_state, self.gate, self.states, self.read_out]
    }

    fn backward(&self, graph: &mut Graph, gradients: &mut Gradients) -> Result<()> {
        let (grad_y, grad_last_state) = (gradients.of(graph, self.y), gradients.of(graph, self.last_state));
        if grad_y.is_none() && grad_last_state.is_none() {
            return Ok(());
        }
        let mut between = |tensor: Tensor| {
            let (label, shape) = (format!("grad_{}", graph.spec(tensor).label), graph.shape(tensor).to_vec());
            graph.tensor(&label, &shape)
        };
        let (grad_read_out, grad_states, grad_gate) = (between(self.read_out), between(self.states), between(self.gate));
        let op = MambaLabBackward {
            grad_p: gradients.target(graph, self.p),
            grad_a: gradients.target(graph, self.a),
            grad_b: gradients.target(graph, self.b),
            grad_c: gradients.target(graph, self.c),
            grad_d: gradients.target(graph, self.d),
            grad_initial_state: gradients.optional_target(graph, self.recurrence.initial_state),
            forward: self.clone(),
            grad_y,
            grad_last_state,
            grad_read_out,
            grad_states,
            grad_gate,
        };
        graph.push(op);
        Ok(())
    }

    fn flops(&self, graph: &Graph) -> usize {
        // the products with B and C, the gate and the read-out
        4 * graph.spec(self.y).rows() * graph.spec(self.b).len() + 12 * graph.spec(self.y).len()
    }

    fn encode(&self, plan: &mut Planner) -> Result<()> {
        let (hidden, sequences) = (plan.spec(self.y).len(), plan.spec(self.last_state).len());
        plan.check_loop("mamba_lab", plan.spec(self.y).rows() / plan.spec(self.last_state).rows())?;
        let (windows, width) = (self.windows(plan, &[]), self.width(plan, &[]));
        let each = |plan: &mut Planner, entry, elements| {
            windows.iter().try_for_each(|window| self.kernel(plan, entry, *window, width).lanes(window.share(elements) / width))
        };
        each(plan, "gates", hidden)?;
        product(self.gate, self.b, self.states).encode(plan)?;
        each(plan, "scan", sequences)?;
        transposed_product(self.states, self.c, self.read_out).encode(plan)?;
        each(plan, "read_out", hidden)
    }
}

impl Operation for MambaLabBackward {
    fn name(&self) -> &'static str {
        "mamba_lab_backward"
    }

    fn inputs(&self) -> Vec<Tensor> {
        let MambaLab { gate, states, read_out, .. } = self.forward;
        [self.forward.inputs(), vec![gate, states, read_out], present([self.grad_y, self.grad_last_state])].concat()
    }

    fn outputs(&self) -> Vec<Tensor> {
        let gradients = [self.grad_p, self.grad_a, self.grad_b, self.grad_c, self.grad_d, self.grad_initial_state];
        [present(gradients), vec![self.grad_read_out, self.grad_states, self.grad_gate]].concat()
    }

    fn flops(&self, graph: &Graph) -> usize {
        8 * graph.spec(self.forward.y).rows() * graph.spec(self.forward.b).len() + 20 * graph.spec(self.forward.y).len()
    }

    fn encode(&self, plan: &mut Planner) -> Result<()> {
        let forward = &self.forward;
        let (hidden, sequences) = (plan.spec(forward.y).len(), plan.spec(forward.last_state).len());
        let windows = forward.windows(plan, &present([self.grad_y, self.grad_p]));
        let gradients = [self.grad_y, self.grad_last_state, self.grad_p, self.grad_a, self.grad_d, self.grad_initial_state];
        let width = forward.width(plan, &present(gradients));
        let kernel = |plan: &mut Planner, entry: &'static str, window: Sequences, groups: usize| {
            let part = |tensor: Tensor| window.part(tensor);
            forward
                .kernel(plan, entry, window, width)
                .bind_optional("grad_y", self.grad_y.map(part))
                .bind_optional("grad_last", self.grad_last_state.map(part))
                .bind("grad_read", part(self.grad_read_out))
                .bind("grad_states", part(self.grad_states))
                .bind("grad_gate", part(self.grad_gate))
                .bind_optional("grad_initial", self.grad_initial_state.map(part))
                .bind_optional("grad_p", self.grad_p.map(part))
                .bind_optional("grad_a", self.grad_a)
                .bind_optional("grad_d", self.grad_d)
                .groups(groups)
        };
        let each = |plan: &mut Planner, entry, elements| {
            windows.iter().try_for_each(|window| kernel(plan, entry, *window, window.share(elements).div_ceil(LANES * width)))
        };
        each(plan, "backward_read_out", hidden)?;
        product(self.grad_read_out, forward.c, self.grad_states).encode(plan)?;
        each(plan, "backward_scan", sequences)?;
        if self.grad_p.is_some() {
            transposed_product(self.grad_states, forward.b, self.grad_gate).encode(plan)?;
            each(plan, "backward_input", hidden)?;
        }
        for (entry, target) in [("backward_decay", self.grad_a), ("backward_skip", self.grad_d)] {
            let Some(target) = target else { continue };
            let groups = plan.spec(target).len().div_ceil(COLUMNS * width);
            windows.iter().try_for_each(|window| kernel(plan, entry, *window, groups))?;
        }
        for (x, weight, grad_y, grad_weight) in
            [(self.grad_states, forward.b, forward.gate, self.grad_b), (forward.states, forward.c, self.grad_read_out, self.grad_c)]
        {
            LinearBackward { x, weight, grad_y, grad_x: None, grad_weight, grad_bias: None }.encode(plan)?;
        }
        Ok(())
    }
}
