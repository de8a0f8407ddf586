//! The address ranges of a configuration: whether each makes sense to
//! host-local, and whether two have addresses in common.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde_json::{Map, Value};

use super::finding::{Findings, member};
use crate::cni::{cidr, json::field};

/// A range of addresses that an IPAM plugin hands out of.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Pool {
    /// Where it stands: `plugins[0].ipam.ranges[0][0]`.
    pub(crate) path: String,
    pub(crate) subnet: IpNetwork,
    first: IpAddr,
    last: IpAddr,
}

impl Pool {
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        self.subnet.is_ipv4() == other.subnet.is_ipv4()
            && self.first <= other.last
            && other.first <= self.last
    }
}

/// Reads the ranges of an `ipam` section as host-local has them: `subnet`
/// beside `type`, and `ranges`, a list of sets of ranges. Complaints are made
/// only where that plugin reads them (`strict`).
pub(crate) fn read(
    ipam: &Map<String, Value>,
    path: &str,
    strict: bool,
    findings: &mut Findings,
) -> Vec<Pool> {
    let mut pools = Vec::new();
    let mut muted = Findings::of("");
    let findings = if strict { findings } else { &mut muted };
    if field(ipam, "subnet").is_some() {
        pools.extend(range(ipam, path, findings));
    }
    let sets = field(ipam, "ranges").and_then(Value::as_array).into_iter().flatten();
    for (index, set) in sets.enumerate() {
        let path = format!("{path}.ranges[{index}]");
        let ranges = set.as_array().into_iter().flatten().enumerate();
        let set: Vec<Pool> = ranges
            .filter_map(|(index, object)| {
                let path = format!("{path}[{index}]");
                match object.as_object() {
                    Some(object) => range(object, &path, findings),
                    None => None,
                }
            })
            .collect();
        if set.iter().any(|pool| pool.subnet.is_ipv4()) && set.iter().any(|p| p.subnet.is_ipv6()) {
            let message = "one set of ranges holds both IPv4 and IPv6: a set is one address";
            findings.error(&path, message, "give each family a list of its own in ranges");
        }
        pools.extend(set);
    }
    pools
}

/// One range, unless it is nothing that host-local could use.
fn range(object: &Map<String, Value>, path: &str, findings: &mut Findings) -> Option<Pool> {
    let at = member(path, "subnet");
    let Some(text) = field(object, "subnet").and_then(Value::as_str) else {
        findings.error(&at, "the range has no subnet", "give it as a CIDR");
        return None;
    };
    // Calico's placeholder, of which the plugin's own reader has said it all.
    if text.to_ascii_lowercase().starts_with("usepodcidr") {
        return None;
    }
    let subnet = match cidr::parse(text) {
        Ok(subnet) => subnet,
        Err(reason) => {
            findings.error(&at, reason, "give the subnet as a CIDR");
            return None;
        }
    };
    if subnet.ip() != subnet.network() {
        let fix = format!("give {}/{}", subnet.network(), subnet.prefix());
        findings.error(&at, format!("{text} has host bits set"), fix);
    }
    let longest = if subnet.is_ipv4() { 30 } else { 126 };
    if subnet.prefix() > longest {
        let message = format!("{text} is too small to hand addresses out of");
        findings.error(&at, message, format!("give a prefix of at most {longest} bits"));
    }
    let (mut first, mut last) = (subnet.network(), subnet.broadcast());
    for (key, end) in [("rangeStart", &mut first), ("rangeEnd", &mut last)] {
        let Some(value) = field(object, key) else { continue };
        let address = value.as_str().and_then(|text| cidr::parse_address(text).ok());
        match address.filter(|address| subnet.contains(*address)) {
            Some(address) => *end = address,
            None => {
                let message = format!("{value} is no address of {text}");
                findings.error(&member(path, key), message, "give one of the subnet's");
            }
        }
    }
    if first > last {
        let message = format!("the range ends at {last}, before it starts at {first}");
        findings.error(&member(path, "rangeEnd"), message, "swap the two");
        return None;
    }
    Some(Pool { path: path.to_owned(), subnet, first, last })
}

/// Ranges of one file that have addresses in common.
pub(crate) fn overlaps(pools: &[Pool], findings: &mut Findings) {
    for (index, one) in pools.iter().enumerate() {
        for other in pools.iter().skip(index + 1).filter(|other| one.overlaps(other)) {
            let message = format!("{} overlaps {} at {}", other.subnet, one.subnet, one.path);
            findings.error(&other.path, message, "make the two ranges disjoint, or drop one");
        }
    }
}
