//! Addresses, from whichever plugin `ipam.type` names: our own in this process,
//! another one in its own.

pub(super) mod audit;
mod builtin;
mod holder;
pub(super) mod placeholder;
pub(super) mod plugin;

use std::{net::IpAddr, path::PathBuf, time::Duration};

use ipnetwork::IpNetwork;
use serde_json::Value;

use super::{Call, sandbox};
use crate::{
    cni::{
        AddResult, Code, Command, Environment, Error, cidr,
        delegate::{Delegate, status_unsupported},
        json::member,
    },
    ipam::store::{self, DATA_DIR},
    state::{Entry, Root},
};

use builtin::Giving;
pub(super) use builtin::Pool;
pub use builtin::range_sets;
pub(super) use holder::has_attachment;

/// How long a delegate may take: longer than a DHCP server may (62 s of
/// retries), shorter than a kubelet waits (4 minutes).
const LIMIT: Duration = Duration::from_secs(120);

/// The reference IPAM plugin.
const HOST_LOCAL: &str = "host-local";
/// Ours, which is served here.
pub const BUILT_IN: &str = "manx-ipam";
/// The names of the plugin itself: as shipped, and as a node has it that ran Calico.
pub const PLUGIN_TYPES: [&str; 2] = ["manx", "calico"];

/// Whether an IPAM plugin keeps its leases in host-local's store.
pub fn has_store(ipam_type: &str) -> bool {
    matches!(ipam_type, HOST_LOCAL | BUILT_IN)
}

/// Where the notes of all stores are.
fn all_hints(root: &Root) -> PathBuf {
    root.runtime().join(".leases")
}

/// Removes the notes of stores that are no more.
pub(super) fn sweep(root: &Root) {
    store::sweep_hints(&all_hints(root));
}

/// What an ADD got.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) addresses: Vec<IpAddr>,
    pub(super) result: AddResult,
}

/// Allocates. Our own gives no address of `never`.
///
/// # Errors
/// The IPAM plugin's own; code 103 if it gave no address. Nothing stays
/// allocated.
pub(super) fn add(call: &Call, never: &[IpAddr]) -> Result<Lease, Error> {
    let result = if is_built_in(call) {
        builtin::add(call, never, Giving::ToOurs)?
    } else {
        let delegate = delegate(call)?;
        delegate.add(&call.environment, &call.document.bytes, call.config.version, LIMIT)?
    };
    let addresses: Vec<IpAddr> = result.ips.iter().map(|ip| ip.address.ip()).collect();
    if addresses.is_empty() {
        let empty =
            Error::new(Code::DELEGATE, format!("{}: gave no address", call.config.ipam_type))
                .details("a pod needs at least one: see the ipam section");
        return Err(match release(call) {
            Ok(()) => empty,
            Err(undo) => Error::join(vec![empty.clone(), undo]).unwrap_or(empty),
        });
    }
    Ok(Lease { addresses, result })
}

/// Gives back what this call's ADD got.
///
/// # Errors
/// The delegate's own.
pub(super) fn release(call: &Call) -> Result<(), Error> {
    if is_built_in(call) {
        return release_own(call, call.document.ipam()).map(|_| ());
    }
    invoke(call, &Command::Del).map(|_| ())
}

/// Gives back what our own store has for the attachment; returns how many
/// addresses.
fn release_own(call: &Call, ipam: &Value) -> Result<usize, Error> {
    let pool = Pool::of(&call.root, &call.config.name, ipam);
    builtin::release(&pool, &call.environment.container_id, &call.environment.ifname)
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
    let kind = member(&entry.ipam, "type").and_then(Value::as_str).unwrap_or_default();
    if kind == BUILT_IN {
        let pool = Pool::of(root, &entry.network, &entry.ipam);
        return builtin::release(&pool, &entry.container_id, &entry.ifname).map(|_| ());
    }
    let stdin = serde_json::json!({
        "cniVersion": entry.cni_version,
        "name": entry.network,
        "type": "manx",
        "ipam": entry.ipam,
    });
    let delegate = find(kind, &environment.path)?;
    let stdin = stdin.to_string();
    delegate.invoke(&Command::Del, environment, stdin.as_bytes(), limit).map(|_| ())
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
    if call.config.ipam_type.is_empty() && entry.is_none() {
        log::warn!("no ipam.type, and no note of an ADD: nothing to release");
        return Ok(());
    }
    let outcome = if call.config.ipam_type.is_empty() {
        Err(Error::new(Code::INVALID_CONFIG, "ipam.type is missing: no address can be released")
            .details("restore the ipam section and repeat the DEL"))
    } else if is_built_in(call) {
        release_own(call, call.document.ipam()).map(|count| count > 0)
    } else {
        let mut document = call.document.clone();
        if placeholder::is_in(document.ipam()) {
            placeholder::fill_with_all(&mut document);
        }
        delegate(call).and_then(|delegate| {
            delegate.invoke(&Command::Del, &environment, &document.bytes, LIMIT).map(|_| true)
        })
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

/// Where an IPAM section has its stores. host-local knows no root of ours, so
/// what the section says is taken as it is.
pub(super) fn data_dir(root: &Root, ipam: &Value) -> PathBuf {
    let given = member(ipam, "dataDir").and_then(Value::as_str).filter(|path| !path.is_empty());
    match (given, member(ipam, "type").and_then(Value::as_str)) {
        (Some(given), _) => PathBuf::from(given),
        (None, Some(HOST_LOCAL)) => PathBuf::from(DATA_DIR),
        (None, _) => root.path(DATA_DIR),
    }
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
    let Err(error) = invoke(call, &Command::Check) else { return Ok(()) };
    let Some(stdin) = entry.and_then(|entry| as_given(call, &entry.lease)) else {
        return Err(error);
    };
    delegate(call)?.invoke(&Command::Check, &call.environment, &stdin, LIMIT).map(|_| ())
}

/// The configuration with the masks and gateways of `lease` put back into
/// prevResult; `None` where that has no such list.
fn as_given(call: &Call, lease: &[(IpNetwork, Option<IpAddr>)]) -> Option<Vec<u8>> {
    let mut object = call.document.object.clone();
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
/// question has no objection. Our own gives no address of `never`.
///
/// # Errors
/// The IPAM plugin's own; code 50 if there is no such plugin.
pub(super) fn status(call: &Call, never: &[IpAddr]) -> Result<(), Error> {
    if is_built_in(call) {
        return builtin::status(call, never);
    }
    let delegate = delegate(call).map_err(|error| match error.code {
        Code::INVALID_CONFIG => error,
        _ => Error { code: Code::UNAVAILABLE, ..error },
    })?;
    delegate.status(&call.environment, &call.document.bytes, call.config.version, LIMIT)
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
