//! The attachments of this node: what the journals say beside what the kernel
//! has. Where they are listed and chosen from, so that every command means the
//! same pod by the same words.

use crate::{
    cni::cidr,
    net::{
        Socket,
        link::{self, Link},
    },
    pod::Identity,
    state::{Entry, Root, journal},
};

use super::Failure;

/// An attachment and its host link, if that is there.
#[derive(Clone, Debug)]
pub(super) struct Attachment {
    pub(super) entry: Entry,
    pub(super) link: Option<Link>,
}

/// All attachments, by pod, container and interface.
///
/// # Errors
/// If the kernel does not list the links.
pub(super) fn all(root: &Root) -> Result<Vec<Attachment>, Failure> {
    let links = link::all(&mut Socket::open()?)?;
    Ok(join(journal::all(root), &links))
}

/// A link is an attachment's by its mark: a name may be another's by now.
fn join(entries: Vec<Entry>, links: &[Link]) -> Vec<Attachment> {
    let mut attachments: Vec<Attachment> = entries
        .into_iter()
        .map(|entry| {
            let alias = alias(&entry);
            let link = links.iter().find(|link| link.alias.as_deref() == Some(&alias)).cloned();
            Attachment { entry, link }
        })
        .collect();
    attachments.sort_by(|one, other| one.order().cmp(&other.order()));
    attachments
}

fn alias(entry: &Entry) -> String {
    let identity = Identity {
        network: entry.network.clone(),
        container_id: entry.container_id.clone(),
        ifname: entry.ifname.clone(),
        pod: None,
    };
    identity.alias()
}

/// The attachment that POD means: `namespace/name`, a container id or the
/// beginning of one, or an address. Those count as one that `key` says are the
/// same; those without a link count only where none has one, since an older
/// sandbox of the pod may wait for its DEL.
///
/// # Errors
/// The outer one lists the candidates of an ambiguous word; the inner one says
/// that there is none.
pub(super) fn choose<'a, K: PartialEq>(
    attachments: &'a [Attachment],
    pod: &str,
    key: impl Fn(&Attachment) -> K,
) -> Result<Result<&'a Attachment, Failure>, String> {
    let meant = |attachment: &&Attachment| !pod.is_empty() && attachment.answers_to(pod);
    let mut candidates: Vec<&Attachment> = attachments.iter().filter(meant).collect();
    let exact = |attachment: &&Attachment| attachment.entry.container_id == pod;
    if candidates.iter().any(exact) {
        candidates.retain(exact);
    }
    if candidates.iter().any(|attachment| attachment.link.is_some()) {
        candidates.retain(|attachment| attachment.link.is_some());
    }
    let Some(&first) = candidates.first() else {
        let message = format!("no pod {pod:?} on this node; manx pods lists them");
        return Ok(Err(Failure::Failed(message)));
    };
    if candidates.iter().all(|other| key(other) == key(first)) {
        return Ok(Ok(first));
    }
    let lines = candidates.iter().map(|candidate| {
        let Entry { container_id, ifname, .. } = &candidate.entry;
        let name = candidate.entry.pod().unwrap_or_else(|| "-".to_owned());
        format!("\n  {name} {container_id} {ifname}")
    });
    let count = candidates.len();
    Err(format!(
        "{pod:?} means {count} attachments:{}\nname one of them",
        lines.collect::<String>()
    ))
}

impl Attachment {
    fn order(&self) -> (Option<&str>, Option<&str>, &str, &str) {
        let Entry { pod_namespace, pod_name, container_id, ifname, .. } = &self.entry;
        (pod_namespace.as_deref(), pod_name.as_deref(), container_id, ifname)
    }

    /// Whether POD of a command line means this one.
    fn answers_to(&self, pod: &str) -> bool {
        let entry = &self.entry;
        let address = cidr::parse_address(pod);
        entry.pod().is_some_and(|name| name == pod)
            || entry.container_id.starts_with(pod)
            || address.is_ok_and(|address| entry.addresses.contains(&address))
    }

    /// `up`, `down` or `missing`.
    pub(super) fn state(&self) -> &'static str {
        match &self.link {
            Some(link) if link.up => "up",
            Some(_) => "down",
            None => "missing",
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
