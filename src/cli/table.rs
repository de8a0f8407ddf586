// SPDX-License-Identifier: Apache-2.0
//! Columns for a terminal: aligned, no borders, two spaces between.

use std::io::{self, Write};

use crate::list::Gather;
use crate::text::escaped;

/// Rows under a heading.
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with only its heading.
    pub(super) fn new(heading: &[&str]) -> Self {
        Self { rows: vec![heading.iter().map(|&cell| cell.to_owned()).gather()] }
    }

    /// Adds a row. An empty cell is printed empty; what has no value is `-` by
    /// the caller's choice.
    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.map(|cell| escaped(&cell).into_owned()).into());
    }

    /// Prints all rows; the last column is not padded.
    ///
    /// # Errors
    /// Of writing.
    pub(super) fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell: &String| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).gather();
        for row in &self.rows {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
            writeln!(out, "{}", cells.gather().join("  ").trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&["A", "LONG", "C"]);
        table.row(["wide".into(), "é".into(), "last".into()]);
        table.row(["x".into(), String::new(), "\u{1b}[31m".into()]);
        let mut out = Vec::new();
        table.print(&mut out).unwrap();
        let expected = "A     LONG  C\nwide  é     last\nx           \\u{1b}[31m\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
