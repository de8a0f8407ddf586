// SPDX-License-Identifier: Apache-2.0
//! The values of a configuration.
//!
//! Errors have an order: first the document (is it JSON, has it a name), then,
//! once the verb and the version are known to be good, its values. Values that
//! make no sense are collected, not thrown: ADD refuses them, DEL goes on without
//! them, a linter prints them all.

use std::{net::Ipv4Addr, time::Duration};

use ipnetwork::IpNetwork;
use serde_json::Value;

use super::{
    Annotations, FabricKeys, FabricPart,
    fields::{Complaint, Fields},
    ipam, keys,
    names::{POLICY_FILE, VERSION_FILE},
    part::Contradiction,
    shape::Shape,
    values::{Missing, Mode, MtuMode},
};
use crate::cni::{Args, Dns, Document, Version, document::invalid_name, json::walk};
use crate::list::PushAll;

/// What a network's name may have, in bytes.
const NETWORK_BYTES_MAX: usize = 255;

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
    /// What the configuration itself says of them, whatever the peers file does.
    pub own: FabricPart,
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
    /// `networkPolicy`: the network policies of its pods are enforced.
    pub enforces_policy: bool,
    /// `networkPolicyMissing`.
    pub policy_missing: Missing,
    /// `networkPolicyWait`.
    pub policy_wait: Duration,
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
    /// What the pod asks for by its annotations.
    pub annotations: Annotations,
    /// `sourceSpoofing`: pods may ask for further sources.
    pub sources_served: bool,
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
        let own = FabricPart::read(&mut fields);
        fields.get(&keys::DEVICE_TYPE);
        let calicos = fields.within(&keys::CONTAINER_SETTINGS, |settings| {
            settings.get(&keys::CONTAINER_FORWARDING)
        });
        let mut never = fields.get(&keys::NON_MASQUERADE_CIDRS);
        let fabric = FabricKeys::read(&own, &mut fields);
        never.extend(fabric.cluster_cidrs.iter().flatten());
        let own_ranges = ipam::pod_networks(document);
        never.extend(&own_ranges);
        let sources_served = fields.get(&keys::SOURCE_SPOOFING);
        let (annotations, of_pod) = Annotations::read(document, sources_served);
        let config = Self {
            version,
            name: document.name.clone(),
            plugin_type: fields.get(&keys::TYPE),
            mode: mode_of(&own),
            mtu: own.mtu,
            overhead: own.overhead,
            fabric,
            own,
            mtu_mode: mtu_mode(&mut fields),
            own_ranges,
            gateway: fields.get(&keys::GATEWAY_IPV4),
            masquerade: fields.get(&keys::IP_MASQ),
            never_masqueraded: never,
            source_check: fields.get(&keys::SOURCE_CHECK),
            enforces_policy: fields.get(&keys::NETWORK_POLICY),
            policy_missing: fields.get(&keys::NETWORK_POLICY_MISSING),
            policy_wait: Duration::from_secs(fields.get(&keys::NETWORK_POLICY_WAIT).into()),
            host_prefix: fields.get(&keys::HOST_PREFIX_KEY),
            queues: fields.get(&keys::QUEUES).max(1),
            allow_ip_forwarding: fields
                .given(&keys::ALLOW_IP_FORWARDING)
                .or(calicos)
                .unwrap_or_else(|| keys::ALLOW_IP_FORWARDING.shape.absent()),
            manage_forwarding: fields.get(&keys::MANAGE_FORWARDING),
            include_default_routes: fields.get(&keys::INCLUDE_DEFAULT_ROUTES),
            ipam_type: ipam_type(&mut fields),
            dns: dns(&mut fields),
            mac: requested_mac(document, &mut fields),
            annotations,
            sources_served,
            previous: fields.get(&keys::PREVIOUS_RESULT),
            log_level: fields.get(&keys::LOG_LEVEL),
            log_file: fields.get(&keys::LOG_FILE),
            ignored: keys::ignored(&document.object),
        };
        let mut complaints = fields.complaints;
        complaints.push_all(of_pod);
        complaints.push_all(impossible_name(&config.name));
        (config, complaints)
    }

    /// The same where the peers file says this of the routes between nodes: it holds for
    /// what the configuration does not say, and against it.
    pub fn under(&self, file: &FabricPart) -> Self {
        let given = self.own.under(file);
        Self {
            mode: mode_of(&given),
            mtu: given.mtu,
            overhead: given.overhead,
            fabric: self.fabric.under(file, &given),
            ..self.clone()
        }
    }

    /// In what the configuration contradicts a peers file that says this.
    pub fn contradictions(&self, file: &FabricPart) -> Vec<Contradiction> {
        self.own.contradictions(file)
    }

    /// What the configuration says of the routes between nodes that the peers file does
    /// not.
    pub fn beyond_file(&self) -> Vec<(&'static str, Value)> {
        self.own.beyond(&self.fabric.file)
    }

    /// The MAC address asked for, by precedence: capability, `args.cni`,
    /// `CNI_ARGS` (CONVENTIONS.md, "dynamic plugin specific fields"), and the pod's
    /// annotation last.
    pub fn requested_mac<'a>(&'a self, args: &'a Args) -> Option<&'a str> {
        let of_runtime = self.mac.as_deref().or_else(|| args.value("MAC"));
        of_runtime.filter(|mac| !mac.is_empty()).or(self.annotations.mac.as_deref())
    }
}

fn mode_of(given: &FabricPart) -> Mode {
    given.mode.unwrap_or_else(|| keys::MODE.shape.absent())
}

/// A network's state and its leases are in directories of its name (NAME_MAX), and the
/// former beside a file of ours.
fn impossible_name(name: &str) -> Option<Complaint> {
    let msg = match name {
        VERSION_FILE | POLICY_FILE => {
            format!("configuration key name is {name}, which is a file in /run/manx")
        }
        _ if name.len() > NETWORK_BYTES_MAX => {
            format!("configuration key name has {} bytes, and may have 255", name.len())
        }
        _ => return None,
    };
    Some(Complaint { key: "name".to_owned(), error: invalid_name(&msg) })
}

/// Routes need to know where other nodes' pods are.
fn mtu_mode(fields: &mut Fields<'_>) -> MtuMode {
    let told = fields.raw(&keys::PEERS_FILE).or(fields.raw(&keys::CLUSTER_CIDRS)).is_some();
    match (fields.get(&keys::MTU_MODE), fields.raw(&keys::MTU_MODE)) {
        (MtuMode::Route, Some(value)) if !told => {
            let advice = "say where the pods of other nodes are: give peersFile or clusterCIDRs";
            fields.complain(keys::MTU_MODE.name, value, advice);
            MtuMode::Link
        }
        (mode, _) => mode,
    }
}

fn ipam_type(fields: &mut Fields<'_>) -> String {
    let complaints = fields.complaints.len();
    let kind = fields.within(&keys::IPAM, |ipam| ipam.get(&keys::IPAM_TYPE));
    if kind.is_empty() && fields.complaints.len() == complaints {
        let section = fields.raw(&keys::IPAM).unwrap_or(&Value::Null);
        let advice = "name an IPAM plugin in ipam.type, such as manx-ipam";
        fields.complain("ipam.type", section, advice);
    }
    kind
}

fn dns(fields: &mut Fields<'_>) -> Option<Dns> {
    let given = fields.raw(&keys::DNS).and_then(Value::as_object);
    let dns = fields.within(&keys::DNS, |dns| Dns {
        nameservers: dns.get(&keys::NAMESERVERS),
        domain: dns.get(&keys::DOMAIN),
        search: dns.get(&keys::SEARCH),
        options: dns.get(&keys::OPTIONS),
    });
    given.filter(|keys| !keys.is_empty()).map(|_| dns)
}

fn requested_mac(document: &Document, fields: &mut Fields<'_>) -> Option<String> {
    let paths = [("runtimeConfig", &["mac"][..]), ("args", &["cni", "mac"])];
    let (path, value) = paths.into_iter().find_map(|(section, rest)| {
        let path = [&[section], rest].concat();
        Some((path.join("."), walk(&document.object, &path)?))
    })?;
    let Some(mac) = value.as_str() else {
        let advice = "give a MAC address as a string, such as \"ca:fe:ca:fe:ca:01\"";
        fields.complain(&path, value, advice);
        return None;
    };
    Some(mac.to_owned()).filter(|mac| !mac.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_that_cannot_be_a_directory_are_refused() {
        for (name, words) in [
            ("n".repeat(256), "has 256 bytes"),
            (VERSION_FILE.to_owned(), "a file in /run/manx"),
            (POLICY_FILE.to_owned(), "a file in /run/manx"),
            ("n".repeat(255), ""),
            (format!("{VERSION_FILE}.d"), ""),
        ] {
            let object = json!({"name": name, "type": "manx", "ipam": {"type": "manx-ipam"}});
            let document = Document::parse(object.to_string().into_bytes()).unwrap();
            let (_, complaints) = Config::read(&document, Version::NEWEST);
            let told: Vec<String> = complaints.iter().map(|one| one.error.to_string()).collect();
            assert_eq!(told.is_empty(), words.is_empty(), "{told:?}");
            assert!(told.iter().all(|told| told.contains(words)), "{told:?}");
        }
    }
}
