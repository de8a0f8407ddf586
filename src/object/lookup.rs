// SPDX-License-Identifier: Apache-2.0
//! Which way the kernel sends packets, where that is another than the route's: by a
//! longer prefix, or a policy rule.

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::{
    diff::{Object, Step},
    managed::{Indexes, Managed, Present, Work},
    route::Route,
    told::Kind,
};
use crate::list::Gather;

/// Packets go the way of this route.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Lookup(pub Route);

/// A wanted route, and what leads elsewhere, in words. It is always somebody else's.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Diversion {
    /// The route.
    pub wanted: Route,
    /// What leads elsewhere.
    pub by: String,
}

impl Object for Lookup {
    type Held = Diversion;
    type Key<'a> = (IpNetwork, u32);

    fn key(&self) -> (IpNetwork, u32) {
        (self.0.destination(), self.0.metric())
    }

    fn key_of(held: &Diversion) -> Option<(IpNetwork, u32)> {
        Some((held.wanted.destination(), held.wanted.metric()))
    }

    fn is_ours(_: &Diversion) -> bool {
        false
    }

    fn is(&self, _: &Diversion) -> bool {
        false
    }

    fn is_served_by(&self, _: &Diversion) -> bool {
        false
    }
}

impl Present<Lookup> for Diversion {
    fn name(&self) -> String {
        self.wanted.name()
    }

    fn value(&self) -> String {
        self.by.clone()
    }

    fn of_made(_: &Lookup, _: &Indexes) -> Option<Self> {
        None
    }
}

impl Managed for Lookup {
    const KIND: Kind = Kind::Route;

    fn name(&self) -> String {
        self.0.name()
    }

    fn value(&self) -> String {
        self.0.to_string()
    }

    /// Several things may lead packets of one route elsewhere.
    fn diff(wanted: &[&Self], held: &[&Diversion]) -> Vec<Step<Self>> {
        let is_wanted = |held: &&&Diversion| wanted.iter().any(|one| one.0 == held.wanted);
        let diverted = held.iter().filter(is_wanted);
        diverted.map(|held| Step::Foreign(Self(held.wanted.clone()), (*held).clone())).gather()
    }

    fn work(_: &Step<Self>, _: &Indexes) -> Work {
        Work::Nothing
    }

    fn device(&self) -> Option<&str> {
        self.0.device()
    }

    fn leads_to(&self) -> Option<IpNetwork> {
        Some(self.0.destination())
    }
}
