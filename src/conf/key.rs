// SPDX-License-Identifier: Apache-2.0
//! What a key of the configuration is. Its one definition (`keys.rs`) is what the
//! reader, `manx validate`, the JSON schema and docs/configuration.md go by.

use serde_json::{Map, Value};

#[cfg(test)]
use super::shape::Property;
use super::shape::{Described, Keys, Shape};
use crate::{
    cni::json::field,
    list::{Gather, PushAll},
    text::nearest::nearest,
};

/// Calico's name of a key, and what its values are taken for that ours may not have.
type Calicos<T> = (&'static str, fn(&Value) -> Option<T>);

/// A key.
pub(super) struct Key<S: Shape> {
    pub(super) name: &'static str,
    pub(super) shape: S,
    pub(super) calicos: Option<Calicos<S::Value>>,
    meaning: &'static str,
    in_table: bool,
}

impl<S: Shape> Key<S> {
    /// A key of the table in docs/configuration.md.
    pub(super) const fn new(name: &'static str, meaning: &'static str, shape: S) -> Self {
        Self { name, shape, calicos: None, meaning, in_table: true }
    }

    /// A key that is described elsewhere: of the specification's, of the IPAM plugin's,
    /// or of Calico's.
    pub(super) const fn untabled(name: &'static str, meaning: &'static str, shape: S) -> Self {
        Self { name, shape, calicos: None, meaning, in_table: false }
    }

    /// The same key under Calico's name, which is read where ours is absent. What it
    /// may have besides is read by `lenient`.
    pub(super) const fn calicos(
        mut self,
        name: &'static str,
        lenient: fn(&Value) -> Option<S::Value>,
    ) -> Self {
        self.calicos = Some((name, lenient));
        self
    }
}

impl<S: Shape> Described for Key<S> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn calicos(&self) -> Option<&'static str> {
        self.calicos.map(|(name, _)| name)
    }

    fn members(&self, value: &Value) -> Option<Keys> {
        self.shape.members(value)
    }

    #[cfg(test)]
    fn told(&self) -> Property {
        let (fallback, schema) = self.shape.told();
        Property { meaning: self.meaning, in_table: self.in_table, fallback, schema }
    }
}

/// A key that nothing reads.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Unknown {
    /// The path of the object that it is in; empty for the configuration itself.
    pub section: String,
    /// As it is written.
    pub key: String,
    /// The known key that was probably meant.
    pub meant: Option<&'static str>,
}

/// The keys of `object`, which may have those of `known`, that are none of them.
pub(super) fn unknown(
    object: &Map<String, Value>,
    known: &[&'static dyn Described],
    section: &str,
) -> Vec<Unknown> {
    let names = || known.iter().flat_map(|key| [Some(key.name()), key.calicos()]).flatten();
    let is_known = |key: &str| names().any(|name| name.eq_ignore_ascii_case(key));
    let strange = object.keys().filter(|key| !is_known(key));
    let told = |key: &String| Unknown {
        section: section.to_owned(),
        key: key.clone(),
        meant: nearest(key, names()),
    };
    let mut unknown: Vec<Unknown> = strange.map(told).gather();
    for key in known {
        let Some(value) = field(object, key.name()) else { continue };
        if let (Some(object), Some(members)) = (value.as_object(), key.members(value)) {
            let path = if section.is_empty() { String::new() } else { format!("{section}.") };
            unknown.push_all(self::unknown(object, &members, &(path + key.name())));
        }
    }
    unknown
}

/// Defines keys, and a list of them.
macro_rules! keys {
    ($(#[$doc:meta])* $list:ident: $($(#[$note:meta])* $name:ident: $shape:ty = $key:expr;)+) => {
        $($(#[$note])* pub(super) static $name: Key<$shape> = $key;)+
        $(#[$doc])* pub(super) static $list: &[&dyn Described] = &[$(&$name),+];
    };
}
pub(super) use keys;
