//! Which versions of the specification a file offers, and which its plugins
//! speak. A runtime takes the newest version offered that it knows itself and
//! calls every plugin of the list in it: one that is too old fails each ADD and
//! each DEL. Only the plugins themselves can say what they speak, so they are run
//! with VERSION, which does nothing else.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Map, Value};

use super::{Node, finding::Findings};
use crate::{
    cni::{Args, Command, Delegate, Environment, Error, Version, json::field},
    finding::Severity,
    state::{file::PROGRAM_BYTES_MAX, read},
};

/// A plugin answers within milliseconds; one that does not is told.
const LIMIT: Duration = Duration::from_secs(5);

/// Compares the versions that a file offers with what its plugins speak; returns
/// those that all of them do.
pub(super) fn compare(
    object: &Map<String, Value>,
    plugins: &[(String, Delegate)],
    node: &Node,
    findings: &mut Findings,
) -> Vec<Version> {
    let mut common = Version::ALL.to_vec();
    let Some(path) = &node.plugin_path else { return common };
    let mut spoken = Vec::new();
    for (at, plugin) in plugins {
        match versions(plugin, path) {
            Ok(versions) => {
                common.retain(|version| versions.contains(version));
                spoken.push((plugin, versions));
            }
            Err(error) => {
                let problem = format!("nothing tells which CNI versions it speaks: {}", error.msg);
                let fix = format!("install {} anew", plugin.binary.display());
                findings.add(("delegate-version", Severity::Warning), at, problem, fix);
            }
        }
    }
    for (key, version) in offered(object) {
        for (plugin, versions) in spoken.iter().filter(|(_, them)| !them.contains(&version)) {
            let message = format!(
                "{key} offers {version}, which {} does not speak: ADD and DEL fail with every \
                 runtime that takes it; it speaks {}",
                plugin.binary.display(),
                list(versions)
            );
            let refused = ("delegate-version", Severity::Error);
            findings.add(refused, key, message, fix(plugin, &common));
        }
    }
    common
}

fn fix(plugin: &Delegate, common: &[Version]) -> String {
    let kind = &plugin.plugin_type;
    match common {
        [] => format!("install a newer {kind}: no version is spoken by all plugins of the list"),
        common => {
            format!(
                "install a newer {kind}, or offer only what all plugins speak: {}",
                list(common)
            )
        }
    }
}

fn list(versions: &[Version]) -> String {
    versions.iter().map(|version| version.as_str()).collect::<Vec<_>>().join(", ")
}

/// The versions that a file offers and that exist, each with its key.
fn offered(object: &Map<String, Value>) -> Vec<(&'static str, Version)> {
    let mut offered: Vec<(&'static str, Version)> = Vec::new();
    let single = field(object, "cniVersion").into_iter().map(|value| ("cniVersion", value));
    let several = field(object, "cniVersions").and_then(Value::as_array).into_iter().flatten();
    for (key, value) in single.chain(several.map(|value| ("cniVersions", value))) {
        let Some(version) = value.as_str().and_then(|text| Version::parse(text).ok()) else {
            continue;
        };
        if !offered.iter().any(|(_, known)| *known == version) {
            offered.push((key, version));
        }
    }
    offered
}

/// What a plugin speaks, of the versions that exist.
///
/// # Errors
/// If it cannot be run, or does not tell.
pub(crate) fn versions(plugin: &Delegate, path: &[PathBuf]) -> Result<Vec<Version>, Error> {
    if is_this_program(&plugin.binary) {
        return Ok(Version::ALL.to_vec());
    }
    let environment = Environment {
        command: Command::Version,
        container_id: String::new(),
        netns: String::new(),
        ifname: String::new(),
        path: path.to_vec(),
        args: Args::default(),
        netns_override: false,
    };
    let texts = plugin.versions(&environment, LIMIT)?;
    Ok(texts.iter().filter_map(|text| Version::parse(text).ok()).collect())
}

/// Whether a file is this program, or a copy of it.
pub(super) fn is_this_program(path: &Path) -> bool {
    let own = Path::new("/proc/self/exe");
    let size = |path| fs::metadata(path).map(|data: fs::Metadata| data.len()).ok();
    let bytes = |path| read(path, PROGRAM_BYTES_MAX).ok();
    size(own).is_some() && size(own) == size(path) && bytes(own) == bytes(path)
}
