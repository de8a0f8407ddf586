// SPDX-License-Identifier: Apache-2.0
//! In what the nodes of a cluster do not agree: what no node can see of itself.

use std::collections::{BTreeMap, BTreeSet};

use ipnetwork::IpNetwork;

use super::{
    cluster::{Cluster, End, Link},
    html::joined,
    said::{Said, finding, names, told, way},
    settings,
};
use crate::{
    family::Family,
    finding::{Finding, Severity},
    list::{Gather, Ordered, PushAll},
    text::few::some_of,
};

/// All of it, the worst first.
pub(super) fn differences(cluster: &Cluster) -> Vec<Finding> {
    let mut found = Vec::new();
    let protocols: BTreeSet<u8> =
        cluster.views.iter().flat_map(|view| &view.ways).map(|way| way.keys.protocol).gather_set();
    found.push_all(same_names(cluster));
    found.push_all(shared(cluster));
    for protocol in &protocols {
        entries(cluster, *protocol, &mut found);
        missing(cluster, *protocol, &mut found);
        settings::of_ways(cluster, *protocol, &mut found);
    }
    macs(cluster, &mut found);
    settings::of_nodes(cluster, &mut found);
    found.order_by_key(|finding| finding.severity);
    found
}

/// Two machines with one name: the lists of the others lead to one of them.
fn same_names(cluster: &Cluster) -> Vec<Finding> {
    let mut said = Said::new();
    for (place, view) in cluster.views.iter().enumerate().filter(|(_, view)| view.is_named) {
        said.entry(view.name.clone()).or_default().push(place);
    }
    let several = said.into_iter().filter(|(_, places)| places.len() > 1);
    let found = several.map(|(name, places)| {
        let views = places.iter().filter_map(|place| cluster.views.get(*place));
        let told = views.map(|view| format!("{} by {}", joined(&view.own_addresses()), view.file));
        finding(
            ("name-shared", Severity::Error),
            format!("node {name}"),
            format!("{} nodes have this name: {}", places.len(), told.gather().join("; ")),
            "a list of nodes has one entry of a name, so one of them is known to nobody",
            "give one of them another name, in its own peers file and in all others".to_owned(),
        )
    });
    found.gather()
}

/// Addresses and pod CIDRs that two nodes take for their own.
fn shared(cluster: &Cluster) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut nets: Vec<(IpNetwork, usize, &'static str)> = Vec::new();
    for (place, view) in cluster.views.iter().enumerate() {
        let addresses = view.entries().flat_map(|node| node.addresses.iter().copied());
        nets.push_all(addresses.map(|address| (address.into(), place, "address")));
        nets.push_all(view.pod_cidrs().into_iter().map(|cidr| (cidr, place, "pod CIDR")));
    }
    // What contains another one stands before it, and next to it but for others that it contains.
    nets.order_by_key(|(net, place, what)| (*what, net.network(), net.prefix(), *place));
    let mut widest: Option<(IpNetwork, usize, &str)> = None;
    for (net, place, what) in nets {
        if let Some((other, holder, of)) = widest
            && of == what
            && contains(other, net)
        {
            if holder != place {
                let (one, two) = (cluster.name(End::View(holder)), cluster.name(End::View(place)));
                found.push(finding(
                    ("range-shared", Severity::Error),
                    format!("{what} {}", shown(net)),
                    format!("{two} has it as its own, and so has {one} ({})", shown(other)),
                    "the others send what is for both of them to one",
                    format!("give {two} another {what} in the peers files of all nodes"),
                ));
            }
            continue;
        }
        widest = Some((net, place, what));
    }
    found
}

fn contains(outer: IpNetwork, inner: IpNetwork) -> bool {
    outer.is_ipv4() == inner.is_ipv4()
        && outer.prefix() <= inner.prefix()
        && outer.contains(inner.network())
}

fn shown(net: IpNetwork) -> String {
    match crate::family::is_single(&net) {
        true => net.ip().to_string(),
        false => net.to_string(),
    }
}

/// What the lists say of one node.
fn entries(cluster: &Cluster, protocol: u8, found: &mut Vec<Finding>) {
    let sorted = |mut all: Vec<String>| {
        all.order();
        joined(&all)
    };
    let of = |name: &str, addresses: Vec<String>, cidrs: Vec<String>| {
        [name.to_owned(), sorted(addresses), sorted(cidrs)]
    };
    let mut claims: BTreeMap<End, [Said; 3]> = BTreeMap::new();
    let mut add = |end: End, by: usize, values: [String; 3]| {
        let said = claims.entry(end).or_default();
        for (said, value) in said.iter_mut().zip(values) {
            said.entry(value).or_default().push(by);
        }
    };
    for (place, view) in cluster.views.iter().enumerate() {
        let Some(way) = way(view, protocol) else { continue };
        let (addresses, cidrs) = (strings(&way.me.addresses), strings(&way.me.pod_cidrs));
        add(End::View(place), place, of(&way.me.name, addresses, cidrs));
    }
    for Link { from, to, way, peer } in cluster.links() {
        // Of one that is left out there is no more than a name, at times.
        if way.keys.protocol == protocol && !peer.standing.pod_cidrs.is_empty() {
            let one = &peer.standing;
            let (addresses, cidrs) = (strings(&one.addresses), strings(&one.pod_cidrs));
            add(to, from, of(&one.name, addresses, cidrs));
        }
    }
    for (end, said) in claims {
        for (said, (what, id)) in said.iter().zip([
            ("name", "name-differs"),
            ("addresses", "address-differs"),
            ("pod CIDRs", "pod-cidr-differs"),
        ]) {
            if said.len() > 1 {
                found.push(entry_differs(cluster, end, (what, id), said));
            }
        }
    }
}

fn strings<T: ToString>(all: &[T]) -> Vec<String> {
    all.iter().map(T::to_string).gather()
}

fn entry_differs(
    cluster: &Cluster,
    end: End,
    (what, id): (&str, &'static str),
    said: &Said,
) -> Finding {
    let name = cluster.name(end);
    let is_own = |places: &Vec<usize>| matches!(end, End::View(own) if places.contains(&own));
    let own = said.iter().find(|(_, places)| is_own(places));
    let (evidence, fix) = match own {
        Some((value, _)) => {
            let rest: Said = said
                .iter()
                .filter(|(one, _)| *one != value)
                .map(|(k, v)| (k.clone(), v.clone()))
                .gather_map();
            let wrong: Vec<usize> = rest.values().flatten().copied().gather();
            let (told, wrong) = (told(cluster, &rest, "by the list of"), names(cluster, &wrong));
            let fix = format!(
                "if {name} is right, write {value} into the peers file of {wrong}; then manx apply there"
            );
            (format!("{value} by its own list; {told}"), fix)
        }
        None => {
            let fix = "write the same into all peers files; then manx apply on each node";
            (told(cluster, said, "by the list of"), fix.to_owned())
        }
    };
    let (object, why) = (
        format!("{what} of {name}"),
        match id {
            "name-differs" => {
                "the MAC address of a VXLAN device follows from the name: packets to another one are dropped"
            }
            "address-differs" => {
                "packets to its pods go to an address that is not the node's, and what comes from it is taken for a stranger's"
            }
            _ => {
                "packets to pods that the list does not have go elsewhere, and what is in the list and not the node's comes back"
            }
        },
    );
    finding((id, Severity::Error), object, evidence, why, fix)
}

/// Nodes that some lists have and others have not.
fn missing(cluster: &Cluster, protocol: u8, found: &mut Vec<Finding>) {
    let with_list: Vec<usize> = (0..cluster.views.len())
        .filter(|place| cluster.views.get(*place).is_some_and(|view| way(view, protocol).is_some()))
        .gather();
    let mut listed: BTreeMap<End, BTreeSet<usize>> = BTreeMap::new();
    for place in &with_list {
        listed.entry(End::View(*place)).or_default().insert(*place);
    }
    for link in cluster.links().filter(|link| link.way.keys.protocol == protocol) {
        listed.entry(link.to).or_default().insert(link.from);
    }
    let mut by_lack: BTreeMap<Vec<usize>, Vec<End>> = BTreeMap::new();
    for (end, by) in listed {
        let lack: Vec<usize> =
            with_list.iter().filter(|place| !by.contains(place)).copied().gather();
        if !lack.is_empty() {
            by_lack.entry(lack).or_default().push(end);
        }
    }
    for (lack, ends) in by_lack {
        let gone: Vec<&str> = ends.iter().map(|end| cluster.name(*end)).gather();
        let (who, gone) = (names(cluster, &lack), some_of(&gone));
        found.push(finding(
            ("peer-unlisted", Severity::Error),
            format!("list of {who}"),
            format!("not in it, and in that of other nodes: {gone}"),
            "no route leads to the pods of a node that the list does not have, and its tunnel's packets are dropped",
            format!("add {gone} to the peers file of {who}, or take it out of all others; then manx apply"),
        ));
    }
}

/// MAC addresses of tunnel devices, as the others reckon with them.
fn macs(cluster: &Cluster, found: &mut Vec<Finding>) {
    let mut wrong: BTreeMap<(usize, String, String, String), Vec<usize>> = BTreeMap::new();
    for Link { from, to, way: of_sender, peer } in cluster.links() {
        let End::View(place) = to else { continue };
        let Some(way) =
            cluster.views.get(place).and_then(|view| way(view, of_sender.keys.protocol))
        else {
            continue;
        };
        for device in &way.devices {
            let family = usize::from(device.family == Family::V6);
            let (Some(mac), Some(Some(sent))) = (device.mac, peer.macs.get(family)) else {
                continue;
            };
            let is_vxlan = [of_sender.mode, way.mode] == ["vxlan"; 2];
            if is_vxlan && mac != *sent {
                let key = (place, device.name.clone(), mac.to_string(), sent.to_string());
                wrong.entry(key).or_default().push(from);
            }
        }
    }
    for ((place, device, mac, sent), by) in wrong {
        let (name, by) = (cluster.name(End::View(place)), names(cluster, &by));
        found.push(finding(
            ("mac-differs", Severity::Error),
            format!("link {device} of {name}"),
            format!("its MAC address is {mac}, and {by} sends to {sent}"),
            "a tunnel device drops frames to another MAC address than its own",
            format!(
                "on {name}: manx apply; or write tunnelMAC {mac} of {name} into all peers files"
            ),
        ));
    }
}
