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
