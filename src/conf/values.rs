// SPDX-License-Identifier: Apache-2.0
//! Values that a few keys alone may have.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    names::has_store,
    shape::{Described, Keys, Number, Shape},
};
use crate::cni::{Code, env::valid_interface_name, json::member};

/// A host link's name has 11 characters behind the prefix, 15 at most in all.
const HOST_PREFIX_BYTES_MAX: usize = 4;
/// Our own route protocol, which nobody else has.
pub const ROUTE_PROTOCOL: u8 = 109;
/// Numbers of others (RTPROT_ in include/uapi/linux/rtnetlink.h): all routes of
/// the fabric's protocol are the fabric's, and go when no peer needs them.
pub(super) const TAKEN: [(u8, &str); 24] = [
    (0, "nobody"),
    (1, "redirects"),
    (2, "the kernel"),
    (3, "the boot"),
    (4, "the administrator"),
    (8, "GateD"),
    (9, "router advertisements"),
    (10, "MRT"),
    (11, "Zebra"),
    (12, "BIRD"),
    (13, "DECnet's daemon"),
    (14, "XORP"),
    (15, "Netsukuku"),
    (16, "DHCP"),
    (17, "the multicast daemon"),
    (18, "keepalived"),
    (42, "Babel"),
    (84, "OVN"),
    (99, "Open/R"),
    (186, "BGP"),
    (187, "IS-IS"),
    (188, "OSPF"),
    (189, "RIP"),
    (192, "EIGRP"),
];

/// How packets reach the pods of other nodes. Without a peers file it decides
/// nothing but the overhead.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Mode {
    /// Plain routes.
    Direct,
    /// IP in IP (RFC 2003).
    Ipip,
    /// VXLAN (RFC 7348).
    Vxlan,
}

/// Where the MTU of packets to other nodes is set.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MtuMode {
    /// On the pod's link, for all packets.
    Link,
    /// On the pod's routes to other nodes; the link has the device's MTU.
    Route,
}

/// What becomes of a pod while nobody has said which network policies are about it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Missing {
    /// Its ADD waits a while, and then it is closed.
    Wait,
    /// It is open.
    Allow,
    /// Its ADD fails.
    Fail,
}

/// When packets to other nodes are encapsulated.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum CrossSubnet {
    /// All of them, whatever subnet the peer is in.
    Off,
    /// Only towards peers outside this node's subnet, by its address's mask.
    Mask,
    /// Only towards peers that the kernel reaches through a gateway: for
    /// clouds that give nodes a /32.
    Route,
}

/// What a host link's name may begin with. One that begins with a dash would be an
/// option of every command.
pub(super) fn is_host_prefix(prefix: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=HOST_PREFIX_BYTES_MAX).contains(&prefix.len())
        && !prefix.starts_with('-')
        && prefix.bytes().all(plain)
}

/// The mark of the fabric's routes: a number that is nobody else's.
pub(super) struct Protocol;

pub(super) const NUMBER: Number<u8> = Number(0..=255, ROUTE_PROTOCOL);

impl Shape for Protocol {
    type Value = u8;

    fn absent(&self) -> u8 {
        NUMBER.absent()
    }

    fn read(&self, value: &Value) -> Result<u8, String> {
        let number = NUMBER.read(value)?;
        match TAKEN.iter().find(|(taken, _)| *taken == number) {
            Some((_, holder)) => {
                let whose = format!("it is that of {holder}, whose routes would be removed");
                Err(format!("{whose}: leave it out"))
            }
            None => Ok(number),
        }
    }
}

/// Whether a name is good for the device of IPv4: that of IPv6 has three characters
/// more.
pub(super) fn is_vxlan_device(name: &str) -> bool {
    let plain = !name.starts_with('-') && !name.contains(|c: char| c == '%' || c.is_control());
    valid_interface_name(name) && name.len() <= 12 && plain
}

/// The `ipam` section: a plugin's own, whose keys are known where it keeps its leases
/// as host-local does.
///
/// It is made of the keys of a range and of those of a store: a single range may stand in
/// the midst of the others.
pub(super) struct Section(pub(super) [&'static [&'static dyn Described]; 2]);

impl Section {
    /// Those of host-local, with a single range in their midst.
    pub(super) fn keys(&self) -> Keys {
        self.0.concat()
    }
}

impl Shape for Section {
    type Value = ();

    fn absent(&self) {}

    fn read(&self, value: &Value) -> Result<(), String> {
        if value.is_object() { Ok(()) } else { Err("give an object".to_owned()) }
    }

    fn members(&self, value: &Value) -> Option<Keys> {
        let kind = member(value, "type").and_then(Value::as_str);
        kind.is_some_and(has_store).then(|| self.keys())
    }
}

/// Sets of ranges, which are read one by one.
pub(super) struct RangeSets;

impl Shape for RangeSets {
    type Value = ();

    fn absent(&self) {}

    fn read(&self, _value: &Value) -> Result<(), String> {
        Ok(())
    }
}

/// Calico's key for links of another kind than ours.
pub(super) struct Veth;

impl Shape for Veth {
    type Value = ();

    fn absent(&self) {}

    fn read(&self, value: &Value) -> Result<(), String> {
        match value.as_str() {
            Some("" | "veth") => Ok(()),
            _ => Err("pods get a veth: leave the key out".to_owned()),
        }
    }

    fn code(&self) -> Code {
        Code::UNSUPPORTED_FIELD
    }
}
