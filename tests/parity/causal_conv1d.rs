//! `causal_conv1d` against the reference.

use scanrnn::ops::{Activation, Recurrence};

use super::harness::{CHANNELS, Case, LENGTHS};

/// What is varied beside the shape.
#[derive(Clone, Copy, Debug)]
struct Options {
    kernel_size: usize,
    has_bias: bool,
    has_state: bool,
    has_reset: bool,
    reverse: bool,
    activation: Activation,
    /// Whether `y` and the last window are differentiated.
    cotangents: [bool; 2],
}

const PLAIN: Options = Options {
    kernel_size: 4,
    has_bias: false,
    has_state: false,
    has_reset: false,
    reverse: false,
    activation: Activation::None,
    cotangents: [true, true],
};

const FULL: Options = Options { has_bias: true, has_state: true, has_reset: true, activation: Activation::Silu, ..PLAIN };

fn check(n_batch: usize, n_step: usize, n_channel: usize, options: Options) {
    check_bound(n_batch, n_step, n_channel, options, None);
}

/// Where the GPU binds at most so many bytes of a tensor.
fn check_bound(n_batch: usize, n_step: usize, n_channel: usize, options: Options, bound: Option<u64>) {
    let mut case = Case::new(format!("causal_conv1d {n_batch} x {n_step} x {n_channel}, {options:?}"));
    if let Some(bytes) = bound {
        case.limit_binding(bytes);
    }
    let x = case.variable("x", &[n_batch, n_step, n_channel], -2.0, 2.0);
    let weight = case.variable("weight", &[n_channel, options.kernel_size], -1.0, 1.0);
    let bias = options.has_bias.then(|| case.variable("bias", &[n_channel], -1.0, 1.0));
    let window = [n_batch, options.kernel_size - 1, n_channel];
    let initial_state = options.has_state.then(|| case.variable("initial_window", &window, -2.0, 2.0));
    let reset = options.has_reset.then(|| case.reset(n_batch, n_step));
    let recurrence = Recurrence { initial_state, reset, reverse: options.reverse };
    let (y, last_window) = case.graph.causal_conv1d("conv", x, weight, bias, options.activation, &recurrence).expect("shapes fit");
    let outputs: Vec<_> =
        [y, last_window].into_iter().zip(options.cotangents).filter_map(|(output, wanted)| wanted.then_some(output)).collect();
    case.check(&outputs);
}

#[test]
fn lengths_and_channels_that_fit_no_chunk() {
    for (index, n_step) in LENGTHS.into_iter().chain([31, 32, 33, 64]).enumerate() {
        // 12 and 256: vectors of four channels, and whole cache lines of them an invocation
        for n_channel in [CHANNELS[index % CHANNELS.len()], [12, 256][index % 2]] {
            check(1, n_step, n_channel, PLAIN);
            check(2, n_step, n_channel, Options { reverse: index % 2 == 1, ..FULL });
            check(3, n_step, n_channel, Options { reverse: index % 2 == 0, ..FULL });
        }
    }
}

#[test]
fn every_option_by_itself() {
    for options in [
        Options { has_bias: true, ..PLAIN },
        Options { has_state: true, ..PLAIN },
        Options { has_reset: true, ..PLAIN },
        Options { has_reset: true, reverse: true, ..PLAIN },
        Options { reverse: true, ..PLAIN },
        Options { activation: Activation::Silu, ..PLAIN },
        Options { cotangents: [true, false], ..FULL },
        Options { cotangents: [false, true], ..FULL },
        Options { cotangents: [false, true], ..PLAIN },
    ] {
        for n_channel in [5, 8] {
            check(2, 35, n_channel, options);
            check(2, 2, n_channel, options);
        }
    }
}

#[test]
fn kernel_sizes_from_one_step_to_the_longest() {
    for kernel_size in [2, 3, 5, 8, 33] {
        for (n_step, n_channel) in [(1, 3), (20, 3), (70, 3), (20, 4), (70, 4)] {
            check(2, n_step, n_channel, Options { kernel_size, ..FULL });
            check(2, n_step, n_channel, Options { kernel_size, reverse: true, ..FULL });
        }
    }
    for n_channel in [3, 4] {
        check(2, 40, n_channel, Options { kernel_size: 1, has_state: false, cotangents: [true, false], ..FULL });
    }
}

#[test]
fn columns_of_a_wider_tensor() {
    for (first, count) in [(6, 5), (4, 8), (6, 4)] {
        let mut case = Case::new(format!("causal_conv1d over {count} columns from {first} on"));
        let wide = case.variable("wide", &[2, 40, 12], -2.0, 2.0);
        let weight = case.variable("weight", &[count, 4], -1.0, 1.0);
        let mix = case.variable("mix", &[3, count], -1.0, 1.0);
        let x = case.graph.columns(wide, "x", first, count);
        let (y, _) = case.graph.causal_conv1d("conv", x, weight, None, Activation::Silu, &Recurrence::default()).expect("shapes fit");
        let mixed = case.graph.linear("mixed", y, mix, None).expect("shapes fit");
        case.check(&[mixed]);
    }
}

#[test]
fn a_length_cut_in_two_equals_the_whole() {
    let mut case = Case::new("causal_conv1d, continued");
    let first = case.variable("first", &[2, 37, 3], -2.0, 2.0);
    let second = case.variable("second", &[2, 2, 3], -2.0, 2.0);
    let third = case.variable("third", &[2, 40, 3], -2.0, 2.0);
    let weight = case.variable("weight", &[3, 4], -1.0, 1.0);
    let mut recurrence = Recurrence::default();
    let mut outputs = Vec::new();
    for x in [first, second, third] {
        let (y, last) = case.graph.causal_conv1d("part", x, weight, None, Activation::Silu, &recurrence).expect("shapes fit");
        outputs.push(y);
        recurrence.initial_state = Some(last);
    }
    case.check(&outputs);
}

#[test]
fn window_by_window_where_not_all_can_be_bound() {
    for reverse in [false, true] {
        check_bound(7, 65, 9, Options { reverse, ..FULL }, Some(8 << 10));
        check_bound(7, 65, 8, Options { reverse, ..FULL }, Some(8 << 10));
        // one sequence alone is too large: by its positions, a few at a time and, with a longer kernel, hardly more than a window
        check_bound(2, 300, 9, Options { reverse, ..FULL }, Some(8 << 10));
        check_bound(2, 300, 8, Options { reverse, ..FULL }, Some(8 << 10));
        check_bound(1, 150, 3, Options { reverse, kernel_size: 33, ..FULL }, Some(16 << 10));
    }
    check_bound(1, 300, 9, Options { cotangents: [false, true], ..FULL }, Some(8 << 10));
}
