// SPDX-License-Identifier: Apache-2.0
//! The networks of a node: where their addresses are from, and how their routes to other
//! nodes stand.

use std::{net::IpAddr, path::PathBuf};

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use crate::{
    fabric::pools,
    family::{Family, HasFamily},
    object::Told,
    state::Entry,
};

/// A network of ours.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Network {
    /// Its name.
    pub name: String,
    /// The file that configures it.
    pub file: PathBuf,
    /// First letters of the names of its host links.
    pub host_prefix: String,
    /// Whether forwarding is turned on for its pods.
    pub manages_forwarding: bool,
    /// Whether its pods' packets leave with the node's address.
    pub masquerades: bool,
    /// The MTU that fits the node's links, in bytes: that of a pod of IPv4 alone, and of
    /// one with IPv6. None where it cannot be told.
    pub mtu: Option<(u32, u32)>,
    /// The MTU that is configured, in bytes.
    pub configured_mtu: Option<u32>,
    /// What its pods send is dropped where the source does not lead back to them.
    pub checks_sources: bool,
    /// Whether network policies are enforced on its pods.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub enforces_policy: bool,
    /// Destinations that see the pods' own addresses, besides the pods of all nodes.
    pub never_masqueraded: Vec<IpNetwork>,
    /// Where its addresses are from.
    pub pool: Option<Pool>,
    /// How its routes to other nodes stand, where it has any.
    pub fabric: Option<Fabric>,
    /// What its live attachments lack on the node's side: a conclusion.
    pub repairs: Vec<Told>,
    /// In what its nftables table differs: a conclusion, or why that is not known.
    pub table: Vec<String>,
    /// Why nothing is known of it to whoever may not read it, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table_unseen: Option<String>,
    /// What that table does without, and why: a conclusion.
    pub table_note: Option<String>,
}

/// The addresses of a network, where a store of leases can be read.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Pool {
    /// The directory of the leases.
    pub directory: PathBuf,
    /// The ranges.
    pub ranges: Vec<Range>,
    /// What is leased.
    pub leases: Vec<Lease>,
    /// Whether other plugins have addresses of this store.
    pub shared: bool,
    /// Ranges that are not this node's by its peers file.
    pub misfits: Vec<Misfit>,
    /// Why its ranges are not known, if so.
    pub problem: Option<String>,
}

/// A range of addresses.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Range {
    /// Where it is written.
    pub path: String,
    /// Which set it is of: a pod gets an address of each.
    pub set: usize,
    /// Its first address.
    pub first: IpAddr,
    /// Its last address.
    pub last: IpAddr,
    /// How many addresses it has to give; as text, for it may be above 2^53.
    pub size: String,
}

impl Network {
    /// The MTU that fits a pod with these addresses.
    pub fn mtu_of(&self, addresses: &[IpAddr]) -> Option<u32> {
        let (ipv4, ipv6) = self.mtu?;
        Some(match Family::greatest(addresses) {
            Family::V4 => ipv4,
            Family::V6 => ipv6,
        })
    }
}

impl Range {
    /// Whether an address lies in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.first <= address && address <= self.last && address.family() == self.first.family()
    }

    /// Whether the two have addresses in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.first.family() == other.first.family()
            && self.first <= other.last
            && other.first <= self.last
    }

    /// How many addresses it has to give.
    pub fn size(&self) -> u128 {
        self.size.parse().unwrap_or_default()
    }
}

/// A lease of an address.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Lease {
    /// The address.
    pub address: IpAddr,
    /// Whose.
    pub container_id: String,
    /// The interface; none in host-local's older format.
    pub ifname: Option<String>,
}

impl Lease {
    /// Whether it is this attachment's.
    pub fn is_of(&self, entry: &Entry) -> bool {
        let same = self.ifname.as_ref().is_none_or(|ifname| *ifname == entry.ifname);
        same && self.container_id == entry.container_id
    }
}

/// A range that is not this node's.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Misfit {
    /// Whether it has addresses of another node's pods.
    pub of_peer: bool,
    /// In words.
    pub text: String,
    /// What to do about it.
    pub fix: String,
}

impl From<&pools::Misfit> for Misfit {
    fn from(misfit: &pools::Misfit) -> Self {
        let fix = misfit.fix().to_owned();
        Self { of_peer: misfit.is_of_peer(), text: misfit.to_string(), fix }
    }
}

/// The routes between nodes.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Fabric {
    /// The peers file.
    pub peers_file: PathBuf,
    /// What is wrong with it, if so.
    pub problem: Option<String>,
    /// Why nothing was compared, if so.
    pub failure: Option<Failure>,
    /// The protocol of its routes.
    pub protocol: u8,
    /// Whether a fabric was applied since boot.
    pub applied: bool,
    /// Whether it was applied by the file as it is now.
    pub is_current: bool,
    /// This node by the file.
    pub node: String,
    /// This node's addresses by the file.
    pub addresses: Vec<IpAddr>,
    /// Where the file names nobody whose address this machine has: to whom it gives the pod CIDRs
    /// that were this node's when it was applied last, and that node's addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heir: Option<(String, Vec<IpAddr>)>,
    /// The pod CIDRs of this node.
    pub own_cidrs: Vec<IpNetwork>,
    /// Those of the other nodes.
    pub remote_cidrs: Vec<IpNetwork>,
    /// The kernel's module for its tunnels, where it has any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
    /// The mode by which packets of peers may come besides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepts: Option<String>,
    /// Keys of the file that nothing reads, as a sentence.
    pub unread: Option<String>,
    /// Nodes that are left out, each with the reason.
    pub left_out: Vec<String>,
    /// What is to be changed: a conclusion, as what follows.
    pub changes: Vec<Told>,
    /// What single peers lack, and no change mends.
    pub wanting: Vec<String>,
    /// What all peers lack, and no change mends.
    pub not_ready: Vec<String>,
    /// What an operator should know besides.
    pub notes: Vec<String>,
}

/// Why a fabric was not compared.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Failure {
    /// The configuration contradicts the peers file, or another network's. Else the
    /// kernel does not answer.
    pub of_configuration: bool,
    /// In words, of this network where they name nothing else.
    pub text: String,
    /// What to do about it.
    pub fix: String,
}
