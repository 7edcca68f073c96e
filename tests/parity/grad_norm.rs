//! `grad_norm` against the reference.

use scanrnn::graph::Init;

use super::harness::Case;

#[test]
fn norms_of_one_and_of_many_workgroups() {
    for n_parameter in [1, 3, 65, 1000, 1025, 300_000] {
        for max_norm in [0.1, 1e4] {
            let mut case = Case::new(format!("grad_norm {n_parameter}, at most {max_norm}"));
            case.graph.parameter("w", &[n_parameter], Init::Constant(0.0));
            let gradients = case.graph.flat_gradients();
            case.fill(gradients, -1.0, 1.0);
            let clip = case.graph.clip_grad_norm(max_norm).expect("greater than 0");
            case.check_values(&[clip]);
        }
    }
}

#[test]
fn what_is_not_a_number_passes_on() {
    for (gradient, norm) in [(f32::NAN, f32::NAN), (f32::INFINITY, f32::INFINITY)] {
        let mut case = Case::new("grad_norm of what is not finite");
        case.graph.parameter("w", &[64], Init::Constant(0.0));
        let gradients = case.graph.flat_gradients();
        let mut values = vec![0.5; 64];
        values[40] = gradient;
        case.set(gradients, values);
        let clip = case.graph.clip_grad_norm(1.0).expect("greater than 0");
        for (device, got) in case.read_everywhere(clip) {
            assert_eq!(got[0].to_string(), norm.to_string(), "{device}");
            assert!(if norm.is_nan() { got[1].is_nan() } else { got[1] == 0.0 }, "{device}: factor {}", got[1]);
        }
    }
}

#[test]
fn a_norm_of_zero_is_refused() {
    let mut case = Case::new("refused");
    let message = case.graph.clip_grad_norm(0.0).expect_err("refused").to_string();
    assert_eq!(message, "--clip-norm is 0: must be a number above 0");
}

#[test]
fn window_by_window_where_not_all_can_be_bound() {
    let mut case = Case::new("grad_norm 20,000");
    case.limit_binding(16 << 10);
    case.graph.parameter("w", &[20_000], Init::Constant(0.0));
    let gradients = case.graph.flat_gradients();
    case.fill(gradients, -1.0, 1.0);
    let clip = case.graph.clip_grad_norm(0.1).expect("greater than 0");
    case.check_values(&[clip]);
}
