// SPDX-License-Identifier: Apache-2.0
//! What each verb may ask of the kernel: system calls and netlink messages of
//! our own process.
//!
//! Unlike times, these do not depend on the machine or its mood, so a verb that
//! gets slower by doing more is seen here, on any machine. `hack/bench` measures
//! the times.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::harness::{Call, Host, Plugin, Pod};
use crate::node::{manx, script, strace};

/// In the order in which they are called.
const VERBS: [&str; 6] = ["VERSION", "STATUS", "ADD", "CHECK", "GC", "DEL"];

/// An attachment's families and masquerade, and where its addresses are from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Shape {
    /// manx-ipam.
    Ipv4,
    DualStack,
    /// Both families.
    Masquerade,
    /// Another plugin.
    Delegated,
}

/// The budget: verb, shape, system calls, netlink messages. Whoever raises a
/// number does it in the commit that needs it, which says what the pods get for
/// it; whoever gets below one lowers it.
///
/// One message of an ADD, with the four calls that it takes, asks for the rules by
/// which a pod speaks in no name but its own. STATUS and CHECK compare all of the
/// network's table; STATUS asks for the links besides, one of which may have lost the
/// group by which the rules know it, and writes a nameless file where an ADD would write.
///
/// One system call at the end asks whether somebody counts calls; where somebody does, there
/// is one more (`counted.rs`).
///
/// The messages are what they are; those of an ADD stand for the files below
/// /proc/sys that it does not open. System calls have some room, for a pipe that
/// is read in two pieces and for what the allocator of another libc does. Those of a
/// STATUS ask for the route to each address that the next pod would get, those of a
/// GC for the routes to the addresses of a pod that is dead.
const BUDGET: &[(&str, Shape, usize, usize)] = &[
    ("VERSION", Shape::Ipv4, 78, 0),
    ("STATUS", Shape::Ipv4, 152, 8),
    ("ADD", Shape::Ipv4, 166, 17),
    ("CHECK", Shape::Ipv4, 160, 13),
    ("GC", Shape::Ipv4, 192, 2),
    ("DEL", Shape::Ipv4, 164, 3),
    ("STATUS", Shape::DualStack, 160, 9),
    ("ADD", Shape::DualStack, 222, 27),
    ("CHECK", Shape::DualStack, 194, 16),
    ("GC", Shape::DualStack, 206, 3),
    ("DEL", Shape::DualStack, 170, 3),
    ("STATUS", Shape::Masquerade, 166, 11),
    ("ADD", Shape::Masquerade, 224, 27),
    ("CHECK", Shape::Masquerade, 196, 17),
    ("GC", Shape::Masquerade, 206, 3),
    ("DEL", Shape::Masquerade, 170, 3),
    ("STATUS", Shape::Delegated, 176, 7),
    ("ADD", Shape::Delegated, 186, 17),
    ("CHECK", Shape::Delegated, 190, 13),
    ("DEL", Shape::Delegated, 176, 3),
];

/// What a run did.
#[derive(Clone, Copy, Debug)]
struct Spent {
    system_calls: usize,
    messages: usize,
}

/// Runs a call under strace; gives what our own process and its threads did, not
/// a process that they start, between fork and exec or after.
fn spent(host: &Host, call: &Call) -> (Spent, Value) {
    let (finished, trace) = strace(host, call, &["-f", "-v", "-qq"]);
    assert_eq!(finished.status, 0, "{finished:?}");
    let answer = serde_json::from_str(&finished.stdout).unwrap_or_default();
    let pid = |line: &str| line.split_whitespace().next().unwrap_or_default().to_owned();
    let first = trace.lines().next().map(pid).expect("a traced process");
    let others: HashSet<String> = trace
        .lines()
        .filter(|line| line.contains(" execve("))
        .map(pid)
        .filter(|process| *process != first)
        .collect();
    assert!(others.len() <= 1, "at most one process besides us");
    let own: Vec<&str> = trace
        .lines()
        .filter(|line| line.contains('(') && !line.contains(" resumed>"))
        .filter(|line| !line.contains(" --- ") && !others.contains(&pid(line)))
        .collect();
    let sends = own.iter().filter(|line| line.contains(" sendto(") || line.contains(" sendmsg("));
    // Those of rtnetlink and of nfnetlink, with the frames of a batch.
    let messages = sends.map(|line| line.matches("nlmsg_type=").count()).sum();
    (Spent { system_calls: own.len(), messages }, answer)
}

fn plugin(host: &Host, shape: Shape) -> Plugin {
    let ipv6 = matches!(shape, Shape::DualStack | Shape::Masquerade);
    let mut ranges = vec![json!([{"subnet": "10.1.0.0/24"}])];
    ranges.extend(ipv6.then(|| json!([{"subnet": "fd00:1::/64"}])));
    let leases = host.scratch().dir("leases");
    let ipam = match shape {
        Shape::Delegated => delegate(host),
        _ => json!({"type": "manx-ipam", "dataDir": leases, "ranges": ranges}),
    };
    // As containerd inserts them for the shipped configurations.
    let annotations = json!({"kubernetes.io/config.source": "api", "example.org/owner": "x"});
    manx(host, &ipam)
        .with("runtimeConfig", json!({"io.kubernetes.cri.pod-annotations": annotations}))
        .with("ipMasq", (shape == Shape::Masquerade).into())
}

/// A delegate that is a shell which only uses its own words: no process behind
/// it, and no disk.
fn delegate(host: &Host) -> Value {
    let ips = |number: u8| json!({"ips": [{"address": format!("10.1.0.{number}/24")}]});
    let body = format!(
        "while read -r line; do :; done
         case $CNI_COMMAND$CNI_CONTAINERID in
           ADDfirst*) echo '{}';;
           ADD*) echo '{}';;
         esac",
        ips(4),
        ips(5)
    );
    script(host, "shell", &body);
    json!({"type": "shell"})
}

#[test]
fn no_verb_asks_more_of_the_kernel_than_it_may() {
    let mut over = Vec::new();
    for shape in [Shape::Ipv4, Shape::DualStack, Shape::Masquerade, Shape::Delegated] {
        let (host, _outside) = Host::with_uplink();
        let plugin = plugin(&host, shape);
        // The network's first pod may cost more.
        plugin.add(&Pod::new("first")).ok();
        let pod = Pod::new("a");
        let mut result = Value::Null;
        for verb in VERBS {
            // VERSION has no families, and GC asks a delegate by two processes.
            let row = BUDGET.iter().find(|row| (row.0, row.1) == (verb, shape));
            let Some((_, _, system_calls, messages)) = row else { continue };
            let call = match verb {
                "CHECK" => plugin.call(verb).pod(&pod).key("prevResult", result.clone()),
                "GC" => {
                    let named = |id: &str| json!({"containerID": id, "ifname": "eth0"});
                    let valid = json!([named("first"), named(&pod.id)]);
                    plugin.call(verb).key("cni.dev/valid-attachments", valid)
                }
                "ADD" | "DEL" => plugin.call(verb).pod(&pod),
                _ => plugin.call(verb),
            };
            let (spent, answer) = spent(&host, &call);
            if verb == "ADD" {
                result = answer;
            }
            let told = format!(
                "{verb}, {shape:?}: {} system calls of at most {system_calls}, \
                 {} netlink messages of at most {messages}",
                spent.system_calls, spent.messages
            );
            println!("{told}");
            if spent.system_calls > *system_calls || spent.messages > *messages {
                over.push(told);
            }
        }
    }
    assert!(
        over.is_empty(),
        "{}\nIf that is worth it, raise BUDGET in {} in the same commit, and say there what the pods \
         get for it. strace -f shows what is new.",
        over.join("\n"),
        file!()
    );
}

#[test]
fn every_row_of_the_budget_is_measured() {
    for (verb, shape, ..) in BUDGET {
        assert!(VERBS.contains(verb), "{verb} {shape:?}");
        let rows = BUDGET.iter().filter(|row| (row.0, row.1) == (*verb, *shape)).count();
        assert_eq!(rows, 1, "{verb} {shape:?}");
    }
}
