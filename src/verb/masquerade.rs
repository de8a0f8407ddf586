//! The masquerade table of a network, as its configuration asks for it.

use crate::{
    cni::{Code, Config, Error},
    nft::{self, Masquerade},
    pod::identity::{GROUPS, group},
};

/// What a network's table is called: nothing else makes tables of this prefix.
pub(super) const TABLE_PREFIX: &str = "manx-";

/// The table that a configuration asks for.
pub(super) fn wanted(config: &Config) -> Option<Masquerade> {
    config.masquerade.then(|| Masquerade {
        table: table(&config.name),
        source_group: group(&config.name),
        host_link_groups: GROUPS,
        never: config.never_masqueraded.clone(),
    })
}

/// The name of a network's table.
pub(super) fn table(network: &str) -> String {
    format!("{TABLE_PREFIX}{network}")
}

/// What nf_tables refused, as the runtime is told.
pub(super) fn refused(error: nft::Error) -> Error {
    Error::new(Code::KERNEL, error.to_string()).details(error.next_step())
}
