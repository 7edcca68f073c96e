//! Options of training that concern what passes between windows and layers.

mod common;

use common::{Setting, devices, turn};
use scanrnn::backend::Backend;
use scanrnn::cpu::Cpu;
use scanrnn::dataset::Starts;
use scanrnn::graph::Graph;
use scanrnn::model::{Forecaster, ForecasterConfig, ModelKind, Pass, initial_values};
use scanrnn::ops::Normalisation;
use scanrnn::reference::Reference;
use scanrnn::train::{Evaluator, Fit, Series, Trainer, TrainingConfig};

const N_ROW: usize = 330;
const WINDOW: usize = 5;
const BATCH: usize = 3;
const N_TRAIN: usize = 100;
/// So many validation windows need a walk of several runs.
const N_VALID: usize = N_ROW - N_TRAIN - WINDOW;

fn values() -> Vec<f32> {
    (0..N_ROW).map(|row| 0.5 + 0.3 * (row as f32 / 7.0).sin() + 0.1 * (row as f32 / 3.0).cos()).collect()
}

fn config(model: ModelKind) -> TrainingConfig {
    TrainingConfig { window: WINDOW, batch: BATCH, epochs: 2, normalisation: Normalisation::None, ..TrainingConfig::lab(model) }
}

fn fit(model: &ForecasterConfig, config: &TrainingConfig, backend: &dyn Backend) -> Fit {
    let _turn = turn();
    let values = values();
    let series = Series::new(&values, 0..N_TRAIN, N_TRAIN..N_TRAIN + N_VALID);
    let trainer = Trainer::new(model, config, &series).expect("settings fit");
    pollster::block_on(trainer.fit(backend, &series, &mut |_| {})).expect("trained")
}

/// Forecasts of the untrained model after each row, begun at a row.
fn every_step(model: &ForecasterConfig, first: usize) -> Vec<f32> {
    let mut graph = Graph::new();
    let forecaster = Forecaster::new(&mut graph, model).expect("sizes fit");
    let parameters = initial_values(&graph, 0);
    let x = graph.input("x", &[1, N_ROW - first, 1]);
    let y = forecaster.every_step(&mut graph, x, &Pass::default()).expect("shapes fit").y;
    let program = graph.finish("every step");
    pollster::block_on(async {
        let backend = Reference::<f32>::new();
        let mut session = backend.load(&graph).await?;
        for (tensor, values) in parameters {
            session.write(tensor, &values)?;
        }
        session.write(x, &values()[first..])?;
        session.run(program, 1)?;
        session.read(y).await
    })
    .expect("forecast")
}

fn close(got: f32, want: f32) -> bool {
    (got - want).abs() <= 64.0 * f32::EPSILON * (1.0 + want.abs())
}

/// With a learning rate that changes nothing, every forecast of a walk is that of one long sequence.
#[test]
fn carried_states_are_those_of_the_whole_sequence() {
    for (kind, epoch_steps) in ModelKind::LINEAR.into_iter().flat_map(|kind| [(kind, None), (kind, Some(2))]) {
        let model = ForecasterConfig { layers: 2, d_state: 4, ..ForecasterConfig::new(kind, 6) };
        let config = TrainingConfig { carry_state: true, learning_rate: 1e-30, epoch_steps, ..config(kind) };
        for device in devices(Setting::default()) {
            let Fit { forecasts, losses, steps, .. } = fit(&model, &config, device);
            let what = format!("{kind} on {}", device.name());

            // The walk through 229 rows takes two runs, of 115 rows each.
            let want = every_step(&model, N_TRAIN - 1);
            assert_eq!(forecasts.len(), N_VALID);
            for (window, &got) in forecasts.iter().enumerate() {
                let want = want[window + WINDOW];
                assert!(close(got, want), "{what}: validation window {window}: {got} is not {want}");
            }

            let n_row = N_TRAIN / BATCH;
            let per_epoch = n_row / WINDOW;
            let most = epoch_steps.unwrap_or(per_epoch);
            assert_eq!(steps, 2 * most);
            // what an epoch leaves out is the oldest part of each stretch
            let left_out = (per_epoch - most) * WINDOW;
            let mut offsets = Vec::new();
            for epoch in losses.chunks(most) {
                let begun = (left_out..left_out + WINDOW).find(|offset| {
                    let rows: Vec<_> = (0..BATCH).map(|row| (row * n_row + offset, every_step(&model, row * n_row + offset))).collect();
                    epoch.iter().enumerate().all(|(step, &loss)| {
                        let error = |(first, forecasts): &(usize, Vec<f32>)| {
                            let after = step * WINDOW + WINDOW;
                            (forecasts[after - 1] - values()[first + after]).powi(2)
                        };
                        close(loss, rows.iter().map(error).sum::<f32>() / BATCH as f32)
                    })
                });
                offsets.push(begun.unwrap_or_else(|| panic!("{what}: no walk has the losses {epoch:?}")));
            }
        }
    }
}

/// A walk's runs are equally long: where no rows lie before its first window, those behind its last are walked, too.
#[test]
fn a_walk_may_begin_with_the_series() {
    let model = ForecasterConfig::new(ModelKind::MinGruScan, 6);
    let config = TrainingConfig { carry_state: true, ..config(ModelKind::MinGruScan) };
    let values = values();
    let series = Series::new(&values, 0..N_TRAIN, N_TRAIN..N_TRAIN + N_VALID);
    let evaluator = Evaluator::new(&model, &config, &series).expect("settings fit");
    let parameters: Vec<_> = initial_values(evaluator.graph(), 0).into_iter().map(|(_, values)| values).collect();
    let forecast = |starts: Starts| pollster::block_on(evaluator.forecast(&Cpu, &series, &starts, &parameters));
    let want = every_step(&model, 0);
    // in the second case there are no rows left behind the last window, either
    for n_window in [20, N_ROW - WINDOW] {
        let got = forecast(Starts::from(0..n_window)).expect("forecasts");
        assert_eq!(got.len(), n_window);
        assert!(got.iter().zip(&want[WINDOW - 1..]).all(|(&got, &want)| close(got, want)), "{got:?}");
    }
}

#[test]
fn dropout_has_the_same_masks_on_every_device() {
    for kind in ModelKind::ALL {
        let model = ForecasterConfig { layers: 3, d_state: 4, heads: 3, ..ForecasterConfig::new(kind, 6) };
        let config = TrainingConfig { dropout: 0.4, ..config(kind) };
        let want = fit(&model, &config, &Reference::<f32>::new()).losses;
        let without = fit(&model, &TrainingConfig { dropout: 0.0, ..config.clone() }, &Cpu).losses;
        assert!(want.iter().zip(&without).any(|(a, b)| a != b), "{kind}");
        for device in devices(Setting::default()) {
            let got = fit(&model, &config, device).losses;
            let same = got.iter().zip(&want).all(|(got, want)| (got - want).abs() <= 1e-4 * (1e-2 + want.abs()));
            assert!(same, "{kind} on {}: {got:?} is not {want:?}", device.name());
        }
    }
}

#[test]
fn settings_that_a_model_does_not_allow_are_refused() {
    let model = ForecasterConfig::new(ModelKind::Mamba, 6);
    let refusal = |model: &ForecasterConfig, config: &TrainingConfig| {
        let values = values();
        let series = Series::new(&values, 0..N_TRAIN, N_TRAIN..N_TRAIN + N_VALID);
        Trainer::new(model, config, &series).expect_err("refused").to_string()
    };
    let carried = TrainingConfig { carry_state: true, ..config(ModelKind::Mamba) };
    let last = TrainingConfig { normalisation: Normalisation::Last, ..carried.clone() };
    assert!(refusal(&model, &last).contains("--window-norm none"));
    let hybrid = ForecasterConfig { heads: 3, ..ForecasterConfig::new(ModelKind::Hybrid, 6) };
    assert!(refusal(&hybrid, &carried).contains("--carry-state"));
    let both = ForecasterConfig { bidirectional: true, ..model.clone() };
    assert!(refusal(&both, &carried).contains("--bidirectional"));
    assert!(refusal(&model, &TrainingConfig { batch: 30, ..carried.clone() }).contains("--window 5"));
    assert!(refusal(&model, &TrainingConfig { dropout: 0.5, ..config(ModelKind::Mamba) }).contains("--layers 2"));
    assert!(refusal(&model, &TrainingConfig { dropout: 1.0, ..config(ModelKind::Mamba) }).contains("below 1"));
}
