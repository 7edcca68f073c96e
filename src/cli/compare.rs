//! `compare`: models and baselines on one split, over several seeds.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::data::{DataArgs, LayoutArgs, SeasonArgs, SplitArgs, sources, title, used};
use super::device::{Device, DeviceArgs};
use super::experiment::{self, spread};
use super::scores;
use super::setting::Setting;
use super::training::TrainingArgs;
use crate::dataset::{Table, Windows};
use crate::error::{Error, Result};
use crate::metrics::Evaluation;
use crate::model::ModelKind;
use crate::report::chart::{self, Chart, Line, Look, Panel, Places};
use crate::report::language::{Texts, fill};
use crate::report::table::significant;
use crate::report::{Lang, TextTable};
use crate::train::EpochScore;

/// Name of the picture.
const PICTURE: &str = "compare.png";

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Models to compare, separated by commas, or `all` for the four whose cost is linear
    #[arg(long, default_value = "min-gru-scan,mamba")]
    models: String,
    /// Trainings of each model, with seeds from --seed upwards
    #[arg(long, default_value_t = 3)]
    seeds: u64,
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
    /// Folder for the picture
    #[arg(long, default_value = ".", value_name = "DIR")]
    out_dir: PathBuf,
    /// Write every figure as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Read options from a file: `window = 96` is --window 96; options on the command line override the file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    // last: its heading would be that of whatever follows
    #[command(flatten)]
    training: TrainingArgs,
}

/// What one name scored, a seed each; baselines have one.
struct Entry {
    name: String,
    look: Look,
    evaluations: Vec<Evaluation>,
    epochs: Vec<EpochScore>,
    /// Trainings of which no epoch was enough better than the start.
    n_start: usize,
    seconds: f64,
}

impl Entry {
    fn spread(&self, figure: impl Fn(&Evaluation) -> f64) -> (f64, f64) {
        spread(&self.evaluations.iter().map(figure).collect::<Vec<_>>())
    }

    fn mse(&self) -> (f64, f64) {
        self.spread(|evaluation| evaluation.overall.scaled.mse)
    }
}

pub async fn run(args: &Args, lang: Lang) -> Result<ExitCode> {
    if args.seeds == 0 {
        return Err(Error::option("--seeds", 0, message!("must be at least 1")));
    }
    if args.training.seed.checked_add(args.seeds).is_none() {
        return Err(Error::option("--seed", args.training.seed, message!("there are fewer than {} seeds after it", args.seeds)));
    }
    let kinds = experiment::models(&args.models)?;
    args.training.check(&kinds)?;
    crate::file::create_folder(&args.out_dir)?;
    let picture = args.out_dir.join(PICTURE);
    crate::file::check_outputs([&picture].into_iter().chain(&args.json), args.data.files(&args.out_dir).iter().chain(&args.config))?;
    let setting = Setting::read(&args.data, &args.layout, &args.split, &args.season, &args.training, args.out_dir.clone(), lang)?;
    let Setting { tables, windows, season, .. } = &setting;
    let device = Device::open(&args.device, lang).await?;
    let entries = entries(&kinds, args.seeds, &setting, &device, lang).await?;

    print!("\n{}", text(&entries, windows, args.seeds, lang.texts()));
    super::say_if_made_up(tables, lang);
    super::save_figures(args.json.as_deref(), || figures(&entries, windows, &device, *season), lang)?;
    let warning = chart::write(lang, &picture, |lang| chart(&entries, tables, windows, args, lang))?;
    super::say_drawn(&picture, warning, lang);
    Ok(ExitCode::SUCCESS)
}

/// Trains the models with every seed and scores them, then the baselines.
async fn entries(kinds: &[ModelKind], seeds: u64, setting: &Setting, device: &Device, lang: Lang) -> Result<Vec<Entry>> {
    let Setting { windows, training, linear, season, .. } = setting;
    let (season, texts) = (*season, lang.texts());
    let mut entries = Vec::new();
    for (index, &kind) in kinds.iter().enumerate() {
        let look = Look::Model(index);
        let mut entry = Entry { name: kind.name().into(), look, evaluations: Vec::new(), epochs: Vec::new(), n_start: 0, seconds: 0.0 };
        for seed in training.seed..training.seed + seeds {
            let outcome =
                experiment::run(kind, setting, seed, device, fill(texts.with_seed, [kind.name(), &seed.to_string()]), lang).await?;
            let evaluation = experiment::evaluate(windows, &outcome.forecasts, &training.loss(), season);
            let [mse, seconds] = [significant(evaluation.overall.scaled.mse, 5), format!("{:.1}", outcome.fit.seconds)];
            println!("{}", fill(texts.seed_line, [kind.name(), &seed.to_string(), &mse, &seconds]));
            entry.seconds += outcome.fit.seconds;
            entry.n_start += usize::from(outcome.fit.best_epoch == 0);
            entry.evaluations.push(evaluation);
            if entry.epochs.is_empty() {
                entry.epochs = outcome.fit.epochs;
            }
        }
        entries.push(entry);
    }
    for baseline in scores::baselines(season, linear.clone(), lang) {
        let evaluations = vec![baseline.evaluate(windows, windows.scored(), season)];
        entries.push(Entry { name: baseline.name(), look: Look::Baseline, evaluations, epochs: Vec::new(), n_start: 0, seconds: 0.0 });
    }
    Ok(entries)
}

/// The entry that all are held against.
fn persistence(entries: &[Entry]) -> f64 {
    entries.iter().find(|entry| entry.name == "persistence").map_or(f64::NAN, |entry| entry.mse().0)
}

fn text(entries: &[Entry], windows: &Windows, seeds: u64, texts: &Texts) -> String {
    let part = experiment::scored_part(windows);
    let persistence = persistence(entries);
    let mut table = TextTable::new([texts.part(part), "MSE", "+-", "MAE", "+-", texts.to_persistence, "MASE", texts.seconds]);
    let mut ranked: Vec<&Entry> = entries.iter().collect();
    ranked.sort_by(|a, b| a.mse().0.total_cmp(&b.mse().0));
    for entry in &ranked {
        let (mse, mae) = (entry.mse(), entry.spread(|evaluation| evaluation.overall.scaled.mae));
        let mase = entry.spread(|evaluation| evaluation.overall.mase).0;
        let deviation = |deviation: f64| if entry.evaluations.len() < 2 { "–".into() } else { significant(deviation, 2) };
        table.push([
            entry.name.clone(),
            significant(mse.0, 5),
            deviation(mse.1),
            significant(mae.0, 5),
            deviation(mae.1),
            scores::ratio(mse.0, persistence),
            scores::known(mase, significant(mase, 4)),
            if entry.look == Look::Baseline { "–".into() } else { format!("{:.1}", entry.seconds) },
        ]);
    }
    let mut text = format!("{table}{}\n", fill(texts.over_seeds, [&seeds.to_string()]));
    let is_model = |entry: &&&Entry| entry.look != Look::Baseline;
    for entry in ranked.iter().filter(is_model).filter(|entry| entry.mse().0 > persistence) {
        text += &(fill(texts.lost, [&entry.name, &format!("{:.4}", entry.mse().0 / persistence)]) + "\n");
    }
    for entry in ranked.iter().filter(|entry| entry.n_start > 0) {
        let counts = [entry.n_start, entry.evaluations.len()].map(|count| count.to_string());
        text += &(fill(texts.starts_kept, [&entry.name, &counts[0], &counts[1]]) + "\n");
    }
    text
}

fn chart(entries: &[Entry], tables: &[Table], windows: &Windows, args: &Args, lang: Lang) -> Chart {
    let texts = lang.texts();
    let horizon = windows.layout().horizon;
    let rows = entries.iter().map(|entry| {
        let (mean, deviation) = entry.mse();
        (entry.name.clone(), entry.look, mean, deviation)
    });
    let mut panels = vec![Panel::Scores {
        heading: fill(texts.errors_over_seeds, [&args.seeds.to_string()]),
        label: texts.mse.into(),
        rows: rows.collect(),
        level: Some(persistence(entries)),
    }];
    let shown = || entries.iter().filter(|entry| entry.look != Look::Baseline || entry.name == "persistence");
    if horizon > 1 {
        let steps =
            |entry: &Entry| (0..horizon).map(|step| entry.spread(|evaluation| evaluation.steps[step].scaled.mse).0).collect::<Vec<_>>();
        panels.push(Panel::Lines {
            heading: texts.error_by_step.into(),
            x: Places::Counts(horizon, texts.steps_ahead.into()),
            y_label: texts.mse.into(),
            lines: shown().map(|entry| Line::new(entry.look, 1, steps(entry))).collect(),
            level: None,
            border: None,
        });
    }
    let n_epoch = entries.iter().map(|entry| entry.epochs.len()).max().unwrap_or(0);
    let curves = entries.iter().filter(|entry| !entry.epochs.is_empty()).flat_map(|entry| {
        let Look::Model(index) = entry.look else { return Vec::new() };
        vec![
            Line::new(Look::Training(index), 1, entry.epochs.iter().map(|epoch| epoch.train_mse)),
            Line::new(entry.look, 1, entry.epochs.iter().map(|epoch| epoch.valid_mse)),
        ]
    });
    panels.push(Panel::Lines {
        heading: texts.curves.into(),
        x: Places::Counts(n_epoch, texts.epoch.into()),
        y_label: texts.mse.into(),
        lines: curves.collect(),
        level: None,
        border: None,
    });
    let used = used(tables, windows);
    Chart {
        title: title(&used, windows.layout(), lang),
        remarks: vec![
            fill(texts.source, [&sources(&used, lang)]),
            fill(texts.ahead, [&windows.layout().window.to_string(), &horizon.to_string()]),
        ],
        is_synthetic: tables.iter().any(Table::is_synthetic),
        legend: shown().map(|entry| (entry.name.clone(), entry.look)).collect(),
        panels,
        n_column: 1,
    }
}

fn figures(entries: &[Entry], windows: &Windows, device: &Device, season: usize) -> Value {
    let entry = |entry: &Entry| {
        let (mse, mse_deviation) = entry.mse();
        let (mae, mae_deviation) = entry.spread(|evaluation| evaluation.overall.scaled.mae);
        json!({
            "name": entry.name,
            "is_baseline": entry.look == Look::Baseline,
            "mse": mse,
            "mse_deviation": mse_deviation,
            "mae": mae,
            "mae_deviation": mae_deviation,
            "seconds": entry.seconds,
            "evaluations": entry.evaluations,
        })
    };
    json!({
        "device": device.kind(),
        "adapter": device.backend().name(),
        "part": experiment::scored_part(windows),
        "season": season,
        "layout": windows.layout(),
        "entries": entries.iter().map(entry).collect::<Vec<_>>(),
    })
}
