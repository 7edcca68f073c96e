//! Mamba's parameters under the names of published checkpoints (state-spaces/mamba; `MambaModel` of transformers), for any safetensors file.
//!
//! | name behind `backbone.` or nothing | shape |
//! |---|---|
//! | `layers.{i}.norm.weight` | `(d_model)` |
//! | `layers.{i}.mixer.in_proj.weight` | `(2 d_inner, d_model)` |
//! | `layers.{i}.mixer.conv1d.weight`, `.bias` | `(d_inner, 1, d_conv)`, `(d_inner)` |
//! | `layers.{i}.mixer.x_proj.weight` | `(dt_rank + 2 d_state, d_inner)` |
//! | `layers.{i}.mixer.dt_proj.weight`, `.bias` | `(d_inner, dt_rank)`, `(d_inner)` |
//! | `layers.{i}.mixer.A_log`, `.D` | `(d_inner, d_state)`, `(d_inner)` |
//! | `layers.{i}.mixer.out_proj.weight` | `(d_model, d_inner)` |
//! | `norm_f.weight` | `(d_model)` |

use std::collections::HashMap;

use crate::Message;
use crate::checkpoint::{NamedTensor, Tensors};
use crate::error::{Error, Result};
use crate::graph::{Graph, ParameterSpec, Tensor};

/// What published names begin with; files without it are read too.
const BACKBONE: &str = "backbone.";

/// Values for parameters of a graph.
pub type Values = Vec<(Tensor, Vec<f32>)>;

/// The values of a graph's backbone, which is every parameter `layers.*` and `norm_f.weight`, as a [`Forecaster`](crate::model::Forecaster)
/// of Mamba declares them. What else the file holds (embedding, head, further layers) is left; `place` names the file in errors.
///
/// # Errors
/// [`Error::Data`] that lists every name that is missing, every shape that is wrong, and every tensor of these layers that the model has no
/// place for.
pub fn read_backbone(file: &Tensors, place: &str, graph: &Graph) -> Result<Values> {
    let wanted = graph.parameters().iter().filter(|parameter| is_backbone(&parameter.name));
    read(file, place, graph, &wanted.map(|parameter| (parameter.tensor, parameter.name.clone())).collect::<Vec<_>>())
}

/// The values of one mixer: the parameters of a graph whose names begin with `prefix`, from the file's layer `layer`.
///
/// # Errors
/// As [`read_backbone`].
pub fn read_mixer(file: &Tensors, place: &str, layer: usize, graph: &Graph, prefix: &str) -> Result<Values> {
    let published = |parameter: &ParameterSpec| Some(mixer_prefix(layer) + parameter.name.strip_prefix(prefix)?);
    let wanted = graph.parameters().iter().filter_map(|parameter| Some((parameter.tensor, published(parameter)?)));
    read(file, place, graph, &wanted.collect::<Vec<_>>())
}

/// A graph's backbone under published names, `backbone.` included; `parameters` come in the order of [`Graph::parameters`].
///
/// # Errors
/// [`Error::Shape`] where they are not the graph's.
pub fn write_backbone(graph: &Graph, parameters: &[Vec<f32>]) -> Result<Tensors> {
    let name = |name: &str| is_backbone(name).then(|| format!("{BACKBONE}{name}"));
    write(graph, parameters, name)
}

/// One mixer, the parameters whose names begin with `prefix`, as layer `layer` under published names; `parameters` come in the order of
/// [`Graph::parameters`].
///
/// # Errors
/// As [`write_backbone`].
pub fn write_mixer(graph: &Graph, parameters: &[Vec<f32>], prefix: &str, layer: usize) -> Result<Tensors> {
    write(graph, parameters, |name| Some(format!("{BACKBONE}{}{}", mixer_prefix(layer), name.strip_prefix(prefix)?)))
}

fn is_backbone(name: &str) -> bool {
    name.starts_with("layers.") || name == "norm_f.weight"
}

fn mixer_prefix(layer: usize) -> String {
    format!("layers.{layer}.mixer.")
}

fn write(graph: &Graph, parameters: &[Vec<f32>], name: impl Fn(&str) -> Option<String>) -> Result<Tensors> {
    graph.expect_parameters("published", parameters)?;
    let tensor = |(parameter, values): (&ParameterSpec, &Vec<f32>)| {
        let shape = graph.shape(parameter.tensor).to_vec();
        Some((name(&parameter.name)?, NamedTensor { shape, values: values.clone() }))
    };
    // without this Hugging Face's transformers 4 refuses a file
    let metadata = HashMap::from([("format".into(), "pt".into())]);
    Ok(Tensors { metadata, tensors: graph.parameters().iter().zip(parameters).filter_map(tensor).collect() })
}

/// Values of parameters by their published names, `backbone.` left out.
fn read(file: &Tensors, place: &str, graph: &Graph, wanted: &[(Tensor, String)]) -> Result<Values> {
    let prefix = if file.tensors.keys().any(|name| name.starts_with(BACKBONE)) { BACKBONE } else { "" };
    let names: Vec<String> = wanted.iter().map(|(_, name)| format!("{prefix}{name}")).collect();
    let (values, mut problems) = file.values(graph, wanted.iter().zip(&names).map(|((tensor, _), name)| (*tensor, name.as_str())));
    if wanted.is_empty() {
        problems.push(message!("the model has no parameter to read from it"));
    }
    for name in file.tensors.keys() {
        let known = |name: &str| wanted.iter().any(|(_, wanted)| wanted == name);
        let same_module = |name: &str| wanted.iter().any(|(_, wanted)| module(wanted) == module(name));
        if name.strip_prefix(prefix).is_some_and(|name| same_module(name) && !known(name)) {
            problems.push(message!("{} has no place in the model", name));
        }
    }
    if problems.is_empty() {
        return Ok(values);
    }
    let remedy = message!("name a file whose mixers have these sizes");
    Err(Error::data(place, Message::list(problems), remedy))
}

/// The part of a layer that a name belongs to: `layers.0.mixer`, `layers.0.norm`, `norm_f.weight`.
fn module(name: &str) -> &str {
    name.match_indices('.').nth(2).map_or(name, |(end, _)| &name[..end])
}
