//! `linear` against the reference.

use super::harness::{self, Case};

/// Those that the adapter has.
fn kernels() -> Vec<&'static str> {
    harness::kernels(
        &["tile_64", "tile_128", "panel"],
        &[
            ("subgroup", |traits| traits.subgroups_of_8),
            ("subgroup_window", |traits| traits.subgroups_of_8),
            ("cooperative", |traits| traits.cooperative.is_some()),
        ],
    )
}

#[test]
fn shapes_that_fit_no_tile() {
    let odd = [(1, 1, 1), (2, 3, 1), (17, 5, 65), (63, 16, 16), (65, 257, 33), (130, 600, 3), (1000, 3, 7), (700, 37, 45)];
    // sizes that divide by four: more rows than a block or a window, one or several slices in one, whole cache lines an invocation
    let even = [(300, 20, 600), (4, 4, 4), (20, 8, 36), (1100, 128, 140), (12, 700, 20), (200, 36, 256), (520, 1, 128), (1100, 1, 140)];
    // terms that are held at once: the product is stored row by row; the last: more slices than a dispatch takes
    let whole = [(501, 128, 64), (77, 16, 32), (77, 32, 128), (77, 32, 16), (200, 256, 36), (130, 260, 136), (10_100, 4, 8)];
    let shapes = odd.into_iter().chain(even).chain(whole);
    for (n_row, n_in, n_out) in shapes {
        for (has_bias, kernel) in [false, true].into_iter().flat_map(|has_bias| kernels().into_iter().map(move |kernel| (has_bias, kernel)))
        {
            let mut case = Case::new(format!("linear {n_row} x {n_in} x {n_out}, bias {has_bias}"));
            case.force_kernel("linear", kernel);
            let x = case.variable("x", &[n_row, n_in], -1.0, 1.0);
            let weight = case.variable("weight", &[n_out, n_in], -1.0, 1.0);
            let bias = has_bias.then(|| case.variable("bias", &[n_out], -1.0, 1.0));
            let y = case.graph.linear("y", x, weight, bias).expect("shapes fit");
            case.check(&[y]);
        }
    }
}

#[test]
fn one_output() {
    // the last: of more columns than a loop takes
    for (n_row, n_in) in [(300, 37), (1100, 140), (2, 60_004)] {
        for has_bias in [false, true] {
            let mut case = Case::new(format!("linear {n_row} x {n_in} x 1, bias {has_bias}"));
            let x = case.variable("x", &[n_row, n_in], -1.0, 1.0);
            let weight = case.variable("weight", &[1, n_in], -1.0, 1.0);
            let bias = has_bias.then(|| case.variable("bias", &[1], -1.0, 1.0));
            let y = case.graph.linear("y", x, weight, bias).expect("shapes fit");
            case.check(&[y]);
        }
    }
}

#[test]
fn factors_beyond_the_range_of_16_bit_floats() {
    for kernel in kernels() {
        let mut case = Case::new("linear of tiny rows by a huge weight");
        case.force_kernel("linear", kernel);
        let x = case.variable("x", &[40, 36], -1e-9, 1e-9);
        let weight = case.variable("weight", &[20, 36], -1e9, 1e9);
        let y = case.graph.linear("y", x, weight, None).expect("shapes fit");
        case.check(&[y]);
    }
}

#[test]
fn columns_and_steps_of_larger_tensors() {
    let parts = [(3, 4, 7), (4, 4, 7), (3, 16, 32), (4, 16, 32)];
    for (kernel, (first, n_in, n_out)) in kernels().into_iter().flat_map(|kernel| parts.map(|part| (kernel, part))) {
        let mut case = Case::new(format!("linear over {n_in} columns from {first} on"));
        case.force_kernel("linear", kernel);
        let x = case.variable("x", &[3, 5, n_in + 8], -1.0, 1.0);
        let weight = case.variable("weight", &[n_out, n_in], -1.0, 1.0);
        let head = case.variable("head", &[2, n_out], -1.0, 1.0);
        let part = case.graph.columns(x, "part", first, n_in);
        let y = case.graph.linear("y", part, weight, None).expect("shapes fit");
        let last = case.graph.step(y, 4).expect("contiguous");
        let forecast = case.graph.linear("forecast", last, head, None).expect("shapes fit");
        case.check(&[forecast]);
    }
}

#[test]
fn a_column_of_a_larger_weight() {
    for kernel in kernels() {
        let mut case = Case::new("linear of one input column, by one of a weight's");
        case.force_kernel("linear", kernel);
        let x = case.variable("x", &[9, 1], -1.0, 1.0);
        let weight = case.variable("weight", &[7, 3], -1.0, 1.0);
        let column = case.graph.columns(weight, "column", 1, 1);
        let y = case.graph.linear("y", x, column, None).expect("shapes fit");
        case.check(&[y]);
    }
}

#[test]
fn a_tensor_with_two_consumers_gets_both_gradients() {
    let mut case = Case::new("linear, twice");
    let x = case.variable("x", &[9, 4], -1.0, 1.0);
    let weight = case.variable("weight", &[4, 4], -1.0, 1.0);
    let once = case.graph.linear("once", x, weight, None).expect("shapes fit");
    let twice = case.graph.linear("twice", once, weight, None).expect("shapes fit");
    let sum = case.graph.sum("sum", x, twice).expect("shapes fit");
    case.check(&[sum]);
}

#[test]
fn more_rows_than_a_software_driver_loops() {
    for kernel in kernels() {
        let mut case = Case::new("linear over 70,000 rows");
        case.force_kernel("linear", kernel);
        let x = case.variable("x", &[70_000, 2], -1.0, 1.0);
        let weight = case.variable("weight", &[3, 2], -1.0, 1.0);
        let bias = case.variable("bias", &[3], -1.0, 1.0);
        let y = case.graph.linear("y", x, weight, Some(bias)).expect("shapes fit");
        case.check(&[y]);
    }
}

/// More tiles of rows than there are workgroups along one axis.
#[test]
fn more_rows_than_one_dispatch_takes() {
    let mut case = Case::new("linear 4194304 x 2 x 2".to_string());
    case.force_kernel("linear", "tile_64");
    let x = case.variable("x", &[64 * 65_536, 2], -1.0, 1.0);
    let weight = case.values("weight", &[2, 2], vec![0.5, -0.25, 0.75, 1.0]);
    let y = case.graph.linear("y", x, weight, None).expect("shapes fit");
    case.check(&[y]);
}

#[test]
fn window_by_window_where_not_all_can_be_bound() {
    // the last: a product alone that is too large
    let panels = [("panel", 2000, 33, 3), ("panel", 40, 5, 65), ("panel", 300, 3, 65)];
    let tiles = [
        ("tile_64", 700, 20, 30),
        ("tile_128", 700, 20, 30),
        ("cooperative", 700, 20, 30),
        ("subgroup", 300, 4, 64),
        ("subgroup_window", 300, 4, 64),
        ("tile_64", 700, 20, 1),
        // a weight's gradient of more parts than can be bound
        ("tile_64", 900, 20, 30),
        ("tile_64", 3000, 60, 68),
        ("cooperative", 900, 20, 30),
    ];
    for (kernel, n_row, n_in, n_out) in tiles.into_iter().chain(panels).filter(|(kernel, ..)| kernels().contains(kernel)) {
        let mut case = Case::new(format!("linear {n_row} x {n_in} x {n_out}"));
        case.force_kernel("linear", kernel);
        case.limit_binding(16 << 10);
        let x = case.variable("x", &[n_row, n_in], -1.0, 1.0);
        let weight = case.variable("weight", &[n_out, n_in], -1.0, 1.0);
        let bias = case.variable("bias", &[n_out], -1.0, 1.0);
        let y = case.graph.linear("y", x, weight, Some(bias)).expect("shapes fit");
        case.check(&[y]);
    }
}
