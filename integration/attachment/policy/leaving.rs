// SPDX-License-Identifier: Apache-2.0
//! Pods that go: what their next ones with the same address find.

use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::thread;

use nix::fcntl::{Flock, FlockArg};
use serde_json::json;

use super::{CLOSED, OPEN, addresses, apply, are, classes, enforcing, known, only, pod, shown};
use crate::harness::{DEADLINE, Pod, eventually, uninterrupted};
use crate::network::{Network, host_link, text};

/// One whose every address has been another pod's, but for that of the first.
fn narrow() -> Network {
    enforcing().ipam(json!({"type": "manx-ipam", "ranges": [
        [{"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.8", "rangeEnd": "10.1.0.9"}],
        [{"subnet": "fd00:1::/64", "rangeStart": "fd00:1::8", "rangeEnd": "fd00:1::9"}]]}))
}

/// A socket of a pod by this address of its own.
fn socket(pod: &Pod, address: &str) -> UdpSocket {
    let address = SocketAddr::new(address.parse().unwrap(), 5140);
    let socket = pod.netns.enter(|| UdpSocket::bind(address).unwrap());
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket
}

/// How many packets to an address were dropped.
fn dropped(network: &Network, address: &str) -> u64 {
    let shown = shown(network);
    let pods = shown["pods"].as_array().unwrap();
    let pod = pods.iter().find(|pod| pod["address"] == address).expect("it is isolated");
    pod["ingress"]["dropped"]["packets"].as_u64().unwrap()
}

/// A connection to a former pod is not one to the next pod with its address, however the
/// former one went.
#[test]
fn a_pod_has_no_connection_of_its_addresses_former_pod() {
    for way in
        ["DEL", "DEL without a note", "GC", "GC without a note", "an ADD that needs the address"]
    {
        let network = narrow();
        let (client, former, new) = (pod("client", "u1"), pod("former", "u2"), pod("new", "u3"));
        let names = [known("client", "u1"), known("former", "u2"), known("new", "u3")];
        apply(&network, &[&names[..], &[only("new", "nobody")]].concat());
        let ends = [network.add(&client).ok(), network.add(&former).ok()];
        let [from, to] = ends.each_ref().map(addresses);
        let flows: Vec<_> = from
            .iter()
            .zip(&to)
            .map(|(from, to)| {
                let (sender, receiver) = (socket(&client, from), socket(&former, to));
                sender.connect(receiver.local_addr().unwrap()).unwrap();
                sender.send(b"to the former").unwrap();
                let (_, back) = uninterrupted(|| receiver.recv_from(&mut [0; 64])).unwrap();
                receiver.send_to(b"an answer", back).unwrap();
                uninterrupted(|| sender.recv(&mut [0; 64])).unwrap();
                sender
            })
            .collect();
        if way.contains("note") {
            let note = format!("{}:eth0", former.id);
            fs::remove_file(network.root("run/manx/net").join(note)).unwrap();
        }
        if way.starts_with("DEL") {
            network.del(&former).ok();
        } else if !way.contains("note") {
            let link = host_link(&ends[1]);
            network.host().command("ip", &["link", "delete", &link]).ok();
        }
        if way.starts_with("GC") {
            network.gc(&[&client]).ok();
        }
        let result = network.add(&new).ok();
        assert_eq!(addresses(&result), to, "{way}");
        for (sender, to) in flows.iter().zip(&to) {
            let receiver = socket(&new, to);
            receiver.set_nonblocking(true).unwrap();
            sender.send(b"to the former").unwrap();
            let heard = || receiver.recv(&mut [0; 64]).map_err(|error| error.kind());
            let is_settled = || dropped(&network, to) > 0 || heard() != Err(ErrorKind::WouldBlock);
            assert!(eventually(DEADLINE, is_settled), "{way}: {to}");
            assert_eq!(
                dropped(&network, to),
                1,
                "{way}: {to} heard what was meant for another pod"
            );
        }
    }
}

/// What is left in the table of an address is not its next pod's.
#[test]
fn an_address_has_nothing_of_its_former_pod() {
    let network = enforcing().ipam(json!({"type": "host-local",
        "ranges": [[{"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.9", "rangeEnd": "10.1.0.9"}]]}));
    apply(&network, &[known("open", "u1"), known("web", "u2"), only("web", "client")]);
    let before = network.remains();
    let nft = |verb: &str, set: &str, element: &str| {
        let args = [verb, "element", "inet", "manx.policy", set, element];
        network.host().command("nft", &args).ok();
    };
    for (set, element) in [
        ("class-in4", "{ 10.1.0.9 : 77 }"),
        ("class-out4", "{ 10.1.0.9 : 77 }"),
        ("ident4", "{ 10.1.0.9 : 78 }"),
        ("self4", "{ 10.1.0.9 . 10.1.0.9 }"),
    ] {
        nft("add", set, element);
    }
    let open = pod("open", "u1");
    network.add(&open).ok();
    assert_eq!(classes(&network, "10.1.0.9"), OPEN);
    let listed = network.host().command("nft", &["list", "table", "inet", "manx.policy"]).ok();
    assert!(!listed.contains("10.1.0.9"), "{listed}");
    network.del(&open).ok();
    nft("add", "class-in4", "{ 10.1.0.9 : 77 }");
    let web = pod("web", "u2");
    network.add(&web).ok();
    let [egress, ingress] = classes(&network, "10.1.0.9");
    assert_eq!([egress, ingress], [None, Some(1)], "nobody may speak to it");
    // DEL finds nothing to do where the table is gone.
    network.host().command("nft", &["delete", "table", "inet", "manx.policy"]).ok();
    network.del(&web).ok();
    assert_eq!(network.remains(), before);
}

/// A DEL that was killed behind the lease leaves its note, and comes again when the address is
/// another pod's.
#[test]
fn a_del_that_comes_again_leaves_the_next_pod_of_the_address_closed() {
    let network = enforcing().ipam(json!({"type": "host-local",
        "ranges": [[{"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.9", "rangeEnd": "10.1.0.9"}]]}));
    apply(&network, &[known("open", "u1"), known("web", "u2"), only("web", "client")]);
    let former = pod("open", "u1");
    network.add(&former).ok();
    let note = network.root("run/manx/net").join(&network.journal()[0]);
    let text = fs::read(&note).unwrap();
    network.del(&former).ok();
    let web = pod("web", "u2");
    network.add(&web).ok();
    let closed = classes(&network, "10.1.0.9");
    assert_eq!(closed, [None, Some(1)], "nobody may speak to it");
    fs::write(&note, text).unwrap();
    network.del(&former).ok();
    assert_eq!(classes(&network, "10.1.0.9"), closed);
    network.del(&web).ok();
    assert_eq!(classes(&network, "10.1.0.9"), OPEN);
}

#[test]
fn gc_takes_out_whom_nobody_has() {
    let network = enforcing();
    apply(&network, &[known("web", "u1"), known("client", "u2"), only("web", "client")]);
    let (web, lost) = (pod("web", "u1"), pod("lost", "u2"));
    let result = network.add(&web).ok();
    let before = shown(&network);
    let lost_result = network.add(&lost).ok();
    // Everything of it is lost but what the table has.
    let link = text(&lost_result["interfaces"][0]["name"]);
    network.host().command("ip", &["link", "delete", &link]).ok();
    fs::remove_file(network.root("run/manx/net").join(format!("{}:eth0", lost.id))).unwrap();
    // This one is not of ours, and yet alive.
    let args = ["route", "add", "10.1.0.200/32", "dev", "eth0"];
    network.host().command("ip", &args).ok();
    for set in ["class-in4 { 10.1.0.200 : 1 }", "self4 { 10.1.0.200 . 10.1.0.200 }"] {
        let (name, element) = set.split_once(' ').unwrap();
        let args = ["add", "element", "inet", "manx.policy", name, element];
        network.host().command("nft", &args).ok();
    }
    are(&network, &lost_result, CLOSED);
    network.gc(&[&web]).ok();
    are(&network, &lost_result, OPEN);
    assert_eq!(classes(&network, "10.1.0.200"), [None, Some(1)]);
    network.host().command("ip", &["route", "delete", "10.1.0.200/32"]).ok();
    network.gc(&[&web]).ok();
    assert_eq!(shown(&network), before);
    network.check(&web, &result).ok();
    network.gc(&[]).ok();
    assert_eq!(shown(&network)["pods"], json!([]));
}

/// Two pods get one address, and both ADDs have looked before either has a route: one of them
/// comes to nothing, and the other one's pod is under its policies all the same.
#[test]
fn an_add_that_fails_leaves_the_other_pod_of_its_address_closed() {
    let network = enforcing().ipam(json!({"type": "manx-ipam", "ranges": [
        [{"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.9", "rangeEnd": "10.1.0.9"}]]}));
    let other = network.clone().with("name", json!("other"));
    let pods = [(&network, pod("web", "u1")), (&other, pod("twin", "u2"))];
    let policies = [only("web", "nobody"), only("twin", "other")];
    apply(&network, &[&[known("web", "u1"), known("twin", "u2")], &policies[..]].concat());
    let has_noted = |network: &str| {
        let noted = fs::read_dir(pods[0].0.root("run/manx").join(network)).into_iter().flatten();
        noted.flatten().any(|file| file.file_name().to_string_lossy().contains(":eth0"))
    };
    let mut met = 0;
    // On a machine that is busy an ADD may not wait for as long as the other one takes.
    for _ in 0..20 {
        let lock = fs::File::open(network.root("run/manx/.policy/.lock")).unwrap();
        let lock = Flock::lock(lock, FlockArg::LockExclusive).unwrap();
        let replies = thread::scope(|scope| {
            let adds = pods.each_ref().map(|(network, pod)| scope.spawn(|| network.add(pod)));
            eventually(DEADLINE, || has_noted("net") && has_noted("other"));
            drop(lock);
            adds.map(|add| add.join().unwrap())
        });
        let succeeded = replies.each_ref().map(|reply| reply.succeeded());
        assert_ne!(succeeded, [true, true], "{replies:?}");
        if succeeded.contains(&true) {
            assert_eq!(classes(&network, "10.1.0.9"), [None, Some(1)], "{replies:?}");
            let failed = replies.iter().find(|reply| !reply.succeeded()).unwrap();
            met += u32::from(failed.stdout.contains("101"));
        }
        pods.iter().for_each(|(network, pod)| drop(network.del(pod).ok()));
        if met == 2 {
            return;
        }
    }
    panic!("the two never met");
}
