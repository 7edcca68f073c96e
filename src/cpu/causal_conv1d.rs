//! The causal convolution: each task walks some channels of one batch row, in which the steps that a kernel spans stay in the cache.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::rows::Rows;
use super::simd::{Lanes, dispatch, each};
use super::walk::{Walk, each_task, parts};
use crate::graph::{Graph, Tensor};
use crate::memory::Memory;
use crate::ops::{Activation, CausalConv1d, CausalConv1dBackward, Recurrence};

/// Rows of scratch memory are padded to a multiple of this.
const PADDING: usize = 16;

/// Floats of scratch memory for the convolution.
pub fn scratch(op: &CausalConv1d, graph: &Graph) -> usize {
    let weight = graph.spec(op.weight);
    weight.columns() * weight.rows().next_multiple_of(PADDING)
}

/// Floats of scratch memory for the gradients.
pub fn scratch_backward(op: &CausalConv1dBackward, graph: &Graph) -> usize {
    let (weight, n_batch) = (graph.spec(op.weight), graph.shape(op.x)[0]);
    (weight.columns() + n_batch * (weight.columns() + 1)) * weight.rows().next_multiple_of(PADDING)
}

/// The inputs and what follows from them.
#[derive(Clone, Copy)]
struct Common {
    x: Rows,
    bias: Option<Rows>,
    initial_window: Option<Rows>,
    silu: bool,
    walk: Walk,
    n_batch: usize,
    n_channel: usize,
    /// Steps before the current one that the kernel spans.
    n_window: usize,
    /// `(kernel_size, padded channel)`.
    taps: Rows,
}

/// `y` and the last window.
pub fn forward(op: &CausalConv1d, memory: &mut Memory<f32>, mut free: Rows) {
    let [y, last_window] = [op.y, op.last_window].map(|tensor| Rows::of(memory, tensor));
    let common = Common::new(memory, [op.x, op.weight], op.bias, &op.recurrence, op.activation, &mut free);
    each_task(common.n_batch, common.n_channel, |batch, channels| dispatch(Forward { common, y, last_window, batch, channels }));
}

/// The gradients, each where it is asked for.
pub fn backward(op: &CausalConv1dBackward, memory: &mut Memory<f32>, mut free: Rows) {
    let common = Common::new(memory, [op.x, op.weight], op.bias, &op.recurrence, op.activation, &mut free);
    let Common { n_batch, n_channel, taps, .. } = common;
    let [grad_y, grad_last_window, grad_x] = [op.grad_y, op.grad_last_window, op.grad_x].map(|tensor| Rows::of_optional(memory, tensor));
    let [grad_weight, grad_bias, grad_initial_window] =
        [op.grad_weight, op.grad_bias, op.grad_initial_window].map(|tensor| Rows::of_optional(memory, tensor));
    let sums = Rows::scratch(&mut free, n_batch * (taps.rows + 1), taps.columns);
    each_task(n_batch, n_channel, |batch, channels| {
        let sums = sums.rows_at(batch * (taps.rows + 1)..(batch + 1) * (taps.rows + 1));
        dispatch(Backward { common, grad_y, grad_last_window, grad_x, grad_initial_window, sums, batch, channels });
    });
    let total = |row: usize, channel: usize| -> f32 { (0..n_batch).map(|batch| sums.row(batch * (taps.rows + 1) + row)[channel]).sum() };
    if let Some(grad_weight) = grad_weight {
        for channel in 0..n_channel {
            for (tap, grad) in grad_weight.row_mut(channel).iter_mut().enumerate() {
                *grad = total(tap, channel);
            }
        }
    }
    if let Some(grad_bias) = grad_bias {
        for (channel, grad) in grad_bias.row_mut(0).iter_mut().enumerate() {
            *grad = total(taps.rows, channel);
        }
    }
}

/// `(kernel_size, padded channel)` of `weight (channel, kernel_size)`.
fn taps(weight: Rows, free: &mut Rows) -> Rows {
    let taps = Rows::scratch(free, weight.columns, weight.rows.next_multiple_of(PADDING));
    for tap in 0..taps.rows {
        let to = taps.row_mut(tap);
        for (channel, to) in to[..weight.rows].iter_mut().enumerate() {
            *to = weight.row(channel)[tap];
        }
    }
    taps
}

impl Common {
    fn new(
        memory: &mut Memory<f32>,
        [x, weight]: [Tensor; 2],
        bias: Option<Tensor>,
        recurrence: &Recurrence,
        activation: Activation,
        free: &mut Rows,
    ) -> Self {
        let (n_batch, n_step) = (memory.spec(x).shape[0], memory.spec(x).shape[1]);
        let [x, weight] = [x, weight].map(|tensor| Rows::of(memory, tensor));
        Common {
            x,
            bias: Rows::of_optional(memory, bias),
            initial_window: Rows::of_optional(memory, recurrence.initial_state),
            silu: activation == Activation::Silu,
            walk: Walk::new(memory, recurrence, n_step),
            n_batch,
            n_channel: x.columns,
            n_window: weight.columns - 1,
            taps: taps(weight, free),
        }
    }

    /// The weights of a vector of channels by how far they reach back; zero beyond the kernel.
    #[inline(always)]
    fn taps<S: Simd, const N: usize>(&self, simd: S, part: &Range<usize>) -> [Lanes<S>; N] {
        each(
            #[inline(always)]
            |back| if back <= self.n_window { self.taps.lanes(simd, self.n_window - back, part) } else { Lanes::splat(simd, 0.0) },
        )
    }

    /// The inputs before the first step, the nearest first; zero beyond the initial window.
    #[inline(always)]
    fn before<S: Simd, const N: usize>(&self, simd: S, batch: usize, part: &Range<usize>) -> [Lanes<S>; N] {
        each(
            #[inline(always)]
            |back| match self.initial_window {
                Some(window) if back < self.n_window => window.lanes(simd, (batch + 1) * self.n_window - 1 - back, part),
                _ => Lanes::splat(simd, 0.0),
            },
        )
    }

    #[inline(always)]
    fn bias<S: Simd>(&self, simd: S, part: &Range<usize>) -> Lanes<S> {
        match self.bias {
            Some(bias) => bias.lanes(simd, 0, part),
            None => Lanes::splat(simd, 0.0),
        }
    }
}

/// `values` one place further back, `first` at the front.
#[inline(always)]
fn shifted<S: Simd, const N: usize>(values: [Lanes<S>; N], first: Lanes<S>) -> [Lanes<S>; N] {
    each(
        #[inline(always)]
        |back| if back == 0 { first } else { values[back - 1] },
    )
}

/// `init` and the products of inputs and weights, the oldest first.
#[inline(always)]
fn sum<S: Simd, const N: usize>(init: Lanes<S>, inputs: &[Lanes<S>; N], taps: &[Lanes<S>; N]) -> Lanes<S> {
    let mut sum = init;
    for back in (0..N).rev() {
        sum = inputs[back].mul_add(taps[back], sum);
    }
    sum
}

/// Weights that stay in registers.
const FEW: usize = 4;
/// Most weights of a kernel.
const MOST: usize = 64;

struct Forward {
    common: Common,
    y: Rows,
    last_window: Rows,
    batch: usize,
    channels: Range<usize>,
}

impl WithSimd for Forward {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for part in parts(self.channels.clone(), S::F32_LANES) {
            if self.common.n_window < FEW { self.walk::<S, FEW>(simd, &part) } else { self.walk::<S, MOST>(simd, &part) }
        }
    }
}

impl Forward {
    #[inline(always)]
    fn walk<S: Simd, const N: usize>(&self, simd: S, part: &Range<usize>) {
        let Common { x, walk, n_window, silu, .. } = self.common;
        let (taps, bias) = (self.common.taps::<S, N>(simd, part), self.common.bias(simd, part));
        let mut inputs = self.common.before::<S, N>(simd, self.batch, part);
        for position in 0..walk.n_step {
            let row = walk.row(self.batch, position);
            if walk.begins(self.batch, position) {
                inputs = [Lanes::splat(simd, 0.0); N];
            }
            walk.fetch_ahead(self.batch, position, [x, self.y], part);
            inputs = shifted(inputs, x.lanes(simd, row, part));
            let sum = sum(bias, &inputs, &taps);
            self.y.set_lanes(row, part, if silu { sum.silu() } else { sum });
        }
        for (back, input) in inputs.into_iter().enumerate().take(n_window) {
            self.last_window.set_lanes((self.batch + 1) * n_window - 1 - back, part, input);
        }
    }
}

struct Backward {
    common: Common,
    grad_y: Option<Rows>,
    grad_last_window: Option<Rows>,
    grad_x: Option<Rows>,
    grad_initial_window: Option<Rows>,
    /// `(kernel_size + 1, padded channel)`: the batch row's part of the gradients of the weights and the bias.
    sums: Rows,
    batch: usize,
    channels: Range<usize>,
}

impl WithSimd for Backward {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for part in parts(self.channels.clone(), S::F32_LANES) {
            if self.common.n_window < FEW { self.walk::<S, FEW>(simd, &part) } else { self.walk::<S, MOST>(simd, &part) }
        }
    }
}

impl Backward {
    /// Walks once. The gradient of an input waits until the last sum that reads that input is known.
    #[inline(always)]
    fn walk<S: Simd, const N: usize>(&self, simd: S, part: &Range<usize>) {
        let Common { x, walk, n_window, silu, .. } = self.common;
        let zero = Lanes::splat(simd, 0.0);
        let (taps, bias) = (self.common.taps::<S, N>(simd, part), self.common.bias(simd, part));
        let mut inputs = self.common.before::<S, N>(simd, self.batch, part);
        let (mut waiting, mut grad_taps, mut grad_bias) = ([zero; N], [zero; N], zero);
        // How many inputs before the next one wait.
        let mut n_waiting = if self.common.initial_window.is_some() { n_window } else { 0 };
        for position in 0..walk.n_step {
            if walk.begins(self.batch, position) {
                self.finish(position as isize, &waiting[..n_waiting], part);
                (inputs, waiting, n_waiting) = ([zero; N], [zero; N], 0);
            }
            let row = walk.row(self.batch, position);
            walk.fetch_ahead(self.batch, position, [x, self.grad_y.unwrap_or(x), self.grad_x.unwrap_or(x)], part);
            inputs = shifted(inputs, x.lanes(simd, row, part));
            waiting = shifted(waiting, zero);
            let mut grad_sum = match self.grad_y {
                Some(grad_y) => grad_y.lanes(simd, row, part),
                None => zero,
            };
            if silu {
                grad_sum = grad_sum * sum(bias, &inputs, &taps).silu_with_derivative().1;
            }
            grad_bias += grad_sum;
            for back in 0..N {
                grad_taps[back] = grad_sum.mul_add(inputs[back], grad_taps[back]);
                waiting[back] = grad_sum.mul_add(taps[back], waiting[back]);
            }
            n_waiting += 1;
            if n_waiting > n_window {
                self.finish(position as isize + 1 - n_window as isize, &waiting[n_window..=n_window], part);
                n_waiting = n_window;
            }
        }
        if let Some(window) = self.grad_last_window {
            for (back, waiting) in waiting.iter_mut().enumerate().take(n_waiting) {
                *waiting += window.lanes(simd, (self.batch + 1) * n_window - 1 - back, part);
            }
        }
        self.finish(walk.n_step as isize, &waiting[..n_waiting], part);
        for (back, grad) in grad_taps.into_iter().enumerate().take(n_window + 1) {
            self.sums.set_lanes(n_window - back, part, grad);
        }
        self.sums.set_lanes(n_window + 1, part, grad_bias);
    }

    /// Writes the gradients of the inputs before `position`, the nearest first; those before the first step are the initial window's.
    #[inline(always)]
    fn finish<S: Simd>(&self, position: isize, gradients: &[Lanes<S>], part: &Range<usize>) {
        let Common { walk, n_window, .. } = self.common;
        for (grad, input) in gradients.iter().zip((-(n_window as isize)..position).rev()) {
            match (usize::try_from(input), self.grad_x, self.grad_initial_window) {
                (Ok(input), Some(grad_x), _) => grad_x.set_lanes(walk.row(self.batch, input), part, *grad),
                (Err(_), _, Some(window)) => window.set_lanes(((self.batch + 1) * n_window).wrapping_add_signed(input), part, *grad),
                _ => {}
            }
        }
    }
}
