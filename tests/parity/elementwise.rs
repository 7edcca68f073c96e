//! `elementwise` against the reference.

use super::harness::Case;

#[test]
fn sums_and_decays() {
    for shape in [[1, 1], [3, 65], [1000, 3], [1, 4], [70, 12], [33, 128]] {
        let mut case = Case::new(format!("elementwise {shape:?}"));
        let a = case.variable("a", &shape, -3.0, 3.0);
        let b = case.variable("b", &shape, -3.0, 3.0);
        let sum = case.graph.sum("sum", a, b).expect("same shapes");
        let decay = case.graph.neg_exp("decay", sum);
        case.check(&[decay, sum]);
    }
}

#[test]
fn gradients_of_sums_that_meet_others_and_that_do_not() {
    let mut case = Case::new("sums of sums");
    let [a, b, c] = ["a", "b", "c"].map(|label| case.variable(label, &[5, 8], -1.0, 1.0));
    let first = case.graph.sum("first", a, b).expect("same shapes");
    let second = case.graph.sum("second", first, a).expect("same shapes");
    let twice = case.graph.sum("twice", c, c).expect("same shapes");
    let all = case.graph.sum("all", second, twice).expect("same shapes");
    let decay = case.graph.neg_exp("decay", all);
    case.check(&[decay, first, twice]);
}

#[test]
fn parts_side_by_side() {
    // places and widths of parts that are multiples of four, and that are not
    for widths in [[3, 65, 4], [12, 64, 4], [12, 6, 8], [4, 65, 8]] {
        let mut case = Case::new(format!("concat {widths:?}"));
        let parts = widths.map(|width| case.variable("part", &[2, 5, width], -3.0, 3.0));
        let weight = case.variable("weight", &[4, widths.iter().sum()], -1.0, 1.0);
        let whole = case.graph.concat("whole", &parts).expect("as many rows");
        let mixed = case.graph.linear("mixed", whole, weight, None).expect("shapes fit");
        case.check(&[whole, mixed]);
    }
}

#[test]
fn window_by_window_where_not_all_can_be_bound() {
    for shape in [[1, 9000], [300, 65], [300, 64], [5, 1000]] {
        let mut case = Case::new(format!("elementwise {shape:?}"));
        case.limit_binding(8 << 10);
        let a = case.variable("a", &shape, -3.0, 3.0);
        let b = case.variable("b", &shape, -3.0, 3.0);
        let sum = case.graph.sum("sum", a, b).expect("same shapes");
        let decay = case.graph.neg_exp("decay", sum);
        case.check(&[decay, sum]);
    }
}
