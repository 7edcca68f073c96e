//! `train`: one model, and all that a run leaves.

use std::collections::BTreeSet;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde_json::json;

use super::data::{DataArgs, LayoutArgs, SeasonArgs, SplitArgs, title, used};
use super::device::{Device, DeviceArgs};
use super::pictures::{self, Forecasts, Shown};
use super::progress::Progress;
use super::run_folder::{BEST, CONFIG, LAST, REPORT, RunFolder, SERIES};
use super::scores::{self, Scoreboard};
use super::setting::Setting;
use super::training::TrainingArgs;
use crate::Message;
use crate::checkpoint::{Checkpoint, Description, Tensors};
use crate::dataset::{Layout, Source, Table, Windows};
use crate::error::{Error, Result};
use crate::fingerprint::fingerprint;
use crate::model::ModelKind;
use crate::published::read_backbone;
use crate::report::language::fill;
use crate::report::page::{Page, Part};
use crate::report::{Lang, Typeface, chart};
use crate::train::{Event, Fit, Outcome, Series, TrainState, Trainer};

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
    #[command(flatten)]
    split: SplitArgs,
    #[command(flatten)]
    season: SeasonArgs,
    /// Folder for the results: configuration, scores of each epoch, TensorBoard events, checkpoint, pictures, report [default: runs/MODEL,
    /// with a number if that exists]
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
    /// File for the checkpoint [default: best.safetensors in the run's folder]
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// Start the backbone of mamba from published weights (safetensors); other parameters start as usual
    #[arg(long, value_name = "FILE")]
    init_from: Option<PathBuf>,
    /// Write the scores as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Read options from a file, such as a run's config.toml: `window = 96` is --window 96; options on the command line override the file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Go on with the interrupted run in this folder, with its own options
    #[arg(long, value_name = "DIR", conflicts_with_all = ["config", "run_dir", "init_from"])]
    resume: Option<PathBuf>,
    /// Seconds between saves of the training state, from which --resume can go on even if the process is killed
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0, value_parser = seconds)]
    save_every: f64,
    // last: its heading would be that of whatever follows
    #[command(flatten)]
    training: TrainingArgs,
}

/// Where a download is saved.
const SAVE_FOLDER: &str = ".";

/// Series, and the options that they were read by.
pub struct SeriesRead {
    options: String,
    tables: Vec<Table>,
    layout: Layout,
}

impl SeriesRead {
    /// The series.
    pub fn tables(&self) -> &[Table] {
        &self.tables
    }

    /// A fingerprint: other values give another number.
    pub fn fingerprint(&self) -> u64 {
        let values = self.tables.iter().flat_map(Table::columns).flatten();
        fingerprint(values.flat_map(|value| value.to_le_bytes()))
    }

    /// Checks that windows of these lengths have the same targets in the validation parts, so that their errors can be compared.
    ///
    /// # Errors
    /// [`Error::Option`] where a series is too short for some of them.
    pub fn check_alike(&self, windows: impl Iterator<Item = usize>) -> Result<()> {
        let Layout { partition, horizon, .. } = self.layout;
        let windows: BTreeSet<usize> = windows.collect();
        for table in &self.tables {
            let n_valid = |&window: &usize| Ok(partition.split(table.source(), table.n_row(), window, horizon)?.valid().len());
            let n_valid = windows.iter().map(n_valid).collect::<Result<BTreeSet<_>>>()?;
            if let (2.., Some(longest)) = (n_valid.len(), windows.last()) {
                let what = message!("{} has too few training rows for it, and trials would be scored on other rows", table.source());
                return Err(Error::option("--window", longest, what));
            }
        }
        Ok(())
    }
}

impl Args {
    /// Checks the options that need no data.
    ///
    /// # Errors
    /// [`Error::Option`] naming one that cannot be used.
    pub fn check(&self) -> Result<()> {
        self.training.check(&[self.model])?;
        if self.init_from.is_some() && self.model != ModelKind::Mamba {
            return Err(Error::given("--init-from", message!("it needs --model mamba")));
        }
        Ok(())
    }

    /// The model.
    pub fn model(&self) -> ModelKind {
        self.model
    }

    /// The window, where one is given.
    pub fn window(&self) -> Option<usize> {
        self.training.given_window()
    }

    /// Puts the file of a download in its place in options by which the same series are read again.
    pub fn name_download(&self, tables: &[Table], options: &mut toml::Table) {
        if let Some(file) = self.data.file_of_download(Path::new(SAVE_FOLDER), tables) {
            options.remove("download");
            options.insert("csv".into(), file.display().to_string().into());
        }
    }

    /// Where it is trained.
    pub fn device(&self) -> &DeviceArgs {
        &self.device
    }

    /// The series, the windows in them, and what follows from them; `read` holds the series for others that are trained on the same.
    pub fn setting(&self, read: &mut Option<SeriesRead>, lang: Lang) -> Result<Setting> {
        let SeriesRead { tables, layout, .. } = self.series(read, lang)?;
        Setting::new(tables.clone(), layout, &self.training, &self.season, lang)
    }

    /// The series, as `read` holds them, which is filled where it holds none or others.
    pub fn series<'a>(&self, read: &'a mut Option<SeriesRead>, lang: Lang) -> Result<&'a SeriesRead> {
        let training = &self.training;
        let options = format!("{:?} {:?} {:?} {}", self.data, self.layout, self.split, training.horizon);
        if read.as_ref().is_none_or(|read| read.options != options) {
            *read = None;
        }
        Ok(match read {
            Some(read) => read,
            None => {
                let (tables, layout) = self.layout.tables(&self.data, self.split.partition, training, SAVE_FOLDER.into(), lang)?;
                read.insert(SeriesRead { options, tables, layout })
            }
        })
    }
}

pub async fn run(args: &Args, mut options: toml::Table, lang: Lang) -> Result<ExitCode> {
    let state = args.resume.as_deref().map(interrupted).transpose()?;
    check_files(args)?;
    args.check()?;
    let new_run = || args.run_dir.clone().unwrap_or_else(|| RunFolder::free(args.model.name()));
    if state.is_none() {
        RunFolder::check(&new_run())?;
    }
    let setting = args.setting(&mut None, lang)?;
    let Setting { windows, training, .. } = &setting;
    let device = Device::open(&args.device, lang).await?;
    let mut trainer = setting.trainer(args.model, training.seed)?;
    if let Some(path) = &args.init_from {
        start_from(&mut trainer, path, lang)?;
    }
    options.extend(training.chosen());
    args.name_download(&setting.tables, &mut options);
    let options = options.to_string();
    let mut folder = match (&args.resume, &state) {
        (Some(path), Some(state)) => {
            trainer.check_state(state, &Series::from(windows))?;
            RunFolder::resume(path, state.progress.epochs.len())?
        }
        _ => RunFolder::create(&new_run(), &options)?,
    };
    let is_new = state.is_none();
    let fit = match fit(args, &trainer, windows, &device, &mut folder, state, lang).await {
        Ok(Outcome::Finished(fit)) => *fit,
        Ok(Outcome::Stopped(state)) => return stopped(&state, &folder, lang),
        Err(error) => {
            if is_new {
                folder.abandon();
            }
            return Err(error);
        }
    };
    save_state(&fit.last, &folder)?;
    let checkpoint = args.checkpoint.clone().unwrap_or_else(|| folder.file(BEST));
    save_checkpoint(&checkpoint, args, &setting, &trainer, &fit)?;
    show(args, &setting, &fit, &options, &device, &mut folder, lang).await?;
    let texts = lang.texts();
    println!("{}", fill(texts.checkpoint, [&checkpoint.display().to_string()]));
    let [run, report] = [folder.path().to_path_buf(), folder.file(REPORT)].map(|path| path.display().to_string());
    println!("{}", fill(texts.run_and_report, [&run, &report]));
    Ok(ExitCode::SUCCESS)
}

/// Checks that what a run writes can be written, and takes the place of nothing that it reads.
fn check_files(args: &Args) -> Result<()> {
    crate::file::check_writable(args.checkpoint.iter().chain(&args.json))?;
    let best = |folder: &Path| args.checkpoint.is_none().then(|| folder.join(BEST));
    let of_run = |folder: &Option<PathBuf>| -> Vec<PathBuf> {
        folder.iter().flat_map(|folder| RunFolder::files(folder).into_iter().chain(best(folder))).collect()
    };
    let (begun, new) = (of_run(&args.resume), of_run(&args.run_dir));
    let files = args.data.files(Path::new(SAVE_FOLDER));
    let read = files.iter().chain(&args.init_from).chain(&args.config).chain(&begun);
    crate::file::check_apart(new.iter().chain(&args.checkpoint).chain(&args.json), read)
}

/// Scores what was trained beside the baselines, shows the scores and writes them down, with pictures and a report.
async fn show(args: &Args, setting: &Setting, fit: &Fit, options: &str, device: &Device, folder: &mut RunFolder, lang: Lang) -> Result<()> {
    let Setting { tables, windows, training, linear, season } = setting;
    let (loss, season) = (training.loss(), *season);
    let baselines = scores::baselines(season, linear.clone(), lang);
    let name = args.model.name();
    let mut parts = vec![("validation", windows.valid(), fit.forecasts.clone())];
    if !windows.test().is_empty() {
        let evaluator = setting.evaluator(args.model)?;
        parts.push((
            "test",
            windows.test(),
            evaluator.forecast(device.backend(), &Series::from(windows), windows.test(), &fit.parameters).await?,
        ));
    }
    let mut figures = json!({ "device": device.kind(), "adapter": device.backend().name(), "model": args.model });
    let mut comparisons = Vec::new();
    for (part, starts, forecasts) in &parts {
        let mut comparison = Scoreboard::new(windows, starts, season, &baselines, lang);
        comparison.add(name, forecasts, &loss);
        print!("\n{}{}", comparison.text(part, tables), comparison.coverage());
        figures[*part] = comparison.json();
        comparisons.push((*part, comparison));
    }
    println!("{}", scores::stopped(name, fit, lang));
    folder.line(&figures)?;
    if tables.len() > 1 {
        scores::save_by_series(&folder.file(SERIES), &comparisons, tables, args.data.id())?;
    }
    super::save_figures(args.json.as_deref(), || figures, lang)?;
    let scored = parts.last().map_or(&[][..], |(_, _, forecasts)| forecasts);
    let run = Run { args, lang, options, tables, windows, comparisons: &comparisons, fit, forecasts: scored };
    run.report(folder)
}

/// Writes the parameters that are kept, with all that forecasting by them needs.
fn save_checkpoint(path: &Path, args: &Args, setting: &Setting, trainer: &Trainer, fit: &Fit) -> Result<()> {
    let Setting { tables, windows, training, .. } = setting;
    let description = Description {
        model: setting.model(args.model),
        training: training.config(args.model)?,
        layout: windows.layout().clone(),
        scalers: windows.scalers().to_vec(),
        sources: tables.iter().map(Table::source).map(Source::to_string).collect(),
        id: args.data.id().map(String::from),
        ids: tables.iter().filter_map(|table| table.source().id().cloned()).collect(),
    };
    let bytes = Checkpoint::new(description, trainer.graph(), &fit.parameters)?.to_bytes()?;
    crate::file::save(path, |writer| writer.write_all(&bytes))
}

/// Exit code of a run that Ctrl-C ended: 128 and the signal's number.
const INTERRUPTED: u8 = 130;

/// Where an interrupted run stands.
fn interrupted(folder: &Path) -> Result<TrainState> {
    let path = folder.join(LAST);
    TrainState::parse(&path.display().to_string(), &crate::file::read(&path)?)
}

fn save_state(state: &TrainState, folder: &RunFolder) -> Result<()> {
    let bytes = state.to_bytes()?;
    crate::file::save(&folder.file(LAST), |writer| writer.write_all(&bytes))
}

/// Saves where training stands, and says how it goes on.
fn stopped(state: &TrainState, folder: &RunFolder, lang: Lang) -> Result<ExitCode> {
    save_state(state, folder)?;
    let (done, total) = (state.losses.len(), state.plan.steps_per_epoch * state.plan.training.epochs);
    println!("{}", fill(lang.texts().interrupted, [&done.to_string(), &total.to_string(), &folder.path().display().to_string()]));
    Ok(ExitCode::from(INTERRUPTED))
}

/// Trains, from a state where there is one, writes down every epoch and saves every so often where it stands. Ctrl-C stops it after the
/// steps that are under way; a second one ends the process.
async fn fit(
    args: &Args,
    trainer: &Trainer,
    windows: &Windows,
    device: &Device,
    folder: &mut RunFolder,
    mut state: Option<TrainState>,
    lang: Lang,
) -> Result<Outcome> {
    let is_interrupted = Arc::new(AtomicBool::new(false));
    let flag = is_interrupted.clone();
    let handler = move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(INTERRUPTED.into());
        }
    };
    ctrlc::set_handler(handler).map_err(|error| Error::Unsupported { operation: "Ctrl-C", what: Message::verbatim(error) })?;
    let progress = Progress::new(fill(lang.texts().on_device, [args.model.name(), &device.backend().name()]), lang);
    loop {
        let saved = Instant::now();
        let mut written = Ok(());
        let mut observe = |event: Event| {
            progress.observe(event, Some(args.model.name()));
            if let Event::Epoch { epoch, score } = event
                && written.is_ok()
            {
                written = folder.epoch(epoch, &score);
            }
            let stops = is_interrupted.load(Ordering::Relaxed) || saved.elapsed().as_secs_f64() >= args.save_every;
            if stops { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let outcome = trainer.fit_from(device.backend(), &Series::from(windows), state.as_ref(), &mut observe).await;
        let goes_on = written.is_ok() && !is_interrupted.load(Ordering::Relaxed);
        match outcome {
            Ok(Outcome::Stopped(reached)) if goes_on => {
                save_state(&reached, folder)?;
                state = Some(*reached);
            }
            outcome => {
                progress.finish();
                written?;
                return outcome;
            }
        }
    }
}

/// A finished run, for its pictures and its report.
struct Run<'a> {
    args: &'a Args,
    lang: Lang,
    options: &'a str,
    tables: &'a [Table],
    windows: &'a Windows,
    /// By the names of their parts.
    comparisons: &'a [(&'static str, Scoreboard<'a>)],
    fit: &'a Fit,
    /// Of the windows that are scored.
    forecasts: &'a [f32],
}

impl Run<'_> {
    /// Writes the pictures, and a page that holds them.
    fn report(&self, folder: &RunFolder) -> Result<()> {
        let (lang, name) = (self.lang, self.args.model.name());
        let (typeface, warning) = Typeface::system(lang);
        let drawn_in = typeface.lang();
        let heading = |lang| title(&used(self.tables, self.windows), self.windows.layout(), lang);
        let persistence = self.comparisons[0].1.persistence().scaled.mse;
        let loss = self.args.training.loss();
        let forecasts = Forecasts { tables: self.tables, windows: self.windows, values: self.forecasts, loss: &loss };
        let charts = [
            ("curves", pictures::curves(name, &self.fit.epochs, persistence, drawn_in)),
            ("forecasts", forecasts.chart(name, heading(drawn_in), Shown::Last, drawn_in)),
        ];
        let texts = lang.texts();
        let mut parts = Vec::new();
        if self.tables.iter().any(Table::is_synthetic) {
            parts.push(Part::Warning(texts.synthetic.into()));
        }
        for (part, comparison) in self.comparisons {
            parts.push(Part::Heading(texts.part(part).into()));
            parts.extend(comparison.tables(part).into_iter().map(Part::Table));
            parts.extend(comparison.warnings().into_iter().map(Part::Warning));
        }
        for (stem, chart) in charts {
            let bytes = chart::png(&chart, &typeface)?;
            crate::file::save(&folder.file(&format!("{stem}.png")), |writer| writer.write_all(&bytes))?;
            parts.push(Part::Picture(bytes, chart.title));
        }
        parts.push(Part::Heading(CONFIG.into()));
        parts.push(Part::Verbatim(self.options.into()));
        warning.or_else(|| typeface.warning(lang)).inspect(|warning| super::warn(warning, lang));
        let page = Page { title: format!("{name}: {}", heading(lang)), lead: vec![scores::stopped(name, self.fit, lang)], parts };
        crate::file::save(&folder.file(REPORT), |writer| writer.write_all(page.html(lang).as_bytes()))
    }
}

fn seconds(text: &str) -> Result<f64, Message> {
    text.parse().ok().filter(|seconds: &f64| *seconds >= 0.0).ok_or_else(|| message!("it must be a number of seconds, 0 or more"))
}

fn start_from(trainer: &mut Trainer, path: &Path, lang: Lang) -> Result<()> {
    let place = path.display().to_string();
    let file = Tensors::parse(&place, &crate::file::read(path)?)?;
    let values = read_backbone(&file, &place, trainer.graph())?;
    let counts = [values.len(), file.tensors.len() - values.len(), trainer.graph().parameters().len() - values.len()];
    let [n_taken, n_left, n_other] = counts.map(|count| count.to_string());
    println!("{}", fill(lang.texts().taken, [&place, &n_taken, &n_left, &n_other]));
    trainer.start_from(values);
    Ok(())
}
