// SPDX-License-Identifier: Apache-2.0
//! Where a runtime's network configurations lie and which of them counts.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};

use super::{Error, Kind, Object, unreadable};
use crate::{
    cni::{
        Document, Version,
        json::{field, member},
    },
    conf::{Complaint, Config, PLUGIN_TYPES, has_store},
    list::{Gather, Ordered},
    state::{file::TEXT_BYTES_MAX, read},
};

/// Where runtimes look for configurations by default.
pub(crate) const DIRECTORY: &str = "/etc/cni/net.d";

/// The configurations of a directory in the order in which runtimes read them:
/// by file name, byte by byte (libcni, `ConfFiles`). The first is the one that
/// containerd and CRI-O use.
///
/// # Errors
/// Of reading the directory.
pub(crate) fn files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for file in fs::read_dir(directory)? {
        let path = file?.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        if matches!(extension, Some("conf" | "conflist" | "json")) && path.is_file() {
            files.push(path);
        }
    }
    files.order_by(|one, other| one.file_name().cmp(&other.file_name()));
    Ok(files)
}

/// Whether a file of this name holds a list of plugins.
pub(crate) fn is_list(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "conflist")
}

/// Whether an object of a chain is this plugin's.
pub(crate) fn is_ours(plugin: &Map<String, Value>) -> bool {
    let kind = field(plugin, "type").and_then(Value::as_str);
    kind.is_some_and(|kind| PLUGIN_TYPES.contains(&kind))
}

/// Whether a configuration, a list or a single one, names this plugin.
pub(crate) fn names_us(bytes: &[u8]) -> bool {
    let Ok(Value::Object(object)) = serde_json::from_slice(bytes) else { return false };
    is_ours(&object) || objects(&object).into_iter().any(is_ours)
}

/// Whether a configuration may be this plugin's: what is no object of JSON, such as a file
/// that is cut off, may be anybody's.
pub(crate) fn may_name_us(bytes: &[u8]) -> bool {
    // Read as the reader of configurations does: JSON's grammar alone allows more, such as a
    // number that is too large.
    names_us(bytes) || serde_json::from_slice::<Map<String, Value>>(bytes).is_err()
}

/// Whether an object of a chain has its addresses from a store that we can read.
fn has_pool(plugin: &Map<String, Value>) -> bool {
    let kind = field(plugin, "ipam").and_then(|ipam| member(ipam, "type")?.as_str());
    kind.is_some_and(has_store)
}

/// The objects of a list, or a single configuration.
pub(crate) fn objects(document: &Map<String, Value>) -> Vec<&Map<String, Value>> {
    match field(document, "plugins").and_then(Value::as_array) {
        Some(plugins) => plugins.iter().filter_map(Value::as_object).gather(),
        None => vec![document],
    }
}

/// The first configuration of a directory that names this plugin.
///
/// # Errors
/// If there is none, or the directory or a file before it cannot be read.
pub(crate) fn ours(directory: &Path) -> Result<PathBuf, Error> {
    first(directory, "names manx", names_us)
}

/// The first configuration of a directory with a pool that we can read: one that
/// names this plugin, else one that has its addresses from manx-ipam or host-local.
///
/// # Errors
/// As for [`ours`].
pub(crate) fn with_pool(directory: &Path) -> Result<PathBuf, Error> {
    let pooled = |bytes: &[u8]| {
        let object = serde_json::from_slice(bytes).ok();
        let Some(Value::Object(object)) = object else { return false };
        objects(&object).into_iter().any(has_pool)
    };
    match ours(directory) {
        Ok(path) => Ok(path),
        Err(_) => first(directory, "names manx, manx-ipam or host-local", pooled),
    }
}

/// One that may not be read might be the one: it is no reason to take another.
fn first(directory: &Path, what: &str, wanted: impl Fn(&[u8]) -> bool) -> Result<PathBuf, Error> {
    let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    let next = "manx install writes one, --conf FILE names another";
    let missing = |cause: String| {
        Error::new(Kind::Configuration, Object::path("", directory), cause).next(next)
    };
    let files = match files(directory) {
        Ok(files) => files,
        Err(error) if gone(&error) => {
            return Err(missing("there is no such directory".to_owned()));
        }
        Err(error) => return Err(unreadable(directory, &error)),
    };
    for path in files {
        match read(&path, TEXT_BYTES_MAX) {
            Ok(bytes) if wanted(&bytes) => return Ok(path),
            Err(error) if !gone(&error) => return Err(unreadable(&path, &error)),
            _ => {}
        }
    }
    Err(missing(format!("no configuration in it {what}")))
}

/// Our part of a conflist, or a single configuration, with the values that a
/// runtime would insert.
///
/// # Errors
/// If it cannot be read, or if the plugin would refuse it.
pub(crate) fn plugin(path: &Path) -> Result<(Document, Config), Error> {
    let document = part(path, "this plugin", |objects| {
        objects.iter().find(|plugin| is_ours(plugin)).copied()
    })?;
    let (config, complaints) = Config::read(&document, Version::NEWEST);
    match complaints.first() {
        Some(Complaint { error, .. }) => Err(wrong(path, error.to_string())),
        None => Ok((document, config)),
    }
}

/// The part of a configuration whose addresses come from a store: ours, else one
/// that has them from manx-ipam or host-local. What another plugin's own keys say
/// is not looked at.
///
/// # Errors
/// If it cannot be read, or has no such part.
pub(crate) fn pool(path: &Path) -> Result<(Document, Config), Error> {
    let document = part(path, "manx, manx-ipam or host-local", |objects| {
        let ours = objects.iter().find(|plugin| is_ours(plugin));
        ours.or_else(|| objects.iter().find(|plugin| has_pool(plugin))).copied()
    })?;
    let (config, _) = Config::read(&document, Version::NEWEST);
    Ok((document, config))
}

/// The object of a configuration that `choose` finds, with the network's name.
fn part(
    path: &Path,
    what: &str,
    choose: impl for<'a> Fn(&[&'a Map<String, Value>]) -> Option<&'a Map<String, Value>>,
) -> Result<Document, Error> {
    let wrong = |reason: String| wrong(path, reason);
    let bytes = read(path, TEXT_BYTES_MAX).map_err(|error| unreadable(path, &error))?;
    let list = Document::parse(bytes).map_err(|error| wrong(error.to_string()))?;
    let chosen = choose(&objects(&list.object)).cloned();
    let mut object = chosen.ok_or_else(|| wrong(format!("it does not name {what}")))?;
    object.insert("name".into(), list.name.clone().into());
    let bytes = Value::Object(object).to_string().into_bytes();
    Document::parse(bytes).map_err(|error| wrong(error.to_string()))
}

fn wrong(path: &Path, reason: String) -> Error {
    Error::new(Kind::Configuration, Object::path("", path), reason)
}
