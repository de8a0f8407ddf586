// SPDX-License-Identifier: Apache-2.0
//! The addresses that a pod asks for by its annotations, as its IPAM plugin is asked for
//! them: out of the ranges that the configuration gives, whoever has written the
//! annotation.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use crate::{
    cni::{
        Code, Document, Error, cidr,
        json::{field, member},
    },
    conf::{CALICO_IPAM, Config, has_store},
    family::{Family, HasFamily},
    list::PushAll,
};

/// The capability by which host-local and our own plugin are asked for addresses.
const ADDRESSES: &str = "ips";
/// The keys of a single range in the midst of the section.
const SINGLE: [&str; 4] = ["subnet", "rangeStart", "rangeEnd", "gateway"];

/// Puts what the pod asks for into the configuration, in whose ranges this node's own pod
/// CIDRs stand already.
///
/// # Errors
/// Code 7 for what the IPAM plugin cannot be asked for, or has no range of.
pub(in crate::verb) fn ask(document: &mut Document, config: &Config) -> Result<(), Error> {
    let (addresses, families) = (&config.annotations.addresses, &config.annotations.families);
    if families.is_empty() {
        return Ok(());
    }
    let kind = config.ipam_type.as_str();
    if !has_store(kind) {
        if let Some(address) = addresses.first() {
            let msg =
                format!("the pod asks for {address}, and ipam.type {kind} gives what it likes");
            let advice = "take the annotation ipAddrs away, or use manx-ipam or host-local";
            return Err(Error::new(Code::INVALID_CONFIG, msg).details(advice));
        }
        if kind == CALICO_IPAM {
            document.set_ipam(assigned(document.ipam(), families));
        }
        return Ok(());
    }
    let mut ipam = document.ipam().clone();
    let mut runtime = field(&document.object, "runtimeConfig").cloned().unwrap_or_default();
    let mut left = Vec::new();
    if let Some(section) = ipam.as_object_mut() {
        restrict(section, "ranges", families, &mut left);
        restrict_single(section, families, &mut left);
    }
    if let Some(section) = runtime.as_object_mut() {
        restrict(section, "ipRanges", families, &mut left);
        request(section, addresses);
    }
    if let Some(family) = families.iter().find(|family| !left.contains(family)) {
        let msg = format!("the pod asks for an {family} address, and ipam has no range of them");
        let advice = "give ipam a range of that family, or change the pod's annotations";
        return Err(Error::new(Code::INVALID_CONFIG, msg).details(advice));
    }
    document.object.retain(|key, _| !key.eq_ignore_ascii_case("runtimeConfig"));
    document.object.insert("runtimeConfig".into(), runtime);
    document.set_ipam(ipam);
    Ok(())
}

/// Refuses what a plugin gave beside what was asked for.
///
/// # Errors
/// Code 101 naming the address.
pub(super) fn require(config: &Config, given: &[IpAddr]) -> Result<(), Error> {
    let (addresses, families) = (&config.annotations.addresses, &config.annotations.families);
    let refuse = |msg: String| {
        Err(Error::new(Code::CONFLICT, msg).details("change the pod's annotations, or ipam"))
    };
    if let Some(address) = addresses.iter().find(|address| !given.contains(address)) {
        return refuse(format!("the pod asks for {address}, and {} gave others", config.ipam_type));
    }
    let strange = |address: &&IpAddr| !families.is_empty() && !families.contains(&address.family());
    if let Some(address) = given.iter().find(strange) {
        let kind = &config.ipam_type;
        return refuse(format!("{kind} gave {address}, and the pod asks for the other family"));
    }
    Ok(())
}

/// Calico's own words for it, which are texts.
fn assigned(ipam: &Value, families: &[Family]) -> Value {
    let mut ipam = ipam.clone();
    if let Some(section) = ipam.as_object_mut() {
        for (key, family) in [("assign_ipv4", Family::V4), ("assign_ipv6", Family::V6)] {
            section.insert(key.into(), families.contains(&family).to_string().into());
        }
    }
    ipam
}

/// Keeps the sets of ranges of these families, and notes which are there. What cannot be
/// read stays, and is told by whoever reads it.
fn restrict(
    section: &mut Map<String, Value>,
    key: &str,
    families: &[Family],
    left: &mut Vec<Family>,
) {
    let named = section.iter_mut().find(|(name, _)| name.eq_ignore_ascii_case(key));
    let Some(sets) = named.and_then(|(_, sets)| sets.as_array_mut()) else { return };
    sets.retain(|set| {
        let first = set.get(0).and_then(|range| member(range, "subnet"));
        let Some(family) = first.and_then(family_of) else { return true };
        left.push(family);
        families.contains(&family)
    });
}

fn restrict_single(section: &mut Map<String, Value>, families: &[Family], left: &mut Vec<Family>) {
    let Some(family) = field(section, "subnet").and_then(family_of) else { return };
    left.push(family);
    if !families.contains(&family) {
        section.retain(|key, _| !SINGLE.iter().any(|single| single.eq_ignore_ascii_case(key)));
    }
}

fn family_of(subnet: &Value) -> Option<Family> {
    cidr::parse(subnet.as_str()?).ok().map(|subnet| subnet.family())
}

/// Adds the addresses to those that the runtime itself asks for (`runtimeConfig.ips`), behind them.
fn request(runtime: &mut Map<String, Value>, addresses: &[IpAddr]) {
    if addresses.is_empty() {
        return;
    }
    let asked = runtime.entry(ADDRESSES).or_insert_with(|| json!([]));
    if let Some(asked) = asked.as_array_mut() {
        asked.push_all(addresses.iter().map(|address| Value::from(address.to_string())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cni::Version;

    fn asked(ipam: &Value, annotations: &Value) -> Result<Document, Error> {
        let object = json!({
            "name": "n", "type": "manx", "ipam": ipam,
            "runtimeConfig": {"io.kubernetes.cri.pod-annotations": annotations},
        });
        let mut document = Document::parse(object.to_string().into_bytes()).unwrap();
        let (config, complaints) = Config::read(&document, Version::NEWEST);
        assert_eq!(complaints, []);
        ask(&mut document, &config).map(|()| document)
    }

    fn dual() -> Value {
        json!({"type": "host-local", "Subnet": "10.1.0.0/24", "rangeStart": "10.1.0.5",
            "ranges": [[{"subnet": "fd00:1::/64"}], [{"subnet": "10.2.0.0/24"}]]})
    }

    #[test]
    fn a_family_leaves_its_ranges() {
        let annotation = |list: &str| json!({"cni.projectcalico.org/ipFamilies": list});
        let ipv6 = asked(&dual(), &annotation("[\"IPv6\"]")).unwrap();
        let ranges = json!({"type": "host-local", "ranges": [[{"subnet": "fd00:1::/64"}]]});
        assert_eq!(*ipv6.ipam(), ranges);
        let both = asked(&dual(), &annotation("[\"IPv6\", \"IPv4\"]")).unwrap();
        assert_eq!(*both.ipam(), dual());
        let only = json!({"type": "manx-ipam", "subnet": "10.1.0.0/24"});
        let error = asked(&only, &annotation("[\"IPv6\"]")).unwrap_err();
        assert!(error.msg.contains("IPv6"), "{error}");
        let bytes: Value = serde_json::from_slice(&ipv6.bytes).unwrap();
        assert_eq!(bytes["ipam"], ranges, "a delegate is asked the same");
    }

    #[test]
    fn an_address_is_asked_for_where_ranges_bind_it() {
        let annotations = json!({"cni.projectcalico.org/ipAddrs": "[\"10.2.0.9\"]"});
        let document = asked(&dual(), &annotations).unwrap();
        assert_eq!(document.object["runtimeConfig"]["ips"], json!(["10.2.0.9"]));
        assert_eq!(document.ipam()["ranges"], json!([[{"subnet": "10.2.0.0/24"}]]));
        for kind in ["static", "calico-ipam"] {
            let error = asked(&json!({"type": kind}), &annotations).unwrap_err();
            assert!(error.msg.contains(kind), "static would give whatever it is asked for");
        }
    }

    #[test]
    fn calicos_own_plugin_is_told_in_its_words() {
        let annotations = json!({"cni.projectcalico.org/ipFamilies": "[\"IPv6\"]"});
        let document = asked(&json!({"type": "calico-ipam"}), &annotations).unwrap();
        let wanted = json!({"type": "calico-ipam", "assign_ipv4": "false", "assign_ipv6": "true"});
        assert_eq!(*document.ipam(), wanted);
    }

    #[test]
    fn what_another_plugin_gives_is_compared() {
        let object = json!({"name": "n", "type": "manx", "ipam": {"type": "static"},
            "runtimeConfig": {"io.kubernetes.cri.pod-annotations":
                {"cni.projectcalico.org/ipFamilies": "[\"IPv4\"]"}}});
        let document = Document::parse(object.to_string().into_bytes()).unwrap();
        let (config, _) = Config::read(&document, Version::NEWEST);
        let [ipv4, ipv6] = ["10.1.0.5", "fd00::5"].map(|text| text.parse().unwrap());
        require(&config, &[ipv4]).unwrap();
        assert!(require(&config, &[ipv4, ipv6]).unwrap_err().msg.contains("fd00::5"));
    }
}
