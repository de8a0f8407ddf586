// SPDX-License-Identifier: Apache-2.0
//! The attachments of this node: what the journals say beside what the kernel
//! has. Where they are listed and chosen from, so that every command means the
//! same pod by the same words.

use std::{collections::BTreeSet, time::SystemTime};

use crate::{
    list::Gather,
    net::{
        Socket,
        link::{self, Link},
    },
    state::{Entry, Journal, Root, journal},
    text::nearest,
};

use super::Failure;
pub(super) use crate::node::Attachment;

/// As many pods are suggested at most.
const SUGGESTIONS_MAX: usize = 3;

/// What is said of an attachment without a link.
pub(super) const DEAD: &str = "it is dead; manx gc --dry-run shows what it left";

/// All attachments, by pod, container and interface.
///
/// # Errors
/// If the kernel does not list the links, or the journal may not be read.
pub(super) fn all(root: &Root) -> Result<Vec<Attachment>, Failure> {
    crate::node::require_readable(root)?;
    let mut socket = Socket::open()?;
    // In this order: an ADD notes its attachment before it makes the link.
    let links = link::all(&mut socket)?;
    let mut attachments = Attachment::join(journal::all(root), &links);
    if attachments.iter().any(|attachment| !attachment.noted) {
        // A DEL forgets its attachment after it has removed the link.
        let links = link::all(&mut socket)?;
        let there = |link: &Link| links.iter().any(|other| other.alias == link.alias);
        attachments
            .retain(|attachment| attachment.noted || attachment.link.as_ref().is_some_and(there));
    }
    for attachment in attachments.iter_mut().filter(|attachment| attachment.noted) {
        let Entry { network, container_id, ifname, .. } = &attachment.entry;
        let written = Journal::new(root, network).written(container_id, ifname);
        attachment.age = written.and_then(|then| SystemTime::now().duration_since(then).ok());
    }
    Ok(attachments)
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
    let mut candidates: Vec<&Attachment> = attachments.iter().filter(meant).gather();
    let exact = |attachment: &&Attachment| attachment.entry.container_id == pod;
    if candidates.iter().any(exact) {
        candidates.retain(exact);
    }
    if candidates.iter().any(|attachment| attachment.link.is_some()) {
        candidates.retain(|attachment| attachment.link.is_some());
    }
    let Some(&first) = candidates.first() else {
        let meant = suggestion(attachments, pod);
        let message = format!("no pod {pod:?} on this node{meant}; manx pods lists them");
        return Ok(Err(Failure::Failed(message)));
    };
    if candidates.iter().all(|other| key(other) == key(first)) {
        return Ok(Ok(first));
    }
    let named = candidates.iter().map(|candidate| {
        let Entry { container_id, ifname, .. } = &candidate.entry;
        let name = candidate.entry.pod().unwrap_or_else(|| "-".to_owned());
        format!("{name} {container_id} {ifname}")
    });
    let (count, named) = (candidates.len(), named.gather().join(", "));
    let one_container = candidates.iter().all(|other| {
        let of = |attachment: &Attachment| attachment.entry.container_id.clone();
        of(other) == of(first)
    });
    let next = if one_container { "choose one with --ifname" } else { "name one by its id" };
    Err(format!("{pod:?} means {count} attachments: {named}; {next}"))
}

/// Which pod was probably meant: the name without its namespace is what one types
/// first.
fn suggestion(attachments: &[Attachment], word: &str) -> String {
    let pods: BTreeSet<String> = attachments.iter().filter_map(|one| one.entry.pod()).gather_set();
    let spelled = |pod: &'_ str| match pod.split_once('/') {
        Some((_, name)) if !word.contains('/') => name.to_owned(),
        _ => pod.to_owned(),
    };
    let spellings: Vec<String> = pods.iter().map(|pod| spelled(pod)).gather();
    let Some(near) = nearest::nearest(word, spellings.iter().map(String::as_str)) else {
        return String::new();
    };
    let meant = pods.iter().filter(|pod| spelled(pod) == near).take(SUGGESTIONS_MAX);
    format!(": did you mean {}?", meant.cloned().gather().join(" or "))
}

#[cfg(test)]
pub(super) mod tests;
