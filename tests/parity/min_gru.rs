//! `min_gru` against the reference.

use super::common::{Setting, gpu};
use super::harness::{CHANNELS, Case, LENGTHS};
use scanrnn::ops::Recurrence;

fn check(kernel: &'static str, n_batch: usize, n_step: usize, n_hidden: usize, initial: bool, reset: bool, reverse: bool) {
    check_bound(kernel, [n_batch, n_step, n_hidden], initial, reset, reverse, None);
}

/// Where the GPU binds at most so many bytes of a tensor.
fn check_bound(
    kernel: &'static str,
    [n_batch, n_step, n_hidden]: [usize; 3],
    initial: bool,
    reset: bool,
    reverse: bool,
    bound: Option<u64>,
) {
    let mut case = Case::new(format!("min_gru {n_batch} x {n_step} x {n_hidden}, initial {initial}, reset {reset}, reverse {reverse}"));
    case.force_kernel("min_gru", kernel);
    if let Some(bytes) = bound {
        case.limit_binding(bytes);
    }
    let p = case.variable("p", &[n_batch, n_step, 3 * n_hidden], -2.0, 2.0);
    let bound = 1.0 / (n_hidden as f32).sqrt();
    let u = case.variable("u", &[3 * n_hidden, n_hidden], -bound, bound);
    let initial_state = initial.then(|| case.variable("h0", &[n_batch, n_hidden], -1.0, 1.0));
    let reset = reset.then(|| case.reset(n_batch, n_step));
    let (h, last) = case.graph.min_gru("h", p, u, &Recurrence { initial_state, reset, reverse }).expect("shapes fit");
    case.check(&[h, last]);
}

fn check_lengths(kernel: &'static str) {
    for (index, &n_step) in LENGTHS.iter().enumerate() {
        let n_hidden = CHANNELS[index % 3];
        for (initial, reset, reverse) in [(false, false, false), (true, false, true), (true, true, false), (false, true, true)] {
            check(kernel, 1 + index % 5, n_step, n_hidden, initial, reset, reverse);
        }
    }
}

#[test]
fn fused_at_every_length() {
    check_lengths("fused");
}

#[test]
fn step_by_step_at_every_length() {
    check_lengths("step");
}

#[test]
fn panels_at_every_length() {
    check_lengths("panel");
}

#[test]
fn more_rows_than_a_panel_and_more_channels_than_a_window() {
    for kernel in ["fused", "step", "panel"] {
        check(kernel, 19, 3, 130, true, false, false);
    }
}

#[test]
fn hidden_sizes_that_fit_no_workgroup() {
    for n_hidden in [2, 31, 128, 130, 300, 513] {
        for kernel in ["fused", "step", "panel"] {
            check(kernel, 3, 5, n_hidden, true, false, n_hidden % 2 == 0);
        }
    }
}

#[test]
fn window_by_window_where_not_all_can_be_bound() {
    for kernel in ["fused", "step", "panel"] {
        check_bound(kernel, [7, 65, 9], true, true, false, Some(24 << 10));
        check_bound(kernel, [7, 65, 9], false, false, true, Some(24 << 10));
        // one sequence alone is too large: by its positions
        check_bound(kernel, [2, 300, 9], true, true, false, Some(16 << 10));
        check_bound(kernel, [1, 300, 9], false, true, true, Some(16 << 10));
    }
}

/// Batches of one, two and four quads of rows a workgroup, and more than one workgroup takes; more positions than one dispatch.
#[test]
fn by_subgroups_where_there_are_subgroups_of_eight() {
    if !gpu(Setting::default()).is_some_and(|gpu| gpu.traits().subgroups_of_8) {
        return;
    }
    check("subgroup", 1, 1, 4, false, false, false);
    check("subgroup", 3, 65, 36, true, true, false);
    check("subgroup", 9, 2, 128, true, false, true);
    check("subgroup", 16, 63, 64, false, true, true);
    check("subgroup", 37, 5, 12, true, true, true);
    check("subgroup", 19, 3, 128, true, true, false);
    check("subgroup", 33, 4, 60, false, true, true);
    check("subgroup", 12, 3, 96, true, false, false);
    check("subgroup", 2, 1000, 8, true, false, false);
    check("subgroup", 5, 270, 128, false, true, false);
    check_bound("subgroup", [7, 65, 8], true, true, false, Some(24 << 10));
    check_bound("subgroup", [2, 300, 8], true, true, true, Some(16 << 10));
    check_bound("subgroup", [1, 300, 8], false, true, false, Some(16 << 10));
}
