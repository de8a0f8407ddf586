// SPDX-License-Identifier: Apache-2.0
//! The ways to some addresses, asked in one exchange: their routes, and the links that
//! they are known to lead through.

use std::net::IpAddr;

use nix::{errno::Errno, libc::RTM_NEWLINK};

use super::{
    Error, Request, Socket,
    link::{self, Link},
    route::{self, Found},
};
use crate::list::{Gather, PushAll};

/// What the kernel has of some ways.
#[derive(Clone, Debug, Default)]
pub struct Way {
    /// Those of the links that are there.
    pub links: Vec<Link>,
    /// The FIB entries of those addresses that lead anywhere, in their order.
    pub routes: Vec<Found>,
}

enum Part {
    Link(Link),
    Route(Found),
}

/// Asks for links by their indexes, and for the FIB entries of addresses.
///
/// # Errors
/// Anything the kernel answers but that something is not there.
pub fn ask(socket: &mut Socket, links: &[u32], addresses: &[IpAddr]) -> Result<Way, Error> {
    let links = links.iter().map(|index| link::question(*index).tolerate(Errno::ENODEV));
    let requests: Vec<Request> =
        links.chain(addresses.iter().map(|ip| route::question(*ip))).gather();
    let parts = socket.exchange(&requests, |answer| match answer.kind {
        RTM_NEWLINK => Ok(Link::read(answer)?.map(Part::Link)),
        _ => Ok(route::read(answer)?.map(Part::Route)),
    })?;
    let mut way = Way::default();
    for part in parts {
        match part {
            Part::Link(link) => way.links.push(link),
            Part::Route(found) => way.routes.push_all(Some(found).filter(Found::leads_somewhere)),
        }
    }
    Ok(way)
}
