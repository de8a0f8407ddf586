// SPDX-License-Identifier: Apache-2.0
//! IP in IP (RFC 2003), by the device that the kernel's module makes itself: as Calico
//! has it. It leads to a peer by the route alone.

use std::net::IpAddr;

use super::contract::{Encapsulation, Here, Needs, Peer};
use crate::{
    conf::FabricKeys,
    family::Family,
    nft::Carrier,
    object::{Objects, link::Form},
};

/// The module's device.
const DEVICE: &str = "tunl0";
/// An IPv4 header.
const OVERHEAD: u32 = 20;

pub(super) struct Ipip;

impl Encapsulation for Ipip {
    fn name(&self) -> &'static str {
        "ipip"
    }

    fn overhead(&self, _: Family) -> u32 {
        OVERHEAD
    }

    fn device(&self, family: Family, _: &FabricKeys) -> Result<String, &'static str> {
        match family {
            Family::V4 => Ok(DEVICE.to_owned()),
            Family::V6 => Err("IP in IP carries IPv4 only: IPv6 pods are reached by plain routes"),
        }
    }

    fn form(&self, _: &Here<'_>) -> Result<Form, String> {
        Ok(Form::plain(self.name()))
    }

    fn entries(&self, _: &str, peer: &Peer<'_>, _: &mut Objects) -> Option<IpAddr> {
        Some(peer.address)
    }

    fn is_led_by_routes(&self) -> bool {
        true
    }

    fn needs(&self) -> Needs {
        Needs { module: "ipip", instead: "vxlan" }
    }

    fn apart(&self) -> &'static str {
        "mode"
    }

    fn carrier(&self, _: &FabricKeys) -> Carrier {
        Carrier::Ipip
    }

    fn own_keys(&self, _: &FabricKeys) -> String {
        String::new()
    }
}
