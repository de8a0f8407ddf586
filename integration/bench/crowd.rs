// SPDX-License-Identifier: Apache-2.0
//! A node full of pods, made without a plugin: links, routes, leases and, for
//! manx, the journal, as the plugin would have left them.
//!
//! The pods' ends are all in one namespace, for what a plugin meets on the node
//! is the same.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::harness::{Netns, Stdin, run};
use crate::subjects::{NETWORK, Node};

/// What a Linux bridge holds (BR_MAX_PORTS), less those to be measured.
pub const BRIDGE_PORTS_MAX: usize = 1000;

/// The group of the links, by which they all go at once.
const GROUP: &str = "4242";

/// Makes the node one with so many pods besides those that it has.
pub fn fill(node: &Node, pods: usize) {
    if pods == 0 {
        return;
    }
    let mut sample = node.place(30_000);
    node.add(&mut sample);
    let group = shape(node);
    let parking = Netns::new();
    let there = parking.path().display().to_string();
    let (mut here, mut inside) = (String::new(), String::new());
    for number in 0..pods {
        let (link, address) = (format!("cali{number:011x}"), address(number));
        let alias = format!("manx1 {NETWORK} {} eth0", id(number));
        let _ = writeln!(here, "link add {link} type veth peer name p{number} netns {there}");
        let _ = writeln!(here, "link set {link} group {group} alias \"{alias}\" up");
        let _ = writeln!(inside, "link set p{number} up");
        let _ = if node.kind.is_bridged() {
            writeln!(here, "link set {link} master cni0")
        } else {
            writeln!(here, "route add {address} dev {link} scope link")
        };
    }
    batch(&node.host, here);
    batch(&parking, inside);
    leases(node, pods);
    if node.kind.is_manx() {
        journal(node, pods, &sample.pod.id);
    }
    node.del(&mut sample);
}

/// Takes the links away; together, for one by one is a matter of a minute.
pub fn clear(node: &Node) {
    for group in [shape_of(node).as_deref().unwrap_or(GROUP), GROUP] {
        // Nothing is of that group on an empty node.
        node.host.command("ip", &["link", "delete", "group", group]);
    }
}

/// The group of a link of this plugin.
fn shape(node: &Node) -> String {
    shape_of(node).unwrap_or_else(|| GROUP.into())
}

fn shape_of(node: &Node) -> Option<String> {
    let links = node.host.ip(&["-N", "link", "show"]);
    let own = links
        .as_array()?
        .iter()
        .find(|link| link["ifname"].as_str().is_some_and(|name| name.starts_with("cali")))?;
    let group = own["group"].as_str()?.to_owned();
    (group != "0" && group != "default").then_some(group)
}

fn batch(netns: &Netns, lines: String) {
    netns.enter(|| {
        let mut command = Command::new("ip");
        command.args(["-batch", "-"]);
        run(command, &Stdin::Bytes(lines.into()), Duration::from_secs(120)).ok();
    });
}

fn id(number: usize) -> String {
    format!("{:064x}", 0xabc_0000 + number)
}

fn address(number: usize) -> String {
    format!("10.88.{}.{}", 1 + number / 250, number % 250 + 1)
}

/// Leases in host-local's format; the next address is one beyond them.
fn leases(node: &Node, pods: usize) {
    let directory = node.host.scratch().path().join("leases").join(NETWORK);
    for number in 0..pods {
        let content = format!("{}\r\neth0", id(number));
        fs::write(directory.join(address(number)), content).expect("write a lease");
    }
    let last = directory.join("last_reserved_ip.0");
    fs::write(last, address(pods - 1)).expect("write the last lease");
}

/// Entries like that of the pod `like`.
fn journal(node: &Node, pods: usize, like: &str) {
    let directory = node.host.scratch().path().join("root/run/manx").join(NETWORK);
    let entry = |id: &str| directory.join(format!("{id}:eth0"));
    let text = fs::read_to_string(entry(like)).expect("the journal entry of a pod");
    let mut content: Value = serde_json::from_str(&text).expect("JSON");
    for number in 0..pods {
        content["containerId"] = id(number).into();
        content["hostLink"] = format!("cali{number:011x}").into();
        content["addresses"] = vec![address(number)].into();
        content["podName"] = format!("filler-{number}").into();
        fs::write(entry(&id(number)), content.to_string()).expect("write a journal entry");
    }
}
