//! `tune`: a seeded random search with successive halving.

use std::cell::RefCell;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, ValueEnum};
use csv::{ReaderBuilder, WriterBuilder};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use toml::{Table, Value};

use super::device::Device;
use super::train::SeriesRead;
use super::{Cli, Command, config, experiment, refusal, train};
use crate::Message;
use crate::error::{Error, Result};
use crate::report::language::fill;
use crate::report::table::significant;
use crate::report::{Lang, TextTable};
use crate::train::Fit;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// TOML file with options of `train`: a value is fixed, a list gives choices, { min, max } gives a range, and with log = true a range
    /// on a log scale
    #[arg(long, value_name = "FILE")]
    space: PathBuf,
    /// Trials in the first round
    #[arg(long, default_value_t = 27)]
    trials: usize,
    /// Seed for drawing trials
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Keep one in N trials each round, and give it N times the epochs
    #[arg(long, default_value_t = 3, value_name = "N")]
    halving: usize,
    /// Epochs of the trials in the last round [default: those of the space, otherwise 27]
    #[arg(long)]
    epochs: Option<usize>,
    /// Folder for trials.csv, from which an interrupted search goes on, and for best.toml, which `train --config` reads
    #[arg(long, default_value = "tune", value_name = "DIR")]
    out_dir: PathBuf,
}

/// The trials that were run, one a row.
const TRIALS: &str = "trials.csv";
/// The options of the best one.
const BEST: &str = "best.toml";

/// Options by which the trials' errors would be of different numbers; so would be those of different features that are targets, too.
const UNLIKE: [&str; 10] = ["csv", "download", "targets", "column", "scaler", "split", "horizon", "date", "id", "missing"];
/// Options of a single run, which a search has many of.
const OF_ONE_RUN: [&str; 6] = ["config", "resume", "run-dir", "checkpoint", "json", "save-every"];

/// Options of a trial: drawn ones by name, in the order of the space.
type Options = Vec<(String, Value)>;

/// A trial's result in a round.
#[derive(Clone, Debug, PartialEq)]
struct Row {
    round: usize,
    trial: usize,
    epochs: usize,
    valid_mse: f64,
}

pub async fn run(args: &Args, lang: Option<Lang>) -> Result<ExitCode> {
    for (option, value, least) in [("--trials", args.trials, 1), ("--halving", args.halving, 2)] {
        if value < least {
            return Err(Error::option(option, value, message!("must be at least {}", least)));
        }
    }
    let space = Space::read(&args.space)?;
    let epochs = match args.epochs.or_else(|| space.fixed.get("epochs").and_then(whole)) {
        Some(0) => return Err(Error::option("--epochs", 0, message!("must be at least 1"))),
        epochs => epochs.unwrap_or(27),
    };
    let trials: Vec<Options> = (0..args.trials).map(|trial| space.draw(args.seed, trial)).collect();
    // Every trial is checked before the first one runs.
    let parsed = trials.iter().map(|trial| space.train_args(trial, epochs)).collect::<Result<Vec<_>>>()?;
    parsed.iter().try_for_each(train::Args::check).map_err(|error| config::with_place(error, &space.place))?;
    crate::file::check_creatable(&args.out_dir)?;
    crate::file::check_apart(&[TRIALS, BEST].map(|name| args.out_dir.join(name)), [&args.space])?;
    let lang = lang.or_else(|| space.lang()).unwrap_or_default();
    let mut read = None;
    let read_series = parsed[0].series(&mut read, lang)?;
    read_series.check_alike(parsed.iter().filter_map(train::Args::window)).map_err(|error| config::with_place(error, &space.place))?;
    let series = format!("{:016x}", read_series.fingerprint());
    let mut fixed = space.fixed.clone();
    parsed[0].name_download(read_series.tables(), &mut fixed);
    crate::file::create_folder(&args.out_dir)?;
    let log = Log::open(&args.out_dir.join(TRIALS), &trials, space.fixed_text(), series)?;
    let device = Device::open(parsed[0].device(), lang).await?;
    let search = Search { args, space, trials, log, device, lang, at_start: RefCell::default() };
    let last = search.run(epochs, read).await?;
    search.show(&last, epochs);
    if !last[0].1.is_finite() {
        let what = message!("every trial of the last round diverged");
        return Err(Error::data(args.out_dir.join(TRIALS).display(), what, message!("search smaller rates: lr")));
    }
    search.save_best(last[0].0, epochs, fixed)?;
    if let Some((_, n_epoch)) = search.at_start.borrow().iter().rfind(|(trial, _)| *trial == last[0].0) {
        let texts = lang.texts();
        let name = fill(texts.trial_number, [&last[0].0.to_string()]);
        println!("{}", fill(texts.never_better, [&name, &n_epoch.to_string()]));
    }
    Ok(ExitCode::SUCCESS)
}

/// A search under way.
struct Search<'a> {
    args: &'a Args,
    space: Space,
    trials: Vec<Options>,
    log: Log,
    device: Device,
    lang: Lang,
    /// Trials of the round under way of which no epoch was enough better than the start, with their epochs; those of the log are not known.
    at_start: RefCell<Vec<(usize, usize)>>,
}

impl Search<'_> {
    /// Runs all rounds, the last with so many epochs: its trials and their errors, the best first.
    async fn run(&self, epochs: usize, mut read: Option<SeriesRead>) -> Result<Vec<(usize, f64)>> {
        let rounds = rounds(self.args.trials, self.args.halving, epochs);
        let mut last: Vec<(usize, f64)> = Vec::new();
        for (round, &epochs) in rounds.iter().enumerate() {
            let alive: Vec<usize> = match round {
                0 => (0..self.args.trials).collect(),
                _ => last.iter().take(last.len().div_ceil(self.args.halving)).map(|row| row.0).collect(),
            };
            last.clear();
            self.at_start.borrow_mut().clear();
            for trial in alive {
                let numbers = [round + 1, rounds.len(), trial].map(|number| number.to_string());
                let title = fill(self.lang.texts().round_title, numbers.each_ref().map(String::as_str));
                last.push((trial, self.valid_mse(round, trial, epochs, title, &mut read).await?));
            }
            last.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
        }
        Ok(last)
    }

    /// A trial's error in a round: it is trained unless the log has it.
    async fn valid_mse(&self, round: usize, trial: usize, epochs: usize, title: String, read: &mut Option<SeriesRead>) -> Result<f64> {
        let options = &self.trials[trial];
        let valid_mse = match self.log.find(round, trial, epochs) {
            Some(valid_mse) => valid_mse,
            None => {
                let train = self.space.train_args(options, epochs)?;
                let setting = train.setting(read, self.lang)?;
                let seed = setting.training.seed;
                let valid_mse = match experiment::fit(train.model(), &setting, seed, &self.device, title, self.lang).await {
                    Ok(fit) => {
                        if fit.best_epoch == 0 {
                            self.at_start.borrow_mut().push((trial, fit.epochs.len()));
                        }
                        best_mse(&fit)
                    }
                    // A rate that diverges is a bad draw, no end of the search.
                    Err(Error::Diverged { .. }) => f64::INFINITY,
                    Err(error) => return Err(error),
                };
                self.log.push(&Row { round, trial, epochs, valid_mse }, options)?;
                valid_mse
            }
        };
        let numbers = [(round + 1).to_string(), format!("{trial:3}"), format!("{epochs:3}"), significant(valid_mse, 5), text(options)];
        println!("{}", fill(self.lang.texts().trial_line, numbers.each_ref().map(String::as_str)));
        Ok(valid_mse)
    }

    /// Shows the last round.
    fn show(&self, last: &[(usize, f64)], epochs: usize) {
        let texts = self.lang.texts();
        let mut table = TextTable::new([texts.trial, texts.validation_mse, texts.options]);
        for (trial, valid_mse) in last {
            table.push([trial.to_string(), significant(*valid_mse, 5), text(&self.trials[*trial])]);
        }
        print!("\n{}\n{table}", fill(texts.last_round, [&epochs.to_string()]));
        println!("{}", texts.trust);
    }

    /// Writes the options of the best trial, those that are fixed given.
    fn save_best(&self, trial: usize, epochs: usize, mut options: Table) -> Result<()> {
        let texts = self.lang.texts();
        let best = self.args.out_dir.join(BEST);
        options.insert("epochs".into(), Value::Integer(epochs as i64));
        options.extend(self.trials[trial].iter().cloned());
        crate::file::save(&best, |writer| std::io::Write::write_all(writer, options.to_string().as_bytes()))?;
        println!("{}", fill(texts.trials, [&self.args.out_dir.join(TRIALS).display().to_string()]));
        let best = best.display().to_string();
        println!("{}", fill(texts.best_trial, [&best, &best]));
        Ok(())
    }
}

/// The validation error of a training's best epoch, or of its start if that is better: a gain too small to be kept still tells trials apart.
fn best_mse(fit: &Fit) -> f64 {
    let best = fit.epochs.iter().min_by(|a, b| a.valid_loss.total_cmp(&b.valid_loss));
    best.map_or(fit.metrics.mse, |epoch| epoch.valid_mse.min(fit.metrics.mse))
}

/// Epochs of each round's trials: as many rounds as the trials can be divided, the last with all epochs.
fn rounds(n_trial: usize, halving: usize, epochs: usize) -> Vec<usize> {
    let mut rounds = vec![epochs];
    let mut left = n_trial;
    while left >= halving && rounds[0] >= halving {
        left /= halving;
        rounds.insert(0, rounds[0] / halving);
    }
    rounds
}

fn text<'a>(options: impl IntoIterator<Item = &'a (String, Value)>) -> String {
    options.into_iter().map(|(name, value)| format!("{name} {}", plain(value))).collect::<Vec<_>>().join(", ")
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A whole number above 0, or the text of one.
fn whole(value: &Value) -> Option<usize> {
    plain(value).parse().ok().filter(|&number| number > 0)
}

/// What may be drawn.
enum Draw {
    /// One of these.
    Choice(Vec<Value>),
    /// A number between two, whole ones where both are.
    Range { min: f64, max: f64, is_log: bool, is_whole: bool },
}

/// The options that are searched, and those that are fixed.
struct Space {
    place: String,
    fixed: Table,
    drawn: Vec<(String, Draw)>,
}

impl Space {
    fn read(path: &Path) -> Result<Self> {
        Self::parse(&path.display().to_string(), &crate::file::read_text(path)?)
    }

    fn parse(place: &str, text: &str) -> Result<Self> {
        let remedy = || message!("write option = value, option = [values], or option = { min = .., max = .., log = true }");
        let options = config::parse(place, text, remedy())?;
        let names_targets = options.iter().any(|(name, ..)| ["targets", "column"].contains(&name.as_str()));
        let (mut fixed, mut drawn) = (Table::new(), Vec::new());
        for (name, value, place) in options {
            let wrong = |what: Message| Error::data(&place, what, remedy());
            match value {
                _ if OF_ONE_RUN.contains(&name.as_str()) => {
                    return Err(wrong(message!("{} is an option for a single run: remove it", name)));
                }
                Value::Array(_) | Value::Table(_) if UNLIKE.contains(&name.as_str()) || (name == "features" && !names_targets) => {
                    return Err(wrong(message!("{} changes what is scored, so trials do not compare: give it a single value", name)));
                }
                Value::Array(_) | Value::Table(_) if name == "epochs" => {
                    return Err(wrong(message!("the search itself sets the epochs of each round: give epochs a single value")));
                }
                value if name == "epochs" && whole(&value).is_none() => {
                    let error = Error::option("--epochs", plain(&value), message!("must be a whole number, at least 1"));
                    return Err(config::with_place(error, &place));
                }
                Value::Array(values) if values.is_empty() => return Err(wrong(message!("{} has nothing to choose from", name))),
                Value::Array(values) => drawn.push((name, Draw::Choice(values))),
                Value::Table(range) => {
                    let end = |end: &str| match range.get(end) {
                        Some(Value::Integer(number)) => Ok((*number as f64, true)),
                        Some(Value::Float(number)) => Ok((*number, false)),
                        _ => Err(wrong(message!("{} lacks the number {}", name, end))),
                    };
                    let ((min, min_whole), (max, max_whole)) = (end("min")?, end("max")?);
                    let is_log = range.get("log").is_some_and(|log| log.as_bool() == Some(true));
                    if let Some(other) = range.keys().find(|key| !["min", "max", "log"].contains(&key.as_str())) {
                        return Err(wrong(message!("{} has the unknown key {}", name, format!("{other:?}"))));
                    }
                    if min.partial_cmp(&max).is_none_or(std::cmp::Ordering::is_gt) || (is_log && min <= 0.0) {
                        return Err(wrong(message!("{} has an impossible range, from {} to {}", name, min, max)));
                    }
                    drawn.push((name, Draw::Range { min, max, is_log, is_whole: min_whole && max_whole }));
                }
                value => {
                    fixed.insert(name, value);
                }
            }
        }
        Ok(Space { place: place.into(), fixed, drawn })
    }

    /// The options of a trial: each trial has random numbers of its own, so that more trials leave the first ones as they were.
    fn draw(&self, seed: u64, trial: usize) -> Options {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(trial as u64);
        let value = |draw: &Draw, random: &mut ChaCha8Rng| match draw {
            Draw::Choice(values) => values[random.random_range(0..values.len())].clone(),
            Draw::Range { min, max, is_log, is_whole } => {
                let share: f64 = random.random();
                let number = if *is_log { (min.ln() + share * (max / min).ln()).exp() } else { min + share * (max - min) };
                let number = number.clamp(*min, *max);
                // Three digits tell one rate from another and read well.
                let rounded = format!("{number:.2e}").parse().ok().filter(|rounded| (*min..=*max).contains(rounded)).unwrap_or(number);
                if *is_whole { Value::Integer(number.round() as i64) } else { Value::Float(rounded) }
            }
        };
        self.drawn.iter().map(|(name, draw)| (name.clone(), value(draw, &mut random))).collect()
    }

    /// The options that are the same in every trial and change its score.
    fn fixed_text(&self) -> String {
        let kept = self.fixed.clone().into_iter().filter(|(name, _)| !["epochs", "lang"].contains(&name.as_str()));
        text(&kept.collect::<Options>())
    }

    /// The language that it asks for.
    fn lang(&self) -> Option<Lang> {
        Lang::from_str(self.fixed.get("lang")?.as_str()?, false).ok()
    }

    /// The options as `train` reads them.
    fn train_args(&self, options: &Options, epochs: usize) -> Result<train::Args> {
        let mut line: Vec<OsString> = vec!["scanrnn".into(), "train".into()];
        let wrong = |what: Message| Error::data(&self.place, what, message!("see `scanrnn train --help`"));
        let cli = Cli::command();
        let train = cli.find_subcommand("train");
        let fixed = self.fixed.iter().filter(|(name, _)| *name != "epochs");
        for (name, value) in fixed.chain(options.iter().map(|(name, value)| (name, value))) {
            let is_flag = train.is_some_and(|train| config::has_flag(train, name));
            let values = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
            for value in values {
                line.extend(config::argument(name, value, is_flag).map_err(wrong)?);
            }
        }
        line.push(format!("--epochs={epochs}").into());
        match Cli::try_parse_from(line) {
            Ok(Cli { command: Command::Train(args), .. }) => Ok(args),
            Ok(_) => Err(wrong(message!("is not a training"))),
            Err(error) => Err(wrong(refusal::reason(&error))),
        }
    }
}

/// The file of trials.
struct Log {
    path: PathBuf,
    /// The options that every trial has.
    fixed: String,
    /// A fingerprint of the series: other values give another one.
    series: String,
    done: Vec<Row>,
}

impl Log {
    /// Opens a file, or begins one; rows of another search in it are refused.
    fn open(path: &Path, trials: &[Options], fixed: String, series: String) -> Result<Self> {
        let mut log = Log { path: path.into(), fixed, series, done: Vec::new() };
        if !path.exists() {
            let header = ["round", "trial", "epochs", "valid_mse", "options", "fixed", "series"];
            log.write(&header.map(String::from))?;
            return Ok(log);
        }
        let wrong = |what: Message| {
            Error::data(
                path.display(),
                what,
                message!("name another --out-dir, or give the --space, --seed and series that it started with"),
            )
        };
        let mut reader = ReaderBuilder::new().from_path(path).map_err(|error| wrong(Message::verbatim(error)))?;
        for record in reader.records() {
            let record = record.map_err(|error| wrong(Message::verbatim(error)))?;
            let cell = |index: usize| record.get(index).unwrap_or_default();
            let row = || {
                Some(Row {
                    round: cell(0).parse().ok()?,
                    trial: cell(1).parse().ok()?,
                    epochs: cell(2).parse().ok()?,
                    valid_mse: cell(3).parse().ok()?,
                })
            };
            let row = row().ok_or_else(|| wrong(message!("is not a trial: {}", format!("{:?}", record.iter().collect::<Vec<_>>()))))?;
            if trials.get(row.trial).is_some_and(|options| text(options) != cell(4) || log.fixed != cell(5)) {
                return Err(wrong(message!("trial {} was run with other options: {}", row.trial, format!("{}, {}", cell(4), cell(5)))));
            }
            if log.series != cell(6) {
                return Err(wrong(message!("trial {} was run on other values of the series", row.trial)));
            }
            log.done.push(row);
        }
        Ok(log)
    }

    fn find(&self, round: usize, trial: usize, epochs: usize) -> Option<f64> {
        self.done.iter().find(|row| (row.round, row.trial, row.epochs) == (round, trial, epochs)).map(|row| row.valid_mse)
    }

    fn push(&self, row: &Row, options: &Options) -> Result<()> {
        self.write(&[
            row.round.to_string(),
            row.trial.to_string(),
            row.epochs.to_string(),
            row.valid_mse.to_string(),
            text(options),
            self.fixed.clone(),
            self.series.clone(),
        ])
    }

    fn write(&self, record: &[String]) -> Result<()> {
        let written = || {
            let file = OpenOptions::new().append(true).create(true).open(&self.path)?;
            let mut writer = WriterBuilder::new().from_writer(file);
            writer.write_record(record)?;
            writer.flush()
        };
        written().map_err(|source| Error::writing(self.path.clone(), source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_end_with_all_epochs() {
        assert_eq!(rounds(27, 3, 27), [1, 3, 9, 27]);
        assert_eq!(rounds(9, 3, 5), [1, 5]);
        assert_eq!(rounds(1, 3, 5), [5]);
    }

    #[test]
    fn draws_lie_in_their_ranges_and_repeat() {
        let text =
            "horizon = 4\nmodel = [\"mamba\", \"min-gru\"]\nlr = { min = 1e-4, max = 1e-2, log = true }\nhidden = { min = 8, max = 16 }\n";
        let space = Space::parse("space.toml", text).expect("a space");
        for trial in 0..50 {
            let options = space.draw(3, trial);
            assert_eq!(options, space.draw(3, trial));
            let named = |name: &str| &options.iter().find(|option| option.0 == name).expect("drawn").1;
            assert!((1e-4..=1e-2).contains(&named("lr").as_float().expect("a number")));
            assert!((8..=16).contains(&named("hidden").as_integer().expect("whole")));
            assert!(["mamba", "min-gru"].contains(&named("model").as_str().expect("a name")));
        }
        // three digits of 0.9999 would be 1
        let narrow = Space::parse("space.toml", "alpha = { min = 0.9991, max = 0.9999 }").expect("a space");
        for trial in 0..50 {
            assert!((0.9991..=0.9999).contains(&narrow.draw(3, trial)[0].1.as_float().expect("a number")));
        }
        for wrong in ["lr = []", "lr = { min = 1 }", "lr = { min = 2.0, max = 1.0 }", "lr = { min = 0.0, max = 1.0, log = true }", "lr ="] {
            assert!(Space::parse("space.toml", wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn epochs_are_one_whole_number() {
        for (text, epochs) in [("epochs = 5", 5), ("epochs = \"5\"", 5)] {
            assert_eq!(Space::parse("space.toml", text).expect("a space").fixed.get("epochs").and_then(whole), Some(epochs));
        }
        for text in ["epochs = 2.5", "epochs = \"many\"", "epochs = 0", "epochs = -1", "epochs = true"] {
            let error = Space::parse("space.toml", text).err().expect("refused").to_string();
            assert!(error.starts_with("space.toml:1: --epochs is "), "{error}");
        }
        for text in ["epochs = [5, 10]", "epochs = { min = 5, max = 10 }"] {
            let error = Space::parse("space.toml", text).err().expect("refused").to_string();
            assert!(error.contains("the search itself sets the epochs"), "{error}");
        }
    }
}
