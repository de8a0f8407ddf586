//! The `ipam` section as host-local has it, and what else says which addresses
//! are wanted. Whether the ranges make sense is not known here.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde_json::{Value, json};

use super::fields::Fields;
use crate::cni::{
    AddResult, Args, Code, Document, Error, Version, cidr,
    json::{field, shown, walk},
    result::Route,
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
    pub fn read(document: &Document, args: &Args, version: Version) -> (Self, Vec<Error>) {
        let mut ipam = Fields::new(document.ipam().as_object(), "ipam");
        let mut sets = Vec::new();
        let runtime = walk(&document.object, &["runtimeConfig", "ipRanges"]);
        sets.extend(range_sets(runtime, "runtimeConfig.ipRanges", &mut ipam));
        if ipam.value(&["subnet"]).is_some() {
            let mut single = Fields::new(document.ipam().as_object(), "ipam");
            sets.extend(range("ipam".to_owned(), &mut single).map(|range| vec![range]));
            ipam.absorb(single);
        }
        let configured = ipam.value(&["ranges"]).map(|(_, value)| value);
        sets.extend(range_sets(configured, "ipam.ranges", &mut ipam));
        let text = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
        let mut keys = Self {
            sets,
            data_dir: text(ipam.string(&["dataDir"])),
            resolv_conf: text(ipam.string(&["resolvConf"])),
            ..Self::default()
        };
        let mut complaints = ipam.complaints;
        match routes(document.ipam(), version) {
            Ok(routes) => keys.routes = routes,
            Err(error) => complaints.push(error),
        }
        match requested(document, args) {
            Ok(requested) => keys.requested = requested,
            Err(error) => complaints.push(error),
        }
        complaints.extend(keys.too_many_sets(version));
        (keys, complaints)
    }

    /// Results before 0.3.0 have one address of each family.
    fn too_many_sets(&self, version: Version) -> Option<Error> {
        let of = |ipv4| {
            let is = |set: &&Vec<RangeKeys>| {
                set.first().is_some_and(|range| range.subnet.is_ipv4() == ipv4)
            };
            self.sets.iter().filter(is).count()
        };
        if version >= Version::V0_3_0 || (of(true) <= 1 && of(false) <= 1) {
            return None;
        }
        let msg = format!("ipam has more than one set of ranges of one family for {version}");
        Some(
            Error::new(Code::INVALID_CONFIG, msg)
                .details("results of that version have one address each: raise cniVersion"),
        )
    }
}

fn range_sets(
    sets: Option<&Value>,
    path: &str,
    complaints: &mut Fields<'_>,
) -> Vec<Vec<RangeKeys>> {
    let Some(sets) = sets else { return Vec::new() };
    let Some(sets) = sets.as_array() else {
        complaints.complaints.push(refuse(path, sets, "give a list of lists of ranges"));
        return Vec::new();
    };
    let mut read = Vec::new();
    for (index, set) in sets.iter().enumerate() {
        let path = format!("{path}[{index}]");
        match set.as_array() {
            Some(ranges) => read.push(range_set(ranges, &path, complaints)),
            None => complaints.complaints.push(refuse(&path, set, "give a list of ranges")),
        }
    }
    read
}

fn range_set(ranges: &[Value], path: &str, complaints: &mut Fields<'_>) -> Vec<RangeKeys> {
    let mut read = Vec::new();
    for (index, value) in ranges.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let Some(object) = value.as_object() else {
            complaints.complaints.push(refuse(&path, value, "give an object with a subnet"));
            continue;
        };
        let mut fields = Fields::new(Some(object), &path);
        read.extend(range(path, &mut fields));
        complaints.absorb(fields);
    }
    read
}

fn refuse(path: &str, value: &Value, reason: &str) -> Error {
    let msg = format!("configuration key {path} has the value {}", shown(value));
    Error::new(Code::INVALID_CONFIG, msg).details(reason)
}

fn range(path: String, fields: &mut Fields<'_>) -> Option<RangeKeys> {
    if fields.value(&["subnet"]).is_none() {
        let msg = format!("configuration key {path}.subnet is missing");
        let error = Error::new(Code::INVALID_CONFIG, msg).details("give the subnet as a CIDR");
        fields.complaints.push(error);
        return None;
    }
    // Calico's placeholder, where nobody has filled it.
    let text = fields.value(&["subnet"]).and_then(|(_, value)| value.as_str());
    if text.is_some_and(|text| text.to_ascii_lowercase().starts_with("usepodcidr")) {
        return None;
    }
    let range = RangeKeys {
        path,
        subnet: fields.network(&["subnet"])?,
        first: fields.address(&["rangeStart"]),
        last: fields.address(&["rangeEnd"]),
        gateway: fields.address(&["gateway"]),
    };
    Some(range)
}

/// Routes are written here as they are in a result.
fn routes(ipam: &Value, version: Version) -> Result<Vec<Route>, Error> {
    let Some(routes) = ipam.as_object().and_then(|ipam| field(ipam, "routes")) else {
        return Ok(Vec::new());
    };
    let version = version.max(Version::V0_3_0);
    let result = AddResult::decode(&json!({ "routes": routes }), version);
    result.map(|result| result.routes).map_err(|error| {
        let reason = error.msg.trim_start_matches("result: ").to_owned();
        Error::new(Code::INVALID_CONFIG, format!("configuration key ipam.{reason}"))
            .details("give routes as {\"dst\": CIDR, \"gw\": ADDRESS}")
    })
}

/// An address, also one with a prefix length, as the capability has it
/// (CONVENTIONS.md, "ips").
fn requested(document: &Document, args: &Args) -> Result<Vec<IpAddr>, Error> {
    let mut requested = Vec::new();
    let mut read = |source: &str, text: &str| {
        if cidr::is_mapped(text) {
            let msg = format!("{text} was asked for in {source}, which is an IPv4-mapped address");
            return Err(Error::new(Code::CONFLICT, msg).details("ask for the IPv4 address itself"));
        }
        let address = match text.contains('/') {
            true => cidr::parse(text).map(|network| network.ip()),
            false => cidr::parse_address(text),
        };
        requested.push(address.map_err(|reason| {
            Error::new(Code::INVALID_CONFIG, format!("the address asked for in {source}: {reason}"))
                .details("give an address, or leave the choice to the ranges")
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
            let msg = format!("configuration key {source} has the value {}", shown(value));
            return Err(Error::new(Code::INVALID_CONFIG, msg).details("give a list of addresses"));
        };
        texts.into_iter().try_for_each(|text| read(source, text))?;
    }
    Ok(requested)
}
