// SPDX-License-Identifier: Apache-2.0
//! What a verb looks at: its own files, and not those of five hundred others.

use std::fs;
use std::net::IpAddr;

use crate::ground::{Ground, Program, address, strace};
use crate::harness::{Call, Plugin, Pod};

const OTHERS: usize = 500;

/// What a call did to the files of the store: the addresses whose files it
/// opened, and whether it listed the directory.
#[derive(Debug)]
struct Looked {
    opened: Vec<String>,
    listed: usize,
}

fn looked(ground: &Ground, call: &Call) -> Looked {
    let trace = ground.host.scratch().path().join("trace");
    let calls = "trace=open,openat,openat2,readlink,getdents,getdents64";
    let args = ["-f", "-qq", "-y", "-o", trace.to_str().unwrap(), "-e", calls];
    let finished = strace(&ground.host, call, &args);
    assert_eq!(finished.status, 0, "{finished:?}");
    let trace = fs::read_to_string(&trace).unwrap();
    let store = ground.store().display().to_string();
    let of_store = || trace.lines().filter(|line| line.contains(&store));
    let opens = of_store().filter(|line| line.contains(" open"));
    let name = |line: &str| Some(line.split('"').nth(1)?.rsplit('/').next()?.to_owned());
    let opened: Vec<String> =
        opens.filter_map(name).filter(|name| name.parse::<IpAddr>().is_ok()).collect();
    Looked { opened, listed: of_store().filter(|line| line.contains(" getdents")).count() }
}

/// A store with leases of others, all noted.
fn crowded() -> (Ground, Plugin) {
    let ground = Ground::new();
    for number in 0..OTHERS {
        let name = format!("10.1.{}.{}", number / 250, number % 250 + 2);
        ground.write(&name, &format!("other{number}\r\neth0"));
    }
    ground.write("last_reserved_ip.0", "10.1.1.251");
    let plugin = ground.ipam_plugin(Program::Manx, &ground.ipam(&["10.1.0.0/16"]));
    plugin.add(&ground.container("first", "eth0")).ok();
    (ground, plugin)
}

fn add(ground: &Ground, plugin: &Plugin, pod: &Pod) -> Looked {
    looked(ground, &plugin.call("ADD").pod(pod))
}

fn del(ground: &Ground, plugin: &Plugin, pod: &Pod) -> Looked {
    looked(ground, &plugin.call("DEL").pod(pod))
}

#[test]
fn add_and_del_open_no_lease_but_their_own() {
    let (ground, plugin) = crowded();
    for id in ["a", "b"] {
        let pod = ground.container(id, "eth0");
        let looked = add(&ground, &plugin, &pod);
        assert_eq!((looked.opened.len(), looked.listed), (0, 0), "ADD: {looked:?}");
        let leases = ground.leases();
        let own = leases.iter().find(|(_, content)| content.starts_with(id)).unwrap().0;
        let looked = del(&ground, &plugin, &pod);
        assert!(looked.opened.iter().all(|name| name == own), "DEL: {looked:?}");
        assert_eq!(looked.listed, 0, "DEL: {looked:?}");
        let looked = del(&ground, &plugin, &pod);
        assert_eq!((looked.opened.len(), looked.listed), (0, 0), "DEL again: {looked:?}");
    }
    assert_eq!(ground.leases().len(), OTHERS + 1);
}

/// host-local, or a person, was there: one look at everything, and no more.
#[test]
fn after_a_foreign_change_all_are_read_once() {
    let (ground, plugin) = crowded();
    let theirs = ground.ipam_plugin(Program::HostLocal, &ground.ipam(&["10.1.0.0/16"]));
    let pods = ["a", "b"].map(|id| ground.container(id, "eth0"));
    let other = ground.container("theirs", "eth0");
    let added = address(&theirs.add(&other).ok());
    let looked = add(&ground, &plugin, &pods[0]);
    assert!(looked.opened.len() > OTHERS && looked.opened.contains(&added), "{looked:?}");
    assert!(looked.listed > 0);
    let looked = add(&ground, &plugin, &pods[1]);
    assert_eq!((looked.opened.len(), looked.listed), (0, 0), "{looked:?}");
    theirs.del(&pods[0]).ok();
    let looked = del(&ground, &plugin, &other);
    assert!(looked.opened.len() > OTHERS, "{looked:?}");
    let looked = del(&ground, &plugin, &pods[1]);
    assert!(looked.opened.len() <= 2 && looked.listed == 0, "{looked:?}");
    assert_eq!(ground.leases().len(), OTHERS + 1);
}
