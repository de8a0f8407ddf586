// SPDX-License-Identifier: Apache-2.0
//! DEL: the link first and with it the routes, then the address, so that no
//! other pod gets the address while the old one still answers to it. What is
//! gone already is success; what fails does not keep the rest from being done, but for the
//! address: it stays this pod's while network policies may know it.

use std::{
    io::{self, ErrorKind},
    net::IpAddr,
};

use super::{Call, allowed, file, former, ipam, kernel, ownership, pod_side, policy, sandbox};
use crate::{
    cni::Error,
    list::PushAll,
    net::{
        Socket, addr,
        link::{self, Link},
    },
    pod::{
        Identity,
        identity::{is_marked, of_alias},
    },
    state::{
        Entry, Journal, journal,
        lock::{self, Guard},
    },
};

/// Which attachment a DEL is about.
struct Meant {
    identity: Identity,
    journal: Journal,
    /// What its ADD noted.
    entry: Option<Entry>,
}

/// Detaches the pod; returns what to log.
///
/// # Errors
/// All that failed, in one.
pub(super) fn del(call: &Call) -> Result<String, Error> {
    let mut meant = meant(call);
    let lock = lock(&meant.journal, &meant.identity)?;
    // An ADD that was waited for has noted more.
    let Identity { container_id, ifname, .. } = &meant.identity;
    meant.entry = meant.journal.read(container_id, ifname);
    let mut errors = Vec::new();
    let (mut removed, mut unnoted) = (None, None);
    match Socket::open().map_err(kernel) {
        Ok(mut host) => {
            match remove_host_link(call, &mut host, &meant) {
                Ok(Some((link, addresses))) => {
                    removed = Some(link);
                    if !addresses.is_empty() {
                        unnoted = Some(Entry { addresses, ..Entry::default() });
                    }
                }
                Ok(None) => {}
                Err(error) => errors.push(error),
            }
            if let Some(link) = removed.as_ref().filter(|_| meant.entry.is_none()) {
                meant.recall(call, link);
            }
            let noted = meant.entry.as_ref().map(|entry| &entry.host_link);
            if let Some(name) = removed.as_ref().map(|link| &link.name).or(noted) {
                let network = &meant.identity.network;
                allowed::forget(&mut host, &meant.journal, network, &[name.as_str()]);
            }
            match sandbox::open_if_alive(&call.environment) {
                // The runtime may not name a namespace that is there.
                Ok(None) => {
                    let noted = meant.entry.as_ref();
                    let forgotten = noted.map_or(Ok(()), pod_side::forget_noted);
                    if let Err(error) = forgotten {
                        log::warn!("rules stay in the pod: {error}");
                    }
                }
                Ok(Some(mut sandbox)) => {
                    let pod = &mut sandbox.socket;
                    let prefix = &call.config.host_prefix;
                    errors.push_all(remove_pod_link(&mut host, pod, &meant, prefix).err());
                    errors.push_all(
                        pod_side::forget(pod, meant.entry.as_ref()).err().map(Error::from),
                    );
                }
                // What we cannot look into may have a link with the address, which
                // nobody else gets then.
                Err(error) => {
                    let error = Error::from(error);
                    errors.push(error.clone());
                    return Err(Error::join(errors).unwrap_or(error));
                }
            }
        }
        Err(error) => errors.push(error),
    }
    let Meant { identity, journal, entry } = &meant;
    // Before anybody else can have the address, and not while the pod has a link.
    let mut is_released = errors.is_empty() || !policy::may_hold(&call.root, entry.as_ref());
    if let Some(entry) = unnoted.as_ref().or(entry.as_ref()).filter(|_| errors.is_empty()) {
        let released = policy::release_noted(&call.root, &[entry], removed.is_some());
        is_released = released.is_ok();
        errors.push_all(released.map_err(Error::from).err());
    }
    if is_released {
        errors.push_all(ipam::del(call, entry.as_ref()).err());
    }
    if errors.is_empty() {
        let forgotten = journal.remove(&identity.container_id, &identity.ifname);
        errors.push_all(forgotten.map_err(|error| unforgotten(journal, identity, &error)).err());
    }
    // It was made for a network that is not there.
    if let Some(lock) = lock {
        lock.retire_if_made();
    }
    if errors.is_empty() && identity.network != call.config.name {
        remove_former_table(call, &identity.network);
    }
    match Error::join(errors) {
        Some(error) => Err(error),
        None => Ok(format!("link={}", removed.map_or_else(|| "none".to_owned(), |link| link.name))),
    }
}

/// All is removed but the note, which a later DEL finds.
fn unforgotten(journal: &Journal, identity: &Identity, error: &io::Error) -> Error {
    let note = journal.path(&identity.container_id, &identity.ifname);
    let what = "the link and the address are removed; remove the note of the attachment";
    let mut error = file(what, &note, error);
    error.details += "; another DEL, GC or manx gc removes the note then";
    error
}

/// Removes the table of a network that has another name by now, with the last pod of
/// its former one.
fn remove_former_table(call: &Call, network: &str) {
    let removed = Socket::open()
        .map_err(kernel)
        .and_then(|mut host| Ok(former::remove(&call.root, &mut host, network)?));
    if let Err(error) = removed {
        log::warn!("the nftables table of network {network} stays: {error}");
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

/// The attachment of this network, else of another one of ours: a runtime deletes
/// with its present configuration, in which the network may have a new name.
fn meant(call: &Call) -> Meant {
    let (mut identity, mut journal) = (call.identity(), call.journal());
    let mut entry = journal.read(&identity.container_id, &identity.ifname);
    if entry.is_none() {
        for network in journal::networks(&call.root) {
            let other = Journal::new(&call.root, &network);
            if let Some(found) = other.read(&identity.container_id, &identity.ifname) {
                log::info!("the attachment was made in network {network}");
                (identity.network, journal, entry) = (network, other, Some(found));
                break;
            }
        }
    }
    Meant { identity, journal, entry }
}

impl Meant {
    /// What the mark of its link tells where the note of the ADD is lost, and it was
    /// made in another network.
    fn recall(&mut self, call: &Call, link: &Link) {
        let named = link.alias.as_deref().and_then(of_alias);
        let Some(named) = named.filter(|named| named.network != self.identity.network) else {
            return;
        };
        self.identity.network.clone_from(&named.network);
        self.entry = Some(Entry {
            network: named.network,
            container_id: named.container_id,
            ifname: named.ifname,
            ipam: call.document.ipam().clone(),
            cni_version: call.config.version.to_string(),
            ..Entry::default()
        });
    }
}

/// Removes the host link that is this attachment's, and returns it; where no note tells of it,
/// with the addresses that policies may know of its pod.
fn remove_host_link(
    call: &Call,
    host: &mut Socket,
    meant: &Meant,
) -> Result<Option<(Link, Vec<IpAddr>)>, Error> {
    let Meant { identity, entry, .. } = meant;
    let prefix = &call.config.host_prefix;
    let found = ownership::find(host, &call.root, entry.as_ref(), identity, prefix)?;
    let Some(link) = found else { return Ok(None) };
    let addresses = match entry {
        Some(_) => Vec::new(),
        None => policy::behind(&call.root, host, &link)?,
    };
    host.apply(&[link::delete(link.index, &link.name)]).map_err(kernel)?;
    Ok(Some((link, addresses)))
}

/// Removes the pod's veth of that name where the host's end could not be found by
/// what the ADD noted: one with the address of the ADD, and without a note one
/// whose other end has a name such as ours and Calico's, for pods from before a
/// migration have a link without a mark. The namespace may be another container's
/// by now, and what is in it another plugin's.
fn remove_pod_link(
    host: &mut Socket,
    pod: &mut Socket,
    meant: &Meant,
    prefix: &str,
) -> Result<(), Error> {
    let Meant { identity, entry, .. } = meant;
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
    // An index of another namespace may be anybody's here.
    let other_end = other_end.filter(|end| end.peer_index == Some(link.index));
    let mark = other_end.as_ref().and_then(|end| end.alias.clone());
    if let Some(alias) = mark.filter(|alias| is_marked(Some(alias)) && *alias != identity.alias()) {
        log::warn!("{} in this namespace belongs to {alias}: left alone", link.name);
        return Ok(());
    }
    let is_its = match entry {
        Some(entry) => {
            let held = addr::of_link(pod, link.index).map_err(kernel)?;
            held.iter().any(|address| entry.addresses.contains(&address.ip()))
        }
        None => other_end.is_some_and(|end| end.name.starts_with(prefix)),
    };
    if !is_its {
        log::warn!("{} in this namespace is not of an ADD of ours: left alone", link.name);
        return Ok(());
    }
    pod.apply(&[link::delete(link.index, &link.name)]).map_err(kernel)
}
