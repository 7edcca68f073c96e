//! Scaled values and the windows in them, as views.

use super::{Scaler, Scaling, Split, Table};
use crate::{Error, Result};

/// A table's values, scaled, with the split that cuts them into windows. A window is a slice of the values: nothing is copied for it.
#[derive(Debug, Clone)]
pub struct Windows {
    /// Scaled values, `(row, channel)`.
    values: Vec<f32>,
    /// One for each channel.
    scalers: Vec<Scaler>,
    split: Split,
}

impl Windows {
    /// Scales every column of `table` by a scaler fitted on the split's training rows.
    ///
    /// # Errors
    /// [`Error::Shape`] if the split was made for another number of rows; [`Error::Data`] if a scaled value is beyond float32.
    ///
    /// ```
    /// use scanrnn::dataset::{Scaling, Source, Table, Windows};
    /// let ramp = (0..100).map(f64::from).collect();
    /// let table = Table::new(Source::Memory("ramp".into()), None, vec![("ramp".into(), ramp)])?;
    /// let windows = Windows::new(&table, Scaling::None, table.split(4, 1, 0.8)?)?;
    /// let first = windows.split().valid().start;
    /// assert_eq!(windows.input(first), [76.0, 77.0, 78.0, 79.0]);
    /// assert_eq!(windows.target(first), [80.0]);
    /// # Ok::<(), scanrnn::Error>(())
    /// ```
    pub fn new(table: &Table, scaling: Scaling, split: Split) -> Result<Self> {
        let scalers = table
            .columns()
            .map(|column| column.get(split.training_rows()).map(|rows| Scaler::fit(scaling, rows)))
            .collect::<Option<_>>()
            .ok_or_else(|| {
                Error::shape("windows", "table", format!("({} rows, column)", split.n_row), &[table.n_row(), table.names().len()])
            })?;
        Self::with_scalers(table, scalers, split)
    }

    /// Scales the columns of `table` by scalers fitted before, such as a checkpoint's.
    ///
    /// # Errors
    /// [`Error::Shape`] if there is not one scaler a column or the split was made for another number of rows; [`Error::Data`] if a scaled
    /// value is beyond float32.
    pub fn with_scalers(table: &Table, scalers: Vec<Scaler>, split: Split) -> Result<Self> {
        let n_channel = scalers.len();
        if (table.n_row(), table.names().len()) != (split.n_row, n_channel) {
            let expected = format!("({} rows, {n_channel} columns)", split.n_row);
            return Err(Error::shape("windows", "table", expected, &[table.n_row(), table.names().len()]));
        }
        let mut values = vec![0.0; table.n_row() * n_channel];
        for (channel, (column, scaler)) in table.columns().zip(&scalers).enumerate() {
            for (row, &value) in column.iter().enumerate() {
                let scaled = scaler.scale(value) as f32;
                if !scaled.is_finite() {
                    return Err(Error::Data {
                        place: format!("{}, column {:?}", table.source(), table.names()[channel]),
                        what: format!("{value:e} in row {row} is beyond float32 once scaled"),
                        remedy: "choose another scaling or another unit".into(),
                    });
                }
                values[row * n_channel + channel] = scaled;
            }
        }
        Ok(Windows { values, scalers, split })
    }

    /// All scaled values, `(row, channel)`.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The scalers, one a channel.
    pub fn scalers(&self) -> &[Scaler] {
        &self.scalers
    }

    /// Which windows train and which validate.
    pub fn split(&self) -> &Split {
        &self.split
    }

    /// How many columns a row has.
    pub fn n_channel(&self) -> usize {
        self.scalers.len()
    }

    /// The inputs `(step, channel)` of the window that starts at row `start`.
    ///
    /// # Panics
    /// If `start` is in neither range of the split and the window ends past the last row.
    pub fn input(&self, start: usize) -> &[f32] {
        self.rows(start, self.split.window)
    }

    /// The targets `(step, channel)` of the window that starts at row `start`.
    ///
    /// # Panics
    /// As [`input`](Self::input).
    pub fn target(&self, start: usize) -> &[f32] {
        self.rows(start + self.split.window, self.split.horizon)
    }

    fn rows(&self, start: usize, n_row: usize) -> &[f32] {
        &self.values[start * self.n_channel()..(start + n_row) * self.n_channel()]
    }
}
