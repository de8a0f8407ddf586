// SPDX-License-Identifier: Apache-2.0
//! The nftables table of a network, as its configuration asks for it: what its
//! pods send leaves with the node's address, and what they may not send is
//! dropped.
//!
//! Masquerade is asked for, and without it an ADD fails. The guard is there
//! unasked: a kernel that cannot check gets pods that are not checked, and says
//! so.

use crate::{
    conf::Config,
    list::{Gather, PushAll},
    net::Socket,
    nft::{self, Ensured, Guard, Masquerade, Network, Table},
    object::{self, Change, HeldTable},
    pod::identity::{GROUPS, group},
    policy::TABLE,
    state::{Journal, Root},
};

use super::{
    Error, allowed,
    fabric::{Applied, tunnel},
    refused, table,
    upgrade::{reach_pods, upgrade_pods},
};

pub(crate) use super::table::PREFIX;
pub use super::table::name as table;

/// Whether a table is of a network or a fabric of ours: nobody else's has such a name.
pub fn is_ours(table: &str) -> bool {
    table.starts_with(PREFIX) || table.starts_with("manx.")
}

/// What a configuration asks for, with the pods of all nodes.
pub(crate) fn wanted(config: &Config, fabric: Option<&Applied>) -> Network {
    let mut network = beside_pods(config, fabric);
    if let (Some(masquerade), Some(fabric)) = (&mut network.masquerade, fabric) {
        masquerade.pods = fabric.pod_cidrs();
    }
    network
}

/// The same without the pods. This node's own are of the fabric: a configuration that says
/// `usePodCidr` has them where a pod is added, and not where its file is read.
fn beside_pods(config: &Config, fabric: Option<&Applied>) -> Network {
    let own = fabric.map(|fabric| fabric.own_cidrs.as_slice()).unwrap_or_default();
    let never = config.never_masqueraded.iter().filter(|network| !own.contains(network));
    Network {
        table: table::name(&config.name),
        group: group(&config.name),
        host_link_groups: GROUPS,
        masquerade: config.masquerade.then(|| Masquerade {
            never: never.copied().gather(),
            pods: Vec::new(),
            next_hop: config.gateway,
        }),
        guard: if config.source_check { Guard::Sources } else { Guard::Loopback },
    }
}

/// Makes sure of the table before a pod's link is up: by one message where it is
/// as it was made, which sees whatever a flush or another program's rule set
/// does to it.
///
/// # Errors
/// `Kernel` if the network is masqueraded and the kernel refuses that.
pub(crate) fn ensure(
    config: &Config,
    root: &Root,
    host: &mut Socket,
    fabric: Option<&Applied>,
) -> Result<Option<Ensured>, Error> {
    let noted = fabric.filter(|_| config.masquerade).and_then(Applied::pod_cidrs_digest);
    let pods = noted.unwrap_or_else(|| nft::digest(&[]));
    let seal = beside_pods(config, fabric).seal(&pods).map_err(refused)?;
    if nft::is_intact(&seal) == Ok(true) {
        return Ok(Some(Ensured::Unchanged));
    }
    let (done, notes) = install(&wanted(config, fabric), config, root, host)?;
    notes.iter().for_each(|note| log::warn!("{note}"));
    Ok(done)
}

/// Makes the table what it should be, whatever is missing of it; `None` where
/// there can be none. Returns what it does without, and why.
///
/// # Errors
/// `Kernel` if the network is masqueraded and the kernel refuses that.
pub(crate) fn install(
    network: &Network,
    config: &Config,
    root: &Root,
    host: &mut Socket,
) -> Result<(Option<Ensured>, Vec<String>), Error> {
    let name = &config.name;
    let mut notes = Vec::new();
    let mut network = network.clone();
    // Their answers must leave by the interface that they are from first.
    if network.guard == Guard::Sources
        && let Err(pods) = upgrade_pods(root, config, host)
    {
        notes.push_all(pods.iter().map(|pod| unchecked(name, &pod.to_string())));
        network.guard = Guard::Loopback;
    }
    loop {
        if network.guard == Guard::Off && network.masquerade.is_none() {
            return Ok((None, notes));
        }
        match nft::ensure(&described(&network)?) {
            Ok(done) => {
                if done != Ensured::Unchanged
                    && let Err(error) = allowed::restore(root, name, host)
                {
                    notes.push(format!("{name}: what its pods may send from besides: {error}"));
                }
                return Ok((Some(done), notes));
            }
            Err(error) => {
                let lesser = lesser(network.guard).ok_or_else(|| refused(error.clone()))?;
                // The first refusal says what is missing.
                if notes.is_empty() {
                    notes.push(unchecked(name, &format!("{error}; {}", error.next_step())));
                }
                network.guard = lesser;
            }
        }
    }
}

/// In which ways the table is not what it should be, and what an operator should
/// know besides. A table that does without the check is right where [`install`]
/// made it so, for only what it made bears its seal, and would do so again. Changes
/// nothing.
///
/// # Errors
/// `Kernel` if the network is masqueraded and nf_tables does not answer.
pub(crate) fn differences(
    network: &Network,
    config: &Config,
    root: &Root,
    host: &mut Socket,
) -> Result<Differences, Error> {
    let mut differences = Differences::default();
    match nft::differences(&described(network)?) {
        Ok(found) => differences.found = found,
        Err(error) if network.masquerade.is_none() => {
            differences.note = Some(unchecked(&network.table, &error.to_string()));
        }
        Err(error) => return Err(refused(error)),
    }
    let mut reduced = network.clone();
    while !differences.found.is_empty()
        && let Some(lesser) = lesser(reduced.guard)
        && (lesser > Guard::Off || network.masquerade.is_some())
    {
        reduced.guard = lesser;
        if nft::is_intact(&described(&reduced)?.seal()) == Ok(true) {
            if let (guard, Some(reason)) = attainable(network, config, root, host)?
                && guard == reduced.guard
            {
                differences.found.clear();
                differences.note = Some(unchecked(&network.table, &reason));
            }
            break;
        }
    }
    Ok(differences)
}

/// How closely [`install`] could look at the pods now, and why no closer.
fn attainable(
    network: &Network,
    config: &Config,
    root: &Root,
    host: &mut Socket,
) -> Result<(Guard, Option<String>), Error> {
    let (mut network, mut reason) = (network.clone(), None);
    if network.guard == Guard::Sources
        && let Err(pods) = reach_pods(root, config, host)
    {
        let pods: Vec<String> = pods.iter().map(ToString::to_string).gather();
        reason = Some(pods.join("; "));
        network.guard = Guard::Loopback;
    }
    while let Err(error) = nft::accepts(&described(&network)?)
        && let Some(lesser) = lesser(network.guard)
    {
        reason.get_or_insert_with(|| format!("{error}; {}", error.next_step()));
        network.guard = lesser;
    }
    Ok((network.guard, reason))
}

/// The table of a network with attachments: others flushed it, or the peers have changed.
#[derive(Clone, Debug)]
pub struct NetworkTable {
    config: Config,
    root: Root,
    network: Network,
    wanted: object::Table,
    held: HeldTable,
    note: Option<String>,
}

impl NetworkTable {
    /// The table that the configuration and the applied fabric ask for, beside the
    /// kernel's; `None` if nobody needs it.
    ///
    /// # Errors
    /// `Kernel` if nf_tables is needed and does not answer.
    pub fn of(
        config: &Config,
        root: &Root,
        host: &mut Socket,
        fabric: Option<&Applied>,
    ) -> Result<Option<Self>, Error> {
        if !Journal::new(root, &config.name).has_entries() {
            return Ok(None);
        }
        let network = wanted(config, fabric);
        let Differences { found, note } = differences(&network, config, root, host)?;
        let (name, purpose) = (network.table.clone(), purpose(&network));
        let held = HeldTable { name: name.clone(), differences: found };
        let description = Some(Box::new(described(&network)?));
        let wanted = object::Table { name, purpose, description };
        let (config, root) = (config.clone(), root.clone());
        Ok(Some(Self { config, root, network, wanted, held, note }))
    }

    /// The network.
    pub fn network(&self) -> &str {
        &self.config.name
    }

    /// What is to be changed, as far as is known.
    pub fn change(&self) -> Option<Change> {
        table::change(&self.wanted, &self.held)
    }

    /// What is wanted, and what is held.
    pub fn compared(&self) -> (&object::Table, &HeldTable) {
        (&self.wanted, &self.held)
    }

    /// What an operator should know, and a pass may not be able to change.
    pub fn note(&self) -> Option<&String> {
        self.note.as_ref()
    }

    /// Makes the table what it should be; returns whether something was changed, and
    /// what it does without. One that is right stays, whatever it is known by: of two versions on a
    /// node each pass would make it anew for the other. The next ADD or STATUS does, once.
    ///
    /// # Errors
    /// `Kernel` with what nf_tables refused.
    pub fn restore(&self, host: &mut Socket) -> Result<(bool, Vec<String>), Error> {
        let checks = self.network.guard == Guard::Sources;
        if self.change().is_none()
            && (!checks || upgrade_pods(&self.root, &self.config, host).is_ok())
        {
            return Ok((false, Vec::new()));
        }
        let (done, notes) = install(&self.network, &self.config, &self.root, host)?;
        Ok((matches!(done, Some(Ensured::Installed | Ensured::Repaired)), notes))
    }
}

fn purpose(network: &Network) -> String {
    let check = match network.guard {
        Guard::Sources => "check the pods' source addresses",
        Guard::Loopback | Guard::Off => "no loopback addresses from pods",
    };
    let masquerade = network.masquerade.as_ref().map(|masquerade| {
        let count = masquerade.never.len() + masquerade.pods.len();
        format!(", masquerade but towards {count} networks")
    });
    check.to_owned() + &masquerade.unwrap_or_default()
}

/// Tells when others touch the tables of networks, those of their fabrics' tunnels, or that
/// of network policies.
///
/// # Errors
/// `Kernel` with what the kernel refused.
pub fn monitor<'a>(configs: impl Iterator<Item = &'a Config>) -> Result<nft::Monitor, Error> {
    let names = configs.flat_map(|config| {
        let policies = config.enforces_policy.then(|| TABLE.to_owned());
        [table(&config.name), tunnel::name(config.fabric.protocol)].into_iter().chain(policies)
    });
    nft::subscribe(names.gather()).map_err(refused)
}

/// What [`differences`] found.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Differences {
    /// What an ADD or a repair puts right.
    pub(crate) found: Vec<String>,
    /// What it cannot.
    pub(crate) note: Option<String>,
}

/// The description of a table; its name, from a valid network's, is good.
pub(crate) fn described(network: &Network) -> Result<Table, Error> {
    network.describe().map_err(refused)
}

fn lesser(guard: Guard) -> Option<Guard> {
    match guard {
        Guard::Sources => Some(Guard::Loopback),
        Guard::Loopback => Some(Guard::Off),
        Guard::Off => None,
    }
}

fn unchecked(name: &str, reason: &str) -> String {
    format!("{name}: the source addresses of its pods are not checked: {reason}")
}
