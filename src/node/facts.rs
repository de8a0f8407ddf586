// SPDX-License-Identifier: Apache-2.0
//! What a verb has to know of the node and of the pod's namespace.

use std::{io::ErrorKind, net::IpAddr};

use crate::{
    conf::{CALICO, Config, MTU_RANGE, MtuMode},
    fabric::{Settings, uplink},
    family::{Family, is_single},
    list::{Gather, PushAll},
    net::{
        Socket, Tables, addr,
        link::{self, Link},
        route::{self, Found, Kind, TABLE_MAIN},
        rule::{self, Rule},
    },
    pod::{
        PodFacts,
        identity::is_marked,
        mtu::{self, Uplink},
        routing::{self, RULE_PROTOCOL},
    },
    state::{Root, file::TEXT_BYTES_MAX, read_text},
};

use super::{Error, Object, fabric::Applied, kernel};

/// The MTU of an attachment with or without IPv6, and the words to log. The node's
/// default route is looked up where no `defaults` are known, and its links where no
/// `tables` are.
///
/// # Errors
/// Of the kernel's answers.
pub(crate) fn mtu(
    host: &mut Socket,
    config: &Config,
    root: &Root,
    fabric: Option<&Applied>,
    family: Family,
    (defaults, tables): (&[Found], Option<&Tables>),
) -> Result<mtu::Choice, Error> {
    // What serves may be older than what the file says.
    let served = fabric.and_then(Applied::said).filter(|part| *part != config.fabric.file);
    let served = served.map(|part| config.under(&part));
    let config = served.as_ref().unwrap_or(config);
    let mut remark = None;
    let file = (config.plugin_type == CALICO && config.mtu.is_none())
        .then(|| read_text(&root.path("/var/lib/calico/mtu"), TEXT_BYTES_MAX))
        .and_then(|text| match text {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                remark = Some(format!("/var/lib/calico/mtu: {error}"));
                None
            }
            text => text.ok(),
        })
        .and_then(|text| match text.trim().parse() {
            Ok(mtu) if MTU_RANGE.contains(&mtu) => Some(mtu),
            _ => {
                remark = Some(format!("/var/lib/calico/mtu holds no MTU: {:?}", text.trim()));
                None
            }
        });
    // With mtu configured, the uplink is only good for a warning.
    let uplink = match fabric.and_then(Applied::uplink) {
        Some(narrowest) => Some(narrowest),
        None => match uplink_by(host, defaults, tables) {
            Err(error) if config.mtu.is_none() => return Err(error),
            found => found.unwrap_or_default(),
        },
    };
    let served = fabric.is_some_and(|fabric| fabric.serves_ipv6).then_some(Family::V6);
    let family = served.unwrap_or(family);
    let overhead = Settings::of_config(config).overhead_of_pods(family);
    let mut choice = mtu::choose(config.mtu, file, uplink.as_ref(), overhead);
    if config.mtu_mode == MtuMode::Route {
        choice = choice.routed(uplink.as_ref(), overhead);
    }
    choice.warning = [remark, choice.warning].into_iter().flatten().reduce(|a, b| a + "; " + &b);
    Ok(choice)
}

/// The MTU that the link of the next pod would have, in bytes: of IPv4 alone, and with
/// IPv6.
///
/// # Errors
/// Of the kernel's answers.
pub fn link_mtus(
    host: &mut Socket,
    config: &Config,
    root: &Root,
    fabric: Option<&Applied>,
    tables: &Tables,
) -> Result<(u32, u32), Error> {
    let mut fitting = |family| -> Result<u32, Error> {
        let choice = mtu(host, config, root, fabric, family, (&[], Some(tables)))?;
        Ok(if config.mtu_mode == MtuMode::Route { choice.link } else { choice.mtu })
    };
    Ok((fitting(Family::V4)?, fitting(Family::V6)?))
}

/// The device of the default route, else the smallest that is up and is no
/// pod's.
///
/// # Errors
/// Of the kernel's answers.
pub fn uplink(host: &mut Socket, tables: Option<&Tables>) -> Result<Option<Uplink>, Error> {
    uplink_by(host, &[], tables)
}

fn uplink_by(
    host: &mut Socket,
    defaults: &[Found],
    tables: Option<&Tables>,
) -> Result<Option<Uplink>, Error> {
    let narrowest = uplink::narrowest(host, defaults).map_err(kernel)?;
    if narrowest.is_some() {
        return Ok(narrowest);
    }
    uplink::uplink(host, &[], tables).map_err(kernel)
}

/// What the pod has besides the interface `ifname`, and that interface if it
/// is there.
///
/// # Errors
/// Of the kernel's answers.
pub(crate) fn pod(pod: &mut Socket, ifname: &str) -> Result<(PodFacts, Option<Link>), Error> {
    let links = link::all(pod).map_err(kernel)?;
    let (own, others): (Vec<_>, Vec<_>) = links.into_iter().partition(|link| link.name == ifname);
    let own = own.into_iter().next();
    // Only an interface that is up has a route and made its pod's settings.
    if !others.iter().any(|link| link.up && !link.loopback) {
        return Ok((PodFacts::default(), own));
    }
    let Routing { rules, routes } = Routing::read(pod)?;
    let own_index = own.as_ref().map(|link| link.index);
    let foreign = |found: &&Found| {
        found.devices.iter().any(|device| Some(*device) != own_index)
            && (found.route.table, found.route.kind) == (TABLE_MAIN, Kind::Unicast)
    };
    let facts = PodFacts {
        attached_before: true,
        taken: routes.iter().filter(foreign).map(|found| found.route.destination).gather(),
        table: Some(routing::free_table(&rules, &routes)),
        leftovers: leftovers(pod, rules, &routes)?,
    };
    Ok((facts, own))
}

/// How packets find their way in a pod.
pub(crate) struct Routing {
    pub(crate) rules: Vec<Rule>,
    pub(crate) routes: Vec<Found>,
}

impl Routing {
    /// Both families.
    ///
    /// # Errors
    /// Of the kernel's answers.
    pub(crate) fn read(pod: &mut Socket) -> Result<Self, Error> {
        let mut all = Self { rules: Vec::new(), routes: Vec::new() };
        for family in Family::BOTH {
            all.rules.push_all(rule::all(pod, family).map_err(kernel)?);
            all.routes.push_all(route::all(pod, family).map_err(kernel)?);
        }
        Ok(all)
    }
}

/// Those of the `rules` that are ours and that no interface needs. Addresses are
/// read after the rules: who is attaching now has its address before its rule.
///
/// # Errors
/// Of the kernel's answers.
pub(crate) fn leftovers(
    pod: &mut Socket,
    mut rules: Vec<Rule>,
    routes: &[Found],
) -> Result<Vec<Rule>, Error> {
    rules.retain(routing::is_ours);
    if rules.is_empty() {
        return Ok(rules);
    }
    let addresses = addr::all(pod).map_err(kernel)?;
    let addresses: Vec<IpAddr> = addresses.iter().map(|(_, address)| address.ip()).gather();
    Ok(routing::leftovers(&rules, routes, &addresses))
}

/// Our rules in a pod, of both families.
///
/// # Errors
/// Of the kernel's answers.
pub(crate) fn rules(pod: &mut Socket) -> Result<Vec<Rule>, Error> {
    let mut rules = rule::of_protocol(pod, RULE_PROTOCOL).map_err(kernel)?;
    rules.retain(routing::is_ours);
    Ok(rules)
}

/// Refuses an address that the node has itself, or that a live attachment's
/// route holds, be it ours or one of another plugin whose host links have the
/// same `prefix`. The link of index `mine` does not count. Returns the route
/// that leads there now.
///
/// # Errors
/// `Conflict` naming the address and its holder.
pub(crate) fn require_free(
    host: &mut Socket,
    address: IpAddr,
    mine: Option<u32>,
    prefix: &str,
) -> Result<Option<Found>, Error> {
    let Some(found) = route::lookup(host, address).map_err(kernel)? else { return Ok(None) };
    let ([device], true) = (&found.devices[..], is_single(&found.route.destination)) else {
        return Ok(Some(found));
    };
    let object = Object::address(address);
    let conflict = |msg: String| Err(Error::new(super::Kind::Conflict, object.clone(), msg));
    let link = link::by_index(host, *device).map_err(kernel)?;
    let Some(link) = link.filter(|link| mine != Some(link.index)) else {
        return Ok(Some(found));
    };
    if found.local {
        return conflict(format!("IPAM gave it, which is {}'s own address", link.name))
            .map_err(|error: Error| error.next("take it out of the range"));
    }
    match &link.alias {
        Some(alias) if is_marked(Some(alias)) => {
            conflict(format!("IPAM gave it, which {} ({alias}) still has", link.name))
                .map_err(|error: Error| error.next("its lease was lost while it was in use"))
        }
        // A pod's link by Calico, alive on a node that is moving over.
        _ if link.up && link.name.starts_with(prefix) => {
            conflict(format!("IPAM gave it, to which a route leads through {}", link.name)).map_err(
                |error| {
                    error.next(format!(
                        "another plugin's pod has it: take it out of the range, or remove {}",
                        link.name
                    ))
                },
            )
        }
        _ => Ok(Some(found)),
    }
}
