//! Where a runtime's network configurations lie and which of them counts.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};

use super::Failure;
use crate::cni::{Config, Document, Version, json::field};

/// Where runtimes look for configurations by default.
pub(super) const DIRECTORY: &str = "/etc/cni/net.d";

pub(super) use crate::verb::PLUGIN_TYPES as TYPES;

/// The configurations of a directory in the order in which runtimes read them:
/// by file name, byte by byte (libcni, `ConfFiles`). The first is the one that
/// containerd and CRI-O use.
///
/// # Errors
/// Of reading the directory.
pub(super) fn files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for file in fs::read_dir(directory)? {
        let path = file?.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        if matches!(extension, Some("conf" | "conflist" | "json")) && path.is_file() {
            files.push(path);
        }
    }
    files.sort_unstable_by(|one, other| one.file_name().cmp(&other.file_name()));
    Ok(files)
}

/// Whether a file of this name holds a list of plugins.
pub(super) fn is_list(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "conflist")
}

/// Whether an object of a chain is this plugin's.
pub(super) fn is_ours(plugin: &Map<String, Value>) -> bool {
    let kind = field(plugin, "type").and_then(Value::as_str);
    kind.is_some_and(|kind| TYPES.contains(&kind))
}

/// Whether a configuration, a list or a single one, names this plugin.
pub(super) fn names_us(bytes: &[u8]) -> bool {
    let Ok(Value::Object(object)) = serde_json::from_slice(bytes) else { return false };
    let plugins = field(&object, "plugins").and_then(Value::as_array);
    let mut chained = plugins.into_iter().flatten().filter_map(Value::as_object);
    is_ours(&object) || chained.any(is_ours)
}

/// The first configuration of a directory that names this plugin.
///
/// # Errors
/// If there is none, or the directory cannot be read.
pub(super) fn ours(directory: &Path) -> Result<PathBuf, Failure> {
    let files = files(directory)
        .map_err(|error| Failure::Failed(format!("{}: {error}", directory.display())))?;
    let named = files.into_iter().find(|path| fs::read(path).is_ok_and(|bytes| names_us(&bytes)));
    named.ok_or_else(|| {
        let directory = directory.display();
        Failure::Failed(format!("no configuration in {directory} names manx: give --conf FILE"))
    })
}

/// Our part of a conflist, or a single configuration, with the values that a
/// runtime would insert.
///
/// # Errors
/// If it cannot be read, or if the plugin would refuse it.
pub(super) fn plugin(path: &Path) -> Result<(Document, Config), Failure> {
    let wrong = |reason: String| Failure::Failed(format!("{}: {reason}", path.display()));
    let bytes = fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let list = Document::parse(bytes).map_err(|error| wrong(error.to_string()))?;
    let plugins = field(&list.object, "plugins").and_then(Value::as_array);
    let object = match plugins {
        None => Some(&list.object).filter(|plugin| is_ours(plugin)),
        Some(plugins) => plugins.iter().filter_map(Value::as_object).find(|plugin| is_ours(plugin)),
    };
    let mut object = object.cloned().ok_or_else(|| wrong("it names no plugin of ours".into()))?;
    object.insert("name".into(), list.name.clone().into());
    let bytes = Value::Object(object).to_string().into_bytes();
    let document = Document::parse(bytes).map_err(|error| wrong(error.to_string()))?;
    let (config, complaints) = Config::read(&document, Version::NEWEST);
    match complaints.first() {
        Some(complaint) => Err(wrong(complaint.to_string())),
        None => Ok((document, config)),
    }
}
