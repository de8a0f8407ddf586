// SPDX-License-Identifier: Apache-2.0
//! YAML, as kubectl prints it and as people write manifests.
//!
//! It takes less than YAML is, and what it takes means the same in YAML 1.1, which kubectl
//! reads, and in 1.2: anchors, aliases, tags, merges and keys that are no text are errors, and so
//! is a word that the two versions take for different things, such as yes or 010.
//!
//! A node is looked for by indentation (YAML 1.2.2, chapter 8). What follows a dash or a key
//! on its line is taken for a line of its own that begins there.

mod block;
mod inline;
mod plain;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value};

/// No manifest is nested deeper.
const DEPTH_MAX: usize = 64;

/// A line without its indentation.
#[derive(Clone, Copy)]
struct Line<'a> {
    /// The first is 1.
    number: usize,
    /// In spaces.
    indent: usize,
    text: &'a str,
}

impl Line<'_> {
    fn is_blank(&self) -> bool {
        self.text.trim_start_matches([' ', '\t']).is_empty()
    }

    fn is_item(&self) -> bool {
        self.text == "-" || self.text.starts_with("- ")
    }
}

/// Reads all documents that the text has. One of nothing is left out.
///
/// # Errors
/// The line that is not understood, and why.
pub(super) fn documents(text: &str) -> Result<Vec<Value>, String> {
    let mut found = Vec::new();
    let mut lines = Vec::new();
    for (number, text) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let inner = text.trim_start_matches(' ');
        let line = Line { number: number + 1, indent: text.len() - inner.len(), text: inner };
        // Line ends of YAML 1.1 alone, and what is no text.
        let is_odd =
            |it: char| it.is_control() && it != '\t' || "\u{2028}\u{2029}\u{feff}".contains(it);
        if text.contains(is_odd) {
            return Err(line.refuse("it has a control character"));
        }
        let is_mark = |mark| text.strip_prefix(mark).is_some_and(is_end_behind);
        match () {
            () if is_mark("---") || is_mark("...") => {
                found.extend(Reader::document(std::mem::take(&mut lines))?);
            }
            () if text.starts_with("--- ") => {
                return Err(line.refuse("write what follows --- on a line of its own"));
            }
            () if text.starts_with('%') && lines.iter().all(|it| is_end(it.text)) => {
                return Err(line.refuse("directives are not read"));
            }
            () => lines.push(line),
        }
    }
    found.extend(Reader::document(lines)?);
    Ok(found)
}

impl Line<'_> {
    fn refuse(&self, why: &str) -> String {
        format!("line {}: {why}", self.number)
    }
}

/// Whether a line has nothing, or nothing more, but a comment.
fn is_end(rest: &str) -> bool {
    let text = rest.trim_start_matches([' ', '\t']);
    text.is_empty() || text.starts_with('#')
}

/// The same behind something, from which a comment is apart.
fn is_end_behind(rest: &str) -> bool {
    !rest.starts_with('#') && is_end(rest)
}

struct Reader<'a> {
    lines: Vec<Line<'a>>,
    /// The line that is read next.
    at: usize,
    depth: usize,
}

impl<'a> Reader<'a> {
    fn document(lines: Vec<Line<'a>>) -> Result<Option<Value>, String> {
        let mut reader = Self { lines, at: 0, depth: 0 };
        reader.skip()?;
        if reader.peek().is_none() {
            return Ok(None);
        }
        let value = reader.node(0)?;
        reader.skip()?;
        match reader.peek() {
            Some(line) => Err(line.refuse("its indentation is of nothing above")),
            None => Ok(Some(value)),
        }
    }

    fn peek(&self) -> Option<Line<'a>> {
        self.lines.get(self.at).copied()
    }

    /// Where reading is, for an error.
    fn refuse(&self, why: &str) -> String {
        let line = self.peek().or(self.lines.last().copied());
        line.map_or_else(|| why.to_owned(), |line| line.refuse(why))
    }

    /// Passes over lines that say nothing.
    fn skip(&mut self) -> Result<(), String> {
        while let Some(line) = self.peek() {
            if !is_end(line.text) {
                if line.text.starts_with('\t') {
                    return Err(line.refuse("a tab is no indentation"));
                }
                break;
            }
            self.at += 1;
        }
        Ok(())
    }

    /// The node that begins at the next line, if that is indented so far; null otherwise.
    fn node(&mut self, least: usize) -> Result<Value, String> {
        self.skip()?;
        let Some(line) = self.peek().filter(|line| line.indent >= least) else {
            return Ok(Value::Null);
        };
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.refuse("it is nested too deep"));
        }
        let value = if line.is_item() {
            self.sequence(line.indent)
        } else if self.key(line)?.is_some() {
            self.mapping(line.indent)
        } else {
            self.scalar(least)
        };
        self.depth -= 1;
        value
    }

    /// The next line if it has that indentation; less ends a collection.
    fn next_of(&mut self, indent: usize) -> Result<Option<Line<'a>>, String> {
        self.skip()?;
        match self.peek() {
            Some(line) if line.indent > indent => {
                Err(line.refuse("its indentation is of nothing above"))
            }
            line => Ok(line.filter(|line| line.indent == indent)),
        }
    }

    fn sequence(&mut self, indent: usize) -> Result<Value, String> {
        let mut items = Vec::new();
        while let Some(line) = self.next_of(indent)?.filter(Line::is_item) {
            self.after(line, line.text.strip_prefix('-').unwrap_or_default());
            items.push(self.node(indent + 1)?);
        }
        Ok(Value::Array(items))
    }

    fn mapping(&mut self, indent: usize) -> Result<Value, String> {
        let mut members = Map::new();
        while let Some(line) = self.next_of(indent)? {
            let Some((key, rest)) = self.key(line)? else {
                return Err(line.refuse("a key and a colon are wanted here"));
            };
            if members.contains_key(&key) {
                return Err(line.refuse(&format!("{key} is there twice")));
            }
            let value = if is_end(rest) {
                self.at += 1;
                self.skip()?;
                // A list may begin where its key does.
                match self.peek() {
                    Some(next) if next.indent == indent && next.is_item() => {
                        self.sequence(indent)?
                    }
                    _ => self.node(indent + 1)?,
                }
            } else {
                self.after(line, rest);
                self.scalar(indent + 1)?
            };
            members.insert(key, value);
        }
        Ok(Value::Object(members))
    }

    /// Goes on behind the beginning of a line.
    fn after(&mut self, line: Line<'a>, rest: &'a str) {
        if is_end(rest) {
            self.at += 1;
            return;
        }
        let text = rest.trim_start_matches(' ');
        let indent = line.indent + line.text.len() - text.len();
        if let Some(place) = self.lines.get_mut(self.at) {
            *place = Line { indent, text, ..line };
        }
    }

    /// The key that a line begins with and what follows its colon, if it does.
    fn key(&self, line: Line<'a>) -> Result<Option<(String, &'a str)>, String> {
        let text = line.text;
        if text.starts_with("? ") || text == "?" {
            return Err(line.refuse("a key is a word or text in quotes, and no ? stands before it"));
        }
        if text.starts_with(['"', '\'']) {
            let Some((key, rest)) = inline::quoted_on_line(line)? else { return Ok(None) };
            return Ok(colon(rest.trim_start_matches(' ')).map(|rest| (key, rest)));
        }
        if text.starts_with(plain::INDICATORS) || plain::is_indicator(text) {
            return Ok(None);
        }
        let ends = text.match_indices(':').map(|(place, _)| text.split_at(place));
        let found = ends.filter_map(|(key, rest)| Some((key, colon(rest)?))).next();
        let Some((key, rest)) = found.filter(|(key, _)| !plain::is_commented(key)) else {
            return Ok(None);
        };
        let key = key.trim_end_matches([' ', '\t']);
        match plain::resolve(key).map_err(|why| line.refuse(&why))? {
            Value::String(key) if key != "<<" => Ok(Some((key, rest))),
            _ => Err(line.refuse(&format!("{key} is no text: put it in quotes"))),
        }
    }

    /// A value that is neither a block's list nor its mapping, and whose further lines are
    /// indented by at least so much.
    fn scalar(&mut self, least: usize) -> Result<Value, String> {
        let Some(line) = self.peek() else { return Ok(Value::Null) };
        match line.text.chars().next() {
            Some(first) if least == 0 && !['{', '['].contains(&first) => {
                Err(line.refuse("a key and a colon are wanted here"))
            }
            Some('|' | '>') => self.block(least),
            Some('"' | '\'' | '{' | '[') => self.inline(least),
            _ if line.is_item() => Err(line.refuse("a list begins on a line of its own")),
            _ if line.text.starts_with(plain::INDICATORS) => Err(line.refuse(
                "anchors, aliases and tags are not read, and text that begins like one is put in \
                 quotes",
            )),
            _ => self.plain(least),
        }
    }
}

/// What follows a colon that ends a key.
fn colon(text: &str) -> Option<&str> {
    text.strip_prefix(':').filter(|rest| rest.is_empty() || rest.starts_with([' ', '\t']))
}
