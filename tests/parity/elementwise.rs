//! `elementwise` against the reference.

use super::harness::Case;

#[test]
fn sums_and_decays() {
    for shape in [[1, 1], [3, 65], [1000, 3]] {
        let mut case = Case::new(format!("elementwise {shape:?}"));
        let a = case.variable("a", &shape, -3.0, 3.0);
        let b = case.variable("b", &shape, -3.0, 3.0);
        let sum = case.graph.sum("sum", a, b).expect("same shapes");
        let decay = case.graph.neg_exp("decay", sum);
        case.check(&[decay, sum]);
    }
}
