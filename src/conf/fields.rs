//! Reading a JSON object as CNI's other implementations do: keys match
//! without regard to case, `null` is as good as absent, and a wrong value is
//! reported with its key.

use std::net::{IpAddr, Ipv4Addr};

use ipnetwork::IpNetwork;
use serde_json::{Map, Value};

use crate::cni::{
    Code, Error, cidr,
    json::{field, shown},
};

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
        let msg = format!("configuration key {key} has the value {}", shown(value));
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

/// An object whose readers collect complaints instead of giving up at the
/// first: a linter wants all, ADD fails on the first, DEL ignores them.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    object: Option<&'a Map<String, Value>>,
    path: String,
    /// What was wrong so far, in the order of reading.
    pub(super) complaints: Vec<Complaint>,
}

impl<'a> Fields<'a> {
    /// Reads `object`, whose members are reported as `path` and their key.
    pub(super) fn new(object: Option<&'a Map<String, Value>>, path: &str) -> Self {
        Self { object, path: path.to_owned(), complaints: Vec::new() }
    }

    /// The first of `keys` that is there.
    pub(super) fn value(&self, keys: &[&'static str]) -> Option<(&'static str, &'a Value)> {
        let object = self.object?;
        keys.iter().find_map(|key| field(object, key).map(|value| (*key, value)))
    }

    /// A string.
    pub(super) fn string(&mut self, keys: &[&'static str]) -> Option<&'a str> {
        self.read(keys, "a string", |value| value.as_str().ok_or_else(String::new))
    }

    /// A boolean, also as the text `true` or `false`.
    pub(super) fn boolean(&mut self, keys: &[&'static str]) -> Option<bool> {
        self.read(keys, "true or false", |value| match value {
            Value::Bool(flag) => Ok(*flag),
            Value::String(text) => text.parse().map_err(|_| String::new()),
            _ => Err(String::new()),
        })
    }

    /// A whole number in `range`.
    pub(super) fn number(
        &mut self,
        keys: &[&'static str],
        range: std::ops::RangeInclusive<u32>,
    ) -> Option<u32> {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        self.read(keys, &expected, |value| {
            let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
            number.filter(|number| range.contains(number)).ok_or_else(String::new)
        })
    }

    /// An IPv4 address.
    pub(super) fn ipv4(&mut self, keys: &[&'static str]) -> Option<Ipv4Addr> {
        self.read(keys, "an IPv4 address", |value| match value.as_str().map(cidr::parse_address) {
            Some(Ok(IpAddr::V4(address))) => Ok(address),
            _ => Err(String::new()),
        })
    }

    /// An address of either family; an empty text is none, as Go's reader has it.
    pub(super) fn address(&mut self, keys: &[&'static str]) -> Option<IpAddr> {
        if self.value(keys).is_some_and(|(_, value)| value.as_str() == Some("")) {
            return None;
        }
        self.read(keys, "an address", |value| {
            cidr::parse_address(value.as_str().ok_or_else(String::new)?)
        })
    }

    /// A CIDR.
    pub(super) fn network(&mut self, keys: &[&'static str]) -> Option<IpNetwork> {
        self.read(keys, "a CIDR", |value| cidr::parse(value.as_str().ok_or_else(String::new)?))
    }

    /// A list of CIDRs.
    pub(super) fn networks(&mut self, keys: &[&'static str]) -> Option<Vec<IpNetwork>> {
        self.read(keys, "a list of CIDRs", |value| {
            let list = value.as_array().ok_or_else(String::new)?;
            list.iter().map(|item| cidr::parse(item.as_str().ok_or_else(|| shown(item))?)).collect()
        })
    }

    /// A list of strings.
    pub(super) fn strings(&mut self, keys: &[&'static str]) -> Option<Vec<String>> {
        self.read(keys, "a list of strings", |value| {
            let list = value.as_array().ok_or_else(String::new)?;
            list.iter()
                .map(|item| item.as_str().map(str::to_owned).ok_or_else(String::new))
                .collect()
        })
    }

    /// A nested object; its complaints are to be taken back with [`Fields::absorb`].
    pub(super) fn object(&mut self, keys: &[&'static str]) -> Fields<'a> {
        let object =
            self.read(keys, "an object", |value| value.as_object().ok_or_else(String::new));
        let key = self.value(keys).map_or_else(|| keys.first().copied(), |(key, _)| Some(key));
        Fields::new(object, &self.name(key.unwrap_or_default()))
    }

    /// Takes over the complaints of a nested object.
    pub(super) fn absorb(&mut self, nested: Fields<'_>) {
        self.complaints.extend(nested.complaints);
    }

    /// Complains about the value of a key that is there.
    pub(super) fn complain(&mut self, code: Code, key: &str, value: &Value, reason: &str) {
        self.complaints.push(Complaint::of_value(code, self.name(key), value, reason));
    }

    fn read<T>(
        &mut self,
        keys: &[&'static str],
        expected: &str,
        parse: impl FnOnce(&'a Value) -> Result<T, String>,
    ) -> Option<T> {
        let (key, value) = self.value(keys)?;
        match parse(value) {
            Ok(parsed) => Some(parsed),
            Err(reason) => {
                let hint = if reason.is_empty() { String::new() } else { format!(": {reason}") };
                self.complain(Code::INVALID_CONFIG, key, value, &format!("give {expected}{hint}"));
                None
            }
        }
    }

    fn name(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}
