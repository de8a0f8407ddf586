// SPDX-License-Identifier: Apache-2.0
//! Keys of JSON objects as Go's reader matches them: without regard to case.
//! Runtimes and plugins written in Go rely on it in both directions.

use serde_json::{Map, Value};

use crate::list::Gather;

/// A value as errors tell it: without what is in objects, for a whole section
/// may hold secrets.
pub fn shown(value: &Value) -> String {
    match value {
        Value::Object(members) if !members.is_empty() => "{…}".to_owned(),
        Value::Array(items) => {
            format!("[{}]", items.iter().map(shown).gather().join(","))
        }
        other => other.to_string(),
    }
}

/// The value of `key`, unless it is absent or `null`. The exact spelling wins
/// over one that differs in case.
pub fn field<'a>(object: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    let folded =
        || object.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| value);
    object.get(key).or_else(folded).filter(|value| !value.is_null())
}

/// The value of `key` in `value`, if that is an object.
pub fn member<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    field(value.as_object()?, key)
}

/// Follows `path` through objects.
pub fn walk<'a>(object: &'a Map<String, Value>, path: &[&str]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(field(object, first)?, |value, key| member(value, key))
}
