// SPDX-License-Identifier: Apache-2.0
//! Nodes with what Calico notes on them.

use std::net::IpAddr;

use super::super::watched::Kind;
use crate::{
    fabric::nodes::{
        Record,
        object::{Notes, Object},
    },
    family::{Family, HasFamily},
    list::Gather,
};
use ipnetwork::IpNetwork;

/// Nodes with Calico's annotations.
#[derive(Debug)]
pub(crate) struct CalicoNodes;

/// A Node with Calico's annotations.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct CalicoNode {
    pub(crate) record: Record,
    pub(crate) notes: Notes,
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
        let noted: Vec<IpNetwork> = noted.filter_map(|text| text.parse().ok()).gather();
        let of_family =
            |list: &[IpNetwork]| list.iter().copied().find(|network| network.family() == family);
        if !noted.is_empty() {
            return of_family(&noted);
        }
        let status = self.record.addresses.iter();
        let status = status.filter_map(|text| Some(text.parse::<IpAddr>().ok()?.into()));
        of_family(&status.gather())
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
        self.notes.ipip()
    }

    /// The address of its end of VXLAN tunnels.
    pub(super) fn vxlan(&self, family: Family) -> Option<IpAddr> {
        self.notes.vxlan(family)
    }

    /// The MAC address of its end of VXLAN tunnels, if it does not follow from its name.
    pub(super) fn mac(&self) -> Option<Box<str>> {
        self.notes.mac()
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
