//! That `traffic.py`, by which `hack/cluster outage` judges, fails when a packet is lost, and takes none
//! for lost that is only late.

use std::fs;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::Duration;

use crate::enclosure::{missing_tool, output, until};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/integration/cluster/traffic.py");

/// While this file is not there the script goes on.
const STOP: &str = "/run/stop";

/// Long enough for some hundred segments.
const A_WHILE: Duration = Duration::from_millis(1500);

/// What it lacks on this machine.
pub(crate) fn missing() -> Option<String> {
    missing_tool(&["python3", "tc"])
}

fn ip(arguments: &str) -> String {
    output(Command::new("ip").args(arguments.split(' ')))
}

fn script(space: &str, arguments: &[&str]) -> Child {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", space, SCRIPT, STOP]).args(arguments);
    command.stdout(Stdio::piped()).spawn().expect("the script starts")
}

/// What it says of the time in which this happens.
fn talk(what_happens: impl FnOnce()) -> Output {
    let talk = script("client", &["talk", "10.0.0.2", "7007"]);
    // Its ping is the last that it starts.
    until("the script talks", || ip("netns pids client").lines().count() == 2);
    sleep(A_WHILE);
    what_happens();
    fs::write(STOP, "").expect("a file");
    let said = talk.wait_with_output().expect("the script ends");
    fs::remove_file(STOP).expect("the file");
    said
}

/// Drops the next packet of this kind that comes into a namespace, and no other.
fn drop_one(space: &str, kind: &str) {
    let nft = |text: &str| {
        output(Command::new("ip").args(["netns", "exec", space, "nft"]).args(text.split(' ')))
    };
    nft("add table ip test");
    nft("add chain ip test input { type filter hook input priority 0 ; }");
    nft(&format!("add rule ip test input {kind} limit rate 1/day burst 1 packets counter drop"));
    until("a packet is dropped", || nft("list table ip test").contains("packets 1 "));
    nft("delete table ip test");
}

/// Acknowledgments come later than the sender waits for them.
fn delay() {
    let shape = "netns exec client tc qdisc VERB dev eth0 root tbf burst 5kb limit 10mb rate";
    ip(&format!("{} 32kbit", shape.replace("VERB", "add")));
    sleep(A_WHILE);
    // What waits there goes on.
    ip(&format!("{} 1gbit", shape.replace("VERB", "change")));
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
    let mut server = script("server", &["serve", "7007"]);
    let listens = || ip("netns exec server ss -Hltn").lines().count() == 2;
    until("the server listens", listens);

    let judge = |what_happens: fn()| {
        let said = talk(what_happens);
        (said.status.success(), String::from_utf8_lossy(&said.stdout).into_owned())
    };
    let (well, said) = judge(|| sleep(A_WHILE));
    assert!(well && said.contains(" 0 were lost on the way there and 0 on the way back"), "{said}");

    let (well, said) = judge(|| drop_one("server", "tcp dport 7007"));
    assert!(!well && !said.contains(" 0 were lost on the way there"), "{said}");
    let (well, said) = judge(|| drop_one("client", "tcp sport 7007"));
    assert!(!well && !said.contains(" 0 on the way back"), "{said}");
    let (well, said) = judge(|| drop_one("client", "icmp type echo-reply"));
    assert!(!well && said.contains(" 1 lost, the slowest"), "{said}");

    let (well, said) = judge(delay);
    assert!(well && !said.contains(" 0 sent again"), "it takes a late packet for lost: {said}");
    server.kill().expect("it goes on until then");
    server.wait().expect("it ends");
}
