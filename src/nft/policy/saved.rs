// SPDX-License-Identifier: Apache-2.0
//! A table of policies as a document, from which it can be made again where the kernel has
//! lost it: what each set holds, keys by their bytes.

use std::fmt::Write;

use serde_json::Value as Json;

use super::super::set::{Content, Elements, Field, Key, Set, Value, join};
use super::{Item, Policies};

impl Policies {
    /// What each set holds, as text of JSON: as a tree, or as the sets themselves, it would take
    /// several times as much memory and time.
    pub fn encode(&self) -> String {
        let mut text = Text::default();
        self.each(false, &mut |item| match item {
            Item::Set(Set { name, content: Content::Following(_), .. }) => text.begin(name),
            Item::Set(_) => {}
            Item::Element(first, last, number) => text.element(first, last, number),
        });
        text.end()
    }

    /// The table of that name, of what [`encode`](Self::encode) made; `None` if that is
    /// something else.
    pub fn decode(name: &str, sets: &Json) -> Option<Self> {
        let table = Self { table: name.to_owned(), ..Self::default() };
        let mut held = Vec::new();
        for set in table.sets() {
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

/// The document as it grows, and the key that was written last.
#[derive(Default)]
struct Text {
    text: String,
    key: Vec<u8>,
}

impl Text {
    fn begin(&mut self, set: &str) {
        let before = if self.text.is_empty() { "{" } else { "}," };
        let _ = write!(self.text, "{before}\"{set}\":{{");
    }

    fn end(mut self) -> String {
        self.text += "}}";
        self.text
    }

    /// A key, or all keys up to another one, and what that leads to.
    fn element(&mut self, first: &[Field<'_>], last: Option<&[Field<'_>]>, number: Option<u64>) {
        let before = if self.text.ends_with('{') { "\"" } else { ",\"" };
        self.text += before;
        self.digits(first);
        if let Some(last) = last {
            self.text.push('-');
            self.digits(last);
        }
        let _ = match number {
            Some(number) => write!(self.text, "\":{number}"),
            None => write!(self.text, "\":null"),
        };
    }

    /// In base 16.
    fn digits(&mut self, fields: &[Field<'_>]) {
        join(fields, &mut self.key);
        for byte in &self.key {
            for digit in [byte >> 4, byte & 15] {
                self.text.push(char::from(if digit < 10 {
                    b'0' + digit
                } else {
                    b'a' - 10 + digit
                }));
            }
        }
    }
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
