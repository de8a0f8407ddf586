// SPDX-License-Identifier: Apache-2.0
//! One file: is it JSON, has it the shape of a network configuration, are the
//! plugins there that it names.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use serde_json::{Map, Value};

use super::{
    Node,
    finding::{Findings, Placed, member},
    plugin::{self, Ours},
    pool::Pool,
    versions::{self, is_this_program},
};
use crate::{
    cli::conflist::{is_list, is_ours},
    cni::{Delegate, Document, Error, Version, document::LIST_KEYS, json::field},
    conf::{BUILT_IN, CALICO, PLUGIN_TYPES},
    finding::Severity,
    list::PushAll,
    text::nearest::nearest,
};

/// What a file holds, and what there is to say of it.
#[derive(Debug)]
pub(crate) struct Linted {
    pub(crate) network: Option<String>,
    pub(crate) ours: Vec<Ours>,
    pub(crate) findings: Vec<Placed>,
}

impl Linted {
    /// The ranges of all of them.
    pub(crate) fn pools(&self) -> impl Iterator<Item = &Pool> {
        self.ours.iter().flat_map(|ours| &ours.pools)
    }
}

/// Looks at the content of a file, whose name says whether it is a list.
pub(crate) fn lint(path: &Path, bytes: &[u8], node: &Node) -> Linted {
    let mut findings = Findings::of(path);
    let mut linted = Linted { network: None, ours: Vec::new(), findings: Vec::new() };
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(object)) => {
            linted.network = network(bytes, &mut findings);
            let name = linted.network.as_deref().unwrap_or("?");
            let version = version(&object, is_list(path), &mut findings);
            let mut programs = Vec::new();
            let plugins = plugins(&object, path, &mut findings);
            only_once(&plugins, &mut findings);
            for (at, plugin) in plugins {
                programs.push_all(binaries(plugin, &at, node, &mut findings));
                if is_ours(plugin) {
                    let subject = (name, version);
                    linted.ours.push(plugin::lint(plugin, &at, subject, node, &mut findings));
                }
            }
            let common = versions::compare(&object, &programs, node, &mut findings);
            if let Some(Ours { config, .. }) = linted.ours.first() {
                let kind = &config.plugin_type;
                old_version(&object, kind, version, &common, &mut findings);
            }
        }
        Ok(_) => {
            findings.error("", "the configuration is no JSON object", "see conf/ for examples")
        }
        Err(error) => {
            // serde_json ends its message with the place: "… at line 3 column 7".
            findings.error(
                "",
                format!("the configuration is no JSON: {error}"),
                "correct that place",
            );
        }
    }
    linted.findings = findings.all;
    linted
}

/// Says what runtimes leave out with the versions that a file of ours offers.
fn old_version(
    object: &Map<String, Value>,
    kind: &str,
    version: Version,
    common: &[Version],
    findings: &mut Findings,
) {
    if version >= Version::V1_1_0 {
        return;
    }
    let message = format!(
        "with {version} as the newest version offered, runtimes call neither GC nor STATUS, which \
         exist since {}",
        Version::V1_1_0
    );
    let at = if field(object, "cniVersions").is_some() { "cniVersions" } else { "cniVersion" };
    // A list made for Calico is as Calico's installer writes it, and a plugin that
    // does not speak the newer one would fail.
    if kind == CALICO || !common.contains(&Version::V1_1_0) {
        findings.info(at, message);
    } else {
        let fix = "add \"cniVersions\": [\"1.0.0\", \"1.1.0\"]; runtimes take the newest they know";
        findings.warning(at, message, fix);
    }
}

fn network(bytes: &[u8], findings: &mut Findings) -> Option<String> {
    match Document::parse(bytes.to_vec()) {
        Ok(document) => Some(document.name),
        Err(error) => {
            findings.error("name", error.msg.as_str(), error.details.as_str());
            None
        }
    }
}

/// The newest version that the file offers and that this plugin speaks: a
/// runtime takes the newest that it knows.
fn version(object: &Map<String, Value>, list: bool, findings: &mut Findings) -> Version {
    let mut best = None;
    match field(object, "cniVersion") {
        Some(Value::String(text)) => match Version::parse(text) {
            Ok(version) => best = Some(version),
            Err(unsupported) => {
                let error = Error::from(unsupported);
                findings.error("cniVersion", error.msg.as_str(), error.details.as_str());
            }
        },
        Some(other) => {
            let message = format!("cniVersion is no string: {other}");
            findings.error("cniVersion", message, "give it in quotes, such as \"1.0.0\"");
        }
        None if field(object, "cniVersions").is_none() => {
            let message = "without a cniVersion the configuration is of 0.1.0";
            findings.warning("cniVersion", message, "give \"cniVersion\": \"1.0.0\"");
        }
        None => {}
    }
    match field(object, "cniVersions") {
        Some(Value::Array(texts)) if texts.iter().all(Value::is_string) => {
            let known = texts.iter().filter_map(|text| Version::parse(text.as_str()?).ok());
            best = known.chain(best).max();
            if best.is_none() {
                let all = Version::ALL.map(Version::as_str).join(", ");
                let message = "none of the cniVersions is supported";
                findings.error("cniVersions", message, format!("supported: {all}"));
            }
        }
        Some(other) => {
            let message = format!("cniVersions is no list of strings: {other}");
            findings.error("cniVersions", message, "give a list such as [\"1.0.0\", \"1.1.0\"]");
        }
        None => {}
    }
    let chained =
        list && field(object, "plugins").and_then(Value::as_array).is_some_and(|p| p.len() > 1);
    let version = best.unwrap_or(Version::UNSTATED);
    if chained && best.is_some_and(|version| version < Version::V0_3_0) {
        let message = format!("plugins are chained since 0.3.0, and this is {version}");
        findings.error("cniVersion", message, "give \"cniVersion\": \"1.0.0\"");
    }
    version
}

/// The objects that name a plugin, with their paths.
fn plugins<'a>(
    object: &'a Map<String, Value>,
    file: &Path,
    findings: &mut Findings,
) -> Vec<(String, &'a Map<String, Value>)> {
    let listed = field(object, "plugins");
    if !is_list(file) {
        if listed.is_some() {
            let message = "a list of plugins is read only from a file that ends in .conflist";
            findings.error("plugins", message, "rename the file");
        } else if field(object, "type").is_none() {
            findings.error("type", "the configuration names no plugin", "give its type");
        } else {
            return vec![(String::new(), object)];
        }
        return Vec::new();
    }
    for key in object.keys().filter(|key| !key.starts_with("cni.dev/")) {
        if !LIST_KEYS.iter().any(|known| known.eq_ignore_ascii_case(key)) {
            let meant = nearest(key, LIST_KEYS.iter().copied());
            plugin::unknown(key, meant, "", findings);
        }
    }
    let entries = match listed {
        Some(Value::Array(entries)) if !entries.is_empty() => entries,
        other => {
            let given = other.map_or("is missing".to_owned(), |value| format!("is {value}"));
            let fix = "give a list of objects, each with the type of a plugin";
            findings.error("plugins", format!("plugins {given}"), fix);
            return Vec::new();
        }
    };
    let mut plugins = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        let at = format!("plugins[{index}]");
        match entry.as_object() {
            Some(plugin) => plugins.push((at, plugin)),
            None => findings.error(&at, format!("{entry} is no object"), "give one with a type"),
        }
    }
    plugins
}

/// Each would make the pod's interface, which has one name.
fn only_once(plugins: &[(String, &Map<String, Value>)], findings: &mut Findings) {
    let mut ours = plugins.iter().filter(|(_, plugin)| is_ours(plugin));
    let Some((first, _)) = ours.next() else { return };
    for (at, _) in ours {
        let message = format!(
            "{first} is this plugin already, and each makes the pod's interface: ADD fails"
        );
        findings.error(at, message, "leave one, or make two lists, each a network of its own");
    }
}

/// The programs that a plugin's object needs: its own and its IPAM plugin's.
fn binaries(
    plugin: &Map<String, Value>,
    at: &str,
    node: &Node,
    findings: &mut Findings,
) -> Vec<(String, Delegate)> {
    let own = member(at, "type");
    let mut found = Vec::new();
    match field(plugin, "type") {
        Some(Value::String(kind)) if !kind.is_empty() => {
            found.push_all(binary(kind, &own, node, findings).map(|binary| (own, binary)));
        }
        other => {
            let given = other.map_or("is missing".to_owned(), |value| format!("is {value}"));
            findings.error(&own, format!("type {given}"), "give the name of a plugin");
        }
    }
    let ipam = field(plugin, "ipam").and_then(|ipam| crate::cni::json::member(ipam, "type"));
    let served_here = |kind: &&str| *kind == BUILT_IN && is_ours(plugin);
    let kind = ipam.and_then(Value::as_str).filter(|kind| !kind.is_empty());
    if let Some(kind) = kind.filter(|kind| !served_here(kind)) {
        let at = member(at, "ipam.type");
        let program = binary(kind, &at, node, findings);
        let copied = program.as_ref().is_some_and(|program| is_this_program(&program.binary));
        if PLUGIN_TYPES.contains(&kind) || (copied && kind != BUILT_IN) {
            let message = format!("{kind:?} is this plugin itself, and no IPAM plugin");
            findings.error(&at, message, format!("name an IPAM plugin, such as {BUILT_IN}"));
        }
        found.push_all(program.map(|program| (at, program)));
    }
    found
}

/// A program that every ADD and every DEL needs.
const MISSING: (&str, Severity) = ("delegate-missing", Severity::Error);

/// Finds a program that can be run.
fn binary(kind: &str, path: &str, node: &Node, findings: &mut Findings) -> Option<Delegate> {
    let found = match Delegate::find(kind, node.plugin_path.as_ref()?) {
        Ok(found) => found,
        Err(error) => {
            findings.add(MISSING, path, error.msg.as_str(), error.details.as_str());
            return None;
        }
    };
    let mode = fs::metadata(&found.binary).map_or(0, |file| file.permissions().mode());
    if mode & 0o111 == 0 {
        let message = format!("{} is not executable", found.binary.display());
        findings.add(MISSING, path, message, format!("chmod 755 {}", found.binary.display()));
        return None;
    }
    Some(found)
}
