// SPDX-License-Identifier: Apache-2.0
//! What of a configuration makes a fabric, and whether networks that share one want the
//! same.

use super::{
    super::{Error, Kind, Object},
    applied::Applied,
    document::file_version,
    state::FabricState,
};
use crate::{
    conf::{Config, CrossSubnet},
    fabric::{Settings, encapsulation},
    state::{Journal, Root},
};

/// What was applied of the fabric that a configuration asks for, by this node's
/// last ADD, STATUS or apply.
pub fn last_applied(config: &Config, root: &Root) -> Option<Applied> {
    config.fabric.peers_file.as_ref()?;
    FabricState::new(root, config.fabric.protocol).applied()
}

/// The same, if that is by the peers file as it is now.
pub fn applied_of_file(config: &Config, root: &Root) -> Option<Applied> {
    let path = root.path(config.fabric.peers_file.as_ref()?);
    last_applied(config, root).filter(|applied| applied.file == file_version(&path))
}

/// One fabric per route protocol: two networks may share one, not disagree.
///
/// # Errors
/// `Configuration` naming both, while another one that shares the fabric has attachments:
/// also where this network was the last to agree, unless that one has asked for
/// the same since.
pub fn require_same_fabric(config: &Config, root: &Root) -> Result<(), Error> {
    let Some(noted) = last_applied(config, root) else { return Ok(()) };
    if noted.summary == summary(config) {
        return Ok(());
    }
    // They name one file, which speaks for both from now on.
    let file = &config.fabric.file;
    if !file.is_empty()
        && noted.said().is_none_or(|part| part.is_empty())
        && noted.peers_file == config.fabric.peers_file
    {
        return Ok(());
    }
    let summary = summary(config);
    require_agreed(&noted, (&config.name, &summary), root)
}

/// That a network may take back the fabric that it has, or had before its configuration
/// lost the peers file.
///
/// # Errors
/// As of [`require_same_fabric`].
pub fn require_unshared(config: &Config, root: &Root, state: &FabricState) -> Result<(), Error> {
    if config.fabric.peers_file.is_some() {
        return require_same_fabric(config, root);
    }
    let noted = state.applied().unwrap_or_default();
    require_agreed(&noted, (&config.name, &summary(config)), root)
}

fn require_agreed(
    noted: &Applied,
    (network, summary): (&str, &str),
    root: &Root,
) -> Result<(), Error> {
    let in_use = |network: &&str| !Journal::new(root, network).entries().is_empty();
    let mut others = noted.others(network).filter(|other| !noted.agrees(other, summary));
    let Some(other) = others.find(in_use) else { return Ok(()) };
    Err(disagreement((other, &noted.summary), (network, summary), noted.protocol))
}

/// That two networks, each with its settings, cannot have the same fabric.
pub(super) fn disagreement(one: (&str, &str), other: (&str, &str), protocol: u8) -> Error {
    let msg = format!("they disagree about the fabric of route protocol {protocol}");
    Error::new(Kind::Configuration, Object::networks(one, other), msg).next(
        "give both the same settings of the fabric, or one of them another routeProtocol, and \
         with mode vxlan another vxlan.device and vni",
    )
}

/// All settings that the kernel's state follows from, in words: what two networks
/// of one fabric have to agree about.
pub(super) fn summary(config: &Config) -> String {
    let keys = &config.fabric;
    let peers_file = keys.peers_file.as_deref().unwrap_or("none");
    if !keys.file.is_empty() {
        let beyond = config.beyond_file();
        let beyond: String = beyond.iter().map(|(key, value)| format!(", {key} {value}")).collect();
        return format!("as peersFile {peers_file} says{beyond}");
    }
    let mut text = format!("mode {:?}, peersFile {peers_file}", config.mode);
    if keys.metric != 0 {
        text += &format!(", routeMetric {}", keys.metric);
    }
    let Some(encapsulation) = encapsulation::of(config.mode) else { return text };
    if keys.cross_subnet != CrossSubnet::Off {
        text += &format!(", crossSubnet {:?}", keys.cross_subnet);
    }
    let sizes = [("mtu", config.mtu), ("overhead", config.overhead)];
    for (name, bytes) in sizes {
        text += &bytes.map(|bytes| format!(", {name} {bytes}")).unwrap_or_default();
    }
    let own = encapsulation.own_keys(keys);
    text + &if own.is_empty() { own } else { format!(", {own}") }
}

/// All of a configuration that the fabric depends on.
pub(super) fn settings_text(config: &Config) -> String {
    // A structure of numbers and strings has always a text.
    serde_json::to_string(&Settings::of_config(config)).unwrap_or_default()
}
