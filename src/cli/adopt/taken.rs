// SPDX-License-Identifier: Apache-2.0
//! What the pass will find when the tunnels and the routes that are taken over bear our marks:
//! then it decides about all that is on them. Pure.

use super::{site::Site, steps::Step};
use crate::{
    list::PushAll,
    net::route::{Found, Route},
    node::Compared,
    object::{HeldRoute, link::Owner},
};

/// What was compared, with these steps done.
pub(super) fn compared(site: &Site, steps: &[Step]) -> Compared {
    let mut compared = site.snapshot.compared.clone();
    for fabric in &mut compared.fabrics {
        let held = &mut fabric.observed.held;
        for step in steps {
            match step {
                Step::Tunnel { name, .. } => {
                    for tunnel in held.tunnels.iter_mut().filter(|it| it.name == *name) {
                        tunnel.owner = Owner::Ours;
                    }
                    let neighbours = held.neighbours.iter_mut();
                    neighbours.filter(|it| it.object.device == *name).for_each(|it| it.ours = true);
                    let forwarding = held.forwarding.iter_mut();
                    forwarding.filter(|it| it.object.device == *name).for_each(|it| it.ours = true);
                }
                Step::Route { route, index, .. } => {
                    let is_it = |found: &Found| {
                        let taken = Route { protocol: route.protocol, ..found.route.clone() };
                        taken == *route && found.device().unwrap_or_default() == *index
                    };
                    held.routes.retain(|it| !is_it(&it.found));
                    // What is not ours was looked at only where something is wanted.
                    let found = site.snapshot.kernel.routes.iter().find(|found| is_it(found));
                    held.routes.push_all(found.map(|found| HeldRoute {
                        found: Found { route: route.clone(), ..found.clone() },
                        device: name_of(site, *index),
                        ours: true,
                        on_host_link: false,
                    }));
                }
                _ => {}
            }
        }
    }
    compared
}

fn name_of(site: &Site, index: u32) -> Option<String> {
    let link = site.snapshot.kernel.links.iter().find(|link| link.index == index)?;
    Some(link.name.clone())
}
