//! What the host's side of an attachment lacks: the one comparison that repairs it and
//! that CHECK tells of. Pure; how the kernel is asked is not known here.

use ipnetwork::IpNetwork;

use super::attachment::Side;
use crate::{
    net::{
        link::Link,
        route::{Found, Route},
        sysctl::Sysctl,
    },
    object::{Action, Kind, Told},
};

/// What the kernel has of a host link's side.
#[derive(Clone, Debug)]
pub struct HeldSide<'a> {
    /// The link.
    pub link: &'a Link,
    /// Its addresses.
    pub addresses: Vec<IpNetwork>,
    /// The route that the kernel takes to each of the pod's addresses, in the order of
    /// the description's routes.
    pub ways: Vec<Option<Found>>,
    /// The values of the described parameters, in their order; none for what cannot be
    /// read.
    pub values: Vec<Option<String>>,
}

/// One thing that is lacking.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Lack {
    /// A parameter has another value.
    Sysctl(Sysctl),
    /// The link is in another interface group than this.
    Group(u32),
    /// The link is down.
    Up,
    /// The link has not this address.
    Address(IpNetwork),
    /// The kernel does not take this route.
    Route(Route),
}

/// Compares a host link with its description. An optional parameter may have any value:
/// links of an earlier version serve without it.
pub fn lacking(side: &Side, group: u32, held: &HeldSide<'_>) -> Vec<Lack> {
    let HeldSide { link, addresses, ways, values } = held;
    let parameters = side.parameters(&link.name).zip(values);
    let changed = parameters.filter(|(wanted, value)| value.as_ref() != Some(&wanted.value));
    let changed = changed.filter(|(wanted, _)| !wanted.optional);
    let mut lacks: Vec<Lack> = changed.map(|(wanted, _)| Lack::Sysctl(wanted)).collect();
    // By it the rules of the network's table know a pod.
    lacks.extend((link.group != group).then_some(Lack::Group(group)));
    lacks.extend((!link.up).then_some(Lack::Up));
    let missing = side.addresses.iter().filter(|address| !addresses.contains(address));
    lacks.extend(missing.copied().map(Lack::Address));
    let leads = |route: &Route, way: &Option<Found>| {
        way.as_ref().is_some_and(|way| {
            way.is_through(link.index) && way.route.destination == route.destination
        })
    };
    let astray = side.routes.iter().zip(ways).filter(|(route, way)| !leads(route, way));
    lacks.extend(astray.map(|(route, _)| Lack::Route(route.clone())));
    lacks
}

impl Lack {
    /// As a change that makes it good, to the link of that name.
    pub fn told(&self, link: &str) -> Told {
        let (kind, object, after) = match self {
            Self::Sysctl(sysctl) => {
                (Kind::Sysctl, format!("sysctl {}", sysctl.key), sysctl.value.clone())
            }
            Self::Up => (Kind::Link, format!("link {link}"), "up".to_owned()),
            Self::Group(group) => (Kind::Link, format!("link {link}"), format!("group {group}")),
            Self::Address(address) => {
                (Kind::Address, format!("address of {link}"), address.to_string())
            }
            Self::Route(route) => {
                let object = format!("route {}", route.destination);
                (Kind::Route, object, format!("{route} dev {link}"))
            }
        };
        Told { kind, action: Action::Create, object, before: None, after: Some(after) }
    }

    /// As a difference, of the link of that name.
    pub fn words(&self, link: &str) -> String {
        match self {
            Self::Sysctl(sysctl) => format!("sysctl {sysctl} does not hold"),
            Self::Up => format!("{link} is down"),
            Self::Group(_) => format!("{link} has lost its group"),
            Self::Address(address) => format!("{link} lacks address {address}"),
            Self::Route(route) => format!("the host route {route} to {link} is missing"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::pod::attachment::host_side;

    const GROUP: u32 = 0x6d00_0001;

    fn link() -> Link {
        let (index, name) = (3, "calic1".to_owned());
        Link { index, name, group: GROUP, mtu: 1500, up: true, ..Link::default() }
    }

    fn addresses() -> Vec<IpAddr> {
        ["10.1.0.5", "fd00::5"].map(|text| text.parse().unwrap()).into()
    }

    /// All that the description asks for, as the kernel tells it.
    fn whole<'a>(link: &'a Link, side: &Side) -> HeldSide<'a> {
        let way = |route: &Route| Some(Found::new(route.clone(), vec![link.index]));
        HeldSide {
            link,
            addresses: side.addresses.clone(),
            ways: side.routes.iter().map(way).collect(),
            values: side.parameters(&link.name).map(|sysctl| Some(sysctl.value)).collect(),
        }
    }

    fn told(change: impl FnOnce(&mut Link), spoil: impl FnOnce(&mut HeldSide<'_>)) -> Vec<String> {
        let mut link = link();
        change(&mut link);
        let side = host_side("calic1", &addresses());
        let mut held = whole(&link, &side);
        spoil(&mut held);
        lacking(&side, GROUP, &held).iter().map(|lack| lack.told("calic1").to_string()).collect()
    }

    #[test]
    fn each_thing_that_is_lost_is_told_alone() {
        let nothing = |_: &mut HeldSide<'_>| {};
        assert_eq!(told(|_| {}, nothing), [""; 0]);
        assert_eq!(told(|link| link.up = false, nothing), ["+ link calic1: up"]);
        let group = format!("+ link calic1: group {GROUP}");
        assert_eq!(told(|link| link.group = 0, nothing), [group]);
        let addresses = told(|_| {}, |held| held.addresses.clear());
        assert_eq!(addresses, ["+ address of calic1: fe80::ecee:eeff:feee:eeee/64"]);
        let route = "+ route 10.1.0.5/32: 10.1.0.5/32 dev calic1";
        assert_eq!(told(|_| {}, |held| held.ways[0] = None), [route]);
        // Through another link, or a wider route.
        let elsewhere = |held: &mut HeldSide<'_>| held.ways[0].as_mut().unwrap().devices = vec![9];
        assert_eq!(told(|_| {}, elsewhere), [route]);
        let wider = |held: &mut HeldSide<'_>| {
            let way = held.ways[0].as_mut().unwrap();
            way.route.destination = "10.1.0.0/24".parse().unwrap();
        };
        assert_eq!(told(|_| {}, wider), [route]);
    }

    #[test]
    fn every_parameter_counts_but_the_optional() {
        let side = host_side("calic1", &addresses());
        for (place, sysctl) in side.parameters("calic1").enumerate() {
            for value in [None, Some("7".to_owned())] {
                let told = told(|_| {}, |held| held.values[place] = value);
                let line = format!("+ sysctl {}: {}", sysctl.key, sysctl.value);
                let lines = if sysctl.optional { vec![] } else { vec![line] };
                assert_eq!(told, lines, "{sysctl}");
            }
        }
    }
}
