// SPDX-License-Identifier: Apache-2.0
//! Text without quotes, and what it is taken for.

use serde_json::Value;

use super::Reader;

/// What no such text begins with.
pub(super) const INDICATORS: [char; 15] =
    ['&', '*', '!', '|', '>', '%', '@', '`', '{', '}', '[', ']', ',', '#', '"'];

/// Words that YAML 1.1 takes for true and false, and 1.2 for text.
const FLAGS: [&str; 6] = ["y", "n", "yes", "no", "on", "off"];
const NUMBERS_OF_NONE: [&str; 6] = [".inf", "+.inf", "-.inf", ".nan", "+.nan", "-.nan"];

/// Where a comment begins in it.
pub(super) fn comment(text: &str) -> Option<usize> {
    [" #", "\t#"].into_iter().filter_map(|mark| text.find(mark)).min()
}

/// The value of such text (YAML 1.2.2, section 10.3); none where it is one thing or another by the
/// version of YAML.
pub(super) fn resolve(text: &str) -> Option<Value> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Some(Value::Null),
        "true" | "True" | "TRUE" => return Some(Value::Bool(true)),
        "false" | "False" | "FALSE" => return Some(Value::Bool(false)),
        _ => {}
    }
    if text.starts_with(['-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9'])
        && let Ok(number) = serde_json::from_slice(text.as_bytes())
    {
        return Some(number);
    }
    let small = text.to_ascii_lowercase();
    let is_word = |words: &[&str]| words.contains(&small.as_str());
    let is_other = is_word(&FLAGS) || is_word(&NUMBERS_OF_NONE) || is_other_number(&small);
    (!is_other).then(|| Value::String(text.to_owned()))
}

/// Whether it begins with what may stand for something else, and is not the first letter of a
/// word, such as a number's sign.
pub(super) fn is_indicator(text: &str) -> bool {
    let is_of_word = |it: char| it.is_ascii_alphanumeric() || !it.is_ascii() && !it.is_whitespace();
    text.strip_prefix(['-', '?', ':']).is_some_and(|rest| !rest.starts_with(is_of_word))
}

/// Numbers that JSON does not write so.
fn is_other_number(text: &str) -> bool {
    let digits = text.trim_start_matches(['+', '-']);
    let is_of = |digits: &str, radix: u32| {
        digits.starts_with(|it: char| it.is_digit(radix))
            && digits.chars().all(|it| it.is_digit(radix) || it == '_')
    };
    let prefixed = [("0x", 16), ("0o", 8), ("0b", 2)];
    let has_prefix = |(prefix, radix): (&str, u32)| {
        digits.strip_prefix(prefix).is_some_and(|rest| is_of(rest, radix))
    };
    // 1:30 is a number of minutes in YAML 1.1.
    let is_sexagesimal = || {
        digits.contains(':')
            && digits.split(':').all(|part| {
                part.starts_with(|it: char| it.is_ascii_digit())
                    && part.chars().all(|it| it.is_ascii_digit() || it == '_' || it == '.')
            })
    };
    is_of(digits, 10)
        || prefixed.into_iter().any(has_prefix)
        || is_float(digits)
        || is_sexagesimal()
}

/// Digits, perhaps with a point among them or at either end, and perhaps with an exponent.
fn is_float(text: &str) -> bool {
    let plain = text.replace('_', "");
    let (mantissa, exponent) = plain.split_once('e').unwrap_or((&plain, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let is_digits = |text: &str| text.bytes().all(|it| it.is_ascii_digit());
    let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    !(exponent.is_empty() || whole.is_empty() && fraction.is_empty())
        && [whole, fraction, exponent].into_iter().all(is_digits)
}

impl Reader<'_> {
    /// Text that ends with its line or goes on in those that are indented so far.
    pub(super) fn plain(&mut self, least: usize) -> Value {
        let mut text = String::new();
        let (mut breaks, mut last) = (0, self.at);
        while let Some(line) = self.peek() {
            let (is_first, whole) = (text.is_empty(), line.text());
            if !is_first && line.is_blank() {
                breaks += 1;
                self.at += 1;
                continue;
            }
            if !is_first && (line.indent < least || whole.starts_with('#')) {
                break;
            }
            let comment = comment(whole);
            let (part, _) = whole.split_at(comment.unwrap_or(whole.len()));
            let part = part.trim_end_matches([' ', '\t']);
            let is_mark =
                || ["---", "...", "? ", ": ", "\t"].iter().any(|it| whole.starts_with(it));
            if part.contains(": ") || part.ends_with(':') || part.contains(":\t") {
                self.refuse(format_args!("a colon ends a key: put text that has one in quotes"));
            } else if is_first && is_indicator(part) {
                self.refuse(format_args!("text that begins so is put in quotes"));
            } else if is_mark() || !is_first && (line.is_item() || ["?", ":"].contains(&part)) {
                self.refuse(format_args!("it goes on with text of the line before: use quotes"));
            }
            match breaks {
                _ if is_first => {}
                0 => text.push(' '),
                _ => text.extend(std::iter::repeat_n('\n', breaks)),
            }
            breaks = 0;
            text += part;
            last = self.at;
            self.at += 1;
            if comment.is_some() {
                break;
            }
        }
        self.resolved(&text, last)
    }

    /// The value of text that ends on that line.
    pub(super) fn resolved(&mut self, text: &str, at: usize) -> Value {
        let value = resolve(text);
        if let (None, Some(line)) = (&value, self.lines.get(at)) {
            let why = "is a number, a flag or text: if it is text, put it in quotes";
            self.refuse_line(*line, format_args!("{text} {why}"));
        }
        value.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_with_a_point_are_those_of_rust(text in "[0-9.][0-9.e+-]{0,6}") {
            prop_assert_eq!(is_float(&text), text.parse::<f64>().is_ok());
        }
    }
}
