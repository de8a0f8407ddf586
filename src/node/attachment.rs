// SPDX-License-Identifier: Apache-2.0
//! An attachment as journals and the kernel have it together.

use std::{collections::HashSet, time::Duration};

use crate::{
    cni::cidr,
    list::{Gather, Ordered, PushAll},
    net::link::Link,
    pod::{
        Identity,
        identity::{HostLinks, is_marked, of_alias},
    },
    state::Entry,
};

use super::Snapshot;

/// Stands for what nothing tells of a link that is in no journal.
const UNKNOWN: &str = "?";

/// An attachment and its host link, if that is there.
#[derive(Clone, Debug)]
pub struct Attachment {
    /// What the journal says, or what the link's mark does.
    pub entry: Entry,
    /// Its host link.
    pub link: Option<Link>,
    /// Whether it is in the journal.
    pub noted: bool,
    /// How long ago its ADD was.
    pub age: Option<Duration>,
}

impl Attachment {
    /// The attachments of a node as a snapshot has it; their ages are not known.
    pub fn all_of(snapshot: &Snapshot) -> Vec<Self> {
        Self::join(snapshot.journal.clone(), &snapshot.kernel.links)
    }

    /// A link whose mark is no entry's is listed for itself.
    pub fn join(entries: Vec<Entry>, links: &[Link]) -> Vec<Self> {
        let by_attachment = HostLinks::new(links);
        let mut noted = HashSet::new();
        let mut attachments: Vec<Self> = entries
            .into_iter()
            .map(|entry| {
                let link = by_attachment.of(&entry);
                noted.extend(link.map(|link| link.name.as_str()));
                Self { link: link.cloned(), entry, noted: true, age: None }
            })
            .gather();
        let marked = links.iter().filter(|link| is_marked(link.alias.as_deref()));
        let unnoted = marked.filter(|link| !noted.contains(link.name.as_str()));
        attachments.push_all(unnoted.map(Self::of_mark));
        attachments.order_by(|one, other| one.order().cmp(&other.order()));
        attachments
    }

    /// What a marked link itself says of its attachment.
    fn of_mark(link: &Link) -> Self {
        let owner = link.alias.as_deref().and_then(of_alias);
        let [network, container_id, ifname] = match owner {
            Some(Identity { network, container_id, ifname, .. }) => [network, container_id, ifname],
            // Too long for an alias, which is a digest then.
            None => [UNKNOWN; 3].map(str::to_owned),
        };
        let host_link = link.name.clone();
        let entry = Entry { network, container_id, ifname, host_link, ..Entry::default() };
        Self { entry, link: Some(link.clone()), noted: false, age: None }
    }

    fn order(&self) -> (Option<&str>, Option<&str>, &str, &str) {
        let Entry { pod_namespace, pod_name, container_id, ifname, .. } = &self.entry;
        (pod_namespace.as_deref(), pod_name.as_deref(), container_id, ifname)
    }

    /// Whether POD of a command line means this one.
    pub fn answers_to(&self, pod: &str) -> bool {
        let entry = &self.entry;
        let address = cidr::parse_address(pod);
        entry.pod().is_some_and(|name| name == pod)
            || entry.container_id.starts_with(pod)
            || address.is_ok_and(|address| entry.addresses.contains(&address))
    }

    /// `up`, `down`, `missing` or `unnoted`.
    pub fn state(&self) -> &'static str {
        match &self.link {
            _ if !self.noted => "unnoted",
            Some(link) if link.up => "up",
            Some(_) => "down",
            None => "missing",
        }
    }
}
