// SPDX-License-Identifier: Apache-2.0
//! The kernel's parameters that matter for pods' traffic: what each is, who set it, and
//! what it should be at least.
//!
//! No value is made smaller, and what costs memory or time is asked for only where the
//! kernel shows the need of it: a longer queue makes a node that keeps up slower.

mod assigned;

pub use assigned::{assigned, dotted, key_of};

use crate::{
    family::{Family, HasFamily},
    list::{Gather, PushAll},
    net::forwarding,
    node::{Counters, Snapshot},
    object::reverse_path,
};

pub(super) const MAX: &str = "net/netfilter/nf_conntrack_max";
pub(super) const COUNT: &str = "net/netfilter/nf_conntrack_count";
const BUCKETS: &str = "net/netfilter/nf_conntrack_buckets";
pub(super) const TIME_WAIT: &str = "net/netfilter/nf_conntrack_tcp_timeout_time_wait";
pub(super) const BACKLOG: &str = "net/core/netdev_max_backlog";
/// When neighbours that nobody asks for are forgotten, when all but the newest, and how
/// many there may be; with the kernel's defaults.
const NEIGHBOURS: [(&str, u64); 3] =
    [("gc_thresh1", 128), ("gc_thresh2", 512), ("gc_thresh3", 1024)];

/// What a snapshot needs for it, beside the parameters of links.
pub const KEYS: [&str; 11] = [
    MAX,
    COUNT,
    BUCKETS,
    TIME_WAIT,
    BACKLOG,
    "net/ipv4/neigh/default/gc_thresh1",
    "net/ipv4/neigh/default/gc_thresh2",
    "net/ipv4/neigh/default/gc_thresh3",
    "net/ipv6/neigh/default/gc_thresh1",
    "net/ipv6/neigh/default/gc_thresh2",
    "net/ipv6/neigh/default/gc_thresh3",
];

/// Connections that a busy node has room for.
const CONNECTIONS: u64 = 131_072;
/// What one takes of memory, in bytes.
pub(super) const CONNECTION_BYTES: u64 = 320;
/// The part of the memory that connections may take.
const MEMORY_PART: u64 = 16;
/// How long a closed connection is remembered by a node that lacks room, in seconds; the
/// kernel's default is 120.
const TIME_WAIT_SECONDS: u64 = 30;
/// Packets that may wait for a processor.
const PACKETS: u64 = 5000;

/// A parameter.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Setting {
    /// Its path below /proc/sys.
    pub key: String,
    /// What it is.
    pub current: u64,
    /// Who set it.
    pub source: String,
    /// What it should be, if not that.
    pub recommended: Option<u64>,
    /// Why, or what was looked at.
    pub reason: String,
}

/// What is thought of a parameter.
struct Opinion {
    key: String,
    /// What the kernel begins with.
    default: u64,
    /// What it should be.
    wanted: Option<u64>,
    /// Less is better.
    falls: bool,
    reason: String,
}

impl Opinion {
    fn new(key: impl Into<String>, default: u64, wanted: Option<u64>, reason: String) -> Self {
        Self { key: key.into(), default, wanted, falls: false, reason }
    }

    /// With what there is; nothing of a parameter that the kernel does not have.
    fn compare(self, snapshot: &Snapshot) -> Option<Setting> {
        let Self { key, default, wanted, falls, reason } = self;
        let current = snapshot.kernel.number(&key)?;
        let assigned = assigned(&key, &snapshot.surroundings.assignments);
        let of_file = assigned.and_then(|one| one.value.as_ref()?.parse::<u64>().ok());
        // A file that asks for more is not overruled.
        let better = |one: u64, two: u64| if falls { one.min(two) } else { one.max(two) };
        let wanted = wanted.map(|wanted| of_file.map_or(wanted, |value| better(wanted, value)));
        let recommended =
            wanted.filter(|wanted| *wanted != current && better(current, *wanted) == *wanted);
        let source = match (assigned, of_file) {
            (Some(one), Some(value)) if value == current => {
                format!("{}:{}", one.file.display(), one.line)
            }
            (Some(one), _) => {
                let value = one.value.as_deref().unwrap_or_default();
                format!("a program ({}:{} says {value})", one.file.display(), one.line)
            }
            (None, _) if current == default => "the kernel's default".to_owned(),
            (None, _) => "a program".to_owned(),
        };
        Some(Setting { key, current, source, recommended, reason })
    }
}

/// All of them.
pub fn settings(snapshot: &Snapshot) -> Vec<Setting> {
    let forwards = "without it the kernel drops every packet that is not for the node itself";
    let mut all = vec![Opinion::new(forwarding::IPV4, 0, Some(1), forwards.to_owned())];
    all.push_all(connections(snapshot));
    all.push(backlog(snapshot));
    all.push_all(Family::BOTH.into_iter().flat_map(|family| neighbours(family, snapshot)));
    all.push_all(reverse_paths(snapshot));
    all.into_iter().filter_map(|opinion| opinion.compare(snapshot)).gather()
}

/// How much each counter grew.
fn growth(snapshot: &Snapshot) -> Counters {
    let (before, after) = snapshot.surroundings.counters.unwrap_or_default();
    let grew = |of: fn(&Counters) -> u64| of(&after).saturating_sub(of(&before));
    Counters {
        insert_failed: grew(|one| one.insert_failed),
        dropped: grew(|one| one.dropped),
        early_dropped: grew(|one| one.early_dropped),
        backlog_dropped: grew(|one| one.backlog_dropped),
        squeezed: grew(|one| one.squeezed),
    }
}

/// Those of the table of connections.
fn connections(snapshot: &Snapshot) -> [Opinion; 2] {
    let number = |key| snapshot.kernel.number(key).unwrap_or_default();
    let (count, max, buckets) = (number(COUNT), number(MAX), number(BUCKETS));
    let Counters { insert_failed, dropped, early_dropped, .. } = growth(snapshot);
    let is_full = count.saturating_mul(4) > max.saturating_mul(3);
    let lacks_room = is_full || dropped > 0 || early_dropped > 0;
    let has_symptom = lacks_room || insert_failed > 0;
    let seen = format!(
        "{count} of {max} entries are in use, and within a moment insert_failed grew by \
         {insert_failed}, early_drop by {early_dropped}, drop by {dropped}"
    );
    let more = if lacks_room { max.saturating_mul(2) } else { 0 };
    let wanted = CONNECTIONS.max(more);
    let limit = match snapshot.surroundings.memory_bytes / MEMORY_PART / CONNECTION_BYTES {
        0 => wanted,
        limit => limit,
    };
    let wanted = has_symptom.then_some(wanted.min(limit));
    let reason = match wanted {
        Some(wanted) if wanted > max => {
            let mebibytes = wanted.saturating_mul(CONNECTION_BYTES) >> 20;
            format!("{seen}; {wanted} entries take {mebibytes} MiB of memory")
        }
        Some(_) => format!("{seen}; more is not for this machine's memory, or would not help"),
        None => seen.clone(),
    };
    // By the memory of the machine: as many as there are lists, or four times that.
    let default = if max == buckets.saturating_mul(4) { max } else { buckets };
    [
        Opinion::new(MAX, default, wanted, reason),
        Opinion {
            falls: true,
            ..Opinion::new(TIME_WAIT, 120, lacks_room.then_some(TIME_WAIT_SECONDS), seen)
        },
    ]
}

/// A packet for a pod waits in a processor's queue.
fn backlog(snapshot: &Snapshot) -> Opinion {
    let Counters { backlog_dropped, squeezed, .. } = growth(snapshot);
    // More room does not make a processor faster.
    let wanted = (backlog_dropped > 0).then_some(PACKETS);
    let is_long = snapshot.kernel.number(BACKLOG).is_some_and(|current| current >= PACKETS);
    let longer = match wanted {
        Some(_) if is_long => "; the queue is long already: the processors are too slow for it",
        _ => "",
    };
    let reason = format!(
        "within a moment processors dropped {backlog_dropped} packets for want of room in their \
         queues, and {squeezed} times ran out of time{longer}"
    );
    Opinion::new(BACKLOG, 1000, wanted, reason)
}

/// Each node of a subnet may be a neighbour of each. Entries of tunnels are permanent, and
/// do not count.
fn neighbours(family: Family, snapshot: &Snapshot) -> Vec<Opinion> {
    let nodes = |fabric: &crate::node::OfFabric| {
        let nodes = fabric.peers.others.iter();
        nodes.filter(|node| node.addresses.iter().any(|ip| ip.family() == family)).count()
    };
    let nodes = snapshot.compared.fabrics.iter().map(nodes).max().unwrap_or_default();
    let (version, nodes) = (if family == Family::V4 { 4 } else { 6 }, nodes as u64);
    let factor = nodes.next_power_of_two().div_ceil(128).max(1);
    let opinion = |(name, default): (&str, u64)| {
        let reason = format!(
            "{nodes} other nodes may be neighbours: up to gc_thresh1 none is forgotten, above \
             gc_thresh3 none is let in"
        );
        let key = format!("net/ipv{version}/neigh/default/{name}");
        Opinion::new(key, default, Some(default.saturating_mul(factor)), reason)
    };
    NEIGHBOURS.map(opinion).into()
}

/// Links by which packets of other nodes come: with the strict filter those are dropped
/// whose way back is another link. The greater of a link's value and that of all counts.
fn reverse_paths(snapshot: &Snapshot) -> Vec<Opinion> {
    let kernel = &snapshot.kernel;
    let (before, after) = snapshot.surroundings.reverse_path.unwrap_or_default();
    let dropped = after.saturating_sub(before);
    let own: Vec<_> = snapshot
        .networks
        .iter()
        .filter_map(|network| network.fabric.as_ref())
        .flat_map(|fabric| &fabric.addresses)
        .filter(|address| address.is_ipv4())
        .gather();
    let is_uplink = |index| {
        let mut addresses = kernel.addresses.iter().filter(|(link, _)| *link == index);
        addresses.any(|(_, address)| own.contains(&&address.ip()))
    };
    let all = kernel.number(&reverse_path("all")).unwrap_or_default();
    let links = kernel.links.iter().filter(|link| link.name != "lo" && is_uplink(link.index));
    let opinion = |name: &str| {
        let key = reverse_path(name);
        let is_strict = all.max(kernel.number(&key).unwrap_or_default()) == 1;
        let reason = match is_strict {
            true => format!(
                "it filters strictly, by its own value or that of all links, and {dropped} packets \
                 were dropped within a moment; while the fabric changes its mode, packets of other \
                 nodes come by a way that is not the way back"
            ),
            false => "it does not filter strictly".to_owned(),
        };
        Opinion::new(key, 0, is_strict.then_some(2), reason)
    };
    links.map(|link| opinion(&link.name)).gather()
}

#[cfg(test)]
mod tests;
