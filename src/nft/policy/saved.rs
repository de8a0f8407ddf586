//! A table of policies as a document, from which it can be made again where the kernel has
//! lost it: what each set holds, keys by their bytes.

use serde_json::{Map, Value as Json};

use super::super::error::Error;
use super::super::set::{Content, Elements, Key, Value};
use super::Policies;

impl Policies {
    /// What each set holds.
    ///
    /// # Errors
    /// [`Error::Invalid`].
    pub fn encode(&self) -> Result<Json, Error> {
        let mut sets = Map::new();
        for set in &self.describe()?.sets {
            let Content::Following(elements) = &set.content else { continue };
            let texts = elements.iter().map(|(key, value)| (text(key), number(value.as_ref())));
            sets.insert(set.name.to_owned(), Json::Object(texts.collect()));
        }
        Ok(Json::Object(sets))
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

fn number(value: Option<&Value>) -> Json {
    match value {
        Some(Value::Number(number)) => (*number).into(),
        Some(Value::Verdict(_)) | None => Json::Null,
    }
}

/// In base 16; of a range both ends.
fn text(key: &Key) -> String {
    let mut text = String::new();
    let digits = |text: &mut String, bytes: &[u8]| {
        for byte in bytes {
            text.extend(
                [byte >> 4, byte & 15]
                    .map(|digit| char::from_digit(u32::from(digit), 16).unwrap_or_default()),
            );
        }
    };
    digits(&mut text, &key.first);
    if let Some(last) = &key.last {
        text.push('-');
        digits(&mut text, last);
    }
    text
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
