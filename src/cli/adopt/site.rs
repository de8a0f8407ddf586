//! What a node is seen to have when it is asked what another plugin left on it. Data
//! alone: [`look`](super::look) fills it, and everything else is made of it.

use std::path::PathBuf;

use serde_json::Value;

use super::{
    cache::Cached,
    chains::{self, Left, Marks},
};
use crate::{
    cni::json::member,
    family::Family,
    node::{File, Snapshot},
    state::Entry,
};

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
    /// The program that puts rules back.
    pub(super) restore: String,
}

/// The network that is to serve the pods, as its file has it.
#[derive(Clone, Debug)]
pub(super) struct Ours {
    pub(super) path: PathBuf,
    pub(super) network: String,
    pub(super) ipam: Value,
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
    /// All files of the directory of configurations.
    pub(super) files: Vec<File>,
    pub(super) cached: Vec<Cached>,
    pub(super) rules: Vec<Rules>,
    /// Tables of nf_tables that Felix made without iptables: family and name.
    pub(super) tables: Vec<(String, String)>,
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
}
