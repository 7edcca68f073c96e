//! Every reference case on the reference itself, the CPU and the GPU.

mod common;

use std::path::{Path, PathBuf};

use common::{Setting, devices, turn};
use scanrnn::backend::Backend;
use scanrnn::checkpoint::{NamedTensor, Tensors};
use scanrnn::cpu::Cpu;
use scanrnn::golden::{Case, list};
use scanrnn::reference::Reference;

/// All cases where the whole collection lies beside the project, else the selection that the project carries.
fn folder() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let shared = root.join("../shared/golden");
    if shared.is_dir() { shared } else { root.join("tests/golden") }
}

fn check(backend: &dyn Backend) {
    let _turn = turn();
    let paths = list(&folder()).expect("the folder of cases");
    assert!(paths.len() > 20, "only {} cases", paths.len());
    let mut failures = Vec::new();
    for path in paths {
        let outcome = Case::read(&path).and_then(|case| pollster::block_on(case.run(backend)));
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        match outcome {
            Ok(worst) if worst.passed() => {}
            Ok(worst) => failures.push(format!("{name}: {worst}")),
            Err(error) => failures.push(format!("{name}: {error}")),
        }
    }
    assert!(failures.is_empty(), "{}:\n{}", backend.name(), failures.join("\n"));
}

/// A case run against time: its sequences the other way round, and `reverse` the other way.
fn against_time(path: &Path) -> Option<Tensors> {
    const RECURRENCES: [&str; 7] =
        ["selective_scan", "min_gru", "min_gru_scan", "mamba_lab", "causal_conv1d", "mamba_mixer", "mamba_backbone"];
    let mut file = Tensors::parse("case", &std::fs::read(path).expect("read")).expect("a case");
    if !RECURRENCES.contains(&file.metadata["op"].as_str()) {
        return None;
    }
    let mut attrs: serde_json::Value = serde_json::from_str(&file.metadata["attrs"]).expect("JSON");
    attrs["reverse"] = (!attrs.get("reverse").is_some_and(|reverse| reverse == true)).into();
    file.metadata.insert("attrs".into(), attrs.to_string());
    for (name, tensor) in &mut file.tensors {
        let sequences = ["x", "u", "delta", "B", "C", "z", "h", "y"];
        if !name.contains("param.") && sequences.contains(&name.rsplit('.').next().expect("a name")) {
            reverse_steps(tensor);
        }
    }
    Some(file)
}

/// Turns `(batch, step, channel)` round along its steps.
fn reverse_steps(tensor: &mut NamedTensor) {
    let &[_, n_step, n_channel] = tensor.shape.as_slice() else { panic!("{:?} is no sequence", tensor.shape) };
    let rows = tensor.values.chunks(n_step * n_channel);
    tensor.values = rows.flat_map(|row| row.chunks(n_channel).rev().flatten().copied()).collect();
}

#[test]
fn every_recurrence_runs_against_time() {
    let _turn = turn();
    let folder = tempfile::tempdir().expect("a folder");
    let mut failures = Vec::new();
    let devices = devices(Setting::default());
    for path in list(&self::folder()).expect("the folder of cases") {
        let Some(file) = against_time(&path) else { continue };
        let turned = folder.path().join(path.file_name().expect("a name"));
        std::fs::write(&turned, file.to_bytes().expect("a file")).expect("written");
        let case = Case::read(&turned).expect("a case");
        for &device in &devices {
            let worst = pollster::block_on(case.run(device)).unwrap_or_else(|error| panic!("{}: {error}", turned.display()));
            if !worst.passed() {
                failures.push(format!("{} on {}: {worst}", turned.display(), device.name()));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn reference_in_f64() {
    check(&Reference::<f64>::new());
}

#[test]
fn reference_in_f32() {
    check(&Reference::<f32>::new());
}

#[test]
fn cpu() {
    check(&Cpu);
}

#[test]
fn gpu() {
    if let Some(gpu) = common::gpu(Setting::default()) {
        check(gpu);
    }
}

#[test]
fn cases_that_cannot_be_run_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let empty = |shape: &[usize]| NamedTensor { shape: shape.to_vec(), values: vec![0.0; shape.iter().product()] };
    for (case, tensor, shape, want) in [
        ("optimizer_adam", "in.param", &[0][..], "in.param is empty"),
        ("train_0_min-gru", "in.x", &[][..], "one row per step"),
        ("train_0_min-gru", "in.y", &[1, 1][..], "one row per step"),
    ] {
        let bytes = std::fs::read(root.join(format!("{case}.safetensors"))).expect("read");
        let mut file = Tensors::parse(case, &bytes).expect("a case");
        file.tensors.insert(tensor.into(), empty(shape));
        let path = folder.path().join("case.safetensors");
        std::fs::write(&path, file.to_bytes().expect("written")).expect("written");
        let error = Case::read(&path).and_then(|case| pollster::block_on(case.run(&Cpu))).expect_err(case).to_string();
        assert!(error.contains(want), "{error}");
    }
}

/// A single failure counts wherever it stands, also where nothing else is allowed an error; a case without results is none.
#[test]
fn a_wrong_element_fails_its_case() {
    let folder = tempfile::tempdir().expect("a folder");
    let worst = |values: Option<[f32; 2]>| {
        let attrs = [("op", "rms_norm"), ("attrs", r#"{"eps": 1e-5}"#), ("rtol", "1e-6"), ("atol", "0")];
        let mut file = Tensors { metadata: attrs.map(|(name, value)| (name.to_string(), value.to_string())).into(), ..Tensors::default() };
        let tensors = [("in.x", Some([0.0, 1.0])), ("param.weight", Some([1.0, 1.0])), ("out.y", values)];
        for (name, values) in tensors.into_iter().filter_map(|(name, values)| Some((name, values?))) {
            let shape = if name == "param.weight" { vec![2] } else { vec![1, 1, 2] };
            file.tensors.insert(name.into(), NamedTensor { shape, values: values.to_vec() });
        }
        let path = folder.path().join("case.safetensors");
        std::fs::write(&path, file.to_bytes().expect("a file")).expect("written");
        pollster::block_on(Case::read(&path).expect("a case").run(&Cpu))
    };
    assert!(!worst(Some([0.0, 99.0])).expect("a result").passed());
    assert!(worst(None).expect_err("no result").to_string().contains("nothing to compare"));
}
