//! `mamba_lab` against the reference.

use super::harness::{CHANNELS, Case, LENGTHS};
use scanrnn::ops::Recurrence;

fn check(n_batch: usize, n_step: usize, n_hidden: usize, n_state: usize, initial: bool, reset: bool, reverse: bool) {
    check_bound([n_batch, n_step, n_hidden, n_state], initial, reset, reverse, None);
}

/// Where the GPU binds at most so many bytes of a tensor.
fn check_bound([n_batch, n_step, n_hidden, n_state]: [usize; 4], initial: bool, reset: bool, reverse: bool, bound: Option<u64>) {
    let name = format!("mamba_lab {n_batch} x {n_step} x {n_hidden} x {n_state}, initial {initial}, reset {reset}, reverse {reverse}");
    let mut case = Case::new(name);
    if let Some(bytes) = bound {
        case.limit_binding(bytes);
    }
    let p = case.variable("p", &[n_batch, n_step, n_hidden], -3.0, 3.0);
    let a = case.variable("a", &[n_state], -2.0, -0.05);
    let b = case.variable("b", &[n_hidden, n_state], -0.3, 0.3);
    let c = case.variable("c", &[n_hidden, n_state], -0.5, 0.5);
    let d = case.variable("d", &[n_hidden], 0.5, 1.5);
    let initial_state = initial.then(|| case.variable("initial", &[n_batch, n_state], -1.0, 1.0));
    let reset = reset.then(|| case.reset(n_batch, n_step));
    let recurrence = Recurrence { initial_state, reset, reverse };
    let (y, last) = case.graph.mamba_lab("y", p, a, b, c, d, &recurrence).expect("shapes fit");
    case.check(&[y, last]);
}

#[test]
fn lengths_channels_and_options() {
    for (index, &n_step) in LENGTHS.iter().enumerate() {
        let n_hidden = CHANNELS[index % 3];
        for (initial, reset, reverse) in [(false, false, false), (true, false, true), (true, true, false), (false, true, true)] {
            check(1 + index % 5, n_step, n_hidden, 5, initial, reset, reverse);
        }
    }
}

#[test]
fn state_counts_and_widths_that_fit_no_workgroup() {
    for (n_hidden, n_state) in [(7, 1), (24, 16), (130, 17), (3, 64), (5, 130), (300, 100)] {
        check(2, 33, n_hidden, n_state, true, false, n_state % 2 == 0);
    }
}

#[test]
fn fewer_rows_than_tasks_on_the_cpu() {
    check(1, 20, 600, 300, true, false, false);
}

/// An invocation takes four neighbours of a row.
#[test]
fn state_counts_and_widths_that_are_multiples_of_four() {
    for (n_hidden, n_state) in [(4, 4), (12, 20), (64, 16), (260, 68)] {
        for (initial, reset, reverse) in [(false, false, false), (true, true, false), (true, true, true)] {
            check(3, 33, n_hidden, n_state, initial, reset, reverse);
        }
    }
}

/// The columns that it takes begin, or end, between two such neighbours.
#[test]
fn columns_of_a_wider_tensor() {
    for (first, wide) in [(4, 20), (5, 20), (4, 21)] {
        let mut case = Case::new(format!("mamba_lab over columns from {first} of {wide}"));
        let whole = case.variable("whole", &[2, 33, wide], -3.0, 3.0);
        let p = case.graph.columns(whole, "p", first, 12);
        let a = case.variable("a", &[8], -2.0, -0.05);
        let [b, c] = ["b", "c"].map(|name| case.variable(name, &[12, 8], -0.3, 0.3));
        let d = case.variable("d", &[12], 0.5, 1.5);
        let (y, last) = case.graph.mamba_lab("y", p, a, b, c, d, &Recurrence::default()).expect("shapes fit");
        case.check(&[y, last]);
    }
}

#[test]
fn more_rows_than_a_software_driver_loops() {
    check(70, 1000, 2, 2, true, true, false);
}

#[test]
fn more_steps_than_a_software_driver_loops() {
    check(1, 70_000, 2, 3, true, true, false);
    check(1, 70_000, 4, 4, false, true, true);
}

#[test]
fn window_by_window_where_not_all_can_be_bound() {
    check_bound([7, 65, 9, 5], true, true, false, Some(8 << 10));
    check_bound([7, 65, 9, 5], true, false, true, Some(8 << 10));
    check_bound([7, 65, 8, 4], true, true, true, Some(8 << 10));
    // one sequence alone is too large: by its positions
    check_bound([2, 300, 9, 5], true, true, false, Some(8 << 10));
    check_bound([2, 300, 9, 5], true, true, true, Some(8 << 10));
    check_bound([1, 400, 8, 4], false, true, true, Some(8 << 10));
}
