//! The configuration of our own plugin: what its keys mean, what they may be, and
//! what holds where they are absent.
//!
//! What is the protocol's is in `cni/`: this module reads an object that has been
//! found to be a network configuration. It knows no kernel, opens no file, and does
//! nothing with what it reads.

pub mod config;
pub mod fabric;
mod fields;
pub mod ipam;
pub mod keys;
mod names;

pub use config::{Config, GATEWAY, HOST_PREFIX, MTU_RANGE, Mode, MtuMode};
pub use fabric::{CrossSubnet, FabricKeys, ROUTE_PROTOCOL};
pub use fields::Complaint;
pub use ipam::{IpamKeys, RangeKeys};
pub use names::{BUILT_IN, CALICO, HOST_LOCAL, PLUGIN_TYPES, has_store, placeholder_ipv6};
