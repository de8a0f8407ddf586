// SPDX-License-Identifier: Apache-2.0
//! The table of policies kept what a cluster says that changes: made anew only as far as
//! something is another, and as soon as others touch it.

use super::{
    Cut, Error, Wanted,
    cut::{AT_ONCE, some},
    denial, known_before, pods, refused, state,
};
use crate::{
    net, nft,
    nft::{
        Ensured,
        policy::{Session, Way},
    },
    node::fabric::file_version,
    policy::{Attached, Compiled, Denial, Direction, Key, Policies, TABLE, World},
    state::Root,
};

/// What the table of this node was made last, and by whom it is known.
pub(crate) struct Kept {
    node: String,
    root: Root,
    denial: Denial,
    /// By which numbers are keyed, once it was asked for.
    key: Option<Key>,
    last: Option<Last>,
    /// With nf_tables, as long as it answers.
    session: Option<Session>,
    /// The note of others who made the table again: it goes once connections are looked through.
    mended: Option<String>,
}

struct Last {
    compiled: Compiled,
    attached: Vec<Attached>,
    /// Of the file that says what pods are.
    version: String,
    /// Of the rule set: while it is this one, the table holds what was compiled.
    generation: u32,
}

/// What a pass did.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Done {
    /// The table is another one now.
    pub(crate) changed: bool,
    /// What it held was read.
    pub(crate) read: bool,
    /// Something that was allowed may not be any more.
    pub(crate) restricts: bool,
    /// Others changed something of the table, or made it again, and it may have been open.
    pub(crate) mended: bool,
}

impl Kept {
    /// Of a cluster in which this node has that name, where packets are denied like that.
    pub(crate) fn new(node: &str, denial: Denial, root: &Root) -> Self {
        let (node, root) = (node.to_owned(), root.clone());
        Self { node, root, denial, key: None, last: None, session: None, mended: None }
    }

    /// Makes the table what the cluster says now. What it holds is read if `whole` asks for
    /// that, or if it is to be another one and somebody changed the rule set meanwhile.
    ///
    /// # Errors
    /// `Kernel` with what nf_tables refused; `File` where nothing can be noted; `Busy` while
    /// somebody else is at it.
    pub(crate) fn pass(&mut self, world: &World, whole: bool) -> Result<Done, Error> {
        let attached = pods::all_attached(&self.root);
        let denial = self.denial(whole);
        let key = match self.key {
            Some(key) => key,
            None => *self.key.insert(state::keep_key(&self.root)?),
        };
        let before = match &self.last {
            Some(Last { compiled, .. }) => [&compiled.pods[..], &compiled.former].concat(),
            None => known_before(&self.root),
        };
        let wanted = |attached: &[Attached]| {
            Wanted::by(world.clone(), (&self.node, &key), denial, attached, &before)
        };
        let mut wanted_now = wanted(&attached);
        if !whole && self.last.as_ref().is_some_and(|last| last.compiled == wanted_now.compiled) {
            return Ok(Done::default());
        }
        let _lock = state::lock(&self.root)?;
        // A pod that was attached until nobody could be any more is part of it.
        let now = pods::all_attached(&self.root);
        if now != attached {
            wanted_now = wanted(&now);
        }
        let Wanted { mut compiled, .. } = wanted_now;
        let file = state::pods_file(&self.root);
        let last = self.last.take();
        let is_noted = last
            .as_ref()
            .is_some_and(|last| last.compiled == compiled && last.version == file_version(&file));
        state::note_keeper(&self.root)?;
        if !is_noted {
            state::note_key(&self.root, &key)?;
            state::write(&self.root, &self.node, &compiled)?;
        }
        let before = last.as_ref().map(|last| &last.compiled.policies);
        let followed = match &last {
            Some(Last { compiled: before, generation, .. })
                if !whole && before.policies.denial == denial =>
            {
                let (policies, before) = (&compiled.policies, &before.policies);
                self.converse(|session| policies.follow(before, *generation, session))?
            }
            _ => None,
        };
        let (changed, generation) = match followed {
            Some(generation) => (before != Some(&compiled.policies), generation),
            None => {
                let wanted = &mut compiled.policies;
                let (done, note) = denial::enforced(&self.root, wanted, Policies::bring_up)?;
                note.into_iter().for_each(|note| log::warn!("{note}"));
                let (ensured, generation) = done;
                (ensured != Ensured::Unchanged, generation)
            }
        };
        // Whoever was here before may have been killed before it cut what it had to.
        let restricts =
            before.is_none_or(|before| changed && restricts(before, &compiled.policies));
        self.mended = state::mended(&self.root);
        let mended = self.mended.is_some() || before.is_some() && followed.is_none() && changed;
        let version = file_version(&file);
        self.last = Some(Last { compiled, attached: now, version, generation });
        Ok(Done { changed, read: followed.is_none(), restricts, mended })
    }

    /// How packets are to be denied: as far as the kernel could the last time. What it did not
    /// take it may by now, as where a module came later, and is asked for again whenever all of
    /// the table is compared.
    fn denial(&self, whole: bool) -> Denial {
        let Some(last) = &self.last else { return self.denial };
        let held = last.compiled.policies.denial;
        if held == self.denial || !whole {
            return held;
        }
        let table = TABLE.to_owned();
        Policies { table, denial: self.denial, ..Policies::default() }.possible_denial()
    }

    /// Whether others may have changed anything of the table, which was touched, or wrote down
    /// something else. What of it they changed is for a look at all of the table to find: a
    /// class that is gone opens a pod, and so does a grant that somebody put there.
    ///
    /// Pods that come and go are such changes too. To look then costs nothing more: the next
    /// change of the cluster would have to look because of them.
    ///
    /// # Errors
    /// `Kernel` where nf_tables does not answer.
    pub(crate) fn is_overtaken(&mut self) -> Result<bool, Error> {
        let Some(Last { version, generation, .. }) = &self.last else { return Ok(false) };
        if *version != file_version(&state::pods_file(&self.root)) {
            return Ok(true);
        }
        let generation = *generation;
        self.converse(|session| session.is_untouched(generation)).map(|is_untouched| !is_untouched)
    }

    /// Does that in the session that there is, or in another one. Whatever comes of an error, the
    /// next one begins anew.
    fn converse<T>(
        &mut self,
        what: impl FnOnce(&mut Session) -> Result<T, nft::Error>,
    ) -> Result<T, Error> {
        let session = self.session.take().map_or_else(Session::open, Ok);
        let mut session = session.map_err(refused)?;
        let done = what(&mut session).map_err(refused)?;
        self.session = Some(session);
        Ok(done)
    }

    /// Cuts connections that are not allowed, as many as are cut at once.
    ///
    /// # Errors
    /// Why none could be.
    pub(crate) fn cut(&self) -> Result<Cut, net::Error> {
        match &self.last {
            Some(last) => {
                let cut = some(&last.compiled.policies, AT_ONCE)?;
                if cut.left == 0
                    && let Some(noted) = &self.mended
                {
                    state::forget_mended(&self.root, noted);
                }
                Ok(cut)
            }
            // Whoever comes to know the table cuts by that.
            None => Ok(Cut::default()),
        }
    }

    /// How many pods of this node are isolated in either direction.
    pub(crate) fn isolated(&self) -> usize {
        let pods = self.last.iter().flat_map(|last| &last.compiled.pods);
        pods.filter(|pod| pod.assigned.classes.iter().any(Option::is_some)).count()
    }

    /// How many pods are closed because nobody knows them.
    pub(crate) fn unknown(&self) -> usize {
        let Some(Last { compiled, attached, .. }) = &self.last else { return 0 };
        let is_known =
            |one: &&Attached| compiled.pods.iter().any(|known| one.is(&known.name, &known.uid));
        attached.iter().filter(|one| !is_known(one)).count()
    }
}

/// Tells of what others do with the table.
///
/// # Errors
/// `Kernel` with what the kernel refused.
pub(crate) fn monitor() -> Result<nft::Monitor, Error> {
    nft::subscribe(vec![TABLE.to_owned()]).map_err(refused)
}

/// Whether a connection may be allowed by the former table and not by the new one.
fn restricts(before: &Policies, after: &Policies) -> bool {
    let is_less = |direction| {
        let (before, after): (&Way, &Way) = (before.way(direction), after.way(direction));
        !after.classes.without(&before.classes).is_empty()
            || !before.grants.without(&after.grants).is_empty()
            || !before.networks.without(&after.networks).is_empty()
    };
    Direction::BOTH.into_iter().any(is_less)
        || !before.identities.without(&after.identities).is_empty()
}

#[cfg(test)]
mod tests;
