// SPDX-License-Identifier: Apache-2.0
//! What a tunnel device is: the kind of link and what it was created with, in the same
//! words for one that is wanted and for one that is there.

use std::{collections::HashMap, fmt, net::IpAddr};

use nix::errno::Errno;

use serde::{Deserialize, Serialize};

use crate::{
    family::{Family, HasFamily},
    net::{
        Mac, Request,
        link::Link,
        tunnel::{self, Vxlan},
    },
    object::managed::Indexes,
};

/// Kinds of tunnels of which the kernel's module makes a device in every namespace
/// itself. Those are there before anybody asks for one, and cannot be removed.
const OF_MODULE: [&str; 1] = ["ipip"];

/// What a device is.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Form {
    /// The kernel's word for the kind of link.
    pub kind: String,
    /// Device that the outer packets leave by; empty where the routes decide.
    pub parent: String,
    /// What a VXLAN device was created with, its parent not by the index.
    pub vxlan: Option<Vxlan>,
    /// The MAC address of a VXLAN device.
    pub mac: Option<Mac>,
}

/// Whether a link is a tunnel, whoever made it.
pub fn is_tunnel(link: &Link) -> bool {
    link.vxlan.is_some() || link.kind.as_deref().is_some_and(|kind| OF_MODULE.contains(&kind))
}

impl Form {
    /// A device that is only of a kind.
    pub fn plain(kind: impl Into<String>) -> Self {
        Self { kind: kind.into(), parent: String::new(), vxlan: None, mac: None }
    }

    /// A VXLAN device with a MAC address, whose packets leave by `parent`.
    pub fn of_vxlan(vxlan: Vxlan, parent: String, mac: Option<Mac>) -> Self {
        let vxlan = Some(Vxlan { parent: 0, ..vxlan });
        Self { parent, vxlan, mac, ..Self::plain("vxlan") }
    }

    /// What a link is; the names are those of all links.
    pub fn of(link: &Link, names: &HashMap<u32, &Link>) -> Self {
        let Some(vxlan) = &link.vxlan else {
            return Self::plain(link.kind.as_deref().unwrap_or("a hardware device"));
        };
        let parent = names.get(&vxlan.parent).map(|link| link.name.clone());
        Self::of_vxlan(vxlan.clone(), parent.unwrap_or_default(), link.mac)
    }

    /// Whether it may be the device that the kernel's module made.
    pub fn is_of_module(&self) -> bool {
        OF_MODULE.contains(&self.kind.as_str())
    }

    /// The address of this end, where one is given.
    pub fn local(&self) -> Option<IpAddr> {
        self.vxlan.as_ref()?.local
    }

    /// Whether the kernel refuses a `wanted` device beside this one, which is `up` or not:
    /// for its VNI (`vxlan_vni_in_use`, drivers/net/vxlan), or for its socket ("Address
    /// already in use").
    pub fn excludes(&self, wanted: &Self, up: bool) -> bool {
        let family = |vxlan: &Vxlan| vxlan.local.map_or(Family::V4, |local| local.family());
        let socket = |vxlan: &Vxlan| (vxlan.port, family(vxlan));
        match (&self.vxlan, &wanted.vxlan) {
            (Some(own), Some(wanted)) => {
                socket(own) == socket(wanted)
                    && if own.own_socket { up } else { own.vni == wanted.vni }
            }
            _ => false,
        }
    }

    /// The message that makes such a device.
    pub fn create(&self, name: &str, mtu: u32, group: u32, indexes: &Indexes) -> Request {
        let parent = indexes.get(&self.parent).copied().unwrap_or_default();
        let vxlan = self.vxlan.clone().map(|vxlan| Vxlan { parent, ..vxlan });
        let request = tunnel::create(name, mtu, group, (&self.kind, self.mac, vxlan.as_ref()));
        // To ask for it has loaded the module, which has made it.
        if self.is_of_module() { request.tolerate(Errno::EEXIST) } else { request }
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        let Some(vxlan) = &self.vxlan else { return Ok(()) };
        write!(f, " id {} dstport {}", vxlan.vni, vxlan.port)?;
        if let Some(local) = vxlan.local {
            write!(f, " local {local}")?;
        }
        if !self.parent.is_empty() {
            write!(f, " dev {}", self.parent)?;
        }
        if let Some(mac) = self.mac {
            write!(f, " mac {mac}")?;
        }
        if vxlan.learning { write!(f, " learning") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vxlan(vni: u32, port: u16, local: &str) -> Form {
        let (local, learning, own_socket) = (local.parse().ok(), false, false);
        let vxlan = Vxlan { vni, port, local, parent: 7, learning, own_socket };
        Form::of_vxlan(vxlan, "eth0".to_owned(), Some(Mac([2, 0, 0, 0, 0, 1])))
    }

    #[test]
    fn a_device_is_what_its_own_description_says() {
        for (form, words, of_module) in [
            (Form::plain("ipip"), "ipip", true),
            (Form::plain("bridge"), "bridge", false),
            (
                vxlan(7, 4789, "192.0.2.1"),
                "vxlan id 7 dstport 4789 local 192.0.2.1 dev eth0 mac 02:00:00:00:00:01",
                false,
            ),
        ] {
            assert_eq!((form.to_string().as_str(), form.is_of_module()), (words, of_module));
        }
        assert_ne!(vxlan(7, 4789, "192.0.2.1"), vxlan(8, 4789, "192.0.2.1"));
    }

    #[test]
    fn only_vxlan_devices_of_one_socket_exclude_each_other() {
        let wanted = vxlan(7, 4789, "192.0.2.1");
        for (other, excludes) in [
            (vxlan(7, 4789, "192.0.2.9"), true),
            (vxlan(8, 4789, "192.0.2.1"), false),
            (vxlan(7, 8472, "192.0.2.1"), false),
            (vxlan(7, 4789, "2001:db8::1"), false),
            // The kernel takes that for IPv4.
            (vxlan(7, 4789, "none"), true),
            (Form::plain("ipip"), false),
        ] {
            assert_eq!(other.excludes(&wanted, true), excludes, "{other}");
        }
    }
}
