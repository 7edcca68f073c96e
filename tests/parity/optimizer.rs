//! `optimizer` against the reference.

use scanrnn::graph::{Init, Tensor};
use scanrnn::ops::{Optimizer, ParameterGroup, Update};

use super::harness::Case;

fn optimizers() -> [Optimizer; 9] {
    [
        Optimizer::sgd(0.0),
        Optimizer::sgd(1e-2),
        Optimizer::Sgd { momentum: 0.9, nesterov: false, weight_decay: 1e-3 },
        Optimizer::Sgd { momentum: 0.8, nesterov: true, weight_decay: 1e-3 },
        Optimizer::adam(1e-2),
        Optimizer::Adam { betas: [0.0, 0.5], eps: 1e-3, weight_decay: 0.0 },
        Optimizer::adam_w(0.05),
        Optimizer::rms_prop(1e-2),
        Optimizer::RmsProp { alpha: 0.9, eps: 1e-6, momentum: 0.5, weight_decay: 0.0 },
    ]
}

/// An update of `n_parameter` parameters at step `t`, counted from 1, from given moments; what it reads and writes.
fn update(case: &mut Case, optimizer: Optimizer, n_parameter: usize, t: u32) -> (Update, Vec<Tensor>) {
    case.graph.parameter("w", &[n_parameter], Init::Constant(0.0));
    let (parameters, gradients) = (case.graph.flat_parameters(), case.graph.flat_gradients());
    case.fill(parameters, -1.0, 1.0);
    case.fill(gradients, -0.5, 0.5);
    let learning_rates = case.values("rates", &[3], vec![0.5, 0.01, 0.02]);
    let counter = case.indices("counter", &[2], vec![1, t - 1]);
    (Update { optimizer, clip: None, clip_value: None, learning_rates, counter, group: None }, vec![parameters])
}

/// Pushes the update and lets the moments that it adds to the graph begin at some values.
fn push(case: &mut Case, update: &Update, written: &mut Vec<Tensor>) {
    case.graph.optimize(update).expect("in range");
    let of_label = |label| case.graph.tensors().find(|(_, spec)| spec.label == label).map(|(tensor, _)| tensor);
    let (first, second) = (of_label("optimizer.first"), of_label("optimizer.second"));
    for (moment, low) in [(first, -0.1), (second, 0.01)] {
        if let Some(moment) = moment {
            case.fill(moment, low, 0.1);
            written.push(moment);
        }
    }
}

#[test]
fn every_rule_at_sizes_that_fit_no_workgroup() {
    for optimizer in optimizers() {
        for n_parameter in [1, 65, 1000] {
            let mut case = Case::new(format!("{optimizer:?}, {n_parameter}"));
            let (update, mut written) = update(&mut case, optimizer, n_parameter, 3);
            push(&mut case, &update, &mut written);
            case.check_values(&written);
        }
    }
}

#[test]
fn bias_corrections_at_every_magnitude_of_the_step() {
    for t in [1, 2, 3, 10, 50, 100, 400, 500, 600, 700, 1000, 100_000] {
        let mut case = Case::new(format!("Adam at step {t}"));
        let (update, _) = update(&mut case, Optimizer::adam(0.0), 64, t);
        case.graph.optimize(&update).expect("in range");
        // parameters from 0, so that the update itself is compared
        let parameters = case.graph.flat_parameters();
        case.set(parameters, vec![0.0; 64]);
        case.check_values(&[parameters]);
    }
}

#[test]
fn steps_of_many_runs_follow_the_counter() {
    for optimizer in optimizers() {
        let mut case = Case::new(format!("{optimizer:?}, six steps"));
        let (update, written) = update(&mut case, optimizer, 40, 1);
        case.graph.optimize(&update).expect("in range");
        case.graph.advance(update.counter).expect("two elements");
        case.runs = 6;
        case.check_values(&written);
    }
}

#[test]
fn clipping_by_norm_and_by_value() {
    for optimizer in optimizers() {
        let mut case = Case::new(format!("{optimizer:?}, clipped"));
        let (mut update, mut written) = update(&mut case, optimizer, 1000, 2);
        update.clip = Some(case.graph.clip_grad_norm(5.0).expect("greater than 0"));
        update.clip_value = Some(0.1);
        push(&mut case, &update, &mut written);
        case.check_values(&written);
    }
}

#[test]
fn a_group_learns_at_its_own_rate() {
    for optimizer in optimizers() {
        let mut case = Case::new(format!("{optimizer:?}, two groups"));
        let (mut update, mut written) = update(&mut case, optimizer, 100, 3);
        let first = case.graph.parameter("v", &[3, 30], Init::Constant(0.0));
        case.graph.parameter("b", &[30], Init::Constant(0.0));
        let (parameters, gradients) = (case.graph.flat_parameters(), case.graph.flat_gradients());
        case.fill(parameters, -1.0, 1.0);
        case.fill(gradients, -0.5, 0.5);
        written[0] = parameters;
        update.group = Some(ParameterGroup { first, rate: 0.25 });
        push(&mut case, &update, &mut written);
        case.check_values(&written);
    }
}

#[test]
fn a_group_of_all_parameters_is_a_learning_rate() {
    let after = |group: bool, rate: f32| {
        let mut case = Case::new("one group");
        let (mut update, _) = update(&mut case, Optimizer::adam_w(0.05), 65, 3);
        update.learning_rates = case.values("rate", &[1], vec![rate]);
        let first = case.graph.parameters()[0].tensor;
        update.group = group.then_some(ParameterGroup { first, rate: 0.25 });
        case.graph.optimize(&update).expect("in range");
        let parameters = case.graph.flat_parameters();
        case.read_everywhere(parameters)
    };
    for ((device, grouped), (_, alone)) in after(true, 0.5).into_iter().zip(after(false, 0.125)) {
        assert_eq!(grouped, alone, "{device}");
    }
}

#[test]
fn an_l1_penalty_adds_to_the_gradients_that_its_mask_names() {
    let mut case = Case::new("L1");
    case.graph.parameter("w", &[128], Init::Constant(0.0));
    let (parameters, gradients) = (case.graph.flat_parameters(), case.graph.flat_gradients());
    case.fill(gradients, -0.5, 0.5);
    case.set(parameters, (0..128).map(|index| (index % 3) as f32 - 1.0).collect());
    let mask = case.values("mask", &[128], (0..128).map(|index| (index % 2) as f32).collect());
    case.graph.l1_penalty(0.25, mask).expect("in range");
    case.check_values(&[gradients]);
}

#[test]
fn gradients_that_are_not_numbers_reach_the_parameters() {
    for optimizer in optimizers() {
        let mut case = Case::new(format!("{optimizer:?} of NaN"));
        let (mut update, _) = update(&mut case, optimizer, 64, 1);
        update.clip_value = Some(1.0);
        let (parameters, gradients) = (case.graph.flat_parameters(), case.graph.flat_gradients());
        case.set(gradients, (0..64).map(|index| if index == 7 { f32::NAN } else { 1.0 }).collect());
        case.graph.optimize(&update).expect("in range");
        for (device, got) in case.read_everywhere(parameters) {
            let nan: Vec<_> = got.iter().map(|value| value.is_nan()).collect();
            assert_eq!(nan, (0..64).map(|index| index == 7).collect::<Vec<_>>(), "{optimizer:?} on {device}");
        }
    }
}

#[test]
fn what_an_optimizer_refuses() {
    let mut case = Case::new("refused");
    let (given, _) = update(&mut case, Optimizer::sgd(0.0), 4, 1);
    let mut message =
        |optimizer, clip_value| case.graph.optimize(&Update { optimizer, clip_value, ..given }).expect_err("refused").to_string();
    assert_eq!(message(Optimizer::sgd(-1.0), None), "--weight-decay is -1: must be a number, 0 or more");
    assert_eq!(message(Optimizer::sgd(0.0), Some(0.0)), "--clip-value is 0: must be a number above 0");
    let nesterov = Optimizer::Sgd { momentum: 0.0, nesterov: true, weight_decay: 0.0 };
    assert_eq!(message(nesterov, None), "--momentum is 0: must be above 0 with Nesterov's momentum");
    let none = case.graph.input("x", &[4]);
    let grouped = Update { group: Some(ParameterGroup { first: none, rate: 0.5 }), ..given };
    let refused = case.graph.optimize(&grouped).expect_err("refused").to_string();
    assert!(refused.contains("`x` is no parameter, with which a group could begin"), "{refused}");
    let mut message = |optimizer| case.graph.optimize(&Update { optimizer, ..given }).expect_err("refused").to_string();
    let adam = Optimizer::Adam { betas: [0.9, 1.0], eps: 1e-8, weight_decay: 0.0 };
    assert_eq!(message(adam), "--betas is 1: must be at least 0 and below 1");
}

#[test]
fn window_by_window_where_not_all_can_be_bound() {
    for optimizer in optimizers() {
        let mut case = Case::new(format!("{optimizer:?}, 5000"));
        case.limit_binding(8 << 10);
        let (update, mut written) = update(&mut case, optimizer, 5000, 3);
        push(&mut case, &update, &mut written);
        case.check_values(&written);
    }
}
