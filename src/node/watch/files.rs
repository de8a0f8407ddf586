// SPDX-License-Identifier: Apache-2.0
//! Tells that the peers file, or the configuration, may be another one.
//!
//! Such a file is replaced by a rename, or a symbolic link on the way to it is, as
//! Kubernetes does with a mounted ConfigMap; and its directory may not be there
//! yet. So all directories are watched in which something decides which file
//! the path means. What else is in them, such as the new file that a writer makes
//! beside the old one, tells nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
    mem,
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};

use super::super::{Error, Kind, Object};
use crate::list::Gather;

/// As many symbolic links as the kernel follows (MAXSYMLINKS,
/// include/linux/namei.h).
const LINKS_MAX: usize = 40;
/// As the last part of a path: whichever file there is.
pub(super) const ANY: &str = "*";

/// Directories with the names in them that decide.
type Deciding = BTreeMap<PathBuf, BTreeSet<OsString>>;

/// A subscription to the changes of some paths.
pub(crate) struct Files {
    paths: Vec<PathBuf>,
    inotify: Inotify,
    watched: Vec<Watched>,
}

struct Watched {
    /// Those that decide.
    names: BTreeSet<OsString>,
    descriptor: WatchDescriptor,
}

/// What was told of the files.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Told {
    Nothing,
    /// A name leads to another file, which was whole before.
    Renamed,
    /// Anything: a file may be half-written.
    Changed,
}

impl Files {
    /// Watches the files of these paths.
    pub(crate) fn watch(paths: Vec<PathBuf>) -> Result<Self, Error> {
        let inotify =
            Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).map_err(|errno| {
                Error::new(Kind::Kernel, Object::request("watch files (inotify)"), errno.desc())
            })?;
        let mut files = Self { paths, inotify, watched: Vec::new() };
        files.follow();
        Ok(files)
    }

    /// Takes what has been told, and follows the paths to where they lead now.
    pub(crate) fn drain(&mut self) -> Told {
        let mut told = Told::Nothing;
        while let Ok(events) = self.inotify.read_events()
            && !events.is_empty()
        {
            let all = events.iter().map(|event| told_by(event, &self.watched));
            told = all.fold(told, Told::max);
        }
        if told != Told::Nothing {
            self.follow();
        }
        told
    }

    /// Watches the directories by which the paths are found. One that goes at this
    /// moment is told by the watch on the one above it.
    fn follow(&mut self) {
        let mut wanted = Deciding::new();
        for (directory, names) in self.paths.iter().flat_map(|path| deciding(path)) {
            wanted.entry(directory).or_default().extend(names);
        }
        let before = mem::take(&mut self.watched);
        let events = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_ONLYDIR;
        for (directory, names) in wanted {
            // Again for those that are watched: the name may be another directory's
            // by now. One directory of several names has one descriptor.
            let Ok(descriptor) = self.inotify.add_watch(&directory, events) else { continue };
            self.watched.push(Watched { names, descriptor });
        }
        for Watched { descriptor, .. } in before {
            if self.watched.iter().all(|held| held.descriptor != descriptor) {
                let _ = self.inotify.rm_watch(descriptor);
            }
        }
    }
}

/// What an event tells. Of one that names no file, such as the loss of others, or of a
/// directory that is watched no more, anything may have come.
fn told_by(event: &InotifyEvent, watched: &[Watched]) -> Told {
    let directory = watched.iter().filter(|held| held.descriptor == event.wd);
    let names: Vec<&BTreeSet<OsString>> = directory.map(|held| &held.names).gather();
    let decides = |name: &OsString| {
        names.is_empty()
            || names.iter().any(|names| names.contains(name) || names.contains(OsStr::new(ANY)))
    };
    match &event.name {
        Some(name) if !decides(name) => Told::Nothing,
        Some(_) if event.mask == AddWatchFlags::IN_MOVED_TO => Told::Renamed,
        // That we watch it no more.
        None if event.mask == AddWatchFlags::IN_IGNORED && names.is_empty() => Told::Nothing,
        _ => Told::Changed,
    }
}

impl AsFd for Files {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

/// The directories in which something decides which file a path means, and by which
/// name: its own, that of each symbolic link on the way, and the one in which the first
/// missing part is to appear.
fn deciding(path: &Path) -> Deciding {
    let mut directories = Deciding::new();
    let mut pending = vec![path.to_owned()];
    for _ in 0..LINKS_MAX {
        let Some(path) = pending.pop() else { break };
        let mut parts: Vec<&Path> = path.ancestors().gather();
        parts.reverse();
        for part in parts {
            let (Some(directory), Some(name)) = (part.parent(), part.file_name()) else { continue };
            let directory = match directory.as_os_str().is_empty() {
                true => Path::new("."),
                false => directory,
            };
            let mut decides = || {
                directories.entry(directory.to_owned()).or_default().insert(name.to_owned());
            };
            match part.symlink_metadata() {
                Ok(data) if data.is_symlink() => {
                    decides();
                    let target = part.read_link().unwrap_or_default();
                    pending.push(directory.join(target));
                }
                Ok(_) if part == path => decides(),
                Ok(_) => {}
                Err(_) => {
                    decides();
                    break;
                }
            }
        }
    }
    directories
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink, process};

    use super::*;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("manx-{name}-{}", process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path.canonicalize().unwrap())
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// A ConfigMap's directory: the file is a link into a link to a directory.
    #[test]
    fn every_link_on_the_way_decides() {
        let scratch = Scratch::new("deciding");
        let root = &scratch.0;
        fs::create_dir_all(root.join("mount/..2025")).unwrap();
        fs::write(root.join("mount/..2025/peers.json"), "{}").unwrap();
        symlink("..2025", root.join("mount/..data")).unwrap();
        symlink("..data/peers.json", root.join("mount/peers.json")).unwrap();
        fs::create_dir(root.join("etc")).unwrap();
        symlink(root.join("mount/peers.json"), root.join("etc/peers.json")).unwrap();
        let found = deciding(&root.join("etc/peers.json"));
        for directory in ["etc", "mount", "mount/..data"] {
            assert!(found.contains_key(&root.join(directory)), "{directory}: {found:?}");
        }
    }

    #[test]
    fn what_is_missing_is_awaited_where_it_will_appear() {
        let scratch = Scratch::new("missing");
        let root = &scratch.0;
        let path = root.join("etc/manx/peers.json");
        assert!(deciding(&path).contains_key(root));
        fs::create_dir_all(root.join("etc/manx")).unwrap();
        assert!(deciding(&path).contains_key(&root.join("etc/manx")));
    }

    #[test]
    fn a_link_to_itself_ends() {
        let scratch = Scratch::new("loop");
        symlink("peers.json", scratch.0.join("peers.json")).unwrap();
        assert!(deciding(&scratch.0.join("peers.json")).contains_key(&scratch.0));
    }

    /// A writer makes the new file beside the old one.
    #[test]
    fn what_decides_nothing_tells_nothing() {
        let scratch = Scratch::new("told");
        let root = &scratch.0;
        let mount = |name: &str| root.join("mount").join(name);
        fs::create_dir_all(mount("..one")).unwrap();
        fs::create_dir_all(mount("..two")).unwrap();
        symlink("..one", mount("..data")).unwrap();
        fs::create_dir(root.join("net.d")).unwrap();
        let paths =
            vec![root.join("peers.json"), mount("..data/list"), root.join("net.d").join(ANY)];
        let mut files = Files::watch(paths).unwrap();
        let mut after = |what: &str, expected: Told, change: &dyn Fn()| {
            change();
            assert_eq!(files.drain(), expected, "{what}");
        };
        let write = |path: &str| fs::write(root.join(path), "{}").unwrap();
        let rename = |from: &str, to: &str| fs::rename(root.join(from), root.join(to)).unwrap();
        after("nothing", Told::Nothing, &|| {});
        after("a new file beside", Told::Nothing, &|| write("peers.new"));
        after("it is put in place", Told::Renamed, &|| rename("peers.new", "peers.json"));
        after("it is written in place", Told::Changed, &|| write("peers.json"));
        after("both", Told::Changed, &|| {
            write("peers.new");
            rename("peers.new", "peers.json");
            write("peers.json");
        });
        after("it goes", Told::Changed, &|| rename("peers.json", "peers.old"));
        after("another configuration", Told::Changed, &|| write("net.d/10.conflist"));
        after("a link beside", Told::Nothing, &|| symlink("..two", mount("..tmp")).unwrap());
        after("it leads elsewhere", Told::Renamed, &|| rename("mount/..tmp", "mount/..data"));
        after("no longer watched", Told::Nothing, &|| write("mount/..one/list"));
        after("watched now", Told::Changed, &|| write("mount/..two/list"));
    }
}
