// SPDX-License-Identifier: Apache-2.0
//! Addresses, from whichever plugin `ipam.type` names: our own in this process,
//! another one in its own.

mod adopted;
pub(super) mod annotated;
pub(super) mod audit;
mod builtin;
mod draw;
mod holder;
mod neighbour;
mod place;
pub(super) mod placeholder;
pub(super) mod plugin;
mod pool;
mod refused;
mod status;
mod version;

use std::{net::IpAddr, path::PathBuf, time::Duration};

use ipnetwork::IpNetwork;
use serde_json::Value;

use super::{
    Call, sandbox,
    usable::{Choice, Decide},
};
use crate::{
    cni::{
        AddResult, Code, Command, Document, Environment, Error, cidr,
        delegate::{Delegate, status_unsupported},
        json::member,
    },
    conf::{BUILT_IN, PLUGIN_TYPES, has_placeholder, has_store},
    finding::Finding,
    list::Gather,
    state::{Entry, Root},
};

pub use adopted::{give_back, lease};
use builtin::Recipient;
pub use builtin::{range_sets, resolver};
pub(super) use holder::has_attachment;
pub(super) use place::sweep;
pub use placeholder::own_cidrs_fit;
pub(super) use pool::Pool;
pub(super) use refused::Refused;

/// How long a delegate may take: longer than a DHCP server may (62 s of
/// retries), shorter than a kubelet waits (4 minutes).
const LIMIT: Duration = Duration::from_secs(120);

/// What an ADD got.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) addresses: Vec<IpAddr>,
    pub(super) result: AddResult,
}

/// Allocates. Our own gives no address that `decide` objects to, and goes on with
/// the next; where another plugin gives one, that is an error.
///
/// # Errors
/// The IPAM plugin's own; code 103 if it gave no address, code 101 for one that
/// no pod may have. Nothing stays allocated.
pub(super) fn add(call: &Call, decide: &mut Decide<'_>) -> Result<Lease, Refused> {
    if is_built_in(call) {
        let result = builtin::add(call, decide, Recipient::OurLink)?;
        return Ok(Lease { addresses: addresses(&result), result });
    }
    let result = match has_store(&call.config.ipam_type) {
        true => host_local(call)?,
        false => delegate(call)?.add(
            &call.environment,
            &call.document.bytes,
            call.config.version,
            LIMIT,
        )?,
    };
    let lease = Lease { addresses: addresses(&result), result };
    let outcome = accept(call, &lease, decide);
    outcome.map(|()| lease).map_err(|cause| {
        let errors = [cause.clone()].into_iter().chain(release(call).err()).gather();
        Error::join(errors).unwrap_or(cause).into()
    })
}

fn addresses(result: &AddResult) -> Vec<IpAddr> {
    result.ips.iter().map(|ip| ip.address.ip()).gather()
}

/// Refuses what another plugin gave and no pod may have.
fn accept(call: &Call, lease: &Lease, decide: &mut Decide<'_>) -> Result<(), Error> {
    if lease.addresses.is_empty() {
        let msg = format!("{}: gave no address", call.config.ipam_type);
        return Err(Error::new(Code::DELEGATE, msg)
            .details("a pod needs at least one: see the ipam section"));
    }
    for address in &lease.addresses {
        if let Some(objection) = decide(*address, Choice::Drawn)? {
            return Err(objection.of_lease(*address));
        }
    }
    annotated::require(&call.config, &lease.addresses)
}

/// host-local refuses an attachment that has a lease, also from before the boot.
/// A failed ADD is followed by a DEL, which releases that; so whether to try
/// again is looked up in between.
fn host_local(call: &Call) -> Result<AddResult, Refused> {
    let delegate = delegate(call)?;
    let (environment, bytes) = (&call.environment, &call.document.bytes);
    let version = call.config.version;
    let cause = match delegate.try_add(environment, bytes, version, LIMIT) {
        Ok(result) => return Ok(result),
        Err(cause) => cause,
    };
    let pool = Pool::of(&call.root, &call.config.name, call.document.ipam());
    let inherited = pool.is_from_before_the_boot(environment);
    let undo = delegate.invoke(&Command::Del, environment, bytes, LIMIT).err();
    if inherited && undo.is_none() {
        log::warn!("{}: leases from before the last boot released", environment.container_id);
        return Ok(delegate.add(environment, bytes, version, LIMIT)?);
    }
    let errors = [cause.clone()].into_iter().chain(undo).gather();
    Err(Refused::by_lease(Error::join(errors).unwrap_or(cause)))
}

/// Gives back what this call's ADD got.
///
/// # Errors
/// The delegate's own.
pub(super) fn release(call: &Call) -> Result<(), Error> {
    if is_built_in(call) {
        return builtin::release_own(call, call.document.ipam()).map(|_| ());
    }
    invoke(call, &Command::Del).map(|_| ())
}

/// Whether the addresses of an attachment are in a store that we can read and
/// write ourselves.
pub(super) fn stored(entry: &Entry) -> bool {
    has_store(kind(entry))
}

fn kind(entry: &Entry) -> &str {
    member(&entry.ipam, "type").and_then(Value::as_str).unwrap_or_default()
}

/// Gives back the addresses of an attachment that are in such a store.
///
/// # Errors
/// Of the store.
pub(super) fn release_stored(root: &Root, entry: &Entry) -> Result<(), Error> {
    let pool = Pool::of(root, &entry.network, &entry.ipam);
    builtin::release(&pool, &entry.container_id, &entry.ifname).map(|_| ())
}

/// Gives back the addresses of an attachment that is known from the journal
/// alone, within `limit`.
///
/// # Errors
/// The IPAM plugin's own.
pub(super) fn release_entry(
    root: &Root,
    entry: &Entry,
    environment: &Environment,
    limit: Duration,
) -> Result<(), Error> {
    if kind(entry) == BUILT_IN {
        return release_stored(root, entry);
    }
    // Another plugin attached the pod, and nobody here gave it the address.
    if entry.ipam.is_null() {
        return Ok(());
    }
    let stdin = serde_json::json!({
        "cniVersion": entry.cni_version,
        "name": entry.network,
        "type": "manx",
        "ipam": entry.ipam,
    });
    let delegate = find(kind(entry), &environment.path)?;
    version::del(&delegate, environment, stdin.to_string().as_bytes(), limit)
}

/// Gives back what an attachment got, with the section of its ADD where the
/// present one is broken or gone.
///
/// # Errors
/// The delegate's own; code 7 if neither names a plugin.
pub(super) fn del(call: &Call, entry: Option<&Entry>) -> Result<(), Error> {
    if entry.is_none() {
        remove_empty_leases(call);
    }
    // The reference plugins refuse a DEL with the node's own namespace, after
    // they have done it. There is no namespace to speak of, so none is named.
    let mut environment = call.environment.clone();
    if sandbox::names_the_nodes_own(&environment) {
        environment.netns.clear();
    }
    if let Some(entry) = entry.filter(|entry| entry.network != call.config.name) {
        return release_entry(&call.root, entry, &environment, LIMIT);
    }
    if call.config.ipam_type.is_empty() && entry.is_none() {
        log::warn!("no ipam.type, and no note of an ADD: nothing to release");
        return Ok(());
    }
    let outcome = if call.config.ipam_type.is_empty() {
        Err(Error::new(Code::INVALID_CONFIG, "ipam.type is missing: no address can be released")
            .details("restore the ipam section and repeat the DEL"))
    } else if is_built_in(call) {
        builtin::release_own(call, call.document.ipam()).map(|count| count > 0)
    } else {
        let mut document = call.document.clone();
        if has_placeholder(document.ipam()) {
            placeholder::fill_with_all(&mut document);
        }
        // What the plugin of the ADD speaks, which the list may not say any more.
        if let Some(entry) = entry {
            version::put(&mut document, &entry.cni_version);
        }
        delegate(call)
            .and_then(|delegate| version::del(&delegate, &environment, &document.bytes, LIMIT))
            .map(|()| true)
    };
    let noted = entry.filter(|entry| entry.ipam.is_object() && entry.ipam != *call.document.ipam());
    match (outcome, noted) {
        (Ok(true), _) | (Ok(false), None) => Ok(()),
        (Ok(false), Some(entry)) => release_entry(&call.root, entry, &environment, LIMIT),
        (Err(error), None) => Err(error),
        (Err(error), Some(entry)) => {
            log::warn!("the ipam section releases nothing ({error}); trying that of the ADD");
            release_entry(&call.root, entry, &environment, LIMIT)
        }
    }
}

/// Frees what a killed host-local left unusable: opening its store does. An ADD
/// that was not killed is in the journal, so this need not be looked for on
/// every DEL.
fn remove_empty_leases(call: &Call) {
    if !has_store(&call.config.ipam_type) {
        return;
    }
    let pool = Pool::of(&call.root, &call.config.name, call.document.ipam());
    if pool.directory().is_dir()
        && let Err(error) = pool.open()
    {
        log::warn!("look for empty leases: {error}");
    }
}

/// The directory of a network's leases, where its IPAM section is ours or host-local's.
pub fn leases_of(root: &Root, network: &str, ipam: &Value) -> PathBuf {
    Pool::of(root, network, ipam).directory().to_owned()
}

/// Has the delegate check its part. Where it objects, it is asked again with
/// the addresses as it gave them, since the result tells them with our mask and
/// without its gateway, and some compare (static does).
///
/// # Errors
/// The delegate's own.
pub(super) fn check(call: &Call, entry: Option<&Entry>) -> Result<(), Error> {
    if is_built_in(call) {
        return builtin::check(call);
    }
    let mut document = call.document.clone();
    if let Some(entry) = entry {
        version::put(&mut document, &entry.cni_version);
    }
    let ask = |stdin: &[u8]| {
        delegate(call)?.invoke(&Command::Check, &call.environment, stdin, LIMIT).map(|_| ())
    };
    let Err(error) = ask(&document.bytes) else { return Ok(()) };
    match entry.and_then(|entry| as_given(&document, &entry.lease)) {
        Some(stdin) => ask(&stdin),
        None => Err(error),
    }
}

/// The configuration with the masks and gateways of `lease` put back into
/// prevResult; `None` where that has no such list.
fn as_given(document: &Document, lease: &[(IpNetwork, Option<IpAddr>)]) -> Option<Vec<u8>> {
    let mut object = document.object.clone();
    let ips = object.get_mut("prevResult")?.get_mut("ips")?.as_array_mut()?;
    for ip in ips.iter_mut().filter_map(Value::as_object_mut) {
        let address = ip.get("address").and_then(Value::as_str);
        let address = address.and_then(|text| cidr::parse(text).ok())?.ip();
        let given = lease.iter().find(|(network, _)| network.ip() == address);
        if let Some((network, gateway)) = given {
            ip.insert("address".into(), network.to_string().into());
            ip.remove("gateway");
            ip.extend(gateway.map(|gateway| ("gateway".to_owned(), gateway.to_string().into())));
        }
    }
    Some(Value::Object(object).to_string().into_bytes())
}

/// Has the delegate collect its garbage. One that does not know how has done
/// what it can.
///
/// # Errors
/// The delegate's own.
pub(super) fn gc(call: &Call) -> Result<(), Error> {
    if is_built_in(call) {
        // What no attachment has was released under the network's lock.
        return Ok(());
    }
    remove_empty_leases(call);
    match invoke(call, &Command::Gc) {
        Err(error) if !status_unsupported(&error) => Err(error),
        _ => Ok(()),
    }
}

/// Asks the delegate whether it would serve an ADD. One that does not know the
/// question has no objection. Returns what an operator should know all the same.
///
/// # Errors
/// The IPAM plugin's own; code 50 if there is no such plugin.
pub(super) fn status(call: &Call, decide: &mut Decide<'_>) -> Result<Vec<Finding>, Error> {
    if is_built_in(call) {
        return status::status(call, decide);
    }
    let delegate = delegate(call).map_err(|error| match error.code {
        Code::INVALID_CONFIG => error,
        _ => error.code(Code::UNAVAILABLE),
    })?;
    delegate
        .status(&call.environment, &call.document.bytes, call.config.version, LIMIT)
        .map(|()| Vec::new())
}

fn is_built_in(call: &Call) -> bool {
    call.config.ipam_type == BUILT_IN
}

fn invoke(call: &Call, command: &Command) -> Result<Option<Value>, Error> {
    delegate(call)?.invoke(command, &call.environment, &call.document.bytes, LIMIT)
}

fn delegate(call: &Call) -> Result<Delegate, Error> {
    find(&call.config.ipam_type, &call.environment.path)
}

/// Finds an IPAM plugin that is not this program: we would call ourselves without
/// end. A copy by another name finds that out itself.
///
/// # Errors
/// Code 7 for this program; as [`Delegate::find`].
fn find(kind: &str, path: &[PathBuf]) -> Result<Delegate, Error> {
    if PLUGIN_TYPES.contains(&kind) {
        return Err(itself(&format!("ipam.type {kind:?} is this plugin itself")));
    }
    let delegate = Delegate::find(kind, path)?;
    if delegate.is_this_program() {
        let binary = delegate.binary.display();
        return Err(itself(&format!(
            "ipam.type {kind:?} is {binary}, which is this plugin itself"
        )));
    }
    Ok(delegate)
}

/// Refuses an IPAM plugin that is this program, before anything is done. One that
/// is not to be found is told when it is needed.
///
/// # Errors
/// Code 7.
pub(super) fn require_foreign(call: &Call) -> Result<(), Error> {
    if is_built_in(call) || call.config.ipam_type.is_empty() {
        return Ok(());
    }
    match delegate(call) {
        Err(error) if error.code == Code::INVALID_CONFIG => Err(error),
        _ => Ok(()),
    }
}

/// The error of a plugin that would call itself.
pub(super) fn itself(msg: &str) -> Error {
    let details = format!("name an IPAM plugin in ipam.type, such as {BUILT_IN}");
    Error::new(Code::INVALID_CONFIG, msg).details(details)
}
