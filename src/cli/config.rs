//! `--config FILE`: a command's options from a file, and the file that a run leaves so that it can be run again.
//!
//! A configuration is the options themselves: `window = 96` is `--window 96`, `carry-state = true` is `--carry-state`, and a list is an
//! option given several times. What is given on the command line takes the place of what the file says, and of what cannot be used with it.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, ValueEnum};
use toml::{Spanned, Table, Value};

use super::run_folder::{CONFIG, METRICS};
use crate::error::{Error, Result};
use crate::message::{Message, one_line};
use crate::report::Lang;

/// Where options stand that come from a file, by `--` and their names.
#[derive(Debug, Default)]
pub struct Places(HashMap<String, String>);

impl Places {
    /// Where an option stands, named as `--lr` or `--lr <LR>`; none where it does not come from a file.
    pub fn of(&self, option: &str) -> Option<&str> {
        self.0.get(option.split(' ').next()?).map(String::as_str)
    }

    /// An error with the place of the option that it is about.
    pub fn named(&self, error: Error) -> Error {
        let place = if let Error::Option { option, .. } = &error { self.of(option) } else { None };
        match place {
            Some(place) => with_place(error, place),
            None => error,
        }
    }
}

/// An error about an option with the place at which that stands.
pub fn with_place(error: Error, place: &str) -> Error {
    match error {
        Error::Option { option, got, expected } => Error::Option { option: format!("{place}: {option}"), got, expected },
        other => other,
    }
}

/// The command line with the options of the file that its `--config` names, or that lies in the folder that its `--resume` names, after
/// the command's name, and where they stand; the line itself where it has neither.
///
/// # Errors
/// [`Error::File`] where the file cannot be read, [`Error::Data`] where it is not TOML or has an option that the command lacks.
pub fn with_config(line: Vec<OsString>, cli: &Command) -> Result<(Vec<OsString>, Places)> {
    let of_run = |folder: OsString| Path::new(&folder).join(CONFIG).into_os_string();
    let resumes = given(&line, "resume").is_some();
    let path = given(&line, "resume").map(of_run).or_else(|| given(&line, "config"));
    let mut places = Places::default();
    let Some(path) = path else { return Ok((line, places)) };
    let named = |(at, text): (usize, &OsString)| Some((at, cli.find_subcommand(text.to_str()?)?));
    let Some((at, command)) = line.iter().enumerate().skip(1).find_map(named) else { return Ok((line, places)) };
    let path = Path::new(&path);
    // A run's own files belong to it alone: to one that begins from its options they are not named.
    let is_of_run = !resumes && path.ends_with(CONFIG) && path.with_file_name(METRICS).exists();
    let read = parse(&path.display().to_string(), &crate::file::read_text(path)?, message!("write one `option = value` per line"))?;
    let mut from_file = Vec::new();
    for (key, value, place) in read {
        let is_meant = |arg: &&Arg| arg.get_long_and_visible_aliases().is_some_and(|names| names.contains(&key.as_str()));
        let Some(arg) = options(command).find(is_meant) else {
            let remedy = message!("remove it, or see `scanrnn {} --help`", command.get_name());
            return Err(Error::data(place, message!("{} has no option {}", command.get_name(), format!("{key:?}")), remedy));
        };
        // Thus `--resume` leaves out `init-from`: a run that goes on has begun, from whatever it was.
        let is_replaced = command.get_arguments().any(|other| is_given(&line, other) && (other == arg || conflict(command, other, arg)));
        if is_replaced || (is_of_run && OF_ONE_RUN.contains(&key.as_str())) {
            continue;
        }
        places.0.extend(arg.get_long().map(|long| (format!("--{long}"), place.clone())));
        let values = match value {
            Value::Array(values) => values,
            value => vec![value],
        };
        for value in values {
            let unusable = |what| Error::data(&place, what, message!("give a text, a number, true, false or a list"));
            from_file.extend(argument(&key, &value, is_flag(arg)).map_err(unusable)?);
        }
    }
    let mut line = line;
    line.splice(at + 1..at + 1, from_file);
    Ok((line, places))
}

/// Options for files that a run writes outside of its folder.
const OF_ONE_RUN: [&str; 2] = ["checkpoint", "json"];

/// Whether a command line gives an option, by whichever of its names.
fn is_given(line: &[OsString], arg: &Arg) -> bool {
    let names = arg.get_all_aliases().unwrap_or_default().into_iter().chain(arg.get_long());
    names.into_iter().any(|name| given(line, name).is_some())
}

/// Whether a command refuses two options together.
fn conflict(command: &Command, one: &Arg, other: &Arg) -> bool {
    command.get_arg_conflicts_with(one).contains(&other) || command.get_arg_conflicts_with(other).contains(&one)
}

/// The options of a file's text, by their names in order, each with its value and the line on which it stands.
///
/// # Errors
/// [`Error::Data`] where the text is not TOML, which `remedy` says how to write.
pub fn parse(file: &str, text: &str, remedy: Message) -> Result<Vec<(String, Value, String)>> {
    let place = |at: usize| format!("{file}:{}", text.bytes().take(at).filter(|&byte| byte == b'\n').count() + 1);
    let unread = |error: toml::de::Error| {
        let place = error.span().map_or_else(|| file.to_string(), |span| place(span.start));
        Error::data(place, Message::verbatim(one_line(error.message())), remedy)
    };
    let options: BTreeMap<Spanned<String>, Value> = toml::from_str(text).map_err(unread)?;
    let placed = |(name, value): (Spanned<String>, Value)| {
        let place = place(name.span().start);
        (name.into_inner(), value, place)
    };
    Ok(options.into_iter().map(placed).collect())
}

/// An option's value as the command line has it: `--name=value`, or `--name` for a flag that is set, and nothing for one that is not.
///
/// # Errors
/// What is wrong with the value.
pub fn argument(name: &str, value: &Value, is_flag: bool) -> Result<Option<OsString>, Message> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Boolean(is_set) if is_flag => return Ok(is_set.then(|| format!("--{name}").into())),
        Value::Boolean(is_set) => is_set.to_string(),
        other => return Err(message!("{} is a {}", name, other.type_str())),
    };
    Ok(Some(format!("--{name}={text}").into()))
}

/// The language that a command line asks for: it is needed before the line is read, for `--help` ends the reading.
pub fn language(line: &[OsString]) -> Lang {
    given(line, "lang").and_then(|name| Lang::from_str(name.to_str()?, false).ok()).unwrap_or_default()
}

/// Every option of the command as it was run, defaults and files' options included, for [`with_config`] to read; not the run's folder, which
/// holds one run alone.
pub fn record(command: &Command, matches: &ArgMatches) -> Table {
    let mut table = Table::new();
    for arg in options(command) {
        let (Some(long), id) = (arg.get_long(), arg.get_id().as_str()) else { continue };
        if long == "run-dir" {
            continue;
        }
        if is_flag(arg) {
            table.insert(long.into(), Value::Boolean(matches.get_flag(id)));
            continue;
        }
        if !matches!(matches.value_source(id), Some(ValueSource::CommandLine | ValueSource::DefaultValue | ValueSource::EnvVariable)) {
            continue;
        }
        let delimiter = arg.get_value_delimiter().map(String::from);
        let texts: Vec<String> = matches.get_raw(id).into_iter().flatten().map(|text| text.to_string_lossy().into_owned()).collect();
        let value = match (texts.as_slice(), delimiter) {
            (_, Some(delimiter)) => Value::String(texts.join(&delimiter)),
            ([text], None) => value(text),
            _ => Value::Array(texts.iter().map(|text| value(text)).collect()),
        };
        table.insert(long.into(), value);
    }
    table
}

/// The options that a configuration holds: all but those about this run alone.
fn options(command: &Command) -> impl Iterator<Item = &Arg> {
    let here = ["config", "resume", "help", "version"];
    command.get_arguments().filter(move |arg| arg.get_long().is_some_and(|long| !here.contains(&long)))
}

/// Whether a command has a flag of this name.
pub fn has_flag(command: &Command, name: &str) -> bool {
    options(command).any(|arg| arg.get_long() == Some(name) && is_flag(arg))
}

fn is_flag(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::SetTrue)
}

/// A text as a number where that reads back as the same text.
fn value(text: &str) -> Value {
    let integer = text.parse::<i64>().ok().filter(|number| number.to_string() == text).map(Value::Integer);
    let float = || text.parse::<f64>().ok().filter(|number| number.is_finite() && number.to_string() == text).map(Value::Float);
    integer.or_else(float).unwrap_or_else(|| Value::String(text.into()))
}

/// What a command line gives for `--key`: the value after it, or after its `=`.
fn given(line: &[OsString], key: &str) -> Option<OsString> {
    let option = format!("--{key}");
    let prefix = format!("{option}=");
    let options = line.iter().take_while(|text| *text != "--");
    for (index, text) in options.enumerate() {
        if text == OsStr::new(&option) {
            return Some(line.get(index + 1).cloned().unwrap_or_default());
        }
        if let Some(value) = text.to_str().and_then(|text| text.strip_prefix(&prefix)) {
            return Some(value.into());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    /// What `train` reads with a file of these options, which lies in `folder`, and `args`; both are split at spaces.
    fn line(folder: &Path, options: &str, args: &str) -> Vec<String> {
        let config = folder.join(CONFIG);
        std::fs::write(&config, options.replace(' ', "\n")).expect("written");
        let args = args.replace("FOLDER", &folder.display().to_string());
        let line = ["scanrnn", "train"].into_iter().chain(args.split(' ')).map(OsString::from).collect();
        let mut cli = Cli::command();
        cli.build();
        let (line, _) = with_config(line, &cli).expect("a line");
        let n_option = line.len() - args.split(' ').count();
        line[2..n_option].iter().map(|text| text.to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn the_command_line_drops_what_it_replaces_and_what_it_cannot_be_used_with() {
        let folder = tempfile::tempdir().expect("a folder");
        let line = |options: &str, args: &str| line(folder.path(), options, args);
        let from = "--config FOLDER/config.toml";
        assert_eq!(line("download=\"AAPL\" window=8", &format!("{from} --csv a.csv")), ["--window=8"]);
        assert_eq!(line("csv=\"a.csv\" window=8", &format!("{from} --download AAPL")), ["--window=8"]);
        assert_eq!(line("targets=\"a\" window=8", &format!("{from} --column b")), ["--window=8"]);
        assert_eq!(line("init-from=\"a\" run-dir=\"b\" window=8", "--resume FOLDER"), ["--window=8"]);
        assert_eq!(line("csv=\"a.csv\" window=8", &format!("{from} --window 9")), ["--csv=a.csv"]);
    }

    #[test]
    fn a_run_from_another_s_options_leaves_its_files() {
        let folder = tempfile::tempdir().expect("a folder");
        let options = "checkpoint=\"a\" json=\"b\" window=8";
        let all = ["--checkpoint=a", "--json=b", "--window=8"];
        assert_eq!(line(folder.path(), options, "--config FOLDER/config.toml"), all, "a file of the user's own");
        std::fs::write(folder.path().join(METRICS), "").expect("written");
        assert_eq!(line(folder.path(), options, "--config FOLDER/config.toml"), ["--window=8"]);
        assert_eq!(line(folder.path(), options, "--resume FOLDER"), all);
    }
}
