// SPDX-License-Identifier: Apache-2.0
//! A failed ADD, wherever it fails, leaves nothing: no link, no route, no
//! lease, no journal entry. And it tells the cause.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::harness::{DEADLINE, Pod, Reply, Stdin, run};
use crate::network::{Network, text};

/// An IPAM plugin that passes everything on to host-local, and notes it.
const THROUGH: &str = "exec \"$REFERENCE/host-local\"";

/// Adds a pod, which must fail and leave nothing; gives the error.
#[track_caller]
fn leaves_nothing(network: &Network) -> Value {
    let before = network.remains();
    let pod = Pod::new("a").kubernetes("test", "pod1");
    let reply = network.add(&pod);
    let documents = serde_json::Deserializer::from_str(&reply.stdout).into_iter::<Value>().count();
    assert_eq!(documents, 1, "{reply:?}");
    let error = reply.error();
    assert_eq!(network.remains(), before, "after {error}");
    assert!(pod.netns.links().is_empty(), "after {error}");
    // The DEL that a runtime sends after a failed ADD.
    network.del(&pod).ok();
    assert_eq!(network.remains(), before);
    error
}

#[test]
fn a_delegate_that_fails_is_asked_to_undo_and_its_error_is_told() {
    let network = Network::new().script(
        "cat >/dev/null\ntest $CNI_COMMAND = DEL && exit 0\n\
         echo '{\"code\": 42, \"msg\": \"pool is empty\", \"details\": \"add a range\"}'; exit 1",
    );
    let error = leaves_nothing(&network);
    assert_eq!(error["code"], 42);
    assert_eq!(error["msg"], "scripted: pool is empty");
    assert_eq!(error["details"], "add a range");
    assert_eq!(network.asked(), ["ADD", "DEL", "DEL"], "the last one is the runtime's");
}

#[test]
fn a_delegate_that_gives_no_address_is_asked_to_undo() {
    for result in [json!({"ips": []}), json!({}), json!({"routes": [{"dst": "0.0.0.0/0"}]})] {
        let network = Network::new().gives(&result);
        let error = leaves_nothing(&network);
        assert!(text(&error["msg"]).contains("scripted: gave no address"), "{error}");
        assert_eq!(network.asked(), ["ADD", "DEL", "DEL"]);
    }
}

#[test]
fn a_delegate_whose_result_makes_no_sense_is_asked_to_undo() {
    for (result, words) in [
        (json!({"ips": [{"address": "10.1.0.5"}]}), "10.1.0.5"),
        (json!({"ips": [{"address": "10.1.0.5/33"}]}), "10.1.0.5/33"),
        (json!({"ips": [{"address": 5}]}), "address"),
        (json!({"ips": [{"address": "10.1.0.5/24"}], "routes": [{"dst": "all"}]}), "all"),
        (json!({"ips": {"address": "10.1.0.5/24"}}), "ips"),
    ] {
        let network = Network::new().gives(&result);
        let error = leaves_nothing(&network);
        assert!(text(&error["msg"]).contains(words), "{error}");
        assert_eq!(network.asked(), ["ADD", "DEL", "DEL"]);
    }
}

#[test]
fn the_failure_of_the_undoing_does_not_hide_the_cause() {
    let network = Network::new().script(
        "cat >/dev/null\n\
         test $CNI_COMMAND = ADD && { echo '{\"code\": 42, \"msg\": \"the cause\"}'; exit 1; }\n\
         echo '{\"code\": 43, \"msg\": \"cannot undo\"}'; exit 1",
    );
    let error = network.add(&Pod::new("a")).error();
    assert_eq!(error["code"], 42);
    let msg = text(&error["msg"]);
    assert!(msg.contains("the cause") && msg.contains("cannot undo"), "{msg}");
}

#[test]
fn a_delegate_that_is_not_there_is_named() {
    let network = Network::new().ipam(json!({"type": "no-such-ipam"}));
    let error = leaves_nothing_but_what_del_says(&network);
    assert!(text(&error["msg"]).contains("no-such-ipam"), "{error}");
}

/// As [`leaves_nothing`] where the DEL cannot succeed either.
#[track_caller]
fn leaves_nothing_but_what_del_says(network: &Network) -> Value {
    let before = network.remains();
    let error = network.add(&Pod::new("a")).error();
    assert_eq!(network.remains(), before);
    error
}

#[test]
fn ipv6_below_1280_bytes_is_refused_with_the_number() {
    let network = Network::new().dual().with("mtu", json!(1279));
    let error = leaves_nothing(&network);
    assert_eq!(error["code"], 7);
    assert!(text(&error["msg"]).contains("1279"), "{error}");
    network.with("mtu", json!(1280)).add(&Pod::new("b")).ok();
}

#[test]
fn what_the_kernel_refuses_is_undone() {
    let network = Network::new();
    for result in [
        json!({"ips": [{"address": "10.1.0.5/24"}, {"address": "10.1.0.5/24"}]}),
        json!({"ips": [{"address": "10.1.0.5/24"}],
               "routes": [{"dst": "10.3.0.0/16"}, {"dst": "10.3.0.0/16"}]}),
    ] {
        let network = network.clone().gives(&result);
        let error = leaves_nothing(&network);
        assert_eq!(error["code"], 100, "{error}");
    }
}

#[test]
fn a_namespace_that_is_not_there_is_refused_before_ipam_is_asked() {
    let network = Network::new().script(THROUGH);
    let before = network.remains();
    let file = network.host().scratch().file("netns", "");
    for path in ["/nowhere/at/all", file.to_str().unwrap()] {
        let call = network.call("ADD").pod(&Pod::new("a")).env("CNI_NETNS", path);
        let error = call.run().error();
        assert_eq!(error["code"], 4, "{error}");
        assert!(text(&error["msg"]).contains(path), "{error}");
    }
    assert_eq!(network.remains(), before);
    assert!(network.asked().is_empty(), "{:?}", network.asked());
}

/// The runtime died: the result cannot be told. The reference ptp leaves the
/// address and the link behind.
#[test]
fn a_result_that_nobody_reads_is_undone() {
    let network = Network::new().dual();
    let before = network.remains();
    let pod = Pod::new("a");
    let call = network.call("ADD").pod(&pod);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = network.host().enter(|| {
        let mut command = call.command();
        command.stdin(Stdio::piped()).stdout(writer).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let text = call.conf().to_string();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), text.as_bytes()).unwrap();
        child.wait().unwrap()
    });
    assert!(!status.success());
    assert_eq!(network.remains(), before);
    assert!(pod.netns.links().is_empty());
}

#[test]
fn a_journal_that_cannot_be_written_is_named_and_everything_undone() {
    let network = Network::new();
    let before = network.remains();
    let pod = Pod::new("a");
    // A directory in the entry's place, that no rename replaces.
    let entry = network.root("run/manx/net").join(format!("{}:eth0", pod.id));
    fs::create_dir_all(entry.join("x")).unwrap();
    let error = network.add(&pod).error();
    assert_eq!(error["code"], 5, "{error}");
    assert!(text(&error["msg"]).contains("journal"), "{error}");
    fs::remove_dir_all(&entry).unwrap();
    assert_eq!(network.remains(), before);
}

#[test]
fn a_state_directory_that_cannot_be_is_refused_before_ipam_is_asked() {
    let network = Network::new().script(THROUGH);
    fs::create_dir_all(network.root("run")).unwrap();
    symlink("/dev/null", network.root("run/manx")).unwrap();
    let error = leaves_nothing_but_what_del_says(&network);
    assert_eq!(error["code"], 5, "{error}");
    assert!(network.asked().is_empty(), "{:?}", network.asked());
}

/// The reference ptp keeps the address when it cannot turn forwarding on.
#[test]
fn parameters_that_cannot_be_written_are_named_and_everything_undone() {
    let read_only = "exec unshare -m sh -c 'mount --bind /proc/sys /proc/sys &&\
                     mount -o remount,ro,bind /proc/sys && exec \"$MANX\"'";
    let network = Network::new().dual();
    network.host().set_sysctl("ipv4/ip_forward", "0");
    let error = leaves_nothing(&network.wrapped(read_only));
    assert!(text(&error["msg"]).contains("net/ipv4/ip_forward=1"), "{error}");
}

/// Fails each message to the kernel in turn, the way a kernel under memory
/// pressure does.
#[test]
fn whichever_message_to_the_kernel_fails_everything_is_undone() {
    let network = Network::new().dual();
    let failing = network.clone().wrapped(
        "exec strace -qq -o /dev/null -e trace=sendto,sendmsg \
         -e \"inject=sendto,sendmsg:error=ENOBUFS:when=$FAIL_AT\" \"$MANX\"",
    );
    let before = network.remains();
    let mut failed = 0;
    for at in 1..=100 {
        let pod = Pod::new("a");
        let reply: Reply = failing.clone().env("FAIL_AT", &at.to_string()).add(&pod);
        if reply.succeeded() {
            network.del(&pod).ok();
            assert_eq!(network.remains(), before);
            break;
        }
        failed += 1;
        let error = reply.error();
        assert_eq!(error["code"], 100, "message {at}: {error}");
        assert_eq!(network.remains(), before, "message {at}: {error}");
        assert!(pod.netns.links().is_empty(), "message {at}: {error}");
    }
    assert!(failed >= 5, "only {failed} messages were failed: is strace at work?");
}

#[test]
fn one_failing_attachment_leaves_the_others_alone() {
    let network = Network::new();
    let pod = Pod::new("a");
    let result = network.add(&pod).ok();
    network.clone().with("mtu", json!(1000)).dual().add(&Pod::new("b")).error();
    network.check(&pod, &result).ok();
    assert_eq!(network.leases().len(), 1);
}

#[test]
fn a_delegate_is_found_where_cni_path_says_and_nowhere_else() {
    let network = Network::new();
    let pod = Pod::new("a");
    let reply = network.host().enter(|| {
        let call = network.call("ADD").pod(&pod).env("CNI_PATH", "/nowhere");
        let mut command = call.command();
        command.env("PATH", "/nowhere");
        run(command, &Stdin::Bytes(call.conf().to_string().into()), DEADLINE)
    });
    assert_ne!(reply.status, 0);
    assert!(reply.stdout.contains("host-local") && reply.stdout.contains("/nowhere"));
}
