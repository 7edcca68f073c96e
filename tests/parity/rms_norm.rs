//! `rms_norm` against the reference.

use super::harness::{CHANNELS, Case, LENGTHS};

#[test]
fn rows_and_channels_that_fit_no_workgroup() {
    let rows = LENGTHS.into_iter().chain([31, 32, 33, 530]);
    let channels = CHANNELS.into_iter().chain([16, 64, 257]).cycle();
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
    let mut case = Case::new("rms_norm over columns");
    let wide = case.variable("wide", &[2, 20, 30], -2.0, 2.0);
    let weight = case.variable("weight", &[11], 0.5, 1.5);
    let x = case.graph.columns(wide, "x", 9, 11);
    let y = case.graph.rms_norm("y", x, weight, 1e-5).expect("shapes fit");
    let last = case.graph.step(y, 19).expect("contiguous");
    case.check(&[last]);
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
    for kernel in ["lane", "group"] {
        let mut case = Case::new("rms_norm 530 x 33");
        case.force_kernel("rms_norm", kernel);
        case.limit_binding(16 << 10);
        let x = case.variable("x", &[530, 33], -2.0, 2.0);
        let weight = case.variable("weight", &[33], 0.5, 1.5);
        let y = case.graph.rms_norm("y", x, weight, 1e-5).expect("shapes fit");
        case.check(&[y]);
    }
}
