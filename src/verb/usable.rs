// SPDX-License-Identifier: Apache-2.0
//! Whether a pod on this node may have an address: asked before a lease is
//! taken of our own pool, and before anything is made with the address that
//! another IPAM plugin gave.
//!
//! A route to a pod replaces whatever the node knew of the address. Led into a
//! pod, the address of the node's router, of a peer or of the node itself cuts
//! the node off. What can be asked by key is asked so; all routes are only read
//! where the address is of a subnet that the node is in, or was asked for, and once
//! a minute for the next hops that lie where our own pool draws from.

mod noted;

use std::{collections::HashSet, net::IpAddr};

use crate::{
    cni::{Code, Error},
    conf::Config,
    family::is_single,
    list::Gather,
    net::{
        Socket, addr,
        link::{self, Link},
        next_hops,
        route::{self, Found, PROTOCOL_KERNEL, Route, TABLE_MAIN},
    },
    pod::{attachment::gateway_ipv6, identity::is_marked, reserved::reserved},
    state::Root,
};

use super::{
    fabric::{Applied, FabricState},
    kernel,
};

/// Why a pod may not have an address.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Objection {
    /// What the address is, or who has it, as the end of a sentence.
    pub(super) what: String,
    /// What to do.
    pub(super) advice: String,
}

impl Objection {
    /// For an address that was asked for.
    pub(super) fn of_request(self, address: IpAddr) -> Error {
        let msg = format!("{address} was asked for, which is {}", self.what);
        Error::new(Code::CONFLICT, msg).details(self.advice)
    }

    /// For an address that an IPAM plugin gave.
    pub(super) fn of_lease(self, address: IpAddr) -> Error {
        let msg = format!("IPAM gave {address}, which is {}", self.what);
        Error::new(Code::CONFLICT, msg).details(self.advice)
    }
}

/// How an address came to be proposed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Choice {
    /// By the order of a pool.
    Drawn,
    /// By whoever asked for that very address.
    Asked,
}

/// Decides about an address; the error is of the kernel's answers.
pub(super) type Decide<'a> = dyn FnMut(IpAddr, Choice) -> Result<Option<Objection>, Error> + 'a;

/// What it depends on, and what was learnt meanwhile.
pub(super) struct Usable<'a> {
    root: &'a Root,
    config: &'a Config,
    fabric: Option<&'a Applied>,
    /// Addresses of tunnels on this node.
    tunnels: Vec<IpAddr>,
    /// The host link that is going to be replaced.
    replaced: Option<u32>,
    /// The next hops of the node's routes, once they were read.
    next_hops: Option<HashSet<IpAddr>>,
    /// Those of them that are noted, once the note was read.
    noted: Option<Vec<IpAddr>>,
    /// The routes that lead to the addresses that were found usable.
    routes: Vec<Option<Found>>,
}

impl<'a> Usable<'a> {
    /// On a node with this fabric, where the link of index `replaced` goes.
    pub(super) fn new(
        root: &'a Root,
        config: &'a Config,
        fabric: Option<&'a Applied>,
        replaced: Option<u32>,
    ) -> Self {
        let tunnels = fabric.map(|applied| applied.tunnel_addresses.clone()).unwrap_or_default();
        let (next_hops, noted, routes) = (None, None, Vec::new());
        Self { root, config, fabric, tunnels, replaced, next_hops, noted, routes }
    }

    /// On a node with these tunnels, for a plugin that makes the link itself.
    pub(super) fn for_delegator(root: &'a Root, config: &'a Config, tunnels: Vec<IpAddr>) -> Self {
        Self { tunnels, ..Self::new(root, config, None, None) }
    }

    /// Why no pod may have an address; `None` if one may.
    ///
    /// # Errors
    /// Of the kernel's answers.
    pub(super) fn objection(
        &mut self,
        host: &mut Socket,
        address: IpAddr,
        choice: Choice,
    ) -> Result<Option<Objection>, Error> {
        if let Some(objection) = self.by_itself(address) {
            return Ok(Some(objection));
        }
        let found = route::lookup(host, address).map_err(kernel)?;
        if let Some(found) = &found
            && let Some(objection) = self.by_route(host, address, found)?
        {
            return Ok(Some(objection));
        }
        let asked = choice == Choice::Asked;
        if asked || found.as_ref().is_some_and(Found::is_connected) {
            if self.is_next_hop(host, address)? {
                return Ok(Some(way_out(address)));
            }
            if asked && addr::all(host).map_err(kernel)?.iter().any(|(_, own)| own.ip() == address)
            {
                return Ok(Some(objection("the node's own address", OUT_OF_RANGE)));
            }
        }
        if choice == Choice::Drawn && self.is_noted_next_hop(host, address)? {
            return Ok(Some(way_out(address)));
        }
        if let Some(objection) = self.of_peer(address) {
            return Ok(Some(objection));
        }
        self.routes.push(found);
        Ok(None)
    }

    /// The node's default routes, where those lead to the addresses: nothing else
    /// does then, and no rule to another table.
    pub(super) fn default_routes(&self) -> Vec<Found> {
        let default = |found: &&Found| {
            let Route { destination, table, .. } = &found.route;
            destination.prefix() == 0 && *table == TABLE_MAIN
        };
        self.routes.iter().flatten().filter(default).cloned().gather()
    }

    fn by_itself(&self, address: IpAddr) -> Option<Objection> {
        if address == IpAddr::from(self.config.gateway) || address == IpAddr::from(gateway_ipv6()) {
            return Some(objection("the pods' gateway", OUT_OF_RANGE));
        }
        if self.tunnels.contains(&address) {
            return Some(objection("the address of this node's tunnel", OUT_OF_RANGE));
        }
        let what = reserved(address)?;
        Some(objection(&format!("{what}, which no pod can have"), OUT_OF_RANGE))
    }

    /// By the route that leads there now.
    fn by_route(
        &self,
        host: &mut Socket,
        address: IpAddr,
        found: &Found,
    ) -> Result<Option<Objection>, Error> {
        if found.gateways.contains(&address) {
            return Ok(Some(way_out(address)));
        }
        let link = |host: &mut Socket| match found.device() {
            Some(device) => link::by_index(host, device).map_err(kernel),
            None => Ok(None),
        };
        if found.local || found.shared {
            let name = link(host)?.map_or_else(|| "the node".to_owned(), |link| link.name);
            let what = if found.local { "own" } else { "broadcast or anycast" };
            return Ok(Some(objection(&format!("{name}'s {what} address"), OUT_OF_RANGE)));
        }
        if !is_single(&found.route.destination) {
            return Ok(None);
        }
        let link = link(host)?.filter(|link| self.replaced != Some(link.index));
        Ok(link.and_then(|link| holder(&link, found, &self.config.host_prefix)))
    }

    fn is_next_hop(&mut self, host: &mut Socket, address: IpAddr) -> Result<bool, Error> {
        let known = match self.next_hops.take() {
            Some(known) => known,
            None => next_hops::all(host).map_err(kernel)?,
        };
        Ok(self.next_hops.insert(known).contains(&address))
    }

    /// A next hop may be on the link by its route's word alone, be that of another
    /// table, or of a next-hop object: no look-up of its address tells.
    fn is_noted_next_hop(&mut self, host: &mut Socket, address: IpAddr) -> Result<bool, Error> {
        let known = match self.noted.take() {
            Some(known) => known,
            None => noted::next_hops(self.root, self.config, host)?,
        };
        Ok(self.noted.insert(known).contains(&address))
    }

    /// Other nodes' addresses are looked for in the list of peers only where they
    /// can be: in this node's own pod CIDRs, the list has been looked through.
    fn of_peer(&self, address: IpAddr) -> Option<Objection> {
        let applied = self.fabric?;
        let own = applied.own_cidrs.iter().any(|cidr| cidr.contains(address));
        if own && !applied.peers_inside.contains(&address) {
            return None;
        }
        let what = FabricState::new(self.root, applied.protocol).holder(address)?;
        Some(objection(&what, OUT_OF_RANGE))
    }
}

const OUT_OF_RANGE: &str = "take it out of the ranges of ipam, or ask for another address";

fn objection(what: &str, advice: &str) -> Objection {
    Objection { what: what.to_owned(), advice: advice.to_owned() }
}

fn way_out(address: IpAddr) -> Objection {
    let advice = format!("see: ip route show table all | grep {address}; {OUT_OF_RANGE}");
    objection("the next hop of a route of this node", &advice)
}

/// Who has the address by a route to it alone. Pods' routes through links that
/// nobody marks are another plugin's, alive on a node that is moving over.
fn holder(link: &Link, found: &Found, prefix: &str) -> Option<Objection> {
    match &link.alias {
        Some(alias) if is_marked(Some(alias)) => {
            let what = format!("what {} ({alias}) still has", link.name);
            Some(objection(&what, "its lease was lost while it was in use: see manx ipam check"))
        }
        _ if link.up && link.name.starts_with(prefix) => {
            let advice = format!(
                "another plugin's pod has it: take it out of the range, or remove {}",
                link.name
            );
            let what = format!("an address to which a route leads through {}", link.name);
            Some(objection(&what, &advice))
        }
        _ if found.is_connected() && found.route.protocol == PROTOCOL_KERNEL => {
            Some(objection(&format!("the other end of {}", link.name), OUT_OF_RANGE))
        }
        _ => None,
    }
}
