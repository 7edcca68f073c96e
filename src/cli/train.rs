//! `train`: one model, saved as a checkpoint.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::data::{DataArgs, series, windows};
use super::device::{Device, DeviceArgs};
use super::progress::Progress;
use super::scores;
use super::training::TrainingArgs;
use crate::checkpoint::{Checkpoint, Description, Tensors};
use crate::error::{Error, Result};
use crate::model::ModelKind;
use crate::published::read_backbone;
use crate::train::Trainer;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Model: min-gru, min-gru-scan, mamba-lab, mamba or hybrid
    #[arg(long)]
    model: ModelKind,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    data: DataArgs,
    /// Where the checkpoint is written [default: MODEL.safetensors]
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// Start the backbone of mamba from a checkpoint with published names (safetensors); input and head are drawn as ever
    #[arg(long, value_name = "FILE")]
    init_from: Option<PathBuf>,
    // last: its heading would be that of whatever follows
    #[command(flatten)]
    training: TrainingArgs,
}

pub async fn run(args: &Args) -> Result<ExitCode> {
    let path = args.checkpoint.clone().unwrap_or_else(|| format!("{}.safetensors", args.model).into());
    crate::file::check_writable(&path)?;
    args.training.check(args.model)?;
    if args.init_from.is_some() && args.model != ModelKind::Mamba {
        return Err(Error::option("--init-from", "given", "it needs --model mamba"));
    }
    let table = args.data.table(".".into(), args.training.seed)?;
    let windows = windows(&table, args.training.window, 1)?;
    let device = Device::open(&args.device).await?;
    println!("{}", device.announcement(&args.device.device));
    let series = series(&windows);
    let mut trainer = args.training.trainer(args.model, &series)?;
    if let Some(path) = &args.init_from {
        start_from(&mut trainer, path)?;
    }
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
    let persistence = trainer.persistence(&series.valid, &series);
    print!("\n{}", scores::table(&[(args.model.name(), fit.metrics)], &persistence, &table, &windows));
    println!("{}", scores::remarks(args.model.name(), &trainer, &fit, &series));
    println!("checkpoint: {}", path.display());
    Ok(ExitCode::SUCCESS)
}

fn start_from(trainer: &mut Trainer, path: &Path) -> Result<()> {
    let bytes = std::fs::read(path).map_err(|source| Error::File { path: path.into(), action: "read", source })?;
    let place = path.display().to_string();
    let file = Tensors::parse(&place, &bytes)?;
    let values = read_backbone(&file, &place, trainer.graph())?;
    let (n_drawn, n_left) = (trainer.graph().parameters().len() - values.len(), file.tensors.len() - values.len());
    println!(
        "{place}: {} tensors taken for the backbone, {n_left} left in the file; {n_drawn} tensors of input and head drawn",
        values.len()
    );
    trainer.start_from(values);
    Ok(())
}
