//! The reference's operations behind one signature: named tensors in, named tensors out, as in the golden cases.

#![allow(dead_code, reason = "each test uses a part")]

use std::collections::BTreeMap;

use ndarray::{Array, Array2, ArrayD, ArrayView, Dimension};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use scanrnn::reference::{Float, Run, attention, causal_conv1d, linear, mamba_lab, min_gru, min_gru_scan, rms_norm, selective_scan};

/// What an operation is asked for beside its tensors.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub reverse: bool,
    pub reset: Option<Array2<bool>>,
    pub delta_softplus: bool,
    pub silu: bool,
    pub eps: f64,
    /// How many past keys are there, a batch row each.
    pub length: Option<Vec<usize>>,
}

impl Options {
    fn run(&self) -> Run<'_> {
        Run { reverse: self.reverse, reset: self.reset.as_ref().map(|reset| reset.view()) }
    }
}

/// Tensors by name: inputs bare, `cotangent.*`, `out.*` and `grad.*`.
#[derive(Clone, Debug)]
pub struct Tensors<T>(pub BTreeMap<String, ArrayD<T>>);

impl<T> Default for Tensors<T> {
    fn default() -> Self {
        Tensors(BTreeMap::new())
    }
}

impl<T: Float> Tensors<T> {
    /// Uniform values in `[-1, 1]` for each name and shape.
    pub fn random(seed: u64, shapes: &[(&str, &[usize])]) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut tensors = Tensors::default();
        for (name, shape) in shapes {
            tensors.set(name, ArrayD::from_shape_simple_fn(*shape, || T::from_f64(f64::from(rng.random_range(-1.0f32..1.0)))));
        }
        tensors
    }

    pub fn set<D: Dimension>(&mut self, name: &str, value: Array<T, D>) {
        self.0.insert(name.into(), value.into_dyn());
    }

    pub fn set_some<D: Dimension>(&mut self, name: &str, value: Option<Array<T, D>>) {
        if let Some(value) = value {
            self.set(name, value);
        }
    }

    pub fn with(mut self, name: &str, value: ArrayD<T>) -> Self {
        self.set(name, value);
        self
    }

    pub fn find<D: Dimension>(&self, name: &str) -> Option<ArrayView<'_, T, D>> {
        self.0.get(name).map(|tensor| tensor.view().into_dimensionality().unwrap_or_else(|_| panic!("{name} is {:?}", tensor.shape())))
    }

    pub fn get<D: Dimension>(&self, name: &str) -> ArrayView<'_, T, D> {
        self.find(name).unwrap_or_else(|| panic!("no tensor {name}"))
    }

    pub fn shape(&self, name: &str) -> &[usize] {
        self.0[name].shape()
    }

    pub fn cast<U: Float>(&self) -> Tensors<U> {
        Tensors(self.0.iter().map(|(name, tensor)| (name.clone(), tensor.mapv(|x| U::from_f64(x.as_f64())))).collect())
    }

    /// The cotangent of an output, or zeros of its shape.
    fn cotangent<D: Dimension>(&self, name: &str, output: &Array<T, D>) -> Array<T, D> {
        self.find(&format!("cotangent.{name}")).map_or_else(|| Array::zeros(output.raw_dim()), |cotangent| cotangent.to_owned())
    }
}

/// An operation: inputs and cotangents in; `out.*` and `grad.*` out.
pub type Operation<T> = fn(&Options, &Tensors<T>) -> Tensors<T>;

pub fn linear<T: Float>(_: &Options, t: &Tensors<T>) -> Tensors<T> {
    let inputs = linear::Inputs { x: t.get("x"), weight: t.get("weight"), bias: t.find("bias") };
    let y = linear::forward(&inputs);
    let grad = linear::backward(&inputs, t.cotangent("y", &y).view());
    let mut out = Tensors::default();
    out.set("out.y", y);
    out.set("grad.x", grad.grad_x);
    out.set("grad.weight", grad.grad_weight);
    out.set_some("grad.bias", grad.grad_bias);
    out
}

pub fn rms_norm<T: Float>(options: &Options, t: &Tensors<T>) -> Tensors<T> {
    let inputs = rms_norm::Inputs { x: t.get("x"), weight: t.get("weight"), eps: T::from_f64(options.eps) };
    let y = rms_norm::forward(&inputs);
    let grad = rms_norm::backward(&inputs, t.cotangent("y", &y).view());
    let mut out = Tensors::default();
    out.set("out.y", y);
    out.set("grad.x", grad.grad_x);
    out.set("grad.weight", grad.grad_weight);
    out
}

pub fn causal_conv1d<T: Float>(options: &Options, t: &Tensors<T>) -> Tensors<T> {
    let inputs = causal_conv1d::Inputs {
        x: t.get("x"),
        weight: t.get("weight"),
        bias: t.find("bias"),
        initial_window: t.find("initial_window"),
        activation: if options.silu { causal_conv1d::Activation::Silu } else { causal_conv1d::Activation::None },
        run: options.run(),
    };
    let causal_conv1d::Outputs { y, last_window } = causal_conv1d::forward(&inputs);
    let grad = causal_conv1d::backward(&inputs, t.cotangent("y", &y).view(), t.find("cotangent.last_window"));
    let mut out = Tensors::default();
    out.set("out.y", y);
    out.set("out.last_window", last_window);
    out.set("grad.x", grad.grad_x);
    out.set("grad.weight", grad.grad_weight);
    out.set_some("grad.bias", grad.grad_bias);
    out.set_some("grad.initial_window", grad.grad_initial_window);
    out
}

/// Attention of two heads.
pub fn attention<T: Float>(options: &Options, t: &Tensors<T>) -> Tensors<T> {
    let past = t.find("past_k").map(|k| attention::Past { k, v: t.get("past_v"), length: options.length.as_deref() });
    let reset = options.reset.as_ref().map(|reset| reset.view());
    let inputs = attention::Inputs { q: t.get("q"), k: t.get("k"), v: t.get("v"), n_head: 2, past, reset };
    let y = attention::forward(&inputs).y;
    let grad = attention::backward(&inputs, t.cotangent("y", &y).view());
    let mut out = Tensors::default();
    out.set("out.y", y);
    out.set("grad.q", grad.grad_q);
    out.set("grad.k", grad.grad_k);
    out.set("grad.v", grad.grad_v);
    if let Some([grad_past_k, grad_past_v]) = grad.grad_past {
        out.set("grad.past_k", grad_past_k);
        out.set("grad.past_v", grad_past_v);
    }
    out
}

/// Random queries, keys, values, what came before them, and a cotangent.
pub fn attention_tensors<T: Float>(seed: u64, n_batch: usize, n_past: usize, n_step: usize) -> Tensors<T> {
    let (new, past): (&[usize], &[usize]) = (&[n_batch, n_step, 6], &[n_batch, n_past, 6]);
    let mut shapes: Vec<_> = ["q", "k", "v", "cotangent.y"].map(|name| (name, new)).into();
    if n_past > 0 {
        shapes.extend(["past_k", "past_v"].map(|name| (name, past)));
    }
    Tensors::random(seed, &shapes)
}

pub fn selective_scan<T: Float>(options: &Options, t: &Tensors<T>) -> Tensors<T> {
    let inputs = selective_scan::Inputs {
        u: t.get("u"),
        delta: t.get("delta"),
        a: t.get("A"),
        b: t.get("B"),
        c: t.get("C"),
        d: t.find("D"),
        z: t.find("z"),
        delta_bias: t.find("delta_bias"),
        initial_state: t.find("initial_state"),
        delta_softplus: options.delta_softplus,
        run: options.run(),
    };
    let selective_scan::Outputs { y, last_state } = selective_scan::forward(&inputs);
    let grad = selective_scan::backward(&inputs, t.cotangent("y", &y).view(), t.find("cotangent.last_state"));
    let mut out = Tensors::default();
    out.set("out.y", y);
    out.set("out.last_state", last_state);
    out.set("grad.u", grad.grad_u);
    out.set("grad.delta", grad.grad_delta);
    out.set("grad.A", grad.grad_a);
    out.set("grad.B", grad.grad_b);
    out.set("grad.C", grad.grad_c);
    out.set_some("grad.D", grad.grad_d);
    out.set_some("grad.z", grad.grad_z);
    out.set_some("grad.delta_bias", grad.grad_delta_bias);
    out.set_some("grad.initial_state", grad.grad_initial_state);
    out
}

pub fn min_gru<T: Float>(options: &Options, t: &Tensors<T>) -> Tensors<T> {
    let inputs = min_gru::Inputs { p: t.get("p"), u: t.get("U"), h0: t.find("h0"), run: options.run() };
    let min_gru::Outputs { h, last } = min_gru::forward(&inputs);
    let grad = min_gru::backward(&inputs, t.cotangent("h", &h).view(), t.find("cotangent.last"));
    let mut out = Tensors::default();
    out.set("out.h", h);
    out.set("out.last", last);
    out.set("grad.p", grad.grad_p);
    out.set("grad.U", grad.grad_u);
    out.set_some("grad.h0", grad.grad_h0);
    out
}

pub fn min_gru_scan<T: Float>(options: &Options, t: &Tensors<T>) -> Tensors<T> {
    let inputs = min_gru_scan::Inputs { p: t.get("p"), h0: t.find("h0"), run: options.run() };
    let min_gru_scan::Outputs { h, last } = min_gru_scan::forward(&inputs);
    let grad = min_gru_scan::backward(&inputs, t.cotangent("h", &h).view(), t.find("cotangent.last"));
    let mut out = Tensors::default();
    out.set("out.h", h);
    out.set("out.last", last);
    out.set("grad.p", grad.grad_p);
    out.set_some("grad.h0", grad.grad_h0);
    out
}

pub fn mamba_lab<T: Float>(options: &Options, t: &Tensors<T>) -> Tensors<T> {
    let inputs = mamba_lab::Inputs {
        p: t.get("p"),
        a: t.get("A"),
        b: t.get("B"),
        c: t.get("C"),
        d: t.get("D"),
        initial_state: t.find("initial_state"),
        run: options.run(),
    };
    let mamba_lab::Outputs { y, last_state } = mamba_lab::forward(&inputs);
    let grad = mamba_lab::backward(&inputs, t.cotangent("y", &y).view(), t.find("cotangent.last_state"));
    let mut out = Tensors::default();
    out.set("out.y", y);
    out.set("out.last_state", last_state);
    out.set("grad.p", grad.grad_p);
    out.set("grad.A", grad.grad_a);
    out.set("grad.B", grad.grad_b);
    out.set("grad.C", grad.grad_c);
    out.set("grad.D", grad.grad_d);
    out.set_some("grad.initial_state", grad.grad_initial_state);
    out
}

type NamedShape = (&'static str, Vec<usize>);

/// A recurrent operation: which of its tensors run along the steps, and which are its states.
pub struct Recurrence<T> {
    pub name: &'static str,
    pub operation: Operation<T>,
    /// Inputs `(batch, step, ..)`.
    pub sequences: &'static [&'static str],
    /// Inputs that all steps share.
    pub parameters: &'static [&'static str],
    /// The output `(batch, step, ..)`.
    pub output: &'static str,
    /// The state that goes in, and the one that comes out.
    pub states: [&'static str; 2],
    pub options: Options,
    /// Shapes at a batch and a length.
    shapes: fn(usize, usize) -> Vec<NamedShape>,
}

impl<T: Float> Recurrence<T> {
    pub fn all() -> Vec<Self> {
        let selective = |name, options| Recurrence {
            name,
            operation: selective_scan,
            sequences: &["u", "delta", "B", "C", "z"],
            parameters: &["A", "D", "delta_bias"],
            output: "y",
            states: ["initial_state", "last_state"],
            options,
            shapes: |b, l| {
                let sequence = |n| vec![b, l, n];
                let mut shapes: Vec<_> = ["u", "delta", "z", "cotangent.y"].map(|name| (name, sequence(3))).into();
                shapes.extend(["B", "C"].map(|name| (name, sequence(4))));
                shapes.extend([("A", vec![3, 4]), ("D", vec![3]), ("delta_bias", vec![3])]);
                shapes.extend(["initial_state", "cotangent.last_state"].map(|name| (name, vec![b, 3, 4])));
                shapes
            },
        };
        let convolution = |name, options| Recurrence {
            name,
            operation: causal_conv1d,
            sequences: &["x"],
            parameters: &["weight", "bias"],
            output: "y",
            states: ["initial_window", "last_window"],
            options,
            shapes: |b, l| {
                let mut shapes: Vec<_> = ["x", "cotangent.y"].map(|name| (name, vec![b, l, 3])).into();
                shapes.extend([("weight", vec![3, 4]), ("bias", vec![3])]);
                shapes.extend(["initial_window", "cotangent.last_window"].map(|name| (name, vec![b, 3, 3])));
                shapes
            },
        };
        vec![
            selective("selective_scan", Options::default()),
            selective("selective_scan with softplus", Options { delta_softplus: true, ..Options::default() }),
            convolution("causal_conv1d", Options::default()),
            convolution("causal_conv1d with SiLU", Options { silu: true, ..Options::default() }),
            Recurrence {
                name: "min_gru",
                operation: min_gru,
                sequences: &["p"],
                parameters: &["U"],
                output: "h",
                states: ["h0", "last"],
                options: Options::default(),
                shapes: |b, l| {
                    let mut shapes = vec![("p", vec![b, l, 15]), ("U", vec![15, 5]), ("cotangent.h", vec![b, l, 5])];
                    shapes.extend(["h0", "cotangent.last"].map(|name| (name, vec![b, 5])));
                    shapes
                },
            },
            Recurrence {
                name: "min_gru_scan",
                operation: min_gru_scan,
                sequences: &["p"],
                parameters: &[],
                output: "h",
                states: ["h0", "last"],
                options: Options::default(),
                shapes: |b, l| {
                    let mut shapes = vec![("p", vec![b, l, 10]), ("cotangent.h", vec![b, l, 5])];
                    shapes.extend(["h0", "cotangent.last"].map(|name| (name, vec![b, 5])));
                    shapes
                },
            },
            Recurrence {
                name: "mamba_lab",
                operation: mamba_lab,
                sequences: &["p"],
                parameters: &["A", "B", "C", "D"],
                output: "y",
                states: ["initial_state", "last_state"],
                options: Options::default(),
                shapes: |b, l| {
                    let mut shapes: Vec<_> = ["p", "cotangent.y"].map(|name| (name, vec![b, l, 5])).into();
                    shapes.extend([("A", vec![4]), ("B", vec![5, 4]), ("C", vec![5, 4]), ("D", vec![5])]);
                    shapes.extend(["initial_state", "cotangent.last_state"].map(|name| (name, vec![b, 4])));
                    shapes
                },
            },
        ]
    }

    pub fn run(&self, options: &Options, tensors: &Tensors<T>) -> Tensors<T> {
        (self.operation)(options, tensors)
    }

    /// Its options, in a direction and with borders.
    pub fn options(&self, reverse: bool, reset: Option<Array2<bool>>) -> Options {
        Options { reverse, reset, ..self.options.clone() }
    }

    /// Random inputs and cotangents, both states included.
    pub fn tensors(&self, seed: u64, n_batch: usize, n_step: usize) -> Tensors<T> {
        let shapes = (self.shapes)(n_batch, n_step);
        Tensors::random(seed, &shapes.iter().map(|(name, shape)| (*name, shape.as_slice())).collect::<Vec<_>>())
    }

    /// The inputs and cotangents that run along the steps.
    pub fn along_steps(&self) -> Vec<String> {
        self.sequences.iter().map(|name| name.to_string()).chain([format!("cotangent.{}", self.output)]).collect()
    }
}

/// `(batch, step)` borders from one string a row: `|` where a sequence begins, `.` elsewhere.
pub fn borders(rows: &[&str]) -> Array2<bool> {
    let flags: Vec<bool> = rows.iter().flat_map(|row| row.chars().map(|c| c == '|')).collect();
    Array2::from_shape_vec((rows.len(), rows[0].len()), flags).expect("rows of one length")
}
