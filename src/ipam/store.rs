//! host-local's store: a directory per network with a file per address.
//!
//! A lease appears whole or not at all: its content is written to a file of
//! another name, which is then linked to the address. All of this happens under
//! host-local's own lock, which the caller takes and hands over.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File},
    io::{self, ErrorKind, Read, Write},
    net::IpAddr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process,
    time::SystemTime,
};

use super::{
    Lease, Owner, RangeSet, State, choose,
    hints::{Hints, Note, ignore_missing},
    lease,
};

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
const PROBES_MAX: usize = 16;

/// A store whose lock is held.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    /// None where the store is another plugin's, whose leases we only release.
    hints: Option<Hints>,
    now: SystemTime,
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
        let store = Self { directory: directory.to_owned(), hints, now, _lock: lock };
        if !store.hints.as_ref().is_some_and(|hints| hints.are_complete(directory)) {
            store.rebuild()?;
        }
        Ok(store)
    }

    /// The addresses that an owner holds.
    ///
    /// # Errors
    /// Of reading the store.
    pub fn held_by(&self, owner: &Owner) -> io::Result<Vec<IpAddr>> {
        let Some(hints) = &self.hints else {
            let leases = leases(&self.directory).into_iter();
            return Ok(leases.filter(|it| it.owner == *owner).map(|it| it.address).collect());
        };
        let Some(note) = hints.note(owner) else { return Ok(Vec::new()) };
        let is_true = |address: &IpAddr| self.is_of(*address, owner);
        if !note.taking && note.addresses.iter().all(is_true) {
            return Ok(note.addresses);
        }
        // Somebody wrote into a lease, or we were killed.
        self.rebuild()?;
        Ok(hints.note(owner).map(|note| note.addresses).unwrap_or_default())
    }

    /// The address of `set`, which is the store's set number `index`, to give
    /// next; `None` if there is none left.
    ///
    /// # Errors
    /// Of reading the store.
    pub fn next(
        &self,
        index: usize,
        set: &RangeSet,
        never: &[IpAddr],
    ) -> io::Result<Option<IpAddr>> {
        let resting = self.hints.as_ref().map(|hints| hints.resting(self.now)).unwrap_or_default();
        let (mut probes, mut taken) = (0, None::<HashSet<IpAddr>>);
        choose(set, self.last_reserved(index), never, |address| {
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
        })
    }

    /// Gives addresses to an owner beside those it holds, as
    /// [`Store::held_by`] has them: all of them or none.
    ///
    /// # Errors
    /// [`TakeError::Taken`] if somebody has one; otherwise of writing. Nothing
    /// stays taken.
    pub fn take(&self, owner: &Owner, held: Vec<IpAddr>, picks: &[Pick]) -> Result<(), TakeError> {
        let new: Vec<IpAddr> = picks.iter().map(|(_, address)| *address).collect();
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
        let outcome = self.write_leases(owner, new).and_then(|()| {
            let addresses = [before.as_slice(), new].concat();
            let noted = self.note(owner, Note { addresses, taking: false });
            noted.map_err(|error| (new.to_vec(), error.into()))
        });
        // What was not written here is another's, or was the owner's before.
        if let Err((written, error)) = outcome {
            for address in written {
                let _ = fs::remove_file(self.path(address));
            }
            let _ = self.note(owner, Note { addresses: before, taking: false });
            self.seal();
            return Err(error);
        }
        for (set, address) in reserved {
            if let Err(error) = self.set_last_reserved(*set, *address) {
                log::warn!("note the address given last in {}: {error}", self.directory.display());
            }
        }
        self.seal();
        Ok(())
    }

    /// Declares the notes complete. What is not declared so is made anew by the
    /// next one here: slow, and no reason to fail.
    fn seal(&self) {
        let sealed = self.hints.as_ref().map(|hints| hints.seal(&self.directory, self.now));
        if let Some(Err(error)) = sealed {
            log::warn!("date the leases of {}: {error}", self.directory.display());
        }
    }

    fn note(&self, owner: &Owner, note: Note) -> io::Result<()> {
        self.hints.as_ref().map_or(Ok(()), |hints| hints.write(owner, &note))
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

    /// All leases with the date of each, ordered by address.
    ///
    /// # Errors
    /// Of reading the store.
    pub fn leases(&self) -> io::Result<Vec<(Lease, SystemTime)>> {
        let leases = leases(&self.directory).into_iter();
        let dated = leases.filter_map(|lease| {
            let modified = fs::metadata(self.path(lease.address)).and_then(|data| data.modified());
            Some((lease, modified.ok()?))
        });
        Ok(dated.collect())
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
        let Some(hints) = &self.hints else { return Ok(()) };
        let mut note = hints.note(owner).unwrap_or(Note { addresses: vec![], taking: false });
        note.addresses.retain(|address| !addresses.contains(address));
        hints.write(owner, &note)?;
        hints.let_rest(addresses, self.now)?;
        self.seal();
        Ok(())
    }

    /// Writes the content once and links it to each address. The note comes
    /// first where there are several: should we be killed between two of them,
    /// the next one here takes the first back.
    fn write_leases(&self, owner: &Owner, new: &[IpAddr]) -> Result<(), (Vec<IpAddr>, TakeError)> {
        let mut written = Vec::new();
        let mut write = || -> Result<(), TakeError> {
            if new.len() > 1 {
                self.note(owner, Note { addresses: new.to_vec(), taking: true })?;
            }
            let temporary = self.directory.join(format!("{TEMPORARY}{}", process::id()));
            let mut options = File::options();
            options.write(true).create(true).truncate(true).mode(0o600);
            options.open(&temporary)?.write_all(owner.encode().as_bytes())?;
            let outcome = new.iter().try_for_each(|address| {
                self.link(&temporary, *address).map(|()| written.push(*address))
            });
            fs::remove_file(&temporary)?;
            outcome
        };
        write().map_err(|error| (written, error))
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
        self.path(address).try_exists()
    }

    fn is_of(&self, address: IpAddr, owner: &Owner) -> bool {
        lease::owner(&self.path(address)).is_ok_and(|found| found.as_ref() == Some(owner))
    }

    /// Reads every lease and notes whose it is. Takes back what ADDs of ours
    /// that were killed had taken of several addresses, and removes what was
    /// being written. So does it with files that name nobody: a host-local that
    /// was killed leaves them, and the lock that it wrote under is ours now.
    fn rebuild(&self) -> io::Result<()> {
        let killed = self.hints.as_ref().map_or(Ok(Vec::new()), Hints::clear)?;
        let mut owners: HashMap<Owner, Vec<IpAddr>> = HashMap::new();
        for entry in fs::read_dir(&self.directory)? {
            let name = entry?.file_name();
            let name = name.to_string_lossy();
            if name.starts_with(TEMPORARY) {
                ignore_missing(fs::remove_file(self.directory.join(&*name)))?;
            }
            let Some(address) = lease::address(&name) else { continue };
            match lease::owner(&self.path(address)) {
                Ok(Some(owner)) => owners.entry(owner).or_default().push(address),
                Ok(None) => ignore_missing(fs::remove_file(self.path(address)))?,
                // Not a file, or not readable: nobody's, and not to be given.
                Err(_) => {}
            }
        }
        for (owner, mut addresses) in owners {
            addresses.sort_unstable();
            self.note(&owner, Note { addresses, taking: false })?;
        }
        for (path, note) in killed {
            for address in note.addresses {
                let owner = lease::owner(&self.path(address)).ok().flatten();
                let is_his = |owner: &Owner| {
                    self.hints.as_ref().is_some_and(|hints| hints.path(owner) == path)
                };
                if let Some(owner) = owner.filter(is_his) {
                    self.free(&owner, &[address])?;
                }
            }
        }
        self.seal();
        Ok(())
    }

    /// The address that a set gave last.
    fn last_reserved(&self, set: usize) -> Option<IpAddr> {
        let mut buffer = [0; ADDRESS_BYTES_MAX];
        let length = File::open(self.pointer(set)).ok()?.read(&mut buffer).ok()?;
        std::str::from_utf8(buffer.get(..length)?).ok()?.trim().parse().ok()
    }

    /// Overwritten in place: ext4 writes a file to the disk that was emptied
    /// first, which takes longer than all else here. What a kill in between
    /// leaves is another place to go on from.
    fn set_last_reserved(&self, set: usize, address: IpAddr) -> io::Result<()> {
        let mut options = File::options();
        options.write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(self.pointer(set))?;
        let text = address.to_string();
        let length = u64::try_from(text.len()).unwrap_or_default();
        file.write_all(text.as_bytes())?;
        if file.metadata()?.len() > length { file.set_len(length) } else { Ok(()) }
    }

    fn pointer(&self, set: usize) -> PathBuf {
        self.directory.join(format!("last_reserved_ip.{set}"))
    }

    fn path(&self, address: IpAddr) -> PathBuf {
        self.directory.join(address.to_string())
    }
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
        .collect();
    leases.sort_unstable_by_key(|lease| lease.address);
    leases
}

#[cfg(test)]
mod tests;
