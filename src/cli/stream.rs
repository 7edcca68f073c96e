//! `stream`: a forecast after every row of standard input.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use super::device::{Device, DeviceArgs};
use crate::checkpoint::Checkpoint;
use crate::dataset::{CALENDAR, CsvRows, Missing, Scaler};
use crate::error::{Error, Result};
use crate::model::{ForecasterConfig, ModelKind, StreamGraph};
use crate::ops::Normalisation;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The checkpoint that `train` wrote
    #[arg(long, value_name = "FILE")]
    checkpoint: PathBuf,
    #[command(flatten)]
    device: DeviceArgs,
    /// Take one step per row and keep the state from the first row on, though the model was trained and scored on windows
    ///
    /// A row then costs the same whatever the window, and the forecasts differ from those that were scored. It needs a model that was
    /// trained with --window-norm none and without --linear-skip.
    #[arg(long)]
    steps: bool,
    /// Rows in the key-value cache of a hybrid with --steps [default: 1024]
    #[arg(long, value_name = "ROWS")]
    cache: Option<usize>,
    /// Column of dates [default: one called date, time or similar, otherwise the first that starts with a date, otherwise years and their parts]
    #[arg(long, value_name = "NAME")]
    date: Option<String>,
    /// How to treat cells without a value; a row that is left out gives an empty line
    #[arg(long, value_enum, default_value = "error", value_name = "RULE")]
    missing: Missing,
}

pub async fn run(args: &Args) -> Result<ExitCode> {
    let place = args.checkpoint.display().to_string();
    let Checkpoint { mut description, tensors } = super::read_checkpoint(&args.checkpoint)?;
    description.model.cache = args.cache.unwrap_or(description.model.cache);
    if description.model.bidirectional {
        let what = message!("is bidirectional: each of its layers reads the rows after a row, which a stream does not have yet");
        return Err(Error::data(place, what, message!("train without --bidirectional")));
    }
    if description.layout.targets.len() > description.model.targets {
        let what = message!("forecasts several columns, each as a series of its own; a stream is one series");
        return Err(Error::data(place, what, message!("train with a single target, or with --channels mixed")));
    }
    let [scalers] = &description.scalers[..] else {
        let what = message!("was trained on several series, each with scalers of its own; a stream is one series");
        return Err(Error::data(place, what, message!("train on one series")));
    };
    if args.cache.is_some() && !(description.model.model == ModelKind::Hybrid && args.steps) {
        return Err(Error::given("--cache", message!("it needs a hybrid and --steps")));
    }
    if args.steps && (description.training.normalisation != Normalisation::None || description.model.linear_skip.is_some()) {
        let needed = message!("it needs a model that was trained with --window-norm none and without --linear-skip");
        return Err(Error::given("--steps", needed));
    }
    let graph = if args.steps { StreamGraph::steps(&description.model, 1)? } else { description.stream(1)? };
    let columns: Vec<&str> = description.layout.columns().collect();
    if args.date.is_some() && !columns.iter().any(|name| CALENDAR.contains(name)) {
        return Err(Error::given("--date", message!("it needs a checkpoint that reads the time of day")));
    }
    let device = Device::open_silently(&args.device).await?;
    let parameters = tensors.parameters(&place, graph.graph())?;
    let mut stream = graph.load(device.backend(), &parameters).await?;
    let mut rows = CsvRows::new(io::stdin().lock(), message!("standard input"), &columns, args.date.as_deref(), args.missing)?;
    let mut output = io::stdout().lock();
    while let Some(row) = rows.next_row()? {
        let is_left_out = row.iter().any(|value| value.is_nan());
        let forecast = if is_left_out {
            None
        } else {
            let scaled = |(&value, scaler): (&f64, &Scaler)| scaler.scaled(value, || message!("standard input"));
            stream.step(&row.iter().zip(scalers).map(scaled).collect::<Result<Vec<_>>>()?).await?
        };
        let line = forecast.map_or_else(String::new, |forecast| text(&forecast, scalers, &description.model));
        match writeln!(output, "{line}").and_then(|()| output.flush()) {
            // Whoever reads has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
            written => written.map_err(|source| Error::writing("standard output", source))?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A forecast in the units of its columns.
fn text(forecast: &[f32], scalers: &[Scaler], model: &ForecasterConfig) -> String {
    let scaler = |index: usize| &scalers[index / model.levels % model.targets];
    let value = |(index, &value): (usize, &f32)| scaler(index).inverse(f64::from(value)).to_string();
    forecast.iter().enumerate().map(value).collect::<Vec<_>>().join(",")
}
