//! Causal depthwise convolution over the steps.

use super::{COLUMNS, Operation, Recurrence, SINGLE, Sequences, present};
use crate::error::{Error, Result};
use crate::gpu::{Constant, Kernel, Planner, Shader};
use crate::graph::{Gradients, Graph, Tensor};
pub use crate::reference::causal_conv1d::Activation;

pub(crate) const SHADER: Shader = Shader {
    name: "causal_conv1d",
    source: include_str!("../../shaders/causal_conv1d.wgsl"),
    shared: &[
        include_str!("../../shaders/shared/activation.wgsl"),
        include_str!("../../shaders/shared/recurrence.wgsl"),
        include_str!("../../shaders/shared/sum_column.wgsl"),
        SINGLE,
    ],
    constants: &[
        ("KERNEL_SIZE", Constant::U32(4)),
        ("CHUNK", Constant::U32(CHUNK as u32)),
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
};

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
            let what = message!("a kernel of {} steps; 1 to {} are supported", kernel_size, LONGEST_KERNEL);
            return Err(Error::Unsupported { operation: "causal_conv1d", what });
        }
        let window = [n_batch, kernel_size - 1, n_channel];
        for (tensor, shape) in [(bias, &[n_channel][..]), (recurrence.initial_state, &window), (recurrence.reset, &[n_batch, n_step])] {
            if let Some(tensor) = tensor {
                self.expect("causal_conv1d", tensor, shape)?;
            }
        }
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

    fn encode(&self, plan: &mut Planner) -> Result<()> {
        let whole = Sizes::of(plan, self.x, self.weight);
        let flops = self.flops(plan.graph());
        for window in Sequences::windows(plan, whole.n_batch, &[self.x, self.y], |_| 0) {
            let sizes = Sizes { n_batch: window.count, ..whole };
            let part = |tensor: Tensor| window.part(tensor);
            sizes
                .kernel(plan, "forward", self.activation, &self.recurrence)
                .flops(window.share(flops))
                .bind("x", part(self.x))
                .bind("weight", self.weight)
                .bind_optional("bias", self.bias)
                .bind_optional("initial_window", self.recurrence.initial_state.map(part))
                .bind_optional("reset", self.recurrence.reset.map(part))
                .bind("y", part(self.y))
                .bind("last_window", part(self.last_window))
                .lanes(sizes.n_item())?;
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

    fn encode(&self, plan: &mut Planner) -> Result<()> {
        let whole = Sizes::of(plan, self.x, self.weight);
        let tensors = present([Some(self.x), self.grad_y, self.grad_x]);
        let n_partial = |n_batch: usize| Sizes { n_batch, ..whole }.n_item() * (whole.kernel_size + 1);
        let n_element = |n_batch: usize| n_batch * whole.n_step * whole.n_channel;
        let windows = Sequences::windows(plan, whole.n_batch, &tensors, |count| n_partial(count).max(n_element(count)));
        let most = windows.first().map_or(0, |window| window.count);
        let grad_sum = plan.scratch(n_element(most));
        let partial_weight = plan.scratch(n_partial(most));
        for window in windows {
            let sizes = Sizes { n_batch: window.count, ..whole };
            let part = |tensor: Tensor| window.part(tensor);
            let reset = self.recurrence.reset.map(part);
            sizes
                .kernel(plan, "backward_sum", self.activation, &self.recurrence)
                .flops(4 * sizes.kernel_size * n_element(window.count))
                .bind("x", part(self.x))
                .bind("weight", self.weight)
                .bind_optional("bias", self.bias)
                .bind_optional("initial_window", self.recurrence.initial_state.map(part))
                .bind_optional("reset", reset)
                .bind_optional("grad_y", self.grad_y.map(part))
                .bind("grad_sum", grad_sum)
                .bind("partial_weight", partial_weight)
                .lanes(sizes.n_item())?;
            if self.grad_x.is_some() || self.grad_initial_window.is_some() {
                sizes
                    .kernel(plan, "backward_input", self.activation, &self.recurrence)
                    .bind("weight", self.weight)
                    .bind_optional("reset", reset)
                    .bind("grad_sum", grad_sum)
                    .bind_optional("grad_last_window", self.grad_last_window.map(part))
                    .bind_optional("grad_x", self.grad_x.map(part))
                    .bind_optional("grad_initial_window", self.grad_initial_window.map(part))
                    .lanes(sizes.n_item())?;
            }
            if self.grad_weight.is_some() || self.grad_bias.is_some() {
                sizes
                    .kernel(plan, "backward_weight", self.activation, &self.recurrence)
                    .bind("partial_weight", partial_weight)
                    .bind_optional("grad_weight", self.grad_weight)
                    .bind_optional("grad_bias", self.grad_bias)
                    .param("accumulate", window.first > 0)
                    .groups(((sizes.kernel_size + 1) * sizes.n_channel).div_ceil(COLUMNS))?;
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
    n_chunk: usize,
    kernel_size: usize,
}

impl Sizes {
    fn of(plan: &Planner, x: Tensor, weight: Tensor) -> Self {
        let (x, kernel_size) = (plan.spec(x), plan.spec(weight).columns());
        let [n_batch, n_step] = [x.shape[0], x.shape[1]];
        Sizes { n_batch, n_step, n_channel: x.columns(), n_chunk: n_step.div_ceil(CHUNK), kernel_size }
    }

    /// Invocations: one a batch item, chunk and channel.
    fn n_item(&self) -> usize {
        self.n_batch * self.n_chunk * self.n_channel
    }

    fn kernel<'p, 'a>(
        &self,
        plan: &'p mut Planner<'a>,
        entry: &'static str,
        activation: Activation,
        recurrence: &Recurrence,
    ) -> Kernel<'p, 'a> {
        plan.kernel(&SHADER, entry)
            .constant("KERNEL_SIZE", self.kernel_size)
            .constant("SILU", activation == Activation::Silu)
            .param("n_batch", self.n_batch)
            .param("n_step", self.n_step)
            .param("n_channel", self.n_channel)
            .param("n_chunk", self.n_chunk)
            .param("reverse", recurrence.reverse)
    }
}
