// SPDX-License-Identifier: Apache-2.0
//! The journal: one file per attachment, written before its link is made.
//!
//! It lets DEL, GC and the operator's commands know an attachment when its
//! namespace is gone, when the runtime forgot the pod's name, and when the
//! configuration has been changed since.

use std::{
    fs::{self, File},
    io,
    net::IpAddr,
    path::{Path, PathBuf},
    time::SystemTime,
};

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha1_smol::Sha1;

use super::{
    Root, directory,
    file::{self, read_own},
    replace,
};
use crate::list::{Gather, Ordered, PushAll};
use crate::text::json;

/// File names are at most 255 bytes (NAME_MAX); the rest is for the temporary
/// name's prefix.
const NAME_BYTES_MAX: usize = 200;

/// The form of an entry. It rises when a field changes its meaning; one that is new has
/// a default. Entries of manx 0.1 tell none, and are of the first.
const VERSION: u64 = 1;

/// An entry as it is in its file.
#[derive(Serialize)]
struct Noted<'a> {
    version: u64,
    #[serde(flatten)]
    entry: &'a Entry,
}

/// One attachment: a container's interface in a network.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Network name.
    pub network: String,
    /// `CNI_CONTAINERID`.
    pub container_id: String,
    /// `CNI_IFNAME`.
    pub ifname: String,
    /// Kubernetes namespace, where the runtime gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_namespace: Option<String>,
    /// Kubernetes pod name, where the runtime gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_name: Option<String>,
    /// `CNI_NETNS`.
    pub netns: String,
    /// Device and inode of that namespace when the link was made.
    pub netns_identity: (u64, u64),
    /// Name of the host link.
    pub host_link: String,
    /// The pod's addresses.
    pub addresses: Vec<IpAddr>,
    /// The addresses as IPAM gave them, with its masks and gateways.
    #[serde(default)]
    pub lease: Vec<(IpNetwork, Option<IpAddr>)>,
    /// What the pod may send from besides its addresses, as it asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<IpNetwork>,
    /// Another plugin attached the pod behind its bridge: the link bears no mark, and stays
    /// as it is.
    #[serde(default, skip_serializing_if = "is_not")]
    pub bridged: bool,
    /// Network policies are enforced on the attachment, and what it is while nobody has said
    /// which are about its pod; `None` where they are not enforced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enforced: Option<Otherwise>,
    /// MTU of both ends in bytes.
    pub mtu: u32,
    /// The pod's routing table that answers from these addresses are sent by: main,
    /// or one of the interface's own. Manx 0.1 has not noted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<u32>,
    /// The `ipam` section that the addresses came from, for a DEL whose own is
    /// broken.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub ipam: Value,
    /// The configuration's `cniVersion`, for the same purpose.
    #[serde(default)]
    pub cni_version: String,
    /// `CNI_ARGS` of the ADD, for the same purpose.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub args: String,
}

/// What an attachment is of whose pod nobody has said which network policies are about it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Otherwise {
    /// It may speak to nobody but its node.
    Closed,
    /// It may speak to anybody.
    Open,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_not(flag: &bool) -> bool {
    !flag
}

impl Entry {
    /// `namespace/name` of the pod, where it is known.
    pub fn pod(&self) -> Option<String> {
        Some(format!("{}/{}", self.pod_namespace.as_deref()?, self.pod_name.as_deref()?))
    }
}

/// The journal of one network.
#[derive(Clone, Debug)]
pub struct Journal {
    directory: PathBuf,
}

impl Journal {
    /// The journal of `network` below `root`; nothing is created yet.
    pub fn new(root: &Root, network: &str) -> Self {
        Self { directory: root.network(network) }
    }

    /// The directory of this network's state.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Writes an entry, replacing one of the same attachment.
    ///
    /// # Errors
    /// Of making the directory or the file.
    pub fn write(&self, entry: &Entry) -> io::Result<()> {
        let path = self.path(&entry.container_id, &entry.ifname);
        let bytes = serde_json::to_vec(&Noted { version: VERSION, entry })?;
        match replace(&path, &bytes) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                directory(&self.directory)?;
                replace(&path, &bytes)
            }
            outcome => outcome,
        }
    }

    /// Writes over the entry of an attachment that stays as old as it was.
    ///
    /// # Errors
    /// Of writing the file.
    pub fn amend(&self, entry: &Entry) -> io::Result<()> {
        let written = self.written(&entry.container_id, &entry.ifname);
        self.write(entry)?;
        let Some(written) = written else { return Ok(()) };
        File::open(self.path(&entry.container_id, &entry.ifname))?.set_modified(written)
    }

    /// The entry of one attachment, if there is one. One that cannot be read is told in
    /// the log: its attachment is known by its link alone.
    pub fn read(&self, container_id: &str, ifname: &str) -> Option<Entry> {
        let path = self.path(container_id, ifname);
        let entry = parse(&path).unwrap_or_else(|problem| {
            log::warn!("{}: {problem}; going on without it", path.display());
            None
        })?;
        (entry.container_id == container_id && entry.ifname == ifname).then_some(entry)
    }

    /// When the entry of an attachment was written, which its ADD does.
    pub fn written(&self, container_id: &str, ifname: &str) -> Option<SystemTime> {
        fs::metadata(self.path(container_id, ifname)).and_then(|data| data.modified()).ok()
    }

    /// Forgets an attachment; one that is not there is success.
    ///
    /// # Errors
    /// Of removing the file.
    pub fn remove(&self, container_id: &str, ifname: &str) -> io::Result<()> {
        let path = self.path(container_id, ifname);
        // A name that no directory can have is of a network without state.
        let is_gone = |error: &io::Error| {
            matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidFilename)
        };
        match fs::remove_file(&path) {
            // A file system that is read-only says so before it looks for the file.
            Err(error)
                if !is_gone(&error)
                    && !fs::symlink_metadata(&path).is_err_and(|found| is_gone(&found)) =>
            {
                Err(error)
            }
            _ => Ok(()),
        }
    }

    /// Removes what writers left behind that were killed in the middle. Only
    /// under the network's exclusive lock, when there are none at work.
    pub fn sweep(&self) {
        file::sweep(&self.directory, |_| true);
    }

    /// Whether there is any entry, readable or not.
    pub fn has_entries(&self) -> bool {
        let files = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        files.into_iter().any(|file| !file.file_name().to_string_lossy().starts_with('.'))
    }

    /// One that is readable.
    pub fn any(&self) -> Option<Entry> {
        self.paths().iter().find_map(|path| parse(path).ok().flatten())
    }

    /// All readable entries, in the order of their file names.
    pub fn entries(&self) -> Vec<Entry> {
        self.all().0
    }

    /// All readable entries, in the order of their file names, and the files of those
    /// that cannot be read, each with the reason.
    pub fn all(&self) -> (Vec<Entry>, Vec<(PathBuf, String)>) {
        let (mut entries, mut unreadable) = (Vec::new(), Vec::new());
        for path in self.paths() {
            match parse(&path) {
                Ok(entry) => entries.push_all(entry),
                Err(problem) => unreadable.push((path, problem)),
            }
        }
        (entries, unreadable)
    }

    fn paths(&self) -> Vec<PathBuf> {
        let Ok(directory) = fs::read_dir(&self.directory) else { return Vec::new() };
        let mut paths: Vec<_> = directory
            .flatten()
            .filter(|file| !file.file_name().to_string_lossy().starts_with('.'))
            .map(|file| file.path())
            .gather();
        paths.order();
        paths
    }

    /// The file of one attachment.
    /// Container ids and interface names hold no colon, so it separates them.
    pub fn path(&self, container_id: &str, ifname: &str) -> PathBuf {
        let name = format!("{container_id}:{ifname}");
        if name.len() <= NAME_BYTES_MAX {
            return self.directory.join(name);
        }
        let digest = Sha1::from(&name).digest();
        self.directory.join(format!("{digest}:{ifname}"))
    }
}

/// The entries of all networks.
pub fn all(root: &Root) -> Vec<Entry> {
    networks(root).iter().flat_map(|name| Journal::new(root, name).entries()).gather()
}

/// The names of the networks that have state, sorted. None begins with a dot,
/// as the directories of other state do.
pub fn networks(root: &Root) -> Vec<String> {
    let Ok(directory) = fs::read_dir(root.runtime()) else { return Vec::new() };
    let mut names: Vec<_> = directory
        .flatten()
        .filter(|file| file.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|file| file.file_name().into_string().ok())
        .filter(|name| !name.starts_with('.'))
        .gather();
    names.order();
    names
}

/// The entry of a file; `None` where there is no file.
fn parse(path: &Path) -> Result<Option<Entry>, String> {
    let bytes = match read_own(path, file::TEXT_BYTES_MAX) {
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidFilename) =>
        {
            return Ok(None);
        }
        bytes => bytes.map_err(|error| error.to_string())?,
    };
    let document: Value = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    let version = document.get("version").map_or(Some(VERSION), Value::as_u64);
    match version {
        Some(version) if version <= VERSION => {}
        Some(version) => {
            return Err(format!("it is of version {version}, and this manx reads {VERSION}"));
        }
        None => return Err("its version is no number".to_owned()),
    }
    json::of_value(document).map(Some).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::{env, process};

    use serde_json::json;

    use super::*;

    struct Scratch(PathBuf);

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn journal(name: &str) -> (Scratch, Journal) {
        let root = env::temp_dir().join(format!("manx-journal-{name}-{}", process::id()));
        let journal = Journal::new(&Root::new(&root), "net");
        (Scratch(root), journal)
    }

    fn entry() -> Entry {
        let (container_id, ifname) = ("c1".to_owned(), "eth0".to_owned());
        Entry { network: "net".into(), container_id, ifname, mtu: 1450, ..Entry::default() }
    }

    #[test]
    fn an_entry_has_a_version_and_one_without_is_of_the_first() {
        let (_scratch, journal) = journal("version");
        journal.write(&entry()).unwrap();
        let path = journal.path("c1", "eth0");
        let document = || -> Value { serde_json::from_slice(&fs::read(&path).unwrap()).unwrap() };
        assert_eq!(
            (document()["version"].as_u64(), document()["mtu"].as_u64()),
            (Some(1), Some(1450))
        );
        assert_eq!(journal.read("c1", "eth0"), Some(entry()));
        let mut older = document();
        older.as_object_mut().unwrap().remove("version");
        fs::write(&path, older.to_string()).unwrap();
        assert_eq!(journal.entries(), [entry()]);
        assert_eq!(journal.all().1, []);
    }

    #[test]
    fn what_cannot_be_read_is_no_absence() {
        let (_scratch, journal) = journal("unreadable");
        assert_eq!(journal.all().1, []);
        journal.write(&entry()).unwrap();
        let path = journal.path("c1", "eth0");
        let mut newer = json!(entry());
        for (version, words) in [(json!(2), "version 2"), (json!("x"), "no number")] {
            newer["version"] = version;
            fs::write(&path, newer.to_string()).unwrap();
            assert!(journal.all().1[0].1.contains(words), "{:?}", journal.all().1);
        }
        for text in ["", "{", "[]", "{\"version\": 1}"] {
            fs::write(&path, text).unwrap();
            assert_eq!(journal.read("c1", "eth0"), None, "{text}");
            assert_eq!(journal.entries(), [], "{text}");
            let unreadable = journal.all().1;
            assert!(unreadable.len() == 1 && unreadable[0].0 == path, "{text}: {unreadable:?}");
        }
        // A DEL removes it all the same.
        journal.remove("c1", "eth0").unwrap();
        assert_eq!(journal.all().1, []);
    }
}
