// SPDX-License-Identifier: Apache-2.0
//! YAML, as kubectl prints it and as people write manifests.
//!
//! It takes less than YAML is, and what it takes means the same in YAML 1.1, which kubectl
//! reads, and in 1.2: anchors, aliases, tags, merges and keys that are no text are errors, and so
//! is a word that the two versions take for different things, such as yes or 010.
//!
//! A node is looked for by indentation (YAML 1.2.2, chapter 8). What follows a dash or a key
//! on its line is taken for a line of its own that begins there.
//!
//! What is wrong with a node is noted as it is for members of objects, and takes away all lines of its
//! document: whoever reads finds the end of the text, and says what it has.

mod block;
mod inline;
mod plain;
#[cfg(test)]
mod tests;

use std::fmt::Arguments;

use serde_json::{Map, Value};

use super::fields::{Problem, reading};

/// No manifest is nested deeper.
const DEPTH_MAX: usize = 64;

/// A line, or what is left of it.
#[derive(Clone, Copy)]
struct Line<'a> {
    /// The first is 1.
    number: usize,
    whole: &'a str,
    /// Bytes before what is left: spaces, and the dashes and the key that were read.
    indent: usize,
}

impl<'a> Line<'a> {
    fn text(self) -> &'a str {
        self.whole.get(self.indent..).unwrap_or_default()
    }

    fn is_blank(self) -> bool {
        self.text().trim_start_matches([' ', '\t']).is_empty()
    }

    fn is_item(self) -> bool {
        self.text() == "-" || self.text().starts_with("- ")
    }

    fn refuse(self, problem: &Problem, why: Arguments<'_>) {
        problem.note(format!("line {}: {why}", self.number));
    }
}

/// Reads all documents that the text has. One of nothing is left out.
///
/// # Errors
/// The line that is not understood, and why.
pub(super) fn documents(text: &str) -> Result<Vec<Value>, String> {
    reading(|problem| {
        let mut found = Vec::new();
        let (mut lines, mut has_begun) = (Vec::new(), false);
        for (place, whole) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            let indent = whole.len() - whole.trim_start_matches(' ').len();
            let line = Line { number: place + 1, whole, indent };
            // Line ends of YAML 1.1 alone, and what is no text.
            let is_odd =
                |it: char| it.is_control() && it != '\t' || "\u{2028}\u{2029}\u{feff}".contains(it);
            if whole.contains(is_odd) {
                line.refuse(problem, format_args!("it has a control character"));
            }
            let is_mark = |mark| whole.strip_prefix(mark).is_some_and(is_end_behind);
            if is_mark("---") || is_mark("...") {
                found.extend(Reader::document(std::mem::take(&mut lines), problem));
                has_begun = false;
                continue;
            }
            if whole.starts_with("--- ") {
                let why = format_args!("write what follows --- on a line of its own");
                line.refuse(problem, why);
            }
            has_begun |= !is_end(line.text()) && !whole.starts_with('%');
            if whole.starts_with('%') && !has_begun {
                line.refuse(problem, format_args!("directives are not read"));
            }
            lines.push(line);
        }
        found.extend(Reader::document(lines, problem));
        found
    })
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
    /// None are left once something in them was refused.
    lines: Vec<Line<'a>>,
    /// The line that is read next.
    at: usize,
    depth: usize,
    /// What is left of a line that is read by its characters.
    rest: &'a str,
    problem: &'a Problem,
}

impl<'a> Reader<'a> {
    fn document(lines: Vec<Line<'a>>, problem: &'a Problem) -> Option<Value> {
        let mut reader = Self { lines, at: 0, depth: 0, rest: "", problem };
        reader.next()?;
        let value = reader.node(0);
        if reader.next().is_some() {
            reader.refuse(format_args!("its indentation is of nothing above"));
        }
        Some(value)
    }

    fn peek(&self) -> Option<Line<'a>> {
        self.lines.get(self.at).copied()
    }

    /// Notes what is wrong with the line that is read, or with the last one at their end, and takes
    /// all lines away.
    fn refuse(&mut self, why: Arguments<'_>) {
        if let Some(line) = self.peek().or(self.lines.last().copied()) {
            self.refuse_line(line, why);
        }
    }

    /// The same of a line that was read before.
    fn refuse_line(&mut self, line: Line<'a>, why: Arguments<'_>) {
        line.refuse(self.problem, why);
        self.lines.clear();
        self.rest = "";
    }

    /// The next line that says something.
    fn next(&mut self) -> Option<Line<'a>> {
        while let Some(line) = self.peek() {
            if line.text().starts_with('\t') && !is_end(line.text()) {
                self.refuse(format_args!("a tab is no indentation"));
            } else if !is_end(line.text()) {
                return Some(line);
            }
            self.at += 1;
        }
        None
    }

    /// The node that begins at the next line, if that is indented so far; null otherwise.
    fn node(&mut self, least: usize) -> Value {
        let Some(line) = self.next().filter(|line| line.indent >= least) else {
            return Value::Null;
        };
        self.deepen();
        let value = if line.is_item() {
            self.sequence(line.indent)
        } else if self.key(line).is_some() {
            self.mapping(line.indent)
        } else {
            self.scalar(least)
        };
        self.depth -= 1;
        value
    }

    fn deepen(&mut self) {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            self.refuse(format_args!("it is nested too deep"));
        }
    }

    /// The next line if it has that indentation; less ends a collection.
    fn next_of(&mut self, indent: usize) -> Option<Line<'a>> {
        let line = self.next()?;
        if line.indent > indent {
            self.refuse(format_args!("its indentation is of nothing above"));
        }
        Some(line).filter(|line| line.indent == indent)
    }

    fn sequence(&mut self, indent: usize) -> Value {
        let mut items = Vec::new();
        while let Some(line) = self.next_of(indent).filter(|line| line.is_item()) {
            self.after(line, line.text().strip_prefix('-').unwrap_or_default());
            items.push(self.node(indent + 1));
        }
        Value::Array(items)
    }

    fn mapping(&mut self, indent: usize) -> Value {
        let mut members = Map::new();
        while let Some(line) = self.next_of(indent) {
            let Some((key, rest)) = self.key(line) else {
                self.refuse(format_args!("a key and a colon are wanted here"));
                break;
            };
            self.after(line, rest);
            let value = if !is_end(rest) {
                self.scalar(indent + 1)
            } else if self.next().is_some_and(|next| next.indent == indent && next.is_item()) {
                // A list may begin where its key does.
                self.sequence(indent)
            } else {
                self.node(indent + 1)
            };
            self.put(&mut members, line, key, value);
        }
        Value::Object(members)
    }

    /// Puts in a member whose key is on a line.
    fn put(&mut self, members: &mut Map<String, Value>, line: Line<'a>, key: String, value: Value) {
        if members.contains_key(&key) {
            self.refuse_line(line, format_args!("{key} is there twice"));
        }
        members.insert(key, value);
    }

    /// Goes on behind the beginning of a line.
    fn after(&mut self, line: Line<'a>, rest: &'a str) {
        if is_end(rest) {
            self.at += 1;
        } else if let Some(place) = self.lines.get_mut(self.at) {
            place.indent = line.whole.len() - rest.trim_start_matches(' ').len();
        }
    }

    /// The key that a line begins with and what follows its colon, if it does.
    fn key(&mut self, line: Line<'a>) -> Option<(String, &'a str)> {
        let text = line.text();
        if text.starts_with("? ") || text == "?" {
            let why = "a key is a word or text in quotes, and no ? stands before it";
            self.refuse(format_args!("{why}"));
            return None;
        }
        if text.starts_with(['"', '\'']) {
            let key = self.quoted_on_line(text)?;
            return Some((key, colon(self.rest.trim_start_matches(' '))?));
        }
        if text.starts_with(plain::INDICATORS) || plain::is_indicator(text) {
            return None;
        }
        let mut ends = text.match_indices(':').map(|(place, _)| text.split_at(place));
        let (key, rest) = ends.find_map(|(key, rest)| Some((key, colon(rest)?)))?;
        if plain::comment(key).is_some() {
            return None;
        }
        let key = key.trim_end_matches([' ', '\t']);
        Some((self.text_of_key(plain::resolve(key), key)?, rest))
    }

    /// A key without quotes is text whatever the version of YAML, and no merge.
    fn text_of_key(&mut self, value: Option<Value>, key: &str) -> Option<String> {
        match value {
            Some(Value::String(text)) if text != "<<" => Some(text),
            _ => {
                self.refuse(format_args!("the key {key} might not be text: put it in quotes"));
                None
            }
        }
    }

    /// A value that is neither a block's list nor its mapping, and whose further lines are
    /// indented by at least so much.
    fn scalar(&mut self, least: usize) -> Value {
        let Some(line) = self.peek() else { return Value::Null };
        let why = match line.text().chars().next() {
            Some(first) if least == 0 && !['{', '['].contains(&first) => {
                "a key and a colon are wanted here"
            }
            Some('|' | '>') => return self.block(least),
            Some('"' | '\'' | '{' | '[') => return self.inline(least),
            _ if line.is_item() => "a list begins on a line of its own",
            _ if line.text().starts_with(plain::INDICATORS) => {
                "anchors, aliases and tags are not read, and text that begins like one is put in \
                 quotes"
            }
            _ => return self.plain(least),
        };
        self.refuse(format_args!("{why}"));
        Value::Null
    }
}

/// What follows a colon that ends a key.
fn colon(text: &str) -> Option<&str> {
    text.strip_prefix(':').filter(|rest| rest.is_empty() || rest.starts_with([' ', '\t']))
}
