//! The split of a series into training and validation rows, in time order.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Which rows train and which validate. A window that starts at row `s` has the inputs `s..s + window` and the targets
/// `s + window..s + window + horizon`. It belongs to the part that holds all its targets; its inputs may look back over the border, never
/// forward. A window whose targets lie on both sides belongs to neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// How many rows there are.
    pub n_row: usize,
    /// The first row after the training part.
    pub cut: usize,
    /// Input rows of a window.
    pub window: usize,
    /// Target rows of a window.
    pub horizon: usize,
}

impl Split {
    /// The first `floor(n_row * fraction)` rows train, the rest validate. `place` names the rows in an error.
    ///
    /// # Errors
    /// [`Error::Option`] for a window or horizon of 0 and for a fraction outside (0, 1); [`Error::Data`] where a part is too short for a
    /// single window.
    ///
    /// ```
    /// use scanrnn::dataset::Split;
    /// let split = Split::by_fraction("prices", 3270, 32, 1, 0.8)?;
    /// assert_eq!(split.train(), 0..2584);
    /// assert_eq!(split.valid(), 2584..3238);
    /// # Ok::<(), scanrnn::Error>(())
    /// ```
    pub fn by_fraction(place: &str, n_row: usize, window: usize, horizon: usize, fraction: f64) -> Result<Self> {
        for (option, rows) in [("--window", window), ("--horizon", horizon)] {
            if rows == 0 {
                return Err(Error::option(option, rows, "give 1 or more"));
            }
        }
        if !(fraction > 0.0 && fraction < 1.0) {
            return Err(Error::option("--split", fraction, "give a fraction between 0 and 1, such as 0.8"));
        }
        let split = Split { n_row, cut: (n_row as f64 * fraction) as usize, window, horizon };
        if split.train().is_empty() || split.valid().is_empty() {
            let what = format!(
                "{n_row} rows give {} for training and {} for validation, but a window of {window} and a horizon of {horizon} need {} and {horizon}",
                split.cut,
                n_row - split.cut,
                window.saturating_add(horizon),
            );
            return Err(Error::Data { place: place.into(), what, remedy: "use more rows or a smaller --window".into() });
        }
        Ok(split)
    }

    /// The rows that scalers and models may learn from.
    pub fn training_rows(&self) -> Range<usize> {
        0..self.cut
    }

    /// First rows of the training windows: inputs and targets lie before the cut.
    pub fn train(&self) -> Range<usize> {
        self.windows(0..self.cut)
    }

    /// First rows of the validation windows: targets lie at or after the cut.
    pub fn valid(&self) -> Range<usize> {
        self.windows(self.cut..self.n_row)
    }

    /// First rows of the windows whose targets all lie in `rows`.
    fn windows(&self, rows: Range<usize>) -> Range<usize> {
        let end = (rows.end + 1).saturating_sub(self.window.saturating_add(self.horizon));
        rows.start.saturating_sub(self.window)..end
    }
}
