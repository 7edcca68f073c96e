//! The operations: their tensors, shape checks, gradient rules, and the GPU half on the host (parameters and dispatch counts).
//!
//! One file an operation; its mathematics stands in `reference/`, its kernels in `shaders/`, under the same stem.

mod attention;
mod causal_conv1d;
mod counter;
mod dropout;
mod elementwise;
mod grad_norm;
mod iterate;
mod linear;
mod loss;
mod mamba_lab;
mod min_gru;
mod min_gru_scan;
mod optimizer;
mod panel;
mod rms_norm;
mod selective_scan;
mod stack;
mod window;

pub use attention::{Attention, AttentionAppend, AttentionAppendBackward, AttentionBackward, AttentionInputs, KeyValueCache};
pub use causal_conv1d::{Activation, CausalConv1d, CausalConv1dBackward};
pub use counter::Advance;
pub use dropout::{Dropout, DropoutSource};
pub use elementwise::Elementwise;
pub use grad_norm::GradNorm;
pub use iterate::{Iterate, Iterated};
pub use linear::{Linear, LinearBackward};
pub(crate) use loss::central_level;
pub use loss::{Loss, MeanLoss, MeanLossBackward};
pub use mamba_lab::{MambaLab, MambaLabBackward};
pub use min_gru::{MinGru, MinGruBackward};
pub use min_gru_scan::{MinGruScan, MinGruScanBackward};
pub use optimizer::{L1Penalty, Optimize, Optimizer, ParameterGroup, Update};
pub use rms_norm::{RmsNorm, RmsNormBackward};
pub use selective_scan::{SelectiveScan, SelectiveScanBackward, SelectiveScanInputs};
pub use stack::Stack;
pub use window::{Gather, Normalisation, Rescale, Rescaling, Restore, Window, WindowSource};

use std::collections::HashSet;

use crate::error::{Error, Result};
use crate::gpu::{Need, Operand, Planner};
use crate::graph::{Gradients, Graph, Tensor};
use crate::profile::Work;

/// What every operation of a program offers.
pub trait Operation {
    /// Name for messages, profilers and `--kernel` choices: `linear`, `linear_backward`.
    fn name(&self) -> &'static str;

    /// Tensors it reads.
    fn inputs(&self) -> Vec<Tensor>;

    /// Tensors it writes.
    fn outputs(&self) -> Vec<Tensor>;

    /// Appends the operations that turn the gradients of its outputs into those of its inputs.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where the operation has no gradient.
    fn backward(&self, graph: &mut Graph, gradients: &mut Gradients) -> Result<()> {
        let _ = (graph, gradients);
        Err(Error::Unsupported { operation: self.name(), what: message!("has no gradient") })
    }

    /// Floating-point operations that its formula takes, for profiles: one for each element that it writes, where it says nothing else.
    fn flops(&self, graph: &Graph) -> usize {
        self.outputs().into_iter().map(|output| graph.spec(output).len()).sum()
    }

    /// Exponentials and functions made of them (sigmoid, tanh, softplus), for the least time that it can take.
    fn exponentials(&self, graph: &Graph) -> usize {
        let _ = graph;
        0
    }

    /// Bytes of all that it reads and writes, each once, its floating-point operations and the exponentials among them.
    fn work(&self, graph: &Graph) -> Work {
        let tensors = self.inputs().into_iter().chain(self.outputs()).collect::<HashSet<_>>();
        let n_element: usize = tensors.into_iter().map(|tensor| graph.spec(tensor).len()).sum();
        Work { bytes: 4.0 * n_element as f64, flops: self.flops(graph) as f64, exponentials: self.exponentials(graph) as f64 }
    }

    /// Plans its dispatches.
    ///
    /// # Errors
    /// [`Error::Gpu`] where the problem does not fit the adapter's limits.
    fn encode(&self, plan: &mut Planner) -> Result<()>;
}

macro_rules! ops {
    ($($op:ident),* $(,)?) => {
        /// Any operation.
        #[derive(Clone, Debug)]
        #[allow(missing_docs)]
        pub enum Op {
            $($op($op)),*
        }

        impl Operation for Op {
            fn name(&self) -> &'static str {
                match self { $(Op::$op(op) => op.name()),* }
            }
            fn inputs(&self) -> Vec<Tensor> {
                match self { $(Op::$op(op) => op.inputs()),* }
            }
            fn outputs(&self) -> Vec<Tensor> {
                match self { $(Op::$op(op) => op.outputs()),* }
            }
            fn backward(&self, graph: &mut Graph, gradients: &mut Gradients) -> Result<()> {
                match self { $(Op::$op(op) => op.backward(graph, gradients)),* }
            }
            fn flops(&self, graph: &Graph) -> usize {
                match self { $(Op::$op(op) => op.flops(graph)),* }
            }
            fn exponentials(&self, graph: &Graph) -> usize {
                match self { $(Op::$op(op) => op.exponentials(graph)),* }
            }
            fn encode(&self, plan: &mut Planner) -> Result<()> {
                match self { $(Op::$op(op) => op.encode(plan)),* }
            }
        }

        $(impl From<$op> for Op {
            fn from(op: $op) -> Self {
                Op::$op(op)
            }
        })*
    };
}

ops!(
    Advance,
    Attention,
    AttentionAppend,
    AttentionAppendBackward,
    AttentionBackward,
    CausalConv1d,
    CausalConv1dBackward,
    Dropout,
    Elementwise,
    Gather,
    GradNorm,
    Iterate,
    L1Penalty,
    Linear,
    LinearBackward,
    MambaLab,
    MambaLabBackward,
    MeanLoss,
    MeanLossBackward,
    MinGru,
    MinGruBackward,
    MinGruScan,
    MinGruScanBackward,
    Optimize,
    Rescale,
    Restore,
    RmsNorm,
    RmsNormBackward,
    SelectiveScan,
    SelectiveScanBackward,
    Stack,
);

impl Op {
    /// Whether the operation starts a backward pass by itself.
    pub fn is_loss(&self) -> bool {
        matches!(self, Op::MeanLoss(_))
    }
}

/// How a recurrence walks over the steps of a batch.
#[derive(Clone, Copy, Debug, Default)]
pub struct Recurrence {
    /// The state before the first step that is visited; zero where absent.
    pub initial_state: Option<Tensor>,
    /// `(batch, step)` indices, 1 where a step begins a new sequence (in time order, whatever the direction), else 0.
    pub reset: Option<Tensor>,
    /// Run from the last step to the first; outputs stay at their own steps.
    pub reverse: bool,
}

impl Recurrence {
    fn check(&self, graph: &Graph, operation: &'static str, n_batch: usize, n_step: usize, state: &[usize]) -> Result<()> {
        if let Some(initial_state) = self.initial_state {
            graph.expect(operation, initial_state, state)?;
        }
        self.reset.map_or(Ok(()), |reset| graph.expect(operation, reset, &[n_batch, n_step]))
    }
}

/// Neighbouring sequences of a batch: those that one dispatch takes.
#[derive(Clone, Copy, Debug)]
struct Sequences {
    first: usize,
    count: usize,
    /// Sequences of the whole batch.
    of: usize,
}

impl Sequences {
    /// Cuts a batch into windows for which the given tensors can be bound, and as many elements of scratch memory as so many sequences need.
    fn windows(plan: &Planner, n_batch: usize, tensors: &[Tensor], scratch: impl Fn(usize) -> usize) -> Vec<Sequences> {
        let most = plan.windows(n_batch, tensors).first().map_or(1, |(_, count)| *count);
        let fits = |count: &usize| 4 * scratch(*count) as u64 <= plan.traits().max_binding;
        let most = (1..=most).rev().find(fits).unwrap_or(1);
        (0..n_batch).step_by(most).map(|first| Sequences { first, count: most.min(n_batch - first), of: n_batch }).collect()
    }

    /// Their part of a tensor whose first axis is the batch.
    fn part(self, tensor: Tensor) -> Operand {
        Operand::Part { tensor, first: self.first, count: self.count, of: self.of }
    }

    /// Their share of what the whole batch takes.
    fn share(self, whole: usize) -> usize {
        whole / self.of * self.count
    }
}

/// Some sequences of a batch, or some steps of one: what one dispatch takes.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    sequences: Sequences,
    /// In the order of the visits.
    first_position: usize,
    n_step: usize,
    first_step: usize,
    /// Steps of a sequence.
    n_whole_step: usize,
}

impl Stretch {
    /// As many sequences as fit, else as many steps of one, a multiple of `grain` but for the last. Sorted by sequences, then by positions.
    fn all(n_batch: usize, n_step: usize, reverse: bool, grain: usize, fits: impl Fn(usize, usize) -> bool) -> Vec<Stretch> {
        let (most_sequences, most_steps) = match (1..=n_batch).rev().find(|count| fits(*count, n_step)) {
            Some(count) => (count, n_step),
            None => (1, Stretch::most_steps(n_step, grain, |n_step| fits(1, n_step))),
        };
        let sequences = |first: usize| Sequences { first, count: most_sequences.min(n_batch - first), of: n_batch };
        (0..n_batch).step_by(most_sequences).flat_map(|first| Stretch::cut(sequences(first), n_step, reverse, most_steps)).collect()
    }

    /// All steps, else as many as fit, a multiple of `grain`.
    fn most_steps(n_step: usize, grain: usize, fits: impl Fn(usize) -> bool) -> usize {
        if fits(n_step) {
            return n_step;
        }
        grain * (2..n_step.div_ceil(grain)).rev().find(|grains| fits(grain * grains)).unwrap_or(1)
    }

    /// The steps of some sequences, so many at a time.
    fn cut(sequences: Sequences, n_step: usize, reverse: bool, most_steps: usize) -> Vec<Stretch> {
        let stretch = |first_position: usize| {
            let len = most_steps.min(n_step - first_position);
            let first_step = if reverse { n_step - first_position - len } else { first_position };
            Stretch { sequences, first_position, n_step: len, first_step, n_whole_step: n_step }
        };
        (0..n_step).step_by(most_steps.max(1)).map(stretch).collect()
    }

    /// The first of its rows in a tensor `(batch, step, ..)`.
    fn first_row(&self) -> usize {
        self.sequences.first * self.n_whole_step + self.first_step
    }

    /// Of a tensor `(batch, step, ..)`.
    fn part(&self, tensor: Tensor) -> Operand {
        let Sequences { count, of, .. } = self.sequences;
        Operand::Part { tensor, first: self.first_row(), count: count * self.n_step, of: of * self.n_whole_step }
    }

    /// In the order of the visits.
    fn positions(&self) -> std::ops::Range<usize> {
        self.first_position..self.first_position + self.n_step
    }

    /// Its rows in a tensor `(batch, step, ..)`.
    fn rows(&self) -> usize {
        self.sequences.count * self.n_step
    }

    /// Its share of what the whole batch takes.
    fn share(&self, whole: usize) -> usize {
        whole / (self.sequences.of * self.n_whole_step).max(1) * self.rows()
    }

    /// The state before its first position or that state's gradient: the run's own where it begins one, else what its neighbour hands on.
    fn entering(&self, of_run: Option<Tensor>, handed_on: Operand) -> Option<Operand> {
        if self.begins() { of_run.map(|state| self.sequences.part(state)) } else { Some(handed_on) }
    }

    /// The state behind its last position or that state's gradient: the run's own where it ends one, else what its neighbour hands on.
    fn leaving(&self, of_run: Option<Tensor>, handed_on: Operand) -> Option<Operand> {
        if self.ends() { of_run.map(|state| self.sequences.part(state)) } else { Some(handed_on) }
    }

    /// Widened by `before` and `behind` positions, as far as the sequences have them.
    fn reaching(&self, before: usize, behind: usize, reverse: bool) -> Stretch {
        let first_position = self.first_position.saturating_sub(before);
        let end = (self.first_position + self.n_step + behind).min(self.n_whole_step);
        let first_step = if reverse { self.n_whole_step - end } else { first_position };
        Stretch { first_position, n_step: end - first_position, first_step, ..*self }
    }

    /// Whether it begins its sequences, in the order of the visits.
    fn begins(&self) -> bool {
        self.first_position == 0
    }

    /// Whether it ends its sequences.
    fn ends(&self) -> bool {
        self.first_position + self.n_step == self.n_whole_step
    }
}

/// Whether so many rows of each tensor can be bound together; what is bound may begin 64 elements before the first of them.
fn rows_fit(plan: &Planner, tensors: &[Tensor], n_row: usize) -> bool {
    let row = tensors.iter().map(|tensor| plan.spec(*tensor).row_stride).max().unwrap_or(1);
    4 * (row * n_row + 64) as u64 <= plan.traits().max_binding
}

/// Steps of a scan that an invocation of a real GPU loads together: few invocations have all its memory to wait for.
const AHEAD: usize = 8;

/// Channels of all sequences that fill a GPU: a scan of fewer is cut into chunks.
const FILLING_CHANNELS: usize = 1 << 14;

/// Channels of all chunks that it is then cut into: loads of as many span a large GPU's latency.
const CUT_INTO: usize = 1 << 16;

/// Chunks of a scan of so many channels in all, of which `filling` need none, on a real GPU; no more than are carried through in the time
/// of one, as what is carried is waited for like [`AHEAD`] steps.
fn wanted_chunks(n_channel: usize, n_step: usize, filling: usize) -> usize {
    let most = if n_channel < filling { CUT_INTO.div_ceil(n_channel.max(1)) } else { 1 };
    most.min((n_step / AHEAD).isqrt()).max(1)
}

/// A kernel's name and what it needs of an adapter.
type Named = (&'static str, Option<Need>);

/// Operations that have several kernels, and these.
pub const KERNELS: &[(&str, &[Named])] = &[
    (
        "linear",
        &[
            ("tile_64", None),
            ("tile_128", None),
            ("panel", None),
            SUBGROUP_OF_8,
            ("subgroup_window", Some(Need::SubgroupsOf8)),
            ("cooperative", Some(Need::CooperativeMatrices)),
        ],
    ),
    ("min_gru", &[("step", None), ("fused", None), ("panel", None), SUBGROUP_OF_8]),
    ("min_gru_scan", &[("sequential", None), ("rows", None), ("chunked", None), SUBGROUP, F16]),
    ("rms_norm", &[("lane", None), ("group", None)]),
    ("selective_scan", &[("sequential", None), ("chunked", None), SUBGROUP, F16, ("walked", None)]),
];

const SUBGROUP: Named = ("subgroup", Some(Need::Subgroups));
const SUBGROUP_OF_8: Named = ("subgroup", Some(Need::SubgroupsOf8));
const F16: Named = ("f16", Some(Need::F16));

/// Side of the square workgroup of `sum_column.wgsl`.
const COLUMNS: usize = 16;

/// An invocation takes one element of a row.
const SINGLE: &str = include_str!("../../shaders/shared/single.wgsl");

/// An invocation takes four neighbouring elements of a row.
const QUAD: &str = include_str!("../../shaders/shared/quad.wgsl");

/// Which of a row's elements an invocation takes, so that software adapters find them in the processor's cache.
const SPREAD: &str = include_str!("../../shaders/shared/spread.wgsl");

/// What an invocation of a subgroup holds of a factor.
const TERMS: &str = include_str!("../../shaders/shared/terms.wgsl");

/// Neighbouring elements that an invocation takes: four, where rows of all tensors begin and end at multiples of four, else one. An empty
/// tensor is bound as one element.
fn width(plan: &Planner, tensors: &[Tensor]) -> usize {
    let fits = |tensor: &Tensor| {
        let spec = plan.spec(*tensor);
        !spec.is_empty() && (spec.columns() | spec.offset | spec.row_stride).is_multiple_of(4)
    };
    if tensors.iter().all(fits) { 4 } else { 1 }
}

/// The tensors of a list in which some may be absent.
fn present<const N: usize>(tensors: [Option<Tensor>; N]) -> Vec<Tensor> {
    tensors.into_iter().flatten().collect()
}
