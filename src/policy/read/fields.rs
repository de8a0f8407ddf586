// SPDX-License-Identifier: Apache-2.0
//! Members of objects of JSON: one that is absent or null has what Kubernetes takes it for,
//! and one of another type is an error that names it.

use serde_json::{Map, Value};

use super::super::Labels;

/// An object's members; one that is absent has none.
#[derive(Clone, Copy, Default)]
pub(crate) struct Fields<'a>(Option<&'a Map<String, Value>>);

impl<'a> Fields<'a> {
    pub(crate) fn of(value: &'a Value) -> Result<Self, String> {
        let members = value.as_object().ok_or_else(|| format!("{value} is no object"))?;
        Ok(Self(Some(members)))
    }

    pub(super) fn value(self, key: &str) -> Option<&'a Value> {
        self.0?.get(key).filter(|value| !value.is_null())
    }

    fn typed<T>(
        self,
        key: &str,
        kind: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, String> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let read = read(value).ok_or_else(|| format!("{key} is {value}, which is no {kind}"))?;
        Ok(Some(read))
    }

    pub(super) fn object(self, key: &str) -> Result<Option<Self>, String> {
        self.typed(key, "object", |value| value.as_object().map(|members| Self(Some(members))))
    }

    /// Empty where it is absent.
    pub(super) fn list(self, key: &str) -> Result<&'a [Value], String> {
        let list = self.typed(key, "list", |value| value.as_array().map(Vec::as_slice))?;
        Ok(list.unwrap_or_default())
    }

    pub(super) fn text(self, key: &str) -> Result<Option<&'a str>, String> {
        self.typed(key, "text", Value::as_str)
    }

    pub(crate) fn number(self, key: &str) -> Result<Option<u64>, String> {
        self.typed(key, "number", Value::as_u64)
    }

    /// Empty where it is absent.
    pub(crate) fn owned(self, key: &str) -> Result<String, String> {
        Ok(self.text(key)?.unwrap_or_default().to_owned())
    }

    /// What must be there.
    pub(crate) fn required(self, key: &str) -> Result<String, String> {
        self.text(key)?.map(str::to_owned).ok_or_else(|| missing(key))
    }

    /// False where it is absent.
    pub(super) fn flag(self, key: &str) -> Result<bool, String> {
        Ok(self.typed(key, "flag", Value::as_bool)?.unwrap_or_default())
    }

    pub(crate) fn texts(self, key: &str) -> Result<Vec<String>, String> {
        let text = |value: &Value| match value.as_str() {
            Some(text) => Ok(text.to_owned()),
            None => Err(format!("{key} has {value}, which is no text")),
        };
        self.list(key)?.iter().map(text).collect()
    }

    pub(super) fn labels(self, key: &str) -> Result<Labels, String> {
        let mut labels = Labels::default();
        let Some(Self(Some(members))) = self.object(key)? else { return Ok(labels) };
        for (name, value) in members {
            let value = value.as_str().ok_or_else(|| format!("{key} has {name}: {value}"))?;
            labels.insert(name.clone(), value.to_owned());
        }
        Ok(labels)
    }
}

/// As the parser says it.
pub(super) fn missing(key: &str) -> String {
    format!("missing field `{key}`")
}
