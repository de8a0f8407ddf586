// SPDX-License-Identifier: Apache-2.0
use std::{process, sync::atomic::AtomicU32, time::Duration};

use super::*;
use crate::ipam::Range;

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A store in a directory of its own, which goes when the test ends.
struct Ground(PathBuf);

impl Ground {
    fn new() -> Self {
        let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = format!("manx-store-{}-{number}", process::id());
        let ground = Self(std::env::temp_dir().join(name));
        fs::create_dir_all(ground.path("")).unwrap();
        ground
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join("net").join(name)
    }

    fn open(&self) -> Store {
        self.open_at(SystemTime::now())
    }

    fn open_at(&self, now: SystemTime) -> Store {
        let mut options = File::options();
        options.write(true).create(true).truncate(false);
        let lock = options.open(self.path(LOCK)).unwrap();
        // A process that another test starts may share it until it is another program.
        lock.lock().unwrap();
        Store::open(&self.path(""), Some(&self.0.join("hints")), lock, now).unwrap()
    }

    fn write(&self, name: &str, content: &str) {
        fs::write(self.path(name), content).unwrap();
    }

    /// The files, but for the lock.
    fn files(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.path(""))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != LOCK)
            .collect();
        names.sort();
        names
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn any(_: IpAddr) -> io::Result<bool> {
    Ok(true)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn set(subnet: &str) -> RangeSet {
    RangeSet::new(vec![Range::new(subnet.parse().unwrap(), None, None, None).unwrap()]).unwrap()
}

fn eth0(id: &str) -> Owner {
    Owner::new(id, "eth0")
}

/// Gives the next address, as an ADD does.
fn add(store: &Store, owner: &Owner, set: &RangeSet) -> Option<IpAddr> {
    let address = store.next(0, set, any).unwrap()?;
    store.take(owner, Vec::new(), &[(0, address)]).unwrap();
    Some(address)
}

#[test]
fn the_files_are_host_locals() {
    let ground = Ground::new();
    let picks = [(0, ip("10.1.0.5")), (1, ip("fd00::5"))];
    ground.open().take(&eth0("c1"), Vec::new(), &picks).unwrap();
    let expected = ["10.1.0.5", "fd00::5", "last_reserved_ip.0", "last_reserved_ip.1"];
    assert_eq!(ground.files(), expected);
    let content = |name| fs::read_to_string(ground.path(name)).unwrap();
    assert_eq!(content("10.1.0.5"), "c1\r\neth0");
    assert_eq!(content("fd00::5"), "c1\r\neth0");
    assert_eq!(content("last_reserved_ip.0"), "10.1.0.5");
    assert_eq!(content("last_reserved_ip.1"), "fd00::5");
    let released = ground.open().release("c1", "eth0").unwrap();
    assert_eq!(released, [ip("10.1.0.5"), ip("fd00::5")]);
    assert_eq!(ground.files(), expected[2..]);
}

#[test]
fn a_shorter_address_leaves_nothing_of_a_longer_one() {
    let ground = Ground::new();
    let store = ground.open();
    for (id, address) in [("c1", "10.1.0.254"), ("c2", "10.1.0.2")] {
        store.take(&eth0(id), Vec::new(), &[(0, ip(address))]).unwrap();
        let noted = fs::read_to_string(ground.path("last_reserved_ip.0")).unwrap();
        assert_eq!(noted, address);
    }
}

#[test]
fn two_interfaces_of_a_container_are_two_owners() {
    let ground = Ground::new();
    let set = set("10.1.0.0/24");
    let store = ground.open();
    let first = add(&store, &eth0("c1"), &set).unwrap();
    let second = add(&store, &Owner::new("c1", "net1"), &set).unwrap();
    assert_eq!((first, second), (ip("10.1.0.2"), ip("10.1.0.3")));
    assert_eq!(store.release("c1", "eth0").unwrap(), [first]);
    assert!(store.release("c1", "eth0").unwrap().is_empty());
    assert_eq!(store.held_by(&Owner::new("c1", "net1")).unwrap(), [second]);
}

#[test]
fn what_others_wrote_is_found() {
    let ground = Ground::new();
    let set = set("10.1.0.0/24");
    add(&ground.open(), &eth0("c1"), &set);
    ground.write("10.1.0.3", "c2\r\neth0");
    ground.write("10.1.0.4", " c3 \n");
    ground.write("10.1.0.5", "c4\neth0\n\n");
    ground.write("last_reserved_ip.0", "10.1.0.5");
    let store = ground.open();
    assert_eq!(store.held_by(&eth0("c2")).unwrap(), [ip("10.1.0.3")]);
    assert_eq!(store.release("c3", "eth0").unwrap(), [ip("10.1.0.4")], "the older format");
    assert_eq!(store.release("c4", "eth0").unwrap(), [ip("10.1.0.5")], "whitespace around");
    assert_eq!(store.next(0, &set, any).unwrap(), Some(ip("10.1.0.6")));
    drop(store);
    fs::remove_file(ground.path("10.1.0.2")).unwrap();
    assert!(ground.open().held_by(&eth0("c1")).unwrap().is_empty());
}

#[test]
fn an_address_that_changed_hands_is_its_new_owners() {
    let ground = Ground::new();
    let store = ground.open();
    store.take(&eth0("c1"), Vec::new(), &[(0, ip("10.1.0.2"))]).unwrap();
    // The directory's date does not change by this.
    ground.write("10.1.0.2", "c2\r\neth0");
    assert!(store.release("c1", "eth0").unwrap().is_empty());
    assert_eq!(store.release("c2", "eth0").unwrap(), [ip("10.1.0.2")]);
}

#[test]
fn empty_files_of_addresses_are_free_and_others_stay() {
    let ground = Ground::new();
    for (name, content) in [
        ("10.1.0.2", ""),
        ("fd00::2", " \n"),
        ("10.1.0.3", "c1\r\neth0"),
        ("last_reserved_ip.0", ""),
        ("notes", ""),
        (".manx-12", "c9\r\neth0"),
    ] {
        ground.write(name, content);
    }
    let store = ground.open();
    assert_eq!(ground.files(), ["10.1.0.3", "last_reserved_ip.0", "notes"]);
    assert_eq!(add(&store, &eth0("c2"), &set("10.1.0.0/24")), Some(ip("10.1.0.2")));
}

#[test]
fn all_addresses_or_none() {
    let ground = Ground::new();
    let store = ground.open();
    store.take(&eth0("c1"), Vec::new(), &[(1, ip("fd00::5"))]).unwrap();
    let before = ground.files();
    let picks = [(0, ip("10.1.0.5")), (1, ip("fd00::5"))];
    let error = store.take(&eth0("c2"), Vec::new(), &picks).unwrap_err();
    assert!(matches!(error, TakeError::Taken(address) if address == ip("fd00::5")), "{error:?}");
    assert_eq!(ground.files(), before);
    assert!(store.held_by(&eth0("c2")).unwrap().is_empty());
}

#[test]
fn what_a_killed_add_took_of_two_is_taken_back() {
    let ground = Ground::new();
    let store = ground.open();
    add(&store, &eth0("c1"), &set("10.1.0.0/24"));
    ground.write("10.1.0.9", "c2\r\neth0");
    let taking = Some(fs::metadata(ground.path("10.1.0.9")).unwrap().ino());
    let note = Note { addresses: vec![ip("10.1.0.9"), ip("fd00::9")], taking };
    store.hints.as_ref().unwrap().write(&eth0("c2"), &note).unwrap();
    drop(store);
    let store = ground.open();
    assert_eq!(ground.files(), ["10.1.0.2", "last_reserved_ip.0"]);
    assert!(store.held_by(&eth0("c2")).unwrap().is_empty());
    assert_eq!(store.held_by(&eth0("c1")).unwrap(), [ip("10.1.0.2")]);
}

#[test]
fn a_killed_add_takes_back_nothing_that_was_given_since() {
    let ground = Ground::new();
    let store = ground.open();
    for (id, owner) in [("10.1.0.9", "c3"), ("fd00::9", "c2")] {
        ground.write(id, &format!("{owner}\r\neth0"));
    }
    let inodes: Vec<u64> =
        ["10.1.0.9", "fd00::9"].map(|name| fs::metadata(ground.path(name)).unwrap().ino()).to_vec();
    let other = (1..).find(|inode| !inodes.contains(inode));
    let note = Note { addresses: vec![ip("10.1.0.9"), ip("fd00::9")], taking: other };
    store.hints.as_ref().unwrap().write(&eth0("c2"), &note).unwrap();
    drop(store);
    let store = ground.open();
    assert_eq!(store.held_by(&eth0("c3")).unwrap(), [ip("10.1.0.9")]);
    assert_eq!(store.held_by(&eth0("c2")).unwrap(), [ip("fd00::9")]);
}

#[test]
fn no_lease_of_others_keeps_the_rest_from_being_served() {
    let ground = Ground::new();
    for (name, content) in [
        ("10.1.0.2", "c\0\0\0\r\neth0"),
        ("10.1.0.3", "foo/bar\r\na/b"),
        ("10.1.0.4", "/etc/../../evil\r\neth0"),
        ("10.1.0.5", "..\r\neth0"),
        ("10.1.0.6", "c1\r\neth0"),
    ] {
        ground.write(name, content);
    }
    let store = ground.open();
    assert_eq!(add(&store, &eth0("c2"), &set("10.1.0.0/24")), Some(ip("10.1.0.7")));
    assert_eq!(store.release("c1", "eth0").unwrap(), [ip("10.1.0.6")]);
    assert_eq!(store.held_by(&Owner::new("foo/bar", "a/b")).unwrap(), [ip("10.1.0.3")]);
    let notes = fs::read_dir(ground.0.join("hints")).unwrap().count();
    assert!(notes >= 5, "every note is in the directory of the notes: {notes}");
}

/// A directory in which nothing can be made, even by root.
#[test]
fn without_notes_it_is_slow_and_right() {
    let ground = Ground::new();
    fs::write(ground.0.join("hints"), "a file where the directory should be").unwrap();
    let set = set("10.1.0.0/24");
    assert_eq!(add(&ground.open(), &eth0("c1"), &set), Some(ip("10.1.0.2")));
    assert_eq!(add(&ground.open(), &eth0("c2"), &set), Some(ip("10.1.0.3")));
    assert_eq!(ground.open().held_by(&eth0("c1")).unwrap(), [ip("10.1.0.2")]);
    assert_eq!(ground.open().release("c1", "eth0").unwrap(), [ip("10.1.0.2")]);
    assert_eq!(ground.files(), ["10.1.0.3", "last_reserved_ip.0"]);
}

#[test]
fn two_directories_of_notes_do_not_believe_each_other() {
    let ground = Ground::new();
    let picks = |last: u8| [(0, IpAddr::from([10, 1, 0, last]))];
    let other = ground.0.join("other");
    for round in 2..40 {
        let id = format!("c{round}");
        ground.open().take(&eth0(&id), Vec::new(), &picks(round)).unwrap();
        let lock = File::options().write(true).open(ground.path(LOCK)).unwrap();
        lock.lock().unwrap();
        let now = SystemTime::now();
        let elsewhere = Store::open(&ground.path(""), Some(&other), lock, now).unwrap();
        assert_eq!(elsewhere.release(&id, "eth0").unwrap().len(), 1, "{id}");
    }
}

#[test]
fn what_was_there_before_the_boot_is_past_and_nothing_else() {
    let ground = Ground::new();
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let date_back = |name: &str| {
        let file = File::options().write(true).open(ground.path(name)).unwrap();
        file.set_modified(long_ago).unwrap();
    };
    ground.write("10.1.0.2", "old\r\neth0");
    date_back("10.1.0.2");
    ground.write("10.1.0.3", "young\r\neth0");
    let store = ground.open();
    store.take(&eth0("c1"), Vec::new(), &[(0, ip("10.1.0.4"))]).unwrap();
    // A clock that is set forward makes everything look old.
    date_back("10.1.0.3");
    date_back("10.1.0.4");
    drop(store);
    ground.write("10.1.0.5", "elsewhere\r\neth0");
    date_back("10.1.0.5");
    let past = ground.open().past();
    let addresses: Vec<IpAddr> = past.iter().map(|lease| lease.address).collect();
    assert_eq!(addresses, [ip("10.1.0.2")]);
}

#[test]
fn a_freed_address_rests_while_there_are_others() {
    let ground = Ground::new();
    let set = set("10.1.0.0/29");
    let now = SystemTime::now();
    let at = |seconds| ground.open_at(now + Duration::from_secs(seconds));
    for id in ["c2", "c3", "c4", "c5", "c6"] {
        add(&at(0), &eth0(id), &set);
    }
    assert_eq!(at(0).next(0, &set, any).unwrap(), None);
    at(1).release("c4", "eth0").unwrap();
    at(2).release("c3", "eth0").unwrap();
    at(3).release("c2", "eth0").unwrap();
    assert_eq!(at(9).next(0, &set, any).unwrap(), Some(ip("10.1.0.4")), "rested longest");
    let later = REST_SECONDS + 2;
    assert_eq!(at(later).next(0, &set, any).unwrap(), Some(ip("10.1.0.3")), "the next in turn");
}

const REST_SECONDS: u64 = super::super::hints::REST.as_secs();

#[test]
fn a_dense_pool_gives_its_last_address() {
    let ground = Ground::new();
    for last in (2..=254).filter(|last| *last != 200) {
        ground.write(&format!("10.1.0.{last}"), "c\r\neth0");
    }
    let store = ground.open();
    let set = set("10.1.0.0/24");
    assert_eq!(add(&store, &eth0("c1"), &set), Some(ip("10.1.0.200")));
    assert_eq!(store.next(0, &set, any).unwrap(), None);
}

#[test]
fn owners_with_long_names() {
    let ground = Ground::new();
    let long = "x".repeat(250);
    let store = ground.open();
    store.take(&eth0(&long), Vec::new(), &[(0, ip("10.1.0.2"))]).unwrap();
    assert!(store.held_by(&eth0(&"y".repeat(250))).unwrap().is_empty());
    drop(store);
    assert_eq!(ground.open().release(&long, "eth0").unwrap(), [ip("10.1.0.2")]);
}
