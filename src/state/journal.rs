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

/// File names are at most 255 bytes (NAME_MAX); the rest is for the temporary
/// name's prefix.
const NAME_BYTES_MAX: usize = 200;

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
        let bytes = serde_json::to_vec(entry)?;
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

    /// The entry of one attachment, if there is a readable one.
    pub fn read(&self, container_id: &str, ifname: &str) -> Option<Entry> {
        let entry = parse(&self.path(container_id, ifname))?;
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
        match fs::remove_file(self.path(container_id, ifname)) {
            // A name that no directory can have is of a network without state.
            Err(error)
                if !matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::InvalidFilename
                ) =>
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

    /// All readable entries, in the order of their file names.
    pub fn entries(&self) -> Vec<Entry> {
        let Ok(directory) = fs::read_dir(&self.directory) else { return Vec::new() };
        let mut paths: Vec<_> = directory
            .flatten()
            .filter(|file| !file.file_name().to_string_lossy().starts_with('.'))
            .map(|file| file.path())
            .collect();
        paths.sort();
        paths.iter().filter_map(|path| parse(path)).collect()
    }

    /// Container ids and interface names hold no colon, so it separates them.
    fn path(&self, container_id: &str, ifname: &str) -> PathBuf {
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
    networks(root).iter().flat_map(|name| Journal::new(root, name).entries()).collect()
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
        .collect();
    names.sort();
    names
}

fn parse(path: &Path) -> Option<Entry> {
    serde_json::from_slice(&read_own(path, file::TEXT_BYTES_MAX).ok()?).ok()
}
