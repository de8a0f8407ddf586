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
