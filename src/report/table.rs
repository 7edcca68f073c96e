//! Plain-text tables and the figures in them.

use std::fmt;

use unicode_width::UnicodeWidthStr;

/// A table for the terminal: columns of numbers aligned to the right, all others to the left.
#[derive(Clone, Debug, Default)]
pub struct TextTable {
    /// The columns' names.
    pub header: Vec<String>,
    /// The rows; a row shorter than the others ends in empty cells.
    pub rows: Vec<Vec<String>>,
}

impl TextTable {
    /// A table without rows.
    pub fn new<S: Into<String>>(header: impl IntoIterator<Item = S>) -> Self {
        TextTable { header: header.into_iter().map(Into::into).collect(), rows: Vec::new() }
    }

    /// Adds a row.
    pub fn push<S: Into<String>>(&mut self, row: impl IntoIterator<Item = S>) {
        self.rows.push(row.into_iter().map(Into::into).collect());
    }

    fn lines(&self) -> impl Iterator<Item = &Vec<String>> {
        std::iter::once(&self.header).chain(&self.rows)
    }
}

impl fmt::Display for TextTable {
    /// Every line ends in a newline; none ends in a space.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n_column = self.lines().map(Vec::len).max().unwrap_or(0);
        let cells = |column| move |line: &'_ Vec<String>| line.get(column).cloned().unwrap_or_default();
        let columns: Vec<(usize, bool)> = (0..n_column)
            .map(|column| {
                let width = self.lines().map(cells(column)).map(|cell| cell.width()).max().unwrap_or(0);
                (width, self.rows.iter().map(cells(column)).all(|cell| is_figure(&cell)))
            })
            .collect();
        let rule = columns.iter().map(|&(width, _)| "-".repeat(width)).collect();
        for line in [&self.header, &rule].into_iter().chain(&self.rows) {
            let mut text = String::new();
            for (column, &(width, is_right)) in columns.iter().enumerate() {
                let cell = cells(column)(line);
                let space = " ".repeat(width - cell.width().min(width));
                let gap = if column == 0 { "" } else { "  " };
                text += &if is_right { format!("{gap}{space}{cell}") } else { format!("{gap}{cell}{space}") };
            }
            writeln!(f, "{}", text.trim_end())?;
        }
        Ok(())
    }
}

fn is_figure(cell: &str) -> bool {
    let digits = cell.trim_start_matches(['-', '+', '−', '.']);
    digits.is_empty() || digits.starts_with(|c: char| c.is_ascii_digit()) || ["NaN", "inf", "–"].contains(&digits)
}

/// `value` with `digits` significant digits, as a plain number where that is short: `1.007`, `0.0123`, `1.2e-7`.
pub fn significant(value: f64, digits: usize) -> String {
    let digits = digits.max(1);
    if value == 0.0 || !value.is_finite() {
        return value.to_string();
    }
    let scientific = format!("{value:.*e}", digits - 1);
    let exponent: i32 = scientific.split_once('e').and_then(|(_, exponent)| exponent.parse().ok()).unwrap_or(0);
    if (-4..9).contains(&exponent) { format!("{value:.*}", (digits as i32 - 1 - exponent).max(0) as usize) } else { scientific }
}
