//! Whether the kernel still has what it had, at the price of a few lists: no
//! peer is looked up, and nothing is remembered but a number.

use std::hash::{DefaultHasher, Hash, Hasher};

use serde::{Deserialize, Serialize};

use super::{
    desired::Desired,
    observe::{Observed, observe_own},
    settings::Settings,
};
use crate::net::{Error, Socket};

/// What a digest is of, beside all that bears our marks.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Scope {
    /// Names of the tunnel devices.
    pub tunnels: Vec<String>,
    /// Keys of the node's parameters.
    pub sysctls: Vec<String>,
}

impl Scope {
    /// What a fabric consists of.
    pub fn of(desired: &Desired) -> Self {
        Self {
            tunnels: desired.tunnels.iter().map(|tunnel| tunnel.name.clone()).collect(),
            sysctls: desired.sysctls.iter().map(|sysctl| sysctl.key.clone()).collect(),
        }
    }
}

/// The digest of what the kernel has now.
///
/// # Errors
/// Of the kernel's answers.
pub fn of_kernel(socket: &mut Socket, settings: &Settings, scope: &Scope) -> Result<u64, Error> {
    Ok(of_observed(&observe_own(socket, settings, scope)?, settings.keys.protocol))
}

/// The digest of what the kernel was seen to have. Routes of others do not
/// count; lists may come in any order. It means something to this very binary.
pub fn of_observed(observed: &Observed, protocol: u8) -> u64 {
    let routes = observed.routes.iter().filter(|route| route.protocol == protocol);
    sum(routes.map(|route| (&route.destination, &route.target, route.metric)))
        .wrapping_add(sum(observed.neighbours.iter().map(|held| &held.object)))
        .wrapping_add(sum(observed.forwarding.iter().map(|held| &held.object)))
        .wrapping_add(sum(observed.tunnels.iter().map(|held| format!("{held:?}"))))
        .wrapping_add(sum(&observed.sysctls))
}

fn sum(items: impl IntoIterator<Item = impl Hash>) -> u64 {
    let hash = |item| {
        let mut hasher = DefaultHasher::new();
        Hash::hash(&item, &mut hasher);
        hasher.finish()
    };
    items.into_iter().map(hash).fold(0, u64::wrapping_add)
}
