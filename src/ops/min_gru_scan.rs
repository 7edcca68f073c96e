//! minGRU, whose gates see only the input, as a scan: see `reference/min_gru_scan.rs`.

use super::{AHEAD, FILLING_CHANNELS, Operation, QUAD, Recurrence, SINGLE, Stretch, present, rows_fit, wanted_chunks, width};
use crate::error::{Error, Result};
use crate::gpu::{Constant, Kernel, LANES, MOST_ITERATIONS, Operand, Planner, Shader};
use crate::graph::{Gradients, Graph, Tensor};

const NAME: &str = "min_gru_scan";

const SHADER: Shader = variant(&[SINGLE, ACTIVATION, RECURRENCE, CHUNKED, CARRY, CHUNK_F32]);

/// Carries states from chunk to chunk by subgroup operations.
const SUBGROUP_SHADER: Shader =
    variant(&[SINGLE, ACTIVATION, RECURRENCE, CHUNKED, include_str!("../../shaders/shared/carry_subgroup.wgsl"), CHUNK_F32]);

/// Keeps what chunks hand on in half the bytes: states are right to 11 bits.
const F16_SHADER: Shader = variant(&[SINGLE, ACTIVATION, RECURRENCE, CHUNKED, CARRY, include_str!("../../shaders/shared/chunk_f16.wgsl")]);

/// A workgroup runs neighbouring channels of a sequence, four of them a vector.
const ROWS_SHADER: Shader = variant(&[QUAD, ACTIVATION, RECURRENCE, include_str!("../../shaders/shared/min_gru_scan_rows.wgsl")]);

const ACTIVATION: &str = include_str!("../../shaders/shared/activation.wgsl");
const RECURRENCE: &str = include_str!("../../shaders/shared/recurrence.wgsl");
const CHUNKED: &str = include_str!("../../shaders/shared/min_gru_scan_chunked.wgsl");
const CARRY: &str = include_str!("../../shaders/shared/carry.wgsl");
const CHUNK_F32: &str = include_str!("../../shaders/shared/chunk_f32.wgsl");

const fn variant(shared: &'static [&'static str]) -> Shader {
    Shader {
        name: NAME,
        source: include_str!("../../shaders/min_gru_scan.wgsl"),
        shared,
        constants: &[
            ("WIDTH", Constant::U32(1)),
            ("ROW_VALUES", Constant::U32(1)),
            ("CARRIED", Constant::U32(CARRIED as u32)),
            ("AHEAD", Constant::U32(1)),
            ("HAS_INITIAL_STATE", Constant::Bool(false)),
            ("HAS_RESET", Constant::Bool(false)),
            ("HAS_GRAD_H", Constant::Bool(false)),
            ("HAS_GRAD_LAST_STATE", Constant::Bool(false)),
            ("HAS_GRAD_P", Constant::Bool(false)),
            ("HAS_GRAD_INITIAL_STATE", Constant::Bool(false)),
        ],
    }
}

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
    pub last_state: Tensor,
}

/// Gradients of [`MinGruScan`].
#[derive(Clone, Debug)]
pub struct MinGruScanBackward {
    /// The forward operation.
    pub forward: MinGruScan,
    /// `(batch, step, hidden)`.
    pub grad_h: Option<Tensor>,
    /// `(batch, hidden)`.
    pub grad_last_state: Option<Tensor>,
    /// `(batch, step, 2 hidden)`.
    pub grad_p: Option<Tensor>,
    /// `(batch, hidden)`.
    pub grad_initial_state: Option<Tensor>,
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
        let last_state = self.tensor(&format!("{label}.last_state"), &[n_batch, n_hidden]);
        self.push(MinGruScan { p, recurrence: *recurrence, h, last_state });
        Ok((h, last_state))
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
        vec![self.h, self.last_state]
    }

    fn backward(&self, graph: &mut Graph, gradients: &mut Gradients) -> Result<()> {
        let (grad_h, grad_last_state) = (gradients.of(graph, self.h), gradients.of(graph, self.last_state));
        if grad_h.is_none() && grad_last_state.is_none() {
            return Ok(());
        }
        let grad_p = gradients.target(graph, self.p);
        let grad_initial_state = gradients.optional_target(graph, self.recurrence.initial_state);
        graph.push(MinGruScanBackward { forward: self.clone(), grad_h, grad_last_state, grad_p, grad_initial_state });
        Ok(())
    }

    fn flops(&self, graph: &Graph) -> usize {
        // sigmoid(p_z), its complement, g(p_h), two products and a sum
        12 * graph.spec(self.h).len()
    }

    fn exponentials(&self, graph: &Graph) -> usize {
        2 * graph.spec(self.h).len()
    }

    fn encode(&self, plan: &mut Planner) -> Result<()> {
        let windows = Window::all(plan, self, &[self.p, self.h], &[self.last_state]);
        let chunks = Window::chunks(plan, &windows);
        let states = Window::states(plan, &windows);
        let flops = self.flops(plan.graph());
        for (index, window) in windows.iter().enumerate() {
            let (stretch, layout) = (&window.stretch, &window.layout);
            let entering = stretch.entering(self.recurrence.initial_state, states[(index + 1) % 2]);
            let leaving = stretch.leaving(Some(self.last_state), states[index % 2]);
            if layout.n_chunk > 1 {
                window.kernel(plan, "summarize_forward", self).bind("chunks", chunks).groups(layout.groups())?;
                let kernel = window.kernel(plan, "carry_forward", self).bind("chunks", chunks).bind_optional("initial_state", entering);
                kernel.param("initial_state_stride", layout.n_hidden).groups(layout.carriers())?;
            }
            window
                .kernel(plan, layout.entry(["forward", "forward_chunk", "forward_rows"]), self)
                .flops(stretch.share(flops))
                .bind("chunks", chunks)
                .bind_optional("initial_state", entering)
                .param("initial_state_stride", layout.n_hidden)
                .bind("h", stretch.part(self.h))
                .param("h_first_row", window.first_row())
                .bind_optional("last_state", leaving)
                .groups(layout.groups())?;
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
        present([Some(p), recurrence.initial_state, recurrence.reset, Some(h), self.grad_h, self.grad_last_state])
    }

    fn outputs(&self) -> Vec<Tensor> {
        present([self.grad_p, self.grad_initial_state])
    }

    fn flops(&self, graph: &Graph) -> usize {
        20 * graph.spec(self.forward.h).len()
    }

    fn exponentials(&self, graph: &Graph) -> usize {
        self.forward.exponentials(graph)
    }

    fn encode(&self, plan: &mut Planner) -> Result<()> {
        let op = &self.forward;
        let states = present([self.grad_last_state, self.grad_initial_state]);
        let windows = Window::all(plan, op, &present([Some(op.p), Some(op.h), self.grad_h, self.grad_p]), &states);
        let chunks = Window::chunks(plan, &windows);
        let states = Window::states(plan, &windows);
        let flops = self.flops(plan.graph());
        for (index, window) in windows.iter().rev().enumerate() {
            let (stretch, layout) = (&window.stretch, &window.layout);
            let grad_h = self.grad_h.map(|grad_h| stretch.part(grad_h));
            let leaving = stretch.leaving(self.grad_last_state, states[(index + 1) % 2]);
            let entering = stretch.entering(self.grad_initial_state, states[index % 2]);
            if layout.n_chunk > 1 {
                let kernel = window.kernel(plan, "summarize_backward", op).bind_optional("grad_h", grad_h);
                kernel.bind("chunks", chunks).groups(layout.groups())?;
                let kernel = window.kernel(plan, "carry_backward", op).bind("chunks", chunks).bind_optional("grad_last_state", leaving);
                kernel.param("grad_last_state_stride", layout.n_hidden).groups(layout.carriers())?;
            }
            let (h, h_first_row) = window.states_before(op);
            window
                .kernel(plan, layout.entry(["backward", "backward_chunk", "backward_rows"]), op)
                .flops(stretch.share(flops))
                .bind("chunks", chunks)
                .bind_optional("initial_state", op.recurrence.initial_state.map(|state| stretch.sequences.part(state)))
                .param("initial_state_stride", layout.n_hidden)
                .bind("h", h)
                .param("h_first_row", h_first_row)
                .bind_optional("grad_h", grad_h)
                .bind_optional("grad_last_state", leaving)
                .param("grad_last_state_stride", layout.n_hidden)
                .bind_optional("grad_p", self.grad_p.map(|grad_p| stretch.part(grad_p)))
                .bind_optional("grad_initial_state", entering)
                .param("grad_initial_state_stride", layout.n_hidden)
                .groups(layout.groups())?;
        }
        Ok(())
    }
}

/// The fewest steps of a chunk: shorter ones spend more on carries than they gain.
const MIN_CHUNK: usize = 32;

/// Channels that one workgroup of `carry_subgroup.wgsl` carries.
const CARRIED: usize = 16;

/// Invocations of a workgroup of `min_gru_scan_rows.wgsl`.
const ROW_LANES: usize = 8;

/// Who takes which channels, how the kernels carry and what they keep, beside the common text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Variant {
    Plain,
    /// By four channels so many times an invocation.
    Rows(usize),
    Subgroup,
    F16,
}

/// How a run is cut into chunks, and who takes them.
struct Layout {
    variant: Variant,
    n_batch: usize,
    n_hidden: usize,
    chunk_steps: usize,
    n_chunk: usize,
    /// Steps that an invocation loads together.
    ahead: usize,
}

impl Layout {
    /// Of some sequences, or some steps of one, by a kernel.
    fn of([n_batch, n_step, n_hidden]: [usize; 3], kernel: &str) -> Self {
        let variant = match kernel {
            "subgroup" => Variant::Subgroup,
            "f16" => Variant::F16,
            "rows" => {
                // as many as fill the invocations, of those that divide a row
                let fill = |values: &usize| n_hidden.is_multiple_of(4 * values) && n_hidden >= 4 * values * ROW_LANES;
                Variant::Rows([4, 2].into_iter().find(fill).unwrap_or(1))
            }
            _ => Variant::Plain,
        };
        let chunked = !matches!(kernel, "sequential" | "rows");
        let n_wanted = wanted_chunks(n_batch * n_hidden, n_step, FILLING_CHANNELS);
        let chunk_steps = if chunked { n_step.div_ceil(n_wanted).next_multiple_of(AHEAD).max(MIN_CHUNK) } else { n_step };
        let chunk_steps = chunk_steps.clamp(1, MOST_ITERATIONS);
        let ahead = if chunked { AHEAD } else { 1 };
        Layout { variant, n_batch, n_hidden, chunk_steps, n_chunk: n_step.div_ceil(chunk_steps).max(1), ahead }
    }

    /// Of the entries for whole sequences, chunks and rows.
    fn entry(&self, [whole, chunk, rows]: [&'static str; 3]) -> &'static str {
        match self.variant {
            Variant::Rows(_) => rows,
            _ if self.n_chunk > 1 => chunk,
            _ => whole,
        }
    }

    /// What chunks hand on: one map a chunk and channel.
    fn n_map(&self) -> usize {
        self.n_batch * self.n_chunk * self.n_hidden
    }

    /// Workgroups that run all channels.
    fn groups(&self) -> usize {
        match self.variant {
            Variant::Rows(values) => self.n_batch * self.n_hidden.div_ceil(4 * values * ROW_LANES),
            _ => self.n_map().div_ceil(LANES),
        }
    }

    /// Workgroups that carry all channels.
    fn carriers(&self) -> usize {
        (self.n_batch * self.n_hidden).div_ceil(if self.variant == Variant::Subgroup { CARRIED } else { LANES })
    }
}

/// The part that is worked on at a time.
struct Window {
    stretch: Stretch,
    layout: Layout,
}

impl Window {
    /// As many sequences, or steps of one, as can be bound of tensors `(batch, step, ..)`, and of what chunks hand on; `states` are the
    /// `(batch, hidden)` beside the initial one.
    fn all(plan: &Planner, op: &MinGruScan, tensors: &[Tensor], states: &[Tensor]) -> Vec<Window> {
        let shape = &plan.spec(op.h).shape;
        let (n_batch, n_step, n_hidden) = (shape[0], shape[1], shape[2]);
        let is_aligned = width(plan, &[tensors, states, &present([op.recurrence.initial_state])].concat()) == 4;
        let rule = if plan.traits().software { &["rows", "sequential"][..] } else { &["chunked"] };
        let kernel = plan.chosen(NAME, &[n_batch, n_step, n_hidden], rule, |kernel| kernel != "rows" || is_aligned);
        let layout = |n_batch: usize, n_step: usize| Layout::of([n_batch, n_step, n_hidden], kernel);
        let fits = |n_batch: usize, n_step: usize| {
            let layout = layout(n_batch, n_step);
            let chunks_fit = 8 * layout.n_map() as u64 <= plan.traits().max_binding;
            let is_counted = n_step <= MOST_ITERATIONS || !matches!(layout.variant, Variant::Rows(_));
            // a row more, of the state before
            chunks_fit && is_counted && rows_fit(plan, tensors, n_batch * n_step + 1)
        };
        let stretches = Stretch::all(n_batch, n_step, op.recurrence.reverse, MIN_CHUNK, fits);
        let window = |stretch: Stretch| Window { stretch, layout: layout(stretch.sequences.count, stretch.n_step) };
        stretches.into_iter().map(window).collect()
    }

    /// Scratch memory for what chunks hand on, for one window after the other.
    fn chunks(plan: &mut Planner, windows: &[Window]) -> Operand {
        plan.scratch(windows.iter().map(|window| 2 * window.layout.n_map()).max().unwrap_or(0))
    }

    /// Scratch memory for the states that windows hand on, by turns.
    fn states(plan: &mut Planner, windows: &[Window]) -> [Operand; 2] {
        let parted = windows.first().filter(|window| !window.stretch.ends());
        let len = parted.map_or(0, |window| window.layout.n_batch * window.layout.n_hidden);
        [(); 2].map(|()| plan.scratch(len))
    }

    /// The row of `(batch, step)` that is bound first, counted from the window's first sequence.
    fn first_row(&self) -> usize {
        self.stretch.first_step
    }

    /// The states, with the one before the window's first, and the row that is bound first.
    fn states_before(&self, op: &MinGruScan) -> (Operand, usize) {
        let reach = self.stretch.reaching(1, 0, op.recurrence.reverse);
        (reach.part(op.h), reach.first_step)
    }

    /// Starts a dispatch with everything set that is the same for all of them.
    fn kernel<'p, 'a>(&self, plan: &'p mut Planner<'a>, entry: &'static str, op: &MinGruScan) -> Kernel<'p, 'a> {
        let Window { stretch, layout } = self;
        let (shader, width, values): (&'static Shader, usize, usize) = match layout.variant {
            Variant::Plain => (&SHADER, 1, 1),
            Variant::Rows(values) => (&ROWS_SHADER, 4, values),
            Variant::Subgroup => (&SUBGROUP_SHADER, 1, 1),
            Variant::F16 => (&F16_SHADER, 1, 1),
        };
        plan.kernel(shader, entry)
            .constant("WIDTH", width)
            .constant("ROW_VALUES", values)
            .constant("AHEAD", layout.ahead)
            .bind("p", stretch.part(op.p))
            .bind_optional("reset", op.recurrence.reset.map(|reset| stretch.sequences.part(reset)))
            .param("n_batch", layout.n_batch)
            .param("n_step", stretch.n_whole_step)
            .param("n_hidden", layout.n_hidden / width)
            .param("reverse", op.recurrence.reverse)
            .param("chunk_steps", layout.chunk_steps)
            .param("n_chunk", layout.n_chunk)
            .param("first_position", stretch.first_position)
            .param("end_position", stretch.first_position + stretch.n_step)
            .param("first_row", self.first_row())
    }
}
