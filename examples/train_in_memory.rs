//! Trains a forecaster on a series made in memory: no file is read or written.
//!
//! `cargo run --release --example train_in_memory`, or with `gpu` behind `--` for any GPU.
#![allow(clippy::print_stdout, reason = "an example's output")]

use std::error::Error;

use scanrnn::backend::Backend;
use scanrnn::cpu::Cpu;
use scanrnn::gpu::{Gpu, Selection};
use scanrnn::model::{ForecasterConfig, ModelKind};
use scanrnn::ops::Optimizer;
use scanrnn::train::{Event, Series, Trainer, TrainingConfig};

const N_ROW: usize = 600;
const WINDOW: usize = 24;

/// Trains; an error where the forecasts are no better than repeating the last value.
pub fn main() -> Result<(), Box<dyn Error>> {
    let wants_gpu = std::env::args().any(|argument| argument == "gpu");
    let backend: Box<dyn Backend> = if wants_gpu { Box::new(pollster::block_on(Gpu::open(&Selection::Any))?) } else { Box::new(Cpu) };
    println!("{}", backend.name());

    // two features a row: a wave to forecast and the one that drives it, a quarter period ahead
    let wave = |row: usize| [(0.31 * row as f32).sin(), (0.31 * row as f32).cos()];
    let values: Vec<f32> = (0..N_ROW).flat_map(wave).collect();
    let n_window = N_ROW - WINDOW;
    let n_train = 8 * n_window / 10;
    let series = Series::new(&values, 0..n_train, n_train..n_window);

    let model = ForecasterConfig { features: 2, ..ForecasterConfig::new(ModelKind::Mamba, 16) };
    let training = TrainingConfig {
        window: WINDOW,
        batch: 16,
        optimizer: Optimizer::adam(0.0),
        learning_rate: 3e-3,
        epochs: 6,
        patience: Some(3),
        ..TrainingConfig::lab(ModelKind::Mamba)
    };
    let trainer = Trainer::new(&model, &training, &series)?;
    let mut observe = |event| {
        if let Event::Epoch { epoch, score } = event {
            println!("epoch {epoch}: training MSE {:.2e}, validation MSE {:.2e}", score.train_mse, score.valid_mse);
        }
    };
    let fit = pollster::block_on(trainer.fit(&*backend, &series, &mut observe))?;
    let persistence = trainer.persistence(&series.valid, &series)?;
    println!("validation MSE {:.2e} of epoch {}; repeating the last value: {:.2e}", fit.metrics.mse, fit.best_epoch, persistence.mse);
    if fit.metrics.mse < persistence.mse { Ok(()) } else { Err("the forecaster has learnt nothing".into()) }
}
