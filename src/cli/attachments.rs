//! The attachments of this node: what the journals say beside what the kernel
//! has. Where they are listed and chosen from, so that every command means the
//! same pod by the same words.

use crate::{
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

impl Attachment {
    fn order(&self) -> (Option<&str>, Option<&str>, &str, &str) {
        let Entry { pod_namespace, pod_name, container_id, ifname, .. } = &self.entry;
        (pod_namespace.as_deref(), pod_name.as_deref(), container_id, ifname)
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
mod tests;
