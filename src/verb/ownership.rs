//! Who owns a host link, and which name an attachment may take.

use crate::{
    cni::{Code, Error},
    net::{
        Socket,
        link::{self, Link},
    },
    pod::{
        Identity,
        identity::{GROUPS, is_marked},
    },
    state::Journal,
};

use super::kernel;

/// The name that an attachment takes.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    pub(super) name: String,
    /// An older sandbox's link of that name, to be removed.
    pub(super) replaces: Option<Link>,
}

/// Settles the host link's name before anything is allocated.
///
/// # Errors
/// Code 101 if the attachment exists, or if the name belongs to somebody else.
pub(super) fn claim(
    host: &mut Socket,
    journal: &Journal,
    identity: &Identity,
    prefix: &str,
) -> Result<Claim, Error> {
    require_new(host, journal, identity)?;
    let name = identity.host_link(prefix);
    let Some(link) = link::by_name(host, &name).map_err(kernel)? else {
        return Ok(Claim { name, replaces: None });
    };
    if link.alias.as_deref() == Some(&identity.alias()) {
        return Err(exists(identity, &name));
    }
    let ours = is_marked(link.alias.as_deref()) || is_unfinished(&link, journal);
    if ours && identity.host_link_names_the_pod() {
        let owner = link.alias.as_deref().unwrap_or("unfinished");
        log::warn!("link {name} of an older sandbox of this pod ({owner}) is replaced");
        return Ok(Claim { name, replaces: Some(link) });
    }
    let unique = identity.unique_host_link(prefix);
    if ours && unique != name {
        return claim_unique(host, identity, unique);
    }
    Err(not_ours(&name))
}

/// Refuses an attachment whose link is alive under another name, because the
/// runtime named the pod differently then. To ask IPAM first would be too late:
/// undoing its refusal would release the live address.
fn require_new(host: &mut Socket, journal: &Journal, identity: &Identity) -> Result<(), Error> {
    let Some(entry) = journal.read(&identity.container_id, &identity.ifname) else {
        return Ok(());
    };
    let link = link::by_name(host, &entry.host_link).map_err(kernel)?;
    match link.filter(|link| link.alias.as_deref() == Some(&identity.alias())) {
        Some(link) => Err(exists(identity, &link.name)),
        None => Ok(()),
    }
}

/// Settles on the name that no other attachment can have.
///
/// # Errors
/// Code 101 if it is taken all the same.
pub(super) fn claim_unique(
    host: &mut Socket,
    identity: &Identity,
    name: String,
) -> Result<Claim, Error> {
    match link::by_name(host, &name).map_err(kernel)? {
        None => Ok(Claim { name, replaces: None }),
        Some(link) if link.alias.as_deref() == Some(&identity.alias()) => {
            Err(exists(identity, &name))
        }
        Some(_) => Err(not_ours(&name)),
    }
}

/// A link that was being made when its ADD was killed: of our groups, without
/// a mark yet, and known to the journal.
fn is_unfinished(link: &Link, journal: &Journal) -> bool {
    link.alias.is_none()
        && GROUPS.contains(&link.group)
        && journal.entries().iter().any(|entry| entry.host_link == link.name)
}

/// Whether one attachment alone expects the link of that name. An older sandbox
/// of a pod may not claim the link that a newer one is just making.
fn names_one(journal: &Journal, name: &str) -> bool {
    journal.entries().iter().filter(|entry| entry.host_link == name).count() == 1
}

/// The host link of an attachment: the journal's, else the computed name with
/// the attachment's mark, else whichever link bears that mark.
///
/// # Errors
/// Of the kernel's list of links.
pub(super) fn find(
    host: &mut Socket,
    journal: &Journal,
    identity: &Identity,
    prefix: &str,
) -> Result<Option<Link>, Error> {
    let alias = identity.alias();
    let noted = journal.read(&identity.container_id, &identity.ifname).map(|entry| entry.host_link);
    let names = [Some(identity.host_link(prefix)), Some(identity.unique_host_link(prefix))];
    for name in noted.clone().into_iter().chain(names.into_iter().flatten()) {
        let Some(link) = link::by_name(host, &name).map_err(kernel)? else { continue };
        let marked = link.alias.as_deref() == Some(&alias);
        let noted = noted.as_ref() == Some(&name);
        if marked || (noted && is_unfinished(&link, journal) && names_one(journal, &name)) {
            return Ok(Some(link));
        }
    }
    // Renamed, or the journal was wiped, or there never was an ADD.
    let links = link::all(host).map_err(kernel)?;
    Ok(links.into_iter().find(|link| link.alias.as_deref() == Some(&alias)))
}

fn conflict(msg: String) -> Error {
    Error::new(Code::CONFLICT, msg)
}

fn exists(identity: &Identity, name: &str) -> Error {
    conflict(format!("the attachment exists: link {name} is {:?}", identity.alias()))
        .details("a runtime adds an attachment once; DEL removes it")
}

fn not_ours(name: &str) -> Error {
    conflict(format!("link {name} exists and bears no mark of ours"))
        .details(format!("see: ip -d link show {name}; remove it, or set hostPrefix"))
}
