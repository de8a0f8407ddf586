// SPDX-License-Identifier: Apache-2.0
//! What is kept of network policies beside the kernel's table, by whoever knows the cluster,
//! for whoever attaches pods: policy.json has the numbers of each pod of this node, and
//! .policy/table.json all that the table holds, for the case that it is lost.
//!
//! An ADD reads policy.json, and of it only what is about its own pod.

use std::{
    fs::File,
    io::{ErrorKind, Read},
    net::IpAddr,
    path::{Path, PathBuf},
    str,
    time::Duration,
};

use serde_json::Value;

use super::{
    super::{Error, Kind, Object, fabric::WRITER_LIMIT, file},
    gone,
};
use crate::{
    conf::POLICY_FILE,
    list::Gather,
    policy::{Assigned, Compiled, Denial, Fields, Key, Known, Name, Policies, TABLE, reading},
    state::{Root, directory, file::TEXT_BYTES_MAX, lock, read_own, replace},
    text::json::object,
};

/// The form of the files. It rises when a field changes its meaning.
const VERSION: u64 = 1;
/// What table.json has at most, in bytes: some thirty of each address and of each grant.
const TABLE_BYTES_MAX: u64 = 64 << 20;
/// A secret and one byte more, by which a longer file is none.
const KEY_BYTES: u64 = 17;
/// How long an ADD waits for somebody who changes the table.
const ADD_LIMIT: Duration = Duration::from_secs(1);

/// The file with the numbers of pods.
pub(super) fn pods_file(root: &Root) -> PathBuf {
    root.runtime().join(POLICY_FILE)
}

/// Whether somebody has said since boot which policies are about which pods; none where that
/// cannot be seen.
pub(crate) fn is_said(root: &Root) -> Option<bool> {
    pods_file(root).try_exists().ok()
}

fn own_directory(root: &Root) -> PathBuf {
    root.runtime().join(".policy")
}

/// Whether anybody touched the table since boot: whoever does takes the lock before.
pub(super) fn was_touched(root: &Root) -> bool {
    own_directory(root).is_dir()
}

/// The file that says that an agent keeps the table.
fn keeper_file(root: &Root) -> PathBuf {
    own_directory(root).join("agent")
}

/// Notes that an agent keeps the table.
///
/// # Errors
/// `File`.
#[cfg(feature = "agent")]
pub(super) fn note_keeper(root: &Root) -> Result<(), Error> {
    let path = keeper_file(root);
    if path.exists() {
        return Ok(());
    }
    put(&path, b"")
}

/// Notes that no agent does.
///
/// # Errors
/// `File`.
pub(super) fn forget_keeper(root: &Root) -> Result<(), Error> {
    remove(&keeper_file(root))
}

/// Whether an agent kept the table since boot.
pub(super) fn has_keeper(root: &Root) -> bool {
    keeper_file(root).exists()
}

pub(super) fn table_file(root: &Root) -> PathBuf {
    own_directory(root).join("table.json")
}

/// Keeps all others from changing the table, and pods from being attached.
///
/// # Errors
/// `Busy` while somebody else is at it.
pub(super) fn lock(root: &Root) -> Result<lock::Guard, Error> {
    lock_within(root, WRITER_LIMIT)
}

/// The same for an ADD, which waits less long.
///
/// # Errors
/// `Busy` while somebody else is at it.
pub(super) fn lock_for_add(root: &Root) -> Result<lock::Guard, Error> {
    lock_within(root, ADD_LIMIT)
}

fn lock_within(root: &Root, limit: Duration) -> Result<lock::Guard, Error> {
    let directory = own_directory(root);
    let lock = lock::exclusive_within(&directory, limit)
        .map_err(|error| file("lock the table of policies", &directory, &error))?;
    lock.sign();
    Ok(lock)
}

/// Keeps others from changing the table for other reasons than a pod that comes.
///
/// # Errors
/// `Busy` while somebody does.
pub(super) fn share(root: &Root) -> Result<lock::Guard, Error> {
    share_within(root, ADD_LIMIT)
}

fn share_within(root: &Root, limit: Duration) -> Result<lock::Guard, Error> {
    let directory = own_directory(root);
    lock::shared_within(&directory, limit)
        .map_err(|error| file("lock the table of policies", &directory, &error))
}

/// Notes what policies mean to a node.
///
/// # Errors
/// `File`.
pub(super) fn write(root: &Root, node: &str, compiled: &Compiled) -> Result<(), Error> {
    let (node, sets) = (Value::from(node), compiled.policies.encode());
    // The version comes first, so that nobody reads what it does not know.
    let table = format!("{{\"version\":{VERSION},\"node\":{node},\"sets\":{sets}}}");
    drop(sets);
    put(&table_file(root), table.as_bytes())?;
    drop(table);
    remove(&gone_file(root))?;
    let pods = compiled.pods.iter().map(|known| {
        let (name, numbers) = encode(known);
        format!("\n{}:{numbers}", Value::from(name))
    });
    let pods = pods.gather().join(",");
    let former = compiled.former.iter().map(|it| {
        object(vec![("name", it.name.to_string().into()), ("uid", it.uid.as_str().into())])
    });
    let former = Value::Array(former.gather());
    let text = format!(
        "{{\"version\":{VERSION},\"node\":{node},\"pods\":{{{pods}\n}},\"former\":{former}}}"
    );
    put(&pods_file(root), text.as_bytes())
}

fn put(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let written = path.parent().map_or(Ok(()), directory).and_then(|()| replace(path, bytes));
    written.map_err(|error| file("write", path, &error))
}

fn encode(known: &Known) -> (String, Value) {
    let Known { name, uid, assigned, isolated_by } = known;
    let [egress, ingress] = assigned.classes;
    let numbers = [("egress", egress), ("ingress", ingress), ("identity", assigned.identity)];
    let numbers = numbers.into_iter().filter_map(|(key, number)| Some((key, number?.into())));
    let uid = (!uid.is_empty()).then(|| ("uid", Value::from(uid.as_str())));
    let policies = ["egressPolicies", "ingressPolicies"].into_iter().zip(isolated_by);
    let policies = policies.filter(|(_, names)| !names.is_empty());
    let policies = policies.map(|(key, names)| (key, Value::from(names.as_slice())));
    let fields = uid.into_iter().chain(numbers).chain(policies);
    let fields = fields.map(|(key, value)| (key.to_owned(), value));
    (name.to_string(), Value::Object(fields.collect()))
}

/// Those of this node's pods that are known, or that of them with a name; `None` where nobody has said
/// anything since the boot.
///
/// # Errors
/// `File` for what cannot be read or understood.
pub(super) fn pods(root: &Root, name: Option<&str>) -> Result<Option<Vec<Known>>, Error> {
    let path = pods_file(root);
    let Some(bytes) = read(&path, TABLE_BYTES_MAX)? else { return Ok(None) };
    let text = str::from_utf8(&bytes).map_err(|error| unreadable(&path, error.to_string()))?;
    let of_one = name.and_then(|name| of_one(text, name));
    let document = document(&path, of_one.as_deref().unwrap_or(text).as_bytes())?;
    let is_asked_for = |one: &str| name.is_none_or(|name| name == one);
    let read = reading(|problem| {
        let document = Fields::of(&document, problem);
        let chosen = document.members("pods").filter(|(name, _)| is_asked_for(name));
        let mut found = chosen.map(|(name, entry)| known(name, entry)).gather();
        for entry in document.objects("former") {
            let name = entry.required("name");
            if is_asked_for(&name) {
                found.push(Known::closed(Name::of(&name), entry.owned("uid")));
            }
        }
        found
    });
    read.map(Some).map_err(|reason| unreadable(&path, reason))
}

/// The document with one pod alone, where each has a line of its own, as [`write`] gives it: to read
/// hundreds of them would cost an ADD more than its pod's link.
fn of_one(text: &str, name: &str) -> Option<String> {
    let (head, rest) = text.split_once('\n')?;
    let (_, tail) = rest.rsplit_once('\n')?;
    if !head.ends_with("\"pods\":{") || !tail.starts_with('}') {
        return None;
    }
    let key = format!("\n{}:{{", Value::from(name));
    let found = text.find(&key).and_then(|place| text.get(place + 1..)?.lines().next());
    Some([head, found.unwrap_or_default().trim_end_matches(','), tail].concat())
}

/// What the table held when it was written last, without those who are gone since; nothing
/// where it never was.
///
/// # Errors
/// `File` for what cannot be read or understood.
pub(super) fn table(root: &Root) -> Result<Policies, Error> {
    let path = table_file(root);
    let Some(bytes) = read(&path, TABLE_BYTES_MAX)? else {
        return Ok(Policies { table: TABLE.to_owned(), ..Policies::default() });
    };
    let document = document(&path, &bytes)?;
    let table = document.get("sets").and_then(|sets| Policies::decode(TABLE, sets));
    let table =
        table.ok_or_else(|| unreadable(&path, "it is of no form that this manx knows".to_owned()));
    let mut table = table?;
    let path = gone_file(root);
    for address in gone::read(&path).map_err(|error| unreadable(&path, error.to_string()))? {
        table.identities.remove(&address);
        table.own.remove(&address);
        for way in &mut table.ways {
            way.classes.remove(&address);
        }
    }
    Ok(table)
}

fn gone_file(root: &Root) -> PathBuf {
    own_directory(root).join("gone")
}

/// Notes that no pod has these addresses any more, before they are taken out of the table:
/// whoever makes it again meanwhile either leaves them out, or is done before.
///
/// # Errors
/// `Busy` while somebody else is at it.
pub(super) fn note_gone(root: &Root, addresses: &[IpAddr]) -> Result<(), Error> {
    let is_long = gone::is_long(&gone_file(root));
    let _lock = if is_long { lock(root)? } else { share_within(root, WRITER_LIMIT)? };
    add_gone(root, addresses, is_long);
    Ok(())
}

/// The same by whoever has the lock. A file system that is full keeps no pod from going.
pub(super) fn add_gone(root: &Root, addresses: &[IpAddr], alone: bool) {
    let path = gone_file(root);
    if !table_file(root).exists() {
        return;
    }
    if let Err(error) = gone::add(&path, addresses, alone) {
        let error = file("note addresses of pods that are gone", &path, &error);
        log::warn!("{error}; nftables table {TABLE} has them again if it is made again");
    }
}

fn mended_file(root: &Root) -> PathBuf {
    own_directory(root).join("mended")
}

/// Notes that the table was, or lacked, something else for a while: connections began that
/// nobody has looked through.
pub(super) fn note_mended(root: &Root) {
    if let Err(error) = put(&mended_file(root), b"") {
        log::warn!("{error}; an agent does not look for connections that began meanwhile");
    }
}

/// Which note of that there is, if any.
#[cfg(feature = "agent")]
pub(super) fn mended(root: &Root) -> Option<String> {
    let path = mended_file(root);
    path.exists().then(|| crate::node::fabric::file_version(&path))
}

/// Takes that note away, unless it is another one by now.
#[cfg(feature = "agent")]
pub(super) fn forget_mended(root: &Root, noted: &str) {
    if mended(root).as_deref() == Some(noted)
        && let Err(error) = remove(&mended_file(root))
    {
        log::warn!("{error}");
    }
}

pub(super) fn denial_file(root: &Root) -> PathBuf {
    own_directory(root).join("denial.json")
}

/// How packets are denied, as it is noted; the default where nothing is.
///
/// # Errors
/// `File` for what cannot be read or understood.
pub(super) fn denial(root: &Root) -> Result<Denial, Error> {
    let path = denial_file(root);
    let Some(bytes) = read(&path, TEXT_BYTES_MAX)? else { return Ok(Denial::default()) };
    let document = document(&path, &bytes)?;
    let holds = |key| document.get(key).and_then(Value::as_bool);
    let group = document.get("log").and_then(Value::as_u64);
    Ok(Denial {
        counts: holds("counts").unwrap_or(true),
        rejects: holds("rejects").unwrap_or(false),
        log: group.and_then(|group| u16::try_from(group).ok()),
    })
}

/// Notes how packets are denied.
///
/// # Errors
/// `File`.
pub(super) fn note_denial(root: &Root, denial: Denial) -> Result<(), Error> {
    if self::denial(root).is_ok_and(|noted| noted == denial) {
        return Ok(());
    }
    let Denial { counts, rejects, log } = denial;
    let document = object(vec![
        ("version", VERSION.into()),
        ("counts", counts.into()),
        ("rejects", rejects.into()),
        ("log", log.into()),
    ]);
    put(&denial_file(root), document.to_string().as_bytes())
}

/// A document of a version that is known.
///
/// # Errors
/// `File` for what cannot be understood.
fn document(path: &Path, bytes: &[u8]) -> Result<Value, Error> {
    let document: Value =
        serde_json::from_slice(bytes).map_err(|error| unreadable(path, error.to_string()))?;
    let version = document.get("version").and_then(Value::as_u64);
    require_known(version).map_err(|reason| unreadable(path, reason))?;
    Ok(document)
}

fn key_file(root: &Root) -> PathBuf {
    own_directory(root).join("key")
}

/// The secret by which this node's numbers are keyed; `None` where there is none that can be
/// read: with another one all numbers are others, which is a change like any.
pub(super) fn key(root: &Root) -> Option<Key> {
    read_own(&key_file(root), KEY_BYTES).ok()?.try_into().ok()
}

/// The same, made where there is none.
///
/// # Errors
/// `File`.
pub(super) fn keep_key(root: &Root) -> Result<Key, Error> {
    if let Some(key) = key(root) {
        return Ok(key);
    }
    let (mut key, path) = (Key::default(), key_file(root));
    let random = Path::new("/dev/urandom");
    let made = File::open(random).and_then(|mut random| random.read_exact(&mut key));
    made.map_err(|error| file("read", random, &error))?;
    note_key(root, &key)?;
    log::debug!("{} is made: numbers of network policies are new", path.display());
    Ok(key)
}

/// Notes it, for whoever comes next; mode 0600.
///
/// # Errors
/// `File`.
pub(super) fn note_key(root: &Root, key: &Key) -> Result<(), Error> {
    if self::key(root).as_ref() == Some(key) {
        return Ok(());
    }
    put(&key_file(root), key)
}

/// Forgets all of it.
///
/// # Errors
/// `File`.
pub(super) fn forget(root: &Root) -> Result<(), Error> {
    let own = [table_file(root), keeper_file(root), denial_file(root), key_file(root)];
    let notes = [gone_file(root), mended_file(root), pods_file(root)];
    own.into_iter().chain(notes).try_for_each(|path| remove(&path))
}

fn remove(path: &Path) -> Result<(), Error> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(file("remove", path, &error)),
        _ => Ok(()),
    }
}

/// The files that cannot be read, each with the reason.
pub(crate) fn unreadable_files(root: &Root) -> Vec<(PathBuf, String)> {
    let pods = pods(root, None).err().map(|error| (pods_file(root), error.cause.clone()));
    let table = table(root).err().map(|error| (table_file(root), error.cause.clone()));
    let denial = self::denial(root).err().map(|error| (denial_file(root), error.cause.clone()));
    pods.into_iter().chain(table).chain(denial).gather()
}

fn read(path: &Path, bytes_max: u64) -> Result<Option<Vec<u8>>, Error> {
    match read_own(path, bytes_max) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unreadable(path, error.to_string())),
    }
}

fn unreadable(path: &Path, reason: String) -> Error {
    Error::new(Kind::File, Object::path("what policies mean to pods,", path), reason)
        .next("manx policy apply writes it again")
}

fn require_known(version: Option<u64>) -> Result<(), String> {
    match version {
        Some(VERSION) => Ok(()),
        Some(other) => Err(format!("it is of version {other}, and this manx reads {VERSION}")),
        None => Err("it says no version".to_owned()),
    }
}

fn known(name: &str, entry: Fields<'_>) -> Known {
    let classes = [entry.number("egress"), entry.number("ingress")];
    let assigned = Assigned { classes, identity: entry.number("identity") };
    let isolated_by = [entry.texts("egressPolicies"), entry.texts("ingressPolicies")];
    Known { name: Name::of(name), uid: entry.owned("uid"), assigned, isolated_by }
}

#[cfg(test)]
mod tests {
    use std::{env, fs, process};

    use proptest::{collection::btree_map, option, prelude::*};

    use super::*;

    fn known() -> impl Strategy<Value = (Vec<String>, Option<u64>, String)> {
        (prop::collection::vec("[a-z-]{1,9}", 0..3), option::of(0..9u64), "[0-9a-f-]{0,8}")
    }

    proptest! {
        /// Whether one is asked for or all, and whether each has a line or the document is of an
        /// earlier version, which gave it a single one.
        #[test]
        fn pods_are_found_by_their_names(
            pods in btree_map("[a-z0-9\"\\\\:{,-]{1,4}[a-z]", known(), 0..6),
            former in prop::collection::vec("[a-z]{1,4}", 0..3),
        ) {
            let path = env::temp_dir().join(format!("manx-pods-{}", process::id()));
            let root = Root::new(path.clone());
            let pods = pods.into_iter().map(|(name, (policies, number, uid))| Known {
                name: Name { namespace: "shop".into(), name },
                uid,
                assigned: Assigned { classes: [number, None], identity: number },
                isolated_by: [policies, Vec::new()],
            });
            let former = former.into_iter().map(|name| {
                Known::closed(Name { namespace: "former".into(), name }, "u".into())
            });
            let (pods, former) = (pods.gather(), former.gather());
            let all = [&pods[..], &former].concat();
            write(&root, "node\"}-a", &Compiled { pods, former, ..Compiled::default() }).unwrap();
            let text = fs::read_to_string(pods_file(&root)).unwrap();
            prop_assert_eq!(text.lines().count(), 2 + all.iter().filter(|it| it.name.namespace == "shop").count());
            let value: Value = serde_json::from_str(&text).unwrap();
            for text in [text, value.to_string()] {
                fs::write(pods_file(&root), text).unwrap();
                prop_assert_eq!(super::pods(&root, None).unwrap(), Some(all.clone()));
                for one in &all {
                    let name = one.name.to_string();
                    let found = super::pods(&root, Some(&name)).unwrap().unwrap();
                    let same = all.iter().filter(|it| it.name == one.name);
                    prop_assert!(found.iter().eq(same));
                }
                prop_assert_eq!(super::pods(&root, Some("shop/-")).unwrap(), Some(Vec::new()));
            }
            fs::remove_dir_all(&path).unwrap();
        }
    }
}
