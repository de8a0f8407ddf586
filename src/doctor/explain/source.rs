// SPDX-License-Identifier: Apache-2.0
//! Whether the node believes a packet's source, and what it makes of it when it leaves.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::{
    place::{Place, network},
    walk::Walk,
    way::{Way, look_up, told},
};
use crate::{
    family::HasFamily,
    list::Gather,
    net::{devconf, forwarding, link::Link},
    node::{Barrier, Direction, Network},
    pod::identity::GROUPS,
    text::few::some_of,
};

/// Never translated, whatever is configured (nft/network.rs).
const NEVER: [&str; 4] = ["224.0.0.0/4", "255.255.255.255/32", "fe80::/10", "ff00::/8"];

impl<'a> Walk<'a> {
    /// Whether the source is one that leads back.
    pub(super) fn source_check(&mut self) {
        let source = self.question.source;
        let said = format!("{source} is {}", self.source.told());
        let is_pod = matches!(self.source, Place::Pod(..));
        if is_pod && (source.is_loopback() || self.question.destination.is_loopback()) {
            let why = "no address of loopback is taken from a link, nor led to one";
            self.drop(why.to_owned(), None);
        }
        let Place::Pod(entry, link) = self.source else {
            if let Place::Nobody(_) = self.source {
                self.drop(format!("no pod of this node has {source}"), None);
            }
            return self.note("source", said, "");
        };
        let Some(link) = link else {
            self.drop("the host link of the source is gone", None);
            return self.note("source", said, "");
        };
        let network = network(entry, self.snapshot);
        let table = format!("table inet manx-{}", entry.network);
        let unchecked = match network {
            _ if entry.bridged => Some("it is behind another plugin's bridge".to_owned()),
            Some(network) if !network.checks_sources => Some("sourceCheck is false".to_owned()),
            Some(network) => network.table_note.clone(),
            None => Some("its network is not configured any more".to_owned()),
        };
        if let Some(why) = unchecked {
            return self.note("source", format!("{said}, not checked: {why}"), table);
        }
        let answer = look_up(self.snapshot, Some(self.question.destination), source);
        let by = answer.route.map(|found| format!("{}, ", told(found, self.snapshot)));
        let by = format!("{}{table} chain forward", by.unwrap_or_default());
        let leads_back = answer.route.is_some_and(|found| found.devices.contains(&link.index));
        let named = entry.sources.iter().any(|allowed| allowed.contains(source));
        if !leads_back && !named {
            self.drop(
                format!("{source} does not lead back to {}", link.name),
                Some("route-missing"),
            );
            return self.note(
                "source",
                format!("{said}, and does not lead back to {}", link.name),
                by,
            );
        }
        self.note("source", format!("{said}, and leads back to {}", link.name), by);
    }

    /// Whether it may be given another destination first.
    pub(super) fn translation(&mut self) {
        let all = &self.snapshot.surroundings.translations;
        let family = self.question.destination.family();
        let is_of_family = |table: &str| {
            table.starts_with("inet ") || table.split(' ').next() == Some(family.word())
        };
        let tables = all.iter().filter(|one| is_of_family(&one.table));
        let tables: Vec<String> =
            tables.map(|one| format!("table {} ({} rules)", one.table, one.rules)).gather();
        if !tables.is_empty() {
            let text = "a DNAT may give it another destination first: then ask for that one";
            self.note("dnat", text, some_of(&tables));
        }
    }

    /// Whether it leaves with another source.
    pub(super) fn masquerade(&mut self, way: &Way<'a>) {
        let Place::Pod(entry, _) = self.source else {
            return self.note("masquerade", "no: the source is no pod of this node", "");
        };
        let Some(network) = network(entry, self.snapshot) else { return };
        if !network.masquerades {
            return self.note(
                "masquerade",
                "no: ipMasq is off",
                format!("network {}", network.name),
            );
        }
        let table =
            |what: &str| format!("table inet manx-{} chain postrouting{what}", network.name);
        if way.is_local {
            return self.note("masquerade", "no: it is for this node", "");
        }
        if let Some(link) = way.links.iter().find(|link| GROUPS.contains(&link.group)) {
            let text = format!("no: {} is a pod's link", link.name);
            return self.note("masquerade", text, table(" (oifgroup)"));
        }
        if let Some(cidr) = self.spared(network) {
            let set = if cidr.is_ipv4() { " (set never4)" } else { " (set never6)" };
            return self.note(
                "masquerade",
                format!("no: {cidr} sees the pod's address"),
                table(set),
            );
        }
        if !network.table.is_empty() {
            let text = format!("it should be, and the table differs: {}", network.table.join("; "));
            return self.note("masquerade", text, format!("{}; masquerade-lost", table("")));
        }
        if let Some(reason) = &network.table_unseen {
            let text = format!("it should be, and whether it is was not seen: {reason}");
            return self.note("masquerade", text, table(""));
        }
        let own = way.links.first().and_then(|link| self.address_on(link));
        let own = own.map_or_else(|| "an address of this node".to_owned(), |ip| ip.to_string());
        self.note("masquerade", format!("yes: it leaves from {own}"), table(" (masquerade)"));
    }

    /// The network for which a destination sees the pods' own addresses.
    fn spared(&self, network: &Network) -> Option<IpNetwork> {
        let destination = self.question.destination;
        let lists = self.snapshot.compared.fabrics.iter().map(|fabric| &fabric.peers);
        let nodes = lists.flat_map(|peers| {
            std::iter::once(&peers.me).chain(&peers.others).chain(&peers.left_out)
        });
        let pods = nodes.flat_map(|node| node.pod_cidrs.iter().copied());
        let always = NEVER.iter().filter_map(|text| text.parse::<IpNetwork>().ok());
        let never = network.never_masqueraded.iter().copied();
        never.chain(pods).chain(always).find(|cidr| cidr.contains(destination))
    }

    /// The address that the kernel chooses on a link.
    fn address_on(&self, link: &Link) -> Option<IpAddr> {
        let family = self.question.destination.family();
        let mut own =
            self.snapshot.kernel.addresses.iter().filter(|(index, _)| *index == link.index);
        own.find(|(_, own)| own.family() == family).map(|(_, own)| own.ip())
    }

    /// The devices that the packet may come by.
    fn comes_by(&self) -> Vec<&'a str> {
        match self.source {
            Place::Pod(_, link) => link.map(|link| link.name.as_str()).into_iter().gather(),
            _ => {
                let back = look_up(self.snapshot, None, self.question.source).route;
                back.map(|found| self.snapshot.kernel.devices(found)).unwrap_or_default()
            }
        }
    }

    /// Whether the node forwards what comes by the device that it comes by; in IPv6 it asks for
    /// no device.
    fn forwarded_by_device(&mut self) {
        if self.question.source.is_ipv6() {
            return;
        }
        let kernel = &self.snapshot.kernel;
        let [name] = self.comes_by()[..] else { return };
        let key = devconf::forwarding(name);
        if kernel.sysctls.get(&key).is_some_and(|value| value == "0") {
            let text = format!("what comes by {name} is not forwarded");
            self.note("forwarding", text.clone(), format!("sysctl {key}"));
            self.drop(text, Some("ip-forward"));
        }
    }

    /// Whether the node forwards it.
    pub(super) fn firewall(&mut self, way: &Way<'a>) {
        if way.is_local || matches!(self.source, Place::Here(_)) || way.route.is_none() {
            return;
        }
        let family = self.question.destination.family();
        let key = forwarding::key(family);
        let said = self.snapshot.kernel.sysctls.get(key).map(String::as_str);
        if said == Some("0") {
            self.note("forwarding", "the node does not forward", format!("sysctl {key}"));
            self.drop("the node does not forward", Some("ip-forward"));
        }
        self.forwarded_by_device();
        let direction = match (self.source, self.destination) {
            (Place::Pod(..), Place::Pod(..)) => Direction::Between,
            (Place::Pod(..), _) => Direction::Out,
            (_, Place::Pod(..)) => Direction::In,
            _ => return,
        };
        let ends = [way.device.as_str()].into_iter().chain(self.comes_by());
        let ends: Vec<&str> = ends.gather();
        let barriers = self.snapshot.surroundings.barriers.iter();
        let mut closed = barriers.filter(|barrier| barrier.closes(family, direction, &ends));
        match closed.next() {
            Some(barrier) => {
                self.note("firewall", barrier.text.clone(), format!("hook {}", barrier.hook));
                self.drop("the firewall does not forward it", Some("forward-drop"));
            }
            None => {
                let mut barriers = self.snapshot.surroundings.barriers.iter();
                let is_of_family = |barrier: &&Barrier| {
                    barrier.families.is_empty() || barrier.families.contains(&family)
                };
                let doubtful = barriers.find(|one| !one.certain && is_of_family(one));
                let by = doubtful.map_or_else(String::new, |barrier| barrier.text.clone());
                self.note("firewall", "nothing is known to drop it", by);
            }
        }
    }
}
