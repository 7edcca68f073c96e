//! Checkpoints: named tensors with a configuration, in the safetensors format.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use crate::Message;
use crate::dataset::{Layout, Scaler, Table};
use crate::error::{Error, Result};
use crate::graph::{Graph, Tensor};
use crate::model::{ForecasterConfig, StreamGraph};
use crate::train::{TrainPlan, TrainProgress, TrainState, TrainingConfig};

/// A tensor of a file, as 32-bit floats.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedTensor {
    /// Lengths, slowest axis first.
    pub shape: Vec<usize>,
    /// Row-major.
    pub values: Vec<f32>,
}

/// The contents of a safetensors file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tensors {
    /// The header's own strings.
    pub metadata: HashMap<String, String>,
    /// By name.
    pub tensors: BTreeMap<String, NamedTensor>,
}

impl Tensors {
    /// Reads a file's bytes; `place` names it in errors. Floats of any width and integers of 32 and 64 bits become 32-bit floats.
    ///
    /// # Errors
    /// [`Error::Data`] where the bytes are not a safetensors file or hold another element type.
    pub fn parse(place: &str, bytes: &[u8]) -> Result<Self> {
        let fail = |what: Message| Error::data(place, what, message!("name a safetensors file"));
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| fail(message!("is not a safetensors file ({})", error)))?;
        let file = SafeTensors::deserialize(bytes).map_err(|error| fail(message!("is not a safetensors file ({})", error)))?;
        let mut tensors = BTreeMap::new();
        for (name, view) in file.iter() {
            let values = match view.dtype() {
                Dtype::F32 => elements(view.data(), f32::from_le_bytes),
                Dtype::F16 => elements(view.data(), |bytes| half::f16::from_le_bytes(bytes).to_f32()),
                Dtype::BF16 => elements(view.data(), |bytes| half::bf16::from_le_bytes(bytes).to_f32()),
                Dtype::F64 => elements(view.data(), |bytes| f64::from_le_bytes(bytes) as f32),
                Dtype::I32 => elements(view.data(), |bytes| i32::from_le_bytes(bytes) as f32),
                Dtype::I64 => elements(view.data(), |bytes| i64::from_le_bytes(bytes) as f32),
                other => return Err(fail(message!("tensor {} has elements of type {}, which is not read", name, format!("{other:?}")))),
            };
            tensors.insert(name.to_string(), NamedTensor { shape: view.shape().to_vec(), values });
        }
        Ok(Tensors { metadata: header.metadata().clone().unwrap_or_default(), tensors })
    }

    /// A file's bytes.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where a shape does not fit its values.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let fail = |error: safetensors::SafeTensorError| Error::Unsupported { operation: "checkpoint", what: Message::verbatim(error) };
        let mut views = Vec::new();
        for (name, tensor) in &self.tensors {
            let view = TensorView::new(Dtype::F32, tensor.shape.clone(), bytemuck::cast_slice(&tensor.values)).map_err(fail)?;
            views.push((name.as_str(), view));
        }
        let metadata = (!self.metadata.is_empty()).then(|| self.metadata.clone());
        safetensors::serialize(views, metadata).map_err(fail)
    }

    /// The values of a graph's parameters, by their names and in their order.
    ///
    /// # Errors
    /// [`Error::Data`] that lists every name that is missing and every shape that is wrong.
    pub fn parameters(&self, place: &str, graph: &Graph) -> Result<Vec<Vec<f32>>> {
        let named = graph.parameters().iter().map(|parameter| (parameter.tensor, parameter.name.as_str()));
        let (values, wrong) = self.values(graph, named);
        if wrong.is_empty() {
            return Ok(values.into_iter().map(|(_, values)| values).collect());
        }
        Err(Error::data(place, Message::list(wrong), message!("name a checkpoint of this model")))
    }

    /// Returns the values of a graph's tensors, each by its name in the file, and the problems with the others.
    pub(crate) fn values<'a>(
        &self,
        graph: &Graph,
        named: impl IntoIterator<Item = (Tensor, &'a str)>,
    ) -> (Vec<(Tensor, Vec<f32>)>, Vec<Message>) {
        let (mut values, mut wrong) = (Vec::new(), Vec::new());
        for (tensor, name) in named {
            let want = graph.shape(tensor);
            match self.tensors.get(name) {
                None => wrong.push(message!("{} is missing", name)),
                Some(found) if found.shape != want => {
                    wrong.push(message!("{} has shape {}, expected {}", name, format!("{:?}", found.shape), format!("{want:?}")));
                }
                Some(found) => values.push((tensor, found.values.clone())),
            }
        }
        (values, wrong)
    }
}

fn elements<const N: usize>(bytes: &[u8], value: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|bytes| value(*bytes)).collect()
}

/// Everything that a forecaster needs to be used again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Description {
    /// Sizes.
    pub model: ForecasterConfig,
    /// How it was trained.
    pub training: TrainingConfig,
    /// The columns it reads and how they became windows.
    pub layout: Layout,
    /// For each series that it was trained on, the scalers of its columns, in the order of [`Layout::columns`].
    pub scalers: Vec<Vec<Scaler>>,
    /// Where each series came from.
    pub sources: Vec<String>,
    /// The column that tells series apart, where there is one.
    #[serde(default)]
    pub id: Option<String>,
    /// The value of that column for each series.
    #[serde(default)]
    pub ids: Vec<String>,
}

impl Description {
    /// The program that forecasts after a row as the model was trained and scored: with states carried from row to row, or from the last
    /// window. `n_walk` is as in [`StreamGraph::steps`].
    ///
    /// # Errors
    /// As [`StreamGraph::steps`] and [`StreamGraph::windows`].
    pub fn stream(&self, n_walk: usize) -> Result<StreamGraph> {
        match self.training.carry_state {
            true => StreamGraph::steps(&self.model, n_walk),
            false => StreamGraph::windows(&self.model, self.training.window, self.training.normalisation),
        }
    }

    /// Checks that the description is possible for a model of `n_tensor` tensors. The error says what is not.
    fn check(&self, n_tensor: usize) -> Result<(), Message> {
        let Description { model, training, layout, scalers, sources, id: _, ids } = self;
        let checked = model.check().and_then(|()| training.check()).and_then(|()| training.check_model(model));
        checked.map_err(|error| error.message())?;
        let agree = [
            ("features", layout.n_feature(), model.features),
            ("targets", layout.n_target(), model.targets),
            ("horizon", layout.horizon, model.horizon),
            ("window", layout.window, training.window),
            ("levels", training.loss.columns_per_output(), model.levels),
        ];
        let columns = scalers.iter().map(|scalers| ("scalers", scalers.len(), layout.columns().count()));
        let names = [sources, ids].into_iter().filter(|names| !names.is_empty()).map(|names| ("series", names.len(), scalers.len()));
        if let Some((what, one, other)) = agree.into_iter().chain(columns).chain(names).find(|(_, one, other)| one != other) {
            return Err(message!("{} is both {} and {}", what, one, other));
        }
        if model.layers > n_tensor {
            return Err(message!("it has {} layers but only {} tensors", model.layers, n_tensor));
        }
        let is_sound = |scaler: &Scaler| scaler.offset.is_finite() && scaler.scale.is_finite() && scaler.scale != 0.0;
        if scalers.iter().flatten().all(is_sound) { Ok(()) } else { Err(message!("the scale or offset of a scaler is not a valid number")) }
    }

    /// The scalers for tables: those of the series trained on, by their names in the column that tells series apart, else by their files, else
    /// in their order, where no file has a name that is known; those of a single series serve any table.
    ///
    /// # Errors
    /// [`Error::Data`] where the model was not trained on a series of that name, or the numbers of series differ; `place` names the
    /// checkpoint.
    pub fn scalers_of(&self, place: &str, tables: &[Table]) -> Result<Vec<Vec<Scaler>>> {
        let all = match &self.scalers[..] {
            [scalers] => return Ok(vec![scalers.clone(); tables.len()]),
            all => all,
        };
        let are_named = [self.ids.len(), self.ids.iter().collect::<HashSet<_>>().len()] == [all.len(); 2];
        let ids = tables.iter().map(|table| table.source().id()).collect::<Option<Vec<_>>>().filter(|_| are_named);
        let (names, known, places): (Vec<String>, _, Vec<_>) = match ids {
            Some(ids) => {
                let place = |id: &&String| self.ids.iter().position(|known| known == *id);
                (ids.iter().map(|id| format!("{id:?}")).collect(), &self.ids, ids.iter().map(place).collect())
            }
            None => {
                let places = self.by_source(tables);
                if places.iter().all(Option::is_none) {
                    let what = message!("was trained on {} series, not {}", all.len(), tables.len());
                    let remedy = match are_named {
                        true => message!("give --id and the column that tells these series apart: {}", self.ids.join(", ")),
                        false => message!("give the same number of series, in the same order"),
                    };
                    return if all.len() == tables.len() { Ok(all.to_vec()) } else { Err(Error::data(place, what, remedy)) };
                }
                (tables.iter().map(|table| table.source().to_string()).collect(), &self.sources, places)
            }
        };
        let scalers = |(name, at): (&String, Option<usize>)| {
            let what = || message!("was not trained on the series {}", name);
            let remedy = || message!("give one of the series that it was trained on: {}", known.join(", "));
            at.map(|at| all[at].clone()).ok_or_else(|| Error::data(place, what(), remedy()))
        };
        names.iter().zip(places).map(scalers).collect()
    }

    /// Which of the series trained on each table is: by where it comes from, where that tells all, else by the name of its file.
    fn by_source(&self, tables: &[Table]) -> Vec<Option<usize>> {
        let file_name =
            |source: &String| Path::new(source).file_name().map_or_else(|| source.clone(), |name| name.to_string_lossy().into());
        let find = |key: &dyn Fn(&String) -> String| {
            let known: Vec<String> = self.sources.iter().map(key).collect();
            let is_unique = known.iter().collect::<HashSet<_>>().len() == known.len();
            let place = |table: &Table| known.iter().position(|source| *source == key(&table.source().to_string()));
            tables.iter().map(|table| place(table).filter(|_| is_unique)).collect::<Vec<_>>()
        };
        let by_place = find(&String::clone);
        if by_place.iter().all(Option::is_some) { by_place } else { find(&file_name) }
    }
}

/// The header's string that holds the [`Description`] as JSON.
const DESCRIPTION: &str = "scanrnn";

/// A trained forecaster.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// What it is.
    pub description: Description,
    /// The parameters by name.
    pub tensors: Tensors,
}

impl Checkpoint {
    /// A checkpoint of a graph's parameters, whose values come in the order of [`Graph::parameters`].
    ///
    /// # Errors
    /// [`Error::Shape`] where there are more or fewer of them, or values of one, [`Error::Unsupported`] where two have one name.
    pub fn new(description: Description, graph: &Graph, parameters: &[Vec<f32>]) -> Result<Self> {
        graph.expect_parameters("checkpoint", parameters)?;
        let named = graph.parameters().iter().zip(parameters).map(|(parameter, values)| {
            (parameter.name.clone(), NamedTensor { shape: graph.shape(parameter.tensor).to_vec(), values: values.clone() })
        });
        let tensors: BTreeMap<_, _> = named.collect();
        if tensors.len() < parameters.len() {
            return Err(Error::Unsupported { operation: "checkpoint", what: message!("two parameters of the graph have the same name") });
        }
        Ok(Checkpoint { description, tensors: Tensors { metadata: HashMap::new(), tensors } })
    }

    /// A file's bytes.
    ///
    /// # Errors
    /// As [`Tensors::to_bytes`].
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let json = serde_json::to_string(&self.description);
        let json = json.map_err(|error| Error::Unsupported { operation: "checkpoint", what: Message::verbatim(error) })?;
        let mut tensors = self.tensors.clone();
        tensors.metadata.insert(DESCRIPTION.into(), json);
        tensors.to_bytes()
    }

    /// Reads a file's bytes; `place` names it in errors.
    ///
    /// # Errors
    /// [`Error::Data`] where the bytes are not a checkpoint of this program.
    pub fn parse(place: &str, bytes: &[u8]) -> Result<Self> {
        let mut tensors = Tensors::parse(place, bytes)?;
        let fail = |what: Message| Error::data(place, what, message!("name a file that `scanrnn train` wrote"));
        if tensors.metadata.contains_key(STATE) {
            let what = message!("is the state that a training goes on from, not a checkpoint");
            return Err(Error::data(place, what, message!("name best.safetensors of its run")));
        }
        let json = tensors.metadata.remove(DESCRIPTION).ok_or_else(|| fail(message!("has no scanrnn configuration")))?;
        let description: Description =
            serde_json::from_str(&json).map_err(|error| fail(message!("has an unreadable configuration ({})", error)))?;
        description.check(tensors.tensors.len()).map_err(|wrong| fail(message!("has an impossible configuration: {}").with(wrong)))?;
        Ok(Checkpoint { description, tensors })
    }
}

/// The header's string that holds the plan and the progress of a [`TrainState`] as JSON.
const STATE: &str = "scanrnn.state";

/// The tensor of the losses so far; no parameter has a name with a colon.
const LOSSES: &str = "state:losses";

impl TrainState {
    /// A file's bytes.
    ///
    /// # Errors
    /// As [`Tensors::to_bytes`].
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let json = serde_json::to_string(&(&self.plan, &self.progress));
        let json = json.map_err(|error| Error::Unsupported { operation: "checkpoint", what: Message::verbatim(error) })?;
        let flat = |values: &Vec<f32>| NamedTensor { shape: vec![values.len()], values: values.clone() };
        let mut tensors: BTreeMap<_, _> = self.tensors.iter().map(|(name, values)| (name.clone(), flat(values))).collect();
        tensors.insert(LOSSES.into(), flat(&self.losses));
        Tensors { metadata: HashMap::from([(STATE.to_string(), json)]), tensors }.to_bytes()
    }

    /// Reads a file's bytes; `place` names it in errors.
    ///
    /// # Errors
    /// [`Error::Data`] where the bytes are not a training state.
    pub fn parse(place: &str, bytes: &[u8]) -> Result<Self> {
        let Tensors { mut metadata, mut tensors } = Tensors::parse(place, bytes)?;
        let fail = |what: Message| Error::data(place, what, message!("name the file that an interrupted training left"));
        let json = metadata.remove(STATE).ok_or_else(|| fail(message!("holds no training state")))?;
        let read: serde_json::Result<(TrainPlan, TrainProgress)> = serde_json::from_str(&json);
        let (plan, progress) = read.map_err(|error| fail(message!("has an unreadable state ({})", error)))?;
        let losses = tensors.remove(LOSSES).ok_or_else(|| fail(message!("has no losses")))?.values;
        Ok(TrainState { plan, progress, losses, tensors: tensors.into_iter().map(|(name, tensor)| (name, tensor.values)).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::Scaling;
    use crate::model::ModelKind;
    use crate::ops::{Loss, Optimizer};
    use crate::schedule::Schedule;

    #[test]
    fn a_configuration_without_the_later_settings_is_read_as_the_lab() {
        let json = r#"{"window": 32, "batch": 32, "epochs": 5, "optimizer": {"kind": "sgd", "weight_decay": 0.0001},
            "learning_rate": 0.01, "clip_norm": 1.0, "normalisation": "last", "seed": 0}"#;
        assert_eq!(serde_json::from_str::<TrainingConfig>(json).expect("read"), TrainingConfig::lab(ModelKind::MinGru));
    }

    #[test]
    fn parameters_of_one_name_are_refused() {
        let model = ForecasterConfig::new(ModelKind::MinGru, 8);
        let layout = Layout::one_column("Close", 32, 1);
        let training = TrainingConfig::lab(ModelKind::MinGru);
        let description = Description { model, training, layout, scalers: vec![], sources: vec![], id: None, ids: vec![] };
        let mut graph = Graph::new();
        graph.parameter("w", &[1], crate::graph::Init::Constant(0.0));
        let refused =
            |graph: &Graph, values: &[Vec<f32>]| Checkpoint::new(description.clone(), graph, values).map_err(|error| error.to_string());
        assert!(refused(&graph, &[vec![1.0]]).is_ok());
        assert!(refused(&graph, &[]).expect_err("no values").contains("1 tensors"));
        assert!(refused(&graph, &[vec![1.0; 2]]).expect_err("too many values").contains("1 values"));
        graph.parameter("w", &[1], crate::graph::Init::Constant(0.0));
        assert!(refused(&graph, &[vec![1.0], vec![2.0]]).expect_err("one name").contains("same name"));
    }

    #[test]
    fn every_setting_is_kept() {
        let training = TrainingConfig {
            optimizer: Optimizer::adam_w(0.01),
            schedule: Schedule::Cosine { warmup_steps: 7, min_rate: 1e-5 },
            loss: Loss::Quantile { levels: vec![0.1, 0.5, 0.9] },
            l1: 1e-3,
            clip_norm: None,
            clip_value: Some(0.1),
            patience: Some(3),
            ..TrainingConfig::lab(ModelKind::Mamba)
        };
        let model = ForecasterConfig { levels: 3, ..ForecasterConfig::new(ModelKind::Mamba, 8) };
        let description = Description {
            model,
            training,
            layout: Layout::one_column("Close", 32, 1),
            scalers: vec![vec![Scaler { scaling: Scaling::Standard, offset: 0.0, scale: 1.0 }]],
            sources: vec!["memory".into()],
            id: Some("shop".into()),
            ids: vec!["a".into()],
        };
        let tensor = NamedTensor { shape: vec![1], values: vec![1.0] };
        let tensors = Tensors { tensors: BTreeMap::from([("w".to_string(), tensor)]), ..Tensors::default() };
        let checkpoint = Checkpoint { description, tensors };
        let bytes = checkpoint.to_bytes().expect("written");
        assert_eq!(Checkpoint::parse("memory", &bytes).expect("read"), checkpoint);

        let with = |change: fn(&mut Description)| {
            let mut changed = checkpoint.clone();
            change(&mut changed.description);
            Checkpoint::parse("memory", &changed.to_bytes().expect("written")).map_err(|error| error.to_string())
        };
        let refused = |change, part: &str| {
            let error = with(change).expect_err(part);
            assert!(error.contains(part), "{part:?} is not in {error}");
        };
        refused(|changed| changed.training.loss = Loss::Quantile { levels: vec![] }, "--quantiles");
        refused(|changed| changed.model.layers = 4, "4 layers but only 1 tensors");
        refused(|changed| changed.layout.horizon = 7, "horizon is both 7 and 1");
        refused(|changed| changed.layout.covariates = vec!["Volume".into()], "features is both 2 and 1");
        refused(|changed| changed.scalers = vec![vec![]], "scalers is both 0 and 1");
        refused(|changed| changed.sources.push("more".into()), "series is both 2 and 1");
        refused(|changed| changed.model.hidden = 0, "--hidden");
        refused(|changed| changed.model.cache = usize::MAX / 4, "--cache");
        refused(|changed| changed.scalers = vec![vec![Scaler { scaling: Scaling::Standard, offset: 0.0, scale: 0.0 }]], "of a scaler");
    }
}
