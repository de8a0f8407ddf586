// SPDX-License-Identifier: Apache-2.0
//! STATUS: would an ADD be served now? Asked every few seconds, so it looks at
//! what can fail and at nothing else. Since it would be the first thing an ADD
//! did, the fabric is brought up here, before the first pod needs it; and what
//! was lost of it is restored.

use super::{
    Call, allowed,
    fabric::{self, Applied, Depth},
    file, ipam, kernel, policy, pools, repair, tables,
    usable::Usable,
};
use crate::{
    cni::{Code, Error},
    finding::{Finding, Severity},
    list::{Gather, PushAll},
    net::Socket,
    nft::{self, Ensured},
    state::{directory, probe},
};

/// Returns what an operator should know although ADDs are served.
///
/// # Errors
/// Code 50 with the reason, or what is wrong with the configuration.
pub(super) fn status(call: &Call) -> Result<Vec<Finding>, Error> {
    call.require_sound_config()?;
    ipam::require_foreign(call)?;
    let unavailable = |error: Error| error.code(Code::UNAVAILABLE);
    let mut host = Socket::open().map_err(|error| unavailable(kernel(error)))?;
    let journal = call.journal();
    let state = journal.directory();
    // That it exists says nothing of a file system that is full, or was remounted
    // read-only.
    directory(state)
        .and_then(|()| probe(state))
        .map_err(|error| unavailable(file("write to the state", state, &error)))?;
    if call.config.masquerade {
        nft::available().map_err(|error| unavailable(crate::node::refused(error).into()))?;
    }
    let fabric = fabric::ensure(&call.config, &call.root, &mut host, Depth::Verify);
    let fabric = fabric.map_err(|error| unavailable(error.into()))?;
    let mut notes = restore(call, &mut host, fabric.as_ref()).map_err(unavailable)?;
    fabric.as_ref().map_or(Ok(()), |applied| pools::status(call, &mut host, applied))?;
    let mut usable = Usable::new(&call.root, &call.config, fabric.as_ref(), None);
    let objection = &mut |address, choice| usable.objection(&mut host, address, choice);
    notes.push_all(ipam::status(call, objection)?);
    Ok(notes)
}

/// What somebody flushed is put back, as long as there are pods that need it. Returns
/// what cannot be, and why.
fn restore(
    call: &Call,
    host: &mut Socket,
    fabric: Option<&Applied>,
) -> Result<Vec<Finding>, Error> {
    if !call.journal().has_entries() {
        return Ok(Vec::new());
    }
    if fabric.is_none() && call.config.manage_forwarding {
        let restored = repair::forwarding::restore(&call.config, &call.root, host);
        for change in restored.map_err(kernel)? {
            log::warn!("restored, for pods need it: {change}");
        }
    }
    let network = tables::wanted(&call.config, fabric);
    let (done, notes) = tables::install(&network, &call.config, &call.root, host)?;
    if matches!(done, Some(Ensured::Installed | Ensured::Repaired)) {
        log::warn!("table {} was not as it should be and has been repaired", network.table);
    }
    if call.config.enforces_policy && policy::restore_table(&call.root)? {
        log::warn!(
            "the nftables table of network policies was not as it should be and has been repaired"
        );
    }
    if let Err(error) = allowed::note_if_old(&call.root, &call.config.name) {
        log::warn!("sources allowed to pods may outlive them: {error}");
    }
    let regrouped = repair::regroup(&call.root, &call.config.name, host).map_err(kernel)?;
    if !regrouped.is_empty() {
        let links = regrouped.join(", ");
        log::warn!("the interface group of {links} was another and has been restored");
    }
    let object = format!("nftables table {}", network.table);
    let lost = |note| Finding::new("masquerade-lost", Severity::Warning, object.clone(), note);
    Ok(notes.into_iter().map(lost).gather())
}
