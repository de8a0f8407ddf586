// SPDX-License-Identifier: Apache-2.0
//! Asks the kernel where it sends packets to the pods of peers, where something may lead
//! them elsewhere.

use std::net::IpAddr;

use crate::{
    fabric::{desired::Desired, divert, observed::Observed},
    family::{Family, HasFamily},
    list::{Gather, PushAll},
    net::{Error, Socket, Tables, forwarding, route, sysctl},
    object::{Diversion, Route},
};

/// What takes packets to peers elsewhere although their routes are there.
///
/// # Errors
/// Of the kernel's answers.
pub(super) fn look(
    socket: &mut Socket,
    desired: &Desired,
    observed: &Observed,
    tables: &Tables,
) -> Result<Vec<Diversion>, Error> {
    let mut diversions = Vec::new();
    for family in Family::BOTH {
        let of_family = |route: &&Route| route.destination().family() == family;
        let routes: Vec<&Route> = desired.objects.routes.iter().filter(of_family).gather();
        if routes.is_empty() {
            continue;
        }
        let rules = tables.rules(family).iter().any(divert::is_of_somebody);
        let questions = divert::questions(&routes, &observed.held.routes, rules);
        if questions.is_empty() {
            continue;
        }
        let addresses: Vec<IpAddr> = questions.iter().map(|question| question.address).gather();
        let of_family = observed.pods.iter().filter(|(_, address)| address.family() == family);
        let pod = of_family.copied().find(|(link, _)| forwards(*link, family, observed));
        let answers = route::resolve_from(socket, pod, &addresses);
        // A pod that is gone meanwhile, or whose packets come another way back.
        let answers = answers.or_else(|_| route::resolve_from(socket, None, &addresses)).ok();
        diversions.push_all(divert::judge(questions, answers, &observed.indexes));
    }
    Ok(diversions)
}

/// Whether what comes from a link is forwarded: where it is not, the kernel says of
/// every address that it cannot be reached.
fn forwards(link: u32, family: Family, observed: &Observed) -> bool {
    let name = observed.indexes.iter().find(|(_, index)| **index == link).map(|(name, _)| name);
    let key = |name: &String| match family {
        Family::V6 => forwarding::IPV6.to_owned(),
        Family::V4 => format!("net/ipv4/conf/{name}/forwarding"),
    };
    name.is_some_and(|name| sysctl::read(&key(name)).is_ok_and(|value| value == "1"))
}
