//! Permanent forwarding entries of VXLAN devices.

use std::net::IpAddr;

use super::{Held, diff::Object};
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

impl Object for Forwarding {
    type Held = Held<Self>;
    type Key<'a> = (&'a str, Mac);

    fn key(&self) -> (&str, Mac) {
        (&self.device, self.mac)
    }

    fn key_of(held: &Held<Self>) -> Option<(&str, Mac)> {
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
