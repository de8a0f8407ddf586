//! Carries out changes: in order, several hundred messages to a send, routes
//! atomically.

use std::collections::HashMap;

use nix::errno::Errno;

use super::{
    change::Change,
    desired::{FabricRoute, Target, Tunnel, TunnelKind},
    diff::rival,
    held::{HeldKind, tunnel_alias, tunnel_group},
    observe::Observed,
    settings::{Settings, default_metric},
};
use crate::{
    net::{
        Error, Failed, Request, Socket, addr, fdb, link, neigh,
        route::{Kind, Route},
        tunnel::{self, Vxlan},
    },
    object::Action,
};

/// What the kernel refused.
#[derive(Debug, Default)]
pub struct Refused {
    /// What all peers need: parameters, devices and their addresses.
    pub node: Vec<Error>,
    /// What concerns one peer, or is only in the way.
    pub peers: Vec<Error>,
    /// The changes that were refused of single peers.
    pub changes: Vec<Change>,
    /// All changes that were not made: refused, or in need of one that was. Not
    /// those that somebody else stands in the way of.
    pub unmade: Vec<Change>,
}

/// Makes the changes. Conflicts are left alone; what fails is reported, and the
/// rest is made all the same.
pub fn apply(
    socket: &mut Socket,
    settings: &Settings,
    observed: &Observed,
    changes: &[Change],
) -> Refused {
    let mut refused = Refused::default();
    let mut indexes = observed.indexes.clone();
    let devices = make_devices(socket, settings, observed, changes, &mut indexes, &mut refused);
    // What is to go goes last, so that nothing is without a route in between.
    let (mut last, first): (Vec<_>, Vec<_>) = changes.iter().partition(|change| takes_away(change));
    if !devices {
        // The device that is there serves better than the one that could not be made.
        let (kept, left): (Vec<_>, Vec<_>) =
            last.into_iter().partition(|change| matches!(change, Change::DeleteRoute(_)));
        refused.unmade.extend(left.into_iter().cloned());
        last = kept;
    }
    let (asked, requests) = requested(first, &indexes, &mut refused.unmade);
    let (removed, removals) = requested(last, &indexes, &mut refused.unmade);
    let (mut of_node, mut of_peers, mut again) = (Vec::new(), Vec::new(), Vec::new());
    let mut detoured = Vec::new();
    for failed in socket.apply_all(&requests) {
        let origin = asked.get(failed.at).zip(requests.get(failed.at));
        let detour = origin.and_then(|(change, request)| {
            past_the_old_way(change, request, &failed.error, settings, &indexes)
        });
        match (detour, origin) {
            (Some(detour), Some((change, _))) => {
                // Each of the three is of this change.
                detoured.extend(detour.iter().map(|_| change.clone()));
                again.extend(detour);
            }
            (None, Some((change @ Change::AddAddress(..), _))) => {
                refused.unmade.push(change.clone());
                of_node.push(failed);
            }
            (_, origin) => {
                let change = origin.map(|(change, _)| change.clone());
                refused.unmade.extend(change.clone());
                refused.changes.extend(change);
                of_peers.push(failed);
            }
        }
    }
    for failed in socket.apply_all(&again) {
        refused.unmade.extend(detoured.get(failed.at).cloned());
        refused.changes.extend(detoured.get(failed.at).cloned());
        of_peers.push(failed);
    }
    for failed in socket.apply_all(&removals) {
        refused.unmade.extend(removed.get(failed.at).cloned());
        of_peers.push(failed);
    }
    refused.node.extend(each_kind(of_node));
    refused.peers = each_kind(of_peers);
    refused
}

/// Makes what has to be made one by one; false if a device could not be.
fn make_devices(
    socket: &mut Socket,
    settings: &Settings,
    observed: &Observed,
    changes: &[Change],
    indexes: &mut HashMap<String, u32>,
    refused: &mut Refused,
) -> bool {
    let mut complete = true;
    for change in changes {
        match make_device(socket, change, settings, observed, indexes) {
            Ok(true) => {}
            Ok(false) => refused.unmade.push(change.clone()),
            Err(error) => {
                refused.node.push(error);
                refused.unmade.push(change.clone());
                complete &= !matches!(change, Change::CreateTunnel(_) | Change::ReplaceTunnel(..));
            }
        }
    }
    complete
}

/// The requests that go in large sends, each with its change. Those that need a
/// device which is not there are `unmade`.
fn requested(
    changes: Vec<&Change>,
    indexes: &HashMap<String, u32>,
    unmade: &mut Vec<Change>,
) -> (Vec<Change>, Vec<Request>) {
    let (mut asked, mut requests) = (Vec::new(), Vec::new());
    for change in changes {
        match request(change, indexes) {
            Some(request) => {
                asked.push(change.clone());
                requests.push(request);
            }
            None if is_made_alone(change) => {}
            None => unmade.push(change.clone()),
        }
    }
    (asked, requests)
}

fn takes_away(change: &Change) -> bool {
    change.action() == Action::Delete || matches!(change, Change::Release(_))
}

/// The way to a route that the kernel refused for its next hop: the peer's
/// tunnel address, which IPv6 looks up in spite of `onlink` and finds by the
/// very route that is to be replaced, or by a wider one of somebody else, on
/// another device (`ip6_route_check_nh_onlink`, net/ipv6/route.c). A route to
/// that address alone shows it the right device for as long as it looks. One
/// that a kill leaves is of our protocol, and the next pass removes it.
fn past_the_old_way(
    change: &Change,
    refused: &Request,
    error: &Error,
    settings: &Settings,
    indexes: &HashMap<String, u32>,
) -> Option<[Request; 3]> {
    let (Change::CreateRoute(wanted) | Change::ReplaceRoute(wanted, _)) = change else {
        return None;
    };
    let Target::Node { gateway, device, onlink: true, .. } = &wanted.target else { return None };
    let tunnelled = gateway.is_ipv6() && *device == settings.vxlan_device(true);
    if error.errno != Errno::EINVAL || !tunnelled {
        return None;
    }
    let index = *indexes.get(device)?;
    let mut sign = Route::new((*gateway).into());
    sign.protocol = wanted.protocol;
    // Of another key than the route itself, should that be to this address alone.
    sign.priority = Some(if wanted.metric == 1 { 2 } else { 1 });
    Some([sign.create(index).tolerate(Errno::EEXIST), refused.clone(), sign.delete(index)])
}

/// The first failure of each kind: thousands of peers may all be refused for the
/// same reason.
fn each_kind(failures: Vec<Failed>) -> Vec<Error> {
    let mut kinds: Vec<(Error, usize)> = Vec::new();
    for Failed { error, .. } in failures {
        let same = |(told, _): &&mut (Error, usize)| {
            told.errno == error.errno && told.words == error.words
        };
        match kinds.iter_mut().find(same) {
            Some((_, more)) => *more += 1,
            None => kinds.push((error, 0)),
        }
    }
    let told = |(mut error, more): (Error, usize)| {
        if more > 0 {
            error.what = format!("{} (and {more} more)", error.what);
        }
        error
    };
    kinds.into_iter().map(told).collect()
}

/// Whether a change is made by itself, or not at all.
fn is_made_alone(change: &Change) -> bool {
    change.action() == Action::Conflict
        || matches!(
            change,
            Change::Sysctl(..)
                | Change::CreateTunnel(_)
                | Change::ReplaceTunnel(..)
                | Change::SetMtu(..)
                | Change::SetUp(_)
                | Change::Claim(..)
        )
}

/// Parameters and devices, one by one: what follows needs their indexes. False for
/// a change that needs a device which could not be made.
fn make_device(
    socket: &mut Socket,
    change: &Change,
    settings: &Settings,
    observed: &Observed,
    indexes: &mut HashMap<String, u32>,
) -> Result<bool, Error> {
    let made = match change {
        Change::Sysctl(wanted, _) => wanted.ensure().map(|_| ()),
        Change::CreateTunnel(tunnel) | Change::ReplaceTunnel(tunnel, ..)
            if rival(tunnel, observed).is_some() =>
        {
            let mut error =
                Error::new(format!("create vxlan device {}", tunnel.name), Errno::EEXIST);
            error.words = rival(tunnel, observed);
            Err(error)
        }
        Change::CreateTunnel(tunnel) => create(socket, tunnel, settings, indexes),
        Change::ReplaceTunnel(tunnel, _, former) => {
            if let Some(index) = indexes.remove(former) {
                socket.apply(&[link::delete(index, former)])?;
            }
            create(socket, tunnel, settings, indexes)
        }
        Change::Claim(name, _) => match link::by_name(socket, name)? {
            Some(link) => {
                let protocol = settings.keys.protocol;
                let (alias, group) = (tunnel_alias(protocol), tunnel_group(protocol));
                socket.apply(&[link::set_mark(&link, &alias, group)])
            }
            None => Err(Error::new(format!("look up link {name}"), Errno::ENODEV)),
        },
        // A device that could not be made has been reported.
        Change::SetMtu(name, ..) | Change::SetUp(name) if !indexes.contains_key(name) => {
            return Ok(false);
        }
        Change::SetMtu(name, mtu, _) => {
            let parent = observed.tunnels.get(name).and_then(|held| match &held.kind {
                HeldKind::Vxlan { parent, .. } => Some(parent.as_str()),
                HeldKind::Ipip | HeldKind::Other(_) => None,
            });
            set_mtu(socket, name, *mtu, parent)
        }
        Change::SetUp(name) => {
            socket.apply(&[link::set_up(name)]).map_err(|error| with_rivals(error, observed))
        }
        _ => Ok(()),
    };
    made.map(|()| true)
}

fn create(
    socket: &mut Socket,
    tunnel: &Tunnel,
    settings: &Settings,
    indexes: &mut HashMap<String, u32>,
) -> Result<(), Error> {
    let name = &tunnel.name;
    let (group, mut lower) = (tunnel_group(settings.keys.protocol), None);
    let request = match &tunnel.kind {
        TunnelKind::Ipip => tunnel::create_ipip(name, tunnel.mtu, group),
        TunnelKind::Vxlan { vni, port, local, parent, mac } => {
            lower = Some(parent.as_str());
            let parent = indexes.get(parent).copied().unwrap_or_default();
            let (local, learning, own_socket) = (Some(*local), false, false);
            let vxlan = Vxlan { vni: *vni, port: *port, local, parent, learning, own_socket };
            tunnel::create_vxlan(name, tunnel.mtu, *mac, group, &vxlan)
        }
    };
    socket.apply(&[request]).map_err(explain)?;
    let Some(link) = link::by_name(socket, name)? else {
        return Err(Error::new(format!("look up link {name}"), Errno::ENODEV));
    };
    indexes.insert(name.clone(), link.index);
    socket.apply(&[link::set_alias(&link, &tunnel_alias(settings.keys.protocol))])?;
    set_mtu(socket, name, tunnel.mtu, lower)
}

/// The kernel lets no VXLAN device be wider than what its packets leave by, less
/// the encapsulation, and says no more than "invalid" (drivers/net/vxlan,
/// `vxlan_change_mtu`).
fn set_mtu(socket: &mut Socket, name: &str, mtu: u32, parent: Option<&str>) -> Result<(), Error> {
    socket.apply(&[link::set_mtu(name, mtu)]).map_err(|mut error| {
        if let Some(parent) = parent
            && error.errno == Errno::EINVAL
        {
            error.words.get_or_insert(format!(
                "{parent} does not carry that much besides the encapsulation: lower mtu, or leave \
                 it out, or raise the MTU of {parent}"
            ));
        }
        error
    })
}

/// Of a port that another device keeps for itself the kernel says no more than "in use".
fn with_rivals(mut error: Error, observed: &Observed) -> Error {
    if error.errno == Errno::EADDRINUSE && !observed.rivals.is_empty() {
        let mut rivals: Vec<&str> = observed.rivals.keys().map(String::as_str).collect();
        rivals.sort_unstable();
        error.words.get_or_insert(format!("other VXLAN devices are {}", rivals.join(", ")));
    }
    error
}

/// A kernel without the module says no more than "not supported".
fn explain(mut error: Error) -> Error {
    if error.errno == Errno::EOPNOTSUPP {
        let kind = if error.what.contains("ipip") { "ipip" } else { "vxlan" };
        let words = error.words.take().map_or_else(String::new, |words| format!("{words}; "));
        error.words = Some(format!(
            "{words}this kernel has no module {kind} (modprobe {kind}; package \
             linux-modules-extra-$(uname -r) on Ubuntu, linux-image-amd64 rather than the cloud \
             kernel on Debian), or set mode to {}",
            if kind == "ipip" { "vxlan" } else { "direct" }
        ));
    }
    error
}

/// Everything that goes in large sends.
fn request(change: &Change, indexes: &HashMap<String, u32>) -> Option<Request> {
    let index = |name: &String| indexes.get(name).copied();
    Some(match change {
        Change::AddAddress(name, address) => {
            addr::add(index(name)?, *address).tolerate(Errno::EEXIST)
        }
        Change::DeleteAddress(name, address) => addr::delete(index(name)?, *address),
        Change::SetNeighbour(entry) => neigh::Neighbour { address: entry.address, mac: entry.mac }
            .replace(index(&entry.device)?),
        Change::DeleteNeighbour(entry) => neigh::delete(index(&entry.device)?, entry.address),
        Change::SetForwarding(entry) => {
            fdb::Entry { mac: entry.mac, node: entry.node }.replace(index(&entry.device)?)
        }
        Change::DeleteForwarding(entry) => {
            fdb::Entry { mac: entry.mac, node: entry.node }.delete(index(&entry.device)?)
        }
        Change::CreateRoute(wanted) => {
            let (route, index) = route(wanted, indexes)?;
            route.create(index)
        }
        Change::ReplaceRoute(wanted, _) => {
            let (route, index) = route(wanted, indexes)?;
            route.replace(index)
        }
        Change::DeleteRoute(held) => {
            held.found.route.delete(held.found.device().unwrap_or_default())
        }
        Change::Release(name) => link::release(name),
        Change::DeleteTunnel(name) => link::delete(index(name)?, name),
        Change::Sysctl(..)
        | Change::CreateTunnel(_)
        | Change::ReplaceTunnel(..)
        | Change::SetMtu(..)
        | Change::SetUp(_)
        | Change::Claim(..)
        | Change::Conflict(..)
        | Change::ForeignTunnel(..)
        | Change::Diverted(_)
        | Change::ForeignNeighbour(..)
        | Change::ForeignForwarding(..) => return None,
    })
}

fn route(wanted: &FabricRoute, indexes: &HashMap<String, u32>) -> Option<(Route, u32)> {
    let mut route = Route::new(wanted.destination);
    route.protocol = wanted.protocol;
    let default = default_metric(wanted.destination.is_ipv6());
    route.priority = (wanted.metric != default).then_some(wanted.metric);
    match &wanted.target {
        Target::Blackhole => {
            route.kind = Kind::Blackhole;
            Some((route, 0))
        }
        Target::Node { gateway, device, onlink, mtu } => {
            route.gateway = Some(*gateway);
            route.onlink = *onlink;
            route.mtu = *mtu;
            Some((route, *indexes.get(device)?))
        }
    }
}
