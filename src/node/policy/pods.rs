// SPDX-License-Identifier: Apache-2.0
//! The pods of this node in the table of network policies: closed or known before their
//! links are up, and gone from it behind them.
//!
//! An ADD notes its attachment before it asks what is known of its pod, and whoever knows
//! more of pods writes that down before it asks which attachments there are. The two keep
//! each other out while they do so: whichever comes second sees what the other one did.

use std::{
    net::IpAddr,
    os::fd::AsFd,
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{
    super::{Error, Kind, Object, fabric::file_version, liveness, refused, watch::Files},
    denial,
    state::{self, pods_file},
};
use crate::{
    cni::Args,
    conf::{Config, Missing},
    list::{Gather, distinct},
    net::{Socket, conntrack, link::Link},
    nft::policy::{Depth, Found},
    pod::Identity,
    policy::{Assigned, Attached, Name, Policies, TABLE},
    state::{
        Entry, Journal, Otherwise, Root, journal,
        operations::{self, Operation, WAIT},
    },
};

/// So often a lost table is made again because others changed the rule set meanwhile.
const ATTEMPTS: u32 = 20;

/// What was known of a pod when its ADD began.
pub(crate) struct Expected {
    pod: Attached,
    missing: Missing,
    /// Of the file that says it.
    version: String,
    known: Option<Assigned>,
}

/// What an attachment is of whose pod nothing is known, as its network's configuration has
/// it; `None` where policies are not enforced.
pub(crate) fn otherwise(config: &Config) -> Option<Otherwise> {
    config.enforces_policy.then_some(match config.policy_missing {
        Missing::Wait | Missing::Fail => Otherwise::Closed,
        Missing::Allow => Otherwise::Open,
    })
}

/// Asks what is known of a pod that is to be attached, and waits for it as long as the
/// configuration says; `None` where policies are not enforced.
///
/// # Errors
/// `File` for what cannot be read; `Unavailable` if nothing is known and the pod is not to be
/// made then.
pub(crate) fn expect(config: &Config, root: &Root, args: &Args) -> Result<Option<Expected>, Error> {
    let Some(otherwise) = otherwise(config) else { return Ok(None) };
    let pod = attached(args, Vec::new(), otherwise);
    let missing = config.policy_missing;
    let version = file_version(&pods_file(root));
    let known = find(root, &pod)?;
    let mut expected = Expected { pod, missing, version, known };
    if expected.known.is_none() && missing == Missing::Wait && expected.pod.name.is_some() {
        expected.wait(root, config.policy_wait)?;
    }
    if expected.known.is_none() && missing == Missing::Fail {
        return Err(expected.unknown(root));
    }
    Ok(Some(expected))
}

impl Expected {
    /// Waits until something is known of the pod, and tells how long to whoever counts that.
    fn wait(&mut self, root: &Root, limit: Duration) -> Result<(), Error> {
        let began = Instant::now();
        self.await_known(root, limit)?;
        let code = u32::from(self.known.is_none());
        let waited = Operation { verb: WAIT.to_owned(), code, took: began.elapsed() };
        operations::note(root, &waited);
        Ok(())
    }

    fn await_known(&mut self, root: &Root, limit: Duration) -> Result<(), Error> {
        let path = pods_file(root);
        let deadline = Instant::now() + limit;
        let mut files = match Files::watch(vec![path.clone()]) {
            Ok(files) => files,
            Err(error) => {
                log::warn!("{error}: nobody waits for network policies");
                return Ok(());
            }
        };
        loop {
            // Behind the subscription, so that nothing comes in between.
            self.version = file_version(&path);
            self.known = find(root, &self.pod)?;
            let left = deadline.saturating_duration_since(Instant::now());
            if self.known.is_some() || left.is_zero() {
                return Ok(());
            }
            let millis = u16::try_from(left.as_millis() + 1).unwrap_or(u16::MAX);
            let mut sources = [PollFd::new(files.as_fd(), PollFlags::POLLIN)];
            let _ = poll(&mut sources, PollTimeout::from(millis));
            files.drain();
        }
    }

    /// Puts a pod with these addresses into the table, as what it is known for; its
    /// attachment has been noted.
    ///
    /// Of the table it looks at the rules by their number, and at the elements of its own pod:
    /// a pod waits for it, and what others took out of the table of further pods would take a
    /// question for each of them. STATUS asks these, and the agent hears of it.
    ///
    /// # Errors
    /// `Kernel` with what nf_tables refused; `File` for what cannot be read; `Busy` while
    /// policies are applied; `Unavailable` as for [`expect`].
    pub(crate) fn admit(&self, root: &Root, addresses: &[IpAddr]) -> Result<(), Error> {
        let mut is_known = true;
        settled(root, &mut || {
            let assigned = self.assigned(root)?;
            is_known = assigned.is_some();
            let mut table = empty(root)?;
            let assigned = assigned.as_ref().unwrap_or(&self.pod.otherwise);
            addresses.iter().for_each(|address| table.assign(*address, assigned));
            table.settle(addresses, Depth::Counted).map_err(refused)
        })?;
        if !is_known {
            let pod = self.pod.name.as_ref();
            let pod = pod.map_or_else(|| "a pod without a name".into(), Name::to_string);
            let state = if self.missing == Missing::Allow { "open" } else { "closed" };
            log::warn!("{pod} is {state}: nobody has said which network policies are about it");
        }
        Ok(())
    }

    /// Its numbers, if they are known by now.
    fn assigned(&self, root: &Root) -> Result<Option<Assigned>, Error> {
        let known = match file_version(&pods_file(root)) == self.version {
            true => self.known.clone(),
            false => find(root, &self.pod)?,
        };
        match (known, self.missing) {
            (None, Missing::Fail) => Err(self.unknown(root)),
            (known, _) => Ok(known),
        }
    }

    fn unknown(&self, root: &Root) -> Error {
        let pod = self.pod.name.as_ref().map_or_else(String::new, |name| format!(" {name}"));
        let object = Object::path(&format!("network policies of pod{pod},"), &pods_file(root));
        Error::new(Kind::Unavailable, object, "nobody has said yet which are about it").next(
            "see whether what applies policies (manx-agent, or manx policy apply) runs on this \
             node; networkPolicyMissing says what becomes of such a pod",
        )
    }
}

/// Takes addresses that no pod has any more out of the table, if there is one.
///
/// # Errors
/// `Kernel` with what nf_tables refused.
fn release(root: &Root, addresses: &[IpAddr]) -> Result<(), Error> {
    if addresses.is_empty() {
        return Ok(());
    }
    match empty(root)?.settle(addresses, Depth::Counted) {
        Err(error) if error.is_without_tables() => Ok(()),
        done => done.map(drop).map_err(refused),
    }
}

/// The same where attachments may be in the table: policies are enforced on them, or were
/// applied by hand. Connections of their addresses are forgotten as well: to the next pod with
/// such an address they would be established, and pass whatever its policies say.
///
/// The links are gone. Of one that `had_link` the addresses are its own for certain; otherwise
/// an earlier DEL may have freed them, and not ended.
///
/// # Errors
/// `Kernel` with what nf_tables refused; `Busy` while policies are applied. Nobody else is to
/// have the addresses then.
pub(crate) fn release_noted(root: &Root, entries: &[&Entry], had_link: bool) -> Result<(), Error> {
    let some = entries.iter().copied().filter(|entry| may_hold(root, Some(entry)));
    let some: Vec<&Entry> = some.gather();
    let noted = some.iter().flat_map(|entry| entry.addresses.iter().copied());
    let addresses = distinct(noted.gather());
    if addresses.is_empty() {
        return Ok(());
    }
    if !had_link {
        return release_own(root, &some, addresses);
    }
    state::note_gone(root, &addresses)?;
    take_out(root, &addresses)
}

/// Whether the table may hold something of an attachment: policies are enforced on it, or
/// somebody touched the table since boot.
pub(crate) fn may_hold(root: &Root, entry: Option<&Entry>) -> bool {
    entry.is_some_and(|entry| entry.enforced.is_some()) || state::was_touched(root)
}

/// The addresses that the table may hold of a pod behind a link of which no note is left: those
/// to which host routes lead by it.
///
/// # Errors
/// Of the kernel's answers.
pub(crate) fn behind(root: &Root, host: &mut Socket, link: &Link) -> Result<Vec<IpAddr>, Error> {
    if !may_hold(root, None) {
        return Ok(Vec::new());
    }
    liveness::routed_by(host, link.index)
}

/// To be done by whoever has the lock, with addresses in order.
fn release_all(root: &Root, addresses: &[IpAddr]) -> Result<(), Error> {
    state::add_gone(root, addresses, true);
    take_out(root, addresses)
}

/// Connections go even where elements cannot. The addresses are in order.
fn take_out(root: &Root, addresses: &[IpAddr]) -> Result<(), Error> {
    let released = release(root, addresses);
    let forgotten = conntrack::of(addresses).and_then(|found| conntrack::forget(&found));
    match forgotten {
        Ok(failed) => {
            for failed in failed {
                log::warn!("a connection of a pod that is gone stays: {}", failed.error);
            }
        }
        Err(error) => log::warn!("connections of a pod that is gone stay: {error}"),
    }
    released
}

/// Takes out those addresses of attachments that no other one has noted by now. An ADD
/// notes its own before it puts them into the table, which waits for the lock.
fn release_own(root: &Root, entries: &[&Entry], mut addresses: Vec<IpAddr>) -> Result<(), Error> {
    let _lock = state::lock(root)?;
    let is_one = |one: &Entry, other: &Entry| {
        (&one.network, &one.container_id, &one.ifname)
            == (&other.network, &other.container_id, &other.ifname)
    };
    let is_own = |one: &Entry| entries.iter().any(|own| is_one(own, one));
    for other in journal::all(root).into_iter().filter(|other| !is_own(other)) {
        addresses.retain(|address| !other.addresses.contains(address));
    }
    release_all(root, &addresses)
}

/// Takes back what an ADD put there that came to nothing. An address that another attachment has
/// noted, which came first, has what is known of that one.
///
/// # Errors
/// `Kernel` with what nf_tables refused; `File` for what cannot be read; `Busy` while
/// policies are applied.
pub(crate) fn take_back(
    root: &Root,
    identity: &Identity,
    addresses: &[IpAddr],
) -> Result<(), Error> {
    let _lock = state::lock(root)?;
    let Identity { network, container_id, ifname, .. } = identity;
    let is_own = |entry: &Entry| {
        (&entry.network, &entry.container_id, &entry.ifname) == (network, container_id, ifname)
    };
    let others = journal::all(root).into_iter().filter(|entry| !is_own(entry));
    let mut attached: Vec<Attached> = others.filter_map(|entry| of_entry(&entry)).gather();
    attached.retain(|one| one.addresses.iter().any(|address| addresses.contains(address)));
    let (table, _) = with(root, empty(root)?, &attached)?;
    match table.settle(addresses, Depth::Counted) {
        Err(error) if error.is_without_tables() => Ok(()),
        done => done.map(drop).map_err(refused),
    }
}

/// Takes out of the table whoever is on no attachment's note, and to whom no route leads;
/// returns their addresses.
///
/// # Errors
/// Of the kernel's answers; `Busy` while policies are applied.
pub(crate) fn sweep(root: &Root, host: &mut Socket) -> Result<Vec<IpAddr>, Error> {
    let isolated = || match empty(root)?.isolated() {
        Err(error) if error.is_without_tables() => Ok(Vec::new()),
        found => found.map_err(refused),
    };
    if !state::was_touched(root) || isolated()?.is_empty() {
        return Ok(Vec::new());
    }
    let _lock = state::lock(root)?;
    let isolated = isolated()?;
    let entries = journal::all(root);
    let noted: Vec<IpAddr> = entries.into_iter().flat_map(|entry| entry.addresses).gather();
    let mut nobodys = Vec::new();
    for address in isolated.into_iter().filter(|address| !noted.contains(address)) {
        if !liveness::is_routed(host, address)? {
            nobodys.push(address);
        }
    }
    let nobodys = distinct(nobodys);
    release_all(root, &nobodys)?;
    Ok(nobodys)
}

/// What the table lacks of an attachment on which policies are enforced, a sentence each.
///
/// # Errors
/// `Kernel` if nf_tables does not answer; `File` for what cannot be read; `Busy` while
/// policies are applied.
pub(crate) fn differences(root: &Root, entry: &Entry) -> Result<Vec<String>, Error> {
    let Some(pod) = of_entry(entry) else { return Ok(Vec::new()) };
    let _lock = state::share(root)?;
    let assigned = find(root, &pod)?;
    let assigned = assigned.as_ref().unwrap_or(&pod.otherwise);
    let mut table = empty(root)?;
    pod.addresses.iter().for_each(|address| table.assign(*address, assigned));
    table.differences(&pod.addresses).map_err(refused)
}

/// Makes the table again where it was lost, and puts into it what others took out of it of
/// pods on which policies are enforced; returns whether there was anything to do. While
/// somebody applies policies there is not: that one looks at all of the table.
///
/// # Errors
/// As for [`Expected::admit`].
pub(crate) fn restore_table(root: &Root) -> Result<bool, Error> {
    let differences = match all_differences(root) {
        Err(error) if error.kind == Kind::Busy => return Ok(false),
        differences => differences?,
    };
    if !differences.is_empty() {
        state::note_mended(root);
        restore(root)?;
    }
    Ok(!differences.is_empty())
}

/// Whether the table is there, with its rules as they were made.
///
/// # Errors
/// `Kernel` where nf_tables does not answer.
pub(super) fn is_sound(root: &Root) -> Result<bool, Error> {
    Ok(empty(root)?.settle(&[], Depth::Read).map_err(refused)? == Found::Sound)
}

/// What the table lacks of all pods on which policies are enforced, a sentence each.
///
/// # Errors
/// As for [`differences`].
pub(crate) fn all_differences(root: &Root) -> Result<Vec<String>, Error> {
    let attached = all_attached(root);
    if attached.is_empty() {
        return Ok(Vec::new());
    }
    let _lock = state::share(root)?;
    let (table, addresses) = with(root, empty(root)?, &attached)?;
    table.differences(&addresses).map_err(refused)
}

/// Puts into the table what it lacks of them.
///
/// # Errors
/// As for [`Expected::admit`].
pub(crate) fn restore(root: &Root) -> Result<(), Error> {
    settled(root, &mut || {
        let (table, addresses) = with(root, empty(root)?, &all_attached(root))?;
        table.settle(&addresses, Depth::Read).map_err(refused)
    })
}

/// Does that while nobody applies policies; where the table is not as it is made, makes it, and
/// does that again.
fn settled(root: &Root, act: &mut dyn FnMut() -> Result<Found, Error>) -> Result<(), Error> {
    for _ in 0..ATTEMPTS {
        let lock = state::share(root)?;
        if act()? == Found::Sound {
            return Ok(());
        }
        drop(lock);
        make(root)?;
    }
    let object = Object::request(&format!("make nftables table {TABLE}"));
    let cause = format!("the rule set changed during each of {ATTEMPTS} attempts");
    Err(Error::new(Kind::Busy, object, cause).next("try again"))
}

/// Makes the table of what is noted, with all pods of this node.
fn make(root: &Root) -> Result<(), Error> {
    let _lock = state::lock_for_add(root)?;
    // Another one did meanwhile, if so.
    if is_sound(root)? {
        return Ok(());
    }
    state::note_mended(root);
    let attached = all_attached(root);
    let (mut whole, _) = with(root, state::table(root)?, &attached)?;
    whole.denial = state::denial(root)?;
    let (_, note) = denial::enforced(root, &mut whole, Policies::make)?;
    note.into_iter().for_each(|note| log::warn!("{note}"));
    log::info!("nftables table {TABLE} is made, with {} pods of this node", attached.len());
    Ok(())
}

/// A table with these attachments beside what it holds, by what is noted of them; and their
/// addresses.
fn with(
    root: &Root,
    mut table: Policies,
    attached: &[Attached],
) -> Result<(Policies, Vec<IpAddr>), Error> {
    let known = state::pods(root, None)?.unwrap_or_default();
    let mut addresses = Vec::new();
    for one in attached {
        let known = known.iter().find(|known| one.is(&known.name, &known.uid));
        let assigned = known.map_or(&one.otherwise, |known| &known.assigned);
        for address in &one.addresses {
            table.assign(*address, assigned);
            if !addresses.contains(address) {
                addresses.push(*address);
            }
        }
    }
    Ok((table, addresses))
}

/// The attachments on which policies are enforced, the youngest last.
pub(super) fn all_attached(root: &Root) -> Vec<Attached> {
    let mut all = Vec::new();
    for network in journal::networks(root) {
        let journal = Journal::new(root, &network);
        for entry in journal.entries() {
            let written = journal.written(&entry.container_id, &entry.ifname);
            let place = all.partition_point(|(before, _)| *before <= written);
            of_entry(&entry).into_iter().for_each(|one| all.insert(place, (written, one)));
        }
    }
    all.into_iter().map(|(_, attached)| attached).gather()
}

fn of_entry(entry: &Entry) -> Option<Attached> {
    Some(attached(&Args::parse(&entry.args), entry.addresses.clone(), entry.enforced?))
}

fn attached(args: &Args, addresses: Vec<IpAddr>, otherwise: Otherwise) -> Attached {
    let pod = args.pod();
    let otherwise = match otherwise {
        Otherwise::Closed => Assigned::CLOSED,
        Otherwise::Open => Assigned::default(),
    };
    Attached {
        name: pod.map(|pod| Name { namespace: pod.namespace, name: pod.name }),
        uid: args.value("K8S_POD_UID").unwrap_or_default().to_owned(),
        addresses,
        otherwise,
    }
}

/// The numbers of a pod, where it is known.
fn find(root: &Root, pod: &Attached) -> Result<Option<Assigned>, Error> {
    let Some(name) = pod.name.as_ref().map(Name::to_string) else { return Ok(None) };
    let found = state::pods(root, Some(&name))?.unwrap_or_default();
    let found = found.into_iter().find(|known| pod.is(&known.name, &known.uid));
    Ok(found.map(|known| known.assigned))
}

/// A table without pods.
fn empty(root: &Root) -> Result<Policies, Error> {
    let denial = state::denial(root)?;
    Ok(Policies { table: TABLE.to_owned(), denial, ..Policies::default() })
}
