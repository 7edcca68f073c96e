//! The reference on the golden cases of its operations: in f32 to the case's tolerance, in f64 to the rounding of the stored values.

mod reference_cases;

use std::path::PathBuf;

use ndarray::{Array1, Array2, Array3, ArrayD, ArrayView3, Axis, Ix1, Ix2, Ix3, concatenate};
use reference_cases::{Options, Tensors};
use safetensors::SafeTensors;
use scanrnn::reference::{Float, linear, optimizer};
use serde_json::Value;

/// Operations whose cases are run here; the others are models and training.
const OPERATIONS: [&str; 7] = ["selective_scan", "min_gru", "min_gru_scan", "mamba_lab", "causal_conv1d", "rms_norm", "optimizer"];

struct Case {
    name: String,
    op: String,
    attrs: Value,
    rtol: f64,
    atol: f64,
    tensors: Tensors<f32>,
}

fn directory() -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let shared = root.join("../shared/golden");
    if shared.is_dir() { shared } else { root.join("tests/golden") }
}

fn cases() -> Vec<Case> {
    let directory = directory();
    let entries = std::fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "safetensors"));
    paths.sort();
    let cases = paths.iter().map(|path| {
        let bytes = std::fs::read(path).expect("a readable case");
        let (_, header) = SafeTensors::read_metadata(&bytes).expect("a safetensors header");
        let metadata = header.metadata().clone().expect("metadata");
        let mut tensors = Tensors::default();
        for (name, view) in SafeTensors::deserialize(&bytes).expect("a safetensors file").tensors() {
            let values = view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
            let bare = name.strip_prefix("in.").or(name.strip_prefix("param.")).unwrap_or(&name);
            let bare = bare.replace("grad.in.", "grad.").replace("grad.param.", "grad.");
            tensors.set(&bare, ArrayD::from_shape_vec(view.shape(), values).expect("as many values as the shape says"));
        }
        Case {
            name: path.file_stem().expect("a name").to_string_lossy().into_owned(),
            op: metadata["op"].clone(),
            attrs: serde_json::from_str(&metadata["attrs"]).expect("attrs in JSON"),
            rtol: metadata["rtol"].parse().expect("a number"),
            atol: metadata["atol"].parse().expect("a number"),
            tensors,
        }
    });
    cases.filter(|case| OPERATIONS.contains(&case.op.as_str())).collect()
}

fn outputs<T: Float>(case: &Case) -> Tensors<T> {
    let flag = |name: &str| case.attrs[name].as_bool().unwrap_or(false);
    let options = Options {
        reverse: flag("reverse"),
        reset: None,
        delta_softplus: flag("delta_softplus"),
        silu: case.attrs["activation"] == "silu",
        eps: case.attrs["eps"].as_f64().unwrap_or(0.0),
        ..Options::default()
    };
    let mut tensors = case.tensors.cast::<T>();
    match case.op.as_str() {
        "selective_scan" => reference_cases::selective_scan(&options, &tensors),
        "causal_conv1d" => {
            let weight = tensors.get::<Ix3>("weight").index_axis(Axis(1), 0).to_owned();
            tensors.set("weight", weight);
            let mut out = reference_cases::causal_conv1d(&options, &tensors);
            let grad = out.get::<Ix2>("grad.weight").insert_axis(Axis(1)).to_owned();
            out.set("grad.weight", grad);
            out
        }
        "rms_norm" => {
            let shape = tensors.shape("x").to_vec();
            for name in ["x", "cotangent.y"] {
                let flat = rows(&tensors.get(name));
                tensors.set(name, flat);
            }
            let mut out = reference_cases::rms_norm(&options, &tensors);
            for name in ["out.y", "grad.x"] {
                let flat = out.0.remove(name).expect(name);
                out.set(name, flat.into_shape_with_order(shape.clone()).expect("as many elements"));
            }
            out
        }
        "min_gru" => {
            let gates = ["U_z", "U_r", "U_h"].map(|name| tensors.get::<Ix2>(name));
            let u = concatenate(Axis(0), &gates).expect("three of one shape");
            let n_hidden = u.ncols();
            tensors.set("U", u);
            let projection = Projection { weights: &["W_z", "W_r", "W_h"], biases: &["b_z", "b_r", "b_h"] };
            let mut out = projected(&projection, &tensors, |tensors| reference_cases::min_gru(&options, tensors));
            let grad = out.0.remove("grad.U").expect("grad.U");
            for (name, part) in ["U_z", "U_r", "U_h"].iter().zip(grad.axis_chunks_iter(Axis(0), n_hidden)) {
                out.set(&format!("grad.{name}"), part.to_owned());
            }
            out
        }
        "min_gru_scan" => {
            let projection = Projection { weights: &["W_z", "W_h"], biases: &["b_z", "b_h"] };
            projected(&projection, &tensors, |tensors| reference_cases::min_gru_scan(&options, tensors))
        }
        "mamba_lab" => {
            let projection = Projection { weights: &["W_in"], biases: &[] };
            projected(&projection, &tensors, |tensors| reference_cases::mamba_lab(&options, tensors))
        }
        "optimizer" => optimizer_steps(&case.attrs, &tensors),
        op => panic!("{op} is not run here"),
    }
}

/// An operation on the input products of a projection.
fn projected<T: Float>(projection: &Projection, tensors: &Tensors<T>, operation: impl Fn(&Tensors<T>) -> Tensors<T>) -> Tensors<T> {
    let with_p = tensors.clone().with("p", projection.forward(tensors).into_dyn());
    let mut out = operation(&with_p);
    projection.backward(tensors, &mut out);
    out
}

/// One input product for all steps: `x`, `(batch, step, in)`, times the rows of the named weights, stacked, plus the named biases.
struct Projection {
    weights: &'static [&'static str],
    biases: &'static [&'static str],
}

impl Projection {
    /// `p`, `(batch, step, out)`.
    fn forward<T: Float>(&self, t: &Tensors<T>) -> Array3<T> {
        let x = t.get::<Ix3>("x");
        let (n_batch, n_step, _) = x.dim();
        let (weight, bias) = self.stacked(t);
        let rows = rows(&x);
        let y = linear::forward(&linear::Inputs { x: rows.view(), weight: weight.view(), bias: bias.as_ref().map(|bias| bias.view()) });
        let n_out = y.ncols();
        y.into_shape_with_order((n_batch, n_step, n_out)).expect("as many elements")
    }

    /// Replaces `grad.p` by the gradients of x, weights and biases.
    fn backward<T: Float>(&self, t: &Tensors<T>, out: &mut Tensors<T>) {
        let grad_p = out.0.remove("grad.p").expect("grad.p").into_dimensionality::<Ix3>().expect("(batch, step, out)");
        let x = t.get::<Ix3>("x");
        let (weight, bias) = self.stacked(t);
        let inputs = rows(&x);
        let inputs = linear::Inputs { x: inputs.view(), weight: weight.view(), bias: bias.as_ref().map(|bias| bias.view()) };
        let grad = linear::backward(&inputs, rows(&grad_p.view()).view());
        out.set("grad.x", grad.grad_x.into_shape_with_order(x.dim()).expect("as many elements"));
        let n_out = weight.nrows() / self.weights.len();
        for (name, part) in self.weights.iter().zip(grad.grad_weight.axis_chunks_iter(Axis(0), n_out)) {
            out.set(&format!("grad.{name}"), part.to_owned());
        }
        if let Some(grad_bias) = grad.grad_bias {
            for (name, part) in self.biases.iter().zip(grad_bias.axis_chunks_iter(Axis(0), n_out)) {
                out.set(&format!("grad.{name}"), part.to_owned());
            }
        }
    }

    fn stacked<T: Float>(&self, t: &Tensors<T>) -> (Array2<T>, Option<Array1<T>>) {
        let weights: Vec<_> = self.weights.iter().map(|name| t.get::<Ix2>(name)).collect();
        let biases: Vec<_> = self.biases.iter().map(|name| t.get::<Ix1>(name)).collect();
        let weight = concatenate(Axis(0), &weights).expect("weights of one width");
        (weight, (!biases.is_empty()).then(|| concatenate(Axis(0), &biases).expect("vectors")))
    }
}

/// `(batch * step, channel)`.
fn rows<T: Float>(x: &ArrayView3<T>) -> Array2<T> {
    let (n_batch, n_step, n_channel) = x.dim();
    x.to_owned().into_shape_with_order((n_batch * n_step, n_channel)).expect("as many elements")
}

fn optimizer_steps<T: Float>(attrs: &Value, tensors: &Tensors<T>) -> Tensors<T> {
    let optimizer = serde_json::from_value(attrs.clone()).expect("an optimizer");
    let learning_rate = attrs["lr"].as_f64().expect("a learning rate");
    let settings = optimizer::Settings { optimizer, learning_rate, clip_factor: 1.0, clip_value: None };
    let grads = tensors.get::<Ix2>("grads");
    let mut param = tensors.get::<Ix1>("param").to_owned();
    let mut params = grads.to_owned();
    let mut state = optimizer::State::new(param.len());
    for (t, (grad, mut after)) in (1..).zip(grads.rows().into_iter().zip(params.rows_mut())) {
        optimizer::step(&settings, t, param.view_mut(), grad, &mut state);
        after.assign(&param);
    }
    let mut out = Tensors::default();
    out.set("out.params", params);
    out
}

/// Every expected output and gradient is there and within tolerance, element by element.
fn run<T: Float>(tolerance: impl Fn(&Case) -> (f64, f64)) {
    let cases = cases();
    for op in OPERATIONS {
        assert!(cases.iter().any(|case| case.op == op), "no case of {op} in {}", directory().display());
    }
    for case in &cases {
        let (rtol, atol) = tolerance(case);
        let got = outputs::<T>(case);
        for (name, want) in case.tensors.0.iter().filter(|(name, _)| name.starts_with("out.") || name.starts_with("grad.")) {
            let got = got.0.get(name).unwrap_or_else(|| panic!("{}: no {name}", case.name));
            assert_eq!(got.shape(), want.shape(), "{}: {name}", case.name);
            for (at, &want) in want.indexed_iter() {
                let (got, want) = (got[&at].as_f64(), f64::from(want));
                let within = (got - want).abs() <= atol + rtol * want.abs();
                assert!(within, "{}: {name} at {at:?} is {got}, expected {want} within {rtol} and {atol}", case.name);
            }
        }
    }
}

#[test]
fn f32_is_within_the_tolerance_of_each_case() {
    run::<f32>(|case| (case.rtol, case.atol));
}

#[test]
fn f64_is_within_the_rounding_of_the_stored_values() {
    run::<f64>(|_| (f64::from(f32::EPSILON), 1e-10));
}
