//! Permanent neighbours of tunnel devices.

use std::net::IpAddr;

use super::{Held, diff::Object};
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

impl Object for Neighbour {
    type Held = Held<Self>;
    type Key<'a> = (&'a str, IpAddr);

    fn key(&self) -> (&str, IpAddr) {
        (&self.device, self.address)
    }

    fn key_of(held: &Held<Self>) -> Option<(&str, IpAddr)> {
        Some(held.object.key())
    }

    fn is_ours(held: &Held<Self>) -> bool {
        held.ours
    }

    fn is(&self, held: &Held<Self>) -> bool {
        held.object == *self
    }

    fn is_served_by(&self, held: &Held<Self>) -> bool {
        held.object == *self
    }
}
