// SPDX-License-Identifier: Apache-2.0
//! What is read of a link, and what the library reads of it.

use netlink_packet_core::{DefaultNla, Parseable};
use netlink_packet_route::link::{InfoVlan, InfoVxlan, LinkInfo};

use super::*;
use crate::net::{tests::alone, tunnel};

fn create(name: &str, kind: InfoKind, data: Option<InfoData>, parent: Option<u32>) -> Request {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    message.attributes.extend(parent.map(LinkAttribute::Link));
    let infos = [LinkInfo::Kind(kind)].into_iter().chain(data.map(LinkInfo::Data));
    message.attributes.push(LinkAttribute::LinkInfo(infos.collect()));
    let what = format!("create {name}");
    encode(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL, what)
}

/// A pair in one namespace; gives the first end.
fn make_pair(socket: &mut Socket) -> Link {
    let mut peer = LinkMessage::default();
    peer.attributes.push(LinkAttribute::IfName("veth1".to_owned()));
    let data = InfoData::Veth(InfoVeth::Peer(peer));
    socket.apply(&[create("veth0", InfoKind::Veth, Some(data), None)]).unwrap();
    by_name(socket, "veth0").unwrap().unwrap()
}

/// Links of many kinds, each with something that others lack; gives the kinds.
fn make_links(socket: &mut Socket) -> Vec<&'static str> {
    let pair = make_pair(socket);
    let parent = pair.index;
    let vxlan = |vni, port, local: Option<&str>, parent, learning| {
        let local = local.map(|local| local.parse().unwrap());
        let vxlan = tunnel::Vxlan { vni, port, local, parent, learning, own_socket: false };
        let kind = ("vxlan", Some(Mac([2; 6])), Some(&vxlan));
        tunnel::create(&format!("vxlan{vni}"), 1400, 77, kind)
    };
    let requests = [
        set_mark(pair.index, &pair.name, "somebody's", 78),
        set_up("veth0"),
        create("bridge0", InfoKind::Bridge, None, None),
        vxlan(7, 4789, Some("192.0.2.1"), parent, false),
        vxlan(8, 8472, Some("fd00::1"), 0, false),
        vxlan(9, 8473, None, parent, true),
    ];
    socket.apply(&requests).unwrap();
    let vlan = InfoData::Vlan(vec![InfoVlan::Id(7)]);
    // A kernel may lack these.
    let more = [
        ("ifb", create("ifb0", InfoKind::Ifb, None, None)),
        ("macvlan", create("macvlan0", InfoKind::MacVlan, None, Some(parent))),
        ("vlan", create("vlan0", InfoKind::Vlan, Some(vlan), Some(parent))),
        ("ipip", tunnel::create("ipip0", 1400, 77, ("ipip", None, None))),
    ];
    let made = more.into_iter().filter(|(kind, request)| {
        let refusal = socket.apply(std::slice::from_ref(request)).err().map(|error| error.errno);
        assert!(matches!(refusal, None | Some(Errno::EOPNOTSUPP)), "{kind}: {refusal:?}");
        refusal.is_none()
    });
    made.map(|(kind, _)| kind).chain(["veth", "bridge", "vxlan"]).collect()
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
    let (local, learning, own_socket) = (None, false, false);
    let mut vxlan = Vxlan { vni: 0, port: 0, local, parent: 0, learning, own_socket };
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
        let kinds = make_links(socket);
        let request =
            encode(RouteNetlinkMessage::GetLink(without_stats()), NLM_F_DUMP, "list links");
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
        assert!(some(|link| link.name == "bridge0"), "{links:?}");
        assert!(some(|link| link.loopback) && some(|link| link.up) && some(|link| !link.up));
        assert!(some(|link| link.alias.as_deref() == Some("somebody's")));
        assert!(some(|link| link.group == 77) && some(|link| link.mtu == 1400));
        assert!(some(|link| link.mac == Some(Mac([2; 6]))));
        assert!(some(|link| link.peer_index.is_some()));
        for kind in kinds {
            let of_kind = |(link, _): &&(Link, Link)| link.kind.as_deref() == Some(kind);
            assert!(links.iter().any(|link| of_kind(&link)), "{kind}: {links:?}");
        }
        let vxlan = |told: fn(&Vxlan) -> bool| {
            links.iter().filter_map(|(link, _)| link.vxlan.as_ref()).any(told)
        };
        assert!(vxlan(|vxlan| vxlan.vni == 7 && vxlan.port == 4789 && !vxlan.learning));
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
        let index = make_pair(socket).index;
        let mut message = LinkMessage::default();
        message.header.index = index;
        for kind in [IFLA_IFNAME, IFLA_IFALIAS] {
            let value = DefaultNla::new(kind, STRANGE.to_vec());
            message.attributes.push(LinkAttribute::Other(value));
        }
        let request = encode(RouteNetlinkMessage::SetLink(message), 0, "rename veth0");
        socket.apply(&[request]).unwrap();
        let links = all(socket).unwrap();
        assert!(links.iter().any(|link| link.name == "veth1"), "{links:?}");
        let strange = links.iter().find(|link| link.index == index).unwrap();
        assert_eq!(strange.name, "strange\u{fffd}");
        assert_eq!(strange.alias.as_deref(), Some("strange\u{fffd}"));
    });
}
