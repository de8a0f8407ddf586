// SPDX-License-Identifier: Apache-2.0
//! Addresses that this node gives out beside the pod CIDRs of the peers file.
//!
//! What would cut off another node's pods is refused: ranges before IPAM is
//! asked, an address once it was given, for only then it is known of an IPAM
//! plugin that has its ranges elsewhere.

use std::{fs, net::IpAddr};

use super::{
    Call,
    fabric::{Applied, FabricState},
    kernel, liveness,
};
use crate::{
    cni::{Code, Error},
    conf::{IpamKeys, has_store},
    fabric::pools::{Cidrs, Misfit},
    list::Gather,
    net::{
        Socket,
        link::{self, Link},
    },
    node::pools::{misfits, places},
    pod::identity::{group, of_alias},
    state::{file::TEXT_BYTES_MAX, read_own, replace},
};

/// An IPAM plugin that knows whose each address is in the whole cluster, and lets one node
/// have an address of another's block.
const OF_BLOCKS: &str = "calico-ipam";

/// Calls `look` with what a fabric says of pods.
fn beside<T>(call: &Call, applied: &Applied, look: impl FnOnce(&Cidrs<'_>) -> T) -> T {
    let state = FabricState::new(&call.root, applied.protocol);
    let node = |cidr| state.node_of(cidr).unwrap_or_else(|| "another node".to_owned());
    look(&Cidrs { own: &applied.own_cidrs, all: &|| applied.pod_cidrs(), node: &node })
}

/// Before IPAM is asked. Warns of ranges that are nobody's.
///
/// # Errors
/// Code 7 naming a range, or an address that is asked for, and the node that
/// has it.
pub(super) fn require_own_ranges(call: &Call, applied: &Applied) -> Result<(), Error> {
    let (keys, _) = IpamKeys::read(&call.document, &call.environment.args, call.config.version);
    let misfits = beside(call, applied, |cidrs| {
        let asked = keys.requested.iter();
        let asked = asked.filter_map(|address| cidrs.misfit_of("the requested address", *address));
        let ranges = cidrs.misfits(&places(&keys, &call.config));
        ranges.into_iter().chain(asked.filter(Misfit::is_of_peer)).gather()
    });
    refuse_or_warn(misfits)
}

/// After IPAM has given an address. One outside of the ranges that were looked
/// at is told of.
///
/// # Errors
/// Code 7 naming the address and the node that has it.
pub(super) fn require_own_address(
    call: &Call,
    applied: &Applied,
    address: IpAddr,
) -> Result<(), Error> {
    // The peers file follows the blocks out of which this one gives addresses.
    if call.config.ipam_type == OF_BLOCKS {
        return Ok(());
    }
    let misfit = beside(call, applied, |cidrs| cidrs.misfit_of("IPAM gave", address));
    let told_before = has_store(&call.config.ipam_type);
    refuse_or_warn(misfit.into_iter().filter(|misfit| misfit.is_of_peer() || !told_before))
}

fn refuse_or_warn(misfits: impl IntoIterator<Item = Misfit>) -> Result<(), Error> {
    for misfit in misfits {
        if misfit.is_of_peer() {
            return Err(refusal(Code::INVALID_CONFIG, &misfit));
        }
        log::warn!("{misfit}");
    }
    Ok(())
}

fn refusal(code: Code, misfit: &Misfit) -> Error {
    Error::new(code, misfit.to_string()).details(misfit.fix())
}

/// A node without live pods of this network is not ready with ranges that are not its
/// own. One that has some is told once: they would suffer for a node that is not ready.
///
/// # Errors
/// Code 50 with the first range that is wrong; of the kernel's answers.
pub(super) fn status(call: &Call, host: &mut Socket, applied: &Applied) -> Result<(), Error> {
    let misfits = beside(call, applied, |cidrs| misfits(&call.document, &call.config, cidrs));
    let said = call.journal().directory().join(".pools");
    let Some(first) = misfits.first() else {
        let _ = fs::remove_file(said);
        return Ok(());
    };
    if !has_live_pods(call, host)? {
        return Err(refusal(Code::UNAVAILABLE, first));
    }
    let text = misfits.iter().map(ToString::to_string).gather().join("; ");
    if read_own(&said, TEXT_BYTES_MAX).unwrap_or_default() != text.as_bytes() {
        log::warn!("{text}: {}", first.fix());
        let _ = replace(&said, text.as_bytes());
    }
    Ok(())
}

/// By the links that are there; where none is this network's by its group or its mark,
/// by all that is left of what the journal has.
fn has_live_pods(call: &Call, host: &mut Socket) -> Result<bool, Error> {
    let links = link::all(host).map_err(kernel)?;
    let network = &call.config.name;
    let named = |link: &Link| link.alias.as_deref().and_then(of_alias);
    let is_ours = |link: &Link| {
        link.group == group(network) || named(link).is_some_and(|named| named.network == *network)
    };
    if links.iter().any(is_ours) {
        return Ok(true);
    }
    for entry in call.journal().entries() {
        if !liveness::of(host, &entry, &links)?.is_gone() {
            return Ok(true);
        }
    }
    Ok(false)
}
