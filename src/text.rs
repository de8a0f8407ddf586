// SPDX-License-Identifier: Apache-2.0
//! Text from outside, made safe to show.
//!
//! A pod's name, an alias, a path or what another plugin says may hold a newline,
//! which makes a second line in a log, a terminal's control sequence, or a
//! character that reverses the direction of what follows. Whoever makes a line
//! for a log or a terminal passes it through here, once. What is read by programs
//! (JSON) stays as it is.

pub mod few;
pub mod json;
pub mod moment;
pub mod nearest;
pub mod secrets;
pub mod shell;

use std::borrow::Cow;

/// The text with each character that a terminal or a reader of lines would obey
/// spelled out, as Rust spells it: `\n`, `\u{1b}`.
pub fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(is_obeyed) {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if is_obeyed(character) {
            plain.extend(character.escape_default());
        } else {
            plain.push(character);
        }
    }
    Cow::Owned(plain)
}

/// A number with a comma between each three digits.
pub fn grouped_digits(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Control characters (C0, C1, delete), and those of the Unicode category Cf that
/// are invisible or change the direction of text.
fn is_obeyed(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_spelled_out() {
        for (given, shown) in [
            ("web\n2026 INFO", "web\\n2026 INFO"),
            ("a\r\tb", "a\\r\\tb"),
            ("\u{1b}[2J\u{7}", "\\u{1b}[2J\\u{7}"),
            ("\u{9b}31m\u{7f}", "\\u{9b}31m\\u{7f}"),
            ("gnp\u{202e}.exe\u{2066}", "gnp\\u{202e}.exe\\u{2066}"),
            ("a\u{2028}b\u{200b}\u{feff}", "a\\u{2028}b\\u{200b}\\u{feff}"),
            ("\u{e0041}", "\\u{e0041}"),
        ] {
            assert_eq!(escaped(given), shown);
        }
    }

    #[test]
    fn all_other_text_is_the_same() {
        for text in ["", "web-0", "Zürich/東京 …", "C:\\dir \"quoted\" 'x'", "é\u{301}"] {
            assert!(matches!(escaped(text), Cow::Borrowed(same) if same == text), "{text}");
        }
    }
}
