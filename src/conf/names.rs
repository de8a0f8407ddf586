// SPDX-License-Identifier: Apache-2.0
//! The names of plugins, and the words that stand for an address.

use crate::family::Family;

/// Calico's name: where a node has this binary under it, Calico's files are read.
pub const CALICO: &str = "calico";
/// The names of the plugin itself: as shipped, and as a node has it that ran Calico.
pub const PLUGIN_TYPES: [&str; 2] = ["manx", CALICO];

/// The reference IPAM plugin.
pub const HOST_LOCAL: &str = "host-local";
/// Calico's, which asks its API server.
pub const CALICO_IPAM: &str = "calico-ipam";
/// Ours, which is served by the plugin itself.
pub const BUILT_IN: &str = "manx-ipam";

/// The file in /run/manx that says which plugin is there, beside the networks' directories.
pub const VERSION_FILE: &str = "plugin.json";
/// The file in /run/manx that says which network policies are about this node's pods.
pub const POLICY_FILE: &str = "policy.json";
/// The IPAM plugins that keep their leases in host-local's store, and have its keys.
pub(super) const WITH_STORE: [&str; 2] = [BUILT_IN, HOST_LOCAL];

/// Whether an IPAM plugin keeps its leases in host-local's store.
pub fn has_store(ipam_type: &str) -> bool {
    WITH_STORE.contains(&ipam_type)
}

/// Calico's words for this node's own pod CIDRs of a family.
const PLACEHOLDERS: [(&str, Family); 2] =
    [("usePodCidr", Family::V4), ("usePodCidrIPv6", Family::V6)];

/// Which family's pod CIDR a text stands for, if it is a placeholder.
pub(super) fn placeholder(text: &str) -> Option<Family> {
    let placeholder = PLACEHOLDERS.into_iter().find(|(name, _)| text.eq_ignore_ascii_case(name));
    placeholder.map(|(_, family)| family)
}
