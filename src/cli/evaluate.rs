//! `evaluate`: a checkpoint scored on a series.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use super::data::{DataArgs, series};
use super::device::{Device, DeviceArgs};
use super::scores;
use crate::checkpoint::Checkpoint;
use crate::dataset::Windows;
use crate::error::Result;
use crate::train::Trainer;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The checkpoint that `train` wrote
    #[arg(long, value_name = "FILE")]
    checkpoint: PathBuf,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    data: DataArgs,
    /// Write the scores as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

pub async fn run(args: &Args) -> Result<ExitCode> {
    if let Some(path) = &args.json {
        crate::file::check_writable(path)?;
    }
    let place = args.checkpoint.display().to_string();
    let Checkpoint { description, tensors } = super::read_checkpoint(&args.checkpoint)?;
    let (model, training) = (&description.model, &description.training);
    println!("checkpoint: {} with window {} and hidden {}, trained on {}", model.model, training.window, model.hidden, description.source);
    let table = args.data.table(".".into(), training.seed)?;
    let split = table.split(training.window, model.horizon, super::data::TRAINING_SHARE)?;
    let windows = Windows::with_scalers(&table, description.scalers.clone(), split)?;
    let device = Device::open(&args.device).await?;
    println!("{}", device.announcement(&args.device.device));
    let series = series(&windows);
    let trainer = Trainer::new(model, training, &series)?;
    let parameters = tensors.parameters(&place, trainer.graph())?;
    let forecasts = trainer.forecast(device.backend(), &series, &series.valid, &parameters).await?;
    let metrics = trainer.score(&forecasts, &series.valid, &series);
    let persistence = trainer.persistence(&series.valid, &series);
    println!("\n{}", scores::table(&[(model.model.name(), metrics)], &persistence, &table, &windows));
    if let Some(path) = &args.json {
        let figures = json!({
            "device": device.kind(),
            "adapter": device.backend().name(),
            "model": model.model,
            "metrics": metrics,
            "persistence": persistence,
        });
        super::save_json(path, &figures)?;
    }
    Ok(ExitCode::SUCCESS)
}
