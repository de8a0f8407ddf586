//! DEL: the link first and with it the routes, then the address, so that no
//! other pod gets the address while the old one still answers to it. What is
//! gone already is success; what fails does not keep the rest from being done.

use std::io::ErrorKind;

use super::{Call, file, ipam, kernel, ownership, pod_side, sandbox};
use crate::{
    cni::Error,
    net::{Socket, link},
    pod::{Identity, identity::is_marked},
    state::{
        Journal,
        lock::{self, Guard},
    },
};

/// Detaches the pod; returns what to log.
///
/// # Errors
/// All that failed, in one.
pub(super) fn del(call: &Call) -> Result<String, Error> {
    let identity = call.identity();
    let journal = call.journal();
    let lock = lock(&journal, &identity)?;
    let entry = journal.read(&identity.container_id, &identity.ifname);
    let mut errors = Vec::new();
    let mut removed = None;
    match Socket::open().map_err(kernel) {
        Ok(mut host) => {
            match remove_host_link(call, &mut host, &identity) {
                Ok(name) => removed = name,
                Err(error) => errors.push(error),
            }
            match sandbox::open_if_alive(&call.environment) {
                Ok(None) => {}
                Ok(Some(mut sandbox)) => {
                    let pod = &mut sandbox.socket;
                    errors.extend(remove_pod_link(&mut host, pod, &identity).err());
                    errors.extend(pod_side::forget(pod, entry.as_ref()).err());
                }
                // What we cannot look into may have a link with the address, which
                // nobody else gets then.
                Err(error) => {
                    errors.push(error.clone());
                    return Err(Error::join(errors).unwrap_or(error));
                }
            }
        }
        Err(error) => errors.push(error),
    }
    errors.extend(ipam::del(call, entry.as_ref()).err());
    if errors.is_empty() {
        let forgotten = journal.remove(&identity.container_id, &identity.ifname);
        errors.extend(
            forgotten.map_err(|error| file("remove the entry", journal.directory(), &error)).err(),
        );
    }
    // It was made for a network that is not there.
    if let Some(lock) = lock {
        lock.retire_if_made();
    }
    match Error::join(errors) {
        Some(error) => Err(error),
        None => Ok(format!("link={}", removed.as_deref().unwrap_or("none"))),
    }
}

/// Keeps an ADD of the same attachment out, and waits for one that is under way: the
/// runtime gave up on it, and its process lives on. Where nothing can be locked
/// there is no ADD either.
fn lock(journal: &Journal, identity: &Identity) -> Result<Option<Guard>, Error> {
    let directory = journal.directory();
    match lock::attachment(directory, &identity.container_id, &identity.ifname) {
        Ok(guard) => Ok(Some(guard)),
        Err(error) if error.kind() == ErrorKind::TimedOut => {
            Err(file("lock the attachment", directory, &error))
        }
        Err(error) => {
            log::debug!("no lock of the attachment in {}: {error}", directory.display());
            Ok(None)
        }
    }
}

/// Removes the host link that is marked as this attachment's; returns its name.
fn remove_host_link(
    call: &Call,
    host: &mut Socket,
    identity: &Identity,
) -> Result<Option<String>, Error> {
    let found = ownership::find(host, &call.journal(), identity, &call.config.host_prefix)?;
    let Some(link) = found else { return Ok(None) };
    host.apply(&[link::delete(link.index, &link.name)]).map_err(kernel)?;
    Ok(Some(link.name))
}

/// Removes the pod's veth of that name, marked or not: pods that another plugin
/// made before a migration have one without a mark. Not one whose other end is
/// marked as another attachment's.
fn remove_pod_link(host: &mut Socket, pod: &mut Socket, identity: &Identity) -> Result<(), Error> {
    let Some(link) = link::by_name(pod, &identity.ifname).map_err(kernel)? else {
        return Ok(());
    };
    if link.kind.as_deref() != Some("veth") {
        return Ok(());
    }
    let other_end = match link.peer_index {
        Some(index) => link::by_index(host, index).map_err(kernel)?,
        None => None,
    };
    // An index of another namespace may be anybody's here; it is only believed
    // where it speaks against removing something.
    let foreign = other_end
        .filter(|end| end.peer_index == Some(link.index))
        .and_then(|end| end.alias)
        .filter(|alias| is_marked(Some(alias)) && *alias != identity.alias());
    if let Some(alias) = foreign {
        log::warn!("{} in this namespace belongs to {alias}: left alone", link.name);
        return Ok(());
    }
    pod.apply(&[link::delete(link.index, &link.name)]).map_err(kernel)
}
