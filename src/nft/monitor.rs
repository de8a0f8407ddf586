// SPDX-License-Identifier: Apache-2.0
//! Tells that something about a table has changed. Changes to the tables of others,
//! which some firewalls make all the time, tell nothing.

use super::abi::{NFNLGRP_NFTABLES, NFTA_TABLE_NAME};
use super::error::Error;
use super::message::object;
use crate::netlink::{
    Answer, Monitor, Netfilter,
    attribute::{find, string},
};

/// Subscribes to the changes of the tables of these names, of any family, in the
/// calling thread's network namespace.
///
/// # Errors
/// The failing system call.
pub fn subscribe(tables: Vec<String>) -> Result<Monitor, Error> {
    let concerns = move |event: &Answer<'_>| is_about(event, &tables);
    Ok(Monitor::open::<Netfilter>(&[NFNLGRP_NFTABLES], "changes of nf_tables", concerns)?)
}

/// Whether an event is about a table of these names. Tables, and all that is in one,
/// have its name under the same number (`NFTA_TABLE_NAME`, `NFTA_CHAIN_TABLE`,
/// `NFTA_RULE_TABLE` and so on). Only the event that ends a transaction has something
/// else there, a number of four bytes.
pub(super) fn is_about(event: &Answer<'_>, tables: &[String]) -> bool {
    let name = object(event).ok().and_then(|(_, attributes)| find(attributes, NFTA_TABLE_NAME));
    name.is_some_and(|name| tables.contains(&string(name)))
}
