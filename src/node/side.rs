//! Reads what the kernel has of a host link's side.

use crate::{
    net::{Error, Socket, addr, link::Link, route, sysctl},
    pod::{attachment::Side, lack::HeldSide},
};

/// As far as the description asks for it.
///
/// # Errors
/// Of the kernel's answers.
pub(crate) fn held<'a>(
    host: &mut Socket,
    side: &Side,
    link: &'a Link,
) -> Result<HeldSide<'a>, Error> {
    // What may have any value need not be read.
    let parameters = side.parameters(&link.name);
    let values = parameters.map(|wanted| match wanted.optional {
        true => None,
        false => sysctl::read(&wanted.key).ok(),
    });
    let values = values.collect();
    let addresses = match side.addresses.is_empty() {
        true => Vec::new(),
        false => addr::of_link(host, link.index)?,
    };
    let ways = side.routes.iter().map(|route| route::lookup(host, route.destination.ip()));
    Ok(HeldSide { link, addresses, values, ways: ways.collect::<Result<_, _>>()? })
}
