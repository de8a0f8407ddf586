//! The masquerade table of a network, as its configuration asks for it.

use sha1_smol::Sha1;

use crate::{
    cni::{Code, Config, Error},
    nft::{self, Masquerade},
    pod::identity::{GROUPS, group},
};

use super::fabric::Stamp;

/// What a network's table is called: nothing else makes tables of this prefix.
pub(super) const TABLE_PREFIX: &str = "manx-";

/// The table that a configuration asks for, beside the pods of all nodes.
pub(super) fn wanted(config: &Config, fabric: Option<&Stamp>) -> Option<Masquerade> {
    let peers = fabric.map(|fabric| fabric.pod_cidrs.as_slice()).unwrap_or_default();
    config.masquerade.then(|| Masquerade {
        table: table(&config.name),
        source_group: group(&config.name),
        host_link_groups: GROUPS,
        never: [config.never_masqueraded.as_slice(), peers].concat(),
    })
}

/// The name of a network's table: a digest where the kernel does not keep all of it.
pub(super) fn table(network: &str) -> String {
    if TABLE_PREFIX.len() + network.len() <= nft::NAME_BYTES_MAX {
        return format!("{TABLE_PREFIX}{network}");
    }
    format!("{TABLE_PREFIX}sha1-{}", Sha1::from(network).digest())
}

/// What nf_tables refused, as the runtime is told.
pub(super) fn refused(error: nft::Error) -> Error {
    Error::new(Code::KERNEL, error.to_string()).details(error.next_step())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_any_network_has_a_name_of_its_own() {
        let [longest, longer] = [250, 251].map(|length| "n".repeat(length));
        assert_eq!(table("net"), "manx-net");
        assert_eq!(table(&longest), format!("manx-{longest}"));
        assert!(table(&longer).starts_with("manx-sha1-") && table(&longer).len() < 64);
        assert_ne!(table(&longer), table(&(longer.clone() + "n")));
    }
}
