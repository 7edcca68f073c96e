//! `backtest`: a model trained again and again as time goes on, scored on what came next.

use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Map, Value, json};

use super::data::{DataArgs, LayoutArgs, SeasonArgs, sources, title};
use super::device::{Device, DeviceArgs};
use super::experiment::{self, spread};
use super::pictures::{Forecasts, Shown};
use super::scores;
use super::setting::Setting;
use super::training::TrainingArgs;
use crate::baseline::{Baseline, Linear};
use crate::dataset::{Layout, Partition, Scaler, Table, Windows};
use crate::error::{Error, Result};
use crate::metrics::Evaluation;
use crate::model::ModelKind;
use crate::report::chart::{self, Chart, Look, Panel};
use crate::report::language::{Texts, fill};
use crate::report::table::significant;
use crate::report::{Lang, TextTable};
use crate::train::Series;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Model: min-gru, min-gru-scan, mamba-lab, mamba or hybrid
    #[arg(long, default_value = "min-gru-scan")]
    model: ModelKind,
    /// How many points in time to forecast from
    #[arg(long, default_value_t = 5)]
    origins: usize,
    /// Rows scored after each origin, up to the next [default: the horizon, but at least a fiftieth of all rows]
    #[arg(long, value_name = "ROWS")]
    test_rows: Option<usize>,
    /// Share of the rows before an origin that is used for validation (early stopping, plateaus), not for training
    #[arg(long, default_value_t = 0.2, value_name = "SHARE")]
    valid_share: f64,
    /// Train on only this many rows before each origin, validation rows included
    #[arg(long, value_name = "ROWS")]
    sliding: Option<usize>,
    /// Train at the first origin only
    #[arg(long)]
    no_refit: bool,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    layout: LayoutArgs,
    #[command(flatten)]
    season: SeasonArgs,
    /// Folder for the pictures
    #[arg(long, default_value = "backtest", value_name = "DIR")]
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

/// Scores at one origin.
struct Origin {
    /// The first row that is scored.
    row: usize,
    date: String,
    n_train: usize,
    best_epoch: Option<usize>,
    model: Evaluation,
    /// Persistence first.
    baselines: Vec<(String, Evaluation)>,
}

impl Origin {
    fn persistence(&self) -> &Evaluation {
        &self.baselines[0].1
    }

    /// The error of a model or a baseline over that of persistence.
    fn ratio_of(&self, evaluation: &Evaluation) -> f64 {
        evaluation.overall.scaled.mse / self.persistence().overall.scaled.mse
    }

    fn ratio(&self) -> f64 {
        self.ratio_of(&self.model)
    }
}

/// The results of a training at one origin, which later origins may use.
struct Kept {
    parameters: Vec<Vec<f32>>,
    scalers: Vec<Vec<Scaler>>,
    linear: Option<Linear>,
}

pub async fn run(args: &Args, lang: Lang) -> Result<ExitCode> {
    args.training.check(&[args.model])?;
    crate::file::create_folder(&args.out_dir)?;
    crate::file::check_outputs(&args.json, args.data.files(&args.out_dir).iter().chain(&args.config))?;
    let (training, texts) = (&args.training, lang.texts());
    // each fold has parts of its own
    let (tables, layout) = args.layout.tables(&args.data, Partition::Rows([0; 3]), training, args.out_dir.clone(), lang)?;
    let [table] = &tables[..] else {
        return Err(Error::Option {
            option: "--csv".into(),
            got: message!("{} series", tables.len()),
            expected: message!("backtest walks through one series: give a CSV file of that series alone"),
        });
    };
    let folds = folds(args, table.n_row())?;
    // What is chosen from the series is chosen at the first origin, once.
    let first = folds[0].setting(table, &layout, training, &args.season, lang)?;
    let (training, layout, season) = (first.training.clone(), first.windows.layout().clone(), first.season);
    let device = Device::open(&args.device, lang).await?;

    let mut walk =
        Walk { args, table, layout: &layout, training: &training, season, device: &device, lang, first: Some(first), kept: None };
    let mut origins: Vec<Origin> = Vec::new();
    for (index, fold) in folds.iter().enumerate() {
        let numbers = [index + 1, folds.len()].map(|number| number.to_string());
        let title = fill(texts.at_origin, [args.model.name(), &numbers[0], &numbers[1], &walk.date(fold)]);
        let step = walk.step(fold, title).await?;
        let origin = walk.score(fold, &step);
        let [mse, ratio] = [significant(origin.model.overall.scaled.mse, 5), scores::fixed(origin.ratio(), 4)];
        println!("{}", fill(texts.origin_line, [&format!("{:3}", index + 1), &origin.date, &mse, &ratio]));
        let picture = args.out_dir.join(format!("origin-{:02}.png", index + 1));
        let drawn = |lang| picture_of(&origin, &step.setting, &step.forecasts, args, lang);
        let warning = chart::write(lang, &picture, drawn)?;
        warning.filter(|_| index == 0).inspect(|warning| super::warn(warning, lang));
        origins.push(origin);
    }

    print!("\n{}", text(&origins, args, lang));
    super::say_if_made_up(&tables, lang);
    super::save_figures(args.json.as_deref(), || figures(&origins, args, &device, season), lang)?;
    let picture = args.out_dir.join("backtest.png");
    chart::write(lang, &picture, |lang| overview(&origins, table, &layout, args, lang))?;
    println!("{}", fill(texts.pictures, [&picture.display().to_string()]));
    Ok(ExitCode::SUCCESS)
}

/// What all origins share.
struct Walk<'a> {
    args: &'a Args,
    table: &'a Table,
    layout: &'a Layout,
    training: &'a TrainingArgs,
    season: usize,
    device: &'a Device,
    lang: Lang,
    /// The setting at the first origin, until that is trained on.
    first: Option<Setting>,
    kept: Option<Kept>,
}

/// Forecasts of the windows after an origin.
struct Step {
    setting: Setting,
    forecasts: Vec<f32>,
    /// None where nothing was trained.
    best_epoch: Option<usize>,
}

impl Walk<'_> {
    /// Forecasts what follows an origin: trained there, or at the first one where that is wanted; `title` is shown while it trains.
    async fn step(&mut self, fold: &Fold, title: String) -> Result<Step> {
        let Walk { args, table, layout, training, season, device, lang, .. } = *self;
        if args.no_refit
            && let Some(Kept { parameters, scalers, linear }) = &self.kept
        {
            let tables = vec![table.between(fold.rows.clone())?];
            let windows = Windows::with_scalers(&tables, &fold.layout(layout), scalers.clone())?;
            let setting = Setting { tables, windows, training: training.clone(), season, linear: linear.clone() };
            let series = Series::from(&setting.windows);
            let forecasts = setting.evaluator(args.model)?.forecast(device.backend(), &series, &series.test, parameters).await?;
            return Ok(Step { setting, forecasts, best_epoch: None });
        }
        let setting = match self.first.take() {
            Some(first) => first,
            None => fold.setting(table, layout, training, &SeasonArgs::known(season), lang)?,
        };
        let outcome = experiment::run(args.model, &setting, training.seed, device, title, lang).await?;
        let best_epoch = Some(outcome.fit.best_epoch);
        let (scalers, linear) = (setting.windows.scalers().to_vec(), setting.linear.clone());
        self.kept = Some(Kept { parameters: outcome.fit.parameters, scalers, linear });
        Ok(Step { setting, forecasts: outcome.forecasts, best_epoch })
    }

    fn score(&self, fold: &Fold, step: &Step) -> Origin {
        let windows = &step.setting.windows;
        let scored = |baseline: Baseline| (baseline.name(), baseline.evaluate(windows, windows.test(), self.season));
        Origin {
            row: fold.origin(),
            date: self.date(fold),
            n_train: fold.parts[0],
            best_epoch: step.best_epoch,
            model: experiment::evaluate(windows, &step.forecasts, &self.training.loss(), self.season),
            baselines: Baseline::all(self.season, step.setting.linear.clone()).into_iter().map(scored).collect(),
        }
    }

    /// The date of an origin, or its row.
    fn date(&self, fold: &Fold) -> String {
        self.table.row_name(fold.origin())
    }
}

/// The rows of the series that an origin sees, the last of them scored.
#[derive(Debug, PartialEq)]
struct Fold {
    rows: Range<usize>,
    /// Rows of each part: training, validation, test.
    parts: [usize; 3],
}

impl Fold {
    /// The first row that is scored.
    fn origin(&self) -> usize {
        self.rows.end - self.parts[2]
    }

    fn layout(&self, layout: &Layout) -> Layout {
        Layout { partition: Partition::Rows(self.parts), ..layout.clone() }
    }

    fn setting(&self, table: &Table, layout: &Layout, training: &TrainingArgs, season: &SeasonArgs, lang: Lang) -> Result<Setting> {
        let tables = vec![table.between(self.rows.clone())?];
        Setting::new(tables, &self.layout(layout), training, season, lang)
    }
}

/// The origins, spaced so that the last one's scored rows end the series.
fn folds(args: &Args, n_row: usize) -> Result<Vec<Fold>> {
    let horizon = args.training.horizon;
    let test_rows = args.test_rows.unwrap_or_else(|| horizon.max(n_row / 50));
    if args.origins == 0 {
        return Err(Error::option("--origins", 0, message!("must be at least 1")));
    }
    if test_rows < horizon {
        return Err(Error::option("--test-rows", test_rows, message!("must be at least --horizon {}", horizon)));
    }
    if !(args.valid_share > 0.0 && args.valid_share < 1.0) {
        return Err(Error::option("--valid-share", args.valid_share, message!("must be between 0 and 1")));
    }
    let scored = args.origins.saturating_mul(test_rows);
    let first = n_row.checked_sub(scored).filter(|&first| first > 0).ok_or_else(|| {
        Error::option("--origins", args.origins, message!("with {} rows each they need {} of {} rows: use fewer", test_rows, scored, n_row))
    })?;
    let fold = |index: usize| {
        let origin = first + index * test_rows;
        let start = args.sliding.map_or(0, |rows| origin.saturating_sub(rows));
        let n_valid = (((origin - start) as f64 * args.valid_share) as usize).max(horizon);
        let n_train = (origin - start).saturating_sub(n_valid);
        Fold { rows: start..origin + test_rows, parts: [n_train, n_valid, test_rows] }
    };
    let folds: Vec<Fold> = (0..args.origins).map(fold).collect();
    check_rows(args, &folds[0])?;
    Ok(folds)
}

/// Checks that a window can be trained on before the first origin, which has the fewest rows before it.
fn check_rows(args: &Args, first: &Fold) -> Result<()> {
    let (horizon, n_train) = (args.training.horizon, first.parts[0]);
    let window = args.training.windows(n_train).into_iter().max().unwrap_or(1);
    let needed = window.saturating_add(horizon);
    if n_train >= needed {
        return Ok(());
    }
    let n_row = first.origin() - first.rows.start;
    let n_needed = ((needed as f64 / (1.0 - args.valid_share)).ceil() as usize).max(needed.saturating_add(horizon));
    let what = message!("only {} rows before the first origin are used; window, horizon and --valid-share need {}", n_row, n_needed);
    Err(match args.sliding {
        Some(rows) if rows < n_needed => Error::option("--sliding", rows, what),
        _ => Error::option("--origins", args.origins, what),
    })
}

fn text(origins: &[Origin], args: &Args, lang: Lang) -> String {
    let texts = lang.texts();
    let mut table = TextTable::new([
        texts.origin_column,
        texts.training_rows,
        texts.windows,
        "MSE",
        "MAE",
        texts.persistence_mse,
        texts.to_persistence,
        texts.best_epoch,
    ]);
    for origin in origins {
        let scores = &origin.model.overall.scaled;
        table.push([
            origin.date.clone(),
            origin.n_train.to_string(),
            origin.model.n_window.to_string(),
            significant(scores.mse, 5),
            significant(scores.mae, 5),
            significant(origin.persistence().overall.scaled.mse, 5),
            scores::ratio(origin.model.overall.scaled.mse, origin.persistence().overall.scaled.mse),
            origin.best_epoch.map_or_else(|| "–".into(), |epoch| epoch.to_string()),
        ]);
    }
    let ratios: Vec<f64> = origins.iter().map(Origin::ratio).collect();
    let (mean, deviation) = spread(&ratios);
    let n_lost = ratios.iter().filter(|&&ratio| ratio > 1.0).count();
    let [mean, deviation] = [mean, deviation].map(|figure| scores::fixed(figure, 4));
    let mut lines = vec![fill(texts.over_origins, [&mean, &deviation, &origins.len().to_string()])];
    if n_lost > 0 {
        lines.push(fill(texts.lost_at, [args.model.name(), &n_lost.to_string()]));
    }
    // trained once, there is nothing that each origin uses
    if args.no_refit {
        lines.push(texts.no_refit.into());
    } else {
        lines.push(texts.refit.into());
        lines.push((if args.sliding.is_some() { texts.sliding } else { texts.expanding }).into());
    }
    format!("{table}\n{}{}\n", means(origins, args, texts), lines.join("\n"))
}

/// Mean errors over the origins, of the model and of the baselines that there are at every one.
fn means(origins: &[Origin], args: &Args, texts: &Texts) -> TextTable {
    let mut rows: Vec<(&str, Vec<&Evaluation>)> = vec![(args.model.name(), origins.iter().map(|origin| &origin.model).collect())];
    for (name, _) in &origins[0].baselines {
        let of = |origin: &'_ Origin| origin.baselines.iter().position(|(other, _)| other == name);
        let found: Option<Vec<_>> = origins.iter().map(|origin| Some(&origin.baselines[of(origin)?].1)).collect();
        rows.extend(found.map(|evaluations| (name.as_str(), evaluations)));
    }
    let mut table = TextTable::new([&fill(texts.mean_of_origins, [&origins.len().to_string()]), "MSE", "MAE", texts.to_persistence]);
    for (name, evaluations) in rows {
        let mean = |figure: &dyn Fn(&Origin, &Evaluation) -> f64| {
            spread(&origins.iter().zip(&evaluations).map(|(origin, evaluation)| figure(origin, evaluation)).collect::<Vec<_>>()).0
        };
        table.push([
            name.into(),
            significant(mean(&|_, evaluation| evaluation.overall.scaled.mse), 5),
            significant(mean(&|_, evaluation| evaluation.overall.scaled.mae), 5),
            scores::fixed(mean(&Origin::ratio_of), 4),
        ]);
    }
    table
}

/// A chart of the forecasts after the origin beside the actual values.
fn picture_of(origin: &Origin, setting: &Setting, forecasts: &[f32], args: &Args, lang: Lang) -> Chart {
    let texts = lang.texts();
    let Setting { tables, windows, .. } = setting;
    let heading = fill(texts.origin, [&title(tables, windows.layout(), lang), &origin.date]);
    let (name, loss) = (args.model.name(), args.training.loss());
    let mut chart = Forecasts { tables, windows, values: forecasts, loss: &loss }.chart(name, heading, Shown::First, lang);
    chart.remarks.push(fill(texts.against, [&significant(origin.model.overall.scaled.mse, 4), &scores::fixed(origin.ratio(), 3)]));
    chart
}

/// Origins of the overview, at most.
const MOST_DRAWN: usize = 100;

/// The errors over the origins: evenly spaced ones where there are too many to draw.
fn overview(origins: &[Origin], table: &Table, layout: &Layout, args: &Args, lang: Lang) -> Chart {
    let texts = lang.texts();
    let drawn = origins.iter().step_by(origins.len().div_ceil(MOST_DRAWN).max(1));
    let rows: Vec<_> = drawn.map(|origin| (origin.date.clone(), Look::Model(0), origin.ratio(), 0.0)).collect();
    let mut remarks = vec![fill(texts.source, [&sources(std::slice::from_ref(table), lang)])];
    if rows.len() < origins.len() {
        remarks.push(fill(texts.origins_shown, [&rows.len().to_string(), &origins.len().to_string()]));
    }
    Chart {
        title: title(std::slice::from_ref(table), layout, lang),
        remarks,
        is_synthetic: table.is_synthetic(),
        legend: vec![(args.model.name().into(), Look::Model(0)), (texts.persistence.into(), Look::Baseline)],
        panels: vec![Panel::Scores { heading: texts.error_by_origin.into(), label: texts.mse_ratio.into(), rows, level: Some(1.0) }],
        n_column: 1,
    }
}

fn figures(origins: &[Origin], args: &Args, device: &Device, season: usize) -> Value {
    let origin = |origin: &Origin| {
        json!({
            "row": origin.row,
            "date": origin.date,
            "training_rows": origin.n_train,
            "best_epoch": origin.best_epoch,
            "model": origin.model,
            "persistence": origin.persistence(),
            "baselines": origin.baselines.iter().map(|(name, evaluation)| (name.clone(), json!(evaluation))).collect::<Map<_, _>>(),
            "mse_ratio": origin.ratio(),
        })
    };
    json!({
        "device": device.kind(),
        "adapter": device.backend().name(),
        "model": args.model,
        "season": season,
        "origins": origins.iter().map(origin).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};
    use crate::dataset::Source;

    #[test]
    fn an_overview_draws_no_more_origins_than_can_be_read() {
        let Command::Backtest(args) = Cli::parse_from(["scanrnn", "backtest"]).command else { panic!("another command") };
        let values = (0..60).map(|row| (row as f64 / 3.0).sin()).collect();
        let table = Table::new(Source::Memory("wave".into()), None, vec![("wave".into(), values)]).expect("a table");
        let layout = Layout::one_column("wave", 8, 1);
        let windows = Windows::new(std::slice::from_ref(&table), &layout).expect("windows");
        let evaluation = Baseline::Persistence.evaluate(&windows, windows.scored(), 1);
        for (n_origin, n_drawn) in [(100, 100), (101, 51), (5000, 100)] {
            let origin = |row: usize| Origin {
                row,
                date: row.to_string(),
                n_train: 40,
                best_epoch: None,
                model: evaluation.clone(),
                baselines: vec![("persistence".into(), evaluation.clone())],
            };
            let origins: Vec<Origin> = (0..n_origin).map(origin).collect();
            let chart = overview(&origins, &table, &layout, &args, Lang::En);
            let [Panel::Scores { rows, .. }] = &chart.panels[..] else { panic!("not one panel") };
            assert_eq!(rows.len(), n_drawn);
            let is_said = chart.remarks.contains(&format!("{n_drawn} of {n_origin} origins drawn"));
            assert_eq!(is_said, n_drawn < n_origin, "{:?}", chart.remarks);
        }
    }
}
