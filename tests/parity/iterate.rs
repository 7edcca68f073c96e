//! `iterate` against the reference.

use scanrnn::ops::Iterated;

use super::harness::Case;

#[test]
fn few_times_and_many() {
    for (n_column, n_pass) in [(1, 1), (3, 2), (65, 1), (1000, 20)] {
        let mut case = Case::new(format!("iterate {n_column} x {n_pass}"));
        let wide = case.input("x", &[12, n_column + 5], 0.0, 2.0);
        let x = case.graph.columns(wide, "part", 2, n_column);
        let [products, exponentials] =
            [Iterated::MultiplyAdd, Iterated::Exponential].map(|function| case.graph.iterate("y", x, function, n_pass).expect("12 rows"));
        case.check_values(&[products, exponentials]);
    }
}

#[test]
fn other_rows_are_refused() {
    let mut case = Case::new("refused");
    let x = case.input("x", &[4, 5], 0.0, 1.0);
    let message = case.graph.iterate("y", x, Iterated::MultiplyAdd, 1).expect_err("four rows").to_string();
    assert_eq!(message, "iterate: `x` has shape [4, 5], expected 12 rows");
}
