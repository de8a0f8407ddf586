//! GC: removes attachments that nobody has any more.
//!
//! Two callers. A runtime brings a list of what is valid, and everything else
//! of the network goes. An operator whose runtime never calls GC brings none,
//! and then only what is provably dead goes: attachments whose link is gone, for
//! a veth goes with either of its namespaces, and leases that no attachment has.
//! Nothing that has a link goes, and nothing by its age.

use std::{collections::HashSet, io::ErrorKind, path::PathBuf, time::Duration};

use serde_json::Value;

use super::{
    Call, facts, file,
    ipam::{self, Pool, has_store},
    kernel, masquerade, pod_side,
};
use crate::{
    cni::{Args, Command, Environment, Error, ValidAttachments},
    ipam::Lease,
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
    let ground = Ground {
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
        .map(|(container_id, ifname)| ground.identity(container_id, ifname).alias())
        .collect();
    let (collected, mut errors) = ground.collect(false, &|candidate| match candidate {
        Candidate::Noted(entry, _) => keep(&ground.identity(&entry.container_id, &entry.ifname)),
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
    } else {
        errors.extend(ipam::gc(call).err());
    }
    Error::join(errors).map_or_else(|| Ok(format!("removed={}", collected.len())), Err)
}

/// Collects in one network: by the runtime's list if there is one, else what is
/// provably dead. Returns what went and what failed.
///
/// # Errors
/// If the network's state or the kernel's list of links cannot be read.
pub fn collect_dead(
    root: &Root,
    network: &str,
    path: &[PathBuf],
    valid: Option<&HashSet<(String, String)>>,
    dry_run: bool,
) -> Result<(Vec<Collected>, Vec<Error>), Error> {
    let ground = Ground { root, network, path, ipam: None };
    ground.collect(dry_run, &|candidate| match (candidate, valid) {
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
        (Candidate::Noted(_, None), None) => Some("its link is gone"),
        (Candidate::Leased(_, false), None) => Some("its lease has no link"),
        // A veth goes with either of its namespaces: one that is there is alive.
        (
            Candidate::Noted(_, Some(_)) | Candidate::Marked(_) | Candidate::Leased(_, true),
            None,
        ) => None,
    })
}

/// What may have to go.
enum Candidate<'a> {
    /// An attachment of the journal, with its link if that exists.
    Noted(&'a Entry, Option<&'a Link>),
    /// A link that bears our mark and is in no journal.
    Marked(&'a Link),
    /// A lease of host-local that no journal entry and no marked link goes with,
    /// and whether it may be in use all the same.
    Leased(&'a Lease, bool),
}

/// One network on this node.
struct Ground<'a> {
    root: &'a Root,
    network: &'a str,
    path: &'a [PathBuf],
    /// The present IPAM section and its version, where there is a configuration.
    ipam: Option<(Value, String)>,
}

impl Ground<'_> {
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
            lock => lock.map_err(|error| file("lock the network", journal.directory(), &error))?,
        };
        let mut host = Socket::open().map_err(kernel)?;
        let entries = journal.entries();
        let mut links = link::all(&mut host).map_err(kernel)?;
        links.retain(|link| self.owns(link));
        let (mut collected, mut errors) = (Vec::new(), Vec::new());
        let (mut left, mut removed_links) = (0, HashSet::new());
        for (entry, link) in pair(self, &entries, &links) {
            let candidate = match (entry, link) {
                (Some(entry), link) => Candidate::Noted(entry, link),
                (None, Some(link)) => Candidate::Marked(link),
                (None, None) => continue,
            };
            let Some(reason) = verdict(&candidate) else {
                left += 1;
                continue;
            };
            let removed = self.describe(entry, link, reason);
            // A DEL is at it, and may be in the middle.
            let (id, ifname) = (&removed.container_id, &removed.ifname);
            if !dry_run && lock.attachment(id, ifname, Duration::ZERO).is_err() {
                left += 1;
                continue;
            }
            if !dry_run {
                let recalled = link.filter(|_| entry.is_none()).and_then(|link| self.recall(link));
                errors.extend(self.remove(&mut host, &journal, entry.or(recalled.as_ref()), link));
                removed_links.extend(link.map(|link| link.index));
            }
            collected.push(removed);
        }
        // What an attachment that went held in host-local's older format is still
        // there. In a dry run it would be told twice.
        let pool = self.pool(&entries);
        let entries = if dry_run { entries } else { journal.entries() };
        links.retain(|link| !removed_links.contains(&link.index));
        let (leases, failed) =
            self.collect_leases(&mut host, pool.as_ref(), (&entries, &links), dry_run, verdict)?;
        collected.extend(leases);
        errors.extend(failed);
        if !dry_run {
            journal.sweep();
        }
        if left == 0 && !dry_run {
            let table = masquerade::table(self.network);
            errors.extend(nft::remove(&table).map_err(masquerade::refused).err());
        }
        if !dry_run {
            ipam::sweep(self.root);
        }
        if left == 0 && !dry_run && errors.is_empty() {
            lock.retire();
        }
        Ok((collected, errors))
    }

    /// Leases without an attachment: an ADD that was killed before it noted its
    /// address, or attachments from before the last boot. Only host-local's store
    /// can be read; other plugins collect their own.
    fn collect_leases(
        &self,
        host: &mut Socket,
        pool: Option<&Pool<'_>>,
        (entries, links): (&[Entry], &[Link]),
        dry_run: bool,
        verdict: &dyn Fn(&Candidate<'_>) -> Option<&'static str>,
    ) -> Result<(Vec<Collected>, Vec<Error>), Error> {
        let (mut collected, mut errors) = (Vec::new(), Vec::new());
        let Some(pool) = pool else { return Ok((collected, errors)) };
        let store = pool.open()?;
        let failed = |what: &str, error| file(what, pool.directory(), &error);
        let shared = pool.is_shared();
        for lease in store.leases() {
            if self.attached(&lease, entries, links) {
                continue;
            }
            // Whose links we do not know may be alive without a route.
            let held = shared || facts::is_routed(host, lease.address)?;
            let Some(reason) = verdict(&Candidate::Leased(&lease, held)) else { continue };
            if !dry_run {
                let released = store.release_lease(&lease);
                errors.extend(released.map_err(|error| failed("release a lease", error)).err());
            }
            collected.push(Collected {
                network: self.network.to_owned(),
                pod: None,
                container_id: lease.owner.container_id,
                ifname: lease.owner.ifname.unwrap_or_else(|| "?".to_owned()),
                host_link: None,
                reason,
            });
        }
        Ok((collected, errors))
    }

    /// The store of this network, by the present configuration or by that of any
    /// ADD; where neither says, the usual one if it exists.
    fn pool(&self, entries: &[Entry]) -> Option<Pool<'_>> {
        let present = self.ipam.as_ref().map(|(ipam, _)| ipam);
        let section = present.or_else(|| entries.iter().map(|entry| &entry.ipam).next());
        let kind = section.and_then(|ipam| ipam.get("type")).and_then(Value::as_str);
        if kind.is_some_and(|kind| !has_store(kind)) {
            return None;
        }
        let pool = Pool::of(self.root, self.network, section.unwrap_or(&Value::Null));
        pool.directory().is_dir().then_some(pool)
    }

    /// Whether a lease goes with an attachment that is looked at anyway.
    fn attached(&self, lease: &Lease, entries: &[Entry], links: &[Link]) -> bool {
        let aliases = links.iter().filter_map(|link| link.alias.as_deref());
        ipam::has_attachment(self.network, &lease.owner, entries, aliases)
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

    /// Link, then address, then journal, as DEL does.
    fn remove(
        &self,
        host: &mut Socket,
        journal: &Journal,
        entry: Option<&Entry>,
        link: Option<&Link>,
    ) -> Vec<Error> {
        let mut errors = Vec::new();
        if let Some(link) = link {
            errors
                .extend(host.apply(&[link::delete(link.index, &link.name)]).map_err(kernel).err());
        }
        let Some(entry) = entry else { return errors };
        errors.extend(pod_side::forget_noted(entry).err());
        errors.extend(self.release(entry).err());
        if errors.is_empty() {
            let forgotten = journal.remove(&entry.container_id, &entry.ifname);
            let failed = |error| file("remove the entry", journal.directory(), &error);
            errors.extend(forgotten.map_err(failed).err());
        }
        errors
    }

    /// Gives back the address of an attachment by the IPAM section of its ADD.
    fn release(&self, entry: &Entry) -> Result<(), Error> {
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

/// Puts the entries beside their links, then the links that no entry has.
fn pair<'a>(
    ground: &Ground<'_>,
    entries: &'a [Entry],
    links: &'a [Link],
) -> Vec<(Option<&'a Entry>, Option<&'a Link>)> {
    let mut used = HashSet::new();
    let mut pairs = Vec::new();
    for entry in entries {
        let alias = ground.identity(&entry.container_id, &entry.ifname).alias();
        let link = links.iter().find(|link| match &link.alias {
            Some(found) => *found == alias,
            None => link.name == entry.host_link,
        });
        used.extend(link.map(|link| link.index));
        pairs.push((Some(entry), link));
    }
    let rest = links.iter().filter(|link| !used.contains(&link.index));
    pairs.extend(rest.map(|link| (None, Some(link))));
    pairs
}
