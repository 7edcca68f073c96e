//! Cells without a value.

/// What is done about cells without a value: empty, `NA`, `NaN`, `null`, `none`, `?`, `.` or `-`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Missing {
    /// Refuse the file
    #[default]
    Error,
    /// Leave out their rows
    Drop,
    /// Take the last value before them
    ForwardFill,
    /// Draw a line from the last value before them to the first after them; this looks ahead by the length of the gap
    Interpolate,
}

/// Whether a cell says that it has no value.
pub(super) fn is_missing(text: &str) -> bool {
    ["", "na", "n/a", "nan", "null", "none", "?", ".", "-", "--", "#n/a", "<na>"].iter().any(|name| text.eq_ignore_ascii_case(name))
}

/// Fills the values that are NaN in `columns`, each `(row)`, and gives the rows that remain: those with a value in every column. Nothing
/// is filled before a column's first value, nor, by interpolation, after its last.
pub(super) fn fill(rule: Missing, columns: &mut [Vec<f64>]) -> Vec<usize> {
    for column in columns.iter_mut() {
        let mut last: Option<usize> = None;
        for row in 0..column.len() {
            if column[row].is_nan() {
                if let (Missing::ForwardFill, Some(last)) = (rule, last) {
                    column[row] = column[last];
                }
                continue;
            }
            if let (Missing::Interpolate, Some(last)) = (rule, last) {
                let (from, slope) = (column[last], (column[row] - column[last]) / (row - last) as f64);
                for (between, value) in column[last + 1..row].iter_mut().enumerate() {
                    *value = from + slope * (between + 1) as f64;
                }
            }
            last = Some(row);
        }
    }
    let n_row = columns.first().map_or(0, Vec::len);
    (0..n_row).filter(|&row| columns.iter().all(|column| !column[row].is_nan())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_fills_as_it_says() {
        let hole = f64::NAN;
        let columns = || vec![vec![hole, 1.0, hole, hole, 4.0, hole], vec![0.0, 1.0, 2.0, hole, 4.0, 5.0]];
        let filled = |rule| {
            let mut columns = columns();
            let rows = fill(rule, &mut columns);
            let kept = columns.iter().map(|column| rows.iter().map(|&row| column[row]).collect::<Vec<_>>()).collect::<Vec<_>>();
            (rows, kept)
        };
        assert_eq!(filled(Missing::Drop), (vec![1, 4], vec![vec![1.0, 4.0], vec![1.0, 4.0]]));
        let forward = vec![vec![1.0, 1.0, 1.0, 4.0, 4.0], vec![1.0, 2.0, 2.0, 4.0, 5.0]];
        assert_eq!(filled(Missing::ForwardFill), (vec![1, 2, 3, 4, 5], forward));
        let line = vec![vec![1.0, 2.0, 3.0, 4.0], vec![1.0, 2.0, 3.0, 4.0]];
        assert_eq!(filled(Missing::Interpolate), (vec![1, 2, 3, 4], line));
    }
}
