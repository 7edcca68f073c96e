//! `--help` and what ends the reading of a command line, in the language of `--lang`.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::builder::{PossibleValue, Resettable, StyledStr};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::config::Places;
use super::refusal;
use crate::report::Lang;
use crate::report::language::fill;

/// What clap writes around help texts, or would write.
pub const FRAMES: [&str; 12] = [
    "Usage: ",
    "Commands:",
    "Arguments:",
    "Options:",
    "Training:",
    "[OPTIONS]",
    "<COMMAND>",
    "[COMMAND]",
    "[default: ",
    "[alias: ",
    "[possible values: ",
    "Possible values:",
];
/// Columns that lines take at most: clap breaks them at spaces alone, which Chinese has none of.
const WIDTH: usize = 100;

/// The command with every help text in `lang`, those of its subcommands included.
pub fn translated(command: Command, lang: Lang) -> Command {
    if lang == Lang::En {
        return command;
    }
    let [about, long_about] = [command.get_about(), command.get_long_about()].map(|about| about.map(|about| translate(about, lang)));
    let command = command.term_width(0).mut_args(|arg| translated_arg(arg, lang)).mut_subcommands(|command| translated(command, lang));
    command.about(styled(about)).long_about(styled(long_about))
}

fn translated_arg(arg: Arg, lang: Lang) -> Arg {
    let [help, long_help] = [arg.get_help(), arg.get_long_help()].map(|help| help.map(|help| translate(help, lang)));
    let values = arg.get_possible_values();
    if values.is_empty() || arg.is_hide_possible_values_set() {
        return arg.help(styled(help)).long_help(styled(long_help));
    }
    // The texts of values belong to their type: clap's list of them is hidden behind this one.
    let names: Vec<&str> = values.iter().map(PossibleValue::get_name).collect();
    let described = |value: &PossibleValue| {
        let text = value.get_help().map_or_else(String::new, |text| format!("：{}", translate(text, lang)));
        format!("- {}{text}", value.get_name())
    };
    let list: Vec<_> = values.iter().map(described).collect();
    let long = long_help.or_else(|| help.clone()).unwrap_or_default();
    let long = format!("{long}\n\n{}\n{}", lang.translate("Possible values:"), list.join("\n"));
    let short = format!("{} {}{}]", help.unwrap_or_default(), lang.translate("[possible values: "), names.join(", "));
    arg.hide_possible_values(true).help(short).long_help(long)
}

/// A help text in `lang`, paragraph by paragraph.
fn translate(text: &StyledStr, lang: Lang) -> String {
    text.to_string().split("\n\n").map(|paragraph| lang.translate(paragraph)).collect::<Vec<_>>().join("\n\n")
}

fn styled(text: Option<String>) -> Resettable<StyledStr> {
    text.map(StyledStr::from).into()
}

/// A command line of `help`, which takes names of commands alone, with the language before it.
pub fn language_first(line: Vec<OsString>) -> Vec<OsString> {
    let is_option = |text: &OsString| text.to_str().is_some_and(|text| text == "--lang" || text.starts_with("--lang="));
    let Some(at) = line.iter().position(is_option) else { return line };
    let n_part = if line[at] == "--lang" { 2 } else { 1 };
    let mut others = line.clone();
    let language: Vec<_> = others.drain(at..line.len().min(at + n_part)).collect();
    if others.get(1).is_none_or(|command| command != "help") {
        return line;
    }
    others.splice(1..1, language);
    others
}

/// Shows why a command line was not read to its end: it asks for help or for the version, or it is wrong.
pub fn end(error: &clap::Error, places: &Places, lang: Lang) -> ExitCode {
    let place = error.get(ContextKind::InvalidArg).and_then(|option| places.of(&option.to_string()));
    let is_own = lang != Lang::En || place.is_some() || error.kind() == ErrorKind::ValueValidation;
    if !is_own || error.kind() == ErrorKind::DisplayVersion {
        // Where nobody reads it, nothing is lost.
        let _ = error.print();
    } else {
        let is_help = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand);
        let text = if is_help { framed(&error.render(), lang) } else { refused(error, place, lang) };
        let text: String = text.lines().map(|line| broken(line) + "\n").collect();
        if error.use_stderr() { eprint!("{text}") } else { print!("{text}") }
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(1))
}

/// A text of clap with its [`FRAMES`] in a language.
fn framed(text: &StyledStr, lang: Lang) -> String {
    FRAMES.iter().fold(text.to_string(), |text, frame| text.replace(frame, lang.translate(frame)))
}

/// What is wrong, in a file where that has the option, what was perhaps meant, and how the command is used.
fn refused(error: &clap::Error, place: Option<&str>, lang: Lang) -> String {
    let texts = lang.texts();
    let reason = refusal::reason(error);
    let reason = place.map_or_else(|| reason.clone(), |place| message!("{}: {}", place).with(reason.clone()));
    let mut parts = vec![fill(texts.error, [&lang.message(&reason)])];
    let tips: Vec<_> = refusal::suggestions(error).iter().map(|tip| fill(texts.tip, [&lang.message(tip)])).collect();
    parts.extend((!tips.is_empty()).then(|| tips.join("\n")));
    if let Some(ContextValue::StyledStr(usage)) = error.get(ContextKind::Usage) {
        parts.push(framed(usage, lang));
    }
    parts.push(texts.more_help.into());
    parts.join("\n\n")
}

/// A line of help broken into lines of [`WIDTH`], the further ones below the text of the first.
fn broken(line: &str) -> String {
    let text_of = |from: usize| from + line[from..].len() - line[from..].trim_start().len();
    let start = text_of(0);
    let indent = line[..line[start..].find("  ").map_or(start, |gap| text_of(start + gap))].width();
    let (mut text, mut column, mut rest) = (String::new(), 0, line);
    while !rest.is_empty() {
        let (word, others) = rest.split_at(word(rest));
        rest = others;
        if column + word.width() > WIDTH && column > indent {
            text.truncate(text.trim_end().len());
            text += "\n";
            text += &" ".repeat(indent);
            column = indent;
            if word == " " {
                continue;
            }
        }
        text += word;
        column += word.width();
    }
    text
}

/// Bytes of what begins `text` and must not be broken: a wide character with the marks that close it, a space, or a word.
fn word(text: &str) -> usize {
    let is_wide = |c: char| c.width() == Some(2);
    let holds = |(c, next): (char, char)| {
        let is_word = [c, next].iter().all(|&c| !is_wide(c) && !c.is_whitespace());
        is_word || "（“[".contains(c) || "，。；：、！？）”]".contains(next)
    };
    let held = text.chars().zip(text.chars().skip(1)).take_while(|&pair| holds(pair)).count();
    text.chars().take(held + 1).map(char::len_utf8).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_broken_between_chinese_characters_and_words() {
        let line = format!("  --split <PARTS>  {}0.7,0.1,0.2，{}", "时间".repeat(20), "顺序".repeat(20));
        let broken = broken(&line);
        assert!(broken.lines().all(|line| line.width() <= WIDTH), "{broken}");
        assert!(broken.lines().skip(1).all(|line| line.starts_with(&" ".repeat(19)) && !line.trim().starts_with('，')), "{broken}");
        assert_eq!(broken.split_whitespace().collect::<String>(), line.split_whitespace().collect::<String>());
    }
}
