// SPDX-License-Identifier: Apache-2.0
//! What is made inside a pod's namespace, and what has to be removed there.
//!
//! Addresses, routes and neighbours go with the link. Rules do not: whoever
//! removes a link removes the rules that led to its table.

use nix::errno::Errno;

use super::{
    Error, facts, kernel,
    sandbox::{self, Sandbox},
};
use crate::{
    list::{Gather, PushAll},
    net::{
        self, Request, Socket, forwarding, link,
        route::TABLE_MAIN,
        rule::Rule,
        sysctl::{self, Sysctl},
    },
    pod::{Attachment, Side, routing},
    state::Entry,
};

/// What became of a pod's side.
#[derive(Debug)]
pub(crate) enum Made {
    /// It is there.
    Whole,
    /// But for routes, or rules, that somebody has made meanwhile.
    Overtaken(net::Error),
}

/// Makes it all, and removes what interfaces left that are gone.
///
/// # Errors
/// `Kernel` with what the kernel refused.
pub(crate) fn make(
    sandbox: &mut Sandbox,
    wanted: &Attachment,
    index: u32,
    leftovers: &[Rule],
) -> Result<Made, Error> {
    let side = &wanted.pod_side;
    let lacking = forwarding::lacking(&mut sandbox.socket, &side.objects.sysctls);
    if !lacking.is_empty() {
        sandbox.within(|| ensure_all(&lacking)).map_err(kernel)??;
    }
    let name = &wanted.pod.name;
    let mut requests: Vec<Request> = leftovers.iter().map(Rule::delete).gather();
    requests.push_all(wanted.has_ipv6().then(|| link::without_generated_address(name)));
    requests.push(link::set_up(name));
    apply(&mut sandbox.socket, requests, side, index)
}

/// Makes the routes and rules alone.
///
/// # Errors
/// `Kernel` with what the kernel refused.
pub(crate) fn make_routes(pod: &mut Socket, side: &Side, index: u32) -> Result<Made, Error> {
    apply(pod, Vec::new(), &side.ways(), index)
}

fn apply(
    pod: &mut Socket,
    mut requests: Vec<Request>,
    side: &Side,
    index: u32,
) -> Result<Made, Error> {
    let mut meanwhile = vec![false; requests.len()];
    for (request, may_be_there) in side.making(index) {
        requests.push(request);
        meanwhile.push(may_be_there);
    }
    let failures = pod.apply_all(&requests);
    // What fails behind the first failure is its consequence: a default route without
    // the way to its next hop.
    match failures.into_iter().next() {
        None => Ok(Made::Whole),
        Some(failed)
            if meanwhile.get(failed.at) == Some(&true) && failed.error.errno == Errno::EEXIST =>
        {
            Ok(Made::Overtaken(failed.error))
        }
        Some(failed) => Err(kernel(failed.error)),
    }
}

/// Removes the routes and rules of a link that stays.
///
/// # Errors
/// `Kernel` with what the kernel refused.
pub(crate) fn unmake_routes(pod: &mut Socket, side: &Side, index: u32) -> Result<(), Error> {
    pod.apply(&side.ways().removal(index)).map_err(kernel)
}

/// Removes the rules of an attachment whose link is gone: those that its entry
/// tells; without an entry, or with one of manx 0.1, those that no interface needs.
///
/// # Errors
/// `Kernel` with what the kernel refused.
pub(crate) fn forget(pod: &mut Socket, entry: Option<&Entry>) -> Result<(), Error> {
    let rules = match entry.and_then(|entry| Some((entry, entry.table?))) {
        Some((_, TABLE_MAIN)) => return Ok(()),
        Some((entry, table)) => routing::rules(Some(table), &entry.addresses),
        None => {
            let rules = facts::rules(pod)?;
            facts::leftovers(pod, rules, &[])?
        }
    };
    pod.apply(&rules.iter().map(Rule::delete).gather()).map_err(kernel)
}

/// As [`forget`], for a call that does not name the pod's namespace.
///
/// # Errors
/// As [`forget`], and of entering a namespace that is still there.
pub(crate) fn forget_noted(entry: &Entry) -> Result<(), Error> {
    if entry.table == Some(TABLE_MAIN) {
        return Ok(());
    }
    let sandbox = sandbox::of_entry(entry)?;
    sandbox.map_or(Ok(()), |mut sandbox| forget(&mut sandbox.socket, Some(entry)))
}

/// Gives each parameter its value.
///
/// # Errors
/// `Kernel` with what the kernel refused.
pub(crate) fn ensure_all(sysctls: &[Sysctl]) -> Result<(), Error> {
    sysctls.iter().try_for_each(|wanted| sysctl::ensure(wanted).map(|_| ())).map_err(kernel)
}
