// SPDX-License-Identifier: Apache-2.0
use std::net::IpAddr;

use super::*;
use crate::{
    net::{Mac, neigh::Known},
    object::{Action, Told},
    pod::{attachment::host_side, routing},
};

const GROUP: u32 = 0x6d00_0001;

fn link() -> Link {
    let (index, name) = (3, "calic1".to_owned());
    Link { index, name, group: GROUP, mtu: 1500, up: true, ..Link::default() }
}

fn addresses() -> Vec<IpAddr> {
    ["10.1.0.5", "fd00::5"].map(|text| text.parse().unwrap()).into()
}

/// What the kernel has of a host's side.
struct Host {
    link: Link,
    addresses: Vec<IpNetwork>,
    ways: Vec<Option<Found>>,
    values: Vec<Sysctl>,
}

impl Host {
    /// All that the description asks for.
    fn whole(side: &Side) -> Self {
        let way = |route: &Route| Some(Found::new(route.plain().clone(), vec![3]));
        Self {
            link: link(),
            addresses: side.objects.addresses.iter().map(|one| one.address).collect(),
            ways: side.objects.routes.iter().map(way).collect(),
            values: side.parameters().collect(),
        }
    }

    fn held(self, side: &Side) -> HeldSide {
        let held = HeldSide::of_link(&self.link, self.addresses).values(self.values.into_iter());
        held.reached(side, 3, &self.ways)
    }
}

/// Each thing that is lost, as a change that makes it good and as a difference.
fn told(spoil: impl FnOnce(&mut Host)) -> Vec<(String, String)> {
    let side = host_side("calic1", &addresses(), GROUP);
    let mut host = Host::whole(&side);
    spoil(&mut host);
    let lacks = lacking(&side, &host.held(&side));
    let told = |change: &Change| Told { action: Action::Create, before: None, ..change.told() };
    lacks.iter().map(|change| (told(change).to_string(), change.lack("the host"))).collect()
}

#[test]
fn each_thing_that_is_lost_is_told_alone() {
    assert_eq!(told(|_| {}), []);
    let one = |line: &str, difference: &str| vec![(line.to_owned(), difference.to_owned())];
    let down = one("+ link calic1: up", "calic1 is down");
    assert_eq!(told(|host| host.link.up = false), down);
    let group = one(&format!("+ link calic1: group {GROUP}"), "calic1 has lost its group");
    assert_eq!(told(|host| host.link.group = 0), group);
    let address = one(
        "+ address of calic1: fe80::ecee:eeff:feee:eeee/64",
        "calic1 lacks address fe80::ecee:eeff:feee:eeee/64",
    );
    assert_eq!(told(|host| host.addresses.clear()), address);
    let route = one(
        "+ route 10.1.0.5/32: 10.1.0.5/32 dev calic1",
        "the host route 10.1.0.5/32 is missing on calic1",
    );
    assert_eq!(told(|host| host.ways[0] = None), route);
    // Through another link, or a wider route.
    assert_eq!(told(|host| host.ways[0].as_mut().unwrap().devices = vec![9]), route);
    let wider = |host: &mut Host| {
        host.ways[0].as_mut().unwrap().route.destination = "10.1.0.0/24".parse().unwrap();
    };
    assert_eq!(told(wider), route);
}

#[test]
fn every_parameter_counts_but_the_optional() {
    let side = host_side("calic1", &addresses(), GROUP);
    for (place, sysctl) in side.parameters().enumerate() {
        let line = format!("+ sysctl {}: {}", sysctl.key, sysctl.value);
        let expected = [(line, format!("sysctl {sysctl} does not hold"))];
        assert_eq!(told(|host| host.values[place].value = "7".to_owned()), expected);
        assert_eq!(told(|host| drop(host.values.remove(place))), expected);
    }
    assert!(side.devconf.len() + side.objects.sysctls.len() > side.parameters().count());
}

fn pod_side() -> Side {
    let gateway = "169.254.1.1".parse().unwrap();
    let default = route::Route::new("0.0.0.0/0".parse().unwrap());
    let default = route::Route { gateway: Some(gateway), ..default };
    let own = route::Route { table: 10_901, ..default.clone() };
    let mut side =
        Side::of_ways("eth0", vec![default, own], routing::rules(Some(10_901), &addresses()));
    let (device, mac) = ("eth0".to_owned(), Mac([2, 0, 0, 0, 0, 1]));
    side.objects.neighbours.push(Neighbour { device, address: gateway, mac });
    side
}

/// The differences of a pod with these routes, these rules and this neighbour.
fn of_pod(routes: &[Found], rules: Vec<Rule>, known: Option<Known>, answers: bool) -> Vec<String> {
    let side = pod_side();
    let held = HeldSide::of_link(&Link { name: "eth0".into(), ..link() }, Vec::new());
    let mut held = held.routes(&side, 3, routes).rules(rules);
    held.neighbour(&side.objects.neighbours[0], known, answers);
    differences(&side, &held, "the pod's")
}

#[test]
fn a_pods_ways_may_be_in_tables_of_others_and_its_next_hop_be_answered_for() {
    let side = pod_side();
    let all: Vec<Found> = (side.objects.routes.iter())
        .map(|route| Found::new(route.plain().clone(), vec![3]))
        .collect();
    let rules = || pod_side().objects.rules;
    let permanent = |octet| {
        let mac = Some(Mac([2, 0, 0, 0, 0, octet]));
        Some(Known { mac, permanent: true, ..Known::default() })
    };
    assert_eq!(of_pod(&all, rules(), permanent(1), false), [""; 0]);
    let mut moved = all.clone();
    moved[0].route.table = 100;
    assert_eq!(of_pod(&moved, rules(), permanent(1), false), [""; 0]);
    let default = "the pod's route 0.0.0.0/0 via 169.254.1.1";
    let missing = format!("{default} is missing on eth0");
    assert_eq!(of_pod(&all[1..], rules(), permanent(1), false), [missing]);
    let missing = format!("{default} table 10901 is missing on eth0");
    assert_eq!(of_pod(&all[..1], rules(), permanent(1), false), [missing]);
    let rule = "the pod's rule 10900: from 10.1.0.5/32 lookup 10901 is missing";
    assert_eq!(of_pod(&all, rules().split_off(1), permanent(1), false), [rule]);
    let another = "the pod's neighbour 169.254.1.1 is 02:00:00:00:00:02";
    assert_eq!(of_pod(&all, rules(), permanent(2), true), [another]);
    assert_eq!(of_pod(&all, rules(), None, true), [""; 0]);
    let missing = "the pod's permanent neighbour 169.254.1.1 is missing";
    assert_eq!(of_pod(&all, rules(), None, false), [missing]);
}

/// What is made and what is removed are the same objects, the one in the reverse order
/// of the other.
#[test]
fn what_a_side_makes_it_removes() {
    let side = pod_side();
    let making: Vec<String> =
        side.making(3).iter().map(|(request, _)| request.what().into_owned()).collect();
    assert_eq!(making.len(), 5, "{making:?}");
    assert!(making[0].starts_with("set neighbour"), "{making:?}");
    assert!(making[4].starts_with("add rule"), "{making:?}");
    assert_eq!(side.ways().removal(3).len(), 4);
    assert_eq!(side.staying().removal(3).len(), 2);
}
