// SPDX-License-Identifier: Apache-2.0
//! From the configuration and the peers to a kernel that agrees with them.

use super::{
    apply::{Refused, apply},
    describe::describe,
    desired::{Desired, Facts},
    diff::{diff, rival},
    inquiry::Inquiry,
    ledger::{Added, Ledger},
    observe::{facts, observe},
    observed::Observed,
    peers::Peers,
    settings::Settings,
};
use crate::{
    list::{Gather, PushAll},
    net::{Error, Socket, Tables},
    object::{Action, Change, route::adopted},
    pod::mtu::Uplink,
    text::few::some_of,
};

/// What is to be changed, and why.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The facts it is made from.
    pub facts: Facts,
    /// What the kernel should have.
    pub desired: Desired,
    /// What it has.
    pub observed: Observed,
    /// The difference.
    pub changes: Vec<Change>,
    /// Routes of others serve in place of ours.
    pub borrows: bool,
}

impl Plan {
    /// Compares the kernel with what the configuration and the peers ask for;
    /// `ledger` is what earlier passes have left.
    ///
    /// # Errors
    /// Of the kernel's answers.
    pub fn make(
        mut inquiry: Inquiry<'_>,
        settings: &Settings,
        peers: &Peers,
        ledger: &Ledger,
    ) -> Result<Self, Error> {
        let facts = facts(inquiry.again(), settings, peers, ledger)?;
        let desired = wanted(settings, peers, &facts);
        let observed = observe(inquiry.socket, settings, &desired, ledger, inquiry.tables)?;
        Ok(Self::of(facts, desired, observed))
    }

    /// The same plan again, by what was seen then.
    pub fn again(settings: &Settings, peers: &Peers, facts: Facts, observed: Observed) -> Self {
        let desired = wanted(settings, peers, &facts);
        Self::of(facts, desired, observed)
    }

    /// The plan that removes all that is ours, on a node that has these `tables`, if they
    /// are known.
    ///
    /// # Errors
    /// Of the kernel's answers.
    pub fn undo(
        socket: &mut Socket,
        settings: &Settings,
        ledger: &Ledger,
        tables: Option<&Tables>,
    ) -> Result<Self, Error> {
        let desired = Desired::default();
        let observed = match tables {
            Some(tables) => observe(socket, settings, &desired, ledger, tables)?,
            None => {
                let tables = Tables::of_kernel(socket)?;
                observe(socket, settings, &desired, ledger, &tables)?
            }
        };
        Ok(Self::of(Facts::default(), desired, observed))
    }

    /// The plan by which goes what was seen.
    pub fn undo_again(observed: Observed) -> Self {
        Self::of(Facts::default(), Desired::default(), observed)
    }

    fn of(facts: Facts, mut desired: Desired, observed: Observed) -> Self {
        let changes = diff(&desired, &observed);
        let rivals = desired.objects.tunnels.iter().filter_map(|tunnel| {
            rival(tunnel, &observed).map(|rival| format!("{}: {rival}", tunnel.name))
        });
        let rivals: Vec<String> = rivals.gather();
        desired.not_ready.push_all(rivals);
        let adopted = adopted(&desired.objects.routes, &observed.held.routes);
        let adopted: Vec<String> = adopted.iter().map(ToString::to_string).gather();
        if !adopted.is_empty() {
            let note = format!("what others have serves as it is: route {}", some_of(&adopted));
            desired.notes.push(note);
        }
        Self { facts, desired, observed, changes, borrows: !adopted.is_empty() }
    }

    /// Makes the changes; returns what failed.
    pub fn carry_out(&self, socket: &mut Socket) -> Refused {
        apply(socket, &self.observed, &self.changes)
    }

    /// What will have been added to devices of others: to be noted before the
    /// changes are made.
    pub fn added_before(&self) -> Added {
        self.observed.ledger.added.before(&self.changes, &self.observed.held.tunnels)
    }

    /// What has been added to them once all changes are made.
    pub fn added_after(&self) -> Added {
        self.added_before().after(&self.desired)
    }

    /// The changes that can be made, without those that somebody else stands
    /// in the way of.
    pub fn feasible(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter().filter(|change| change.action() != Action::Conflict)
    }

    /// The routes and devices that somebody else has.
    pub fn conflicts(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter().filter(|change| change.action() == Action::Conflict)
    }

    /// The narrowest device towards any peer, from which the pods' MTU follows.
    pub fn uplink(&self) -> Option<Uplink> {
        self.facts.narrowest(None)
    }
}

/// What the kernel should have, and what an operator should know of the list.
fn wanted(settings: &Settings, peers: &Peers, facts: &Facts) -> Desired {
    let mut desired = describe(settings, peers, facts);
    desired.notes.push_all(peers.here.iter().chain(&peers.notes).chain(&peers.unread).cloned());
    desired
}
