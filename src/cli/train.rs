//! `train`: one model, saved as a checkpoint.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;

use super::data::{DataArgs, LayoutArgs, series};
use super::device::{Device, DeviceArgs};
use super::progress::Progress;
use super::scores::{self, Comparison};
use super::training::TrainingArgs;
use crate::checkpoint::{Checkpoint, Description, Tensors};
use crate::dataset::{Source, Table};
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
    #[command(flatten)]
    layout: LayoutArgs,
    /// Where the checkpoint is written [default: MODEL.safetensors]
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// Start the backbone of mamba from a checkpoint with published names (safetensors); input and head are drawn as ever
    #[arg(long, value_name = "FILE")]
    init_from: Option<PathBuf>,
    /// Write the scores as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    // last: its heading would be that of whatever follows
    #[command(flatten)]
    training: TrainingArgs,
}

pub async fn run(args: &Args) -> Result<ExitCode> {
    let path = args.checkpoint.clone().unwrap_or_else(|| format!("{}.safetensors", args.model).into());
    for path in [&path].into_iter().chain(&args.json) {
        crate::file::check_writable(path)?;
    }
    args.training.check(args.model)?;
    if args.init_from.is_some() && args.model != ModelKind::Mamba {
        return Err(Error::option("--init-from", "given", "it needs --model mamba"));
    }
    let training = &args.training;
    let (tables, windows) = args.layout.windows(&args.data, training.window, training.horizon, ".".into(), training.seed)?;
    let (config, season) = (training.config(args.model)?, args.data.season(&windows));
    let device = Device::open(&args.device).await?;
    println!("{}", device.announcement(&args.device.device));
    let series = series(&windows);
    let mut trainer = training.trainer(args.model, &windows)?;
    if let Some(path) = &args.init_from {
        start_from(&mut trainer, path)?;
    }
    let progress = Progress::new(format!("{} on {}", args.model, device.backend().name()));
    let fit = trainer.fit(device.backend(), &series, &mut |event| progress.observe(event, Some(args.model.name()))).await;
    progress.finish();
    let fit = fit?;
    let description = Description {
        model: training.model_for(args.model, &windows),
        training: config.clone(),
        layout: windows.layout().clone(),
        scalers: windows.scalers().to_vec(),
        sources: tables.iter().map(Table::source).map(Source::to_string).collect(),
    };
    let bytes = Checkpoint::new(description, trainer.graph(), &fit.parameters).to_bytes()?;
    crate::file::save(&path, |writer| writer.write_all(&bytes))?;

    let baselines = scores::baselines(&windows, season, config.normalisation);
    let name = args.model.name();
    let mut comparisons = vec![("validation", windows.valid(), fit.forecasts.clone())];
    if !windows.test().is_empty() {
        comparisons.push(("test", windows.test(), trainer.forecast(device.backend(), &series, windows.test(), &fit.parameters).await?));
    }
    let mut figures = json!({ "device": device.kind(), "adapter": device.backend().name(), "model": args.model });
    for (part, starts, forecasts) in comparisons {
        let mut comparison = Comparison::new(&windows, starts, season, &baselines);
        comparison.add(name, &forecasts, &config.loss);
        print!("\n{}{}", comparison.text(part, &tables), comparison.coverage());
        figures[part] = comparison.json();
    }
    println!("{}", scores::stopped(name, &fit));
    if let Some(path) = &args.json {
        super::save_json(path, &figures)?;
    }
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
