// SPDX-License-Identifier: Apache-2.0
//! An agent's table, and what others do to it, in network namespaces of the tests.

use std::{fs, process, thread};

use nix::sched::{CloneFlags, unshare};
use serde_json::json;

use super::*;
use crate::{
    nft::policy::Grant,
    node::policy::held,
    policy::{Flow, allows, read},
    state::{Entry, Journal, Otherwise},
};

/// Does that on a thread with a network namespace and a root of its own.
fn alone(name: &str, what: impl FnOnce(&Root) + Send) {
    let directory = std::env::temp_dir().join(format!("manx-kept-{name}-{}", process::id()));
    fs::create_dir_all(&directory).unwrap();
    let root = Root::new(&directory);
    let ended = thread::scope(|scope| {
        let within = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            what(&root);
        });
        within.join()
    });
    fs::remove_dir_all(&directory).unwrap();
    ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

/// What others do, and how.
type Deed = (&'static str, fn(&mut Policies));

/// Two pods of node `n` that speak to each other alone, and to a network.
fn world() -> World {
    let pod = |name: &str, ips: [&str; 2]| {
        json!({"kind": "Pod", "metadata": {"namespace": "x", "name": name, "uid": name,
                "labels": {"app": name}}, "spec": {"nodeName": "n"},
            "status": {"podIPs": [{"ip": ips[0]}, {"ip": ips[1]}]}})
    };
    let peers = json!([{"podSelector": {}}, {"ipBlock": {"cidr": "10.9.0.0/16"}}]);
    let ports = json!([{"port": 80}, {"port": 90, "endPort": 99}]);
    let list = json!({"kind": "List", "items": [
        pod("a", ["10.0.0.1", "fd00::1"]), pod("b", ["10.0.0.2", "fd00::2"]),
        {"kind": "NetworkPolicy", "metadata": {"namespace": "x", "name": "p"},
         "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"],
                  "ingress": [{"from": peers, "ports": ports}], "egress": [{"to": peers}]}}]});
    read(list.to_string().as_bytes()).unwrap().world
}

/// Whatever is taken out of any set or map, or put there: it is noticed without a look at the
/// time, and mended; and connections that began meanwhile are looked for.
#[test]
fn whatever_others_change_of_what_the_table_holds_is_noticed_and_mended() {
    let deeds: [Deed; 9] = [
        ("a class at egress is gone", |it| {
            it.ways[0].classes.list().remove(0);
        }),
        ("a class at ingress is gone", |it| {
            it.ways[1].classes.list().pop();
        }),
        ("a class is another", |it| {
            it.ways[1].classes.insert([10, 0, 0, 1].into(), 77);
        }),
        ("an identity is gone", |it| {
            it.identities.list().remove(0);
        }),
        ("a stranger has an identity", |it| {
            let known = it.identities.list()[0].1;
            it.identities.insert([10, 0, 0, 7].into(), known);
        }),
        ("a pod does not hear itself", |it| {
            it.own.list().remove(0);
        }),
        ("a grant is gone", |it| {
            it.ways[1].grants.list().pop();
        }),
        ("anybody is let in", |it| {
            let (grant, _) = it.ways[1].grants.list()[0];
            it.ways[1].grants.insert(Grant { protocol: 0, peer: 0, port: 0, ..grant }, 0);
        }),
        ("a network is gone", |it| {
            it.ways[1].networks.list().remove(0);
        }),
    ];
    alone("changed", |root| {
        let (world, mut kept) = (world(), Kept::new("n", Denial::default(), root));
        assert!(kept.pass(&world, true).unwrap().changed);
        let before = held().unwrap().unwrap();
        for (deed, act) in deeds {
            assert!(!kept.is_overtaken().unwrap(), "{deed}");
            let mut other = held().unwrap().unwrap();
            act(&mut other);
            assert_ne!(other, before, "{deed}");
            other.enforce().unwrap();
            assert!(kept.is_overtaken().unwrap(), "{deed}");
            let done = kept.pass(&world, true).unwrap();
            let mended = Done { changed: true, read: true, restricts: false, mended: true };
            assert_eq!(done, mended, "{deed}");
            assert_eq!(held().unwrap().unwrap(), before, "{deed}");
        }
        assert_eq!(kept.pass(&world, false).unwrap(), Done::default());
    });
}

/// Whoever makes the table again: connections that began meanwhile are looked for by the agent.
#[test]
fn a_table_that_others_made_again_was_away_for_a_while() {
    alone("made", |root| {
        let (world, mut kept) = (world(), Kept::new("n", Denial::default(), root));
        kept.pass(&world, true).unwrap();
        let pod = Entry {
            network: "net".to_owned(),
            container_id: "a".to_owned(),
            ifname: "eth0".to_owned(),
            args: "K8S_POD_NAMESPACE=x;K8S_POD_NAME=a;K8S_POD_UID=a".to_owned(),
            addresses: vec![[10, 0, 0, 1].into(), "fd00::1".parse().unwrap()],
            enforced: Some(Otherwise::Closed),
            ..Entry::default()
        };
        Journal::new(root, "net").write(&pod).unwrap();
        kept.pass(&world, true).unwrap();
        let quiet = Done { read: true, ..Done::default() };
        assert_eq!(kept.pass(&world, true).unwrap(), quiet);
        let before = held().unwrap().unwrap();
        let others: [fn(&Root); 2] = [
            |_| assert!(Policies::remove(TABLE).unwrap()),
            |_| {
                let mut other = held().unwrap().unwrap();
                other.ways[1].classes.remove(&[10, 0, 0, 1].into());
                other.enforce().unwrap();
            },
        ];
        for damage in others {
            damage(root);
            assert!(pods::restore_table(root).unwrap());
            assert_eq!(held().unwrap().unwrap(), before);
            assert!(kept.is_overtaken().unwrap());
            // Nothing is to be done of the table any more, again and again until that is so.
            for _ in 0..2 {
                let done = kept.pass(&world, true).unwrap();
                assert_eq!(done, Done { mended: true, ..quiet });
            }
            kept.cut().unwrap();
            assert_eq!(kept.pass(&world, true).unwrap(), quiet);
        }
    });
}

/// What a kernel could not do once it is asked for again, with all of the table, and not before.
#[test]
fn how_packets_are_denied_is_as_was_asked_for_as_soon_as_the_kernel_can() {
    alone("denial", |root| {
        let (world, wished) = (world(), Denial { rejects: true, ..Denial::default() });
        let possible = Denial { counts: false, ..Denial::default() };
        let mut kept = Kept::new("n", possible, root);
        kept.pass(&world, true).unwrap();
        kept.denial = wished;
        assert_eq!(kept.pass(&world, false).unwrap(), Done::default());
        assert!(kept.pass(&world, true).unwrap().changed);
        let held = Policies { table: TABLE.to_owned(), denial: wished, ..Policies::default() };
        assert!(held.look().unwrap().is_sound);
        assert!(!kept.pass(&world, true).unwrap().changed);
    });
}

/// Where the pass that is killed finds its root; there is none where nobody kills it.
const KILLED_ROOT: &str = "MANX_TEST_KILLED_ROOT";

/// The two of [`world`] under other policies: other peers, other ports, another class at egress.
fn next_world() -> World {
    let mut next = world();
    let pod = std::sync::Arc::make_mut(&mut next.pods[1]);
    pod.labels = std::sync::Arc::new([("app".to_owned(), "other".to_owned())].into());
    let list = json!({"kind": "List", "items": [
        {"kind": "NetworkPolicy", "metadata": {"namespace": "x", "name": "q"}, "spec":
            {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [
                {"from": [{"podSelector": {"matchLabels": {"app": "other"}}},
                          {"ipBlock": {"cidr": "10.8.0.0/16", "except": ["10.8.1.0/24"]}}],
                 "ports": [{"port": 81}, {"port": 95, "endPort": 110}]},
                {"from": [{"ipBlock": {"cidr": "fd09::/64"}}]}]}},
        {"kind": "NetworkPolicy", "metadata": {"namespace": "x", "name": "r"}, "spec":
            {"podSelector": {"matchLabels": {"app": "other"}}, "policyTypes": ["Egress"],
             "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/24"}}]}]}}]});
    next.policies = read(list.to_string().as_bytes()).unwrap().world.policies;
    next
}

#[test]
#[ignore = "the next test runs it, and kills it"]
fn a_pass_that_is_killed() {
    let Some(directory) = std::env::var_os(KILLED_ROOT) else { return };
    let mut kept = Kept::new("n", Denial::default(), &Root::new(&directory));
    kept.pass(&world(), true).unwrap();
    assert!(kept.pass(&next_world(), false).unwrap().changed);
}

/// An agent that is killed at whichever message it has for the kernel, while it follows the
/// cluster: what is left allows nothing that neither world does and denies nothing that both
/// allow, and the next one makes it whole.
#[test]
fn whatever_an_agent_that_is_killed_leaves_is_between_the_worlds() {
    let mut flows = Vec::new();
    let ends = ["10.0.0.1", "10.0.0.2", "10.9.0.1", "10.8.0.1", "10.8.1.1", "192.0.2.1"];
    for ends in [&ends[..], &["fd00::1", "fd00::2", "fd09::1", "2001:db8::1"]] {
        for (from, to) in ends.iter().flat_map(|from| ends.iter().map(move |to| (from, to))) {
            let (source, destination) = (from.parse().unwrap(), to.parse().unwrap());
            flows.extend([80, 81, 92, 97, 105].map(|port| Flow {
                source,
                destination,
                protocol: 6,
                port: Some(port),
            }));
            flows.push(Flow { source, destination, protocol: 1, port: None });
        }
    }
    let answers = |held: &Policies| flows.iter().map(|it| allows(held, it)).collect::<Vec<_>>();
    alone("killed", |root| {
        let pass = |world: &World| {
            Kept::new("n", Denial::default(), root).pass(world, true).unwrap();
            held().unwrap().unwrap()
        };
        let (after, before) = (pass(&next_world()), pass(&world()));
        let [was, will] = [&before, &after].map(answers);
        assert!(flows.len() > 100 && was.iter().zip(&will).any(|(was, will)| was != will));
        let directory = root.runtime().ancestors().nth(2).unwrap().to_owned();
        let (mut kills, mut partial) = (0, 0);
        for count in 1..1000 {
            assert_eq!(pass(&world()), before);
            let inject = format!("inject=sendto:signal=KILL:when={count}");
            let mut strace = process::Command::new("strace");
            strace.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=sendto", "-e", &inject]);
            strace.arg(std::env::current_exe().unwrap());
            strace.args(["--ignored", "--exact"]);
            strace.arg("node::policy::kept::tests::a_pass_that_is_killed");
            strace.env(KILLED_ROOT, &directory);
            let ended = strace.output().unwrap();
            let left = held().unwrap().unwrap();
            if ended.status.success() {
                assert_eq!(left, after, "{ended:?}");
                break;
            }
            kills += 1;
            partial += usize::from(left != before && left != after);
            for (flow, (is, (was, will))) in
                flows.iter().zip(answers(&left).into_iter().zip(was.iter().zip(&will)))
            {
                assert!(is == *was || is == *will, "killed at {count}: {flow:?}: {is}");
            }
            assert_eq!(pass(&next_world()), after, "killed at {count}");
        }
        assert!(kills >= 6 && partial >= 1, "{kills} kills, {partial} left neither world");
    });
}
