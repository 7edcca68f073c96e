//! Scaling of one column, fitted on training rows and carried into checkpoints.

use serde::{Deserialize, Serialize};

use crate::Message;
use crate::error::{Error, Result};

/// How a column is brought to a common range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum), value(rename_all = "lower"))]
pub enum Scaling {
    /// Unchanged
    None,
    /// Smallest value to 0, largest to 1
    #[default]
    MinMax,
    /// Mean to 0, standard deviation (of the population) to 1
    Standard,
    /// Median to 0, distance between the quartiles to 1
    Robust,
}

/// A fitted scaling: `scaled = (value - offset) / scale`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Scaler {
    /// The rule that was fitted.
    pub scaling: Scaling,
    /// What becomes 0, in the column's unit.
    pub offset: f64,
    /// What becomes 1 above the offset, in the column's unit; never 0.
    pub scale: f64,
}

impl Scaler {
    /// Fits to `values` `(row)`: training rows only, or the scores on later rows flatter. The scale is 1 where the values have none: all the
    /// same, quartiles the same under [`Scaling::Robust`], or no values.
    pub fn fit(scaling: Scaling, values: &[f64]) -> Self {
        let (offset, scale) = match scaling {
            // The mean of equal values may round, which would leave a tiny deviation to divide by.
            _ if values.iter().all(|&value| value == values[0]) && scaling != Scaling::None => {
                (values.first().copied().unwrap_or(0.0), 1.0)
            }
            Scaling::None => (0.0, 1.0),
            Scaling::MinMax => {
                let low = values.iter().copied().fold(f64::INFINITY, f64::min);
                let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                (low, high - low)
            }
            Scaling::Standard => {
                let n = values.len() as f64;
                let mean = values.iter().sum::<f64>() / n;
                let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / n;
                (mean, variance.sqrt())
            }
            Scaling::Robust => {
                let mut sorted = values.to_vec();
                sorted.sort_unstable_by(f64::total_cmp);
                (quantile(&sorted, 0.5), quantile(&sorted, 0.75) - quantile(&sorted, 0.25))
            }
        };
        Scaler { scaling, offset, scale: if scale > 0.0 && scale.is_finite() { scale } else { 1.0 } }
    }

    /// A value in scaled units.
    pub fn scale(&self, value: f64) -> f64 {
        (value - self.offset) / self.scale
    }

    /// A value in scaled units, as models take it; `place` says where it stands.
    ///
    /// # Errors
    /// [`Error::Data`] where it is beyond float32.
    pub fn scaled(&self, value: f64, place: impl FnOnce() -> Message) -> Result<f32> {
        let scaled = self.scale(value) as f32;
        if scaled.is_finite() {
            return Ok(scaled);
        }
        let what = message!("{} is beyond float32 after scaling", format!("{value:e}"));
        Err(Error::data(place(), what, message!("choose another scaling or another unit")))
    }

    /// A scaled value back in the column's unit.
    pub fn inverse(&self, scaled: f64) -> f64 {
        scaled * self.scale + self.offset
    }
}

/// The quantile of sorted values, interpolated linearly between neighbours.
fn quantile(sorted: &[f64], level: f64) -> f64 {
    let place = level * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    below + (above - below) * place.fract()
}
