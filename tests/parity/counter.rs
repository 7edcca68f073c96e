//! `counter` against the reference.

use super::harness::Case;

#[test]
fn both_counts_advance() {
    let mut case = Case::new("advance");
    let counter = case.indices("counter", &[2], vec![3, 1_000_000]);
    case.graph.advance(counter).expect("two elements");
    case.graph.advance(counter).expect("two elements");
    case.check_values(&[counter]);
}
