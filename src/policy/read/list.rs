// SPDX-License-Identifier: Apache-2.0
//! The items of a List one after the other, for a cluster's is long: each is dropped before
//! the next is parsed. Of YAML, which people write for a few objects, all is parsed at once.

use std::fmt;

use serde::{
    Deserializer,
    de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::Value;

use super::{fields::missing, yaml};

/// What is done with an item.
type Each<'a> = &'a mut dyn FnMut(Value) -> Result<(), String>;

/// Gives each item, and returns what kind of list it is.
///
/// # Errors
/// Of the text, and of what is done with an item.
pub(super) fn each(text: &[u8], each: Each<'_>) -> Result<String, String> {
    match text.trim_ascii_start().first() {
        Some(b'{') | None => of_json(text, each),
        Some(_) => of_yaml(text, each),
    }
}

/// Of documents that are objects, or lists of such.
fn of_yaml(text: &[u8], each: Each<'_>) -> Result<String, String> {
    let text = std::str::from_utf8(text).map_err(|error| error.to_string())?;
    for document in yaml::documents(text)? {
        let Value::Object(mut members) = document else {
            return Err("it has a document that is no object".to_owned());
        };
        match members.remove("items") {
            Some(Value::Array(items)) => items.into_iter().try_for_each(&mut *each)?,
            Some(other) => return Err(format!("items is {other}, which is no list")),
            None => each(Value::Object(members))?,
        }
    }
    Ok("List".to_owned())
}

fn of_json(text: &[u8], each: Each<'_>) -> Result<String, String> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    let mut list = List { each, kind: None, has_items: false };
    let read = reader.deserialize_map(&mut list).and_then(|()| reader.end());
    read.map_err(|error| error.to_string())?;
    match list {
        List { kind: Some(kind), has_items: true, .. } => Ok(kind),
        List { kind: None, .. } => Err(missing("kind")),
        List { .. } => Err(missing("items")),
    }
}

struct List<'a> {
    each: Each<'a>,
    kind: Option<String>,
    has_items: bool,
}

impl<'de> Visitor<'de> for &mut List<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "kind" => self.kind = Some(map.next_value()?),
                "items" => {
                    self.has_items = true;
                    map.next_value_seed(Items(self.each))?;
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

struct Items<'a, 'b>(&'a mut (dyn FnMut(Value) -> Result<(), String> + 'b));

impl<'de> DeserializeSeed<'de> for Items<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Items<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while let Some(item) = items.next_element()? {
            (self.0)(item).map_err(A::Error::custom)?;
        }
        Ok(())
    }
}
