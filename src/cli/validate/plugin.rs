// SPDX-License-Identifier: Apache-2.0
//! What is odd about this plugin's own part of a configuration.
//!
//! Whatever the plugin itself refuses comes from its own reader, so that the
//! two cannot disagree; here is what it accepts and what was hardly meant.

use serde_json::{Map, Value};

use super::{
    Node, addresses,
    finding::{Findings, member},
    peersfile,
    pool::{self, Pool},
};
use crate::{
    cni::{
        Args, Document, Version,
        json::{field, walk},
    },
    conf::{self, Complaint, Config, CrossSubnet, IpamKeys, Unknown, has_store, static_addresses},
    fabric::{
        encapsulation,
        settings::{Settings, overhead_of},
    },
    family::Family,
    list::Gather,
    node::fabric::resolved,
    pod::mtu,
};

/// An object of this plugin's.
#[derive(Debug)]
pub(crate) struct Ours {
    pub(crate) config: Config,
    pub(crate) pools: Vec<Pool>,
}

/// Looks at the object of a chain that is this plugin's.
pub(super) fn lint(
    plugin: &Map<String, Value>,
    path: &str,
    (name, version): (&str, Version),
    node: &Node,
    findings: &mut Findings,
) -> Ours {
    let document = document(plugin, name, version);
    let (config, complaints) = Config::read(&document, version);
    let config = match &node.root {
        Some(root) => resolved(config, root),
        None => config,
    };
    complain(complaints, path, findings);
    unknown_keys(plugin, path, findings);
    if !config.ignored.is_empty() {
        let keys = config.ignored.join(", ");
        findings.info(path, format!("Calico's keys without a meaning here: {keys}"));
    }
    let (keys, pools) = ranges(&document, path, &config, findings);
    addresses::lint(&document, path, (&config, &keys), &pools, node, findings);
    encapsulation(plugin, path, &config, &pools, findings);
    ipam_type(path, &config, findings);
    peersfile::lint(path, &config, node, findings);
    let at = place("mtu", plugin, path, &config);
    mtu(&at, &config, &pools, document.ipam(), node, findings);
    Ours { config, pools }
}

/// Tells what the plugin's own readers refuse.
fn complain(complaints: Vec<Complaint>, path: &str, findings: &mut Findings) {
    for Complaint { key, error } in complaints {
        let at = if key.is_empty() { path.to_owned() } else { member(path, &key) };
        findings.error(&at, error.msg.as_str(), error.details.as_str());
    }
}

/// What the runtime would send: the object with the list's name and version.
pub(super) fn document(plugin: &Map<String, Value>, name: &str, version: Version) -> Document {
    let mut object = plugin.clone();
    object.insert("name".into(), name.into());
    object.insert("cniVersion".into(), version.as_str().into());
    let bytes = Value::Object(object.clone()).to_string().into_bytes();
    Document { bytes, object, name: name.to_owned() }
}

fn unknown_keys(plugin: &Map<String, Value>, path: &str, findings: &mut Findings) {
    for Unknown { section, key, meant } in conf::unknown(plugin) {
        let section = if section.is_empty() { path } else { &member(path, &section) };
        unknown(&key, meant, section, findings);
    }
}

/// Says of a key that nothing reads it, and which was probably meant.
pub(super) fn unknown(key: &str, meant: Option<&str>, path: &str, findings: &mut Findings) {
    let fix = match meant {
        Some(near) => format!("did you mean {near}?"),
        None => "leave it out".to_owned(),
    };
    findings.warning(&member(path, key), format!("unknown key {key:?} has no effect"), fix);
}

/// The ranges of the IPAM section. What is wrong with them is told where the
/// IPAM plugin is one that reads them.
fn ranges(
    document: &Document,
    path: &str,
    config: &Config,
    findings: &mut Findings,
) -> (IpamKeys, Vec<Pool>) {
    let (keys, complaints) = IpamKeys::read(document, &Args::default(), config.version);
    if !has_store(&config.ipam_type) {
        let pools = pool::read(&keys.sets, path, &mut Findings::of(""));
        return (keys, pools);
    }
    complain(complaints, path, findings);
    let pools = pool::read(&keys.sets, path, findings);
    pool::overlaps(&pools, findings);
    let dynamic = walk(&document.object, &["capabilities", "ipRanges"]);
    let named = ["subnet", "ranges"].map(|key| walk(&document.object, &["ipam", key]));
    let is_empty = |value: &Value| value.as_array().is_some_and(Vec::is_empty);
    if !named.into_iter().flatten().any(|value| !is_empty(value))
        && dynamic != Some(&Value::Bool(true))
    {
        let message = format!("{} has no range", config.ipam_type);
        findings.error(&member(path, "ipam"), message, "give ranges, or a subnet");
    }
    (keys, pools)
}

/// An IPAM plugin that no configuration makes work here.
fn ipam_type(path: &str, config: &Config, findings: &mut Findings) {
    if config.ipam_type == "dhcp" {
        let message = "dhcp cannot work on a routed link: it asks before there is a link, and no \
                       server is on it";
        let fix = "name manx-ipam, or another plugin that gives addresses out of ranges";
        findings.error(&member(path, "ipam.type"), message, fix);
    }
}

/// Where a key is given: what the peers file says is told where the file is named.
fn place(key: &str, plugin: &Map<String, Value>, path: &str, config: &Config) -> String {
    let of_file = field(plugin, key).is_none() && config.fabric.file.gives(key);
    member(path, if of_file { "peersFile" } else { key })
}

fn encapsulation(
    plugin: &Map<String, Value>,
    path: &str,
    config: &Config,
    pools: &[Pool],
    findings: &mut Findings,
) {
    let place = |key| place(key, plugin, path, config);
    if encapsulation::of(config.mode).is_none() && config.fabric.cross_subnet != CrossSubnet::Off {
        let path = place("crossSubnet");
        let message = "mode direct encapsulates nothing, so crossSubnet says nothing";
        let modes = encapsulation::modes(|_| true).join(" or ");
        findings.warning(&path, message, format!("leave crossSubnet out, or set mode {modes}"));
    }
    let subnets: Vec<_> = pools.iter().map(|pool| pool.subnet()).gather();
    let family = Family::greatest(&subnets);
    let (needed, path_of) = (overhead_of(config.mode, family), place("overhead"));
    if let (None, Some(given)) = (config.mtu, config.overhead.filter(|given| *given < needed)) {
        let of_file = config.fabric.file.entries().into_iter();
        let of_file = of_file.filter_map(|(key, mode)| (key == "mode").then_some(mode)).next();
        let mode = of_file.as_ref().or(field(plugin, "mode"));
        let mode = mode.and_then(Value::as_str).unwrap_or_default();
        let message = format!(
            "overhead {given} is less than the {needed} bytes that mode {mode} adds: large packets \
             to other nodes are lost"
        );
        findings.warning(&path_of, message, "leave out overhead");
    }
    let own = overhead_of(config.mode, Family::V4);
    if let (Some(mtu), Some(overhead)) = (config.mtu, config.overhead.filter(|it| *it != own)) {
        let message = format!("overhead {overhead} lowers nothing: mtu {mtu} is what pods get");
        let fix = "leave out mtu, to have it derived less the overhead, or leave out overhead";
        findings.warning(&path_of, message, fix);
    }
}

fn mtu(
    path: &str,
    config: &Config,
    pools: &[Pool],
    ipam: &Value,
    node: &Node,
    findings: &mut Findings,
) {
    let range =
        pools.iter().map(|pool| pool.subnet()).chain(static_addresses(ipam)).find(|n| n.is_ipv6());
    let overhead = Settings::of_config(config).overhead_of_pods(Family::greatest(range.as_ref()));
    let choice = mtu::choose(config.mtu, None, node.uplink.as_ref(), overhead);
    let known = config.mtu.is_some() || node.uplink.is_some();
    let least = mtu::IPV6_MIN;
    if let Some(range) = range.filter(|_| known && choice.mtu < least) {
        let message = format!(
            "mtu {} is below {least}, the least for IPv6 (RFC 8200), and there is {range}",
            choice.mtu
        );
        findings.error(path, message, format!("give at least {least}, or no IPv6 range"));
    }
    if let (Some(_), Some(warning)) = (config.mtu, choice.warning) {
        findings.warning(path, warning, "leave mtu out to have it derived");
    }
}
