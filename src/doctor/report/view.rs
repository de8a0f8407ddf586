// SPDX-License-Identifier: Apache-2.0
//! A node as its bundle has it: what of it the page says, so that the rest need not be
//! kept while the others are read.

use std::{net::IpAddr, path::Path};

use ipnetwork::IpNetwork;

use crate::{
    conf::FabricKeys,
    doctor::{
        Outcome,
        overview::{
            self, Enforcement, Overview, Size, State, cross_subnet, mode, mtu_of_pods, used,
        },
    },
    fabric::{peers, standing::Standing},
    family::Family,
    finding::{Finding, Severity, grouped},
    list::Gather,
    net::Mac,
    node::{Attachment, Network, Snapshot, Versions},
    text::few::some_of,
};

/// A node that gave a bundle.
pub struct View {
    /// Its name in its list of nodes; where it has none, that of the host or of the file.
    pub(super) name: String,
    /// Whether it has a list that names it.
    pub(super) is_named: bool,
    /// The file of the bundle.
    pub(super) file: String,
    /// The version of the program that looked at it.
    pub(super) taken_by: String,
    /// When the bundle was written, in RFC 3339; empty where it does not say so.
    pub(super) taken_at: String,
    /// The kernel and the distribution, where the bundle has them.
    pub(super) system: String,
    pub(super) state: State,
    /// Why it is not ready.
    pub(super) reason: String,
    /// The worst first.
    pub(super) groups: Vec<Group>,
    pub(super) errors: usize,
    pub(super) warnings: usize,
    /// How many checks were made, and how many could not be.
    pub(super) checks: (usize, usize),
    pub(super) networks: Vec<Net>,
    pub(super) ways: Vec<Way>,
    pub(super) pods: Vec<Pod>,
    /// How many attachments are up, down, missing and unnoted.
    pub(super) states: [(&'static str, usize); 4],
    pub(super) agent: String,
    pub(super) policies: Enforcement,
    /// The addresses of its links.
    pub(super) addresses: Vec<IpAddr>,
}

/// What is wrong with several objects alike.
pub(super) struct Group {
    pub(super) first: Finding,
    /// The other objects.
    pub(super) others: Vec<String>,
}

impl Group {
    /// Findings, the worst first.
    pub(super) fn all(findings: &[Finding]) -> Vec<Self> {
        let groups = grouped(findings).into_iter().filter_map(|group| {
            let (first, others) = group.split_first()?;
            let others = others.iter().map(|one| one.object.clone()).gather();
            Some(Self { first: (*first).clone(), others })
        });
        groups.gather()
    }
}

/// A network.
pub(super) struct Net {
    pub(super) name: String,
    pub(super) file: String,
    pub(super) masquerades: bool,
    /// The MTU of its pods, in words.
    pub(super) mtu: Option<String>,
    /// How full its ranges are, in words.
    pub(super) leases: Option<String>,
}

/// How packets reach the pods of other nodes.
pub(super) struct Way {
    pub(super) networks: Vec<String>,
    /// The mode's word.
    pub(super) mode: &'static str,
    /// Towards which nodes packets are carried, in the word of the key.
    pub(super) cross_subnet: &'static str,
    pub(super) keys: FabricKeys,
    /// The mode with the keys that are its own.
    pub(super) told: String,
    pub(super) sizes: Vec<Size>,
    /// Whether packets of another mode may come besides.
    pub(super) accepts: bool,
    pub(super) peers_file: String,
    pub(super) me: peers::Node,
    pub(super) peers: Vec<Peer>,
    pub(super) devices: Vec<Device>,
}

/// Another node by the list of this one.
pub(super) struct Peer {
    pub(super) standing: Standing,
    /// The MAC addresses to which its tunnels' packets are sent, of each family.
    pub(super) macs: [Option<Mac>; 2],
}

/// A tunnel device that the kernel has.
pub(super) struct Device {
    pub(super) family: Family,
    pub(super) name: String,
    pub(super) mtu: u32,
    pub(super) mac: Option<Mac>,
}

/// An attachment.
pub(super) struct Pod {
    pub(super) name: String,
    pub(super) network: String,
    pub(super) container_id: String,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) link: String,
    pub(super) mtu: u32,
    pub(super) state: &'static str,
}

impl View {
    /// What a page says of a node, whose bundle is in that file.
    pub fn of(file: &str, snapshot: &Snapshot) -> Self {
        let overview = Overview::of(snapshot);
        let node = overview.node().filter(|name| !name.is_empty());
        let skipped = |(_, outcome): &&(_, Outcome)| matches!(outcome, Outcome::Skipped(_));
        let skipped = overview.examined.iter().filter(skipped).count();
        let loopback = |index: u32| snapshot.kernel.link(index).is_some_and(|link| link.loopback);
        let addresses = snapshot.kernel.addresses.iter().filter(|(link, _)| !loopback(*link));
        let (surroundings, support) = (&snapshot.surroundings, snapshot.support.as_ref());
        let host = support.map(|support| support.host.as_str()).filter(|host| !host.is_empty());
        Self {
            name: node.or(host).map_or_else(|| stem(file), str::to_owned),
            is_named: node.is_some(),
            file: file.to_owned(),
            taken_by: snapshot.taken_by.clone(),
            taken_at: support.map(|support| support.taken_at.clone()).unwrap_or_default(),
            system: support.map(|support| system(&support.versions)).unwrap_or_default(),
            state: overview.state,
            groups: Group::all(&overview.findings),
            errors: overview.count(Severity::Error),
            warnings: overview.count(Severity::Warning),
            checks: (overview.examined.len() - skipped, skipped),
            networks: snapshot.networks.iter().map(|one| Net::of(one, snapshot)).gather(),
            ways: overview.fabrics.iter().map(|way| Way::of(way, snapshot)).gather(),
            pods: overview.pods.iter().map(Pod::of).gather(),
            states: overview.pods_by_state(),
            agent: match &surroundings.agent {
                None => "none runs".to_owned(),
                Some(agent) => match agent.ready {
                    Some(true) => "ready".to_owned(),
                    Some(false) => format!("not ready: {}", agent.says),
                    None => format!("does not say how it stands: {}", agent.says),
                },
            },
            policies: Enforcement::of(snapshot),
            addresses: addresses.map(|(_, address)| address.ip()).gather(),
            reason: overview.reason,
        }
    }

    /// Its entries in the lists of nodes that it goes by.
    pub(super) fn entries(&self) -> impl Iterator<Item = &peers::Node> {
        self.ways.iter().map(|way| &way.me)
    }

    /// What its own lists say of its addresses; where they say nothing, those that it has.
    pub(super) fn own_addresses(&self) -> Vec<IpAddr> {
        let mut listed: Vec<IpAddr> =
            self.entries().flat_map(|node| node.addresses.iter().copied()).gather();
        listed.dedup();
        if listed.is_empty() { self.addresses.clone() } else { listed }
    }

    /// Where its pods are.
    pub(super) fn pod_cidrs(&self) -> Vec<IpNetwork> {
        let mut cidrs: Vec<IpNetwork> =
            self.entries().flat_map(|node| node.pod_cidrs.iter().copied()).gather();
        cidrs.dedup();
        cidrs
    }
}

fn system(versions: &Versions) -> String {
    let Versions { kernel, system, machine, .. } = versions;
    let all = [system, kernel, machine].map(String::as_str);
    all.into_iter().filter(|text| !text.is_empty()).gather().join(", ")
}

/// The name of a file without what it ends with.
fn stem(file: &str) -> String {
    let path = Path::new(file);
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    let name = name.strip_suffix(".json").unwrap_or(name);
    if name.is_empty() { "-".to_owned() } else { name.to_owned() }
}

impl Net {
    fn of(network: &Network, snapshot: &Snapshot) -> Self {
        let leases = network.pool.as_ref().map(|pool| {
            let ranges = pool.ranges.iter().map(|range| {
                let (used, size) = (used(pool, range), &range.size);
                format!("{}-{}: {used} of {size} used", range.first, range.last)
            });
            let ranges: Vec<String> = ranges.gather();
            pool.problem.clone().unwrap_or_else(|| some_of(&ranges))
        });
        Self {
            name: network.name.clone(),
            file: network.file.display().to_string(),
            masquerades: network.masquerades,
            mtu: mtu_of_pods(network, snapshot),
            leases,
        }
    }
}

impl Way {
    fn of(way: &overview::Way<'_>, snapshot: &Snapshot) -> Self {
        let (seen, settings) = (way.seen, &way.seen.settings);
        let carrier = settings.encapsulation();
        let own = carrier.map(|one| one.own_keys(&settings.keys));
        let mode = mode(settings);
        let devices = Family::BOTH.into_iter().filter_map(|family| {
            let name = settings.carrying(family)?.device(family, &settings.keys).ok()?;
            let link = snapshot.kernel.links.iter().find(|link| link.name == name)?;
            Some(Device { family, name, mtu: link.mtu, mac: link.mac })
        });
        // Those that are served stand first, in the order of the list.
        let peers = way.standings.iter().enumerate().map(|(place, standing)| {
            let node = seen.peers.others.get(place).filter(|node| node.name == standing.name);
            let mac = |family| Some(node?.tunnel_mac(family));
            Peer { standing: standing.clone(), macs: Family::BOTH.map(mac) }
        });
        Self {
            networks: seen.networks.clone(),
            mode,
            cross_subnet: cross_subnet(settings).unwrap_or("false"),
            told: own.filter(|own| !own.is_empty()).unwrap_or_else(|| mode.to_owned()),
            sizes: way.sizes.clone(),
            accepts: settings.keys.file.accepts().is_some(),
            peers_file: settings.keys.peers_file.clone().unwrap_or_default(),
            me: seen.peers.me.clone(),
            peers: peers.gather(),
            devices: devices.gather(),
            keys: settings.keys.clone(),
        }
    }
}

impl Pod {
    fn of(pod: &Attachment) -> Self {
        let entry = &pod.entry;
        let link = pod.link.as_ref();
        Self {
            name: entry.pod().unwrap_or_else(|| "-".to_owned()),
            network: entry.network.clone(),
            container_id: entry.container_id.clone(),
            addresses: entry.addresses.clone(),
            link: link.map_or(&entry.host_link, |link| &link.name).clone(),
            mtu: link.map_or(entry.mtu, |link| link.mtu),
            state: pod.state(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_without_a_list_is_called_as_its_file() {
        for (file, name) in [
            ("/tmp/node-a.json", "node-a"),
            ("node-b.json.gz", "node-b"),
            ("c", "c"),
            ("-", "-"),
            (".json", "-"),
            ("node.example.org", "node.example.org"),
        ] {
            assert_eq!(stem(file), name);
        }
    }
}
