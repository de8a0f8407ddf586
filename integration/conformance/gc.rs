// SPDX-License-Identifier: Apache-2.0
//! Rules 60 to 64: GC.

use serde_json::{Value, json};

use crate::harness::Pod;
use crate::rule::Level::{DeFacto, Must, Should};
use crate::rule::{Rule, Stop, Verdict, elsewhere, ensure, in_case, ok, rule};
use crate::suite::{Node, Suite};

pub const RULES: &[Rule] = &[
    rule("60", Should, "GC removes what is not valid, and only that", removes_stale),
    rule("61", Must, "GC runs IPAM's GC with the list", asks_ipam),
    rule("62", DeFacto, "GC without a list does nothing; null and [] leave nothing", lists),
    rule("63", Must, "GC touches no other network", other_networks),
    elsewhere("64", Must, "GC is no substitute for DEL", "the runtime's to keep"),
];

fn removes_stale(suite: &Suite) -> Verdict {
    let node = suite.node();
    node.needs_pool()?;
    let (kept, stale, gone) = (Pod::new("kept"), Pod::new("stale"), Pod::new("gone"));
    let result = ok(node.plugin.add(&kept))?;
    ok(node.plugin.add(&stale))?;
    ok(node.plugin.add(&gone))?;
    // One namespace still exists, the other went without a DEL.
    drop(gone);
    ok(node.plugin.gc(&[&kept]))?;
    node.alive(&kept, &result)?;
    ensure!(stale.netns.link("eth0").is_none(), "the stale attachment's link is left");
    let leases = node.leases();
    ensure!(leases.len() == 1, "stale addresses are left: {leases:?}");
    ok(node.plugin.del(&kept))?;
    node.clean(&kept)
}

fn asks_ipam(suite: &Suite) -> Verdict {
    let (node, pod) = (suite.node(), Pod::new("a"));
    let (plugin, ipam) = node.scripted();
    ok(plugin.gc(&[&pod]))?;
    ensure!(ipam.log().contains(&"GC".into()), "IPAM saw {:?}", ipam.log());
    let list = &ipam.stdin("GC")["cni.dev/valid-attachments"];
    ensure!(list[0]["containerID"] == *pod.id, "the list was not passed on: {list}");
    Ok(())
}

/// Keys of a configuration.
type Keys<'a> = &'a [(&'a str, Value)];

/// Whether the attachment of `pod` survives a GC with these keys.
fn survives(node: &Node, keys: Keys) -> Result<bool, Stop> {
    let pod = Pod::new("a");
    let result = ok(node.plugin.add(&pod))?;
    let mut call = node.plugin.call("GC");
    for (key, value) in keys {
        call = call.key(key, value.clone());
    }
    ok(call.run())?;
    let alive = pod.netns.link("eth0").is_some();
    if alive {
        node.alive(&pod, &result)?;
    }
    ok(node.plugin.del(&pod))?;
    Ok(alive)
}

fn lists(suite: &Suite) -> Verdict {
    let node = suite.node();
    let (new, old) = ("cni.dev/valid-attachments", "cni.dev/attachments");
    let someone = json!([{"containerID": "someone", "ifname": "eth0"}]);
    let cases: [(&str, Keys, bool); 6] = [
        ("no list", &[], true),
        ("null", &[(new, Value::Null)], false),
        ("an empty list", &[(new, json!([]))], false),
        ("a list of others", &[(new, someone.clone())], false),
        ("an empty list under the old key", &[(old, json!([]))], false),
        ("a list of others under the old key", &[(old, someone)], false),
    ];
    for (case, keys, expected) in cases {
        let alive = in_case(case, survives(&node, keys))?;
        ensure!(
            alive == expected,
            "{case}: the attachment {}",
            if alive { "stays" } else { "went" }
        );
    }
    Ok(())
}

fn other_networks(suite: &Suite) -> Verdict {
    let node = suite.node();
    node.needs_pool()?;
    let other = node.other_network();
    let (ours, theirs) = (Pod::new("a"), Pod::new("b"));
    ok(node.plugin.add(&ours))?;
    let result = ok(other.add(&theirs))?;
    ok(node.plugin.gc(&[]))?;
    node.alive(&theirs, &result)?;
    let leases = node.leases_of("other");
    ensure!(leases.len() == 1, "the other network's addresses are {leases:?}");
    ok(other.check(&theirs, &result))?;
    Ok(())
}
