// SPDX-License-Identifier: Apache-2.0
//! `manx capture --path`: the programs that it starts, and that none of them is left.

use std::{
    fs,
    os::unix::process::ExitStatusExt,
    process::{Child, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    Node,
    harness::{DEADLINE, Stdin, eventually, run},
};

/// Stands for a tcpdump that sees nothing.
const SILENT: &str = "#!/bin/sh\necho $$ >>\"${0%/*}/started\"\nexec sleep 1000\n";
/// One that fails on the uplink.
const FAILING: &str = "#!/bin/sh\necho $$ >>\"${0%/*}/started\"\n\
    case \"$*\" in *'-tt --immediate-mode -i up0'*) echo 'tcpdump: listening' >&2;\n\
    echo 'tcpdump: up0: it is on fire' >&2; exit 1;; esac\nexec sleep 1000\n";

/// A node with a pod, a tunnel and an uplink.
fn node() -> Node {
    let node = Node::new();
    for command in [
        "link add up0 type veth peer name up1",
        "address add 192.0.2.11/24 dev up0",
        "link set up1 up",
        "link set up0 up",
        "route add default via 192.0.2.1",
        "link add vxlan.calico type vxlan id 4096 dstport 4789 dev up0 local 192.0.2.11",
        "link set vxlan.calico alias manx1-fabric",
    ] {
        node.host.command("ip", &command.split(' ').collect::<Vec<_>>()).ok();
    }
    node
}

/// The programs that were started and have not ended.
fn running(node: &Node) -> (usize, usize) {
    let started = fs::read_to_string(node.host.scratch().path().join("tools/started"));
    let started = started.unwrap_or_default();
    // One that nobody reaps has ended as well.
    let runs = |process: &&str| {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with(['Z', 'X']))
    };
    (started.lines().count(), started.lines().filter(runs).count())
}

fn start(node: &Node, program: &str) -> Child {
    let tools = node.host.scratch().dir("tools");
    let _ = fs::remove_file(tools.join("started"));
    node.host.scratch().script("tools/tcpdump", program);
    let mut command = node.command(&["capture", "--path", "default/web", "icmp"]);
    let path = std::env::var("PATH").unwrap();
    command.env("PATH", format!("{}:{path}", tools.display()));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    node.host.enter(|| command.spawn().unwrap())
}

/// On the pod's link, the tunnel and the uplink, and two for what is in the tunnel there.
const PROGRAMS: usize = 5;

#[test]
fn however_it_ends_nothing_is_left() {
    let node = node();
    let _pod = node.pod("web");
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGKILL] {
        let mut child = start(&node, SILENT);
        let all = || running(&node) == (PROGRAMS, PROGRAMS);
        assert!(eventually(DEADLINE, all), "{signal}: {:?}", running(&node));
        kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
        let status = child.wait().unwrap();
        let killed = (signal == Signal::SIGKILL).then_some(signal as i32);
        assert_eq!(status.signal(), killed, "{signal}");
        assert!(status.success() || killed.is_some(), "{signal}: {status}");
        let none = || running(&node) == (PROGRAMS, 0);
        assert!(eventually(DEADLINE, none), "{signal}: {:?}", running(&node));
    }
}

#[test]
fn one_that_fails_ends_all_and_is_told() {
    let node = node();
    let _pod = node.pod("web");
    let done = start(&node, FAILING).wait_with_output().unwrap();
    let said = String::from_utf8(done.stderr).unwrap();
    assert_eq!(done.status.code(), Some(1), "{said}");
    assert!(said.ends_with("manx: tcpdump on up0: up0: it is on fire\n"), "{said}");
    assert_eq!(running(&node), (PROGRAMS, 0));

    let mut without = node.command(&["capture", "--path", "default/web"]);
    without.env("PATH", "/nowhere");
    let said = node.host.enter(|| run(without, &Stdin::Null, DEADLINE));
    assert!(said.status == 1 && said.stderr.contains("package tcpdump"), "{said:?}");
    for (arguments, words) in [
        (&["--path", "default/web", "-c", "1"][..], "FILTER is an expression"),
        (&["--path", "--count", "0", "default/web"], "a number from 1"),
        (&["--seconds", "x", "--path", "default/web"], "a number from 1"),
        (&["--seconds", "5", "default/web"], "of --path"),
    ] {
        let said = node.manx(&[&["capture"], arguments].concat());
        assert!(said.status == 2 && said.stderr.contains(words), "{arguments:?}: {said:?}");
    }
}
