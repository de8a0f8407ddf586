// SPDX-License-Identifier: Apache-2.0
//! What is said of rule sets that this kernel has, beside what it should be.

use std::collections::HashMap;

use super::{Barrier, Links, Maker, Point, Ruleset, Way, of_save};
use crate::{family::Family, nft::tests::Namespace};

use Way::{Answers, Between, In, Out};

fn with_links<T>(ask: impl FnOnce(&Links<'_>) -> T) -> T {
    with_others(&["eth0"], ask)
}

/// All but eth0 are tunnels.
fn with_others<T>(others: &[&str], ask: impl FnOnce(&Links<'_>) -> T) -> T {
    let names: HashMap<u32, String> =
        [(1, "lo"), (2, "eth0"), (3, "docker0"), (4, "cali1"), (5, "vxlan.calico")]
            .map(|(at, name)| (at, name.to_owned()))
            .into();
    let others: Vec<String> = others.iter().map(|name| (*name).to_owned()).collect();
    let tunnels = others.iter().filter(|name| *name != "eth0").cloned();
    let tunnels: Vec<(String, Family)> = tunnels
        .map(|name| {
            let family = if name.contains("v6") { Family::V6 } else { Family::V4 };
            (name, family)
        })
        .collect();
    ask(&Links {
        prefix: "cali",
        groups: 0x6d61_0000..=0x6d61_ffff,
        others: &others,
        tunnels: &tunnels,
        pods: &["10.244.1.0/24".parse().unwrap(), "fd00::/64".parse().unwrap()],
        names: &names,
        is_ours: |_| false,
    })
}

fn seen(namespace: &Namespace) -> Vec<Barrier> {
    namespace
        .run(|| with_links(|links| Ruleset::read().and_then(|mut all| all.look(links))).unwrap())
}

/// The chains' closed and doubtful ways, of each family.
fn ways(barriers: &[Barrier]) -> Vec<(Family, Vec<Way>, Vec<Way>)> {
    let doubtful = |barrier: &Barrier| barrier.doubtful.iter().map(|(way, _)| *way).collect();
    barriers
        .iter()
        .map(|barrier| (barrier.packets, barrier.closed.clone(), doubtful(barrier)))
        .collect()
}

const ALL: [Way; 4] = Way::ALL;

/// Rules of a table of nft's own, and which ways they close and leave in doubt.
#[test]
fn chains_of_nft() {
    let drops = "type filter hook forward priority 0; policy drop;";
    let accepts = "type filter hook forward priority 0; policy accept;";
    let cases: [(&str, &str, &[Way], &[Way]); 47] = [
        (accepts, "", &[], &[]),
        (drops, "", &ALL, &[]),
        (drops, "accept", &[], &[]),
        (drops, "iifname \"docker0\" accept", &ALL, &[]),
        (drops, "iifname \"cali*\" accept", &[Answers, In], &[]),
        (drops, "iifname \"c*\" accept; oifname \"cali*\" accept", &[], &[]),
        // One host link of many.
        (drops, "iifname \"cali123\" accept", &[Answers, In], &[Between, Out]),
        (drops, "oifname != \"docker0\" accept", &[], &[]),
        (drops, "iifname { \"lo\", \"eth0\" } accept", &[Between, Out], &[]),
        (drops, "iif lo accept", &ALL, &[]),
        (drops, "iif != lo accept", &[], &[]),
        (drops, "ct state established,related accept", &[Between, Out, In], &[]),
        (drops, "ct state { established, related } accept", &[Between, Out, In], &[]),
        (drops, "ct state new accept", &[Answers], &[]),
        (
            drops,
            "ct state vmap { established : accept, related : accept, invalid : drop }",
            &[Between, Out, In],
            &[],
        ),
        (drops, "iifname vmap { \"eth0\" : accept, \"docker0\" : drop }", &[Between, Out], &[]),
        (drops, "ip saddr 10.0.0.0/8 accept", &[], &[Answers, In]),
        (drops, "ip saddr 10.9.0.0/16 accept", &[Between, Out], &[Answers, In]),
        // Nobody elsewhere has an address of this node's pods.
        (drops, "ip saddr 10.244.1.0/24 accept", &[Answers, In], &[]),
        (drops, "ip saddr { 10.244.1.2, 10.244.1.64/26 } accept", &[Answers, In], &[Between, Out]),
        (drops, "ip saddr { 10.244.1.0/24, 10.244.2.0/24 } accept", &[], &[Answers, In]),
        (drops, "ip daddr 10.244.1.0/24 accept", &[Out], &[]),
        (drops, "ip saddr 10.244.1.0/24 accept; ct state established accept", &[In], &[]),
        (drops, "ip saddr != 10.244.1.0/24 accept", &[Between, Out], &[]),
        (accepts, "ip saddr != 10.244.1.0/24 drop", &[Answers, In], &[]),
        (accepts, "ip saddr 10.244.0.0/16 drop", &[Between, Out], &[]),
        (accepts, "ip daddr 10.244.1.0/24 drop", &[Between, Answers, In], &[]),
        (accepts, "ip daddr { 10.9.0.0/16, 10.240.0.0/12 } drop", &[Between, Answers, In], &[]),
        (accepts, "ip saddr { 10.9.0.1, 10.244.1.9 } drop", &[], &[]),
        // Nobody marks pods' packets, unless a rule does.
        (drops, "meta mark 1 accept", &ALL, &[]),
        (drops, "meta mark & 0x4000 == 0x4000 accept", &ALL, &[]),
        (drops, "meta mark { 1, 2 } accept", &ALL, &[]),
        (drops, "meta mark set ct mark; meta mark 1 accept", &[], &ALL),
        (accepts, "meta mark 0 drop", &ALL, &[]),
        // Only what is open to TCP and to UDP is open.
        (drops, "meta l4proto icmp accept", &ALL, &[]),
        (drops, "meta l4proto tcp accept", &ALL, &[]),
        (drops, "meta l4proto { tcp, udp } accept", &[], &[]),
        (drops, "tcp dport 22 accept", &ALL, &[]),
        (drops, "tcp dport 22 accept; udp dport 53 accept", &[], &ALL),
        (drops, "meta l4proto vmap { tcp : accept, udp : drop }", &ALL, &[]),
        (drops, "iifname { \"docker*\", \"br-*\" } accept", &ALL, &[]),
        (drops, "iifname { \"cali*\", \"eth0\" } accept", &[], &[]),
        (drops, "iifname vmap { \"cali*\" : accept, \"eth0\" : drop }", &[Answers, In], &[]),
        // What some meet does not close a way.
        (accepts, "ct state invalid drop; ip saddr 10.9.0.0/16 drop", &[], &[]),
        (accepts, "iifname \"eth0\" accept; reject", &[Between, Out], &[]),
        (accepts, "counter drop", &ALL, &[]),
        (accepts, "fib saddr . iif oif missing drop", &[], &[]),
    ];
    for (head, rules, closed, doubtful) in cases {
        for family in ["ip", "ip6", "inet"] {
            if ((rules.contains("ip saddr") || rules.contains("ip daddr")) && family == "ip6")
                || (family == "inet" && rules.contains("10."))
            {
                continue;
            }
            let namespace = Namespace::new();
            for (index, name) in ["eth0", "docker0"].iter().enumerate() {
                let index = index + 2;
                namespace.command(&format!("ip link add {name} index {index} type bridge"));
            }
            namespace.load(&format!("table {family} t {{ chain fw {{ {head} {rules} \n}}\n}}"));
            let seen = seen(&namespace);
            let expected: Vec<_> = match (family, closed.is_empty() && doubtful.is_empty()) {
                (_, true) => Vec::new(),
                ("inet", _) => Family::BOTH.to_vec(),
                (family, _) => vec![if family == "ip6" { Family::V6 } else { Family::V4 }],
            };
            let expected: Vec<_> = expected
                .into_iter()
                .map(|family| (family, closed.to_vec(), doubtful.to_vec()))
                .collect();
            assert_eq!(ways(&seen), expected, "{family}: {head} {rules}");
        }
    }
}

/// What is closed to one link of several, and to nobody else.
#[test]
fn chains_that_are_closed_to_one_link() {
    let accepts = "type filter hook forward priority 0; policy accept;";
    let drops = "type filter hook forward priority 0; policy drop;";
    let (tunnel, uplink, pod) = (Some("vxlan.calico"), Some("eth0"), Some("cali1"));
    let cases: [(&str, &str, Option<&str>, &[Way]); 14] = [
        (accepts, "oifname \"vxlan.calico\" drop", tunnel, &[Out]),
        (accepts, "oif vxlan.calico drop", tunnel, &[Out]),
        (accepts, "iifname \"vxlan.calico\" drop", tunnel, &[Answers, In]),
        (accepts, "iifname \"vxlan*\" ct state new reject", tunnel, &[In]),
        (accepts, "iifname { \"tun0\", \"vxlan.calico\" } drop", tunnel, &[Answers, In]),
        (accepts, "oifname vmap { \"vxlan.calico\" : drop, \"x\" : accept }", tunnel, &[Out]),
        (accepts, "oifname \"eth0\" drop", uplink, &[Out]),
        // What is not to reach pods beside the tunnel.
        (accepts, "iifname \"eth0\" ct state new drop", None, &[]),
        (accepts, "iifname \"cali1\" drop", pod, &[Out]),
        (accepts, "oifname \"cali1\" drop", pod, &[Answers, In]),
        (drops, "iifname \"cali1\" drop; accept", pod, &[Out]),
        // Some come by it, and some may pass.
        (accepts, "oifname \"vxlan.calico\" ip daddr 10.9.0.0/16 drop", None, &[]),
        (accepts, "iifname \"cali1\" tcp dport 80 drop", None, &[]),
        (accepts, "iifname \"cali2\" drop", None, &[]),
    ];
    for (head, rules, device, closed) in cases {
        let namespace = Namespace::new();
        for (index, name) in [(2, "eth0"), (4, "cali1"), (5, "vxlan.calico")] {
            namespace.command(&format!("ip link add {name} index {index} type bridge"));
        }
        namespace.load(&format!("table ip t {{ chain fw {{ {head} {rules} \n}}\n}}"));
        let others = ["vxlan.calico", "eth0"];
        let seen = namespace
            .run(|| with_others(&others, |links| Ruleset::read().and_then(|mut it| it.look(links))))
            .unwrap();
        let certain = seen.iter().filter(|one| !one.closed.is_empty());
        let told: Vec<_> = certain.map(|one| (one.device.as_deref(), &one.closed[..])).collect();
        let expected: Vec<_> = device.map(|name| (Some(name), closed)).into_iter().collect();
        assert_eq!(told, expected, "{head} {rules}");
    }
}

/// A tunnel carries packets of one family, and closes nothing to the other.
#[test]
fn tunnels_of_another_family_are_not_asked_for() {
    let text = "*filter\n:FORWARD DROP [0:0]\n-A FORWARD -i cali+ -o eth0 -j ACCEPT\n\
                -A FORWARD -i cali+ -o vxlan.calico -j ACCEPT\nCOMMIT\n";
    for (family, tunnels) in [(Family::V4, &[][..]), (Family::V6, &["vxlan-v6.calico"][..])] {
        let others = ["vxlan.calico", "vxlan-v6.calico", "eth0"];
        let seen = with_others(&others, |links| of_save(text, family, links));
        let closes_out = |one: &&Barrier| one.closed.contains(&Out);
        let out: Vec<&str> = seen
            .iter()
            .filter(closes_out)
            .map(|one| one.device.as_deref().unwrap_or("all"))
            .collect();
        assert_eq!(out, tunnels, "{family}: {seen:?}");
    }
}

/// Some go back from a chain, and its end is theirs no more.
#[test]
fn a_chain_that_some_leave() {
    let text = "*filter\n:FORWARD ACCEPT [0:0]\n:A - [0:0]\n-A FORWARD -j MARK --set-xmark 0x0/0x1\n\
                -A FORWARD -j A\n-A A -m mark --mark 0x8 -j RETURN\n-A A -j DROP\nCOMMIT\n";
    assert_eq!(with_links(|links| of_save(text, Family::V4, links)), []);
    let closed = text.replace("FORWARD ACCEPT", "FORWARD DROP");
    let seen = with_links(|links| of_save(&closed, Family::V4, links));
    assert_eq!(ways(&seen), [(Family::V4, ALL.to_vec(), Vec::new())]);
}

/// Families apart in a table of both.
#[test]
fn a_rule_of_one_family() {
    let namespace = Namespace::new();
    namespace.load(
        "table inet t { chain fw { type filter hook forward priority 0; policy drop;
            meta nfproto ipv4 accept; }; }",
    );
    assert_eq!(ways(&seen(&namespace)), [(Family::V6, ALL.to_vec(), Vec::new())]);
}

/// A table that is asleep, another hook, and a bridge's rules close nothing.
#[test]
fn chains_that_see_no_packet_of_pods() {
    let namespace = Namespace::new();
    namespace.load(
        "table inet asleep { flags dormant; chain fw { type filter hook forward priority 0; policy drop; }; }
         table inet t { chain in { type filter hook input priority 0; policy drop; }; chain x { drop; }; }
         table bridge b { chain fw { type filter hook forward priority 0; policy drop; }; }",
    );
    assert_eq!(seen(&namespace), []);
}

/// What drops packets before their way is known, or as they leave, drops them as well.
#[test]
fn chains_before_and_behind() {
    let cases: [(&str, &str, &[Way], &[Way]); 12] = [
        ("filter hook prerouting priority 0; policy accept;", "", &[], &[]),
        ("filter hook prerouting priority 0; policy drop;", "", &ALL, &[]),
        (
            "filter hook prerouting priority 0; policy drop;",
            "iifname \"cali*\" accept",
            &[Answers, In],
            &[],
        ),
        ("filter hook prerouting priority 0; policy drop;", "oifname \"cali*\" accept", &ALL, &[]),
        (
            "filter hook prerouting priority 0; policy accept;",
            "oifname != \"docker0\" drop",
            &[],
            &[],
        ),
        ("filter hook prerouting priority 0; policy drop;", "ct state new accept", &[Answers], &[]),
        // It is not known yet of which connection a packet is.
        ("filter hook prerouting priority -300; policy drop;", "ct state new accept", &[], &ALL),
        (
            "filter hook prerouting priority 0; policy accept;",
            "fib saddr . iif oif missing drop",
            &[],
            &[],
        ),
        (
            "filter hook postrouting priority 0; policy drop;",
            "oifname \"cali*\" accept",
            &[Out],
            &[],
        ),
        (
            "filter hook postrouting priority 0; policy accept;",
            "oifname \"cali*\" drop",
            &[Between, Answers, In],
            &[],
        ),
        // Rules of other hooks may have set one.
        ("filter hook postrouting priority 0; policy accept;", "meta mark 0 drop", &[], &[]),
        ("nat hook postrouting priority 100; policy drop;", "", &[], &[]),
    ];
    for (head, rules, closed, doubtful) in cases {
        let namespace = Namespace::new();
        for (index, name) in ["eth0", "docker0"].iter().enumerate() {
            let index = index + 2;
            namespace.command(&format!("ip link add {name} index {index} type bridge"));
        }
        namespace.load(&format!("table ip t {{ chain c {{ type {head} {rules} \n}}\n}}"));
        let seen = seen(&namespace);
        let nothing = closed.is_empty() && doubtful.is_empty();
        let expected = [(Family::V4, closed.to_vec(), doubtful.to_vec())];
        assert_eq!(ways(&seen), if nothing { &[][..] } else { &expected }, "{head} {rules}");
    }
    let text = "*raw\n:PREROUTING DROP [0:0]\nCOMMIT\n*nat\n:PREROUTING DROP [0:0]\nCOMMIT\n\
                *mangle\n:POSTROUTING ACCEPT [0:0]\n-A POSTROUTING -o cali+ -j DROP\nCOMMIT\n";
    let seen = with_links(|links| of_save(text, Family::V4, links));
    let points: Vec<(Point, &[Way])> =
        seen.iter().map(|one| (one.point, one.closed.as_slice())).collect();
    let behind = (Point::Postrouting, &[Between, Answers, In][..]);
    assert_eq!(points, [behind, (Point::Prerouting, &ALL[..])]);
}

/// The end of firewalld's chains, as version 1.3 makes them.
#[test]
fn firewalld() {
    let table = |zone: &str| {
        format!(
            "table inet firewalld {{
                chain filter_FORWARD {{
                    type filter hook forward priority 10; policy accept;
                    ct state {{ established, related }} accept
                    ct status dnat accept
                    iifname \"lo\" accept
                    ct state invalid drop
                    ip6 daddr {{ ::/96, ::ffff:0.0.0.0/96 }} reject with icmpv6 addr-unreachable
                    jump filter_FORWARD_ZONES
                    reject with icmpx admin-prohibited
                }}
                chain filter_FORWARD_ZONES {{ {zone} goto filter_FWD_public; }}
                chain filter_FWD_public {{
                    jump filter_FWD_public_allow
                    reject with icmpx admin-prohibited
                }}
                chain filter_FWD_public_allow {{ oifname \"eth0\" accept; }}
                chain filter_FWD_trusted {{ accept; }}
            }}"
        )
    };
    let namespace = Namespace::new();
    namespace.load(&table(""));
    let found = seen(&namespace);
    assert_eq!(found.len(), 2);
    for barrier in found {
        assert_eq!(barrier.maker, Maker::Firewalld);
        assert_eq!(barrier.by, "rule 2 of chain filter_FWD_public");
        let doubtful: Vec<Way> = barrier.doubtful.iter().map(|(way, _)| *way).collect();
        assert_eq!(
            (barrier.closed.clone(), doubtful),
            (vec![Between, In], Vec::new()),
            "{barrier}"
        );
    }
    let trusted = Namespace::new();
    trusted.load(&table("iifname \"cali*\" goto filter_FWD_trusted; oifname \"cali*\" accept;"));
    assert_eq!(seen(&trusted), []);
    let source = Namespace::new();
    source.load(&table("ip saddr 10.244.0.0/16 goto filter_FWD_trusted;"));
    let found = seen(&source);
    assert!(
        found.iter().filter(|one| one.packets == Family::V4).all(|one| one.closed.is_empty()),
        "{found:?}"
    );
    assert!(
        found.iter().any(|one| one.packets == Family::V6 && one.closed == [Between, In]),
        "{found:?}"
    );
}

/// The same commands to both backends, and what has to be seen of both.
#[test]
fn both_backends_of_iptables() {
    let docker = "-N DOCKER-USER;-N DOCKER-FORWARD;-N DOCKER-CT;-A FORWARD -j DOCKER-USER;\
        -A FORWARD -j DOCKER-FORWARD;-A DOCKER-FORWARD -j DOCKER-CT;\
        -A DOCKER-CT -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT;\
        -A DOCKER-FORWARD -i docker0 -j ACCEPT;-P FORWARD DROP";
    let cni = "-N CNI-FORWARD;-N CNI-ADMIN;-P FORWARD DROP;\
        -A FORWARD -m comment --comment CNI_firewall -j CNI-FORWARD;-A CNI-FORWARD -j CNI-ADMIN;\
        -A CNI-FORWARD -d 10.244.1.2 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT;\
        -A CNI-FORWARD -s 10.244.1.2 -j ACCEPT";
    let calico = "-N cali-FORWARD;-N cali-from;-P FORWARD DROP;-A FORWARD -j cali-FORWARD;\
        -A cali-FORWARD -j MARK --set-xmark 0x0/0xe0000;-A cali-FORWARD -i cali+ -g cali-from;-A cali-from -m mark --mark 8 -j RETURN;\
        -A FORWARD -m mark --mark 0x10000/0x10000 -j ACCEPT";
    let kube = "-N KUBE-FORWARD;-P FORWARD DROP;-A FORWARD -j KUBE-FORWARD;\
        -A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP;\
        -A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT;\
        -A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT";
    let ufw = "-N ufw-before-forward;-P FORWARD DROP;-A FORWARD -j ufw-before-forward;\
        -A ufw-before-forward -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT;\
        -A ufw-before-forward -p 1 -j ACCEPT;-A ufw-before-forward -p 58 -j ACCEPT";
    // Pods may start, and what is not asked for comes from nobody.
    let own = "-N DOCKER-USER;-A FORWARD -j DOCKER-USER;-A DOCKER-USER -s 10.244.1.0/24 -j ACCEPT;\
        -A DOCKER-USER -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT;-P FORWARD DROP";
    let cases: [(&str, &[Way], &[Way]); 18] = [
        (own, &[In], &[]),
        (kube, &[Between, Out, In], &[]),
        (ufw, &[Between, Out, In], &[]),
        ("-P FORWARD DROP;-A FORWARD -p tcp -j ACCEPT", &ALL, &[]),
        ("-P FORWARD DROP;-A FORWARD -p tcp -j ACCEPT;-A FORWARD -p udp -j ACCEPT", &[], &[]),
        ("-P FORWARD ACCEPT", &[], &[]),
        ("-P FORWARD DROP", &ALL, &[]),
        ("-P FORWARD DROP;-A FORWARD -j ACCEPT", &[], &[]),
        ("-P FORWARD DROP;-A FORWARD -i cali+ -j ACCEPT", &[Answers, In], &[]),
        ("-P FORWARD DROP;-A FORWARD -i cali+ -j ACCEPT;-A FORWARD -o cali+ -j ACCEPT", &[], &[]),
        ("-P FORWARD DROP;-A FORWARD ! -i docker0 -j ACCEPT", &[], &[]),
        (
            "-P FORWARD DROP;-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
            &[Between, Out, In],
            &[],
        ),
        ("-P FORWARD DROP;-A FORWARD -m conntrack ! --ctstate INVALID -j ACCEPT", &[], &[]),
        ("-A FORWARD -p tcp -j LOG;-A FORWARD -j REJECT", &ALL, &[]),
        ("-P FORWARD DROP;-N A;-N B;-A FORWARD -g A;-A FORWARD -j ACCEPT;-A A -j B", &ALL, &[]),
        (docker, &ALL, &[]),
        (cni, &[In], &[Between, Out, Answers]),
        (calico, &[], &ALL),
    ];
    for (commands, closed, doubtful) in cases {
        let namespace = Namespace::new();
        let legacy = ["iptables-legacy", "ip6tables-legacy"];
        for tool in ["iptables", "ip6tables"].iter().chain(&legacy) {
            let commands = match tool.starts_with("ip6") {
                true => {
                    commands.replace("10.244.1.2", "fd00::2").replace("10.244.1.0/24", "fd00::/64")
                }
                false => commands.to_owned(),
            };
            for command in commands.split(';') {
                let lock =
                    std::env::temp_dir().join(format!("manx-xtables-{}", std::process::id()));
                let lock = lock.display();
                namespace
                    .command(&format!("env XTABLES_LOCKFILE={lock} {tool} {}", command.trim()));
            }
        }
        let of_kernel = seen(&namespace);
        let mut of_text = Vec::new();
        for (tool, family) in
            [("iptables-legacy-save", Family::V4), ("ip6tables-legacy-save", Family::V6)]
        {
            let text = namespace.command(tool);
            of_text.extend(with_links(|links| of_save(&text, family, links)));
        }
        let nothing = closed.is_empty() && doubtful.is_empty();
        let expected: Vec<_> = Family::BOTH
            .into_iter()
            .filter(|_| !nothing)
            .map(|family| (family, closed.to_vec(), doubtful.to_vec()))
            .collect();
        assert_eq!(ways(&of_kernel), expected, "nf_tables: {commands}");
        assert_eq!(ways(&of_text), expected, "legacy: {commands}");
        for barrier in of_text.iter().chain(&of_kernel) {
            let docker = matches!(barrier.maker, Maker::Docker { .. });
            assert_eq!(docker, commands.contains("DOCKER"), "{barrier:?}");
        }
    }
    let lock = std::env::temp_dir().join(format!("manx-xtables-{}", std::process::id()));
    let _ = std::fs::remove_file(lock);
}

/// Text of any kind is read without harm.
#[test]
fn text_that_makes_no_sense() {
    for text in ["", "*", "*filter\n:FORWARD", "*filter\n-A\n-A FORWARD -j", "-A FORWARD \"x\\"] {
        assert_eq!(with_links(|links| of_save(text, Family::V4, links)), [], "{text:?}");
    }
    let quoted =
        "*filter\n:FORWARD DROP [0:0]\n-A FORWARD -m comment --comment \"-j ACCEPT\" -j X\n";
    let seen = with_links(|links| of_save(quoted, Family::V4, links));
    assert_eq!(ways(&seen), [(Family::V4, ALL.to_vec(), Vec::new())]);
}
