// SPDX-License-Identifier: Apache-2.0
//! Text in quotes, and lists and mappings in brackets: what ends by a character and not by
//! its indentation (YAML 1.2.2, chapter 7).

use serde_json::{Map, Value};

use super::{Reader, is_end, is_end_behind, plain};

/// What a character behind a backslash stands for, where it is another one.
const ESCAPED: [(char, char); 13] = [
    ('0', '\0'),
    ('a', '\x07'),
    ('b', '\x08'),
    ('t', '\t'),
    ('n', '\n'),
    ('v', '\x0b'),
    ('f', '\x0c'),
    ('r', '\r'),
    ('e', '\x1b'),
    ('N', '\u{85}'),
    ('_', '\u{a0}'),
    ('L', '\u{2028}'),
    ('P', '\u{2029}'),
];

impl<'a> Reader<'a> {
    /// A value that stands in quotes or brackets, and whose further lines are indented so far.
    pub(super) fn inline(&mut self, least: usize) -> Value {
        let Some(line) = self.peek() else { return Value::Null };
        self.rest = line.text();
        let value = self.value(least);
        if !is_end_behind(self.rest) {
            self.refuse(format_args!("nothing may follow the quotes or brackets"));
        }
        self.at += 1;
        value
    }

    /// Text in quotes, if they close on the line, of which what follows them is left.
    pub(super) fn quoted_on_line(&mut self, text: &'a str) -> Option<String> {
        self.rest = text;
        closes(text).then(|| self.quoted(0))
    }

    fn next_char(&mut self) -> Option<char> {
        let mut rest = self.rest.chars();
        let found = rest.next();
        self.rest = rest.as_str();
        found
    }

    /// Goes to the next line that has something, and says how many had nothing. Here and below, lines
    /// that go on are indented by `least`.
    fn next_line(&mut self, least: usize) -> usize {
        let mut empty = 0;
        loop {
            self.at += 1;
            let why = match self.peek() {
                Some(line) if line.is_blank() => {
                    empty += 1;
                    continue;
                }
                Some(line) if line.indent >= least && !line.text().starts_with('\t') => {
                    self.rest = line.text();
                    return empty;
                }
                Some(_) => "what is in quotes or brackets goes on, and this is indented less",
                None => "quotes or brackets are not closed",
            };
            self.refuse(format_args!("{why}"));
            return 0;
        }
    }

    /// Text in quotes, which begins here.
    fn quoted(&mut self, least: usize) -> String {
        let quote = self.next_char();
        let mut text = String::new();
        // What an escape has put there is no space at the end of a line.
        let mut kept = 0;
        loop {
            match self.next_char() {
                None if self.lines.is_empty() => return text,
                None => {
                    let end = text.get(kept..).unwrap_or_default();
                    text.truncate(kept + end.trim_end_matches([' ', '\t']).len());
                    match self.next_line(least) {
                        0 => text.push(' '),
                        empty => text.extend(std::iter::repeat_n('\n', empty)),
                    }
                    kept = text.len();
                }
                Some('\'') if quote == Some('\'') && self.rest.starts_with('\'') => {
                    self.next_char();
                    text.push('\'');
                }
                found if found == quote => return text,
                Some('\\') if quote == Some('"') => {
                    text.extend(self.escaped());
                    kept = text.len();
                }
                Some(other) => text.push(other),
            }
        }
    }

    fn escaped(&mut self) -> Option<char> {
        let Some(letter) = self.next_char() else {
            self.refuse(format_args!("a backslash at the end of a line is not read"));
            return None;
        };
        let digits = match letter {
            ' ' | '"' | '/' | '\\' => return Some(letter),
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => {
                let found = ESCAPED.into_iter().find(|(it, _)| *it == letter);
                if found.is_none() {
                    self.refuse(format_args!("\\{letter} stands for nothing"));
                }
                return found.map(|(_, meant)| meant);
            }
        };
        let number = self.rest.get(..digits).filter(|it| !it.starts_with('+'));
        let number = number.and_then(|it| u32::from_str_radix(it, 16).ok());
        let found = number.and_then(char::from_u32);
        self.rest = self.rest.get(digits..).unwrap_or_default();
        if found.is_none() {
            self.refuse(format_args!("\\{letter} wants the number of a character"));
        }
        found
    }

    /// Passes over spaces, comments and ends of lines.
    fn space(&mut self, least: usize) {
        let mut is_end_here = is_end_behind(self.rest);
        while is_end_here && !self.lines.is_empty() {
            self.next_line(least);
            is_end_here = is_end(self.rest);
        }
        self.rest = self.rest.trim_start_matches([' ', '\t']);
    }

    fn value(&mut self, least: usize) -> Value {
        match self.rest.chars().next() {
            Some('"' | '\'') => Value::String(self.quoted(least)),
            Some('[') => {
                let mut items = Vec::new();
                self.each(']', least, &mut |reader| items.push(reader.value(least)));
                Value::Array(items)
            }
            Some('{') => {
                let mut members = Map::new();
                self.each('}', least, &mut |reader| reader.member(&mut members, least));
                Value::Object(members)
            }
            _ => {
                let word = self.word();
                self.resolved(word, self.at)
            }
        }
    }

    /// What stands between brackets, of which this one closes, apart by commas.
    fn each(&mut self, bracket: char, least: usize, read: &mut dyn FnMut(&mut Self)) {
        self.deepen();
        loop {
            // The bracket that opens, or a comma.
            self.next_char();
            self.space(least);
            if !self.rest.starts_with(bracket) {
                read(self);
                self.space(least);
            }
            match self.rest.chars().next() {
                Some(',') => {}
                found => {
                    if found != Some(bracket) {
                        self.refuse(format_args!("a comma or {bracket} is wanted here"));
                    }
                    break;
                }
            }
        }
        self.next_char();
        self.depth -= 1;
    }

    fn member(&mut self, members: &mut Map<String, Value>, least: usize) {
        let line = self.peek();
        let key = if self.rest.starts_with(['"', '\'']) {
            Some(self.quoted(least))
        } else {
            let word = self.word();
            self.text_of_key(plain::resolve(word), word)
        };
        self.space(least);
        match self.rest.strip_prefix(':') {
            Some(rest) => self.rest = rest,
            None => {
                let key = key.as_deref().unwrap_or_default();
                self.refuse(format_args!("a colon is wanted behind {key}"));
            }
        }
        self.space(least);
        let value = match self.rest.starts_with([',', '}']) {
            true => Value::Null,
            false => self.value(least),
        };
        if let (Some(key), Some(line)) = (key, line) {
            self.put(members, line, key, value);
        }
    }

    /// Text without quotes, on this line.
    fn word(&mut self) -> &'a str {
        if self.rest.starts_with(plain::INDICATORS) || plain::is_indicator(self.rest) {
            self.refuse(format_args!("text that begins so is put in quotes"));
        }
        let all = self.rest;
        let ends = |(place, found): &(usize, char)| match found {
            ',' | '[' | ']' | '{' | '}' => true,
            '#' => all.split_at(*place).0.ends_with([' ', '\t']),
            ':' => {
                let after = all.split_at(*place + 1).1;
                after.is_empty() || after.starts_with([' ', '\t', ',', ']', '}', '[', '{'])
            }
            _ => false,
        };
        let end = all.char_indices().find(ends).map_or(all.len(), |(place, _)| place);
        let (word, rest) = all.split_at(end);
        self.rest = rest;
        word.trim_end_matches([' ', '\t'])
    }
}

/// Whether quotes that a text begins with close in it.
fn closes(text: &str) -> bool {
    let mut rest = text.chars();
    let quote = rest.next();
    while let Some(next) = rest.next() {
        if next == '\\' && quote == Some('"') {
            rest.next();
        } else if Some(next) == quote {
            match quote {
                // Two of them are one.
                Some('\'') if rest.as_str().starts_with('\'') => drop(rest.next()),
                _ => return true,
            }
        }
    }
    false
}
