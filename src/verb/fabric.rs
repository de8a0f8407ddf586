//! The fabric as the verbs see it: brought up by the first ADD, and by the
//! first after its configuration or its peers have changed. Whether that is
//! so, a stamp tells at the cost of one look at the peers file. What could not
//! be done is tried again, and STATUS looks whether what was done still holds.

mod ground;
mod pass;

use std::{fs, os::unix::fs::MetadataExt, path::Path, time::Duration};

pub use ground::{Ground, Stamp, State, tunnel_addresses};
pub use pass::{Outcome, Pass};

use crate::{
    cni::{Code, Config, CrossSubnet, Error, Mode},
    fabric::{Peers, Plan, Settings},
    net::Socket,
    state::{Journal, Root},
};

use super::kernel;

/// How long STATUS believes the digest of a whole comparison: what no digest of
/// what is ours shows, such as another way to a peer, the next one finds.
const DIGEST_GOOD: Duration = Duration::from_secs(60);
/// How long what could not be done is not tried again.
const PATIENCE: Duration = Duration::from_secs(1);
/// How many reasons an error gives.
const REASONS_MAX: usize = 5;

/// How closely to look at a fabric that was applied.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Care {
    /// The stamp's word is good enough, and what is wanting is a warning: a pod
    /// is not kept from starting by a peer that is away.
    Trust,
    /// The kernel is looked at, and what is wanting is an error.
    Verify,
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
/// valid peers file since boot, code 100 for what the kernel refuses; with
/// [`Care::Verify`] also code 50 for all that is wanting.
pub fn ensure(
    config: &Config,
    root: &Root,
    host: &mut Socket,
    care: Care,
) -> Result<Option<Stamp>, Error> {
    let Some(peers_file) = &config.fabric.peers_file else { return Ok(None) };
    let path = root.path(peers_file);
    let ground = Ground::new(root, config.fabric.protocol);
    let (settings, version) = (settings_text(config), file_version(&path));
    let applied = |stamp: &Stamp| {
        stamp.is_of(&config.name) && stamp.settings == settings && stamp.file == version
    };
    if let Some(stamp) = ground.stamp().filter(applied)
        && let Some(answer) = believe(&ground, &stamp, config, host, care)
    {
        return answer.map(|()| Some(stamp));
    }
    let _lock = ground.lock()?;
    let noted = ground.stamp();
    if let Some(stamp) = noted.clone().filter(applied)
        && let Some(answer) = believe(&ground, &stamp, config, host, care)
    {
        return answer.map(|()| Some(stamp));
    }
    let pass = match Pass::of_file(config, root, host, &path) {
        Ok(pass) => pass,
        Err(error) if error.code == Code::UNAVAILABLE => {
            let same = |stamp: &Stamp| stamp.is_of(&config.name) && stamp.settings == settings;
            let noted = noted.filter(same);
            if let Some(stamp) = noted
                && let Some(answer) = believe(&ground, &stamp, config, host, care)
            {
                log::warn!("{error}; going on with the peers that were applied last");
                return answer.map(|()| Some(stamp));
            }
            let Some(pass) = Pass::of_last(config, root, host)? else { return Err(error) };
            log::warn!("{error}; going on with the peers that were applied last");
            pass
        }
        Err(error) => {
            if error.code == Code::INVALID_CONFIG {
                ground.ask(&config.name, &summary(config))?;
            }
            return Err(error);
        }
    };
    let outcome = pass.carry_out(&ground, config, host)?;
    for note in &outcome.notes {
        log::warn!("{note}");
    }
    if let Some(error) = outcome.error() {
        return Err(error);
    }
    tell(&outcome.stamp.state, care)?;
    Ok(Some(outcome.stamp))
}

/// What a stamp that fits the configuration is good for; `None` if only another
/// pass can tell.
fn believe(
    ground: &Ground,
    stamp: &Stamp,
    config: &Config,
    host: &mut Socket,
    care: Care,
) -> Option<Result<(), Error>> {
    match (&stamp.state, care) {
        (State::Begun, _) => None,
        (State::Whole, Care::Trust) => Some(Ok(())),
        (State::Whole, Care::Verify) => {
            let settings = Settings::of_config(config);
            let holds = ground.age() < DIGEST_GOOD && stamp.digest_holds(host, &settings);
            holds.then_some(Ok(()))
        }
        (State::Wanting(_), _) => (ground.age() < PATIENCE).then(|| tell(&stamp.state, care)),
    }
}

/// What is wanting, as an error where that is asked for.
fn tell(state: &State, care: Care) -> Result<(), Error> {
    let State::Wanting(reasons) = state else { return Ok(()) };
    if care == Care::Trust {
        log::warn!("{}", first_of(reasons));
        return Ok(());
    }
    Err(Error::new(Code::UNAVAILABLE, first_of(reasons))
        .details("manx plan shows all that is to be done, and what stands in the way"))
}

/// The first few of many, and how many more there are.
fn first_of(reasons: &[String]) -> String {
    let mut text = reasons.iter().take(REASONS_MAX).cloned().collect::<Vec<_>>().join("; ");
    if let Some(more) = reasons.len().checked_sub(REASONS_MAX).filter(|more| *more > 0) {
        text += &format!("; and {more} more");
    }
    text
}

/// What the kernel lacks of the fabric that was applied last, for CHECK: without
/// the peers file, and without changing anything.
///
/// # Errors
/// Code 100 if the kernel does not answer.
pub fn differences(config: &Config, root: &Root, host: &mut Socket) -> Result<Vec<String>, Error> {
    let ground = Ground::new(root, config.fabric.protocol);
    let compare = |host: &mut Socket| -> Result<Vec<String>, Error> {
        // A configuration that has changed since is the next ADD's affair.
        let Some(_) = applied(config, root).filter(|stamp| stamp.settings == settings_text(config))
        else {
            return Ok(Vec::new());
        };
        let Some(peers) = ground.peers(config, host)? else { return Ok(Vec::new()) };
        let plan =
            Plan::make(host, &Settings::of_config(config), &peers, &ground.past(&config.name))
                .map_err(kernel)?;
        Ok(plan.changes.iter().map(ToString::to_string).collect())
    };
    if compare(host)?.is_empty() {
        return Ok(Vec::new());
    }
    // Somebody may have been about it.
    let _lock = ground.lock()?;
    let left = compare(host)?;
    Ok(if left.is_empty() { left } else { vec![format!("the fabric lacks: {}", first_of(&left))] })
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
    let peers = ground::checked(&bytes, config, host)?;
    Ok((peers.map_err(|problems| unavailable(first_of(&problems)))?, bytes))
}

/// One fabric per route protocol: two networks may share one, not disagree.
///
/// # Errors
/// Code 7 naming both, while another one that shares the fabric has attachments:
/// also where this network was the last to agree, unless that one has asked for
/// the same since.
pub fn require_same_fabric(config: &Config, root: &Root) -> Result<(), Error> {
    let Some(noted) = applied(config, root) else { return Ok(()) };
    if noted.summary == summary(config) {
        return Ok(());
    }
    let in_use = |network: &&str| !Journal::new(root, network).entries().is_empty();
    let summary = summary(config);
    let mut others = noted.others(&config.name).filter(|other| !noted.agrees(other, &summary));
    let Some(other) = others.find(in_use) else { return Ok(()) };
    let protocol = config.fabric.protocol;
    let msg = format!(
        "networks {other} ({}) and {} ({summary}) disagree about the fabric of route protocol \
         {protocol}",
        noted.summary, config.name,
    );
    Err(Error::new(Code::INVALID_CONFIG, msg).details(
        "give both the same settings of the fabric, or one of them another routeProtocol, and \
         with mode vxlan another vxlan.device and vni",
    ))
}

/// All settings that the kernel's state follows from, in words: what two networks
/// of one fabric have to agree about.
fn summary(config: &Config) -> String {
    let keys = &config.fabric;
    let peers_file = keys.peers_file.as_deref().unwrap_or("none");
    let mut text = format!("mode {:?}, peersFile {peers_file}", config.mode);
    if keys.metric != 0 {
        text += &format!(", routeMetric {}", keys.metric);
    }
    if config.mode == Mode::Direct {
        return text;
    }
    if keys.cross_subnet != CrossSubnet::Never {
        text += &format!(", crossSubnet {:?}", keys.cross_subnet);
    }
    let sizes = [("mtu", config.mtu), ("overhead", config.overhead)];
    for (name, bytes) in sizes {
        text += &bytes.map(|bytes| format!(", {name} {bytes}")).unwrap_or_default();
    }
    if config.mode == Mode::Vxlan {
        let (vni, port, device) = (keys.vni, keys.port, &keys.vxlan_device);
        text += &format!(", vxlan {device} vni {vni} port {port}");
    }
    text
}

/// All of a configuration that the fabric depends on.
fn settings_text(config: &Config) -> String {
    format!("{:?}", Settings::of_config(config))
}

/// The peers file's identity, size and time.
fn file_version(path: &Path) -> String {
    fs::metadata(path).map_or_else(
        |error| error.to_string(),
        |data| {
            let (seconds, nanos) = (data.mtime(), data.mtime_nsec());
            format!("{} {} {seconds}.{nanos}", data.ino(), data.len())
        },
    )
}
