// SPDX-License-Identifier: Apache-2.0
//! Who owns a host link, and which name an attachment may take.

use crate::{
    net::{
        Socket,
        link::{self, Link},
    },
    pod::{
        Identity,
        identity::{GROUPS, is_marked, of_alias},
    },
    state::{Entry, Journal, Root, journal},
};

use super::{Error, Kind, Object, kernel, liveness};

/// The name that an attachment takes.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    pub(crate) name: String,
    /// An older sandbox's link of that name, to be removed.
    pub(crate) replaces: Option<Link>,
}

/// Settles the host link's name before anything is allocated.
///
/// # Errors
/// `Conflict` if the attachment exists, or if the name belongs to somebody else.
pub(crate) fn claim(
    host: &mut Socket,
    root: &Root,
    identity: &Identity,
    prefix: &str,
) -> Result<Claim, Error> {
    require_new(host, &Journal::new(root, &identity.network), identity)?;
    let name = identity.host_link(prefix);
    let Some(link) = link::by_name(host, &name).map_err(kernel)? else {
        return Ok(Claim { name, replaces: None });
    };
    if link.alias.as_deref() == Some(&identity.alias()) {
        return Err(exists(identity, &name));
    }
    let owners = owners(root, &link, identity);
    if owners.is_empty() && !is_marked(link.alias.as_deref()) {
        return Err(not_ours(&name));
    }
    if !owners.is_empty() && owners.iter().all(|owner| is_older_sandbox(owner, identity)) {
        let owner = link.alias.as_deref().unwrap_or("unfinished");
        log::warn!("link {name} of an older sandbox of this pod ({owner}) is replaced");
        return Ok(Claim { name, replaces: Some(link) });
    }
    match identity.unique_host_link(prefix) {
        unique if unique == name => Err(not_ours(&name)),
        unique => claim_unique(host, identity, unique),
    }
}

/// Settles the name once more, since somebody has taken it meanwhile. A name that
/// says which pod it is for is only given up where it is another pod's.
///
/// # Errors
/// As for [`claim`].
pub(crate) fn claim_again(
    host: &mut Socket,
    root: &Root,
    identity: &Identity,
    prefix: &str,
) -> Result<Claim, Error> {
    if identity.host_link_names_the_pod() {
        return claim(host, root, identity, prefix);
    }
    claim_unique(host, identity, identity.unique_host_link(prefix))
}

/// Refuses an attachment whose link is alive under another name, because the
/// runtime named the pod differently then. To ask IPAM first would be too late:
/// undoing its refusal would release the live address.
fn require_new(host: &mut Socket, journal: &Journal, identity: &Identity) -> Result<(), Error> {
    let Some(entry) = journal.read(&identity.container_id, &identity.ifname) else {
        return Ok(());
    };
    let links = link::all(host).map_err(kernel)?;
    match liveness::of(host, &entry, &links)?.link() {
        Some(link) => Err(exists(identity, &link.name)),
        None => Ok(()),
    }
}

/// Settles on the name that no other attachment can have.
fn claim_unique(host: &mut Socket, identity: &Identity, name: String) -> Result<Claim, Error> {
    match link::by_name(host, &name).map_err(kernel)? {
        None => Ok(Claim { name, replaces: None }),
        Some(link) if link.alias.as_deref() == Some(&identity.alias()) => {
            Err(exists(identity, &name))
        }
        Some(_) => Err(not_ours(&name)),
    }
}

/// The attachments of whichever network that a link may be, other than `identity`:
/// by its mark; one without a mark, of our groups, by its name, for it may be in
/// the making.
fn owners(root: &Root, link: &Link, identity: &Identity) -> Vec<Entry> {
    let mut entries = journal::all(root);
    let own = |entry: &Entry| {
        let Identity { network, container_id, ifname, .. } = identity;
        (&entry.network, &entry.container_id, &entry.ifname) == (network, container_id, ifname)
    };
    match link.alias.as_deref() {
        Some(alias) if is_marked(Some(alias)) => {
            entries.retain(|entry| Identity::from(entry).alias() == alias);
        }
        _ if GROUPS.contains(&link.group) => {
            entries.retain(|entry| entry.host_link == link.name && !own(entry));
        }
        _ => entries.clear(),
    }
    entries
}

/// Whether an attachment is one that `identity` takes the place of: two pods may
/// have names of which the same link follows.
fn is_older_sandbox(entry: &Entry, identity: &Identity) -> bool {
    let Identity { network, ifname, pod, .. } = Identity::from(entry);
    identity.host_link_names_the_pod()
        && (network, ifname, pod)
            == (identity.network.clone(), identity.ifname.clone(), identity.pod.clone())
}

/// Whether one attachment alone expects the link of that name. An older sandbox
/// of a pod may not claim the link that a newer one is just making.
fn names_one(root: &Root, name: &str) -> bool {
    journal::all(root).iter().filter(|entry| entry.host_link == name).count() == 1
}

/// The host link of an attachment: the one with its mark, which mostly has the
/// name of the journal or the computed one; else what the journal's `entry` leads
/// to, or without one a link that is marked as this container's in another network.
///
/// # Errors
/// Of the kernel's answers.
pub(crate) fn find(
    host: &mut Socket,
    root: &Root,
    entry: Option<&Entry>,
    identity: &Identity,
    prefix: &str,
) -> Result<Option<Link>, Error> {
    let alias = identity.alias();
    let noted = entry.map(|entry| entry.host_link.clone());
    let names = [identity.host_link(prefix), identity.unique_host_link(prefix)];
    for name in noted.into_iter().chain(names) {
        let link = link::by_name(host, &name).map_err(kernel)?;
        if let Some(link) = link.filter(|link| link.alias.as_deref() == Some(&alias)) {
            return Ok(Some(link));
        }
    }
    // Renamed, or the journal was wiped, or there never was an ADD.
    let links = link::all(host).map_err(kernel)?;
    if let Some(link) = links.iter().find(|link| link.alias.as_deref() == Some(&alias)) {
        return Ok(Some(link.clone()));
    }
    let Some(entry) = entry else {
        // In another network of ours: this one may have had another name.
        let is_its = |named: Identity| {
            (named.container_id, named.ifname)
                == (identity.container_id.clone(), identity.ifname.clone())
        };
        let marks = |link: &&Link| link.alias.as_deref().and_then(of_alias).is_some_and(is_its);
        return Ok(links.iter().find(marks).cloned());
    };
    let link = liveness::of(host, entry, &links)?.link();
    // An older sandbox of the pod has the same name in the journal.
    Ok(link.filter(|link| link.name != entry.host_link || names_one(root, &link.name)))
}

fn exists(identity: &Identity, name: &str) -> Error {
    let msg = format!("the attachment exists, as {:?}", identity.alias());
    Error::new(Kind::Conflict, Object::link(name), msg)
        .next("a runtime adds an attachment once; DEL removes it")
}

fn not_ours(name: &str) -> Error {
    Error::new(Kind::Conflict, Object::link(name), "it exists and bears no mark of ours")
        .next(format!("see: ip -d link show {name}; remove it, or set hostPrefix"))
}
