//! One change to the node's part of the cluster network, and how it is told:
//! as a line of the diff, and as JSON. What makes a change necessary it does not
//! know, nor how it is made.

use std::fmt;

use ipnetwork::IpNetwork;

use super::{
    desired::{FabricRoute, Tunnel, TunnelKind},
    divert::Diversion,
    held::{HeldKind, HeldRoute, Owner},
};
use crate::{
    net::sysctl::Sysctl,
    object::{self, Action, Forwarding, Kind, Neighbour},
};

/// One change to the kernel, or one that may not be made.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Change {
    /// Set a parameter; the value it has now.
    Sysctl(Sysctl, String),
    /// Make a tunnel device.
    CreateTunnel(Tunnel),
    /// Make a tunnel device in place of one of ours: what that is, and its name.
    ReplaceTunnel(Tunnel, HeldKind, String),
    /// A device of somebody else that is not what it should be: left alone, with
    /// all that would lead through it. What it is now.
    ForeignTunnel(Tunnel, HeldKind, Owner),
    /// Mark a tunnel device that exists as ours: one that nobody uses, for the
    /// IPIP module makes one in every namespace, or one of our former protocol.
    Claim(String, Owner),
    /// Bring a tunnel device of ours down and take our mark off it: the IPIP
    /// module's own survives its removal.
    Release(String),
    /// Remove a tunnel device of ours.
    DeleteTunnel(String),
    /// Set a tunnel's MTU in bytes; the one it has now.
    SetMtu(String, u32, u32),
    /// Bring a tunnel up.
    SetUp(String),
    /// Give a tunnel an address.
    AddAddress(String, IpNetwork),
    /// Take an address from a tunnel.
    DeleteAddress(String, IpNetwork),
    /// Set a neighbour.
    SetNeighbour(Neighbour),
    /// A neighbour that somebody else has on a device of theirs: left alone.
    ForeignNeighbour(Neighbour, Neighbour),
    /// Remove a neighbour.
    DeleteNeighbour(Neighbour),
    /// Set a forwarding entry.
    SetForwarding(Forwarding),
    /// A forwarding entry that somebody else has on a device of theirs: left
    /// alone.
    ForeignForwarding(Forwarding, Forwarding),
    /// Remove a forwarding entry.
    DeleteForwarding(Forwarding),
    /// Add a route.
    CreateRoute(FabricRoute),
    /// Put a route in place of one of ours.
    ReplaceRoute(FabricRoute, HeldRoute),
    /// Remove a route of ours.
    DeleteRoute(HeldRoute),
    /// A route that somebody else has: left alone.
    Conflict(FabricRoute, HeldRoute),
    /// What leads elsewhere although the route is there: left alone.
    Diverted(Diversion),
}

impl Change {
    /// What kind of change it is.
    pub fn action(&self) -> Action {
        match self {
            Self::CreateTunnel(_)
            | Self::AddAddress(..)
            | Self::SetNeighbour(_)
            | Self::SetForwarding(_)
            | Self::CreateRoute(_) => Action::Create,
            Self::Sysctl(..)
            | Self::ReplaceTunnel(..)
            | Self::SetMtu(..)
            | Self::SetUp(_)
            | Self::Claim(..)
            | Self::Release(_)
            | Self::ReplaceRoute(..) => Action::Replace,
            Self::DeleteTunnel(_)
            | Self::DeleteAddress(..)
            | Self::DeleteNeighbour(_)
            | Self::DeleteForwarding(_)
            | Self::DeleteRoute(_) => Action::Delete,
            Self::Conflict(..)
            | Self::Diverted(_)
            | Self::ForeignTunnel(..)
            | Self::ForeignNeighbour(..)
            | Self::ForeignForwarding(..) => Action::Conflict,
        }
    }

    /// The kind of the object.
    fn kind(&self) -> Kind {
        match self {
            Self::Sysctl(..) => Kind::Sysctl,
            Self::CreateTunnel(_)
            | Self::ReplaceTunnel(..)
            | Self::ForeignTunnel(..)
            | Self::Claim(..)
            | Self::Release(_)
            | Self::DeleteTunnel(_)
            | Self::SetUp(_) => Kind::Link,
            Self::SetMtu(..) => Kind::Mtu,
            Self::AddAddress(..) | Self::DeleteAddress(..) => Kind::Address,
            Self::SetNeighbour(_) | Self::ForeignNeighbour(..) | Self::DeleteNeighbour(_) => {
                Kind::Neighbour
            }
            Self::SetForwarding(_) | Self::ForeignForwarding(..) | Self::DeleteForwarding(_) => {
                Kind::Forwarding
            }
            Self::CreateRoute(_)
            | Self::ReplaceRoute(..)
            | Self::DeleteRoute(_)
            | Self::Diverted(_)
            | Self::Conflict(..) => Kind::Route,
        }
    }

    /// Where a route leads that is not there, or does not do.
    pub fn destination(&self) -> Option<IpNetwork> {
        match self {
            Self::CreateRoute(route) | Self::ReplaceRoute(route, _) | Self::Conflict(route, _) => {
                Some(route.destination)
            }
            Self::Diverted(diversion) => Some(diversion.wanted.destination),
            _ => None,
        }
    }

    /// The object, what it is and what it is to be.
    fn parts(&self) -> (String, Option<String>, Option<String>) {
        let device = |name: &str| format!("link {name}");
        match self {
            Self::Sysctl(wanted, now) => {
                (format!("sysctl {}", wanted.key), Some(now.clone()), Some(wanted.value.clone()))
            }
            Self::CreateTunnel(tunnel) => (device(&tunnel.name), None, Some(tunnel.to_string())),
            Self::ReplaceTunnel(tunnel, now, name) => {
                let name = if *name == tunnel.name { String::new() } else { format!("{name}, ") };
                (device(&tunnel.name), Some(format!("{name}{now}")), Some(tunnel.to_string()))
            }
            Self::ForeignTunnel(tunnel, now, owner) => {
                let owner = match owner {
                    Owner::Fabric(protocol) => {
                        format!(" of the fabric of route protocol {protocol}")
                    }
                    Owner::Ours | Owner::Unnamed | Owner::Former | Owner::Other => String::new(),
                };
                (device(&tunnel.name), Some(format!("{now}{owner}")), Some(tunnel.to_string()))
            }
            Self::Claim(name, owner) => {
                let now = match owner {
                    Owner::Former => "of our former route protocol",
                    Owner::Unnamed => "without our alias",
                    Owner::Ours | Owner::Fabric(_) | Owner::Other => "unused",
                };
                (device(name), Some(now.to_owned()), Some("ours".to_owned()))
            }
            Self::Release(name) => {
                (device(name), Some("ours".to_owned()), Some("down, unused".to_owned()))
            }
            Self::DeleteTunnel(name) => (device(name), Some("ours".to_owned()), None),
            Self::SetMtu(name, mtu, now) => {
                (device(name), Some(format!("mtu {now}")), Some(format!("mtu {mtu}")))
            }
            Self::SetUp(name) => (device(name), Some("down".to_owned()), Some("up".to_owned())),
            Self::AddAddress(name, address) => {
                (format!("address of {name}"), None, Some(address.to_string()))
            }
            Self::DeleteAddress(name, address) => {
                (format!("address of {name}"), Some(address.to_string()), None)
            }
            Self::SetNeighbour(entry) => (entry.name(), None, Some(entry.mac.to_string())),
            Self::ForeignNeighbour(entry, held) => {
                (entry.name(), Some(held.mac.to_string()), Some(entry.mac.to_string()))
            }
            Self::ForeignForwarding(entry, held) => {
                (entry.name(), Some(held.node.to_string()), Some(entry.node.to_string()))
            }
            Self::DeleteNeighbour(entry) => (entry.name(), Some(entry.mac.to_string()), None),
            Self::SetForwarding(entry) => (entry.name(), None, Some(entry.node.to_string())),
            Self::DeleteForwarding(entry) => (entry.name(), Some(entry.node.to_string()), None),
            Self::CreateRoute(route) => (route.object(), None, Some(route.to_string())),
            Self::ReplaceRoute(route, held) | Self::Conflict(route, held) => {
                (route.object(), Some(held.to_string()), Some(route.to_string()))
            }
            Self::Diverted(Diversion { wanted, by }) => {
                (wanted.object(), Some(by.clone()), Some(wanted.to_string()))
            }
            Self::DeleteRoute(held) => {
                (format!("route {}", held.destination), Some(held.to_string()), None)
            }
        }
    }

    /// The change as it is told.
    pub fn told(&self) -> object::Told {
        let (object, before, after) = self.parts();
        object::Told { kind: self.kind(), action: self.action(), object, before, after }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.told())
    }
}

impl FabricRoute {
    fn object(&self) -> String {
        format!("route {}", self.destination)
    }
}

impl fmt::Display for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} mtu {}", self.kind, self.mtu)
    }
}

impl fmt::Display for TunnelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ipip => write!(f, "ipip"),
            Self::Vxlan { vni, port, local, parent, mac } => {
                write!(f, "vxlan id {vni} dstport {port} local {local}")?;
                if !parent.is_empty() {
                    write!(f, " dev {parent}")?;
                }
                write!(f, " mac {mac}")
            }
        }
    }
}
