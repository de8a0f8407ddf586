//! What is read of a link, and what the library reads of it.

use std::{process::Command, thread};

use netlink_packet_core::{DefaultNla, Parseable};
use netlink_packet_route::link::{InfoVxlan, LinkInfo};
use nix::sched::{CloneFlags, unshare};

use super::*;

/// Links of many kinds, each with something that others lack.
const LINKS: &[&str] = &[
    "link add veth0 alias host type veth peer name veth1 numtxqueues 2",
    "link set veth1 up group 77 mtu 1400 alias pod address 02:00:00:00:00:01",
    "link add bridge0 up type bridge",
    "link set veth0 master bridge0 up",
    "address add 192.0.2.1/24 dev veth1",
    "link add vxlan0 type vxlan id 4096 dstport 4789 local 192.0.2.1 dev veth1 nolearning",
    "link add vxlan1 type vxlan id 7 dstport 8472 local fd00::1",
    "link add vxlan2 type vxlan id 8 dstport 8473 group 239.1.1.1 dev veth1",
];

/// Links of kinds that a kernel may lack, with the kind.
const MORE_LINKS: &[(&str, &str)] = &[
    ("link add ifb0 type ifb", "ifb"),
    ("link add ipip0 type ipip local 192.0.2.1 remote 192.0.2.2", "ipip"),
    ("link add link veth1 name macvlan0 type macvlan mode bridge", "macvlan"),
    ("link add link veth1 name vlan0 type vlan id 7", "vlan"),
    ("tuntap add tun0 mode tun", "tun"),
];

fn ip(arguments: &str) -> bool {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    println!("ip {arguments}: {output:?}");
    output.status.success()
}

/// Runs in a namespace of its own, for the tests of a program share one.
fn alone(test: impl FnOnce(&mut Socket) + Send + 'static) {
    let run = move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        test(&mut Socket::open().unwrap());
    };
    thread::spawn(run).join().unwrap();
}

fn by_library(message: &LinkMessage) -> Link {
    let mut link = Link::without_attributes(&message.header);
    for attribute in message.attributes.clone() {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::IfAlias(alias) => link.alias = Some(alias),
            LinkAttribute::Group(group) => link.group = group,
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::Address(octets) => link.mac = octets.as_slice().try_into().ok().map(Mac),
            LinkAttribute::Link(index) => link.peer_index = Some(index),
            LinkAttribute::LinkInfo(infos) => infos.iter().for_each(|info| match info {
                LinkInfo::Kind(kind) => link.kind = Some(kind.to_string()),
                LinkInfo::Data(InfoData::Vxlan(data)) => link.vxlan = Some(vxlan_by_library(data)),
                _ => {}
            }),
            _ => {}
        }
    }
    link
}

fn vxlan_by_library(data: &[InfoVxlan]) -> Vxlan {
    let mut vxlan = Vxlan { vni: 0, port: 0, local: None, parent: 0, learning: false };
    for info in data {
        match info {
            InfoVxlan::Id(vni) => vxlan.vni = *vni,
            InfoVxlan::Port(port) => vxlan.port = *port,
            InfoVxlan::Local(ip) => vxlan.local = Some((*ip).into()),
            InfoVxlan::Local6(ip) => vxlan.local = Some((*ip).into()),
            InfoVxlan::Link(parent) => vxlan.parent = *parent,
            InfoVxlan::Learning(learning) => vxlan.learning = *learning,
            _ => {}
        }
    }
    vxlan
}

#[test]
fn links_of_all_kinds_are_read_as_the_library_reads_them() {
    alone(|socket| {
        assert!(LINKS.iter().all(|arguments| ip(arguments)));
        let more = MORE_LINKS.iter().filter(|(arguments, _)| ip(arguments)).map(|(_, kind)| *kind);
        let kinds: Vec<&str> = more.chain(["veth", "bridge", "vxlan"]).collect();
        let request = Request::new(RouteNetlinkMessage::GetLink(without_stats()), 0, "list links");
        let twice = |answer: &Answer<'_>| {
            let library = by_library(&LinkMessage::parse(answer.body)?);
            Ok(Link::read(answer)?.map(|link| (link, library)))
        };
        let links = socket.dump(&request, twice).unwrap();
        for (link, library) in &links {
            assert_eq!(link, library);
        }
        // Each field is told of some link.
        let some = |told: fn(&Link) -> bool| links.iter().any(|(link, _)| told(link));
        assert!(some(|link| link.name == "vxlan2"), "{links:?}");
        assert!(some(|link| link.loopback) && some(|link| link.up) && some(|link| !link.up));
        assert!(some(|link| link.alias.as_deref() == Some("pod")));
        assert!(some(|link| link.group == 77) && some(|link| link.mtu == 1400));
        assert!(
            some(|link| link.mac == Some(Mac([2, 0, 0, 0, 0, 1])) && link.peer_index.is_some())
        );
        for kind in kinds {
            let of_kind = |(link, _): &&(Link, Link)| link.kind.as_deref() == Some(kind);
            assert!(links.iter().any(|link| of_kind(&link)), "{kind}: {links:?}");
        }
        let vxlan = |told: fn(&Vxlan) -> bool| {
            links.iter().filter_map(|(link, _)| link.vxlan.as_ref()).any(told)
        };
        assert!(vxlan(|vxlan| vxlan.vni == 4096 && vxlan.port == 4789 && !vxlan.learning));
        assert!(vxlan(|vxlan| vxlan.local.is_some_and(|ip| ip.is_ipv6()) && vxlan.parent == 0));
        assert!(vxlan(|vxlan| vxlan.learning && vxlan.parent != 0 && vxlan.local.is_none()));
    });
}

/// The kernel takes any bytes for a name but a blank, a slash and a colon, and
/// any at all for an alias.
#[test]
fn a_link_with_a_name_that_is_no_text_does_not_hide_the_others() {
    const STRANGE: &[u8] = b"strange\xff\0";
    alone(|socket| {
        assert!(ip("link add veth0 type veth peer name veth1"));
        let index = by_name(socket, "veth0").unwrap().unwrap().index;
        let mut message = LinkMessage::default();
        message.header.index = index;
        for kind in [IFLA_IFNAME, IFLA_IFALIAS] {
            let value = DefaultNla::new(kind, STRANGE.to_vec());
            message.attributes.push(LinkAttribute::Other(value));
        }
        let request = Request::new(RouteNetlinkMessage::SetLink(message), 0, "rename veth0");
        socket.apply(&[request]).unwrap();
        let links = all(socket).unwrap();
        assert!(links.iter().any(|link| link.name == "veth1"), "{links:?}");
        let strange = links.iter().find(|link| link.index == index).unwrap();
        assert_eq!(strange.name, "strange\u{fffd}");
        assert_eq!(strange.alias.as_deref(), Some("strange\u{fffd}"));
    });
}
