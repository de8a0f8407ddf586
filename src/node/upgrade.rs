// SPDX-License-Identifier: Apache-2.0
//! Pods that manx 0.1 attached get what those of several attachments have now.

use std::{
    collections::{HashMap, HashSet},
    fmt,
};

use super::{
    Error,
    complete::complete,
    kernel,
    sandbox::{self, Sandbox},
};
use crate::{
    conf::Config,
    net::{
        Socket,
        link::{self, Link},
        route::TABLE_MAIN,
    },
    pod::identity::HostLinks,
    state::{Entry, Root, journal},
};

/// The first interface of a pod under every runtime but for dynamic ones.
const FIRST_IFNAME: &str = "eth0";

/// Kinds of links that a pod has besides by its own doing, or by the kernel's. What
/// leaves by those leaves by no link of ours.
const NO_WAY_OUT: [&str; 10] =
    ["bridge", "dummy", "wireguard", "tun", "ipip", "sit", "gre", "ip6tnl", "vti", "ifb"];

/// A pod that could not be given what it needs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NotUpgraded {
    /// `namespace/name`, or the container id.
    pub pod: String,
    /// The interface.
    pub ifname: String,
    /// Why not.
    pub reason: String,
}

impl fmt::Display for NotUpgraded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}: {}", self.ifname, self.pod, self.reason)
    }
}

/// Gives every live pod of this network the rules and the tables without which the
/// answers of an interface that manx 0.1 attached leave by another one, as do those of
/// the first that 0.1.1 attached once the default route is moved. To be done
/// before the node stops to believe them. That other one is what is believed no
/// more: so all interfaces of the pods count, of whatever network. May be called
/// again, and by several.
///
/// No pod's lock is waited for: an ADD may hold that of its own.
///
/// # Errors
/// The pods of which it is not known that they answer right.
pub fn upgrade_pods(
    root: &Root,
    config: &Config,
    host: &mut Socket,
) -> Result<(), Vec<NotUpgraded>> {
    visit_old(root, config, host, &|sandbox, old| upgrade(sandbox, config, old))
}

/// Whether [`upgrade_pods`] finds all pods that it has to look at. Changes nothing.
///
/// # Errors
/// The pods that it does not.
pub(crate) fn reach_pods(
    root: &Root,
    config: &Config,
    host: &mut Socket,
) -> Result<(), Vec<NotUpgraded>> {
    visit_old(root, config, host, &|_, _| Ok(()))
}

/// An interface that may lack something.
struct Old<'a> {
    entry: &'a Entry,
    host_link: &'a Link,
    /// No other interface of the pod is ours.
    alone: bool,
}

/// Enters the pods of a network that may lack something, by each interface of which
/// it is not known.
fn visit_old(
    root: &Root,
    config: &Config,
    host: &mut Socket,
    visit: &dyn Fn(&mut Sandbox, &Old<'_>) -> Result<(), Error>,
) -> Result<(), Vec<NotUpgraded>> {
    let mut old = journal::all(root);
    let of_network = old.iter().filter(|entry| entry.network == config.name);
    let pods: HashSet<(u64, u64)> = of_network.map(|entry| entry.netns_identity).collect();
    let mut interfaces = HashMap::new();
    for entry in &old {
        *interfaces.entry(entry.netns_identity).or_insert(0) += 1;
    }
    let alone = |entry: &Entry| interfaces.get(&entry.netns_identity) == Some(&1);
    old.retain(|entry| {
        let lacks = match entry.table {
            None => true,
            // The first one of 0.1.1.
            Some(table) => table == TABLE_MAIN && !alone(entry),
        };
        lacks && pods.contains(&entry.netns_identity)
    });
    if old.is_empty() {
        return Ok(());
    }
    let mut failures = Failures::default();
    let links = match link::all(host) {
        Ok(links) => links,
        Err(error) => {
            old.iter().for_each(|entry| failures.add(entry, &error));
            return failures.told();
        }
    };
    let known = HostLinks::new(&links);
    for entry in &old {
        // Without a link it is gone.
        let Some(host_link) = known.of(entry) else { continue };
        let alone = alone(entry);
        match sandbox::of_entry(entry) {
            Ok(Some(mut sandbox)) => {
                if let Err(error) = visit(&mut sandbox, &Old { entry, host_link, alone }) {
                    failures.add(entry, &error);
                }
            }
            Err(error) => failures.add(entry, &error),
            Ok(None) => {
                if !alone || entry.ifname != FIRST_IFNAME {
                    let reason = format!("{} leads no longer to its namespace", entry.netns);
                    failures.add(entry, &reason);
                }
            }
        }
    }
    failures.told()
}

/// The pods of 0.1 that could not be given what they need.
#[derive(Default)]
struct Failures(Vec<NotUpgraded>);

impl Failures {
    /// One that 0.1.1 attached answers right, until its default route is moved.
    fn add(&mut self, entry: &Entry, reason: &dyn fmt::Display) {
        let failed = NotUpgraded {
            pod: entry.pod().unwrap_or_else(|| entry.container_id.clone()),
            ifname: entry.ifname.clone(),
            reason: reason.to_string(),
        };
        match entry.table {
            None => self.0.push(failed),
            Some(_) => log::warn!("{failed}: it answers by the pod's default route alone"),
        }
    }

    fn told(self) -> Result<(), Vec<NotUpgraded>> {
        if self.0.is_empty() { Ok(()) } else { Err(self.0) }
    }
}

fn upgrade(sandbox: &mut Sandbox, config: &Config, old: &Old<'_>) -> Result<(), Error> {
    let Old { entry, host_link, alone } = *old;
    let pod = &mut sandbox.socket;
    let links = link::all(pod).map_err(kernel)?;
    let is_own =
        |link: &&Link| link.name == entry.ifname && host_link.peer_index == Some(link.index);
    let others = links.iter().filter(|link| link.name != entry.ifname);
    let leads_out = |link: &Link| {
        let kind = link.kind.as_deref().unwrap_or_default();
        link.up && !link.loopback && !NO_WAY_OUT.contains(&kind)
    };
    let several = others.clone().any(leads_out);
    let Some(own) = links.iter().find(is_own).filter(|_| several) else { return Ok(()) };
    complete(pod, config, own.index, &entry.addresses, alone).map(|_| ())
}
