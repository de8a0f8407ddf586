// SPDX-License-Identifier: Apache-2.0
//! The environment that a runtime hands to a plugin: the verb and what it is
//! about.
//!
//! It exists because the order of the checks is part of the interface: a runtime
//! that forgot a variable is told so before standard input is read, while a
//! malformed name is reported only after the configuration turned out to be
//! sound. [`Environment::from_vars`] therefore checks presence, and
//! [`Environment::validate_syntax`] the rest. Nothing here opens the namespace
//! or looks at a binary.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::PathBuf;

use super::{Code, Error};
use crate::list::Gather;

/// The kernel's limit, less the terminating NUL (`IFNAMSIZ`, `linux/if.h`).
const MAX_INTERFACE_NAME_BYTES: usize = 15;

/// What the runtime wants done (`CNI_COMMAND`).
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Command {
    /// Attach a container.
    Add,
    /// Verify an attachment.
    Check,
    /// Detach a container.
    Del,
    /// Remove what belongs to no attachment in a list.
    Gc,
    /// Say whether an ADD would work.
    Status,
    /// List the versions spoken.
    Version,
    /// Something else: an error, but one that comes after those of the
    /// configuration (see [`Environment::validate_syntax`]).
    Unknown(String),
}

impl Command {
    /// Reads a `CNI_COMMAND`; the specification spells verbs in capitals only.
    pub fn parse(text: &str) -> Self {
        match text {
            "ADD" => Self::Add,
            "CHECK" => Self::Check,
            "DEL" => Self::Del,
            "GC" => Self::Gc,
            "STATUS" => Self::Status,
            "VERSION" => Self::Version,
            other => Self::Unknown(other.to_owned()),
        }
    }

    /// The spelling of the specification.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Add => "ADD",
            Self::Check => "CHECK",
            Self::Del => "DEL",
            Self::Gc => "GC",
            Self::Status => "STATUS",
            Self::Version => "VERSION",
            Self::Unknown(other) => other,
        }
    }

    /// The variables without which this verb means nothing (SPEC 1.1.0, "CNI
    /// Operations"). `CNI_PATH` is not among them: only a delegation needs it,
    /// and says so itself.
    fn required(&self) -> &'static [&'static str] {
        match self {
            Self::Add | Self::Check => &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"],
            Self::Del => &["CNI_CONTAINERID", "CNI_IFNAME"],
            Self::Gc | Self::Status | Self::Version | Self::Unknown(_) => &[],
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One call of the plugin, as far as variables describe it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Environment {
    /// The verb.
    pub command: Command,
    /// `CNI_CONTAINERID`; empty where the verb needs none.
    pub container_id: String,
    /// `CNI_NETNS` byte for byte, for it comes back in the result; empty if unset.
    pub netns: String,
    /// `CNI_IFNAME`; empty where the verb needs none.
    pub ifname: String,
    /// `CNI_PATH`: the directories to search for a delegate, in order.
    pub path: Vec<PathBuf>,
    /// `CNI_ARGS`.
    pub args: Args,
    /// `CNI_NETNS_OVERRIDE`: the container's namespace may be our own.
    pub netns_override: bool,
}

impl Environment {
    /// Reads the variables, given a look-up such as [`std::env::var_os`]. An
    /// empty variable counts as missing.
    ///
    /// # Errors
    /// Code 4 naming all variables that are missing, or one that is not UTF-8.
    pub fn from_vars(lookup: impl Fn(&str) -> Option<OsString>) -> Result<Self, Error> {
        let text = |name: &str| {
            lookup(name).unwrap_or_default().into_string().map_err(|value| {
                Error::new(Code::INVALID_ENVIRONMENT, format!("{name}={value:?} is not UTF-8"))
                    .details("the container runtime sets this variable: see its configuration")
            })
        };
        let command = text("CNI_COMMAND")?;
        if command.is_empty() {
            return Err(missing(&["CNI_COMMAND"]));
        }
        let command = Command::parse(&command);
        let absent: Vec<&str> = command
            .required()
            .iter()
            .copied()
            .filter(|name| lookup(name).is_none_or(|value| value.is_empty()))
            .gather();
        if !absent.is_empty() {
            return Err(missing(&absent));
        }
        let netns_override = text("CNI_NETNS_OVERRIDE")?;
        Ok(Self {
            command,
            container_id: text("CNI_CONTAINERID")?,
            netns: text("CNI_NETNS")?,
            ifname: text("CNI_IFNAME")?,
            path: split_path(&lookup("CNI_PATH").unwrap_or_default()),
            args: Args::parse(&lookup("CNI_ARGS").unwrap_or_default().to_string_lossy()),
            netns_override: netns_override == "1" || netns_override.eq_ignore_ascii_case("true"),
        })
    }

    /// Checks what the variables say, after the configuration was read and its
    /// name found good.
    ///
    /// # Errors
    /// Code 4 for a container id or an interface name outside its alphabet, or
    /// for a verb that does not exist.
    pub fn validate_syntax(&self) -> Result<(), Error> {
        let required = self.command.required();
        if required.contains(&"CNI_CONTAINERID") && !valid_container_id(&self.container_id) {
            return Err(malformed(
                "CNI_CONTAINERID",
                &self.container_id,
                "it must start with a letter or digit, then letters, digits, '_', '.' and '-'",
            ));
        }
        if required.contains(&"CNI_IFNAME") && !valid_interface_name(&self.ifname) {
            return Err(malformed(
                "CNI_IFNAME",
                &self.ifname,
                "it must be 1 to 15 bytes, not '.' or '..', without '/', ':' and whitespace",
            ));
        }
        match &self.command {
            Command::Unknown(verb) => {
                Err(malformed("CNI_COMMAND", verb, "known: ADD, CHECK, DEL, GC, STATUS, VERSION"))
            }
            _ => Ok(()),
        }
    }
}

/// Splits a search path at its colons, dropping empty parts: the current
/// directory of a runtime is no place to look for programs. Also for the caller
/// that wants to know whether a path is still the one it was given.
pub(super) fn split_path(value: &OsStr) -> Vec<PathBuf> {
    std::env::split_paths(value).filter(|directory| !directory.as_os_str().is_empty()).gather()
}

/// Whether `name` may be a container id (SPEC 1.1.0, "Parameters").
pub fn valid_container_id(name: &str) -> bool {
    in_cni_alphabet(name)
}

/// Whether `name` may be a network's name: the alphabet of a container id
/// (SPEC 1.1.0, "Configuration format"), hence safe as a file name.
pub fn valid_network_name(name: &str) -> bool {
    in_cni_alphabet(name)
}

/// Whether the kernel takes `name` for an interface (`dev_valid_name`,
/// net/core/dev.c). Counted in bytes, and a byte 0xa0 counts as whitespace, for
/// the kernel's table is Latin-1's.
pub fn valid_interface_name(name: &str) -> bool {
    (1..=MAX_INTERFACE_NAME_BYTES).contains(&name.len())
        && name != "."
        && name != ".."
        && !name.bytes().any(|byte| matches!(byte, b'/' | b':' | 0xa0))
        && !name.chars().any(char::is_whitespace)
}

fn in_cni_alphabet(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphanumeric())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

fn missing(names: &[&str]) -> Error {
    let names = names.join(", ");
    Error::new(Code::INVALID_ENVIRONMENT, format!("missing in the environment: {names}"))
        .details("the container runtime sets these variables when it calls a CNI plugin")
}

fn malformed(variable: &str, value: &str, rule: &str) -> Error {
    Error::new(Code::INVALID_ENVIRONMENT, format!("{variable}={value:?} is not valid"))
        .details(rule)
}

/// `CNI_ARGS`: `KEY=VALUE` pairs joined by `;`. Unlike the reference parser this
/// one refuses nothing: runtimes add keys in random order, and what we do not
/// know is not ours to judge.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Args {
    text: String,
    pairs: Vec<(String, String)>,
}

/// A pod as its runtime names it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pod {
    /// `K8S_POD_NAMESPACE`.
    pub namespace: String,
    /// `K8S_POD_NAME`.
    pub name: String,
}

impl Args {
    /// Reads the text of `CNI_ARGS`. A part without `=` is kept as a key with an
    /// empty value; a value may hold further `=`.
    pub fn parse(text: &str) -> Self {
        let pairs = text
            .split(';')
            .filter(|part| !part.is_empty())
            .map(|part| part.split_once('=').unwrap_or((part, "")))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .gather();
        Self { text: text.to_owned(), pairs }
    }

    /// The text as it was given.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The value of `key`; the last one, if it is there several times.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.pairs.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// The pod, when the runtime is Kubernetes' and says both of its names.
    pub fn pod(&self) -> Option<Pod> {
        let named = |key| self.value(key).filter(|value| !value.is_empty()).map(str::to_owned);
        Some(Pod { namespace: named("K8S_POD_NAMESPACE")?, name: named("K8S_POD_NAME")? })
    }
}

#[cfg(test)]
mod tests;
