// SPDX-License-Identifier: Apache-2.0
//! The `ipam` section as host-local has it, and what else says which addresses
//! are wanted. Whether the ranges make sense is not known here.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde_json::Value;

use super::{
    fields::{Complaint, Fields},
    keys,
    names::placeholder,
};
use crate::{
    cni::{
        Args, Code, Document, Error, Version, cidr,
        json::{member, walk},
        result::{self, Misread, Route},
    },
    family::{Family, HasFamily},
    list::{Gather, PushAll},
};

/// What the section says.
#[derive(Clone, Debug, Default)]
pub struct IpamKeys {
    /// The sets of ranges, of each of which an attachment gets one address: those
    /// of `runtimeConfig.ipRanges` first, then the single range of older
    /// configurations, then `ranges`.
    pub sets: Vec<Vec<RangeKeys>>,
    /// `dataDir`.
    pub data_dir: Option<String>,
    /// `resolvConf`: a file to read resolver settings from.
    pub resolv_conf: Option<String>,
    /// `routes`.
    pub routes: Vec<Route>,
    /// The addresses asked for: `IP` of `CNI_ARGS`, `args.cni.ips` and
    /// `runtimeConfig.ips`.
    pub requested: Vec<IpAddr>,
}

/// One range, as it is written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RangeKeys {
    /// Where it stands: `ipam.ranges[0][0]`.
    pub path: String,
    /// `subnet`.
    pub subnet: IpNetwork,
    /// `rangeStart`.
    pub first: Option<IpAddr>,
    /// `rangeEnd`.
    pub last: Option<IpAddr>,
    /// `gateway`.
    pub gateway: Option<IpAddr>,
}

impl IpamKeys {
    /// Reads the section of a configuration, and collects what is wrong with it.
    pub fn read(document: &Document, args: &Args, version: Version) -> (Self, Vec<Complaint>) {
        let mut ipam = Fields::new(document.ipam().as_object(), "ipam");
        let Sets { runtime, single, configured } = Sets::read(document, &mut ipam);
        let mut keys = Self {
            sets: [runtime, single, configured].concat(),
            data_dir: ipam.get(&keys::DATA_DIR),
            resolv_conf: ipam.get(&keys::RESOLV_CONF),
            ..Self::default()
        };
        let mut complaints = ipam.complaints;
        match document.ipam().as_object().map(result::routes) {
            Some(Ok(routes)) => keys.routes = routes,
            Some(Err(misread)) => complaints.push(of_routes(misread)),
            None => {}
        }
        match requested(document, args) {
            Ok(requested) => keys.requested = requested,
            Err(complaint) => complaints.push(complaint),
        }
        complaints.push_all(keys.too_many_sets(version));
        (keys, complaints)
    }

    /// Results before 0.3.0 have one address of each family.
    fn too_many_sets(&self, version: Version) -> Option<Complaint> {
        let of = |family| {
            let is = |set: &&Vec<RangeKeys>| {
                set.first().is_some_and(|range| range.subnet.family() == family)
            };
            self.sets.iter().filter(is).count()
        };
        if version >= Version::V0_3_0 || Family::BOTH.into_iter().all(|family| of(family) <= 1) {
            return None;
        }
        let msg = format!("ipam has more than one set of ranges of one family for {version}");
        let error = Error::new(Code::INVALID_CONFIG, msg)
            .details("results of that version have one address each: raise cniVersion");
        Some(Complaint::of_none(error))
    }
}

/// The sets of ranges, by where they are written.
#[derive(Debug, Default)]
struct Sets {
    /// `runtimeConfig.ipRanges`.
    runtime: Vec<Vec<RangeKeys>>,
    /// The section itself, as older configurations have it.
    single: Vec<Vec<RangeKeys>>,
    /// `ipam.ranges`.
    configured: Vec<Vec<RangeKeys>>,
}

impl Sets {
    /// Reads them out of a document whose section is `ipam`.
    fn read(document: &Document, ipam: &mut Fields<'_>) -> Self {
        let runtime = walk(&document.object, &["runtimeConfig", "ipRanges"]);
        let runtime = range_sets(runtime, "runtimeConfig.ipRanges", &mut ipam.complaints);
        let single = ipam.raw(&keys::SUBNET).and_then(|_| range(ipam));
        let single = single.into_iter().map(|range| vec![range]).gather();
        let configured = ipam.raw(&keys::RANGES);
        let configured = range_sets(configured, "ipam.ranges", &mut ipam.complaints);
        Self { runtime, single, configured }
    }
}

/// Where the network's own pods are, as far as the section is host-local's, ours or
/// static's. What is wrong with it is for its own reader to tell.
pub(super) fn pod_networks(document: &Document) -> Vec<IpNetwork> {
    let mut ipam = Fields::new(document.ipam().as_object(), "ipam");
    let Sets { runtime, single, configured } = Sets::read(document, &mut ipam);
    let ranges = [configured, runtime, single].into_iter().flatten().flatten();
    ranges.map(|range| range.subnet).chain(static_addresses(document.ipam())).gather()
}

/// The addresses that the static IPAM plugin gives.
pub fn static_addresses(ipam: &Value) -> Vec<IpNetwork> {
    let entries = member(ipam, "addresses").and_then(Value::as_array).into_iter().flatten();
    let addresses = entries.filter_map(|entry| member(entry, "address"));
    addresses.filter_map(|text| cidr::parse(text.as_str()?).ok()).gather()
}

fn range_sets(
    sets: Option<&Value>,
    path: &str,
    complaints: &mut Vec<Complaint>,
) -> Vec<Vec<RangeKeys>> {
    let Some(sets) = sets else { return Vec::new() };
    let Some(sets) = sets.as_array() else {
        complaints.push(refuse(path, sets, "give a list of lists of ranges"));
        return Vec::new();
    };
    let mut read = Vec::new();
    for (index, set) in sets.iter().enumerate() {
        let path = format!("{path}[{index}]");
        match set.as_array() {
            Some(ranges) => read.push(range_set(ranges, &path, complaints)),
            None => complaints.push(refuse(&path, set, "give a list of ranges")),
        }
    }
    read
}

fn range_set(ranges: &[Value], path: &str, complaints: &mut Vec<Complaint>) -> Vec<RangeKeys> {
    let mut read = Vec::new();
    for (index, value) in ranges.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let Some(object) = value.as_object() else {
            complaints.push(refuse(&path, value, "give an object with a subnet"));
            continue;
        };
        let mut fields = Fields::new(Some(object), &path);
        read.push_all(range(&mut fields));
        complaints.push_all(fields.complaints);
    }
    read
}

fn refuse(path: &str, value: &Value, advice: &str) -> Complaint {
    Complaint::of_value(Code::INVALID_CONFIG, path.to_owned(), value, advice)
}

fn range(fields: &mut Fields<'_>) -> Option<RangeKeys> {
    let path = fields.path().to_owned();
    let Some(written) = fields.raw(&keys::SUBNET) else {
        let key = format!("{path}.subnet");
        let msg = format!("configuration key {key} is missing");
        let error = Error::new(Code::INVALID_CONFIG, msg).details("give the subnet as a CIDR");
        fields.complaints.push(Complaint { key, error });
        return None;
    };
    // A placeholder, where nobody has filled it.
    if written.as_str().and_then(placeholder).is_some() {
        return None;
    }
    let subnet = fields.get(&keys::SUBNET)?;
    let first = fields.get(&keys::RANGE_START);
    let last = fields.get(&keys::RANGE_END);
    Some(RangeKeys { path, subnet, first, last, gateway: fields.get(&keys::RANGE_GATEWAY) })
}

/// Routes are written here as they are in a result.
fn of_routes(Misread { at, why }: Misread) -> Complaint {
    let key = format!("ipam.{at}");
    let error = Error::new(Code::INVALID_CONFIG, format!("configuration key {key}: {why}"))
        .details("give routes as {\"dst\": CIDR, \"gw\": ADDRESS}");
    Complaint { key, error }
}

/// An address, also one with a prefix length, as the capability has it
/// (CONVENTIONS.md, "ips").
fn requested(document: &Document, args: &Args) -> Result<Vec<IpAddr>, Complaint> {
    let mut requested = Vec::new();
    let mut read = |source: &str, text: &str| {
        if cidr::is_mapped(text) {
            let msg = format!("{text} was asked for in {source}, which is an IPv4-mapped address");
            let error = Error::new(Code::CONFLICT, msg).details("ask for the IPv4 address itself");
            return Err(Complaint::of_none(error));
        }
        let address = match text.contains('/') {
            true => cidr::parse(text).map(|network| network.ip()),
            false => cidr::parse_address(text),
        };
        requested.push(address.map_err(|reason| {
            let msg = format!("the address asked for in {source}: {reason}");
            let advice = "give an address, or leave the choice to the ranges";
            Complaint::of_none(Error::new(Code::INVALID_CONFIG, msg).details(advice))
        })?);
        Ok(())
    };
    if let Some(text) = args.value("IP").filter(|text| !text.is_empty()) {
        read("CNI_ARGS", text)?;
    }
    for (source, path) in [
        ("args.cni.ips", &["args", "cni", "ips"][..]),
        ("runtimeConfig.ips", &["runtimeConfig", "ips"]),
    ] {
        let Some(value) = walk(&document.object, path) else { continue };
        let texts: Option<Vec<&str>> =
            value.as_array().and_then(|list| list.iter().map(Value::as_str).collect());
        let Some(texts) = texts else {
            return Err(refuse(source, value, "give a list of addresses"));
        };
        texts.into_iter().try_for_each(|text| read(source, text))?;
    }
    Ok(requested)
}
