//! `forecast`: the rows that come after a series' last one.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use csv::Writer;

use super::data::{DataArgs, SeriesColumns, say_unused, sources};
use super::device::{Device, DeviceArgs};
use super::pictures::{self, MOST_PANELS};
use crate::checkpoint::{Checkpoint, Description};
use crate::dataset::{CALENDAR, Dates, Scaler, Table, Windows};
use crate::error::{Error, Result};
use crate::model::StreamGraph;
use crate::report::Lang;
use crate::report::chart::{self, Chart, Line, Look, Panel, Places};
use crate::report::language::fill;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The checkpoint that `train` wrote
    #[arg(long, value_name = "FILE")]
    checkpoint: PathBuf,
    /// Rows to forecast; those beyond the model's horizon are forecast from its own forecasts [default: the model's horizon]
    #[arg(long, value_name = "ROWS")]
    horizon: Option<usize>,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    data: DataArgs,
    /// CSV file for the forecast
    #[arg(long, default_value = "forecast.csv", value_name = "FILE")]
    out: PathBuf,
    /// PNG file for the picture
    #[arg(long, default_value = "forecast.png", value_name = "FILE")]
    picture: PathBuf,
}

/// Rows of the history that are taken at once where states are carried from row to row.
const WALK: usize = 128;

/// The forecast of a table.
struct Future {
    /// One per row; empty where the table has no dates, or dates without a regular step.
    dates: Vec<String>,
    /// For each target, `(row, level)` in its unit.
    targets: Vec<Vec<f64>>,
}

/// How a row is forecast from those before it.
struct Model<'a> {
    description: &'a Description,
    /// The levels of a quantile loss.
    levels: &'a [f32],
    n_level: usize,
    central: usize,
}

pub async fn run(args: &Args, lang: Lang) -> Result<ExitCode> {
    let place = args.checkpoint.display().to_string();
    let Checkpoint { description, tensors } = super::read_checkpoint(&args.checkpoint)?;
    crate::file::check_outputs([&args.out, &args.picture], args.data.files(Path::new(".")).iter().chain([&args.checkpoint]))?;
    if args.picture.extension().is_none_or(|extension| !extension.eq_ignore_ascii_case("png")) {
        return Err(Error::option("--picture", args.picture.display(), message!("must end in .png, the only format of pictures")));
    }
    let horizon = args.horizon.unwrap_or(description.model.horizon);
    check(&description, horizon)?;
    let id = args.data.id_for(&description);
    let tables = args.data.tables_for(&description, id, lang)?;
    let tables = tables.into_iter().map(|table| until_last_values(table, &description, lang)).collect::<Result<Vec<_>>>()?;
    let scalers = description.scalers_of(&place, &tables)?;
    let (tables, scalers) = long_enough(tables, scalers, description.training.window, lang);
    let graph = description.stream(WALK)?;
    let device = Device::open(&args.device, lang).await?;
    let parameters = tensors.parameters(&place, graph.graph())?;
    let loss = &description.training.loss;
    let (levels, n_level) = (loss.levels(), loss.columns_per_output());
    let model = Model { description: &description, levels, n_level, central: loss.central_column() };
    let mut futures = Vec::new();
    for (table, scalers) in tables.iter().zip(&scalers) {
        futures.push(model.future(table, scalers, horizon, &graph, &parameters, &device).await?);
    }
    save(&args.out, &tables, &futures, &model, id)?;
    let texts = lang.texts();
    for (table, _) in tables.iter().zip(&futures).filter(|(table, future)| table.dates().is_some() && future.dates.is_empty()) {
        let warning = fill(texts.no_dates_ahead, [&lang.message(&table.source().message())]);
        super::warn(&warning, lang);
    }
    if n_level > 1 && horizon > description.model.horizon {
        let sizes = [description.model.horizon, horizon].map(|size| size.to_string());
        let warning = fill(texts.quantiles_beyond, sizes.each_ref().map(String::as_str));
        super::warn(&warning, lang);
    }
    let [targets, out] = [lang.list(&description.layout.targets), args.out.display().to_string()];
    println!("{}", fill(texts.forecast_rows, [&horizon.to_string(), &targets, &out]));
    let warning = chart::write(lang, &args.picture, |lang| picture(&tables, &futures, &model, horizon, lang))?;
    super::say_drawn(&args.picture, warning, lang);
    super::say_if_made_up(&tables, lang);
    Ok(ExitCode::SUCCESS)
}

/// The rows up to the last in which the targets have values of their own: those behind it, filled, are still to come and would be forecast
/// from as if nothing changed in them.
fn until_last_values(table: Table, description: &Description, lang: Lang) -> Result<Table> {
    let n_behind = table.n_filled_behind(&description.layout.targets);
    if n_behind == 0 {
        return Ok(table);
    }
    let note = message!("{}: {} rows after the targets' last values are left out", table.source().message(), n_behind);
    println!("{}", fill(lang.texts().data, [&lang.message(&note)]));
    // none remain where another column begins only behind them
    table.between(0..table.n_row().saturating_sub(n_behind))
}

/// The series that a window fits in, of several; the others are named and left out.
fn long_enough(tables: Vec<Table>, scalers: Vec<Vec<Scaler>>, window: usize, lang: Lang) -> (Vec<Table>, Vec<Vec<Scaler>>) {
    let is_used: Vec<bool> = tables.iter().map(|table| table.n_row() >= window).collect();
    if !is_used.contains(&true) {
        return (tables, scalers);
    }
    say_unused(&tables, &is_used, lang);
    tables.into_iter().zip(scalers).zip(is_used).filter(|(_, is_used)| *is_used).map(|(series, _)| series).unzip()
}

/// Checks that `horizon` rows can be forecast.
fn check(description: &Description, horizon: usize) -> Result<()> {
    if horizon == 0 {
        return Err(Error::option("--horizon", 0, message!("must be at least 1")));
    }
    let unknown: Vec<&str> = description.layout.covariates.iter().map(String::as_str).filter(|name| !CALENDAR.contains(name)).collect();
    if horizon > description.model.horizon && !unknown.is_empty() {
        let what = message!(
            "the model forecasts {} rows; further rows would need future values of {}: train with --horizon {}",
            description.model.horizon,
            unknown.join(", "),
            horizon
        );
        return Err(Error::option("--horizon", horizon, what));
    }
    Ok(())
}

/// Scaled values of the columns [`CALENDAR`] in the rows to come; none where their dates have no times, or are not in order.
fn calendar_ahead(table: &Table, dates: &[String], scalers: &[Scaler]) -> Option<Vec<Vec<f32>>> {
    let known = table.dates()?;
    let all = Dates { name: known.name.clone(), text: known.text.iter().chain(dates).cloned().collect() };
    let waves = all.calendar()?;
    let row = |row: usize| waves.iter().zip(scalers).map(|(wave, scaler)| scaler.scale(wave[row]) as f32).collect();
    Some((known.text.len()..all.text.len()).map(row).collect())
}

impl Model<'_> {
    async fn future(
        &self,
        table: &Table,
        scalers: &[Scaler],
        horizon: usize,
        graph: &StreamGraph,
        parameters: &[Vec<f32>],
        device: &Device,
    ) -> Result<Future> {
        let layout = &self.description.layout;
        let windows = Windows::unsplit(std::slice::from_ref(table), layout, vec![scalers.to_vec()])?;
        // within the model's own horizon nothing is read of the rows to come
        let needs_dates =
            horizon > self.description.model.horizon && layout.covariates.iter().any(|name| CALENDAR.contains(&name.as_str()));
        let dates = match table.dates().map(|dates| dates.continued(horizon)) {
            Some(Err(error)) if needs_dates => return Err(error),
            continued => continued.and_then(Result::ok).unwrap_or_default(),
        };
        let ahead = calendar_ahead(table, &dates, &scalers[layout.targets.len()..]);
        if needs_dates && ahead.is_none() {
            let what = message!("the dates of the rows to come would not be read as times after the last one");
            return Err(Error::data(table.source(), what, message!("write dates as 2024-01-31 16:00")));
        }
        let ahead = ahead.unwrap_or_default();
        let mut targets = vec![Vec::new(); layout.targets.len()];
        let (n_feature, n_target) = (windows.n_feature(), windows.n_target());
        for member in windows.members() {
            // a state that is carried comes from the first row on
            let first = if self.description.training.carry_state { member.rows.start } else { member.rows.end - layout.window };
            let rows = &windows.values()[first * n_feature..member.rows.end * n_feature];
            let forecast = self.member(rows, n_target, horizon, &ahead, graph, parameters, device).await?;
            for (index, value) in forecast.into_iter().enumerate() {
                let target = index / self.n_level % n_target;
                targets[member.columns[target]].push(windows.scaler(member, target).inverse(f64::from(value)));
            }
        }
        Ok(Future { dates, targets })
    }

    /// The forecast of one series, `(horizon, target, level)`, scaled, after rows of its features; `ahead` has the covariates that are
    /// known of the rows to come.
    async fn member(
        &self,
        rows: &[f32],
        n_target: usize,
        horizon: usize,
        ahead: &[Vec<f32>],
        graph: &StreamGraph,
        parameters: &[Vec<f32>],
        device: &Device,
    ) -> Result<Vec<f32>> {
        let mut stream = graph.load(device.backend(), parameters).await?;
        let mut next = stream.walk(rows).await?.unwrap_or_default();
        let mut forecast = next.clone();
        let n_row = n_target * self.n_level;
        while forecast.len() < horizon * n_row {
            let rows: Vec<Vec<f32>> =
                next.chunks(n_row).map(|row| row.iter().skip(self.central).step_by(self.n_level).copied().collect()).collect();
            let n_known = forecast.len() / n_row - rows.len();
            for (index, mut row) in rows.into_iter().enumerate() {
                row.extend(ahead.get(n_known + index).into_iter().flatten());
                next = stream.step(&row).await?.unwrap_or_default();
            }
            forecast.extend(&next);
        }
        forecast.truncate(horizon * n_row);
        Ok(forecast)
    }

    /// Names of a target's columns: its own, or one for each level.
    fn names(&self, target: &str) -> Vec<String> {
        match self.levels {
            [] => vec![target.to_string()],
            levels => levels.iter().map(|level| format!("{target} q{level}")).collect(),
        }
    }
}

/// Writes the rows: the series, the date or the number of rows ahead, the targets.
fn save(path: &Path, tables: &[Table], futures: &[Future], model: &Model<'_>, id: Option<&str>) -> Result<()> {
    let layout = &model.description.layout;
    crate::file::save(path, |file| {
        let mut writer = Writer::from_writer(file);
        let dates = tables.first().and_then(Table::dates).filter(|_| futures.iter().any(|future| !future.dates.is_empty()));
        let series = SeriesColumns::new(tables, id);
        let mut header = series.header();
        header.push(dates.map_or_else(|| "ahead".to_string(), |dates| dates.name.clone()));
        header.extend(layout.targets.iter().flat_map(|target| model.names(target)));
        writer.write_record(&header)?;
        for (table, future) in tables.iter().zip(futures) {
            let n_row = future.targets[0].len() / model.n_level;
            for row in 0..n_row {
                let mut record = series.of(table);
                record.push(future.dates.get(row).cloned().unwrap_or_else(|| (row + 1).to_string()));
                for target in &future.targets {
                    record.extend(target[row * model.n_level..(row + 1) * model.n_level].iter().map(f64::to_string));
                }
                writer.write_record(&record)?;
            }
        }
        writer.flush()
    })
}

/// History, forecast and band of the first series' targets, or of the first target of several series.
fn picture(tables: &[Table], futures: &[Future], model: &Model<'_>, horizon: usize, lang: Lang) -> Chart {
    let texts = lang.texts();
    let layout = &model.description.layout;
    let shown = tables.iter().zip(futures).flat_map(|(table, future)| (0..layout.targets.len()).map(move |target| (table, future, target)));
    let panel = |(table, future, target): (&Table, &Future, usize)| {
        let name = &layout.targets[target];
        let values = table.column(name).unwrap_or_default();
        let first = table.n_row().saturating_sub((3 * horizon).max(model.description.training.window).max(60));
        let n_history = table.n_row() - first;
        let past = (first..table.n_row()).map(|row| table.row_name(row));
        let to_come = (0..horizon).map(|row| future.dates.get(row).cloned().unwrap_or_else(|| (table.n_row() + row).to_string()));
        let levels = |row: usize| &future.targets[target][row * model.n_level..(row + 1) * model.n_level];
        let mut line = Line::new(Look::Model(0), n_history, (0..horizon).map(|row| levels(row)[model.central]));
        if model.n_level > 1 {
            line.band = (0..horizon).map(|row| ((n_history + row) as f64, levels(row)[0], levels(row)[model.n_level - 1])).collect();
        }
        let heading = if tables.len() > 1 { format!("{}: {name}", lang.message(&table.source().message())) } else { name.clone() };
        Panel::Lines {
            heading,
            x: Places::Rows(past.chain(to_come).collect()),
            y_label: name.clone(),
            lines: vec![Line::new(Look::Actual, 0, values[first..].iter().copied()), line],
            level: None,
            border: Some(n_history as f64 - 0.5),
        }
    };
    let n_panel = tables.len() * layout.targets.len();
    let panels: Vec<Panel> = shown.take(MOST_PANELS).map(panel).collect();
    let mut remarks = vec![fill(texts.source, [&sources(tables, lang)])];
    remarks.extend(pictures::left_out(panels.len(), n_panel, lang));
    if let [low, .., high] = model.levels {
        remarks.push(fill(texts.band, [&low.to_string(), &high.to_string()]));
    }
    if horizon > model.description.model.horizon {
        remarks.push(fill(texts.recursive, [&model.description.model.horizon.to_string()]));
    }
    Chart {
        title: fill(texts.forecast_title, [&lang.list(&layout.targets), &horizon.to_string()]),
        remarks,
        is_synthetic: tables.iter().any(Table::is_synthetic),
        legend: vec![(texts.actual.into(), Look::Actual), (model.description.model.model.name().into(), Look::Model(0))],
        n_column: if panels.len() > 1 { 2 } else { 1 },
        panels,
    }
}
