// SPDX-License-Identifier: Apache-2.0
//! Members of objects of JSON: one that is absent or null has what Kubernetes takes it for,
//! and one of another type is an error that names it.
//!
//! Whoever reads asks for one member after the other as if nothing could be wrong. What is wrong is
//! noted, and [`reading`] gives that in place of what was read: code that could end at each member
//! would be twice as long, in the source as well as in the program.

use std::cell::Cell;

use serde_json::{Map, Value};

use super::super::Labels;

/// What was wrong first, if anything was.
pub(crate) struct Problem(Cell<Option<String>>);

/// What was read, if nothing was wrong with it.
///
/// # Errors
/// What was wrong first.
pub(crate) fn reading<T>(read: impl FnOnce(&Problem) -> T) -> Result<T, String> {
    let problem = Problem(Cell::new(None));
    let read = read(&problem);
    match problem.0.into_inner() {
        None => Ok(read),
        Some(first) => Err(first),
    }
}

impl Problem {
    pub(super) fn note(&self, words: String) {
        let first = self.0.take().unwrap_or(words);
        self.0.set(Some(first));
    }
}

/// An object's members; one that is absent has none.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a> {
    members: Option<&'a Map<String, Value>>,
    problem: &'a Problem,
}

impl<'a> Fields<'a> {
    pub(crate) fn of(value: &'a Value, problem: &'a Problem) -> Self {
        let members = value.as_object();
        if members.is_none() {
            problem.note(format!("{value} is no object"));
        }
        Self { members, problem }
    }

    /// Notes what is wrong.
    pub(super) fn refuse(self, words: String) {
        self.problem.note(words);
    }

    pub(super) fn value(self, key: &str) -> Option<&'a Value> {
        self.members?.get(key).filter(|value| !value.is_null())
    }

    fn typed<T>(
        self,
        key: &str,
        kind: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Option<T> {
        let value = self.value(key)?;
        let read = read(value);
        if read.is_none() {
            self.refuse(format!("{key} is {value}, which is no {kind}"));
        }
        read
    }

    /// Notes a member as missing where it is absent.
    pub(super) fn require(self, key: &str) {
        if self.value(key).is_none() {
            self.refuse(missing(key));
        }
    }

    pub(super) fn object(self, key: &str) -> Option<Self> {
        let members = self.typed(key, "object", Value::as_object)?;
        Some(Self { members: Some(members), ..self })
    }

    /// The members of an object, or none.
    pub(super) fn within(self, key: &str) -> Self {
        self.object(key).unwrap_or(Self { members: None, ..self })
    }

    /// The members of an object that must be there.
    pub(super) fn required_within(self, key: &str) -> Self {
        self.require(key);
        self.within(key)
    }

    /// Empty where it is absent.
    pub(super) fn list(self, key: &str) -> &'a [Value] {
        self.typed(key, "list", |value| value.as_array().map(Vec::as_slice)).unwrap_or_default()
    }

    /// The objects of a list.
    pub(crate) fn objects(self, key: &str) -> impl Iterator<Item = Self> {
        self.list(key).iter().map(move |value| Self::of(value, self.problem))
    }

    /// The objects that an object has, by their names.
    pub(crate) fn members(self, key: &str) -> impl Iterator<Item = (&'a str, Self)> {
        let members = self.within(key).members.into_iter().flatten();
        members.map(move |(name, value)| (name.as_str(), Self::of(value, self.problem)))
    }

    pub(super) fn text(self, key: &str) -> Option<&'a str> {
        self.typed(key, "text", Value::as_str)
    }

    pub(crate) fn number(self, key: &str) -> Option<u64> {
        self.typed(key, "number", Value::as_u64)
    }

    /// Empty where it is absent.
    pub(crate) fn owned(self, key: &str) -> String {
        self.text(key).unwrap_or_default().to_owned()
    }

    /// A text that must be there.
    pub(crate) fn required(self, key: &str) -> String {
        self.require(key);
        self.owned(key)
    }

    /// False where it is absent.
    pub(super) fn flag(self, key: &str) -> bool {
        self.typed(key, "flag", Value::as_bool).unwrap_or_default()
    }

    pub(crate) fn texts(self, key: &str) -> Vec<String> {
        let mut texts = Vec::new();
        for value in self.list(key) {
            match value.as_str() {
                Some(text) => texts.push(text.to_owned()),
                None => self.refuse(format!("{key} has {value}, which is no text")),
            }
        }
        texts
    }

    pub(super) fn labels(self, key: &str) -> Labels {
        let mut labels = Labels::default();
        for (name, value) in self.within(key).members.into_iter().flatten() {
            match value.as_str() {
                Some(value) => labels.insert(name.clone(), value.to_owned()),
                None => self.refuse(format!("{key} has {name}: {value}")),
            }
        }
        labels
    }
}

/// As the parser says it.
pub(super) fn missing(key: &str) -> String {
    format!("missing field `{key}`")
}
