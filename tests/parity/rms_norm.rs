//! `rms_norm` against the reference.

use super::harness::{CHANNELS, Case, LENGTHS};

#[test]
fn rows_and_channels_that_fit_no_workgroup() {
    let rows = LENGTHS.into_iter().chain([31, 32, 33, 530]);
    let channels = CHANNELS.into_iter().chain([16, 64, 257, 4, 260]).cycle();
    for ((n_row, n_channel), kernel) in rows.zip(channels).flat_map(|shape| ["lane", "group"].map(|kernel| (shape, kernel))) {
        let mut case = Case::new(format!("rms_norm {n_row} x {n_channel}"));
        case.force_kernel("rms_norm", kernel);
        let x = case.variable("x", &[n_row, n_channel], -2.0, 2.0);
        let weight = case.variable("weight", &[n_channel], 0.5, 1.5);
        let y = case.graph.rms_norm("y", x, weight, 1e-5).expect("shapes fit");
        case.check(&[y]);
    }
}

#[test]
fn columns_of_a_wider_tensor() {
    for (first, n_channel, wide) in [(9, 11, 30), (8, 12, 32), (9, 12, 32), (8, 12, 30)] {
        let mut case = Case::new(format!("rms_norm over columns from {first} of {wide}"));
        let wide = case.variable("wide", &[2, 20, wide], -2.0, 2.0);
        let weight = case.variable("weight", &[n_channel], 0.5, 1.5);
        let x = case.graph.columns(wide, "x", first, n_channel);
        let y = case.graph.rms_norm("y", x, weight, 1e-5).expect("shapes fit");
        let last = case.graph.step(y, 19).expect("contiguous");
        case.check(&[last]);
    }
}

#[test]
fn only_the_weight_or_only_the_input_is_differentiated() {
    for constant_x in [false, true] {
        let mut case = Case::new(format!("rms_norm, constant x {constant_x}"));
        let [x, weight] = if constant_x {
            [case.input("x", &[40, 5], -2.0, 2.0), case.variable("weight", &[5], 0.5, 1.5)]
        } else {
            [case.variable("x", &[40, 5], -2.0, 2.0), case.input("weight", &[5], 0.5, 1.5)]
        };
        let y = case.graph.rms_norm("y", x, weight, 1e-5).expect("shapes fit");
        case.check(&[y]);
    }
}

#[test]
fn small_and_zero_rows_stay_finite() {
    let mut case = Case::new("rms_norm of small rows");
    let x = case.values("x", &[3, 4], vec![0.0, 0.0, 0.0, 0.0, 1e-12, -1e-12, 2e-12, 0.0, 1e12, -1e12, 2e12, 0.0]);
    let weight = case.variable("weight", &[4], 0.5, 1.5);
    let y = case.graph.rms_norm("y", x, weight, 1e-5).expect("shapes fit");
    case.check(&[y]);
}

#[test]
fn window_by_window_where_not_all_can_be_bound() {
    // the last two: fewer rows fit than a block of the weight's gradient has
    for (kernel, n_channel) in [("lane", 33), ("group", 33), ("lane", 36), ("group", 36), ("lane", 150), ("group", 150)] {
        let mut case = Case::new(format!("rms_norm 530 x {n_channel}"));
        case.force_kernel("rms_norm", kernel);
        case.limit_binding(16 << 10);
        let x = case.variable("x", &[530, n_channel], -2.0, 2.0);
        let weight = case.variable("weight", &[n_channel], 0.5, 1.5);
        let y = case.graph.rms_norm("y", x, weight, 1e-5).expect("shapes fit");
        case.check(&[y]);
    }
}
