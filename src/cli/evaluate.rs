//! `evaluate`: a checkpoint scored on a series.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;

use super::data::{DataArgs, SeasonArgs, say_left_out, warn_of_flat};
use super::device::{Device, DeviceArgs};
use super::scores::{self, Scoreboard};
use crate::baseline::Linear;
use crate::checkpoint::Checkpoint;
use crate::dataset::{Layout, Partition, Table, Windows};
use crate::error::Result;
use crate::report::Lang;
use crate::report::language::fill;
use crate::train::{Evaluator, Series};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The checkpoint that `train` wrote
    #[arg(long, value_name = "FILE")]
    checkpoint: PathBuf,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    season: SeasonArgs,
    /// Training, validation and test part, written as for `train` [default: the checkpoint's]
    #[arg(long, value_name = "PARTS")]
    split: Option<Partition>,
    /// Write the scores as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the scores of each series as CSV, beside those of persistence
    #[arg(long, value_name = "FILE")]
    by_series: Option<PathBuf>,
}

pub async fn run(args: &Args, lang: Lang) -> Result<ExitCode> {
    crate::file::check_outputs(args.json.iter().chain(&args.by_series), args.data.files(Path::new(".")).iter().chain([&args.checkpoint]))?;
    let place = args.checkpoint.display().to_string();
    let Checkpoint { description, tensors } = super::read_checkpoint(&args.checkpoint)?;
    let (model, training) = (&description.model, &description.training);
    let sources = lang.list(&description.sources);
    let sizes = [training.window, model.hidden].map(|size| size.to_string());
    println!("{}", fill(lang.texts().checkpoint_of, [model.model.name(), &sizes[0], &sizes[1], &sources]));
    let layout = Layout { partition: args.split.unwrap_or(description.layout.partition), ..description.layout.clone() };
    let id = args.data.id_for(&description);
    let tables = args.data.tables_for(&description, id, lang)?;
    let scalers = description.scalers_of(&place, &tables)?;
    let windows = Windows::with_scalers(&tables, &layout, scalers)?;
    say_left_out(&tables, &windows, lang);
    warn_of_flat(&tables, &windows, lang);
    let trained = |table: &Table| {
        let split = description.layout.partition.split(table.source(), table.n_row(), layout.window, layout.horizon);
        split.map_or(0, |split| split.train_end)
    };
    if windows.members().iter().any(|member| member.split.train_end < trained(&tables[member.table])) {
        let warning = fill(lang.texts().scored_on_training, [&description.layout.partition.to_string()]);
        super::warn(&warning, lang);
    }
    let season = args.season.of(&windows)?;
    let device = Device::open(&args.device, lang).await?;
    let series = Series::from(&windows);
    let evaluator = Evaluator::new(model, training, &series)?;
    let parameters = tensors.parameters(&place, evaluator.graph())?;
    let baselines = scores::baselines(season, Linear::fit(&windows, training.normalisation), lang);
    let mut figures = json!({ "device": device.kind(), "adapter": device.backend().name(), "model": model.model });
    let mut comparisons = Vec::new();
    for (part, starts) in [("validation", windows.valid()), ("test", windows.test())].into_iter().filter(|(_, starts)| !starts.is_empty()) {
        let forecasts = evaluator.forecast(device.backend(), &series, starts, &parameters).await?;
        let mut comparison = Scoreboard::new(&windows, starts, season, &baselines, lang);
        comparison.add(model.model.name(), &forecasts, &training.loss);
        print!("\n{}{}", comparison.text(part, &tables), comparison.coverage());
        figures[part] = comparison.json();
        comparisons.push((part, comparison));
    }
    if let Some(path) = &args.by_series {
        scores::save_by_series(path, &comparisons, &tables, id)?;
    }
    super::save_figures(args.json.as_deref(), || figures, lang)?;
    Ok(ExitCode::SUCCESS)
}
