//! Reads what the kernel has of a host link's side.

use crate::{
    net::{Error, Socket, addr, link::Link, route, sysctl},
    object::Sysctl,
    pod::{Side, side::HeldSide},
};

/// As far as the description asks for it.
///
/// # Errors
/// Of the kernel's answers.
pub(crate) fn held(host: &mut Socket, side: &Side, link: &Link) -> Result<HeldSide, Error> {
    let values = side.parameters().filter_map(|wanted| {
        let value = sysctl::read(&wanted.key).ok()?;
        Some(Sysctl { value, ..wanted })
    });
    let addresses = match side.objects.addresses.is_empty() {
        true => Vec::new(),
        false => addr::of_link(host, link.index)?,
    };
    let routes = side.objects.routes.iter();
    let ways = routes.map(|route| route::lookup(host, route.destination().ip()));
    let ways: Vec<_> = ways.collect::<Result<_, _>>()?;
    let held = HeldSide::of_link(link, addresses).values(values);
    Ok(held.reached(side, link.index, &ways))
}
