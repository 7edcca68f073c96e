//! `train`: one model, saved as a checkpoint.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use super::data::{DataArgs, series, windows};
use super::device::{Device, DeviceArgs};
use super::progress::Progress;
use super::scores;
use super::training::TrainingArgs;
use crate::checkpoint::{Checkpoint, Description};
use crate::error::Result;
use crate::model::ModelKind;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Model: min-gru, min-gru-scan, mamba-lab or mamba
    #[arg(long)]
    model: ModelKind,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    data: DataArgs,
    /// Where the checkpoint is written [default: MODEL.safetensors]
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    // last: its heading would be that of whatever follows
    #[command(flatten)]
    training: TrainingArgs,
}

pub async fn run(args: &Args) -> Result<ExitCode> {
    let path = args.checkpoint.clone().unwrap_or_else(|| format!("{}.safetensors", args.model).into());
    crate::file::check_writable(&path)?;
    args.training.check(args.model)?;
    let table = args.data.table(".".into(), args.training.seed)?;
    let windows = windows(&table, args.training.window, 1)?;
    let device = Device::open(&args.device).await?;
    println!("{}", device.announcement(&args.device.device));
    let trainer = args.training.trainer(args.model, &windows)?;
    let series = series(&windows);
    let progress = Progress::new(format!("{} on {}", args.model, device.backend().name()));
    let fit = trainer.fit(device.backend(), &series, &mut |event| progress.observe(event, Some(args.model.name()))).await;
    progress.finish();
    let fit = fit?;
    let description = Description {
        model: args.training.model(args.model),
        training: args.training.config(args.model)?,
        columns: table.names().to_vec(),
        scalers: windows.scalers().to_vec(),
        source: table.source().to_string(),
    };
    let bytes = Checkpoint::new(description, trainer.graph(), &fit.parameters).to_bytes()?;
    crate::file::save(&path, |writer| writer.write_all(&bytes))?;
    let persistence = trainer.persistence(series.valid.clone(), &series);
    print!("\n{}", scores::table(&[(args.model.name(), fit.metrics)], &persistence, &table, &windows));
    println!("{}", scores::remarks(args.model.name(), &trainer, &fit, &series));
    println!("checkpoint: {}", path.display());
    Ok(ExitCode::SUCCESS)
}
