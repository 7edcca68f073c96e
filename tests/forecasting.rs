//! Forecasts of several steps, targets and quantiles, from several series; a linear skip; a training that stops and goes on.

mod common;

use std::ops::ControlFlow;

use common::{Setting, devices, turn};
use scanrnn::backend::Backend;
use scanrnn::cpu::Cpu;
use scanrnn::dataset::Starts;
use scanrnn::model::{ForecasterConfig, ModelKind, StepGraph, WindowGraph, initial_values};
use scanrnn::ops::{Loss, Normalisation, Optimizer};
use scanrnn::reference::Reference;
use scanrnn::schedule::Schedule;
use scanrnn::train::{Evaluator, Fit, LossUnits, Outcome, Series, Shuffle, TrainState, Trainer, TrainingConfig};

const WINDOW: usize = 12;
const HORIZON: usize = 5;
/// Rows of each of two series.
const N_ROW: usize = 120;

/// Two series of two targets and a covariate, one below the other.
fn values() -> Vec<f32> {
    let row = |row: usize| {
        let t = row as f32;
        [(t / 4.0).sin() + t / 200.0, (t / 3.0).cos() * (1.0 + t / 100.0), (t / 12.0).sin()]
    };
    (0..2 * N_ROW).flat_map(row).collect()
}

fn series(values: &[f32]) -> Series<'_> {
    let last = N_ROW - WINDOW - HORIZON + 1;
    let of = |from: usize, to: usize| Starts::new([from..to, N_ROW + from..N_ROW + to]);
    Series { values, train: of(0, 64), valid: of(64, 84), test: of(84, last) }
}

fn model(kind: ModelKind) -> ForecasterConfig {
    ForecasterConfig { features: 3, targets: 2, horizon: HORIZON, d_state: 4, ..ForecasterConfig::new(kind, 6) }
}

fn config() -> TrainingConfig {
    TrainingConfig {
        window: WINDOW,
        batch: 16,
        epochs: 3,
        optimizer: Optimizer::adam_w(0.01),
        learning_rate: 3e-3,
        normalisation: Normalisation::MeanStd,
        loss_units: LossUnits::Balanced,
        shuffle: Shuffle::Epoch,
        ..TrainingConfig::lab(ModelKind::MinGru)
    }
}

fn fit(model: &ForecasterConfig, config: &TrainingConfig, backend: &dyn Backend) -> Fit {
    let _turn = turn();
    let values = values();
    let trainer = Trainer::new(model, config, &series(&values)).expect("fits");
    pollster::block_on(trainer.fit(backend, &series(&values), &mut |_| ())).expect("trains")
}

/// Forecasters that differ in how the targets reach them.
fn layouts(kind: ModelKind) -> Vec<ForecasterConfig> {
    let mixed = model(kind);
    let skip = ForecasterConfig { linear_skip: Some(WINDOW), ..mixed.clone() };
    let independent = ForecasterConfig { independent: true, ..mixed.clone() };
    let own = ForecasterConfig { own_skip: true, independent: true, ..skip.clone() };
    vec![mixed, skip, independent, own]
}

#[test]
fn every_layout_trains_the_same_on_every_device() {
    for kind in [ModelKind::MinGruScan, ModelKind::Mamba] {
        for model in layouts(kind) {
            for loss_units in [LossUnits::Series, LossUnits::Balanced] {
                let config = TrainingConfig { loss_units, epochs: 2, ..config() };
                let want = fit(&model, &config, &Reference::<f32>::new());
                for device in devices(Setting::default()) {
                    let got = fit(&model, &config, device);
                    let same = got.losses.iter().zip(&want.losses).all(|(got, want)| (got - want).abs() <= 1e-3 * (1e-2 + want.abs()));
                    assert!(same, "{model:?} on {}: {:?} is not {:?}", device.name(), got.losses, want.losses);
                }
            }
        }
    }
}

#[test]
fn a_linear_skip_starts_at_the_windows_mean_and_learns_a_linear_series() {
    let _turn = turn();
    let values = values();
    let skip = ForecasterConfig { linear_skip: Some(WINDOW), independent: true, ..model(ModelKind::MinGruScan) };
    let series = series(&values);
    let evaluator = Evaluator::new(&skip, &config(), &series).expect("fits");
    let first: Vec<_> = initial_values(evaluator.graph(), 0).into_iter().map(|(_, values)| values).collect();
    let forecasts = pollster::block_on(evaluator.forecast(&Cpu, &series, &series.test, &first)).expect("forecasts");
    for (start, forecast) in series.test.iter().zip(forecasts.chunks(HORIZON * 2)) {
        for (index, forecast) in forecast.iter().enumerate() {
            let mean = (0..WINDOW).map(|step| values[3 * (start + step) + index % 2]).sum::<f32>() / WINDOW as f32;
            assert!((forecast - mean).abs() < 1e-5, "{forecast} is not {mean}");
        }
    }
    let config = TrainingConfig { epochs: 60, learning_rate: 1e-2, ..config() };
    let trainer = Trainer::new(&skip, &config, &series).expect("fits");
    let fit = pollster::block_on(trainer.fit(&Cpu, &series, &mut |_| ())).expect("trains");
    assert!(fit.metrics.mse < 0.1 * fit.epochs[0].valid_mse, "{:?}", fit.metrics);
}

#[test]
fn windows_of_several_series_are_those_of_each_series_alone() {
    let _turn = turn();
    let values = values();
    let (both, model) = (series(&values), model(ModelKind::MinGru));
    let evaluator = Evaluator::new(&model, &config(), &both).expect("fits");
    let parameters: Vec<_> = initial_values(evaluator.graph(), 3).into_iter().map(|(_, values)| values).collect();
    for device in devices(Setting::default()) {
        let all = pollster::block_on(evaluator.forecast(device, &both, &both.test, &parameters)).expect("forecasts");
        let mut alone = Vec::new();
        for range in both.test.ranges() {
            let starts = Starts::from(range.clone());
            alone.extend(pollster::block_on(evaluator.forecast(device, &both, &starts, &parameters)).expect("forecasts"));
        }
        assert_eq!(all, alone, "{}", device.name());
        assert_eq!(all.len(), both.test.len() * HORIZON * 2);
    }
    let past = Series { test: Starts::from(0..2 * N_ROW - WINDOW - HORIZON + 2), ..both };
    let message = Trainer::new(&model, &config(), &past).expect_err("refused").to_string();
    assert!(message.contains("at least 241 rows"), "{message}");
}

#[test]
fn quantiles_never_cross_wherever_they_are_forecast() {
    let _turn = turn();
    let values = values();
    let series = series(&values);
    let loss = Loss::Quantile { levels: vec![0.1, 0.5, 0.9] };
    let config = TrainingConfig { loss, ..config() };
    for model in layouts(ModelKind::MinGruScan) {
        let model = ForecasterConfig { levels: 3, ..model };
        let evaluator = Evaluator::new(&model, &config, &series).expect("fits");
        // untrained quantiles lie in any order
        let parameters: Vec<Vec<f32>> = initial_values(evaluator.graph(), 5)
            .iter()
            .map(|(_, values)| (0..values.len()).map(|i| (i as f32 * 0.7).sin()).collect())
            .collect();
        let forecasts = pollster::block_on(evaluator.forecast(&Cpu, &series, &series.valid, &parameters)).expect("forecasts");
        assert!(forecasts.chunks(3).all(|levels| levels.is_sorted()));
        assert!(forecasts.chunks(3).any(|levels| levels[0] < levels[2]));

        let windows = WindowGraph::new(&model, WINDOW, config.normalisation).expect("fits");
        let mut stream = pollster::block_on(windows.load(&Cpu, &parameters)).expect("loads");
        let start = series.valid.get(0).expect("a window");
        let mut last = None;
        for row in start..start + WINDOW {
            last = pollster::block_on(stream.step(&values[3 * row..3 * row + 3])).expect("forecasts");
        }
        let got = last.expect("a full window");
        let close = got.iter().zip(&forecasts).all(|(a, b)| (a - b).abs() <= 1e-5 * (1.0 + b.abs()));
        assert!(close, "{got:?} is not {:?}", &forecasts[..got.len()]);
    }
    let descending = TrainingConfig { loss: Loss::Quantile { levels: vec![0.9, 0.1] }, ..config };
    assert!(descending.check().expect_err("refused").to_string().contains("each must be greater than the one before"));
}

#[test]
fn what_needs_whole_windows_is_refused_step_by_step() {
    for (model, what) in layouts(ModelKind::MinGru).into_iter().zip(["", "linear skip", "independent targets", "linear skip"]) {
        let refused = StepGraph::new(&model, 1).err().map(|error| error.to_string());
        assert_eq!(refused.is_some(), !what.is_empty());
        assert!(refused.unwrap_or_default().contains(what));
    }
    let values = values();
    let one = Series::new(&values, 0..64, 64..84);
    let carried = TrainingConfig { carry_state: true, normalisation: Normalisation::None, shuffle: Shuffle::Once, batch: 2, ..config() };
    let message = |model: &ForecasterConfig, config: &TrainingConfig, series: &Series<'_>| {
        Trainer::new(model, config, series).expect_err("refused").to_string()
    };
    let [mixed, skip, ..] = &layouts(ModelKind::MinGru)[..] else { panic!("four layouts") };
    assert!(message(skip, &carried, &one).contains("--linear-skip"));
    assert!(message(mixed, &carried, &series(&values)).contains("one series"));
    assert!(message(mixed, &TrainingConfig { shuffle: Shuffle::Epoch, ..carried }, &one).contains("--shuffle once"));
    let longer = ForecasterConfig { linear_skip: Some(13), ..mixed.clone() };
    assert!(message(&longer, &config(), &one).contains("must be 12"));
}

#[test]
fn an_interrupted_training_goes_on_with_the_same_bits() {
    let _turn = turn();
    let values = values();
    let series = series(&values);
    let own = layouts(ModelKind::MinGruScan).swap_remove(3);
    let stopping = TrainingConfig {
        epochs: 12,
        patience: Some(2),
        dropout: 0.2,
        learning_rate: 0.05,
        schedule: Schedule::Plateau { factor: 0.5, patience: 1, min_rate: 0.0 },
        ..config()
    };
    let cosine = TrainingConfig { schedule: Schedule::Cosine { warmup_steps: 3, min_rate: 0.0 }, ..config() };
    let two = |model: ForecasterConfig| ForecasterConfig { layers: 2, ..model };
    for (model, config) in [(two(own), stopping), (model(ModelKind::Mamba), cosine)] {
        let trainer = Trainer::new(&model, &config, &series).expect("fits");
        for device in devices(Setting::default()) {
            let want = pollster::block_on(trainer.fit(device, &series, &mut |_| ())).expect("trains");
            // stops after some steps, and after an epoch, each time in a process that knows the file alone
            for n_event in [1, 3, 12, 13, 25] {
                let mut left = n_event;
                let mut observe = |_| {
                    left -= 1;
                    if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                };
                let outcome = pollster::block_on(trainer.fit_from(device, &series, None, &mut observe)).expect("trains");
                let Outcome::Stopped(state) = outcome else { panic!("not stopped after {n_event} events") };
                let state = TrainState::parse("memory", &state.to_bytes().expect("written")).expect("read");
                let on = pollster::block_on(trainer.fit_from(device, &series, Some(&state), &mut |_| ControlFlow::Continue(())));
                let Ok(Outcome::Finished(got)) = on else { panic!("not finished") };
                let what = format!("{} events on {}", n_event, device.name());
                assert_eq!(got.losses, want.losses, "{what}");
                assert_eq!(got.epochs, want.epochs, "{what}");
                assert_eq!(got.parameters, want.parameters, "{what}");
                assert_eq!(got.forecasts, want.forecasts, "{what}");
                assert_eq!((got.best_epoch, got.steps, got.metrics), (want.best_epoch, want.steps, want.metrics), "{what}");
            }
        }
    }
}

#[test]
fn a_state_of_another_training_is_refused() {
    let values = values();
    let series = series(&values);
    let model = model(ModelKind::MinGru);
    let trainer = Trainer::new(&model, &config(), &series).expect("fits");
    let stopped = pollster::block_on(trainer.fit_from(&Cpu, &series, None, &mut |_| ControlFlow::Break(()))).expect("trains");
    let Outcome::Stopped(state) = stopped else { panic!("asked to stop") };
    let other = TrainingConfig { learning_rate: 1e-4, ..config() };
    let trainer = Trainer::new(&model, &other, &series).expect("fits");
    let refused = pollster::block_on(trainer.fit_from(&Cpu, &series, Some(&state), &mut |_| ControlFlow::Continue(())));
    assert!(refused.expect_err("refused").to_string().contains("other settings"));
    let trainer = Trainer::new(&model, &config(), &series).expect("fits");
    let mut other = series.clone();
    std::mem::swap(&mut other.train, &mut other.valid);
    assert!(trainer.check_state(&state, &other).is_err(), "other windows");
    let longer = TrainState { losses: vec![0.0; 1000], ..(*state).clone() };
    assert!(trainer.check_state(&longer, &series).expect_err("refused").to_string().contains("a number of steps"));
    let message = TrainState::parse("x.safetensors", b"nothing").expect_err("refused").to_string();
    assert!(message.contains("x.safetensors"), "{message}");
}

#[test]
fn forecasts_by_other_parameters_or_of_windows_that_are_not_there_are_refused() {
    let values = values();
    let series = series(&values);
    let trainer = Trainer::new(&model(ModelKind::MinGru), &config(), &series).expect("fits");
    let fit = pollster::block_on(trainer.fit(&Cpu, &series, &mut |_| ())).expect("trains");
    let evaluator = Evaluator::new(&model(ModelKind::MinGru), &config(), &series).expect("fits");
    let refused = |starts: &Starts, parameters: &[Vec<f32>]| {
        pollster::block_on(evaluator.forecast(&Cpu, &series, starts, parameters)).expect_err("refused").to_string()
    };
    let fewer = &fit.parameters[..fit.parameters.len() - 1];
    assert!(refused(&series.valid, fewer).contains("parameters"), "{}", refused(&series.valid, fewer));
    let beyond = Starts::from(values.len()..values.len() + 1);
    assert!(refused(&beyond, &fit.parameters).contains("at least"), "{}", refused(&beyond, &fit.parameters));
}
