//! Permanent forwarding entries of VXLAN devices.

use std::net::IpAddr;

use super::diff::Entry;
use crate::net::Mac;

/// A permanent forwarding entry of a VXLAN device: `mac` is behind `node`. Ours have one
/// for each MAC address of a device.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Forwarding {
    /// The device.
    pub device: String,
    /// The peer's tunnel MAC address.
    pub mac: Mac,
    /// The peer's address.
    pub node: IpAddr,
}

impl Forwarding {
    /// What it is called.
    pub fn name(&self) -> String {
        format!("fdb {} dev {}", self.mac, self.device)
    }
}

impl Entry for Forwarding {
    type Key<'a> = (&'a str, Mac);

    fn entry_key(&self) -> (&str, Mac) {
        (&self.device, self.mac)
    }
}
