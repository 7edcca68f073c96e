//! `bench`: the lab's comparison of models, devices and persistence.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use serde_json::json;

use super::data::{DataArgs, LayoutArgs, SeasonArgs, SplitArgs, title};
use super::device::{Device, DeviceArgs};
use super::profile::{self, ProfileArgs};
use super::progress::Progress;
use super::scores::{self, Scoreboard};
use super::setting::Setting;
use super::training::TrainingArgs;
use crate::backend::Backend;
use crate::cpu::Cpu;
use crate::dataset::{Table, Windows};
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::model::ModelKind;
use crate::report::language::fill;
use crate::report::picture::{self, Comparison, Epoch, Model, Row};
use crate::report::{Lang, TextTable};
use crate::roofline::Roofline;
use crate::train::{Event, Fit, Series, Trainer};

/// Name of the picture.
pub const PICTURE: &str = "mamba_vs_mingru.png";

#[derive(Debug, clap::Args)]
pub struct Args {
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
    /// Models to compare, separated by commas, or `all` for the four whose cost is linear
    #[arg(long, default_value = "min-gru,mamba")]
    models: String,
    /// Folder for the picture
    #[arg(long, default_value = ".", value_name = "DIR")]
    out_dir: PathBuf,
    /// Write every figure as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    profile: ProfileArgs,
    // last: its heading would be that of whatever follows
    #[command(flatten)]
    training: TrainingArgs,
}

/// One model's results on the chosen device and on the CPU.
struct Outcome {
    kind: ModelKind,
    fit: Fit,
    /// Seconds from its training's begin until the first step was done: memory, kernels, one step.
    first_step_seconds: f64,
    /// Forecasts of the validation windows, scaled.
    predictions: Vec<f32>,
    /// Absent where the chosen device is the CPU.
    on_cpu: Option<Fit>,
}

pub async fn run(args: &Args, lang: Lang) -> Result<ExitCode> {
    let start = Instant::now();
    let kinds = super::experiment::models(&args.models)?;
    args.training.of_lab().check(&kinds)?;
    crate::file::create_folder(&args.out_dir)?;
    let picture_path = args.out_dir.join(PICTURE);
    let trace = args.profile.path(&args.out_dir);
    crate::file::check_outputs([&picture_path].into_iter().chain(&args.json).chain(&trace), &args.data.files(&args.out_dir))?;
    let setting = Setting::read(&args.data, &args.layout, &args.split, &args.season, &args.training.of_lab(), args.out_dir.clone(), lang)?;
    let Setting { tables, windows, training, linear, season } = &setting;
    let table = single(tables, windows)?;
    let season = *season;
    let device = Device::open(&args.device, lang).await?;

    let mut outcomes = Vec::new();
    let mut since_start = None;
    for &kind in &kinds {
        let (outcome, first_step) = train(kind, &setting, &device, lang).await?;
        since_start.get_or_insert((first_step - start).as_secs_f64());
        outcomes.push(outcome);
    }

    let baselines = scores::baselines(season, linear.clone(), lang);
    let mut scored = Scoreboard::new(windows, windows.valid(), season, &baselines, lang);
    for outcome in &outcomes {
        scored.add(outcome.kind.name(), &outcome.fit.forecasts, &training.loss());
    }
    let persistence = scored.persistence().scaled;
    print!("\n{}", scored.text("validation", tables));
    let stopped = outcomes.iter().map(|outcome| scores::stopped(outcome.kind.name(), &outcome.fit, lang));
    println!("{}{}", stopped.collect::<String>(), scored.coverage());
    println!("{}", speeds(&outcomes, &device, training, lang));
    let since_start = since_start.unwrap_or_default();
    println!("{}\n", fill(lang.texts().first_step, [&format!("{since_start:.2}")]));
    if let Some(path) = &trace {
        let mut profiles = Vec::new();
        for kind in kinds {
            let trainer = setting.trainer(kind, training.seed)?;
            profiles.push((kind.name(), trainer.profile(device.backend(), &Series::from(windows)).await?));
        }
        profile::show(&profiles, &Roofline::measure(device.backend()).await?, path, lang)?;
    }
    super::save_figures(args.json.as_deref(), || report(&outcomes, &scored, &device, table, since_start, training), lang)?;
    let drawn = |lang| comparison(lang, table, &setting, &outcomes, &persistence);
    super::say_drawn(&picture_path, picture::write(lang, &picture_path, drawn)?, lang);
    Ok(ExitCode::SUCCESS)
}

/// The one table of one column that the picture shows.
fn single<'a>(tables: &'a [Table], windows: &Windows) -> Result<&'a Table> {
    let layout = windows.layout();
    match (tables, &layout.targets[..]) {
        _ if layout.horizon > 1 => {
            Err(Error::option("--horizon", layout.horizon, message!("bench compares forecasts one step ahead; use train")))
        }
        ([table], [_]) => Ok(table),
        (_, targets) if targets.len() > 1 => {
            Err(Error::option("--targets", targets.join(","), message!("bench compares on one column: name it")))
        }
        _ => Err(Error::Option {
            option: "--csv".into(),
            got: message!("{} series", tables.len()),
            expected: message!("bench compares on one series; use train"),
        }),
    }
}

/// Trains a model on the device, and on the CPU where that is another; also when the first step was done.
async fn train(kind: ModelKind, setting: &Setting, device: &Device, lang: Lang) -> Result<(Outcome, Instant)> {
    let (trainer, series) = (setting.trainer(kind, setting.training.seed)?, Series::from(&setting.windows));
    let begin = Instant::now();
    let (fit, first_step) = fit(&trainer, device.backend(), &series, kind, true, lang).await?;
    let on_cpu = match device {
        Device::Cpu(_) => None,
        Device::Gpu(_) => Some(self::fit(&trainer, &Cpu, &series, kind, false, lang).await?.0),
    };
    let (first_step_seconds, predictions) = ((first_step - begin).as_secs_f64(), trainer.central(&fit.forecasts));
    Ok((Outcome { kind, fit, first_step_seconds, predictions, on_cpu }, first_step))
}

/// Trains, each epoch shown where that is asked for; also when the first step was done.
async fn fit(
    trainer: &Trainer,
    backend: &dyn Backend,
    series: &Series<'_>,
    kind: ModelKind,
    is_shown: bool,
    lang: Lang,
) -> Result<(Fit, Instant)> {
    let title = fill(lang.texts().on_device, [kind.name(), &backend.name()]);
    let progress = Progress::new(title, lang);
    let mut first_step = None;
    let mut observe = |event: Event| {
        first_step.get_or_insert_with(Instant::now);
        progress.observe(event, is_shown.then(|| kind.name()));
    };
    let fit = trainer.fit(backend, series, &mut observe).await;
    progress.finish();
    Ok((fit?, first_step.unwrap_or_else(Instant::now)))
}

fn tokens_per_second(fit: &Fit, args: &TrainingArgs) -> f64 {
    (fit.steps * args.batch() * args.window()) as f64 / fit.seconds
}

fn ms_per_step(fit: &Fit) -> f64 {
    1e3 * fit.seconds / fit.steps as f64
}

/// Largest difference of two devices' losses, relative to the loss.
fn loss_difference(a: &Fit, b: &Fit) -> f64 {
    let relative = |(a, b): (&f32, &f32)| f64::from((a - b).abs()) / f64::from(a.abs().max(b.abs()).max(f32::MIN_POSITIVE));
    a.losses.iter().zip(&b.losses).map(relative).fold(0.0, f64::max)
}

fn speeds(outcomes: &[Outcome], device: &Device, training: &TrainingArgs, lang: Lang) -> String {
    let texts = lang.texts();
    let mut table = TextTable::new([
        texts.training,
        texts.device_column,
        texts.seconds,
        texts.first_step_column,
        texts.ms_a_step,
        "tokens/s",
        texts.cpu_ms_a_step,
        texts.cpu_to_device,
        texts.loss_difference,
    ]);
    for Outcome { kind, fit, first_step_seconds, on_cpu, .. } in outcomes {
        let mut row = vec![
            kind.name().to_string(),
            device.kind().to_string(),
            format!("{:.2}", fit.seconds),
            format!("{first_step_seconds:.2}"),
            format!("{:.3}", ms_per_step(fit)),
            format!("{:.0}", tokens_per_second(fit, training)),
        ];
        match on_cpu {
            Some(cpu) => row.extend([
                format!("{:.3}", ms_per_step(cpu)),
                format!("{:.2}", cpu.seconds / fit.seconds),
                format!("{:.1e}", loss_difference(fit, cpu)),
            ]),
            None => row.extend([format!("{:.3}", ms_per_step(fit)), "1.00".into(), "–".into()]),
        }
        table.push(row);
    }
    table.to_string()
}

fn comparison(lang: Lang, table: &Table, setting: &Setting, outcomes: &[Outcome], persistence: &Metrics) -> Comparison {
    let Setting { windows, training, .. } = setting;
    let layout = windows.layout();
    let (scaler, values) = (&windows.scalers()[0][0], table.column(&layout.targets[0]).unwrap_or_default());
    let target = |start: usize| start + training.window();
    let model = |outcome: &Outcome| Model {
        name: outcome.kind.name().into(),
        epochs: outcome
            .fit
            .epochs
            .iter()
            .map(|score| Epoch {
                train_ratio: score.train_mse / outcome.fit.train_persistence_mse,
                valid_ratio: score.valid_mse / persistence.mse,
            })
            .collect(),
        predictions: outcome.predictions.iter().map(|&value| scaler.inverse(f64::from(value))).collect(),
    };
    let numbers = [training.window(), training.hidden(), training.batch(), training.epochs()].map(|number| number.to_string());
    Comparison {
        series: title(std::slice::from_ref(table), layout, lang),
        source: lang.message(&table.source().message()),
        is_synthetic: table.is_synthetic(),
        settings: fill(lang.texts().settings, numbers.each_ref().map(String::as_str)),
        rows: windows
            .valid()
            .iter()
            .map(target)
            .map(|row| Row { date: table.row_name(row), actual: values[row], last: values[row - 1] })
            .collect(),
        models: outcomes.iter().map(model).collect(),
    }
}

fn report(
    outcomes: &[Outcome],
    scored: &Scoreboard<'_>,
    device: &Device,
    table: &Table,
    since_start: f64,
    training: &TrainingArgs,
) -> serde_json::Value {
    let models: serde_json::Map<_, _> = outcomes
        .iter()
        .map(|Outcome { kind, fit, first_step_seconds, on_cpu, .. }| {
            let figures = json!({
                "layers": training.model(*kind).layers,
                "epochs": fit.epochs,
                "best_epoch": fit.best_epoch,
                "metrics": fit.metrics,
                "seconds": fit.seconds,
                "first_step_seconds": first_step_seconds,
                "ms_per_step": ms_per_step(fit),
                "tokens_per_second": tokens_per_second(fit, training),
                "cpu_seconds": on_cpu.as_ref().unwrap_or(fit).seconds,
                "cpu_ms_per_step": ms_per_step(on_cpu.as_ref().unwrap_or(fit)),
                "cpu_tokens_per_second": tokens_per_second(on_cpu.as_ref().unwrap_or(fit), training),
                "largest_loss_difference": on_cpu.as_ref().map(|cpu| loss_difference(fit, cpu)),
            });
            (kind.name().to_string(), figures)
        })
        .collect();
    json!({
        "device": device.kind(),
        "adapter": device.backend().name(),
        "kernels": device.kernels(),
        "first_step_seconds": since_start,
        "data": { "source": table.source().to_string(), "synthetic": table.is_synthetic(), "column": scored.target(), "rows": table.n_row() },
        "settings": {
            "window": training.window(), "hidden": training.hidden(), "batch": training.batch(),
            "epochs": training.epochs(), "seed": training.seed, "loss": training.loss(),
        },
        "models": models,
        "persistence": scored.persistence().scaled,
        "validation": scored.json(),
    })
}
