// SPDX-License-Identifier: Apache-2.0
//! Text over several lines that `|` keeps and `>` folds (YAML 1.2.2, section 8.1).

use std::iter::repeat_n;

use serde_json::Value;

use super::{Reader, is_end};

impl Reader<'_> {
    pub(super) fn block(&mut self, least: usize) -> Value {
        let Some(head) = self.peek() else { return Value::Null };
        let text = head.text();
        let (marks, rest) = text.split_at(text.find([' ', '\t']).unwrap_or(text.len()));
        let mut is_understood = is_end(rest);
        // What becomes of newlines at the end, and how far the text is indented beyond the key or dash.
        let (mut chomp, mut given) = (None, None);
        for mark in marks.chars().skip(1) {
            match mark {
                '-' | '+' if chomp.is_none() => chomp = Some(mark),
                '1'..='9' if given.is_none() => given = mark.to_digit(10),
                _ => is_understood = false,
            }
        }
        if !is_understood {
            self.refuse(format_args!("text begins on the line after this one"));
        }
        self.at += 1;
        let mut lines = Vec::new();
        let mut inner = given.map(|more| least.saturating_sub(1) + more as usize);
        while let Some(line) = self.peek() {
            let inside = inner.unwrap_or(line.indent.max(least));
            if !line.text().is_empty() {
                if line.indent < inside {
                    break;
                }
                inner = Some(inside);
            } else if inner.is_none() && line.indent > least {
                let why = "a line of spaces before text: leave the spaces out";
                self.refuse(format_args!("{why}"));
            }
            lines.push(line.whole.get(inside..).unwrap_or_default());
            self.at += 1;
        }
        if self.peek().is_some_and(|line| line.indent >= least && !line.text().starts_with('#')) {
            self.refuse(format_args!("it is indented less than the text above"));
        }
        let empty = lines.iter().rev().take_while(|line| line.is_empty()).count();
        lines.truncate(lines.len() - empty);
        if lines.is_empty() {
            self.refuse_line(head, format_args!("no text follows"));
        }
        let mut text = joined(&lines, marks.starts_with('>'));
        let ends = match chomp {
            None => 1,
            Some('-') => 0,
            Some(_) => empty + 1,
        };
        text.extend(repeat_n('\n', ends));
        Value::String(text)
    }
}

/// Lines as one text. Where they are folded, a single newline between two that are not indented
/// further is a space, and one of several is left out.
fn joined(lines: &[&str], folds: bool) -> String {
    let mut text = String::new();
    let (mut empty, mut last_is_more) = (0, None);
    for line in lines {
        if line.is_empty() {
            empty += 1;
            continue;
        }
        let is_more = line.starts_with([' ', '\t']);
        let is_folded = folds && !is_more && last_is_more == Some(false);
        match empty {
            0 if is_folded => text.push(' '),
            _ if is_folded || last_is_more.is_none() => text.extend(repeat_n('\n', empty)),
            _ => text.extend(repeat_n('\n', empty + 1)),
        }
        (empty, last_is_more) = (0, Some(is_more));
        text += line;
    }
    text
}
