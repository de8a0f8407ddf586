// SPDX-License-Identifier: Apache-2.0
//! What somebody has put where files of ours are looked for: pipes, devices, files
//! without end, symbolic links. No verb hangs, none writes where a link leads, and
//! no runtime's umask makes a file of ours anybody's.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::{Value, json};

use crate::harness::Pod;
use crate::network::{Network, text};

/// A network whose addresses are manx's own.
fn built_in() -> Network {
    let network = Network::new();
    let leases = network.host().scratch().dir("leases").display().to_string();
    let ranges = json!([[{"subnet": "10.1.0.0/24"}]]);
    network.ipam(json!({"type": "manx-ipam", "dataDir": leases, "ranges": ranges}))
}

/// What may be there instead of a file.
#[derive(Clone, Copy, Debug)]
enum Thing {
    Pipe,
    Device,
    Directory,
    /// 10 GiB of nothing.
    Huge,
    /// A link to a file that must stay as it is.
    Link,
}

const THINGS: [Thing; 5] = [Thing::Pipe, Thing::Device, Thing::Directory, Thing::Huge, Thing::Link];

impl Thing {
    fn put(self, path: &Path, victim: &Path) {
        self.remove(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match self {
            Self::Pipe => mkfifo(path, Mode::S_IRWXU).unwrap(),
            Self::Device => symlink("/dev/zero", path).unwrap(),
            Self::Directory => fs::create_dir(path).unwrap(),
            Self::Huge => File::create(path).unwrap().set_len(10 << 30).unwrap(),
            Self::Link => symlink(victim, path).unwrap(),
        }
    }

    fn remove(self, path: &Path) {
        let _ = fs::remove_file(path);
        let _ = fs::remove_dir_all(path);
    }
}

/// The directory of the notes of the one store that there is.
fn notes(network: &Network) -> PathBuf {
    let all = network.root("run/manx/.leases");
    fs::read_dir(all).unwrap().next().unwrap().unwrap().path()
}

/// Runs all verbs with each thing at `path`, which `replace` does not touch while
/// they run. With 1 GiB of memory: what has no end would take more.
fn survives(network: &Network, path: &Path) {
    survives_each(network, path, &THINGS);
}

fn survives_each(network: &Network, path: &Path, things: &[Thing]) {
    let limited = network.clone().wrapped("ulimit -v 1000000; exec \"$MANX\"");
    let victim = network.host().scratch().file("victim", "the only copy");
    for thing in things {
        let pod = Pod::new("a");
        thing.put(path, &victim);
        let told = format!("{thing:?} at {}", path.display());
        let added = limited.add(&pod);
        assert!(!added.timed_out && added.status < 2, "{told}: {added:?}");
        let previous = added.json.clone().filter(|_| added.succeeded());
        let checked = limited.check(&pod, &previous.unwrap_or_else(|| json!({"ips": []})));
        let others = [limited.status(), checked, limited.gc(&[&pod]), limited.del(&pod)];
        for reply in others {
            assert!(!reply.timed_out && reply.status < 2, "{told}: {reply:?}");
            assert_ne!(reply.code(), Some(199), "{told}: {reply:?}");
        }
        assert_eq!(fs::read_to_string(&victim).unwrap(), "the only copy", "{told}");
        thing.remove(path);
        network.del(&pod).ok();
        network.gc(&[]).ok();
        assert!(network.journal().is_empty(), "{told}");
        assert!(network.host().links().iter().all(|name| !name.starts_with("cali")), "{told}");
    }
}

#[test]
fn no_file_of_the_store_hangs_a_verb() {
    let network = built_in();
    network.add(&Pod::new("first")).ok();
    network.gc(&[]).ok();
    let store = network.host().scratch().path().join("leases/net");
    for name in ["10.1.0.7", "last_reserved_ip.0", "lock"] {
        survives(&network, &store.join(name));
    }
}

#[test]
fn no_note_of_a_store_hangs_a_verb() {
    let network = built_in();
    network.add(&Pod::new("first")).ok();
    network.gc(&[]).ok();
    for name in [".stamp", ".resting", ".past", ".shared"] {
        survives(&network, &notes(&network).join(name));
    }
}

#[test]
fn no_file_of_the_journal_hangs_a_verb() {
    let network = built_in().with("windows_use_single_network", json!(true));
    network.add(&Pod::new("first")).ok();
    network.gc(&[]).ok();
    for name in ["other:eth0", ".ignored", ".lock"] {
        survives(&network, &network.root("run/manx/net").join(name));
    }
}

#[test]
fn no_file_that_the_configuration_names_hangs_a_verb() {
    let network = built_in();
    let path = network.host().scratch().dir("root").join("named");
    let named = path.display().to_string();
    // A log file's link is followed where root made it.
    survives_each(&network.clone().with("logFile", json!("/named")), &path, &THINGS[..4]);
    survives(&network.clone().with("peersFile", json!("/named")), &path);
    survives(&network.clone().with_ipam("resolvConf", json!(named)), &path);
    let calico = network.clone().with("type", json!("calico"));
    survives(&calico, &network.root("var/lib/calico/mtu"));
}

/// A runtime may run with umask 0, as CRI-O has.
#[test]
fn with_any_umask_nobody_else_may_write_to_what_we_make() {
    let network = built_in().with("logFile", json!("/var/log/manx/log"));
    let loose = network.clone().wrapped("umask 0; exec \"$MANX\"");
    let store = network.host().scratch().path().join("new/networks");
    let loose = loose.with_ipam("dataDir", json!(store));
    let pod = Pod::new("a");
    loose.status().ok();
    loose.add(&pod).ok();
    let mut found = 0;
    let mut pending = vec![network.root(""), network.host().scratch().path().join("new")];
    while let Some(directory) = pending.pop() {
        for file in fs::read_dir(directory).unwrap().flatten() {
            let data = file.metadata().unwrap();
            if data.is_dir() {
                pending.push(file.path());
            }
            found += 1;
            let mode = data.mode() & 0o777;
            assert!(data.is_symlink() || mode & 0o022 == 0, "{mode:o} {}", file.path().display());
        }
    }
    assert!(found > 10, "only {found}");
    loose.del(&pod).ok();
}

/// As a plugin before us left it, or host-local with the runtime's umask.
#[test]
fn a_store_that_others_may_write_to_is_closed_and_said() {
    let network = built_in();
    let leases = network.host().scratch().path().join("leases");
    fs::create_dir_all(leases.join("net")).unwrap();
    for directory in [leases.clone(), leases.join("net")] {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o777)).unwrap();
    }
    let reply = network.add(&Pod::new("a"));
    assert!(reply.stderr.contains("mode 777"), "{reply:?}");
    reply.ok();
    for directory in [leases.clone(), leases.join("net")] {
        assert_eq!(fs::metadata(directory).unwrap().mode() & 0o777, 0o755);
    }
}

/// The next address to be given is a link already; the one after it is given.
#[test]
fn a_lease_that_is_a_link_is_nobodys_and_is_passed_over() {
    let network = built_in();
    let first = Pod::new("a");
    network.add(&first).ok();
    let store = network.host().scratch().path().join("leases/net");
    symlink("/nowhere", store.join("10.1.0.3")).unwrap();
    let result = network.add(&Pod::new("b")).ok();
    assert_eq!(text(&result["ips"][0]["address"]), "10.1.0.4/32");
    assert!(store.join("10.1.0.3").is_symlink());
}

#[test]
fn a_link_for_a_lock_is_told_with_what_to_do() {
    let network = built_in();
    let victim = network.host().scratch().file("victim", "");
    let store = network.host().scratch().dir("leases/net");
    symlink(&victim, store.join("lock")).unwrap();
    let error: Value = network.add(&Pod::new("a")).error();
    assert!(text(&error["details"]).contains("symbolic link"), "{error}");
    assert!(text(&error["msg"]).contains("store of leases"), "{error}");
}

/// An operator's link makes two names of one store, before or after there are leases.
#[test]
fn two_networks_of_one_store_do_not_collect_each_others_leases() {
    let one = built_in();
    let two = one.clone().with("name", json!("two"));
    let leases = one.host().scratch().path().join("leases");
    let (first, second) = (Pod::new("a"), Pod::new("b"));
    let addresses = [text(&one.add(&first).ok()["ips"][0]["address"]), {
        symlink(leases.join("net"), leases.join("two")).unwrap();
        text(&two.add(&second).ok()["ips"][0]["address"])
    }];
    assert_eq!(addresses, ["10.1.0.2/32", "10.1.0.3/32"]);
    let notes = fs::read_dir(one.root("run/manx/.leases")).unwrap().count();
    assert_eq!(notes, 1, "one store has one directory of notes");
    // Without their links nothing but the journal tells whose they are.
    for name in one.host().links().iter().filter(|name| name.starts_with("cali")) {
        one.host().command("ip", &["link", "del", name]).ok();
    }
    one.gc(&[&first]).ok();
    assert_eq!(one.leases(), ["10.1.0.2", "10.1.0.3"]);
    two.gc(&[]).ok();
    assert_eq!(one.leases(), ["10.1.0.2"]);
    one.gc(&[]).ok();
    assert!(one.leases().is_empty());
}

#[test]
fn ids_and_names_of_any_length_work_whole_or_are_refused_before_anything() {
    let network = built_in();
    let before = network.remains();
    for length in [200, 255, 256, 4000, 4096, 100_000] {
        let pod = Pod { id: "x".repeat(length), ..Pod::new("x") };
        let result = network.add(&pod).ok();
        network.check(&pod, &result).ok();
        network.gc(&[&pod]).ok();
        assert_eq!(network.leases().len(), 1, "{length}");
        network.del(&pod).ok();
        assert_eq!(network.remains(), before, "{length}");
        network.add(&pod).ok();
        network.gc(&[]).ok();
        assert_eq!(network.remains(), before, "{length}");
    }
    for length in [250, 251, 255, 256, 300] {
        let named = network.clone().with("name", json!("n".repeat(length)));
        let pod = Pod::new("a");
        let added = named.with("ipMasq", json!(true)).add(&pod);
        let named = network.clone().with("name", json!("n".repeat(length)));
        assert_eq!(added.succeeded(), length < 256, "{added:?}");
        assert!(added.succeeded() || added.code() == Some(7), "{added:?}");
        assert_eq!(named.status().succeeded(), length < 256);
        named.del(&pod).ok();
        named.gc(&[]).ok();
        assert!(pod.netns.links().is_empty(), "{length}");
        assert!(!named.root("run/manx").join("n".repeat(length)).exists(), "{length}");
    }
}

/// Few open files, little memory: an error that says so, or success; DEL ends it.
#[test]
fn a_runtimes_limits_cost_an_error_and_leave_nothing() {
    let network = built_in();
    let before = network.remains();
    network.add(&Pod::new("first")).ok();
    network.gc(&[]).ok();
    let files = (4..16).map(|count| format!("ulimit -n {count}"));
    let sizes = (1..14).map(|step| format!("ulimit -v {}", 3000 + step * 500));
    let (mut failed, mut succeeded) = (0, 0);
    for limit in files.chain(sizes) {
        let limited = network.clone().wrapped(&format!("{limit}; exec \"$MANX\""));
        let pod = Pod::new("a");
        let reply = limited.add(&pod);
        // What cannot even be loaded is killed by the kernel or the loader.
        let loaded = !reply.stdout.is_empty() || reply.succeeded();
        if loaded {
            assert!(reply.status < 2 && reply.json.is_some(), "{limit}: {reply:?}");
            assert_ne!(reply.code(), Some(199), "{limit}: {reply:?}");
        } else {
            assert!(reply.stderr.contains("loading") || reply.status >= 126, "{limit}: {reply:?}");
        }
        failed += u32::from(!reply.succeeded());
        succeeded += u32::from(reply.succeeded());
        network.del(&pod).ok();
        assert_eq!(network.remains(), before, "{limit}");
    }
    assert!(failed > 3 && succeeded > 3, "{failed} {succeeded}");
}
