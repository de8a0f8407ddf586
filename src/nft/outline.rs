// SPDX-License-Identifier: Apache-2.0
//! A table's chains and what its rules are known by, for who asks whether they are as they were made
//! and has no other use for them: to describe the rules would cost an ADD more than its pod's link.

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
    /// Of a numbered table without its rules, and its chains.
    pub(super) fn of(table: &Table, chains: Vec<ChainOutline>) -> Self {
        let rules = chains.iter().map(|chain| chain.rules).sum();
        Self { seal: Seal::of(table, chains.len(), rules), chains }
    }
}
