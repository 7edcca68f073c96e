//! Every operation of several inputs, where only some of them are trained; every recurrence, where only one of its outputs is used.

use scanrnn::gpu::Traits;
use scanrnn::graph::Tensor;
use scanrnn::ops::{Activation, AttentionInputs, KeyValueCache, Recurrence, SelectiveScanInputs};

use super::harness::{self, Case};

/// An operation over new inputs; its outputs.
type Build = fn(&mut Case) -> Vec<Tensor>;

const N_BATCH: usize = 3;
const N_STEP: usize = 19;
/// A whole number of vectors of four.
const N_CHANNEL: usize = 8;

/// Freezes each group of labels in turn, then all but that group.
fn check_frozen(operation: &'static str, kernels: &[&'static str], groups: &[&[&'static str]], build: Build) {
    for group in groups {
        let others: Vec<_> = groups.iter().filter(|other| *other != group).copied().flatten().copied().collect();
        for frozen in [group.to_vec(), others] {
            check(operation, kernels, |case| {
                case.freeze(&frozen);
                build(case)
            });
        }
    }
}

/// Differentiates one output after the other, by itself.
fn check_outputs(operation: &'static str, kernels: &[&'static str], build: Build) {
    for index in 0..2 {
        check(operation, kernels, |case| vec![build(case)[index]]);
    }
}

/// By every kernel, or where there are none to choose from, once.
fn check(operation: &'static str, kernels: &[&'static str], build: impl Fn(&mut Case) -> Vec<Tensor>) {
    let kernels: Vec<_> = if kernels.is_empty() { vec![None] } else { kernels.iter().copied().map(Some).collect() };
    for kernel in kernels {
        let mut case = Case::new(operation);
        if let Some(kernel) = kernel {
            case.force_kernel(operation, kernel);
        }
        let outputs = build(&mut case);
        case.check(&outputs);
    }
}

/// A recurrence's output and last state.
fn both((y, last_state): (Tensor, Tensor)) -> Vec<Tensor> {
    vec![y, last_state]
}

fn by_subgroups(traits: &Traits) -> bool {
    traits.subgroups_of_8
}

/// A recurrence with an initial state of `shape` and a reset mask.
fn recurrence(case: &mut Case, shape: &[usize]) -> Recurrence {
    let initial_state = Some(case.variable("initial_state", shape, -1.0, 1.0));
    Recurrence { initial_state, reset: Some(case.reset(N_BATCH, N_STEP)), reverse: true }
}

#[test]
fn linear() {
    let kernels = harness::kernels(&["tile_64", "panel"], &[("subgroup", by_subgroups), ("subgroup_window", by_subgroups)]);
    check_frozen("linear", &kernels, &[&["x"], &["weight"], &["bias"]], |case| {
        let x = case.variable("x", &[N_BATCH, N_STEP, N_CHANNEL], -1.0, 1.0);
        let weight = case.variable("weight", &[12, N_CHANNEL], -1.0, 1.0);
        let bias = case.variable("bias", &[12], -1.0, 1.0);
        vec![case.graph.linear("y", x, weight, Some(bias)).expect("shapes fit")]
    });
    // a single column, on the way in or out: no products
    for label in ["x", "weight", "bias"] {
        for (n_in, n_out) in [(1, N_CHANNEL), (N_CHANNEL, 1)] {
            check("linear", &[], |case| {
                case.freeze(&[label]);
                let x = case.variable("x", &[N_BATCH, N_STEP, n_in], -1.0, 1.0);
                let weight = case.variable("weight", &[n_out, n_in], -1.0, 1.0);
                let bias = case.variable("bias", &[n_out], -1.0, 1.0);
                vec![case.graph.linear("y", x, weight, Some(bias)).expect("shapes fit")]
            });
        }
    }
}

fn build_min_gru(case: &mut Case) -> Vec<Tensor> {
    let p = case.variable("p", &[N_BATCH, N_STEP, 3 * N_CHANNEL], -2.0, 2.0);
    let u = case.variable("u", &[3 * N_CHANNEL, N_CHANNEL], -0.3, 0.3);
    let recurrence = recurrence(case, &[N_BATCH, N_CHANNEL]);
    both(case.graph.min_gru("h", p, u, &recurrence).expect("shapes fit"))
}

#[test]
fn min_gru() {
    let kernels = harness::kernels(&["fused", "step", "panel"], &[("subgroup", by_subgroups)]);
    check_frozen("min_gru", &kernels, &[&["p"], &["u"], &["initial_state"]], build_min_gru);
    check_outputs("min_gru", &kernels, build_min_gru);
}

fn build_min_gru_scan(case: &mut Case) -> Vec<Tensor> {
    let p = case.variable("p", &[N_BATCH, N_STEP, 2 * N_CHANNEL], -2.0, 2.0);
    let recurrence = recurrence(case, &[N_BATCH, N_CHANNEL]);
    both(case.graph.min_gru_scan("h", p, &recurrence).expect("shapes fit"))
}

#[test]
fn min_gru_scan() {
    let kernels = harness::kernels(&["sequential", "rows", "chunked"], &[("subgroup", |traits| traits.subgroups)]);
    check_frozen("min_gru_scan", &kernels, &[&["p"], &["initial_state"]], build_min_gru_scan);
    check_outputs("min_gru_scan", &kernels, build_min_gru_scan);
    check("min_gru_scan", &kernels, |case| {
        let wide = case.variable("wide", &[N_BATCH, N_STEP, 2 * N_CHANNEL + 8], -2.0, 2.0);
        let p = case.graph.columns(wide, "p", 4, 2 * N_CHANNEL);
        both(case.graph.min_gru_scan("h", p, &Recurrence::default()).expect("shapes fit"))
    });
}

fn build_mamba_lab(case: &mut Case) -> Vec<Tensor> {
    let n_state = 4;
    let p = case.variable("p", &[N_BATCH, N_STEP, N_CHANNEL], -3.0, 3.0);
    let a = case.variable("a", &[n_state], -2.0, -0.05);
    let [b, c] = ["b", "c"].map(|label| case.variable(label, &[N_CHANNEL, n_state], -0.3, 0.3));
    let d = case.variable("d", &[N_CHANNEL], 0.5, 1.5);
    let recurrence = recurrence(case, &[N_BATCH, n_state]);
    both(case.graph.mamba_lab("y", p, a, b, c, d, &recurrence).expect("shapes fit"))
}

#[test]
fn mamba_lab() {
    check_frozen("mamba_lab", &[], &[&["p"], &["a"], &["b"], &["c"], &["d"], &["initial_state"]], build_mamba_lab);
    check_outputs("mamba_lab", &[], build_mamba_lab);
}

#[test]
fn causal_conv1d() {
    check_frozen("causal_conv1d", &[], &[&["x"], &["weight"], &["bias"], &["initial_state"]], |case| {
        let x = case.variable("x", &[N_BATCH, N_STEP, N_CHANNEL], -2.0, 2.0);
        let weight = case.variable("weight", &[N_CHANNEL, 4], -1.0, 1.0);
        let bias = Some(case.variable("bias", &[N_CHANNEL], -1.0, 1.0));
        let recurrence = recurrence(case, &[N_BATCH, 3, N_CHANNEL]);
        both(case.graph.causal_conv1d("y", x, weight, bias, Activation::Silu, &recurrence).expect("shapes fit"))
    });
}

#[test]
fn selective_scan() {
    let groups: [&[&str]; 5] = [&["u", "d", "z"], &["delta", "delta_bias"], &["a"], &["b", "c"], &["initial_state"]];
    let kernels = harness::kernels(&["sequential", "chunked", "walked"], &[("subgroup", |traits| traits.subgroups)]);
    check_frozen("selective_scan", &kernels, &groups, |case| {
        let (sequence, n_state) = ([N_BATCH, N_STEP, N_CHANNEL], 5);
        let inputs = SelectiveScanInputs {
            u: case.variable("u", &sequence, -1.0, 1.0),
            delta: case.variable("delta", &sequence, -4.0, 1.0),
            a: case.variable("a", &[N_CHANNEL, n_state], -2.0, -0.05),
            b: case.variable("b", &[N_BATCH, N_STEP, n_state], -1.0, 1.0),
            c: case.variable("c", &[N_BATCH, N_STEP, n_state], -1.0, 1.0),
            d: Some(case.variable("d", &[N_CHANNEL], -1.0, 1.0)),
            z: Some(case.variable("z", &sequence, -2.0, 2.0)),
            delta_bias: Some(case.variable("delta_bias", &[N_CHANNEL], 0.0, 0.1)),
            delta_softplus: true,
            recurrence: recurrence(case, &[N_BATCH, N_CHANNEL, n_state]),
        };
        both(case.graph.selective_scan("y", &inputs).expect("shapes fit"))
    });
}

/// Keys and values behind a cache that is filled differently in each batch row.
fn cache(case: &mut Case) -> ([Tensor; 2], KeyValueCache) {
    let [k, v] = ["k", "v"].map(|label| case.variable(label, &[N_BATCH, N_STEP, N_CHANNEL], -2.0, 2.0));
    let [past_k, past_v] = ["past_k", "past_v"].map(|label| case.variable(label, &[N_BATCH, 6, N_CHANNEL], -2.0, 2.0));
    let length = Some(case.values("length", &[N_BATCH], vec![0.0, 2.0, 6.0]));
    ([k, v], KeyValueCache { k: past_k, v: past_v, length })
}

#[test]
fn attention() {
    let groups: [&[&str]; 5] = [&["q"], &["k"], &["v"], &["past_k"], &["past_v"]];
    check_frozen("attention", &[], &groups, |case| {
        let q = case.variable("q", &[N_BATCH, N_STEP, N_CHANNEL], -2.0, 2.0);
        let ([k, v], past) = cache(case);
        let inputs = AttentionInputs { q, k, v, n_head: 2, past: Some(past), reset: None };
        vec![case.graph.attention("y", &inputs).expect("shapes fit").0]
    });
}

#[test]
fn attention_append() {
    check_frozen("attention_append", &[], &[&["k", "v"], &["past_k", "past_v"], &["k", "past_v"]], |case| {
        let ([k, v], past) = cache(case);
        let last = case.graph.append_keys("cache", k, v, &past, None).expect("shapes fit");
        vec![last.k, last.v]
    });
}
