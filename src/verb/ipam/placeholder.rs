// SPDX-License-Identifier: Apache-2.0
//! Calico's `usePodCidr` and `usePodCidrIPv6`: this node's own pod CIDRs, from
//! the peers file.

use std::path::Path;

use ipnetwork::IpNetwork;
use serde_json::Value;

use crate::{
    cni::{Code, Document, Error},
    conf::{Config, fill_in, has_placeholder},
    list::Gather,
    net::Socket,
    node::configured::AGENTS_PEERS_FILE,
    state::Root,
    verb::{
        fabric::{self, Depth},
        kernel,
    },
};

/// Puts this node's pod CIDRs for the placeholders.
///
/// # Errors
/// Code 50 without a peers file that says them.
pub(in crate::verb) fn fill(
    document: &mut Document,
    config: &Config,
    root: &Root,
) -> Result<(), Error> {
    let own = own_cidrs(config, root)?;
    let ipam = filled(document.ipam(), &own)?;
    document.set_ipam(ipam);
    Ok(())
}

/// The same for who looks at a pool and is to change nothing: no fabric is applied for it.
///
/// # Errors
/// As for [`fill`].
pub(super) fn fill_as_listed(
    document: &mut Document,
    config: &Config,
    root: &Root,
) -> Result<(), Error> {
    let own = match &config.fabric.peers_file {
        Some(named) => match fabric::applied_of_file(config, root) {
            Some(applied) => applied.own_cidrs,
            None => {
                let mut host = Socket::open().map_err(kernel)?;
                match fabric::read_peers(&root.path(named), config, &mut host) {
                    Ok((peers, _)) => peers.me.given_pod_cidrs(),
                    // Pods go on by what was applied as well.
                    Err(error) => fabric::last_applied(config, root).ok_or(error)?.own_cidrs,
                }
            }
        },
        None => of_the_agent(config, root, &mut Socket::open().map_err(kernel)?)?,
    };
    let ipam = filled(document.ipam(), &own)?;
    document.set_ipam(ipam);
    Ok(())
}

/// Whether the peers file has what the placeholders of an IPAM section stand for. A file
/// that the configuration names and that cannot be read is a fault of its own.
///
/// # Errors
/// Code 50 without a peers file that says them.
pub fn own_cidrs_fit(ipam: &Value, config: &Config, root: &Root) -> Result<(), Error> {
    if !has_placeholder(ipam) {
        return Ok(());
    }
    let mut host = Socket::open().map_err(kernel)?;
    let own = match &config.fabric.peers_file {
        Some(named) => match fabric::read_peers(&root.path(named), config, &mut host) {
            Ok((peers, _)) => peers.me.given_pod_cidrs(),
            Err(_) => return Ok(()),
        },
        None => of_the_agent(config, root, &mut host)?,
    };
    filled(ipam, &own).map(drop)
}

fn filled(ipam: &Value, own: &[IpNetwork]) -> Result<Value, Error> {
    let ipam = fill_in(ipam, own);
    if has_placeholder(&ipam) && own.is_empty() {
        let msg = "ipam asks for a pod CIDR, and the peers file gives this node none";
        return Err(Error::new(Code::UNAVAILABLE, msg).details(
            "give the node podCIDRs there; an agent's log says why it left them out (clusterCIDRs \
             of agent.json have to contain them)",
        ));
    }
    if has_placeholder(&ipam) {
        let told = own.iter().map(ToString::to_string).gather().join(", ");
        let msg =
            format!("ipam asks for a pod CIDR of a family that this node has none of ({told})");
        return Err(Error::new(Code::UNAVAILABLE, msg).details(
            "give the node a podCIDR of both families in the peers file, or take the range of the \
             family that it lacks out of ipam",
        ));
    }
    Ok(ipam)
}

/// Puts all addresses for the placeholders: enough to release or to compare by
/// container id, when the peers file may be gone.
pub(in crate::verb) fn fill_with_all(document: &mut Document) {
    let all = ["0.0.0.0/0", "::/0"].map(|all| all.parse());
    let ipam = fill_in(document.ipam(), &all.into_iter().flatten().gather());
    document.set_ipam(ipam);
}

/// This node's pod CIDRs: by the fabric if the configuration has one, else by
/// the agent's peers file.
fn own_cidrs(config: &Config, root: &Root) -> Result<Vec<IpNetwork>, Error> {
    let mut host = Socket::open().map_err(kernel)?;
    if let Some(applied) = fabric::ensure(config, root, &mut host, Depth::Glance)? {
        return Ok(applied.own_cidrs);
    }
    of_the_agent(config, root, &mut host)
}

fn of_the_agent(config: &Config, root: &Root, host: &mut Socket) -> Result<Vec<IpNetwork>, Error> {
    let path = root.path(Path::new(AGENTS_PEERS_FILE));
    let (peers, _) = fabric::read_peers(&path, config, host).map_err(|error| {
        let mut error = Error::from(error);
        error.msg.insert_str(0, "ipam asks for this node's pod CIDR: ");
        error.details("name the peers file in peersFile, or give the subnet itself in ipam")
    })?;
    Ok(peers.me.given_pod_cidrs())
}
