//! Pods that manx 0.1 attached get what a second interface has now.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    net::Ipv4Addr,
};

use super::{
    facts::Routing,
    kernel, pod_side,
    sandbox::{self, Sandbox},
};
use crate::{
    cni::{self, Config, conf::GATEWAY},
    net::{
        Socket,
        link::{self, Link},
        neigh,
        route::Route,
    },
    pod::{
        Identity,
        attachment::Side,
        upgrade::{Attached, lacking},
    },
    state::{Entry, Journal, Root, journal},
};

/// How often a pod is looked at again because somebody else works there.
const ATTEMPTS: u32 = 4;

/// The first interface of a pod under every runtime but for dynamic ones.
const FIRST_IFNAME: &str = "eth0";

/// Kinds of links that a pod has besides by its own doing, or by the kernel's. What
/// leaves by those leaves by no link of ours.
const NO_WAY_OUT: [&str; 10] =
    ["bridge", "dummy", "wireguard", "tun", "ipip", "sit", "gre", "ip6tnl", "vti", "ifb"];

/// A pod that could not be given what it needs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NotUpgraded {
    /// `namespace/name`, or the container id.
    pub pod: String,
    /// The interface.
    pub ifname: String,
    /// Why not.
    pub reason: String,
}

impl fmt::Display for NotUpgraded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}: {}", self.ifname, self.pod, self.reason)
    }
}

/// Gives every live pod of this network the rules and the tables without which the
/// answers of an interface that manx 0.1 attached leave by another one. To be done
/// before the node stops to believe them. That other one is what is believed no
/// more: so all interfaces of the pods count, of whatever network. May be called
/// again, and by several.
///
/// No pod's lock is waited for: an ADD may hold that of its own.
///
/// # Errors
/// The pods of which it is not known that they answer right.
pub fn upgrade_pods(
    root: &Root,
    config: &Config,
    host: &mut Socket,
) -> Result<(), Vec<NotUpgraded>> {
    visit_old(root, config, host, &|sandbox, entry, link| upgrade(sandbox, config, entry, link))
}

/// Whether [`upgrade_pods`] finds all pods that it has to look at. Changes nothing.
///
/// # Errors
/// The pods that it does not.
pub(super) fn reach_pods(
    root: &Root,
    config: &Config,
    host: &mut Socket,
) -> Result<(), Vec<NotUpgraded>> {
    visit_old(root, config, host, &|_, _, _| Ok(()))
}

/// Enters the pods of a network that may lack something, by each interface of which
/// it is not known.
fn visit_old(
    root: &Root,
    config: &Config,
    host: &mut Socket,
    visit: &dyn Fn(&mut Sandbox, &Entry, &Link) -> Result<(), cni::Error>,
) -> Result<(), Vec<NotUpgraded>> {
    let of_network = Journal::new(root, &config.name).entries();
    if of_network.is_empty() {
        return Ok(());
    }
    let pods: HashSet<(u64, u64)> = of_network.iter().map(|entry| entry.netns_identity).collect();
    let mut old = journal::all(root);
    let mut interfaces = HashMap::new();
    for entry in &old {
        *interfaces.entry(entry.netns_identity).or_insert(0) += 1;
    }
    old.retain(|entry| entry.table.is_none() && pods.contains(&entry.netns_identity));
    if old.is_empty() {
        return Ok(());
    }
    let links = match link::all(host) {
        Ok(links) => links,
        Err(error) => return Err(old.iter().map(|entry| failed(entry, &error)).collect()),
    };
    let mut failures = Vec::new();
    for entry in &old {
        let alias = Identity::from(entry).alias();
        // Without a link it is gone.
        let Some(link) = links.iter().find(|link| link.alias.as_deref() == Some(&alias)) else {
            continue;
        };
        match sandbox::of_entry(entry) {
            Ok(Some(mut sandbox)) => {
                let done = visit(&mut sandbox, entry, link);
                failures.extend(done.err().map(|error| failed(entry, &error)));
            }
            Err(error) => failures.push(failed(entry, &error)),
            Ok(None) => {
                let alone = interfaces.get(&entry.netns_identity) == Some(&1);
                if !alone || entry.ifname != FIRST_IFNAME {
                    let reason = format!("{} leads no longer to its namespace", entry.netns);
                    failures.push(failed(entry, &reason));
                }
            }
        }
    }
    if failures.is_empty() { Ok(()) } else { Err(failures) }
}

fn failed(entry: &Entry, reason: &dyn fmt::Display) -> NotUpgraded {
    NotUpgraded {
        pod: entry.pod().unwrap_or_else(|| entry.container_id.clone()),
        ifname: entry.ifname.clone(),
        reason: reason.to_string(),
    }
}

fn upgrade(
    sandbox: &mut Sandbox,
    config: &Config,
    entry: &Entry,
    host_link: &Link,
) -> Result<(), cni::Error> {
    let pod = &mut sandbox.socket;
    let links = link::all(pod).map_err(kernel)?;
    let is_own =
        |link: &&Link| link.name == entry.ifname && host_link.peer_index == Some(link.index);
    let others = links.iter().filter(|link| link.name != entry.ifname);
    let leads_out = |link: &Link| {
        let kind = link.kind.as_deref().unwrap_or_default();
        link.up && !link.loopback && !NO_WAY_OUT.contains(&kind)
    };
    let several = others.clone().any(leads_out);
    let Some(own) = links.iter().find(is_own).filter(|_| several) else { return Ok(()) };
    let gateway = next_hop(pod, config, own.index)?;
    let it = Attached { index: own.index, addresses: &entry.addresses, gateway };
    for _ in 0..ATTEMPTS {
        let now = Routing::read(pod)?;
        let (routes, rules) = lacking(&it, &now.rules, &now.routes);
        if rules.is_empty() {
            return Ok(());
        }
        let side = Side { routes, rules, ..Side::default() };
        let pod_side::Made::Overtaken(error) = pod_side::make_routes(pod, &side, own.index)? else {
            return Ok(());
        };
        if holds(&Routing::read(pod)?, &side, own.index) {
            // Another call has made the same.
            return Ok(());
        }
        log::debug!("{error}: tried again");
        pod_side::unmake_routes(pod, &side, own.index)?;
    }
    let msg = format!("the routes of {} change all the time", entry.netns);
    Err(cni::Error::new(cni::Code::TRY_AGAIN, msg))
}

/// The IPv4 next hop of an interface. That of another network may be another one:
/// it is the permanent neighbour on the link.
fn next_hop(pod: &mut Socket, config: &Config, index: u32) -> Result<Ipv4Addr, cni::Error> {
    for gateway in [config.gateway, GATEWAY] {
        let known = neigh::lookup(pod, index, gateway.into()).map_err(kernel)?;
        if known.is_some_and(|known| known.permanent) {
            return Ok(gateway);
        }
    }
    Ok(config.gateway)
}

/// Whether all of `side` is there, whoever made it.
fn holds(now: &Routing, side: &Side, index: u32) -> bool {
    let route = |wanted: &Route| {
        now.routes.iter().any(|found| {
            found.is_through(index)
                && found.route.table == wanted.table
                && found.route.agrees(wanted)
        })
    };
    side.rules.iter().all(|rule| now.rules.contains(rule)) && side.routes.iter().all(route)
}
