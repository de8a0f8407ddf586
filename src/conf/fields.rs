// SPDX-License-Identifier: Apache-2.0
//! Reading a JSON object as CNI's other implementations do: keys match
//! without regard to case, `null` is as good as absent, and a wrong value is
//! reported with its key.

use serde_json::{Map, Value};

use super::{key::Key, shape::Shape};
use crate::cni::{
    Code, Error,
    json::{field, shown},
};
use crate::list::PushAll;

/// A value that makes no sense.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Complaint {
    /// The path of its key, such as `vxlan.vni`; empty if it is of no single key.
    pub key: String,
    /// What to tell whoever runs the plugin.
    pub error: Error,
}

impl Complaint {
    /// Of a value that a key has.
    pub(super) fn of_value(code: Code, key: String, value: &Value, advice: &str) -> Self {
        Self::of_source(Source::Configuration, (code, key), value, advice)
    }

    fn of_source(source: Source, (code, key): (Code, String), value: &Value, advice: &str) -> Self {
        let named = match source {
            Source::Configuration => format!("configuration key {key}"),
            Source::PeersFile => format!("key {key} of the peers file"),
        };
        let msg = format!("{named} has the value {}", shown(value));
        Self { key, error: Error::new(code, msg).details(advice) }
    }

    /// Of no single key.
    pub(super) fn of_none(error: Error) -> Self {
        Self { key: String::new(), error }
    }
}

impl From<Complaint> for Error {
    fn from(complaint: Complaint) -> Self {
        complaint.error
    }
}

/// Where an object is.
#[derive(Clone, Copy, Debug)]
enum Source {
    Configuration,
    PeersFile,
}

/// An object whose reader collects complaints instead of giving up at the first:
/// a linter wants all, ADD fails on the first, DEL ignores them.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    object: Option<&'a Map<String, Value>>,
    path: String,
    source: Source,
    /// What was wrong so far, in the order of reading.
    pub(super) complaints: Vec<Complaint>,
}

impl<'a> Fields<'a> {
    /// Reads `object`, whose keys are told behind `path`.
    pub(super) fn new(object: Option<&'a Map<String, Value>>, path: &str) -> Self {
        let source = Source::Configuration;
        Self { object, path: path.to_owned(), source, complaints: Vec::new() }
    }

    /// The same of a peers file.
    pub(super) fn of_peers_file(object: Option<&'a Map<String, Value>>, path: &str) -> Self {
        Self { source: Source::PeersFile, ..Self::new(object, path) }
    }

    /// Where the object stands.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// The value of a key as it is written, and the name by which it is there.
    fn find<S: Shape>(&self, key: &Key<S>) -> Option<(&'static str, &'a Value)> {
        let object = self.object?;
        let names = [Some(key.name), key.calicos.map(|(name, _)| name)].into_iter().flatten();
        names.into_iter().find_map(|name| field(object, name).map(|value| (name, value)))
    }

    /// The value of a key as it is written.
    pub(super) fn raw<S: Shape>(&self, key: &Key<S>) -> Option<&'a Value> {
        self.find(key).map(|(_, value)| value)
    }

    /// The value of a key, if it is there and makes sense.
    pub(super) fn given<S: Shape>(&mut self, key: &Key<S>) -> Option<S::Value> {
        let (name, value) = self.find(key)?;
        let lenient = key.calicos.filter(|(calicos, _)| *calicos == name);
        match (key.shape.read(value), lenient.and_then(|(_, lenient)| lenient(value))) {
            (Ok(read), _) | (Err(_), Some(read)) => Some(read),
            (Err(advice), None) => {
                let key_path = self.path_of(name);
                let about = (key.shape.code(), key_path);
                self.complaints.push(Complaint::of_source(self.source, about, value, &advice));
                None
            }
        }
    }

    /// The value of a key, or what holds without one.
    pub(super) fn get<S: Shape>(&mut self, key: &Key<S>) -> S::Value {
        self.given(key).unwrap_or_else(|| key.shape.absent())
    }

    /// Reads the object that is the value of a key, or one without keys.
    pub(super) fn within<S: Shape, T>(
        &mut self,
        key: &Key<S>,
        read: impl FnOnce(&mut Fields<'a>) -> T,
    ) -> T {
        self.get(key);
        let object = self.raw(key).and_then(Value::as_object);
        let source = self.source;
        let mut inner = Fields { source, ..Fields::new(object, &self.path_of(key.name)) };
        let read = read(&mut inner);
        self.complaints.push_all(inner.complaints);
        read
    }

    /// Complains about a value that makes no sense beside others.
    pub(super) fn complain(&mut self, key: &str, value: &Value, advice: &str) {
        let about = (Code::INVALID_CONFIG, self.path_of(key));
        self.complaints.push(Complaint::of_source(self.source, about, value, advice));
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}
