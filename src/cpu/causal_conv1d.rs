//! The causal convolution: each task walks some channels of one batch row, in which the steps that a kernel spans stay in the cache.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::rows::Rows;
use super::simd::{Lanes, dispatch};
use super::threads::parallel;
use super::walk::{Walk, channels_per_task, parts};
use crate::graph::Graph;
use crate::memory::Memory;
use crate::ops::{Activation, CausalConv1d, CausalConv1dBackward};

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
    let [x, weight, y, last_window] = [op.x, op.weight, op.y, op.last_window].map(|tensor| Rows::of(memory, tensor));
    let (n_batch, n_step) = (memory.spec(op.x).shape[0], memory.spec(op.x).shape[1]);
    let common = Common {
        x,
        bias: Rows::of_optional(memory, op.bias),
        initial_window: Rows::of_optional(memory, op.recurrence.initial_state),
        silu: op.activation == Activation::Silu,
        walk: Walk::new(memory, &op.recurrence, n_step),
        n_batch,
        n_channel: x.columns,
        n_window: weight.columns - 1,
        taps: taps(weight, &mut free),
    };
    common.each_task(|batch, channels| dispatch(Forward { common, y, last_window, batch, channels }));
}

/// The gradients, each where it is asked for.
pub fn backward(op: &CausalConv1dBackward, memory: &mut Memory<f32>, mut free: Rows) {
    let [x, weight] = [op.x, op.weight].map(|tensor| Rows::of(memory, tensor));
    let (n_batch, n_step) = (memory.spec(op.x).shape[0], memory.spec(op.x).shape[1]);
    let common = Common {
        x,
        bias: Rows::of_optional(memory, op.bias),
        initial_window: Rows::of_optional(memory, op.recurrence.initial_state),
        silu: op.activation == Activation::Silu,
        walk: Walk::new(memory, &op.recurrence, n_step),
        n_batch,
        n_channel: x.columns,
        n_window: weight.columns - 1,
        taps: taps(weight, &mut free),
    };
    let [grad_y, grad_last_window, grad_x] = [op.grad_y, op.grad_last_window, op.grad_x].map(|tensor| Rows::of_optional(memory, tensor));
    let [grad_weight, grad_bias, grad_initial_window] =
        [op.grad_weight, op.grad_bias, op.grad_initial_window].map(|tensor| Rows::of_optional(memory, tensor));
    let sums = Rows::scratch(&mut free, n_batch * (weight.columns + 1), common.taps.columns);
    common.each_task(|batch, channels| {
        let sums = sums.rows_at(batch * (weight.columns + 1)..(batch + 1) * (weight.columns + 1));
        dispatch(Backward { common, grad_y, grad_last_window, grad_x, grad_initial_window, sums, batch, channels });
    });
    let total =
        |row: usize, channel: usize| -> f32 { (0..n_batch).map(|batch| sums.row(batch * (weight.columns + 1) + row)[channel]).sum() };
    if let Some(grad_weight) = grad_weight {
        for channel in 0..common.n_channel {
            for (tap, grad) in grad_weight.row_mut(channel).iter_mut().enumerate() {
                *grad = total(tap, channel);
            }
        }
    }
    if let Some(grad_bias) = grad_bias {
        for (channel, grad) in grad_bias.row_mut(0).iter_mut().enumerate() {
            *grad = total(weight.columns, channel);
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
    fn each_task(&self, task: impl Fn(usize, Range<usize>) + Send + Sync) {
        let width = channels_per_task(self.n_batch, self.n_channel);
        let n_block = self.n_channel.div_ceil(width);
        parallel(self.n_batch * n_block, |index| {
            let first = index % n_block * width;
            task(index / n_block, first..(first + width).min(self.n_channel));
        });
    }

    /// How many inputs before its own a position sees, given how many the one before it did; none at a border.
    #[inline(always)]
    fn reach(&self, batch: usize, position: usize, before: usize) -> usize {
        match position {
            _ if position < self.walk.n_step && self.walk.begins(batch, position) => 0,
            0 if self.initial_window.is_none() => 0,
            0 => self.n_window,
            _ => (before + 1).min(self.n_window),
        }
    }

    /// The input that lies `back` before a position.
    #[inline(always)]
    fn input<S: Simd>(&self, simd: S, batch: usize, position: usize, back: usize, part: Range<usize>) -> Lanes<S> {
        match (position.checked_sub(back), self.initial_window) {
            (Some(position), _) => self.x.lanes(simd, self.walk.row(batch, position), &part),
            (None, Some(window)) => window.lanes(simd, batch * self.n_window + self.n_window + position - back, &part),
            (None, None) => Lanes::splat(simd, 0.0),
        }
    }

    /// The weight that meets the input `back` before a position.
    #[inline(always)]
    fn tap<S: Simd>(&self, simd: S, back: usize, part: Range<usize>) -> Lanes<S> {
        self.taps.lanes(simd, self.n_window - back, &part)
    }

    /// The convolution at a position that sees `reach` inputs before its own.
    #[inline(always)]
    fn sum<S: Simd>(&self, simd: S, batch: usize, position: usize, reach: usize, part: Range<usize>) -> Lanes<S> {
        let mut sum = self.bias.map_or(
            Lanes::splat(simd, 0.0),
            #[inline(always)]
            |bias| bias.lanes(simd, 0, &part),
        );
        for back in (0..=reach).rev() {
            sum = self.input(simd, batch, position, back, part.clone()).mul_add(self.tap(simd, back, part.clone()), sum);
        }
        sum
    }
}

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
        let Forward { common, y, last_window, batch, channels } = self;
        let Common { walk, n_window, .. } = common;
        let mut reach = 0;
        for position in 0..walk.n_step {
            reach = common.reach(batch, position, reach);
            for part in parts(channels.clone(), S::F32_LANES) {
                let sum = common.sum(simd, batch, position, reach, part.clone());
                let value = if common.silu { sum.silu() } else { sum };
                y.set_lanes(walk.row(batch, position), &part, value);
            }
        }
        reach = common.reach(batch, walk.n_step, reach);
        for back in 1..=n_window {
            for part in parts(channels.clone(), S::F32_LANES) {
                let seen = if back <= reach { common.input(simd, batch, walk.n_step, back, part.clone()) } else { Lanes::splat(simd, 0.0) };
                last_window.set_lanes(batch * n_window + n_window - back, &part, seen);
            }
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

/// Most steps that a kernel spans.
const SPAN: usize = 64;

impl WithSimd for Backward {
    type Output = ();

    /// Walks once. The gradient of a sum waits in the place of the gradient of its own input until the last sum that reads that input is
    /// known.
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Backward { common, grad_y, grad_last_window, grad_x, grad_initial_window, sums, batch, channels } = self;
        let Common { walk, n_window, .. } = common;
        let n_step = walk.n_step;
        for row in 0..sums.rows {
            sums.part_mut(row, channels.clone()).fill(0.0);
        }
        if let Some(grad) = grad_initial_window {
            for row in 0..n_window {
                grad.part_mut(batch * n_window + row, channels.clone()).fill(0.0);
            }
        }
        let mut reaches = [0; SPAN];
        for position in 0..n_step + n_window {
            let reach = common.reach(batch, position, reaches[(position + SPAN - 1) % SPAN]);
            reaches[position % SPAN] = reach;
            if position < n_step {
                for part in parts(channels.clone(), S::F32_LANES) {
                    let mut grad_sum = match grad_y {
                        Some(grad_y) => grad_y.lanes(simd, walk.row(batch, position), &part),
                        None => Lanes::splat(simd, 0.0),
                    };
                    if common.silu {
                        grad_sum = grad_sum * common.sum(simd, batch, position, reach, part.clone()).silu_with_derivative().1;
                    }
                    let to = sums.part_mut(n_window + 1, part.clone());
                    (Lanes::load_partial(simd, to) + grad_sum).store_partial(to);
                    for back in 0..=reach {
                        let to = sums.part_mut(n_window - back, part.clone());
                        let x = common.input(simd, batch, position, back, part.clone());
                        grad_sum.mul_add(x, Lanes::load_partial(simd, to)).store_partial(to);
                        if let (true, Some(grad)) = (back > position, grad_initial_window) {
                            let to = grad.part_mut(batch * n_window + n_window + position - back, part.clone());
                            grad_sum.mul_add(common.tap(simd, back, part.clone()), Lanes::load_partial(simd, to)).store_partial(to);
                        }
                    }
                    if let Some(grad_x) = grad_x {
                        grad_x.set_lanes(walk.row(batch, position), &part, grad_sum);
                    }
                }
            }
            let (Some(grad_x), Some(done)) = (grad_x, position.checked_sub(n_window)) else { continue };
            for part in parts(channels.clone(), S::F32_LANES) {
                let mut grad = Lanes::splat(simd, 0.0);
                for back in 0..=n_window {
                    let reader = done + back;
                    if back > reaches[reader % SPAN] {
                        break;
                    }
                    if reader < n_step {
                        let grad_sum = grad_x.lanes(simd, walk.row(batch, reader), &part);
                        grad = grad_sum.mul_add(common.tap(simd, back, part.clone()), grad);
                    } else if reader == n_step
                        && let Some(window) = grad_last_window
                    {
                        let row = batch * n_window + n_window - back;
                        grad += window.lanes(simd, row, &part);
                    }
                }
                grad_x.set_lanes(walk.row(batch, done), &part, grad);
            }
        }
        // Where the run is shorter than the window, the last window still holds parts of the initial one.
        if let (Some(grad), Some(window)) = (grad_initial_window, grad_last_window) {
            let reach = reaches[n_step % SPAN];
            for back in n_step + 1..=reach {
                for part in parts(channels.clone(), S::F32_LANES) {
                    let to = grad.part_mut(batch * n_window + n_window + n_step - back, part.clone());
                    let last = window.lanes(simd, batch * n_window + n_window - back, &part);
                    (Lanes::load_partial(simd, to) + last).store_partial(to);
                }
            }
        }
    }
}
