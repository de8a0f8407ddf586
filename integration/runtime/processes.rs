// SPDX-License-Identifier: Apache-2.0
//! What an attachment costs in processes.

use serde_json::{Value, json};

use crate::harness::{Call, Host, Plugin, Pod};
use crate::node::{address, assert_clean, host_local, manx, strace};

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
        // The first pod's addresses are released in the store itself.
        assert_eq!(executed(&host, &gc).0, ["manx", "host-local"]);
        assert_eq!(executed(&host, &plugin.call("DEL").pod(&pod)).0, ["manx", "host-local"]);
        assert_eq!(executed(&host, &plugin.call("VERSION")).0, ["manx"]);
        assert_clean(&host);
    }
}
