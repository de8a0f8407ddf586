// SPDX-License-Identifier: Apache-2.0
//! Gives an interface of a pod of several attachments what [`lacking`] says.

use std::net::{IpAddr, Ipv4Addr};

use super::{Error, Kind, Object, facts::Routing, kernel, pod_side};
use crate::{
    conf::{Config, GATEWAY},
    list::Gather,
    net::{Socket, addr, neigh},
    pod::{
        Side,
        several::{Attached, Lack, lacking},
    },
};

/// How often a pod is looked at again because somebody else works there.
const ATTEMPTS: u32 = 4;

/// Makes what an interface with these addresses lacks; returns its table, if it has one, and what was made.
///
/// # Errors
/// `Kernel` with what the kernel refused, after it was undone; `Busy` if the pod's
/// routes never held still.
pub(crate) fn complete(
    pod: &mut Socket,
    config: &Config,
    index: u32,
    addresses: &[IpAddr],
    alone: bool,
) -> Result<(Option<u32>, Side), Error> {
    let gateway = next_hop(pod, config, index)?;
    // From one that the pod has taken off the link nothing leaves.
    let held = addr::all(pod).map_err(kernel)?;
    let held = |address: &IpAddr| held.contains(&(index, (*address).into()));
    let addresses: Vec<IpAddr> = addresses.iter().copied().filter(held).gather();
    let it = Attached { index, addresses: &addresses, gateway, alone };
    for _ in 0..ATTEMPTS {
        let now = Routing::read(pod)?;
        let Lack { table, routes, rules } = lacking(&it, &now.rules, &now.routes);
        if rules.is_empty() {
            return Ok((table, Side::default()));
        }
        let side = Side::of_ways("", routes, rules);
        match pod_side::make_routes(pod, &side, index) {
            Ok(pod_side::Made::Whole) => return Ok((table, side)),
            Ok(pod_side::Made::Overtaken(error)) => {
                let now = Routing::read(pod)?;
                if side.is_among(index, &now.rules, &now.routes) {
                    // Another call has made the same.
                    return Ok((table, Side::default()));
                }
                log::debug!("{error}: tried again");
                pod_side::unmake_routes(pod, &side, index)?;
            }
            Err(error) => {
                let undone = pod_side::unmake_routes(pod, &side, index);
                let errors = [Some(error.clone()), undone.err()];
                return Err(Error::join(errors.into_iter().flatten().gather()).unwrap_or(error));
            }
        }
    }
    let object = Object::request("give the pod its routes");
    Err(Error::new(Kind::Busy, object, "others change them all the time"))
}

/// The IPv4 next hop of an interface, where its routes do not tell. That of another
/// network may be another one: it is the permanent neighbour on the link.
fn next_hop(pod: &mut Socket, config: &Config, index: u32) -> Result<Ipv4Addr, Error> {
    for gateway in [config.gateway, GATEWAY] {
        let known = neigh::lookup(pod, index, gateway.into()).map_err(kernel)?;
        if known.is_some_and(|known| known.permanent) {
            return Ok(gateway);
        }
    }
    Ok(config.gateway)
}
