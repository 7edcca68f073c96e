//! The lab's gated cell over the products of its inputs, recurrent: see `reference/min_gru.rs`.

use super::panel::{self, PANEL, Packed, Panels, Source, UNIFORM_QUADS};
use super::{LinearBackward, Operation, QUAD, Recurrence, SINGLE, Stretch, TERMS, present, rows_fit, width};
use crate::error::{Error, Result};
use crate::gpu::{Constant, Kernel, MOST_ITERATIONS, Operand, Planner, Shader, UNIFORM_ARRAY_BYTES};
use crate::graph::{Gradients, Graph, Tensor};

const SHADER: Shader = variant(&[
    SINGLE,
    ACTIVATION,
    RECURRENCE,
    panel::SOURCE,
    include_str!("../../shaders/shared/min_gru_fused.wgsl"),
    include_str!("../../shaders/shared/min_gru_step.wgsl"),
    include_str!("../../shaders/shared/min_gru_panel.wgsl"),
]);

/// Takes four channels at once and hands states and gradients on by subgroup operations.
const SUBGROUP_SHADER: Shader =
    variant(&[QUAD, ACTIVATION, RECURRENCE, panel::SOURCE, TERMS, include_str!("../../shaders/shared/min_gru_subgroup.wgsl")]);

const ACTIVATION: &str = include_str!("../../shaders/shared/activation.wgsl");
const RECURRENCE: &str = include_str!("../../shaders/shared/recurrence.wgsl");

const fn variant(shared: &'static [&'static str]) -> Shader {
    Shader {
        name: "min_gru",
        source: include_str!("../../shaders/min_gru.wgsl"),
        shared,
        constants: &[
            ("PANEL", Constant::U32(PANEL as u32)),
            ("UNIFORM_QUADS", Constant::U32(UNIFORM_QUADS as u32)),
            ("VALUE_WIDTH", Constant::U32(1)),
            ("HIDDEN", Constant::U32(64)),
            ("QUADS", Constant::U32(1)),
            ("GATHERS", Constant::U32(4)),
            ("IS_TRANSPOSED", Constant::Bool(false)),
            ("WIDTH", Constant::U32(64)),
            ("HAS_INITIAL_STATE", Constant::Bool(false)),
            ("HAS_RESET", Constant::Bool(false)),
            ("HAS_GRAD_H", Constant::Bool(true)),
            ("HAS_GRAD_LAST_STATE", Constant::Bool(true)),
        ],
    }
}

/// Positions of one fused dispatch, so that it ends before a display driver's watchdog acts.
const MOST_POSITIONS: usize = 256;

/// `z = sigmoid(p_z + U_z h')`, `r = sigmoid(p_r + U_r h')`, `c = tanh(p_h + U_h (r h'))`, `h = (1 - z) h' + z c`, with `h'` the state before.
#[derive(Clone, Debug)]
pub struct MinGru {
    /// `(batch, step, 3 hidden)`: `[z | r | h]`, rows may lie apart.
    pub p: Tensor,
    /// `(3 hidden, hidden)`: `[U_z; U_r; U_h]`.
    pub u: Tensor,
    /// Initial state `(batch, hidden)`, reset mask `(batch, step)`, direction.
    pub recurrence: Recurrence,
    /// `(batch, step, hidden)`.
    pub h: Tensor,
    /// `(batch, hidden)`: the state after the step that is visited last.
    pub last_state: Tensor,
    /// `(batch, step, 3 hidden)`: `[z | r | c]`, kept for the gradient.
    pub gates: Tensor,
    /// `(batch, step, 2 hidden)`: `[h' | r h']`, what `U` is multiplied with, kept for its gradient.
    pub factors: Tensor,
}

/// Gradients of [`MinGru`].
#[derive(Clone, Debug)]
pub struct MinGruBackward {
    /// The forward operation.
    pub forward: MinGru,
    /// `(batch, step, hidden)`.
    pub grad_h: Option<Tensor>,
    /// `(batch, hidden)`.
    pub grad_last_state: Option<Tensor>,
    /// `(batch, step, 3 hidden)`.
    pub grad_p: Tensor,
    /// `(3 hidden, hidden)`.
    pub grad_u: Option<Tensor>,
    /// `(batch, hidden)`.
    pub grad_initial_state: Option<Tensor>,
    /// The products over all steps that `grad_u` consists of: of `[U_z; U_r]` with `h'`, and of `U_h` with `r h'`.
    pub products: Vec<LinearBackward>,
}

impl Graph {
    /// The gated cell over `p (batch, step, 3 hidden)`, the input's products `W x + b` stacked as `[z | r | h]`, with
    /// `u (3 hidden, hidden)`: `[U_z; U_r; U_h]`. Returns `h (batch, step, hidden)` and the last state `(batch, hidden)`.
    ///
    /// # Errors
    /// [`Error::Shape`] where the shapes do not fit.
    pub fn min_gru(&mut self, label: &str, p: Tensor, u: Tensor, recurrence: &Recurrence) -> Result<(Tensor, Tensor)> {
        let [n_batch, n_step, three_hidden] = self.axes("min_gru", p)?;
        let [_, n_hidden] = self.axes("min_gru", u)?;
        self.expect("min_gru", u, &[3 * n_hidden, n_hidden])?;
        if three_hidden != 3 * n_hidden {
            return Err(Error::shape("min_gru", &self.spec(p).label, format!("{} columns", 3 * n_hidden), self.shape(p)));
        }
        recurrence.check(self, "min_gru", n_batch, n_step, &[n_batch, n_hidden])?;
        let h = self.tensor(label, &[n_batch, n_step, n_hidden]);
        let last_state = self.tensor(&format!("{label}.last_state"), &[n_batch, n_hidden]);
        let gates = self.tensor(&format!("{label}.gates"), &[n_batch, n_step, 3 * n_hidden]);
        let factors = self.tensor(&format!("{label}.factors"), &[n_batch, n_step, 2 * n_hidden]);
        self.push(MinGru { p, u, recurrence: *recurrence, h, last_state, gates, factors });
        Ok((h, last_state))
    }
}

impl Operation for MinGru {
    fn name(&self) -> &'static str {
        "min_gru"
    }

    fn inputs(&self) -> Vec<Tensor> {
        present([Some(self.p), Some(self.u), self.recurrence.initial_state, self.recurrence.reset])
    }

    fn outputs(&self) -> Vec<Tensor> {
        vec![self.h, self.last_state, self.gates, self.factors]
    }

    fn backward(&self, graph: &mut Graph, gradients: &mut Gradients) -> Result<()> {
        let (grad_h, grad_last_state) = (gradients.of(graph, self.h), gradients.of(graph, self.last_state));
        if grad_h.is_none() && grad_last_state.is_none() {
            return Ok(());
        }
        let grad_p = match gradients.target(graph, self.p) {
            Some(grad_p) => grad_p,
            None => {
                let (label, shape) = (format!("grad_{}", graph.spec(self.p).label), graph.shape(self.p).to_vec());
                graph.tensor(&label, &shape)
            }
        };
        let grad_u = gradients.target(graph, self.u);
        let grad_initial_state = gradients.optional_target(graph, self.recurrence.initial_state);
        let products = grad_u.map_or(Vec::new(), |grad_u| self.products(graph, grad_p, grad_u));
        graph.push(MinGruBackward { forward: self.clone(), grad_h, grad_last_state, grad_p, grad_u, grad_initial_state, products });
        Ok(())
    }

    fn flops(&self, graph: &Graph) -> usize {
        // the products with U, then two sigmoids, a tanh and their sums for each state
        2 * graph.spec(self.h).rows() * graph.spec(self.u).len() + 16 * graph.spec(self.h).len()
    }

    fn exponentials(&self, graph: &Graph) -> usize {
        3 * graph.spec(self.h).len()
    }

    fn encode(&self, plan: &mut Planner) -> Result<()> {
        let [n_batch, _, n_hidden] = plan.graph().axes(self.name(), self.h)?;
        let tensors = [present([Some(self.p), Some(self.u), self.recurrence.initial_state]), self.outputs()].concat();
        let choice = Choice::new(plan, n_batch, n_hidden, 2, &tensors);
        let u_transposed = match &choice {
            Choice::Fused(layout) | Choice::Step(layout) => Some(self.transpose_weights(plan, layout, n_hidden)?),
            Choice::Panel | Choice::Subgroup(_) => None,
        };
        for stretch in self.stretches(plan, &[self.p, self.gates]) {
            let n_batch = stretch.sequences.count;
            match &choice {
                Choice::Panel => self.encode_panels(plan, &stretch, n_hidden)?,
                Choice::Subgroup(layout) => self.encode_subgroups(plan, layout, &stretch, n_hidden)?,
                Choice::Fused(layout) => {
                    for (first, count) in layout.chunks(&stretch) {
                        let kernel = self.kernel(plan, "forward", layout, &stretch, first, count)?;
                        kernel.bind_optional("u_transposed", u_transposed).groups(n_batch.div_ceil(layout.rows()))?;
                    }
                }
                Choice::Step(layout) => {
                    self.begin(plan, layout, &stretch, n_hidden)?;
                    for position in stretch.positions() {
                        for entry in ["gate_step", "state_step"] {
                            let kernel = self.kernel(plan, entry, layout, &stretch, position, 1)?;
                            kernel.bind_optional("u_transposed", u_transposed).workgroups(layout.tiles(n_batch, n_hidden))?;
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

/// How many rows of the batch and hidden channels a workgroup takes, and how many positions one dispatch.
struct Layout {
    /// Whether the workgroup is one subgroup of [`PANEL`] invocations.
    subgroups: bool,
    /// Rows of the batch, in fours.
    quads: usize,
    /// Invocations.
    width: usize,
    /// Positions.
    count: usize,
}

/// The kernels: by shape and adapter, or as forced.
enum Choice {
    Panel,
    Subgroup(Layout),
    Fused(Layout),
    Step(Layout),
}

impl Choice {
    /// `n_array` numbers an element of the state are held in workgroup memory by the fused kernel; `tensors` are all that are bound.
    fn new(plan: &Planner, n_batch: usize, n_hidden: usize, n_array: usize, tensors: &[Tensor]) -> Choice {
        let traits = plan.traits();
        let memory = n_array * n_hidden * size_of::<[f32; 4]>();
        let most = traits.max_workgroup_memory as usize / memory;
        let fits = |kernel: &str| match kernel {
            "panel" => Panels::unsliced(n_hidden, 2 * n_hidden).is_some(),
            "subgroup" => 4 * n_hidden * n_hidden <= UNIFORM_ARRAY_BYTES as usize && width(plan, tensors) == 4,
            "fused" => most > 0,
            _ => true,
        };
        let rule = if traits.software { &["subgroup", "panel", "fused", "step"][..] } else { &["fused", "step"] };
        match plan.chosen("min_gru", &[n_batch, n_hidden], rule, fits) {
            "subgroup" => return Choice::Subgroup(Layout::subgroup(n_batch, n_hidden)),
            "panel" => return Choice::Panel,
            "step" => return Choice::Step(Layout::step(n_hidden)),
            _ => {}
        }
        let quads = [4, 2, 1].into_iter().find(|&quads| quads <= most && 4 * quads <= n_batch && traits.software).unwrap_or(1);
        let iterations = |width: usize| 2 * n_hidden.div_ceil(width) * (n_hidden + 4 * quads);
        let narrowest = if traits.software { 8 } else { n_hidden.next_power_of_two().clamp(32, 256) };
        let fits = |width: &usize| *width >= narrowest && iterations(*width) <= MOST_ITERATIONS;
        let width = [8, 16, 32, 64, 128].into_iter().find(fits).unwrap_or(256);
        Choice::Fused(Layout { subgroups: false, quads, width, count: (MOST_ITERATIONS / iterations(width)).clamp(1, MOST_POSITIONS) })
    }
}

impl Layout {
    fn step(n_hidden: usize) -> Layout {
        Layout { subgroups: false, quads: 1, width: n_hidden.next_power_of_two().clamp(8, 64), count: 1 }
    }

    fn subgroup(n_batch: usize, n_hidden: usize) -> Layout {
        // few enough rows for two workgroups, and so two threads, where the batch is small
        let quads = [1, 2].into_iter().find(|quads| n_batch <= 8 * quads).unwrap_or(4);
        // channels, each with four outputs and two rows; three times 16 vectors of terms; the end of a loop counts too
        let iterations = 2 * (n_hidden / 4) * (1 + 5 + 3) + 3 * (1 + 17);
        Layout { subgroups: true, quads, width: PANEL, count: (MOST_ITERATIONS / iterations).clamp(1, MOST_POSITIONS) }
    }

    /// Vectors of a row of weights that an invocation of a subgroup loads.
    fn gathers(&self, n_hidden: usize) -> usize {
        n_hidden.div_ceil(4 * PANEL).next_power_of_two().max(4 / self.quads)
    }

    fn shader(&self) -> &'static Shader {
        if self.subgroups { &SUBGROUP_SHADER } else { &SHADER }
    }

    /// Channels that it takes at once.
    fn value_width(&self) -> usize {
        if self.subgroups { 4 } else { 1 }
    }

    /// First position and number of positions of each dispatch.
    fn chunks(&self, stretch: &Stretch) -> impl DoubleEndedIterator<Item = (usize, usize)> + use<> {
        let (count, first, n_step) = (self.count, stretch.first_position, stretch.n_step);
        (0..n_step.div_ceil(count)).map(move |chunk| (first + chunk * count, count.min(n_step - chunk * count)))
    }

    fn rows(&self) -> usize {
        4 * self.quads
    }

    fn tiles(&self, n_batch: usize, n_hidden: usize) -> [usize; 3] {
        [n_hidden.div_ceil(self.width), n_batch.div_ceil(self.rows()), 1]
    }
}

impl MinGru {
    /// As many sequences, or positions of one, as can be bound of tensors `(batch, step, ..)`.
    fn stretches(&self, plan: &Planner, tensors: &[Tensor]) -> Vec<Stretch> {
        let (n_batch, n_step) = (plan.spec(self.last_state).rows(), plan.spec(self.h).shape[1]);
        // two rows more, of the positions before and behind
        let fits = |n_batch: usize, n_step: usize| rows_fit(plan, tensors, n_batch * n_step + 2);
        Stretch::all(n_batch, n_step, self.recurrence.reverse, 1, fits)
    }

    /// A stretch with the positions before and behind it: what its dispatches bind.
    fn bound(&self, stretch: &Stretch) -> Stretch {
        stretch.reaching(1, 1, self.recurrence.reverse)
    }

    /// The state before the first position, where the stretch begins with that.
    fn begin(&self, plan: &mut Planner, layout: &Layout, stretch: &Stretch, n_hidden: usize) -> Result<()> {
        if !stretch.begins() {
            return Ok(());
        }
        self.kernel(plan, "begin", layout, stretch, 0, 1)?.lanes(stretch.sequences.count * n_hidden / layout.value_width())
    }

    fn kernel<'p, 'a>(
        &self,
        plan: &'p mut Planner<'a>,
        entry: &'static str,
        layout: &Layout,
        stretch: &Stretch,
        first: usize,
        count: usize,
    ) -> Result<Kernel<'p, 'a>> {
        let [_, n_step, n_hidden] = plan.graph().axes(self.name(), self.h)?;
        let bound = self.bound(stretch);
        let part = |tensor: Tensor| bound.part(tensor);
        let of_sequences = |tensor: Tensor| stretch.sequences.part(tensor);
        let kernel = plan
            .kernel(layout.shader(), entry)
            .constant("VALUE_WIDTH", layout.value_width())
            .constant("HIDDEN", n_hidden)
            .constant("QUADS", layout.quads)
            .constant("GATHERS", layout.gathers(n_hidden))
            .constant("WIDTH", layout.width)
            .bind("p", part(self.p))
            .bind("u", self.u)
            .bind_optional("initial_state", self.recurrence.initial_state.map(of_sequences))
            .bind_optional("reset", self.recurrence.reset.map(of_sequences))
            .bind("h", part(self.h))
            .bind("last_state", of_sequences(self.last_state))
            .bind("gates", part(self.gates))
            .bind("factors", part(self.factors))
            .param("n_batch", stretch.sequences.count)
            .param("n_step", n_step)
            .param("first", first)
            .param("count", count)
            .param("first_row", bound.first_step)
            .param("reverse", self.recurrence.reverse);
        Ok(kernel)
    }

    /// Copies the recurrent weights transposed, `(hidden, 3 hidden)`.
    fn transpose_weights(&self, plan: &mut Planner, layout: &Layout, n_hidden: usize) -> Result<Operand> {
        let transposed = plan.scratch(3 * n_hidden * n_hidden);
        plan.kernel(layout.shader(), "transpose_weights")
            .constant("HIDDEN", n_hidden)
            .bind("u", self.u)
            .bind("transposed", transposed)
            .lanes(3 * n_hidden * n_hidden)?;
        Ok(transposed)
    }

    /// Copies the recurrent weights of each gate, or their transposes, to where they are read as uniforms.
    fn copy_weights(&self, plan: &mut Planner, layout: &Layout, n_hidden: usize, is_transposed: bool) -> Result<[Operand; 3]> {
        // windows begin at multiples of 64 elements
        let stride = (n_hidden * n_hidden).next_multiple_of(64);
        let weights = plan.scratch(3 * stride);
        plan.kernel(layout.shader(), "copy_weights")
            .constant("VALUE_WIDTH", layout.value_width())
            .constant("HIDDEN", n_hidden)
            .constant("IS_TRANSPOSED", is_transposed)
            .bind("u", self.u)
            .bind("weights", weights)
            .param("weight_stride", stride / 4)
            .lanes(3 * n_hidden * n_hidden / 16)?;
        Ok([0, 1, 2].map(|gate| plan.uniform_array(weights, gate * stride)))
    }

    fn encode_subgroups(&self, plan: &mut Planner, layout: &Layout, stretch: &Stretch, n_hidden: usize) -> Result<()> {
        let n_batch = stretch.sequences.count;
        let weights = self.copy_weights(plan, layout, n_hidden, false)?;
        self.begin(plan, layout, stretch, n_hidden)?;
        for (first, count) in layout.chunks(stretch) {
            let kernel = self.kernel(plan, "forward_subgroup", layout, stretch, first, count)?;
            let kernel = with_weights(kernel, weights).flops(6 * n_hidden * n_hidden * n_batch * count);
            kernel.groups(n_batch.div_ceil(layout.rows()))?;
        }
        Ok(())
    }

    fn encode_panels(&self, plan: &mut Planner, stretch: &Stretch, n_hidden: usize) -> Result<()> {
        let n_batch = stretch.sequences.count;
        let layout = Layout::step(n_hidden);
        let gates = recurrent(self.u, 0, 2 * n_hidden, n_hidden, false).pack_whole(plan, &SHADER)?;
        let candidate = recurrent(self.u, 2 * n_hidden, n_hidden, n_hidden, false).pack_whole(plan, &SHADER)?;
        let [states, reset_states] = [Packed::scratch(plan, n_batch, n_hidden)?, Packed::scratch(plan, n_batch, n_hidden)?];
        self.begin(plan, &layout, stretch, n_hidden)?;
        // what lies beyond the factors is 0 from now on; each product writes the factor of the one that follows
        let at_first = |columns| self.at_position(self.factors, stretch, stretch.first_position, columns);
        at_first(0..n_hidden).pack_to(plan, &SHADER, states)?;
        at_first(n_hidden..2 * n_hidden).pack_to(plan, &SHADER, reset_states)?;
        for position in stretch.positions() {
            for (entry, factor, weight, next) in
                [("gate_panels", states, gates, reset_states), ("state_panels", reset_states, candidate, states)]
            {
                panel::multiply(plan, factor, weight, 0, |plan| {
                    let kernel = self.kernel(plan, entry, &layout, stretch, position, 1)?;
                    Ok(kernel.bind("next", next.operand).param("next_slice", next.panels.slice))
                })?;
            }
        }
        Ok(())
    }

    /// Columns of what is visited at a position of a `(batch, step, ..)` tensor, as a factor.
    fn at_position(&self, tensor: Tensor, stretch: &Stretch, position: usize, columns: std::ops::Range<usize>) -> Source {
        let bound = self.bound(stretch);
        let step = if self.recurrence.reverse { stretch.n_whole_step - 1 - position } else { position };
        Source {
            tensor,
            bound: bound.part(tensor),
            first: step - bound.first_step,
            every: stretch.n_whole_step,
            column: columns.start,
            n_row: stretch.sequences.count,
            n_column: columns.len(),
            by_term: false,
        }
    }

    fn products(&self, graph: &mut Graph, grad_p: Tensor, grad_u: Tensor) -> Vec<LinearBackward> {
        let n_hidden = graph.spec(self.u).columns();
        [("U_z+U_r", 0, 2), ("U_h", 2, 1)]
            .map(|(label, first, count)| {
                let (start, len) = (first * n_hidden, count * n_hidden);
                LinearBackward {
                    x: graph.columns(self.factors, label, if first == 0 { 0 } else { n_hidden }, n_hidden),
                    weight: graph.rows(self.u, label, start, len),
                    grad_y: graph.columns(grad_p, label, start, len),
                    grad_x: None,
                    grad_weight: Some(graph.rows(grad_u, label, start, len)),
                    grad_bias: None,
                }
            })
            .to_vec()
    }
}

impl Operation for MinGruBackward {
    fn name(&self) -> &'static str {
        "min_gru_backward"
    }

    fn inputs(&self) -> Vec<Tensor> {
        let MinGru { p, u, recurrence, h, gates, factors, .. } = &self.forward;
        let given = [Some(*p), Some(*u), recurrence.initial_state, recurrence.reset, Some(*h), Some(*gates), Some(*factors)];
        [present(given), present([self.grad_h, self.grad_last_state])].concat()
    }

    fn outputs(&self) -> Vec<Tensor> {
        present([Some(self.grad_p), self.grad_u, self.grad_initial_state])
    }

    fn flops(&self, graph: &Graph) -> usize {
        let (h, u) = (self.forward.h, self.forward.u);
        let n_product = 1 + usize::from(self.grad_u.is_some());
        n_product * 2 * graph.spec(h).rows() * graph.spec(u).len() + 20 * graph.spec(h).len()
    }

    fn encode(&self, plan: &mut Planner) -> Result<()> {
        let [n_batch, _, n_hidden] = plan.graph().axes(self.name(), self.forward.h)?;
        let MinGru { p, u, h, gates, factors, .. } = self.forward;
        let all =
            [vec![p, u, h, gates, factors, self.grad_p], present([self.grad_h, self.grad_last_state, self.grad_initial_state])].concat();
        let choice = Choice::new(plan, n_batch, n_hidden, 3, &all);
        let stretches = self.forward.stretches(plan, &present([Some(self.forward.gates), Some(self.grad_p), self.grad_h]));
        let most = stretches.first().map_or(0, |stretch| stretch.sequences.count);
        let kept = plan.scratch(if self.grad_initial_state.is_some() { 0 } else { most * n_hidden });
        for stretch in stretches.iter().rev() {
            let n_batch = stretch.sequences.count;
            let carry = self.grad_initial_state.map_or(kept, |grad_initial_state| stretch.sequences.part(grad_initial_state));
            match &choice {
                Choice::Panel => self.encode_panels(plan, carry, stretch, n_hidden)?,
                Choice::Subgroup(layout) => self.encode_subgroups(plan, layout, carry, stretch, n_hidden)?,
                Choice::Fused(layout) => {
                    for (first, count) in layout.chunks(stretch).rev() {
                        let kernel = self.kernel(plan, "backward", layout, carry, stretch, first, count)?;
                        kernel.groups(n_batch.div_ceil(layout.rows()))?;
                    }
                }
                Choice::Step(layout) => {
                    self.begin(plan, layout, carry, stretch, n_hidden)?;
                    for position in stretch.positions().rev() {
                        for entry in ["gate_gradient_step", "carry_step"] {
                            let kernel = self.kernel(plan, entry, layout, carry, stretch, position, 1)?;
                            kernel.workgroups(layout.tiles(n_batch, n_hidden))?;
                        }
                    }
                }
            }
        }
        self.products.iter().try_for_each(|product| product.encode(plan))
    }
}

/// Binds the weights that [`MinGru::copy_weights`] has copied.
fn with_weights<'p, 'a>(kernel: Kernel<'p, 'a>, [z, r, h]: [Operand; 3]) -> Kernel<'p, 'a> {
    kernel.bind("weights_z", z).bind("weights_r", r).bind("weights_h", h)
}

/// Rows of `u` as a factor.
fn recurrent(u: Tensor, first: usize, n_row: usize, n_column: usize, by_term: bool) -> Source {
    Source { tensor: u, bound: u.into(), first, every: 1, column: 0, n_row, n_column, by_term }
}

impl MinGruBackward {
    /// The carry behind the last position and what follows from it there, where the stretch ends with that.
    fn begin(&self, plan: &mut Planner, layout: &Layout, carry: Operand, stretch: &Stretch, n_hidden: usize) -> Result<()> {
        if !stretch.ends() {
            return Ok(());
        }
        let kernel = self.kernel(plan, "begin_backward", layout, carry, stretch, stretch.n_whole_step - 1, 1)?;
        kernel.workgroups(layout.tiles(stretch.sequences.count, n_hidden))
    }

    fn encode_subgroups(&self, plan: &mut Planner, layout: &Layout, carry: Operand, stretch: &Stretch, n_hidden: usize) -> Result<()> {
        let n_batch = stretch.sequences.count;
        let weights = self.forward.copy_weights(plan, layout, n_hidden, true)?;
        for (first, count) in layout.chunks(stretch).rev() {
            let kernel = self.kernel(plan, "backward_subgroup", layout, carry, stretch, first, count)?;
            let kernel = with_weights(kernel, weights).flops(6 * n_hidden * n_hidden * n_batch * count);
            kernel.groups(n_batch.div_ceil(layout.rows()))?;
        }
        Ok(())
    }

    fn encode_panels(&self, plan: &mut Planner, carry: Operand, stretch: &Stretch, n_hidden: usize) -> Result<()> {
        let n_batch = stretch.sequences.count;
        let u = self.forward.u;
        let layout = Layout::step(n_hidden);
        let candidate = recurrent(u, 2 * n_hidden, n_hidden, n_hidden, true).pack_whole(plan, &SHADER)?;
        let gates = recurrent(u, 0, 2 * n_hidden, n_hidden, true).pack_whole(plan, &SHADER)?;
        let (gradients_h, gradients_zr) = (Packed::scratch(plan, n_batch, n_hidden)?, Packed::scratch(plan, n_batch, 2 * n_hidden)?);
        self.begin(plan, &layout, carry, stretch, n_hidden)?;
        let of_last = |columns| self.forward.at_position(self.grad_p, stretch, stretch.first_position + stretch.n_step - 1, columns);
        of_last(2 * n_hidden..3 * n_hidden).pack_to(plan, &SHADER, gradients_h)?;
        of_last(0..2 * n_hidden).pack_to(plan, &SHADER, gradients_zr)?;
        for position in stretch.positions().rev() {
            for (entry, factor, weight, next) in
                [("gate_gradient_panels", gradients_h, candidate, gradients_zr), ("carry_panels", gradients_zr, gates, gradients_h)]
            {
                panel::multiply(plan, factor, weight, 0, |plan| {
                    let kernel = self.kernel(plan, entry, &layout, carry, stretch, position, 1)?;
                    Ok(kernel.bind("next", next.operand).param("next_slice", next.panels.slice))
                })?;
            }
        }
        Ok(())
    }

    fn kernel<'p, 'a>(
        &self,
        plan: &'p mut Planner<'a>,
        entry: &'static str,
        layout: &Layout,
        carry: Operand,
        stretch: &Stretch,
        first: usize,
        count: usize,
    ) -> Result<Kernel<'p, 'a>> {
        let MinGru { recurrence, u, gates, factors, h, .. } = &self.forward;
        let bound = self.forward.bound(stretch);
        let part = |tensor: Tensor| bound.part(tensor);
        let of_sequences = |tensor: Tensor| stretch.sequences.part(tensor);
        let [_, n_step, n_hidden] = plan.graph().axes(self.name(), *h)?;
        let kernel = plan
            .kernel(layout.shader(), entry)
            .constant("VALUE_WIDTH", layout.value_width())
            .constant("HIDDEN", n_hidden)
            .constant("QUADS", layout.quads)
            .constant("GATHERS", layout.gathers(n_hidden))
            .constant("WIDTH", layout.width)
            .bind("u", *u)
            .bind_optional("reset", recurrence.reset.map(of_sequences))
            .bind("gates", part(*gates))
            .bind("factors", part(*factors))
            .bind_optional("grad_h", self.grad_h.map(part))
            .bind_optional("grad_last_state", self.grad_last_state.map(of_sequences))
            .bind("grad_p", part(self.grad_p))
            .bind("carry", carry)
            .param("carry_stride", n_hidden)
            .param("n_batch", stretch.sequences.count)
            .param("n_step", n_step)
            .param("first", first)
            .param("count", count)
            .param("first_row", bound.first_step)
            .param("reverse", recurrence.reverse);
        Ok(kernel)
    }
}
