// SPDX-License-Identifier: Apache-2.0
//! Text in quotes, and lists and mappings in brackets: what ends by a character and not by
//! its indentation (YAML 1.2.2, chapter 7).

use serde_json::{Map, Value};

use super::{DEPTH_MAX, Line, Reader, is_end, is_end_behind, plain};

/// Text in quotes that ends on this line, and what follows.
///
/// # Errors
/// Of what is escaped in it.
pub(super) fn quoted_on_line<'a>(line: Line<'a>) -> Result<Option<(String, &'a str)>, String> {
    let mut reader = Reader { lines: vec![line], at: 0, depth: 0 };
    let mut cursor = Cursor { reader: &mut reader, rest: line.text, least: 0 };
    if !cursor.ends_here() {
        return Ok(None);
    }
    let text = cursor.quoted()?;
    Ok(Some((text, cursor.rest)))
}

/// A place within a line, from which lines follow that are indented so far.
struct Cursor<'a, 'b> {
    reader: &'b mut Reader<'a>,
    rest: &'a str,
    least: usize,
}

impl<'a> Reader<'a> {
    /// A value that stands in quotes or brackets.
    pub(super) fn inline(&mut self, least: usize) -> Result<Value, String> {
        let Some(line) = self.peek() else { return Ok(Value::Null) };
        let mut cursor = Cursor { reader: self, rest: line.text, least };
        let value = cursor.value(0)?;
        let rest = cursor.rest;
        if !is_end_behind(rest) {
            return Err(self.refuse("nothing may follow the quotes or brackets"));
        }
        self.at += 1;
        Ok(value)
    }
}

impl<'a> Cursor<'a, '_> {
    fn refuse(&self, why: &str) -> String {
        self.reader.refuse(why)
    }

    fn next(&mut self) -> Option<char> {
        let mut rest = self.rest.chars();
        let found = rest.next();
        self.rest = rest.as_str();
        found
    }

    /// Goes to the next line that has something, and says how many had nothing.
    fn next_line(&mut self) -> Result<usize, String> {
        let mut empty = 0;
        loop {
            self.reader.at += 1;
            let Some(line) = self.reader.peek() else {
                return Err(self.refuse("quotes or brackets are not closed"));
            };
            if !line.is_blank() {
                if line.indent < self.least || line.text.starts_with('\t') {
                    return Err(line.refuse(
                        "what is in quotes or brackets goes on, and this is indented less",
                    ));
                }
                self.rest = line.text;
                return Ok(empty);
            }
            empty += 1;
        }
    }

    /// Whether the quotes close on this line.
    fn ends_here(&self) -> bool {
        let mut rest = self.rest.chars();
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

    /// Text in quotes, which begins here.
    fn quoted(&mut self) -> Result<String, String> {
        let quote = self.next();
        let mut text = String::new();
        // What an escape has put there is no space at the end of a line.
        let mut kept = 0;
        loop {
            match self.next() {
                None => {
                    let cut = text.trim_end_matches([' ', '\t']).len();
                    text.truncate(cut.max(kept));
                    match self.next_line()? {
                        0 => text.push(' '),
                        empty => text.extend(std::iter::repeat_n('\n', empty)),
                    }
                    kept = text.len();
                }
                Some('\'') if quote == Some('\'') && self.rest.starts_with('\'') => {
                    self.next();
                    text.push('\'');
                }
                found if found == quote => return Ok(text),
                Some('\\') if quote == Some('"') => {
                    text.push(self.escaped()?);
                    kept = text.len();
                }
                Some(other) => text.push(other),
            }
        }
    }

    fn escaped(&mut self) -> Result<char, String> {
        let Some(letter) = self.next() else {
            return Err(self.refuse("a backslash at the end of a line is not read"));
        };
        let digits = match letter {
            '0' => return Ok('\0'),
            'a' => return Ok('\x07'),
            'b' => return Ok('\x08'),
            't' => return Ok('\t'),
            'n' => return Ok('\n'),
            'v' => return Ok('\x0b'),
            'f' => return Ok('\x0c'),
            'r' => return Ok('\r'),
            'e' => return Ok('\x1b'),
            'N' => return Ok('\u{85}'),
            '_' => return Ok('\u{a0}'),
            'L' => return Ok('\u{2028}'),
            'P' => return Ok('\u{2029}'),
            ' ' | '"' | '/' | '\\' => return Ok(letter),
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => return Err(self.refuse(&format!("\\{letter} stands for nothing"))),
        };
        let number = self.rest.get(..digits).filter(|it| !it.starts_with('+'));
        let number = number.and_then(|it| u32::from_str_radix(it, 16).ok());
        let Some(found) = number.and_then(char::from_u32) else {
            return Err(self.refuse(&format!("\\{letter} wants the number of a character")));
        };
        self.rest = self.rest.get(digits..).unwrap_or_default();
        Ok(found)
    }

    /// Passes over spaces, comments and ends of lines.
    fn space(&mut self) -> Result<(), String> {
        let mut is_end_here = is_end_behind(self.rest);
        while is_end_here {
            self.next_line()?;
            is_end_here = is_end(self.rest);
        }
        self.rest = self.rest.trim_start_matches([' ', '\t']);
        Ok(())
    }

    fn value(&mut self, depth: usize) -> Result<Value, String> {
        if depth > DEPTH_MAX {
            return Err(self.refuse("it is nested too deep"));
        }
        match self.rest.chars().next() {
            Some('"' | '\'') => self.quoted().map(Value::String),
            Some('[') => self.list(depth),
            Some('{') => self.mapping(depth),
            _ => self.word(),
        }
    }

    fn list(&mut self, depth: usize) -> Result<Value, String> {
        self.next();
        let mut items = Vec::new();
        loop {
            self.space()?;
            if self.rest.starts_with(']') {
                break;
            }
            items.push(self.value(depth + 1)?);
            if !self.comma(']')? {
                break;
            }
        }
        self.next();
        Ok(Value::Array(items))
    }

    fn mapping(&mut self, depth: usize) -> Result<Value, String> {
        self.next();
        let mut members = Map::new();
        loop {
            self.space()?;
            if self.rest.starts_with('}') {
                break;
            }
            let is_quoted = self.rest.starts_with(['"', '\'']);
            let key = match if is_quoted { self.quoted().map(Value::String) } else { self.word() }?
            {
                Value::String(key) if is_quoted || key != "<<" => key,
                other => {
                    return Err(
                        self.refuse(&format!("the key {other} is no text: put it in quotes"))
                    );
                }
            };
            self.space()?;
            let Some(rest) = self.rest.strip_prefix(':') else {
                return Err(self.refuse(&format!("a colon is wanted behind {key}")));
            };
            self.rest = rest;
            self.space()?;
            let value = match self.rest.starts_with([',', '}']) {
                true => Value::Null,
                false => self.value(depth + 1)?,
            };
            if members.contains_key(&key) {
                return Err(self.refuse(&format!("{key} is there twice")));
            }
            members.insert(key, value);
            if !self.comma('}')? {
                break;
            }
        }
        self.next();
        Ok(Value::Object(members))
    }

    /// Whether one more follows; the bracket does otherwise.
    fn comma(&mut self, bracket: char) -> Result<bool, String> {
        self.space()?;
        if let Some(rest) = self.rest.strip_prefix(',') {
            self.rest = rest;
            return Ok(true);
        }
        match self.rest.starts_with(bracket) {
            true => Ok(false),
            false => Err(self.refuse(&format!("a comma or {bracket} is wanted here"))),
        }
    }

    /// Text without quotes, on this line.
    fn word(&mut self) -> Result<Value, String> {
        if self.rest.starts_with(plain::INDICATORS) || plain::is_indicator(self.rest) {
            return Err(self.refuse("text that begins so is put in quotes"));
        }
        let ends = |(place, found): &(usize, char)| match found {
            ',' | '[' | ']' | '{' | '}' => true,
            '#' => self.rest.split_at(*place).0.ends_with([' ', '\t']),
            ':' => {
                let after = self.rest.split_at(*place + 1).1;
                after.is_empty() || after.starts_with([' ', '\t', ',', ']', '}', '[', '{'])
            }
            _ => false,
        };
        let end = self.rest.char_indices().find(ends).map_or(self.rest.len(), |(place, _)| place);
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        plain::resolve(word.trim_end_matches([' ', '\t'])).map_err(|why| self.refuse(&why))
    }
}
