//! The commands of the binary, one a file. Only this module prints.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command's output")]

// The standard library's macros panic where the reader has gone, as `| head` goes: a training would be lost for a line.
macro_rules! print {
    ($($text:tt)*) => { $crate::cli::print_out(format_args!($($text)*)) };
}
macro_rules! println {
    () => { print!("\n") };
    ($($text:tt)*) => { print!("{}\n", format_args!($($text)*)) };
}
macro_rules! eprint {
    ($($text:tt)*) => {{
        let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!($($text)*));
    }};
}
macro_rules! eprintln {
    ($($text:tt)*) => { eprint!("{}\n", format_args!($($text)*)) };
}

mod backtest;
mod bench;
mod bench_op;
mod check;
mod compare;
mod config;
mod data;
mod device;
mod devices;
mod evaluate;
mod experiment;
mod forecast;
mod help;
mod pictures;
mod profile;
mod progress;
mod refusal;
mod run_folder;
mod scores;
mod setting;
mod stream;
mod train;
mod training;
mod tune;
mod tune_kernels;

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{Arg, CommandFactory, FromArgMatches, Parser, Subcommand};

pub use help::FRAMES;

use crate::checkpoint::Checkpoint;
use crate::dataset::Table;
use crate::error::{Error, Result};
use crate::report::Lang;
use crate::report::language::fill;

/// Train and run linear-time recurrent models (MinGRU, Mamba) for time series on any GPU.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 120)]
pub struct Cli {
    /// Language of everything that is shown, this help included [default: en]
    #[arg(long, global = true, value_enum, display_order = 900)]
    lang: Option<Lang>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Train two models on daily closes, compare them with each other, with persistence and with the CPU, and draw a picture
    Bench(bench::Args),
    /// Train one model and save it as a checkpoint
    Train(train::Args),
    /// Forecast the rows after a series' last one, from a checkpoint
    Forecast(forecast::Args),
    /// Compare models and baselines on one split, over several seeds
    Compare(compare::Args),
    /// Train repeatedly as time goes on, and score the forecasts of what came next
    Backtest(backtest::Args),
    /// Search for good options of `train` at random, with successive halving
    Tune(tune::Args),
    /// Score a checkpoint on a series
    Evaluate(evaluate::Args),
    /// Forecast after every row of standard input
    ///
    /// Reads CSV rows and prints a line after each: the forecast in the columns' units, ordered by step, target and quantile. The first row
    /// is a header if it names a column of the checkpoint; other columns are then ignored. Without a header, rows hold exactly the
    /// checkpoint's columns, in their order. The delimiter is recognised from the first row. If it is not a comma, 12,5 is a number, and
    /// after one such number 12,500 is one too. If the checkpoint reads the time of day, the header must also name the column of dates.
    ///
    /// Forecasts are made as they were scored. A model trained with --carry-state takes one step per row and keeps its state from the first
    /// row on. Other models forecast from the last window after every row, and print empty lines until the first window is full.
    Stream(stream::Args),
    /// Run reference cases on a device, to check that its driver computes correctly
    Check(check::Args),
    /// Compare one operation with the reference, then time it
    BenchOp(bench_op::Args),
    /// Time every kernel on an adapter, so that later runs can choose the fastest
    ///
    /// Each kernel is compared with the reference before it is timed. The table that this command writes is valid for one adapter and
    /// driver; runs that use it say so. The same table gives the same choices, and so the same bits.
    TuneKernels(tune_kernels::Args),
    /// List the adapters
    Devices(devices::Args),
}

/// Whether some of the output could not be written, though somebody may read it.
static IS_OUTPUT_LOST: AtomicBool = AtomicBool::new(false);

fn print_out(text: fmt::Arguments<'_>) {
    if is_lost(&io::stdout().write_fmt(text)) {
        IS_OUTPUT_LOST.store(true, Ordering::Relaxed);
    }
}

fn is_lost(written: &io::Result<()>) -> bool {
    written.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::BrokenPipe)
}

/// Runs the command that a command line gives, the program's name first, and shows what stops it on one line.
pub fn run(line: impl IntoIterator<Item = OsString>) -> ExitCode {
    // `-1` is a value, which is then refused for what is wrong with it
    let with_negatives = |arg: Arg| {
        let takes_values = arg.get_action().takes_values();
        arg.allow_negative_numbers(takes_values)
    };
    let mut command = Cli::command().mut_subcommands(|command| command.mut_args(with_negatives));
    command.build();
    let line = help::language_first(line.into_iter().collect());
    let mut lang = config::language(&line);
    let outcome = config::with_config(line, &command).and_then(|(line, places)| {
        lang = config::language(&line);
        run_command(line, &command, &places, lang).map_err(|error| places.named(error))
    });
    let outcome = outcome.and_then(|code| match IS_OUTPUT_LOST.load(Ordering::Relaxed) || is_lost(&io::stdout().flush()) {
        true => Err(Error::data("standard output", message!("could not be written"), message!("free some space where it is written"))),
        false => Ok(code),
    });
    outcome.unwrap_or_else(|error| {
        eprintln!("{}", fill(lang.texts().error, [&lang.message(&error.message())]));
        ExitCode::from(2)
    })
}

/// Runs a command; futures are waited for here and nowhere else.
fn run_command(line: Vec<OsString>, command: &clap::Command, places: &config::Places, lang: Lang) -> Result<ExitCode> {
    let parsed = help::translated(command.clone(), lang).try_get_matches_from(line);
    let parsed = parsed.and_then(|matches| Ok((Cli::from_arg_matches(&matches)?, matches)));
    let (cli, matches) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return Ok(help::end(&error, places, lang)),
    };
    let config = || {
        let (name, matches) = matches.subcommand()?;
        Some(config::record(command.find_subcommand(name)?, matches))
    };
    match cli.command {
        Command::Bench(args) => pollster::block_on(bench::run(&args, lang)),
        Command::Train(args) => pollster::block_on(train::run(&args, config().unwrap_or_default(), lang)),
        Command::Forecast(args) => pollster::block_on(forecast::run(&args, lang)),
        Command::Compare(args) => pollster::block_on(compare::run(&args, lang)),
        Command::Backtest(args) => pollster::block_on(backtest::run(&args, lang)),
        Command::Tune(args) => pollster::block_on(tune::run(&args, cli.lang)),
        Command::Evaluate(args) => pollster::block_on(evaluate::run(&args, lang)),
        Command::Stream(args) => pollster::block_on(stream::run(&args)),
        Command::Check(args) => pollster::block_on(check::run(&args, lang)),
        Command::BenchOp(args) => pollster::block_on(bench_op::run(&args, lang)),
        Command::TuneKernels(args) => pollster::block_on(tune_kernels::run(&args, lang)),
        Command::Devices(args) => pollster::block_on(devices::run(&args, lang)),
    }
}

/// Reads a checkpoint that `train` wrote.
fn read_checkpoint(path: &std::path::Path) -> Result<Checkpoint> {
    if path.is_dir() {
        let remedy = message!("name the checkpoint in it, such as {}", path.join(run_folder::BEST).display());
        return Err(Error::data(path.display(), message!("is a folder"), remedy));
    }
    Checkpoint::parse(&path.display().to_string(), &crate::file::read(path)?)
}

/// Shows a warning.
fn warn(text: &str, lang: Lang) {
    eprintln!("{}", fill(lang.texts().warning, [text]));
}

/// Says that series are made up, where one is.
fn say_if_made_up(tables: &[Table], lang: Lang) {
    if tables.iter().any(Table::is_synthetic) {
        println!("{}", lang.texts().made_up);
    }
}

/// Says where a picture is, with the warning that drawing it gave.
fn say_drawn(path: &std::path::Path, warning: Option<&str>, lang: Lang) {
    warning.inspect(|warning| warn(warning, lang));
    println!("{}", fill(lang.texts().picture, [&path.display().to_string()]));
}

/// Writes figures to the file that `--json` names, if it does, and says so.
fn save_figures(path: Option<&std::path::Path>, figures: impl FnOnce() -> serde_json::Value, lang: Lang) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    save_json(path, &figures())?;
    println!("{}", fill(lang.texts().figures, [&path.display().to_string()]));
    Ok(())
}

/// Writes JSON to a file, whole or not at all.
fn save_json(path: &std::path::Path, value: &serde_json::Value) -> Result<()> {
    crate::file::save(path, |writer| {
        serde_json::to_writer_pretty(&mut *writer, value)?;
        writer.write_all(b"\n")
    })
}
