//! What an attachment costs in processes and system calls.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::harness::{Call, Host, Plugin, Pod};
use crate::node::{address, assert_clean, host_local, manx, script, strace};

/// The programs that a call executes, itself first, and its answer.
fn executed(host: &Host, call: &Call) -> (Vec<String>, Value) {
    let (finished, trace) = strace(host, call, &["-f", "-qq", "-e", "trace=execve"]);
    assert_eq!(finished.status, 0, "{finished:?}");
    let started = trace.lines().filter(|line| line.contains("execve(") && !line.contains("ENOENT"));
    let name = |line: &str| {
        let path = line.split('"').nth(1).unwrap_or_default();
        path.rsplit('/').next().unwrap_or_default().to_owned()
    };
    let answer = serde_json::from_str(&finished.stdout).unwrap_or_default();
    (started.map(name).collect(), answer)
}

fn plugin(host: &Host, masquerade: bool) -> Plugin {
    let ipam = host_local(host, &["10.1.0.0/24", "fd00:1::/64"]);
    manx(host, &ipam).with("ipMasq", masquerade.into())
}

#[test]
fn every_verb_is_one_process_and_its_delegate() {
    for masquerade in [false, true] {
        let (host, _outside) = Host::with_uplink();
        let plugin = plugin(&host, masquerade);
        let pod = Pod::new("a");
        // The very first ADD may do more; even that executes nothing else.
        for pod in [&Pod::new("first"), &pod] {
            let (processes, result) = executed(&host, &plugin.call("ADD").pod(pod));
            assert_eq!(processes, ["manx", "host-local"]);
            let check = plugin.call("CHECK").pod(pod).key("prevResult", result.clone());
            assert_eq!(executed(&host, &check).0, ["manx", "host-local"]);
            assert!(host.pings(&address(&result)));
        }
        assert_eq!(executed(&host, &plugin.call("STATUS")).0, ["manx", "host-local"]);
        let valid = json!([{"containerID": pod.id, "ifname": "eth0"}]);
        let gc = plugin.call("GC").key("cni.dev/valid-attachments", valid);
        // One address of the first pod is released, then host-local's own turn.
        assert_eq!(executed(&host, &gc).0, ["manx", "host-local", "host-local"]);
        assert_eq!(executed(&host, &plugin.call("DEL").pod(&pod)).0, ["manx", "host-local"]);
        assert_eq!(executed(&host, &plugin.call("VERSION")).0, ["manx"]);
        assert_clean(&host);
    }
}

/// System calls of our own process in a dual-stack ADD after the network's
/// first, without and with masquerade. Whoever raises a number says in the
/// commit what the pods get for it.
const SYSCALLS_MAX: [(bool, usize); 2] = [(false, 345), (true, 370)];

/// The lines of `strace -f` that are system calls of the plugin and of its
/// threads: not those of a process that it starts, between fork and exec and
/// after.
fn own_syscalls(trace: &str) -> Vec<&str> {
    let pid = |line: &str| line.split_whitespace().next().unwrap_or_default().to_owned();
    let first = trace.lines().next().map(pid).expect("a traced process");
    let programs: HashSet<String> = trace
        .lines()
        .filter(|line| line.contains(" execve("))
        .map(pid)
        .filter(|process| *process != first)
        .collect();
    assert_eq!(programs.len(), 1, "one process besides us");
    let is_call = |line: &&str| line.contains('(') && !line.contains(" resumed>");
    trace.lines().filter(is_call).filter(|line| !programs.contains(&pid(line))).collect()
}

#[test]
fn an_add_makes_no_more_system_calls_than_it_may() {
    for (masquerade, most) in SYSCALLS_MAX {
        let (host, _outside) = Host::with_uplink();
        // A shell that only uses its own words: no process behind the delegate.
        let answer = r#"{"ips":[{"address":"10.1.0.5/24"},{"address":"fd00:1::5/64"}]}"#;
        let first = answer.replace("5/24", "4/24").replace("::5", "::4");
        let choose = format!(
            "while read -r line; do :; done
             case $CNI_CONTAINERID in first*) echo '{first}';; *) echo '{answer}';; esac"
        );
        script(&host, "builtin", &choose);
        let plugin = manx(&host, &json!({"type": "builtin"})).with("ipMasq", masquerade.into());
        plugin.add(&Pod::new("first")).ok();
        let pod = Pod::new("a");
        let (finished, trace) = strace(&host, &plugin.call("ADD").pod(&pod), &["-f", "-qq"]);
        assert_eq!(finished.status, 0, "{finished:?}");
        let calls = own_syscalls(&trace);
        println!("ADD with ipMasq {masquerade}: {} system calls of at most {most}", calls.len());
        assert!(calls.len() <= most, "more than {most}:\n{}", calls.join("\n"));
    }
}
