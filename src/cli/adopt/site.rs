// SPDX-License-Identifier: Apache-2.0
//! What a node is seen to have when it is asked what another plugin left on it. Data
//! alone: [`look`](super::look) fills it, and everything else is made of it.

use std::{net::IpAddr, path::PathBuf};

use ipnetwork::IpNetwork;
use serde_json::Value;

use super::{
    cache::Cached,
    chains::{self, Left, Marks},
    ends::End,
};
use crate::{
    cni::json::member,
    family::Family,
    list::Gather,
    net::link::Link,
    node::{Barrier, File, Pool, Snapshot},
    pod::Identity,
    state::Entry,
};

/// What Calico's host links are called.
pub(super) const HOST_LINK: &str = "cali";

/// Whose node it was.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Former {
    Calico,
    Flannel,
}

impl Former {
    pub(super) const ALL: [Self; 2] = [Self::Calico, Self::Flannel];

    /// The name of the project, and the type in its configurations.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Calico => "calico",
            Self::Flannel => "flannel",
        }
    }

    /// The processes of its agent, by the kernel's names of them.
    pub(super) fn agents(self) -> &'static [&'static str] {
        match self {
            Self::Calico => &["calico-node"],
            Self::Flannel => &["flanneld"],
        }
    }

    pub(super) fn marks(self) -> Marks {
        match self {
            Self::Calico => chains::CALICO,
            Self::Flannel => chains::FLANNEL,
        }
    }

    /// Whether a link is one of its tunnels.
    pub(super) fn is_tunnel(self, name: &str) -> bool {
        match self {
            Self::Calico => {
                ["tunl0", "vxlan.calico", "vxlan-v6.calico", "wireguard.cali", "wg-v6.cali"]
                    .contains(&name)
            }
            Self::Flannel => name.starts_with("flannel.") || name.starts_with("flannel-v6."),
        }
    }
}

/// The backends of iptables.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Backend {
    Nft,
    Legacy,
}

impl Backend {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Nft => "iptables-nft",
            Self::Legacy => "iptables-legacy",
        }
    }
}

/// What an agent left in one backend.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) backend: Backend,
    pub(super) family: Family,
    pub(super) left: Vec<Left>,
    /// What stops pods' packets when that is gone.
    pub(super) barriers: Vec<Barrier>,
    /// The program that puts rules back.
    pub(super) restore: String,
}

/// What an agent left in the firewall.
#[derive(Clone, Debug, Default)]
pub(super) struct Remainder {
    pub(super) rules: Vec<Rules>,
    /// Tables of nf_tables that Felix made without iptables: family and name.
    pub(super) tables: Vec<(String, String)>,
    /// What links may send from besides their pods' addresses.
    pub(super) sources: Vec<(String, IpNetwork)>,
    /// What could not be read, and why.
    pub(super) unread: Vec<String>,
}

/// The network that is to serve the pods, as its file has it.
#[derive(Clone, Debug)]
pub(super) struct Ours {
    pub(super) path: PathBuf,
    /// The same in the directory in which runtimes look, if it is there.
    pub(super) listed: Option<PathBuf>,
    pub(super) network: String,
    pub(super) ipam: Value,
    /// Pods may ask for further sources.
    pub(super) serves_sources: bool,
}

impl Ours {
    pub(super) fn ipam_type(&self) -> &str {
        member(&self.ipam, "type").and_then(Value::as_str).unwrap_or_default()
    }
}

/// What the API server says of the node, as far as it was asked.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct NodeObject {
    pub(super) name: String,
    /// The reason of the condition NetworkUnavailable, where that is true.
    pub(super) unavailable: Option<String>,
    pub(super) cordoned: bool,
}

/// A node.
#[derive(Clone, Debug)]
pub(super) struct Site {
    pub(super) former: Former,
    pub(super) snapshot: Snapshot,
    pub(super) ours: Option<Ours>,
    /// The directory of configurations, and all its files.
    pub(super) directory: PathBuf,
    pub(super) files: Vec<File>,
    pub(super) cached: Vec<Cached>,
    /// The other ends of the node's pairs, as far as they were seen.
    pub(super) ends: Vec<End>,
    pub(super) firewall: Remainder,
    /// Programs of eBPF that its agent left, and what they keep.
    pub(super) programs: Vec<String>,
    /// Numbers and names of processes.
    pub(super) agents: Vec<(u32, String)>,
    /// Whether pods behind the bridge find what is not.
    pub(super) proxy_arp: bool,
    /// Or why it is not known.
    pub(super) node: Result<NodeObject, String>,
}

impl Site {
    /// The attachment of our journal, if there is one.
    pub(super) fn noted(&self, cached: &Entry) -> Option<&Entry> {
        self.snapshot.journal.iter().find(|entry| {
            (&entry.container_id, &entry.ifname) == (&cached.container_id, &cached.ifname)
        })
    }

    /// Where our network's addresses are from, if there is a store of leases.
    pub(super) fn pool(&self) -> Option<&Pool> {
        self.snapshot.networks.first()?.pool.as_ref()
    }

    /// Those of these addresses that our network gives to pods.
    pub(super) fn in_range(&self, addresses: &[IpAddr]) -> Vec<IpAddr> {
        let ranges = || self.pool().into_iter().flat_map(|pool| &pool.ranges);
        let inside = |address: &&IpAddr| ranges().any(|range| range.contains(**address));
        addresses.iter().filter(inside).copied().gather()
    }

    /// Whether everything of a pod is ours: its entry, its link, its leases.
    pub(super) fn is_whole(&self, cached: &Entry, link: &Link) -> bool {
        let Some(entry) = self.noted(cached) else { return false };
        let is_marked = entry.bridged || link.alias == Some(Identity::from(entry).alias());
        let ours = self.ours.as_ref().map(|ours| &ours.network);
        let leases = || self.pool().into_iter().flat_map(|pool| &pool.leases);
        let is_leased = |address: &IpAddr| {
            leases().any(|lease| lease.address == *address && lease.is_of(entry))
        };
        let own = self.in_range(&entry.addresses);
        let has_sources = self.sources(&link.name).iter().all(|it| entry.sources.contains(it));
        is_marked && has_sources && (ours != Some(&entry.network) || own.iter().all(is_leased))
    }
}
