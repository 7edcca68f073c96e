//! Every gradient of the reference against central differences in f64.

mod reference_cases;

use ndarray::{ArrayD, Zip};
use reference_cases::{Operation, Options, Recurrence, Tensors, borders};
use scanrnn::ops::{Loss, Rescaling};
use scanrnn::reference::{dropout, elementwise, loss, window};

/// Of a central difference of a smooth function of size 1 at this step: truncation 1e-10, rounding 1e-11.
const STEP: f64 = 1e-5;
const TOLERANCE: f64 = 2e-8;

/// Compares one gradient with central differences of the scalar `f`.
fn check(what: &str, x: &ArrayD<f64>, grad: &ArrayD<f64>, f: impl Fn(&ArrayD<f64>) -> f64) {
    assert_eq!(x.shape(), grad.shape(), "{what}");
    let difference = ArrayD::from_shape_fn(x.raw_dim(), |at| {
        let moved = |by: f64| {
            let mut moved = x.clone();
            moved[&at] += by;
            f(&moved)
        };
        (moved(STEP) - moved(-STEP)) / (2.0 * STEP)
    });
    let size = 1.0 + difference.iter().fold(0f64, |size, d| size.max(d.abs()));
    Zip::from(grad).and(&difference).for_each(|&grad, &difference| {
        assert!((grad - difference).abs() <= TOLERANCE * size, "{what}: gradient {grad}, central difference {difference}");
    });
}

/// `Σ cotangent out`, the scalar that the gradients are of.
fn objective(cotangents: &Tensors<f64>, outputs: &Tensors<f64>) -> f64 {
    let products = outputs.0.iter().filter_map(|(name, out)| {
        let cotangent = cotangents.0.get(&format!("cotangent.{}", name.strip_prefix("out.")?))?;
        Some((out * cotangent).sum())
    });
    products.sum()
}

/// Checks the gradient of every input of an operation.
fn check_operation(what: &str, operation: Operation<f64>, options: &Options, tensors: &Tensors<f64>) {
    let outputs = operation(options, tensors);
    for (name, x) in tensors.0.iter().filter(|(name, _)| !name.starts_with("cotangent.")) {
        let grad = outputs.0.get(&format!("grad.{name}")).unwrap_or_else(|| panic!("{what}: no gradient of {name}"));
        check(&format!("{what}, {name}"), x, grad, |x| objective(tensors, &operation(options, &tensors.clone().with(name, x.clone()))));
    }
}

#[test]
fn linear() {
    let shapes: [(&str, &[usize]); 4] = [("x", &[4, 3]), ("weight", &[5, 3]), ("bias", &[5]), ("cotangent.y", &[4, 5])];
    let mut tensors = Tensors::random(1, &shapes);
    check_operation("linear", reference_cases::linear, &Options::default(), &tensors);
    tensors.0.remove("bias");
    check_operation("linear without bias", reference_cases::linear, &Options::default(), &tensors);
}

#[test]
fn rms_norm() {
    for n_channel in [1, 7] {
        let shape: &[usize] = &[4, n_channel];
        let tensors = Tensors::random(2, &[("x", shape), ("weight", &[n_channel]), ("cotangent.y", shape)]);
        check_operation("rms_norm", reference_cases::rms_norm, &Options { eps: 0.1, ..Options::default() }, &tensors);
    }
}

#[test]
fn recurrences_both_ways_with_states_and_borders() {
    for recurrence in Recurrence::all() {
        let tensors = recurrence.tensors(3, 2, 7);
        for reverse in [false, true] {
            for reset in [None, Some(borders(&["..|..||", "|...|.."]))] {
                let what = format!("{}, reverse {reverse}, reset {}", recurrence.name, reset.is_some());
                check_operation(&what, recurrence.operation, &recurrence.options(reverse, reset), &tensors);
            }
        }
    }
}

#[test]
fn recurrences_without_what_is_optional() {
    for recurrence in Recurrence::all() {
        let mut tensors = recurrence.tensors(4, 2, 5);
        for optional in ["z", "bias", "delta_bias", "initial_state", "initial_window", "h0", "cotangent.last_state", "cotangent.last"] {
            tensors.0.remove(optional);
        }
        if recurrence.name.starts_with("selective_scan") {
            tensors.0.remove("D");
        }
        check_operation(recurrence.name, recurrence.operation, &recurrence.options, &tensors);
    }
}

#[test]
fn mamba_lab_beyond_its_clips() {
    let recurrence = Recurrence::<f64>::all().into_iter().find(|recurrence| recurrence.name == "mamba_lab").expect("mamba_lab");
    let mut tensors = recurrence.tensors(5, 2, 6);
    tensors.0.get_mut("p").expect("p").mapv_inplace(|p| 60.0 * p);
    let p = &tensors.0["p"];
    let y = &recurrence.run(&recurrence.options, &tensors).0["out.y"];
    assert!(p.iter().any(|p| p.abs() > 50.0) && p.iter().any(|p| p.abs() < 50.0));
    // A gate of at most 50 times a read-out of at most 10.
    assert!(y.iter().all(|y| y.abs() <= 500.0) && y.iter().any(|y| y.abs() > 100.0));
    check_operation("mamba_lab beyond its clips", recurrence.operation, &recurrence.options, &tensors);
}

#[test]
fn attention_over_past_keys_and_borders() {
    for n_past in [0, 3] {
        let tensors = reference_cases::attention_tensors(8, 2, n_past, 7);
        for reset in [None, Some(borders(&["..|..||", "......."]))] {
            for length in [None, (n_past > 0).then(|| vec![1, 3])] {
                let what = format!("attention, {n_past} past keys, {length:?} there, reset {}", reset.is_some());
                let options = Options { reset: reset.clone(), length, ..Options::default() };
                check_operation(&what, reference_cases::attention, &options, &tensors);
            }
        }
    }
}

#[test]
fn losses() {
    for kind in [Loss::Mse, Loss::Mae, Loss::Huber { delta: 0.4 }, Loss::Quantile { levels: vec![0.1, 0.5, 0.9] }] {
        let n_column = 2 * kind.columns_per_output();
        let tensors = Tensors::<f64>::random(6, &[("prediction", &[5, n_column]), ("target", &[5, 2])]);
        let grad = loss::backward(&kind, tensors.get("prediction"), tensors.get("target")).into_dyn();
        check(&format!("{kind:?}"), &tensors.0["prediction"], &grad, |prediction| {
            let prediction = prediction.view().into_dimensionality().expect("two axes");
            loss::forward(&kind, prediction, tensors.get("target"))
        });
    }
}

#[test]
fn dropout_keeps_its_mask_on_the_way_back() {
    let tensors = Tensors::<f64>::random(8, &[("x", &[5, 7]), ("cotangent", &[5, 7])]);
    let (mask, scale) = (dropout::Mask::new(3, 4, 1 << 31), 2.0);
    let grad = dropout::forward(tensors.0["cotangent"].view(), mask, scale);
    let n_kept = grad.iter().filter(|&&grad| grad != 0.0).count();
    assert!(n_kept > 5 && n_kept < 30, "{n_kept}");
    check("dropout", &tensors.0["x"], &grad, |x| (dropout::forward(x.view(), mask, scale) * &tensors.0["cotangent"]).sum());
}

#[test]
fn rescale_is_its_own_gradient() {
    let tensors = Tensors::<f64>::random(9, &[("x", &[3, 4, 2]), ("scale", &[3, 2]), ("cotangent", &[3, 4, 2])]);
    let [x, cotangent] = ["x", "cotangent"].map(|name| tensors.get::<ndarray::Ix3>(name));
    for rescaling in [Rescaling::Scale, Rescaling::Root] {
        let grad = window::rescale(cotangent, tensors.get("scale"), &[1, 0], rescaling).into_dyn();
        check(&format!("{rescaling:?}"), &x.to_owned().into_dyn(), &grad, |x| {
            let x = x.view().into_dimensionality().expect("three axes");
            (window::rescale(x, tensors.get("scale"), &[1, 0], rescaling) * cotangent).sum()
        });
    }
}

#[test]
fn neg_exp() {
    let tensors = Tensors::<f64>::random(7, &[("x", &[3, 4]), ("cotangent", &[3, 4])]);
    let y = elementwise::neg_exp(tensors.0["x"].view());
    let grad = elementwise::neg_exp_backward(y.view(), tensors.0["cotangent"].view());
    check("neg_exp", &tensors.0["x"], &grad, |x| (elementwise::neg_exp(x.view()) * &tensors.0["cotangent"]).sum());
}
