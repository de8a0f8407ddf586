// SPDX-License-Identifier: Apache-2.0
//! Addresses and networks.

use std::net::{IpAddr, Ipv4Addr};

use ipnetwork::IpNetwork;
use serde_json::Value;

use super::Shape;
use crate::{
    cni::{cidr, json::shown},
    family::Family,
    list::distinct,
};

/// The IPv4 address of a next hop.
pub(in crate::conf) struct NextHop(pub(in crate::conf) Ipv4Addr);

impl Shape for NextHop {
    type Value = Ipv4Addr;

    fn absent(&self) -> Ipv4Addr {
        self.0
    }

    fn read(&self, value: &Value) -> Result<Ipv4Addr, String> {
        let Some(Ok(IpAddr::V4(address))) = value.as_str().map(cidr::parse_address) else {
            return Err("give an IPv4 address".to_owned());
        };
        // What the kernel takes for no next hop: 0.0.0.0/8, 127.0.0.0/8 and no unicast.
        let nobody = matches!(address.octets(), [0 | 127, ..]);
        if nobody || address.is_multicast() || address.is_broadcast() {
            return Err("give a unicast address".to_owned());
        }
        Ok(address)
    }
}

/// An address of either family, and what holds without one. An empty text is none, as
/// Go's reader has it.
pub(in crate::conf) struct Address(pub(in crate::conf) &'static str);

impl Shape for Address {
    type Value = Option<IpAddr>;

    fn absent(&self) -> Option<IpAddr> {
        None
    }

    fn read(&self, value: &Value) -> Result<Option<IpAddr>, String> {
        match value.as_str() {
            Some("") => Ok(None),
            Some(text) => cidr::parse_address(text)
                .map(Some)
                .map_err(|reason| format!("give an address: {reason}")),
            None => Err("give an address".to_owned()),
        }
    }
}

/// Families of addresses.
pub(in crate::conf) struct Families;

impl Families {
    pub(in crate::conf) const WORDS: [(&'static str, Family); 2] =
        [("IPv4", Family::V4), ("IPv6", Family::V6)];
}

impl Shape for Families {
    type Value = Vec<Family>;

    fn absent(&self) -> Vec<Family> {
        Vec::new()
    }

    fn read(&self, value: &Value) -> Result<Vec<Family>, String> {
        let read = |item: &Value| {
            let known = Self::WORDS.iter().find(|(word, _)| item.as_str() == Some(word))?;
            Some(known.1)
        };
        let families = value.as_array().and_then(|all| all.iter().map(read).collect::<Option<_>>());
        let families: Vec<Family> =
            families.ok_or_else(|| "give a list of \"IPv4\" and \"IPv6\"".to_owned())?;
        let families = distinct(families);
        Ok(families)
    }
}

/// The subnet of a range. A placeholder is not read here: it stands for another value.
pub(in crate::conf) struct Subnet;

impl Shape for Subnet {
    type Value = Option<IpNetwork>;

    fn absent(&self) -> Option<IpNetwork> {
        None
    }

    fn read(&self, value: &Value) -> Result<Option<IpNetwork>, String> {
        let text = value.as_str().ok_or("give a CIDR")?;
        cidr::parse(text).map(Some).map_err(|reason| format!("give a CIDR: {reason}"))
    }
}

/// A list of CIDRs.
pub(in crate::conf) struct Networks;

impl Shape for Networks {
    type Value = Vec<IpNetwork>;

    fn absent(&self) -> Vec<IpNetwork> {
        Vec::new()
    }

    fn read(&self, value: &Value) -> Result<Vec<IpNetwork>, String> {
        let list = value.as_array().ok_or("give a list of CIDRs")?;
        let read = |item: &Value| cidr::parse(item.as_str().ok_or_else(|| shown(item))?);
        let networks = list.iter().map(read).collect::<Result<_, String>>();
        networks.map_err(|reason| format!("give a list of CIDRs: {reason}"))
    }
}
