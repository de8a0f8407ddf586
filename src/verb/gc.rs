// SPDX-License-Identifier: Apache-2.0
//! GC: removes attachments that nobody has any more.
//!
//! Two callers. A runtime brings a list of what is valid, and everything else
//! of the network goes. An operator whose runtime never calls GC brings none,
//! and then only what is provably dead goes: attachments whose link is gone, for
//! a veth goes with either of its namespaces, and leases that no attachment has.
//! Nothing that has a link goes, and nothing by its age.

mod leases;

use std::{
    collections::HashSet,
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;

use super::{
    Call, allowed, file, ipam, kernel,
    liveness::{self, Liveness},
    pod_side, policy, tables,
};
use crate::{
    cni::{Args, Code, Command, Environment, Error, ValidAttachments},
    ipam::Lease,
    list::{Gather, PushAll},
    net::{
        Socket,
        link::{self, Link},
    },
    nft,
    pod::{
        Identity,
        identity::{group, is_marked, of_alias},
    },
    state::{Entry, Journal, Root, lock},
};

/// How long releasing one address may take.
const RELEASE_LIMIT: Duration = Duration::from_secs(60);

/// What a collection removed, or would remove.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Collected {
    /// Network name.
    pub network: String,
    /// `namespace/name` of the pod, where it is known.
    pub pod: Option<String>,
    /// Container id, or `?` where a long alias hides it.
    pub container_id: String,
    /// Interface name.
    pub ifname: String,
    /// The host link, where there still was one.
    pub host_link: Option<String>,
    /// Why it may go.
    pub reason: &'static str,
}

/// The verb; returns what to log.
///
/// # Errors
/// All that failed, in one.
pub(super) fn gc(call: &Call) -> Result<String, Error> {
    let ValidAttachments::Only(valid) = call.document.valid_attachments()? else {
        log::debug!("GC without a list of valid attachments: nothing done");
        return Ok(String::new());
    };
    let ipam = Some(call.document.ipam()).filter(|_| !call.config.ipam_type.is_empty());
    let collector = Collector {
        root: &call.root,
        network: &call.config.name,
        path: &call.environment.path,
        ipam: ipam.map(|ipam| (ipam.clone(), call.config.version.to_string())),
    };
    let keep = |identity: &Identity| {
        let key = (identity.container_id.clone(), identity.ifname.clone());
        if valid.contains(&key) { None } else { Some("not in the runtime's list") }
    };
    let valid_aliases: HashSet<String> = valid
        .iter()
        .map(|(container_id, ifname)| collector.identity(container_id, ifname).alias())
        .collect();
    let files = files_of(&call.journal(), &valid);
    let (collected, mut errors) = collector.collect(false, &|candidate| match candidate {
        Candidate::Unreadable(path) => {
            (!files.contains(*path)).then_some("not in the runtime's list")
        }
        Candidate::Noted(entry, _) => keep(&collector.identity(&entry.container_id, &entry.ifname)),
        Candidate::Marked(link) => {
            let kept = link.alias.as_ref().is_some_and(|alias| valid_aliases.contains(alias));
            (!kept).then_some("not in the runtime's list")
        }
        Candidate::Leased(lease, _) => {
            let same = |(id, name): &(String, String)| lease.owner.is(id, name);
            (!valid.iter().any(same)).then_some("not in the runtime's list")
        }
    })?;
    if call.config.ipam_type.is_empty() {
        log::warn!("no ipam.type: no addresses collected");
    } else if errors.is_empty() || !policy::may_hold(&call.root, None) {
        // Else it might give away what policies still know.
        errors.push_all(ipam::gc(call).err());
    }
    Error::join(errors).map_or_else(|| Ok(format!("removed={}", collected.len())), Err)
}

/// Collects in one network: by the runtime's list if there is one, else what is
/// provably dead. The IPAM section of a configuration, with its version, tells where
/// leases are that no attachment is noted for. Returns what went and what failed.
///
/// # Errors
/// If the network's state or the kernel's list of links cannot be read.
pub fn collect_dead(
    root: &Root,
    network: &str,
    path: &[PathBuf],
    ipam: Option<(Value, String)>,
    valid: Option<&HashSet<(String, String)>>,
    dry_run: bool,
) -> Result<(Vec<Collected>, Vec<Error>), Error> {
    let collector = Collector { root, network, path, ipam };
    let files = valid.map(|valid| files_of(&Journal::new(root, network), valid));
    collector.collect(dry_run, &|candidate| match (candidate, valid) {
        (Candidate::Unreadable(path), _) => {
            let kept = files.as_ref().is_none_or(|files| files.contains(*path));
            (!kept).then_some("not in the list")
        }
        (Candidate::Noted(entry, _), Some(valid)) => {
            let key = (entry.container_id.clone(), entry.ifname.clone());
            (!valid.contains(&key)).then_some("not in the list")
        }
        (Candidate::Marked(link), Some(valid)) => {
            let owner = link.alias.as_deref().and_then(of_alias)?;
            let key = (owner.container_id, owner.ifname);
            (!valid.contains(&key)).then_some("not in the list")
        }
        (Candidate::Leased(lease, _), Some(valid)) => {
            let same = |(id, name): &(String, String)| lease.owner.is(id, name);
            (!valid.iter().any(same)).then_some("not in the list")
        }
        (Candidate::Noted(_, Liveness::Gone), None) => Some("its link is gone"),
        (Candidate::Leased(_, false), None) => Some("its lease has no link"),
        // A veth goes with either of its namespaces: one that is there is alive.
        (Candidate::Noted(..) | Candidate::Marked(_) | Candidate::Leased(_, true), None) => None,
    })
}

/// The files in which attachments are noted, whatever those hold.
fn files_of<'a>(
    journal: &Journal,
    valid: impl IntoIterator<Item = &'a (String, String)>,
) -> HashSet<PathBuf> {
    valid.into_iter().map(|(container_id, ifname)| journal.path(container_id, ifname)).collect()
}

fn locking(journal: &Journal, error: &io::Error) -> Error {
    file("lock the network", journal.directory(), error)
}

/// What may have to go.
enum Candidate<'a> {
    /// An attachment of the journal, and what is left of it.
    Noted(&'a Entry, &'a Liveness),
    /// A file of the journal that cannot be read.
    Unreadable(&'a Path),
    /// A link that bears our mark and is in no journal.
    Marked(&'a Link),
    /// A lease of host-local that no journal entry and no marked link goes with,
    /// and whether it may be in use all the same.
    Leased(&'a Lease, bool),
}

/// An attachment of the journal, its link, and why it goes; at least one of the
/// first two is there.
type Doomed<'a> = (Option<&'a Entry>, Option<Link>, &'static str);

fn name_of_link<'a>((entry, link, _): &'a Doomed<'_>) -> Option<&'a str> {
    let noted = || entry.map(|entry| entry.host_link.as_str());
    link.as_ref().map(|link| link.name.as_str()).or_else(noted)
}

/// One network on this node.
struct Collector<'a> {
    root: &'a Root,
    network: &'a str,
    path: &'a [PathBuf],
    /// The present IPAM section and its version, where there is a configuration.
    ipam: Option<(Value, String)>,
}

impl Collector<'_> {
    /// Removes each candidate for which `verdict` has a reason.
    fn collect(
        &self,
        dry_run: bool,
        verdict: &dyn Fn(&Candidate<'_>) -> Option<&'static str>,
    ) -> Result<(Vec<Collected>, Vec<Error>), Error> {
        let journal = Journal::new(self.root, self.network);
        let lock = match lock::exclusive(journal.directory()) {
            // A network of such a name has no directory, and no attachments.
            Err(error) if error.kind() == ErrorKind::InvalidFilename => {
                return Ok((Vec::new(), Vec::new()));
            }
            lock => lock.map_err(|error| locking(&journal, &error))?,
        };
        let mut host = Socket::open().map_err(kernel)?;
        let (entries, unreadable) = journal.all();
        let mut links = link::all(&mut host).map_err(kernel)?;
        let mut doomed = self.doomed(&mut host, &entries, &links, verdict)?;
        if !dry_run {
            // A DEL is at it, and may be in the middle.
            doomed.retain(|(entry, link, reason)| {
                let gone = self.describe(*entry, link.as_ref(), reason);
                lock.attachment(&gone.container_id, &gone.ifname, Duration::ZERO).is_ok()
            });
        }
        let describe = |doomed: &Doomed<'_>| self.describe(doomed.0, doomed.1.as_ref(), doomed.2);
        let mut collected: Vec<Collected> = doomed.iter().map(describe).gather();
        let (mut errors, mut is_released) = (Vec::new(), true);
        if !dry_run {
            let (delegated, failed);
            (delegated, failed, is_released) = self.remove(&mut host, &journal, &doomed);
            let names: Vec<&str> = doomed.iter().filter_map(name_of_link).gather();
            allowed::forget(&mut host, &journal, self.network, &names);
            errors.push_all(failed);
            if !delegated.is_empty() {
                let failed = lock.yielded(|| self.forget_all(&journal, &delegated));
                errors.push_all(failed.map_err(|error| locking(&journal, &error))?);
                links = link::all(&mut host).map_err(kernel)?;
            }
        }
        let removed: HashSet<u32> =
            doomed.iter().filter_map(|(_, link, _)| Some(link.as_ref()?.index)).collect();
        links.retain(|link| self.owns(link) && !removed.contains(&link.index));
        // What an attachment that went held in host-local's older format is still
        // there. In a dry run it would be told twice.
        let mut pools = self.pools(&entries);
        if !dry_run {
            let swept = match is_released {
                true => policy::sweep(self.root, &mut host),
                false => Ok(Vec::new()),
            };
            match swept {
                Ok(swept) if swept.is_empty() => {}
                Ok(swept) => {
                    log::info!("{} addresses taken out of the table of policies", swept.len())
                }
                Err(error) => {
                    errors.push(error.into());
                    is_released = false;
                }
            }
            // Nobody else gets what the table may hold.
            pools.retain(|_| is_released);
        }
        let entries = if dry_run { entries } else { journal.entries() };
        for pool in &pools {
            let (leases, failed) =
                self.collect_leases(&mut host, pool, (&entries, &links), dry_run, verdict)?;
            collected.push_all(leases);
            errors.push_all(failed);
        }
        for (path, problem) in unreadable {
            let Some(reason) = verdict(&Candidate::Unreadable(&path)) else { continue };
            log::warn!("{}: {problem}; its attachment is {reason}: removed", path.display());
            match if dry_run { Ok(()) } else { fs::remove_file(&path) } {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    errors.push(file("remove the entry", &path, &error));
                }
                _ => {}
            }
        }
        if dry_run {
            lock.retire_if_made();
        } else {
            journal.sweep();
            ipam::sweep(self.root);
            if entries.is_empty() && links.is_empty() {
                let table = tables::table(self.network);
                errors.push_all(
                    nft::remove(&table).map_err(crate::node::refused).err().map(Error::from),
                );
                if errors.is_empty() {
                    lock.retire();
                }
            }
        }
        Ok((collected, errors))
    }

    /// Removes links, and what their addresses are noted by where we can write that
    /// ourselves. Returns the attachments whose IPAM plugin has to be asked, what failed,
    /// and whether policies know nothing of them any more.
    fn remove(
        &self,
        host: &mut Socket,
        journal: &Journal,
        doomed: &[Doomed<'_>],
    ) -> (Vec<Entry>, Vec<Error>, bool) {
        let (mut gone, mut delegated, mut errors) = (Vec::new(), Vec::new(), Vec::new());
        let mut unnoted = Entry::default();
        for (entry, link, _) in doomed {
            if let Some(link) = link {
                let behind = match entry {
                    Some(_) => Ok(Vec::new()),
                    None => policy::behind(self.root, host, link).map_err(Error::from),
                };
                let removed = behind.and_then(|behind| {
                    let delete = link::delete(link.index, &link.name);
                    host.apply(&[delete]).map(|()| behind).map_err(kernel)
                });
                match removed {
                    Ok(behind) => unnoted.addresses.push_all(behind),
                    // Its address is not given away while it answers to it.
                    Err(error) => {
                        errors.push(error);
                        continue;
                    }
                }
            }
            let recalled = link.as_ref().filter(|_| entry.is_none());
            gone.push_all(entry.cloned().or(recalled.and_then(|link| self.recall(link))));
        }
        // Before anybody else can have their addresses.
        let all: Vec<&Entry> = gone.iter().chain([&unnoted]).gather();
        let released = policy::release_noted(self.root, &all, false);
        let is_released = released.is_ok();
        if let Err(error) = released {
            gone.retain(|entry| !policy::may_hold(self.root, Some(entry)));
            errors.push(error.into());
        }
        for entry in gone {
            if ipam::stored(&entry) {
                errors.push_all(self.forget(journal, &entry).err());
            } else {
                delegated.push(entry);
            }
        }
        (delegated, errors, is_released)
    }

    /// What has to go: attachments of the journal, with their links, and links of
    /// this network that are none of theirs. A link of one that stays stays.
    fn doomed<'a>(
        &self,
        host: &mut Socket,
        entries: &'a [Entry],
        links: &[Link],
        verdict: &dyn Fn(&Candidate<'_>) -> Option<&'static str>,
    ) -> Result<Vec<Doomed<'a>>, Error> {
        let (mut doomed, mut kept, mut paired) = (Vec::new(), HashSet::new(), HashSet::new());
        for entry in entries {
            let liveness = liveness::of(host, entry, links)?;
            let reason = verdict(&Candidate::Noted(entry, &liveness));
            let link = liveness.link();
            paired.extend(link.as_ref().map(|link| link.index));
            match reason {
                Some(reason) => doomed.push((Some(entry), link, reason)),
                None => kept.extend(link.map(|link| link.index)),
            }
        }
        for (_, link, _) in &mut doomed {
            *link = link.take().filter(|link| !kept.contains(&link.index));
        }
        for link in links.iter().filter(|link| self.owns(link) && !paired.contains(&link.index)) {
            let reason = verdict(&Candidate::Marked(link));
            doomed.push_all(reason.map(|reason| (None, Some(link.clone()), reason)));
        }
        Ok(doomed)
    }

    /// Whether a link is of this network: the alias names it unless it was too
    /// long, and then the group stands for it. A link of the group without any
    /// alias is an ADD that was killed: none is in flight while we hold the lock.
    fn owns(&self, link: &Link) -> bool {
        let alias = link.alias.as_deref();
        let named = |alias| of_alias(alias).is_none_or(|owner| owner.network == self.network);
        link.group == group(self.network)
            && alias.is_none_or(|alias| is_marked(Some(alias)) && named(alias))
    }

    /// What the journal would have of a link's owner, where it has been lost: by
    /// the present IPAM section the address can be released all the same.
    fn recall(&self, link: &Link) -> Option<Entry> {
        let (ipam, cni_version) = self.ipam.clone()?;
        let owner = of_alias(link.alias.as_deref()?)?;
        Some(Entry {
            network: owner.network,
            container_id: owner.container_id,
            ifname: owner.ifname,
            ipam,
            cni_version,
            ..Entry::default()
        })
    }

    fn identity(&self, container_id: &str, ifname: &str) -> Identity {
        Identity {
            network: self.network.to_owned(),
            container_id: container_id.to_owned(),
            ifname: ifname.to_owned(),
            pod: None,
        }
    }

    fn describe(
        &self,
        entry: Option<&Entry>,
        link: Option<&Link>,
        reason: &'static str,
    ) -> Collected {
        let named = link.and_then(|link| of_alias(link.alias.as_deref()?));
        let container_id = entry.map(|entry| entry.container_id.clone());
        let ifname = entry.map(|entry| entry.ifname.clone());
        Collected {
            network: self.network.to_owned(),
            pod: entry.and_then(Entry::pod),
            container_id: container_id
                .or_else(|| named.as_ref().map(|named| named.container_id.clone()))
                .unwrap_or_else(|| "?".to_owned()),
            ifname: ifname
                .or_else(|| named.map(|named| named.ifname))
                .unwrap_or_else(|| "?".to_owned()),
            host_link: link.map(|link| link.name.clone()),
            reason,
        }
    }

    /// Asks the IPAM plugins; one that hung is not asked again.
    fn forget_all(&self, journal: &Journal, entries: &[Entry]) -> Vec<Error> {
        let (mut hung, mut errors) = (HashSet::new(), Vec::new());
        for entry in entries {
            let kind = entry.ipam.get("type").map(Value::to_string);
            if hung.contains(&kind) {
                continue;
            }
            if let Err(error) = self.forget(journal, entry) {
                hung.extend((error.code == Code::TRY_AGAIN).then_some(kind));
                errors.push(error);
            }
        }
        errors
    }

    /// Gives back the address, then forgets the attachment, unless another ADD has
    /// noted it anew.
    fn forget(&self, journal: &Journal, entry: &Entry) -> Result<(), Error> {
        pod_side::forget_noted(entry)?;
        self.release(entry)?;
        let noted = journal.read(&entry.container_id, &entry.ifname);
        if noted.is_some_and(|noted| noted != *entry) {
            return Ok(());
        }
        let failed = |error| file("remove the entry", journal.directory(), &error);
        journal.remove(&entry.container_id, &entry.ifname).map_err(failed)
    }

    /// Gives back the address of an attachment by the IPAM section of its ADD.
    fn release(&self, entry: &Entry) -> Result<(), Error> {
        if ipam::stored(entry) {
            return ipam::release_stored(self.root, entry);
        }
        let environment = Environment {
            command: Command::Del,
            container_id: entry.container_id.clone(),
            netns: String::new(),
            ifname: entry.ifname.clone(),
            path: self.path.to_vec(),
            args: Args::parse(&entry.args),
            netns_override: false,
        };
        ipam::release_entry(self.root, entry, &environment, RELEASE_LIMIT)
    }
}
