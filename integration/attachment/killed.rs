// SPDX-License-Identifier: Apache-2.0
//! The runtime gives up and kills the plugin, with SIGKILL and at any moment:
//! the DEL that follows leaves nothing.

use serde_json::Value;

use crate::harness::{DEADLINE, Pod, eventually};
use crate::network::Network;

/// The status of a process that SIGKILL ended.
const KILLED: i32 = 128 + 9;

/// Kills the plugin when it enters the n-th of these system calls, which then
/// is not carried out; n goes from 1 until the plugin lives to its end. After
/// each death `recover` is to clean up, and nothing may be left.
fn kill_at_each(calls: &str, recover: impl Fn(&Network, &Pod)) -> u32 {
    let network = Network::new().dual();
    let mortal = network.clone().wrapped(&format!(
        "exec strace -qq -o /dev/null -e trace={calls} \
         -e \"inject={calls}:signal=KILL:when=$KILL_AT\" \"$MANX\""
    ));
    let before = network.remains();
    for at in 1..=100 {
        let pod = Pod::new("a").kubernetes("test", "pod1");
        let reply = mortal.clone().env("KILL_AT", &at.to_string()).add(&pod);
        if reply.succeeded() {
            network.del(&pod).ok();
            assert_eq!(network.remains(), before);
            return at - 1;
        }
        assert_eq!(reply.status, KILLED, "{calls} number {at}: {reply:?}");
        recover(&network, &pod);
        assert_eq!(network.remains(), before, "{calls} number {at}");
        assert!(pod.netns.links().is_empty(), "{calls} number {at}");
    }
    0
}

#[test]
fn del_leaves_nothing_of_an_add_killed_at_any_message_to_the_kernel() {
    let deaths = kill_at_each("sendto,sendmsg", |network, pod| {
        network.del(pod).ok();
    });
    assert!(deaths >= 5, "only {deaths} deaths: is strace at work?");
}

#[test]
fn del_without_namespace_and_arguments_leaves_nothing_of_it_either() {
    let deaths = kill_at_each("sendto,sendmsg,rename", |network, pod| {
        let nameless = Pod { args: None, ..pod.clone() };
        network.call("DEL").pod(&nameless).without("CNI_NETNS").run().ok();
    });
    assert!(deaths >= 6, "only {deaths} deaths: is strace at work?");
}

#[test]
fn del_leaves_nothing_of_an_add_killed_at_any_file() {
    let deaths = kill_at_each("write,rename,mkdir,flock", |network, pod| {
        network.del(pod).ok();
    });
    assert!(deaths >= 4, "only {deaths} deaths: is strace at work?");
}

#[test]
fn a_new_sandbox_of_the_pod_starts_after_an_add_was_killed_at_any_message() {
    let deaths = kill_at_each("sendto,sendmsg", |network, pod| {
        let next = Pod::new("next").kubernetes("test", "pod1");
        let result = network.add(&next).ok();
        network.del(pod).ok();
        network.check(&next, &result).ok();
        network.del(&next).ok();
    });
    assert!(deaths >= 5, "only {deaths} deaths: is strace at work?");
}

/// The runtime kills the plugin alone, while the delegate is at work or has
/// just allocated.
#[test]
fn del_releases_what_a_delegate_allocated_while_the_plugin_was_killed() {
    for body in [
        "\"$REFERENCE/host-local\" >/dev/null; test $CNI_COMMAND != ADD || kill -9 $PPID",
        "test $CNI_COMMAND != ADD || kill -9 $PPID; exec \"$REFERENCE/host-local\"",
    ] {
        let network = Network::new();
        let section = network.conf["ipam"].clone();
        let network = network.script(body);
        let mut scripted = section;
        scripted["type"] = Value::from("scripted");
        let network = network.with("ipam", scripted);
        let before = network.remains();
        let pod = Pod::new("a");
        assert_eq!(network.add(&pod).status, KILLED);
        network.del(&pod).ok();
        assert!(eventually(DEADLINE, || network.remains() == before), "{:?}", network.remains());
    }
}

/// Names of files that are being written, anywhere below the node's directory.
fn temporary(network: &Network) -> Vec<String> {
    let mut pending = vec![network.host().scratch().path().to_owned()];
    let mut found = Vec::new();
    while let Some(directory) = pending.pop() {
        for file in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let name = file.file_name().to_string_lossy().into_owned();
            let of_a_process = name.strip_prefix('.').and_then(|name| name.split('.').next());
            let written = of_a_process.is_some_and(|id| id.parse::<u32>().is_ok());
            found.extend((written || name.starts_with(".manx-")).then(|| name.clone()));
            pending.extend(file.file_type().is_ok_and(|kind| kind.is_dir()).then(|| file.path()));
        }
    }
    found
}

/// ADD, DEL and GC, each killed at each call by which it changes something: a later DEL
/// and GC leave neither an attachment nor a file that was being written.
#[test]
fn no_kill_leaves_a_temporary_file_behind_the_next_collection() {
    let calls = "write,rename,renameat,renameat2,link,linkat,unlink,unlinkat,symlink,symlinkat";
    let network = Network::new();
    let leases = network.host().scratch().dir("leases").display().to_string();
    let ranges = serde_json::json!([[{"subnet": "10.1.0.0/24"}]]);
    let ipam = serde_json::json!({"type": "manx-ipam", "dataDir": leases, "ranges": ranges});
    let network = network.ipam(ipam);
    let mortal = network.clone().wrapped(&format!(
        "exec strace -qq -o /dev/null -e trace={calls} \
         -e \"inject={calls}:signal=KILL:when=$KILL_AT\" \"$MANX\""
    ));
    network.add(&Pod::new("first")).ok();
    network.gc(&[]).ok();
    let before = network.remains();
    for verb in ["ADD", "DEL", "GC"] {
        let mut deaths = 0;
        for at in 1..=60 {
            let pod = Pod::new("a");
            if verb != "ADD" {
                network.add(&pod).ok();
            }
            let mortal = mortal.clone().env("KILL_AT", &at.to_string());
            let reply = match verb {
                "GC" => mortal.gc(&[]),
                verb => mortal.call(verb).pod(&pod).run(),
            };
            assert!([0, KILLED].contains(&reply.status), "{verb} {at}: {reply:?}");
            network.del(&pod).ok();
            network.gc(&[]).ok();
            assert_eq!(network.remains(), before, "{verb} killed at {at}");
            assert_eq!(temporary(&network), [""; 0], "{verb} killed at {at}");
            if reply.succeeded() {
                break;
            }
            deaths += 1;
        }
        assert!(deaths >= 3, "{verb}: only {deaths} deaths: is strace at work?");
    }
}
