//! The one error type: what went wrong, where, and what to do about it.

use std::path::PathBuf;

/// A result of this library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that a caller, a file or a driver can make go wrong. Each message is one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor does not fit its operation.
    #[error("{operation}: `{tensor}` has shape {got:?}, expected {expected}")]
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
    #[error("{operation}: {what}")]
    Unsupported {
        /// The operation that was asked for.
        operation: &'static str,
        /// What is not supported, and what to use instead.
        what: String,
    },
    /// An option has a value that cannot be used.
    #[error("{option} is {got}: {expected}")]
    Option {
        /// The option as the user typed it, such as `--window`.
        option: String,
        /// The value that came.
        got: String,
        /// What would be accepted.
        expected: String,
    },
    /// A file's contents cannot be used.
    #[error("{place}: {what}; {remedy}")]
    Data {
        /// File, then line and column where they are known: `prices.csv:17, column Close`.
        place: String,
        /// What is wrong there.
        what: String,
        /// What to do about it.
        remedy: String,
    },
    /// A file cannot be read or written.
    #[error("{}: cannot {action}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was tried: `read`, `write`.
        action: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A download failed.
    #[error("{url}: {what}")]
    Download {
        /// The address.
        url: String,
        /// What came instead of the data.
        what: String,
    },
    /// Training left the range of finite numbers.
    #[error("{model}: the loss is {loss} at step {step}; try a smaller --lr (now {learning_rate})")]
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
    #[error("no GPU adapter {wanted}; {remedy}")]
    NoAdapter {
        /// What was asked for.
        wanted: String,
        /// What would help.
        remedy: String,
    },
    /// The GPU, its driver or a shader failed.
    #[error("{adapter}: {what}")]
    Gpu {
        /// The adapter's name.
        adapter: String,
        /// What failed.
        what: String,
    },
}

impl Error {
    /// A shape error.
    pub fn shape(operation: &'static str, tensor: impl Into<String>, expected: impl Into<String>, got: &[usize]) -> Self {
        Error::Shape { operation, tensor: tensor.into(), expected: expected.into(), got: got.to_vec() }
    }

    /// An option error.
    pub fn option(option: impl Into<String>, got: impl std::fmt::Display, expected: impl Into<String>) -> Self {
        Error::Option { option: option.into(), got: got.to_string(), expected: expected.into() }
    }
}
