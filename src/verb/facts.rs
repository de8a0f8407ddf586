//! What a verb has to know of the node and of the pod's namespace.

use std::{fs, net::IpAddr};

use crate::{
    cni::{Code, Config, Error, MtuMode, conf::MTU_RANGE},
    fabric::uplink,
    net::{
        Socket,
        link::{self, Link},
        route::{self, Found, TABLE_MAIN},
    },
    pod::{
        PodFacts,
        identity::is_marked,
        mtu::{self, Uplink},
    },
    state::Root,
};

use super::{fabric::Stamp, kernel};

/// The name under which this binary reads Calico's MTU file.
const CALICO_TYPE: &str = "calico";

/// The MTU of an attachment with or without IPv6, and the words to log. The
/// node's default route is looked up where no `defaults` are known.
///
/// # Errors
/// Of the kernel's answers.
pub(super) fn mtu(
    host: &mut Socket,
    config: &Config,
    root: &Root,
    fabric: Option<&Stamp>,
    ipv6: bool,
    defaults: &[Found],
) -> Result<mtu::Choice, Error> {
    let mut remark = None;
    let file = (config.plugin_type == CALICO_TYPE && config.mtu.is_none())
        .then(|| fs::read_to_string(root.path("/var/lib/calico/mtu")).ok())
        .flatten()
        .and_then(|text| match text.trim().parse() {
            Ok(mtu) if MTU_RANGE.contains(&mtu) => Some(mtu),
            _ => {
                remark = Some(format!("/var/lib/calico/mtu holds no MTU: {:?}", text.trim()));
                None
            }
        });
    // With mtu configured, the uplink is only good for a warning.
    let uplink = match fabric.and_then(Stamp::uplink) {
        Some(narrowest) => Some(narrowest),
        None => match uplink_by(host, defaults) {
            Err(error) if config.mtu.is_none() => return Err(error),
            found => found.unwrap_or_default(),
        },
    };
    let ipv6 = ipv6 || fabric.is_some_and(|fabric| fabric.serves_ipv6);
    let overhead = config.overhead(ipv6);
    let mut choice = mtu::choose(config.mtu, file, uplink.as_ref(), overhead);
    if config.mtu_mode == MtuMode::Route {
        choice = choice.routed(uplink.as_ref(), overhead);
    }
    choice.warning = [remark, choice.warning].into_iter().flatten().reduce(|a, b| a + "; " + &b);
    Ok(choice)
}

/// The device of the default route, else the smallest that is up and is no
/// pod's.
///
/// # Errors
/// Of the kernel's answers.
pub fn uplink(host: &mut Socket) -> Result<Option<Uplink>, Error> {
    uplink_by(host, &[])
}

fn uplink_by(host: &mut Socket, defaults: &[Found]) -> Result<Option<Uplink>, Error> {
    let narrowest = uplink::narrowest(host, defaults).map_err(kernel)?;
    if narrowest.is_some() {
        return Ok(narrowest);
    }
    uplink::uplink(host, &[]).map_err(kernel)
}

/// What the pod has besides the interface `ifname`, and that interface if it
/// is there.
///
/// # Errors
/// Of the kernel's answers.
pub(super) fn pod(
    pod: &mut Socket,
    ifname: &str,
    config: &Config,
) -> Result<(PodFacts, Option<Link>), Error> {
    let links = link::all(pod).map_err(kernel)?;
    let (own, others): (Vec<_>, Vec<_>) = links.into_iter().partition(|link| link.name == ifname);
    let own = own.into_iter().next();
    if others.iter().all(|link| link.loopback) {
        return Ok((PodFacts::default(), own));
    }
    let own_index = own.as_ref().map(|link| link.index);
    let foreign = |found: &Found| {
        found.devices.iter().any(|device| Some(*device) != own_index)
            && found.route.table == TABLE_MAIN
    };
    let mut routes = route::all(pod, false).map_err(kernel)?;
    routes.extend(route::all(pod, true).map_err(kernel)?);
    routes.retain(foreign);
    let default = |ipv4: bool| {
        routes
            .iter()
            .map(|found| found.route.destination)
            .any(|destination| destination.prefix() == 0 && destination.is_ipv4() == ipv4)
    };
    let gateway = IpAddr::from(config.gateway);
    let facts = PodFacts {
        // Only an interface that has a route made its pod's settings.
        attached_before: others.iter().any(|link| link.up && !link.loopback),
        default_ipv4: default(true),
        default_ipv6: default(false),
        gateway_reachable: routes.iter().any(|found| {
            found.route.destination.ip() == gateway && found.route.destination.prefix() == 32
        }),
    };
    Ok((facts, own))
}

/// Whether a route to that very address leads somewhere: into a pod, or to the
/// node itself.
///
/// # Errors
/// Of the kernel's answer.
pub(super) fn is_routed(host: &mut Socket, address: IpAddr) -> Result<bool, Error> {
    let full = if address.is_ipv4() { 32 } else { 128 };
    let way = route::lookup(host, address).map_err(kernel)?;
    Ok(way.is_some_and(|way| way.route.destination.prefix() == full))
}

/// Refuses an address that the node has itself, or that a live attachment's
/// route holds, be it ours or one of another plugin whose host links have the
/// same `prefix`. The link of index `mine` does not count. Returns the route
/// that leads there now.
///
/// # Errors
/// Code 101 naming the address and its holder.
pub(super) fn require_free(
    host: &mut Socket,
    address: IpAddr,
    mine: Option<u32>,
    prefix: &str,
) -> Result<Option<Found>, Error> {
    let Some(found) = route::lookup(host, address).map_err(kernel)? else { return Ok(None) };
    let full = if address.is_ipv4() { 32 } else { 128 };
    let ([device], true) = (&found.devices[..], found.route.destination.prefix() == full) else {
        return Ok(Some(found));
    };
    let conflict = |msg: String| Err(Error::new(Code::CONFLICT, msg));
    let link = link::by_index(host, *device).map_err(kernel)?;
    let Some(link) = link.filter(|link| mine != Some(link.index)) else {
        return Ok(Some(found));
    };
    if found.local {
        return conflict(format!("IPAM gave {address}, which is {}'s own address", link.name))
            .map_err(|error| error.details("take it out of the range"));
    }
    match &link.alias {
        Some(alias) if is_marked(Some(alias)) => {
            conflict(format!("IPAM gave {address}, which {} ({alias}) still has", link.name))
                .map_err(|error| error.details("its lease was lost while it was in use"))
        }
        // A pod's link by Calico, alive on a node that is moving over.
        _ if link.up && link.name.starts_with(prefix) => {
            conflict(format!("IPAM gave {address}, to which a route leads through {}", link.name))
                .map_err(|error| {
                    error.details(format!(
                        "another plugin's pod has it: take it out of the range, or remove {}",
                        link.name
                    ))
                })
        }
        _ => Ok(Some(found)),
    }
}
