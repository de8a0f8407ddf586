// SPDX-License-Identifier: Apache-2.0
//! That the node forwards the packets of its live pods, and heeds its routers all the
//! same: no pod's link shows it, and anybody may reset it.

use super::Repair;
use crate::{
    conf::Config,
    family::{Family, HasFamily},
    list::{Gather, PushAll},
    net::{
        Error, Socket, Tables, forwarding,
        sysctl::{self, Sysctl},
    },
    object::{Change, Step},
    pod::identity::HostLinks,
    state::{Entry, Journal, Root, journal},
};

/// What live attachments lack of it: those of networks that `manage` forwarding, and
/// nothing that is `known` elsewhere.
pub fn lacking(
    root: &Root,
    tables: &Tables,
    manage: &dyn Fn(&str) -> bool,
    known: &[Sysctl],
) -> Vec<Repair> {
    let mut entries = journal::all(root);
    entries.retain(|entry| manage(&entry.network));
    let mut repairs = Vec::new();
    for family in Family::BOTH {
        let key = forwarding::key(family);
        let mut of_family = entries.iter().filter(|entry| has_family(entry, family)).peekable();
        if of_family.peek().is_none() || known.iter().any(|sysctl| sysctl.key == key) {
            continue;
        }
        // First: a router that begins to forward forgets what it was told.
        let mut wanted = if family == Family::V6 { heeding(tables) } else { Vec::new() };
        wanted.push(Sysctl::new(key, 1));
        wanted.retain(|wanted| !sysctl::holds(wanted));
        if wanted.is_empty() {
            continue;
        }
        let known = HostLinks::new(&tables.links);
        if let Some(entry) = of_family.find(|entry| known.of(entry).is_some()) {
            repairs.push_all(wanted.into_iter().map(|sysctl| Repair {
                network: entry.network.clone(),
                link: String::new(),
                index: 0,
                change: Change::Sysctl(Step::Create(sysctl)),
            }));
        }
    }
    repairs
}

fn heeding(tables: &Tables) -> Vec<Sysctl> {
    let learned = forwarding::learned(tables.advertised.iter().copied(), tables.routes(Family::V6));
    forwarding::heeding_all(&tables.links, &learned)
}

/// Turns on what a network's live pods need, where the node has no fabric that does;
/// returns what was restored. All is looked at only where a family lacks it that the
/// network has by its ranges, else by one of its pods.
///
/// # Errors
/// Of the kernel's answers.
pub fn restore(config: &Config, root: &Root, host: &mut Socket) -> Result<Vec<String>, Error> {
    let network = &config.name;
    let mut families: Vec<Family> = config.own_ranges.iter().map(HasFamily::family).gather();
    if families.is_empty() {
        let entry = Journal::new(root, network).any();
        families = entry.iter().flat_map(|entry| &entry.addresses).map(HasFamily::family).gather();
    }
    let lacks = |family: &Family| !sysctl::holds(&Sysctl::new(forwarding::key(*family), 1));
    if !Family::BOTH.iter().any(|family| families.contains(family) && lacks(family)) {
        return Ok(Vec::new());
    }
    let tables = Tables::of_kernel(host)?;
    let repairs = lacking(root, &tables, &|name| name == *network, &[]);
    match super::restore(host, &repairs).into_iter().find_map(|(_, error)| error) {
        Some(error) => Err(error),
        None => Ok(repairs.iter().map(|repair| repair.told().to_string()).gather()),
    }
}

fn has_family(entry: &Entry, family: Family) -> bool {
    entry.addresses.iter().any(|address| address.family() == family)
}
