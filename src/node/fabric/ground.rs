//! What is remembered of a fabric until the next boot: what was applied, whether
//! that is all, and the list of peers by which it was.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    net::IpAddr,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    conf::{Config, FabricPart},
    fabric::{Added, Past, Peers, Settings, Site, digest, holder, observed::Scope, ways::Ways},
    net::{Socket, Tables},
    nft,
    pod::mtu::Uplink,
    state::{self, Root, directory, file::PEERS_BYTES_MAX, lock, read_own, replace},
};

use super::{
    super::{Error, file, kernel},
    cidrs::PodCidrs,
};

/// What an attachment has to know of the fabric.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stamp {
    /// The network whose configuration was applied.
    pub network: String,
    /// All networks whose configurations were, with the same settings of the fabric.
    #[serde(default)]
    pub(super) sharers: BTreeSet<String>,
    /// What networks have asked for instead, and were refused for others' sake.
    #[serde(default)]
    pub(super) asked: BTreeMap<String, String>,
    /// The settings of the fabric, for a message and to compare.
    pub summary: String,
    /// The configuration as it was.
    pub(super) settings: String,
    /// The configuration's name of the peers file.
    #[serde(default)]
    pub(super) peers_file: Option<String>,
    /// What the list of peers said of the fabric; none where an earlier version noted it.
    #[serde(default)]
    pub(super) said: Option<Value>,
    /// The peers file as it was.
    pub(super) file: String,
    /// Whether that is all.
    pub state: State,
    /// Whether a pass came to its end since boot, whatever was begun since.
    #[serde(default)]
    pub(super) applied: bool,
    /// The kernel's state when a comparison found nothing to change.
    pub(super) digest: Option<u64>,
    /// What the digest is of.
    pub(super) scope: Scope,
    /// What was added to devices of others.
    #[serde(default)]
    pub(super) added: Added,
    /// The narrowest device towards a peer, and its MTU in bytes.
    pub(super) uplink: Option<(String, u32)>,
    /// What that was derived from.
    #[serde(default)]
    pub(super) ways: Ways,
    /// Whether the list names other nodes.
    #[serde(default)]
    pub(super) has_peers: bool,
    /// A number for the addresses that the tunnels' table lists.
    #[serde(default)]
    pub(super) tunnel_listed: Option<u64>,
    /// What is wrong with the peers file, if the last valid one has to do.
    #[serde(default)]
    pub(super) refused_file: Option<String>,
    /// What was told of the fabric as it is, and need not be told again.
    #[serde(default)]
    pub(super) told: Vec<String>,
    /// The pod CIDRs of all nodes.
    #[serde(skip)]
    pub(super) pod_cidrs: PodCidrs,
    /// Those of this node.
    pub own_cidrs: Vec<IpNetwork>,
    /// The addresses of this node's tunnels.
    pub tunnel_addresses: Vec<IpAddr>,
    /// Addresses of other nodes inside this node's own pod CIDRs.
    #[serde(default)]
    pub peers_inside: Vec<IpAddr>,
    /// Whether this node's pods have IPv6.
    pub serves_ipv6: bool,
}

/// How far a fabric has come.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// A change was begun; whoever made it did not live to tell, or failed.
    #[default]
    Begun,
    /// This stands in the way of all; the rest was done.
    Unfit(Vec<String>),
    /// All was done but this, which single peers want.
    Wanting(Vec<String>),
    /// All was done.
    Whole,
}

impl Stamp {
    /// The device from which the pods' MTU follows.
    pub fn uplink(&self) -> Option<Uplink> {
        let (device, mtu) = self.uplink.clone()?;
        Some(Uplink { device, mtu })
    }

    /// What the list of peers said of the fabric. The file may say something else by now,
    /// and be no good.
    pub fn said(&self) -> Option<FabricPart> {
        let (part, complaints, _) = FabricPart::of_file(self.said.as_ref()?.as_object()?);
        complaints.is_empty().then_some(part)
    }

    /// The pod CIDRs of all nodes.
    pub fn pod_cidrs(&self) -> Vec<IpNetwork> {
        self.pod_cidrs.all()
    }

    /// A digest of them, at the same cost however many they are.
    pub fn pod_cidrs_digest(&self) -> Option<nft::Digest> {
        self.pod_cidrs.digest()
    }

    /// The networks whose fabric it is besides this one.
    pub(super) fn others<'a>(&'a self, network: &'a str) -> impl Iterator<Item = &'a str> {
        let all = self.sharers.iter().chain([&self.network]);
        all.map(String::as_str).filter(move |name| *name != network)
    }

    /// Whether a network is noted as one of those that agree: if not, a pass of
    /// its own notes it, also where there is nothing else to do.
    pub(super) fn is_of(&self, network: &str) -> bool {
        self.names(network) && !self.asked.contains_key(network)
    }

    /// Whether a network had this fabric, maybe with others.
    pub(super) fn names(&self, network: &str) -> bool {
        self.network == network || self.sharers.contains(network)
    }

    /// Whether a pass came to its end since boot.
    pub fn was_applied(&self) -> bool {
        self.applied || self.state != State::Begun
    }

    /// Whether another network has these settings in mind.
    pub(super) fn agrees(&self, other: &str, summary: &str) -> bool {
        self.asked.get(other).unwrap_or(&self.summary) == summary
    }

    /// Whether it is this network's fabric and nobody else's.
    pub(super) fn is_only(&self, network: &str) -> bool {
        self.others(network).next().is_none()
    }

    /// Whether the ways to the peers are what they were. Another MTU on them is
    /// one for tunnels and pods as well.
    pub(super) fn ways_hold(&self, host: &mut Socket) -> bool {
        self.ways.hold(host).unwrap_or_else(|error| {
            log::debug!("the ways to the peers: {error}");
            false
        })
    }

    /// Whether the kernel has all that it had when there was nothing to change.
    pub(super) fn digest_holds(&self, host: &mut Socket, settings: &Settings) -> bool {
        let now = digest::of_kernel(host, settings, &self.scope);
        self.digest.is_some() && self.digest == now.ok()
    }
}

/// How long a command waits for somebody else who changes the fabric.
pub const WRITER_LIMIT: Duration = Duration::from_secs(10);

/// Where one fabric keeps its state. No network's name begins with a dot.
#[derive(Debug)]
pub struct Ground {
    directory: PathBuf,
    protocol: u8,
}

impl Ground {
    /// The fabric of that route protocol.
    pub fn new(root: &Root, protocol: u8) -> Self {
        Self { directory: root.runtime().join(".fabric"), protocol }
    }

    /// The route protocol.
    pub fn protocol(&self) -> u8 {
        self.protocol
    }

    /// All fabrics that were applied since boot.
    pub(super) fn noted(root: &Root) -> Vec<(Self, Stamp)> {
        // No route that is ours has this protocol (RTPROT_UNSPEC).
        Self::new(root, 0).others().collect()
    }

    pub(super) fn path(&self, extension: &str) -> PathBuf {
        self.directory.join(format!("{}.{extension}", self.protocol))
    }

    /// What was applied last.
    pub fn stamp(&self) -> Option<Stamp> {
        let bytes = read_own(&self.path("json"), PEERS_BYTES_MAX).ok()?;
        let mut stamp: Stamp = serde_json::from_slice(&bytes).ok()?;
        stamp.pod_cidrs = PodCidrs::Noted(self.path("cidrs"));
        Some(stamp)
    }

    /// The networks that have these settings once this one has applied them, and
    /// what others ask for instead.
    pub(super) fn minds(
        &self,
        network: &str,
        summary: &str,
    ) -> (BTreeSet<String>, BTreeMap<String, String>) {
        let stamp = self.stamp().unwrap_or_default();
        let stays = |other: &&str| stamp.summary == summary || stamp.agrees(other, summary);
        let sharers = stamp.others(network).filter(|name| !name.is_empty()).filter(stays);
        let sharers = sharers.chain([network]).map(str::to_owned).collect();
        let mut asked = stamp.asked.clone();
        asked.retain(|other, wish| other != network && wish != summary);
        (sharers, asked)
    }

    /// Notes what a network asks for and cannot have, for others may ask for the
    /// same. Nothing is written where that is known.
    ///
    /// # Errors
    /// Of writing the file.
    pub(super) fn ask(&self, network: &str, summary: &str) -> Result<(), Error> {
        let Some(mut stamp) = self.stamp() else { return Ok(()) };
        let before = stamp.asked.insert(network.to_owned(), summary.to_owned());
        if before.as_deref() == Some(summary) { Ok(()) } else { self.note(&stamp, None) }
    }

    /// What earlier passes of a network's fabric have left, also under another
    /// route protocol, unless others share it.
    pub fn past(&self, network: &str) -> Past {
        let mut past = Past::default();
        past.added.extend(self.stamp().map(|stamp| stamp.added).unwrap_or_default());
        for former in self.others().filter(|(_, stamp)| stamp.is_only(network)) {
            past.protocols.push(former.0.protocol);
            past.added.extend(former.1.added);
        }
        past
    }

    /// The fabrics of other route protocols, and what was applied of them.
    pub(super) fn others(&self) -> impl Iterator<Item = (Self, Stamp)> {
        let files = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        files.filter_map(|file| {
            let name = file.file_name();
            let protocol = name.to_str()?.strip_suffix(".json")?.parse().ok()?;
            let other = Self { directory: self.directory.clone(), protocol };
            let stamp = other.stamp().filter(|_| protocol != self.protocol)?;
            Some((other, stamp))
        })
    }

    /// Forgets what a network had under other route protocols, once it has been
    /// taken over; what it shared there is the others' alone.
    ///
    /// # Errors
    /// Of removing the files.
    pub fn forget_former(&self, network: &str) -> Result<(), Error> {
        for (former, mut stamp) in self.others() {
            if stamp.is_only(network) {
                let path = former.path("json");
                former.forget().map_err(|error| file("forget", &path, &error))?;
                log::info!("{network} is now of route protocol {}", self.protocol);
            } else if stamp.sharers.remove(network) || stamp.network == network {
                let heir = stamp.others(network).next().map(str::to_owned);
                stamp.network = heir.unwrap_or_default();
                former.note(&stamp, None)?;
            }
        }
        Ok(())
    }

    /// Notes that what was applied is being taken back.
    ///
    /// # Errors
    /// Of writing the file.
    pub fn unsettle(&self) -> Result<(), Error> {
        match self.stamp() {
            Some(stamp) => self.note(&Stamp { state: State::Begun, ..stamp }, None),
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

    /// The last peers that were applied since boot, if they are valid on the node
    /// as it is now.
    ///
    /// # Errors
    /// `Kernel` if the kernel does not tell this node's addresses.
    pub fn peers(&self, config: &Config, host: &mut Socket) -> Result<Option<Peers>, Error> {
        let Ok(bytes) = self.noted_peers() else { return Ok(None) };
        let tables = Tables::of_kernel(host).map_err(kernel)?;
        Ok(self.valid(&bytes, config, &tables))
    }

    /// As [`Self::peers`], on a node with these tables.
    pub(super) fn peers_by(&self, config: &Config, tables: &Tables) -> Option<Peers> {
        self.valid(&self.noted_peers().ok()?, config, tables)
    }

    fn valid(&self, bytes: &[u8], config: &Config, tables: &Tables) -> Option<Peers> {
        let peers = checked(bytes, config, tables).map_err(|problems| {
            log::warn!("the peers that were applied last: {}", super::first_of(&problems));
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
    pub(super) fn note(&self, stamp: &Stamp, peers: Option<&[u8]>) -> Result<(), Error> {
        let write = || {
            directory(&self.directory)?;
            if let Some(peers) = peers
                && self.noted_peers().ok().as_deref() != Some(peers)
            {
                replace(&self.path("peers"), peers)?;
            }
            stamp.pod_cidrs.note(&self.path("cidrs"))?;
            replace(&self.path("json"), &serde_json::to_vec(stamp)?)
        };
        write().map_err(|error: io::Error| file("note the fabric's state", &self.directory, &error))
    }

    /// Forgets what was applied.
    ///
    /// # Errors
    /// Of removing the files; those that are not there are no error.
    pub fn forget(&self) -> io::Result<()> {
        for extension in ["json", "peers", "cidrs"] {
            match fs::remove_file(self.path(extension)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
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
    Peers::of_site(bytes, &site, config.fabric.cluster_cidrs.as_deref())
}

/// The addresses of this node's tunnels, of all fabrics that were applied.
pub fn tunnel_addresses(root: &Root) -> Vec<IpAddr> {
    let files = fs::read_dir(root.runtime().join(".fabric")).into_iter().flatten().flatten();
    let stamps = files
        .filter(|file| file.path().extension().is_some_and(|extension| extension == "json"))
        .filter_map(|file| read_own(&file.path(), PEERS_BYTES_MAX).ok())
        .filter_map(|bytes| serde_json::from_slice::<Stamp>(&bytes).ok());
    stamps.flat_map(|stamp| stamp.tunnel_addresses).collect()
}
