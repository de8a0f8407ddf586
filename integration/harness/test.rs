// SPDX-License-Identifier: Apache-2.0
//! Whether the harness tells the truth: a namespace that is not ours, a plugin
//! that answers what it was sent, a deadline that ends a hang.

#![allow(missing_docs)]

#[path = "mod.rs"]
mod harness;

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use harness::{DEADLINE, Host, Netns, Plugin, Pod, Scratch, Stdin, connect, run};
use serde_json::json;

#[test]
fn a_namespace_has_only_what_was_made_in_it() {
    let (one, other) = (Netns::new(), Netns::new());
    assert!(one.links().is_empty());
    connect((&one, "left", &["192.0.2.1/30"]), (&other, "right", &["192.0.2.2/30"]));
    assert_eq!(one.links(), ["left"]);
    assert_eq!(other.addresses("right"), ["192.0.2.2/30"]);
    assert!(one.pings("192.0.2.2"));
    one.set_sysctl("ipv4/ip_forward", "1");
    other.set_sysctl("ipv4/ip_forward", "0");
    assert_eq!(one.sysctl("ipv4/ip_forward"), "1");
    assert!(Netns::current().link("left").is_none());
}

/// What a program waits for is its own time, and that it has no processor is not.
#[test]
fn a_wait_is_told_from_other_work_of_the_machine() {
    let shell = |text: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", text]);
        run(command, &Stdin::Null, DEADLINE)
    };
    let over = AtomicBool::new(false);
    let busy = 4 * thread::available_parallelism().unwrap().get();
    thread::scope(|scope| {
        for _ in 0..busy {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let sleeps = shell("exec sleep 0.4");
        let works = shell("i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done");
        over.store(true, Ordering::Relaxed);
        // It may wait for a processor before the sleep has begun to count, and while it counts.
        assert!(sleeps.alone > Duration::from_millis(200), "{sleeps:?}");
        assert!(works.alone * 2 < works.took, "{works:?}");
    });
}

#[test]
fn a_host_with_an_uplink_reaches_the_outside() {
    let (host, outside) = Host::with_uplink();
    assert!(host.pings("192.0.2.1"));
    assert!(host.pings("2001:db8::1"));
    assert_eq!(outside.routes("-4").len(), 1);
}

#[test]
fn a_plugin_gets_what_the_call_says_and_nothing_else() {
    let host = Host::new();
    let echo = r#"#!/bin/sh
        echo "noise" >&2
        printf '{"id":"%s","env":"%s","links":%s,"conf":%s}' \
            "$CNI_CONTAINERID" "$CARGO_MANIFEST_DIR" "$(ip -j link | wc -l)" "$(cat)""#;
    let echo = host.scratch().script("echo", echo);
    let plugin = Plugin::new(&host, echo).config(json!({"name": "n"}));
    let pod = Pod::new("a");
    let reply = plugin.check(&pod, &json!({"ips": []}));
    assert_eq!(reply.stderr, "noise\n");
    let said = reply.ok();
    assert_eq!(said["id"], pod.id.as_str());
    assert_eq!(said["env"], "");
    assert_eq!(said["conf"], json!({"name": "n", "prevResult": {"ips": []}}));
}

#[test]
fn two_documents_are_not_an_answer() {
    let host = Host::new();
    let twice = host.scratch().script("twice", "#!/bin/sh\necho '{}' '{}'; exit 3\n");
    let reply = Plugin::new(&host, twice).status();
    assert_eq!((reply.status, reply.json), (3, None));
}

#[test]
fn a_hang_is_ended_and_told() {
    let host = Host::new();
    let hang = host.scratch().script("hang", "#!/bin/sh\nread line; echo done\n");
    let call = Plugin::new(&host, hang).call("VERSION");
    let reply = call.stdin(Stdin::Silent).deadline(Duration::from_millis(200)).run();
    assert!(reply.timed_out && !reply.succeeded(), "{reply:?}");
}

#[test]
fn scratch_is_removed() {
    let path = {
        let scratch = Scratch::new();
        scratch.file("f", "x");
        scratch.path().to_path_buf()
    };
    assert!(!path.exists());
}
