// SPDX-License-Identifier: Apache-2.0
//! The kernel's own answers beside ours, in a namespace with random routes and rules.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    process::{Command, Stdio},
    thread,
};

use ipnetwork::IpNetwork;
use nix::sched::{CloneFlags, unshare};

use super::*;
use crate::{
    family::Family,
    net::{Socket, route, rule},
};

/// Numbers that are the same in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u32) -> u32 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        u32::try_from(self.0 >> 33).unwrap() % limit
    }

    /// An address in a few networks, so that routes lie in each other.
    fn address(&mut self, family: Family) -> IpAddr {
        let (host, net) = (self.below(1 << 16), self.below(4));
        match family {
            Family::V4 => Ipv4Addr::from(0x0a00_0000 | net << 16 | host).into(),
            Family::V6 => {
                let bits = 0xfd00_u128 << 112 | u128::from(net) << 64 | u128::from(host) << 48;
                Ipv6Addr::from(bits | u128::from(self.below(1 << 16))).into()
            }
        }
    }

    fn network(&mut self, family: Family) -> IpNetwork {
        let shortest = [8, 16][usize::from(family == Family::V6)];
        let prefix = shortest + self.below(u32::from(family.bits()) + 1 - shortest);
        let network = IpNetwork::new(self.address(family), u8::try_from(prefix).unwrap()).unwrap();
        IpNetwork::new(network.network(), network.prefix()).unwrap()
    }
}

fn batch(family: &str, lines: &str) {
    let mut ip = Command::new("ip");
    // Two random routes may have one key.
    ip.args([family, "-force", "-batch", "-"]).stdin(Stdio::piped()).stderr(Stdio::null());
    let mut ip = ip.spawn().unwrap();
    std::io::Write::write_all(&mut ip.stdin.take().unwrap(), lines.as_bytes()).unwrap();
    ip.wait().unwrap();
}

fn make(random: &mut Random, family: Family) {
    let word = if family == Family::V4 { "-4" } else { "-6" };
    let mut lines = String::new();
    for (link, own) in
        [("d0", ["10.0.0.1/16", "fd00::1/64"]), ("d1", ["10.1.0.1/24", "fd00:0:0:1::1/64"])]
    {
        let own = own[usize::from(family == Family::V6)];
        let nodad = if family == Family::V6 { "nodad" } else { "" };
        lines += &format!("address add {own} dev {link} {nodad}\n");
    }
    for _ in 0..200 {
        let network = random.network(family);
        let kind = ["", "", "", "", "blackhole", "unreachable", "prohibit", "throw"]
            [random.below(8) as usize];
        let device =
            if kind.is_empty() { ["dev d0", "dev d1"][random.below(2) as usize] } else { "" };
        let table = ["main", "main", "100", "200"][random.below(4) as usize];
        let metric = 1 + random.below(3);
        lines += &format!("route add {kind} {network} {device} table {table} metric {metric}\n");
    }
    lines += "route add default dev d1 table 200\n";
    for priority in 1..=8 {
        let (from, to) = (random.network(family), random.network(family));
        let action = match random.below(6) {
            0 => "blackhole".to_owned(),
            1 => "lookup main suppress_prefixlength 0".to_owned(),
            2 => format!("goto {}", 100 + priority + 2),
            _ => ["lookup 100", "lookup 200"][random.below(2) as usize].to_owned(),
        };
        let select = [format!("to {to}"), format!("from {from}"), "from all".to_owned()]
            [random.below(3) as usize]
            .clone();
        // Rules from everywhere to a drop would leave nothing to compare.
        let select = if action == "blackhole" { format!("from {from} to {to}") } else { select };
        lines += &format!("rule add pref {} {select} {action}\n", 100 + priority);
    }
    batch(word, &lines);
}

fn compare(seed: u64, family: Family) -> usize {
    let (mut random, mut socket) = (Random(seed), Socket::open().unwrap());
    make(&mut random, family);
    let (rules, routes) =
        (rule::all(&mut socket, family).unwrap(), route::all(&mut socket, family).unwrap());
    let destinations: Vec<IpAddr> = (0..500).map(|_| random.address(family)).collect();
    let mut led = 0;
    for destination in destinations {
        let found = route::lookup(&mut socket, destination).unwrap();
        // A table does not list the broadcast and anycast addresses of its node.
        if found.as_ref().is_some_and(|found| found.shared) {
            continue;
        }
        let found = found.filter(|found| found.route.kind == Kind::Unicast);
        let answer = lookup(&rules, &routes, Packet { source: None, destination });
        let ours = answer.route.filter(|_| answer.leads_somewhere());
        let place = |found: &Found| (found.route.destination, found.devices.clone());
        let theirs = found.as_ref().map(place);
        assert_eq!(ours.map(place), theirs, "seed {seed}: {destination} {answer:?}");
        led += usize::from(theirs.is_some());
    }
    led
}

#[test]
fn the_kernel_takes_the_same_route_for_random_destinations() {
    let mut led = 0;
    for (seed, family) in (1..=4).flat_map(|seed| Family::BOTH.map(|family| (seed, family))) {
        let alone = move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            batch(
                "-4",
                "link add d0 type veth peer name d1\nlink set d0 up\nlink set d1 up\nlink set lo up\n",
            );
            compare(seed, family)
        };
        led += thread::spawn(alone).join().unwrap();
    }
    assert!((1000..3500).contains(&led), "{led} of 4000 lead anywhere");
}

/// A rule that names a source holds for packets of that source, and for no others.
#[test]
fn rules_of_a_source_hold_for_that_source_alone() {
    let rule =
        |priority, source: &str, table| Rule::new(source.parse().unwrap(), table, priority, 3);
    let found = |destination: &str, table, device| {
        let route = route::Route { table, ..route::Route::new(destination.parse().unwrap()) };
        Found::new(route, vec![device])
    };
    let mut rules =
        [rule(0, "0.0.0.0/0", 255), rule(100, "10.1.0.0/16", 7), rule(32766, "0.0.0.0/0", 254)];
    let routes = [found("0.0.0.0/0", 254, 1), found("0.0.0.0/0", 7, 2)];
    let device = |rules: &[Rule], source: Option<&str>| {
        let source = source.map(|text| text.parse().unwrap());
        let packet = Packet { source, destination: "192.0.2.1".parse().unwrap() };
        let answer = lookup(rules, &routes, packet);
        (answer.route.and_then(Found::device), answer.doubtful.len())
    };
    assert_eq!(device(&rules, Some("10.1.0.5")), (Some(2), 0));
    assert_eq!(device(&rules, Some("10.2.0.5")), (Some(1), 0));
    assert_eq!(device(&rules, None), (Some(1), 0));
    rules[1].selective = true;
    assert_eq!(device(&rules, Some("10.2.0.5")), (Some(1), 1), "who knows what it asks for");
    // A kernel without rules.
    assert_eq!(device(&[], None), (Some(1), 0));
    rules[1] = Rule { refuses: true, table: 0, selective: false, ..rules[1] };
    assert_eq!(device(&rules, Some("10.1.0.5")), (None, 0));
}
