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

#[test]
fn parts_side_by_side() {
    let mut case = Case::new("concat");
    let a = case.variable("a", &[2, 5, 3], -3.0, 3.0);
    let b = case.variable("b", &[2, 5, 65], -3.0, 3.0);
    let weight = case.variable("weight", &[4, 71], -1.0, 1.0);
    let whole = case.graph.concat("whole", &[a, b, a]).expect("as many rows");
    let mixed = case.graph.linear("mixed", whole, weight, None).expect("shapes fit");
    case.check(&[whole, mixed]);
}

#[test]
fn window_by_window_where_not_all_can_be_bound() {
    for shape in [[1, 9000], [300, 65], [5, 1000]] {
        let mut case = Case::new(format!("elementwise {shape:?}"));
        case.limit_binding(8 << 10);
        let a = case.variable("a", &shape, -3.0, 3.0);
        let b = case.variable("b", &shape, -3.0, 3.0);
        let sum = case.graph.sum("sum", a, b).expect("same shapes");
        let decay = case.graph.neg_exp("decay", sum);
        case.check(&[decay, sum]);
    }
}
