//! What the pass will find when the tunnels and the routes that are taken over bear our marks:
//! then it decides about all that is on them. Pure.

use super::{site::Site, steps::Step};
use crate::{node::Compared, object::link::Owner};

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
                    for it in &mut held.routes {
                        let mut taken = it.found.route.clone();
                        taken.protocol = route.protocol;
                        if taken == *route && it.found.device().unwrap_or_default() == *index {
                            it.found.route = taken;
                            it.ours = true;
                        }
                    }
                }
                _ => {}
            }
        }
    }
    compared
}
