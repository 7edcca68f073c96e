//! The one error type: what went wrong, where, and what to do about it.

use std::fmt;
use std::path::PathBuf;

use crate::Message;

/// A result of this library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that a caller, a file or a driver can make go wrong. Each message is one line.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A tensor does not fit its operation.
    Shape {
        /// The operation that was asked for.
        operation: &'static str,
        /// The tensor's name.
        tensor: String,
        /// The shape that would fit, in words.
        expected: String,
        /// The shape that came.
        got: Vec<usize>,
    },
    /// A tensor or an operation is used in a way that the graph does not support.
    Unsupported {
        /// The operation that was asked for.
        operation: &'static str,
        /// What is not supported, and what to use instead.
        what: Message,
    },
    /// An option has a value that cannot be used.
    Option {
        /// The option as the user typed it, such as `--window`.
        option: String,
        /// The value that came.
        got: Message,
        /// What would be accepted.
        expected: Message,
    },
    /// A file's contents cannot be used.
    Data {
        /// File, then line and column where they are known: `prices.csv:17, column Close`.
        place: Message,
        /// What is wrong there.
        what: Message,
        /// What to do about it.
        remedy: Message,
    },
    /// A file cannot be read or written.
    File {
        /// The file.
        path: PathBuf,
        /// What was tried: `read`, `write`.
        action: Message,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A download failed.
    Download {
        /// The address.
        url: String,
        /// What came instead of the data.
        what: Message,
    },
    /// Training left the range of finite numbers.
    Diverged {
        /// The model that was trained.
        model: String,
        /// The first loss that is not finite.
        loss: f32,
        /// The optimizer step, counted from 1.
        step: usize,
        /// The learning rate that was used.
        learning_rate: f32,
    },
    /// No adapter fits what was asked for.
    NoAdapter {
        /// What was asked for.
        wanted: Message,
        /// What would help.
        remedy: Message,
    },
    /// The GPU, its driver or a shader failed.
    Gpu {
        /// The adapter's name.
        adapter: String,
        /// What failed.
        what: Message,
    },
}

impl Error {
    /// A shape error.
    pub fn shape(operation: &'static str, tensor: impl Into<String>, expected: impl Into<String>, got: &[usize]) -> Self {
        Error::Shape { operation, tensor: tensor.into(), expected: expected.into(), got: got.to_vec() }
    }

    /// An option error.
    pub fn option(option: impl Into<String>, got: impl fmt::Display, expected: Message) -> Self {
        Error::Option { option: option.into(), got: Message::verbatim(got), expected }
    }

    /// An option error where it is not the value that is wrong.
    pub fn given(option: impl Into<String>, expected: Message) -> Self {
        Error::Option { option: option.into(), got: message!("given"), expected }
    }

    /// A file that cannot be read.
    #[cfg(feature = "cli")]
    pub(crate) fn reading(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Error::File { path: path.into(), action: message!("read"), source }
    }

    /// A file that cannot be written.
    #[cfg(feature = "cli")]
    pub(crate) fn writing(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Error::File { path: path.into(), action: message!("write"), source }
    }

    /// A data error.
    pub fn data(place: impl Into<Message>, what: Message, remedy: Message) -> Self {
        Error::Data { place: place.into(), what, remedy }
    }

    /// The error as one line.
    pub fn message(&self) -> Message {
        match self {
            Error::Shape { operation, tensor, expected, got } => {
                message!("{}: `{}` has shape {}, expected {}", operation, tensor, format!("{got:?}"), expected)
            }
            Error::Unsupported { operation, what } => message!("{}: {}", operation).with(what.clone()),
            Error::Option { option, got, expected } => message!("{} is {}: {}", option).with(got.clone()).with(expected.clone()),
            Error::Data { place, what, remedy } => message!("{}: {}; {}").with(place.clone()).with(what.clone()).with(remedy.clone()),
            Error::File { path, action, source } => {
                message!("{}: cannot {}: {}", path.display()).with(action.clone()).with(Message::verbatim(source))
            }
            Error::Download { url, what } => message!("{}: {}", url).with(what.clone()),
            Error::Diverged { model, loss, step, learning_rate } => {
                message!("{}: the loss is {} at step {}; try a smaller --lr (now {})", model, loss, step, learning_rate)
            }
            Error::NoAdapter { wanted, remedy } => message!("no GPU adapter {}; {}").with(wanted.clone()).with(remedy.clone()),
            Error::Gpu { adapter, what } => message!("{}: {}", adapter).with(what.clone()),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.message().fmt(f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::File { source, .. } => Some(source),
            _ => None,
        }
    }
}
