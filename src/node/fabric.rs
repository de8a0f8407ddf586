//! The fabric as the verbs see it: brought up by the first ADD, and by the
//! first after its configuration or its peers have changed. Whether that is
//! so, a note of what was applied tells at the cost of one look at the peers file. What could not
//! be done is tried again, and STATUS looks whether what was done still holds.

mod applied;
mod cidrs;
mod document;
mod pass;
mod removal;
mod state;
pub mod tunnel;

use std::{
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

pub use applied::{Applied, State};
use document::file_version;
pub(crate) use document::resolved_and_noted;
pub use document::{require_agreement, resolved};
pub use pass::{Outcome, Pass};
pub use removal::Removal;
pub use state::{FabricState, WRITER_LIMIT, tunnel_addresses};
use tunnel::TunnelTable;

use crate::{
    conf::{Config, CrossSubnet, Mode},
    fabric::{Peers, Plan, Settings, apply::Refused, trouble::Trouble},
    net::{Socket, Tables},
    object::{Action, Route},
    state::{Journal, Root, file::PEERS_BYTES_MAX, read},
    text::few::first_of,
};

use super::{Error, Kind, kernel, version};

/// How long STATUS believes the digest of a whole comparison: what no digest of
/// what is ours shows, such as another way to a peer, the next one finds.
const DIGEST_GOOD: Duration = Duration::from_secs(60);
/// How long what could not be done is not tried again.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long an ADD or a STATUS waits for somebody else who changes the fabric.
const WRITER_PATIENCE: Duration = Duration::from_secs(1);

/// How closely to look at a fabric that was applied.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Depth {
    /// As [`Self::Trust`], before another look in the same call: the kernel is
    /// not asked twice.
    Glance,
    /// The note of what was applied is good enough, and what is wanting is a warning: a
    /// pod is not kept from starting by peers that are away.
    Trust,
    /// The kernel is looked at, and what stands in the way of all is an error.
    Verify,
}

/// What was applied of the fabric that a configuration asks for, by this node's
/// last ADD, STATUS or apply.
pub fn last_applied(config: &Config, root: &Root) -> Option<Applied> {
    config.fabric.peers_file.as_ref()?;
    FabricState::new(root, config.fabric.protocol).applied()
}

/// Makes sure of the fabric that a configuration asks for; `None` if it asks
/// for none: then what there was of one is removed.
///
/// # Errors
/// `Configuration` if another network has the fabric of this protocol, `Unavailable` without a
/// valid peers file since boot, `Kernel` for what the kernel refuses; with
/// [`Depth::Verify`] also `Unavailable` for what stands in the way of all.
pub fn ensure(
    config: &Config,
    root: &Root,
    host: &mut Socket,
    depth: Depth,
) -> Result<Option<Applied>, Error> {
    let Some(peers_file) = &config.fabric.peers_file else {
        if depth != Depth::Glance {
            removal::abandon(config, root, host);
        }
        return Ok(None);
    };
    let path = root.path(peers_file);
    let state = FabricState::new(root, config.fabric.protocol);
    let (settings, version) = (settings_text(config), file_version(&path));
    let applied = |applied: &Applied| {
        applied.is_of(&config.name) && applied.settings == settings && applied.file == version
    };
    if let Some(applied) = state.applied().filter(applied)
        && let Some(answer) = believe(&state, &applied, config, host, depth)
    {
        return answer.map(|()| Some(applied));
    }
    let _lock = match state.lock(patience()) {
        Err(error) if error.kind == Kind::Busy => {
            return without_a_pass(config, root, &state, depth, error).map(Some);
        }
        lock => lock?,
    };
    version::note(root);
    let noted = state.applied();
    if let Some(applied) = noted.clone().filter(applied)
        && let Some(answer) = believe(&state, &applied, config, host, depth)
    {
        return answer.map(|()| Some(applied));
    }
    let tables = Tables::of_kernel(host).map_err(kernel)?;
    let pass = match Pass::of_file(config, root, (host, &tables), &path) {
        Ok(pass) => pass,
        Err(error) if error.kind == Kind::Unavailable => {
            let refusal = error.to_string();
            let told = noted.as_ref().and_then(|applied| applied.refused_file.as_ref());
            let news = told != Some(&refusal);
            let same =
                |applied: &Applied| applied.is_of(&config.name) && applied.settings == settings;
            let noted = noted.filter(same);
            if let Some(mut applied) = noted
                && let Some(answer) = believe(&state, &applied, config, host, depth)
            {
                if news {
                    warn_of_list(&refusal);
                    applied.refused_file = Some(refusal);
                    state.note(&applied, None).unwrap_or_else(|error| log::warn!("{error}"));
                }
                return answer.map(|()| Some(applied));
            }
            let Some(mut pass) = Pass::of_last(config, root, (host, &tables))? else {
                return Err(error);
            };
            if news {
                warn_of_list(&refusal);
            }
            pass.applied.refused_file = Some(refusal);
            pass
        }
        Err(error) => {
            if error.kind == Kind::Configuration {
                state.ask(&config.name, &summary(config))?;
            }
            return Err(error);
        }
    };
    let outcome = pass.carry_out(&state, host)?;
    for note in &outcome.notes {
        log::warn!("{note}");
    }
    if let Some(error) = outcome.error() {
        return Err(error);
    }
    if matches!(outcome.applied.state, State::Degraded(_)) && !outcome.news.is_empty() {
        log::warn!("{}", first_of(&outcome.news));
    }
    tell(&outcome.applied.state, depth)?;
    Ok(Some(outcome.applied))
}

/// Whether this call has waited for a writer in vain.
static HAS_WAITED: AtomicBool = AtomicBool::new(false);

/// How long this call still waits for somebody who changes the fabric.
fn patience() -> Duration {
    if HAS_WAITED.load(Ordering::Relaxed) { Duration::ZERO } else { WRITER_PATIENCE }
}

/// What an attachment goes by where somebody else is about the fabric and does not
/// come to an end: what was applied before.
///
/// # Errors
/// `busy`, which names the writer, if nothing was since boot.
fn without_a_pass(
    config: &Config,
    root: &Root,
    state: &FabricState,
    depth: Depth,
    busy: Error,
) -> Result<Applied, Error> {
    require_same_fabric(config, root)?;
    let applied =
        state.applied().filter(|applied| applied.is_of(&config.name) && applied.was_applied());
    let Some(applied) = applied else { return Err(busy) };
    if !HAS_WAITED.swap(true, Ordering::Relaxed) {
        log::warn!("{busy}; going on with the fabric as it was applied last");
    }
    tell(&applied.state, depth)?;
    Ok(applied)
}

fn warn_of_list(refusal: &str) {
    log::warn!("{refusal}; going on with the peers that were applied last");
}

/// What a note that fits the configuration is good for; `None` if only another
/// pass can tell.
fn believe(
    state: &FabricState,
    applied: &Applied,
    config: &Config,
    host: &mut Socket,
    depth: Depth,
) -> Option<Result<(), Error>> {
    match (&applied.state, depth) {
        (State::InProgress, _) => None,
        (State::Ready | State::Degraded(_), Depth::Glance) => Some(Ok(())),
        (State::Ready, Depth::Trust) => applied.ways_hold(host).then_some(Ok(())),
        // A pod costs no more while one of thousands is away. Where nobody asks
        // for the status, the pods see to another try.
        (State::Degraded(_), Depth::Trust) => {
            let holds = state.age() < DIGEST_GOOD && applied.ways_hold(host);
            holds.then_some(Ok(()))
        }
        (State::Ready, Depth::Verify) => {
            let settings = Settings::of_config(config);
            let holds = state.age() < DIGEST_GOOD
                && applied.ways_hold(host)
                && tunnel::is_intact(config, applied).unwrap_or(true)
                && applied.digest_holds(host, &settings);
            holds.then_some(Ok(()))
        }
        (State::Degraded(_), Depth::Verify) => {
            let holds = state.age() < PATIENCE && applied.ways_hold(host);
            holds.then_some(Ok(()))
        }
        (State::NotReady(_), _) => {
            let holds = state.age() < PATIENCE && applied.ways_hold(host);
            holds.then(|| tell(&applied.state, depth))
        }
    }
}

/// What stands in the way of all, as an error where that is asked for. What
/// single peers want makes no node unfit: where one is gone, all others would be.
fn tell(state: &State, depth: Depth) -> Result<(), Error> {
    let State::NotReady(reasons) = state else { return Ok(()) };
    if depth != Depth::Verify {
        log::warn!("{}", first_of(reasons));
        return Ok(());
    }
    Err(Error::new(Kind::Unavailable, "", first_of(reasons))
        .next("manx plan shows all that is to be done, and what stands in the way"))
}

/// In what the kernel differs from the fabric that was applied last, for CHECK.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Differences {
    /// All of them.
    pub text: String,
    /// What is to be done about it, and what else is wanting.
    pub advice: String,
}

/// Compares the kernel with the fabric that was applied last: without the peers
/// file, and without changing anything. What somebody else has, and what single
/// peers want, no pod is to blame for: it is only mentioned beside the rest.
///
/// # Errors
/// `Kernel` if the kernel does not answer.
pub fn differences(
    config: &Config,
    root: &Root,
    host: &mut Socket,
) -> Result<Option<Differences>, Error> {
    let state = FabricState::new(root, config.fabric.protocol);
    let compare = |host: &mut Socket| -> Result<Option<Differences>, Error> {
        // A configuration that has changed since is the next ADD's affair.
        let Some(_) =
            last_applied(config, root).filter(|applied| applied.settings == settings_text(config))
        else {
            return Ok(None);
        };
        let tables = Tables::of_kernel(host).map_err(kernel)?;
        let Some(peers) = state.peers_by(config, &tables) else { return Ok(None) };
        let mut past = state.past(&config.name);
        past.leased = pass::leased(config, root, &peers);
        let settings = Settings::of_config(config);
        let plan = Plan::make(host, &settings, &peers, &past, &tables).map_err(kernel)?;
        let tunnel = TunnelTable::of(config, &peers)?;
        let tables = tunnel.iter().flat_map(TunnelTable::differences).cloned().collect();
        Ok(Differences::of(&plan, tables))
    };
    if compare(host)?.is_none() {
        return Ok(None);
    }
    // Somebody may have been about it.
    let _lock = state.lock(WRITER_LIMIT)?;
    compare(host)
}

impl Differences {
    fn of(plan: &Plan, mut differs: Vec<String>) -> Option<Self> {
        let (mut lacks, mut surplus) = (Vec::new(), Vec::new());
        for change in plan.feasible() {
            // A route to a peer that cannot be reached goes for that reason.
            let gone = change.removed::<Route>();
            if gone.is_some_and(|held| plan.desired.cut_off.contains(&held.destination())) {
                continue;
            }
            let list = match change.action() {
                Action::Create => &mut lacks,
                Action::Replace | Action::Conflict => &mut differs,
                Action::Delete => &mut surplus,
            };
            list.push(change.told().words());
        }
        let lists = [("lacks", lacks), ("differs in", differs), ("has besides", surplus)];
        let told: Vec<String> = lists
            .iter()
            .filter(|(_, lines)| !lines.is_empty())
            .map(|(verb, lines)| format!("the fabric {verb}: {}", first_of(lines)))
            .collect();
        let mut advice = "manx apply repairs the fabric".to_owned();
        let Trouble { reasons, .. } = Trouble::of(plan, &Refused::default());
        if !reasons.is_empty() {
            advice += &format!(", but not this: {}", first_of(&reasons));
        }
        (!told.is_empty()).then(|| Self { text: told.join("; "), advice })
    }
}

/// Reads and validates the peers file of a configuration.
///
/// # Errors
/// `Unavailable` with all that is wrong.
pub fn read_peers(
    path: &Path,
    config: &Config,
    host: &mut Socket,
) -> Result<(Peers, Vec<u8>), Error> {
    read_peers_by(path, config, &Tables::of_kernel(host).map_err(kernel)?)
}

/// As [`read_peers`], on a node with these tables.
fn read_peers_by(path: &Path, config: &Config, tables: &Tables) -> Result<(Peers, Vec<u8>), Error> {
    let unavailable = |reason: String| {
        Error::new(Kind::Unavailable, format!("peers file {}", path.display()), reason)
            .next("no routes to other nodes can be made without a valid list of all nodes")
    };
    let bytes = read(path, PEERS_BYTES_MAX).map_err(|error| unavailable(error.to_string()))?;
    let peers = state::checked(&bytes, config, tables);
    Ok((peers.map_err(|problems| unavailable(first_of(&problems)))?, bytes))
}

/// One fabric per route protocol: two networks may share one, not disagree.
///
/// # Errors
/// `Configuration` naming both, while another one that shares the fabric has attachments:
/// also where this network was the last to agree, unless that one has asked for
/// the same since.
pub fn require_same_fabric(config: &Config, root: &Root) -> Result<(), Error> {
    let Some(noted) = last_applied(config, root) else { return Ok(()) };
    if noted.summary == summary(config) {
        return Ok(());
    }
    // They name one file, which speaks for both from now on.
    let file = &config.fabric.file;
    if !file.is_empty()
        && noted.said().is_none_or(|part| part.is_empty())
        && noted.peers_file == config.fabric.peers_file
    {
        return Ok(());
    }
    let in_use = |network: &&str| !Journal::new(root, network).entries().is_empty();
    let summary = summary(config);
    let mut others = noted.others(&config.name).filter(|other| !noted.agrees(other, &summary));
    let Some(other) = others.find(in_use) else { return Ok(()) };
    let protocol = config.fabric.protocol;
    Err(disagreement((other, &noted.summary), (&config.name, &summary), protocol))
}

/// That two networks, each with its settings, cannot have the same fabric.
fn disagreement((one, its): (&str, &str), (other, others): (&str, &str), protocol: u8) -> Error {
    let msg = format!(
        "networks {one} ({its}) and {other} ({others}) disagree about the fabric of route \
         protocol {protocol}"
    );
    Error::new(Kind::Configuration, "", msg).next(
        "give both the same settings of the fabric, or one of them another routeProtocol, and \
         with mode vxlan another vxlan.device and vni",
    )
}

/// All settings that the kernel's state follows from, in words: what two networks
/// of one fabric have to agree about.
fn summary(config: &Config) -> String {
    let keys = &config.fabric;
    let peers_file = keys.peers_file.as_deref().unwrap_or("none");
    if !keys.file.is_empty() {
        let beyond = config.beyond_file();
        let beyond: String = beyond.iter().map(|(key, value)| format!(", {key} {value}")).collect();
        return format!("as peersFile {peers_file} says{beyond}");
    }
    let mut text = format!("mode {:?}, peersFile {peers_file}", config.mode);
    if keys.metric != 0 {
        text += &format!(", routeMetric {}", keys.metric);
    }
    if config.mode == Mode::Direct {
        return text;
    }
    if keys.cross_subnet != CrossSubnet::Off {
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
    // A structure of numbers and strings has always a text.
    serde_json::to_string(&Settings::of_config(config)).unwrap_or_default()
}
