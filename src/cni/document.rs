// SPDX-License-Identifier: Apache-2.0
//! The network configuration on stdin, as far as every plugin has it: a JSON
//! object with a name and a version. What its other keys mean is not known here.

use serde_json::{Map, Value};

use super::{
    Code, Error, Version,
    env::valid_network_name,
    json::{field, member, shown},
};

/// Keys of a list of plugins (SPEC 1.1.0, "Configuration format").
pub const LIST_KEYS: &[&str] = &[
    "cniVersion",
    "cniVersions",
    "name",
    "disableCheck",
    "disableGC",
    "loadOnlyInlinedPlugins",
    "plugins",
];

/// A configuration that is JSON and has a name.
#[derive(Clone, Debug)]
pub struct Document {
    /// The bytes as they came: a delegate gets the same.
    pub bytes: Vec<u8>,
    /// The object.
    pub object: Map<String, Value>,
    /// `name`.
    pub name: String,
}

/// What a garbage collection may keep.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ValidAttachments {
    /// The runtime did not say: nothing may be removed.
    Unstated,
    /// These, as (container id, interface name); all others are stale.
    Only(Vec<(String, String)>),
}

impl Document {
    /// Reads a configuration as far as every verb needs it.
    ///
    /// # Errors
    /// Code 6 if it is no JSON object, code 7 without a usable `name`.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, Error> {
        let decode = |msg: String| {
            Error::new(Code::DECODE, msg).details("give the network configuration as a JSON object")
        };
        let object = match serde_json::from_slice(&bytes) {
            Ok(Value::Object(object)) => object,
            Ok(_) => return Err(decode("the configuration is JSON, but no object".into())),
            Err(error) => return Err(decode(format!("the configuration is no JSON: {error}"))),
        };
        let name = match field(&object, "name") {
            None => return Err(invalid_name("the configuration has no name")),
            Some(Value::String(name)) if valid_network_name(name) => name.clone(),
            Some(other) => {
                let other = shown(other);
                return Err(invalid_name(&format!("configuration key name has the value {other}")));
            }
        };
        Ok(Self { bytes, object, name })
    }

    /// The version of the specification that the configuration is written for.
    ///
    /// # Errors
    /// Code 6 if it is no string, code 1 if it is not supported.
    pub fn version(&self) -> Result<Version, Error> {
        match field(&self.object, "cniVersion") {
            None => Ok(Version::UNSTATED),
            Some(Value::String(text)) => Ok(Version::parse(text)?),
            Some(other) => {
                let msg = format!("cniVersion is no string: {}", shown(other));
                Err(Error::new(Code::DECODE, msg).details("give it in quotes, such as \"1.1.0\""))
            }
        }
    }

    /// The `ipam` section, or null.
    pub fn ipam(&self) -> &Value {
        field(&self.object, "ipam").unwrap_or(&Value::Null)
    }

    /// Puts another `ipam` section in the place of that.
    pub fn set_ipam(&mut self, ipam: Value) {
        self.object.retain(|key, _| !key.eq_ignore_ascii_case("ipam"));
        self.object.insert("ipam".into(), ipam);
        self.bytes = Value::Object(self.object.clone()).to_string().into_bytes();
    }

    /// The list that a GC comes with, under either of its names (the second
    /// one is that of libcni before 1.1).
    ///
    /// # Errors
    /// Code 7 for a list that cannot be read: nothing may be removed by it.
    pub fn valid_attachments(&self) -> Result<ValidAttachments, Error> {
        let key = ["cni.dev/valid-attachments", "cni.dev/attachments"]
            .into_iter()
            .find(|key| self.object.contains_key(*key));
        let list = match key.and_then(|key| self.object.get(key)) {
            None => return Ok(ValidAttachments::Unstated),
            Some(Value::Null) => return Ok(ValidAttachments::Only(Vec::new())),
            Some(list) => list,
        };
        let items = list.as_array();
        let valid = items.and_then(|items| items.iter().map(valid_attachment).collect());
        valid.map(ValidAttachments::Only).ok_or_else(|| {
            let key = key.unwrap_or_default();
            Error::new(Code::INVALID_CONFIG, format!("configuration key {key} is {}", shown(list)))
                .details("give a list of {\"containerID\", \"ifname\"}")
        })
    }
}

/// Container id and interface name of an entry of a list of valid attachments
/// (SPEC 1.1.0, "GC"), if it has both.
pub fn valid_attachment(entry: &Value) -> Option<(String, String)> {
    let text = |name| Some(member(entry, name)?.as_str()?.to_owned());
    Some((text("containerID")?, text("ifname")?))
}

/// What is wrong with a network's name.
pub fn invalid_name(msg: &str) -> Error {
    Error::new(Code::INVALID_CONFIG, msg).details(
        "give a name of letters, digits, '_', '.' and '-', beginning with one of the first",
    )
}
