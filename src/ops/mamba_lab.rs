//! The lab's simplified state space model over the products of its inputs: see `reference/mamba_lab.rs`.

use super::{COLUMNS, Linear, LinearBackward, Operation, QUAD, Recurrence, SINGLE, SPREAD, Stretch, present, rows_fit, width};
use crate::error::Result;
use crate::gpu::{Constant, Kernel, LANES, MOST_ITERATIONS, Operand, Planner, Shader};
use crate::graph::{Gradients, Graph, Tensor};

const SHADER: Shader = variant(&[SINGLE, ACTIVATION, RECURRENCE, SUM_COLUMN, SPREAD]);

const QUAD_SHADER: Shader = variant(&[QUAD, ACTIVATION, RECURRENCE, SUM_COLUMN, SPREAD]);

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
            ("STRIP", Constant::U32(4)),
            ("COLUMNS", Constant::U32(COLUMNS as u32)),
            ("SPREAD", Constant::Bool(false)),
            ("HAS_INITIAL_STATE", Constant::Bool(false)),
            ("HAS_RESET", Constant::Bool(false)),
            ("HAS_GRAD_Y", Constant::Bool(false)),
            ("HAS_GRAD_LAST_STATE", Constant::Bool(false)),
            ("HAS_GRAD_INITIAL_STATE", Constant::Bool(false)),
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

/// Rows of a channel that an invocation takes: more on a software adapter, which pays for each of them in any case.
fn strip(plan: &Planner) -> usize {
    if plan.traits().software { 16 } else { 4 }
}

impl MambaLab {
    /// As many sequences, or positions of one, as can be bound of tensors `(batch, step, ..)`, and as one invocation takes.
    fn stretches(&self, plan: &Planner, gradients: &[Tensor]) -> Vec<Stretch> {
        let (n_batch, n_step) = (plan.spec(self.last_state).rows(), plan.spec(self.y).shape[1]);
        let tensors = [&[self.p, self.gate, self.states], gradients].concat();
        let fits = |n_batch: usize, n_step: usize| {
            // a row more, of the state before
            let is_bound = rows_fit(plan, &tensors, n_batch * n_step + 1);
            is_bound && n_step <= MOST_ITERATIONS && n_batch * n_step <= MOST_ITERATIONS * COLUMNS
        };
        Stretch::all(n_batch, n_step, self.recurrence.reverse, LANES, fits)
    }

    /// Scratch memory for the states that stretches of one sequence hand on, by turns.
    fn handed_on(&self, plan: &mut Planner) -> [Operand; 2] {
        let len = plan.spec(self.last_state).columns();
        [(); 2].map(|()| plan.scratch(len))
    }

    /// Elements of a row that an invocation takes.
    fn width(&self, plan: &Planner, gradients: &[Tensor]) -> usize {
        let tensors = [self.p, self.a, self.d, self.gate, self.states, self.read_out, self.y, self.last_state];
        width(plan, &[&tensors, &present([self.recurrence.initial_state])[..], gradients].concat())
    }

    /// A dispatch over the forward tensors of a stretch, with every size set.
    fn kernel<'p, 'a>(&self, plan: &'p mut Planner<'a>, entry: &'static str, stretch: &Stretch, width: usize) -> Kernel<'p, 'a> {
        let (n_hidden, n_state) = (plan.spec(self.y).columns(), plan.spec(self.last_state).columns());
        let part = |tensor: Tensor| stretch.part(tensor);
        let (strip, spread) = (strip(plan), plan.traits().software && width == 4);
        plan.kernel(if width == 1 { &SHADER } else { &QUAD_SHADER }, entry)
            .constant("WIDTH", width)
            .constant("STRIP", strip)
            .constant("SPREAD", spread)
            .bind("p", part(self.p))
            .bind("a", self.a)
            .bind("d", self.d)
            .bind_optional("reset", self.recurrence.reset.map(|reset| stretch.sequences.part(reset)))
            .bind("gate", part(self.gate))
            .bind("read_out", part(self.read_out))
            .bind("y", part(self.y))
            .param("n_batch", stretch.sequences.count)
            .param("n_step", stretch.n_whole_step)
            .param("first_position", stretch.first_position)
            .param("end_position", stretch.first_position + stretch.n_step)
            .param("first_row", stretch.first_step)
            .param("n_hidden", n_hidden / width)
            .param("n_state", n_state / width)
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

    fn exponentials(&self, graph: &Graph) -> usize {
        graph.spec(self.y).len()
    }

    fn encode(&self, plan: &mut Planner) -> Result<()> {
        let (n_hidden, n_state) = (plan.spec(self.y).columns(), plan.spec(self.last_state).columns());
        let (stretches, width) = (self.stretches(plan, &[]), self.width(plan, &[]));
        let strip = strip(plan);
        let each = |plan: &mut Planner, entry| {
            let lanes = |stretch: &Stretch| stretch.rows().div_ceil(strip) * n_hidden / width;
            stretches.iter().try_for_each(|stretch| self.kernel(plan, entry, stretch, width).lanes(lanes(stretch)))
        };
        each(plan, "gates")?;
        product(self.gate, self.b, self.states).encode(plan)?;
        let handed_on = self.handed_on(plan);
        for (index, stretch) in stretches.iter().enumerate() {
            self.kernel(plan, "scan", stretch, width)
                .bind_optional("initial_state", stretch.entering(self.recurrence.initial_state, handed_on[(index + 1) % 2]))
                .bind("states", stretch.part(self.states))
                .param("states_first_row", stretch.first_step)
                .bind_optional("last_state", stretch.leaving(Some(self.last_state), handed_on[index % 2]))
                .lanes(stretch.sequences.count * n_state / width)?;
        }
        transposed_product(self.states, self.c, self.read_out).encode(plan)?;
        each(plan, "output")
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

    fn exponentials(&self, graph: &Graph) -> usize {
        self.forward.exponentials(graph)
    }

    fn encode(&self, plan: &mut Planner) -> Result<()> {
        let forward = &self.forward;
        let (n_hidden, n_state) = (plan.spec(forward.y).columns(), plan.spec(forward.last_state).columns());
        let stretches = forward.stretches(plan, &present([self.grad_y, self.grad_p]));
        let gradients = [self.grad_y, self.grad_last_state, self.grad_p, self.grad_a, self.grad_d, self.grad_initial_state];
        let width = forward.width(plan, &present(gradients));
        let strip = strip(plan);
        for (index, stretch) in stretches.iter().enumerate() {
            let n_strip = stretch.rows().div_ceil(strip);
            let skip_sums = plan.scratch(n_strip * n_hidden);
            forward
                .kernel(plan, "backward_output", stretch, width)
                .bind_optional("grad_y", self.grad_y.map(|grad_y| stretch.part(grad_y)))
                .bind("grad_read_out", stretch.part(self.grad_read_out))
                .bind("skip_sums", skip_sums)
                .lanes(n_strip * n_hidden / width)?;
            if let Some(grad_d) = self.grad_d {
                forward
                    .kernel(plan, "backward_skip", stretch, width)
                    .bind("skip_sums", skip_sums)
                    .bind("grad_d", grad_d)
                    .param("accumulate", index > 0)
                    .groups(n_hidden.div_ceil(COLUMNS * width))?;
            }
        }
        product(self.grad_read_out, forward.c, self.grad_states).encode(plan)?;
        self.encode_scan(plan, &stretches, width)?;
        if self.grad_p.is_some() {
            transposed_product(self.grad_states, forward.b, self.grad_gate).encode(plan)?;
            for stretch in &stretches {
                forward
                    .kernel(plan, "backward_input", stretch, width)
                    .bind_optional("grad_y", self.grad_y.map(|grad_y| stretch.part(grad_y)))
                    .bind("grad_gate", stretch.part(self.grad_gate))
                    .bind_optional("grad_p", self.grad_p.map(|grad_p| stretch.part(grad_p)))
                    .lanes(stretch.rows().div_ceil(strip) * n_hidden / width)?;
            }
        }
        for (index, stretch) in stretches.iter().enumerate() {
            if let Some(grad_a) = self.grad_a {
                let before = stretch.reaching(1, 0, forward.recurrence.reverse);
                forward
                    .kernel(plan, "backward_decay", stretch, width)
                    .bind_optional("initial_state", forward.recurrence.initial_state.map(|initial| stretch.sequences.part(initial)))
                    .bind("states", before.part(forward.states))
                    .param("states_first_row", before.first_step)
                    .bind("grad_states", stretch.part(self.grad_states))
                    .bind("grad_a", grad_a)
                    .param("accumulate", index > 0)
                    .groups(n_state.div_ceil(COLUMNS * width))?;
            }
        }
        for (x, weight, grad_y, grad_weight) in
            [(self.grad_states, forward.b, forward.gate, self.grad_b), (forward.states, forward.c, self.grad_read_out, self.grad_c)]
        {
            LinearBackward { x, weight, grad_y, grad_x: None, grad_weight, grad_bias: None }.encode(plan)?;
        }
        Ok(())
    }
}

impl MambaLabBackward {
    /// The gradients of the states, from the last stretch to the first.
    fn encode_scan(&self, plan: &mut Planner, stretches: &[Stretch], width: usize) -> Result<()> {
        let n_state = plan.spec(self.forward.last_state).columns();
        let handed_on = self.forward.handed_on(plan);
        for (index, stretch) in stretches.iter().rev().enumerate() {
            self.forward
                .kernel(plan, "backward_scan", stretch, width)
                .bind_optional("grad_last_state", stretch.leaving(self.grad_last_state, handed_on[(index + 1) % 2]))
                .bind("grad_states", stretch.part(self.grad_states))
                .bind_optional("grad_initial_state", stretch.entering(self.grad_initial_state, handed_on[index % 2]))
                .lanes(stretch.sequences.count * n_state / width)?;
        }
        Ok(())
    }
}
