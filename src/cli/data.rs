//! Which series a command works on, and how they become windows.

use std::borrow::Borrow;
use std::path::{Path, PathBuf};

use csv::{ReaderBuilder, StringRecord};

use super::training::TrainingArgs;
use crate::Message;
use crate::baseline::find_season;
use crate::checkpoint::Description;
use crate::dataset::download::{Server, csv_path};
use crate::dataset::prices::{self, Request};
use crate::dataset::{
    CALENDAR, Channels, Columns, CsvOptions, Layout, Missing, Partition, Scaling, Source, Table, Windows, has_column, is_close,
};
use crate::error::{Error, Result};
use crate::report::Lang;
use crate::report::language::fill;
use crate::report::table::significant;

/// Options that choose the series.
#[derive(Debug, clap::Args)]
pub struct DataArgs {
    /// CSV file, plain or gzip; give several for several series [default: data/AAPL_stock_data.csv, or where that is missing a series that is made up]
    #[arg(long, value_name = "FILE")]
    csv: Vec<PathBuf>,
    /// Column of dates [default: one called date, time or similar, otherwise the first that starts with a date, otherwise years and their parts]
    #[arg(long, value_name = "NAME")]
    date: Option<String>,
    /// Column that tells the series in a file apart [default: none; forecast and evaluate: the checkpoint's]
    #[arg(long, value_name = "NAME")]
    id: Option<String>,
    /// How to treat cells without a value
    #[arg(long, value_enum, default_value = "error", value_name = "RULE")]
    missing: Missing,
    /// Download daily prices of a ticker first, and save them as TICKER_stock_data.csv; if that fails, local prices are used, or where there are none a series that is made up
    #[arg(long, value_name = "TICKER", conflicts_with = "csv")]
    download: Option<String>,
    /// Base address of the price server
    #[arg(long, hide = true)]
    download_from: Option<String>,
}

impl DataArgs {
    /// Column that tells the series in a file apart.
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// That column where a checkpoint is used: if none is given, the one that it was trained with, where all files have it.
    pub fn id_for<'a>(&'a self, description: &'a Description) -> Option<&'a str> {
        let have_it = |id: &&str| !self.csv.is_empty() && self.csv.iter().all(|path| has_column(path, id));
        self.id().or_else(|| description.id.as_deref().filter(have_it))
    }

    /// The files that it reads, and the one in a folder that a download is saved to.
    pub fn files(&self, save_folder: &Path) -> Vec<PathBuf> {
        let downloaded = self.download.as_ref().map(|ticker| csv_path(save_folder, ticker));
        self.csv.iter().cloned().chain(downloaded).collect()
    }

    /// The file from which a later run reads the values of `tables` again, where `--download` was given: what is downloaded later has later
    /// rows. None for a series that was made up.
    pub fn file_of_download(&self, save_folder: &Path, tables: &[Table]) -> Option<PathBuf> {
        let ticker = self.download.as_ref()?;
        match tables.first()?.source() {
            Source::Download { .. } => Some(csv_path(save_folder, ticker)),
            Source::File(path) | Source::Series { path, .. } => Some(path.clone()),
            Source::Synthetic { .. } | Source::Memory(_) => None,
        }
    }

    /// Reads the series, which the column `id` tells apart, or makes one up by `seed` where none is found; prints each step.
    fn tables(&self, columns: Columns<'_>, id: Option<&str>, save_folder: PathBuf, seed: Option<u64>, lang: Lang) -> Result<Vec<Table>> {
        let (named, with_calendar) = match &columns {
            Columns::Named(names) => {
                let read: Vec<&str> = names.iter().copied().filter(|name| !CALENDAR.contains(name)).collect();
                let with_calendar = read.len() < names.len();
                (Some(read), with_calendar)
            }
            _ => (None, false),
        };
        let columns = named.as_deref().map_or(columns, Columns::Named);
        let mut server = Server::default();
        if let Some(base_url) = &self.download_from {
            server.base_url.clone_from(base_url);
        }
        let request = Request {
            download: self.download.as_deref(),
            server,
            csv: self.csv.clone(),
            folders: vec!["data".into(), ".".into()],
            default_ticker: "AAPL",
            save_folder,
            options: CsvOptions { columns, date: self.date.as_deref(), id, missing: self.missing },
            seed,
        };
        let tables = prices::resolve(&request, &mut |note| println!("{}", fill(lang.texts().data, [&lang.message(&note)])))?;
        if with_calendar { tables.iter().map(Table::with_calendar).collect() } else { Ok(tables) }
    }

    /// Reads the series that a checkpoint is used on, which the column `id` ([`DataArgs::id_for`]) tells apart. None is made up, unless the
    /// checkpoint was trained on such.
    pub fn tables_for(&self, description: &Description, id: Option<&str>, lang: Lang) -> Result<Vec<Table>> {
        let columns: Vec<&str> = description.layout.columns().collect();
        let seed = description.training.seed;
        let is_made_up = description.sources.contains(&Source::Synthetic { seed }.to_string());
        self.tables(Columns::Named(&columns), id, ".".into(), is_made_up.then_some(seed), lang)
    }
}

/// The option of a season, for scores.
#[derive(Debug, clap::Args)]
pub struct SeasonArgs {
    /// Rows of a season, for the seasonal baseline and MASE; 1 for none [default: found in the training rows]
    #[arg(long, value_name = "ROWS")]
    season: Option<usize>,
}

impl SeasonArgs {
    /// A known season of `rows` rows, or 1 for none.
    pub fn known(rows: usize) -> Self {
        SeasonArgs { season: Some(rows) }
    }

    /// Rows of a season of the windows; 1 where there is none.
    ///
    /// # Errors
    /// [`Error::Option`] where a season is given that no series' training rows can be compared with.
    pub fn of(&self, windows: &Windows) -> Result<usize> {
        let n_row = windows.members().iter().map(|member| member.split.train_end).max().unwrap_or(0);
        match self.season {
            Some(0) => Err(Error::option("--season", 0, message!("must be at least 1"))),
            Some(season) if season >= n_row => {
                Err(Error::option("--season", season, message!("must be below {}, the training rows of the longest series", n_row)))
            }
            Some(season) => Ok(season),
            None => Ok(find_season(windows).unwrap_or(1)),
        }
    }
}

/// Options that choose columns and how they become windows.
#[derive(Debug, clap::Args)]
pub struct LayoutArgs {
    /// Columns to forecast, separated by commas, or all [default: Close if there is one, otherwise all that are read]
    #[arg(long, visible_alias = "column", value_name = "NAMES", value_parser = names)]
    targets: Vec<Names>,
    /// Columns to read, separated by commas, or all; those that are not forecast are covariates [default: the targets]
    #[arg(long, value_name = "NAMES", value_parser = names)]
    features: Vec<Names>,
    /// Whether to read the time of day as covariates: sines and cosines of the day and its parts [default: auto; bench: off]
    #[arg(long, value_enum)]
    calendar: Option<Calendar>,
    /// How to scale columns, fitted to the training rows [default: standard; bench: minmax]
    #[arg(long, value_enum)]
    scaler: Option<Scaling>,
}

/// The option of the parts of each series.
#[derive(Debug, clap::Args)]
pub struct SplitArgs {
    /// Training, validation and test part in time order: shares such as 0.7,0.1,0.2 or rows such as 8640,2880,2880; 0.8 leaves the rest to
    /// validation
    #[arg(long = "split", default_value = "0.8", value_name = "PARTS")]
    pub partition: Partition,
}

/// `--calendar`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Calendar {
    /// If the dates have times
    Auto,
    /// Always
    On,
    /// Never
    Off,
}

/// Names separated by commas; one that has a comma stands between quotes, as it does in a header.
#[derive(Clone, Debug)]
struct Names(Vec<String>);

fn names(text: &str) -> Result<Names, Message> {
    let mut record = StringRecord::new();
    let read = ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes()).read_record(&mut record);
    match read {
        Ok(true) => Ok(Names(record.iter().map(String::from).collect())),
        _ => Err(message!("give at least one name")),
    }
}

/// All names of an option that may be given several times.
fn flat(names: &[Names]) -> Vec<String> {
    names.iter().flat_map(|names| names.0.clone()).collect()
}

/// Whether a list of names is `all`.
fn is_all(names: &[String]) -> bool {
    matches!(names, [name] if name == "all")
}

impl LayoutArgs {
    /// Names of the columns to read; none where the file's own columns decide.
    fn named<'a>(targets: &'a [String], features: &'a [String]) -> Option<Vec<&'a str>> {
        if is_all(targets) || is_all(features) || (targets.is_empty() && features.is_empty()) {
            return None;
        }
        let mut names: Vec<&str> = Vec::new();
        for name in targets.iter().chain(features) {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        Some(names)
    }

    /// Reads the series, and how they become windows, but for the windows' length; prints each step.
    pub fn tables(
        &self,
        data: &DataArgs,
        partition: Partition,
        training: &TrainingArgs,
        save_folder: PathBuf,
        lang: Lang,
    ) -> Result<(Vec<Table>, Layout)> {
        let (targets, features) = (flat(&self.targets), flat(&self.features));
        let twice = targets.iter().enumerate().find(|(at, name)| targets[..*at].contains(name));
        if let Some((_, name)) = twice {
            return Err(Error::given("--targets", message!("it names {} twice", name)));
        }
        for (option, names) in [("--targets", &targets), ("--features", &features)] {
            if let Some(name) = names.iter().find(|name| CALENDAR.contains(&name.as_str())) {
                return Err(Error::given(option, message!("{} is read by --calendar on", name)));
            }
        }
        let named = Self::named(&targets, &features);
        let columns = match &named {
            Some(names) => Columns::Named(names),
            None if is_all(&targets) || is_all(&features) => Columns::All,
            None => Columns::CloseOrAll,
        };
        let mut tables = data.tables(columns, data.id(), save_folder, Some(training.seed), lang)?;
        let mut layout = self.layout(&tables, &targets, partition, training);
        // a series of a few rows may have them all at one time of day
        let times_differ = tables.iter().any(|table| table.dates().is_some_and(|dates| dates.time_of_day().is_some()));
        let with_calendar = || tables.iter().map(Table::with_calendar).collect::<Result<Vec<_>>>();
        let with_calendar = match self.calendar.unwrap_or(if training.is_lab() { Calendar::Off } else { Calendar::Auto }) {
            Calendar::On => Some(with_calendar()?),
            Calendar::Auto if times_differ => with_calendar().ok(),
            Calendar::Auto | Calendar::Off => None,
        };
        if let Some(read) = with_calendar {
            layout.covariates.extend(CALENDAR.map(String::from));
            tables = read;
        }
        Ok((tables, layout))
    }

    fn layout(&self, tables: &[Table], targets: &[String], partition: Partition, training: &TrainingArgs) -> Layout {
        let names = tables.first().map(Table::names).unwrap_or_default();
        let close = || names.iter().find(|name| is_close(name));
        let targets = match targets {
            [] => close().map_or_else(|| names.to_vec(), |name| vec![name.clone()]),
            given if is_all(given) => names.to_vec(),
            given => {
                let mut own: Vec<String> = Vec::new();
                for name in given {
                    // as the file has it; it may be named in two ways
                    let name = tables.first().and_then(|table| table.own_name(name)).unwrap_or(name);
                    if !own.contains(name) {
                        own.push(name.clone());
                    }
                }
                own
            }
        };
        let covariates = names.iter().filter(|name| !targets.contains(name)).cloned().collect();
        Layout {
            targets,
            covariates,
            channels: Channels::Mixed,
            scaling: self.scaler.unwrap_or(if training.is_lab() { Scaling::MinMax } else { Scaling::Standard }),
            partition,
            window: 1,
            horizon: training.horizon,
        }
    }
}

/// The columns that tell series apart in a file of what was made of them: the file where there are several, the series' name in its id column.
pub struct SeriesColumns<'a> {
    has_files: bool,
    id: Option<&'a str>,
}

impl<'a> SeriesColumns<'a> {
    /// Those of tables that were told apart by the column `id`.
    pub fn new(tables: &[Table], id: Option<&'a str>) -> Self {
        SeriesColumns { has_files: tables.iter().any(|table| table.source().file() != tables[0].source().file()), id }
    }

    /// Their names.
    pub fn header(&self) -> Vec<String> {
        let is_taken = self.id.is_some_and(|id| id.eq_ignore_ascii_case("series"));
        let file = if is_taken { "file" } else { "series" };
        self.has_files.then_some(file).into_iter().chain(self.id).map(String::from).collect()
    }

    /// The cells of a table.
    pub fn of(&self, table: &Table) -> Vec<String> {
        let file = self.has_files.then(|| table.source().file().to_string());
        file.into_iter().chain(self.id.and(table.source().id()).cloned()).collect()
    }
}

/// Whether each series has a window.
fn have_windows(tables: &[Table], windows: &Windows) -> Vec<bool> {
    let parts = [windows.train(), windows.valid(), windows.test()];
    let has_window = |at: usize| parts.iter().any(|starts| starts.ranges().get(at).is_some_and(|range| !range.is_empty()));
    let mut is_used = vec![false; tables.len()];
    for (at, member) in windows.members().iter().enumerate() {
        is_used[member.table] |= has_window(at);
    }
    is_used
}

/// The series that have windows.
pub fn used<'a>(tables: &'a [Table], windows: &Windows) -> Vec<&'a Table> {
    tables.iter().zip(have_windows(tables, windows)).filter(|(_, is_used)| *is_used).map(|(table, _)| table).collect()
}

/// Says which series have no window, and so no part in what a command does, and where shares of rows leave some out.
pub fn say_left_out(tables: &[Table], windows: &Windows, lang: Lang) {
    say_unused(tables, &have_windows(tables, windows), lang);
    let partition = windows.layout().partition;
    let left = partition.left();
    if left > 0.0 {
        let line = fill(lang.texts().rows_left_out, [&partition.to_string(), &significant(100.0 * left, 3)]);
        println!("{}", fill(lang.texts().data, [&line]));
    }
}

/// Warns of columns whose values differ, but not in float32.
pub fn warn_of_flat(tables: &[Table], windows: &Windows, lang: Lang) {
    let n_feature = windows.n_feature();
    let mut flat: Vec<&str> = Vec::new();
    for member in windows.members() {
        for (feature, name) in member.columns.iter().filter_map(|&column| windows.layout().columns().nth(column)).enumerate() {
            let mut scaled = windows.values()[member.rows.start * n_feature + feature..].iter().step_by(n_feature).take(member.rows.len());
            let first = scaled.next();
            let values = tables[member.table].column(name).unwrap_or_default();
            let is_flat = values.iter().any(|value| *value != values[0]) && scaled.all(|value| Some(value) == first);
            if is_flat && !flat.contains(&name) {
                flat.push(name);
            }
        }
    }
    if !flat.is_empty() {
        super::warn(&fill(lang.texts().flat_in_float32, [&lang.list(&flat)]), lang);
    }
}

/// Names the series that are not used.
pub fn say_unused(tables: &[Table], is_used: &[bool], lang: Lang) {
    let named = |table: &Table| table.source().id().cloned().unwrap_or_else(|| lang.message(&table.source().message()));
    let left_out: Vec<String> = tables.iter().zip(is_used).filter(|(_, is_used)| !**is_used).map(|(table, _)| named(table)).collect();
    if !left_out.is_empty() {
        let [n_short, n_table] = [left_out.len(), tables.len()].map(|count| count.to_string());
        let line = fill(lang.texts().left_out, [&n_short, &n_table, &lang.list(&left_out)]);
        println!("{}", fill(lang.texts().data, [&line]));
    }
}

/// Name of the series for titles: `AAPL Close`.
pub fn title(tables: &[impl Borrow<Table>], layout: &Layout, lang: Lang) -> String {
    let stem = |source: &Source| match source {
        Source::File(path) | Source::Series { path, .. } => path.file_stem().map(|stem| stem.to_string_lossy().replace("_stock_data", "")),
        Source::Download { ticker, .. } => Some(ticker.clone()),
        _ => None,
    };
    let names = by_file(tables, lang, &|table| stem(table.source()).unwrap_or_else(|| lang.message(&table.source().message())));
    format!("{} {}", lang.list(&names), lang.list(&layout.targets))
}

/// Names of tables, each file once with the ids of its series after it.
fn by_file<T: Borrow<Table>>(tables: &[T], lang: Lang, name: &dyn Fn(&Table) -> String) -> Vec<String> {
    let path = |table: &T| match table.borrow().source() {
        Source::Series { path, .. } => Some(path.clone()),
        _ => None,
    };
    let named = |group: &[T]| {
        let ids: Vec<&String> = group.iter().filter_map(|table| table.borrow().source().id()).collect();
        let name = name(group[0].borrow());
        if ids.is_empty() { name } else { fill(lang.texts().series_of, [&name, &lang.list(&ids)]) }
    };
    tables.chunk_by(|a, b| path(a).is_some() && path(a) == path(b)).map(named).collect()
}

/// Where the numbers come from, for pictures.
pub fn sources(tables: &[impl Borrow<Table>], lang: Lang) -> String {
    let name = |table: &Table| match table.source() {
        Source::Series { path, .. } => path.display().to_string(),
        source => lang.message(&source.message()),
    };
    lang.list(&by_file(tables, lang, &name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_names_a_file_once() {
        let table = |source: Source| Table::new(source, None, vec![("sales".into(), vec![1.0, 2.0])]).expect("a table");
        let series = |file: &str, id: &str| table(Source::Series { path: file.into(), id: id.into() });
        let mut tables: Vec<Table> = ["Nord", "Süd", "c", "d", "e", "f"].map(|id| series("d/retail.csv", id)).into();
        let layout = Layout::one_column("sales", 1, 1);
        assert_eq!(title(&tables, &layout, Lang::En), "retail: Nord, Süd, c, d and 2 more sales");
        assert_eq!(sources(&tables[..2], Lang::En), "d/retail.csv: Nord, Süd");
        tables.truncate(1);
        tables.extend([series("other.csv", "Nord"), table(Source::File("AAPL_stock_data.csv".into()))]);
        assert_eq!(title(&tables, &layout, Lang::En), "retail: Nord, other: Nord, AAPL sales");
    }
}
