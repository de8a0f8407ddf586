// SPDX-License-Identifier: Apache-2.0
use std::{net::IpAddr, path::PathBuf};

use serde_json::json;

use super::{
    cache::Cached,
    chains,
    findings::{blocks, findings},
    found::{found, rows},
    site::{Backend, Former, NodeObject, Ours, Remainder, Rules, Site},
    steps::{Step, steps},
};
use crate::{
    family::Family,
    finding::Severity,
    net::{
        link::Link,
        route::{Found, Kind, Route},
    },
    node::{Barrier, Fabric, File, Lease, Network, Pool, Range, Snapshot},
    state::Entry,
};

const FILTER: &str = "*filter\n:FORWARD ACCEPT [0:0]\n:cali-FORWARD - [0:0]\n\
                      -A FORWARD -m comment --comment \"cali:x\" -j cali-FORWARD\nCOMMIT\n";

fn veth(index: u32, name: &str) -> Link {
    Link { index, name: name.to_owned(), kind: Some("veth".to_owned()), ..Link::default() }
}

fn rules(former: Former, text: &str) -> Rules {
    Rules {
        backend: Backend::Legacy,
        family: Family::V4,
        left: chains::left(text, former.marks()),
        barriers: Vec::new(),
        restore: "iptables-legacy-restore".to_owned(),
    }
}

/// A node of Calico's with one pod and one link that is nobody's, and our configuration.
pub(super) fn calico() -> Site {
    let pool = Pool {
        ranges: vec![Range {
            path: String::new(),
            set: 0,
            first: "10.1.0.0".parse().unwrap(),
            last: "10.1.0.255".parse().unwrap(),
            size: "256".to_owned(),
        }],
        ..Pool::default()
    };
    let mut snapshot = Snapshot {
        networks: vec![Network { pool: Some(pool), ..Network::default() }],
        ..Snapshot::default()
    };
    snapshot.kernel.links = vec![veth(4, "cali1"), veth(5, "cali2"), veth(6, "veth7")];
    let entry = Entry {
        network: "k8s-pod-network".to_owned(),
        container_id: "c1".to_owned(),
        ifname: "eth0".to_owned(),
        addresses: vec!["10.1.0.9".parse().unwrap()],
        ..Entry::default()
    };
    let file = |path: &str, network: &str, kind: &str| File {
        path: PathBuf::from(path),
        network: Some(network.to_owned()),
        plugins: vec![kind.to_owned()],
        ..File::default()
    };
    Site {
        former: Former::Calico,
        snapshot,
        ours: Some(Ours {
            path: PathBuf::from("/etc/cni/net.d/20-manx.conflist"),
            listed: Some(PathBuf::from("/etc/cni/net.d/20-manx.conflist")),
            network: "pods".to_owned(),
            ipam: json!({"type": "manx-ipam"}),
            serves_sources: false,
        }),
        files: vec![
            file("/etc/cni/net.d/10-calico.conflist", "k8s-pod-network", "calico"),
            file("/etc/cni/net.d/20-manx.conflist", "pods", "manx"),
        ],
        cached: vec![Cached { entry, of_node: vec!["cali1".to_owned()], link: Some(4) }],
        ends: Vec::new(),
        firewall: Remainder { rules: vec![rules(Former::Calico, FILTER)], ..Remainder::default() },
        programs: Vec::new(),
        directory: PathBuf::from("/etc/cni/net.d"),
        agents: Vec::new(),
        proxy_arp: false,
        node: Ok(NodeObject { cordoned: true, ..NodeObject::default() }),
    }
}

impl Site {
    /// Has the pool know an attachment's address.
    fn leased(&mut self, entry: &Entry) {
        let lease = Lease {
            address: entry.addresses[0],
            container_id: entry.container_id.clone(),
            ifname: Some(entry.ifname.clone()),
        };
        self.snapshot.networks[0].pool.as_mut().unwrap().leases = vec![lease];
    }
}

/// The checks that find something, the worst first.
fn ids(site: &Site) -> Vec<&'static str> {
    findings(site, &found(site)).iter().map(|finding| finding.id).collect()
}

#[test]
fn a_node_of_calico_is_seen_and_planned() {
    let site = calico();
    let remains = found(&site);
    let told: Vec<String> =
        rows(&site, &remains).iter().map(|row| format!("{} {}", row.kind, row.object)).collect();
    let wanted = [
        "file /etc/cni/net.d/10-calico.conflist",
        "pod cali1",
        "pod cali2",
        "chains iptables-legacy ip filter",
        "leases network k8s-pod-network",
    ];
    assert_eq!(told, wanted);
    assert_eq!(ids(&site), ["calico-chains", "pod-unknown"]);
    let steps = steps(&site, &remains);
    let [Step::Pod(pod), Step::Pass, Step::Rules { text, .. }, Step::File { to, .. }] = &steps[..]
    else {
        panic!("{steps:?}")
    };
    assert_eq!((pod.entry.network.as_str(), pod.leases.len()), ("pods", 1));
    assert_eq!(pod.entry.ipam, json!({"type": "manx-ipam"}), "its DEL takes the address back");
    assert_eq!(pod.mark.as_ref().unwrap().1, "manx1 pods c1 eth0");
    assert!(text.contains("-X cali-FORWARD"), "{text}");
    assert_eq!(to, "/etc/cni/net.d/10-calico.conflist.disabled");
}

/// Whatever ended a former run between the entry, the mark and the lease.
#[test]
fn what_a_pod_still_lacks_is_a_step() {
    let mut site = calico();
    let remains = found(&site);
    let first = steps(&site, &remains);
    let Some(Step::Pod(pod)) = first.first() else { panic!("{first:?}") };
    let entry = pod.entry.clone();
    let lacks = |site: &Site| matches!(steps(site, &found(site)).first(), Some(Step::Pod(_)));
    site.snapshot.journal = vec![entry.clone()];
    site.leased(&entry);
    assert!(lacks(&site), "the mark");
    site.snapshot.kernel.links[0].alias = Some("manx1 pods c1 eth0".to_owned());
    assert!(!lacks(&site));
    site.snapshot.networks[0].pool.as_mut().unwrap().leases.clear();
    assert!(lacks(&site), "the lease");
}

/// Felix's chain tells what pods were allowed by an annotation, of which no note tells.
#[test]
fn what_a_pod_was_allowed_it_keeps_where_ours_lets_it() {
    let mut site = calico();
    site.firewall.sources = ["10.9.0.0/16", "10.9.1.0/24", "fd09::/64"]
        .map(|network| ("cali1".to_owned(), network.parse().unwrap()))
        .to_vec();
    site.cached[0].entry.pod_namespace = Some("default".to_owned());
    site.cached[0].entry.pod_name = Some("web".to_owned());
    let told = findings(&site, &found(&site));
    let lost = told.iter().find(|it| it.id == "sources-lost").unwrap();
    assert!(lost.evidence.contains("default/web (cali1) from 10.9.0.0/16"), "{lost:?}");
    let command = "nft add element inet manx-pods allowed6 '{ \"cali1\" . fd09::/64 }'";
    assert!(lost.fix.contains(command) && lost.fix.contains("20-manx.conflist"), "{lost:?}");
    let of_pod = |site: &Site| match steps(site, &found(site)).into_iter().next() {
        Some(Step::Pod(pod)) => Some(pod.entry),
        _ => None,
    };
    assert!(of_pod(&site).unwrap().sources.is_empty());
    site.ours.as_mut().unwrap().serves_sources = true;
    assert!(!ids(&site).contains(&"sources-lost"));
    let entry = of_pod(&site).unwrap();
    let sources: Vec<String> = entry.sources.iter().map(ToString::to_string).collect();
    assert_eq!(sources, ["10.9.0.0/16", "fd09::/64"]);
    // One that was taken over before, without them.
    site.snapshot.journal = vec![Entry { sources: Vec::new(), ..entry.clone() }];
    site.snapshot.kernel.links[0].alias = Some("manx1 pods c1 eth0".to_owned());
    site.leased(&entry);
    assert_eq!(of_pod(&site), Some(entry.clone()));
    site.snapshot.journal = vec![entry];
    assert_eq!(of_pod(&site), None);
}

/// As `ip -d link` and `ip route` show a node whose BIRD routes by IP in IP.
#[test]
fn a_node_of_calico_with_ip_in_ip_is_seen() {
    let mut site = calico();
    let tunnel = Link { kind: Some("ipip".to_owned()), mtu: 1480, ..veth(9, "tunl0") };
    site.snapshot.kernel.links.push(tunnel);
    let towards = |destination: &str, gateway: Option<&str>| {
        let gateway: Option<IpAddr> = gateway.map(|it| it.parse().unwrap());
        let kind = gateway.map_or(Kind::Blackhole, |_| Kind::Unicast);
        let route = Route {
            kind,
            gateway,
            onlink: gateway.is_some(),
            protocol: 12,
            ..Route::new(destination.parse().unwrap())
        };
        Found::new(route, gateway.map(|_| 9).into_iter().collect())
    };
    site.snapshot.kernel.routes = vec![
        towards("10.1.0.0/26", None),
        towards("10.2.0.64/26", Some("192.0.2.12")),
        towards("10.9.0.0/26", Some("192.0.2.19")),
    ];
    site.snapshot.networks[0].fabric = Some(Fabric {
        protocol: 109,
        own_cidrs: vec!["10.1.0.0/24".parse().unwrap()],
        remote_cidrs: vec!["10.2.0.0/24".parse().unwrap()],
        ..Fabric::default()
    });
    let remains = found(&site);
    let told: Vec<String> = rows(&site, &remains)
        .iter()
        .filter(|row| ["device", "route"].contains(&row.kind))
        .map(|row| format!("{} {}", row.object, row.value))
        .collect();
    let wanted = [
        "tunl0 ipip mtu 1480",
        "10.1.0.0/26 blackhole 10.1.0.0/26 proto 12",
        "10.2.0.64/26 10.2.0.64/26 via 192.0.2.12 dev tunl0 proto 12 onlink",
        "10.9.0.0/26 10.9.0.0/26 via 192.0.2.19 dev tunl0 proto 12 onlink",
    ];
    assert_eq!(told, wanted);
    let taken: Vec<String> = steps(&site, &remains)
        .iter()
        .filter_map(|step| match step {
            Step::Route { route, .. } => Some(format!("{} {}", route.destination, route.protocol)),
            _ => None,
        })
        .collect();
    assert_eq!(taken, ["10.1.0.0/26 109", "10.2.0.64/26 109"], "the rest is nobody's");
    let conflict = findings(&site, &remains).into_iter().find(|it| it.id == "fabric-conflict");
    assert!(conflict.unwrap().evidence.ends_with("10.9.0.0/26"));
}

/// Names of links and addresses are given again, and a runtime may keep both notes.
#[test]
fn a_link_that_two_notes_name_is_nobodys() {
    let mut site = calico();
    let mut other = site.cached[0].clone();
    other.entry.container_id = "c2".to_owned();
    site.cached.push(other);
    let remains = found(&site);
    assert_eq!((remains.pods.len(), remains.disputed.len(), remains.unknown.len()), (0, 1, 1));
    let findings = findings(&site, &remains);
    let told: Vec<&str> =
        findings.iter().filter(|it| blocks(it)).map(|it| it.evidence.as_str()).collect();
    assert!(told.iter().any(|it| it.contains("c1") && it.contains("c2")), "{told:?}");
}

/// Manx under Calico's name serves Calico's configuration.
#[test]
fn the_configuration_that_serves_is_never_moved_away() {
    let mut site = calico();
    let path = site.files[0].path.clone();
    let ours = site.ours.as_mut().unwrap();
    (ours.path, ours.listed) = (path.clone(), Some(path));
    assert!(found(&site).files.is_empty());
}

#[test]
fn an_address_of_somebody_elses_pool_is_not_ours_to_take_back() {
    let mut site = calico();
    site.cached[0].entry.addresses = vec!["10.65.0.9".parse().unwrap()];
    assert!(ids(&site).contains(&"lease-out-of-range"), "{:?}", ids(&site));
    let steps = steps(&site, &found(&site));
    let Some(Step::Pod(pod)) = steps.first() else { panic!("{steps:?}") };
    assert_eq!((pod.leases.len(), &pod.entry.ipam), (0, &json!(null)));
}

/// One row: a healthy node with one thing changed.
#[test]
fn what_has_to_be_known_is_told() {
    type Change = fn(&mut Site);
    let cases: [(&str, Severity, Change); 15] = [
        ("former-agent", Severity::Error, |site| site.agents = vec![(7, "calico-node".to_owned())]),
        ("configuration-missing", Severity::Error, |site| site.ours = None),
        ("network-unavailable", Severity::Warning, |site| {
            let unavailable = Some("CalicoIsDown".to_owned());
            site.node = Ok(NodeObject { unavailable, ..NodeObject::default() });
        }),
        ("sources-lost", Severity::Warning, |site| {
            site.firewall.sources = vec![("cali1".to_owned(), "10.9.0.0/16".parse().unwrap())];
        }),
        ("node-schedulable", Severity::Warning, |site| site.node = Ok(NodeObject::default())),
        ("network-unavailable", Severity::Info, |site| site.node = Err("no kubectl".to_owned())),
        ("policy-unenforced", Severity::Warning, |site| {
            let text = FILTER.replace("cali-FORWARD", "cali-pi-_1");
            site.firewall.rules = vec![rules(Former::Calico, &text)];
        }),
        ("policy-unenforced", Severity::Warning, |site| {
            site.firewall.tables = vec![("ip".to_owned(), "calico".to_owned())];
        }),
        ("forward-drop", Severity::Error, |site| {
            let barrier = Barrier { certain: true, ..Barrier::default() };
            site.firewall.rules[0].barriers = vec![Barrier::default(), barrier];
        }),
        ("forward-drop", Severity::Warning, |site| {
            site.firewall.rules[0].barriers = vec![Barrier::default()];
        }),
        ("former-rules-unread", Severity::Error, |site| {
            site.firewall.unread = vec!["iptables-legacy".to_owned()];
        }),
        ("pool-unknown", Severity::Error, |site| {
            site.snapshot.networks[0].pool.as_mut().unwrap().ranges.clear();
        }),
        ("pool-unknown", Severity::Error, |site| site.snapshot.networks.clear()),
        ("configuration-missing", Severity::Error, |site| {
            site.ours.as_mut().unwrap().listed = None;
        }),
        ("calico-chains", Severity::Error, |_| {}),
    ];
    for (id, severity, change) in cases {
        let mut site = calico();
        let before = ids(&site);
        change(&mut site);
        let findings = findings(&site, &found(&site));
        let one = findings.iter().find(|finding| finding.id == id);
        let one = one.unwrap_or_else(|| panic!("{id}: {findings:?}"));
        assert_eq!(one.severity, severity, "{id}");
        assert!(!one.why.is_empty() && !one.fix.is_empty(), "{one:?}");
        assert!(before.contains(&id) == (id == "calico-chains"), "{id}: {before:?}");
    }
}

/// What others and new nodes have is not asked for.
#[test]
fn the_other_agent_is_kept_from_nodes_with_our_label() {
    let mut site = calico();
    site.agents = vec![(7, "calico-node".to_owned())];
    let findings = findings(&site, &found(&site));
    let fix = &findings.iter().find(|finding| finding.id == "former-agent").unwrap().fix;
    let [_, patch, then] = &fix.split('\'').collect::<Vec<_>>()[..] else { panic!("{fix}") };
    assert_eq!(*then, " && kubectl label node NAME manx/node=true");
    let patch: serde_json::Value = serde_json::from_str(patch).unwrap();
    let affinity = &patch["spec"]["template"]["spec"]["affinity"]["nodeAffinity"];
    let required = &affinity["requiredDuringSchedulingIgnoredDuringExecution"];
    let wanted = json!({"key": "manx/node", "operator": "DoesNotExist"});
    assert_eq!(required["nodeSelectorTerms"][0]["matchExpressions"][1], wanted);
}

#[test]
fn without_a_configuration_of_ours_nothing_is_planned() {
    let mut site = calico();
    site.ours = None;
    assert!(steps(&site, &found(&site)).is_empty());
}

/// Flannel's rules serve its pods, as long as there is one.
#[test]
fn pods_behind_the_bridge_keep_it_and_its_rules() {
    let text = "*nat\n:FLANNEL-POSTRTG - [0:0]\nCOMMIT\n";
    let mut site = Site { former: Former::Flannel, ..calico() };
    site.firewall.rules = vec![rules(Former::Flannel, text)];
    let bridge = Link { index: 9, name: "cni0".to_owned(), ..veth(9, "cni0") };
    site.snapshot.kernel.links.push(Link { kind: Some("bridge".to_owned()), ..bridge });
    site.snapshot.kernel.addresses = vec![(9, "10.1.0.1/24".parse().unwrap())];
    site.cached[0].of_node = vec!["cni0".to_owned(), "veth7".to_owned()];
    site.cached[0].link = Some(6);
    let steps_of = |site: &Site| steps(site, &found(site));
    let first = steps_of(&site);
    let [Step::Pod(pod), Step::ProxyArp(bridge), Step::Pass] = &first[..] else {
        panic!("{first:?}")
    };
    assert!(pod.mark.is_none() && pod.entry.bridged && bridge == "cni0");
    // It is ours by now, and then it is gone.
    site.snapshot.journal = vec![pod.entry.clone()];
    site.proxy_arp = true;
    let steps = steps_of(&site);
    let [Step::Pod(again), Step::Pass] = &steps[..] else { panic!("{steps:?}") };
    assert_eq!((&again.entry, again.leases.len()), (&pod.entry, 1), "nobody has its address yet");
    site.leased(&pod.entry);
    assert!(steps_of(&site).is_empty());
    assert!(ids(&site).contains(&"former-bridge"));
    site.snapshot.journal.clear();
    site.cached.clear();
    assert!(matches!(steps_of(&site)[..], [Step::Pass, Step::Rules { .. }]));
}

/// Where the table of policies is there before Felix's goes, pods are never without.
#[test]
fn policies_that_are_enforced_already_are_not_lost() {
    let mut site = calico();
    site.firewall.tables = vec![("ip".to_owned(), "calico".to_owned())];
    let tells = |site: &Site| ids(site).contains(&"policy-unenforced");
    assert!(tells(&site));
    site.snapshot.surroundings.enforces_policy = true;
    assert!(tells(&site), "later pods would be without");
    site.snapshot.networks[0].enforces_policy = true;
    assert!(!tells(&site));
}
