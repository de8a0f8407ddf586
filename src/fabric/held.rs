//! What the kernel has of a fabric: tunnel devices with their owners, and routes.
//! How it is read is not known here.

use std::{collections::HashMap, fmt};

use ipnetwork::IpNetwork;

use super::desired::{Target, TunnelKind};
use crate::{
    conf::ROUTE_PROTOCOL,
    net::{Mac, link::Link, route::Found, tunnel::Vxlan},
};

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

/// Whether a link is a tunnel, whoever made it.
pub fn is_tunnel(link: &Link) -> bool {
    link.vxlan.is_some() || link.kind.as_deref() == Some("ipip")
}

/// Whose a tunnel device is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
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

/// What a device is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum HeldKind {
    /// IP in IP.
    Ipip,
    /// VXLAN.
    Vxlan {
        /// What it was created with.
        vxlan: Vxlan,
        /// Name of the device that outer packets leave by.
        parent: String,
        /// The device's own MAC address.
        mac: Option<Mac>,
    },
    /// Nothing that a fabric could use.
    Other(String),
}

impl HeldKind {
    /// What a link is; the names are those of all links.
    pub fn of(link: &Link, names: &HashMap<u32, &Link>) -> Self {
        match (link.kind.as_deref(), &link.vxlan) {
            (Some("ipip"), _) => Self::Ipip,
            (_, Some(vxlan)) => {
                let parent = names.get(&vxlan.parent).map(|link| link.name.clone());
                let parent = parent.unwrap_or_default();
                Self::Vxlan { vxlan: vxlan.clone(), parent, mac: link.mac }
            }
            (other, None) => Self::Other(other.unwrap_or("a hardware device").to_owned()),
        }
    }

    /// Whether it is what is wanted.
    pub fn is(&self, wanted: &TunnelKind) -> bool {
        match (self, wanted) {
            (Self::Ipip, TunnelKind::Ipip) => true,
            (
                Self::Vxlan { vxlan, parent: held_parent, mac: held_mac },
                TunnelKind::Vxlan { vni, port, local, parent, mac },
            ) => {
                let held = (vxlan.vni, vxlan.port, vxlan.local);
                held == (*vni, *port, Some(*local))
                    && !(vxlan.learning || vxlan.own_socket)
                    && held_parent == parent
                    && *held_mac == Some(*mac)
            }
            _ => false,
        }
    }

    /// Whether the kernel refuses a device of the wanted kind beside it, which is `up`
    /// or not: for its VNI (`vxlan_vni_in_use`, drivers/net/vxlan), or for its socket
    /// ("Address already in use").
    pub fn excludes(&self, wanted: &TunnelKind, up: bool) -> bool {
        match (self, wanted) {
            (Self::Vxlan { vxlan, .. }, TunnelKind::Vxlan { vni, port, local, .. }) => {
                let ipv4 = vxlan.local.is_none_or(|ip| ip.is_ipv4());
                let same_port = (vxlan.port, ipv4) == (*port, local.is_ipv4());
                same_port && if vxlan.own_socket { up } else { vxlan.vni == *vni }
            }
            _ => false,
        }
    }
}

impl fmt::Display for HeldKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ipip => write!(f, "ipip"),
            Self::Other(kind) => write!(f, "{kind}"),
            Self::Vxlan { vxlan, parent, mac } => {
                write!(f, "vxlan id {} dstport {}", vxlan.vni, vxlan.port)?;
                if let Some(local) = vxlan.local {
                    write!(f, " local {local}")?;
                }
                if !parent.is_empty() {
                    write!(f, " dev {parent}")?;
                }
                if let Some(mac) = mac {
                    write!(f, " mac {mac}")?;
                }
                if vxlan.learning { write!(f, " learning") } else { Ok(()) }
            }
        }
    }
}

/// A tunnel device that exists.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HeldTunnel {
    /// What it is.
    pub kind: HeldKind,
    /// MTU in bytes.
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// Whose it is.
    pub owner: Owner,
    /// Its addresses.
    pub addresses: Vec<IpNetwork>,
}

/// A route that exists.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HeldRoute {
    /// Destination.
    pub destination: IpNetwork,
    /// Who made it.
    pub protocol: u8,
    /// This fabric did, now or when its routes had another protocol.
    pub ours: bool,
    /// Metric. With the destination it is the key of a route without a type of
    /// service, as all of ours are; the lowest wins.
    pub metric: u32,
    /// Where it leads, as far as the fabric could have made it so.
    pub target: Option<Target>,
    /// Its device is a pod's host link.
    pub on_host_link: bool,
    /// The device that it leads through, where that is one.
    pub device: Option<String>,
    /// The route as the kernel has it, and its device's index.
    pub found: Found,
}

impl fmt::Display for HeldRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.found.route)?;
        if let Some(Target::Node { device, .. }) = &self.target {
            write!(f, " dev {device}")?;
        }
        write!(f, " proto {}", self.protocol)?;
        let route = &self.found.route;
        if route.onlink {
            write!(f, " onlink")?;
        }
        if let Some(source) = self.found.source {
            write!(f, " src {source}")?;
        }
        if let Some(mtu) = route.mtu {
            write!(f, " mtu {}{mtu}", if self.found.fixed_mtu { "lock " } else { "" })?;
        }
        route.advmss.map_or(Ok(()), |advmss| write!(f, " advmss {advmss}"))
    }
}
