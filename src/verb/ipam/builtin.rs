//! `manx-ipam`: addresses out of host-local's store, without a second process.
//! The same functions serve the plugin itself and whoever delegates to the
//! binary under that name.

use std::{
    collections::HashSet,
    fs,
    io::ErrorKind,
    net::IpAddr,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use serde_json::Value;

use super::{BUILT_IN, all_hints, data_dir, has_attachment};
use crate::{
    cni::{AddResult, Code, Dns, Error, Ip, ValidAttachments, conf::IpamKeys, json::member},
    ipam::{
        Lease, Owner, Range, RangeSet, Store,
        store::{self, LOCK, Pick, TakeError},
    },
    net::{Socket, link},
    state::{
        Journal, Root,
        file::{TEXT_BYTES_MAX, guarded_directory},
        lock, read_text, readable_directory,
    },
    verb::{Call, facts, file, kernel},
};

/// How long to wait for the store's lock. It is held for about a millisecond by
/// us, for some hundred by a host-local with tens of thousands of leases.
const LOCK_LIMIT: Duration = Duration::from_secs(10);

/// Where the addresses of a network are.
pub(in crate::verb) struct Pool<'a> {
    root: &'a Root,
    network: &'a str,
    directory: PathBuf,
    /// Whether we give its addresses, rather than host-local.
    own: bool,
}

impl<'a> Pool<'a> {
    /// The pool of a network by its IPAM section.
    pub(in crate::verb) fn of(root: &'a Root, network: &'a str, ipam: &Value) -> Self {
        let own = member(ipam, "type").and_then(Value::as_str) == Some(BUILT_IN);
        Self { root, network, directory: data_dir(root, ipam).join(network), own }
    }

    /// The store's directory.
    pub(in crate::verb) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Opens the store for this process alone, making it if need be.
    ///
    /// # Errors
    /// Code 11 naming the holder if the lock is not to be had in time, code 5
    /// for what the file system refuses.
    pub(in crate::verb) fn open(&self) -> Result<Store, Error> {
        let failed = |error| file("open the store of leases", &self.directory, &error);
        let data = match guarded_directory(&self.directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                readable_directory(&self.directory).map_err(failed)?;
                // Another one of that name may have been removed.
                super::sweep(self.root);
                guarded_directory(&self.directory)
            }
            outcome => outcome,
        };
        let data = data.map_err(failed)?;
        let lock = lock::foreign(&self.directory.join(LOCK), LOCK_LIMIT)
            .map_err(|error| file("lock the store of leases", &self.directory, &error))?;
        let hints = self.hints_of(&data);
        Store::open(&self.directory, hints.as_deref(), lock, SystemTime::now()).map_err(failed)
    }

    fn hints(&self) -> Option<PathBuf> {
        self.hints_of(&fs::metadata(&self.directory).ok()?)
    }

    /// By what the directory is, not by what it is called: a symbolic link or a
    /// bind mount is another name of the same store.
    fn hints_of(&self, data: &fs::Metadata) -> Option<PathBuf> {
        self.own.then(|| all_hints(self.root).join(store::hints_name(data)))
    }

    /// Whether addresses were given to plugins whose links we do not know.
    pub(in crate::verb) fn is_shared(&self) -> bool {
        self.hints().is_some_and(|hints| store::is_shared(&hints))
    }

    /// The leases from before the boot whose attachments are no more, of the
    /// addresses that `concerns`: no container outlives a boot, and no link has
    /// the address.
    ///
    /// # Errors
    /// Of the store and of the kernel's answers.
    fn forgotten(
        &self,
        store: &Store,
        concerns: &dyn Fn(IpAddr) -> bool,
    ) -> Result<Vec<Lease>, Error> {
        let mut old = store.past();
        old.retain(|lease| concerns(lease.address));
        if old.is_empty() {
            return Ok(old);
        }
        let mut host = Socket::open().map_err(kernel)?;
        let links = link::all(&mut host).map_err(kernel)?;
        let aliases: Vec<String> = links.into_iter().filter_map(|link| link.alias).collect();
        let entries = Journal::new(self.root, self.network).entries();
        let mut problem = None;
        old.retain(|lease| {
            let routed = facts::is_routed(&mut host, lease.address).unwrap_or_else(|error| {
                problem = Some(error);
                true
            });
            let aliases = aliases.iter().map(String::as_str);
            !routed && !has_attachment(self.network, &lease.owner, &entries, aliases)
        });
        problem.map_or(Ok(old), Err)
    }
}

/// Whose link gets the addresses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::verb) enum Giving {
    /// One that we make and know.
    ToOurs,
    /// A link of the plugin that delegates.
    Away,
}

/// What is asked for.
struct Request {
    keys: IpamKeys,
    sets: Vec<RangeSet>,
}

impl Request {
    /// # Errors
    /// Code 7 with the first thing that makes no sense.
    fn read(call: &Call) -> Result<Self, Error> {
        let arguments = &call.environment.args;
        let (keys, complaints) = IpamKeys::read(&call.document, arguments, call.config.version);
        let sets = range_sets(&keys);
        match complaints.into_iter().next() {
            Some(complaint) => Err(complaint),
            None => Ok(Self { keys, sets: sets? }),
        }
    }
}

/// The sets of a section.
///
/// # Errors
/// Code 7 with the first range or set that makes no sense.
pub fn range_sets(keys: &IpamKeys) -> Result<Vec<RangeSet>, Error> {
    let invalid =
        |msg: String, details: &str| Err(Error::new(Code::INVALID_CONFIG, msg).details(details));
    let mut sets: Vec<RangeSet> = Vec::new();
    for set in &keys.sets {
        let at = set.first().map_or("ipam.ranges", |range| range.path.as_str());
        let mut ranges = Vec::new();
        for keys in set {
            match Range::new(keys.subnet, keys.first, keys.last, keys.gateway) {
                Ok(range) => ranges.push(range),
                Err(flaw) => {
                    let msg = format!("configuration key {}.{}: ", keys.path, flaw.key);
                    return invalid(msg + &flaw.reason, "correct the range");
                }
            }
        }
        match RangeSet::new(ranges) {
            Ok(set) => sets.push(set),
            Err(reason) => return invalid(format!("{at}: {reason}"), "correct the set of ranges"),
        }
    }
    if sets.is_empty() {
        return invalid("ipam has no ranges".to_owned(), "give ranges, or a subnet");
    }
    for (index, one) in sets.iter().enumerate() {
        if let Some(other) = sets.iter().skip(index + 1).find(|other| one.overlaps(other)) {
            let msg = format!("ipam has {one} and {other}, with addresses in common");
            return invalid(msg, "make the two sets disjoint, or drop one");
        }
    }
    Ok(sets)
}

/// Allocates an address out of each set, none of those in `never`.
///
/// # Errors
/// Code 7 for a configuration or a request that makes no sense, code 101 if the
/// attachment has addresses, code 11 if there is none left. Nothing stays
/// allocated.
pub(in crate::verb) fn add(
    call: &Call,
    never: &[IpAddr],
    giving: Giving,
) -> Result<AddResult, Error> {
    let Request { keys, sets } = Request::read(call)?;
    let dns = resolver(&keys)?;
    let pool = Pool::of(&call.root, &call.config.name, call.document.ipam());
    let owner = Owner::new(&call.environment.container_id, &call.environment.ifname);
    let store = pool.open()?;
    let failed = |error| file("take a lease", &pool.directory, &error);
    let held = store.held_by(&owner).map_err(failed)?;
    // In the older format, by whichever interface.
    let older = store.held_by(&Owner { ifname: None, ..owner.clone() }).map_err(failed)?;
    let in_sets = |address: &&IpAddr| sets.iter().any(|set| set.range_of(**address).is_some());
    if let Some(address) = held.iter().chain(&older).find(in_sets) {
        let msg =
            format!("{} of {} has {address} already", call.environment.ifname, owner.container_id);
        return Err(Error::new(Code::CONFLICT, msg)
            .details("a runtime adds an attachment once; DEL releases the address"));
    }
    if giving == Giving::Away {
        store.share();
    }
    let picks = pick(&pool, &store, &sets, &keys.requested, never)?;
    store.take(&owner, held, &picks).map_err(|error| match error {
        TakeError::Taken(address) => not_available(address),
        TakeError::Io(error) => failed(error),
    })?;
    let ips = picks.iter().filter_map(|(index, address)| {
        let range = sets.get(*index)?.range_of(*address)?;
        let address = ipnetwork::IpNetwork::new(*address, range.subnet().prefix()).ok()?;
        Some(Ip { address, gateway: Some(range.gateway()), interface: None })
    });
    Ok(AddResult { ips: ips.collect(), routes: keys.routes, dns, ..AddResult::default() })
}

/// An address for each set: one of those asked for that lies in it, else the
/// next. When a set has none left, leases from before the boot are released.
fn pick(
    pool: &Pool<'_>,
    store: &Store,
    sets: &[RangeSet],
    requested: &[IpAddr],
    never: &[IpAddr],
) -> Result<Vec<Pick>, Error> {
    let failed = |error| file("look for a free address", &pool.directory, &error);
    let mut requested = requested.to_vec();
    let mut seen = HashSet::new();
    requested.retain(|address| seen.insert(*address));
    let mut picks = Vec::new();
    for (index, set) in sets.iter().enumerate() {
        let wanted = requested.iter().position(|address| set.range_of(*address).is_some());
        if let Some(wanted) = wanted {
            let address = requested.remove(wanted);
            require_free(pool, store, set, address, never)?;
            picks.push((index, address));
            continue;
        }
        // Those asked for are not given to somebody else's set by chance: sets
        // do not overlap.
        let mut next = store.next(index, set, never).map_err(failed)?;
        let of_set = |address| set.range_of(address).is_some();
        if next.is_none() && release_forgotten(pool, store, &of_set)? > 0 {
            next = store.next(index, set, never).map_err(failed)?;
        }
        picks.push((index, next.ok_or_else(|| exhausted(pool, set))?));
    }
    match requested.first() {
        None => Ok(picks),
        Some(address) => {
            let msg =
                format!("{address} was asked for and is in no range, or its set has given one");
            Err(Error::new(Code::INVALID_CONFIG, msg)
                .details("ask for an address of the ranges, one of each set"))
        }
    }
}

fn require_free(
    pool: &Pool<'_>,
    store: &Store,
    set: &RangeSet,
    address: IpAddr,
    never: &[IpAddr],
) -> Result<(), Error> {
    let invalid = |reason: &str| {
        let msg = format!("{address} was asked for, which is {reason}");
        Err(Error::new(Code::INVALID_CONFIG, msg).details("ask for another address"))
    };
    if set.range_of(address).is_some_and(|range| range.gateway() == address) {
        return invalid("the subnet's gateway");
    }
    if never.contains(&address) {
        return invalid("the address of this node's tunnel");
    }
    let taken = || store.is_taken(address);
    let failed = |error| file("look for an address", &pool.directory, &error);
    if taken().map_err(failed)?
        && (release_forgotten(pool, store, &|other| other == address)? == 0
            || taken().map_err(failed)?)
    {
        return Err(not_available(address));
    }
    Ok(())
}

fn release_forgotten(
    pool: &Pool<'_>,
    store: &Store,
    concerns: &dyn Fn(IpAddr) -> bool,
) -> Result<usize, Error> {
    let forgotten = pool.forgotten(store, concerns)?;
    for lease in &forgotten {
        store
            .release_lease(lease)
            .map_err(|error| file("release a lease", &pool.directory, &error))?;
    }
    if !forgotten.is_empty() {
        log::warn!("{} leases from before the last boot released", forgotten.len());
    }
    Ok(forgotten.len())
}

/// Frees what an attachment holds; returns how many addresses.
///
/// # Errors
/// Of the store.
pub(in crate::verb) fn release(
    pool: &Pool<'_>,
    container_id: &str,
    ifname: &str,
) -> Result<usize, Error> {
    if !pool.directory.exists() {
        return Ok(0);
    }
    let released = pool.open()?.release(container_id, ifname);
    let failed = |error| file("release a lease", &pool.directory, &error);
    released.map(|addresses| addresses.len()).map_err(failed)
}

/// Compares the addresses of prevResult with the leases: as far as they are of
/// the sets, they are the same.
///
/// # Errors
/// Code 102 naming the address and its holder.
pub(in crate::verb) fn check(call: &Call) -> Result<(), Error> {
    let Request { sets, .. } = Request::read(call)?;
    let previous = call.config.previous.as_ref().ok_or_else(|| {
        Error::new(Code::INVALID_CONFIG, "CHECK without prevResult")
            .details("the runtime gives the result of the ADD")
    })?;
    let previous = AddResult::decode(previous, call.config.version)?;
    let pool = Pool::of(&call.root, &call.config.name, call.document.ipam());
    let owner = Owner::new(&call.environment.container_id, &call.environment.ifname);
    let store = pool.open()?;
    let held =
        store.held_by(&owner).map_err(|error| file("read a lease", &pool.directory, &error))?;
    let differs = |msg: String| {
        Err(Error::new(Code::CHECK_FAILED, msg).details(format!(
            "see: manx ipam check; the leases are in {}",
            pool.directory.display()
        )))
    };
    if held.is_empty() {
        return differs(format!("{} has no lease", owner.container_id));
    }
    for set in &sets {
        let of_set = |address: &IpAddr| set.range_of(*address).is_some();
        let told: Vec<IpAddr> =
            previous.ips.iter().map(|ip| ip.address.ip()).filter(of_set).collect();
        // A set that came later has neither.
        if let Some(address) = told.iter().find(|address| !held.contains(address)) {
            return differs(format!("{address} is not leased to {}", owner.container_id));
        }
        let mut held = held.iter().filter(|address| of_set(address));
        if let Some(address) = held.find(|address| !told.contains(address)) {
            return differs(format!("{address} is leased and not in prevResult"));
        }
    }
    Ok(())
}

/// Frees the leases of attachments that are not in the runtime's list.
///
/// # Errors
/// Of the list and of the store.
pub(in crate::verb) fn gc(call: &Call) -> Result<usize, Error> {
    let ValidAttachments::Only(valid) = call.document.valid_attachments()? else { return Ok(0) };
    let pool = Pool::of(&call.root, &call.config.name, call.document.ipam());
    if !pool.directory.exists() {
        return Ok(0);
    }
    let store = pool.open()?;
    let failed = |error| file("release a lease", &pool.directory, &error);
    let mut released = 0;
    for lease in store.leases() {
        if !valid.iter().any(|(container_id, ifname)| lease.owner.is(container_id, ifname)) {
            store.release_lease(&lease).map_err(failed)?;
            released += 1;
        }
    }
    Ok(released)
}

/// Whether an ADD would get its addresses.
///
/// # Errors
/// Code 50 with the free and the total count of each set if one has none left.
pub(in crate::verb) fn status(call: &Call, never: &[IpAddr]) -> Result<(), Error> {
    let Request { sets, .. } = Request::read(call)?;
    let pool = Pool::of(&call.root, &call.config.name, call.document.ipam());
    let unavailable = |error: Error| Error { code: Code::UNAVAILABLE, ..error };
    let store = pool.open().map_err(unavailable)?;
    let failed = |error| unavailable(file("read the leases", &pool.directory, &error));
    for (index, set) in sets.iter().enumerate() {
        let free = store.next(index, set, never).map_err(failed)?.is_some();
        let of_set = |address| set.range_of(address).is_some();
        if free || !pool.forgotten(&store, &of_set).map_err(unavailable)?.is_empty() {
            continue;
        }
        let taken = store.addresses().map_err(failed)?;
        let counts: Vec<String> = sets.iter().map(|set| count(set, &taken, never)).collect();
        let msg = format!("no free address in {set} of network {}", pool.network);
        return Err(Error::new(Code::UNAVAILABLE, msg).details(counts.join("; ")));
    }
    Ok(())
}

fn count(set: &RangeSet, taken: &HashSet<IpAddr>, never: &[IpAddr]) -> String {
    let used = taken
        .iter()
        .chain(never.iter().filter(|address| !taken.contains(address)))
        .filter(|address| set.range_of(**address).is_some_and(|range| range.gateway() != **address))
        .count();
    let free = set.size().saturating_sub(u128::try_from(used).unwrap_or_default());
    format!("{set}: {free} of {} free", set.size())
}

/// The resolver settings of the file that the section names.
fn resolver(keys: &IpamKeys) -> Result<Dns, Error> {
    let Some(path) = &keys.resolv_conf else { return Ok(Dns::default()) };
    let text = read_text(Path::new(path), TEXT_BYTES_MAX);
    text.map(|text| Dns::of_resolv_conf(&text)).map_err(|error| {
        Error::new(Code::INVALID_CONFIG, format!("ipam.resolvConf: read {path}: {error}"))
            .details("name a file such as /etc/resolv.conf, or leave the key out")
    })
}

fn exhausted(pool: &Pool<'_>, set: &RangeSet) -> Error {
    let msg = format!("no free address in {set} of network {}", pool.network);
    Error::new(Code::TRY_AGAIN, msg)
        .details("see: manx ipam show; add a range to the set, or remove attachments")
}

fn not_available(address: IpAddr) -> Error {
    Error::new(Code::CONFLICT, format!("{address} was asked for and is taken"))
        .details("see: manx ipam show; ask for another address")
}
