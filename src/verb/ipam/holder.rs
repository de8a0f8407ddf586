// SPDX-License-Identifier: Apache-2.0
//! Whether an attachment of ours has a lease: one answer for the leases of an
//! earlier boot, for a garbage collection and for `manx ipam`.

use crate::{
    ipam::Owner,
    pod::{Identity, identity::of_alias},
    state::Entry,
};

/// Whether the owner of a lease in a network is in its journal, or marked on a
/// link. A lease of host-local's older format is of any interface.
pub(in crate::verb) fn has_attachment<'a>(
    network: &str,
    owner: &Owner,
    entries: &[Entry],
    mut aliases: impl Iterator<Item = &'a str>,
) -> bool {
    // A name that is too long for an alias is a digest there.
    let digest = owner.ifname.as_ref().map(|ifname| {
        let (network, container_id) = (network.to_owned(), owner.container_id.clone());
        Identity { network, container_id, ifname: ifname.clone(), pod: None }.alias()
    });
    let marks = |alias: &str| {
        digest.as_deref() == Some(alias)
            || of_alias(alias).is_some_and(|named| {
                named.network == network && owner.is(&named.container_id, &named.ifname)
            })
    };
    entries.iter().any(|entry| owner.is(&entry.container_id, &entry.ifname)) || aliases.any(marks)
}
