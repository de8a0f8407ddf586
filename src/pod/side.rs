// SPDX-License-Identifier: Apache-2.0
//! What belongs to one side of a veth, and what that side lacks: the one comparison that
//! repairs it and that CHECK tells of. Pure; how the kernel is asked is not known here.

use ipnetwork::IpNetwork;

use crate::{
    list::{Gather, PushAll},
    net::{
        Request,
        devconf::Devconf,
        link::Link,
        neigh::Known,
        route::{self, Found},
        rule::Rule,
    },
    object::{
        Address, Change, Held, HeldObjects, HeldRoute, Indexes, Managed, Neighbour, Objects, Route,
        Setting, Sysctl, Value, Work, difference,
    },
};

/// The objects on one side of a veth.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Side {
    /// The link.
    pub link: String,
    /// IPv4 parameters of the link, which go in the message that brings it up; the pod's
    /// has none.
    pub devconf: Vec<Devconf>,
    /// Everything else.
    pub objects: Objects,
}

impl Side {
    /// Nothing but these ways.
    pub fn of_ways(link: &str, routes: Vec<route::Route>, rules: Vec<Rule>) -> Self {
        let objects = Objects { rules, ..Objects::default() };
        let mut side = Self { link: link.to_owned(), objects, ..Self::default() };
        side.lead(routes);
        side
    }

    /// Adds routes through the link.
    pub(super) fn lead(&mut self, routes: Vec<route::Route>) {
        let through = routes.into_iter().map(|route| Route::through(&self.link, route));
        self.objects.routes.push_all(through);
    }

    /// The ways alone.
    #[must_use]
    pub fn ways(&self) -> Self {
        let Objects { routes, rules, .. } = self.objects.clone();
        let objects = Objects { routes, rules, ..Objects::default() };
        Self { link: self.link.clone(), objects, ..Self::default() }
    }

    /// What does not go with the link.
    #[must_use]
    pub fn staying(&self) -> Self {
        Self::of_ways(&self.link, Vec::new(), self.objects.rules.clone())
    }

    /// Whether there are rules to be read.
    pub fn has_rules(&self) -> bool {
        !self.objects.rules.is_empty()
    }

    /// All but the parameters.
    #[must_use]
    pub fn without_parameters(&self) -> Self {
        let objects = Objects { sysctls: Vec::new(), ..self.objects.clone() };
        Self { objects, devconf: Vec::new(), ..self.clone() }
    }

    /// All parameters that are read back: what may have any value is not.
    pub fn parameters(&self) -> impl Iterator<Item = Sysctl> {
        let devconf = self.devconf.iter().map(|devconf| devconf.sysctl(&self.link));
        let all = devconf.chain(self.objects.sysctls.iter().cloned());
        all.filter(|sysctl| !sysctl.optional)
    }

    /// All of it that is compared with what there is.
    pub fn compared(&self) -> Objects {
        Objects { sysctls: self.parameters().gather(), ..self.objects.clone() }
    }

    /// The messages that make it all but the parameters and what is set of the link, which
    /// has this index; each with the word whether somebody else may have made its object
    /// meanwhile. What others need comes first.
    pub fn making(&self, index: u32) -> Vec<(Request, bool)> {
        let changes = difference(&self.objects, &HeldObjects::default());
        let changes = changes.iter().filter(|change| change.wanted::<Setting>().is_none());
        let indexes = self.indexes(index);
        let made = changes.filter_map(|change| match change.work(&indexes) {
            Work::Message(request) => Some((request, !change.is_of_node())),
            _ => None,
        });
        made.gather()
    }

    /// The messages that remove it all.
    pub fn removal(&self, index: u32) -> Vec<Request> {
        let indexes = self.indexes(index);
        let changes = difference(&Objects::default(), &self.objects.as_held(&indexes));
        let messages = changes.iter().filter_map(|change| match change.work(&indexes) {
            Work::Message(request) => Some(request),
            _ => None,
        });
        messages.gather()
    }

    /// Whether all of its ways are there, whoever made them.
    pub fn is_among(&self, index: u32, rules: &[Rule], routes: &[Found]) -> bool {
        let holds = |wanted: &Route| {
            let wanted = wanted.plain();
            let same =
                |found: &Found| found.route.table == wanted.table && found.route.agrees(wanted);
            routes.iter().any(|found| found.is_through(index) && same(found))
        };
        let Objects { routes, rules: own, .. } = &self.objects;
        own.iter().all(|rule| rules.contains(rule)) && routes.iter().all(holds)
    }

    fn indexes(&self, index: u32) -> Indexes {
        Indexes::from([(self.link.clone(), index)])
    }
}

/// What the kernel has of a side, as far as the side's description asks for it.
#[derive(Clone, Debug, Default)]
pub struct HeldSide {
    /// As objects.
    pub objects: HeldObjects,
}

impl HeldSide {
    /// The link with its addresses.
    pub fn of_link(link: &Link, addresses: Vec<IpNetwork>) -> Self {
        let set = |value| {
            let object = Setting { device: link.name.clone(), value };
            Held { object, ours: true }
        };
        let at = |address| {
            let object = Address { device: link.name.clone(), address };
            Held { object, ours: false }
        };
        let objects = HeldObjects {
            settings: [Value::Group(link.group), Value::Up(link.up)].map(set).into(),
            addresses: addresses.into_iter().map(at).gather(),
            ..HeldObjects::default()
        };
        Self { objects }
    }

    /// With the values of the parameters that can be read.
    #[must_use]
    pub fn values(mut self, values: impl Iterator<Item = Sysctl>) -> Self {
        self.objects.sysctls = values.map(|object| Held { object, ours: true }).gather();
        self
    }

    /// With what becomes of the pod's addresses: the way that the kernel takes to each,
    /// in the order of the side's routes.
    #[must_use]
    pub fn reached(mut self, side: &Side, index: u32, ways: &[Option<Found>]) -> Self {
        let leads = |wanted: &Route, way: &Option<Found>| {
            let to = |way: &Found| way.route.destination == wanted.destination();
            way.as_ref().is_some_and(|way| way.is_through(index) && to(way))
        };
        let ways = side.objects.routes.iter().zip(ways);
        let held = ways.filter_map(|(wanted, way)| {
            let there = wanted.as_held(&side.indexes(index))?;
            Some(if leads(wanted, way) { there } else { astray(there) })
        });
        self.objects.routes = held.gather();
        self
    }

    /// With the routes of the pod. Plugins behind us move routes to tables of theirs, but
    /// not those of ours.
    #[must_use]
    pub fn routes(mut self, side: &Side, index: u32, found: &[Found]) -> Self {
        let own = side.objects.rules.first().map(|rule| rule.table);
        let is_there = |wanted: &&Route| {
            let wanted = wanted.plain();
            let same = |found: &Found| {
                let tables = (Some(wanted.table) == own, Some(found.route.table) == own);
                found.is_through(index) && wanted.agrees(&found.route) && tables.0 == tables.1
            };
            found.iter().any(same)
        };
        let there = side.objects.routes.iter().filter(is_there);
        let held = there.filter_map(|wanted| wanted.as_held(&side.indexes(index)));
        self.objects.routes = held.gather();
        self
    }

    /// With the rules of the pod.
    #[must_use]
    pub fn rules(mut self, rules: Vec<Rule>) -> Self {
        let held = rules.into_iter().map(|object| Held { object, ours: false });
        self.objects.rules = held.gather();
        self
    }

    /// With a neighbour: what the kernel knows of it, and whether the other end answers
    /// for it where it knows nothing.
    pub fn neighbour(&mut self, wanted: &Neighbour, known: Option<Known>, answers: bool) {
        let permanent = known.is_some_and(|known| known.permanent);
        let mac = known.and_then(|known| known.mac).filter(|mac| *mac != wanted.mac);
        let object = match mac {
            Some(mac) => Neighbour { mac, ..wanted.clone() },
            None if permanent || answers => wanted.clone(),
            None => return,
        };
        self.objects.neighbours.push(Held { object, ours: true });
    }
}

/// A route that the kernel does not take: what it takes instead is replaced, whatever it
/// is and whoever made it.
fn astray(mut held: HeldRoute) -> HeldRoute {
    held.found.route.kind = route::Kind::Unreachable;
    HeldRoute { device: None, ..held }
}

/// What a side lacks, in the order in which it is to be made.
pub fn lacking(side: &Side, held: &HeldSide) -> Vec<Change> {
    lack(&side.compared(), &held.objects)
}

/// The same, where both are known as objects.
pub fn lack(wanted: &Objects, held: &HeldObjects) -> Vec<Change> {
    let changes = difference(wanted, held).into_iter();
    changes.filter(|change| !change.removes()).gather()
}

/// The same as differences of `whose` side it is.
pub fn differences(side: &Side, held: &HeldSide, whose: &str) -> Vec<String> {
    lacking(side, held).iter().map(|change| change.lack(whose)).gather()
}

#[cfg(test)]
mod tests;
