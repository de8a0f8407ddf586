// SPDX-License-Identifier: Apache-2.0
//! How the shapes of values are told: in the words of JSON Schema.

use log::LevelFilter;
use serde_json::{Value, json};

use super::{object, with};
use crate::conf::{
    keys::RANGE_KEYS,
    names::WITH_STORE,
    shape::{
        Address, Choice, Fallback, Families, Flag, Level, Name, Networks, NextHop, Number, Object,
        Optional, Part, Shape, Subnet, Text, Texts, Told,
    },
    values::{NUMBER, Protocol, RangeSets, Section, TAKEN, Veth},
};
use crate::list::Gather;

/// An address of either family with its prefix length.
const CIDR: &str = "^[0-9.]+/([0-9]|[12][0-9]|3[0-2])$|\
                    ^[0-9a-fA-F.]*:[0-9a-fA-F.:]*/([0-9]|[1-9][0-9]|1[01][0-9]|12[0-8])$";

impl Told for Flag {
    fn told(&self) -> (Fallback, Value) {
        (Fallback::Value(self.0.into()), json!({"type": "boolean"}))
    }
}

impl<T: Into<Value> + Copy> Told for Number<T> {
    fn told(&self) -> (Fallback, Value) {
        let (least, most) = (self.0.start(), self.0.end());
        let schema = json!({"type": "integer", "minimum": least, "maximum": most});
        (Fallback::Value(self.1.into()), schema)
    }
}

impl Told for Protocol {
    fn told(&self) -> (Fallback, Value) {
        let (fallback, number) = NUMBER.told();
        let taken = TAKEN.map(|(number, _)| number);
        (fallback, with(number, json!({"not": {"enum": taken}})))
    }
}

impl Told for Text {
    fn told(&self) -> (Fallback, Value) {
        (Fallback::Required, json!({"type": "string"}))
    }
}

impl Told for Name {
    fn told(&self) -> (Fallback, Value) {
        let schema = json!({"type": "string", "pattern": self.pattern});
        (Fallback::Value(self.absent.into()), schema)
    }
}

impl<T: PartialEq> Told for Choice<T> {
    fn told(&self) -> (Fallback, Value) {
        let absent = self.0.iter().find(|(_, meant)| *meant == self.1).unwrap();
        let words = self.0.iter().map(|(word, _)| Value::from(*word));
        (Fallback::Value(absent.0.into()), json!({"enum": words.gather()}))
    }
}

impl Told for Level {
    fn told(&self) -> (Fallback, Value) {
        let word = |level: LevelFilter| level.as_str().to_ascii_lowercase();
        let words: Vec<_> = LevelFilter::iter().map(word).gather();
        (Fallback::Value(word(self.0).into()), json!({"enum": words}))
    }
}

impl Told for Veth {
    fn told(&self) -> (Fallback, Value) {
        (Fallback::Value("veth".into()), json!({"enum": ["veth", ""]}))
    }
}

impl Told for NextHop {
    fn told(&self) -> (Fallback, Value) {
        let schema = json!({"type": "string", "pattern": "^[0-9]+\\.[0-9]+\\.[0-9]+\\.[0-9]+$"});
        (Fallback::Value(self.0.to_string().into()), schema)
    }
}

impl Told for Address {
    fn told(&self) -> (Fallback, Value) {
        (Fallback::Words(self.0), json!({"type": "string", "pattern": "^[0-9a-fA-F.:]*$"}))
    }
}

impl Told for Subnet {
    fn told(&self) -> (Fallback, Value) {
        let pattern = format!("{CIDR}|^usePodCidr(IPv6)?$");
        (Fallback::Required, json!({"type": "string", "pattern": pattern}))
    }
}

impl Told for Networks {
    fn told(&self) -> (Fallback, Value) {
        let schema = json!({"type": "array", "items": {"type": "string", "pattern": CIDR}});
        (Fallback::Value(json!([])), schema)
    }
}

impl Told for Families {
    fn told(&self) -> (Fallback, Value) {
        let words = Self::WORDS.map(|(word, _)| word);
        let items = json!({"enum": words});
        (Fallback::Value(json!([])), json!({"type": "array", "items": items}))
    }
}

impl Told for Texts {
    fn told(&self) -> (Fallback, Value) {
        (Fallback::Value(json!([])), json!({"type": "array", "items": {"type": "string"}}))
    }
}

impl<S: Shape> Told for Optional<S> {
    fn told(&self) -> (Fallback, Value) {
        let (_, schema) = self.of.told();
        let unset = self.unset.map(Value::from).filter(|unset| self.of.read(unset).is_err());
        let schema = match unset {
            Some(unset) => json!({"anyOf": [{"const": unset}, schema]}),
            None => schema,
        };
        (Fallback::Words(self.otherwise), schema)
    }
}

impl Told for Object {
    fn told(&self) -> (Fallback, Value) {
        (Fallback::Words(self.1), object(self.0))
    }
}

impl Told for Part {
    fn told(&self) -> (Fallback, Value) {
        let schema = if self.0.is_empty() { json!({}) } else { json!({"type": self.0}) };
        (Fallback::Words(""), schema)
    }
}

impl Told for RangeSets {
    fn told(&self) -> (Fallback, Value) {
        let sets =
            json!({"type": "array", "items": {"type": "array", "items": object(RANGE_KEYS)}});
        (Fallback::Words(""), sets)
    }
}

impl Told for Section {
    fn told(&self) -> (Fallback, Value) {
        // The subnet may be in ranges as well, or come with the call.
        let store = with(object(&self.keys()), json!({"required": ["type"]}));
        let schema = json!({
            "type": "object",
            "required": ["type"],
            "properties": {"type": {"type": "string", "minLength": 1}},
            "if": {"properties": {"type": {"enum": WITH_STORE}}},
            "then": store,
        });
        (Fallback::Required, schema)
    }
}
