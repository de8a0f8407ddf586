//! The keys that a configuration may have.

use serde_json::{Map, Value};

/// Keys that this plugin acts upon, in the order of the README, then those of the
/// specification.
pub const KNOWN: &[&str] = &[
    "mode",
    "crossSubnet",
    "peersFile",
    "mtu",
    "overhead",
    "mtuMode",
    "gateway",
    "ipMasq",
    "sourceCheck",
    "nonMasqueradeCIDRs",
    "clusterCIDRs",
    "hostPrefix",
    "queues",
    "num_queues",
    "allowIPForwarding",
    "container_settings",
    "manageForwarding",
    "includeDefaultRoutes",
    "include_default_routes",
    "routeProtocol",
    "routeMetric",
    "vxlan",
    "ipam",
    "logLevel",
    "log_level",
    "logFile",
    "log_file_path",
    "device_type",
    "cniVersion",
    "name",
    "type",
    "dns",
    "args",
    "capabilities",
    "runtimeConfig",
    "prevResult",
];

/// Keys of Calico's that mean something only with its API server, its agent or
/// its policy engine, or that rotate a log which is not written here.
pub const CALICO: &[&str] = &[
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
    "policy_setup_timeout_seconds",
    "qps",
    "readiness_gates",
    "require_mtu_file",
    "vxlan_mac_prefix",
    "vxlan_vni",
    "windows_loopback_DSR",
    "windows_pause_container_hostport",
    "windows_use_single_network",
];

/// Whether `key` is one that the plugin acts upon, or one that the
/// specification reserves for runtimes.
pub fn is_known(key: &str) -> bool {
    key.starts_with("cni.dev/") || KNOWN.iter().any(|known| known.eq_ignore_ascii_case(key))
}

/// Whether `key` is one of Calico's without a meaning here.
pub fn is_calicos(key: &str) -> bool {
    CALICO.iter().any(|known| known.eq_ignore_ascii_case(key))
}

/// The keys of `object` that are accepted and have no effect.
pub fn ignored(object: &Map<String, Value>) -> Vec<String> {
    object.keys().filter(|key| is_calicos(key)).cloned().collect()
}
