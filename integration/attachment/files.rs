// SPDX-License-Identifier: Apache-2.0
//! Files that are not what their name promises, and arguments that no delegate
//! reads: each is told, none hangs a verb or keeps a DEL from ending.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::json;

use crate::harness::{Pod, Reply};
use crate::network::{Network, text};

/// A FIFO that nobody else ever opens.
fn fifo(network: &Network) -> PathBuf {
    let path = network.host().scratch().dir("root").join("fifo");
    mkfifo(&path, Mode::S_IRWXU).unwrap();
    path
}

/// Asserts that a log line says why there is no log file, and that nothing but
/// the result went to stdout.
#[track_caller]
fn logs_to_stderr_only(reply: Reply) {
    assert!(reply.stderr.contains(" WARN logFile: "), "{reply:?}");
    assert!(reply.stderr.contains(" INFO ADD "), "{reply:?}");
    assert!(reply.ok()["ips"].is_array());
}

#[test]
fn del_ends_where_the_namespace_is_of_another_kind() {
    let network = Network::new();
    let before = network.remains();
    for path in ["/proc/self/ns/mnt", "/proc/self/ns/pid"] {
        let pod = Pod::new("a");
        network.add(&pod).ok();
        network.call("DEL").pod(&pod).env("CNI_NETNS", path).run().ok();
        assert_eq!(network.remains(), before);
        let error = network.call("ADD").pod(&pod).env("CNI_NETNS", path).run().error();
        assert_eq!(error["code"], 4, "{error}");
        assert!(text(&error["msg"]).contains("not a network namespace"), "{error}");
        assert_eq!(network.remains(), before);
    }
}

/// As runtimes keep namespaces: bound to a file, whose name tells no kind.
#[test]
fn a_namespace_that_is_bound_to_a_file_is_known_by_its_kind() {
    let network = Network::new();
    let before = network.remains();
    let file = network.host().scratch().file("bound", "").display().to_string();
    let bound = "exec unshare -m sh -c 'mount --bind \"$NAMESPACE\" \"$CNI_NETNS\" \
                 && exec \"$MANX\"'";
    let bound = network.clone().wrapped(bound);
    let call = |verb, pod: &Pod, namespace: &str| {
        let network = bound.clone().env("NAMESPACE", namespace);
        network.call(verb).pod(pod).env("CNI_NETNS", &file).run()
    };
    let pod = Pod::new("a");
    let own = pod.netns.path().display().to_string();
    call("ADD", &pod, &own).ok();
    assert!(pod.netns.link("eth0").is_some());
    call("DEL", &pod, "/proc/self/ns/uts").ok();
    assert_eq!(network.remains(), before);
    let error = call("ADD", &pod, "/proc/self/ns/uts").error();
    assert_eq!(error["code"], 4, "{error}");
    assert!(text(&error["msg"]).contains("not a network namespace"), "{error}");
    call("ADD", &pod, &own).ok();
    call("DEL", &pod, &own).ok();
    assert_eq!(network.remains(), before);
}

/// A namespace that is there and that we may not enter is no namespace that is
/// gone: what is in it keeps its address.
#[test]
fn who_may_not_enter_the_namespace_is_told_so_and_nothing_is_given_up() {
    let network = Network::new();
    let may_not_enter = "exec setpriv --bounding-set=-sys_admin \"$MANX\"";
    let without = network.clone().wrapped(may_not_enter);
    let refused = |verb: &str, pod: &Pod| {
        let error = without.call(verb).pod(pod).run().error();
        assert_eq!(error["code"], 100, "{error}");
        assert!(text(&error["msg"]).contains("enter the network namespace"), "{error}");
        assert!(text(&error["details"]).contains("CAP_SYS_ADMIN"), "{error}");
    };
    let pod = Pod::new("a");
    let before = network.remains();
    refused("ADD", &pod);
    assert_eq!(network.remains(), before);
    // As a plugin before us would have left it: without our mark.
    network.add(&pod).ok();
    let links = network.host().links();
    let link = links.iter().find(|name| name.starts_with("cali")).expect("a link");
    network.host().command("ip", &["link", "set", link, "alias", "another's"]).ok();
    std::fs::remove_dir_all(network.root("run/manx")).unwrap();
    let marked = network.remains();
    refused("DEL", &pod);
    assert_eq!(network.remains(), marked);
    assert!(pod.netns.link("eth0").is_some());
    network.del(&pod).ok();
    assert_eq!(network.remains(), before);
}

#[test]
fn a_fifo_for_a_namespace_hangs_no_verb() {
    let network = Network::new();
    let before = network.remains();
    let fifo = fifo(&network).display().to_string();
    let pod = Pod::new("a");
    let previous = network.add(&pod).ok();
    for verb in ["ADD", "CHECK"] {
        let call = network.call(verb).pod(&pod).key("prevResult", previous.clone());
        let error = call.env("CNI_NETNS", &fifo).run().error();
        assert_eq!(error["code"], 4, "{error}");
        assert!(text(&error["msg"]).contains("not a namespace"), "{error}");
    }
    network.call("DEL").pod(&pod).env("CNI_NETNS", &fifo).run().ok();
    assert_eq!(network.remains(), before);
}

#[test]
fn a_fifo_for_a_log_file_hangs_no_verb() {
    let network = Network::new().with("logFile", json!("/fifo"));
    fifo(&network);
    let pod = Pod::new("a");
    logs_to_stderr_only(network.add(&pod));
    network.status().ok();
    network.del(&pod).ok();
}

#[test]
fn no_log_line_reaches_stdout() {
    let network = Network::new().with("logFile", json!("/log"));
    let log = network.host().scratch().dir("root").join("log");
    for target in ["/proc/self/fd/1", "/dev/stdout", "/dev/null"] {
        symlink(target, &log).unwrap();
        let pod = Pod::new("a");
        logs_to_stderr_only(network.add(&pod));
        network.del(&pod).ok();
        fs::remove_file(&log).unwrap();
    }
    // A stdout that is itself a regular file.
    let out = log.display().to_string();
    let printing = network.wrapped("\"$MANX\" >\"$OUT\"; code=$?; cat \"$OUT\"; exit $code");
    logs_to_stderr_only(printing.env("OUT", &out).add(&Pod::new("a")));
}

/// Calls the plugin where a directory is read-only.
const READ_ONLY: &str = "exec unshare -m sh -c 'mount --bind \"$DIRECTORY\" \"$DIRECTORY\" \
                         && mount -o remount,bind,ro \"$DIRECTORY\" && exec \"$MANX\"'";

#[test]
fn del_removes_what_it_can_where_the_state_cannot_be_written() {
    let network = Network::new();
    network.status().ok();
    let before = network.remains();
    let directory = network.root("run/manx").display().to_string();
    let read_only = network.clone().wrapped(READ_ONLY).env("DIRECTORY", &directory);
    let pod = Pod::new("a");
    read_only.del(&pod).ok();
    network.add(&pod).ok();
    let error = read_only.del(&pod).error();
    assert_eq!(error["code"], 5, "{error}");
    let note = format!("{directory}/net/{}:eth0", pod.id);
    for words in [&note, "the link and the address are removed", "Read-only file system"] {
        assert!(text(&error["msg"]).contains(words), "{words}: {error}");
    }
    assert_eq!(pod.netns.link("eth0"), None);
    let mut left = network.remains();
    assert_ne!(left["journal"], before["journal"]);
    left["journal"] = before["journal"].clone();
    assert_eq!(left, before);
    network.del(&pod).ok();
    assert_eq!(network.remains(), before);
}

#[test]
fn status_sees_that_the_state_cannot_be_written() {
    let network = Network::new();
    network.status().ok();
    let directory = network.root("run/manx").display().to_string();
    let network = network.wrapped(READ_ONLY).env("DIRECTORY", &directory);
    let error = network.status().error();
    assert_eq!(error["code"], 50, "{error}");
    assert!(text(&error["msg"]).contains(&directory), "{error}");
    assert!(text(&error["msg"]).contains("Read-only file system"), "{error}");
}

/// An ADD would fail at its first lease, or at its note.
#[test]
fn status_sees_that_a_file_system_is_full() {
    let network = Network::new();
    let leases = network.host().scratch().dir("leases");
    let ranges = json!([[{"subnet": "10.1.0.0/24"}]]);
    let network = network.ipam(json!({"type": "manx-ipam", "dataDir": leases, "ranges": ranges}));
    network.status().ok();
    for full in [leases, network.root("run/manx")] {
        let script = "exec unshare -m sh -c 'mount -t tmpfs -o size=64k tmpfs \"$DIRECTORY\" \
                      && cat /dev/zero >\"$DIRECTORY/.filler\" 2>/dev/null; exec \"$MANX\"'";
        let directory = full.display().to_string();
        let error = network.clone().wrapped(script).env("DIRECTORY", &directory).status().error();
        assert_eq!(error["code"], 50, "{error}");
        assert!(text(&error["msg"]).contains(&directory), "{error}");
        assert!(text(&error["msg"]).contains("No space left"), "{error}");
    }
}

#[test]
fn r74_arguments_that_no_delegate_reads_keep_no_verb_from_its_end() {
    let network = Network::new();
    let before = network.remains();
    for args in ["FOO", "FOO=a=b", "IgnoreUnknown=0;FOO=1", "FOO;;IgnoreUnknown=0;BAR=1;"] {
        let pod = Pod { args: Some(args.into()), ..Pod::new("a") };
        let previous = network.add(&pod).ok();
        network.check(&pod, &previous).ok();
        network.del(&pod).ok();
        assert_eq!(network.remains(), before, "{args}");
    }
}

#[test]
fn calicos_number_of_queues_below_one_means_one() {
    for number in [0, -1] {
        let network = Network::new().with("num_queues", json!(number));
        let pod = Pod::new("a");
        network.add(&pod).ok();
        assert_eq!(pod.netns.link("eth0").unwrap()["num_tx_queues"], 1, "{number}");
        network.del(&pod).ok();
    }
}
