// SPDX-License-Identifier: Apache-2.0
//! The configuration of our own plugin: what its keys mean, what they may be, and
//! what holds where they are absent. All that is known of a key is its definition in
//! `keys.rs`.
//!
//! What is the protocol's is in `cni/`: this module reads an object that has been
//! found to be a network configuration. It knows no kernel, opens no file, and does
//! nothing with what it reads.

mod annotations;
mod config;
mod fabric;
mod fields;
mod ipam;
// What the schema and docs/configuration.md tell, tests alone ask for: no binary has it.
#[cfg_attr(not(test), expect(dead_code))]
mod key;
mod keys;
mod names;
mod part;
mod placeholders;
#[cfg(test)]
mod schema;
#[cfg_attr(not(test), expect(dead_code))]
mod shape;
mod values;

pub use annotations::{Annotations, outermost};
pub use config::Config;
pub use fabric::FabricKeys;
pub use fields::Complaint;
pub use ipam::{IpamKeys, RangeKeys, static_addresses};
pub use key::Unknown;
pub use keys::{GATEWAY, HOST_PREFIX, MTU_RANGE, unknown};
pub use names::{
    BUILT_IN, CALICO, CALICO_IPAM, HOST_LOCAL, PLUGIN_TYPES, POLICY_FILE, VERSION_FILE, has_store,
};
pub use part::{Contradiction, FabricPart};
pub use placeholders::{fill_in, has_placeholder};
pub use values::{CrossSubnet, Missing, Mode, MtuMode, ROUTE_PROTOCOL};
