//! `dropout` against the reference.

use scanrnn::ops::DropoutSource;

use super::harness::Case;

fn check(shape: &[usize], rate: f32, seed: u64, step: u32) {
    let mut case = Case::new(format!("dropout {shape:?}, rate {rate}, seed {seed}, step {step}"));
    let x = case.variable("x", shape, 0.5, 2.0);
    let counter = case.indices("counter", &[2], vec![3, step]);
    let source = DropoutSource { rate, seed, counter };
    let first = case.graph.dropout("first", x, &source, 0).expect("a rate");
    let second = case.graph.dropout("second", first, &source, 1).expect("a rate");
    case.check(&[first, second]);
}

#[test]
fn masks_are_the_same_everywhere() {
    check(&[1, 1], 0.5, 0, 0);
    check(&[3, 65], 0.0, 1, 2);
    check(&[2, 63, 5], 0.1, 1, 2);
    check(&[300, 301], 0.9, u64::MAX, 1_000_000);
}

#[test]
fn columns_of_a_wider_tensor() {
    let mut case = Case::new("dropout of columns");
    let wide = case.variable("wide", &[7, 20, 12], 0.5, 2.0);
    let counter = case.indices("counter", &[2], vec![0, 5]);
    let x = case.graph.columns(wide, "x", 3, 5);
    let y = case.graph.dropout("y", x, &DropoutSource { rate: 0.4, seed: 3, counter }, 0).expect("a rate");
    case.check(&[y]);
}

#[test]
fn window_by_window_where_not_all_can_be_bound() {
    let mut case = Case::new("dropout 300 x 30");
    case.limit_binding(8 << 10);
    let x = case.variable("x", &[300, 30], 0.5, 2.0);
    let counter = case.indices("counter", &[2], vec![0, 5]);
    let y = case.graph.dropout("y", x, &DropoutSource { rate: 0.4, seed: 3, counter }, 0).expect("a rate");
    case.check(&[y]);
}
