// SPDX-License-Identifier: Apache-2.0
//! Two calls at once, of which the slower one finds the world changed.

use std::path::Path;
use std::{fs, process, thread};

use serde_json::json;

use crate::harness::{DEADLINE, Pod, Reply, eventually};
use crate::network::{Network, host_link, text};

/// An IPAM plugin that, when the container's id begins with `slow`, waits until
/// the test has written a file, and then gives 10.1.0.5; 10.1.0.6 to others.
const SLOW: &str = "cat >/dev/null\n\
    test $CNI_COMMAND = ADD || exit 0\n\
    case $CNI_CONTAINERID in\n\
    slow*) touch $HERE/waiting; while ! test -e $HERE/go; do sleep 0.02; done; n=5;;\n\
    *) n=6;;\n\
    esac\n\
    echo '{\"ips\":[{\"address\":\"10.1.0.'$n'/24\"}]}'";

/// Starts an ADD of `slow`, runs `meanwhile` while it waits for its address,
/// lets it go on, and gives its reply.
fn overtaken(network: &Network, slow: &Pod, meanwhile: impl FnOnce()) -> Reply {
    let scratch = network.host().scratch();
    thread::scope(|scope| {
        let slow = scope.spawn(|| network.add(slow));
        let waiting = scratch.path().join("waiting");
        let waits = eventually(DEADLINE, || waiting.exists());
        if waits {
            meanwhile();
        }
        scratch.file("go", "");
        let reply = slow.join().unwrap();
        assert!(waits, "the delegate was not called: {reply:?}");
        reply
    })
}

/// calico#10375: an ADD that was held up deletes the link of the pod that the
/// runtime has started in its place.
#[test]
fn an_add_that_was_overtaken_by_a_newer_sandbox_fails_and_harms_nothing() {
    let network = Network::new().script(SLOW);
    let slow = Pod::new("slow").kubernetes("test", "pod1");
    let new = Pod::new("new").kubernetes("test", "pod1");
    let mut result = json!(null);
    let reply = overtaken(&network, &slow, || result = network.add(&new).ok());
    reply.error();
    network.check(&new, &result).ok();
    assert!(new.netns.pings("192.0.2.11"));
    network.del(&slow).ok();
    network.check(&new, &result).ok();
    assert!(slow.netns.links().is_empty());
}

#[test]
fn an_add_that_would_replace_a_sandbox_and_was_overtaken_harms_nothing() {
    let network = Network::new().script(SLOW);
    let [oldest, slow, new] =
        ["oldest", "slow", "new"].map(|name| Pod::new(name).kubernetes("test", "pod1"));
    network.add(&oldest).ok();
    let mut result = json!(null);
    let reply = overtaken(&network, &slow, || {
        network.del(&oldest).ok();
        result = network.add(&new).ok();
    });
    reply.error();
    network.check(&new, &result).ok();
    assert!(new.netns.pings("192.0.2.11"));
}

#[test]
fn a_name_that_somebody_took_meanwhile_outside_kubernetes_is_exchanged() {
    let network = Network::new().script(SLOW);
    let slow = Pod { id: "slow-0000000-one".into(), ..Pod::new("slow") };
    let taken = Pod { id: "slow-0000000-two".into(), ..Pod::new("slow") };
    let name = format!("cali{}", &slow.id[..11]);
    let reply = overtaken(&network, &slow, || {
        let args = ["link", "add", name.as_str(), "type", "bridge"];
        network.host().command("ip", &args).ok();
    });
    let result = reply.ok();
    assert_ne!(host_link(&result), name);
    network.check(&slow, &result).ok();
    network.del(&slow).ok();
    network.del(&taken).ok();
    assert!(network.host().link(&name).is_some(), "what is not ours stays");
}

/// Whether a process of that verb has the network's lock file open.
fn is_at_the_lock(network: &Network, verb: &str) -> bool {
    let lock = network.root("run/manx/net/.lock");
    let processes = fs::read_dir("/proc").unwrap().flatten().map(|process| process.path());
    processes.into_iter().any(|process| {
        let variables = fs::read(process.join("environ")).unwrap_or_default();
        let verb = format!("CNI_COMMAND={verb}");
        let is_it = variables.split(|byte| *byte == 0).any(|word| word == verb.as_bytes());
        let files = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
        is_it && files.filter_map(|file| fs::read_link(file.path()).ok()).any(|file| file == lock)
    })
}

/// Starts an ADD of `slow` and, while it waits for its address, `verb` of the same
/// attachment; gives both replies.
fn beside(network: &Network, slow: &Pod, verb: &str) -> [Reply; 2] {
    thread::scope(|scope| {
        let mut other = None;
        let reply = overtaken(network, slow, || {
            other = Some(scope.spawn(|| network.call(verb).pod(slow).run()));
            assert!(eventually(DEADLINE, || is_at_the_lock(network, verb)), "{verb} did not start");
        });
        [reply, other.unwrap().join().unwrap()]
    })
}

/// The runtime gave up on an ADD whose process lives on, and deletes.
#[test]
fn a_del_waits_for_the_add_of_its_attachment_and_leaves_nothing() {
    let network = Network::new().script(SLOW);
    let before = network.remains();
    let slow = Pod::new("slow");
    let [add, del] = beside(&network, &slow, "DEL");
    add.ok();
    del.ok();
    assert_eq!(network.remains(), before);
    assert_eq!(network.asked(), ["ADD", "DEL"]);
}

#[test]
fn of_two_adds_at_once_the_second_is_refused_and_takes_nothing_from_the_first() {
    let network = Network::new().script(SLOW);
    let slow = Pod::new("slow");
    // The second is at the lock when the first is at its address already.
    let [first, second] = thread::scope(|scope| {
        let mut second = None;
        let first = overtaken(&network, &slow, || {
            second = Some(scope.spawn(|| network.add(&slow)));
        });
        [first, second.unwrap().join().unwrap()]
    });
    assert_eq!(second.code(), Some(101), "{second:?}");
    let result = first.ok();
    network.check(&slow, &result).ok();
    assert!(!network.asked().contains(&"DEL".to_owned()), "{:?}", network.asked());
    network.del(&slow).ok();
}

/// With the real host-local, whose lease the loser of the two would release.
#[test]
fn adds_of_one_attachment_at_once_leave_one_whole() {
    let network = Network::new();
    let before = network.remains();
    let pod = Pod::new("a");
    let replies: Vec<Reply> = thread::scope(|scope| {
        let calls: Vec<_> = (0..6).map(|_| scope.spawn(|| network.add(&pod))).collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    let won: Vec<&Reply> = replies.iter().filter(|reply| reply.succeeded()).collect();
    assert_eq!(won.len(), 1, "{replies:?}");
    assert_eq!(network.leases().len(), 1);
    network.check(&pod, &won[0].clone().ok()).ok();
    network.del(&pod).ok();
    assert_eq!(network.remains(), before);
}

/// The ADD does not come to an end: the DEL says who keeps it, and a later one does
/// it. So does one whose collection was begun meanwhile.
#[test]
fn a_del_that_waits_in_vain_names_the_process() {
    let network = Network::new().script(SLOW);
    let before = network.remains();
    let slow = Pod::new("slow");
    overtaken(&network, &slow, || {
        let del = network.del(&slow);
        assert_eq!(del.code(), Some(11), "{del:?}");
        let error = del.error();
        assert!(text(&error["msg"]).contains("(manx)"), "{error}");
        assert!(text(&error["msg"]).contains("lock the attachment"), "{error}");
        // Another one of the same network does not wait.
        network.del(&Pod::new("other")).ok();
    })
    .ok();
    network.del(&slow).ok();
    assert_eq!(network.remains(), before);
}

#[test]
fn a_del_without_any_state_leaves_no_directory() {
    let network = Network::new();
    network.del(&Pod::new("a")).ok();
    assert!(!network.root("run/manx/net").exists());
}

/// As under a pids cgroup that is full: no thread, no process.
#[test]
fn a_lock_is_waited_for_without_a_thread() {
    let network = Network::new();
    let leases = network.host().scratch().dir("leases").display().to_string();
    let ranges = json!([[{"subnet": "10.1.0.0/24"}]]);
    let network = network.ipam(json!({"type": "manx-ipam", "dataDir": leases, "ranges": ranges}));
    let alone = network.clone().wrapped(
        "exec strace -f -qq -o /dev/null -e trace=clone,clone3,fork,vfork          -e inject=clone,clone3,fork,vfork:error=EAGAIN \"$MANX\"",
    );
    let pod = Pod::new("a");
    network.add(&Pod::new("first")).ok();
    for (verb, lock) in [
        ("ADD", network.root("run/manx/net/.lock")),
        ("DEL", network.host().scratch().path().join("leases/net/lock")),
    ] {
        let held = fs::File::open(&lock).unwrap();
        held.lock().unwrap();
        thread::scope(|scope| {
            let call = scope.spawn(|| alone.call(verb).pod(&pod).run());
            let waits = eventually(DEADLINE, || is_open_elsewhere(&lock));
            held.unlock().unwrap();
            let reply = call.join().unwrap();
            assert!(waits && reply.succeeded(), "{reply:?}");
        });
    }
}

/// Whether another process than this one has a file open.
fn is_open_elsewhere(path: &Path) -> bool {
    let own = process::id().to_string();
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes.filter(|process| process.file_name() != *own).any(|process| {
        let files = fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten();
        files.filter_map(|file| fs::read_link(file.path()).ok()).any(|file| file == path)
    })
}

#[test]
fn the_pods_namespace_may_go_while_ipam_is_asked() {
    let network = Network::new().script(SLOW);
    let before = network.remains();
    let slow = Pod::new("slow");
    let id = slow.id.clone();
    let reply = overtaken(&network, &slow, || {
        slow.netns.command("ip", &["link", "add", "eth0", "type", "bridge"]).ok();
    });
    let error = reply.error();
    assert!(error["msg"].as_str().unwrap().contains("eth0"), "{error}");
    assert_eq!(network.remains(), before, "{id}");
    assert_eq!(slow.netns.links(), ["eth0"]);
}
