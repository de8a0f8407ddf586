// SPDX-License-Identifier: Apache-2.0
//! Documents of JSON, read into types: an object is an object.
//!
//! serde takes a list in its place as well, with the fields in the order in which the type has them.
//! Nobody writes so, a field that comes or goes would shift the others, and for each type the code
//! of that is as long as that of the object: a twentieth of the plugin. Here a list is refused.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{
        DeserializeOwned, DeserializeSeed, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor,
    },
};
use serde_json::{Error, Map, Value};

/// Reads all of a document.
///
/// # Errors
/// What is wrong with it, with the line and the column.
pub fn read<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, Error> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let read = T::deserialize(Objects(&mut reader))?;
    reader.end()?;
    Ok(read)
}

/// The same of a document that is read already.
///
/// # Errors
/// What is wrong with it.
pub fn of_value<T: DeserializeOwned>(document: Value) -> Result<T, Error> {
    T::deserialize(Objects(document))
}

/// An object with these members, in this order: in less code than `json!` makes for each member.
pub fn object(members: Vec<(&str, Value)>) -> Value {
    let mut object = Map::new();
    for (key, value) in members {
        object.insert(key.to_owned(), value);
    }
    Value::Object(object)
}

/// Wraps a deserializer, and every visitor, seed and access that it leads to, so that what is nested is
/// wrapped as well.
struct Objects<T>(T);

/// Forwarded unchanged. What goes through `deserialize_any` (a `Value`, flattened fields) is not wrapped:
/// lists are taken there.
macro_rules! as_they_are {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            self.0.$method(visitor)
        }
    )*};
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Objects<D> {
    type Error = D::Error;

    as_they_are! {
        deserialize_any deserialize_bool deserialize_bytes deserialize_byte_buf deserialize_char
        deserialize_f32 deserialize_f64 deserialize_i8 deserialize_i16 deserialize_i32
        deserialize_i64 deserialize_i128 deserialize_identifier deserialize_ignored_any deserialize_str
        deserialize_string deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64
        deserialize_u128 deserialize_unit
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_option(Objects(visitor))
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_seq(Lists(visitor))
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_seq(Lists(visitor))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_seq(Lists(visitor))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_map(Objects(visitor))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_map(Objects(visitor))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_enum(name, variants, Objects(visitor))
    }
}

/// Has no `visit_seq`: a list is an error of type.
impl<'de, V: Visitor<'de>> Visitor<'de> for Objects<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<V::Value, E> {
        self.0.visit_unit()
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<V::Value, E> {
        self.0.visit_none()
    }

    fn visit_some<D: Deserializer<'de>>(self, reader: D) -> Result<V::Value, D::Error> {
        self.0.visit_some(Objects(reader))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        self.0.visit_map(Objects(map))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, one: A) -> Result<V::Value, A::Error> {
        self.0.visit_enum(Objects(one))
    }
}

/// A visitor that expects a list.
struct Lists<V>(V);

impl<'de, V: Visitor<'de>> Visitor<'de> for Lists<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<V::Value, A::Error> {
        self.0.visit_seq(Objects(list))
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Objects<S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<S::Value, D::Error> {
        self.0.deserialize(Objects(reader))
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Objects<A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        self.0.next_element_seed(Objects(seed))
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Objects<A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        self.0.next_key_seed(seed)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.0.next_value_seed(Objects(seed))
    }
}

impl<'de, A: EnumAccess<'de>> EnumAccess<'de> for Objects<A> {
    type Error = A::Error;
    type Variant = Objects<A::Variant>;

    fn variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, Self::Variant), A::Error> {
        self.0.variant_seed(seed).map(|(name, within)| (name, Objects(within)))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Objects<A> {
    type Error = A::Error;

    fn unit_variant(self) -> Result<(), A::Error> {
        self.0.unit_variant()
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, A::Error> {
        self.0.newtype_variant_seed(Objects(seed))
    }

    fn tuple_variant<V: Visitor<'de>>(
        self,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        self.0.tuple_variant(length, Lists(visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        self.0.struct_variant(fields, Objects(visitor))
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, net::IpAddr};

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    struct Leaf {
        number: u32,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    struct Wrapped(Leaf);

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "lowercase")]
    enum Kind {
        Plain,
        Leaf(Leaf),
        Pair(u8, Leaf),
        Fields { leaf: Leaf },
    }

    #[derive(Debug, Deserialize, PartialEq)]
    struct All {
        #[serde(default)]
        some: Option<Leaf>,
        list: Vec<Leaf>,
        pair: (u8, Leaf),
        by_address: HashMap<IpAddr, Leaf>,
        by_number: HashMap<u32, Wrapped>,
        kinds: Vec<Kind>,
        #[serde(flatten)]
        rest: HashMap<String, Leaf>,
    }

    fn document(leaf: &str) -> String {
        format!(
            r#"{{"some": {leaf}, "list": [{leaf}], "pair": [1, {leaf}], "more": {leaf},
                "by_address": {{"10.0.0.1": {leaf}, "fd00::1": {leaf}}}, "by_number": {{"7": {leaf}}},
                "kinds": ["plain", {{"leaf": {leaf}}}, {{"pair": [2, {leaf}]}},
                          {{"fields": {{"leaf": {leaf}}}}}]}}"#
        )
    }

    #[test]
    fn objects_are_read_as_serde_reads_them() {
        let text = document(r#"{"number": 5}"#);
        let all: All = read(text.as_bytes()).unwrap();
        assert_eq!(all, serde_json::from_str(&text).unwrap());
        assert_eq!((all.kinds.len(), all.by_address.len(), all.rest.len()), (4, 2, 1));
        let none = text.replacen(r#"{"number": 5}"#, "null", 1);
        assert_eq!(read::<All>(none.as_bytes()).unwrap().some, None);
        assert_eq!(read::<Option<Leaf>>(b"null").unwrap(), None);
    }

    #[test]
    fn a_list_is_no_object_wherever_it_stands() {
        let text = document(r#"{"number": 5}"#);
        // What is flattened is read by serde's own ways.
        for place in (0..9).filter(|place| *place != 3) {
            let mut parts: Vec<&str> = text.split(r#"{"number": 5}"#).collect();
            let end = parts.split_off(place + 1).join(r#"{"number": 5}"#);
            let wrong = format!("{}[5]{end}", parts.join(r#"{"number": 5}"#));
            assert!(serde_json::from_str::<All>(&wrong).is_ok(), "{wrong}");
            let error = read::<All>(wrong.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("invalid type: sequence, expected"), "{error}");
            assert!(error.contains("at line"), "{error}");
        }
    }

    #[test]
    fn what_stands_behind_a_document_is_an_error() {
        assert!(read::<Leaf>(br#"{"number": 5} x"#).is_err());
        assert!(read::<Leaf>(br#"{"number": 5"#).is_err());
        assert!(read::<Leaf>(br#"{"number": "5"}"#).is_err());
    }
}
