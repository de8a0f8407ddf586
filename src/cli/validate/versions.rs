// SPDX-License-Identifier: Apache-2.0
//! Which versions of the specification a file offers, and which its plugins
//! speak. A runtime takes the newest version offered that it knows itself and
//! calls every plugin of the list in it: one that is too old fails each ADD and
//! each DEL. Only the plugins themselves can say what they speak, so they are run
//! with VERSION, which does nothing else.

use std::{
    io::{self, BufRead, BufReader, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Map, Value};

use super::{Node, finding::Findings};
use crate::{
    cni::{Args, Command, Delegate, Environment, Error, Version, json::field},
    finding::Severity,
    list::Gather,
    state::file::{PROGRAM_BYTES_MAX, open_regular},
};

/// A plugin answers within milliseconds; one that does not is told.
const LIMIT: Duration = Duration::from_secs(5);

/// So much of two programs is held against each other at a time.
const PIECE_BYTES: usize = 64 << 10;

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
    let asked: Vec<&Delegate> = plugins.iter().map(|(_, plugin)| plugin).gather();
    let told = versions_of(&asked, path, LIMIT);
    for ((at, plugin), told) in plugins.iter().zip(told) {
        match told {
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
    versions.iter().map(|version| version.as_str()).gather().join(", ")
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
    let mut all = versions_of(&[plugin], path, LIMIT);
    all.pop().unwrap_or_else(|| Ok(Vec::new()))
}

/// The same of several plugins, which are asked at once and have `limit` together.
///
/// # Errors
/// Of each as [`versions`]; code 11 for one that gives no answer in that time.
pub(crate) fn versions_of(
    plugins: &[&Delegate],
    path: &[PathBuf],
    limit: Duration,
) -> Vec<Result<Vec<Version>, Error>> {
    let environment = Environment {
        command: Command::Version,
        container_id: String::new(),
        netns: String::new(),
        ifname: String::new(),
        path: path.to_vec(),
        args: Args::default(),
        netns_override: false,
    };
    let are_ours: Vec<bool> = plugins.iter().map(|one| is_this_program(&one.binary)).gather();
    let others = plugins.iter().zip(&are_ours).filter(|(_, is_ours)| !**is_ours);
    let others: Vec<&Delegate> = others.map(|(plugin, _)| *plugin).gather();
    let mut told = Delegate::versions_of(&others, &environment, limit).into_iter();
    let of_texts = |texts: Vec<String>| -> Vec<Version> {
        texts.iter().filter_map(|text| Version::parse(text).ok()).gather()
    };
    let known = are_ours.into_iter().filter_map(|is_ours| match is_ours {
        true => Some(Ok(Version::ALL.to_vec())),
        false => told.next().map(|texts| texts.map(of_texts)),
    });
    known.gather()
}

/// Whether a file is this program, or a copy of it: they are held against each other piece by
/// piece, for a whole one is as large as everything else that is held at a time.
pub(super) fn is_this_program(path: &Path) -> bool {
    let compare = || -> io::Result<bool> {
        let (own, other) = (open_regular(Path::new("/proc/self/exe"))?, open_regular(path)?);
        let (data, its) = (own.metadata()?, other.metadata()?);
        if (data.dev(), data.ino()) == (its.dev(), its.ino()) {
            return Ok(true);
        }
        Ok(data.len() == its.len() && data.len() <= PROGRAM_BYTES_MAX && is_same(own, other)?)
    };
    compare().unwrap_or(false)
}

/// Whether two readers have the same to say.
fn is_same(own: impl Read, other: impl Read) -> io::Result<bool> {
    let mut own = BufReader::with_capacity(PIECE_BYTES, own);
    let mut other = BufReader::with_capacity(PIECE_BYTES, other);
    loop {
        let (one, two) = (own.fill_buf()?, other.fill_buf()?);
        let length = one.len().min(two.len());
        if length == 0 {
            return Ok(one.is_empty() && two.is_empty());
        }
        if one.get(..length) != two.get(..length) {
            return Ok(false);
        }
        own.consume(length);
        other.consume(length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_readers_are_the_same_to_their_ends_alone() {
        let long: Vec<u8> = (0..3 * PIECE_BYTES).map(|at| (at % 251) as u8).collect();
        let mut other = long.clone();
        *other.last_mut().unwrap() ^= 1;
        let cut = &long[..long.len() - 1];
        for (one, two, same) in [
            (&long[..], &long[..], true),
            (&long[..], &other[..], false),
            (&long[..], cut, false),
            (cut, &long[..], false),
            (b"", b"", true),
        ] {
            assert_eq!(is_same(one, two).unwrap(), same);
            // However the pieces fall.
            let apart = two.get(..7.min(two.len())).unwrap().chain(&two[7.min(two.len())..]);
            assert_eq!(is_same(one, apart).unwrap(), same);
        }
    }
}
