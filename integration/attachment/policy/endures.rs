// SPDX-License-Identifier: Apache-2.0
//! What stays closed whatever happens: elements that others take out, pods that the API server
//! forgets, keys that are lost, verbs that are killed.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use super::{
    CLOSED, OPEN, addresses, apply, are, classes, enforcing, is_applied, is_under_policy, known,
    only, pod, shown,
};
use crate::network::{address, text};

/// Not the table alone: an element that is gone opens a pod, or cuts it off.
#[test]
fn what_others_took_of_pods_is_put_back_by_status() {
    let network = enforcing();
    apply(&network, &[known("web", "u1"), known("client", "u2"), only("web", "client")]);
    let web = network.add(&pod("web", "u1")).ok();
    let client = network.add(&pod("client", "u2")).ok();
    let unknown = network.add(&pod("unknown", "u3")).ok();
    let before = shown(&network);
    let ([web, _], [_, client], [unknown, _]) =
        (addresses(&web), addresses(&client), addresses(&unknown));
    let nft = |args: &[&str]| network.host().command("nft", args).ok();
    let set = |name: &str| {
        let listed = nft(&["-j", "list", "set", "inet", "manx.policy", name]);
        let listed: Value = serde_json::from_str(&listed).unwrap();
        let mut elements: Vec<String> = listed["nftables"][1]["set"]["elem"]
            .as_array()
            .unwrap()
            .iter()
            .map(Value::to_string)
            .collect();
        elements.sort();
        elements
    };
    let own = set("self4");
    for (verb, name, element) in [
        ("delete element", "class-in4", Some(&web)),
        ("delete element", "class-out4", Some(&unknown)),
        ("delete element", "ident6", Some(&client)),
        ("flush map", "class-in6", None),
        ("flush map", "class-out4", None),
        ("flush set", "self4", None),
    ] {
        let element = element.map(|address| format!("{{ {address} }}"));
        let mut args: Vec<&str> = verb.split(' ').collect();
        args.extend(["inet", "manx.policy", name]);
        args.extend(element.as_deref());
        nft(&args);
        let status = network.status();
        assert!(status.stderr.contains("has been repaired"), "{args:?}: {status:?}");
        status.ok();
        assert_eq!((shown(&network), set("self4")), (before.clone(), own.clone()), "{args:?}");
        let status = network.status();
        assert!(!status.stderr.contains("has been repaired"), "{args:?}: {status:?}");
    }
}

/// Who deletes a pod in the API does not open it, whatever becomes of one that nobody ever knew,
/// and whoever makes the table again.
#[test]
fn a_pod_that_is_not_known_any_more_is_closed() {
    let network = enforcing().with("networkPolicyMissing", json!("allow"));
    let web = pod("web", "u1");
    apply(&network, &[known("web", "u1"), known("client", "u2"), only("web", "client")]);
    let result = network.add(&web).ok();
    is_under_policy(&network, &result);
    let other = [known("client", "u2"), only("client", "client")];
    for _ in 0..2 {
        apply(&network, &other);
        are(&network, &result, CLOSED);
        network.check(&web, &result).ok();
    }
    network.host().command("nft", &["flush", "ruleset"]).ok();
    network.status().ok();
    are(&network, &result, CLOSED);
    is_applied(&network, &other);
    let stranger = network.add(&pod("stranger", "u3")).ok();
    are(&network, &stranger, OPEN);
    apply(&network, &[known("web", "u1"), known("client", "u2"), only("web", "client")]);
    is_under_policy(&network, &result);
    network.del(&web).ok();
    apply(&network, &other);
    let again = network.add(&pod("web", "u1")).ok();
    are(&network, &again, OPEN);
}

/// The numbers of a node are keyed by a secret of its own.
#[test]
fn numbers_stay_while_the_key_does() {
    let network = enforcing();
    let world = [known("web", "u1"), known("client", "u2"), only("web", "client")];
    apply(&network, &world);
    let web = network.add(&pod("web", "u1")).ok();
    let key = network.root("run/manx/.policy/key");
    let metadata = fs::metadata(&key).unwrap();
    assert_eq!((metadata.len(), metadata.permissions().mode() & 0o777), (16, 0o600));
    let class = || classes(&network, &address(&web, 0))[1].unwrap();
    let first = class();
    apply(&network, &world);
    assert_eq!(class(), first);
    for lost in [None, Some(&b"short"[..])] {
        let before = class();
        match lost {
            Some(bytes) => fs::write(&key, bytes).unwrap(),
            None => fs::remove_file(&key).unwrap(),
        }
        apply(&network, &world);
        assert!(class() != before && class() > 1);
        is_under_policy(&network, &web);
        is_applied(&network, &world);
        assert_eq!(fs::metadata(&key).unwrap().len(), 16);
    }
}

/// Killed at each message to the kernel, an ADD leaves no link without its pod's class, and
/// DEL nothing at all.
#[test]
fn a_killed_add_leaves_no_pod_that_is_open_and_unknown() {
    for flushed in [false, true] {
        let network = enforcing();
        let mortal = network.clone().wrapped(
            "exec strace -qq -o /dev/null -e trace=sendto,sendmsg \
             -e \"inject=sendto,sendmsg:signal=KILL:when=$KILL_AT\" \"$MANX\"",
        );
        // A table of its own network is there before, as on a node in use.
        let first_pod = pod("first", "u0");
        let first = network.add(&first_pod).ok();
        let before = network.remains();
        let (mut deaths, mut with_link) = (0, 0);
        for at in 1..=100 {
            if flushed {
                network.host().command("nft", &["delete", "table", "inet", "manx.policy"]).ok();
            }
            let web = pod("web", "u1");
            let reply = mortal.clone().env("KILL_AT", &at.to_string()).add(&web);
            let has_link = network.host().links().len() > 2;
            if has_link {
                let pods = shown(&network)["pods"].as_array().unwrap().len();
                assert_eq!(pods, 4, "{at}: both pods by both addresses");
                are(&network, &first, CLOSED);
            }
            network.del(&web).ok();
            assert_eq!(network.remains(), before, "killed at {at}");
            network.status().ok();
            are(&network, &first, CLOSED);
            assert_eq!(shown(&network)["pods"].as_array().unwrap().len(), 2, "killed at {at}");
            if reply.succeeded() {
                break;
            }
            assert_eq!(reply.status, 137, "{reply:?}");
            deaths += 1;
            with_link += u32::from(has_link);
        }
        assert!(deaths >= 8 && with_link >= 1, "{deaths} deaths, {with_link} with a link");
    }
}

/// A DEL that is killed at whichever message it has for the kernel: as long as the pod has a link
/// it is under its policies, whoever comes next is what it is, and the next DEL ends it.
#[test]
fn a_killed_del_opens_nothing() {
    let network = enforcing();
    let mortal = network.clone().wrapped(
        "exec strace -qq -o /dev/null -e trace=sendto,sendmsg \
         -e \"inject=sendto,sendmsg:signal=KILL:when=$KILL_AT\" \"$MANX\"",
    );
    apply(&network, &[known("web", "u1"), known("other", "u2"), only("web", "client")]);
    let other = pod("other", "u2");
    network.add(&other).ok();
    let (before, shown_before) = (network.remains(), shown(&network));
    let (mut deaths, mut with_link, mut without) = (0, 0, 0);
    for at in 1..=100 {
        let web = pod("web", "u1");
        let result = network.add(&web).ok();
        is_under_policy(&network, &result);
        let reply = mortal.clone().env("KILL_AT", &at.to_string()).del(&web);
        let link = text(&result["interfaces"][0]["name"]);
        let has_link = network.host().links().contains(&link);
        if has_link {
            is_under_policy(&network, &result);
            assert!(other.netns.keeps_silent(&addresses(&result)[0]), "killed at {at}");
        }
        let is_held = classes(&network, &addresses(&result)[0]) != OPEN;
        let next = pod("next", "u3");
        let next_result = network.add(&next).ok();
        are(&network, &next_result, CLOSED);
        network.del(&next).ok();
        network.del(&web).ok();
        assert_eq!((network.remains(), shown(&network)), (before.clone(), shown_before.clone()));
        if reply.succeeded() {
            break;
        }
        assert_eq!(reply.status, 137, "{reply:?}");
        deaths += 1;
        with_link += u32::from(has_link);
        without += u32::from(!has_link && is_held);
    }
    assert!(
        deaths >= 5 && with_link >= 1 && without >= 1,
        "{deaths} deaths, {with_link} with a link, {without} with nothing but elements"
    );
}
