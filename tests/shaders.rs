//! Every shader without a GPU: valid, within WebGPU's default limits, accepted by `tint` where that is installed; and the mirror rule.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use clap::ValueEnum;
use scanrnn::benchmark::{Benchmark, Shape, build};
use scanrnn::gpu::{CooperativeMatrices, KernelRow, KernelTable, Modules, Planner, Traits};
use scanrnn::graph::{Graph, Tensor};
use scanrnn::model::{ForecasterConfig, ModelKind};
use scanrnn::ops::{
    Activation, AttentionInputs, Iterated, KERNELS, KeyValueCache, Loss, Normalisation, Optimizer, Recurrence, SelectiveScanInputs, Update,
};
use scanrnn::train::{LossUnits, Series, Trainer, TrainingConfig};

/// Programs that use every operation with and without its options.
fn graphs() -> Vec<Graph> {
    let mut graphs = Vec::new();
    for &op in Benchmark::value_variants() {
        for length in [1, 70, 5000] {
            let shape = Shape { batch: 3, length, channels: 65, state: 16 };
            graphs.push(build(op, shape, true).expect("fits").graph);
        }
    }
    for (reverse, options) in [(false, false), (false, true), (true, true)] {
        graphs.push(recurrences(reverse, options));
    }
    for loss in [Loss::Mse, Loss::Mae, Loss::Huber { delta: 1.0 }] {
        graphs.push(large_loss(loss));
    }
    for optimizer in [Optimizer::sgd(0.0), Optimizer::adam(0.1), Optimizer::adam_w(0.1), Optimizer::rms_prop(0.0)] {
        graphs.push(update(optimizer));
    }
    graphs.push(iterated());
    let series = Series::new(&[0.0; 500], 0..300, 300..400);
    for model in ModelKind::ALL {
        for normalisation in [Normalisation::None, Normalisation::Last, Normalisation::MeanStd] {
            let config = TrainingConfig { normalisation, ..TrainingConfig::lab(model) };
            graphs.push(Trainer::new(&ForecasterConfig::new(model, 128), &config, &series).expect("fits").into_graph());
        }
    }
    for loss_units in [LossUnits::Series, LossUnits::Balanced] {
        let skip = ForecasterConfig {
            features: 4,
            targets: 3,
            horizon: 7,
            independent: true,
            own_skip: true,
            linear_skip: Some(32),
            ..ForecasterConfig::new(ModelKind::MinGruScan, 65)
        };
        let config = TrainingConfig { loss_units, ..TrainingConfig::lab(skip.model) };
        graphs.push(Trainer::new(&skip, &config, &Series::new(&[0.0; 2000], 0..300, 300..400)).expect("fits").into_graph());
    }
    for model in ModelKind::LINEAR {
        let both = ForecasterConfig { layers: 2, bidirectional: true, ..ForecasterConfig::new(model, 65) };
        let config = TrainingConfig { dropout: 0.1, ..TrainingConfig::lab(model) };
        graphs.push(Trainer::new(&both, &config, &series).expect("fits").into_graph());
    }
    graphs
}

fn recurrences(reverse: bool, options: bool) -> Graph {
    let (n_batch, n_step, n_channel, n_state) = (2, 130, 5, 8);
    let mut graph = Graph::new();
    let mut outputs: Vec<Tensor> = Vec::new();
    let sequence = |graph: &mut Graph, columns: usize| graph.variable("sequence", &[n_batch, n_step, columns]);
    let reset = graph.indices("reset", &[n_batch, n_step]);
    let recurrence = |graph: &mut Graph, state: &[usize]| Recurrence {
        initial_state: options.then(|| graph.variable("initial", state)),
        reset: options.then_some(reset),
        reverse,
    };
    let inputs = SelectiveScanInputs {
        u: sequence(&mut graph, n_channel),
        delta: sequence(&mut graph, n_channel),
        a: graph.variable("a", &[n_channel, n_state]),
        b: sequence(&mut graph, n_state),
        c: sequence(&mut graph, n_state),
        d: options.then(|| graph.variable("d", &[n_channel])),
        z: options.then(|| sequence(&mut graph, n_channel)),
        delta_bias: options.then(|| graph.variable("delta_bias", &[n_channel])),
        delta_softplus: options,
        recurrence: recurrence(&mut graph, &[n_batch, n_channel, n_state]),
    };
    let (y, last) = graph.selective_scan("scan", &inputs).expect("fits");
    outputs.extend([y, last]);
    let (p, u) = (sequence(&mut graph, 3 * n_channel), graph.variable("u", &[3 * n_channel, n_channel]));
    let run = recurrence(&mut graph, &[n_batch, n_channel]);
    let (h, last) = graph.min_gru("min_gru", p, u, &run).expect("fits");
    outputs.extend([h, last]);
    let p = sequence(&mut graph, 2 * n_channel);
    let run = recurrence(&mut graph, &[n_batch, n_channel]);
    let (h, last) = graph.min_gru_scan("min_gru_scan", p, &run).expect("fits");
    outputs.extend([h, last]);
    let p = sequence(&mut graph, n_channel);
    let matrices = ["b", "c"].map(|name| graph.variable(name, &[n_channel, n_state]));
    let (a, d) = (graph.variable("a", &[n_state]), graph.variable("d", &[n_channel]));
    let run = recurrence(&mut graph, &[n_batch, n_state]);
    let (y, last) = graph.mamba_lab("mamba_lab", p, a, matrices[0], matrices[1], d, &run).expect("fits");
    outputs.extend([y, last]);
    let (x, weight) = (sequence(&mut graph, n_channel), graph.variable("weight", &[n_channel, 4]));
    let bias = options.then(|| graph.variable("bias", &[n_channel]));
    let activation = if options { Activation::Silu } else { Activation::None };
    let run = recurrence(&mut graph, &[n_batch, 3, n_channel]);
    let (y, last) = graph.causal_conv1d("conv", x, weight, bias, activation, &run).expect("fits");
    outputs.extend([y, last]);
    if !reverse {
        let [q, k, v] = ["q", "k", "v"].map(|_| sequence(&mut graph, n_channel));
        let [cache_k, cache_v] = ["cache_k", "cache_v"].map(|label| graph.variable(label, &[n_batch, 40, n_channel]));
        let cache = KeyValueCache { k: cache_k, v: cache_v, length: options.then(|| graph.input("length", &[n_batch])) };
        let inputs = AttentionInputs { q, k, v, n_head: 1, past: Some(cache), reset: options.then_some(reset) };
        outputs.push(graph.attention("attention", &inputs).expect("fits").0);
        if options {
            let last = graph.append_keys("append", k, v, &cache, Some(reset)).expect("fits");
            outputs.extend([last.k, last.v]);
        }
    }
    let (x, weight) = (sequence(&mut graph, n_channel), graph.variable("weight", &[n_channel]));
    let normed = graph.rms_norm("normed", x, weight, 1e-5).expect("fits");
    let decay = graph.neg_exp("decay", normed);
    outputs.push(graph.sum("sum", normed, decay).expect("fits"));
    let seeds: Vec<_> = outputs
        .into_iter()
        .map(|output| {
            let shape = graph.shape(output).to_vec();
            (output, graph.input("cotangent", &shape))
        })
        .collect();
    graph.backward(&seeds).expect("differentiable");
    graph.finish("recurrences");
    graph
}

fn iterated() -> Graph {
    let mut graph = Graph::new();
    let x = graph.input("x", &[12, 100]);
    for function in [Iterated::MultiplyAdd, Iterated::Exponential] {
        graph.iterate("y", x, function, 1).expect("fits");
    }
    graph.finish("iterated");
    graph
}

/// A loss over more elements than one workgroup takes.
fn large_loss(loss: Loss) -> Graph {
    let mut graph = Graph::new();
    let (prediction, target) = (graph.variable("prediction", &[100_000, 8]), graph.input("target", &[100_000, 8]));
    let (losses, counter) = (graph.state("losses", &[1]), graph.indices("counter", &[2]));
    graph.loss("loss", loss, prediction, target, counter, losses).expect("fits");
    graph.backward(&[]).expect("differentiable");
    graph.finish("large loss");
    graph
}

fn update(optimizer: Optimizer) -> Graph {
    let mut graph = Graph::new();
    let weight = graph.parameter("weight", &[7, 5], scanrnn::graph::Init::Constant(0.0));
    let (x, target) = (graph.input("x", &[9, 5]), graph.input("target", &[9, 7]));
    let (losses, learning_rates) = (graph.state("losses", &[1]), graph.input("learning_rates", &[1]));
    let counter = graph.indices("counter", &[2]);
    let y = graph.linear("y", x, weight, None).expect("fits");
    let n_parameter = graph.spec(weight).len().next_multiple_of(64);
    let mask = graph.input("mask", &[n_parameter]);
    for loss in [Loss::Mse, Loss::Mae, Loss::Huber { delta: 1.0 }] {
        graph.loss("loss", loss, y, target, counter, losses).expect("fits");
    }
    graph.backward(&[]).expect("differentiable");
    graph.l1_penalty(0.1, mask).expect("fits");
    let clip = graph.clip_grad_norm(1.0).expect("fits");
    graph.optimize(&Update { optimizer, clip: Some(clip), clip_value: Some(0.5), learning_rates, counter, group: None }).expect("fits");
    graph.advance(counter).expect("fits");
    graph.finish("update");
    graph
}

/// Adapters to plan for: the default limits, hardware and software, and one that offers what some kernels need; with each kernel forced.
fn traits() -> Vec<Traits> {
    let mut all = Vec::new();
    for (software, variants) in [(false, false), (true, false), (false, true)] {
        let default = Traits::webgpu_default();
        let max_storage_buffers = if variants { 9 } else { default.max_storage_buffers };
        let cooperative = variants.then_some(CooperativeMatrices { side: 16, largest_subgroup: 32 });
        let base =
            Traits { software, subgroups: variants, subgroups_of_8: variants, f16: variants, cooperative, max_storage_buffers, ..default };
        all.push(base.clone());
        for (operation, kernels) in KERNELS {
            for (kernel, _) in *kernels {
                let mut forced = base.clone();
                forced.kernels.insert((*operation).into(), (*kernel).into());
                all.push(forced);
            }
        }
    }
    all
}

#[test]
fn every_dispatch_fits_the_default_limits_and_every_module_is_valid() {
    let modules = Modules::default();
    let graphs = graphs();
    let mut modules_by_name = BTreeMap::new();
    let mut used = BTreeSet::new();
    for traits in traits() {
        for graph in &graphs {
            let mut planner = Planner::new(graph, &modules, &traits);
            for (name, ops) in graph.programs() {
                for dispatch in planner.program(ops).unwrap_or_else(|error| panic!("{name}: {error}")) {
                    used.insert(dispatch.label.clone());
                    modules_by_name.insert((dispatch.shader.name, dispatch.module.text.clone()), dispatch.module.clone());
                }
            }
        }
    }
    let mut unused = Vec::new();
    for ((shader, _), module) in &modules_by_name {
        unused.extend(module.entries.keys().map(|entry| format!("{shader}.{entry}")).filter(|entry| !used.contains(entry)));
    }
    let planned: BTreeSet<String> = modules_by_name.keys().map(|(shader, _)| (*shader).to_string()).collect();
    assert_eq!(planned, stems("shaders", "wgsl"), "every shader is planned");
    assert!(unused.is_empty(), "no program uses {unused:?}");
    if Command::new("tint").arg("--help").output().is_ok() {
        let folder = tempfile::tempdir().expect("a folder");
        // cooperative matrices are written as naga alone reads them
        for ((name, _), module) in modules_by_name.iter().filter(|(_, module)| !module.text.contains("coop_mat")) {
            let path = folder.path().join("module.wgsl");
            // naga knows subgroup operations without the directive, and not the directive
            let directive = if module.text.contains("subgroup") { "enable subgroups;\n" } else { "" };
            // what a subgroup waits for by itself is naga's alone
            let text = module.text.replace("subgroupBarrier", "storageBarrier");
            std::fs::write(&path, format!("{directive}{text}")).expect("written");
            let output = Command::new("tint").arg("--format").arg("wgsl").arg(&path).output().expect("tint runs");
            assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
}

#[test]
fn a_kernel_that_does_not_take_the_shape_leaves_the_choice_to_the_rule() {
    let mut graph = Graph::new();
    // three columns: no whole vectors of four, as `subgroup` takes them
    let (x, weight) = (graph.input("x", &[5, 3]), graph.input("weight", &[7, 3]));
    graph.linear("y", x, weight, None).expect("fits");
    graph.finish("product");
    let modules = Modules::default();
    let planned = |table: Option<&str>, forced: Option<&str>| {
        let row = |kernel: &str| KernelRow { op: "linear".into(), sizes: vec![5, 7, 3], kernel: kernel.into(), ms: BTreeMap::new() };
        let table = table.map(|kernel| KernelTable { adapter: String::new(), driver: String::new(), rows: vec![row(kernel)] });
        let kernels = forced.map(|kernel| ("linear".into(), kernel.into())).into_iter().collect();
        let traits = Traits { software: true, subgroups_of_8: true, kernels, table, ..Traits::webgpu_default() };
        let mut planner = Planner::new(&graph, &modules, &traits);
        let dispatches = graph.programs().iter().flat_map(|(_, ops)| planner.program(ops).expect("fits"));
        let labels: Vec<String> = dispatches.map(|dispatch| dispatch.label).collect();
        (labels, planner.is_as_forced())
    };
    let (rule, _) = planned(None, None);
    assert_eq!(planned(Some("subgroup"), None), (rule.clone(), true));
    assert_eq!(planned(None, Some("subgroup")), (rule.clone(), false));
    let (tiles, is_as_forced) = planned(Some("tile_64"), None);
    assert!(tiles != rule && is_as_forced, "{tiles:?}");
    assert_eq!(planned(Some("panel"), Some("tile_64")), (tiles.clone(), true));
    assert_eq!(planned(Some("tile_64"), Some("subgroup")), (tiles, false));
}

#[test]
fn a_scan_keeps_to_the_invocations_of_a_workgroup() {
    let shape = Shape { batch: 2, length: 100, channels: 70, state: 16 };
    let measured = build(Benchmark::SelectiveScan, shape, true).expect("fits");
    for max_invocations in [64, 128, 256] {
        let (modules, traits) = (Modules::default(), Traits { max_invocations, ..Traits::webgpu_default() });
        let mut planner = Planner::new(&measured.graph, &modules, &traits);
        let dispatches = planner.program(measured.graph.program(measured.program)).expect("fits");
        let has_team = dispatches.iter().any(|dispatch| dispatch.entry.ends_with("_team"));
        assert_eq!(has_team, max_invocations == 256, "at most {max_invocations} invocations");
    }
}

/// Stems of a folder's files with an extension.
fn stems(folder: &str, extension: &str) -> BTreeSet<String> {
    std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder))
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .map(|path| path.file_stem().expect("a stem").to_string_lossy().into_owned())
        .collect()
}

#[test]
fn every_shader_is_mirrored_in_reference_host_half_and_parity_test() {
    let shaders = stems("shaders", "wgsl");
    let without = |folder: &str, extra: &[&str]| -> BTreeSet<String> {
        stems(folder, "rs").into_iter().filter(|stem| !extra.contains(&stem.as_str())).collect()
    };
    assert_eq!(shaders, without("src/reference", &["mod", "session", "activation"]), "src/reference");
    assert_eq!(shaders, without("src/ops", &["mod", "panel"]), "src/ops");
    assert_eq!(shaders, without("tests/parity", &["main", "harness", "partial_gradients"]), "tests/parity");
}
