//! Tells that the peers file, or the configuration, may be another one.
//!
//! Such a file is replaced by a rename, or a symbolic link on the way to it is, as
//! Kubernetes does with a mounted ConfigMap; and its directory may not be there
//! yet. So all directories are watched in which something decides which file
//! the path means.

use std::{
    collections::BTreeSet,
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};

use super::super::{Error, Kind, Object};

/// As many symbolic links as the kernel follows (MAXSYMLINKS,
/// include/linux/namei.h).
const LINKS_MAX: usize = 40;

/// A subscription to the changes of some paths.
pub(crate) struct Files {
    paths: Vec<PathBuf>,
    inotify: Inotify,
    watched: Vec<(PathBuf, WatchDescriptor)>,
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

    /// Takes what has been told, and follows the paths to where they lead now;
    /// true if anything was told.
    pub(crate) fn drain(&mut self) -> bool {
        let mut told = false;
        while self.inotify.read_events().is_ok_and(|events| !events.is_empty()) {
            told = true;
        }
        if told {
            self.follow();
        }
        told
    }

    /// Watches the directories by which the paths are found. One that goes at this
    /// moment is told by the watch on the one above it.
    fn follow(&mut self) {
        let wanted: BTreeSet<PathBuf> = self.paths.iter().flat_map(|path| deciding(path)).collect();
        let (kept, gone): (Vec<_>, Vec<_>) =
            self.watched.drain(..).partition(|(directory, _)| wanted.contains(directory));
        self.watched = kept;
        for (_, descriptor) in gone {
            let _ = self.inotify.rm_watch(descriptor);
        }
        let events = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_ONLYDIR;
        for directory in wanted {
            // Again for those that are watched: the name may be another directory's
            // by now.
            let Ok(descriptor) = self.inotify.add_watch(&directory, events) else { continue };
            self.watched.retain(|(held, _)| *held != directory);
            self.watched.push((directory, descriptor));
        }
    }
}

impl AsFd for Files {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

/// The directories in which something decides which file a path means: its own,
/// that of each symbolic link on the way, and the one in which the first missing
/// part is to appear.
fn deciding(path: &Path) -> BTreeSet<PathBuf> {
    let mut directories = BTreeSet::new();
    let mut pending = vec![path.to_owned()];
    for _ in 0..LINKS_MAX {
        let Some(path) = pending.pop() else { break };
        let mut parts: Vec<&Path> = path.ancestors().collect();
        parts.reverse();
        for part in parts {
            let Some(directory) = part.parent() else { continue };
            let directory = match directory.as_os_str().is_empty() {
                true => Path::new("."),
                false => directory,
            };
            match part.symlink_metadata() {
                Ok(data) if data.is_symlink() => {
                    directories.insert(directory.to_owned());
                    let target = part.read_link().unwrap_or_default();
                    pending.push(directory.join(target));
                }
                Ok(_) if part == path => drop(directories.insert(directory.to_owned())),
                Ok(_) => {}
                Err(_) => {
                    directories.insert(directory.to_owned());
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
            assert!(found.contains(&root.join(directory)), "{directory}: {found:?}");
        }
    }

    #[test]
    fn what_is_missing_is_awaited_where_it_will_appear() {
        let scratch = Scratch::new("missing");
        let root = &scratch.0;
        let path = root.join("etc/manx/peers.json");
        assert!(deciding(&path).contains(root));
        fs::create_dir_all(root.join("etc/manx")).unwrap();
        assert!(deciding(&path).contains(&root.join("etc/manx")));
    }

    #[test]
    fn a_link_to_itself_ends() {
        let scratch = Scratch::new("loop");
        symlink("peers.json", scratch.0.join("peers.json")).unwrap();
        assert!(deciding(&scratch.0.join("peers.json")).contains(&scratch.0));
    }
}
