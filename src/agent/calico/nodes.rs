// SPDX-License-Identifier: Apache-2.0
//! Nodes with what Calico notes on them.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::Deserialize;

use super::super::{nodes::Object, record::Record, watched::Kind};
use crate::family::{Family, HasFamily};

/// Nodes with Calico's annotations.
#[derive(Debug)]
pub(crate) struct CalicoNodes;

/// A Node with Calico's annotations.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct CalicoNode {
    pub(crate) record: Record,
    pub(crate) notes: Notes,
}

/// Calico's annotations.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(default)]
pub(crate) struct Notes {
    #[serde(rename = "projectcalico.org/IPv4Address")]
    ipv4: Option<Box<str>>,
    #[serde(rename = "projectcalico.org/IPv6Address")]
    ipv6: Option<Box<str>>,
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

impl Kind for CalicoNodes {
    type Object = Object<Notes>;
    type Value = CalicoNode;
    const NAME: &'static str = "Nodes";
    const RESOURCE: &'static str = "nodes";

    fn value(object: Self::Object) -> CalicoNode {
        let (record, notes) = object.into_parts();
        CalicoNode { record, notes }
    }
}

impl CalicoNode {
    pub(super) fn name(&self) -> &str {
        &self.record.name
    }

    /// Its address, with the prefix length of its subnet where Calico noted that. What
    /// the Node's status says counts where Calico has noted none of either family.
    pub(super) fn address(&self, family: Family) -> Option<IpNetwork> {
        let noted = [&self.notes.ipv4, &self.notes.ipv6].into_iter().flatten();
        let noted: Vec<IpNetwork> = noted.filter_map(|text| text.parse().ok()).collect();
        let of_family =
            |list: &[IpNetwork]| list.iter().copied().find(|network| network.family() == family);
        if !noted.is_empty() {
            return of_family(&noted);
        }
        let status = self.record.addresses.iter();
        let status = status.filter_map(|text| Some(text.parse::<IpAddr>().ok()?.into()));
        of_family(&status.collect::<Vec<_>>())
    }

    /// Whether Calico noted its address.
    pub(super) fn has_noted(&self, family: Family) -> bool {
        match family {
            Family::V4 => self.notes.ipv4.is_some(),
            Family::V6 => self.notes.ipv6.is_some(),
        }
    }

    /// The address of its end of IP in IP tunnels.
    pub(super) fn ipip(&self) -> Option<IpAddr> {
        let address: IpAddr = self.notes.ipip.as_ref()?.parse().ok()?;
        Some(address).filter(IpAddr::is_ipv4)
    }

    /// The address of its end of VXLAN tunnels.
    pub(super) fn vxlan(&self, family: Family) -> Option<IpAddr> {
        let text = match family {
            Family::V4 => &self.notes.vxlan,
            Family::V6 => &self.notes.vxlan_v6,
        };
        text.as_ref()?.parse().ok().filter(|address: &IpAddr| address.family() == family)
    }

    /// The MAC address of its end of VXLAN tunnels, if it does not follow from its name.
    pub(super) fn mac(&self) -> Option<Box<str>> {
        self.notes.mac.clone().or_else(|| self.notes.mac_v6.clone())
    }
}

/// The annotation of a node's address.
pub(super) fn address_note(family: Family) -> &'static str {
    match family {
        Family::V4 => "projectcalico.org/IPv4Address",
        Family::V6 => "projectcalico.org/IPv6Address",
    }
}

/// The annotation of the end of a VXLAN tunnel.
pub(super) fn vxlan_note(family: Family) -> &'static str {
    match family {
        Family::V4 => "projectcalico.org/IPv4VXLANTunnelAddr",
        Family::V6 => "projectcalico.org/IPv6VXLANTunnelAddr",
    }
}

/// The annotation of the end of an IP in IP tunnel.
pub(super) const IPIP_NOTE: &str = "projectcalico.org/IPv4IPIPTunnelAddr";
