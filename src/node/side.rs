// SPDX-License-Identifier: Apache-2.0
//! Reads what the kernel has of a host link's side.

use crate::{
    net::{Error, Socket, Tables, addr, link::Link, route, sysctl},
    object::Sysctl,
    pod::{Side, side::HeldSide},
};

/// As far as the description asks for it; by the kernel's `tables` where they are known.
///
/// # Errors
/// Of the kernel's answers.
pub(crate) fn held(
    host: &mut Socket,
    side: &Side,
    link: &Link,
    tables: Option<&Tables>,
) -> Result<HeldSide, Error> {
    let values = side.parameters().filter_map(|wanted| {
        let value = sysctl::read(&wanted.key).ok()?;
        Some(Sysctl { value, ..wanted })
    });
    let addresses = match tables {
        _ if side.objects.addresses.is_empty() => Vec::new(),
        Some(tables) => tables.addresses_of(link.index),
        None => addr::of_link(host, link.index)?,
    };
    let routes = side.objects.routes.iter();
    let ways = routes.map(|route| route::lookup(host, route.destination().ip()));
    let ways: Vec<_> = ways.collect::<Result<_, _>>()?;
    let held = HeldSide::of_link(link, addresses).values(values);
    Ok(held.reached(side, link.index, &ways))
}
