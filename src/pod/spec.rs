// SPDX-License-Identifier: Apache-2.0
//! What an attachment is described from, and what all of its description goes by.

use std::net::{IpAddr, Ipv6Addr};

use ipnetwork::IpNetwork;

use super::identity::{HOST_MAC, Identity};
use crate::{
    cni,
    conf::Config,
    net::{
        Mac,
        route::{Route, SCOPE_LINK},
        rule::Rule,
    },
};

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Spec<'a> {
    /// Whose attachment.
    pub identity: &'a Identity,
    /// Name of the host link.
    pub host_link: &'a str,
    /// The configuration.
    pub config: &'a Config,
    /// The addresses that IPAM gave.
    pub addresses: &'a [IpAddr],
    /// The routes that IPAM gave.
    pub routes: &'a [cni::Route],
    /// MTU of both ends in bytes.
    pub mtu: u32,
    /// MAC address of the pod link, if one was asked for.
    pub mac: Option<Mac>,
    /// What the pod has besides.
    pub facts: &'a PodFacts,
    /// Where the pods of other nodes are, if the routes to them carry an MTU
    /// of their own.
    pub remote: Option<Remote<'a>>,
}

/// Destinations behind an encapsulation, for pods whose link has the full MTU.
#[derive(Clone, Copy, Debug)]
pub struct Remote<'a> {
    /// MTU of packets to other nodes in bytes.
    pub mtu: u32,
    /// Where all pods are.
    pub cluster: &'a [IpNetwork],
    /// Where this node's own pods are, who are reached at the link's MTU.
    pub own: &'a [IpNetwork],
}

/// What is in the pod's namespace already, apart from the link in question.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PodFacts {
    /// Another attachment made this pod's settings before.
    pub attached_before: bool,
    /// Where routes of other interfaces in table main lead.
    pub taken: Vec<IpNetwork>,
    /// The table that is the interface's own; none where it is the pod's only one.
    pub table: Option<u32>,
    /// Rules of ours whose interface is gone.
    pub leftovers: Vec<Rule>,
}

/// The IPv6 next hop of every pod.
pub fn gateway_ipv6() -> Ipv6Addr {
    HOST_MAC.link_local()
}

pub(super) fn families(addresses: &[IpAddr]) -> (bool, bool) {
    (addresses.iter().any(IpAddr::is_ipv4), addresses.iter().any(IpAddr::is_ipv6))
}

/// The route by which this node reaches a pod, in Calico's form.
pub(super) fn host_route(address: IpAddr) -> Route {
    let scope = if address.is_ipv4() { SCOPE_LINK } else { 0 };
    Route { scope, ..Route::new(IpNetwork::from(address)) }
}
