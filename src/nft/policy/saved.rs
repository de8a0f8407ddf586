// SPDX-License-Identifier: Apache-2.0
//! A table of policies as a document, from which it can be made again where the kernel has
//! lost it: what each set holds, keys by their bytes.

use std::fmt::Write;

use serde_json::Value as Json;

use super::super::set::{Content, Elements, Key, Value};
use super::Policies;

impl Policies {
    /// What each set holds, as text of JSON: as a tree it would take five times as much memory.
    pub fn encode(&self) -> String {
        let mut text = String::from("{");
        for set in self.sets() {
            let Content::Following(elements) = &set.content else { continue };
            separate(&mut text);
            let _ = write!(text, "\"{}\":{{", set.name);
            for (key, value) in elements {
                separate(&mut text);
                write_key(&mut text, key);
                let _ = match value {
                    Some(Value::Number(number)) => write!(text, "{number}"),
                    Some(Value::Verdict(_)) | None => write!(text, "null"),
                };
            }
            text.push('}');
        }
        text.push('}');
        text
    }

    /// The table of that name, of what [`encode`](Self::encode) made; `None` if that is
    /// something else.
    pub fn decode(name: &str, sets: &Json) -> Option<Self> {
        let table = Self { table: name.to_owned(), ..Self::default() };
        let mut held = Vec::new();
        for set in table.describe().ok()?.sets {
            let Content::Following(_) = &set.content else { continue };
            let mut elements = Elements::new();
            for (text, number) in sets.get(set.name)?.as_object()? {
                let value = match set.data {
                    None => None,
                    Some(_) => Some(Value::Number(number.as_u64()?)),
                };
                elements.insert(key(text)?, value);
            }
            held.push((set.name, elements));
        }
        Some(table.read(&held))
    }
}

/// A comma behind what is no beginning.
fn separate(text: &mut String) {
    if !text.ends_with('{') {
        text.push(',');
    }
}

/// In base 16; of a range both ends.
fn write_key(text: &mut String, key: &Key) {
    let digits = |text: &mut String, bytes: &[u8]| {
        for byte in bytes {
            text.extend(
                [byte >> 4, byte & 15]
                    .map(|digit| char::from_digit(u32::from(digit), 16).unwrap_or_default()),
            );
        }
    };
    text.push('"');
    digits(text, &key.first);
    if let Some(last) = &key.last {
        text.push('-');
        digits(text, last);
    }
    text.push_str("\":");
}

fn key(text: &str) -> Option<Key> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Some(Key::between(bytes(first)?, bytes(last)?))
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pairs = text.as_bytes().chunks(2);
    let byte = |pair: &[u8]| match pair {
        [high, low] => u8::try_from(digit(*high)? << 4 | digit(*low)?).ok(),
        _ => None,
    };
    pairs.map(byte).collect()
}
