// SPDX-License-Identifier: Apache-2.0
//! Whether a verb that does nothing, or half of it, is found out.

use std::path::Path;

use serde_json::{Value, json};

use crate::effect::Attachment;
use crate::harness::{Host, Netns};

/// A node and a pod with what an ADD makes, and what the ADD would have said.
fn attached() -> (Host, Netns, Value) {
    let (host, pod) = (Host::new(), Netns::new());
    let there = pod.path().display().to_string();
    for args in [
        &["link", "add", "cali1", "type", "veth", "peer", "name", "eth0", "netns", &there][..],
        &["link", "set", "cali1", "up"],
        &["route", "add", "10.88.0.2", "dev", "cali1", "scope", "link"],
        &["route", "add", "fd00:88::2", "dev", "cali1"],
    ] {
        host.command("ip", args).ok();
    }
    for args in [
        &["link", "set", "eth0", "up"][..],
        &["address", "add", "10.88.0.2/32", "dev", "eth0"],
        &["address", "add", "fd00:88::2/128", "dev", "eth0", "nodad"],
        &["route", "add", "169.254.1.1", "dev", "eth0"],
        &["route", "add", "default", "via", "169.254.1.1", "dev", "eth0"],
        &["-6", "route", "add", "default", "dev", "eth0"],
    ] {
        pod.command("ip", args).ok();
    }
    host.scratch().dir("leases");
    host.scratch().file("leases/10.88.0.2", "id");
    host.scratch().file("leases/fd00:88::2", "id");
    let result = json!({
        "interfaces": [{"name": "cali1"}, {"name": "eth0", "sandbox": there}],
        "ips": [{"address": "10.88.0.2/32"}, {"address": "fd00:88::2/128"}],
    });
    (host, pod, result)
}

fn read(result: &Value, host: &Host) -> Attachment {
    let leases = host.scratch().path().join("leases");
    Attachment::of_result(result, None, &leases).expect("a result in full")
}

#[test]
fn what_is_there_is_not_missing() {
    let (host, pod, result) = attached();
    assert_eq!(read(&result, &host).missing(&host, &pod), Vec::<String>::new());
}

#[test]
fn an_add_that_made_nothing_misses_everything() {
    let (host, _pod, result) = attached();
    let (other, empty) = (Host::new(), Netns::new());
    let made = Attachment { leases: Vec::new(), ..read(&result, &host) };
    let missing = made.missing(&other, &empty);
    assert_eq!(missing.len(), 8, "{missing:?}");
    assert_eq!(made.left(&other, &empty), Vec::<String>::new());
}

/// Each object by itself, of either family and on either side.
#[test]
fn an_add_that_left_out_one_object_misses_that() {
    for (is_host, args, missing) in [
        (false, &["address", "del", "10.88.0.2/32", "dev", "eth0"][..], "address 10.88.0.2"),
        (false, &["address", "del", "fd00:88::2/128", "dev", "eth0"], "address fd00:88::2"),
        (false, &["route", "del", "default"], "default route of the pod beside 10.88.0.2"),
        (false, &["-6", "route", "del", "default"], "default route of the pod beside fd00:88::2"),
        (true, &["route", "del", "10.88.0.2"], "route of the node to 10.88.0.2"),
        (true, &["route", "del", "fd00:88::2"], "route of the node to fd00:88::2"),
    ] {
        let (host, pod, result) = attached();
        if is_host {
            host.command("ip", args).ok()
        } else {
            pod.command("ip", args).ok()
        };
        let found = read(&result, &host).missing(&host, &pod);
        assert!(found.iter().any(|what| what == missing), "{args:?}: {found:?}");
    }
}

#[test]
fn a_del_that_did_nothing_or_kept_the_lease_leaves_that() {
    let (host, pod, result) = attached();
    let made = read(&result, &host);
    assert_eq!(made.left(&host, &pod).len(), 10);
    host.command("ip", &["link", "del", "cali1"]).ok();
    let left = made.left(&host, &pod);
    assert!(left.len() == 2 && left.iter().all(|what| what.starts_with("lease ")), "{left:?}");
}

#[test]
fn a_result_without_addresses_or_links_is_none() {
    let (host, _pod, result) = attached();
    let of = |result: &Value| Attachment::of_result(result, None, Path::new("/"));
    for key in ["ips", "interfaces"] {
        let mut part = result.clone();
        part.as_object_mut().expect("an object").remove(key);
        assert!(of(&part).is_err(), "without {key}");
    }
    // The one link that is not in the pod is the bridge.
    assert!(Attachment::of_result(&result, Some("cali1"), host.scratch().path()).is_err());
}
