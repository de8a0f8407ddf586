// SPDX-License-Identifier: Apache-2.0
//! The result of an ADD, in one form for all versions of the specification.
//!
//! The form is that of 1.1.0, into which every older one fits. [`decode`] and
//! [`encode`] translate; nothing else in the program knows that a result ever
//! looked different. A result is data: whether an interface in it exists is not
//! known here.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde_json::Value;

use super::{Error, Version};
use crate::family::Family;

mod decode;
mod encode;
mod resolv;
#[cfg(test)]
mod tests;

pub use decode::{Misread, routes};

/// What an ADD made, or what a plugin before us in the chain or an IPAM plugin
/// says that it made (SPEC 1.1.0, "Success").
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AddResult {
    /// Every interface made, on the host as well; none in an IPAM result.
    pub interfaces: Vec<Interface>,
    /// The container's addresses.
    pub ips: Vec<Ip>,
    /// The container's routes.
    pub routes: Vec<Route>,
    /// Resolver settings, for the runtime to write down.
    pub dns: Dns,
}

/// Where results before 0.3.0 have the address of each family.
const LISTED: [(Family, &str); 2] = [(Family::V4, "ip4"), (Family::V6, "ip6")];

/// One end of a link, or any other device, that came to be.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Interface {
    /// The name, in the namespace that it is in.
    pub name: String,
    /// The hardware address, lower-case colon text.
    pub mac: Option<String>,
    /// The MTU in bytes; only 1.1.0 has it.
    pub mtu: Option<u32>,
    /// `CNI_NETNS` byte for byte; `None` for an interface of the host.
    pub sandbox: Option<String>,
    /// The socket of a user-space interface; only 1.1.0 has it.
    pub socket_path: Option<String>,
    /// The PCI address of a device; only 1.1.0 has it.
    pub pci_id: Option<String>,
}

/// An address of the container.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ip {
    /// The address with its prefix, host bits kept.
    pub address: IpNetwork,
    /// The next hop of this subnet.
    pub gateway: Option<IpAddr>,
    /// The index of the carrying interface in [`AddResult::interfaces`].
    pub interface: Option<usize>,
}

/// A route of the container.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Route {
    /// The destination.
    pub dst: IpNetwork,
    /// The next hop; if `None`, that of the first address of the family.
    pub gw: Option<IpAddr>,
    /// Path MTU in bytes.
    pub mtu: Option<u32>,
    /// The MSS to advertise, in bytes.
    pub advmss: Option<u32>,
    /// The metric, lower is better.
    pub priority: Option<u32>,
    /// The routing table; an explicit 0 is not the same as none.
    pub table: Option<u32>,
    /// The scope (`rtnetlink(7)`); an explicit 0 is not the same as none.
    pub scope: Option<u8>,
}

impl Route {
    /// A route without attributes.
    pub fn new(dst: IpNetwork, gw: Option<IpAddr>) -> Self {
        Self { dst, gw, mtu: None, advmss: None, priority: None, table: None, scope: None }
    }
}

/// Resolver settings (`resolv.conf(5)`).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Dns {
    /// Addresses of name servers, by priority.
    pub nameservers: Vec<String>,
    /// The local domain.
    pub domain: Option<String>,
    /// Domains to search, by priority.
    pub search: Vec<String>,
    /// Options for the resolver.
    pub options: Vec<String>,
}

impl Dns {
    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl AddResult {
    /// Reads a result: one of `prevResult`, or of a delegate's output. Its own
    /// `cniVersion` decides its shape, `assumed` if it has none. Keys match
    /// without regard to case and `null` counts as absent, as for every reader
    /// written in Go.
    ///
    /// # Errors
    /// Code 1 for a version that is not ours; code 6 naming the key and the
    /// value that make no sense, such as an interface index without interface.
    pub fn decode(value: &Value, assumed: Version) -> Result<Self, Error> {
        decode::result(value, assumed)
    }

    /// The JSON of `version`. What a version has no words for is left out:
    /// before 1.1.0 the MTU, before 0.3.0 interfaces and all but the first
    /// address of each family.
    ///
    /// # Errors
    /// Code 7 if there is no address and `version` is older than 0.3.0, which
    /// cannot say that.
    pub fn encode(&self, version: Version) -> Result<Value, Error> {
        encode::result(self, version)
    }
}
