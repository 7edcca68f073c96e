//! `iterate` against the reference.

use scanrnn::ops::Iterated;

use super::harness::Case;

fn check(mut case: Case, n_row: usize, n_pass: usize) {
    let x = case.input("x", &[n_row, 12], 0.0, 2.0);
    let [line, exponentials] =
        [Iterated::MultiplyAdd, Iterated::Exponential].map(|function| case.graph.iterate("y", x, function, n_pass).expect("rows of 12"));
    case.check_values(&[line, exponentials]);
}

#[test]
fn few_times_and_many() {
    for (n_row, n_pass) in [(1, 1), (3, 2), (65, 1), (1000, 20)] {
        check(Case::new(format!("iterate {n_row} x {n_pass}")), n_row, n_pass);
    }
}

#[test]
fn window_by_window_where_not_all_can_be_bound() {
    let mut case = Case::new("iterate");
    case.limit_binding(8 << 10);
    check(case, 1000, 1);
}

#[test]
fn other_columns_are_refused() {
    let mut case = Case::new("refused");
    let x = case.input("x", &[4, 5], 0.0, 1.0);
    let message = case.graph.iterate("y", x, Iterated::MultiplyAdd, 1).expect_err("five columns").to_string();
    assert_eq!(message, "iterate: `x` has shape [4, 5], expected contiguous rows of 12");
}
