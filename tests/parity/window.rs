//! `window` against the reference.

use scanrnn::graph::Tensor;
use scanrnn::ops::{Normalisation, Rescaling, Window, WindowSource};

use super::harness::{Case, LENGTHS};

const NORMALISATIONS: [Normalisation; 3] = [Normalisation::None, Normalisation::Last, Normalisation::MeanStd];

/// Two batches of three windows, of which the second is gathered, from a series that drifts from 50; the last feature stands still.
fn windows(case: &mut Case, n_step: usize, horizon: usize, normalisation: Normalisation) -> (Window, Tensor) {
    let n_row = n_step + horizon + 5;
    let value = |row: usize, feature: usize| match feature {
        2 => 50.0,
        _ => 50.0 + 0.1 * row as f32 + ((7 * row + 3 * feature) as f32).sin(),
    };
    let values = (0..n_row).flat_map(|row| (0..3).map(move |feature| value(row, feature))).collect();
    let source = WindowSource {
        series: case.values("series", &[n_row, 3], values),
        starts: case.indices("starts", &[2, 3], vec![1, 1, 1, 5, 0, 3]),
        targets: case.indices("targets", &[2], vec![2, 0]),
        counter: case.indices("counter", &[2], vec![1, 9]),
        n_step,
        horizon,
        normalisation,
    };
    (case.graph.window("window", &source).expect("shapes fit"), source.counter)
}

#[test]
fn every_normalisation_at_lengths_that_fit_no_workgroup() {
    for normalisation in NORMALISATIONS {
        for (index, n_step) in LENGTHS.into_iter().chain([32]).enumerate() {
            let mut case = Case::new(format!("window of {n_step}, {normalisation:?}"));
            let (window, _) = windows(&mut case, n_step, 1 + 40 * (index % 2), normalisation);
            case.check_values(&[window.x, window.y, window.shift, window.scale]);
        }
    }
}

#[test]
fn windows_without_a_horizon() {
    let mut case = Case::new("window without a horizon");
    let (window, _) = windows(&mut case, 20, 0, Normalisation::Last);
    case.check_values(&[window.x, window.shift, window.scale]);
}

#[test]
fn predictions_are_restored_to_their_items() {
    for n_level in [1, 3] {
        // the second batch has one item left, or none
        for n_item in [3, 4, 8] {
            let mut case = Case::new(format!("restore of {n_level} levels to {n_item} items"));
            let (window, counter) = windows(&mut case, 20, 5, Normalisation::Last);
            let prediction = case.input("prediction", &[3, 5 * 2 * n_level], -1.0, 1.0);
            let out = case.values("out", &[n_item, 5, 2 * n_level], vec![-1.0; n_item * 10 * n_level]);
            case.graph.restore(prediction, &window, counter, out).expect("shapes fit");
            case.check_values(&[out]);
        }
    }
}

#[test]
fn errors_are_rescaled_with_their_gradient() {
    for n_level in [1, 3] {
        for (horizon, rescaling) in [(1, Rescaling::Scale), (5, Rescaling::Root), (41, Rescaling::Scale), (41, Rescaling::Root)] {
            let mut case = Case::new(format!("rescale of {n_level} levels over {horizon} steps, {rescaling:?}"));
            let (window, _) = windows(&mut case, 20, horizon, Normalisation::MeanStd);
            let x = case.variable("x", &[3, horizon, 2 * n_level], -1.0, 1.0);
            let y = case.graph.rescale("y", x, &window, rescaling).expect("shapes fit");
            case.check(&[y]);
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let mut case = Case::new("refused");
    let (window, counter) = windows(&mut case, 20, 5, Normalisation::Last);
    let series = case.input("short", &[10, 1], 0.0, 1.0);
    let indices = case.indices("indices", &[1, 1], vec![0]);
    let targets = case.indices("one", &[1], vec![0]);
    let source = WindowSource { series, starts: indices, targets, counter, n_step: 10, horizon: 1, normalisation: Normalisation::None };
    let message = case.graph.window("window", &source).expect_err("too short").to_string();
    assert_eq!(message, "window: `short` has shape [10, 1], expected at least 11 rows, for a window of at least one");
    let out = case.input("out", &[8, 5, 2], 0.0, 1.0);
    let message = case.graph.restore(window.shift, &window, counter, out).expect_err("too few").to_string();
    assert_eq!(message, "restore: `window.shift` has shape [3, 3], expected 3 x 5 x 2 elements");
    let prediction = case.input("prediction", &[2, 15], -1.0, 1.0);
    let message = case.graph.restore(prediction, &window, counter, out).expect_err("an item begins within a row").to_string();
    assert_eq!(message, "restore: `prediction` has shape [2, 15], expected 3 x 5 x 2 elements, each item in rows of its own");
}

#[test]
fn a_series_that_cannot_be_bound_as_a_whole() {
    for normalisation in NORMALISATIONS {
        for starts in [[0, 700, 1974], [660, 661, 1300]] {
            let mut case = Case::new(format!("window of 20 at {starts:?}, {normalisation:?}"));
            case.limit_binding(8 << 10);
            let source = WindowSource {
                series: case.input("series", &[2000, 3], -1.0, 1.0),
                starts: case.indices("starts", &[1, 3], starts.to_vec()),
                targets: case.indices("targets", &[2], vec![2, 0]),
                counter: case.indices("counter", &[2], vec![0, 0]),
                n_step: 20,
                horizon: 6,
                normalisation,
            };
            let window = case.graph.window("window", &source).expect("shapes fit");
            case.check_values(&[window.x, window.y, window.shift, window.scale]);
        }
    }
}

#[test]
fn a_batch_and_its_items_that_cannot_be_bound_as_a_whole() {
    let (n_batch, n_step, horizon, n_item) = (40, 20, 5, 100);
    let mut case = Case::new("window, restore and rescale");
    case.limit_binding(1 << 10);
    let source = WindowSource {
        series: case.input("series", &[70, 3], -1.0, 1.0),
        starts: case.indices("starts", &[2, n_batch], (0..2 * n_batch as u32).map(|index| 7 * index % 45).collect()),
        targets: case.indices("targets", &[2], vec![2, 0]),
        counter: case.indices("counter", &[2], vec![1, 1]),
        n_step,
        horizon,
        normalisation: Normalisation::MeanStd,
    };
    let window = case.graph.window("window", &source).expect("shapes fit");
    let prediction = case.variable("prediction", &[n_batch, horizon, 2], -1.0, 1.0);
    let out = case.values("out", &[n_item, horizon, 2], vec![-1.0; n_item * horizon * 2]);
    case.graph.restore(prediction, &window, source.counter, out).expect("shapes fit");
    let scaled = case.graph.rescale("scaled", prediction, &window, Rescaling::Root).expect("shapes fit");
    case.check_with(&[scaled], &[window.x, window.y, window.shift, window.scale, out]);
}
