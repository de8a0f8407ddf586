// SPDX-License-Identifier: Apache-2.0
//! What an ADD that succeeded tells the runtime, and the log.

use std::{fmt::Write as _, net::IpAddr};

use super::super::{Call, ipam::Lease};
use crate::{
    cni::{AddResult, Interface, Ip},
    conf::Config,
    list::PushAll,
    net::link,
    pod::{Attachment, attachment::gateway_ipv6},
};

/// The result: what came before us, then our two interfaces, the addresses,
/// the routes as they were made, and the DNS of the configuration or of IPAM.
pub(super) fn result(
    call: &Call,
    previous: AddResult,
    lease: &Lease,
    attachment: &Attachment,
) -> AddResult {
    let mut result = previous;
    let interface = |end: &link::VethEnd, sandbox| Interface {
        name: end.name.clone(),
        mac: Some(end.mac.to_string()),
        mtu: Some(end.mtu),
        sandbox,
        ..Interface::default()
    };
    result.interfaces.push(interface(&attachment.host, None));
    let index = result.interfaces.len();
    let sandbox = Some(call.environment.netns.clone());
    result.interfaces.push(interface(&attachment.pod, sandbox));
    result.ips.push_all(lease.addresses.iter().map(|address| Ip {
        address: (*address).into(),
        gateway: Some(next_hop(&call.config, *address)),
        interface: Some(index),
    }));
    result.routes.push_all(attachment.routes.iter().cloned());
    match &call.config.dns {
        Some(dns) => result.dns = dns.clone(),
        None if !lease.result.dns.is_empty() => result.dns = lease.result.dns.clone(),
        None => {}
    }
    result
}

/// The next hop of an address. Calico tells none; sbr behind us makes the default
/// route of its table from it, and without it leaves the pod with no default route
/// at all.
fn next_hop(config: &Config, address: IpAddr) -> IpAddr {
    if address.is_ipv4() { config.gateway.into() } else { gateway_ipv6().into() }
}

/// What is logged of it.
pub(super) fn summary(lease: &Lease, attachment: &Attachment) -> String {
    let mut words = format!("link={} mtu={}", attachment.host.name, attachment.host.mtu);
    for (index, address) in lease.addresses.iter().enumerate() {
        let separator = if index == 0 { " addresses=" } else { "," };
        let _ = write!(words, "{separator}{address}");
    }
    words
}
