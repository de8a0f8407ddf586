// SPDX-License-Identifier: Apache-2.0
//! From what a bundle holds to the changes: every kind as it was taken from a node, absent,
//! different, somebody else's, not wanted any more, and of a former mark.
//! `integration/fabric/fixtures.rs` makes the bundles anew.

use super::{super::Snapshot, Compared, OfFabric};
use crate::{
    conf::Mode,
    net::{Mac, route::Kind},
    object::{
        Action, Diversion, HeldObjects, Mark, Route, Value,
        link::{Form, Owner},
    },
};

const DIRECT: &[u8] = include_bytes!("../fixtures/direct.json");
const VXLAN: &[u8] = include_bytes!("../fixtures/vxlan.json");

fn taken(bundle: &[u8]) -> Compared {
    Snapshot::decode(bundle).unwrap().compared
}

fn lines(compared: &Compared) -> Vec<String> {
    compared.told(&compared.plans()).iter().map(ToString::to_string).collect()
}

fn fabric(compared: &mut Compared) -> &mut OfFabric {
    compared.fabrics.first_mut().unwrap()
}

fn held(compared: &mut Compared) -> &mut HeldObjects {
    &mut fabric(compared).observed.held
}

/// The route to the other node's pods.
fn to_peer(compared: &mut Compared) -> &mut crate::object::HeldRoute {
    let routes = &mut held(compared).routes;
    routes.iter_mut().find(|held| held.found.route.kind == Kind::Unicast).unwrap()
}

fn without_peer(compared: &mut Compared) {
    fabric(compared).peers.others.clear();
}

/// What was done to a node that is as it should be, and what a line of the plan begins with:
/// none of it changes anything where that is empty.
type Row = (&'static str, fn(&mut Compared), &'static str);

const OF_VXLAN: &[Row] = &[
    ("parameter, same", |_| {}, ""),
    ("parameter, absent", |all| held(all).sysctls.clear(), "~ sysctl net/ipv4/ip_forward:  -> 1"),
    (
        "parameter, different",
        |all| held(all).sysctls.iter_mut().for_each(|one| one.object.value = "0".into()),
        "~ sysctl net/ipv4/ip_forward: 0 -> 1",
    ),
    (
        "tunnels' table, different",
        |all| fabric(all).tunnel.as_mut().unwrap().held.differences.push("it is missing".into()),
        "~ nftables table manx.fabric-109: it is missing -> tunnels take packets from 1 address",
    ),
    (
        "network's table, different",
        |all| all.tables[0].held.differences.push("it is missing".into()),
        "~ nftables table manx-net: it is missing -> check the pods' source addresses",
    ),
    ("table, former", |all| all.former.push("gone".into()), "- nftables table manx-gone: ours"),
    (
        "device, absent",
        |all| {
            let HeldObjects { routes, sysctls, .. } = std::mem::take(held(all));
            *held(all) = HeldObjects { routes, sysctls, ..HeldObjects::default() };
        },
        "+ link vxlan.calico: vxlan id 4096 dstport 4789 local 192.0.2.11 dev eth0",
    ),
    (
        "device, different",
        |all| {
            let tunnel = held(all).tunnels.first_mut().unwrap();
            tunnel.form.vxlan.as_mut().unwrap().vni = 7;
        },
        "~ link vxlan.calico: vxlan id 7 ",
    ),
    (
        "device, somebody else's",
        |all| {
            let tunnel = held(all).tunnels.first_mut().unwrap();
            (tunnel.form, tunnel.owner) = (Form::plain("bridge"), Owner::Other);
        },
        "! link vxlan.calico: wanted vxlan id 4096",
    ),
    ("device, stale", |all| fabric(all).settings.mode = Mode::Direct, "- link vxlan.calico: ours"),
    (
        "mark, former",
        |all| {
            let settings = held(all).settings.iter_mut();
            let marks = settings.filter(|one| matches!(one.object.value, Value::Mark(_)));
            marks.for_each(|one| one.object.value = Value::Mark(Mark::Former));
        },
        "~ link vxlan.calico: of our former route protocol -> ours",
    ),
    (
        "MTU, different",
        |all| {
            let settings = held(all).settings.iter_mut();
            let mtus = settings.filter(|one| matches!(one.object.value, Value::Mtu(_)));
            mtus.for_each(|one| one.object.value = Value::Mtu(1300));
        },
        "~ link vxlan.calico: mtu 1300 -> mtu 1450",
    ),
    (
        "address, absent",
        |all| held(all).addresses.clear(),
        "+ address of vxlan.calico: 10.244.1.0/32",
    ),
    (
        "address, stale",
        |all| {
            let mut one = held(all).addresses.first().unwrap().clone();
            (one.object.address, one.ours) = ("10.9.0.0/32".parse().unwrap(), true);
            held(all).addresses.push(one);
        },
        "- address of vxlan.calico: 10.9.0.0/32",
    ),
    (
        "address, somebody else's",
        |all| {
            let mut one = held(all).addresses.first().unwrap().clone();
            (one.object.address, one.ours) = ("10.9.0.0/32".parse().unwrap(), false);
            held(all).addresses.push(one);
        },
        "",
    ),
    ("entry, absent", |all| held(all).forwarding.clear(), "+ fdb "),
    (
        "entry, different",
        |all| held(all).forwarding[0].object.node = "192.0.2.99".parse().unwrap(),
        "~ fdb ",
    ),
    (
        "entry, somebody else's",
        |all| {
            let one = &mut held(all).forwarding[0];
            (one.object.node, one.ours) = ("192.0.2.99".parse().unwrap(), false);
        },
        "! fdb ",
    ),
    ("entry, stale", without_peer, "- fdb "),
    (
        "neighbour, absent",
        |all| held(all).neighbours.clear(),
        "+ neighbour 10.244.2.0 dev vxlan.calico",
    ),
    (
        "neighbour, different",
        |all| held(all).neighbours[0].object.mac = Mac([2, 0, 0, 0, 0, 9]),
        "~ neighbour 10.244.2.0 dev vxlan.calico: 02:00:00:00:00:09 -> ",
    ),
    (
        "neighbour, somebody else's",
        |all| {
            let one = &mut held(all).neighbours[0];
            (one.object.mac, one.ours) = (Mac([2, 0, 0, 0, 0, 9]), false);
        },
        "! neighbour 10.244.2.0 dev vxlan.calico",
    ),
    ("neighbour, stale", without_peer, "- neighbour 10.244.2.0 dev vxlan.calico"),
];

const OF_BOTH: &[Row] = &[
    ("route, same", |_| {}, ""),
    (
        "route, absent",
        |all| held(all).routes.retain(|one| one.found.route.kind != Kind::Unicast),
        "+ route 10.244.2.0/24: ",
    ),
    (
        "route, different",
        |all| to_peer(all).found.route.gateway = Some("192.0.2.99".parse().unwrap()),
        "~ route 10.244.2.0/24: ",
    ),
    (
        "route, somebody else's",
        |all| {
            let route = to_peer(all);
            (route.ours, route.found.route.protocol) = (false, 4);
            route.found.route.gateway = Some("192.0.2.99".parse().unwrap());
        },
        "! route 10.244.2.0/24: wanted ",
    ),
    ("route, stale", without_peer, "- route 10.244.2.0/24: "),
    ("route, former", |all| to_peer(all).found.route.protocol = 110, "~ route 10.244.2.0/24: "),
    (
        "way, somebody else's",
        |all| {
            let wanted: Vec<Route> =
                all.plans().iter().flat_map(|plan| plan.desired.objects.routes.clone()).collect();
            let wanted = wanted.into_iter().find(|route| !route.is_blackhole()).unwrap();
            held(all).lookups.push(Diversion { wanted, by: "a longer prefix".into() });
        },
        "! route 10.244.2.0/24: wanted ",
    ),
    ("pod's route, absent", |all| all.sides[0].held.routes.clear(), "+ route 10.244.1."),
    (
        "pod's link, down",
        |all| {
            all.sides[0].held.settings.iter_mut().for_each(|one| {
                if one.object.value == Value::Up(true) {
                    one.object.value = Value::Up(false);
                }
            })
        },
        "+ link cali",
    ),
    (
        "pod's parameters, absent",
        |all| all.sides[0].held.sysctls.clear(),
        "+ sysctl net/ipv4/conf/cali",
    ),
];

#[test]
fn every_kind_in_every_state() {
    let direct = OF_BOTH.iter().map(|row| (DIRECT, row));
    let vxlan = OF_VXLAN.iter().chain(OF_BOTH).map(|row| (VXLAN, row));
    for (bundle, (what, change, line)) in direct.chain(vxlan) {
        let mut compared = taken(bundle);
        change(&mut compared);
        let told = lines(&compared);
        match line.is_empty() {
            true => assert_eq!(told, [""; 0], "{what}"),
            false => assert!(told.iter().any(|one| one.starts_with(line)), "{what}: {told:#?}"),
        }
        // It goes to a file and comes back as it was, but for what makes a table.
        let text = serde_json::to_vec(&compared).unwrap();
        assert_eq!(serde_json::from_slice::<Compared>(&text).unwrap(), compared, "{what}");
    }
}

/// Of a fabric that is not asked for any more all goes that is ours, and nothing else.
#[test]
fn what_is_not_asked_for_goes() {
    for bundle in [DIRECT, VXLAN] {
        let mut compared = taken(bundle);
        let fabric = compared.fabrics.remove(0);
        let mut foreign = fabric.observed.held.routes.last().unwrap().clone();
        (foreign.ours, foreign.found.route.protocol) = (false, 4);
        let mut observed = fabric.observed;
        observed.held.routes.push(foreign);
        let tables = vec!["manx.fabric-109".to_owned()];
        compared.removals.push(super::OfRemoval { observed, tables });
        let told = compared.told(&[]);
        assert!(
            told.len() > 2 && told.iter().all(|one| one.action != Action::Conflict),
            "{told:#?}"
        );
        let routes = told.iter().filter(|one| one.object.starts_with("route ")).count();
        assert_eq!(routes, 2, "{told:#?}");
        assert_eq!(told.last().unwrap().object, "nftables table manx.fabric-109");
    }
}
