//! The split of a series into training, validation and test rows, in time order.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, Message, Result};

/// How rows are divided: the first ones train, the next validate, the last test. As text: `0.7,0.1,0.2` or `8640,2880,2880`; a single share,
/// `0.8`, leaves the rest to validation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Partition {
    /// Shares of all rows. Where they sum to 1, validation has what rounding leaves between the others.
    Shares([f64; 3]),
    /// Numbers of rows; the rows behind them are not used.
    Rows([usize; 3]),
}

impl Default for Partition {
    /// Four fifths train, the rest validates.
    fn default() -> Self {
        Partition::Shares([0.8, 0.2, 0.0])
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Partition::Shares([train, valid, test]) => write!(f, "{train},{valid},{test}"),
            Partition::Rows([train, valid, test]) => write!(f, "{train},{valid},{test}"),
        }
    }
}

impl From<Partition> for String {
    fn from(partition: Partition) -> Self {
        // A share that is 0 or 1 keeps its point, or it would be read as rows.
        match partition {
            Partition::Shares(shares) => shares.map(|share| format!("{share:?}")).join(","),
            Partition::Rows(_) => partition.to_string(),
        }
    }
}

impl TryFrom<String> for Partition {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl FromStr for Partition {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let error = |expected| Error::option("--split", text, expected);
        let parts: Vec<&str> = text.split(',').map(str::trim).collect();
        let rows: Result<Vec<usize>, _> = parts.iter().map(|part| part.parse()).collect();
        if let Ok(rows) = rows {
            return match rows[..] {
                [train, valid] => Ok(Partition::Rows([train, valid, 0])),
                [train, valid, test] => Ok(Partition::Rows([train, valid, test])),
                _ => Err(error(message!("give rows for training, validation and test, such as 8640,2880,2880"))),
            };
        }
        let shares: Result<Vec<f64>, _> = parts.iter().map(|part| part.parse()).collect();
        let shares = match shares.as_deref() {
            // 1 - 0.8 in decimals
            Ok(&[train]) => [train, ((1.0 - train) * 1e9).round() / 1e9, 0.0],
            Ok(&[train, valid]) => [train, valid, 0.0],
            Ok(&[train, valid, test]) => [train, valid, test],
            _ => return Err(error(message!("give shares such as 0.7,0.1,0.2, or rows such as 8640,2880,2880"))),
        };
        let partition = Partition::Shares(shares);
        partition.check()?;
        Ok(partition)
    }
}

/// What sums of shares may miss 1 by.
const ROUNDING: f64 = 1e-9;

impl Partition {
    fn check(&self) -> Result<()> {
        let Partition::Shares(shares) = self else { return Ok(()) };
        let [train, valid, _] = *shares;
        let is_sound = shares.iter().all(|share| (0.0..1.0).contains(share)) && shares.iter().sum::<f64>() <= 1.0 + ROUNDING;
        if is_sound && train > 0.0 && valid > 0.0 {
            return Ok(());
        }
        Err(Error::option(
            "--split",
            self,
            message!("give shares between 0 and 1 that sum to 1, such as 0.7,0.1,0.2, or one below 1, such as 0.8"),
        ))
    }

    /// The share of the rows behind all parts, which shares that sum to less than 1 leave out; 0 for numbers of rows.
    pub fn left(&self) -> f64 {
        let Partition::Shares(shares) = self else { return 0.0 };
        let left = 1.0 - shares.iter().sum::<f64>();
        if left > ROUNDING { left } else { 0.0 }
    }

    /// The split of a series of `n_row` rows. A series too short for a window has none in its parts; one with fewer rows than a partition
    /// by rows asks for is refused. `place` names the rows in an error.
    ///
    /// # Errors
    /// [`Error::Option`] for a window or horizon of 0 and for shares that cannot be; [`Error::Data`] where there are too few rows.
    ///
    /// ```
    /// use scanrnn::dataset::Partition;
    /// let split = Partition::Rows([8640, 2880, 2880]).split("load.csv", 17420, 96, 96)?;
    /// assert_eq!((split.train().len(), split.valid().len(), split.test().len()), (8449, 2785, 2785));
    /// # Ok::<(), scanrnn::Error>(())
    /// ```
    pub fn split(&self, place: impl Into<Message>, n_row: usize, window: usize, horizon: usize) -> Result<Split> {
        for (option, rows) in [("--window", window), ("--horizon", horizon)] {
            if rows == 0 {
                return Err(Error::option(option, rows, message!("give 1 or more")));
            }
        }
        self.check()?;
        let [train_end, valid_end, end] = match *self {
            Partition::Shares([train, valid, test]) => {
                let rows = |share: f64| (n_row as f64 * share + ROUNDING) as usize;
                let end = if train + valid + test >= 1.0 - ROUNDING { n_row } else { rows(train + valid + test) };
                let train_end = rows(train);
                [train_end, (end - rows(test).min(end)).max(train_end), end]
            }
            Partition::Rows([train, valid, test]) => {
                let ends = train.checked_add(valid).and_then(|valid_end| Some([train, valid_end, valid_end.checked_add(test)?]));
                ends.filter(|[_, _, end]| *end <= n_row).ok_or_else(|| {
                    Error::data(
                        place,
                        message!("{} rows are fewer than --split {} asks for", n_row, self),
                        message!("use more rows or smaller parts"),
                    )
                })?
            }
        };
        Ok(Split { train_end, valid_end, end, window, horizon })
    }
}

/// Which rows train, which validate and which test. A window that starts at row `s` has the inputs `s..s + window` and the targets
/// `s + window..s + window + horizon`. It belongs to the part that holds all its targets; its inputs may look back over the border, never
/// forward. A window whose targets lie on both sides of a border belongs to neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// The first row after the training part.
    pub train_end: usize,
    /// The first row after the validation part.
    pub valid_end: usize,
    /// The first row after the test part; the rows from here on are not used.
    pub end: usize,
    /// Input rows of a window.
    pub window: usize,
    /// Target rows of a window.
    pub horizon: usize,
}

impl Split {
    /// The rows that scalers and models may learn from.
    pub fn training_rows(&self) -> Range<usize> {
        0..self.train_end
    }

    /// First rows of the training windows.
    pub fn train(&self) -> Range<usize> {
        self.windows(0..self.train_end)
    }

    /// First rows of the validation windows.
    pub fn valid(&self) -> Range<usize> {
        self.windows(self.train_end..self.valid_end)
    }

    /// First rows of the test windows.
    pub fn test(&self) -> Range<usize> {
        self.windows(self.valid_end..self.end)
    }

    /// First rows of the windows whose targets all lie in `rows`.
    fn windows(&self, rows: Range<usize>) -> Range<usize> {
        let end = (rows.end + 1).saturating_sub(self.window.saturating_add(self.horizon));
        let start = rows.start.saturating_sub(self.window).min(end);
        if rows.is_empty() { end..end } else { start..end }
    }
}
