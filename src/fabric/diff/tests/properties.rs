// SPDX-License-Identifier: Apache-2.0
//! What holds of every change from one fabric to another, with a kernel of data.

use std::collections::{BTreeSet, HashMap};

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{
    conf::Mode,
    fabric::{
        Peers, Settings, describe,
        desired::{Facts, Path},
        ledger::Ledger,
    },
    net::{
        Mac,
        route::{self, Found},
    },
    object::{
        Forwarding, HeldRoute, Indexes, Neighbour, Route, Rule, Step, diff::Object, link::Form,
    },
    pod::mtu::Uplink,
};

const OURS: u8 = 109;

/// What there is, as far as a fabric changes it.
#[derive(Clone, Debug, Default)]
struct Kernel(HeldObjects);

fn indexes() -> Indexes {
    ["eth0", "tunl0", "vxlan.calico", "vxlan-v6.calico"]
        .map(str::to_owned)
        .into_iter()
        .zip(2..)
        .collect()
}

/// One step of a kind of which nothing else follows.
fn put<O: Managed>(held: &mut Vec<O::Held>, step: &Step<O>) {
    let place = |held: &[O::Held], one: &O::Held| {
        held.iter().position(|there| there == one).expect("what is changed")
    };
    match step {
        Step::Create(wanted) => held.extend(wanted.as_held(&indexes())),
        Step::Replace(wanted, now) => {
            let place = place(held, now);
            held[place] = wanted.as_held(&indexes()).expect("what can be made");
        }
        Step::Delete(now) => drop(held.remove(place(held, now))),
        Step::Foreign(..) => {}
    }
}

impl Kernel {
    fn observed(&self, desired: &Desired) -> Observed {
        let mut held = self.0.clone();
        held.settings = settings(desired, &held.tunnels, &held.sysctls, OURS);
        held.addresses = addresses(desired, &held.tunnels, &Ledger::default());
        Observed { held, indexes: indexes(), ..Observed::default() }
    }

    /// A device takes along what is on it.
    fn drop(&mut self, device: &str) {
        let held = &mut self.0;
        held.tunnels.retain(|one| one.name != device);
        held.routes.retain(|one| one.device.as_deref() != Some(device));
        held.neighbours.retain(|one| one.object.device != device);
        held.forwarding.retain(|one| one.object.device != device);
    }

    fn tunnel(&mut self, name: &str) -> &mut HeldTunnel {
        self.0.tunnels.iter_mut().find(|one| one.name == name).expect("a device")
    }

    fn make(&mut self, change: &Change) {
        match change {
            Change::Sysctl(step) => put(&mut self.0.sysctls, step),
            Change::Tunnel(step) => {
                if let Step::Replace(_, now) | Step::Delete(now) = step {
                    self.drop(&now.name);
                }
                if let Step::Create(wanted) | Step::Replace(wanted, _) = step {
                    self.0.tunnels.extend(wanted.as_held(&indexes()));
                }
            }
            Change::Setting(Step::Create(wanted) | Step::Replace(wanted, _)) => {
                let tunnel = self.tunnel(&wanted.device);
                match wanted.value {
                    Value::Mark(_) => tunnel.owner = Owner::Ours,
                    Value::Mtu(bytes) => tunnel.mtu = bytes,
                    Value::Up(up) => tunnel.up = up,
                    // Of no link of these fabrics.
                    Value::Group(_) | Value::ReversePath(_) => {}
                }
            }
            Change::Setting(Step::Delete(held)) => {
                let tunnel = self.tunnel(&held.object.device);
                (tunnel.owner, tunnel.up) = (Owner::Other, false);
            }
            Change::Address(Step::Create(wanted) | Step::Replace(wanted, _)) => {
                self.tunnel(&wanted.device).addresses.push(wanted.address);
            }
            Change::Address(Step::Delete(Held { object, .. })) => {
                let tunnel = self.tunnel(&object.device);
                tunnel.addresses.retain(|address| *address != object.address);
            }
            Change::Forwarding(step) => put(&mut self.0.forwarding, step),
            Change::Neighbour(step) => put(&mut self.0.neighbours, step),
            Change::Route(step) => put(&mut self.0.routes, step),
            Change::Rule(step) => put(&mut self.0.rules, step),
            Change::Table(step) => put(&mut self.0.tables, step),
            Change::Setting(_) | Change::Address(_) | Change::Lookup(_) => {}
        }
    }

    fn has(&self, wanted: &Route) -> bool {
        let is = |held| Route::key_of(held) == Some(wanted.key()) && wanted.is(held);
        self.0.routes.iter().any(is)
    }
}

/// A fabric: its mode, its VNI, its MTU, and which peers have which of two addresses.
fn fabric() -> impl Strategy<Value = Desired> {
    let mode = prop_oneof![Just(Mode::Direct), Just(Mode::Ipip), Just(Mode::Vxlan)];
    let peers = prop::collection::btree_map(2..6_u8, any::<bool>(), 0..4);
    (mode, 4096..4098_u32, prop::option::of(Just(1400)), peers).prop_map(
        |(mode, vni, mtu, peers)| {
            let mut settings = Settings::of_mode(mode);
            (settings.keys.vni, settings.mtu) = (vni, mtu);
            let mut nodes = vec![json!({"name": "a", "addresses": ["192.0.2.1", "2001:db8::1"],
                                        "podCIDRs": ["10.1.0.0/24", "fd00:1::/64"]})];
            nodes.extend(peers.iter().map(|(number, moved)| {
                let host = if *moved { 100 + number } else { *number };
                json!({"name": format!("n{number}"),
                       "addresses": [format!("192.0.2.{host}"), format!("2001:db8::{host}")],
                       "podCIDRs": [format!("10.{number}.0.0/24"), format!("fd00:{number}::/64")]})
            }));
            let text = json!({"self": "a", "nodes": nodes}).to_string();
            let peers = Peers::parse(text.as_bytes(), &|_| false).unwrap();
            let paths = peers.others.iter().flat_map(|node| &node.addresses).map(|address| {
                let narrowest = Uplink { device: "eth0".into(), mtu: 1500 };
                let (gateway, onlink) = (None, false);
                (*address, Path { device: "eth0".into(), narrowest, gateway, onlink })
            });
            let addresses = ["192.0.2.1/24", "2001:db8::1/64"];
            let facts = Facts {
                addresses: addresses.map(|text| (text.parse().unwrap(), "eth0".into())).into(),
                paths: paths.collect::<HashMap<_, _>>(),
                ..Facts::default()
            };
            describe(&settings, &peers, &facts)
        },
    )
}

/// A kernel with routes of others, and maybe with tunnel devices of others.
fn others() -> impl Strategy<Value = Kernel> {
    let route = (2..6_u8, prop_oneof![Just(0), Just(50)], any::<bool>()).prop_map(
        |(number, metric, to_peer)| {
            let mut route = route::Route::new(format!("10.{number}.0.0/24").parse().unwrap());
            let gateway = if to_peer { format!("192.0.2.{number}") } else { "192.0.2.254".into() };
            route.gateway = Some(gateway.parse().unwrap());
            (route.protocol, route.priority) = (4, Some(metric));
            let found = Found::new(route, vec![2]);
            HeldRoute { found, device: Some("eth0".into()), ours: false, on_host_link: false }
        },
    );
    let tunnel = prop_oneof![
        Just(None),
        Just(Some(("tunl0", Form::plain("ipip")))),
        Just(Some(("vxlan.calico", Form::plain("bridge")))),
    ];
    let routes = prop::collection::vec(route, 0..3);
    // One that our tunnel would have, and another.
    let addresses = prop::sample::subsequence(vec!["10.1.0.0/32", "10.9.9.1/24"], 0..=2);
    let entries = prop::sample::subsequence(vec![1_u8, 2, 3], 0..=3);
    let tunnel = (tunnel, addresses, any::<bool>(), 1300..1500_u32);
    (routes, tunnel, entries).prop_map(|(mut routes, (tunnel, addresses, up, mtu), entries)| {
        let key = |held: &HeldRoute| (held.destination(), held.metric());
        routes.sort_by_key(key);
        routes.dedup_by_key(|held| key(held));
        let tunnels = tunnel.map(|(name, form)| {
            let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
            let (name, owner) = (name.to_owned(), Owner::Other);
            HeldTunnel { name, form, mtu, up, owner, addresses }
        });
        let tunnels = tunnels.into_iter().collect();
        let (mut neighbours, mut forwarding, mut rules) = (Vec::new(), Vec::new(), Vec::new());
        for last in entries {
            let (device, mac) = ("flannel.1".to_owned(), Mac([2, 0, 0, 0, 0, last]));
            let address = format!("10.{last}.0.0").parse().unwrap();
            let object = Neighbour { device: device.clone(), address, mac };
            neighbours.push(Held { object, ours: false });
            let node = format!("192.0.2.{last}").parse().unwrap();
            forwarding.push(Held { object: Forwarding { device, mac, node }, ours: false });
            let source = format!("10.{last}.0.0/24").parse().unwrap();
            rules.push(Held { object: Rule::new(source, 100, last.into(), 4), ours: false });
        }
        let held = HeldObjects { routes, tunnels, neighbours, ..HeldObjects::default() };
        Kernel(HeldObjects { forwarding, rules, ..held })
    })
}

/// What others have, but for devices.
fn foreign(kernel: &Kernel) -> HeldObjects {
    let mut held = kernel.0.clone();
    held.tunnels.clear();
    held.sysctls.clear();
    held.routes.retain(|one| !one.ours);
    held.neighbours.retain(|one| !one.ours);
    held.forwarding.retain(|one| !one.ours);
    held.rules.retain(|one| !one.ours);
    held
}

fn is_foreign(change: &Change) -> bool {
    change.told().action == object::Action::Conflict
}

fn made(kernel: &Kernel, desired: &Desired) -> Kernel {
    let mut kernel = kernel.clone();
    diff(desired, &kernel.observed(desired)).iter().for_each(|change| kernel.make(change));
    kernel
}

proptest! {
    #[test]
    fn once_made_only_what_others_have_is_left(
        (first, second, others) in (fabric(), fabric(), others())
    ) {
        let kernel = made(&made(&others, &first), &second);
        let left = diff(&second, &kernel.observed(&second));
        prop_assert!(left.iter().all(is_foreign), "{left:#?}");
        // Nothing of ours is left once nothing is wanted.
        let nothing = Desired::default();
        let bare = made(&kernel, &nothing);
        prop_assert_eq!(diff(&nothing, &bare.observed(&nothing)), []);
        prop_assert!(bare.0.routes.iter().all(|held| !held.ours));
        prop_assert!(bare.0.tunnels.iter().all(|held| held.owner == Owner::Other));
    }

    #[test]
    fn what_others_have_stays_as_it_is((first, second, others) in (fabric(), fabric(), others())) {
        let kernel = made(&made(&others, &first), &second);
        prop_assert_eq!(foreign(&kernel), foreign(&others));
        let used = others.0.tunnels.iter().filter(|held| held.is_guest());
        for tunnel in used {
            let now = kernel.0.tunnels.iter().find(|held| held.name == tunnel.name).unwrap();
            prop_assert_eq!((&now.form, now.mtu, now.owner), (&tunnel.form, tunnel.mtu, Owner::Other));
            let stays = |address: &&IpNetwork| now.addresses.contains(address);
            prop_assert_eq!(tunnel.addresses.iter().filter(stays).count(), tunnel.addresses.len());
        }
    }

    #[test]
    fn what_both_want_is_there_after_each_step(
        (first, second, others) in (fabric(), fabric(), others())
    ) {
        let mut kernel = made(&others, &first);
        let changes = diff(&second, &kernel.observed(&second));
        let remade: BTreeSet<String> = (changes.iter())
            .filter_map(|change| change.wanted::<Tunnel>().map(|tunnel| tunnel.name.clone()))
            .collect();
        let wanted = first.objects.routes.iter().filter(|one| second.objects.routes.contains(one));
        let stays = |one: &&Route| one.device().is_none_or(|device| !remade.contains(device));
        let both: Vec<&Route> = wanted.filter(stays).filter(|one| kernel.has(one)).collect();
        for change in &changes {
            kernel.make(change);
            for route in &both {
                prop_assert!(kernel.has(route), "{route} after {change:?}");
            }
        }
    }

    #[test]
    fn lists_may_come_in_any_order((first, second, others) in (fabric(), fabric(), others())) {
        let kernel = made(&others, &first);
        let mut turned = kernel.clone();
        turned.0.tunnels.reverse();
        turned.0.routes.reverse();
        turned.0.neighbours.reverse();
        turned.0.forwarding.reverse();
        turned.0.rules.reverse();
        let told = |kernel: &Kernel, desired: &Desired| -> BTreeSet<String> {
            let changes = diff(desired, &kernel.observed(desired));
            changes.iter().map(|change| change.told().to_string()).collect()
        };
        prop_assert_eq!(told(&kernel, &second), told(&turned, &second));
        let mut other = second.clone();
        other.objects.routes.reverse();
        other.objects.tunnels.reverse();
        other.objects.neighbours.reverse();
        prop_assert_eq!(told(&kernel, &second), told(&kernel, &other));
    }
}
