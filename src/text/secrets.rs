// SPDX-License-Identifier: Apache-2.0
//! What is secret, taken out of what goes to other eyes: by its name (`password`, `token`), and by
//! its form (keys in PEM, JSON web tokens, the user of a URL, long words of base 64).
//!
//! What looks secret and is not goes as well: better a word less in a report than a key more.

use serde_json::{Map, Value};

/// What stands for a secret.
pub const REDACTED: &str = "(redacted)";

/// What a name has, without marks between its words, whose value is secret.
const SECRET_NAMES: [&str; 10] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "credential",
    "authorization",
    "cookie",
    "keydata",
    "cniargs",
];
/// What a name is, alone.
const SECRET_WORDS: [&str; 9] =
    ["auth", "pass", "pwd", "psk", "jwt", "bearer", "env", "environment", "environ"];
/// A word of base 64 that is shorter is taken for a name.
const BASE64_CHARS_MIN: usize = 40;
/// The same of what is behind the name of a scheme.
const CREDENTIAL_CHARS_MIN: usize = 8;

/// What is longer is no name, and no URL.
const NAME_CHARS_MAX: usize = 1024;

/// How a name looks.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Look {
    Plain,
    /// Of something secret, or of something else that is called the same.
    Doubtful,
    Secret,
}

fn look(name: &str) -> Look {
    // Of a file and of a parameter of the kernel the last part counts: any link may be before it.
    let mark = if name.starts_with("net.") { '.' } else { '/' };
    let name = name.rsplit(mark).next().unwrap_or(name);
    let plain: String =
        name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    if SECRET_NAMES.iter().any(|secret| plain.contains(secret)) {
        Look::Secret
    } else if plain.ends_with("key") || SECRET_WORDS.contains(&plain.as_str()) {
        Look::Doubtful
    } else {
        Look::Plain
    }
}

/// Takes secrets out of a document of others.
pub fn redact(value: &mut Value) {
    clear(value, false);
}

/// The same of a document of ours, whose names may be those of links and pods: texts are
/// replaced, and everything else keeps its form.
pub fn redact_texts(value: &mut Value) {
    clear(value, true);
}

fn clear(value: &mut Value, texts_alone: bool) {
    let hide = |value: &mut Value| match texts_alone && !value.is_string() {
        true => clear(value, true),
        false => hide(value),
    };
    match value {
        Value::String(text) => *text = redacted(text),
        Value::Array(all) => {
            let mut is_next = false;
            for one in all {
                let is_secret = std::mem::replace(&mut is_next, is_secret_flag(one));
                if is_secret { hide(one) } else { clear(one, texts_alone) }
            }
        }
        Value::Object(members) => {
            let is_pair = ["key", "name"].iter().any(|key| {
                members
                    .get(*key)
                    .and_then(Value::as_str)
                    .is_some_and(|name| look(name) != Look::Plain)
            });
            let named = members.contains_key("value");
            let all: Map<String, Value> = std::mem::take(members)
                .into_iter()
                .map(|(name, mut value)| {
                    let look = match name.as_str() {
                        "key" if named => Look::Plain,
                        "value" if is_pair => Look::Secret,
                        _ => look(&name),
                    };
                    // A list or an object of a doubtful name is described, and is no secret.
                    let is_text = value.is_string() || value.is_number();
                    match look {
                        Look::Secret => hide(&mut value),
                        Look::Doubtful if is_text || name.starts_with("env") => hide(&mut value),
                        _ => clear(&mut value, texts_alone),
                    }
                    (redacted(&name), value)
                })
                .collect();
            *members = all;
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Puts the mark in its place; whether something is set at all is told.
fn hide(value: &mut Value) {
    if !value.is_null() && !value.is_boolean() {
        *value = REDACTED.into();
    }
}

/// An option whose value is the next word.
fn is_secret_flag(word: &Value) -> bool {
    let flag = word.as_str().filter(|word| word.starts_with('-') && !word.contains('='));
    flag.is_some_and(|flag| look(flag) != Look::Plain)
}

/// A text without secrets. A document of JSON is laid out anew.
pub fn redacted_document(text: &str) -> String {
    match serde_json::from_str::<Value>(text) {
        Ok(mut document) => {
            redact(&mut document);
            format!("{document:#}\n")
        }
        Err(_) => redacted(text),
    }
}

/// A text without secrets, or a line.
pub fn redacted(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    // The end of a key whose beginning was cut off.
    while let Some((before, _)) = rest.split_once(PEM_END)
        && !before.contains(PEM_BEGIN)
    {
        let end = rest.get(before.len()..).unwrap_or_default();
        rest = end.get(past_pem(end)..).unwrap_or_default();
        clean = REDACTED.to_owned();
    }
    let mut last = '\n';
    let mut line_is_empty = true;
    while let Some(character) = rest.chars().next() {
        let found = pem(rest)
            .or_else(|| user_of_url(rest))
            .or_else(|| base64(rest, last))
            .or_else(|| word(rest, last, line_is_empty));
        let (kept, length) = found.unwrap_or((character.len_utf8(), 0));
        let (before, behind) = rest.split_at_checked(kept).unwrap_or((rest, ""));
        clean.push_str(before);
        line_is_empty = character == '\n' || (line_is_empty && character.is_whitespace());
        last = character;
        rest = behind;
        if found.is_some() {
            clean.push_str(REDACTED);
            rest = behind.get(length..).unwrap_or_default();
            last = ' ';
        }
    }
    clean
}

/// How much of a text stays, and the length of the secret behind it.
type Found = Option<(usize, usize)>;

const PEM_BEGIN: &str = "-----BEGIN ";
const PEM_END: &str = "-----END ";

/// A key or a certificate, to its end or that of the text.
fn pem(text: &str) -> Found {
    if text.starts_with(PEM_END) {
        return Some((0, past_pem(text)));
    }
    let behind = text.strip_prefix(PEM_BEGIN)?;
    let end = behind
        .find(PEM_END)
        .map_or(behind.len(), |end| end + past_pem(behind.get(end..).unwrap_or_default()));
    Some((0, PEM_BEGIN.len() + end))
}

/// How long the last line of a key is.
fn past_pem(end: &str) -> usize {
    let marks = end.get(PEM_END.len()..).and_then(|behind| behind.find("-----"));
    marks.map_or(end.len(), |at| PEM_END.len() + at + 5)
}

/// Whose name, and perhaps password, is before the host.
fn user_of_url(text: &str) -> Found {
    let behind = text.strip_prefix("://")?;
    let url = until(behind, |c| c.is_whitespace() || "\"'<>`".contains(c));
    let authority = until(url, |c| "/?#".contains(c));
    // A password may have a slash in it, and a port may not.
    let port = authority.rsplit_once(':').map(|(_, port)| port);
    let is_port = port.is_none_or(|port| port.ends_with(']') || port.chars().all(char::is_numeric));
    let user = authority.rfind('@').or_else(|| if is_port { None } else { url.rfind('@') })?;
    let is_done = behind.get(..user) == Some(REDACTED);
    (!is_done && user > 0).then_some((3, user))
}

/// A long word of base 64.
fn base64(text: &str, last: char) -> Found {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '+' || c == '/';
    // A path is none.
    if is_part(last) || last == '_' || text.starts_with('/') {
        return None;
    }
    let length = text.find(|c| !is_part(c)).unwrap_or(text.len());
    let (word, behind) = text.split_at_checked(length)?;
    let padding = behind.len() - behind.trim_start_matches('=').len();
    (length >= BASE64_CHARS_MIN && is_mixed(word)).then_some((0, length + padding))
}

/// A word that is a secret, or the name of one.
fn word(text: &str, last: char, line_is_empty: bool) -> Found {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
    let is_token = text.starts_with("eyJ") && !last.is_ascii_alphanumeric();
    if is_part(last) && !is_token {
        return None;
    }
    let name = until(text, |c| !is_part(c));
    if is_token && name.contains('.') {
        return Some((0, text.find(|c| !is_part(c)).unwrap_or(text.len())));
    }
    let behind = text.get(name.len()..).unwrap_or_default();
    let lower = name.to_ascii_lowercase();
    if ["bearer", "basic"].contains(&lower.as_str()) {
        let blanks = behind.len() - behind.trim_start_matches(' ').len();
        let value = behind.get(blanks..)?;
        let end = value.find(|c: char| c.is_whitespace() || "\"'\\,".contains(c));
        let value = value.get(..end.unwrap_or(value.len()))?;
        let is_base64 = value.chars().skip(1).any(|c| c.is_ascii_uppercase() || c == '=');
        let is_one = lower == "bearer" || is_base64;
        let is_one = is_one && blanks > 0 && value.len() >= CREDENTIAL_CHARS_MIN;
        return (is_one && !value.contains(REDACTED)).then_some((name.len() + blanks, value.len()));
    }
    named(name, behind, line_is_empty)
}

/// What is set behind a name that looks as if it were secret.
fn named(name: &str, behind: &str, line_is_empty: bool) -> Found {
    let look = look(name);
    if look == Look::Plain {
        return None;
    }
    let (quote, unquoted) = quote(behind);
    let blanks = |text: &str| text.len() - text.trim_start_matches([' ', '\t']).len();
    let at_sign = blanks(unquoted);
    let sign = unquoted.get(at_sign..)?.chars().next()?;
    let is_flag = name.starts_with('-') && quote.is_empty() && at_sign > 0;
    let at_value = match sign {
        '=' => at_sign + 1,
        // An unquoted name may be the end of a sentence, and a path what cannot be opened.
        ':' if !name.starts_with('/') && (look == Look::Secret || !quote.is_empty()) => at_sign + 1,
        _ if is_flag && sign != '-' => at_sign,
        _ => return None,
    };
    let value = unquoted.get(at_value..)?;
    let value = value.get(blanks(value)..)?;
    let (mark, inside) = self::quote(value);
    let is_set = !inside.is_empty() && !inside.starts_with(REDACTED);
    let auth = name.to_ascii_lowercase().contains("auth");
    let of_line = look == Look::Secret && quote.is_empty() && (line_is_empty || auth);
    let kept = name.len() + behind.len() - inside.len();
    let length = is_set.then(|| value_length(mark, inside, of_line))?;
    (length > 0).then_some((kept, length))
}

/// The quote that a text begins with, with the backslashes that escape it, and what is behind.
fn quote(text: &str) -> (&str, &str) {
    let slashes = text.len() - text.trim_start_matches('\\').len();
    match text.get(slashes..).and_then(|rest| rest.chars().next()) {
        Some('"' | '\'') => text.split_at_checked(slashes + 1).unwrap_or(("", text)),
        _ => ("", text),
    }
}

/// How long a value is: what is in quotes or in brackets, a word, or what is left of its line.
fn value_length(mark: &str, value: &str, of_line: bool) -> usize {
    if mark.is_empty() {
        let end =
            |c: char| if of_line { c == '\n' } else { c.is_whitespace() || "\"'".contains(c) };
        let is_bracket = value.starts_with(['{', '[']);
        return if is_bracket { bracketed(value) } else { value.find(end).unwrap_or(value.len()) };
    }
    // The quote that ends it is escaped as that which begins it, and no further.
    let slashes = mark.len() - 1;
    let ends = value.match_indices(mark.trim_start_matches('\\')).find_map(|(at, _)| {
        let before = value.get(..at)?;
        let escaped = before.len() - before.trim_end_matches('\\').len();
        (escaped % (2 * mark.len()) == slashes).then(|| at - slashes)
    });
    ends.unwrap_or(value.len())
}

/// How long what is in brackets is, to the end where they are not closed.
fn bracketed(value: &str) -> usize {
    let (mut depth, mut in_string, mut is_escaped) = (0_usize, false, false);
    for (at, character) in value.char_indices() {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = in_string,
            '"' => in_string = !in_string,
            _ if in_string => {}
            '{' | '[' => depth += 1,
            '}' | ']' if depth == 1 => return at + 1,
            '}' | ']' => depth -= 1,
            _ => {}
        }
    }
    value.len()
}

/// Whether large and small letters and digits are mixed, as in what a program made.
fn is_mixed(word: &str) -> bool {
    let has = |of: fn(&u8) -> bool| word.as_bytes().iter().any(of);
    has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase) && has(u8::is_ascii_digit)
}

/// What is before an end; the beginning of what is longer than any name.
fn until(text: &str, is_end: impl Fn(char) -> bool) -> &str {
    let mut ends = text.char_indices();
    let end = ends.by_ref().take(NAME_CHARS_MAX).find(|(_, c)| is_end(*c)).or_else(|| ends.next());
    text.get(..end.map_or(text.len(), |(at, _)| at)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
