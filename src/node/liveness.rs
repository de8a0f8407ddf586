// SPDX-License-Identifier: Apache-2.0
//! Whether an attachment of the journal is alive, by all that tells.
//!
//! Any program may write over a link's alias, move it to another group or give it
//! another name. A lease is only free when none of the signs is left: the mark,
//! the name with our group, the route to the address, the other end of the pod's
//! interface.

use std::net::IpAddr;

use crate::{
    family::{Family, is_single},
    list::PushAll,
    net::{
        Namespace, Socket,
        link::{self, Link},
        route,
    },
    pod::{
        Identity,
        identity::{host_link_of, is_marked},
    },
    state::Entry,
};

use super::{Error, kernel};

/// What is left of an attachment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Liveness {
    /// Its host link, whatever that looks like now.
    Link(Box<Link>),
    /// A route still leads to its address, or its namespace cannot be looked
    /// into: alive, as far as can be told.
    Unclear,
    /// Nothing.
    Gone,
}

impl Liveness {
    pub(crate) fn is_gone(&self) -> bool {
        *self == Self::Gone
    }

    pub(crate) fn link(self) -> Option<Link> {
        match self {
            Self::Link(link) => Some(*link),
            Self::Unclear | Self::Gone => None,
        }
    }
}

/// Looks for what is left of an attachment, among all the `links` of the node.
///
/// # Errors
/// Of the kernel's answers.
pub(crate) fn of(host: &mut Socket, entry: &Entry, links: &[Link]) -> Result<Liveness, Error> {
    let alias = Identity::from(entry).alias();
    let is_veth = |link: &&Link| link.kind.as_deref() == Some("veth");
    let is_marked = |link: &&Link| link.alias.as_deref() == Some(&alias);
    let found = host_link_of(entry, links).filter(|link| is_marked(link) || is_veth(link));
    if let Some(link) = found {
        return Ok(Liveness::Link(Box::new(link.clone())));
    }
    // One that is marked as another attachment's is none of this one's.
    let may_be = |link: &&Link| is_veth(link) && !is_others(link, &alias);
    let mut routed = false;
    for address in &entry.addresses {
        let Some(device) = device_of(host, *address)? else { continue };
        let Some(link) = links.iter().find(|link| link.index == device) else { continue };
        if may_be(&link) {
            return Ok(Liveness::Link(Box::new(link.clone())));
        }
        routed |= !is_others(link, &alias);
    }
    if routed {
        return Ok(Liveness::Unclear);
    }
    Ok(in_namespace(entry, links, &alias))
}

/// Whether a route to that very address leads somewhere: into a pod, or to the
/// node itself.
///
/// # Errors
/// Of the kernel's answer.
pub(crate) fn is_routed(host: &mut Socket, address: IpAddr) -> Result<bool, Error> {
    let way = route::lookup(host, address).map_err(kernel)?;
    Ok(way.is_some_and(|way| is_single(&way.route.destination)))
}

/// The addresses to which routes to single addresses lead by a device: those of the pod behind
/// it.
///
/// # Errors
/// Of the kernel's answers.
pub(crate) fn routed_by(host: &mut Socket, device: u32) -> Result<Vec<IpAddr>, Error> {
    let mut addresses = Vec::new();
    for family in Family::BOTH {
        let routes = route::all(host, family).map_err(kernel)?;
        let own = routes.iter().filter(|found| found.is_through(device) && found.is_connected());
        let own = own.map(|found| found.route.destination).filter(is_single);
        addresses.push_all(own.map(|destination| destination.ip()));
    }
    Ok(addresses)
}

fn is_others(link: &Link, alias: &str) -> bool {
    is_marked(link.alias.as_deref()) && link.alias.as_deref() != Some(alias)
}

/// The device that a route to that very address leads through.
fn device_of(host: &mut Socket, address: IpAddr) -> Result<Option<u32>, Error> {
    let found = route::lookup(host, address).map_err(kernel)?;
    let found = found.filter(|found| !found.local && is_single(&found.route.destination));
    Ok(found.and_then(|found| found.device()))
}

/// By the pod's end, if the namespace is the one that it was made in.
fn in_namespace(entry: &Entry, links: &[Link], alias: &str) -> Liveness {
    let Ok(netns) = Namespace::open(&entry.netns) else { return Liveness::Gone };
    let identity = netns.identity();
    if (identity.device, identity.inode) != entry.netns_identity {
        return Liveness::Gone;
    }
    let look = || -> Result<Option<Link>, crate::net::Error> {
        let mut pod = netns.within(&Namespace::current()?, Socket::open)??;
        link::by_name(&mut pod, &entry.ifname)
    };
    let inside = match look() {
        Ok(Some(inside)) if inside.kind.as_deref() == Some("veth") => inside,
        Ok(_) => return Liveness::Gone,
        // What may not be looked into is not given up.
        Err(_) => return Liveness::Unclear,
    };
    let other_end = links.iter().find(|link| {
        Some(link.index) == inside.peer_index
            && link.peer_index == Some(inside.index)
            && !is_others(link, alias)
    });
    other_end.map_or(Liveness::Gone, |link| Liveness::Link(Box::new(link.clone())))
}
