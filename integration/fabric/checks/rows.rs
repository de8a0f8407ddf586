// SPDX-License-Identifier: Apache-2.0
//! The faults, one for each check.

use std::fs;
use std::net::IpAddr;

use serde_json::{Value, json};

use super::going::{Going, spoilt_checksums, syn};
use super::ground::Ground;
use crate::cluster::{Families, entry};
use crate::harness::packet::datagram;

pub(super) struct Row {
    pub(super) id: &'static str,
    /// What the finding has in its object, its evidence or its fix.
    pub(super) words: &'static str,
    pub(super) fault: Fault,
    pub(super) mend: Mend,
}

pub(super) enum Fault {
    /// It is made on the node.
    Real(fn(&Ground)),
    /// It is there as long as what this gives.
    Lasting(fn(&Ground) -> Going),
    /// A bundle has it, for the reason given.
    Altered(&'static str, fn(&mut Value)),
    /// The check is made by others, and listed.
    Skipped,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Mend {
    /// The fix is a command.
    AsPrinted,
    /// And the undo brings the fault back.
    AndBack,
    /// It says what a person has to do.
    ByHand,
    /// There is nothing to be done.
    Nothing,
}

use Fault::{Altered, Lasting, Real, Skipped};
use Mend::{AndBack, AsPrinted, ByHand, Nothing};

const fn row(id: &'static str, words: &'static str, fault: Fault, mend: Mend) -> Row {
    Row { id, words, fault, mend }
}

/// Whose rows need what nobody has in a namespace of the network.
const OF_THE_MACHINE: &str = "it is the machine's, not the namespace's";

pub(super) const ROWS: &[Row] = &[
    row(
        "state-unreadable",
        "manx gc collects",
        Real(|ground| {
            fs::write(ground.root.join("run/manx/net/gone:eth0"), "{").unwrap();
        }),
        ByHand,
    ),
    row(
        "configuration-invalid",
        "mtu",
        Real(|ground| {
            ground.configure(|list| list["plugins"][0]["mtu"] = "x".into());
        }),
        ByHand,
    ),
    row(
        "configuration-doubtful",
        "20-other.conflist",
        Real(|ground| {
            fs::write(ground.net_d("20-other.conflist"), "{").unwrap();
        }),
        AndBack,
    ),
    row(
        "foreign-cni",
        "05-bridge.conf",
        Real(|ground| {
            let other = json!({"cniVersion": "1.0.0", "name": "other", "type": "bridge"});
            fs::write(ground.net_d("05-bridge.conf"), other.to_string()).unwrap();
        }),
        AndBack,
    ),
    row(
        "foreign-cni",
        "no configuration at all",
        Real(|ground| fs::remove_file(ground.net_d("10-net.conflist")).unwrap()),
        AsPrinted,
    ),
    row(
        "delegate-missing",
        "plugin nobody",
        Real(|ground| {
            ground.configure(|list| {
                list["plugins"].as_array_mut().unwrap().push(json!({"type": "nobody"}));
            });
        }),
        ByHand,
    ),
    row(
        "delegate-version",
        "it speaks 0.3.1",
        Real(|ground| {
            ground.plugin(
                "old",
                "echo '{\"cniVersion\": \"0.3.1\", \"supportedVersions\": [\"0.3.1\"]}'",
            );
            ground.configure(|list| {
                list["plugins"].as_array_mut().unwrap().push(json!({"type": "old"}));
            });
        }),
        ByHand,
    ),
    row(
        "node-address-changed",
        "192.0.2.11",
        Real(|ground| {
            ground.ip("address add 192.0.2.99/24 dev eth0\naddress del 192.0.2.11/24 dev eth0");
        }),
        ByHand,
    ),
    row(
        "module-missing",
        "takes no modules",
        Altered("which modules there are is this kernel's affair", |bundle| {
            let sysctls = bundle["kernel"]["sysctls"].as_object_mut().unwrap();
            sysctls.remove("kernel/modules_disabled");
            sysctls.retain(|key, _| !key.contains("nf_conntrack"));
            bundle["surroundings"]["modules"] = json!([{"name": "nf_conntrack", "here": false}]);
        }),
        ByHand,
    ),
    row(
        "fabric-stale",
        "has changed",
        Real(|ground| {
            let peers = fs::read_to_string(ground.node().peers_file()).unwrap();
            ground.node().write_peers(&format!("{peers}\n"));
        }),
        AsPrinted,
    ),
    row(
        "fabric-contradiction",
        "mode",
        Real(|ground| {
            ground.change_peers(|peers| peers["fabric"] = json!({"mode": "direct"}));
        }),
        ByHand,
    ),
    row(
        "fabric-conflict",
        "vxlan.calico",
        Real(|ground| {
            ground.ip("link del vxlan.calico\nlink add vxlan.calico type bridge");
        }),
        ByHand,
    ),
    row(
        "peer-excluded",
        "node-c",
        Real(|ground| {
            ground.change_peers(|peers| {
                let mut other = entry(3, Families::Ipv4);
                other["podCIDRs"] = json!(["10.244.2.0/24"]);
                peers["nodes"].as_array_mut().unwrap().push(other);
            });
        }),
        ByHand,
    ),
    row(
        "ip-forward",
        "net.ipv4.ip_forward",
        Real(|ground| {
            ground.sh("sysctl -qw net.ipv4.ip_forward=0");
        }),
        AndBack,
    ),
    row(
        "ip-forward",
        "net/ipv4/conf/eth0/forwarding",
        Real(|ground| {
            ground.sh("sysctl -qw net.ipv4.conf.eth0.forwarding=0");
        }),
        AndBack,
    ),
    row(
        "ip-forward",
        "net/ipv4/conf/vxlan.calico/forwarding",
        Real(|ground| {
            ground.sh("sysctl -qw net/ipv4/conf/vxlan.calico/forwarding=0");
        }),
        AndBack,
    ),
    row(
        "ip-forward",
        "of container ",
        Real(|ground| {
            ground.sh(&format!("sysctl -qw net.ipv4.conf.{}.forwarding=0", ground.link()));
        }),
        AndBack,
    ),
    row(
        "calico-chains",
        "table ip filter",
        Real(|ground| {
            ground.sh("nft add table ip filter && nft add chain ip filter cali-FORWARD");
        }),
        ByHand,
    ),
    row(
        "forward-drop",
        "chain FORWARD of table ip filter",
        Real(|ground| {
            ground.sh("iptables -P FORWARD DROP");
        }),
        AndBack,
    ),
    row(
        "forward-drop",
        "iptables-legacy -I FORWARD",
        Real(|ground| {
            let lock = ground.root.join("xtables.lock");
            let lock = format!("XTABLES_LOCKFILE={}", lock.display());
            ground.sh(&format!("{lock} iptables-legacy -P FORWARD DROP"));
        }),
        ByHand,
    ),
    row(
        "forward-drop",
        "no packet of pods is forwarded: chain through of table inet site",
        Real(|ground| {
            ground.sh(
                "nft add table inet site && nft 'add chain inet site through { type filter hook \
                 forward priority 0; policy drop; }'",
            );
        }),
        AndBack,
    ),
    row(
        "forward-drop",
        "by vxlan.calico",
        Real(|ground| {
            ground.sh(
                "nft add table inet site && nft 'add chain inet site through { type filter hook \
                 forward priority 0; }' && nft add rule inet site through oifname vxlan.calico drop",
            );
        }),
        AndBack,
    ),
    row(
        "forward-drop",
        "by cali",
        Real(|ground| {
            ground.sh(&format!("iptables -A FORWARD -i {} -j DROP", ground.link()));
        }),
        AndBack,
    ),
    row(
        "forward-drop",
        "firewall-cmd --permanent --zone=trusted --add-source=",
        Real(|ground| {
            ground.sh(
                "nft add table inet firewalld && nft 'add chain inet firewalld filter_FORWARD { type \
                 filter hook forward priority 10; }' && nft add rule inet firewalld filter_FORWARD \
                 reject with icmpx admin-prohibited",
            );
        }),
        ByHand,
    ),
    row(
        "accept-ra",
        "accept_ra 1",
        Real(|ground| {
            ground.sh("sysctl -qw net.ipv6.conf.all.forwarding=1 net.ipv6.conf.eth0.accept_ra=1");
            ground.sh("ip -6 route add 2001:db8:99::/64 dev eth0 proto ra");
        }),
        AndBack,
    ),
    row(
        "rp-filter",
        "strictly",
        Real(|ground| {
            ground.sh("sysctl -qw net.ipv4.conf.eth0.rp_filter=1");
        }),
        AndBack,
    ),
    row(
        "neighbour-missing",
        "the tunnel device is missing",
        Real(|ground| {
            ground.ip("link del vxlan.calico");
        }),
        AsPrinted,
    ),
    row(
        "route-missing",
        "10.244.2.0/24",
        Real(|ground| {
            ground.ip("route del 10.244.2.0/24 proto 109");
        }),
        AsPrinted,
    ),
    row(
        "route-shadowed",
        "10.244.2.128/25",
        Real(|ground| {
            ground.ip("route add 10.244.2.128/25 via 192.0.2.2");
        }),
        AndBack,
    ),
    row(
        "route-shadowed",
        "nhid 7",
        Real(|ground| {
            ground.ip(
                "nexthop add id 7 via 192.0.2.2 dev eth0\nroute add 10.244.2.128/25 nhid 7 src \
                 192.0.2.11 mtu lock 1400 advmss 1300 proto static",
            );
        }),
        AndBack,
    ),
    row(
        "rule-diverts",
        "table 100",
        Real(|ground| {
            ground.ip(
                "route add 10.244.2.0/24 via 192.0.2.1 table 100\nrule add pref 1000 lookup 100",
            );
        }),
        AndBack,
    ),
    row(
        "rule-diverts",
        "not from 10.244.0.0/16",
        Real(|ground| {
            ground.ip(
                "route add blackhole 192.0.2.12 table 100\nrule add not from 10.244.0.0/16 pref 1000 \
                 lookup 100",
            );
        }),
        AndBack,
    ),
    row(
        "next-hop-unreachable",
        "link eth0",
        Real(|ground| {
            ground.ip("link set eth0 down");
        }),
        AndBack,
    ),
    row(
        "next-hop-unreachable",
        "link vxlan.calico",
        Real(|ground| {
            ground.ip("link set vxlan.calico down");
        }),
        AndBack,
    ),
    row(
        "next-hop-unreachable",
        "link cali",
        Real(|ground| {
            ground.ip(&format!("link set {} down", ground.link()));
        }),
        AndBack,
    ),
    row(
        "next-hop-unreachable",
        "198.51.100.13",
        Real(|ground| {
            ground.change_peers(|peers| {
                peers["nodes"].as_array_mut().unwrap().push(entry(3, Families::Ipv4));
            });
            ground.ip("route del default");
        }),
        ByHand,
    ),
    row(
        "mtu-too-large",
        "1450",
        Real(|ground| {
            ground.ip("link set eth0 mtu 1400");
        }),
        ByHand,
    ),
    row(
        "mtu-mismatch",
        "has MTU 1400",
        Real(|ground| {
            ground.ip(&format!("link set {} mtu 1400", ground.link()));
        }),
        AndBack,
    ),
    row("tunnel-offload", "wrong checksum", Lasting(spoilt_checksums), ByHand),
    row(
        "pool-overlap",
        "network other",
        Real(|ground| {
            let mut list = json!({"cniVersion": "1.1.0", "name": "other", "plugins": [{
            "type": "manx", "ipam": {"type": "manx-ipam", "ranges": [[{"subnet": "10.244.1.0/25"}]]}}]});
            list["plugins"][0]["ipam"]["dataDir"] =
                ground.root.join("elsewhere").display().to_string().into();
            fs::write(ground.net_d("20-other.conflist"), list.to_string()).unwrap();
        }),
        ByHand,
    ),
    row(
        "pool-outside-pod-cidr",
        "10.99.0.1",
        Real(|ground| {
            ground.configure(|list| {
                list["plugins"][0]["ipam"]["ranges"] = json!([[{"subnet": "10.99.0.0/24"}]]);
            });
        }),
        ByHand,
    ),
    row(
        "pool-full",
        "1 of 1 addresses",
        Real(|ground| {
            let own = ground.address();
            ground.configure(|list| {
                list["plugins"][0]["ipam"]["ranges"] =
                    json!([[{"subnet": "10.244.1.0/24", "rangeStart": own, "rangeEnd": own}]]);
            });
        }),
        ByHand,
    ),
    row(
        "lease-missing",
        "nobody leased it",
        Real(|ground| {
            fs::remove_file(ground.leases().join(ground.address())).unwrap();
        }),
        AsPrinted,
    ),
    row(
        "lease-leaked",
        "10.244.1.77",
        Real(|ground| {
            fs::write(ground.leases().join("10.244.1.77"), "gone\r\neth0").unwrap();
        }),
        AsPrinted,
    ),
    row(
        "masquerade-lost",
        "manx-net",
        Real(|ground| {
            ground.sh("nft delete table inet manx-net");
        }),
        AsPrinted,
    ),
    row(
        "source-check-drops",
        "nftables table manx-net",
        Lasting(|ground| {
            let (from, to) = ("198.51.100.77".parse().unwrap(), "192.0.2.12:9".parse().unwrap());
            let packet = move |_| datagram(from, to, b"not mine");
            Going::sends(&ground.pod.netns, "192.0.2.12".parse().unwrap(), packet)
        }),
        ByHand,
    ),
    row(
        "sysctl-drift",
        "proxy_arp",
        Real(|ground| {
            ground.sh(&format!("sysctl -qw net.ipv4.conf.{}.proxy_arp=0", ground.link()));
        }),
        AsPrinted,
    ),
    row(
        "route-stale",
        "10.99.0.0/24",
        Real(|ground| {
            ground.ip("route add 10.99.0.0/24 via 192.0.2.2 proto 109");
        }),
        AsPrinted,
    ),
    row(
        "version-skew",
        "zones",
        Real(|ground| {
            ground.change_peers(|peers| peers["zones"] = json!([]));
        }),
        ByHand,
    ),
    row(
        "policy-unenforced",
        "object policy",
        Real(|ground| {
            ground.configure(|list| list["plugins"][0]["policy"] = json!({"type": "k8s"}));
        }),
        ByHand,
    ),
    row(
        "conntrack-full",
        "sysctl -w net.netfilter.nf_conntrack_max=",
        Altered(
            "the limit is of the first namespace alone; a virtual machine has it for real",
            |bundle| {
                let sysctls = &mut bundle["kernel"]["sysctls"];
                sysctls["net/netfilter/nf_conntrack_max"] = "1000".into();
                sysctls["net/netfilter/nf_conntrack_count"] = "990".into();
            },
        ),
        ByHand,
    ),
    row(
        "conntrack-drops",
        "same addresses and ports",
        Lasting(|ground| {
            // One port for all: the second connection to one place has none left.
            ground.sh("nft add table ip clash && nft 'add chain ip clash out { type nat hook postrouting \
                   priority 90; }' && nft add rule ip clash out ip protocol tcp snat to 192.0.2.11:5000");
            // Nobody answers, so that none of them ends.
            let peer = &ground.cluster.nodes[1].host;
            peer.command("iptables", &["-I", "INPUT", "-p", "tcp", "-j", "DROP"]).ok();
            let to: IpAddr = "192.0.2.12".parse().unwrap();
            let from: IpAddr = ground.address().parse().unwrap();
            Going::sends(&ground.pod.netns, to, move |number| syn(from, number, to))
        }),
        ByHand,
    ),
    row(
        "backlog-drops",
        "at processor 0",
        Altered(OF_THE_MACHINE, |bundle| {
            grow(bundle, "/backlog/0/dropped", 7);
        }),
        ByHand,
    ),
    row(
        "cpu-steal",
        "% of the processors' time",
        Altered(OF_THE_MACHINE, |bundle| {
            each_processor(bundle, "steal");
        }),
        ByHand,
    ),
    row(
        "softirq-share",
        "processor 0",
        Altered(OF_THE_MACHINE, |bundle| {
            each_processor(bundle, "softirq");
        }),
        ByHand,
    ),
    row(
        "rules-long",
        "chain KUBE-SERVICES",
        Real(|ground| {
            let chain = "*nat\n:KUBE-SERVICES - [0:0]\n-A PREROUTING -j KUBE-SERVICES\nCOMMIT\n";
            let restore = |rules: &str| {
                let path = ground.node().host.scratch().file("rules", rules);
                ground.sh(&format!("iptables-restore --noflush {}", path.display()));
            };
            restore(chain);
            // One message has room for so many, where nobody may raise its limit.
            for high in 0..12 {
                let rule = |low: u32| {
                    format!("-A KUBE-SERVICES -d 10.96.{high}.{low}/32 -p tcp -j ACCEPT\n")
                };
                restore(&format!("*nat\n{}COMMIT\n", (0..100).map(rule).collect::<String>()));
            }
        }),
        ByHand,
    ),
    row(
        "link-unmanaged",
        "systemd-networkd",
        Real(|ground| {
            fs::create_dir_all(ground.root.join("run/systemd/netif")).unwrap();
        }),
        AsPrinted,
    ),
    row(
        "fabric-remark",
        "router",
        Real(|ground| {
            ground.change_peers(|peers| {
                peers["nodes"].as_array_mut().unwrap().push(entry(3, Families::Ipv4));
            });
            ground.configure(|list| list["plugins"][0]["mode"] = "direct".into());
            ground.sh("manx apply");
        }),
        Nothing,
    ),
    row("path-mtu", "", Skipped, Nothing),
    row("protocol-filtered", "", Skipped, Nothing),
    row("peer-unreachable", "", Skipped, Nothing),
    row("network-unavailable", "", Skipped, Nothing),
];

/// A counter at the second moment.
fn grow(bundle: &mut Value, place: &str, by: u64) {
    let counters = &mut bundle["surroundings"]["load"];
    let before = counters[0].pointer(place).and_then(Value::as_u64).unwrap();
    *counters[1].pointer_mut(place).unwrap() = (before + by).into();
}

/// All the time of all processors goes to one thing.
fn each_processor(bundle: &mut Value, what: &str) {
    let count = bundle["surroundings"]["load"][1]["processors"].as_array().unwrap().len();
    for number in 0..count {
        grow(bundle, &format!("/processors/{number}/total"), 20);
        grow(bundle, &format!("/processors/{number}/softirq"), 0);
        grow(bundle, &format!("/processors/{number}/steal"), 0);
        grow(bundle, &format!("/processors/{number}/{what}"), 20);
    }
}
