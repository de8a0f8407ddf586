// SPDX-License-Identifier: Apache-2.0
//! Why a node is left as it is: somebody needs the plugin, or would make all of it again.

use super::{
    configurations::{self, Configuration},
    progress::Order,
};
use crate::{
    cli::{Failure, attachments, install::units::enabled},
    list::{Gather, PushAll},
    state::{Journal, journal, operations},
    text::few::some_of,
};

/// All reasons, each with what is to be done.
pub(super) fn all(order: &Order, ours: &[Configuration]) -> Result<Vec<String>, Failure> {
    let mut reasons = Vec::new();
    if !order.force {
        reasons.push_all(attached(order)?);
        reasons.push_all(unreadable(order));
        let chained = ours.iter().filter(|one| one.is_chained && !order.keep_conf);
        reasons.push_all(chained.map(|one| {
            let path = one.path.display();
            format!("{path}: manx is behind another plugin in it: take it out of that list first")
        }));
        reasons.push_all(configurations::served(order, ours)?.iter().map(|path| {
            let path = path.display();
            format!("{path}: its addresses come from manx-ipam: give it another ipam first")
        }));
    }
    let units = enabled(&order.root);
    if !units.is_empty() {
        let units = units.join(" ");
        reasons
            .push(format!("systemd would make all of it again: systemctl disable --now {units}"));
    }
    if operations::is_read(&order.root) {
        reasons.push(
            "an agent runs on this node, and would make all of it again: delete its DaemonSet, \
             or keep it from this node, first"
                .to_owned(),
        );
    }
    Ok(reasons)
}

/// That pods are attached.
pub(super) fn attached(order: &Order) -> Result<Option<String>, Failure> {
    let mut alive = attachments::all(&order.root)?;
    alive.retain(|attachment| attachment.link.is_some());
    if alive.is_empty() {
        return Ok(None);
    }
    let name = |attachment: &attachments::Attachment| {
        let entry = &attachment.entry;
        entry.pod().unwrap_or_else(|| format!("container {}", entry.container_id))
    };
    let mut names: Vec<String> = alive.iter().map(name).gather();
    names.dedup();
    let (count, named) = (names.len(), some_of(&names));
    Ok(Some(format!(
        "pods are attached: {count} ({named}): drain the node (kubectl drain NODE \
         --ignore-daemonsets --delete-emptydir-data --force); where some of these are left, stop \
         kubelet, and end them (crictl pods, crictl rmp -f ID); --force cuts them off"
    )))
}

/// Notes of attachments that may be alive.
fn unreadable(order: &Order) -> Vec<String> {
    let networks = journal::networks(&order.root).into_iter();
    let files = networks.flat_map(|network| Journal::new(&order.root, &network).all().1);
    let told = files.map(|(path, problem)| {
        let path = path.display();
        format!("{path}: {problem}; its pod may be attached: --force takes it for gone")
    });
    told.gather()
}
