//! `stack` against the reference.

use super::harness::Case;

fn check(mut case: Case, n_row: usize, n_step: usize, n_part: usize, n_own: usize) {
    let x = case.variable("x", &[n_row, n_step, n_part * n_own], -3.0, 3.0);
    let weight = case.variable("weight", &[2, n_own], -1.0, 1.0);
    let tall = case.graph.stack("tall", x, n_part, 0).expect("parts");
    let mixed = case.graph.linear("mixed", tall, weight, None).expect("shapes fit");
    let wide = case.graph.unstack("wide", mixed, n_part).expect("parts");
    case.check(&[tall, wide]);
}

#[test]
fn parts_one_below_another_and_back() {
    for (n_row, n_step, n_part, n_own) in [(1, 1, 1, 1), (3, 5, 2, 3), (2, 130, 7, 1), (4, 33, 65, 1), (5, 1, 3, 70)] {
        check(Case::new(format!("stack {n_row} x {n_step}, {n_part} of {n_own}")), n_row, n_step, n_part, n_own);
    }
}

#[test]
fn columns_that_all_parts_share() {
    for (n_part, n_shared) in [(1, 2), (3, 1), (7, 5)] {
        let mut case = Case::new(format!("stack of {n_part} with {n_shared} beside them"));
        let x = case.input("x", &[2, 70, n_part + n_shared], -3.0, 3.0);
        let tall = case.graph.stack("tall", x, n_part, n_shared).expect("parts");
        let alone = case.graph.columns(x, "alone", 0, n_part);
        let alone = case.graph.stack("tall alone", alone, n_part, 0).expect("parts");
        case.check_values(&[tall, alone]);
    }
}

#[test]
fn part_by_part_where_not_all_can_be_bound() {
    for (n_row, n_part) in [(300, 5), (20, 130)] {
        let mut case = Case::new(format!("stack {n_row}, {n_part} parts"));
        case.limit_binding(4 << 10);
        check(case, n_row, 1, n_part, 1);
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let mut case = Case::new("refused");
    let x = case.input("x", &[4, 5], 0.0, 1.0);
    let message = case.graph.stack("tall", x, 2, 0).expect_err("five columns").to_string();
    assert_eq!(message, "stack: `x` has shape [4, 5], expected rows of 2 equal parts and 0 columns behind them");
    let message = case.graph.unstack("wide", x, 3).expect_err("four rows").to_string();
    assert_eq!(message, "unstack: `x` has shape [4, 5], expected a multiple of 3 rows");
}
