//! `loss` against the reference.

use scanrnn::graph::Tensor;
use scanrnn::ops::Loss;

use super::harness::Case;

fn losses() -> [Loss; 5] {
    let levels = (1..32).map(|level| level as f32 / 32.0).collect();
    [Loss::Mse, Loss::Mae, Loss::Huber { delta: 0.5 }, Loss::Quantile { levels: vec![0.1, 0.5, 0.9] }, Loss::Quantile { levels }]
}

fn loss(case: &mut Case, loss: Loss, prediction: Tensor, n_row: usize, n_output: usize) -> Tensor {
    let wanted = case.input("target", &[n_row, n_output], -1.0, 1.0);
    let counter = case.indices("counter", &[2], vec![1, 5]);
    let losses = case.values("losses", &[3], vec![-1.0; 3]);
    case.graph.loss("loss", loss, prediction, wanted, counter, losses).expect("shapes fit");
    losses
}

#[test]
fn every_loss_and_its_gradient() {
    for kind in losses() {
        for (n_row, n_output) in [(1, 1), (32, 1), (63, 3), (257, 65)] {
            let n_column = n_output * kind.columns_per_output();
            let mut case = Case::new(format!("{kind:?} {n_row} x {n_output}"));
            let prediction = case.variable("prediction", &[n_row, n_column], -1.0, 1.0);
            let losses = loss(&mut case, kind.clone(), prediction, n_row, n_output);
            case.check_with(&[], &[losses]);
        }
    }
}

#[test]
fn prediction_of_the_last_step() {
    let mut case = Case::new("loss of the last step");
    let sequence = case.variable("sequence", &[8, 5, 3], -1.0, 1.0);
    let last = case.graph.step(sequence, 4).expect("contiguous");
    let losses = loss(&mut case, Loss::Mse, last, 8, 3);
    case.check_with(&[], &[losses]);
}

#[test]
fn errors_of_zero_and_of_not_a_number() {
    for kind in losses() {
        let n_level = kind.columns_per_output();
        let mut case = Case::new(format!("{kind:?} of zero"));
        let zeros = case.variable("prediction", &[2, n_level], -1e-30, 1e-30);
        let wanted = case.values("target", &[2, 1], vec![0.0, 3.0]);
        let counter = case.indices("counter", &[2], vec![0, 0]);
        let losses = case.values("losses", &[1], vec![0.0]);
        case.graph.loss("loss", kind, zeros, wanted, counter, losses).expect("shapes fit");
        case.check_with(&[], &[losses]);
    }
}

#[test]
fn a_counter_beyond_the_losses_writes_nothing() {
    let mut case = Case::new("loss beyond the end");
    let prediction = case.variable("prediction", &[4, 1], -1.0, 1.0);
    let wanted = case.input("target", &[4, 1], -1.0, 1.0);
    let counter = case.indices("counter", &[2], vec![2, 2]);
    let losses = case.values("losses", &[2], vec![-1.0, -2.0]);
    case.graph.loss("loss", Loss::Mse, prediction, wanted, counter, losses).expect("shapes fit");
    case.check_with(&[], &[losses]);
}

#[test]
fn what_a_loss_refuses() {
    let mut case = Case::new("refused");
    let prediction = case.input("prediction", &[4, 2], -1.0, 1.0);
    let wanted = case.input("target", &[4, 1], -1.0, 1.0);
    let counter = case.indices("counter", &[2], vec![0, 0]);
    let losses = case.values("losses", &[1], vec![0.0]);
    let mut message = |loss| case.graph.loss("loss", loss, prediction, wanted, counter, losses).expect_err("refused").to_string();
    assert_eq!(message(Loss::Mse), "loss: `prediction` has shape [4, 2], expected 4 elements for `loss`, in rows of a multiple of 1");
    assert_eq!(message(Loss::Huber { delta: 0.0 }), "--huber-delta is 0: must be a number above 0");
    assert_eq!(message(Loss::Quantile { levels: vec![0.5, 1.0] }), "--quantiles is [0.5, 1.0]: must be 1 to 32 numbers between 0 and 1");
}

#[test]
fn window_by_window_where_not_all_can_be_bound() {
    for kind in losses() {
        let n_level = kind.columns_per_output();
        for (prediction_shape, n_row, n_output) in
            [(vec![257, 13 * n_level], 257, 13), (vec![20, 60 * n_level], 100, 12), (vec![1, 6000 * n_level], 1, 6000)]
        {
            let mut case = Case::new(format!("{kind:?}, {prediction_shape:?} against {n_row} x {n_output}"));
            case.limit_binding(8 << 10);
            let prediction = case.variable("prediction", &prediction_shape, -1.0, 1.0);
            let losses = loss(&mut case, kind.clone(), prediction, n_row, n_output);
            case.check_with(&[], &[losses]);
        }
    }
}
