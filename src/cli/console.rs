//! Where a command prints, and the one place that makes a line of text for a
//! terminal: what comes from outside is escaped here, so that no command has to
//! think of it. Tables escape their cells themselves; JSON and the texts that
//! this program brings along are printed as they are.

use std::{
    fmt::Display,
    io::{self, Write},
};

use serde_json::Value;

use super::table::Table;
use crate::text::escaped;

/// Results go to `out`, everything else to `err`.
pub(super) struct Console<'a> {
    out: &'a mut dyn Write,
    err: &'a mut dyn Write,
}

impl<'a> Console<'a> {
    pub(super) fn new(out: &'a mut dyn Write, err: &'a mut dyn Write) -> Self {
        Self { out, err }
    }

    /// Prints a line of the result.
    pub(super) fn line(&mut self, text: impl Display) -> io::Result<()> {
        writeln!(self.out, "{}", escaped(&text.to_string()))
    }

    /// Prints a line beside the result.
    pub(super) fn remark(&mut self, text: impl Display) -> io::Result<()> {
        writeln!(self.err, "{}", escaped(&text.to_string()))
    }

    /// Prints a table.
    pub(super) fn table(&mut self, table: &Table) -> io::Result<()> {
        table.print(self.out)
    }

    /// Prints a JSON document.
    pub(super) fn json(&mut self, document: &Value) -> io::Result<()> {
        writeln!(self.out, "{document:#}")
    }

    /// stdout for a text of several lines that holds nothing from outside, or is
    /// read by a program.
    pub(super) fn verbatim(&mut self) -> &mut dyn Write {
        self.out
    }

    /// stderr for the same.
    pub(super) fn verbatim_err(&mut self) -> &mut dyn Write {
        self.err
    }

    /// Writes out what is buffered.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_is_one_line_whatever_is_in_it_and_json_is_left_alone() {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut console = Console::new(&mut out, &mut err);
        console.line("node \u{1b}[2J\nforged").unwrap();
        console.remark("path /a\u{202e}b").unwrap();
        console.json(&json!("\u{202e}")).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "node \\u{1b}[2J\\nforged\n\"\u{202e}\"\n");
        assert_eq!(String::from_utf8(err).unwrap(), "path /a\\u{202e}b\n");
    }
}
