// SPDX-License-Identifier: Apache-2.0
//! What a table's rules are known by that nobody describes: to describe them and to take the
//! digest cost an ADD more than its pod's link.

use super::seal::Seal;
use super::table::{Hook, Table};

/// The chains of a table, and its seal.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Outline {
    pub(super) chains: Vec<ChainOutline>,
    pub(super) seal: Seal,
}

/// What the kernel says of a chain without its rules.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct ChainOutline {
    pub(super) name: &'static str,
    pub(super) hook: Option<Hook>,
    pub(super) rules: usize,
    /// How often the kernel counts it as used: once for each of its rules, and once for each
    /// rule that leads to it.
    pub(super) uses: usize,
}

impl Outline {
    /// Of a table without rules, which has a form, with such chains.
    pub(super) fn of(table: &Table, chains: Vec<ChainOutline>) -> Self {
        let rules = chains.iter().map(|chain| chain.rules).sum();
        Self { seal: Seal::of(table, chains.len(), rules), chains }
    }
}
