//! Sequences of unequal length, packed one behind another into the rows of a batch.

use std::ops::Range;

use crate::error::{Error, Result};

/// Where a sequence lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Batch row.
    pub row: usize,
    /// Its steps in that row; its last output is that of the last one.
    pub steps: Range<usize>,
}

/// Sequences laid into rows, in their order.
///
/// ```
/// use scanrnn::model::Packing;
///
/// let packing = Packing::new(&[3, 2, 4], 6)?;
/// assert_eq!(packing.n_batch, 2);
/// // The step behind the second sequence begins what is left over.
/// assert_eq!(packing.reset, [1, 0, 0, 1, 0, 1, /* second row */ 1, 0, 0, 0, 1, 0]);
/// assert_eq!((packing.places[1].row, packing.places[1].steps.clone()), (0, 3..5));
/// # Ok::<(), scanrnn::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packing {
    /// Rows.
    pub n_batch: usize,
    /// `(batch, step)`: 1 where a sequence, or what is left over of a row, begins, else 0; for [`super::Pass::reset`].
    pub reset: Vec<u32>,
    /// Where each sequence lies, in the order of the lengths.
    pub places: Vec<Place>,
}

impl Packing {
    /// Packs sequences of these lengths into rows of `n_step` steps: each behind the one before it, or into a new row where it does not
    /// fit.
    ///
    /// # Errors
    /// [`Error::Shape`] where a sequence is empty or longer than a row.
    pub fn new(lengths: &[usize], n_step: usize) -> Result<Self> {
        let mut places: Vec<Place> = Vec::new();
        for (index, &length) in lengths.iter().enumerate() {
            if !(1..=n_step).contains(&length) {
                return Err(Error::shape("packing", format!("sequence {index}"), format!("1 to {n_step} steps"), &[length]));
            }
            let (row, first) = match places.last() {
                Some(last) if last.steps.end + length <= n_step => (last.row, last.steps.end),
                last => (last.map_or(0, |last| last.row + 1), 0),
            };
            places.push(Place { row, steps: first..first + length });
        }
        let n_batch = places.last().map_or(0, |last| last.row + 1);
        let mut reset = vec![0; n_batch * n_step];
        for place in &places {
            reset[place.row * n_step + place.steps.start] = 1;
            if place.steps.end < n_step {
                reset[place.row * n_step + place.steps.end] = 1;
            }
        }
        Ok(Packing { n_batch, reset, places })
    }
}
