// SPDX-License-Identifier: Apache-2.0
//! Where a command prints, and the one place that makes a line of text for a
//! terminal: what comes from outside is escaped here, so that no command has to
//! think of it. Tables escape their cells themselves; JSON and the texts that
//! this program brings along are printed as they are.

use std::{
    fmt::Display,
    io::{self, IsTerminal, Write},
};

use serde_json::Value;

use super::table::Table;
use crate::{finding::Severity, text::escaped};

/// Results go to `out`, everything else to `err`.
pub(super) struct Console<'a> {
    out: &'a mut dyn Write,
    err: &'a mut dyn Write,
    /// Whether severities have a colour.
    colours: bool,
}

/// Whether somebody looks at stdout who wants colours (no-color.org).
pub(super) fn wants_colours() -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    !set("NO_COLOR") && !is_dumb && io::stdout().is_terminal()
}

impl<'a> Console<'a> {
    pub(super) fn new(out: &'a mut dyn Write, err: &'a mut dyn Write) -> Self {
        Self { out, err, colours: false }
    }

    /// The same with colours.
    pub(super) fn coloured(self, colours: bool) -> Self {
        Self { colours, ..self }
    }

    /// Prints a line of the result that begins with how bad it is.
    pub(super) fn headline(&mut self, severity: Severity, text: impl Display) -> io::Result<()> {
        let word = severity.as_str();
        let colour = match severity {
            Severity::Error => "31",
            Severity::Warning => "33",
            Severity::Info => "36",
        };
        match self.colours {
            true => write!(self.out, "\u{1b}[1;{colour}m{word}\u{1b}[0m")?,
            false => write!(self.out, "{word}")?,
        }
        self.line(format_args!(": {text}"))
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

    #[test]
    fn how_bad_it_is_has_a_colour_where_somebody_looks_and_the_rest_has_none() {
        for (colours, expected) in
            [(true, "\u{1b}[1;31merror\u{1b}[0m: a \\u{1b}[2J\n"), (false, "error: a \\u{1b}[2J\n")]
        {
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let mut console = Console::new(&mut out, &mut err).coloured(colours);
            console.headline(Severity::Error, "a \u{1b}[2J").unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }
}
