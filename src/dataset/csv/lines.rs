//! Text line by line, and cells that are parted by blanks, one or more.

use std::io::{self, BufRead, Read};

/// Hands on no more than a line a read, so that its number is that of the line which was read last.
pub(super) struct Lines<R> {
    input: R,
    /// The line that was read last.
    pub(super) line: Vec<u8>,
    /// Counts lines from 1.
    pub(super) number: u64,
    /// Cells are parted by blanks, and lines read as [`part_by_tabs`] makes them.
    has_blanks: bool,
    /// The line to come begins within quotes.
    is_quoted: bool,
    /// Bytes of the line that were handed on.
    n_read: usize,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(input: R) -> Self {
        Lines { input, line: Vec::new(), number: 0, has_blanks: false, is_quoted: false, n_read: 0 }
    }

    /// Goes on to the next line; whether there is one.
    pub(super) fn advance(&mut self) -> io::Result<bool> {
        self.line.clear();
        self.n_read = 0;
        let is_there = self.input.read_until(b'\n', &mut self.line)? > 0;
        self.number += u64::from(is_there);
        self.part();
        Ok(is_there)
    }

    /// From the line on that was read last, cells are parted by blanks.
    pub(super) fn parted_by_blanks(mut self) -> Self {
        self.has_blanks = true;
        self.part();
        self
    }

    fn part(&mut self) {
        if self.has_blanks {
            part_by_tabs(&mut self.line, &mut self.is_quoted);
        }
    }
}

impl<R: BufRead> Read for Lines<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.n_read == self.line.len() {
            self.advance()?;
        }
        let n = (&self.line[self.n_read..]).read(buffer)?;
        self.n_read += n;
        Ok(n)
    }
}

/// Makes the last blank between two cells a tab, in whole lines, of which the first may begin within quotes. Every byte stays at its place:
/// other blanks are spaces around cells, and those before a line's first cell are line ends, over which a reader of CSV passes.
pub(super) fn part_by_tabs(lines: &mut [u8], is_quoted: &mut bool) {
    let mut is_before_cells = !*is_quoted;
    for at in 0..lines.len() {
        match lines[at] {
            b'"' => {
                *is_quoted = !*is_quoted;
                is_before_cells = false;
            }
            b'\r' | b'\n' => is_before_cells = !*is_quoted,
            b' ' | b'\t' if *is_quoted => {}
            b' ' | b'\t' if is_before_cells => lines[at] = b'\r',
            b' ' | b'\t' => {
                let is_last = lines.get(at + 1).is_some_and(|next| !next.is_ascii_whitespace());
                lines[at] = if is_last { b'\t' } else { b' ' };
            }
            _ => is_before_cells = false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_become_tabs_between_cells_alone() {
        for (text, want) in [
            ("1 2\n", "1\t2\n"),
            ("  1   2\t 3 \r\n4 5", "\r\r1  \t2 \t3 \r\n4\t5"),
            ("\"a  b\"  c\n", "\"a  b\" \tc\n"),
            ("a \"b\n c\"  d\n", "a\t\"b\n c\" \td\n"),
            (" \n1", "\r\n1"),
            ("", ""),
        ] {
            let mut lines = String::new();
            Lines::new(text.as_bytes()).parted_by_blanks().read_to_string(&mut lines).expect("text");
            assert_eq!(lines, want, "{text:?}");
        }
    }
}
