// SPDX-License-Identifier: Apache-2.0
//! What the kernel of this node should have so that pods reach pods: the words
//! of the description, and the facts that it is made from. How it is made,
//! [`describe`](super::describe) knows.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
};

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use crate::{
    family::{Family, HasFamily},
    object::{Address, Objects},
    pod::mtu::Uplink,
};

use super::ways::Ways;

/// How the kernel reaches an address.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Path {
    /// Device that packets leave by.
    pub device: String,
    /// The narrowest of the devices that they may leave by: of several where the
    /// route has several paths. Its MTU is the route's own where that is smaller.
    pub narrowest: Uplink,
    /// Next hop, unless the address is on the device's own link.
    pub gateway: Option<IpAddr>,
    /// The route to it says that the next hop is on the link, and no other does.
    pub onlink: bool,
}

/// What this function has to know of the node.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Facts {
    /// This node's own addresses with their masks, and the devices they are on; no
    /// device for one that is on loopback. Of one address the best device comes first.
    pub addresses: Vec<(IpNetwork, String)>,
    /// How the kernel reaches each peer; none for an address without a route.
    pub paths: HashMap<IpAddr, Path>,
    /// The device that packets leave by, where no peer tells.
    pub uplink: Option<Uplink>,
    /// Links by which routers advertise themselves to this node, or may.
    pub heeding: Vec<String>,
    /// Who has an address that a tunnel of this node should have, in words.
    pub taken: HashMap<IpAddr, String>,
    /// What all these sizes come from.
    pub ways: Ways,
}

impl Facts {
    /// The device that has one of this node's own addresses.
    pub fn device_of(&self, address: IpAddr) -> Option<&str> {
        let own = self.addresses.iter().find(|(own, _)| own.ip() == address);
        own.map(|(_, device)| device.as_str())
    }

    /// The narrowest device towards any peer, of one family if there is one of
    /// it; else the one that packets leave by.
    pub fn narrowest(&self, family: Option<Family>) -> Option<Uplink> {
        let of = |family: Option<Family>| {
            let paths = self.paths.iter();
            let chosen = paths.filter(|(peer, _)| family.is_none_or(|own| peer.family() == own));
            // The device decides between equals, so that the answer is always the same.
            chosen
                .map(|(_, path)| &path.narrowest)
                .min_by_key(|uplink| (uplink.mtu, uplink.device.as_str()))
        };
        let narrowest = of(family).or_else(|| of(None)).cloned();
        narrowest.or_else(|| self.uplink.clone())
    }
}

/// The desired state of a node's fabric.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Desired {
    /// What should be on the node.
    pub objects: Objects,
    /// Addresses that a tunnel of this node may not have, for a pod has them.
    pub taken: Vec<Address>,
    /// What an operator should know: routes that need the network's help.
    pub notes: Vec<String>,
    /// What single peers lack for reasons that lie outside of the fabric: those
    /// that cannot be reached.
    pub wanting: Vec<String>,
    /// The addresses of those that cannot be reached.
    pub lost: Vec<IpAddr>,
    /// Who of the list is left out for what is wrong with it.
    pub excluded: Vec<String>,
    /// What all peers need and this node cannot have.
    pub not_ready: Vec<String>,
    /// The pods of the peers that are wanting.
    pub cut_off: HashSet<IpNetwork>,
    /// The pods of all peers, of the families that this node's own pods have.
    pub remote: Vec<IpNetwork>,
}

impl Desired {
    /// All that an operator should be told.
    pub fn told(&self) -> impl Iterator<Item = &String> {
        let wrong = self.not_ready.iter().chain(&self.excluded).chain(&self.wanting);
        wrong.chain(&self.notes)
    }
}
