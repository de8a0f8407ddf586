// SPDX-License-Identifier: Apache-2.0
//! Nodes as they are found: several uplinks, other plugins' pods, links that
//! somebody renamed, leases that nobody remembers.

use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use crate::harness::{Host, Pod};
use crate::network::{Network, host_link};
use crate::ownership::names;

fn lease(network: &Network, address: &str, owner: &str) {
    let store = network.host().scratch().dir("leases/net");
    std::fs::write(store.join(address), format!("{owner}\r\neth0")).unwrap();
}

#[test]
fn a_default_route_of_several_paths_gives_the_narrowest_mtu() {
    let host = Host::new();
    for (link, address, mtu) in
        [("up0", "192.0.2.1/24", "1500"), ("up1", "198.51.100.1/24", "1400")]
    {
        let peer = format!("{link}p");
        host.command("ip", &["link", "add", link, "mtu", mtu, "type", "veth", "peer", &peer]).ok();
        host.command("ip", &["address", "add", address, "dev", link]).ok();
        host.command("ip", &["link", "set", link, "up"]).ok();
        host.command("ip", &["link", "set", &peer, "up"]).ok();
    }
    let hops = ["nexthop", "via", "192.0.2.2", "nexthop", "via", "198.51.100.2"];
    host.command("ip", &[&["route", "add", "default"][..], &hops].concat()).ok();
    let network = Network::on(&host);
    let result = network.add(&Pod::new("a")).ok();
    assert_eq!(result["interfaces"][1]["mtu"], 1400);
    network.with("mtu", json!(1300)).add(&Pod::new("b")).ok();
}

#[test]
fn an_address_of_another_plugins_living_pod_is_refused() {
    let network = Network::new().gives(&json!({"ips": [{"address": "10.1.0.5/24"}]}));
    let host = network.host();
    host.command("ip", &["link", "add", "calixyz", "type", "veth", "peer", "q"]).ok();
    host.command("ip", &["link", "set", "q", "up"]).ok();
    host.command("ip", &["link", "set", "calixyz", "up"]).ok();
    host.command("ip", &["route", "add", "10.1.0.5", "dev", "calixyz", "scope", "link"]).ok();
    names(&network.add(&Pod::new("a")).error(), 101, &["10.1.0.5", "calixyz"]);
    let route = host.command("ip", &["route", "show", "10.1.0.5"]).ok();
    assert!(route.contains("calixyz"), "{route}");
}

#[test]
fn addresses_that_no_pod_can_have_are_refused() {
    for address in ["0.0.0.0/8", "127.0.0.5/8", "224.0.0.5/4", "169.254.1.1/32"] {
        let network = Network::new().gives(&json!({"ips": [{"address": address}]}));
        let text = address.split('/').next().unwrap();
        names(&network.add(&Pod::new("a")).error(), 101, &[text]);
    }
}

#[test]
fn a_route_of_ipam_may_have_bits_of_the_host() {
    let given = json!({"ips": [{"address": "10.1.0.5/24"}], "routes": [{"dst": "10.5.5.5/16"}]});
    let network = Network::new().gives(&given);
    let pod = Pod::new("a");
    network.add(&pod).ok();
    let route = pod.netns.command("ip", &["route", "show", "10.5.0.0/16"]).ok();
    assert!(route.contains("via 169.254.1.1"), "{route}");
}

#[test]
fn del_finds_a_link_that_was_renamed() {
    let network = Network::new();
    let pod = Pod::new("a");
    let link = host_link(&network.add(&pod).ok());
    let host = network.host();
    host.command("ip", &["link", "set", &link, "down"]).ok();
    host.command("ip", &["link", "set", &link, "name", "calizz"]).ok();
    network.call("DEL").pod(&pod).without("CNI_NETNS").run().ok();
    assert!(host.link("calizz").is_none());
}

#[test]
fn del_without_an_ipam_section_succeeds_as_often_as_it_is_asked() {
    let network = Network::new();
    let pod = Pod::new("a");
    network.add(&pod).ok();
    let bare = r#"{"cniVersion":"1.1.0","name":"net","type":"manx"}"#;
    for _ in 0..3 {
        network.call("DEL").pod(&pod).text(bare).run().ok();
        assert_eq!(network.leases(), [""; 0]);
    }
}

#[test]
fn del_replaces_calicos_placeholder_for_the_pod_cidr() {
    let network = Network::new();
    let pod = Pod::new("a");
    network.add(&pod).ok();
    std::fs::remove_dir_all(network.root("run/manx")).unwrap();
    let calicos = network.clone().with_ipam("ranges", json!([[{"subnet": "usePodCidr"}]]));
    calicos.del(&pod).ok();
    assert_eq!(network.leases(), [""; 0]);
}

#[test]
fn check_names_a_host_link_whose_mac_somebody_rewrote() {
    let network = Network::new();
    let pod = Pod::new("a");
    let result = network.add(&pod).ok();
    let link = host_link(&result);
    network.host().command("ip", &["link", "set", &link, "address", "02:00:00:00:00:01"]).ok();
    names(&network.check(&pod, &result).error(), 102, &["02:00:00:00:00:01", &link]);
}

/// An ADD that was killed between its lease and its note, or pods from before
/// the last boot.
#[test]
fn gc_releases_leases_that_no_attachment_has() {
    let network = Network::new();
    let (kept, stale) = (Pod::new("a"), Pod::new("b"));
    network.add(&kept).ok();
    lease(&network, "10.1.0.77", &stale.id);
    network.gc(&[&kept]).ok();
    assert_eq!(network.leases(), ["10.1.0.2"]);
}

#[test]
fn gc_without_a_list_keeps_whatever_is_still_routed() {
    let network = Network::new();
    let pod = Pod::new("a");
    network.add(&pod).ok();
    let host = network.host();
    lease(&network, "10.1.0.77", "gone");
    lease(&network, "10.1.0.78", "calicos");
    host.command("ip", &["route", "add", "10.1.0.78", "dev", "eth0"]).ok();
    let root = network.root("").display().to_string();
    // As one who sees neither the pod's process nor its mount.
    let command =
        ["--pid", "--fork", "--mount-proc", env!("CARGO_BIN_EXE_manx"), "gc", "--root", &root];
    host.command("unshare", &command).ok();
    assert_eq!(network.leases(), ["10.1.0.2", "10.1.0.78"]);
    assert!(pod.netns.pings("192.0.2.11"));
}

#[test]
fn the_state_is_for_roots_eyes() {
    let network = Network::new();
    network.add(&Pod::new("a")).ok();
    for path in ["run/manx", "run/manx/net"] {
        let mode = std::fs::metadata(network.root(path)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{path}");
    }
    let lock = std::fs::metadata(network.root("run/manx/net/.lock")).unwrap();
    assert_eq!(lock.permissions().mode() & 0o777, 0o600);
}
