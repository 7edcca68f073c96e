//! Training with every loss, optimizer, penalty and schedule; early stopping; on the CPU and the GPU.

mod common;

use common::{Setting, devices, gpu, turn};
use scanrnn::backend::Backend;
use scanrnn::cpu::Cpu;
use scanrnn::dataset::Starts;
use scanrnn::model::{ForecasterConfig, ModelKind, initial_values};
use scanrnn::ops::{Loss, Optimizer};
use scanrnn::schedule::Schedule;
use scanrnn::train::{Evaluator, Fit, Series, Shuffle, Trainer, TrainingConfig};

const WINDOW: usize = 8;
const N_ROW: usize = 140;
const N_TRAIN: usize = 96;

/// A wave that speeds up, so that what is learnt from its beginning stops helping.
fn wave() -> Vec<f32> {
    (0..N_ROW).map(|row| (row as f32 * (0.2 + row as f32 / 400.0)).sin()).collect()
}

fn series(values: &[f32]) -> Series<'_> {
    Series::new(values, 0..N_TRAIN, N_TRAIN..N_ROW - WINDOW)
}

fn config() -> TrainingConfig {
    TrainingConfig { window: WINDOW, batch: 8, epochs: 4, ..TrainingConfig::lab(ModelKind::MinGru) }
}

fn model(config: &TrainingConfig) -> ForecasterConfig {
    ForecasterConfig { levels: config.loss.columns_per_output(), ..ForecasterConfig::new(ModelKind::MinGru, 8) }
}

fn trainer(config: &TrainingConfig) -> Trainer {
    Trainer::new(&model(config), config, &series(&wave())).expect("fits")
}

fn fit(config: &TrainingConfig, backend: &dyn Backend) -> Fit {
    let _turn = turn();
    pollster::block_on(trainer(config).fit(backend, &series(&wave()), &mut |_| ())).expect("trains")
}

#[test]
fn an_epoch_has_at_most_the_steps_that_are_asked_for() {
    let all = fit(&config(), &Cpu).steps / config().epochs;
    for (most, steps) in [(3, 3), (1000, all)] {
        let fit = fit(&TrainingConfig { epoch_steps: Some(most), shuffle: Shuffle::Epoch, ..config() }, &Cpu);
        assert_eq!((fit.steps, fit.epochs.len()), (4 * steps, 4));
    }
    let message = TrainingConfig { epoch_steps: Some(0), ..config() }.check().expect_err("no step").to_string();
    assert_eq!(message, "--epoch-steps is 0: must be at least 1");
}

#[test]
fn every_loss_optimizer_and_penalty_learns_the_same_on_every_device() {
    let base = config();
    let quantiles = Loss::Quantile { levels: vec![0.1, 0.5, 0.9] };
    let configs = [
        TrainingConfig { loss: Loss::Mae, clip_norm: None, ..base.clone() },
        TrainingConfig { loss: Loss::Huber { delta: 0.5 }, clip_value: Some(0.05), ..base.clone() },
        TrainingConfig { loss: quantiles, optimizer: Optimizer::adam(0.0), learning_rate: 1e-3, ..base.clone() },
        TrainingConfig { optimizer: Optimizer::Sgd { momentum: 0.9, nesterov: true, weight_decay: 1e-4 }, ..base.clone() },
        TrainingConfig { optimizer: Optimizer::rms_prop(0.0), l1: 1e-3, ..base },
    ];
    for config in configs {
        let cpu = fit(&config, &Cpu);
        let mean = |losses: &[f32]| losses.iter().sum::<f32>() / losses.len() as f32;
        let (first, last) = (mean(&cpu.losses[..12]), mean(&cpu.losses[36..]));
        assert!(last < first, "{config:?}: {first} to {last}");
        if let Some(gpu) = gpu(Setting::default()) {
            let other = fit(&config, gpu);
            for (a, b) in cpu.losses.iter().zip(&other.losses) {
                assert!((a - b).abs() <= 1e-3 * a.abs(), "{config:?}: {a} and {b}");
            }
        }
    }
}

#[test]
fn early_stopping_restores_the_best_epoch() {
    // a step size at which validation gets worse again
    let config = TrainingConfig { epochs: 40, patience: Some(3), learning_rate: 0.3, ..config() };
    for device in devices(Setting::default()) {
        let fit = fit(&config, device);
        let losses: Vec<f64> = fit.epochs.iter().map(|score| score.valid_loss).collect();
        let best = (0..losses.len()).min_by(|&a, &b| losses[a].total_cmp(&losses[b])).expect("epochs");
        assert_eq!(fit.best_epoch, best + 1);
        assert_eq!(fit.epochs.len(), fit.best_epoch + 3, "{losses:?}");
        assert_eq!(fit.metrics.mse, fit.epochs[best].valid_mse);
        assert_eq!(fit.steps, 12 * fit.epochs.len());
        let (values, evaluator) = (wave(), Evaluator::new(&model(&config), &config, &series(&wave())).expect("fits"));
        let series = series(&values);
        let again = pollster::block_on(evaluator.forecast(device, &series, &series.valid, &fit.parameters)).expect("forecasts");
        assert_eq!(again, fit.forecasts, "{}", device.name());
    }
}

#[test]
fn a_gain_that_may_be_chance_keeps_the_start() {
    let config = TrainingConfig { epochs: 3, patience: Some(3), learning_rate: 1e-6, ..config() };
    let trainer = trainer(&config);
    for device in devices(Setting::default()) {
        let fit = fit(&config, device);
        assert!(fit.epochs[2].valid_loss < fit.epochs[0].valid_loss, "it learns: {:?}", fit.epochs);
        assert_eq!(fit.best_epoch, 0, "{}", device.name());
        for ((_, start), kept) in initial_values(trainer.graph(), config.seed).iter().zip(&fit.parameters) {
            assert_eq!(start, kept, "{}", device.name());
        }
    }
}

#[test]
fn a_linear_skip_learns_at_a_tenth_of_the_rate() {
    let config = TrainingConfig { epochs: 1, epoch_steps: Some(1), optimizer: Optimizer::sgd(0.0), clip_norm: None, ..config() };
    let model = ForecasterConfig { linear_skip: Some(WINDOW), ..model(&config) };
    let trainer = Trainer::new(&model, &config, &series(&wave())).expect("fits");
    for device in devices(Setting::default()) {
        let _turn = turn();
        let fit = pollster::block_on(trainer.fit(device, &series(&wave()), &mut |_| ())).expect("trains");
        // both begin at 0 and are added to the forecast
        let bias = |name: &str| trainer.graph().parameters().iter().zip(&fit.parameters).find(|(p, _)| p.name == name).expect("there").1[0];
        let (head, skip) = (bias("head.bias"), bias("skip.bias"));
        assert!(head != 0.0 && (skip / head - 0.1).abs() < 1e-5, "{}: {head}, {skip}", device.name());
    }
}

#[test]
fn without_patience_the_last_epoch_is_kept() {
    let fit = fit(&TrainingConfig { learning_rate: 0.3, epochs: 8, ..config() }, &Cpu);
    assert_eq!((fit.best_epoch, fit.epochs.len()), (8, 8));
    assert_eq!(fit.metrics.mse, fit.epochs[7].valid_mse);
}

#[test]
fn an_l1_penalty_shrinks_weights_and_leaves_biases() {
    let penalised = TrainingConfig { l1: 1.0, learning_rate: 1e-3, epochs: 1, clip_norm: None, ..config() };
    let plain = TrainingConfig { l1: 0.0, ..penalised.clone() };
    let trainer = trainer(&plain);
    let (with, without) = (fit(&penalised, &Cpu), fit(&plain, &Cpu));
    let size = |fit: &Fit, name: &str| {
        let index = trainer.graph().parameters().iter().position(|parameter| parameter.name == name).expect(name);
        fit.parameters[index].iter().map(|value| value.abs()).sum::<f32>()
    };
    for name in ["layers.0.W_z", "layers.0.U_h", "head.weight"] {
        assert!(size(&with, name) < size(&without, name), "{name}");
    }
    // 12 steps would move each of 8 values by 12 * 1e-3
    let difference = (size(&with, "layers.0.b_z") - size(&without, "layers.0.b_z")).abs();
    assert!(difference < 1e-2 * 8.0 * 12.0 * 1e-3, "{difference}");
}

#[test]
fn quantiles_have_a_column_each_and_scores_use_the_median() {
    let config = TrainingConfig { loss: Loss::Quantile { levels: vec![0.1, 0.5, 0.9] }, epochs: 10, ..config() };
    let (trainer, values) = (trainer(&config), wave());
    let fit = fit(&config, &Cpu);
    let valid = series(&values).valid;
    assert_eq!(fit.forecasts.len(), 3 * valid.len());
    let central = trainer.central(&fit.forecasts);
    assert_eq!(central, fit.forecasts.chunks(3).map(|levels| levels[1]).collect::<Vec<_>>());
    let errors = central.iter().zip(valid.iter()).map(|(forecast, start)| f64::from(*forecast) - f64::from(values[start + WINDOW]));
    let mse = errors.map(|error| error * error).sum::<f64>() / valid.len() as f64;
    assert!((fit.metrics.mse - mse).abs() < 1e-12);
    let wrong = ForecasterConfig::new(ModelKind::MinGru, 8);
    let message = Trainer::new(&wrong, &config, &series(&values)).expect_err("refused").to_string();
    assert_eq!(message, "levels is 1: must be 3, the levels of the loss");
}

#[test]
fn schedules_set_the_rate_of_every_step() {
    let cosine = TrainingConfig { schedule: Schedule::Cosine { warmup_steps: 12, min_rate: 0.0 }, ..config() };
    let rates = |config: &TrainingConfig| -> Vec<f32> { fit(config, &Cpu).epochs.iter().map(|score| score.learning_rate).collect() };
    // 48 steps: the rise ends with the first epoch; the cosine's last step is one short of its end
    let want = [0.01f64 * 12.0 / 13.0, 0.01 * 0.5 * (1.0 + (std::f64::consts::PI * 11.0 / 36.0).cos())];
    for (got, want) in rates(&cosine).iter().zip(want) {
        assert!((f64::from(*got) - want).abs() < 1e-9, "{got} is not {want}");
    }
    let plateau = Schedule::Plateau { factor: 0.5, patience: 1, min_rate: 0.0 };
    let rates = rates(&TrainingConfig { schedule: plateau, learning_rate: 0.3, epochs: 20, ..config() });
    assert!(rates[0] == 0.3 && rates[19] < 0.3, "{rates:?}");
    assert!(rates.windows(2).all(|pair| pair[1] == pair[0] || pair[1] == 0.5 * pair[0]), "{rates:?}");
}

#[test]
fn settings_beyond_any_count_are_refused() {
    let values = wave();
    let message = |config: TrainingConfig| {
        let model = ForecasterConfig::new(ModelKind::MinGru, 8);
        Trainer::new(&model, &config, &series(&values)).expect_err("refused").to_string()
    };
    let most = u32::MAX as usize;
    for (config, option) in [
        (TrainingConfig { window: usize::MAX, ..config() }, "--window"),
        (TrainingConfig { batch: usize::MAX, ..config() }, "--batch"),
        (TrainingConfig { epochs: usize::MAX, ..config() }, "--epochs"),
    ] {
        assert_eq!(message(config), format!("{option} is {}: must be at most {most}", usize::MAX));
    }
    assert!(message(TrainingConfig { window: most, ..config() }).starts_with("training: `series` has shape [140]"));
    assert_eq!(message(TrainingConfig { epochs: most, ..config() }), format!("--epochs is {most}: must be at most {}", (1 << 24) / 12));
    let fit = fit(&TrainingConfig { patience: Some(usize::MAX), epoch_steps: Some(usize::MAX), ..config() }, &Cpu);
    assert_eq!(fit.epochs.len(), 4);
    let model = ForecasterConfig { expand: usize::MAX, ..ForecasterConfig::new(ModelKind::Mamba, 8) };
    assert!(model.check().expect_err("refused").to_string().starts_with("--expand is"));
    let model = ForecasterConfig { horizon: usize::MAX, ..ForecasterConfig::new(ModelKind::MinGru, 8) };
    assert!(Trainer::new(&model, &config(), &series(&values)).is_err());
}

#[test]
fn windows_that_the_series_does_not_have_are_not_scored() {
    let (values, trainer) = (wave(), trainer(&config()));
    let series = series(&values);
    let (inside, beyond) = (Starts::from(0..N_ROW - WINDOW), Starts::from(0..N_ROW - WINDOW + 1));
    let forecasts = vec![0.0; inside.len()];
    assert!(trainer.persistence(&inside, &series).is_ok() && trainer.persistence(&beyond, &series).is_err());
    assert!(trainer.score(&forecasts, &inside, &series).is_ok() && trainer.loss(&forecasts, &inside, &series).is_ok());
    let longer = vec![0.0; beyond.len()];
    for (forecasts, windows) in [(&longer, &beyond), (&longer, &inside), (&forecasts[1..].to_vec(), &inside)] {
        assert!(trainer.score(forecasts, windows, &series).is_err());
        assert!(trainer.loss(forecasts, windows, &series).is_err());
    }
}
