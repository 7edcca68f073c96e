//! `stream`: a forecast after every row of standard input.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use csv::{ReaderBuilder, StringRecord, Trim};

use super::device::{Device, DeviceArgs};
use crate::Message;
use crate::backend::Backend;
use crate::checkpoint::{Checkpoint, Description};
use crate::dataset::{CALENDAR, Scaler};
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::model::{ModelKind, StepGraph, Stream, WindowGraph, WindowStream};
use crate::ops::Normalisation;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The checkpoint that `train` wrote
    #[arg(long, value_name = "FILE")]
    checkpoint: PathBuf,
    #[command(flatten)]
    device: DeviceArgs,
    /// Rows that the key-value cache of a hybrid holds, of one that was trained with --window-norm none [default: 1024]
    #[arg(long, value_name = "ROWS")]
    cache: Option<usize>,
}

/// What a checkpoint is streamed by.
pub(super) enum Recorded {
    /// Its step form, with states that are kept.
    Steps(StepGraph),
    /// Its last window, which is normalised by itself.
    Windows(WindowGraph),
}

impl Recorded {
    /// Records the form that a checkpoint allows.
    pub fn new(description: &Description) -> Result<Self> {
        let (model, training) = (&description.model, &description.training);
        let windows = || WindowGraph::new(model, training.window, training.normalisation).map(Recorded::Windows);
        match training.normalisation {
            // what has no step form is forecast window by window
            Normalisation::None => StepGraph::new(model, 1).map(Recorded::Steps).or_else(|_| windows()),
            _ => windows(),
        }
    }

    /// For its parameters' names and shapes.
    pub fn graph(&self) -> &Graph {
        match self {
            Recorded::Steps(steps) => steps.graph(),
            Recorded::Windows(windows) => windows.graph(),
        }
    }

    /// On a device, before its first row.
    pub async fn load<'a>(&'a self, backend: &'a dyn Backend, parameters: &[Vec<f32>]) -> Result<Loaded<'a>> {
        Ok(match self {
            Recorded::Steps(steps) => Loaded::Steps(steps.load(backend, parameters).await?),
            Recorded::Windows(windows) => Loaded::Windows(windows.load(backend, parameters).await?),
        })
    }
}

/// A stream of either form.
pub(super) enum Loaded<'a> {
    Steps(Stream<'a>),
    Windows(WindowStream<'a>),
}

impl Loaded<'_> {
    /// Takes a row; the forecast after it, none before the first full window.
    pub async fn step(&mut self, row: &[f32]) -> Result<Option<Vec<f32>>> {
        match self {
            Loaded::Steps(stream) => stream.step(row).await.map(Some),
            Loaded::Windows(stream) => stream.step(row).await,
        }
    }
}

pub async fn run(args: &Args) -> Result<ExitCode> {
    let place = args.checkpoint.display().to_string();
    let Checkpoint { mut description, tensors } = super::read_checkpoint(&args.checkpoint)?;
    description.model.cache = args.cache.unwrap_or(description.model.cache);
    if description.model.bidirectional {
        let what = message!("is bidirectional: each of its layers reads what comes after a row, which a stream does not have yet");
        return Err(Error::data(place, what, message!("train without --bidirectional")));
    }
    if description.layout.targets.len() > description.model.targets {
        let what = message!("forecasts several columns, each as a series of its own; a stream is one series");
        return Err(Error::data(place, what, message!("train with one of --targets, or with --channels mixed")));
    }
    if description.layout.covariates.iter().any(|name| CALENDAR.contains(&name.as_str())) {
        let what = message!("reads the time of day, which the rows of a stream do not have");
        return Err(Error::data(place, what, message!("train with --calendar off")));
    }
    let [scalers] = &description.scalers[..] else {
        let what = message!("was trained on several series, each with scalers of its own; a stream is one series");
        return Err(Error::data(place, what, message!("train on one series")));
    };
    let columns = Columns {
        names: description.layout.columns().collect(),
        scalers,
        n_target: description.model.targets,
        n_level: description.model.levels,
    };
    let recorded = Recorded::new(&description)?;
    if args.cache.is_some() && !(description.model.model == ModelKind::Hybrid && matches!(recorded, Recorded::Steps(_))) {
        return Err(Error::given("--cache", message!("it needs a hybrid that was trained with --window-norm none")));
    }
    let device = Device::open(&args.device).await?;
    let parameters = tensors.parameters(&place, recorded.graph())?;
    let mut loaded = recorded.load(device.backend(), &parameters).await?;
    let mut reader = ReaderBuilder::new().has_headers(false).flexible(true).trim(Trim::All).from_reader(io::stdin().lock());
    let mut output = io::stdout().lock();
    let (mut record, mut layout) = (StringRecord::new(), None);
    while reader.read_record(&mut record).map_err(|error| unreadable(&error))? {
        if layout.is_none()
            && let Some(places) = columns.find(&record)?
        {
            layout = Some((places, record.len()));
            continue;
        }
        let n_column = columns.names.len();
        let (places, n_cell) = layout.get_or_insert_with(|| ((0..n_column).collect(), n_column));
        if record.len() != *n_cell {
            let what = message!("{} cells where {} are expected", record.len(), n_cell);
            return Err(wrong(&record, what, columns.needed()));
        }
        let row = columns.parse(&record, places)?;
        let forecast = loaded.step(&row).await?;
        let line = forecast.map_or_else(String::new, |forecast| columns.text(&forecast));
        match writeln!(output, "{line}").and_then(|()| output.flush()) {
            // Whoever reads has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
            written => written.map_err(|source| Error::File { path: "standard output".into(), action: message!("write"), source })?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The columns of a checkpoint.
struct Columns<'a> {
    names: Vec<&'a str>,
    scalers: &'a [Scaler],
    n_target: usize,
    n_level: usize,
}

impl Columns<'_> {
    /// Where they stand in a header; none where the row names none of them.
    fn find(&self, record: &StringRecord) -> Result<Option<Vec<usize>>> {
        let find = |name: &&str| record.iter().position(|cell| cell.trim_start_matches('\u{feff}') == *name);
        let found: Vec<_> = self.names.iter().map(find).collect();
        if found.iter().all(Option::is_none) {
            return Ok(None);
        }
        let missing: Vec<_> = self.names.iter().zip(&found).filter(|(_, at)| at.is_none()).map(|(name, _)| *name).collect();
        if missing.is_empty() {
            return Ok(Some(found.into_iter().flatten().collect()));
        }
        Err(wrong(record, message!("the header has no column {}", missing.join(", ")), message!("name every column of the checkpoint")))
    }

    /// The scaled values of a row.
    fn parse(&self, record: &StringRecord, places: &[usize]) -> Result<Vec<f32>> {
        let value = |((name, scaler), &place): ((&&str, &Scaler), &usize)| {
            let cell = record.get(place).unwrap_or_default();
            match cell.parse::<f64>() {
                Ok(value) if value.is_finite() => Ok(scaler.scale(value) as f32),
                _ => Err(wrong(record, message!("{} is {}, no finite number", name, format!("{cell:?}")), self.needed())),
            }
        };
        self.names.iter().zip(self.scalers).zip(places).map(value).collect()
    }

    fn needed(&self) -> Message {
        message!("give rows of {}, or a header that names them", self.names.join(", "))
    }

    /// A forecast in the units of its columns.
    fn text(&self, forecast: &[f32]) -> String {
        let scaler = |index: usize| &self.scalers[index / self.n_level % self.n_target];
        let value = |(index, &value): (usize, &f32)| scaler(index).inverse(f64::from(value)).to_string();
        forecast.iter().enumerate().map(value).collect::<Vec<_>>().join(",")
    }
}

fn wrong(record: &StringRecord, what: Message, remedy: Message) -> Error {
    let line = record.position().map_or(0, csv::Position::line);
    Error::Data { place: message!("standard input:{}", line), what, remedy }
}

fn unreadable(error: &csv::Error) -> Error {
    let line = error.position().map_or_else(String::new, |position| format!(":{}", position.line()));
    Error::Data {
        place: message!("standard input{}", line),
        what: message!("cannot be read ({})", error),
        remedy: message!("give CSV rows in UTF-8"),
    }
}
