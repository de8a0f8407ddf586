// SPDX-License-Identifier: Apache-2.0
//! Text over several lines that `|` keeps and `>` folds (YAML 1.2.2, section 8.1).

use serde_json::Value;

use super::{Reader, is_end_behind};

/// What becomes of newlines at the end.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Chomp {
    One,
    None,
    All,
}

impl Reader<'_> {
    pub(super) fn block(&mut self, least: usize) -> Result<Value, String> {
        let Some(head) = self.peek() else { return Ok(Value::Null) };
        let folds = head.text.starts_with('>');
        let (mut chomp, mut given) = (None, None);
        let mut rest = head.text.chars();
        rest.next();
        loop {
            let before = rest.clone();
            match rest.next() {
                Some('-') if chomp.is_none() => chomp = Some(Chomp::None),
                Some('+') if chomp.is_none() => chomp = Some(Chomp::All),
                Some(digit @ '1'..='9') if given.is_none() => given = digit.to_digit(10),
                _ => {
                    rest = before;
                    break;
                }
            }
        }
        if !is_end_behind(rest.as_str()) {
            return Err(head.refuse("text begins on the line after this one"));
        }
        self.at += 1;
        let mut lines: Vec<String> = Vec::new();
        // As much more than that of the key, or of the dash.
        let mut inner = given.map(|more| least.saturating_sub(1) + more as usize);
        while let Some(line) = self.peek() {
            let inside = inner.unwrap_or_else(|| line.indent.max(least));
            if line.text.is_empty() {
                if inner.is_none() && line.indent > least {
                    return Err(line.refuse("a line of spaces before text: leave the spaces out"));
                }
                lines.push(" ".repeat(line.indent.saturating_sub(inside)));
                if inner.is_none() {
                    lines.last_mut().map(String::clear).unwrap_or_default();
                }
            } else if line.indent < inside {
                break;
            } else {
                inner = Some(inside);
                lines.push(" ".repeat(line.indent - inside) + line.text);
            }
            self.at += 1;
        }
        if self.peek().is_some_and(|line| line.indent >= least && !line.text.starts_with('#')) {
            return Err(self.refuse("it is indented less than the text above"));
        }
        let empty = lines.iter().rev().take_while(|line| line.is_empty()).count();
        let kept = lines.len() - empty;
        if kept == 0 {
            return Err(head.refuse("no text follows"));
        }
        lines.truncate(kept);
        let mut text = if folds { fold(&lines) } else { lines.join("\n") };
        let ends = match chomp.unwrap_or(Chomp::One) {
            Chomp::None => 0,
            Chomp::One => 1,
            Chomp::All => empty + 1,
        };
        text.extend(std::iter::repeat_n('\n', ends));
        Ok(Value::String(text))
    }
}

/// Lines that are indented more are kept.
fn fold(lines: &[String]) -> String {
    let mut text = String::new();
    let (mut empty, mut last_is_more) = (0, None);
    for line in lines {
        if line.is_empty() {
            empty += 1;
            continue;
        }
        let is_more = line.starts_with([' ', '\t']);
        match last_is_more {
            None => text.extend(std::iter::repeat_n('\n', empty)),
            Some(was) if was || is_more => text.extend(std::iter::repeat_n('\n', empty + 1)),
            Some(_) if empty == 0 => text.push(' '),
            Some(_) => text.extend(std::iter::repeat_n('\n', empty)),
        }
        (empty, last_is_more) = (0, Some(is_more));
        text += line;
    }
    text
}
