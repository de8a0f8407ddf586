// SPDX-License-Identifier: Apache-2.0
//! The keys of the configuration. All that is known of a key is said here, once: a
//! new one is one entry, and one line of the reader (`config.rs`).
//!
//! conf/config.schema.json and the table of docs/configuration.md are made from this file; a test
//! compares them, and writes them where `MANX_WRITE_CONF` is set.

use std::net::Ipv4Addr;

use log::LevelFilter;
use serde_json::{Map, Value};

use super::{
    key::{self, Key, Unknown, keys},
    shape::{
        Address, Choice, Described, Families, Flag, Level,
        Literal::{Bool, Word, Zero},
        Name, Networks, NextHop, Number, Object, Optional, Part, Subnet, Text, Texts,
    },
    values::{
        CrossSubnet, Missing, Mode, MtuMode, Protocol, RangeSets, Section, Veth, is_host_prefix,
        is_vxlan_device,
    },
};
use crate::list::Gather;

/// The next hop that Calico's pods have.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// As Calico's host links.
pub const HOST_PREFIX: &str = "cali";
/// The smallest MTU that IPv4 allows (RFC 791).
const MTU_MIN: u32 = 68;
/// The largest that a veth takes (ETH_MAX_MTU).
const MTU_MAX: u32 = 65535;
/// The MTUs that a veth takes, in bytes.
pub const MTU_RANGE: std::ops::RangeInclusive<u32> = MTU_MIN..=MTU_MAX;

/// Less than a runtime waits for an ADD, in seconds.
const POLICY_WAIT_MAX: u32 = 60;

keys! {
    /// The keys of our part of a configuration: ours in the order of docs/configuration.md, then
    /// those of the specification and of Calico.
    PLUGIN:
    IPAM: Section =
        Key::new("ipam", "`manx-ipam`, or another IPAM plugin by its `type` (not `dhcp`)",
            Section([RANGE_KEYS, STORE_KEYS]));
    MTU: Optional<Number<u32>> = Key::new(
        "mtu",
        "MTU of both ends",
        Optional::new(
            Number(MTU_RANGE, 0),
            "the narrowest way to the peers, else of the default route, less `overhead`",
        )
        // As Calico's installer writes it.
        .unset(Zero),
    );
    MODE: Choice<Mode> = Key::new(
        "mode",
        "`direct`, `ipip`, `vxlan`: what the network between nodes adds",
        Choice(
            &[
                (Word("direct"), Mode::Direct),
                (Word("ipip"), Mode::Ipip),
                (Word("vxlan"), Mode::Vxlan),
                (Word(""), Mode::Direct),
            ],
            Mode::Direct,
        ),
    );
    MTU_MODE: Choice<MtuMode> = Key::new(
        "mtuMode",
        "`link`, or `route`: links keep the device's MTU, only the pods' routes to other nodes are \
         narrow, and never wider than the way there",
        Choice(
            &[(Word("link"), MtuMode::Link), (Word("route"), MtuMode::Route)],
            MtuMode::Link,
        ),
    );
    OVERHEAD: Optional<Number<u32>> = Key::new(
        "overhead",
        "bytes added to a packet between nodes",
        Optional::new(Number(0..=1000, 0), "by mode: 0, 20, 50, 70 (vxlan over IPv6)"),
    );
    PEERS_FILE: Optional<Text> = Key::new(
        "peersFile",
        "the list of all nodes; without it no routes to other nodes are made",
        Optional::new(Text, "none").unset(Word("")),
    );
    CROSS_SUBNET: Choice<CrossSubnet> = Key::new(
        "crossSubnet",
        "encapsulate only towards other subnets: `false`, `true`, `\"route\"`",
        Choice(
            &[
                (Bool(false), CrossSubnet::Off),
                (Bool(true), CrossSubnet::Mask),
                (Word("route"), CrossSubnet::Route),
            ],
            CrossSubnet::Off,
        ),
    );
    ROUTE_PROTOCOL: Protocol = Key::new("routeProtocol", "mark of routes to other nodes", Protocol);
    ROUTE_METRIC: Number<u32> = Key::new(
        "routeMetric",
        "metric of routes to other nodes; 0 is the family's default",
        Number(0..=u32::MAX, 0),
    );
    VXLAN: Object = Key::untabled("vxlan", "the devices of mode vxlan", Object(VXLAN_KEYS, ""));
    GATEWAY_IPV4: NextHop = Key::new("gateway", "the pods' IPv4 next hop", NextHop(GATEWAY));
    IP_MASQ: Flag =
        Key::new("ipMasq", "pods leave the cluster under the node's address", Flag(false));
    NON_MASQUERADE_CIDRS: Networks = Key::new(
        "nonMasqueradeCIDRs",
        "destinations that see the pod's own address, besides all pods of this node and the \
         ranges of `ipam`",
        Networks,
    );
    CLUSTER_CIDRS: Optional<Networks> = Key::new(
        "clusterCIDRs",
        "where the pods of all nodes are: not masqueraded either, and podCIDRs of the peers file \
         have to lie inside",
        Optional::new(Networks, "none"),
    );
    SOURCE_CHECK: Flag = Key::new(
        "sourceCheck",
        "drop what a pod sends from an address that does not lead back to it",
        Flag(true),
    );
    SOURCE_SPOOFING: Choice<bool> = Key::new(
        "sourceSpoofing",
        "`off`, or `annotation`: a pod may name further sources in \
         `cni.projectcalico.org/allowedSourcePrefixes`",
        Choice(&[(Word("off"), false), (Word("annotation"), true)], false),
    );
    NETWORK_POLICY: Choice<bool> = Key::new(
        "networkPolicy",
        "`off`, or `enforce`: a pod is under the NetworkPolicies that are about it before its link \
         is up",
        Choice(&[(Word("off"), false), (Word("enforce"), true)], false),
    );
    NETWORK_POLICY_MISSING: Choice<Missing> = Key::new(
        "networkPolicyMissing",
        "a pod of which nobody has said yet which policies are about it: `wait`, and then it is closed \
         until somebody does; `allow`: it is open; `fail`: its ADD fails",
        Choice(
            &[
                (Word("wait"), Missing::Wait),
                (Word("allow"), Missing::Allow),
                (Word("fail"), Missing::Fail),
            ],
            Missing::Wait,
        ),
    );
    NETWORK_POLICY_WAIT: Number<u32> = Key::new(
        "networkPolicyWait",
        "for how many seconds `wait` waits",
        Number(0..=POLICY_WAIT_MAX, 2),
    )
    // Any number of seconds is one there.
    .calicos("policy_setup_timeout_seconds", |value| {
        let seconds = u32::try_from(value.as_i64()?.max(0)).unwrap_or(u32::MAX);
        Some(seconds.min(POLICY_WAIT_MAX))
    });
    HOST_PREFIX_KEY: Name = Key::new(
        "hostPrefix",
        "first letters of host links, at most 4, not beginning with `-`",
        Name {
            absent: HOST_PREFIX,
            is: is_host_prefix,
            pattern: "^[A-Za-z0-9_][A-Za-z0-9_-]{0,3}$",
            advice: "give 1 to 4 letters, digits, '-' or '_', and no '-' at the beginning",
        },
    );
    QUEUES: Number<u32> = Key::new("queues", "queues of each veth end", Number(0..=4096, 1))
        // Any number below one is one there.
        .calicos("num_queues", |value| value.as_i64().filter(|number| *number < 1).map(|_| 1));
    ALLOW_IP_FORWARDING: Flag =
        Key::new("allowIPForwarding", "forwarding inside the pod", Flag(false));
    MANAGE_FORWARDING: Flag = Key::new(
        "manageForwarding",
        "turn on the node's forwarding for the families served",
        Flag(true),
    );
    INCLUDE_DEFAULT_ROUTES: Flag = Key::new(
        "includeDefaultRoutes",
        "default routes besides those that IPAM gives",
        Flag(false),
    )
    .calicos("include_default_routes", |_| None);
    DNS: Object =
        Key::new("dns", "as in the specification; replaces IPAM's", Object(DNS_KEYS, "IPAM's"));
    LOG_LEVEL: Level = Key::new("logLevel", "`error` to `trace`", Level(LevelFilter::Info))
        // Any other word is `info` there.
        .calicos("log_level", |_| Some(LevelFilter::Info));
    LOG_FILE: Optional<Text> = Key::new(
        "logFile",
        "a regular file besides stderr",
        Optional::new(Text, "none").unset(Word("")),
    )
    .calicos("log_file_path", |_| None);
    CNI_VERSION: Part = Key::untabled("cniVersion", "inserted by the runtime", Part("string"));
    NETWORK_NAME: Part = Key::untabled("name", "inserted by the runtime", Part("string"));
    TYPE: Text = Key::untabled("type", "the name of the program, such as `manx`", Text);
    ARGS: Part = Key::untabled("args", "what a user asks for", Part("object"));
    CAPABILITIES: Part = Key::untabled(
        "capabilities",
        "what the runtime may insert as runtimeConfig: `ips`, `ipRanges`, `mac`, \
         `io.kubernetes.cri.pod-annotations`",
        Part("object"),
    );
    RUNTIME_CONFIG: Part =
        Key::untabled("runtimeConfig", "inserted by the runtime", Part("object"));
    PREVIOUS_RESULT: Part =
        Key::untabled("prevResult", "inserted by the runtime", Part("object"));
    CONTAINER_SETTINGS: Object =
        Key::untabled("container_settings", "Calico's", Object(CONTAINER_KEYS, ""));
    DEVICE_TYPE: Veth = Key::untabled("device_type", "Calico's; pods get a veth", Veth);
}

keys! {
    /// The keys of `vxlan`.
    VXLAN_KEYS:
    VNI: Number<u32> = Key::new("vni", "VXLAN network identifier", Number(1..=0x00ff_ffff, 4096));
    PORT: Number<u16> = Key::new("port", "UDP port of the tunnel", Number(1..=65535, 4789));
    DEVICE: Name = Key::new(
        "device",
        "device of IPv4; that of IPv6 has `-v6` before its first dot, or behind its name",
        Name {
            // With the two above, Calico's.
            absent: "vxlan.calico",
            is: is_vxlan_device,
            pattern: "^[!-$&-,.0-9;-~][!-$&-.0-9;-~]{0,11}$",
            advice: "give an interface name of at most 12 bytes that does not begin with '-'",
        },
    );
}

keys! {
    /// The keys of `dns`.
    DNS_KEYS:
    NAMESERVERS: Texts = Key::untabled("nameservers", "addresses, by priority", Texts);
    DOMAIN: Optional<Text> = Key::untabled("domain", "the local domain", Optional::new(Text, ""));
    SEARCH: Texts = Key::untabled("search", "domains to search, by priority", Texts);
    OPTIONS: Texts = Key::untabled("options", "options of the resolver", Texts);
}

keys! {
    /// The keys of `container_settings`.
    CONTAINER_KEYS:
    CONTAINER_FORWARDING: Optional<Flag> = Key::untabled(
        "allow_ip_forwarding",
        "Calico's name of `allowIPForwarding`",
        Optional::new(Flag(false), ""),
    );
}

keys! {
    /// The keys of a range of addresses.
    RANGE_KEYS:
    SUBNET: Subnet = Key::untabled(
        "subnet",
        "network of the range; `usePodCidr` and `usePodCidrIPv6` are this node's own",
        Subnet,
    );
    RANGE_START: Address =
        Key::untabled("rangeStart", "first address", Address("the first of the subnet"));
    RANGE_END: Address =
        Key::untabled("rangeEnd", "last address", Address("the last of the subnet"));
    RANGE_GATEWAY: Address =
        Key::untabled("gateway", "an address that no pod gets", Address("the first of the subnet"));
}

keys! {
    /// The keys of `ipam` where its type is one that keeps its leases in host-local's store,
    /// besides those of a single range.
    STORE_KEYS:
    IPAM_TYPE: Text = Key::untabled("type", "name of the IPAM plugin", Text);
    IPAM_NAME: Part = Key::untabled("name", "without effect", Part("string"));
    RANGES: RangeSets = Key::untabled(
        "ranges",
        "sets of ranges, of each of which a pod gets one address",
        RangeSets,
    );
    ROUTES: Part = Key::untabled("routes", "routes of the pod", Part("array"));
    DATA_DIR: Optional<Text> = Key::untabled(
        "dataDir",
        "directory of the leases",
        Optional::new(Text, "/var/lib/cni/networks").unset(Word("")),
    );
    RESOLV_CONF: Optional<Text> = Key::untabled(
        "resolvConf",
        "file to read resolver settings from",
        Optional::new(Text, "none").unset(Word("")),
    );
    ASSIGN_IPV4: Part = Key::untabled("assign_ipv4", WITHOUT_EFFECT, Part(""));
    ASSIGN_IPV6: Part = Key::untabled("assign_ipv6", WITHOUT_EFFECT, Part(""));
    IPV4_POOLS: Part = Key::untabled("ipv4_pools", WITHOUT_EFFECT, Part(""));
    IPV6_POOLS: Part = Key::untabled("ipv6_pools", WITHOUT_EFFECT, Part(""));
}

/// What is said of a key of Calico's that means nothing here.
pub(super) const WITHOUT_EFFECT: &str = "Calico's, without effect";

/// Keys of Calico's that mean something only with its API server, its agent or
/// its policy engine, or that rotate a log which is not written here.
pub(super) const CALICOS: &[&str] = &[
    "burst",
    "calico_api_group",
    "dataplane_options",
    "datastore_type",
    "endpoint_status_dir",
    "etcd_authority",
    "etcd_ca_cert_file",
    "etcd_cert_file",
    "etcd_discovery_srv",
    "etcd_endpoints",
    "etcd_key_file",
    "etcd_scheme",
    "feature_control",
    "hostname",
    "ipam_lock_file",
    "kubernetes",
    "log_file_max_age",
    "log_file_max_count",
    "log_file_max_size",
    "nodename",
    "nodename_file",
    "nodename_file_optional",
    "policy",
    "qps",
    "readiness_gates",
    "require_mtu_file",
    "vxlan_mac_prefix",
    "vxlan_vni",
    "windows_loopback_DSR",
    "windows_pause_container_hostport",
    "windows_use_single_network",
];

/// The keys of `object` that are accepted and have no effect.
pub(super) fn ignored(object: &Map<String, Value>) -> Vec<String> {
    object.keys().filter(|key| is_calicos(key)).cloned().gather()
}

/// Whether `key` is one of Calico's without a meaning here.
fn is_calicos(key: &str) -> bool {
    CALICOS.iter().any(|known| known.eq_ignore_ascii_case(key))
}

/// The keys of our part of a configuration that nothing reads. Those of Calico's are
/// none of them, nor those that the specification reserves for runtimes.
pub fn unknown(plugin: &Map<String, Value>) -> Vec<Unknown> {
    let mut unknown = key::unknown(plugin, PLUGIN, "");
    unknown.retain(|key| {
        let outside = key.section.is_empty();
        !outside || !(is_calicos(&key.key) || key.key.starts_with("cni.dev/"))
    });
    unknown
}

/// Of a peers file alone.
pub(super) static ACCEPTS: Key<Object> = Key::untabled(
    "accepts",
    "besides, a mode by which packets of peers may still come, or come already, while it changes: \
     its device is there, and no packet leaves by it",
    Object(ACCEPTED_KEYS, ""),
);
/// Of a peers file alone, from form 3 on.
pub(super) static PLAIN: Key<Families> = Key::untabled(
    "plain",
    "the families of which packets travel as they are, whatever the mode",
    Families,
);
/// The keys of `accepts`.
static ACCEPTED_KEYS: &[&dyn Described] = &[&MODE, &VXLAN, &PLAIN];
