// SPDX-License-Identifier: Apache-2.0
//! What keeps the node from passing packets on.

use super::*;

#[test]
fn forwarding_and_firewalls() {
    let off = |node: &mut Snapshot, key: &str| {
        node.kernel.sysctls.insert(key.to_owned(), "0".into());
    };
    only("ip-forward", Error, "is 0", |node| off(node, forwarding::IPV4));
    // Before there is a pod its ADD turns it on.
    only("ip-forward", Info, "is 0", |node| {
        off(node, forwarding::IPV4);
        node.journal.clear();
        pool(node).leases.clear();
    });
    // Of a family that no pod has it does not matter.
    assert_eq!(told(|node| off(node, forwarding::IPV6)), []);
    for (certain, severity) in [(true, Error), (false, Info)] {
        only("forward-drop", severity, "FORWARD", |node| {
            let (text, fix) = ("chain ip filter FORWARD".to_owned(), "iptables".to_owned());
            node.surroundings.barriers.push(Barrier { certain, text, fix, ..Barrier::default() });
        });
    }
    let advertised = |node: &mut Snapshot, value: &str| {
        let mut default = route("::/0", 2);
        default.route.protocol = PROTOCOL_RA;
        node.kernel.routes.push(default);
        node.kernel.sysctls.insert("net/ipv6/conf/eth0/accept_ra".into(), value.into());
    };
    only("accept-ra", Error, "accept_ra 1", |node| advertised(node, "1"));
    assert_eq!(told(|node| advertised(node, "2")), []);
    assert_eq!(
        told(|node| {
            advertised(node, "1");
            off(node, forwarding::IPV6);
        }),
        []
    );
    only("sysctl-drift", Warning, "should be new", |node| {
        let sysctl = change(Kind::Sysctl, Action::Replace, "sysctl net/ipv4/conf/calic1/proxy_arp");
        node.networks[0].repairs.push(sysctl);
    });
    for (count, severity) in [("85", Warning), ("99", Error)] {
        only("conntrack-full", severity, "of 100", |node| {
            let sysctls = &mut node.kernel.sysctls;
            sysctls.insert("net/netfilter/nf_conntrack_count".into(), count.into());
            sysctls.insert("net/netfilter/nf_conntrack_max".into(), "100".into());
        });
    }
    only("masquerade-lost", Error, "old", |node| {
        let table = change(Kind::Table, Action::Replace, "nftables table manx.fabric-109");
        fabric(node).changes.push(table);
    });
    only("masquerade-lost", Error, "gone", |node| {
        node.networks[0].table.push("it is gone".into());
    });
    // What may not be read is not lost, and that is told once of all networks.
    let mut node = healthy();
    node.networks[0].table_unseen = Some("list tables: Operation not permitted".into());
    node.networks.push(node.networks[0].clone());
    let outcome = &examine(&node, Some("masquerade-lost"))[0].1;
    assert!(matches!(outcome, Outcome::Skipped(reason) if reason.ends_with("not permitted")));
}

/// A tunnel for the fabric's routes, beside eth0 and the pod's link.
fn with_tunnel(node: &mut Snapshot) {
    let kind = Some("vxlan".to_owned());
    node.kernel.links.push(Link { kind, ..link(4, "vxlan.calico") });
    node.kernel.routes[1].devices = vec![4];
}

/// The parameter of all says nothing of one that was set after it.
#[test]
fn a_device_that_does_not_forward_is_told() {
    for (name, whose) in [
        ("eth0", "of other nodes and of everybody else"),
        ("vxlan.calico", "of other nodes' pods"),
        ("calic1", "of pod shop/web"),
    ] {
        let mut node = healthy();
        with_tunnel(&mut node);
        let key = devconf::forwarding(name);
        node.kernel.sysctls.insert(key.clone(), "0".into());
        // What a pass finds is the same thing.
        let drift = change(Kind::Sysctl, Action::Replace, &format!("sysctl {key}"));
        node.networks[0].repairs.push(drift);
        let found = findings(&examine(&node, None));
        let [one] = &found[..] else { panic!("{name}: {found:#?}") };
        assert_eq!((one.id, one.severity), ("ip-forward", Error));
        assert!(one.evidence.contains(whose), "{}", one.evidence);
        assert_eq!(one.fix, format!("sysctl -w {key}=1"));
        assert_eq!(one.undo, format!("sysctl -w {key}=0"));
        // With none forwarded, one is no news.
        node.kernel.sysctls.insert(forwarding::IPV4.into(), "0".into());
        let found = findings(&examine(&node, Some("ip-forward")));
        assert!(found.len() == 1 && found[0].fix.contains("ip_forward=1"), "{found:#?}");
    }
    // What is nobody's way, and IPv6, whose namesake forbids nothing.
    for key in [devconf::forwarding("docker0"), "net/ipv6/conf/eth0/forwarding".to_owned()] {
        assert_eq!(
            told(|node| {
                node.kernel.links.push(link(9, "docker0"));
                node.kernel.sysctls.insert(key, "0".into());
            }),
            []
        );
    }
}

#[test]
fn a_device_that_is_set_down_is_named_before_what_it_took_along() {
    for (place, name, whose) in [
        (1, "eth0", "of other nodes and of everybody else"),
        (3, "vxlan.calico", "of other nodes' pods"),
        (2, "calic1", "of pod shop/web"),
    ] {
        let mut node = healthy();
        with_tunnel(&mut node);
        node.kernel.links[place].up = false;
        let lost = change(Kind::Route, Action::Create, "route 10.2.0.0/24");
        fabric(&mut node).changes.push(lost);
        let found = findings(&examine(&node, None));
        let [one, other] = &found[..] else { panic!("{name}: {found:#?}") };
        assert_eq!((one.id, other.id), ("next-hop-unreachable", "route-missing"));
        assert_eq!((one.severity, &*one.object), (Error, &*format!("link {name}")));
        assert!(one.evidence.contains(whose), "{}", one.evidence);
        assert!(one.fix.starts_with(&format!("ip link set {name} up; manx apply")));
        assert_eq!(one.undo, format!("ip link set {name} down"));
    }
    assert_eq!(told(|node| node.kernel.links.push(Link { up: false, ..link(9, "eth9") })), []);
}

/// They go with the link, and nothing else says which it was.
#[test]
fn a_link_that_is_set_down_takes_addresses_of_ipv6_along() {
    let lost = |node: &mut Snapshot| {
        node.kernel.links[1].up = false;
        fabric(node).addresses.push("2001:db8::1".parse().unwrap());
    };
    only("next-hop-unreachable", Error, "set down", lost);
    only("node-address-changed", Error, "eth0 is set down", |node| {
        lost(node);
        fabric(node).addresses.remove(0);
        node.kernel.addresses.clear();
        node.kernel.routes.clear();
    });
}

/// It matters while packets of peers may come by two ways.
#[test]
fn a_link_that_filters_by_the_way_back_is_told() {
    let told = |all: &str, own: &str, accepts: Option<&str>| {
        let seen = told(|node| {
            for (link, value) in [("all", all), ("eth0", own)] {
                let key = format!("net/ipv4/conf/{link}/rp_filter");
                node.kernel.sysctls.insert(key, value.into());
            }
            fabric(node).accepts = accepts.map(str::to_owned);
        });
        seen.into_iter().map(|(id, severity, _)| (id, severity)).collect::<Vec<_>>()
    };
    for (all, own) in [("0", "0"), ("2", "1"), ("1", "2"), ("0", "2")] {
        assert_eq!(told(all, own, Some("ipip")), [], "{all} {own}");
    }
    for (all, own) in [("1", "0"), ("0", "1"), ("1", "1")] {
        assert_eq!(told(all, own, None), [("rp-filter", Info)]);
        assert_eq!(told(all, own, Some("ipip")), [("rp-filter", Warning)]);
    }
}
