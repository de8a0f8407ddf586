// SPDX-License-Identifier: Apache-2.0
//! CHECK: is the attachment still what ADD made?
//!
//! Chained plugins may have changed what is theirs to change: a MAC address
//! (then it stands in prevResult), an MTU made smaller, a route moved to
//! another table, a permanent neighbour lost with the MAC address. Nothing is modified.

use std::net::IpAddr;

use super::{Call, fabric, facts, ipam, kernel, ownership, policy, sandbox, side, tables};
use crate::{
    cni::{AddResult, Code, Error, Interface},
    family::Family,
    list::{Gather, PushAll},
    net::{
        Mac, Socket, addr,
        link::Link,
        neigh,
        route::{self, TABLE_MAIN},
        sysctl,
    },
    pod::{
        Attachment, PodFacts,
        attachment::{Spec, gateway_ipv6},
        side::{HeldSide, differences as lacks},
    },
    state::Entry,
};

/// # Errors
/// Code 102 with all that differs; what IPAM's CHECK says; code 7 without a
/// usable prevResult.
pub(super) fn check(call: &Call) -> Result<(), Error> {
    call.require_sound_config()?;
    ipam::require_foreign(call)?;
    let previous = previous(call)?;
    let mut sandbox = sandbox::open(&call.environment)?;
    let mut host = Socket::open().map_err(kernel)?;
    let mut differences = compare(call, &previous, &mut host, &mut sandbox.socket)?;
    let of_fabric = fabric::differences(&call.config, &call.root, &mut host)?;
    let fabric = fabric::last_applied(&call.config, &call.root);
    let wanted = tables::wanted(&call.config, fabric.as_ref());
    let table = tables::differences(&wanted, &call.config, &call.root, &mut host)?;
    table.note.iter().for_each(|note| log::warn!("{note}"));
    differences.push_all(table.found);
    let entry = call.journal().read(&call.environment.container_id, &call.environment.ifname);
    if let Some(entry) = entry.as_ref().filter(|_| call.config.enforces_policy) {
        differences.push_all(policy::differences(&call.root, entry)?);
    }
    let mut advice = Vec::new();
    if !differences.is_empty() {
        advice.push("recreate the pod, or put back what is missing".to_owned());
    }
    if let Some(fabric::Differences { text, advice: of_fabric }) = of_fabric {
        differences.push(text);
        advice.push(of_fabric);
    }
    if !differences.is_empty() {
        let error = Error::new(Code::CHECK_FAILED, differences.join("; "));
        return Err(error.details(advice.join("; ")));
    }
    ipam::check(call, entry.as_ref())
}

fn previous(call: &Call) -> Result<AddResult, Error> {
    let Some(value) = &call.config.previous else {
        return Err(Error::new(Code::INVALID_CONFIG, "prevResult is missing")
            .details("CHECK compares with the result of ADD"));
    };
    AddResult::decode(value, call.config.version)
}

/// Compares each object that the attachment should have with the kernel's.
fn compare(
    call: &Call,
    previous: &AddResult,
    host: &mut Socket,
    pod: &mut Socket,
) -> Result<Vec<String>, Error> {
    let identity = call.identity();
    let Some((index, interface)) = own_interface(call, previous) else {
        return Ok(vec![format!(
            "prevResult has no interface {} with sandbox {}",
            identity.ifname, call.environment.netns
        )]);
    };
    let (facts, pod_link) = facts::pod(pod, &identity.ifname)?;
    let noted = call.journal().read(&identity.container_id, &identity.ifname);
    let prefix = &call.config.host_prefix;
    let host_link = ownership::find(host, &call.root, noted.as_ref(), &identity, prefix)?;
    let (Some(host_link), Some(pod_link)) = (&host_link, &pod_link) else {
        let missing = [
            pod_link.is_none().then(|| format!("{} is missing in the pod", identity.ifname)),
            host_link.is_none().then(|| format!("the host link of {} is missing", identity.ifname)),
        ];
        return Ok(missing.into_iter().flatten().gather());
    };
    let mtu = interface.mtu.or(noted.as_ref().map(|entry| entry.mtu)).unwrap_or(host_link.mtu);
    let requested = call.config.requested_mac(&call.environment.args);
    let addresses = own_addresses(previous, index);
    let facts = facts_of_add(pod, facts, noted.as_ref(), &addresses)?;
    let wanted = Attachment::describe(&Spec {
        identity: &identity,
        host_link: &host_link.name,
        config: &call.config,
        addresses: &addresses,
        routes: &own_routes(call, previous),
        mtu,
        mac: requested.and_then(|text| text.parse().ok()),
        facts: &facts,
        // They stand among the routes of the result.
        remote: None,
    });
    let mut differences = compare_links(&wanted, interface, host_link, pod_link);
    differences.push_all(compare_host(&wanted, host, host_link)?);
    // One that was asked for may have been set once more by a plugin behind us.
    let own_mac = identity.pod_mac();
    differences.push_all(compare_pod(&wanted, (host, host_link), (pod, pod_link), own_mac)?);
    Ok(differences)
}

/// What the ADD found in the pod, as far as it decided what was made: the table is
/// noted in the journal, or is that of the interface's rules.
fn facts_of_add(
    pod: &mut Socket,
    now: PodFacts,
    noted: Option<&Entry>,
    addresses: &[IpAddr],
) -> Result<PodFacts, Error> {
    match noted.and_then(|entry| entry.table) {
        // It was the first; what came later stands behind it.
        Some(TABLE_MAIN) => Ok(PodFacts::default()),
        Some(table) => Ok(PodFacts { table: Some(table), ..now }),
        None => {
            let rules = facts::rules(pod)?;
            let own = rules.iter().find(|rule| addresses.contains(&rule.source.ip()));
            Ok(PodFacts { table: own.map(|rule| rule.table), ..now })
        }
    }
}

fn own_interface<'a>(call: &Call, previous: &'a AddResult) -> Option<(usize, &'a Interface)> {
    let sandbox = Some(call.environment.netns.as_str());
    previous.interfaces.iter().enumerate().find(|(_, interface)| {
        interface.name == call.environment.ifname && interface.sandbox.as_deref() == sandbox
    })
}

fn own_addresses(previous: &AddResult, index: usize) -> Vec<IpAddr> {
    let own = previous.ips.iter().filter(|ip| ip.interface.is_none_or(|of| of == index));
    own.map(|ip| ip.address.ip()).gather()
}

/// The routes of the result that lead to our gateway: other plugins of the
/// chain tell theirs in the same list.
fn own_routes(call: &Call, previous: &AddResult) -> Vec<crate::cni::Route> {
    let gateways = [IpAddr::from(call.config.gateway), gateway_ipv6().into()];
    let own = previous
        .routes
        .iter()
        .filter(|route| route.gw.is_some_and(|gateway| gateways.contains(&gateway)));
    own.cloned().gather()
}

fn compare_links(wanted: &Attachment, told: &Interface, host: &Link, pod: &Link) -> Vec<String> {
    let mut differences = Vec::new();
    if pod.kind.as_deref() != Some("veth") || host.peer_index != Some(pod.index) {
        differences.push(format!("{} is not the other end of {}", pod.name, host.name));
    }
    for (link, end) in [(host, &wanted.host), (pod, &wanted.pod)] {
        if link.mtu > end.mtu {
            differences.push(format!("{} has MTU {} above {}", link.name, link.mtu, end.mtu));
        }
    }
    if pod.mtu > host.mtu && pod.mtu <= wanted.pod.mtu {
        differences.push(format!(
            "{} has MTU {}, and {} in the pod {}: larger packets of the pod are lost",
            host.name, host.mtu, pod.name, pod.mtu
        ));
    } else if pod.mtu < host.mtu && host.mtu <= wanted.host.mtu {
        // As tuning behind us does it, which does not tell it in the result.
        log::warn!(
            "{} has MTU {}, and {} in the pod {}: larger packets to the pod are lost, unless they \
             are TCP's; set both to the same, or leave mtu to this plugin rather than to tuning",
            host.name,
            host.mtu,
            pod.name,
            pod.mtu
        );
    }
    if host.alias.as_ref() != Some(&wanted.alias) {
        differences.push(format!("{} has lost its mark, alias {:?}", host.name, wanted.alias));
    }
    if host.mac != Some(wanted.host.mac) {
        let (found, wanted) = (host.mac.unwrap_or(Mac([0; 6])), wanted.host.mac);
        differences.push(format!("{} has MAC {found}, the pod sends to {wanted}", host.name));
    }
    let mac = pod.mac.map(|mac| mac.to_string());
    let is_own = |told: &String| mac.as_ref().is_some_and(|mac| told.eq_ignore_ascii_case(mac));
    if told.mac.as_ref().is_some_and(|told| !is_own(told)) {
        let (found, told) = (mac.unwrap_or_default(), told.mac.clone().unwrap_or_default());
        differences.push(format!("{} has MAC {found}, prevResult says {told}", pod.name));
    }
    differences
}

fn compare_host(wanted: &Attachment, host: &mut Socket, link: &Link) -> Result<Vec<String>, Error> {
    let side = &wanted.host_side;
    let held = side::held(host, side, link, None).map_err(kernel)?;
    let mut differences = lacks(side, &held, "the host");
    let changed = wanted.node.iter().filter(|wanted| !wanted.optional && !sysctl::holds(wanted));
    differences.push_all(changed.map(|sysctl| format!("sysctl {sysctl} does not hold")));
    Ok(differences)
}

/// The pod must know where its next hop is. A change of its MAC address, which
/// a plugin behind us may make, empties the pod's table, the permanent entries
/// too (neigh_changeaddr, net/core/neighbour.c). Then the host link answers: for
/// its own IPv6 address always, for the IPv4 gateway by proxy, if the node has
/// a route to it elsewhere, such as a default route (arp_fwd_proxy, net/ipv4/
/// arp.c). An entry that is absent is then no difference; a wrong one is.
fn compare_pod(
    wanted: &Attachment,
    (host, host_link): (&mut Socket, &Link),
    (pod, link): (&mut Socket, &Link),
    own_mac: Mac,
) -> Result<Vec<String>, Error> {
    let side = &wanted.pod_side;
    let addresses = addr::of_link(pod, link.index).map_err(kernel)?;
    let mut routes = route::all(pod, Family::V4).map_err(kernel)?;
    if wanted.has_ipv6() {
        routes.push_all(route::all(pod, Family::V6).map_err(kernel)?);
    }
    let mut held = HeldSide::of_link(link, addresses).routes(side, link.index, &routes);
    if side.has_rules() {
        held = held.rules(facts::rules(pod)?);
    }
    for neighbour in &side.objects.neighbours {
        let known = neigh::lookup(pod, link.index, neighbour.address).map_err(kernel)?;
        let lost = known.is_none_or(|known| {
            !known.permanent && known.mac.is_none_or(|mac| mac == neighbour.mac)
        });
        let asked = lost && link.mac != Some(own_mac);
        let answers = asked && answers(host, host_link, neighbour.address)?;
        held.neighbour(neighbour, known, answers);
    }
    // The pod's parameters are the pod's own.
    Ok(lacks(&side.without_parameters(), &held, "the pod's"))
}

/// Whether the host link answers a pod that asks for its next hop.
fn answers(host: &mut Socket, link: &Link, gateway: IpAddr) -> Result<bool, Error> {
    if gateway.is_ipv6() {
        return Ok(true);
    }
    let way = route::lookup(host, gateway).map_err(kernel)?;
    Ok(way.is_some_and(|way| !way.devices.is_empty() && !way.devices.contains(&link.index)))
}
