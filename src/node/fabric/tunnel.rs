// SPDX-License-Identifier: Apache-2.0
//! The nftables table of a fabric with tunnels: packets in a tunnel are taken from
//! peers alone, and pods make none.

use std::net::IpAddr;

use super::{
    super::{Error, kernel, refused, table},
    agreement::summary,
    applied::Applied,
    state::FabricState,
};
use crate::{
    conf::Config,
    fabric::{Peers, encapsulation},
    list::Gather,
    net::{Socket, Tables},
    nft::{self, Carrier, Table, Tunnel},
    object::{self, Change, HeldTable},
    pod::identity::GROUPS,
    state::Root,
};

/// What the table is called, before the fabric's route protocol. The tables of
/// networks have another prefix.
pub(super) const PREFIX: &str = "manx.fabric-";

/// The table that a fabric asks for, beside the kernel's.
#[derive(Clone, Debug)]
pub struct TunnelTable {
    wanted: object::Table,
    held: HeldTable,
    /// A number for the addresses that it lists.
    listed: u64,
    /// Why the kernel's is not known.
    unknown: Option<String>,
}

impl TunnelTable {
    /// Compares the kernel's table with what the configuration and these peers ask
    /// for; `None` where packets between nodes travel as they are.
    ///
    /// # Errors
    /// `Kernel` for a table that cannot be described.
    pub(super) fn of(config: &Config, peers: &Peers) -> Result<Option<Self>, Error> {
        let Some(table) = of_peers(config, peers)? else { return Ok(None) };
        let purpose = purpose(peers.others.iter().map(|node| node.addresses.len()).sum());
        let (differences, unknown) = match nft::differences(&table) {
            Ok(differences) => (differences, None),
            Err(error) => (Vec::new(), Some(unguarded(&error))),
        };
        let (name, listed) = (table.name.clone(), table.followed());
        let held = HeldTable { name: name.clone(), differences };
        let wanted = object::Table { name, purpose, description: Some(Box::new(table)) };
        Ok(Some(Self { wanted, held, listed, unknown }))
    }

    /// What is to be changed.
    pub fn change(&self) -> Option<Change> {
        table::change(&self.wanted, &self.held)
    }

    /// What is wanted, and what is held.
    pub fn compared(&self) -> (&object::Table, &HeldTable) {
        (&self.wanted, &self.held)
    }

    /// A number for the addresses that it lists.
    pub(super) fn listed(&self) -> u64 {
        self.listed
    }

    /// In what the kernel's table differs.
    pub(super) fn differences(&self) -> &[String] {
        &self.held.differences
    }

    /// Makes the table what it should be; else says what the node does without. A kernel without
    /// nf_tables has tunnels all the same. One that is as it should be and not known by its seal is
    /// made anew if it `renews_notes`.
    pub(super) fn restore(&self, renews_notes: bool) -> Option<String> {
        let wanted = self.wanted.description.as_deref()?;
        let is_right = self.change().is_none();
        if self.unknown.is_some()
            || is_right && (!renews_notes || nft::is_intact(&wanted.seal()) != Ok(false))
        {
            return self.unknown.clone();
        }
        nft::ensure(wanted).err().filter(|_| !is_right).map(|error| unguarded(&error))
    }

    /// Takes packets from these peers as well, beside all that the kernel's table has;
    /// `None` where it does not.
    pub(super) fn admit(config: &Config, peers: &Peers) -> Option<()> {
        match of_peers(config, peers).ok()? {
            Some(table) => nft::include(&table).ok(),
            None => Some(()),
        }
    }
}

fn purpose(peers: usize) -> String {
    match peers {
        0 => "pods put no packets into tunnels".to_owned(),
        1 => "tunnels take packets from 1 address of a peer".to_owned(),
        many => format!("tunnels take packets from {many} addresses of peers"),
    }
}

/// Whether the table is as it was made, and lists whom the last pass made it list: by
/// one message and one for each set.
pub(super) fn is_intact(config: &Config, applied: &Applied) -> Result<bool, Error> {
    let anybody = applied.has_peers.then_some(IpAddr::from([0; 4]));
    let Some(table) = described(config, anybody.into_iter().gather(), Vec::new())? else {
        return Ok(true);
    };
    // Where there can be none, none is missing.
    let lists = |number| nft::is_followed(&table, number).unwrap_or(true);
    Ok(nft::is_intact(&table.seal()).unwrap_or(true) && applied.tunnel_listed.is_none_or(lists))
}

/// Makes the table what the list asks for that was applied last: somebody may have flushed or
/// changed it. Where the fabric that was applied last had no such table, or is to be another one by
/// now, nothing is done: that is for a pass.
///
/// # Errors
/// `Kernel` if the kernel does not tell where this node is.
pub(crate) fn restore(config: &Config, root: &Root, host: &mut Socket) -> Result<(), Error> {
    let state = FabricState::last_of(config, root);
    let applied = state.applied().filter(|applied| applied.tunnel_listed.is_some());
    let Some(applied) = applied else { return Ok(()) };
    let tables = Tables::of_kernel(host).map_err(kernel)?;
    let Some((config, peers)) = state.last(config, &tables) else { return Ok(()) };
    if summary(&config) != applied.summary {
        return Ok(());
    }
    let Some(table) = of_peers(&config, &peers)? else { return Ok(()) };
    if let Err(error) = nft::ensure(&table) {
        let told = unguarded(&error);
        if !applied.told.contains(&told) {
            log::warn!("{told}");
        }
    }
    Ok(())
}

/// Removes the table of a fabric; false if there was none.
///
/// # Errors
/// `Kernel` with what nf_tables refused.
pub fn remove(protocol: u8) -> Result<bool, Error> {
    nft::remove(&name(protocol)).map_err(refused)
}

/// The name of a fabric's table.
pub fn name(protocol: u8) -> String {
    format!("{PREFIX}{protocol}")
}

fn of_peers(config: &Config, peers: &Peers) -> Result<Option<Table>, Error> {
    let addresses = peers.others.iter().flat_map(|node| node.addresses.iter().copied());
    described(config, addresses.gather(), peers.me.addresses.clone())
}

fn described(
    config: &Config,
    peers: Vec<IpAddr>,
    own: Vec<IpAddr>,
) -> Result<Option<Table>, Error> {
    let carriers = carriers(config);
    if carriers.is_empty() {
        return Ok(None);
    }
    let tunnel = Tunnel {
        table: name(config.fabric.protocol),
        host_link_groups: GROUPS,
        carriers,
        peers,
        own,
    };
    tunnel.describe().map(Some).map_err(refused)
}

/// How packets of peers may come.
fn carriers(config: &Config) -> Vec<Carrier> {
    let accepted = config.fabric.file.accepted();
    let ways = [(config.mode, &config.fabric)].into_iter();
    let ways = ways.chain(accepted.iter().map(|(mode, keys)| (*mode, keys)));
    let all = ways.filter_map(|(mode, keys)| Some(encapsulation::of(mode)?.carrier(keys)));
    let mut carriers: Vec<Carrier> = all.gather();
    // One device carries both where they differ in what travels plainly alone.
    carriers.dedup();
    carriers
}

fn unguarded(error: &nft::Error) -> String {
    format!("tunnels take packets from everybody: {error}; {}", error.next_step())
}
