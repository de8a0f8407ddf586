// SPDX-License-Identifier: Apache-2.0
//! Drawing addresses out of our own pool: those that were asked for, those that an
//! attachment had before the boot, and else the next that a pod may have.

use std::{collections::HashSet, io, net::IpAddr};

use super::{Pool, Refused};
use crate::{
    cni::{Code, Error},
    ipam::{RangeSet, Store, store::Pick},
    verb::{
        file,
        usable::{Choice, Decide, Objection},
    },
};

/// Drawing addresses out of a store that is open.
pub(super) struct Draw<'a, 'b> {
    pub(super) pool: &'a Pool<'a>,
    pub(super) store: &'a Store,
    /// What the attachment had before the boot: given first.
    pub(super) inherited: Vec<IpAddr>,
    pub(super) decide: &'a mut Decide<'b>,
}

/// Why an address could not be drawn.
enum Trouble {
    Store(io::Error),
    Kernel(Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Store(error)
    }
}

impl Draw<'_, '_> {
    /// An address for each set: one of those asked for that lies in it, else the
    /// next. When a set has none left, leases from before the boot are released.
    pub(super) fn picks(
        &mut self,
        sets: &[RangeSet],
        requested: &[IpAddr],
    ) -> Result<Vec<Pick>, Refused> {
        let mut requested = requested.to_vec();
        let mut seen = HashSet::new();
        requested.retain(|address| seen.insert(*address));
        for address in &requested {
            self.require_usable(*address, sets)?;
        }
        let mut picks = Vec::new();
        for (index, set) in sets.iter().enumerate() {
            let wanted = requested.iter().position(|address| set.range_of(*address).is_some());
            if let Some(wanted) = wanted {
                let address = requested.remove(wanted);
                self.require_free(address)?;
                picks.push((index, address));
                continue;
            }
            // Those asked for are not given to somebody else's set by chance: sets
            // do not overlap.
            let mut skipped = None;
            let mut next = self.next(index, set, &mut skipped)?;
            let of_set = |address| set.range_of(address).is_some();
            if next.is_none() && release_forgotten(self.pool, self.store, &of_set)? > 0 {
                next = self.next(index, set, &mut skipped)?;
            }
            picks.push((index, next.ok_or_else(|| exhausted(self.pool, set, skipped))?));
        }
        match requested.first() {
            None => Ok(picks),
            Some(address) => {
                let msg =
                    format!("{address} was asked for and is in no range, or its set has given one");
                Err(Error::new(Code::INVALID_CONFIG, msg)
                    .details("ask for an address of the ranges, one of each set"))?
            }
        }
    }

    /// The next address of a set that no one objects to, and the last one that
    /// was passed over.
    fn next(
        &mut self,
        index: usize,
        set: &RangeSet,
        skipped: &mut Option<(IpAddr, Objection)>,
    ) -> Result<Option<IpAddr>, Error> {
        let mut useful = |address: IpAddr| {
            let Some(objection) = (self.decide)(address, Choice::Drawn).map_err(Trouble::Kernel)?
            else {
                return Ok(true);
            };
            log::warn!("{address} is passed over: it is {}", objection.what);
            *skipped = Some((address, objection));
            Ok(false)
        };
        let own = self.inherited.iter().find(|address| set.range_of(**address).is_some());
        let drawn = match own {
            Some(own) if matches!(useful(*own), Ok(true)) => Ok(Some(*own)),
            _ => self.store.next(index, set, useful),
        };
        drawn.map_err(|trouble| match trouble {
            Trouble::Store(error) => file("look for a free address", self.pool.directory(), &error),
            Trouble::Kernel(error) => error,
        })
    }

    /// Refuses what was asked for and no pod can have, in whatever range it is.
    fn require_usable(&mut self, address: IpAddr, sets: &[RangeSet]) -> Result<(), Error> {
        let range = sets.iter().find_map(|set| set.range_of(address));
        if range.is_some_and(|range| range.gateway() == address) {
            let msg = format!("{address} was asked for, which is the subnet's gateway");
            let error = Error::new(Code::INVALID_CONFIG, msg);
            return Err(error.details("ask for another address"));
        }
        match (self.decide)(address, Choice::Asked)? {
            Some(objection) => Err(objection.of_request(address)),
            None => Ok(()),
        }
    }

    fn require_free(&self, address: IpAddr) -> Result<(), Refused> {
        let taken = || self.store.is_taken(address);
        let failed = |error| file("look for an address", self.pool.directory(), &error);
        if taken().map_err(failed)?
            && (release_forgotten(self.pool, self.store, &|other| other == address)? == 0
                || taken().map_err(failed)?)
        {
            return Err(Refused::by_lease(not_available(address)));
        }
        Ok(())
    }
}

/// Whether a set has an address to give.
///
/// # Errors
/// Of the store and of the kernel's answers.
pub(super) fn has_next(
    store: &Store,
    index: usize,
    set: &RangeSet,
    decide: &mut Decide<'_>,
) -> Result<bool, Error> {
    let useful =
        |address: IpAddr| Ok(decide(address, Choice::Drawn).map_err(Trouble::Kernel)?.is_none());
    match store.next(index, set, useful) {
        Ok(next) => Ok(next.is_some()),
        Err(Trouble::Kernel(error)) => Err(error),
        Err(Trouble::Store(error)) => {
            Err(Error::new(Code::IO, format!("read the leases: {error}")))
        }
    }
}

fn release_forgotten(
    pool: &Pool<'_>,
    store: &Store,
    concerns: &dyn Fn(IpAddr) -> bool,
) -> Result<usize, Error> {
    let forgotten = pool.forgotten(store, concerns)?;
    for lease in &forgotten {
        store
            .release_lease(lease)
            .map_err(|error| file("release a lease", pool.directory(), &error))?;
    }
    if !forgotten.is_empty() {
        log::warn!("{} leases from before the last boot released", forgotten.len());
    }
    Ok(forgotten.len())
}

fn exhausted(pool: &Pool<'_>, set: &RangeSet, skipped: Option<(IpAddr, Objection)>) -> Refused {
    let msg = format!("no free address in {set} of network {}", pool.network());
    let mut next = "see: manx ipam show; add a range to the set, or remove attachments".to_owned();
    if let Some((address, Objection { what, .. })) = skipped {
        next = format!("passed over: {address}, which is {what}; {next}");
    }
    Refused::by_lease(Error::new(Code::TRY_AGAIN, msg).details(next))
}

pub(super) fn not_available(address: IpAddr) -> Error {
    Error::new(Code::CONFLICT, format!("{address} was asked for and is taken"))
        .details("see: manx ipam show; ask for another address")
}
