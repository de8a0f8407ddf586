// SPDX-License-Identifier: Apache-2.0
//! A pool beside what is alive: what `manx ipam` tells of it, and mends.

use std::{
    fmt,
    net::IpAddr,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use super::{Pool, builtin::range_sets, has_attachment, placeholder};
use crate::{
    cni::{Args, Code, Document, Error},
    conf::{Config, IpamKeys, PLUGIN_TYPES, has_placeholder, has_store},
    finding::{Finding, Severity},
    ipam::{Lease, Owner, Range, RangeSet, store},
    list::Gather,
    net::{
        Socket,
        link::{self, Link},
    },
    pod::identity::HostLinks,
    state::{Entry, Journal, Root, lock},
    verb::{file, kernel, liveness},
};

/// A network's pool as it was found.
#[derive(Debug)]
pub struct Audit {
    /// Network name.
    pub network: String,
    /// The directory of the leases.
    pub directory: PathBuf,
    /// Its ranges, in the order of the configuration.
    pub ranges: Vec<RangeUse>,
    /// What does not agree.
    pub mismatches: Vec<Mismatch>,
}

/// How much of a range is in use.
#[derive(Debug)]
pub struct RangeUse {
    /// The index of its set.
    pub set: usize,
    /// The range.
    pub range: Range,
    /// How many of its addresses are leased.
    pub used: usize,
    /// The lease that is longest there, and for how long.
    pub oldest: Option<(Lease, Duration)>,
    /// How many of the leases are nobody's, as far as can be told.
    pub leaked: usize,
}

impl RangeUse {
    /// How many addresses can be given out.
    pub fn free(&self) -> u128 {
        self.range.size().saturating_sub(u128::try_from(self.used).unwrap_or_default())
    }
}

/// Where leases and attachments do not agree.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mismatch {
    /// What does not.
    pub problem: Problem,
    /// The address.
    pub address: IpAddr,
    /// The attachment that has it, or had.
    pub owner: Owner,
    /// Whether it has been mended.
    pub mended: bool,
}

/// A kind of disagreement.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Problem {
    /// A lease without an attachment: no journal entry, no link, no route.
    Leaked,
    /// An attachment whose address nobody leased: it could be given away.
    Unleased,
    /// An attachment whose address is leased to another one.
    LeasedToAnother,
    /// A lease of an address in no range of the configuration.
    OutOfRange,
    /// A lease without an attachment of ours, where other plugins have addresses
    /// of the same store.
    Unknown,
}

impl Problem {
    /// The check that finds it, and how bad it is.
    fn check(self) -> (&'static str, Severity) {
        match self {
            Self::Leaked | Self::Unknown => ("lease-leaked", Severity::Warning),
            Self::Unleased | Self::LeasedToAnother => ("lease-missing", Severity::Error),
            Self::OutOfRange => ("lease-out-of-range", Severity::Warning),
        }
    }

    /// What to do about it.
    fn fix(self) -> &'static str {
        match self {
            Self::Leaked => "manx ipam check --fix releases it",
            Self::Unleased => "manx ipam check --fix leases it",
            Self::LeasedToAnother => "remove one of the two pods",
            Self::OutOfRange => "nothing, if the ranges were changed; it goes with its pod",
            Self::Unknown => "nothing, if its container is alive; else manx gc --valid FILE",
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Leaked => "leased, but no attachment has it",
            Self::Unleased => "in use, but not leased",
            Self::LeasedToAnother => "in use, but leased to another",
            Self::OutOfRange => "leased, but in no range",
            Self::Unknown => "leased to nobody of ours; a plugin that delegates may have it",
        })
    }
}

/// The checks that are made of a pool.
pub const CHECKS: [&str; 3] = ["lease-leaked", "lease-missing", "lease-out-of-range"];

impl Mismatch {
    /// As it is told. What has been mended is worth knowing.
    pub fn finding(&self) -> Finding {
        let Self { problem, address, owner, mended } = self;
        let (id, severity) = problem.check();
        let interface = owner.ifname.as_deref().map(|name| format!(" {name}")).unwrap_or_default();
        let evidence = format!("{problem} ({}{interface})", owner.container_id);
        let (severity, evidence, fix) = match mended {
            true => (Severity::Info, format!("{evidence}: mended"), ""),
            false => (severity, evidence, problem.fix()),
        };
        let object = format!("address {address}");
        Finding { fix: fix.to_owned(), ..Finding::new(id, severity, object, evidence) }
    }
}

/// What a network gives out, and what of it is leased.
#[derive(Clone, Debug)]
pub struct Stock {
    /// The directory of the leases.
    pub directory: PathBuf,
    /// The sets of ranges.
    pub sets: Vec<RangeSet>,
    /// All leases.
    pub leases: Vec<Lease>,
    /// Whether other plugins have addresses of the same store: of their links nothing
    /// tells whether they are alive.
    pub shared: bool,
}

/// Reads the pool of a configuration as it is now, without a lock: an ADD may be
/// between its lease and its link. Puts this node's own pod CIDRs where the
/// configuration asks for them.
///
/// # Errors
/// Code 7 for a configuration without a pool of ours or host-local's, code 50 without
/// a peers file that tells the pod CIDRs.
pub fn stock(root: &Root, document: &mut Document, config: &Config) -> Result<Stock, Error> {
    if !has_store(&config.ipam_type) {
        let msg = format!("network {} has its addresses from {:?}", config.name, config.ipam_type);
        return Err(Error::new(Code::INVALID_CONFIG, msg)
            .details("only manx-ipam and host-local keep leases that can be read"));
    }
    if has_placeholder(document.ipam()) {
        placeholder::fill_as_listed(document, config, root)?;
    }
    let (keys, complaints) = IpamKeys::read(document, &Args::default(), config.version);
    let complaint = complaints.into_iter().next();
    let sets = complaint.map_or_else(|| range_sets(&keys), |complaint| Err(complaint.error))?;
    let pool = Pool::of(root, &config.name, document.ipam());
    Ok(Stock {
        sets,
        leases: store::leases(pool.directory()),
        shared: pool.is_shared() || !PLUGIN_TYPES.contains(&config.plugin_type.as_str()),
        directory: pool.directory().to_owned(),
    })
}

/// Looks at the pool of a configuration, while no attachment is being made. With
/// `fix` releases what leaked and leases what is in use.
///
/// # Errors
/// Code 7 for a configuration without a pool of ours or host-local's; what the
/// kernel and the file system refuse.
pub fn audit(
    root: &Root,
    document: &mut Document,
    config: &Config,
    fix: bool,
) -> Result<Audit, Error> {
    let Stock { sets, shared, .. } = stock(root, document, config)?;
    let pool = Pool::of(root, &config.name, document.ipam());
    let journal = Journal::new(root, &config.name);
    let _lock = lock::exclusive(journal.directory())
        .map_err(|error| file("lock the network", journal.directory(), &error))?;
    let leases = store::leases(pool.directory());
    let mut attachments = Attachments::read(&config.name, &journal)?;
    attachments.beside = pool.attachments_beside();
    let in_range = |address| sets.iter().any(|set| set.range_of(address).is_some());
    let mut mismatches = attachments.compare(&leases, shared, in_range)?;
    if fix && !mismatches.is_empty() {
        mend(&pool, &mut mismatches)?;
    }
    let leases = store::leases(pool.directory());
    let ranges = sets
        .iter()
        .enumerate()
        .flat_map(|(index, set)| set.ranges().iter().map(move |range| (index, range.clone())));
    let ranges = ranges.map(|(set, range)| describe(&pool, set, range, &leases, &mismatches));
    Ok(Audit {
        network: config.name.clone(),
        directory: pool.directory().to_owned(),
        ranges: ranges.gather(),
        mismatches,
    })
}

/// The attachments of a network: by the journal, and by the marks of links that
/// no journal knows.
struct Attachments<'a> {
    network: &'a str,
    entries: Vec<Entry>,
    /// Those of other networks that have the same store.
    beside: Vec<Entry>,
    links: Vec<Link>,
    host: Socket,
}

impl<'a> Attachments<'a> {
    fn read(network: &'a str, journal: &Journal) -> Result<Self, Error> {
        let mut host = Socket::open().map_err(kernel)?;
        let links = link::all(&mut host).map_err(kernel)?;
        Ok(Self { network, entries: journal.entries(), beside: Vec::new(), links, host })
    }

    fn compare(
        mut self,
        leases: &[Lease],
        shared: bool,
        in_range: impl Fn(IpAddr) -> bool,
    ) -> Result<Vec<Mismatch>, Error> {
        let mut found = Vec::new();
        let mut find = |problem, address, owner: &Owner| {
            found.push(Mismatch { problem, address, owner: owner.clone(), mended: false });
        };
        for lease in leases {
            if !self.has(&lease.owner) && !liveness::is_routed(&mut self.host, lease.address)? {
                let problem = if shared { Problem::Unknown } else { Problem::Leaked };
                find(problem, lease.address, &lease.owner);
            } else if !in_range(lease.address) {
                find(Problem::OutOfRange, lease.address, &lease.owner);
            }
        }
        let known = HostLinks::new(&self.links);
        // Without its link it waits for its DEL, or for a collection.
        for entry in self.entries.iter().filter(|entry| known.of(entry).is_some()) {
            let owner = Owner::new(&entry.container_id, &entry.ifname);
            for address in entry.addresses.iter().filter(|address| in_range(**address)) {
                match leases.iter().find(|lease| lease.address == *address) {
                    None => find(Problem::Unleased, *address, &owner),
                    Some(lease) if !lease.owner.is(&entry.container_id, &entry.ifname) => {
                        find(Problem::LeasedToAnother, *address, &owner);
                    }
                    Some(_) => {}
                }
            }
        }
        Ok(found)
    }

    fn has(&self, owner: &Owner) -> bool {
        let aliases = self.links.iter().filter_map(|link| link.alias.as_deref());
        let beside = |entry: &Entry| owner.is(&entry.container_id, &entry.ifname);
        has_attachment(self.network, owner, &self.entries, aliases)
            || self.beside.iter().any(beside)
    }
}

fn mend(pool: &Pool<'_>, mismatches: &mut [Mismatch]) -> Result<(), Error> {
    let store = pool.open()?;
    let failed = |error| file("mend the leases", pool.directory(), &error);
    for mismatch in mismatches {
        let Mismatch { problem, address, owner, mended } = mismatch;
        match problem {
            Problem::Leaked => {
                let lease = Lease { address: *address, owner: owner.clone() };
                store.release_lease(&lease).map_err(failed)?;
                *mended = true;
            }
            Problem::Unleased => {
                store.restore(owner, *address).map_err(failed)?;
                *mended = true;
            }
            Problem::LeasedToAnother | Problem::OutOfRange | Problem::Unknown => {}
        }
    }
    Ok(())
}

fn describe(
    pool: &Pool<'_>,
    set: usize,
    range: Range,
    leases: &[Lease],
    mismatches: &[Mismatch],
) -> RangeUse {
    let leases: Vec<&Lease> = leases.iter().filter(|lease| range.contains(lease.address)).gather();
    let leaked = mismatches
        .iter()
        .filter(|one| one.problem == Problem::Leaked && !one.mended)
        .filter(|one| range.contains(one.address))
        .count();
    let now = SystemTime::now();
    let age = |lease: &Lease| {
        let path = pool.directory().join(lease.address.to_string());
        let written = std::fs::metadata(path).and_then(|data| data.modified()).ok()?;
        Some((lease.clone(), now.duration_since(written).unwrap_or_default()))
    };
    let oldest = leases.iter().filter_map(|lease| age(lease)).max_by_key(|(_, age)| *age);
    RangeUse { set, used: leases.len(), oldest, leaked, range }
}
