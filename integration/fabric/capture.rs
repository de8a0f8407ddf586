// SPDX-License-Identifier: Apache-2.0
//! `manx capture --path`: one packet at all places that it passes, and the place where it ends.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::cluster::{addresses, bare};
use crate::harness::Finished;
use crate::pages::Scene;

/// As root tcpdump insists on dropping groups, which a user namespace may not do.
pub const TCPDUMP: &str = "#!/bin/sh\nPATH=${PATH#*:}\nexec strace -f -qq -o /dev/null \\\n\
    -e trace=setgroups -e inject=setgroups:retval=0 tcpdump -Z root \"$@\"\n";

/// The way of pings from the pod to this address, as far as it is seen in so many lines.
fn capture(scene: &Scene, arguments: &str, destination: &str) -> Finished {
    let line = format!("manx capture --path {arguments}");
    let (over, pod) = (AtomicBool::new(false), &scene.pods[0].netns);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let ping = ["-n", "-q", "-c", "3", "-i", "0.05", "-W", "0.1", destination];
                pod.command("ping", &ping);
            }
        });
        let said = scene.shell(scene.a(), &line);
        over.store(true, Ordering::Relaxed);
        said
    })
}

/// Time, role, device and packet of a line.
fn parts(line: &str) -> (&str, &str, &str, &str) {
    let (time, rest) = line.split_once(' ').unwrap();
    let (role, rest) = rest.split_once(' ').unwrap();
    let (device, packet) = rest.trim_start().split_once(" IP ").unwrap_or_else(|| panic!("{line}"));
    (time, role, device.trim_end(), packet)
}

#[test]
fn a_ping_is_seen_at_all_three_places_and_where_it_ends() {
    let scene = Scene::new();
    let tools = scene.a().host.scratch();
    tools.script("programs/tcpdump", TCPDUMP);
    let (own, other) = (addresses(&scene.pods[0]), addresses(&scene.pods[1]));
    let (own, other) = (bare(&own[0]), bare(&other[0]));
    let said = capture(&scene, &format!("--count 40 default/web icmp and host {other}"), other);
    assert_eq!(said.status, 0, "{said:?}");
    let lines: Vec<_> = said.stdout.lines().map(parts).collect();
    assert_eq!(lines.len(), 40, "{said:?}");
    let link = lines.iter().find(|(_, role, ..)| *role == "pod").unwrap().2;
    assert!(link.starts_with("cali"), "{said:?}");
    let way = [("pod", link), ("tunnel", "vxlan.calico"), ("uplink", "eth0 in vxlan")];
    // Of one ping every step, in the order of the way.
    let of_one = |packet: &str| {
        let seen = lines.iter().filter(|(.., other)| *other == packet);
        let mut seen: Vec<_> = seen.collect();
        seen.sort_by_key(|(time, ..)| *time);
        seen.iter().map(|(_, role, device, _)| (*role, *device)).collect::<Vec<_>>()
    };
    let there = format!("{own} > {other}: ICMP echo request");
    let back = format!("{other} > {own}: ICMP echo reply");
    let requests =
        lines.iter().map(|(.., packet)| *packet).filter(|packet| packet.starts_with(&there));
    let whole = requests.filter(|packet| {
        let answer = packet.replace(&there, &back);
        let steps_back: Vec<_> = way.iter().rev().copied().collect();
        of_one(packet) == way && of_one(&answer) == steps_back
    });
    assert!(whole.count() > 0, "{}", said.stdout);
    let summary = said.stderr.lines().filter(|line| line.starts_with("from the pod: "));
    assert!(summary.count() == 1 && !said.stderr.contains("not seen behind"), "{}", said.stderr);

    // The last line that is shown may be any of a packet's.
    for count in 1..=7 {
        let said = capture(&scene, &format!("--count {count} default/web icmp"), other);
        assert_eq!(said.stdout.lines().count(), count, "{said:?}");
        assert!(said.status == 0 && !said.stderr.contains("not seen behind"), "{count}: {said:?}");
    }

    // Where a packet is dropped, it is the last place at which it is seen.
    let nft = |rules: &str| scene.breaks(scene.a(), &format!("nft '{rules}'"));
    let dies = |rules: &str, count: usize, words: &str| {
        nft(&format!("add table inet test; {rules}"));
        let said = capture(&scene, &format!("--count {count} default/web icmp"), other);
        assert!(said.status == 0 && said.stderr.contains(words), "{words}: {said:?}");
        nft("delete table inet test");
        said
    };
    let ask = format!("manx explain default/web {other} says why");
    let said = dies(
        &format!(
            "add chain inet test f {{ type filter hook forward priority -300; }}; \
             add rule inet test f ip daddr {other} drop"
        ),
        4,
        &format!("what is sent from the pod is not seen behind {link}: {ask}"),
    );
    assert!(said.stdout.lines().all(|line| parts(line).1 == "pod"), "{said:?}");
    let said = dies(
        "add chain inet test o { type filter hook output priority -300; }; \
         add rule inet test o udp dport 4789 drop",
        8,
        &format!(
            "what is sent from the pod is not seen behind vxlan.calico: manx explain default/web \
             {other} and manx probe say more"
        ),
    );
    assert!(said.stdout.lines().any(|line| parts(line).1 == "tunnel"), "{said:?}");
    let said = dies(
        "add chain inet test f { type filter hook forward priority -300; }; \
         add rule inet test f iifname vxlan.calico drop",
        20,
        &format!(
            "what is sent to the pod is not seen behind vxlan.calico: manx explain {other} default/web"
        ),
    );
    let answers = said.stdout.lines().map(parts).filter(|(.., packet)| packet.starts_with(&back));
    let mut places: Vec<&str> = answers.map(|(_, role, ..)| role).collect();
    places.sort_unstable();
    places.dedup();
    assert_eq!(places, ["tunnel", "uplink"], "{said:?}");

    // Time is a bound as well, and what leaves under the node's address is seen by a filter.
    let said = capture(&scene, "--seconds 2 default/web icmp and host 192.0.2.12", "192.0.2.12");
    assert_eq!(said.status, 0, "{said:?}");
    let words = "192.0.2.11 > 192.0.2.12: ICMP echo request";
    assert!(
        said.stdout.lines().any(|line| line.contains(words) && parts(line).2 == "eth0"),
        "{said:?}"
    );
    assert!(!said.stderr.contains("not seen behind"), "{said:?}");
    let wrong = scene.shell(scene.a(), "manx capture --path default/web no such thing");
    assert!(wrong.status == 1 && wrong.stderr.contains("tcpdump on "), "{wrong:?}");
}

/// A place whose tcpdump begins later than the others is no place that packets do not reach.
#[test]
fn packets_count_from_when_every_place_is_listened_to() {
    let scene = Scene::new();
    let other = addresses(&scene.pods[1]);
    let other = bare(&other[0]);
    for late in ["-i cali", "-i vxlan.calico", "-w - -i eth0", "-r -"] {
        let waits = format!("#!/bin/sh\ncase \"$*\" in *'{late}'*) sleep 1;; esac\n");
        let tcpdump = TCPDUMP.replacen("#!/bin/sh\n", &waits, 1);
        scene.a().host.scratch().script("programs/tcpdump", &tcpdump);
        let said = capture(&scene, "--count 60 default/web icmp", other);
        assert!(said.status == 0 && !said.stderr.contains("not seen behind"), "{late}: {said:?}");
        let ways = said.stderr.lines().filter(|line| line.contains(" the pod: "));
        for way in ways.clone() {
            let reached = ["at cali", "at vxlan.calico", "at eth0 in vxlan"];
            let unseen = reached.iter().find(|place| way.contains(&format!(" 0 {place}")));
            assert_eq!(unseen, None, "{late}: {said:?}");
        }
        assert_eq!(ways.count(), 2, "{late}: {said:?}");
    }
}

/// Nor is one whose tcpdump tells later than the others of what it saw.
#[test]
fn late_lines_are_waited_for_before_a_loss_is_told() {
    let scene = Scene::new();
    let other = addresses(&scene.pods[1]);
    let other = bare(&other[0]);
    // The pod's place is the last on the way back: its first line waits for longer than lines are held.
    let late = "#!/bin/sh\ncase \"$*\" in\n*'-i cali'*)\n  \"$0-at-once\" \"$@\" | {\n    \
                IFS= read -r line\n    sleep 0.6\n    printf '%s\\n' \"$line\"\n    exec cat\n  };;\n\
                *) exec \"$0-at-once\" \"$@\";;\nesac\n";
    scene.a().host.scratch().script("programs/tcpdump-at-once", TCPDUMP);
    scene.a().host.scratch().script("programs/tcpdump", late);
    // A machine may be later yet.
    let mut said = Vec::new();
    let is_well = (0..3).any(|_| {
        let one = capture(&scene, "--count 4 default/web icmp", other);
        let is_well = one.status == 0 && !one.stderr.contains("not seen behind");
        said.push(one);
        is_well
    });
    assert!(is_well, "{said:?}");
}
