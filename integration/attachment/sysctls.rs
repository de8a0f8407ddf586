// SPDX-License-Identifier: Apache-2.0
//! Kernel parameters, on the node and in the pod.

use std::net::{SocketAddrV6, UdpSocket};
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use serde_json::json;

use crate::harness::{DEADLINE, Host, Netns, Pod, connect, eventually};
use crate::network::{Network, address, host_link, lines};

#[test]
fn the_host_link_has_calicos_parameters() {
    let network = Network::new().dual();
    let pod = Pod::new("a");
    let link = host_link(&network.add(&pod).ok());
    for (key, value) in [
        ("ipv4/conf/LINK/route_localnet", "0"),
        ("ipv4/conf/LINK/accept_redirects", "0"),
        ("ipv4/neigh/LINK/proxy_delay", "0"),
        ("ipv4/conf/LINK/proxy_arp", "1"),
        ("ipv4/conf/LINK/arp_announce", "2"),
        ("ipv4/conf/LINK/forwarding", "1"),
        ("ipv6/conf/LINK/disable_ipv6", "0"),
        ("ipv6/conf/LINK/accept_dad", "0"),
        ("ipv6/conf/LINK/forwarding", "1"),
        ("ipv6/conf/LINK/accept_ra", "0"),
    ] {
        let key = key.replace("LINK", &link);
        assert_eq!(network.host().sysctl(&key), value, "{key}");
    }
}

#[test]
fn an_ipv4_host_link_heeds_no_router_advertisement() {
    let network = Network::new();
    let pod = Pod::new("a");
    let link = host_link(&network.add(&pod).ok());
    assert_eq!(network.host().sysctl(&format!("ipv6/conf/{link}/accept_ra")), "0");
}

#[test]
fn a_pod_does_not_forward_unless_it_may() {
    for (conf, value) in [
        (json!({}), "0"),
        (json!({"allowIPForwarding": true}), "1"),
        (json!({"container_settings": {"allow_ip_forwarding": true}}), "1"),
    ] {
        let network = conf
            .as_object()
            .unwrap()
            .iter()
            .fold(Network::new().dual(), |net, key| net.with(key.0, key.1.clone()));
        let pod = Pod::new("a");
        // The opposite of what is expected, for a new namespace has the kernel's defaults.
        let opposite = if value == "0" { "1" } else { "0" };
        pod.netns.set_sysctl("ipv4/ip_forward", opposite);
        pod.netns.set_sysctl("ipv6/conf/all/forwarding", opposite);
        network.add(&pod).ok();
        assert_eq!(pod.netns.sysctl("ipv4/ip_forward"), value, "{conf}");
        assert_eq!(pod.netns.sysctl("ipv6/conf/all/forwarding"), value, "{conf}");
    }
}

/// `all` would turn it on for every link of the pod, `default` for every later one.
#[test]
fn ipv6_is_turned_on_for_our_link_alone_where_the_node_has_it_off() {
    let network = Network::new().dual();
    let pod = Pod::new("a");
    for scope in ["all", "default", "lo"] {
        pod.netns.set_sysctl(&format!("ipv6/conf/{scope}/disable_ipv6"), "1");
    }
    network.add(&pod).ok();
    for (scope, value) in [("all", "1"), ("default", "1"), ("lo", "0"), ("eth0", "0")] {
        let key = format!("ipv6/conf/{scope}/disable_ipv6");
        assert_eq!(pod.netns.sysctl(&key), value, "{scope}");
    }
    assert_eq!(pod.netns.sysctl("ipv6/conf/eth0/accept_dad"), "0");
    assert!(pod.netns.pings("2001:db8::11"));
}

#[test]
fn a_second_interface_leaves_ipv6_off_on_another_plugins() {
    let network = Network::new();
    let dual = Network::on(network.host()).dual();
    let pod = Pod::new("a");
    let other = Netns::new();
    pod.netns.set_sysctl("ipv6/conf/default/disable_ipv6", "1");
    connect((&pod.netns, "net0", &["198.51.100.2/24"]), (&other, "peer", &[]));
    // One of ours that serves IPv4 alone is left as it is, too.
    network.add(&pod).ok();
    dual.with("name", json!("other"))
        .ranges(&["10.9.0.0/24", "fd00:9::/64"])
        .add(&pod.interface("net1"))
        .ok();
    for (link, value) in [("default", "1"), ("net0", "1"), ("eth0", "1"), ("net1", "0")] {
        let key = format!("ipv6/conf/{link}/disable_ipv6");
        assert_eq!(pod.netns.sysctl(&key), value, "{link}");
    }
    assert!(pod.netns.pings("2001:db8::11"));
}

/// Such a packet gets as far as the link where a plugin behind us has let it
/// (`route_localnet`) and nobody translates it.
#[test]
fn a_packet_from_127_0_0_1_leaves_no_neighbour_that_is_not_reached() {
    let network = Network::new().dual();
    let (host, pod) = (network.host(), Pod::new("a"));
    let result = network.add(&pod).ok();
    let link = host_link(&result);
    host.set_sysctl(&format!("ipv4/conf/{link}/route_localnet"), "1");
    for (from, to) in [("127.0.0.1", address(&result, 0)), ("::1", address(&result, 1))] {
        host.command("ip", &["neighbour", "flush", "dev", &link]).ok();
        host.command("ping", &["-n", "-q", "-c", "1", "-w", "1", "-I", from, &to]);
        let known = lines(host, &["neighbour", "show", &to, "dev", &link]);
        let unreached = ["INCOMPLETE", "FAILED"].iter().any(|state| known.concat().contains(state));
        assert!(!unreached, "{known:?}");
        assert!(host.pings(&to));
    }
}

#[test]
fn an_ipv4_pod_leaves_ipv6_in_the_pod_alone() {
    let network = Network::new();
    let pod = Pod::new("a");
    pod.netns.set_sysctl("ipv6/conf/all/disable_ipv6", "1");
    pod.netns.set_sysctl("ipv6/conf/all/forwarding", "1");
    network.add(&pod).ok();
    assert_eq!(pod.netns.sysctl("ipv6/conf/all/disable_ipv6"), "1");
    assert_eq!(pod.netns.sysctl("ipv6/conf/all/forwarding"), "1");
}

#[test]
fn the_node_forwards_for_the_families_served_and_for_no_other() {
    for (subnets, ipv4, ipv6) in [
        (&["10.1.0.0/24"][..], "1", "0"),
        (&["fd00:1::/64"][..], "0", "1"),
        (&["10.1.0.0/24", "fd00:1::/64"][..], "1", "1"),
    ] {
        let network = Network::new().ranges(subnets);
        network.host().set_sysctl("ipv4/ip_forward", "0");
        let pod = Pod::new("a");
        network.add(&pod).ok();
        assert_eq!(network.host().sysctl("ipv4/ip_forward"), ipv4, "{subnets:?}");
        assert_eq!(network.host().sysctl("ipv6/conf/all/forwarding"), ipv6, "{subnets:?}");
    }
}

#[test]
fn the_nodes_forwarding_is_left_alone_where_it_is_not_ours_to_manage() {
    let network = Network::new().dual().with("manageForwarding", json!(false));
    network.host().set_sysctl("ipv4/ip_forward", "0");
    let pod = Pod::new("a");
    let result = network.add(&pod).ok();
    assert_eq!(network.host().sysctl("ipv4/ip_forward"), "0");
    assert_eq!(network.host().sysctl("ipv6/conf/all/forwarding"), "0");
    network.check(&pod, &result).ok();
}

/// A router heeds no router advertisements, unless `accept_ra` is 2: turning
/// IPv6 forwarding on makes the kernel drop the default route it learnt.
#[test]
fn a_default_route_from_a_router_advertisement_survives_the_first_ipv6_pod() {
    let (host, router) = (Host::new(), Netns::new());
    connect((&host, "eth0", &["2001:db8::11/64"]), (&router, "eth0", &["2001:db8::1/64"]));
    let defaults = || lines(&host, &["-6", "route", "show", "default", "proto", "ra"]);
    let learnt = eventually(DEADLINE, || {
        advertise(&router, &host);
        eventually(Duration::from_millis(100), || !defaults().is_empty())
    });
    assert!(learnt, "the node heard no advertisement");
    assert_eq!(host.sysctl("ipv6/conf/eth0/accept_ra"), "1");

    let pod = Pod::new("a");
    Network::on(&host).dual().add(&pod).ok();
    assert_eq!(host.sysctl("ipv6/conf/all/forwarding"), "1");
    assert_eq!(host.sysctl("ipv6/conf/eth0/accept_ra"), "2");
    assert_eq!(defaults().len(), 1, "the node lost its default route");
}

#[test]
fn a_node_without_an_advertised_default_route_keeps_its_accept_ra() {
    let network = Network::new().dual();
    let pod = Pod::new("a");
    network.add(&pod).ok();
    assert_eq!(network.host().sysctl("ipv6/conf/eth0/accept_ra"), "1");
}

/// Sends the node one router advertisement (RFC 4861, 4.2) of a router that is
/// the default one for half an hour. Nothing is sent while either link-local
/// address is still tentative.
fn advertise(router: &Netns, host: &Host) {
    const ADVERTISEMENT: [u8; 16] = [134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0];
    // Receivers heed only what cannot have come from beyond a router.
    router.set_sysctl("ipv6/conf/eth0/hop_limit", "255");
    let entry = host.ip(&["-6", "address", "show", "dev", "eth0"]);
    let addresses = entry[0]["addr_info"].as_array().expect("the node's addresses").iter();
    let mut link_local = addresses.filter(|info| info["scope"] == "link");
    let Some(address) = link_local.find_map(|info| info["local"].as_str()) else { return };
    let index = router.link("eth0").expect("the router's link")["ifindex"].as_u64().unwrap();
    let index = u32::try_from(index).unwrap();
    let to = SocketAddrV6::new(address.parse().unwrap(), 0, 0, index);
    router.enter(|| {
        let (kind, flags) = (SockType::Raw, SockFlag::SOCK_CLOEXEC);
        let raw = socket(AddressFamily::Inet6, kind, flags, SockProtocol::IcmpV6).unwrap();
        let _ = UdpSocket::from(raw).send_to(&ADVERTISEMENT, to);
    });
}
