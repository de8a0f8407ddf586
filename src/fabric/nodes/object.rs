// SPDX-License-Identifier: Apache-2.0
//! Nodes as the API server sends them and `kubectl` prints them, of which nothing is read
//! but what counts: a Node is some 10 KB, and what is kept of it some hundred bytes.

use std::net::IpAddr;

use serde::{Deserialize, de::IgnoredAny};

use super::record::{Record, Tunnel};
use crate::family::{Family, HasFamily};
use crate::list::Gather;

/// The type of an address by which nodes reach each other.
const INTERNAL: &str = "InternalIP";

/// So much is kept of what one Node says, for every other node keeps it: of its addresses and
/// of its podCIDRs, which are one of each family on a node as it should be.
const ITEMS_MAX: usize = 8;
/// In bytes. No address is longer, with a prefix length.
const TEXT_MAX: usize = 64;

/// What each object has, as far as it counts.
#[derive(Clone, Debug, Deserialize)]
#[serde(bound = "A: Deserialize<'de>", rename_all = "camelCase")]
pub struct Metadata<A = IgnoredAny> {
    /// Its name.
    pub name: Box<str>,
    /// What it is known by for its whole life.
    #[serde(default)]
    pub uid: Box<str>,
    /// As of which version of the store it is so.
    #[serde(default)]
    pub resource_version: String,
    /// RFC 3339.
    #[serde(default)]
    pub creation_timestamp: Option<Box<str>>,
    /// Those of its annotations that are read.
    #[serde(default)]
    pub annotations: Option<A>,
}

/// A Node, with what is read of its annotations.
#[derive(Clone, Debug, Deserialize)]
#[serde(bound = "A: Deserialize<'de>")]
pub struct Object<A = IgnoredAny> {
    metadata: Metadata<A>,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default, rename = "podCIDR")]
    pod_cidr: Option<Box<str>>,
    #[serde(default, rename = "podCIDRs")]
    pod_cidrs: Option<Vec<Box<str>>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Status {
    #[serde(default)]
    addresses: Option<Vec<Address>>,
}

#[derive(Clone, Debug, Deserialize)]
struct Address {
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    address: Box<str>,
}

impl<A: Default> Object<A> {
    /// By what it is known.
    pub fn metadata(&self) -> &Metadata<A> {
        &self.metadata
    }

    /// What counts of it, and its annotations.
    pub fn into_parts(self) -> (Record, A) {
        let Self { metadata, spec, status } = self;
        let pod_cidrs = spec.pod_cidrs.filter(|list| !list.is_empty());
        let pod_cidrs = pod_cidrs.unwrap_or_else(|| spec.pod_cidr.into_iter().gather());
        let addresses = status.addresses.into_iter().flatten();
        let record = Record {
            name: metadata.name,
            uid: metadata.uid,
            created: metadata.creation_timestamp.unwrap_or_default(),
            addresses: bounded(addresses.filter(|one| one.kind == INTERNAL).map(|one| one.address)),
            pod_cidrs: bounded(pod_cidrs.into_iter().filter(|text| !text.is_empty())),
            tunnel: None,
        };
        (record, metadata.annotations.unwrap_or_default())
    }
}

/// The first of them, and nothing of a text that is too long to be one.
fn bounded(texts: impl Iterator<Item = Box<str>>) -> Vec<Box<str>> {
    let shortened = |text: Box<str>| if text.len() <= TEXT_MAX { text } else { Box::default() };
    texts.take(ITEMS_MAX).map(shortened).gather()
}

/// Calico's annotations.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(default)]
pub struct Notes {
    /// The address of the node.
    #[serde(rename = "projectcalico.org/IPv4Address")]
    pub ipv4: Option<Box<str>>,
    /// The same of IPv6.
    #[serde(rename = "projectcalico.org/IPv6Address")]
    pub ipv6: Option<Box<str>>,
    #[serde(rename = "projectcalico.org/IPv4IPIPTunnelAddr")]
    ipip: Option<Box<str>>,
    #[serde(rename = "projectcalico.org/IPv4VXLANTunnelAddr")]
    vxlan: Option<Box<str>>,
    #[serde(rename = "projectcalico.org/IPv6VXLANTunnelAddr")]
    vxlan_v6: Option<Box<str>>,
    #[serde(rename = "projectcalico.org/VXLANTunnelMACAddr")]
    mac: Option<Box<str>>,
    #[serde(rename = "projectcalico.org/VXLANTunnelMACAddrV6")]
    mac_v6: Option<Box<str>>,
}

impl Notes {
    /// The address of the node's end of IP in IP tunnels.
    pub fn ipip(&self) -> Option<IpAddr> {
        let address: IpAddr = self.ipip.as_ref()?.parse().ok()?;
        Some(address).filter(IpAddr::is_ipv4)
    }

    /// The address of its end of VXLAN tunnels.
    pub fn vxlan(&self, family: Family) -> Option<IpAddr> {
        let text = match family {
            Family::V4 => &self.vxlan,
            Family::V6 => &self.vxlan_v6,
        };
        text.as_ref()?.parse().ok().filter(|address: &IpAddr| address.family() == family)
    }

    /// The MAC address of its end of VXLAN tunnels, if it does not follow from its name.
    pub fn mac(&self) -> Option<Box<str>> {
        self.mac.clone().or_else(|| self.mac_v6.clone())
    }

    /// Its end of the tunnels that it has, by whichever of the two.
    pub fn tunnel(&self) -> Option<Tunnel> {
        let vxlan: Vec<IpAddr> = Family::BOTH.into_iter().filter_map(|it| self.vxlan(it)).gather();
        let tunnel = match vxlan.is_empty() {
            true => Tunnel { addresses: self.ipip().into_iter().gather(), mac: None },
            false => Tunnel { addresses: vxlan, mac: self.mac() },
        };
        (!tunnel.addresses.is_empty()).then_some(tunnel)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_counts_of_a_node_is_read_whatever_else_is_there() {
        let node = json!({
            "kind": "Node", "apiVersion": "v1",
            "metadata": {"name": "n1", "uid": "u1", "resourceVersion": "7",
                "creationTimestamp": "2026-11-27T09:00:00Z", "labels": {"a": "b"},
                "managedFields": [{"manager": "kubelet"}]},
            "spec": {"podCIDR": "10.0.1.0/24", "podCIDRs": ["10.0.1.0/24", "fd00:1::/64"]},
            "status": {"addresses": [
                {"type": "Hostname", "address": "n1"},
                {"type": "ExternalIP", "address": "203.0.113.1"},
                {"type": "InternalIP", "address": "192.0.2.1"},
                {"type": "InternalIP", "address": "2001:db8::1"}], "images": [{"names": []}]}
        });
        let object: Object = serde_json::from_value(node).unwrap();
        let metadata = object.metadata();
        assert_eq!((&*metadata.name, &*metadata.resource_version), ("n1", "7"));
        let record = object.into_parts().0;
        assert_eq!((&*record.uid, &*record.created), ("u1", "2026-11-27T09:00:00Z"));
        assert_eq!(record.addresses, ["192.0.2.1".into(), "2001:db8::1".into()]);
        assert_eq!(record.pod_cidrs, ["10.0.1.0/24".into(), "fd00:1::/64".into()]);
    }

    #[test]
    fn a_node_that_was_just_made_has_next_to_nothing() {
        for (spec, pods) in [
            (json!({}), 0),
            (json!({"podCIDR": "", "podCIDRs": null}), 0),
            (json!({"podCIDR": "10.0.1.0/24"}), 1),
            (json!({"podCIDR": "10.0.1.0/24", "podCIDRs": []}), 1),
        ] {
            let node = json!({"metadata": {"name": "n1", "creationTimestamp": null}, "spec": spec,
                "status": {"addresses": null}});
            let record = serde_json::from_value::<Object>(node).unwrap().into_parts().0;
            assert_eq!((record.addresses.len(), record.pod_cidrs.len()), (0, pods), "{record:?}");
        }
    }

    /// The API server takes a status of a megabyte, and has no bound of its own.
    #[test]
    fn no_more_is_kept_of_a_node_than_nodes_have() {
        let addresses: Vec<_> = (0..50_000)
            .map(|number| json!({"type": "InternalIP", "address": format!("10.{}.{}.1", number / 250, number % 250)}))
            .collect();
        let long = "1".repeat(1 << 20);
        let node = json!({"metadata": {"name": "n1"}, "spec": {"podCIDRs": vec!["10.0.0.0/24"; 1000]},
            "status": {"addresses": addresses}});
        let record = serde_json::from_value::<Object>(node).unwrap().into_parts().0;
        assert_eq!((record.addresses.len(), record.pod_cidrs.len()), (ITEMS_MAX, ITEMS_MAX));
        let node = json!({"metadata": {"name": "n1"}, "spec": {"podCIDR": long},
            "status": {"addresses": [{"type": "InternalIP", "address": long}]}});
        let record = serde_json::from_value::<Object>(node).unwrap().into_parts().0;
        assert_eq!((&record.addresses, &record.pod_cidrs), (&vec!["".into()], &vec!["".into()]));
    }
}
