// SPDX-License-Identifier: Apache-2.0
//! The fabric as the verbs see it: brought up by the first ADD, and by the first after
//! its configuration or its peers have changed. Whether that is so, a note of what was
//! applied tells at the cost of one look at the peers file. What could not be done is
//! tried again, and STATUS looks whether what was done still holds.

use std::{path::Path, sync::atomic::Ordering, time::Duration};

use super::{
    super::{Error, Kind, Object, kernel, version},
    agreement::{require_same_fabric, settings_text, summary},
    applied::{Applied, State},
    document::file_version,
    pass::Pass,
    patience::{HAS_WAITED, patience},
    removal::{self, noted_protocols},
    state::{FabricState, lock_all},
    tunnel,
};
use crate::{
    conf::Config,
    fabric::{Answers, Inquiry, Settings},
    net::{Socket, Tables},
    state::Root,
    text::few::first_of,
};

/// How long STATUS believes the digest of a whole comparison: what no digest of
/// what is ours shows, such as another way to a peer, the next one finds.
const DIGEST_GOOD: Duration = Duration::from_secs(60);
/// How long what could not be done is not tried again.
const PATIENCE: Duration = Duration::from_secs(1);

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
        // An agent's passes may have followed those of another version of this plugin, or of
        // another copy of it.
        if applied.plugin.as_deref() != Some(version::VERSION) {
            version::note(root);
        }
        return answer.map(|()| Some(applied));
    }
    by_a_pass(config, root, host, depth, (&state, &path, &settings), &applied).map(Some)
}

/// Brings the fabric up, unless somebody else has done it meanwhile. By itself: where it is
/// not needed, the pages of its large frame are not touched.
#[inline(never)]
fn by_a_pass(
    config: &Config,
    root: &Root,
    host: &mut Socket,
    depth: Depth,
    (state, path, settings): (&FabricState, &Path, &str),
    applied: &dyn Fn(&Applied) -> bool,
) -> Result<Applied, Error> {
    // It leaves those that it had.
    let mut protocols = noted_protocols(&config.name, root);
    protocols.insert(state.protocol());
    let locks = match lock_all(&protocols, root, patience()) {
        Err(error) if error.kind == Kind::Busy => {
            return without_a_pass(config, root, state, depth, error);
        }
        locks => locks?,
    };
    version::note(root);
    let noted = state.applied();
    if let Some(applied) = noted.clone().filter(applied)
        && let Some(answer) = believe(state, &applied, config, host, depth)
    {
        return answer.map(|()| applied);
    }
    let tables = Tables::of_kernel(host).map_err(kernel)?;
    let mut answers = Answers::default();
    let mut node = Inquiry { socket: host, tables: &tables, answers: &mut answers };
    let mut pass = match Pass::of_file(config, root, node.again(), path) {
        Ok(pass) => pass,
        Err(error) if error.kind == Kind::Unavailable => {
            let refusal = error.to_string();
            let told = noted.as_ref().and_then(|applied| applied.refused_file.as_ref());
            let news = told != Some(&refusal);
            let same =
                |applied: &Applied| applied.is_of(&config.name) && applied.settings == settings;
            let noted = noted.filter(same);
            if let Some(mut applied) = noted
                && let Some(answer) = believe(state, &applied, config, node.socket, depth)
            {
                if news {
                    warn_of_list(&refusal);
                    applied.refused_file = Some(refusal);
                    state.note(&applied, None).unwrap_or_else(|error| log::warn!("{error}"));
                }
                return answer.map(|()| applied);
            }
            let last = FabricState::last_of(config, root);
            if last.protocol() != state.protocol() {
                // The file that is no good names another protocol than the last valid one.
                let said = last.applied().and_then(|applied| applied.said()).unwrap_or_default();
                drop(locks);
                let served = ensure(&last.of_then(config, &said), root, host, depth)?;
                return served.ok_or(error);
            }
            let Some(mut pass) = Pass::of_last(config, root, node)? else {
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
    pass.applied.plugin = Some(version::VERSION.to_owned());
    pass.renews_notes = true;
    let outcome = pass.carry_out(state, host)?;
    for note in &outcome.notes {
        log::warn!("{note}");
    }
    if let Some(error) = outcome.error() {
        return Err(error);
    }
    if matches!(outcome.applied.state, State::Degraded(_)) && !outcome.news.is_empty() {
        log::warn!("{}", first_of(&outcome.news));
    }
    tell(&outcome.applied, depth)?;
    Ok(outcome.applied)
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
    tell(&applied, depth)?;
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
            holds.then(|| tell(applied, depth))
        }
    }
}

/// What stands in the way of all, as an error where that is asked for. What
/// single peers want makes no node unfit: where one is gone, all others would be.
fn tell(applied: &Applied, depth: Depth) -> Result<(), Error> {
    let State::NotReady(reasons) = &applied.state else { return Ok(()) };
    if depth != Depth::Verify {
        log::warn!("{}", first_of(reasons));
        return Ok(());
    }
    let object = Object::network(&applied.network);
    Err(Error::new(Kind::Unavailable, object, first_of(reasons))
        .next("manx plan shows all that is to be done, and what stands in the way"))
}
