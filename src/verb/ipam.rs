//! Addresses, from whichever plugin `ipam.type` names.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use ipnetwork::IpNetwork;
use serde_json::Value;

use super::{Call, sandbox};
use crate::{
    cni::{
        AddResult, Code, Command, Error, cidr,
        delegate::{Delegate, status_unsupported},
        json::member,
    },
    ipam::store::{DATA_DIR, remove_empty},
    state::Entry,
};

/// How long a delegate may take: longer than a DHCP server may (62 s of
/// retries), shorter than a kubelet waits (4 minutes).
const LIMIT: Duration = Duration::from_secs(120);

/// The reference IPAM plugin.
pub(super) const HOST_LOCAL: &str = "host-local";

/// What an ADD got.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) addresses: Vec<IpAddr>,
    pub(super) result: AddResult,
}

/// Allocates.
///
/// # Errors
/// The delegate's own; code 103 if it gave no address. Nothing stays allocated.
pub(super) fn add(call: &Call) -> Result<Lease, Error> {
    let delegate = delegate(call)?;
    let result =
        delegate.add(&call.environment, &call.document.bytes, call.config.version, LIMIT)?;
    let addresses: Vec<IpAddr> = result.ips.iter().map(|ip| ip.address.ip()).collect();
    if addresses.is_empty() {
        let empty =
            Error::new(Code::DELEGATE, format!("{}: gave no address", delegate.plugin_type))
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
    invoke(call, &Command::Del).map(|_| ())
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
    } else {
        let stdin = without_placeholders(call);
        let stdin = stdin.as_deref().unwrap_or(&call.document.bytes);
        delegate(call).and_then(|delegate| {
            delegate.invoke(&Command::Del, &environment, stdin, LIMIT).map(|_| ())
        })
    };
    let Err(error) = outcome else { return Ok(()) };
    let noted = entry.map(|entry| &entry.ipam).filter(|ipam| ipam.is_object());
    let Some(noted) = noted.filter(|noted| *noted != call.document.ipam()) else {
        return Err(error);
    };
    log::warn!("the ipam section releases nothing ({error}); trying that of the ADD");
    let mut object = call.document.object.clone();
    object.retain(|key, _| !key.eq_ignore_ascii_case("ipam"));
    object.insert("ipam".into(), noted.clone());
    let kind = noted.get("type").and_then(Value::as_str).unwrap_or_default();
    let delegate = Delegate::find(kind, &call.environment.path)?;
    let stdin = Value::Object(object).to_string();
    delegate.invoke(&Command::Del, &environment, stdin.as_bytes(), LIMIT).map(|_| ())
}

/// The configuration with Calico's placeholders for the node's pod CIDR replaced
/// by everything, which is enough to release by container id; `None` where there
/// are none.
fn without_placeholders(call: &Call) -> Option<Vec<u8>> {
    let text = call.document.ipam().to_string();
    let lower = text.to_ascii_lowercase();
    if !lower.contains("\"usepodcidr") {
        return None;
    }
    let mut ipam = call.document.ipam().clone();
    replace_placeholders(&mut ipam);
    let mut object = call.document.object.clone();
    object.retain(|key, _| !key.eq_ignore_ascii_case("ipam"));
    object.insert("ipam".into(), ipam);
    Some(Value::Object(object).to_string().into_bytes())
}

fn replace_placeholders(value: &mut Value) {
    match value {
        Value::String(text) if text.eq_ignore_ascii_case("usePodCidr") => {
            *value = "0.0.0.0/0".into();
        }
        Value::String(text) if text.eq_ignore_ascii_case("usePodCidrIPv6") => {
            *value = "::/0".into();
        }
        Value::Array(items) => items.iter_mut().for_each(replace_placeholders),
        Value::Object(members) => members.values_mut().for_each(replace_placeholders),
        _ => {}
    }
}

/// Frees what a killed host-local left unusable. An ADD that was not killed is
/// in the journal, so this need not be looked for on every DEL.
fn remove_empty_leases(call: &Call) {
    if call.config.ipam_type != HOST_LOCAL {
        return;
    }
    let directory = data_dir(call.document.ipam());
    match remove_empty(&directory.join(&call.config.name)) {
        Ok(0) => {}
        Ok(count) => log::warn!("{count} empty leases of a killed {HOST_LOCAL} freed"),
        Err(error) => log::warn!("look for empty leases in {}: {error}", directory.display()),
    }
}

/// Where host-local keeps its stores by an IPAM section. It knows no root of
/// ours.
pub(super) fn data_dir(ipam: &Value) -> PathBuf {
    let given = member(ipam, "dataDir").and_then(Value::as_str);
    given.filter(|path| !path.is_empty()).map_or_else(|| PathBuf::from(DATA_DIR), PathBuf::from)
}

/// Has the delegate check its part. Where it objects, it is asked again with
/// the addresses as it gave them, since the result tells them with our mask and
/// without its gateway, and some compare (static does).
///
/// # Errors
/// The delegate's own.
pub(super) fn check(call: &Call, entry: Option<&Entry>) -> Result<(), Error> {
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
    remove_empty_leases(call);
    match invoke(call, &Command::Gc) {
        Err(error) if !status_unsupported(&error) => Err(error),
        _ => Ok(()),
    }
}

/// Asks the delegate whether it would serve an ADD. One that does not know the
/// question has no objection.
///
/// # Errors
/// The delegate's own; code 50 if there is no such plugin.
pub(super) fn status(call: &Call) -> Result<(), Error> {
    let delegate = delegate(call).map_err(|error| Error { code: Code::UNAVAILABLE, ..error })?;
    delegate.status(&call.environment, &call.document.bytes, LIMIT)
}

fn invoke(call: &Call, command: &Command) -> Result<Option<Value>, Error> {
    delegate(call)?.invoke(command, &call.environment, &call.document.bytes, LIMIT)
}

fn delegate(call: &Call) -> Result<Delegate, Error> {
    Delegate::find(&call.config.ipam_type, &call.environment.path)
}
