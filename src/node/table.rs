// SPDX-License-Identifier: Apache-2.0
//! One table of nf_tables: what that of a network is called, and one that is held beside the
//! one that is wanted.

use sha1_smol::Sha1;

use crate::{
    nft,
    object::{Change, HeldObjects, HeldTable, Objects, Step, Table, Told, difference},
};

/// What a network's table is called: nothing else makes tables of this prefix.
pub(crate) const PREFIX: &str = "manx-";
/// What it is called where the network's name is too long for that.
const PREFIX_OF_DIGESTS: &str = "manx.";

/// The name of a network's table.
pub fn name(network: &str) -> String {
    let name = format!("{PREFIX}{network}");
    if name.len() <= nft::NAME_BYTES_MAX {
        return name;
    }
    format!("{PREFIX_OF_DIGESTS}{}", Sha1::from(network).digest())
}

/// What makes of the table that is held the one that is wanted.
pub fn change(wanted: &Table, held: &HeldTable) -> Option<Change> {
    let wanted = Objects { tables: vec![wanted.clone()], ..Objects::default() };
    let held = HeldObjects { tables: vec![held.clone()], ..HeldObjects::default() };
    difference(&wanted, &held).pop()
}

/// The removal of a table of ours.
pub fn removed(name: &str) -> Told {
    Change::Table(Step::Delete(HeldTable::named(name))).told()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_network_has_a_table_of_its_own() {
        assert_eq!(name("pods"), "manx-pods");
        let (fits, long) = ("n".repeat(250), "n".repeat(251));
        assert_eq!(name(&fits).len(), nft::NAME_BYTES_MAX);
        assert_ne!(name(&long), name(&format!("{long}n")));
        // No shorter name comes to the same.
        assert!(name(&long).len() <= nft::NAME_BYTES_MAX && !name(&long).starts_with(PREFIX));
    }
}
