//! The way to an address, asked in one exchange: its route, and the links that
//! it is known to lead through.

use std::net::IpAddr;

use nix::{errno::Errno, libc::RTM_NEWLINK};

use super::{
    Error, Request, Socket,
    link::{self, Link},
    route::{self, Found},
};

/// What the kernel has of a way.
#[derive(Clone, Debug, Default)]
pub struct Way {
    /// Those of the links that are there.
    pub links: Vec<Link>,
    /// The FIB entry of the address, if it leads anywhere.
    pub route: Option<Found>,
}

enum Part {
    Link(Link),
    Route(Found),
}

/// Asks for links by their indexes, and for the FIB entry of an address.
///
/// # Errors
/// Anything the kernel answers but that something is not there.
pub fn ask(socket: &mut Socket, links: &[u32], address: Option<IpAddr>) -> Result<Way, Error> {
    let links = links.iter().map(|index| link::question(*index).tolerate(Errno::ENODEV));
    let requests: Vec<Request> = links.chain(address.map(route::question)).collect();
    let parts = socket.exchange(&requests, |answer| match answer.kind {
        RTM_NEWLINK => Ok(Link::read(answer)?.map(Part::Link)),
        _ => Ok(route::read(answer)?.map(Part::Route)),
    })?;
    let mut way = Way::default();
    for part in parts {
        match part {
            Part::Link(link) => way.links.push(link),
            Part::Route(found) => way.route = Some(found).filter(Found::leads_somewhere),
        }
    }
    Ok(way)
}
