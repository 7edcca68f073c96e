//! The first rows of windows.

use std::ops::Range;

/// First rows of windows in series that lie one below another: a range for each series, so that no window crosses from one into the next.
///
/// ```
/// use scanrnn::dataset::Starts;
/// let starts = Starts::new([0..3, 10..12]);
/// assert_eq!(starts.iter().collect::<Vec<_>>(), [0, 1, 2, 10, 11]);
/// assert_eq!((starts.len(), starts.get(3), starts.get(5)), (5, Some(10), None));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Starts {
    ranges: Vec<Range<usize>>,
    /// Windows of each range and of those before it.
    ends: Vec<usize>,
}

impl Starts {
    /// A range for each series; a series that has no window has an empty one.
    pub fn new(ranges: impl IntoIterator<Item = Range<usize>>) -> Self {
        let ranges: Vec<_> = ranges.into_iter().collect();
        let mut end = 0;
        let ends = ranges.iter().map(|range| {
            end += range.len();
            end
        });
        let ends = ends.collect();
        Starts { ranges, ends }
    }

    /// Windows.
    pub fn len(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Whether there is no window.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// First row of a window, counted through all series.
    pub fn get(&self, window: usize) -> Option<usize> {
        let series = self.ends.partition_point(|&end| end <= window);
        let range = self.ranges.get(series)?;
        Some(range.end - (self.ends[series] - window))
    }

    /// First rows of all windows, series by series.
    pub fn iter(&self) -> impl Iterator<Item = usize> + Clone + '_ {
        self.ranges.iter().cloned().flatten()
    }

    /// The ranges, one for each series.
    pub fn ranges(&self) -> &[Range<usize>] {
        &self.ranges
    }
}

impl From<Range<usize>> for Starts {
    /// Those of one series.
    fn from(range: Range<usize>) -> Self {
        Starts::new([range])
    }
}
