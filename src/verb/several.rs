// SPDX-License-Identifier: Apache-2.0
//! Gives the attachments of a pod of several what [`lacking`] says: by the ADD of a
//! further one to those that are there, and to those of manx 0.1 by whoever makes
//! the node believe no other source.

use super::{Call, file, kernel, pod_side, sandbox::Sandbox};
use crate::{
    cni::Error,
    conf::Config,
    list::PushAll,
    net::{
        Socket,
        link::{self, Link},
        route::TABLE_MAIN,
    },
    node::complete,
    pod::Side,
    state::{Entry, Journal, journal, lock},
};

/// What an ADD gave to the attachments that were there before.
#[derive(Debug, Default)]
pub(super) struct Given {
    gifts: Vec<Gift>,
    /// Those of the attachments, each held until the ADD has ended: to close the file
    /// of one would let go of all that this process has there.
    locks: Vec<lock::Guard>,
}

#[derive(Debug)]
struct Gift {
    journal: Journal,
    /// As it was noted.
    entry: Entry,
    index: u32,
    side: Side,
}

impl Given {
    /// Gives every attachment of ours in the pod of this ADD a table of its own that
    /// has none: the first, or one of manx 0.1. The pod is locked, and the ADD's own
    /// network by `lock`.
    ///
    /// # Errors
    /// Code 100 with what the kernel refused, code 5 if the journal cannot be written,
    /// code 11 if the pod's routes never held still.
    pub(super) fn give(
        &mut self,
        call: &Call,
        lock: &lock::Guard,
        sandbox: &mut Sandbox,
    ) -> Result<(), Error> {
        let links = link::all(&mut sandbox.socket).map_err(kernel)?;
        let may_be = |link: &&Link| {
            let veth = link.kind.as_deref() == Some("veth");
            link.up && veth && link.name != call.environment.ifname
        };
        for network in journal::networks(&call.root) {
            let journal = Journal::new(&call.root, &network);
            for link in links.iter().filter(may_be) {
                if waits(&journal, call, &link.name, sandbox).is_none() {
                    continue;
                }
                self.lock(call, lock, &journal, &link.name)?;
                // A DEL that was waited for has forgotten it.
                if let Some(entry) = waits(&journal, call, &link.name, sandbox) {
                    self.give_one(&call.config, &mut sandbox.socket, &journal, entry, link.index)?;
                }
            }
        }
        Ok(())
    }

    /// Keeps a DEL of the other attachment out.
    fn lock(
        &mut self,
        call: &Call,
        own: &lock::Guard,
        journal: &Journal,
        ifname: &str,
    ) -> Result<(), Error> {
        let container_id = &call.environment.container_id;
        let directory = journal.directory();
        let locked = if directory == call.journal().directory() {
            own.attachment(container_id, ifname, lock::ATTACHMENT_LIMIT)
        } else {
            lock::attachment(directory, container_id, ifname).map(|guard| self.locks.push(guard))
        };
        locked.map_err(|error| file(&format!("lock {ifname} of the pod"), directory, &error))
    }

    fn give_one(
        &mut self,
        config: &Config,
        pod: &mut Socket,
        journal: &Journal,
        entry: Entry,
        index: u32,
    ) -> Result<(), Error> {
        let (table, side) = complete(pod, config, index, &entry.addresses, false)?;
        let Some(table) = table else { return Ok(()) };
        // The rules are there before the note: CHECK finds what is noted.
        let noted = Entry { table: Some(table), ..entry.clone() };
        self.gifts.push(Gift { journal: journal.clone(), entry, index, side });
        journal.amend(&noted).map_err(|error| file("note a table in", journal.directory(), &error))
    }

    /// Takes it all back; returns what failed.
    pub(super) fn take_back(&mut self, pod: &mut Socket) -> Vec<Error> {
        let mut errors = Vec::new();
        for Gift { journal, entry, index, side } in self.gifts.drain(..) {
            errors.push_all(pod_side::unmake_routes(pod, &side, index).err().map(Error::from));
            let noted = journal.amend(&entry);
            errors.push_all(
                noted.map_err(|error| file("write the journal", journal.directory(), &error)).err(),
            );
        }
        errors
    }
}

/// The entry of an attachment of this pod that has no table of its own.
fn waits(journal: &Journal, call: &Call, ifname: &str, sandbox: &Sandbox) -> Option<Entry> {
    let entry = journal.read(&call.environment.container_id, ifname)?;
    let netns = sandbox.netns.identity();
    let is_here = entry.netns_identity == (netns.device, netns.inode);
    (is_here && entry.table.is_none_or(|table| table == TABLE_MAIN)).then_some(entry)
}
