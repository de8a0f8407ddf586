// SPDX-License-Identifier: Apache-2.0
//! A firewall that drops what is forwarded: `plan` and `validate` say which chain
//! does it, beside what packets meet.

use serde_json::{Value, json};

use crate::cluster::{Cluster, Families, MANX, Node, addresses};
use crate::harness::{Finished, Pod};

/// Runs a line of shell on the node.
#[track_caller]
fn shell(node: &Node, line: &str) {
    let lock = node.host.scratch().path().join("xtables.lock");
    let line = format!("export XTABLES_LOCKFILE={}; {line}", lock.display());
    node.host.command("sh", &["-ec", &line]).ok();
}

fn validate(node: &Node) -> Finished {
    let mut plugin = node.plugin.conf.clone();
    let list = json!({"cniVersion": "1.1.0", "name": plugin["name"].take(), "plugins": [plugin]});
    let file = node.host.scratch().file("10-net.conflist", list.to_string());
    let root = node.host.scratch().dir("root");
    let args = ["validate", file.to_str().unwrap(), "--root", root.to_str().unwrap()];
    node.host.command(MANX, &args)
}

/// What `plan` warns of; validate says the same.
#[track_caller]
fn warned(node: &Node) -> Vec<String> {
    let plan = node.plan();
    let lines = plan.stderr.lines().filter_map(|line| line.strip_prefix("warning: "));
    let warnings: Vec<String> = lines.map(str::to_owned).collect();
    let json = node.manx(&["plan", "--json"]).stdout;
    let json: Value = serde_json::from_str(&json).unwrap();
    let said = validate(node).stdout;
    for warning in &warnings {
        let (message, fix) = warning.split_once("; fix: ").unwrap();
        assert!(json["notes"].to_string().contains(&message.replace('"', "\\\"")), "{json}");
        assert!(said.contains(message) && said.contains(fix), "{warning}: {said}");
    }
    let tells = said.lines().any(|line| line.starts_with("warning"));
    assert_eq!(tells, !warnings.is_empty(), "{said}");
    warnings
}

/// Whether pods of one node reach each other by each family, IPv4 first.
#[track_caller]
fn assert_reach(pods: &[Pod; 2], passes: [bool; 2], rules: &str) {
    for (address, passes) in addresses(&pods[1]).iter().zip(passes) {
        let netns = &pods[0].netns;
        let right = if passes { netns.pings(address) } else { netns.keeps_silent(address) };
        assert!(right, "{rules}: {address}");
    }
}

#[test]
fn a_firewall_that_drops_is_told_where_packets_are_lost() {
    // Rules, whether IPv4 and IPv6 pass, and what the warning names.
    let cases: [(&str, [bool; 2], &[&str]); 14] = [
        ("true", [true, true], &[]),
        (
            "iptables -P FORWARD DROP",
            [false, true],
            &[
                "IPv4: no packet of pods is forwarded",
                "chain FORWARD of table ip filter",
                "iptables -I FORWARD -i cali+ -j ACCEPT",
            ],
        ),
        (
            "ip6tables -P FORWARD DROP",
            [true, false],
            &["IPv6: no packet", "table ip6 filter", "ip6tables -I FORWARD"],
        ),
        (
            "iptables-legacy -P FORWARD DROP",
            [false, true],
            &["IPv4: no packet", "(iptables-legacy)", "iptables-legacy -I FORWARD"],
        ),
        (
            "ip6tables-legacy -P FORWARD DROP",
            [true, false],
            &["IPv6: no packet", "ip6tables-legacy"],
        ),
        (
            "nft 'table inet filter { chain forward { type filter hook forward priority 0; policy drop; }; }'",
            [false, false],
            &[
                "IPv4 and IPv6: no packet",
                "chain forward of table inet filter",
                "nft 'insert rule inet filter forward iifname \"cali*\" accept comment \"pods of manx\"'",
            ],
        ),
        (
            "nft 'table inet filter { chain forward { type filter hook forward priority 0;
                ct state established,related accept; reject; }; }'",
            [false, false],
            &["between pods of this node", "rule 2 of chain forward"],
        ),
        (
            "iptables -N DOCKER-USER; iptables -A FORWARD -j DOCKER-USER; iptables -P FORWARD DROP",
            [false, true],
            &["iptables -I DOCKER-USER -i cali+ -j ACCEPT", "-o cali+"],
        ),
        (
            "iptables -P FORWARD DROP; iptables -A FORWARD -i cali+ -j ACCEPT
             iptables -A FORWARD -o cali+ -j ACCEPT",
            [true, true],
            &[],
        ),
        (
            "iptables-legacy -P FORWARD DROP; iptables-legacy -A FORWARD -i cali+ -j ACCEPT
             iptables-legacy -A FORWARD -o cali+ -j ACCEPT",
            [true, true],
            &[],
        ),
        // Pods of other nodes, that is.
        (
            "iptables -P FORWARD DROP; iptables -A FORWARD -i cali+ -j ACCEPT",
            [true, true],
            &["packets that answer pods, from elsewhere to pods are not forwarded"],
        ),
        (
            "nft 'table inet early { chain c { type filter hook prerouting priority -300;
                iifname \"cali*\" drop; }; }'",
            [false, false],
            &["IPv4 and IPv6: packets between pods", "chain c of table inet early", "shows it"],
        ),
        (
            "iptables -t mangle -P POSTROUTING DROP",
            [false, true],
            &[
                "IPv4: no packet",
                "chain POSTROUTING of table ip mangle",
                "iptables -t mangle -I POSTROUTING -s 10.244.1.0/24 -j ACCEPT",
            ],
        ),
        // The answers' addresses are not known beforehand, and so nothing is said.
        (
            "iptables -P FORWARD DROP; iptables -A FORWARD -s 10.244.0.0/16 -j ACCEPT",
            [true, true],
            &[],
        ),
    ];
    for (rules, passes, words) in cases {
        let cluster = Cluster::new(2, Families::Dual, &json!({"mode": "direct"}));
        let node = &cluster.nodes[0];
        let pods = [node.attach("a"), node.attach("b")];
        shell(node, rules);
        assert_reach(&pods, passes, rules);
        let told = warned(node);
        assert_eq!(told.len(), usize::from(!words.is_empty()), "{rules}: {told:?}");
        for word in words {
            assert!(told[0].contains(word), "{rules}: {word} is not in {told:?}");
        }
        // It is no change that apply could make.
        node.assert_settled();
    }
}

/// What the warning advises lets packets pass, and silences it.
#[test]
fn the_advice_is_good() {
    for rules in [
        "iptables -P FORWARD DROP; ip6tables -P FORWARD DROP",
        "iptables-legacy -P FORWARD DROP",
        "iptables -N DOCKER-USER; iptables -A FORWARD -j DOCKER-USER; iptables -P FORWARD DROP",
        "iptables-legacy -N DOCKER-USER; iptables-legacy -A FORWARD -j DOCKER-USER
         iptables-legacy -P FORWARD DROP",
        "nft 'table inet filter { chain forward { type filter hook forward priority 0; policy drop; }; }'",
        "nft 'table ip6 t { chain c { type filter hook forward priority 0; reject; }; }'",
        "iptables -t raw -P PREROUTING DROP",
    ] {
        let cluster = Cluster::new(2, Families::Dual, &json!({"mode": "direct"}));
        let node = &cluster.nodes[0];
        let pods = [node.attach("a"), node.attach("b")];
        shell(node, rules);
        assert!(!warned(node).is_empty(), "{rules}");
        for warning in warned(node) {
            let (_, fix) = warning.split_once("; fix: ").unwrap();
            let commands = fix.split(',').next().unwrap().to_owned();
            let both = match commands.contains("iifname") {
                true => format!("{commands}; {}", commands.replace("iifname", "oifname")),
                false => commands,
            };
            shell(node, &both);
        }
        assert_reach(&pods, [true, true], rules);
        assert_eq!(warned(node), [""; 0], "{rules}");
    }
}

/// Where the ranges are placeholders, the peers file tells the families of the pods.
#[test]
fn validate_knows_of_ipv6_by_the_peers_file() {
    let cluster = Cluster::new(2, Families::Dual, &json!({"mode": "direct"}));
    let ranges = json!([[{"subnet": "usePodCidr"}], [{"subnet": "usePodCidrIPv6"}]]);
    let node = cluster.nodes[0].with("ipam", json!({"type": "manx-ipam", "ranges": ranges}));
    shell(&node, "ip6tables -P FORWARD DROP; echo 0 > /proc/sys/net/ipv6/conf/all/forwarding");
    let said = node.manx(&["validate"]).stdout;
    assert!(said.contains("IPv6: no packet"), "{said}");
}

/// A chain whose rules go by addresses may let the pods through: that is no
/// warning, but it is said what was seen.
#[test]
fn what_may_pass_is_a_note() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({"mode": "direct"}));
    let node = &cluster.nodes[0];
    shell(
        node,
        "iptables -P FORWARD DROP; iptables -N CNI-FORWARD; iptables -A FORWARD -j CNI-FORWARD
         iptables -A CNI-FORWARD -s 10.244.1.2 -j ACCEPT; iptables -A CNI-FORWARD -d 10.244.1.2 -j ACCEPT",
    );
    assert_eq!(warned(node), [""; 0]);
    let plan = node.plan();
    assert!(plan.stderr.contains("note: IPv4: chain FORWARD of table ip filter"), "{plan:?}");
    assert!(plan.stderr.contains("unless rule 1 of chain CNI-FORWARD accepts"), "{plan:?}");
    let said = validate(node).stdout;
    assert!(said.contains("info") && said.contains("unless rule 1"), "{said}");
}

/// IPv6 that nobody has is nobody's concern; a network without peers needs
/// nothing unasked from elsewhere.
#[test]
fn what_concerns_no_pod_is_not_told() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({"mode": "direct"}));
    let node = &cluster.nodes[0];
    shell(node, "ip6tables -P FORWARD DROP");
    assert_eq!(warned(node), [""; 0]);
    let alone = node.with("peersFile", Value::Null);
    shell(
        node,
        "iptables -P FORWARD DROP; iptables -A FORWARD -i cali+ -j ACCEPT
         iptables -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    );
    assert_eq!(warned(&alone), [""; 0]);
    assert_eq!(warned(node).len(), 1);
    let prefix = node.with("hostPrefix", json!("pod"));
    assert!(warned(&prefix)[0].contains("-i pod+"));
}
