// SPDX-License-Identifier: Apache-2.0
//! HTML as text. What comes from outside goes through [`Text`], and through nothing else.

use std::fmt::{self, Display, Write};

use crate::{
    finding::Severity,
    list::Gather,
    text::{escaped, grouped_digits},
};

/// So much of one text is shown, in characters: a name may be as long as its file.
const TEXT_MAX: usize = 1000;

/// Text from outside, for an element or for an attribute in double quotes.
pub(super) struct Text<'a>(pub(super) &'a str);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in cut(self.0, TEXT_MAX).chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

/// A text with what a reader would obey spelled out, of so many characters at most.
pub(super) fn cut(text: &str, max: usize) -> String {
    let end = text.char_indices().nth(max + 1).map_or(text.len(), |(at, _)| at);
    let plain = escaped(text.get(..end).unwrap_or_default());
    match plain.char_indices().nth(max) {
        None => plain.into_owned(),
        Some(_) => plain.chars().take(max.saturating_sub(1)).chain(['…']).collect(),
    }
}

/// How something stands, by a word, a shape and a colour.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Mark {
    Error,
    Warning,
    Info,
    Fine,
}

impl Mark {
    /// Its class, and the name of its shape.
    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
            Self::Fine => "fine",
        }
    }
}

impl From<Severity> for Mark {
    fn from(severity: Severity) -> Self {
        match severity {
            Severity::Error => Self::Error,
            Severity::Warning => Self::Warning,
            Severity::Info => Self::Info,
        }
    }
}

/// The shapes of all marks: an octagon, a triangle, and circles, each with its sign.
pub(super) const SHAPES: &str = r##"<svg class="shapes" aria-hidden="true"><defs>
<symbol id="error" viewBox="0 0 16 16"><path class="body" d="M4.7 0h6.6L16 4.7v6.6L11.3 16H4.7L0 11.3V4.7z"/><path class="sign" d="M5 5l6 6M11 5l-6 6"/></symbol>
<symbol id="warning" viewBox="0 0 16 16"><path class="body" d="M8 .6 16 15.2H0z"/><path class="sign" d="M8 5.6v4.6M8 12.2v1"/></symbol>
<symbol id="info" viewBox="0 0 16 16"><circle class="body" cx="8" cy="8" r="8"/><path class="sign" d="M8 7v5M8 4v1"/></symbol>
<symbol id="fine" viewBox="0 0 16 16"><circle class="body" cx="8" cy="8" r="8"/><path class="sign" d="M4.4 8.4l2.6 2.6 4.6-5.4"/></symbol>
</defs></svg>
"##;

/// A word with its shape.
pub(super) fn mark(out: &mut String, mark: Mark, word: &str) -> fmt::Result {
    let class = mark.class();
    write!(
        out,
        r##"<span class="mark {class}"><svg aria-hidden="true"><use href="#{class}"/></svg>{}</span>"##,
        Text(word)
    )
}

/// The beginning of a table, which may be wider than the page.
pub(super) fn open_table(out: &mut String, label: &str, headers: &[&str]) -> fmt::Result {
    let label = Text(label);
    write!(
        out,
        r#"<div class="wide" role="region" tabindex="0" aria-label="{label}"><table><thead><tr>"#
    )?;
    for header in headers {
        write!(out, r#"<th scope="col">{}</th>"#, Text(header))?;
    }
    out.write_str("</tr></thead><tbody>\n")
}

/// Its end.
pub(super) const CLOSE_TABLE: &str = "</tbody></table></div>\n";

/// Cells of so many characters are broken where it fits.
const LONG: usize = 30;

/// A row, whose first cell names it.
pub(super) fn row(out: &mut String, cells: &[&str]) -> fmt::Result {
    out.write_str("<tr>")?;
    for (place, cell) in cells.iter().enumerate() {
        let class = if cell.len() > LONG { r#" class="long""# } else { "" };
        match place {
            0 => write!(out, r#"<th scope="row"{class}>{}</th>"#, Text(cell))?,
            _ => write!(out, "<td{class}>{}</td>", Text(cell))?,
        }
    }
    out.write_str("</tr>\n")
}

/// A remark of its own line.
pub(super) fn remark(out: &mut String, text: &str) -> fmt::Result {
    writeln!(out, r#"<p class="remark">{}</p>"#, Text(text))
}

/// The beginning of what is folded up, to be closed by `</details>`.
pub(super) fn open_details(out: &mut String, summary: &str, is_open: bool) -> fmt::Result {
    let open = if is_open { " open" } else { "" };
    writeln!(out, "<details{open}><summary>{}</summary>", Text(summary))
}

/// A number with its noun.
pub(super) fn count(number: usize, one: &str, many: &str) -> String {
    match number {
        1 => format!("1 {one}"),
        _ => format!("{} {many}", grouped_digits(number)),
    }
}

/// What there is of a list, or a dash.
pub(super) fn joined<T: ToString>(all: &[T]) -> String {
    match all {
        [] => "-".to_owned(),
        all => all.iter().map(T::to_string).gather().join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_text_is_markup() {
        for (text, shown) in [
            ("<script>alert('x')</script>", "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;"),
            (r#"" onload="x"#, "&quot; onload=&quot;x"),
            ("&amp;", "&amp;amp;"),
            ("a\u{1b}[2J\n\u{202e}b\0", "a\\u{1b}[2J\\n\\u{202e}b\\u{0}"),
            ("Zürich 東京", "Zürich 東京"),
        ] {
            assert_eq!(Text(text).to_string(), shown);
        }
    }

    #[test]
    fn a_text_is_of_bounded_length() {
        assert_eq!(cut("abcdef", 6), "abcdef");
        assert_eq!(cut("abcdefg", 6), "abcde…");
        assert_eq!(cut("東京東京", 2), "東…");
        // What is spelled out counts as it is shown.
        assert_eq!(cut("\n\n\n\n", 5), "\\n\\n…");
        assert_eq!(Text(&"<".repeat(100_000)).to_string().len(), 4 * (TEXT_MAX - 1) + 3);
    }

    #[test]
    fn numbers_have_their_nouns() {
        for (number, text) in [(0, "0 pods"), (1, "1 pod"), (999, "999 pods"), (1000, "1,000 pods")]
        {
            assert_eq!(count(number, "pod", "pods"), text);
        }
        assert_eq!(count(1_234_567, "node", "nodes"), "1,234,567 nodes");
    }
}
