// SPDX-License-Identifier: Apache-2.0
//! Which addresses an owner holds, without opening every lease of the store.
//!
//! The leases are the truth; this is a note of them, outside the store because
//! host-local reads every file that it finds there, and in a directory that is
//! gone at boot. An owner's note is a symbolic link whose target is the list of
//! its addresses: made, read and removed by one system call each, and never
//! half-written.
//!
//! Whether the notes are complete is told by two dates. Whoever changes the
//! store changes its directory's date of modification; when we have noted our
//! own change, we date the directory back and a stamp of ours likewise. As long
//! as both bear the same date, nobody else has been there.
//!
//! Besides, here is what was found in the store when it was first opened in this
//! boot, for of that alone it can be said that nobody has it any more; and
//! whether addresses were given for plugins whose links we do not know.

use std::{
    collections::HashMap,
    fs,
    io::{self, ErrorKind, Write},
    net::IpAddr,
    os::unix::fs::{MetadataExt, symlink},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use nix::sys::{
    stat::{UtimensatFlags, utimensat},
    time::TimeSpec,
};
use sha1_smol::Sha1;

use super::{Owner, boot};
use crate::list::{Gather, Ordered};
use crate::state::{
    directory,
    file::{TEXT_BYTES_MAX, private},
    read_own, replace,
};

/// How long a freed address is not given out while there are others: a client
/// may have its connections' last state (TIME_WAIT) as long.
pub(super) const REST: Duration = Duration::from_secs(60);

/// How many of the addresses that were freed last are known to be resting. The
/// order in which addresses are given makes the others rest.
const RESTING_MAX: usize = 256;

/// How far the store's date is set back: no change that comes later bears it, not
/// even where a file system keeps whole seconds.
const BACK: Duration = Duration::from_secs(4);

/// File names are at most 255 bytes (NAME_MAX).
const NAME_BYTES_MAX: usize = 200;

/// The link that leads to the store.
const STORE: &str = ".store";

/// First word of the note of an ADD that has not yet taken all of its addresses.
const TAKING: &str = "taking";

/// An owner's note.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Note {
    /// The addresses.
    pub(super) addresses: Vec<IpAddr>,
    /// The inode of the file that an ADD was about to link to all of them. Seen
    /// by anybody else, that ADD was killed before it was done.
    pub(super) taking: Option<u64>,
}

/// The notes of one store.
#[derive(Debug)]
pub(super) struct Hints {
    directory: PathBuf,
}

impl Hints {
    pub(super) fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    /// Whether the notes are complete.
    pub(super) fn are_complete(&self, store: &Path) -> bool {
        let date = |path: &Path| fs::metadata(path).map(|data| (data.mtime(), data.mtime_nsec()));
        match (date(&self.stamp()), date(store)) {
            (Ok(noted), Ok(date)) => noted == date,
            _ => false,
        }
    }

    /// Declares the notes complete. Where the store cannot be dated they are not
    /// believed, which is slow and right.
    pub(super) fn seal(&self, store: &Path, now: SystemTime) -> io::Result<()> {
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let dated = set_date(store, since.saturating_sub(BACK)).and_then(|()| {
            // As precise as the store's file system has it.
            let data = fs::metadata(store)?;
            let seconds = u64::try_from(data.mtime()).unwrap_or_default();
            Ok(Duration::new(seconds, u32::try_from(data.mtime_nsec()).unwrap_or_default()))
        });
        let Ok(date) = dated else { return self.doubt() };
        match set_date(&self.stamp(), date) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                private().open(self.stamp())?;
                set_date(&self.stamp(), date)
            }
            outcome => outcome,
        }
    }

    /// Declares the notes incomplete.
    pub(super) fn doubt(&self) -> io::Result<()> {
        ignore_missing(fs::remove_file(self.stamp()))
    }

    /// An owner's note.
    pub(super) fn note(&self, owner: &Owner) -> Option<Note> {
        parse(&fs::read_link(self.path(owner)).ok()?)
    }

    /// Notes what an owner holds, or is about to; nothing for nothing.
    pub(super) fn write(&self, owner: &Owner, note: &Note) -> io::Result<()> {
        let path = self.path(owner);
        if note.addresses.is_empty() {
            return ignore_missing(fs::remove_file(path));
        }
        let addresses = note.addresses.iter().map(IpAddr::to_string);
        let words: Vec<String> = note
            .taking
            .map(|inode| format!("{TAKING} {inode}"))
            .into_iter()
            .chain(addresses)
            .gather();
        let target = words.join(" ");
        match symlink(&target, &path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                fs::remove_file(&path)?;
                symlink(&target, &path)
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.create()?;
                symlink(&target, &path)
            }
            outcome => outcome,
        }
    }

    /// Removes every note but those of ADDs that were killed, which it returns.
    pub(super) fn clear(&self) -> io::Result<Vec<(PathBuf, Note)>> {
        self.create()?;
        self.doubt()?;
        let mut killed = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            let Ok(target) = fs::read_link(&path) else { continue };
            match parse(&target).filter(|note| note.taking.is_some()) {
                Some(note) => killed.push((path, note)),
                None => fs::remove_file(&path)?,
            }
        }
        Ok(killed)
    }

    /// Notes whose notes these are. The directory's own name tells it by device and
    /// inode, from which no path can be found.
    pub(super) fn remember(&self, store: &Path) -> io::Result<()> {
        symlink(store, self.directory.join(STORE))
    }

    /// Whether it is known what was in the store when this boot had not changed
    /// it yet.
    pub(super) fn knows_the_past(&self) -> bool {
        self.past().is_some()
    }

    /// Notes what was in the store before this boot.
    pub(super) fn write_past(&self, addresses: &[IpAddr]) -> io::Result<()> {
        let lines = addresses.iter().map(|address| format!("{address}\n"));
        let text = format!("{}\n{}", boot::id(), lines.collect::<String>());
        replace(&self.past_path(), text.as_bytes())
    }

    /// What was in the store before this boot, if that was noted in this boot.
    pub(super) fn past(&self) -> Option<Vec<IpAddr>> {
        let text = read_own(&self.past_path(), TEXT_BYTES_MAX).ok()?;
        let text = String::from_utf8_lossy(&text);
        let (id, addresses) = text.split_once('\n')?;
        (id == boot::id()).then(|| addresses.lines().filter_map(|line| line.parse().ok()).gather())
    }

    /// Notes that addresses are given for links that we do not know.
    pub(super) fn write_shared(&self) -> io::Result<()> {
        self.create()?;
        private().open(self.shared_path()).map(|_| ())
    }

    /// Whether addresses were given for links that we do not know.
    pub(super) fn is_shared(&self) -> bool {
        self.shared_path().exists()
    }

    /// The addresses that rest, with the seconds since each was freed.
    pub(super) fn resting(&self, now: SystemTime) -> HashMap<IpAddr, u64> {
        // Mostly the last of them was freed long ago; to see that takes less.
        let written = fs::metadata(self.rest()).and_then(|data| data.modified());
        let is_past = |at: SystemTime| now.duration_since(at).is_ok_and(|age| age >= REST);
        if written.map_or(true, is_past) {
            return HashMap::new();
        }
        let text = read_own(&self.rest(), TEXT_BYTES_MAX).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let ages = text.lines().filter_map(|line| {
            let (address, freed) = line.split_once(' ')?;
            let freed = SystemTime::UNIX_EPOCH + Duration::from_secs(freed.parse().ok()?);
            // A date to come is of a clock that has been set since.
            let age = now.duration_since(freed).ok().filter(|age| *age < REST)?;
            Some((address.parse().ok()?, age.as_secs()))
        });
        ages.collect()
    }

    /// Lets freed addresses rest. A kill while it is written loses what was
    /// resting, which was a preference.
    pub(super) fn let_rest(&self, freed: &[IpAddr], now: SystemTime) -> io::Result<()> {
        let seconds = |at: SystemTime| {
            at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
        };
        let mut resting: Vec<(u64, IpAddr)> = self
            .resting(now)
            .into_iter()
            .filter(|(address, _)| !freed.contains(address))
            .map(|(address, age)| (seconds(now).saturating_sub(age), address))
            .chain(freed.iter().map(|address| (seconds(now), *address)))
            .gather();
        resting.order();
        let excess = resting.len().saturating_sub(RESTING_MAX);
        let lines = resting.iter().skip(excess).map(|(at, address)| format!("{address} {at}\n"));
        let text: String = lines.collect();
        let mut file = private().truncate(true).open(self.rest())?;
        file.write_all(text.as_bytes())?;
        file.set_modified(now)
    }

    fn create(&self) -> io::Result<()> {
        directory(&self.directory)
    }

    fn stamp(&self) -> PathBuf {
        self.directory.join(".stamp")
    }

    fn rest(&self) -> PathBuf {
        self.directory.join(".resting")
    }

    fn past_path(&self) -> PathBuf {
        self.directory.join(".past")
    }

    fn shared_path(&self) -> PathBuf {
        self.directory.join(".shared")
    }

    /// Neither a container id nor an interface name holds a colon, and both are
    /// file names; what somebody else wrote into a lease may be anything. Two
    /// owners with one digest are kept apart by what the leases say.
    pub(super) fn path(&self, owner: &Owner) -> PathBuf {
        let name = format!("{}:{}", owner.container_id, owner.ifname.as_deref().unwrap_or(""));
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:@".contains(&byte);
        if name.len() <= NAME_BYTES_MAX && !name.starts_with('.') && name.bytes().all(plain) {
            return self.directory.join(name);
        }
        let digest = Sha1::from(&name).digest();
        self.directory.join(digest.to_string())
    }
}

/// The name of the notes of a store.
pub(super) fn name(store: &fs::Metadata) -> String {
    format!("{:x}-{:x}", store.dev(), store.ino())
}

/// Removes the notes of stores that are no longer where they were. Those of a
/// store that nothing was remembered of stay.
pub(super) fn sweep(all: &Path) {
    for notes in fs::read_dir(all).into_iter().flatten().flatten() {
        let Ok(store) = fs::read_link(notes.path().join(STORE)) else { continue };
        let gone = match fs::metadata(store) {
            Ok(data) => notes.file_name().to_str() != Some(&*name(&data)),
            Err(error) => error.kind() == ErrorKind::NotFound,
        };
        if gone {
            let _ = fs::remove_dir_all(notes.path());
        }
    }
}

pub(super) fn parse(target: &Path) -> Option<Note> {
    let mut words = target.to_str()?.split(' ').peekable();
    let taking = match words.next_if_eq(&TAKING) {
        Some(_) => Some(words.next()?.parse().ok()?),
        None => None,
    };
    let addresses: Option<Vec<IpAddr>> = words.map(|word| word.parse().ok()).collect();
    Some(Note { addresses: addresses?, taking })
}

fn set_date(path: &Path, date: Duration) -> io::Result<()> {
    let date = TimeSpec::from_duration(date);
    let directory = nix::fcntl::AT_FDCWD;
    utimensat(directory, path, &TimeSpec::UTIME_OMIT, &date, UtimensatFlags::FollowSymlink)
        .map_err(io::Error::from)
}

/// What is gone already has been removed.
pub(super) fn ignore_missing(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}
