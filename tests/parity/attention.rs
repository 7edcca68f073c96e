//! `attention` against the reference.

use super::harness::{Case, LENGTHS};
use scanrnn::graph::Tensor;
use scanrnn::ops::{AttentionInputs, KeyValueCache};

/// What came before step 0.
#[derive(Clone, Copy, Debug)]
enum Past {
    None,
    /// So many rows, all of them there.
    Whole(usize),
    /// A cache of so many rows, filled differently in each batch row.
    Partial(usize),
}

/// Queries, keys and values as columns of one tensor.
fn projections(case: &mut Case, shape: [usize; 3]) -> [Tensor; 3] {
    let [n_batch, n_step, n_channel] = shape;
    let qkv = case.variable("qkv", &[n_batch, n_step, 3 * n_channel], -2.0, 2.0);
    [("q", 0), ("k", 1), ("v", 2)].map(|(label, index)| case.graph.columns(qkv, label, index * n_channel, n_channel))
}

fn past(case: &mut Case, past: Past, n_batch: usize, n_channel: usize) -> Option<KeyValueCache> {
    let (capacity, length) = match past {
        Past::None => return None,
        Past::Whole(capacity) => (capacity, None),
        Past::Partial(capacity) => {
            let lengths = (0..n_batch).map(|batch| (capacity * batch / n_batch) as f32).collect();
            (capacity, Some(case.values("length", &[n_batch], lengths)))
        }
    };
    let mut rows = |label| case.variable(label, &[n_batch, capacity, n_channel], -2.0, 2.0);
    Some(KeyValueCache { k: rows("past_k"), v: rows("past_v"), length })
}

fn check(n_batch: usize, n_step: usize, n_head: usize, head_dim: usize, before: Past, reset: bool) {
    let what = format!("attention {n_batch} x {n_step} x {n_head} x {head_dim}, past {before:?}, reset {reset}");
    let mut case = Case::new(what);
    let [q, k, v] = projections(&mut case, [n_batch, n_step, n_head * head_dim]);
    let past = past(&mut case, before, n_batch, n_head * head_dim);
    let reset = reset.then(|| case.reset(n_batch, n_step));
    let (y, log_sum) = case.graph.attention("y", &AttentionInputs { q, k, v, n_head, past, reset }).expect("shapes fit");
    case.check_with(&[y], &[log_sum]);
}

#[test]
fn lengths_heads_and_options() {
    for (index, &n_step) in LENGTHS.iter().enumerate() {
        let (n_head, head_dim) = [(1, 1), (3, 5), (2, 18)][index % 3];
        for (before, reset) in [
            (Past::None, false),
            (Past::None, true),
            (Past::Whole(1 + n_step / 2), false),
            (Past::Partial(70), true),
            (Past::Partial(33), false),
        ] {
            check(1 + index % 3, n_step, n_head, head_dim, before, reset);
        }
    }
}

#[test]
fn a_wide_head() {
    check(2, 70, 2, 66, Past::Whole(9), false);
}

#[test]
fn more_loop_iterations_than_one_dispatch_may_take() {
    check(1, 2100, 1, 64, Past::Whole(40), false);
}

#[test]
fn large_scores_neither_overflow_nor_lose_the_sum() {
    let (n_batch, n_step, n_channel) = (2, 65, 6);
    let mut case = Case::new("attention with large scores");
    let [q, k] = ["q", "k"].map(|label| case.variable(label, &[n_batch, n_step, n_channel], -30.0, 30.0));
    let v = case.variable("v", &[n_batch, n_step, n_channel], -1.0, 1.0);
    let (y, _) = case.graph.attention("y", &AttentionInputs { q, k, v, n_head: 2, past: None, reset: None }).expect("shapes fit");
    case.check(&[y]);
}

#[test]
fn a_cache_grows_run_by_run() {
    for (n_step, reset) in [(1, false), (5, false), (5, true)] {
        let (n_batch, capacity, n_channel) = (3, 17, 6);
        let mut case = Case::new(format!("attention over a growing cache, {n_step} steps a run, reset {reset}"));
        let [q, k, v] = projections(&mut case, [n_batch, n_step, n_channel]);
        let [cache_k, cache_v] = ["cache_k", "cache_v"].map(|label| case.graph.state(label, &[n_batch, capacity, n_channel]));
        let length = case.values("length", &[n_batch], vec![0.0, 2.0, 1.0]);
        let cache = KeyValueCache { k: cache_k, v: cache_v, length: Some(length) };
        let reset = reset.then(|| case.indices("reset", &[n_batch, n_step], vec![0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]));
        let inputs = AttentionInputs { q, k, v, n_head: 2, past: Some(cache), reset };
        let (y, _) = case.graph.attention("y", &inputs).expect("shapes fit");
        case.graph.append_keys_in_place(k, v, &cache, reset).expect("shapes fit");
        case.runs = 4;
        case.check_values(&[y, cache_k, cache_v, length]);
    }
}

#[test]
fn an_appended_cache_hands_its_gradients_on() {
    for (n_step, reset) in [(1, false), (5, false), (5, true), (20, false)] {
        let (n_batch, capacity, n_channel) = (3, 17, 6);
        let mut case = Case::new(format!("attention_append, {n_step} steps, reset {reset}"));
        let [_, k, v] = projections(&mut case, [n_batch, n_step, n_channel]);
        let past = past(&mut case, Past::Partial(capacity), n_batch, n_channel).expect("a past");
        let reset = reset.then(|| case.reset(n_batch, n_step));
        let last = case.graph.append_keys("cache", k, v, &past, reset).expect("shapes fit");
        let length = last.length.expect("a length");
        case.check_with(&[last.k, last.v], &[length]);
    }
}

#[test]
fn window_by_window_where_not_all_can_be_bound() {
    // some sequences; parts of one, of which the cache or the steps alone are too large, or both
    for (shape, capacity, bytes) in
        [([7, 33, 6], 40, 8 << 10), ([2, 33, 12], 400, 8 << 10), ([2, 200, 12], 20, 8 << 10), ([1, 200, 24], 300, 12 << 10)]
    {
        for has_reset in [false, true] {
            check_bound(shape, capacity, bytes, has_reset);
        }
    }
}

fn check_bound([n_batch, n_step, n_channel]: [usize; 3], capacity: usize, bytes: u64, has_reset: bool) {
    let mut case = Case::new(format!("attention {n_batch} x {n_step} x {n_channel}, cache {capacity}, bound {bytes}, reset {has_reset}"));
    case.limit_binding(bytes);
    let [q, k, v] = projections(&mut case, [n_batch, n_step, n_channel]);
    let past = past(&mut case, Past::Partial(capacity), n_batch, n_channel).expect("a past");
    let reset = has_reset.then(|| case.reset(n_batch, n_step));
    let (y, log_sum) = case.graph.attention("y", &AttentionInputs { q, k, v, n_head: 2, past: Some(past), reset }).expect("shapes fit");
    let last = case.graph.append_keys("cache", k, v, &past, reset).expect("shapes fit");
    let length = last.length.expect("a length");
    case.check_with(&[y, last.k, last.v], &[log_sum, length]);
}
