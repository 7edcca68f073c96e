//! Every reference case on the reference itself, the CPU and the GPU.

mod common;

use std::path::{Path, PathBuf};

use scanrnn::backend::Backend;
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
    if let Some(gpu) = common::gpu(None) {
        check(gpu);
    }
}
