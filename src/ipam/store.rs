// SPDX-License-Identifier: Apache-2.0
//! host-local's store: a directory per network with a file per address.
//!
//! A lease appears whole or not at all: its content is written to a file of
//! another name, which is then linked to the address. All of this happens under
//! host-local's own lock, which the caller takes and hands over.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashSet},
    fs::{self, File},
    io::{self, ErrorKind, Write},
    net::IpAddr,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::{
    Lease, Owner, RangeSet, State, choose,
    hints::{self, Hints, Note, ignore_missing},
    lease,
};
use crate::list::{Gather, Ordered};
use crate::state::file::{is_link, private, unique};

mod recovery;

pub use recovery::is_older_than_boot;

/// Where host-local keeps its stores unless `dataDir` says otherwise.
pub const DATA_DIR: &str = "/var/lib/cni/networks";
/// The file in a store that is locked (flock(2)).
pub const LOCK: &str = "lock";
/// Names of files that are being written begin so; host-local takes none for an
/// address.
const TEMPORARY: &str = ".manx-";
/// The longest address is shorter.
const ADDRESS_BYTES_MAX: usize = 64;
/// How many addresses in a row are tried before the directory is listed.
const PROBES_MAX: usize = 512;

/// A store whose lock is held.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    /// None where the store is another plugin's, whose leases we only release.
    hints: Option<Hints>,
    /// Whether the hints could not be written. The leases are the truth: nothing
    /// fails for that.
    blind: Cell<bool>,
    now: SystemTime,
    /// The open files of the sets' last addresses.
    pointers: RefCell<BTreeMap<usize, File>>,
    _lock: File,
}

/// An address that is to be taken, and the index of the set that it is of.
pub type Pick = (usize, IpAddr);

/// Why an address could not be taken.
#[derive(Debug)]
pub enum TakeError {
    /// Somebody has it.
    Taken(IpAddr),
    /// The file system refused.
    Io(io::Error),
}

impl From<io::Error> for TakeError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Store {
    /// The store in `directory`, whose `lock` is held exclusively; what is known
    /// of its owners is kept in `hints`, which is gone at boot. Without hints all
    /// leases are read whenever an owner is looked for.
    ///
    /// # Errors
    /// Of reading the store, where the hints are not complete.
    pub fn open(
        directory: &Path,
        hints: Option<&Path>,
        lock: File,
        now: SystemTime,
    ) -> io::Result<Self> {
        let hints = hints.map(Hints::new);
        let store = Self {
            directory: directory.to_owned(),
            hints,
            blind: Cell::new(false),
            now,
            pointers: RefCell::default(),
            _lock: lock,
        };
        if !store.hints().is_some_and(|hints| hints.are_complete(directory)) {
            store.rebuild()?;
        }
        Ok(store)
    }

    /// The addresses that an owner holds.
    ///
    /// # Errors
    /// Of reading the store.
    pub fn held_by(&self, owner: &Owner) -> io::Result<Vec<IpAddr>> {
        let Some(hints) = self.hints() else { return Ok(self.scan(owner)) };
        let Some(note) = hints.note(owner) else { return Ok(Vec::new()) };
        let is_true = |address: &IpAddr| self.is_of(*address, owner);
        if note.taking.is_none() && note.addresses.iter().all(is_true) {
            return Ok(note.addresses);
        }
        // Somebody wrote into a lease, or we were killed.
        self.rebuild()?;
        let Some(hints) = self.hints() else { return Ok(self.scan(owner)) };
        Ok(hints.note(owner).map(|note| note.addresses).unwrap_or_default())
    }

    /// The address of `set`, which is the store's set number `index`, to give
    /// next; `None` if there is none left that is `useful`.
    ///
    /// # Errors
    /// Of reading the store, and of `useful`.
    pub fn next<E: From<io::Error>>(
        &self,
        index: usize,
        set: &RangeSet,
        useful: impl FnMut(IpAddr) -> Result<bool, E>,
    ) -> Result<Option<IpAddr>, E> {
        let resting = self.hints().map(|hints| hints.resting(self.now)).unwrap_or_default();
        let (mut probes, mut taken) = (0, None::<HashSet<IpAddr>>);
        let state = |address: IpAddr| {
            probes += 1;
            if probes > PROBES_MAX && taken.is_none() {
                taken = Some(self.addresses()?);
            }
            let is_taken = match &taken {
                Some(taken) => taken.contains(&address),
                None => self.is_taken(address)?,
            };
            Ok(match resting.get(&address) {
                _ if is_taken => State::Taken,
                Some(age) => State::Resting(*age),
                None => State::Free,
            })
        };
        choose(set, self.last_reserved(index), state, useful)
    }

    /// Gives addresses to an owner beside those it holds, as
    /// [`Store::held_by`] has them: all of them or none.
    ///
    /// # Errors
    /// [`TakeError::Taken`] if somebody has one; otherwise of writing. Nothing
    /// stays taken.
    pub fn take(&self, owner: &Owner, held: Vec<IpAddr>, picks: &[Pick]) -> Result<(), TakeError> {
        let new: Vec<IpAddr> = picks.iter().map(|(_, address)| *address).gather();
        self.give(owner, held, &new, picks)
    }

    /// `reserved` are those after which the search for the next one starts.
    fn give(
        &self,
        owner: &Owner,
        before: Vec<IpAddr>,
        new: &[IpAddr],
        reserved: &[Pick],
    ) -> Result<(), TakeError> {
        // What was not written here is another's, or was the owner's before.
        if let Err((written, error)) = self.write_leases(owner, new) {
            for address in written {
                let _ = fs::remove_file(self.path(address));
            }
            self.note(owner, Note { addresses: before, taking: None });
            self.seal();
            return Err(error);
        }
        self.note(owner, Note { addresses: [before.as_slice(), new].concat(), taking: None });
        for (set, address) in reserved {
            if let Err(error) = self.set_last_reserved(*set, *address) {
                log::warn!("note the address given last in {}: {error}", self.directory.display());
            }
        }
        self.seal();
        Ok(())
    }

    /// The hints, as long as they can be written.
    fn hints(&self) -> Option<&Hints> {
        self.hints.as_ref().filter(|_| !self.blind.get())
    }

    /// Does something to the hints. Where that fails they are no longer believed,
    /// by the next one here either: slow, and no reason to fail.
    fn hint(&self, write: impl FnOnce(&Hints) -> io::Result<()>) {
        let Some(hints) = self.hints() else { return };
        if let Err(error) = write(hints) {
            let directory = self.directory.display();
            log::warn!("notes of the leases in {directory}: {error}; going on without");
            self.blind.set(true);
            let _ = hints.doubt();
        }
    }

    fn seal(&self) {
        self.hint(|hints| hints.seal(&self.directory, self.now));
    }

    fn note(&self, owner: &Owner, note: Note) {
        self.hint(|hints| hints.write(owner, &note));
    }

    /// Says that addresses are given for links that we do not know: those of
    /// plugins that delegate.
    pub fn share(&self) {
        self.hint(|hints| if hints.is_shared() { Ok(()) } else { hints.write_shared() });
    }

    fn scan(&self, owner: &Owner) -> Vec<IpAddr> {
        let leases = leases(&self.directory).into_iter();
        leases.filter(|lease| lease.owner == *owner).map(|lease| lease.address).gather()
    }

    /// Leases to its owner an address that is in use and that nobody has leased.
    ///
    /// # Errors
    /// Of writing; if somebody has leased it meanwhile.
    pub fn restore(&self, owner: &Owner, address: IpAddr) -> io::Result<()> {
        let held = self.held_by(owner)?;
        self.give(owner, held, &[address], &[]).map_err(|error| match error {
            TakeError::Taken(_) => ErrorKind::AlreadyExists.into(),
            TakeError::Io(error) => error,
        })
    }

    /// Writes as much as a lease into a file that never gets a name, so that the
    /// directory's date stays as it is. Where the file system knows no such
    /// files, an ADD has to find out for itself.
    ///
    /// # Errors
    /// What an ADD would meet: no space, no right, a file system that is read-only.
    pub fn probe(&self) -> io::Result<()> {
        crate::state::probe(&self.directory)
    }

    /// Frees all that an attachment holds; returns the addresses.
    ///
    /// # Errors
    /// Of reading the store or of removing a lease.
    pub fn release(&self, container_id: &str, ifname: &str) -> io::Result<Vec<IpAddr>> {
        let own = Owner::new(container_id, ifname);
        let older = Owner { ifname: None, ..own.clone() };
        for owner in [own, older] {
            let held = self.held_by(&owner)?;
            if !held.is_empty() {
                self.free(&owner, &held)?;
                return Ok(held);
            }
        }
        Ok(Vec::new())
    }

    /// Frees one lease, if it still is that.
    ///
    /// # Errors
    /// Of reading the store or of removing it.
    pub fn release_lease(&self, lease: &Lease) -> io::Result<()> {
        if self.held_by(&lease.owner)?.contains(&lease.address) {
            self.free(&lease.owner, &[lease.address])?;
        }
        Ok(())
    }

    /// All leases, ordered by address.
    pub fn leases(&self) -> Vec<Lease> {
        leases(&self.directory)
    }

    /// The addresses that have a file, whatever it says.
    ///
    /// # Errors
    /// Of reading the directory.
    pub fn addresses(&self) -> io::Result<HashSet<IpAddr>> {
        let mut found = HashSet::new();
        for entry in fs::read_dir(&self.directory)? {
            found.extend(entry?.file_name().to_str().and_then(lease::address));
        }
        Ok(found)
    }

    fn free(&self, owner: &Owner, addresses: &[IpAddr]) -> io::Result<()> {
        for address in addresses {
            ignore_missing(fs::remove_file(self.path(*address)))?;
        }
        if let Some(hints) = self.hints() {
            let held = hints.note(owner).map(|note| note.addresses).unwrap_or_default();
            let left = held.into_iter().filter(|address| !addresses.contains(address)).gather();
            self.note(owner, Note { addresses: left, taking: None });
        }
        self.hint(|hints| hints.let_rest(addresses, self.now));
        self.seal();
        Ok(())
    }

    /// Writes the content once and links it to each address. The note comes
    /// first where there are several: should we be killed between two of them,
    /// the next one here takes the first back.
    fn write_leases(&self, owner: &Owner, new: &[IpAddr]) -> Result<(), (Vec<IpAddr>, TakeError)> {
        let mut written = Vec::new();
        let temporary = self.directory.join(format!("{TEMPORARY}{}", unique()));
        let mut write = || -> Result<(), TakeError> {
            let mut file = private().create_new(true).open(&temporary)?;
            file.write_all(owner.encode().as_bytes())?;
            if new.len() > 1 {
                let taking = Some(file.metadata()?.ino());
                self.note(owner, Note { addresses: new.to_vec(), taking });
            }
            new.iter().try_for_each(|address| {
                self.link(&temporary, *address).map(|()| written.push(*address))
            })
        };
        let outcome = write();
        let removed = ignore_missing(fs::remove_file(&temporary)).map_err(TakeError::Io);
        outcome.and(removed).map_err(|error| (written, error))
    }

    fn link(&self, temporary: &Path, address: IpAddr) -> Result<(), TakeError> {
        match fs::hard_link(temporary, self.path(address)) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                Err(TakeError::Taken(address))
            }
            outcome => Ok(outcome?),
        }
    }

    /// Whether an address has a file. None of them is empty: whoever left one
    /// changed the store, and it went when the notes were made anew.
    ///
    /// # Errors
    /// Of looking at it.
    pub fn is_taken(&self, address: IpAddr) -> io::Result<bool> {
        match fs::symlink_metadata(self.path(address)) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn is_of(&self, address: IpAddr, owner: &Owner) -> bool {
        lease::owner(&self.path(address)).is_ok_and(|found| found.as_ref() == Some(owner))
    }

    /// The address that a set gave last.
    fn last_reserved(&self, set: usize) -> Option<IpAddr> {
        let file = private().read(true).create(false).open(self.pointer(set)).ok()?;
        let mut buffer = [0; ADDRESS_BYTES_MAX];
        let length = file.read_at(&mut buffer, 0).ok()?;
        self.pointers.borrow_mut().insert(set, file);
        std::str::from_utf8(buffer.get(..length)?).ok()?.trim().parse().ok()
    }

    /// Overwritten in place: ext4 writes a file to the disk that was emptied
    /// first, which takes longer than all else here. What a kill in between
    /// leaves is another place to go on from.
    fn set_last_reserved(&self, set: usize, address: IpAddr) -> io::Result<()> {
        let file = match self.pointers.borrow_mut().remove(&set) {
            Some(file) => file,
            None => match private().open(self.pointer(set)) {
                // It is made anew: whatever it leads to is not ours.
                Err(error) if is_link(&error) => {
                    fs::remove_file(self.pointer(set))?;
                    private().open(self.pointer(set))?
                }
                opened => opened?,
            },
        };
        let text = address.to_string();
        let length = u64::try_from(text.len()).unwrap_or_default();
        file.write_all_at(text.as_bytes(), 0)?;
        if file.metadata()?.len() > length { file.set_len(length) } else { Ok(()) }
    }

    fn pointer(&self, set: usize) -> PathBuf {
        self.directory.join(format!("last_reserved_ip.{set}"))
    }

    fn path(&self, address: IpAddr) -> PathBuf {
        self.directory.join(address.to_string())
    }
}

/// Whether [`Store::share`] was said since the boot, of the store with these
/// hints.
pub fn is_shared(hints: &Path) -> bool {
    Hints::new(hints).is_shared()
}

/// The name of a store's notes, by what its directory is.
pub fn hints_name(store: &fs::Metadata) -> String {
    hints::name(store)
}

/// Removes the notes of stores that are no more, of all that are in `directory`.
pub fn sweep_hints(directory: &Path) {
    hints::sweep(directory);
}

/// The leases of a store, ordered by address. Needs no lock: a file is there
/// whole or empty, and one that is empty is nobody's.
pub fn leases(directory: &Path) -> Vec<Lease> {
    let files = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut leases: Vec<Lease> = files
        .filter_map(|file| {
            let address = lease::address(file.file_name().to_str()?)?;
            let owner = lease::owner(&file.path()).ok()??;
            Some(Lease { address, owner })
        })
        .gather();
    leases.order_by_key(|lease| lease.address);
    leases
}

#[cfg(test)]
mod tests;
