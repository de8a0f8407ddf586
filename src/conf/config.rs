//! The values of a configuration.
//!
//! Errors have an order: first the document (is it JSON, has it a name), then,
//! once the verb and the version are known to be good, its values. Values that
//! make no sense are collected, not thrown: ADD refuses them, DEL goes on without
//! them, a linter prints them all.

use std::net::Ipv4Addr;

use ipnetwork::IpNetwork;
use serde_json::Value;

use super::{
    FabricKeys,
    fields::{Complaint, Fields},
    ipam, keys,
};
use crate::cni::{
    Args, Code, Dns, Document, Version,
    document::invalid_name,
    json::{field, walk},
};

/// The next hop that Calico's pods have.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// `cali`, as Calico's host links.
pub const HOST_PREFIX: &str = "cali";
/// A host link's name has 11 characters behind the prefix, 15 at most in all.
const HOST_PREFIX_BYTES_MAX: usize = 4;
/// The smallest MTU that IPv4 allows (RFC 791).
const MTU_MIN: u32 = 68;
/// The largest that a veth takes (ETH_MAX_MTU).
const MTU_MAX: u32 = 65535;
/// The MTUs that a veth takes, in bytes.
pub const MTU_RANGE: std::ops::RangeInclusive<u32> = MTU_MIN..=MTU_MAX;

/// What a network's name may have, in bytes.
const NETWORK_BYTES_MAX: usize = 255;

/// How packets reach the pods of other nodes. Without a peers file it decides
/// nothing but the overhead.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    /// Plain routes.
    Direct,
    /// IP in IP (RFC 2003).
    Ipip,
    /// VXLAN (RFC 7348).
    Vxlan,
}

/// Where the MTU of packets to other nodes is set.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MtuMode {
    /// On the pod's link, for all packets.
    Link,
    /// On the pod's routes to other nodes; the link has the device's MTU.
    Route,
}

/// The values of a configuration, with defaults filled in.
#[derive(Clone, Debug)]
pub struct Config {
    /// `cniVersion`.
    pub version: Version,
    /// `name`.
    pub name: String,
    /// `type`: the name that this binary was called by.
    pub plugin_type: String,
    /// `mode`.
    pub mode: Mode,
    /// `mtu` in bytes; `None` to derive it.
    pub mtu: Option<u32>,
    /// `overhead` in bytes; `None` for the mode's own.
    pub overhead: Option<u32>,
    /// The keys of the routes between nodes.
    pub fabric: FabricKeys,
    /// `mtuMode`.
    pub mtu_mode: MtuMode,
    /// The ranges of the IPAM section: where this node's pods are.
    pub own_ranges: Vec<IpNetwork>,
    /// `gateway`.
    pub gateway: Ipv4Addr,
    /// `ipMasq`.
    pub masquerade: bool,
    /// `nonMasqueradeCIDRs`, `clusterCIDRs` and the ranges of the IPAM section.
    pub never_masqueraded: Vec<IpNetwork>,
    /// `sourceCheck`.
    pub source_check: bool,
    /// `hostPrefix`.
    pub host_prefix: String,
    /// `queues`.
    pub queues: u32,
    /// `allowIPForwarding`.
    pub allow_ip_forwarding: bool,
    /// `manageForwarding`.
    pub manage_forwarding: bool,
    /// `includeDefaultRoutes`.
    pub include_default_routes: bool,
    /// `ipam.type`; empty if there is none.
    pub ipam_type: String,
    /// `dns`, if it has any key.
    pub dns: Option<Dns>,
    /// The MAC address asked for: `runtimeConfig.mac`, else `args.cni.mac`.
    pub mac: Option<String>,
    /// `prevResult`.
    pub previous: Option<Value>,
    /// `logLevel`.
    pub log_level: log::LevelFilter,
    /// `logFile`.
    pub log_file: Option<String>,
    /// Keys of Calico's that need its API server or its policy engine.
    pub ignored: Vec<String>,
}

impl Config {
    /// Reads the values, filling in defaults for those that are absent and for
    /// those that it complains of.
    pub fn read(document: &Document, version: Version) -> (Self, Vec<Complaint>) {
        let mut fields = Fields::new(Some(&document.object), "");
        let mode = mode(&mut fields);
        unsupported(&mut fields);
        let mut container = fields.object(&["container_settings"]);
        let forwarding = container.boolean(&["allow_ip_forwarding"]);
        fields.absorb(container);
        let mut never = fields.networks(&["nonMasqueradeCIDRs"]).unwrap_or_default();
        // Not read twice, or what is wrong with it would be told twice.
        let fabric = FabricKeys::read(&mut fields);
        never.extend(fabric.cluster_cidrs.iter().flatten());
        let own_ranges = ipam::pod_networks(document);
        never.extend(&own_ranges);
        let config = Self {
            version,
            name: document.name.clone(),
            plugin_type: fields.string(&["type"]).unwrap_or_default().to_owned(),
            mode,
            mtu: mtu(&mut fields),
            overhead: fields.number(&["overhead"], 0..=1000),
            fabric,
            mtu_mode: mtu_mode(&mut fields),
            own_ranges,
            gateway: gateway(&mut fields),
            masquerade: fields.boolean(&["ipMasq"]).unwrap_or(false),
            never_masqueraded: never,
            source_check: fields.boolean(&["sourceCheck"]).unwrap_or(true),
            host_prefix: host_prefix(&mut fields),
            queues: queues(&mut fields),
            allow_ip_forwarding: fields
                .boolean(&["allowIPForwarding"])
                .or(forwarding)
                .unwrap_or(false),
            manage_forwarding: fields.boolean(&["manageForwarding"]).unwrap_or(true),
            include_default_routes: fields
                .boolean(&["includeDefaultRoutes", "include_default_routes"])
                .unwrap_or(false),
            ipam_type: ipam_type(&mut fields),
            dns: dns(&mut fields),
            mac: requested_mac(document, &mut fields),
            previous: field(&document.object, "prevResult").cloned(),
            log_level: log_level(&mut fields),
            log_file: fields.string(&["logFile", "log_file_path"]).map(str::to_owned),
            ignored: keys::ignored(&document.object),
        };
        let mut complaints = fields.complaints;
        complaints.extend(too_long(&config.name));
        (config, complaints)
    }

    /// The MAC address asked for, by precedence: capability, `args.cni`,
    /// `CNI_ARGS` (CONVENTIONS.md, "dynamic plugin specific fields").
    pub fn requested_mac<'a>(&'a self, args: &'a Args) -> Option<&'a str> {
        self.mac.as_deref().or_else(|| args.value("MAC")).filter(|mac| !mac.is_empty())
    }
}

/// A network's state and its leases are in directories of its name (NAME_MAX).
fn too_long(name: &str) -> Option<Complaint> {
    let msg = format!("configuration key name has {} bytes, and may have 255", name.len());
    let complaint = || Complaint { key: "name".to_owned(), error: invalid_name(&msg) };
    (name.len() > NETWORK_BYTES_MAX).then(complaint)
}

fn mode(fields: &mut Fields<'_>) -> Mode {
    match fields.string(&["mode"]) {
        None | Some("" | "direct") => Mode::Direct,
        Some("ipip") => Mode::Ipip,
        Some("vxlan") => Mode::Vxlan,
        Some(other) => {
            fields.complain(
                Code::INVALID_CONFIG,
                "mode",
                &other.into(),
                "give direct, ipip or vxlan",
            );
            Mode::Direct
        }
    }
}

/// Keys that ask for what this version does not do.
fn unsupported(fields: &mut Fields<'_>) {
    if let Some((key, value)) = fields.value(&["device_type"])
        && !matches!(value.as_str(), Some("" | "veth"))
    {
        fields.complain(Code::UNSUPPORTED_FIELD, key, value, "pods get a veth: leave the key out");
    }
}

/// Routes need to know where other nodes' pods are.
fn mtu_mode(fields: &mut Fields<'_>) -> MtuMode {
    let Some((key, value)) = fields.value(&["mtuMode"]) else { return MtuMode::Link };
    let told = fields.value(&["peersFile"]).or(fields.value(&["clusterCIDRs"])).is_some();
    match value.as_str() {
        Some("link") => MtuMode::Link,
        Some("route") if told => MtuMode::Route,
        Some("route") => {
            let reason = "say where the pods of other nodes are: give peersFile or clusterCIDRs";
            fields.complain(Code::INVALID_CONFIG, key, value, reason);
            MtuMode::Link
        }
        _ => {
            fields.complain(Code::INVALID_CONFIG, key, value, "give link or route");
            MtuMode::Link
        }
    }
}

/// 0 means the same as absent, as Calico's installer writes it.
fn mtu(fields: &mut Fields<'_>) -> Option<u32> {
    if fields.value(&["mtu"]).is_some_and(|(_, value)| value.as_u64() == Some(0)) {
        return None;
    }
    fields.number(&["mtu"], MTU_RANGE)
}

fn gateway(fields: &mut Fields<'_>) -> Ipv4Addr {
    let address = fields.ipv4(&["gateway"]).unwrap_or(GATEWAY);
    // What the kernel takes for no next hop: 0.0.0.0/8, 127.0.0.0/8 and no unicast.
    let nobody = matches!(address.octets(), [0 | 127, ..]);
    if nobody || address.is_multicast() || address.is_broadcast() {
        let text = address.to_string().into();
        fields.complain(Code::INVALID_CONFIG, "gateway", &text, "give a unicast address");
        return GATEWAY;
    }
    address
}

/// Calico takes any number below one for one; our own key does not.
fn queues(fields: &mut Fields<'_>) -> u32 {
    let calicos = fields.value(&["queues", "num_queues"]).filter(|(key, _)| *key == "num_queues");
    if calicos.and_then(|(_, value)| value.as_i64()).is_some_and(|number| number < 1) {
        return 1;
    }
    fields.number(&["queues", "num_queues"], 0..=4096).unwrap_or(1).max(1)
}

fn host_prefix(fields: &mut Fields<'_>) -> String {
    let prefix = fields.string(&["hostPrefix"]).unwrap_or(HOST_PREFIX);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let empty = prefix.is_empty() || prefix.len() > HOST_PREFIX_BYTES_MAX;
    // A link whose name begins with a dash would be an option of every command.
    if empty || prefix.starts_with('-') || !prefix.bytes().all(plain) {
        let reason = "give 1 to 4 letters, digits, '-' or '_', and no '-' at the beginning";
        fields.complain(Code::INVALID_CONFIG, "hostPrefix", &prefix.into(), reason);
        return HOST_PREFIX.to_owned();
    }
    prefix.to_owned()
}

fn ipam_type(fields: &mut Fields<'_>) -> String {
    let mut ipam = fields.object(&["ipam"]);
    let kind = ipam.string(&["type"]).unwrap_or_default();
    if kind.is_empty() && ipam.complaints.is_empty() {
        let section = fields.value(&["ipam"]).map_or(&Value::Null, |(_, value)| value);
        let reason = "name an IPAM plugin in ipam.type, such as manx-ipam";
        ipam.complain(Code::INVALID_CONFIG, "type", section, reason);
    }
    fields.absorb(ipam);
    kind.to_owned()
}

fn dns(fields: &mut Fields<'_>) -> Option<Dns> {
    let mut section = fields.object(&["dns"]);
    let given = fields.value(&["dns"]).and_then(|(_, value)| value.as_object());
    let dns = given.is_some_and(|keys| !keys.is_empty()).then(|| Dns {
        nameservers: section.strings(&["nameservers"]).unwrap_or_default(),
        domain: section.string(&["domain"]).map(str::to_owned),
        search: section.strings(&["search"]).unwrap_or_default(),
        options: section.strings(&["options"]).unwrap_or_default(),
    });
    fields.absorb(section);
    dns
}

fn requested_mac(document: &Document, fields: &mut Fields<'_>) -> Option<String> {
    let paths = [("runtimeConfig", &["mac"][..]), ("args", &["cni", "mac"])];
    let (path, value) = paths.into_iter().find_map(|(section, rest)| {
        let path = [&[section], rest].concat();
        Some((path.join("."), walk(&document.object, &path)?))
    })?;
    let Some(mac) = value.as_str() else {
        let reason = "give a MAC address as a string, such as \"ca:fe:ca:fe:ca:01\"";
        fields.complain(Code::INVALID_CONFIG, &path, value, reason);
        return None;
    };
    Some(mac.to_owned()).filter(|mac| !mac.is_empty())
}

/// Calico takes any word it does not know for `info`; so does its key here.
fn log_level(fields: &mut Fields<'_>) -> log::LevelFilter {
    let default = log::LevelFilter::Info;
    match fields.value(&["logLevel", "log_level"]) {
        None => default,
        Some((key, value)) => {
            let level = value.as_str().and_then(|text| text.parse().ok());
            if level.is_none() && key == "logLevel" {
                let reason = "give error, warn, info, debug or trace";
                fields.complain(Code::INVALID_CONFIG, key, value, reason);
            }
            level.unwrap_or(default)
        }
    }
}
