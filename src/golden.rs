//! Reference cases: tensors in, tensors and gradients expected, one safetensors file each.
//!
//! A case names its operation and attributes; a result passes where `|got - want| <= atol + rtol |want|`, element by element.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::Message;
use crate::backend::{Backend, Session};
use crate::checkpoint::{NamedTensor, Tensors};
use crate::error::{Error, Result};
use crate::graph::{Graph, Init, Tensor};
use crate::model::layer::{Layer, NORM_EPS};
use crate::model::mamba::{Mixer, MixerSizes};
use crate::model::mamba_lab::MambaLab;
use crate::model::min_gru::MinGru;
use crate::model::min_gru_scan::MinGruScan;
use crate::model::{Forecaster, ForecasterConfig, ModelKind, Pass};
use crate::ops::{Activation, Loss, Optimizer, Recurrence, SelectiveScanInputs, Update};

/// One case.
#[derive(Clone, Debug)]
pub struct Case {
    place: String,
    op: String,
    attrs: Value,
    rtol: f64,
    atol: f64,
    file: Tensors,
}

/// The element that comes closest to its tolerance, or exceeds it most.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Worst {
    /// Its tensor.
    pub tensor: String,
    /// `|got - want|`.
    pub error: f64,
    /// `atol + rtol |want|`.
    pub allowed: f64,
}

impl Worst {
    /// Whether it is within its tolerance.
    pub fn passed(&self) -> bool {
        self.error <= self.allowed
    }

    /// The text.
    pub fn message(&self) -> Message {
        let [error, allowed] = [self.error, self.allowed].map(|figure| format!("{figure:.1e}"));
        message!("worst error {} of {} allowed, in {}", error, allowed, self.tensor)
    }

    /// NaN is worst, then what exceeds its tolerance; among equals, the larger share of it.
    fn is_worse_than(&self, other: &Worst) -> bool {
        if self.error.is_nan() || other.error.is_nan() {
            return !other.error.is_nan();
        }
        match (self.passed(), other.passed()) {
            (false, true) => true,
            (true, false) => false,
            _ => self.error * other.allowed > other.error * self.allowed,
        }
    }
}

impl std::fmt::Display for Worst {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.message().fmt(f)
    }
}

/// The cases of a folder, in the order of their names.
///
/// # Errors
/// [`Error::File`] where the folder cannot be read.
pub fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let fail = |source| Error::reading(folder, source);
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Tensors that a file gives: full name, tensor.
type Given = Vec<(String, Tensor)>;

/// Outputs by their names.
type Outputs = Vec<(&'static str, Tensor)>;

/// A case as a graph.
struct Built {
    graph: Graph,
    given: Given,
    outputs: Outputs,
}

fn find(given: &[(String, Tensor)], name: &str) -> Option<Tensor> {
    given.iter().find(|(known, _)| known == name).map(|(_, tensor)| *tensor)
}

impl Case {
    /// Reads a case.
    ///
    /// # Errors
    /// [`Error::File`] where the file cannot be read, [`Error::Data`] where it is not a reference case.
    pub fn read(path: &Path) -> Result<Self> {
        let place = path.display().to_string();
        let file = Tensors::parse(&place, &crate::file::read(path)?)?;
        let fail = |what: Message| Error::data(&place, what, message!("name a folder of reference cases"));
        let text = |key: &str| file.metadata.get(key).cloned().ok_or_else(|| fail(message!("has no `{}` in its header", key)));
        let number = |key: &str| text(key)?.parse().map_err(|_| fail(message!("`{}` is not a number", key)));
        let attrs = file.metadata.get("attrs").map_or("{}", String::as_str);
        let attrs = serde_json::from_str(attrs).map_err(|error| fail(message!("`attrs` is not JSON ({})", error)))?;
        Ok(Case { op: text("op")?, attrs, rtol: number("rtol")?, atol: number("atol")?, place, file })
    }

    /// Runs the case and compares every expected tensor.
    ///
    /// # Errors
    /// [`Error::Data`] where the case is not understood, [`Error::Gpu`] where the device fails.
    pub async fn run(&self, backend: &dyn Backend) -> Result<Worst> {
        let worst = match self.op.as_str() {
            "optimizer" => self.run_optimizer(backend).await,
            "train" => self.run_train(backend).await,
            _ => self.run_operation(backend).await,
        }?;
        if worst.tensor.is_empty() {
            return Err(self.fail(message!("has nothing to compare with")));
        }
        Ok(worst)
    }

    fn fail(&self, what: Message) -> Error {
        Error::data(&self.place, what, message!("check the case against its README"))
    }

    fn tensor(&self, name: &str) -> Result<&NamedTensor> {
        self.file.tensors.get(name).ok_or_else(|| self.fail(message!("has no tensor {}", name)))
    }

    fn flag(&self, name: &str) -> bool {
        self.attrs.get(name).and_then(Value::as_bool).unwrap_or(false)
    }

    fn size(&self, name: &str) -> Result<usize> {
        self.attrs
            .get(name)
            .and_then(Value::as_u64)
            .map(|size| size as usize)
            .ok_or_else(|| self.fail(message!("has no attribute {}", name)))
    }

    /// Last length of a tensor's shape.
    fn columns(&self, name: &str) -> Result<usize> {
        self.tensor(name)?.shape.last().copied().ok_or_else(|| self.fail(message!("{} has no axis", name)))
    }

    fn compare(&self, name: &str, got: &[f32], worst: &mut Worst) -> Result<()> {
        let want = self.tensor(name)?;
        if want.values.len() != got.len() {
            return Err(self.fail(message!("{} has shape {}, the result {} elements", name, format!("{:?}", want.shape), got.len())));
        }
        self.compare_values(name, got, &want.values, worst);
        Ok(())
    }

    fn compare_values(&self, name: &str, got: &[f32], want: &[f32], worst: &mut Worst) {
        for (&got, &want) in got.iter().zip(want) {
            let (got, want) = (f64::from(got), f64::from(want));
            let candidate = Worst { tensor: name.into(), error: (got - want).abs(), allowed: self.atol + self.rtol * want.abs() };
            if worst.tensor.is_empty() || candidate.is_worse_than(worst) {
                *worst = candidate;
            }
        }
    }

    async fn run_operation(&self, backend: &dyn Backend) -> Result<Worst> {
        let Built { mut graph, mut given, outputs } = self.build()?;
        let mut seeds = Vec::new();
        for name in self.file.tensors.keys() {
            let Some(output) = name.strip_prefix("cotangent.") else { continue };
            let found = outputs.iter().find(|(known, _)| *known == output);
            let (_, tensor) = found.ok_or_else(|| self.fail(message!("{} belongs to no output", name)))?;
            let shape = graph.shape(*tensor).to_vec();
            let cotangent = graph.input(name, &shape);
            given.push((name.clone(), cotangent));
            seeds.push((*tensor, cotangent));
        }
        let gradients = graph.backward(&seeds)?;
        let mut expected = Vec::new();
        for name in self.file.tensors.keys() {
            if let Some(output) = name.strip_prefix("out.") {
                let found = outputs.iter().find(|(known, _)| *known == output);
                let (_, tensor) = found.ok_or_else(|| self.fail(message!("{} is not an output of {}", name, self.op)))?;
                expected.push((name, Some(*tensor)));
            } else if let Some(input) = name.strip_prefix("grad.") {
                let tensor = find(&given, input).ok_or_else(|| self.fail(message!("{} is the gradient of no input", name)))?;
                expected.push((name, gradients.of(&mut graph, tensor)));
            }
        }
        let program = graph.finish("case");
        let mut session = backend.load(&graph).await?;
        for (name, tensor) in &given {
            session.write(*tensor, &self.tensor(name)?.values)?;
        }
        session.run(program, 1)?;
        let mut worst = Worst::default();
        for (name, tensor) in expected {
            let got = match tensor {
                Some(tensor) => session.read(tensor).await?,
                None => vec![0.0; self.tensor(name)?.values.len()],
            };
            self.compare(name, &got, &mut worst)?;
        }
        Ok(worst)
    }

    fn build(&self) -> Result<Built> {
        let mut graph = Graph::new();
        let inputs = self.file.tensors.iter().filter(|(name, _)| name.starts_with("in."));
        let mut given: Given = inputs.map(|(name, tensor)| (name.clone(), graph.variable(name, &tensor.shape))).collect();
        let outputs = self.outputs(&mut graph, &given)?;
        given.extend(graph.parameters().iter().map(|parameter| (format!("param.{}", parameter.name), parameter.tensor)));
        Ok(Built { graph, given, outputs })
    }

    fn required(&self, given: &[(String, Tensor)], name: &str) -> Result<Tensor> {
        find(given, name).ok_or_else(|| self.fail(message!("has no tensor {}", name)))
    }

    /// The operation's outputs by their names.
    fn outputs(&self, graph: &mut Graph, given: &[(String, Tensor)]) -> Result<Outputs> {
        let initial_state = find(given, "in.h0").or_else(|| find(given, "in.initial_state"));
        let recurrence = Recurrence { initial_state, reset: None, reverse: self.flag("reverse") };
        let stateless = Recurrence { initial_state: None, ..recurrence };
        let x = || self.required(given, "in.x");
        Ok(match self.op.as_str() {
            "selective_scan" => self.selective_scan(graph, given, recurrence)?,
            "min_gru" => {
                let layer = MinGru::new(graph, "", self.columns("in.x")?, self.columns("param.U_z")?);
                let sequence = layer.forward(graph, "", x()?, &recurrence)?;
                vec![("h", sequence.y), ("last_state", sequence.last_states[0])]
            }
            "min_gru_scan" => {
                let layer = MinGruScan::new(graph, "", self.columns("in.x")?, self.columns("param.b_z")?);
                let sequence = layer.forward(graph, "", x()?, &recurrence)?;
                vec![("h", sequence.y), ("last_state", sequence.last_states[0])]
            }
            "mamba_lab" => {
                let layer = MambaLab::new(graph, "", self.columns("in.x")?, self.columns("param.D")?, self.columns("param.A")?);
                let sequence = layer.forward(graph, "", x()?, &recurrence)?;
                vec![("y", sequence.y), ("last_state", sequence.last_states[0])]
            }
            "causal_conv1d" => self.causal_conv1d(graph, x()?, &recurrence)?,
            "rms_norm" => {
                let weight = graph.parameter("weight", &[self.columns("param.weight")?], Init::Constant(0.0));
                vec![("y", graph.rms_norm("y", x()?, weight, self.eps())?)]
            }
            "mamba_mixer" => {
                let mixer = Mixer::new(graph, "", self.mixer_sizes("")?);
                let states = match (find(given, "in.conv_state"), initial_state) {
                    (Some(window), Some(state)) => Some([window, state]),
                    (None, None) => None,
                    _ => return Err(self.fail(message!("has only one of in.conv_state and in.initial_state, but a mixer takes both"))),
                };
                let sequence = mixer.forward(graph, "", x()?, states.as_ref().map(|states| &states[..]), &stateless)?;
                vec![("y", sequence.y), ("conv_state", sequence.last_states[0]), ("last_state", sequence.last_states[1])]
            }
            "mamba_backbone" => {
                let config = self.backbone_config()?;
                let mut sequence = x()?;
                for index in 0..config.layers {
                    let prefix = format!("layers.{index}.");
                    let layer = Layer::new(graph, &prefix, &config, config.hidden, false);
                    sequence = layer.forward(graph, &prefix, sequence, None, &stateless, false)?.y;
                }
                let weight = graph.parameter("norm_f.weight", &[self.columns("param.norm_f.weight")?], Init::Constant(0.0));
                vec![("y", graph.rms_norm("y", sequence, weight, NORM_EPS)?)]
            }
            other => return Err(self.fail(message!("operation {} is not known", other))),
        })
    }

    fn selective_scan(&self, graph: &mut Graph, given: &[(String, Tensor)], recurrence: Recurrence) -> Result<Outputs> {
        let inputs = SelectiveScanInputs {
            u: self.required(given, "in.u")?,
            delta: self.required(given, "in.delta")?,
            a: self.required(given, "in.A")?,
            b: self.required(given, "in.B")?,
            c: self.required(given, "in.C")?,
            d: find(given, "in.D"),
            z: find(given, "in.z"),
            delta_bias: find(given, "in.delta_bias"),
            delta_softplus: self.flag("delta_softplus"),
            recurrence,
        };
        let (y, last_state) = graph.selective_scan("y", &inputs)?;
        Ok(vec![("y", y), ("last_state", last_state)])
    }

    fn causal_conv1d(&self, graph: &mut Graph, x: Tensor, recurrence: &Recurrence) -> Result<Outputs> {
        let shape = self.tensor("param.weight")?.shape.clone();
        let &[n_channel, 1, n_tap] = shape.as_slice() else {
            return Err(self.fail(message!("param.weight is not (channel, 1, tap)")));
        };
        let weight = graph.parameter("weight", &shape, Init::Constant(0.0));
        let bias = self.file.tensors.contains_key("param.bias");
        let bias = bias.then(|| graph.parameter("bias", &[n_channel], Init::Constant(0.0)));
        let weight = graph.reshape(weight, &[n_channel, n_tap])?;
        let activation = match self.attrs.get("activation").and_then(Value::as_str) {
            Some("silu") => Activation::Silu,
            None | Some("none") => Activation::None,
            Some(other) => return Err(self.fail(message!("activation {} is not known", other))),
        };
        let (y, last) = graph.causal_conv1d("y", x, weight, bias, activation, recurrence)?;
        Ok(vec![("y", y), ("last_state", last)])
    }

    fn eps(&self) -> f32 {
        self.attrs.get("eps").and_then(Value::as_f64).map_or(NORM_EPS, |eps| eps as f32)
    }

    fn mixer_sizes(&self, prefix: &str) -> Result<MixerSizes> {
        Ok(MixerSizes {
            d_model: self.columns("in.x")?,
            d_inner: self.columns(&format!("param.{prefix}D"))?,
            d_state: self.columns(&format!("param.{prefix}A_log"))?,
            d_conv: self.columns(&format!("param.{prefix}conv1d.weight"))?,
            dt_rank: self.columns(&format!("param.{prefix}dt_proj.weight"))?,
        })
    }

    /// The forecaster whose layers a backbone has.
    fn backbone_config(&self) -> Result<ForecasterConfig> {
        if self.eps() != NORM_EPS {
            return Err(self.fail(message!("eps is {}, but the layers of a backbone have {}", self.eps(), NORM_EPS)));
        }
        let MixerSizes { d_model, d_inner, d_state, d_conv, dt_rank } = self.mixer_sizes("layers.0.mixer.")?;
        let (layers, expand) = (self.size("layers")?, d_inner / d_model.max(1));
        Ok(ForecasterConfig { layers, d_state, d_conv, expand, dt_rank, ..ForecasterConfig::new(ModelKind::Mamba, d_model) })
    }

    /// An optimizer of `attrs`, in PyTorch's words, and its step size.
    fn optimizer(&self, attrs: &Value) -> Result<(Optimizer, f32)> {
        let optimizer =
            serde_json::from_value(attrs.clone()).map_err(|error| self.fail(message!("optimizer is not understood ({})", error)))?;
        // what PyTorch's optimizers can and these cannot; off unless a case says so
        for option in ["dampening", "maximize", "amsgrad", "centered"] {
            let is_off = |value: &&Value| value.is_null() || value.as_bool() == Some(false) || value.as_f64() == Some(0.0);
            let value = attrs.get(option).filter(|value| !is_off(value));
            if let Some(value) = value {
                return Err(self.fail(message!("optimizer asks for {} {}, which is not supported", option, value)));
            }
        }
        let rate = attrs.get("lr").and_then(Value::as_f64).ok_or_else(|| self.fail(message!("optimizer has no lr")))?;
        Ok((optimizer, rate as f32))
    }

    async fn run_optimizer(&self, backend: &dyn Backend) -> Result<Worst> {
        let (optimizer, rate) = self.optimizer(&self.attrs)?;
        let (start, gradients, want) = (self.tensor("in.param")?, self.tensor("in.grads")?, self.tensor("out.params")?);
        if start.values.is_empty() {
            return Err(self.fail(message!("{} is empty", "in.param")));
        }
        if want.values.len() != gradients.values.len() {
            let lengths = [want, gradients].map(|tensor| tensor.values.len());
            return Err(self.fail(message!("out.params has {} elements, in.grads {}", lengths[0], lengths[1])));
        }
        let mut graph = Graph::new();
        let parameter = graph.parameter("param", &start.shape, Init::Constant(0.0));
        let source = graph.input("grads", &start.shape);
        let rates = graph.input("learning_rates", &[1]);
        let counter = graph.indices("counter", &[2]);
        graph.backward(&[(parameter, source)])?;
        graph.optimize(&Update { optimizer, clip: None, clip_value: None, learning_rates: rates, counter, group: None })?;
        let program = graph.finish("step");
        let mut session = backend.load(&graph).await?;
        session.write(parameter, &start.values)?;
        session.write(rates, &[rate])?;
        let (mut worst, n) = (Worst::default(), start.values.len());
        for (step, (gradient, want)) in gradients.values.chunks(n).zip(want.values.chunks(n)).enumerate() {
            session.write(source, gradient)?;
            session.write_indices(counter, &[0, step as u32])?;
            session.run(program, 1)?;
            self.compare_values("out.params", &session.read(parameter).await?, want, &mut worst);
        }
        Ok(worst)
    }

    async fn run_train(&self, backend: &dyn Backend) -> Result<Worst> {
        let (forecaster, optimizer) = (self.attrs.get("forecaster"), self.attrs.get("optimizer"));
        let (Some(forecaster), Some(attrs)) = (forecaster, optimizer) else {
            return Err(self.fail(message!("has no forecaster or optimizer in its attributes")));
        };
        let config: ForecasterConfig =
            serde_json::from_value(forecaster.clone()).map_err(|error| self.fail(message!("forecaster is not understood ({})", error)))?;
        let (optimizer, rate) = self.optimizer(attrs)?;
        let (inputs, targets) = (self.tensor("in.x")?, self.tensor("in.y")?);
        let n_step = match (&inputs.shape[..], &targets.shape[..]) {
            (&[n_step, _, ..], &[n_target, _, ..]) if n_step == n_target && n_step > 0 => n_step,
            _ => return Err(self.fail(message!("in.x and in.y do not both have one row per step"))),
        };
        let mut graph = Graph::new();
        let model = Forecaster::new(&mut graph, &config)?;
        let x = graph.input("x", &inputs.shape[1..]);
        let y = graph.input("y", &targets.shape[1..]);
        let losses = graph.state("losses", &[n_step]);
        let rates = graph.input("learning_rates", &[n_step]);
        let counter = graph.indices("counter", &[2]);
        let forecast = model.forward(&mut graph, x, &Pass::default())?;
        graph.loss("loss", Loss::Mse, forecast.y, y, counter, losses)?;
        graph.backward(&[])?;
        let clip = attrs.get("clip_norm").and_then(Value::as_f64).map(|norm| graph.clip_grad_norm(norm as f32)).transpose()?;
        graph.optimize(&Update { optimizer, clip, clip_value: None, learning_rates: rates, counter, group: None })?;
        graph.advance(counter)?;
        let program = graph.finish("step");
        let mut session = backend.load(&graph).await?;
        for parameter in graph.parameters() {
            session.write(parameter.tensor, &self.tensor(&format!("param.{}", parameter.name))?.values)?;
        }
        session.write(rates, &vec![rate; n_step])?;
        for step in 0..n_step {
            self.write_row(&mut *session, x, inputs, step)?;
            self.write_row(&mut *session, y, targets, step)?;
            session.run(program, 1)?;
        }
        let mut worst = Worst::default();
        self.compare("out.loss", &session.read(losses).await?, &mut worst)?;
        for parameter in graph.parameters() {
            self.compare(&format!("out.param.{}", parameter.name), &session.read(parameter.tensor).await?, &mut worst)?;
        }
        Ok(worst)
    }

    fn write_row(&self, session: &mut dyn Session, tensor: Tensor, rows: &NamedTensor, row: usize) -> Result<()> {
        let len = rows.values.len() / rows.shape[0];
        session.write(tensor, &rows.values[row * len..(row + 1) * len])
    }
}
