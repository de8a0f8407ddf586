//! The fabric as the verbs see it: brought up by the first ADD, and by the
//! first after its configuration or its peers have changed. Whether that is
//! so, a stamp tells at the cost of one look at the peers file.

use std::{
    fs, io,
    net::IpAddr,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use crate::{
    cni::{Code, Config, Error},
    fabric::{
        Peers, Settings,
        reconcile::{Plan, local_addresses},
    },
    net::Socket,
    pod::mtu::Uplink,
    state::{Journal, Root, lock, replace},
};

use super::{file, kernel};

/// What an attachment has to know of the fabric.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stamp {
    /// The network whose configuration was applied.
    pub network: String,
    /// Mode and peers file, for a message.
    pub summary: String,
    /// Configuration and peers file as they were.
    fingerprint: String,
    /// The narrowest device towards a peer, and its MTU in bytes.
    uplink: Option<(String, u32)>,
    /// The pod CIDRs of all nodes.
    pub pod_cidrs: Vec<IpNetwork>,
    /// Those of this node.
    pub own_cidrs: Vec<IpNetwork>,
    /// The addresses of this node's tunnels.
    pub tunnel_addresses: Vec<IpAddr>,
    /// Whether this node's pods have IPv6.
    pub serves_ipv6: bool,
}

impl Stamp {
    /// The device from which the pods' MTU follows.
    pub fn uplink(&self) -> Option<Uplink> {
        let (device, mtu) = self.uplink.clone()?;
        Some(Uplink { device, mtu })
    }
}

/// Where one fabric keeps its state. No network's name begins with a dot.
pub struct Ground {
    directory: PathBuf,
    protocol: u8,
}

impl Ground {
    /// The fabric of that route protocol.
    pub fn new(root: &Root, protocol: u8) -> Self {
        Self { directory: root.runtime().join(".fabric"), protocol }
    }

    fn stamp(&self) -> Option<Stamp> {
        let bytes = fs::read(self.directory.join(format!("{}.json", self.protocol))).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// The last valid peers that were applied since boot.
    ///
    /// # Errors
    /// Code 100 if the kernel does not tell this node's addresses.
    pub fn peers(&self, host: &mut Socket) -> Result<Option<Peers>, Error> {
        let Ok(bytes) = fs::read(self.last_peers()) else { return Ok(None) };
        let local = local_addresses(host).map_err(kernel)?;
        Ok(Peers::parse(&bytes, &|address| local.contains(&address)).ok())
    }

    fn last_peers(&self) -> PathBuf {
        self.directory.join(format!("{}.peers", self.protocol))
    }

    /// Keeps others from changing the fabric at the same time.
    ///
    /// # Errors
    /// Of the lock's directory or file.
    pub fn lock(&self) -> Result<lock::Guard, Error> {
        let directory = self.directory.join(format!("{}.lock", self.protocol));
        lock::exclusive(&directory).map_err(|error| file("lock the fabric", &directory, &error))
    }

    /// Notes what was applied.
    ///
    /// # Errors
    /// Of writing the files.
    pub fn note(&self, stamp: &Stamp, peers: &[u8]) -> io::Result<()> {
        fs::create_dir_all(&self.directory)?;
        replace(&self.last_peers(), peers)?;
        let path = self.directory.join(format!("{}.json", self.protocol));
        replace(&path, &serde_json::to_vec(stamp)?)
    }

    /// Forgets what was applied.
    ///
    /// # Errors
    /// Of removing the files; those that are not there are no error.
    pub fn forget(&self) -> io::Result<()> {
        for name in [format!("{}.json", self.protocol), format!("{}.peers", self.protocol)] {
            match fs::remove_file(self.directory.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// What was applied of the fabric that a configuration asks for, by this node's
/// last ADD, STATUS or apply.
pub fn applied(config: &Config, root: &Root) -> Option<Stamp> {
    config.fabric.peers_file.as_ref()?;
    Ground::new(root, config.fabric.protocol).stamp()
}

/// Makes sure of the fabric that a configuration asks for; `None` if it asks
/// for none.
///
/// # Errors
/// Code 7 if another network has the fabric of this protocol, code 50 without a
/// valid peers file since boot, code 100 for what the kernel refuses.
pub fn ensure(config: &Config, root: &Root, host: &mut Socket) -> Result<Option<Stamp>, Error> {
    let Some(peers_file) = &config.fabric.peers_file else { return Ok(None) };
    let path = root.path(peers_file);
    let ground = Ground::new(root, config.fabric.protocol);
    let wanted = fingerprint(config, &path);
    if let Some(stamp) = ground.stamp().filter(|stamp| stamp.fingerprint == wanted) {
        return Ok(Some(stamp));
    }
    let _lock = ground.lock()?;
    let noted = ground.stamp();
    if let Some(stamp) = noted.as_ref().filter(|stamp| stamp.fingerprint == wanted) {
        return Ok(Some(stamp.clone()));
    }
    require_same_fabric(config, root)?;
    let (peers, bytes) = match read_peers(&path, config, host) {
        Ok(read) => read,
        Err(error) => {
            let Some(stamp) = noted else { return Err(error) };
            log::warn!("{error}; going on with the peers that were applied last");
            return Ok(Some(stamp));
        }
    };
    let stamp = reconcile(config, host, &peers, wanted)?;
    ground
        .note(&stamp, &bytes)
        .map_err(|error| file("note the fabric's state", &ground.directory, &error))?;
    Ok(Some(stamp))
}

/// Applies a configuration's fabric and says what an attachment has to know.
///
/// # Errors
/// Code 100 with the first thing that the kernel refused.
pub fn reconcile(
    config: &Config,
    host: &mut Socket,
    peers: &Peers,
    fingerprint: String,
) -> Result<Stamp, Error> {
    let settings = Settings::of_config(config);
    let plan = Plan::make(host, &settings, peers).map_err(kernel)?;
    for note in &plan.desired.notes {
        log::warn!("{note}");
    }
    for conflict in plan.conflicts() {
        log::warn!("left alone: {conflict}");
    }
    let failed = plan.carry_out(host, &settings);
    if let Some(error) = Error::join(failed.into_iter().map(kernel).collect()) {
        return Err(error);
    }
    Ok(stamp(config, peers, &plan, fingerprint))
}

/// What an attachment has to know of a plan that was carried out.
pub fn stamp(config: &Config, peers: &Peers, plan: &Plan, fingerprint: String) -> Stamp {
    let tunnels = [false, true].into_iter().filter_map(|ipv6| peers.me.tunnel_address(ipv6));
    Stamp {
        network: config.name.clone(),
        summary: summary(config),
        fingerprint,
        uplink: plan.uplink().map(|uplink| (uplink.device, uplink.mtu)),
        pod_cidrs: peers.pod_cidrs().collect(),
        own_cidrs: peers.me.pod_cidrs.clone(),
        tunnel_addresses: tunnels.collect(),
        serves_ipv6: peers.me.pod_cidrs(true).next().is_some(),
    }
}

/// Reads and validates the peers file of a configuration.
///
/// # Errors
/// Code 50 with all that is wrong.
pub fn read_peers(
    path: &Path,
    config: &Config,
    host: &mut Socket,
) -> Result<(Peers, Vec<u8>), Error> {
    let unavailable = |reason: String| {
        Error::new(Code::UNAVAILABLE, format!("peers file {}: {reason}", path.display()))
            .details("no routes to other nodes can be made without a valid list of all nodes")
    };
    let bytes = fs::read(path).map_err(|error| unavailable(error.to_string()))?;
    let local = local_addresses(host).map_err(kernel)?;
    let peers = Peers::parse(&bytes, &|address| local.contains(&address))
        .map_err(|problems| unavailable(problems.join("; ")))?;
    let outside = match &config.fabric.cluster_cidrs {
        Some(cluster) => peers.outside(cluster),
        None => Vec::new(),
    };
    if outside.is_empty() { Ok((peers, bytes)) } else { Err(unavailable(outside.join("; "))) }
}

/// One fabric per route protocol: two networks may share one, not disagree.
///
/// # Errors
/// Code 7 naming both, while the other one has attachments.
pub fn require_same_fabric(config: &Config, root: &Root) -> Result<(), Error> {
    let Some(noted) = applied(config, root) else { return Ok(()) };
    let same = noted.network == config.name || noted.summary == summary(config);
    if same || Journal::new(root, &noted.network).entries().is_empty() {
        return Ok(());
    }
    let protocol = config.fabric.protocol;
    let msg = format!(
        "networks {} ({}) and {} ({}) disagree about the fabric of route protocol {protocol}",
        noted.network,
        noted.summary,
        config.name,
        summary(config),
    );
    Err(Error::new(Code::INVALID_CONFIG, msg)
        .details("give both the same mode and peersFile, or one of them another routeProtocol"))
}

fn summary(config: &Config) -> String {
    let peers_file = config.fabric.peers_file.as_deref().unwrap_or("none");
    format!("mode {:?}, peersFile {peers_file}", config.mode)
}

/// What the stamp has to agree with: the settings, and the peers file's
/// identity, size and time.
pub fn fingerprint(config: &Config, path: &Path) -> String {
    let settings = Settings::of_config(config);
    let version = fs::metadata(path).map_or_else(
        |error| error.to_string(),
        |data| {
            let (seconds, nanos) = (data.mtime(), data.mtime_nsec());
            format!("{} {} {seconds}.{nanos}", data.ino(), data.len())
        },
    );
    format!("{settings:?} {version}")
}
