// SPDX-License-Identifier: Apache-2.0
//! What the description of a fabric asks of an encapsulation.

use std::net::IpAddr;

use crate::{
    conf::FabricKeys,
    fabric::{desired::Facts, peers::Node},
    family::Family,
    nft::Carrier,
    object::{Objects, link::Form},
};

/// A way to carry the packets of pods inside of packets between nodes.
pub trait Encapsulation: Sync {
    /// What `mode` says for it, and the kernel for its devices and their module.
    fn name(&self) -> &'static str;

    /// Bytes that it adds to a packet of a family.
    fn overhead(&self, family: Family) -> u32;

    /// The name of the device that carries a family.
    ///
    /// # Errors
    /// Why none does, so that the family's packets travel as they are.
    fn device(&self, family: Family, keys: &FabricKeys) -> Result<String, &'static str>;

    /// What that device is on this node.
    ///
    /// # Errors
    /// Why this node cannot have it.
    fn form(&self, here: &Here<'_>) -> Result<Form, String>;

    /// Adds what the device has to know of a peer besides the route to its pods, and
    /// gives that route's next hop; `None` for a peer that the device cannot lead to.
    fn entries(&self, device: &str, peer: &Peer<'_>, objects: &mut Objects) -> Option<IpAddr>;

    /// Whether routes are all that the device has to know of peers, so that a routing
    /// daemon can make them instead.
    fn is_led_by_routes(&self) -> bool;

    /// What this needs of the kernel.
    fn needs(&self) -> Needs;

    /// The keys whose values keep its devices and another's apart; the kernel takes no two
    /// alike.
    fn apart(&self) -> &'static str;

    /// What the packets between nodes are told by.
    fn carrier(&self, keys: &FabricKeys) -> Carrier;

    /// The keys that it has for itself, with their values: what two networks of one
    /// fabric have to agree about. Empty where there are none.
    fn own_keys(&self, keys: &FabricKeys) -> String;
}

/// This node, as far as its device of a family depends on it.
pub struct Here<'a> {
    /// Its entry in the list.
    pub me: &'a Node,
    /// Its addresses and devices.
    pub facts: &'a Facts,
    /// The family of the pods.
    pub family: Family,
    /// The configuration.
    pub keys: &'a FabricKeys,
}

/// Another node.
pub struct Peer<'a> {
    /// Its entry in the list.
    pub node: &'a Node,
    /// Where packets to it are sent.
    pub address: IpAddr,
    /// The family of the pods.
    pub family: Family,
}

/// What a kernel may lack.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Needs {
    /// The module without which it makes no such device.
    pub module: &'static str,
    /// The mode that does without.
    pub instead: &'static str,
}
