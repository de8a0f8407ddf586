// SPDX-License-Identifier: Apache-2.0
//! That `traffic.py`, by which `hack/cluster outage` judges, fails when a packet is lost or comes too late, and
//! takes none for lost that is only late.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use crate::enclosure::{missing_tool, output, until};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/integration/cluster/traffic.py");

/// Where it finds what it calls first.
const PROGRAMS: &str = "/run/programs";

/// While this file is not there the script goes on.
const STOP: &str = "/run/stop";

/// Long enough for some hundred segments.
const A_WHILE: Duration = Duration::from_millis(1500);

/// What may take how many seconds: shorter than that, and longer than a busy machine needs.
const LATE: &str = "1";
const LENIENT: &str = "60";

/// In place of cnitool: a pod is linked with the server, and the plugin is a child of this.
const CNITOOL: &str = r#"#!/bin/sh
set -e
pod="${3##*/}"
if [ "$1" = del ]; then
  ip -n server link del pod
  exit
fi
ip link add eth0 netns "$pod" type veth peer name pod netns server
for end in "$pod eth0 10.0.1.1/24" "server pod 10.0.1.2/24"; do
  set -- $end
  ip -n "$1" address add "$3" dev "$2"
  ip -n "$1" link set "$2" up
done
touch /run/called
while [ -e /run/called ]; do sleep 0.01; done
manx 1
"#;

/// What it lacks on this machine.
pub(crate) fn missing() -> Option<String> {
    missing_tool(&["python3", "tc"])
}

fn ip(arguments: &str) -> String {
    output(Command::new("ip").args(arguments.split(' ')))
}

fn script(late: &str, space: &str, arguments: &[&str]) -> Child {
    let mut command = Command::new("ip");
    let path = std::env::var("PATH").expect("a path");
    command.env("PATH", format!("{PROGRAMS}:{path}")).env("MANX_TRAFFIC_LATE", late);
    command.args(["netns", "exec", space, SCRIPT, STOP]).args(arguments);
    command.stdout(Stdio::piped()).spawn().expect("the script starts")
}

/// What it says when it is to end.
fn ended(script: Child) -> (bool, String) {
    fs::write(STOP, "").expect("a file");
    let said = script.wait_with_output().expect("the script ends");
    fs::remove_file(STOP).expect("the file");
    (said.status.success(), String::from_utf8_lossy(&said.stdout).into_owned())
}

/// What it says of the time in which this happens.
fn talk(late: &str, what_happens: impl FnOnce()) -> (bool, String) {
    let talk = script(late, "client", &["talk", "10.0.0.2", "7007"]);
    // Its ping is the last that it starts.
    until("the script talks", || ip("netns pids client").lines().count() == 2);
    sleep(A_WHILE);
    what_happens();
    ended(talk)
}

fn nft(space: &str, text: &str) -> String {
    output(Command::new("ip").args(["netns", "exec", space, "nft"]).args(text.split(' ')))
}

/// Drops packets of this kind that come into a namespace.
fn drop_all(space: &str, kind: &str) {
    nft(space, "add table ip test");
    nft(space, "add chain ip test input { type filter hook input priority 0 ; }");
    nft(space, &format!("add rule ip test input {kind} counter drop"));
}

/// Drops the next packet of this kind that comes into a namespace, and no other.
fn drop_one(space: &str, kind: &str) {
    drop_all(space, &format!("{kind} limit rate 1/day burst 1 packets"));
    until("a packet is dropped", || nft(space, "list table ip test").contains("packets 1 "));
    nft(space, "delete table ip test");
}

/// For a while acknowledgments come later than the sender waits for them.
fn delay() {
    let shape = "netns exec client tc qdisc replace dev eth0 root tbf burst 5kb limit 10mb rate";
    ip(&format!("{shape} 32kbit"));
    sleep(A_WHILE);
    // What waits there goes on.
    ip(&format!("{shape} 1gbit"));
}

pub(crate) fn judges() {
    fs::create_dir_all("/run/netns").expect("a directory in the enclosure");
    for space in ["client", "server"] {
        ip(&format!("netns add {space}"));
        ip(&format!("-n {space} link set lo up"));
    }
    ip("link add eth0 netns client type veth peer name eth0 netns server");
    for (space, address) in [("client", "10.0.0.1/24"), ("server", "10.0.0.2/24")] {
        ip(&format!("-n {space} address add {address} dev eth0"));
        ip(&format!("-n {space} link set eth0 up"));
    }
    let mut server = script(LENIENT, "server", &["serve", "7007"]);
    let listens = || ip("netns exec server ss -Hltn").lines().count() == 2;
    until("the server listens", listens);

    let (well, said) = talk(LENIENT, || sleep(A_WHILE));
    assert!(well && said.contains(" 0 were lost on the way there and 0 on the way back"), "{said}");

    let (well, said) = talk(LENIENT, || drop_one("server", "tcp dport 7007"));
    assert!(!well && !said.contains(" 0 were lost on the way there"), "{said}");
    let (well, said) = talk(LENIENT, || drop_one("client", "tcp sport 7007"));
    assert!(!well && !said.contains(" 0 on the way back"), "{said}");
    let (well, said) = talk(LENIENT, || drop_one("client", "icmp type echo-reply"));
    assert!(!well && said.contains(" 1 lost, the slowest"), "{said}");
    let (well, said) = talk(LENIENT, || {
        drop_all("client", "icmp type echo-reply");
        sleep(A_WHILE);
    });
    assert!(!well && !said.contains(" 0 lost, the slowest"), "no answer comes any more: {said}");
    nft("client", "delete table ip test");

    let (well, said) = talk(LENIENT, delay);
    assert!(well && !said.contains(" 0 sent again"), "it takes a late packet for lost: {said}");
    let (well, said) = talk(LATE, delay);
    assert!(
        !well && said.contains(" 0 lost, the slowest") && said.contains("more than 1 s"),
        "{said}"
    );

    judges_pods();
    server.kill().expect("it goes on until then");
    server.wait().expect("it ends");
}

/// Of pods that come and go the first packet is answered; and a process is killed when the plugin that this
/// runtime calls is executed, not another one.
fn judges_pods() {
    fs::create_dir_all(PROGRAMS).expect("a directory in the enclosure");
    let program = |name: &str| Path::new(PROGRAMS).join(name);
    fs::write(program("cnitool"), CNITOOL).expect("a file");
    fs::set_permissions(program("cnitool"), fs::Permissions::from_mode(0o755)).expect("a mode");
    fs::copy("/bin/sleep", program("manx")).expect("a program");
    let pods = || script(LENIENT, "client", &["pods", "net", "10.0.1.2"]);
    let is_called = || Path::new("/run/called").exists();
    let goes_on = || fs::remove_file("/run/called").expect("cnitool waits");

    let mut other = Command::new(program("manx")).arg("600").spawn().expect("it starts");
    let mut victim = Command::new("sleep").arg("600").spawn().expect("it starts");
    fs::write(format!("{STOP}.kill"), format!("add {}", victim.id())).expect("a file");
    let running = pods();
    until("a pod is added", is_called);
    sleep(A_WHILE);
    assert_eq!(victim.try_wait().expect("a child"), None, "a plugin of somebody else is executed");
    goes_on();
    until("it is killed", || victim.try_wait().expect("a child").is_some());
    other.kill().expect("it goes on until then");
    other.wait().expect("it ends");
    until("another pod is added", is_called);
    fs::write(STOP, "").expect("a file");
    goes_on();
    let (well, said) = ended(running);
    assert!(well && said.contains("pods: 2 were added"), "{said}");

    let running = pods();
    until("a pod is added", is_called);
    drop_all("server", "icmp type echo-request limit rate 1/day burst 1 packets");
    goes_on();
    let said = running.wait_with_output().expect("the script ends");
    assert!(!said.status.success(), "it lost the first packet: {said:?}");
    nft("server", "delete table ip test");
}
