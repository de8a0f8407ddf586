// SPDX-License-Identifier: Apache-2.0
//! What is remembered of a fabric until the next boot: what was applied, whether
//! that is all, and the list of peers by which it was.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    net::IpAddr,
    path::PathBuf,
    time::{Duration, Instant, SystemTime},
};

use ipnetwork::IpNetwork;
use serde_json::Value;

use crate::{
    conf::{Config, FabricPart},
    fabric::{Bounds, Ledger, Peers, Site, holder},
    list::Gather,
    net::Tables,
    state::{self, Root, directory, file::PEERS_BYTES_MAX, lock, read_own, replace},
    text::{few::first_of, json},
};

use super::{
    super::{Error, Kind, Object, file},
    applied::{Applied, State, VERSION},
    cidrs::PodCidrs,
    document,
};

/// How long a command waits for somebody else who changes the fabric.
pub const WRITER_LIMIT: Duration = Duration::from_secs(10);

/// Where one fabric keeps its state. No network's name begins with a dot.
#[derive(Debug)]
pub struct FabricState {
    root: Root,
    directory: PathBuf,
    protocol: u8,
}

impl FabricState {
    /// The fabric of that route protocol.
    pub fn new(root: &Root, protocol: u8) -> Self {
        Self { root: root.clone(), directory: root.runtime().join(".fabric"), protocol }
    }

    /// The route protocol.
    pub fn protocol(&self) -> u8 {
        self.protocol
    }

    /// The fabric that a network had last: that of its protocol, else one that it had
    /// before; where it had none, that of its protocol.
    pub(crate) fn last_of(config: &Config, root: &Root) -> Self {
        let noted = Self::noted(root).into_iter();
        let had = noted.filter(|(_, applied)| applied.names(&config.name)).map(|(state, _)| state);
        let own = config.fabric.protocol;
        had.min_by_key(|state| state.protocol != own).unwrap_or_else(|| Self::new(root, own))
    }

    /// A configuration as it is in this fabric, with a list of peers that says `part`.
    pub(super) fn of_then(&self, config: &Config, part: &FabricPart) -> Config {
        let mut config = config.under(part);
        config.fabric.protocol = self.protocol;
        config
    }

    /// All fabrics that were applied since boot.
    pub(super) fn noted(root: &Root) -> Vec<(Self, Applied)> {
        // No route that is ours has this protocol (RTPROT_UNSPEC).
        Self::new(root, 0).others().gather()
    }

    /// What was applied since boot, each with its route protocol.
    pub fn all_applied(root: &Root) -> Vec<(u8, Applied)> {
        let noted = Self::noted(root).into_iter();
        noted.map(|(state, applied)| (state.protocol, applied)).gather()
    }

    /// What was applied and cannot be read, each with the reason.
    pub fn unreadable(root: &Root) -> Vec<(PathBuf, String)> {
        let states = Self::new(root, 0).protocols().into_iter();
        let failed = states.filter_map(|protocol| {
            let state = Self::new(root, protocol);
            Some((state.path("json"), state.read().err()?.cause.clone()))
        });
        failed.gather()
    }

    /// The route protocols of which something is noted.
    pub(super) fn protocols(&self) -> Vec<u8> {
        let files = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let protocol = |name: &str| name.strip_suffix(".json")?.parse().ok();
        files.filter_map(|file| protocol(file.file_name().to_str()?)).gather()
    }

    pub(super) fn path(&self, extension: &str) -> PathBuf {
        self.directory.join(format!("{}.{extension}", self.protocol))
    }

    /// What was applied last; what cannot be read is told, and the next pass writes it
    /// again.
    pub fn applied(&self) -> Option<Applied> {
        self.read().unwrap_or_else(|error| {
            log::warn!("{error}");
            None
        })
    }

    /// What was applied last, if anything.
    ///
    /// # Errors
    /// `File` if that cannot be read.
    pub fn read(&self) -> Result<Option<Applied>, Error> {
        let path = self.path("json");
        let unreadable = |reason: String| {
            Error::new(Kind::File, Object::path("what was applied,", &path), reason)
                .next("manx apply compares all of it, and writes it again")
        };
        let bytes = match read_own(&path, PEERS_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable(error.to_string())),
        };
        let applied: Result<Applied, _> = json::read(&bytes);
        let mut applied = applied.map_err(|error| unreadable(error.to_string()))?;
        if applied.version > VERSION {
            let reason = format!("version {} is of a newer manx", applied.version);
            return Err(unreadable(reason));
        }
        applied.protocol = self.protocol;
        applied.pod_cidrs = PodCidrs::Noted(self.path("cidrs"));
        Ok(Some(applied))
    }

    /// The networks that have these settings once this one has applied them, and
    /// what others ask for instead.
    pub(super) fn sharers_after(
        &self,
        network: &str,
        summary: &str,
    ) -> (BTreeSet<String>, BTreeMap<String, String>) {
        let applied = self.applied().unwrap_or_default();
        let stays = |other: &&str| applied.summary == summary || applied.agrees(other, summary);
        let sharers = applied.others(network).filter(|name| !name.is_empty()).filter(stays);
        let sharers = sharers.chain([network]).map(str::to_owned).gather_set();
        let mut asked = applied.asked.clone();
        asked.retain(|other, summed| other != network && summed != summary);
        (sharers, asked)
    }

    /// Notes what a network asks for and cannot have, for others may ask for the
    /// same. Nothing is written where that is known.
    ///
    /// # Errors
    /// Of writing the file.
    pub(super) fn ask(&self, network: &str, summary: &str) -> Result<(), Error> {
        let Some(mut applied) = self.applied() else { return Ok(()) };
        let before = applied.asked.insert(network.to_owned(), summary.to_owned());
        if before.as_deref() == Some(summary) { Ok(()) } else { self.note(&applied, None) }
    }

    /// What earlier passes of a network's fabric have left, also under another
    /// route protocol, unless others share it.
    pub fn ledger(&self, config: &Config) -> Ledger {
        let mut ledger = Ledger::default();
        ledger.added.extend(self.applied().map(|applied| applied.added).unwrap_or_default());
        for former in self.others().filter(|(_, applied)| applied.goes_with(config)) {
            ledger.protocols.push(former.0.protocol);
            ledger.added.extend(former.1.added);
        }
        ledger
    }

    /// The fabrics of other route protocols, and what was applied of them.
    pub(super) fn others(&self) -> impl Iterator<Item = (Self, Applied)> {
        let protocols = self.protocols().into_iter();
        protocols.filter(|protocol| *protocol != self.protocol).filter_map(|protocol| {
            let other = Self::new(&self.root, protocol);
            let applied = other.applied()?;
            Some((other, applied))
        })
    }

    /// Forgets what a network had under other route protocols, once it has been
    /// taken over; what it shared there is the others' alone.
    ///
    /// # Errors
    /// Of removing the files.
    pub fn forget_former(&self, config: &Config) -> Result<(), Error> {
        let network = config.name.as_str();
        for (former, mut applied) in self.others() {
            if applied.goes_with(config) {
                let path = former.path("json");
                former.forget().map_err(|error| file("forget", &path, &error))?;
                log::info!("{network} is now of route protocol {}", self.protocol);
            } else if applied.sharers.remove(network) || applied.network == network {
                let heir = applied.others(network).next().map(str::to_owned);
                applied.network = heir.unwrap_or_default();
                former.note(&applied, None)?;
            }
        }
        Ok(())
    }

    /// Notes that what was applied is being taken back.
    ///
    /// # Errors
    /// Of writing the file.
    pub fn unsettle(&self) -> Result<(), Error> {
        match self.applied() {
            Some(applied) => self.note(&Applied { state: State::InProgress, ..applied }, None),
            None => Ok(()),
        }
    }

    /// How long ago the last pass was. A clock that was set back makes it old.
    pub(super) fn age(&self) -> Duration {
        let written = fs::metadata(self.path("json")).and_then(|data| data.modified()).ok();
        written
            .and_then(|written| SystemTime::now().duration_since(written).ok())
            .unwrap_or(Duration::MAX)
    }

    /// The last peers that were applied since boot, if they are valid on a node with these tables,
    /// and a configuration as it is in this fabric with them. What the peers file says by now is not
    /// asked for.
    pub(super) fn last(&self, config: &Config, tables: &Tables) -> Option<(Config, Peers)> {
        let peers = self.peers_by(&self.of_then(config, &config.fabric.file), tables)?;
        Some((self.of_then(config, &peers.fabric), peers))
    }

    /// The peers of [`Self::last`], by a configuration as it is given.
    pub(super) fn peers_by(&self, config: &Config, tables: &Tables) -> Option<Peers> {
        self.valid(&self.noted_peers().ok()?, config, tables)
    }

    fn valid(&self, bytes: &[u8], config: &Config, tables: &Tables) -> Option<Peers> {
        let peers = checked(bytes, config, tables).map_err(|problems| {
            log::warn!("the peers that were applied last: {}", first_of(&problems));
        });
        peers.ok()
    }

    /// The node that has a pod CIDR, by the list that was applied last.
    pub fn node_of(&self, cidr: IpNetwork) -> Option<String> {
        node_in(&self.noted_peers().ok()?, cidr)
    }

    fn noted_peers(&self) -> io::Result<Vec<u8>> {
        read_own(&self.path("peers"), PEERS_BYTES_MAX)
    }

    /// Which other node has an address, by the list that was applied last, as the
    /// end of a sentence.
    pub fn holder(&self, address: IpAddr) -> Option<String> {
        holder(&self.noted_peers().ok()?, address)
    }

    /// Keeps others from changing the fabric at the same time; waits for them for at
    /// most `limit`.
    ///
    /// # Errors
    /// Of the lock's directory or file; `Busy` naming the holder after `limit`.
    pub fn lock(&self, limit: Duration) -> Result<lock::Guard, Error> {
        let directory = self.path("lock");
        let lock = lock::exclusive_within(&directory, limit)
            .map_err(|error| file("lock the fabric", &directory, &error))?;
        lock.sign();
        // Of those that were killed: nobody else writes here now.
        let own = ["json", "peers", "cidrs"].map(|kind| format!(".{}.{kind}", self.protocol));
        state::file::sweep(&self.directory, |name| own.iter().any(|own| name.ends_with(own)));
        Ok(lock)
    }

    /// Notes what is being applied, or was, and the list of peers where that is
    /// another.
    ///
    /// # Errors
    /// Of writing the files.
    pub(super) fn note(&self, applied: &Applied, peers: Option<&[u8]>) -> Result<(), Error> {
        let write = || {
            directory(&self.directory)?;
            if let Some(peers) = peers
                && self.noted_peers().ok().as_deref() != Some(peers)
            {
                replace(&self.path("peers"), peers)?;
            }
            applied.pod_cidrs.note(&self.path("cidrs"))?;
            let current;
            let applied = match applied.version {
                VERSION => applied,
                _ => {
                    current = Applied { version: VERSION, ..applied.clone() };
                    &current
                }
            };
            replace(&self.path("json"), &serde_json::to_vec(applied)?)
        };
        write().map_err(|error: io::Error| file("note the fabric's state", &self.directory, &error))
    }

    /// Forgets what was applied, and what the peers file said that nothing else was
    /// applied by.
    ///
    /// # Errors
    /// Of removing the files; those that are not there are no error.
    pub fn forget(&self) -> io::Result<()> {
        if let Some(file) = self.read().ok().flatten().and_then(|applied| applied.peers_file)
            && self.others().all(|(_, other)| other.peers_file.as_ref() != Some(&file))
        {
            document::forget(&self.root.path(&file), &self.root);
        }
        for extension in ["json", "peers", "cidrs"] {
            match fs::remove_file(self.path(extension)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Locks the fabrics of these route protocols, in the order in which everybody does,
/// within `limit` together.
///
/// # Errors
/// As of [`FabricState::lock`].
pub fn lock_all(
    protocols: &BTreeSet<u8>,
    root: &Root,
    limit: Duration,
) -> Result<Vec<lock::Guard>, Error> {
    let deadline = Instant::now() + limit;
    let left = || deadline.saturating_duration_since(Instant::now());
    protocols.iter().map(|protocol| FabricState::new(root, *protocol).lock(left())).collect()
}

/// The node that has a pod CIDR, by a list of peers.
pub(super) fn node_in(list: &[u8], cidr: IpNetwork) -> Option<String> {
    let list: Value = serde_json::from_slice(list).ok()?;
    let has = |node: &&Value| {
        let cidrs = node.get("podCIDRs").and_then(Value::as_array);
        let texts = cidrs.into_iter().flatten().filter_map(Value::as_str);
        texts.filter_map(|text| text.parse::<IpNetwork>().ok()).any(|other| other == cidr)
    };
    let node = list.get("nodes")?.as_array()?.iter().find(has)?;
    node.get("name")?.as_str().map(str::to_owned)
}

/// Reads a list of peers and checks it against the node and the configuration;
/// else all that is wrong with it.
///
/// # Errors
/// All that is wrong with it, a sentence each.
pub(super) fn checked(
    bytes: &[u8],
    config: &Config,
    tables: &Tables,
) -> Result<Peers, Vec<String>> {
    let site = Site::of(tables, config.fabric.protocol);
    let cidrs = config.fabric.cluster_cidrs.as_deref();
    let bounds = cidrs.map(|cidrs| Bounds { network: &config.name, cidrs });
    Peers::of_site(bytes, &site, bounds)
}

/// The addresses of this node's tunnels, of all fabrics that were applied.
pub fn tunnel_addresses(root: &Root) -> Vec<IpAddr> {
    let files = fs::read_dir(root.runtime().join(".fabric")).into_iter().flatten().flatten();
    let all_applied = files
        .filter(|file| file.path().extension().is_some_and(|extension| extension == "json"))
        .filter_map(|file| read_own(&file.path(), PEERS_BYTES_MAX).ok())
        .filter_map(|bytes| json::read::<Applied>(&bytes).ok());
    all_applied.flat_map(|applied| applied.tunnel_addresses).gather()
}

#[cfg(test)]
mod tests {
    use std::{env, process};

    use super::*;

    #[test]
    fn what_cannot_be_read_is_an_error_and_no_absence() {
        let path = env::temp_dir().join(format!("manx-applied-{}", process::id()));
        let root = Root::new(path.clone());
        let state = FabricState::new(&root, 109);
        assert_eq!(state.read(), Ok(None));
        state.note(&Applied { network: "pods".to_owned(), ..Applied::default() }, None).unwrap();
        assert_eq!(state.read().unwrap().map(|applied| applied.version), Some(VERSION));
        let text = fs::read_to_string(state.path("json")).unwrap();
        // As earlier versions have it.
        let former = text.replace(r#""version":1,"#, "").replace("inProgress", "whole");
        assert_ne!(former, text);
        fs::write(state.path("json"), &former).unwrap();
        let applied = state.read().unwrap().unwrap();
        assert_eq!((applied.version, &applied.state), (0, &State::Ready));
        for (wrong, reason) in [
            (text.replace(r#""version":1"#, r#""version":2"#), "version 2 is of a newer manx"),
            (text.replace('}', ""), "line 1"),
            (String::new(), "EOF"),
        ] {
            fs::write(state.path("json"), &wrong).unwrap();
            let error = state.read().unwrap_err();
            assert!(error.kind == Kind::File && error.cause.contains(reason), "{error}");
            assert_eq!(FabricState::unreadable(&root).len(), 1, "{wrong}");
        }
        // The next one is noted over it.
        state.note(&applied, None).unwrap();
        assert_eq!(state.read().unwrap().map(|applied| applied.version), Some(VERSION));
        fs::remove_dir_all(path).unwrap();
    }
}
