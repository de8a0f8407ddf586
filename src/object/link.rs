// SPDX-License-Identifier: Apache-2.0
//! Tunnel devices, and whose they are.

mod form;

use std::fmt;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::{
    diff::{self, Object, Step},
    managed::{self, Devices, Indexes, Making, Managed, Present, Work},
    told::{Kind, Told},
};
use crate::{
    conf::ROUTE_PROTOCOL,
    list::{Ordered, PushAll},
    net::link::{self, Link},
};

pub use form::{Form, is_tunnel};

/// The first word of the alias that marks a tunnel device as made by us; the
/// second is the route protocol of the fabric that did.
const TUNNEL_ALIAS: &str = "manx1-fabric";

/// The interface groups (`MAF` and the route protocol) that mark it from its
/// creation on, as the alias cannot: a kill in between would leave a device that
/// nobody owns. The module's own `tunl0` is not of our creation.
const TUNNEL_GROUPS: u32 = 0x4d41_4600;

/// The route protocol of a mark that names none: there was but this one then.
const UNNAMED: u8 = ROUTE_PROTOCOL;

/// The alias of the tunnel devices of one fabric.
pub fn tunnel_alias(protocol: u8) -> String {
    format!("{TUNNEL_ALIAS} {protocol}")
}

/// The interface group of the tunnel devices of one fabric.
pub fn tunnel_group(protocol: u8) -> u32 {
    TUNNEL_GROUPS | u32::from(protocol)
}

/// The route protocol of the fabric whose mark a link bears.
pub fn marked(link: &Link) -> Option<u8> {
    let of_alias = |alias: &str| match alias.strip_prefix(TUNNEL_ALIAS)?.trim_start() {
        "" => Some(UNNAMED),
        protocol => protocol.parse().ok(),
    };
    let [protocol, rest @ ..] = link.group.to_le_bytes();
    let [_, groups @ ..] = TUNNEL_GROUPS.to_le_bytes();
    link.alias.as_deref().and_then(of_alias).or((rest == groups).then_some(protocol))
}

/// Whether an alias names the fabric that a link is of, and not its group alone.
pub fn is_named(link: &Link) -> bool {
    link.alias.as_deref().is_some_and(|alias| alias.starts_with(TUNNEL_ALIAS))
}

/// Whose a tunnel device is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Owner {
    /// Made or claimed by this fabric, which decides about it.
    Ours,
    /// Made by this fabric, by its group, and without the alias that names it: whoever
    /// made it was killed before, or somebody took the alias away.
    Unnamed,
    /// Made by this fabric when its routes had another protocol: taken over.
    Former,
    /// That of the fabric of another route protocol: no affair of this one.
    Fabric(u8),
    /// Somebody else's. It may serve as it is, with what is added to it.
    Other,
}

impl Owner {
    /// Whether this fabric decides about the device.
    pub fn is_ours(self) -> bool {
        matches!(self, Self::Ours | Self::Unnamed | Self::Former)
    }
}

/// A tunnel device.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tunnel {
    /// Device name.
    pub name: String,
    /// MTU in bytes.
    pub mtu: u32,
    /// The route protocol of the fabric that it is of.
    pub protocol: u8,
    /// What it is.
    pub form: Form,
}

/// A tunnel device that exists.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HeldTunnel {
    /// Device name.
    pub name: String,
    /// What it is.
    pub form: Form,
    /// MTU in bytes.
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// Whose it is.
    pub owner: Owner,
    /// Its addresses.
    pub addresses: Vec<IpNetwork>,
}

impl HeldTunnel {
    /// The IPIP module makes a device in every namespace; one that is down and has
    /// no address is nobody's.
    pub fn is_unused(&self) -> bool {
        self.owner == Owner::Other
            && self.form.is_of_module()
            && !self.up
            && self.addresses.is_empty()
    }

    /// One of somebody else, with a use of its own.
    pub fn is_guest(&self) -> bool {
        self.owner == Owner::Other && !self.is_unused()
    }
}

impl fmt::Display for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} mtu {}", self.form, self.mtu)
    }
}

impl Object for Tunnel {
    type Held = HeldTunnel;
    type Key<'a> = &'a str;

    fn key(&self) -> &str {
        &self.name
    }

    fn key_of(held: &HeldTunnel) -> Option<&str> {
        Some(&held.name)
    }

    fn is_ours(held: &HeldTunnel) -> bool {
        held.owner.is_ours()
    }

    fn is(&self, held: &HeldTunnel) -> bool {
        held.owner.is_ours() && held.form == self.form
    }

    fn is_served_by(&self, held: &HeldTunnel) -> bool {
        held.owner == Owner::Other && held.form == self.form
    }
}

impl Present<Tunnel> for HeldTunnel {
    fn name(&self) -> String {
        format!("link {}", self.name)
    }

    fn value(&self) -> String {
        match self.owner {
            Owner::Fabric(protocol) => {
                format!("{} of the fabric of route protocol {protocol}", self.form)
            }
            Owner::Ours | Owner::Unnamed | Owner::Former | Owner::Other => self.form.to_string(),
        }
    }

    fn of_made(object: &Tunnel, _: &Indexes) -> Option<Self> {
        let (name, form, owner) = (object.name.clone(), object.form.clone(), Owner::Ours);
        Some(Self { name, form, mtu: object.mtu, up: false, owner, addresses: Vec::new() })
    }
}

impl Managed for Tunnel {
    const KIND: Kind = Kind::Link;
    const ALONE: bool = true;
    const OF_NODE: bool = true;

    fn name(&self) -> String {
        format!("link {}", self.name)
    }

    fn value(&self) -> String {
        self.to_string()
    }

    fn told(step: &Step<Self>) -> Told {
        let told = managed::told(step);
        match step {
            Step::Replace(wanted, held) if held.name != wanted.name => {
                let before = Some(format!("{}, {}", held.name, held.form));
                Told { before, ..told }
            }
            Step::Delete(_) => Told { before: Some("ours".to_owned()), ..told },
            Step::Create(_) | Step::Replace(..) | Step::Foreign(..) => told,
        }
    }

    fn work(step: &Step<Self>, indexes: &Indexes) -> Work {
        let (wanted, former) = match step {
            Step::Create(wanted) => (wanted, None),
            Step::Replace(wanted, held) => (wanted, Some(&held.name)),
            Step::Foreign(..) => return Work::Nothing,
            Step::Delete(HeldTunnel { name, .. }) => {
                return indexes.get(name).map(|index| link::delete(*index, name)).into();
            }
        };
        let group = tunnel_group(wanted.protocol);
        let former = former.and_then(|name| Some((name, *indexes.get(name)?)));
        Work::Device(Box::new(Making {
            name: wanted.name.clone(),
            former: former.map(|(name, index)| (name.clone(), link::delete(index, name))),
            create: wanted.form.create(&wanted.name, wanted.mtu, group, indexes),
            alias: tunnel_alias(wanted.protocol),
            mtu: wanted.mtu,
        }))
    }

    /// A device of ours that goes, and beside which the kernel does not take one that is
    /// to be, goes before it.
    fn diff(wanted: &[&Self], held: &[&HeldTunnel]) -> Vec<Step<Self>> {
        let steps = diff::diff(wanted.iter().copied(), held.iter().copied());
        let (mut going, mut made) = (Vec::new(), Vec::new());
        for step in steps {
            match step {
                Step::Delete(held) => going.push(held),
                other => made.push(other),
            }
        }
        for step in &mut made {
            let Step::Create(tunnel) = &*step else { continue };
            let in_the_way = |held: &HeldTunnel| held.form.excludes(&tunnel.form, held.up);
            let Some(place) = going.iter().position(in_the_way) else { continue };
            *step = Step::Replace(tunnel.clone(), going.remove(place));
        }
        going.order_by(|a, b| a.name.cmp(&b.name));
        made.push_all(going.into_iter().map(Step::Delete));
        made
    }

    fn note(steps: &[Step<Self>], devices: &mut Devices) {
        for step in steps {
            match step {
                Step::Create(wanted) => {
                    devices.made.insert(wanted.name.clone());
                }
                Step::Replace(wanted, held) => {
                    devices.made.insert(wanted.name.clone());
                    devices.lost.insert(held.name.clone());
                }
                Step::Foreign(wanted, _) => {
                    devices.foreign.insert(wanted.name.clone());
                }
                Step::Delete(_) => {}
            }
        }
    }
}
