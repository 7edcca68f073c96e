//! Why a command line was refused, as a message in place of clap's own text.

use std::num::{ParseFloatError, ParseIntError};

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::Message;
use crate::error::Error;

/// Returns the reason; clap's own line where there is no better one.
pub fn reason(error: &clap::Error) -> Message {
    let own_line = || {
        let text = error.to_string();
        text.lines().next().unwrap_or_default().trim_start_matches("error: ").into()
    };
    reason_by_kind(error).unwrap_or_else(own_line)
}

fn reason_by_kind(error: &clap::Error) -> Option<Message> {
    let text = |kind: ContextKind| error.get(kind).map(ContextValue::to_string).filter(|text| !text.is_empty());
    let argument = || text(ContextKind::InvalidArg);
    let value = || text(ContextKind::InvalidValue);
    Some(match error.kind() {
        ErrorKind::UnknownArgument => message!("unexpected argument '{}' found", argument()?),
        ErrorKind::InvalidSubcommand => message!("unrecognized subcommand '{}'", text(ContextKind::InvalidSubcommand)?),
        ErrorKind::MissingSubcommand => message!("a subcommand is required: {}", text(ContextKind::ValidSubcommand)?),
        ErrorKind::MissingRequiredArgument => message!("the following required arguments were not provided: {}", argument()?),
        ErrorKind::ArgumentConflict if text(ContextKind::PriorArg) == argument() => {
            message!("the argument '{}' cannot be used multiple times", argument()?)
        }
        ErrorKind::ArgumentConflict => {
            message!("the argument '{}' cannot be used with: {}", argument()?, text(ContextKind::PriorArg)?)
        }
        ErrorKind::TooManyValues => message!("unexpected value '{}' for '{}' found; no more were expected", value()?, argument()?),
        ErrorKind::InvalidValue => match (value(), text(ContextKind::ValidValue)) {
            (Some(value), Some(values)) => message!("invalid value '{}' for '{}'; possible values: {}", value, argument()?, values),
            (None, Some(values)) => {
                message!("a value is required for '{}' but none was supplied; possible values: {}", argument()?, values)
            }
            _ => message!("a value is required for '{}' but none was supplied", argument()?),
        },
        ErrorKind::ValueValidation => invalid(error, &argument()?, &value()?)?,
        ErrorKind::InvalidUtf8 => message!("an argument is not UTF-8"),
        _ => return None,
    })
}

/// Why a value cannot be used.
fn invalid(error: &clap::Error, argument: &str, value: &str) -> Option<Message> {
    let source = std::error::Error::source(error)?;
    // It names the option and the value itself.
    if let Some(own) = source.downcast_ref::<Error>() {
        return Some(own.message());
    }
    let why = match source.downcast_ref::<Message>() {
        Some(message) => message.clone(),
        None if source.is::<ParseIntError>() => message!("it must be a whole number from 0 to 2^64 - 1"),
        None if source.is::<ParseFloatError>() => message!("it must be a number"),
        None => Message::verbatim(source),
    };
    Some(message!("invalid value '{}' for '{}': {}", value, argument).with(why))
}

/// Suggestions of what was perhaps meant.
pub fn suggestions(error: &clap::Error) -> Vec<Message> {
    let kinds = [ContextKind::SuggestedSubcommand, ContextKind::SuggestedArg, ContextKind::SuggestedValue];
    let names = |kind| match error.get(kind)? {
        ContextValue::String(name) => Some(similar(std::slice::from_ref(name))),
        ContextValue::Strings(names) if !names.is_empty() => Some(similar(names)),
        _ => None,
    };
    let mut all: Vec<Message> = kinds.into_iter().filter_map(names).collect();
    if let Some(ContextValue::StyledStrs(others)) = error.get(ContextKind::Suggested) {
        all.extend(others.iter().map(suggestion));
    }
    all
}

fn similar(names: &[impl std::fmt::Display]) -> Message {
    let quoted: Vec<_> = names.iter().map(|name| format!("'{name}'")).collect();
    message!("did you mean {}?", quoted.join(", "))
}

/// One that clap words itself: the names in it stand between quotes.
fn suggestion(text: &StyledStr) -> Message {
    let text = text.to_string();
    match text.split('\'').collect::<Vec<_>>()[..] {
        ["", option, " exists"] => similar(&[option]),
        ["to pass ", value, " as a value, use ", line, ""] => message!("to pass '{}' as a value, use '{}'", value, line),
        _ => Message::verbatim(text),
    }
}
