//! `min_gru_scan` against the reference, by every kernel.

use super::harness::{self, CHANNELS, Case, LENGTHS};
use scanrnn::ops::Recurrence;

/// The kernels that the adapter has.
fn kernels() -> Vec<&'static str> {
    harness::kernels(&["sequential", "rows", "chunked"], &[("subgroup", |traits| traits.subgroups), ("f16", |traits| traits.f16)])
}

/// Forces a kernel. What chunks hand on as 16-bit floats is right to 2^-11, and so are the states that follow from it.
fn force(case: &mut Case, kernel: &'static str) {
    case.force_kernel("min_gru_scan", kernel);
    if kernel == "f16" {
        case.allow_rounding(1.0 / 2048.0);
    }
}

fn check(kernel: Option<&'static str>, [n_batch, n_step, n_hidden]: [usize; 3], initial: bool, reset: bool, reverse: bool) {
    let what = format!("min_gru_scan {n_batch} x {n_step} x {n_hidden}, initial {initial}, reset {reset}, reverse {reverse}");
    let mut case = Case::new(what);
    if let Some(kernel) = kernel {
        force(&mut case, kernel);
    }
    let p = case.variable("p", &[n_batch, n_step, 2 * n_hidden], -2.0, 2.0);
    let initial_state = initial.then(|| case.variable("h0", &[n_batch, n_hidden], -1.0, 1.0));
    let reset = reset.then(|| case.reset(n_batch, n_step));
    let (h, last) = case.graph.min_gru_scan("h", p, &Recurrence { initial_state, reset, reverse }).expect("shapes fit");
    case.check(&[h, last]);
}

#[test]
fn lengths_channels_and_options() {
    // 33: a chunk and one step
    for (index, &n_step) in LENGTHS.iter().chain(&[33]).enumerate() {
        // 68, 80, 288: one, two and four vectors of four channels an invocation of `rows`
        for n_hidden in [CHANNELS[index % 3], [68, 80, 288][index % 3]] {
            for (initial, reset, reverse) in [(false, false, false), (true, false, true), (true, true, false), (false, true, true)] {
                for kernel in kernels() {
                    check(Some(kernel), [1 + index % 5, n_step, n_hidden], initial, reset, reverse);
                }
            }
        }
    }
}

#[test]
fn more_steps_than_software_drivers_count() {
    check(None, [1, 70_000, 2], true, false, false);
    check(None, [2, 61_000, 8], true, false, true);
}

/// More chunks than a subgroup has lanes, and more channels than a workgroup carries.
#[test]
fn many_chunks() {
    for kernel in kernels() {
        check(Some(kernel), [1, 20_000, 3], true, true, false);
        check(Some(kernel), [3, 300, 37], true, false, true);
    }
}

#[test]
fn window_by_window_where_not_all_can_be_bound() {
    for kernel in kernels() {
        // some sequences, or some steps of one
        for (bytes, n_hidden) in [(12 << 10, 9), (4 << 10, 9), (12 << 10, 8), (4 << 10, 8)] {
            for reverse in [false, true] {
                let mut case = Case::new(format!("min_gru_scan 7 x 130 x {n_hidden}"));
                force(&mut case, kernel);
                case.limit_binding(bytes);
                let p = case.variable("p", &[7, 130, 2 * n_hidden], -2.0, 2.0);
                let initial_state = Some(case.variable("h0", &[7, n_hidden], -1.0, 1.0));
                let reset = Some(case.reset(7, 130));
                let (h, last) = case.graph.min_gru_scan("h", p, &Recurrence { initial_state, reset, reverse }).expect("shapes fit");
                case.check(&[h, last]);
            }
        }
    }
}
