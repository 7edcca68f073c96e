//! `selective_scan` against the reference, by both kernels.

use scanrnn::ops::{Recurrence, SelectiveScanInputs};

use super::common::{Setting, gpu};
use super::harness::{self, CHANNELS, Case, LENGTHS};

/// The kernels that the adapter has; all of them compute as `f32` does.
fn kernels() -> Vec<&'static str> {
    harness::kernels(&["sequential", "chunked", "walked"], &[("subgroup", |traits| traits.subgroups)])
}

/// Which optional inputs there are, and how the run goes.
#[derive(Clone, Copy, Debug, Default)]
struct Options {
    skip: bool,
    gate: bool,
    bias: bool,
    softplus: bool,
    initial_state: bool,
    reset: bool,
    reverse: bool,
}

const PLAIN: Options =
    Options { skip: false, gate: false, bias: false, softplus: false, initial_state: false, reset: false, reverse: false };

const FULL: Options = Options { skip: true, gate: true, bias: true, softplus: true, initial_state: true, reset: false, reverse: false };

fn case(n_batch: usize, n_step: usize, n_channel: usize, n_state: usize, options: Options) -> (Case, SelectiveScanInputs) {
    let mut case = Case::new(format!("selective_scan {n_batch} x {n_step} x {n_channel} x {n_state}, {options:?}"));
    let sequence = [n_batch, n_step, n_channel];
    let (low, high) = if options.softplus { (-4.0, 1.0) } else { (0.01, 0.5) };
    let inputs = SelectiveScanInputs {
        u: case.variable("u", &sequence, -1.0, 1.0),
        delta: case.variable("delta", &sequence, low, high),
        a: case.variable("a", &[n_channel, n_state], -2.0, -0.05),
        b: case.variable("b", &[n_batch, n_step, n_state], -1.0, 1.0),
        c: case.variable("c", &[n_batch, n_step, n_state], -1.0, 1.0),
        d: options.skip.then(|| case.variable("d", &[n_channel], -1.0, 1.0)),
        z: options.gate.then(|| case.variable("z", &sequence, -2.0, 2.0)),
        delta_bias: options.bias.then(|| case.variable("delta_bias", &[n_channel], 0.0, 0.1)),
        delta_softplus: options.softplus,
        recurrence: Recurrence {
            initial_state: options.initial_state.then(|| case.variable("initial_state", &[n_batch, n_channel, n_state], -1.0, 1.0)),
            reset: options.reset.then(|| case.reset(n_batch, n_step)),
            reverse: options.reverse,
        },
    };
    (case, inputs)
}

fn check(n_batch: usize, n_step: usize, n_channel: usize, n_state: usize, options: Options) {
    for kernel in kernels() {
        let (mut case, inputs) = case(n_batch, n_step, n_channel, n_state, options);
        case.force_kernel("selective_scan", kernel);
        let (y, last_state) = case.graph.selective_scan("y", &inputs).expect("shapes fit");
        case.check(&[y, last_state]);
    }
}

#[test]
fn every_length_plain_and_with_everything() {
    for (index, n_step) in LENGTHS.into_iter().chain([16, 17]).enumerate() {
        let n_channel = CHANNELS[index % 3];
        check(2, n_step, n_channel, 16, PLAIN);
        check(1 + index % 2, n_step, CHANNELS[(index + 1) % 3], 16, Options { reset: index % 2 == 1, reverse: index % 3 == 1, ..FULL });
    }
}

/// A stream's step takes no gradient, and the CPU has a kernel of its own for it.
#[test]
fn one_step_without_gradients() {
    let plain_softplus = Options { softplus: true, ..PLAIN };
    for (n_channel, n_state, options) in [
        (1, 1, PLAIN),
        (3, 5, plain_softplus),
        (65, 16, FULL),
        (65, 16, Options { reset: true, ..FULL }),
        (13, 24, Options { reset: true, reverse: true, ..FULL }),
        (256, 16, Options { gate: false, ..FULL }),
    ] {
        for kernel in kernels() {
            let (mut case, inputs) = case(3, 1, n_channel, n_state, options);
            case.force_kernel("selective_scan", kernel);
            let (y, last_state) = case.graph.selective_scan("y", &inputs).expect("shapes fit");
            case.check_values(&[y, last_state]);
        }
    }
}

#[test]
fn state_counts_that_fit_no_vector() {
    // 17 and 100: vectors of four that a team of invocations does not share equally
    for (n_state, reverse) in [(1, false), (3, true), (5, false), (11, true), (17, false), (64, true), (100, false)] {
        check(2, 65, 3, n_state, Options { reverse, ..FULL });
    }
}

#[test]
fn options_one_by_one() {
    for options in [
        Options { skip: true, ..PLAIN },
        Options { gate: true, ..PLAIN },
        Options { softplus: true, ..PLAIN },
        Options { bias: true, initial_state: true, ..PLAIN },
        Options { reset: true, initial_state: true, ..PLAIN },
        Options { reset: true, reverse: true, initial_state: true, ..PLAIN },
    ] {
        check(2, 150, 3, 4, options);
    }
}

#[test]
fn columns_of_wider_tensors() {
    for kernel in kernels() {
        let (n_batch, n_step, n_channel, n_state) = (2, 130, 5, 6);
        let mut case = Case::new("selective_scan over columns");
        case.force_kernel("selective_scan", kernel);
        let projected = case.variable("projected", &[n_batch, n_step, n_channel + 2 * n_state], -1.0, 1.0);
        let both = case.variable("both", &[n_batch, n_step, 2 * n_channel], -1.0, 1.0);
        let inputs = SelectiveScanInputs {
            u: case.graph.columns(both, "u", 0, n_channel),
            delta: case.graph.columns(projected, "delta", 0, n_channel),
            a: case.variable("a", &[n_channel, n_state], -2.0, -0.05),
            b: case.graph.columns(projected, "b", n_channel, n_state),
            c: case.graph.columns(projected, "c", n_channel + n_state, n_state),
            d: None,
            z: Some(case.graph.columns(both, "z", n_channel, n_channel)),
            delta_bias: None,
            delta_softplus: true,
            recurrence: Recurrence::default(),
        };
        let (y, last_state) = case.graph.selective_scan("y", &inputs).expect("shapes fit");
        case.check(&[y, last_state]);
    }
}

#[test]
fn one_output_alone() {
    for kernel in kernels() {
        for only_state in [false, true] {
            let (mut case, inputs) = case(2, 100, 3, 5, Options { skip: false, ..FULL });
            case.force_kernel("selective_scan", kernel);
            let (y, last_state) = case.graph.selective_scan("y", &inputs).expect("shapes fit");
            case.check(&[if only_state { last_state } else { y }]);
        }
    }
}

#[test]
fn inputs_without_a_gradient() {
    for kernel in kernels() {
        let mut case = Case::new("selective_scan, only A is trained");
        case.force_kernel("selective_scan", kernel);
        let inputs = SelectiveScanInputs {
            u: case.input("u", &[2, 70, 3], -1.0, 1.0),
            delta: case.input("delta", &[2, 70, 3], 0.01, 0.5),
            a: case.variable("a", &[3, 4], -2.0, -0.05),
            b: case.input("b", &[2, 70, 4], -1.0, 1.0),
            c: case.input("c", &[2, 70, 4], -1.0, 1.0),
            d: None,
            z: Some(case.input("z", &[2, 70, 3], -1.0, 1.0)),
            delta_bias: None,
            delta_softplus: false,
            recurrence: Recurrence::default(),
        };
        let (y, last_state) = case.graph.selective_scan("y", &inputs).expect("shapes fit");
        case.check(&[y, last_state]);
    }
}

#[test]
fn more_steps_than_a_software_driver_loops() {
    check(1, 70_000, 2, 4, Options { softplus: true, reset: true, ..PLAIN });
    check(1, 4096, 3, 16, FULL);
    check(1, 4096, 2, 64, PLAIN);
}

/// 16-bit floats round to 11 bits: saved states, and what follows from them, are right to 2^-11 of the largest.
#[test]
fn states_saved_as_16_bit_floats() {
    if !gpu(Setting::default()).is_some_and(|gpu| gpu.traits().f16) {
        return;
    }
    for (n_batch, n_step, n_channel, n_state, options) in
        [(2, 65, 3, 5, FULL), (1, 257, 65, 16, PLAIN), (2, 150, 3, 4, Options { reset: true, reverse: true, ..FULL })]
    {
        let (mut case, inputs) = case(n_batch, n_step, n_channel, n_state, options);
        case.force_kernel("selective_scan", "f16");
        case.allow_rounding(1.0 / 2048.0);
        let (y, last_state) = case.graph.selective_scan("y", &inputs).expect("shapes fit");
        case.check(&[y, last_state]);
    }
    // forward and backward cut windows of their own
    for (bytes, reverse) in [(32 << 10, false), (32 << 10, true), (8 << 10, false), (8 << 10, true)] {
        let (mut case, inputs) = case(5, 70, 3, 5, Options { reset: true, reverse, ..FULL });
        case.force_kernel("selective_scan", "f16");
        case.allow_rounding(1.0 / 2048.0);
        case.limit_binding(bytes);
        let (y, last_state) = case.graph.selective_scan("y", &inputs).expect("shapes fit");
        case.check(&[y, last_state]);
    }
}

#[test]
fn window_by_window_where_not_all_can_be_bound() {
    for kernel in kernels() {
        // some sequences, or some steps of one
        for bytes in [32 << 10, 8 << 10] {
            for reverse in [false, true] {
                let (mut case, inputs) = case(5, 70, 3, 5, Options { reset: true, reverse, ..FULL });
                case.force_kernel("selective_scan", kernel);
                case.limit_binding(bytes);
                let (y, last_state) = case.graph.selective_scan("y", &inputs).expect("shapes fit");
                case.check(&[y, last_state]);
            }
        }
    }
}
