//! Causal depthwise convolution over the steps.

use super::{COLUMNS, Operation, QUAD, Recurrence, SINGLE, SPREAD, Stretch, present, rows_fit, width};
use crate::error::{Error, Result};
use crate::gpu::{Constant, Kernel, Planner, Shader};
use crate::graph::{Gradients, Graph, Tensor};
pub use crate::reference::causal_conv1d::Activation;

const SHADER: Shader = variant(&[SINGLE, ACTIVATION, RECURRENCE, SUM_COLUMN, SPREAD]);

/// Four channels an invocation.
const QUAD_SHADER: Shader = variant(&[QUAD, ACTIVATION, RECURRENCE, SUM_COLUMN, SPREAD]);

const ACTIVATION: &str = include_str!("../../shaders/shared/activation.wgsl");
const RECURRENCE: &str = include_str!("../../shaders/shared/recurrence.wgsl");
const SUM_COLUMN: &str = include_str!("../../shaders/shared/sum_column.wgsl");

const fn variant(shared: &'static [&'static str]) -> Shader {
    Shader {
        name: "causal_conv1d",
        source: include_str!("../../shaders/causal_conv1d.wgsl"),
        shared,
        constants: &[
            ("WIDTH", Constant::U32(1)),
            ("SPREAD", Constant::Bool(false)),
            ("KERNEL_SIZE", Constant::U32(4)),
            ("CHUNK", Constant::U32(CHUNK as u32)),
            ("COLUMNS", Constant::U32(COLUMNS as u32)),
            ("SILU", Constant::Bool(false)),
            ("HAS_BIAS", Constant::Bool(false)),
            ("HAS_INITIAL_WINDOW", Constant::Bool(false)),
            ("HAS_RESET", Constant::Bool(false)),
            ("HAS_GRAD_Y", Constant::Bool(false)),
            ("HAS_GRAD_LAST_WINDOW", Constant::Bool(false)),
            ("HAS_GRAD_X", Constant::Bool(false)),
            ("HAS_GRAD_WEIGHT", Constant::Bool(false)),
            ("HAS_GRAD_BIAS", Constant::Bool(false)),
            ("HAS_GRAD_INITIAL_WINDOW", Constant::Bool(false)),
        ],
    }
}

/// Steps that one invocation takes, at least as many as a window has.
const CHUNK: usize = 32;

/// A window must fit into the steps of one invocation.
const LONGEST_KERNEL: usize = CHUNK + 1;

/// `y = activation(x * weight + bias)`, each channel by itself, from the inputs at and before a step (in the direction of the run).
#[derive(Clone, Debug)]
pub struct CausalConv1d {
    /// `(batch, step, channel)`, rows may lie apart.
    pub x: Tensor,
    /// `(channel, kernel_size)`; the last weight meets the current step.
    pub weight: Tensor,
    /// `(channel)`.
    pub bias: Option<Tensor>,
    /// Direction, borders, and `(batch, kernel_size - 1, channel)` inputs before the first position, in the order of the run.
    pub recurrence: Recurrence,
    /// What follows the convolution.
    pub activation: Activation,
    /// `(batch, step, channel)`.
    pub y: Tensor,
    /// `(batch, kernel_size - 1, channel)`: the initial window of a run that continues this one.
    pub last_window: Tensor,
}

/// Gradients of [`CausalConv1d`].
#[derive(Clone, Debug)]
pub struct CausalConv1dBackward {
    /// As in the forward operation.
    pub x: Tensor,
    /// As in the forward operation.
    pub weight: Tensor,
    /// As in the forward operation.
    pub bias: Option<Tensor>,
    /// As in the forward operation.
    pub recurrence: Recurrence,
    /// As in the forward operation.
    pub activation: Activation,
    /// `(batch, step, channel)`, rows may lie apart.
    pub grad_y: Option<Tensor>,
    /// `(batch, kernel_size - 1, channel)`.
    pub grad_last_window: Option<Tensor>,
    /// `(batch, step, channel)`, rows may lie apart.
    pub grad_x: Option<Tensor>,
    /// `(channel, kernel_size)`.
    pub grad_weight: Option<Tensor>,
    /// `(channel)`.
    pub grad_bias: Option<Tensor>,
    /// `(batch, kernel_size - 1, channel)`.
    pub grad_initial_window: Option<Tensor>,
}

impl Graph {
    /// Causal depthwise convolution of `x (batch, step, channel)` with `weight (channel, kernel_size)` and `bias (channel)`, then the
    /// activation. Returns `y (batch, step, channel)` and the last window `(batch, kernel_size - 1, channel)`, which has the form of
    /// [`Recurrence::initial_state`]: the inputs before the first position, in the order of the run.
    ///
    /// # Errors
    /// [`Error::Shape`] where the shapes do not fit, [`Error::Unsupported`] where the kernel is longer than 33 steps.
    pub fn causal_conv1d(
        &mut self,
        label: &str,
        x: Tensor,
        weight: Tensor,
        bias: Option<Tensor>,
        activation: Activation,
        recurrence: &Recurrence,
    ) -> Result<(Tensor, Tensor)> {
        let [n_batch, n_step, n_channel] = self.axes("causal_conv1d", x)?;
        let [_, kernel_size] = self.axes("causal_conv1d", weight)?;
        self.expect("causal_conv1d", weight, &[n_channel, kernel_size])?;
        if !(1..=LONGEST_KERNEL).contains(&kernel_size) {
            let what = message!("the kernel has {} steps, but 1 to {} are supported", kernel_size, LONGEST_KERNEL);
            return Err(Error::Unsupported { operation: "causal_conv1d", what });
        }
        let window = [n_batch, kernel_size - 1, n_channel];
        if let Some(bias) = bias {
            self.expect("causal_conv1d", bias, &[n_channel])?;
        }
        recurrence.check(self, "causal_conv1d", n_batch, n_step, &window)?;
        let y = self.tensor(label, &[n_batch, n_step, n_channel]);
        let last_window = self.tensor(&format!("{label}.last_window"), &window);
        self.push(CausalConv1d { x, weight, bias, recurrence: *recurrence, activation, y, last_window });
        Ok((y, last_window))
    }
}

impl Operation for CausalConv1d {
    fn name(&self) -> &'static str {
        "causal_conv1d"
    }

    fn inputs(&self) -> Vec<Tensor> {
        present([Some(self.x), Some(self.weight), self.bias, self.recurrence.initial_state, self.recurrence.reset])
    }

    fn outputs(&self) -> Vec<Tensor> {
        vec![self.y, self.last_window]
    }

    fn backward(&self, graph: &mut Graph, gradients: &mut Gradients) -> Result<()> {
        let op = CausalConv1dBackward {
            x: self.x,
            weight: self.weight,
            bias: self.bias,
            recurrence: self.recurrence,
            activation: self.activation,
            grad_y: gradients.of(graph, self.y),
            grad_last_window: gradients.of(graph, self.last_window),
            grad_x: gradients.target(graph, self.x),
            grad_weight: gradients.target(graph, self.weight),
            grad_bias: gradients.optional_target(graph, self.bias),
            grad_initial_window: gradients.optional_target(graph, self.recurrence.initial_state),
        };
        graph.push(op);
        Ok(())
    }

    fn flops(&self, graph: &Graph) -> usize {
        (2 * graph.spec(self.weight).columns() + 4) * graph.spec(self.y).len()
    }

    fn exponentials(&self, graph: &Graph) -> usize {
        usize::from(self.activation == Activation::Silu) * graph.spec(self.y).len()
    }

    fn encode(&self, plan: &mut Planner) -> Result<()> {
        let tensors = present([Some(self.x), self.bias, self.recurrence.initial_state, Some(self.y), Some(self.last_window)]);
        let sizes = Sizes::of(plan, self.x, self.weight, &tensors);
        let flops = self.flops(plan.graph());
        for stretch in sizes.stretches(plan, &[self.x, self.y], self.recurrence.reverse, |_, _| 0) {
            let of_sequences = |tensor: Tensor| stretch.sequences.part(tensor);
            let x = sizes.reach(&stretch, &self.recurrence);
            sizes
                .kernel(plan, "forward", &stretch, stretch.n_step, self.activation, &self.recurrence)
                .flops(stretch.share(flops))
                .bind("x", x.part(self.x))
                .param("x_first_row", x.first_step)
                .bind("weight", self.weight)
                .bind_optional("bias", self.bias)
                .bind_optional("initial_window", self.recurrence.initial_state.map(of_sequences))
                .bind_optional("reset", self.recurrence.reset.map(of_sequences))
                .bind("y", stretch.part(self.y))
                .bind("last_window", of_sequences(self.last_window))
                .lanes(sizes.n_item(stretch.sequences.count, stretch.n_step) / sizes.width)?;
        }
        Ok(())
    }
}

impl Operation for CausalConv1dBackward {
    fn name(&self) -> &'static str {
        "causal_conv1d_backward"
    }

    fn inputs(&self) -> Vec<Tensor> {
        let Recurrence { initial_state, reset, .. } = self.recurrence;
        present([Some(self.x), Some(self.weight), self.bias, initial_state, reset, self.grad_y, self.grad_last_window])
    }

    fn outputs(&self) -> Vec<Tensor> {
        present([self.grad_x, self.grad_weight, self.grad_bias, self.grad_initial_window])
    }

    fn flops(&self, graph: &Graph) -> usize {
        (6 * graph.spec(self.weight).columns() + 8) * graph.spec(self.x).len()
    }

    fn exponentials(&self, graph: &Graph) -> usize {
        usize::from(self.activation == Activation::Silu) * graph.spec(self.x).len()
    }

    fn encode(&self, plan: &mut Planner) -> Result<()> {
        let Recurrence { initial_state, reset, reverse } = self.recurrence;
        let given = present([self.bias, initial_state, self.grad_last_window, self.grad_bias, self.grad_initial_window]);
        let tensors = present([Some(self.x), self.grad_y, self.grad_x]);
        let sizes = Sizes::of(plan, self.x, self.weight, &[&tensors[..], &given].concat());
        let n_partial = |n_batch: usize, n_step: usize| sizes.n_item(n_batch, n_step) * (sizes.kernel_size + 1);
        let n_element = |n_batch: usize, n_step: usize| n_batch * n_step * sizes.n_channel;
        let scratch = |n_batch: usize, n_step: usize| n_partial(n_batch, n_step).max(n_element(n_batch, n_step));
        let stretches = sizes.stretches(plan, &tensors, reverse, scratch);
        let most = |len: &dyn Fn(usize, usize) -> usize| {
            stretches.iter().map(|stretch| len(stretch.sequences.count, sizes.ahead(stretch, reverse).n_step)).max().unwrap_or(0)
        };
        let (grad_sum, partial_weight) = (plan.scratch(most(&n_element)), plan.scratch(most(&n_partial)));
        // the last positions first: what is ahead of a stretch is computed once more for it
        for (index, stretch) in stretches.iter().rev().enumerate() {
            let of_sequences = |tensor: Tensor| stretch.sequences.part(tensor);
            let ahead = sizes.ahead(stretch, reverse);
            let x = sizes.reach(&ahead, &self.recurrence);
            let n_batch = stretch.sequences.count;
            let reset = reset.map(of_sequences);
            sizes
                .kernel(plan, "backward_sum", stretch, ahead.n_step, self.activation, &self.recurrence)
                .flops(4 * sizes.kernel_size * n_element(n_batch, stretch.n_step))
                .bind("x", x.part(self.x))
                .param("x_first_row", x.first_step)
                .bind("weight", self.weight)
                .bind_optional("bias", self.bias)
                .bind_optional("initial_window", initial_state.map(of_sequences))
                .bind_optional("reset", reset)
                .bind_optional("grad_y", self.grad_y.map(|grad_y| ahead.part(grad_y)))
                .param("grad_y_first_row", ahead.first_step)
                .bind("grad_sum", grad_sum)
                .bind("partial_weight", partial_weight)
                .lanes(sizes.n_item(n_batch, ahead.n_step) / sizes.width)?;
            if self.grad_x.is_some() || self.grad_initial_window.is_some() {
                sizes
                    .kernel(plan, "backward_input", stretch, ahead.n_step, self.activation, &self.recurrence)
                    .bind("weight", self.weight)
                    .bind_optional("reset", reset)
                    .bind("grad_sum", grad_sum)
                    .bind_optional("grad_last_window", self.grad_last_window.map(of_sequences))
                    .bind_optional("grad_x", self.grad_x.map(|grad_x| stretch.part(grad_x)))
                    .bind_optional("grad_initial_window", self.grad_initial_window.map(of_sequences))
                    .lanes(sizes.n_item(n_batch, ahead.n_step) / sizes.width)?;
            }
            if self.grad_weight.is_some() || self.grad_bias.is_some() {
                sizes
                    .kernel(plan, "backward_weight", stretch, ahead.n_step, self.activation, &self.recurrence)
                    .bind("partial_weight", partial_weight)
                    .bind_optional("grad_weight", self.grad_weight)
                    .bind_optional("grad_bias", self.grad_bias)
                    .param("accumulate", index > 0)
                    .groups(((sizes.kernel_size + 1) * sizes.n_channel).div_ceil(COLUMNS * sizes.width))?;
            }
        }
        Ok(())
    }
}

/// What every kernel is told.
#[derive(Clone, Copy)]
struct Sizes {
    n_batch: usize,
    n_step: usize,
    n_channel: usize,
    kernel_size: usize,
    /// Channels of an invocation.
    width: usize,
}

impl Sizes {
    /// Of an operation over `x`; on software adapters an invocation takes four channels where all tensors that have channels allow it.
    fn of(plan: &Planner, x: Tensor, weight: Tensor, tensors: &[Tensor]) -> Self {
        let width = if plan.traits().software { width(plan, tensors) } else { 1 };
        let (x, kernel_size) = (plan.spec(x), plan.spec(weight).columns());
        Sizes { n_batch: x.shape[0], n_step: x.shape[1], n_channel: x.columns(), kernel_size, width }
    }

    /// Chunks over so many sequences and positions, of one channel each.
    fn n_item(&self, n_batch: usize, n_step: usize) -> usize {
        n_batch * n_step.div_ceil(CHUNK) * self.n_channel
    }

    /// As many sequences, or positions of one, as can be bound of tensors `(batch, step, ..)`, with the windows before and behind them, and
    /// of `scratch` memory for so many.
    fn stretches(&self, plan: &Planner, tensors: &[Tensor], reverse: bool, scratch: impl Fn(usize, usize) -> usize) -> Vec<Stretch> {
        let n_window = self.kernel_size - 1;
        let fits = |n_batch: usize, n_step: usize| {
            let scratch_fits = 4 * scratch(n_batch, n_step + n_window) as u64 <= plan.traits().max_binding;
            scratch_fits && rows_fit(plan, tensors, n_batch * n_step + 2 * n_window)
        };
        Stretch::all(self.n_batch, self.n_step, reverse, CHUNK, fits)
    }

    /// With the inputs before it that its positions read.
    fn reach(&self, stretch: &Stretch, recurrence: &Recurrence) -> Stretch {
        stretch.reaching(self.kernel_size - 1, 0, recurrence.reverse)
    }

    /// With the sums behind it that its inputs enter.
    fn ahead(&self, stretch: &Stretch, reverse: bool) -> Stretch {
        stretch.reaching(0, self.kernel_size - 1, reverse)
    }

    /// A dispatch over a stretch and what lies behind it, `n_step` positions in all.
    fn kernel<'p, 'a>(
        &self,
        plan: &'p mut Planner<'a>,
        entry: &'static str,
        stretch: &Stretch,
        n_step: usize,
        activation: Activation,
        recurrence: &Recurrence,
    ) -> Kernel<'p, 'a> {
        plan.kernel(if self.width == 1 { &SHADER } else { &QUAD_SHADER }, entry)
            .constant("WIDTH", self.width)
            .constant("SPREAD", self.width > 1)
            .constant("KERNEL_SIZE", self.kernel_size)
            .constant("SILU", activation == Activation::Silu)
            .param("n_batch", stretch.sequences.count)
            .param("n_step", self.n_step)
            .param("n_channel", self.n_channel / self.width)
            .param("n_chunk", n_step.div_ceil(CHUNK))
            .param("first_position", stretch.first_position)
            .param("end_position", stretch.first_position + stretch.n_step)
            .param("reach_position", stretch.first_position + n_step)
            .param("first_row", stretch.first_step)
            .param("reverse", recurrence.reverse)
    }
}
