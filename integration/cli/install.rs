// SPDX-License-Identifier: Apache-2.0
//! What `manx install` puts in place: the program, the configurations, the words to daemons.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use serde_json::{Value, json};

use crate::harness::{DEADLINE, Host, Plugin, Pod, Stdin, eventually, plugin_dir, run};
use crate::{MANX, Node};

#[test]
fn what_install_copies_works_and_is_known_again() {
    let node = Node::new();
    let root = node.host.scratch().dir("root");
    let said = node.manx(&["install"]).ok();
    assert!(said.contains("/opt/cni/bin/manx: installed"), "{said}");
    let binary = root.join("opt/cni/bin/manx");
    let version = run(
        {
            let mut command = Command::new(&binary);
            command.arg("version");
            command
        },
        &Stdin::Null,
        DEADLINE,
    );
    assert_eq!(version.ok(), node.host.command(MANX, &["version"]).ok());
    // Another build of this program is recognised and replaced, unasked.
    let mut bytes = fs::read(&binary).unwrap();
    bytes.push(0);
    fs::write(&binary, &bytes).unwrap();
    let said = node.manx(&["install", "--no-conf"]).ok();
    assert!(said.contains("/opt/cni/bin/manx: replaced"), "{said}");
    assert!(fs::read(&binary).unwrap() == fs::read(MANX).unwrap());
}

#[test]
fn a_runtime_that_waits_for_a_write_sees_the_configuration() {
    let node = Node::new();
    let conf = node.host.scratch().dir("root/etc/cni/net.d");
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK).unwrap();
    let events = AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_MODIFY;
    inotify.add_watch(&conf, events).unwrap();
    // The first run makes the file; the second finds it and wakes the runtime
    // again, in case it was the first one's write that was lost.
    for moved in [true, false] {
        node.manx(&["install", "--no-dropins"]).ok();
        let seen: Vec<AddWatchFlags> = inotify
            .read_events()
            .unwrap()
            .into_iter()
            .filter(|event| event.name.as_deref() == Some("10-manx.conflist".as_ref()))
            .map(|event| event.mask)
            .collect();
        assert_eq!(seen.contains(&AddWatchFlags::IN_MOVED_TO), moved, "{seen:?}");
        assert_eq!(seen.last(), Some(&AddWatchFlags::IN_MODIFY), "{seen:?}");
    }
}

#[test]
fn a_watch_waits_for_a_configuration() {
    let node = Node::new();
    let _web = node.pod("web");
    let link = node.pods()[0]["hostLink"].as_str().unwrap().to_owned();
    let mut command = node.command(&["apply", "--watch"]);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut watch = node.host.enter(|| command.spawn().unwrap());
    let mut said = BufReader::new(watch.stderr.take().unwrap()).lines();
    // There is no directory, then an empty one, then a file that is no good.
    let first = said.next().unwrap().unwrap();
    assert!(first.ends_with("; waiting for a configuration"), "{first}");
    let directory = node.host.scratch().dir("root/etc/cni/net.d");
    assert!(said.next().unwrap().unwrap().contains("names manx"));
    fs::write(directory.join("10-a.conf"), r#"{"type": "manx", "name": "net"}"#).unwrap();
    assert!(said.next().unwrap().unwrap().contains("10-a.conf: "));
    let up = || node.pods()[0]["state"] == "up";
    node.host.command("ip", &["link", "set", &link, "down"]).ok();
    fs::write(directory.join("10-a.conf"), node.plugin.conf.to_string()).unwrap();
    let repaired = eventually(DEADLINE, up);
    let _ = watch.kill();
    watch.wait().unwrap();
    let rest: Vec<String> = said.map_while(Result::ok).collect();
    assert!(repaired, "the link is down still: {rest:?}");
}

/// The shipped files: the default, then the examples.
fn shipped() -> Vec<PathBuf> {
    let conf = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf");
    let examples = fs::read_dir(conf.join("examples")).unwrap().flatten().map(|file| file.path());
    let mut files: Vec<PathBuf> = examples.chain([conf.join("10-manx.conflist")]).collect();
    files.sort();
    files
}

#[test]
fn every_shipped_configuration_attaches_a_pod() {
    for file in shipped() {
        let (host, _outside) = Host::with_uplink();
        let list: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        let mut conf = list["plugins"][0].clone();
        conf["name"] = list["name"].clone();
        conf["cniVersion"] = list["cniVersion"].clone();
        conf["ipam"]["dataDir"] = json!(host.scratch().dir("leases"));
        let plugin = Plugin::new(&host, MANX).config(conf.clone());
        let pod = Pod::new("a").kubernetes("default", "a");
        plugin.add(&pod).ok();
        let first = pod.netns.addresses("eth0")[0].clone();
        assert!(host.pings(first.split('/').next().unwrap()), "{}", file.display());
        drop_in_agrees(&host);
        plugin.del(&pod).ok();
        assert!(pod.netns.links().is_empty(), "{}", file.display());
    }
}

/// That the sysctl drop-in says of host links what ADD wrote.
fn drop_in_agrees(host: &Host) {
    let text = include_str!("../../conf/sysctl.d/90-manx.conf");
    let link = host.links().into_iter().find(|name| name.starts_with("cali")).unwrap();
    let ipv6 = host.sysctl("ipv6/conf/all/forwarding") == "1";
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (key, value) = line.trim_start_matches('-').split_once(" = ").unwrap();
        let key = key.strip_prefix("net.").unwrap().replace("cali*", &link).replace('.', "/");
        if ipv6 || !key.starts_with("ipv6") {
            assert_eq!(host.sysctl(&key), value, "{key}");
        }
    }
}

#[test]
fn an_installed_node_validates() {
    let node = Node::new();
    let bin = node.host.scratch().dir("root/opt/cni/bin");
    for plugin in fs::read_dir(plugin_dir()).unwrap().flatten() {
        std::os::unix::fs::symlink(plugin.path(), bin.join(plugin.file_name())).unwrap();
    }
    let said = node.manx(&["install"]).ok();
    assert!(!said.contains("error"), "{said}");
    node.manx(&["install", "--name", "calico"]).ok();
    let validate = |arguments: &[&str]| {
        let mut command = node.command(&[&["validate"], arguments].concat());
        command.env_remove("CNI_PATH");
        node.host.enter(|| run(command, &Stdin::Null, DEADLINE))
    };
    let said = validate(&[]).ok();
    assert!(said.contains("files: 1, errors: 0, warnings: 0"), "{said}");
    assert!(said.contains("no NetworkPolicy is enforced for pods of this network"), "{said}");
    for file in shipped() {
        let said = validate(&[file.to_str().unwrap()]).ok();
        assert!(said.contains("errors: 0"), "{said}");
        let enforces = fs::read_to_string(&file).unwrap().contains(r#""networkPolicy": "enforce""#);
        assert_ne!(said.contains("no NetworkPolicy is enforced"), enforces, "{said}");
    }
    fs::remove_file(bin.join("portmap")).unwrap();
    let said = validate(&["--json"]);
    assert_eq!(said.status, 3);
    let said: Value = serde_json::from_str(&said.stdout).unwrap();
    let missing = &said["checks"][1];
    assert_eq!(missing["id"], "delegate-missing", "{said}");
    assert!(missing["object"].as_str().unwrap().ends_with(" plugins[1].type"), "{said}");
}
