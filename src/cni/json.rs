//! Keys of JSON objects as Go's reader matches them: without regard to case.
//! Runtimes and plugins written in Go rely on it in both directions.

use serde_json::{Map, Value};

/// The value of `key`, unless it is absent or `null`. The exact spelling wins
/// over one that differs in case.
pub(super) fn field<'a>(object: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    let folded =
        || object.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| value);
    object.get(key).or_else(folded).filter(|value| !value.is_null())
}
