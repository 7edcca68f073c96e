//! Selective scan (S6), the recurrence of Mamba, and its gradient.

mod layout;

use self::layout::{Layout, PARTIAL, Variant, chosen_kernel};
use super::{Operation, Recurrence, SINGLE, Sequences, Stretch, present, rows_fit};
use crate::error::Result;
use crate::gpu::{Constant, Kernel, Operand, Planner, Shader};
use crate::graph::{Gradients, Graph, Tensor};

const NAME: &str = "selective_scan";

/// For `sequential`, and for `chunked` where eight storage buffers can be bound, which copy saved states for the backward pass.
const SHADER: Shader = variant(&[SINGLE, ACTIVATION, EXPONENTIAL, CHANNEL_SUM, BORDER_F32, BORDER_COPIED, CHUNKED, TEAM]);

/// `walked`, which reads saved states where they lie; an invocation stores its part of the sums over channels.
const WALKED_SHADER: Shader = variant(&[SINGLE, ACTIVATION, EXPONENTIAL, CHANNEL_SUM, BORDER_F32, BORDER_COPIED, WALKED, ROW]);

/// The same, where a subgroup adds these parts up.
const WALKED_SUBGROUP_SHADER: Shader =
    variant(&[SINGLE, ACTIVATION, EXPONENTIAL, CHANNEL_SUM, BORDER_F32, BORDER_COPIED, WALKED, ROW_SUBGROUP]);

/// Reads saved states where they lie.
const BOUND_SHADER: Shader = variant(&[SINGLE, ACTIVATION, EXPONENTIAL, CHANNEL_SUM, BORDER_F32, BORDER_BOUND, CHUNKED, TEAM]);

/// Sums over channels by subgroup operations.
const SUBGROUP_SHADER: Shader = variant(&[
    SINGLE,
    ACTIVATION,
    EXPONENTIAL,
    include_str!("../../shaders/shared/channel_sum_subgroup.wgsl"),
    BORDER_F32,
    BORDER_BOUND,
    CHUNKED,
    TEAM,
]);

/// Saves states in half the bytes. y and last_state lose nothing where the run is one chunk; otherwise they are accurate to 11 bits, as
/// gradients are.
const F16_SHADER: Shader = variant(&[
    SINGLE,
    ACTIVATION,
    EXPONENTIAL,
    CHANNEL_SUM,
    include_str!("../../shaders/shared/border_f16.wgsl"),
    BORDER_BOUND,
    CHUNKED,
    TEAM,
]);

const ACTIVATION: &str = include_str!("../../shaders/shared/activation.wgsl");
const EXPONENTIAL: &str = include_str!("../../shaders/shared/exponential.wgsl");
const CHANNEL_SUM: &str = include_str!("../../shaders/shared/channel_sum.wgsl");
const BORDER_F32: &str = include_str!("../../shaders/shared/border_f32.wgsl");
const BORDER_COPIED: &str = include_str!("../../shaders/shared/border_copied.wgsl");
const BORDER_BOUND: &str = include_str!("../../shaders/shared/border_bound.wgsl");
const CHUNKED: &str = include_str!("../../shaders/shared/selective_scan_chunked.wgsl");
const WALKED: &str = include_str!("../../shaders/shared/selective_scan_walked.wgsl");
const ROW: &str = include_str!("../../shaders/shared/walked_row.wgsl");
const ROW_SUBGROUP: &str = include_str!("../../shaders/shared/walked_row_subgroup.wgsl");
const TEAM: &str = include_str!("../../shaders/shared/selective_scan_team.wgsl");

const fn variant(shared: &'static [&'static str]) -> Shader {
    Shader {
        name: NAME,
        source: include_str!("../../shaders/selective_scan.wgsl"),
        shared,
        constants: &[
            ("N_STATE", Constant::U32(16)),
            ("QUADS", Constant::U32(4)),
            ("SPAN", Constant::U32(SPAN as u32)),
            ("AHEAD", Constant::U32(8)),
            ("PARTIAL", Constant::U32(PARTIAL as u32)),
            ("DELTA_SOFTPLUS", Constant::Bool(false)),
            ("SAVES_BORDERS", Constant::Bool(false)),
            ("HAS_D", Constant::Bool(false)),
            ("HAS_Z", Constant::Bool(false)),
            ("HAS_DELTA_BIAS", Constant::Bool(false)),
            ("HAS_STATE", Constant::Bool(false)),
            ("HAS_RESET", Constant::Bool(false)),
            ("HAS_GRAD_Y", Constant::Bool(false)),
            ("HAS_GRAD_U", Constant::Bool(false)),
            ("HAS_GRAD_DELTA", Constant::Bool(false)),
            ("HAS_GRAD_Z", Constant::Bool(false)),
        ],
    }
}

/// Steps between the states that forward saves for backward.
const SPAN: usize = 8;

/// What the scan reads; shapes are checked by [`Graph::selective_scan`].
#[derive(Clone, Copy, Debug)]
pub struct SelectiveScanInputs {
    /// `(batch, step, channel)`.
    pub u: Tensor,
    /// `(batch, step, channel)`: step sizes before bias and softplus.
    pub delta: Tensor,
    /// `(channel, state)`, contiguous.
    pub a: Tensor,
    /// `(batch, step, state)`.
    pub b: Tensor,
    /// `(batch, step, state)`.
    pub c: Tensor,
    /// `(channel)`: the skip from `u` to the output.
    pub d: Option<Tensor>,
    /// `(batch, step, channel)`: the gate, through SiLU.
    pub z: Option<Tensor>,
    /// `(channel)`: added to `delta`.
    pub delta_bias: Option<Tensor>,
    /// Whether the step size is `softplus(delta + delta_bias)` or `delta + delta_bias` itself.
    pub delta_softplus: bool,
    /// Direction, borders, and the initial state, `(batch, channel, state)`.
    pub recurrence: Recurrence,
}

/// The scan.
#[derive(Clone, Debug)]
pub struct SelectiveScan {
    /// What it reads.
    pub inputs: SelectiveScanInputs,
    /// `(batch, step, channel)`.
    pub y: Tensor,
    /// `(batch, channel, state)`: the state after the step that is visited last.
    pub last_state: Tensor,
    /// `(batch, span, channel * padded state / 2, 2)`: the states before every `SPAN`-th step in the order of visits, for the gradient; the
    /// CPU has those of its own chunks there.
    pub borders: Tensor,
}

/// Gradients of [`SelectiveScan`].
#[derive(Clone, Debug)]
pub struct SelectiveScanBackward {
    /// As in the forward operation.
    pub inputs: SelectiveScanInputs,
    /// As in the forward operation.
    pub borders: Tensor,
    /// `(batch, step, channel)`; 0 where absent.
    pub grad_y: Option<Tensor>,
    /// `(batch, channel, state)`; 0 where absent.
    pub grad_last_state: Option<Tensor>,
    /// `(batch, step, channel)`.
    pub grad_u: Option<Tensor>,
    /// `(batch, step, channel)`.
    pub grad_delta: Option<Tensor>,
    /// `(channel, state)`.
    pub grad_a: Option<Tensor>,
    /// `(batch, step, state)`.
    pub grad_b: Option<Tensor>,
    /// `(batch, step, state)`.
    pub grad_c: Option<Tensor>,
    /// `(channel)`.
    pub grad_d: Option<Tensor>,
    /// `(batch, step, channel)`.
    pub grad_z: Option<Tensor>,
    /// `(channel)`.
    pub grad_delta_bias: Option<Tensor>,
    /// `(batch, channel, state)`.
    pub grad_initial_state: Option<Tensor>,
}

impl SelectiveScanInputs {
    fn tensors(&self) -> Vec<Tensor> {
        let optional = [self.d, self.z, self.delta_bias, self.recurrence.initial_state, self.recurrence.reset];
        [self.u, self.delta, self.a, self.b, self.c].into_iter().chain(present(optional)).collect()
    }

    /// A decay for each state and step, softplus and SiLU for each channel and step.
    fn exponentials(&self, graph: &Graph) -> usize {
        let n_gate = usize::from(self.delta_softplus) + usize::from(self.z.is_some());
        graph.spec(self.u).rows() * graph.spec(self.a).len() + n_gate * graph.spec(self.u).len()
    }
}

impl Graph {
    /// The selective scan: `y (batch, step, channel)` and the last state `(batch, channel, state)`, by the formula of
    /// [`reference::selective_scan`](crate::reference::selective_scan).
    ///
    /// ```
    /// use scanrnn::backend::Backend;
    /// use scanrnn::cpu::Cpu;
    /// use scanrnn::graph::Graph;
    /// use scanrnn::ops::{Recurrence, SelectiveScanInputs};
    /// # pollster::block_on(async {
    /// let mut graph = Graph::new();
    /// let inputs = SelectiveScanInputs {
    ///     u: graph.variable("u", &[1, 3, 1]),
    ///     delta: graph.variable("delta", &[1, 3, 1]),
    ///     a: graph.variable("a", &[1, 1]),
    ///     b: graph.variable("b", &[1, 3, 1]),
    ///     c: graph.variable("c", &[1, 3, 1]),
    ///     d: None,
    ///     z: None,
    ///     delta_bias: None,
    ///     delta_softplus: false,
    ///     recurrence: Recurrence::default(),
    /// };
    /// let (y, last_state) = graph.selective_scan("y", &inputs)?;
    /// let program = graph.finish("scan");
    /// let mut session = Cpu.load(&graph).await?;
    /// for tensor in [inputs.u, inputs.delta, inputs.b, inputs.c] {
    ///     session.write(tensor, &[1.0; 3])?;
    /// }
    /// session.write(inputs.a, &[-std::f32::consts::LN_2])?; // halves the state at every step
    /// session.run(program, 1)?;
    /// let close = |got: &[f32], want: &[f32]| got.iter().zip(want).all(|(got, want)| (got - want).abs() < 1e-6);
    /// assert!(close(&session.read(y).await?, &[1.0, 1.5, 1.75]));
    /// assert!(close(&session.read(last_state).await?, &[1.75]));
    /// # Ok::<(), scanrnn::Error>(())
    /// # })?;
    /// # Ok::<(), scanrnn::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) where the shapes do not fit.
    pub fn selective_scan(&mut self, label: &str, inputs: &SelectiveScanInputs) -> Result<(Tensor, Tensor)> {
        let [n_batch, n_step, n_channel] = self.axes(NAME, inputs.u)?;
        let [_, n_state] = self.axes(NAME, inputs.a)?;
        self.expect(NAME, inputs.delta, &[n_batch, n_step, n_channel])?;
        self.expect(NAME, inputs.a, &[n_channel, n_state])?;
        for tensor in [inputs.b, inputs.c] {
            self.expect(NAME, tensor, &[n_batch, n_step, n_state])?;
        }
        if let Some(z) = inputs.z {
            self.expect(NAME, z, &[n_batch, n_step, n_channel])?;
        }
        for tensor in present([inputs.d, inputs.delta_bias]) {
            self.expect(NAME, tensor, &[n_channel])?;
        }
        inputs.recurrence.check(self, NAME, n_batch, n_step, &[n_batch, n_channel, n_state])?;
        let y = self.tensor(label, &[n_batch, n_step, n_channel]);
        let last_state = self.tensor(&format!("{label}.last_state"), &[n_batch, n_channel, n_state]);
        // in pairs, so that half of a span's can be bound, as 16-bit floats take it
        let pairs = n_channel * n_state.next_multiple_of(4) / 2;
        let borders = self.tensor(&format!("{label}.borders"), &[n_batch, n_step.div_ceil(SPAN), pairs, 2]);
        self.push(SelectiveScan { inputs: *inputs, y, last_state, borders });
        Ok((y, last_state))
    }
}

impl Operation for SelectiveScan {
    fn name(&self) -> &'static str {
        NAME
    }

    fn inputs(&self) -> Vec<Tensor> {
        self.inputs.tensors()
    }

    fn outputs(&self) -> Vec<Tensor> {
        vec![self.y, self.last_state, self.borders]
    }

    fn backward(&self, graph: &mut Graph, gradients: &mut Gradients) -> Result<()> {
        let inputs = self.inputs;
        let op = SelectiveScanBackward {
            inputs,
            borders: self.borders,
            grad_y: gradients.of(graph, self.y),
            grad_last_state: gradients.of(graph, self.last_state),
            grad_u: gradients.target(graph, inputs.u),
            grad_delta: gradients.target(graph, inputs.delta),
            grad_a: gradients.target(graph, inputs.a),
            grad_b: gradients.target(graph, inputs.b),
            grad_c: gradients.target(graph, inputs.c),
            grad_d: gradients.optional_target(graph, inputs.d),
            grad_z: gradients.optional_target(graph, inputs.z),
            grad_delta_bias: gradients.optional_target(graph, inputs.delta_bias),
            grad_initial_state: gradients.optional_target(graph, inputs.recurrence.initial_state),
        };
        graph.push(op);
        Ok(())
    }

    fn flops(&self, graph: &Graph) -> usize {
        // each state: a decay (a product, an exponential), its product, a fused input, a fused read-out; each step: softplus, SiLU, D u
        7 * graph.spec(self.y).rows() * graph.spec(self.inputs.a).len() + 12 * graph.spec(self.y).len()
    }

    fn exponentials(&self, graph: &Graph) -> usize {
        self.inputs.exponentials(graph)
    }

    fn encode(&self, plan: &mut Planner) -> Result<()> {
        let inputs = &self.inputs;
        let tensors = present([Some(inputs.u), Some(inputs.delta), Some(inputs.b), Some(inputs.c), inputs.z, Some(self.y)]);
        let (windows, workspace) = Window::all(plan, inputs, &tensors, false);
        let flops = self.flops(plan.graph());
        let is_read = plan.is_read(self.borders);
        for window in windows {
            let layout = &window.layout;
            window.pack(plan, inputs, workspace, inputs.recurrence.initial_state, !window.stretch.begins())?;
            if layout.n_chunk > 1 {
                window
                    .kernel(plan, layout.entry(["summarize_forward", "summarize_forward_team"]), inputs, workspace)
                    .bind("u", window.stretch.part(inputs.u))
                    .bind("delta", window.stretch.part(inputs.delta))
                    .bind_optional("z", None::<Tensor>)
                    .groups(layout.n_workgroup())?;
                window
                    .kernel(plan, "carry_forward", inputs, workspace)
                    .bind("borders", window.borders(self.borders))
                    .lanes(layout.n_batch * layout.n_channel * layout.quads)?;
            }
            let entry = if layout.n_block > 0 { "walk_forward" } else { layout.entry(["forward", "forward_team"]) };
            for (first_span, end_span) in layout.walks().into_iter().rev() {
                window
                    .kernel(plan, entry, inputs, workspace)
                    // a walk takes seconds to compile, once for all programs
                    .constant("SAVES_BORDERS", is_read || layout.n_block > 0)
                    .flops(window.stretch.share(flops) / layout.n_span * (end_span - first_span))
                    .bind("u", window.stretch.part(inputs.u))
                    .bind("delta", window.stretch.part(inputs.delta))
                    .bind_optional("z", inputs.z.map(|z| window.stretch.part(z)))
                    .bind("y", window.stretch.part(self.y))
                    .bind("last_state", window.stretch.sequences.part(self.last_state))
                    .bind("borders", window.borders(self.borders))
                    .param("first_span", first_span)
                    .param("end_span", end_span)
                    .param("n_block", layout.n_block)
                    .param("from_zero", inputs.recurrence.initial_state.is_none() && window.stretch.begins())
                    .groups(layout.n_workgroup())?;
            }
        }
        Ok(())
    }
}

impl Operation for SelectiveScanBackward {
    fn name(&self) -> &'static str {
        "selective_scan_backward"
    }

    fn inputs(&self) -> Vec<Tensor> {
        let seeds = present([Some(self.borders), self.grad_y, self.grad_last_state]);
        self.inputs.tensors().into_iter().chain(seeds).collect()
    }

    fn outputs(&self) -> Vec<Tensor> {
        present([
            self.grad_u,
            self.grad_delta,
            self.grad_a,
            self.grad_b,
            self.grad_c,
            self.grad_d,
            self.grad_z,
            self.grad_delta_bias,
            self.grad_initial_state,
        ])
    }

    fn flops(&self, graph: &Graph) -> usize {
        // the states once more, then the gradients of a decay, a state, A, B and C
        22 * graph.spec(self.inputs.u).rows() * graph.spec(self.inputs.a).len() + 30 * graph.spec(self.inputs.u).len()
    }

    fn exponentials(&self, graph: &Graph) -> usize {
        // states are computed once more, and their decays with them
        self.inputs.exponentials(graph)
    }

    fn encode(&self, plan: &mut Planner) -> Result<()> {
        let inputs = &self.inputs;
        let given = present([Some(inputs.u), Some(inputs.delta), Some(inputs.b), Some(inputs.c), inputs.z, self.grad_y]);
        let targets = present([self.grad_u, self.grad_delta, self.grad_z, self.grad_b, self.grad_c]);
        let (windows, workspace) = Window::all(plan, inputs, &[given, targets].concat(), true);
        for (index, window) in windows.iter().rev().enumerate() {
            self.encode_window(plan, window, workspace, index > 0)?;
        }
        Ok(())
    }
}

impl SelectiveScanBackward {
    /// The gradients of one window; sums over batch and steps go on where they `accumulate`.
    fn encode_window(&self, plan: &mut Planner, window: &Window, workspace: Operand, accumulate: bool) -> Result<()> {
        let (inputs, layout) = (&self.inputs, &window.layout);
        let flops = window.stretch.share(self.flops(plan.graph()));
        let part = |tensor: Tensor| window.stretch.part(tensor);
        let (z, grad_y) = (inputs.z.map(part), self.grad_y.map(part));
        window.pack(plan, inputs, workspace, self.grad_last_state, !window.stretch.ends())?;
        if layout.copies_borders {
            window
                .kernel(plan, "pack_borders", inputs, workspace)
                .bind("saved_borders", window.borders(self.borders))
                .lanes(layout.n_border())?;
        }
        if layout.n_chunk > 1 {
            window
                .kernel(plan, layout.entry(["summarize_backward", "summarize_backward_team"]), inputs, workspace)
                .bind("delta", part(inputs.delta))
                .bind_optional("z", z)
                .bind_optional("grad_y", grad_y)
                .groups(layout.n_workgroup())?;
            window.kernel(plan, "carry_backward", inputs, workspace).lanes(layout.n_batch * layout.n_channel * layout.quads)?;
        }
        for (first_span, end_span) in layout.walks() {
            window
                .kernel(plan, if layout.n_block > 0 { "walk_backward" } else { "backward" }, inputs, workspace)
                .flops(flops / layout.n_span * (end_span - first_span))
                .bind("u", part(inputs.u))
                .bind("delta", part(inputs.delta))
                .bind("saved_borders", window.borders(self.borders))
                .bind_optional("z", z)
                .bind_optional("grad_y", grad_y)
                .bind_optional("grad_u", self.grad_u.map(part))
                .bind_optional("grad_delta", self.grad_delta.map(part))
                .bind_optional("grad_z", self.grad_z.map(part))
                .param("first_span", first_span)
                .param("end_span", end_span)
                .param("n_block", layout.n_block)
                .param("from_zero", self.grad_last_state.is_none() && window.stretch.ends())
                .groups(layout.n_workgroup())?;
        }

        let Layout { n_batch, n_step, n_channel, n_state, quads, .. } = *layout;
        let per_channel =
            Parts { count: n_batch * layout.n_chunk, start: layout.sections.slots, stride: n_channel * (quads + 1), row: quads + 1 };
        let skips = Parts { start: layout.sections.slots + quads, ..per_channel };
        let per_step = Parts { count: layout.n_sum, start: layout.sections.sums, stride: n_batch * n_step * 2 * quads, row: 2 * quads };
        let states = Parts { count: 1, start: layout.sections.states, stride: 0, row: quads };
        let grad_c_parts = Parts { start: per_step.start + quads, ..per_step };
        plan.check_loop(NAME, per_channel.count)?;
        let grad_initial_state = self.grad_initial_state.filter(|_| window.stretch.begins());
        for (target, n_row, n_column, component, parts, accumulate) in [
            (self.grad_a.map(Operand::from), n_channel, n_state, None, per_channel, accumulate),
            (self.grad_d.map(Operand::from), n_channel, 1, Some(0), skips, accumulate),
            (self.grad_delta_bias.map(Operand::from), n_channel, 1, Some(1), skips, accumulate),
            (self.grad_b.map(part), n_batch * n_step, n_state, None, per_step, false),
            (self.grad_c.map(part), n_batch * n_step, n_state, None, grad_c_parts, false),
            (grad_initial_state.map(|target| window.stretch.sequences.part(target)), n_batch * n_channel, n_state, None, states, false),
        ] {
            let Some(target) = target else { continue };
            window
                .kernel(plan, "sum_parts", inputs, workspace)
                .bind("sum_target", target)
                .bytes(4 * (parts.count + 1) * n_row * n_column)
                .flops(parts.count * n_row * n_column)
                .param("n_row", n_row)
                .param("n_column", n_column)
                .param("is_vector", component.is_some())
                .param("component", component.unwrap_or(0usize))
                .param("accumulate", accumulate)
                .param("n_part", parts.count)
                .param("part_start", parts.start)
                .param("part_stride", parts.stride)
                .param("part_row_stride", parts.row)
                .lanes(n_row * n_column.div_ceil(4))?;
        }
        Ok(())
    }
}

/// Vectors of the workspace that are summed into one gradient.
#[derive(Clone, Copy)]
struct Parts {
    count: usize,
    /// The first vector.
    start: usize,
    /// Vectors from one part to the next.
    stride: usize,
    /// Vectors from one row to the next.
    row: usize,
}

/// The part that is worked on at a time.
struct Window {
    stretch: Stretch,
    layout: Layout,
}

impl Window {
    /// As many sequences, or spans of one, as can be bound of `tensors` `(batch, step, ..)`, of the borders and of the workspace; and this.
    fn all(plan: &mut Planner, inputs: &SelectiveScanInputs, tensors: &[Tensor], is_backward: bool) -> (Vec<Window>, Operand) {
        let shape = &plan.spec(inputs.u).shape;
        let (n_batch, n_step, n_channel, n_state) = (shape[0], shape[1], shape[2], plan.spec(inputs.a).columns());
        let kernel = chosen_kernel(plan, [n_batch, n_step, n_channel, n_state]);
        let layout = |n_batch: usize, n_step: usize| Layout::of(plan, inputs, [n_batch, n_step, n_channel, n_state], kernel, is_backward);
        let fits = |n_batch: usize, n_step: usize| {
            let layout = layout(n_batch, n_step);
            // what is bound of the borders, too, may begin 64 elements before them
            let most = (16 * layout.n_border() + 256).max(16 * layout.sections.end);
            most as u64 <= plan.traits().max_binding && rows_fit(plan, tensors, n_batch * n_step)
        };
        let stretches = Stretch::all(n_batch, n_step, inputs.recurrence.reverse, SPAN, fits);
        let window = |stretch: Stretch| Window { stretch, layout: layout(stretch.sequences.count, stretch.n_step) };
        let windows: Vec<_> = stretches.into_iter().map(window).collect();
        let n_vector = windows.iter().map(|window| window.layout.sections.end).max().unwrap_or(0);
        (windows, plan.scratch(4 * n_vector))
    }

    /// Of the saved borders, whose places do not depend on how a pass cuts its windows.
    fn borders(&self, tensor: Tensor) -> Operand {
        let Stretch { sequences: Sequences { first, count, of }, first_position, n_whole_step, .. } = self.stretch;
        let n_span = n_whole_step.div_ceil(SPAN);
        let halves = if self.layout.variant == Variant::F16 { 2 } else { 1 };
        Operand::Part { tensor, first: first * n_span + first_position / SPAN, count: count * self.layout.n_span, of: halves * of * n_span }
    }

    /// Starts a dispatch with the workspace bound and everything set that is the same for all of them.
    fn kernel<'p, 'a>(
        &self,
        plan: &'p mut Planner<'a>,
        entry: &'static str,
        inputs: &SelectiveScanInputs,
        workspace: Operand,
    ) -> Kernel<'p, 'a> {
        let layout = &self.layout;
        let (shader, entry): (&'static Shader, _) = match layout.variant {
            Variant::Plain => (&SHADER, entry),
            Variant::Bound => (&BOUND_SHADER, entry),
            Variant::Subgroup => (&SUBGROUP_SHADER, if entry == "backward" { "backward_subgroup" } else { entry }),
            Variant::F16 => (&F16_SHADER, entry),
            Variant::Walked => (&WALKED_SHADER, entry),
            Variant::WalkedSubgroup => (&WALKED_SUBGROUP_SHADER, entry),
        };
        plan.kernel(shader, entry)
            .constant("N_STATE", layout.n_state)
            .constant("QUADS", layout.quads)
            .constant("DELTA_SOFTPLUS", inputs.delta_softplus)
            .constant("HAS_RESET", inputs.recurrence.reset.is_some())
            .constant("AHEAD", layout.ahead.unwrap_or(1))
            .bind("workspace", workspace)
            .param("n_batch", layout.n_batch)
            .param("n_step", layout.n_step)
            .param("n_channel", layout.n_channel)
            .param("n_group", layout.n_group)
            .param("n_chunk", layout.n_chunk)
            .param("n_span", layout.n_span)
            .param("chunk_spans", layout.chunk_spans)
            .param("row_quads", layout.sections.row_quads)
            .param("rows_start", layout.sections.rows)
            .param("states_start", layout.sections.states)
            .param("slots_start", layout.sections.slots)
            .param("borders_start", layout.sections.borders)
            .param("sums_start", layout.sections.sums)
            .param("n_whole_step", self.stretch.n_whole_step)
            .param("first_step", self.stretch.first_step)
            .param("reverse", inputs.recurrence.reverse)
    }

    /// Copies the small tensors, and the state that the walk begins with unless it is kept, into the workspace.
    fn pack(
        &self,
        plan: &mut Planner,
        inputs: &SelectiveScanInputs,
        workspace: Operand,
        state: Option<Tensor>,
        is_kept: bool,
    ) -> Result<()> {
        let layout = &self.layout;
        // what is walked takes zeros for granted
        let keep_states = is_kept || (state.is_none() && layout.n_block > 0);
        self.kernel(plan, "pack", inputs, workspace)
            .bind("a", inputs.a)
            .bind("b", self.stretch.part(inputs.b))
            .bind("c", self.stretch.part(inputs.c))
            .bind_optional("d", inputs.d)
            .bind_optional("delta_bias", inputs.delta_bias)
            .bind_optional("state", state.map(|state| self.stretch.sequences.part(state)))
            .bind_optional("reset", inputs.recurrence.reset.map(|reset| self.stretch.sequences.part(reset)))
            .param("keep_states", keep_states)
            .lanes(layout.sections.slots - if keep_states { layout.sections.rows - layout.sections.states } else { 0 })
    }
}
