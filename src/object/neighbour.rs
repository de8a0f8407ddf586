//! Permanent neighbours of tunnel devices.

use std::net::IpAddr;

use super::diff::Entry;
use crate::net::Mac;

/// A permanent entry of a device's neighbours: `address` is at `mac`. The kernel has one
/// for each address of a device.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Neighbour {
    /// The device.
    pub device: String,
    /// The peer's tunnel address.
    pub address: IpAddr,
    /// The peer's tunnel MAC address.
    pub mac: Mac,
}

impl Neighbour {
    /// What it is called.
    pub fn name(&self) -> String {
        format!("neighbour {} dev {}", self.address, self.device)
    }
}

impl Entry for Neighbour {
    type Key<'a> = (&'a str, IpAddr);

    fn entry_key(&self) -> (&str, IpAddr) {
        (&self.device, self.address)
    }
}
