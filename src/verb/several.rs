//! Gives the attachments of a pod of several what [`lacking`] says: by the ADD of a
//! further one to those that are there, and to those of manx 0.1 by whoever makes
//! the node believe no other source.

use std::net::{IpAddr, Ipv4Addr};

use super::{Call, facts::Routing, file, kernel, pod_side, sandbox::Sandbox};
use crate::{
    cni::{Code, Error},
    conf::{Config, GATEWAY},
    net::{
        Socket, addr,
        link::{self, Link},
        neigh,
        route::{Route, TABLE_MAIN},
    },
    pod::{
        attachment::Side,
        several::{Attached, Lack, lacking},
    },
    state::{Entry, Journal, journal, lock},
};

/// How often a pod is looked at again because somebody else works there.
const ATTEMPTS: u32 = 4;

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
            errors.extend(pod_side::unmake_routes(pod, &side, index).err());
            let noted = journal.amend(&entry);
            errors.extend(
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

/// Makes what an interface with these addresses lacks; returns its table, if it has one, and what was made.
///
/// # Errors
/// Code 100 with what the kernel refused, after it was undone; code 11 if the pod's
/// routes never held still.
pub(super) fn complete(
    pod: &mut Socket,
    config: &Config,
    index: u32,
    addresses: &[IpAddr],
    alone: bool,
) -> Result<(Option<u32>, Side), Error> {
    let gateway = next_hop(pod, config, index)?;
    // From one that the pod has taken off the link nothing leaves.
    let held = addr::all(pod).map_err(kernel)?;
    let held = |address: &IpAddr| held.contains(&(index, (*address).into()));
    let addresses: Vec<IpAddr> = addresses.iter().copied().filter(held).collect();
    let it = Attached { index, addresses: &addresses, gateway, alone };
    for _ in 0..ATTEMPTS {
        let now = Routing::read(pod)?;
        let Lack { table, routes, rules } = lacking(&it, &now.rules, &now.routes);
        if rules.is_empty() {
            return Ok((table, Side::default()));
        }
        let side = Side { routes, rules, ..Side::default() };
        match pod_side::make_routes(pod, &side, index) {
            Ok(pod_side::Made::Whole) => return Ok((table, side)),
            Ok(pod_side::Made::Overtaken(error)) => {
                if holds(&Routing::read(pod)?, &side, index) {
                    // Another call has made the same.
                    return Ok((table, Side::default()));
                }
                log::debug!("{error}: tried again");
                pod_side::unmake_routes(pod, &side, index)?;
            }
            Err(error) => {
                let undone = pod_side::unmake_routes(pod, &side, index);
                let errors = [Some(error.clone()), undone.err()];
                return Err(Error::join(errors.into_iter().flatten().collect()).unwrap_or(error));
            }
        }
    }
    let msg = "the routes of the pod change all the time";
    Err(Error::new(Code::TRY_AGAIN, msg))
}

/// The IPv4 next hop of an interface, where its routes do not tell. That of another
/// network may be another one: it is the permanent neighbour on the link.
fn next_hop(pod: &mut Socket, config: &Config, index: u32) -> Result<Ipv4Addr, Error> {
    for gateway in [config.gateway, GATEWAY] {
        let known = neigh::lookup(pod, index, gateway.into()).map_err(kernel)?;
        if known.is_some_and(|known| known.permanent) {
            return Ok(gateway);
        }
    }
    Ok(config.gateway)
}

/// Whether all of `side` is there, whoever made it.
fn holds(now: &Routing, side: &Side, index: u32) -> bool {
    let route = |wanted: &Route| {
        now.routes.iter().any(|found| {
            found.is_through(index)
                && found.route.table == wanted.table
                && found.route.agrees(wanted)
        })
    };
    side.rules.iter().all(|rule| now.rules.contains(rule)) && side.routes.iter().all(route)
}
