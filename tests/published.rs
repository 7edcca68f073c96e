//! Mamba's parameters from and to files under published names.

use half::{bf16, f16};
use safetensors::tensor::{Dtype, TensorView};
use scanrnn::checkpoint::Tensors;
use scanrnn::graph::Graph;
use scanrnn::model::mamba::{Mixer, MixerSizes};
use scanrnn::model::{Forecaster, ForecasterConfig, ModelKind};
use scanrnn::published::{read_backbone, read_mixer, write_backbone, write_mixer};

const D_MODEL: usize = 6;

fn forecaster(layers: usize) -> Graph {
    let mut graph = Graph::new();
    let config = ForecasterConfig { layers, ..ForecasterConfig::new(ModelKind::Mamba, D_MODEL) };
    Forecaster::new(&mut graph, &config).expect("sizes");
    graph
}

/// Names, shapes and values as the publishers write them: d_inner 12, d_state 16, d_conv 4, dt_rank 1.
fn published(layers: usize, prefix: &str) -> Vec<(String, Vec<usize>, Vec<f32>)> {
    let mut tensors = vec![("embeddings.weight".into(), vec![3, D_MODEL]), ("norm_f.weight".into(), vec![D_MODEL])];
    for layer in 0..layers {
        let of_layer: [(&str, &[usize]); 10] = [
            ("norm.weight", &[D_MODEL]),
            ("mixer.in_proj.weight", &[24, D_MODEL]),
            ("mixer.conv1d.weight", &[12, 1, 4]),
            ("mixer.conv1d.bias", &[12]),
            ("mixer.x_proj.weight", &[33, 12]),
            ("mixer.dt_proj.weight", &[12, 1]),
            ("mixer.dt_proj.bias", &[12]),
            ("mixer.A_log", &[12, 16]),
            ("mixer.D", &[12]),
            ("mixer.out_proj.weight", &[D_MODEL, 12]),
        ];
        tensors.extend(of_layer.map(|(name, shape)| (format!("layers.{layer}.{name}"), shape.to_vec())));
    }
    let values = |index: usize, len: usize| (0..len).map(|element| ((100 * index + element) as f32).sin()).collect();
    let value = |(index, (name, shape)): (usize, (String, Vec<usize>))| {
        let len = shape.iter().product();
        (format!("{prefix}{name}"), shape, values(index, len))
    };
    tensors.into_iter().enumerate().map(value).collect()
}

/// A file of these tensors in an element type.
fn file(tensors: &[(String, Vec<usize>, Vec<f32>)], dtype: Dtype) -> Vec<u8> {
    let bytes = |values: &[f32]| -> Vec<u8> {
        match dtype {
            Dtype::F16 => values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect(),
            Dtype::BF16 => values.iter().flat_map(|&value| bf16::from_f32(value).to_le_bytes()).collect(),
            Dtype::F64 => values.iter().flat_map(|&value| f64::from(value).to_le_bytes()).collect(),
            _ => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        }
    };
    let data: Vec<_> = tensors.iter().map(|(name, shape, values)| (name, shape, bytes(values))).collect();
    let views = data.iter().map(|(name, shape, bytes)| (*name, TensorView::new(dtype, (*shape).clone(), bytes).expect("as many bytes")));
    safetensors::serialize(views, None).expect("a file")
}

fn parse(tensors: &[(String, Vec<usize>, Vec<f32>)]) -> Tensors {
    Tensors::parse("mamba.safetensors", &file(tensors, Dtype::F32)).expect("a file")
}

#[test]
fn a_backbone_is_read_in_every_element_type_and_under_both_prefixes() {
    let graph = forecaster(2);
    for prefix in ["backbone.", ""] {
        for (dtype, rounded) in [
            (Dtype::F64, (|value| value) as fn(f32) -> f32),
            (Dtype::F32, |value| value),
            (Dtype::F16, |value| f16::from_f32(value).to_f32()),
            (Dtype::BF16, |value| bf16::from_f32(value).to_f32()),
        ] {
            let tensors = published(2, prefix);
            let parsed = Tensors::parse("mamba.safetensors", &file(&tensors, dtype)).expect("a file");
            let values = read_backbone(&parsed, "mamba.safetensors", &graph).expect("fits");
            assert_eq!(values.len(), 21, "{prefix} {dtype:?}");
            for (tensor, values) in values {
                let name = format!("{prefix}{}", graph.spec(tensor).label);
                let (_, _, want) = tensors.iter().find(|(known, ..)| *known == name).expect("a published name");
                assert_eq!(values, want.iter().map(|&value| rounded(value)).collect::<Vec<_>>(), "{name} {dtype:?}");
            }
        }
    }
}

#[test]
fn one_mixer_is_read_into_a_graph_of_its_own_and_written_back() {
    let mut graph = Graph::new();
    let sizes = MixerSizes { d_model: D_MODEL, d_inner: 12, d_state: 16, d_conv: 4, dt_rank: 1 };
    let mixer = Mixer::new(&mut graph, "mine.", sizes);
    for prefix in ["backbone.", ""] {
        let tensors = published(3, prefix);
        let values = read_mixer(&parse(&tensors), "mamba.safetensors", 1, &graph, "mine.").expect("fits");
        assert_eq!(values.len(), 9);
        let (_, a_log) = values.iter().find(|(tensor, _)| *tensor == mixer.a_log).expect("A_log");
        let (_, _, want) = tensors.iter().find(|(name, ..)| name.ends_with("layers.1.mixer.A_log")).expect("A_log");
        assert_eq!(a_log, want);
        let parameters: Vec<_> = values.into_iter().map(|(_, values)| values).collect();
        let written = write_mixer(&graph, &parameters, "mine.", 1).expect("its parameters");
        for (name, tensor) in &written.tensors {
            let found = published(3, "backbone.").into_iter().find(|(known, ..)| known == name).expect("a published name");
            assert_eq!((tensor.shape.clone(), tensor.values.clone()), (found.1, found.2));
        }
        assert_eq!(written.tensors.len(), 9);
    }
}

#[test]
fn a_backbone_is_written_as_it_was_read() {
    let graph = forecaster(2);
    let tensors = published(2, "backbone.");
    let read = read_backbone(&parse(&tensors), "mamba.safetensors", &graph).expect("fits");
    let value = |parameter: &scanrnn::graph::ParameterSpec| {
        let found = read.iter().find(|(tensor, _)| *tensor == parameter.tensor);
        found.map_or_else(|| vec![0.0; graph.spec(parameter.tensor).len()], |(_, values)| values.clone())
    };
    let parameters: Vec<_> = graph.parameters().iter().map(value).collect();
    let written = write_backbone(&graph, &parameters).expect("its parameters");
    assert_eq!(written.metadata.get("format").map(String::as_str), Some("pt"));
    let bytes = written.to_bytes().expect("a file");
    let shorter: Vec<Vec<f32>> = parameters.iter().map(|values| values[1..].to_vec()).collect();
    for wrong in [&parameters[1..], &shorter] {
        assert!(write_backbone(&graph, wrong).expect_err("refused").to_string().starts_with("published: "));
        assert!(write_mixer(&graph, wrong, "layers.0.mixer.", 0).is_err());
    }
    let again = Tensors::parse("written", &bytes).expect("a file");
    let want: Vec<_> = tensors.into_iter().filter(|(name, ..)| !name.contains("embeddings")).collect();
    assert_eq!(again.tensors.len(), want.len());
    for (name, shape, values) in want {
        assert_eq!(again.tensors[&name].shape, shape, "{name}");
        assert_eq!(again.tensors[&name].values, values, "{name}");
    }
}

#[test]
fn everything_that_is_wrong_is_listed_at_once() {
    let mut tensors = published(2, "backbone.");
    tensors.retain(|(name, ..)| !name.ends_with("layers.0.mixer.D") && !name.ends_with("norm_f.weight"));
    for (name, shape, values) in &mut tensors {
        if name.ends_with("layers.1.mixer.A_log") {
            (*shape, *values) = (vec![12, 8], vec![0.0; 96]);
        }
    }
    tensors.push(("backbone.layers.1.mixer.in_proj.bias".into(), vec![24], vec![0.0; 24]));
    tensors.push(("backbone.layers.2.mixer.D".into(), vec![12], vec![0.0; 12]));
    let message = read_backbone(&parse(&tensors), "mamba.safetensors", &forecaster(2)).expect_err("refused").to_string();
    let want = "mamba.safetensors: backbone.layers.0.mixer.D is missing; backbone.layers.1.mixer.A_log has shape [12, 8], expected [12, 16]; \
                backbone.norm_f.weight is missing; backbone.layers.1.mixer.in_proj.bias has no place in the model; \
                name a file whose mixers have these sizes";
    assert_eq!(message, want);
    let message = read_mixer(&parse(&tensors), "mamba.safetensors", 7, &forecaster(1), "layers.0.mixer.").expect_err("refused").to_string();
    assert_eq!(message.matches("backbone.layers.7.mixer.").count(), 9, "{message}");
}
