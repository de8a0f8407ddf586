// SPDX-License-Identifier: Apache-2.0
//! Every kind in every state: absent, the same, different, somebody else's, stale, and
//! made by us under a former mark.

mod properties;

use super::*;
use crate::{
    net::{
        Mac,
        route::{self, Found},
        tunnel::Vxlan,
    },
    object::{
        Diversion, Held, HeldRoute, HeldTable, Mark, Value,
        link::{Form, HeldTunnel, Owner},
        told::Kind::{
            self, Address as A, Forwarding as F, Link as L, Neighbour as N, Route as R, Rule as P,
        },
    },
};

/// One kind: what is wanted, and what is held instead of it.
struct Row {
    wanted: Objects,
    same: HeldObjects,
    different: HeldObjects,
    foreign: HeldObjects,
    /// As good, and somebody else's.
    serving: HeldObjects,
    /// The lines where it is absent, different, somebody else's, and not wanted any more.
    lines: [&'static str; 4],
}

fn lines(wanted: &Objects, held: &HeldObjects) -> String {
    let changes = difference(wanted, held);
    let lines: Vec<String> = changes.iter().map(|change| change.told().to_string()).collect();
    lines.join("\n")
}

fn held<T>(object: T, ours: bool) -> Held<T> {
    Held { object, ours }
}

/// A kind of which the kernel has nothing but values by key.
macro_rules! plain {
    ($field:ident, $wanted:expr, $other:expr, $lines:expr) => {{
        let of = |object, ours| HeldObjects {
            $field: vec![held(object, ours)],
            ..HeldObjects::default()
        };
        Row {
            wanted: Objects { $field: vec![$wanted], ..Objects::default() },
            same: of($wanted, true),
            different: of($other, true),
            foreign: of($other, false),
            serving: of($wanted, false),
            lines: $lines,
        }
    }};
}

fn neighbour(last: u8) -> Neighbour {
    let (device, address) = ("vx".to_owned(), "10.2.0.0".parse().unwrap());
    Neighbour { device, address, mac: Mac([2, 0, 0, 0, 0, last]) }
}

fn forwarding(last: u8) -> Forwarding {
    let node = format!("192.0.2.{last}").parse().unwrap();
    Forwarding { device: "vx".to_owned(), mac: Mac([2, 0, 0, 0, 0, 1]), node }
}

fn plain_route(gateway: &str, protocol: u8) -> route::Route {
    let route = route::Route::new("10.2.0.0/24".parse().unwrap());
    let (gateway, onlink) = (Some(gateway.parse().unwrap()), true);
    route::Route { gateway, onlink, protocol, ..route }
}

fn routes() -> Row {
    let of = |gateway, protocol, ours| {
        let found = Found::new(plain_route(gateway, protocol), vec![2]);
        let held = HeldRoute { found, device: Some("eth0".to_owned()), ours, on_host_link: false };
        HeldObjects { routes: vec![held], ..HeldObjects::default() }
    };
    let wanted = Route::through("eth0", plain_route("192.0.2.2", 109));
    Row {
        wanted: Objects { routes: vec![wanted], ..Objects::default() },
        same: of("192.0.2.2", 109, true),
        different: of("192.0.2.9", 109, true),
        foreign: of("192.0.2.9", 4, false),
        serving: of("192.0.2.2", 4, false),
        lines: [
            "+ route 10.2.0.0/24: 10.2.0.0/24 via 192.0.2.2 dev eth0 onlink",
            "~ route 10.2.0.0/24: 10.2.0.0/24 via 192.0.2.9 dev eth0 proto 109 onlink -> \
             10.2.0.0/24 via 192.0.2.2 dev eth0 onlink",
            "! route 10.2.0.0/24: wanted 10.2.0.0/24 via 192.0.2.2 dev eth0 onlink, but there is \
             10.2.0.0/24 via 192.0.2.9 dev eth0 proto 4 onlink",
            "- route 10.2.0.0/24: 10.2.0.0/24 via 192.0.2.2 dev eth0 proto 109 onlink",
        ],
    }
}

fn vxlan(vni: u32) -> Form {
    let (port, local, parent) = (4789, Some("192.0.2.1".parse().unwrap()), 2);
    let vxlan = Vxlan { vni, port, local, parent, learning: false, own_socket: false };
    Form::of_vxlan(vxlan, "eth0".to_owned(), Some(Mac([2, 0, 0, 0, 0, 1])))
}

fn tunnel() -> Tunnel {
    Tunnel { name: "vx".to_owned(), mtu: 1450, protocol: 109, form: vxlan(7) }
}

fn held_tunnel(name: &str, form: Form, owner: Owner) -> HeldObjects {
    let (name, mtu, up, addresses) = (name.to_owned(), 1450, true, Vec::new());
    let tunnels = vec![HeldTunnel { name, form, mtu, up, owner, addresses }];
    HeldObjects { tunnels, ..HeldObjects::default() }
}

fn tunnels() -> Row {
    Row {
        wanted: Objects { tunnels: vec![tunnel()], ..Objects::default() },
        same: held_tunnel("vx", vxlan(7), Owner::Ours),
        different: held_tunnel("vx", vxlan(8), Owner::Ours),
        foreign: held_tunnel("vx", Form::plain("bridge"), Owner::Other),
        serving: held_tunnel("vx", vxlan(7), Owner::Other),
        lines: [
            "+ link vx: vxlan id 7 dstport 4789 local 192.0.2.1 dev eth0 mac 02:00:00:00:00:01 \
             mtu 1450",
            "~ link vx: vxlan id 8 dstport 4789 local 192.0.2.1 dev eth0 mac 02:00:00:00:00:01 -> \
             vxlan id 7 dstport 4789 local 192.0.2.1 dev eth0 mac 02:00:00:00:00:01 mtu 1450",
            "! link vx: wanted vxlan id 7 dstport 4789 local 192.0.2.1 dev eth0 mac \
             02:00:00:00:00:01 mtu 1450, but there is bridge",
            "- link vx: ours",
        ],
    }
}

fn rows() -> Vec<Row> {
    let address = |text: &str| Address { device: "vx".into(), address: text.parse().unwrap() };
    let rule = |table| Rule::new("10.1.0.5/32".parse().unwrap(), table, 10_900, 109);
    let set = |value| Setting { device: "vx".to_owned(), value };
    vec![
        plain!(
            neighbours,
            neighbour(1),
            neighbour(2),
            [
                "+ neighbour 10.2.0.0 dev vx: 02:00:00:00:00:01",
                "~ neighbour 10.2.0.0 dev vx: 02:00:00:00:00:02 -> 02:00:00:00:00:01",
                "! neighbour 10.2.0.0 dev vx: wanted 02:00:00:00:00:01, but there is \
                 02:00:00:00:00:02",
                "- neighbour 10.2.0.0 dev vx: 02:00:00:00:00:01",
            ]
        ),
        plain!(
            forwarding,
            forwarding(2),
            forwarding(3),
            [
                "+ fdb 02:00:00:00:00:01 dev vx: 192.0.2.2",
                "~ fdb 02:00:00:00:00:01 dev vx: 192.0.2.3 -> 192.0.2.2",
                "! fdb 02:00:00:00:00:01 dev vx: wanted 192.0.2.2, but there is 192.0.2.3",
                "- fdb 02:00:00:00:00:01 dev vx: 192.0.2.2",
            ]
        ),
        // Of these a link has any number: another one is beside it, not in its way.
        plain!(
            addresses,
            address("10.1.0.0/32"),
            address("10.9.0.0/32"),
            [
                "+ address of vx: 10.1.0.0/32",
                "+ address of vx: 10.1.0.0/32\n- address of vx: 10.9.0.0/32",
                "+ address of vx: 10.1.0.0/32",
                "- address of vx: 10.1.0.0/32",
            ]
        ),
        plain!(
            rules,
            rule(10_901),
            rule(10_902),
            [
                "+ rule 10900: from 10.1.0.5/32 lookup 10901: table 10901",
                "+ rule 10900: from 10.1.0.5/32 lookup 10901: table 10901\n\
                 - rule 10900: from 10.1.0.5/32 lookup 10902: table 10902",
                "+ rule 10900: from 10.1.0.5/32 lookup 10901: table 10901",
                "- rule 10900: from 10.1.0.5/32 lookup 10901: table 10901",
            ]
        ),
        // Somebody else's device serves as it is.
        plain!(
            settings,
            set(Value::Mark(Mark::Ours(109))),
            set(Value::Mark(Mark::Former)),
            [
                "~ link vx: ours",
                "~ link vx: of our former route protocol -> ours",
                "",
                "~ link vx: ours -> down, unused",
            ]
        ),
        routes(),
        tunnels(),
        tables(),
    ]
}

/// Nobody else has a table of our names: what others put into one of ours is a difference.
fn tables() -> Row {
    let (name, purpose) = ("manx-net".to_owned(), "check the pods' source addresses".to_owned());
    let of = |differences: &[&str]| {
        let differences = differences.iter().map(|text| (*text).to_owned()).collect();
        let tables = vec![HeldTable { name: "manx-net".to_owned(), differences }];
        HeldObjects { tables, ..HeldObjects::default() }
    };
    let wanted = Table { name, purpose, description: None };
    Row {
        wanted: Objects { tables: vec![wanted], ..Objects::default() },
        same: of(&[]),
        different: of(&["chain forward is missing", "set pods4 lacks 10.2.0.0/24"]),
        foreign: HeldObjects::default(),
        serving: of(&[]),
        lines: [
            "+ nftables table manx-net: check the pods' source addresses",
            "~ nftables table manx-net: chain forward is missing; set pods4 lacks 10.2.0.0/24 -> \
             check the pods' source addresses",
            "+ nftables table manx-net: check the pods' source addresses",
            "- nftables table manx-net: ours",
        ],
    }
}

#[test]
fn every_kind_in_every_state() {
    for Row { wanted, same, different, foreign, serving, lines: told } in rows() {
        let [absent, other, conflict, stale] = told;
        let nothing = Objects::default();
        assert_eq!(lines(&wanted, &HeldObjects::default()), absent);
        assert_eq!(lines(&wanted, &same), "", "the same: {absent}");
        assert_eq!(lines(&wanted, &different), other);
        assert_eq!(lines(&wanted, &foreign), conflict);
        assert_eq!(lines(&wanted, &serving), "", "as good: {absent}");
        assert_eq!(lines(&nothing, &same), stale);
        assert_eq!(lines(&nothing, &foreign), "", "nobody's business: {conflict}");
        let indexes = Indexes::from([("vx".to_owned(), 3), ("eth0".to_owned(), 2)]);
        assert_eq!(lines(&wanted, &wanted.as_held(&indexes)), "", "once made: {absent}");
    }
}

#[test]
fn parameters_have_values_and_are_never_removed() {
    let wanted = Objects { sysctls: vec![Sysctl::new("net/a", 1)], ..Objects::default() };
    let of = |value| HeldObjects {
        sysctls: vec![held(Sysctl::new("net/a", value), true)],
        ..HeldObjects::default()
    };
    assert_eq!(lines(&wanted, &HeldObjects::default()), "~ sysctl net/a:  -> 1");
    assert_eq!(lines(&wanted, &of(0)), "~ sysctl net/a: 0 -> 1");
    assert_eq!(lines(&wanted, &of(1)), "");
    assert!(lines(&Objects::default(), &of(1)).is_empty());
}

#[test]
fn what_leads_elsewhere_is_told_and_left() {
    let route = || Route::through("eth0", plain_route("192.0.2.2", 109));
    let by = |text: &str| Diversion { wanted: route(), by: text.to_owned() };
    let wanted = Objects { lookups: vec![Lookup(route())], ..Objects::default() };
    let lookups = vec![by("a longer prefix"), by("a policy rule")];
    let told = lines(&wanted, &HeldObjects { lookups, ..HeldObjects::default() });
    assert_eq!(told.lines().count(), 2, "{told}");
    assert!(told.lines().all(|line| line.starts_with("! route 10.2.0.0/24: wanted ")), "{told}");
}

/// The settings that come with a device, and what leads through it, are not told twice.
#[test]
fn a_device_takes_along_what_is_on_it() {
    let set = |value| Setting { device: "vx".to_owned(), value };
    let settings = [Value::Mark(Mark::Ours(109)), Value::Mtu(1450), Value::Up(true)].map(set);
    let wanted = Objects {
        tunnels: vec![tunnel()],
        settings: settings.into(),
        neighbours: vec![neighbour(1)],
        ..Objects::default()
    };
    let first_words = |held: &HeldObjects| -> Vec<String> {
        let told = lines(&wanted, held);
        told.lines().map(|line| line.split(": ").next().unwrap().to_owned()).collect()
    };
    let all = ["+ link vx", "~ link vx", "+ neighbour 10.2.0.0 dev vx"];
    assert_eq!(first_words(&HeldObjects::default()), all);
    // Made anew, under its own name or another's: its entries are lost with it.
    for name in ["vx", "vx.former"] {
        let mut former = held_tunnel(name, vxlan(8), Owner::Ours);
        if name != "vx" {
            former = held_tunnel(name, vxlan(7), Owner::Former);
        }
        let stale = Neighbour { device: name.to_owned(), ..neighbour(9) };
        former.neighbours = vec![held(stale, true)];
        assert_eq!(first_words(&former), ["~ link vx", all[1], all[2]], "{name}");
    }
    // Somebody else's that cannot serve: nothing leads through it.
    let foreign = held_tunnel("vx", vxlan(7), Owner::Fabric(110));
    let told = lines(&wanted, &foreign);
    assert!(
        told.starts_with("! link vx: wanted vxlan id 7") && told.lines().count() == 1,
        "{told}"
    );
    assert!(told.ends_with("of the fabric of route protocol 110"), "{told}");
}

/// Made in the order of the kinds, removed in reverse.
#[test]
fn what_others_need_comes_first_and_goes_last() {
    let mut all = Objects::default();
    for Row { wanted, .. } in rows() {
        all.tunnels.extend(wanted.tunnels);
        all.settings.extend(wanted.settings);
        all.addresses.extend(wanted.addresses);
        all.forwarding.extend(wanted.forwarding);
        all.neighbours.extend(wanted.neighbours);
        all.routes.extend(wanted.routes);
        all.rules.extend(wanted.rules);
    }
    let kinds = |changes: &[Change]| -> Vec<Kind> {
        changes.iter().map(|change| change.told().kind).collect()
    };
    // The mark comes with the device.
    let made = kinds(&difference(&all, &HeldObjects::default()));
    assert_eq!(made, [L, A, F, N, R, P]);
    let indexes = Indexes::from([("vx".to_owned(), 3), ("eth0".to_owned(), 2)]);
    let mut removed = kinds(&difference(&Objects::default(), &all.as_held(&indexes)));
    removed.reverse();
    assert_eq!(removed, [L, L, A, F, N, R, P]);
}
