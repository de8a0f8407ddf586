// SPDX-License-Identifier: Apache-2.0
//! VXLAN (RFC 7348), of which nothing is learned: for each peer the device is given the
//! MAC address of the peer's end, and where that is.

use std::net::IpAddr;

use super::contract::{Encapsulation, Here, Needs, Peer};
use crate::{
    conf::FabricKeys,
    family::Family,
    net::tunnel,
    nft::Carrier,
    object::{Forwarding, Neighbour, Objects, link::Form},
};

/// An Ethernet, a VXLAN and a UDP header.
const HEADERS: u32 = 14 + 8 + 8;
/// The outer IP header, of the same family as the pods.
const IPV4_HEADER: u32 = 20;
const IPV6_HEADER: u32 = 40;

pub(super) struct Vxlan;

impl Encapsulation for Vxlan {
    fn name(&self) -> &'static str {
        "vxlan"
    }

    fn overhead(&self, family: Family) -> u32 {
        match family {
            Family::V4 => HEADERS + IPV4_HEADER,
            Family::V6 => HEADERS + IPV6_HEADER,
        }
    }

    /// Calico's `vxlan.calico` and `vxlan-v6.calico`, flannel's `flannel.1` and
    /// `flannel-v6.1`.
    fn device(&self, family: Family, keys: &FabricKeys) -> Result<String, &'static str> {
        let name = &keys.vxlan_device;
        Ok(match (family, name.split_once('.')) {
            (Family::V4, _) => name.clone(),
            (Family::V6, Some((stem, tail))) => format!("{stem}-v6.{tail}"),
            (Family::V6, None) => format!("{name}-v6"),
        })
    }

    fn form(&self, here: &Here<'_>) -> Result<Form, String> {
        let Here { me, facts, family, keys } = here;
        let local = me
            .address(*family)
            .ok_or_else(|| format!("{}: it has no {family} address", me.name))?;
        let parent = facts
            .device_of(local)
            .ok_or_else(|| format!("{}: no device of this machine has {local}", me.name))?;
        let (vni, port, local) = (keys.vni, keys.port, Some(local));
        let (learning, own_socket) = (false, false);
        let vxlan = tunnel::Vxlan { vni, port, local, parent: 0, learning, own_socket };
        Ok(Form::of_vxlan(vxlan, parent.to_owned(), Some(me.tunnel_mac(*family))))
    }

    fn entries(&self, device: &str, peer: &Peer<'_>, objects: &mut Objects) -> Option<IpAddr> {
        let gateway = peer.node.tunnel_address(peer.family)?;
        let mac = peer.node.tunnel_mac(peer.family);
        let device = device.to_owned();
        objects.neighbours.push(Neighbour { device: device.clone(), address: gateway, mac });
        objects.forwarding.push(Forwarding { device, mac, node: peer.address });
        Some(gateway)
    }

    fn is_led_by_routes(&self) -> bool {
        false
    }

    fn needs(&self) -> Needs {
        Needs { module: "vxlan", instead: "direct" }
    }

    fn apart(&self) -> &'static str {
        "vxlan.vni or vxlan.port"
    }

    fn carrier(&self, keys: &FabricKeys) -> Carrier {
        Carrier::Vxlan { port: keys.port, vni: keys.vni }
    }

    fn own_keys(&self, keys: &FabricKeys) -> String {
        let FabricKeys { vni, port, vxlan_device: device, .. } = keys;
        format!("vxlan {device} vni {vni} port {port}")
    }
}
