// SPDX-License-Identifier: Apache-2.0
//! Rules 55 to 59: CHECK.

use serde_json::{Value, json};

use crate::harness::{DEADLINE, Netns, Pod, eventually};
use crate::rule::Level::{DeFacto, Must, Should};
use crate::rule::{Rule, Stop, Verdict, ensure, fails, in_case, ok, rule, words};
use crate::suite::{Node, SUBNET, SUBNET6, Suite, addresses, list};

pub const RULES: &[Rule] = &[
    rule("55", Must, "CHECK needs a previous result and verifies the interface", verifies),
    rule("55b", DeFacto, "CHECK tolerates what later plugins of a list change", tolerates),
    rule("56", Should, "CHECK finds each thing of the attachment that is missing", finds),
    rule("57", Must, "CHECK passes right after ADD, in every version that has it", after_add),
    rule("58", Should, "CHECK runs IPAM's CHECK, and prints nothing", asks_ipam),
    rule("59", Must, "CHECK changes nothing", changes_nothing),
];

/// A node with one attachment that CHECK finds in order.
fn attached(suite: &Suite) -> Result<(Node, Pod, Value), Stop> {
    let (node, pod) = (suite.node(), Pod::new("a"));
    let result = ok(node.plugin.add(&pod))?;
    in_case("unharmed", ok(node.plugin.check(&pod, &result)))?;
    Ok((node, pod, result))
}

fn verifies(suite: &Suite) -> Verdict {
    let (node, pod, result) = attached(suite)?;
    in_case("no previous result", fails(node.plugin.call("CHECK").pod(&pod).run()))?;
    pod.netns.command("ip", &["address", "flush", "dev", "eth0"]).ok();
    in_case("no address", fails(node.plugin.check(&pod, &result)))?;
    let (node, pod, result) = attached(suite)?;
    pod.netns.command("ip", &["link", "delete", "eth0"]).ok();
    in_case("no interface", fails(node.plugin.check(&pod, &result)))?;
    let (node, pod, result) = attached(suite)?;
    let other = Pod { netns: Pod::new("b").netns, ..pod };
    in_case("another namespace", fails(node.plugin.check(&other, &result)))?;
    Ok(())
}

fn tolerates(suite: &Suite) -> Verdict {
    let (node, pod, mut result) = attached(suite)?;
    // A change of MAC address makes the kernel forget a pod's permanent neighbours;
    // with a default route, as nodes have one, the node may answer for the next hop.
    node.host.command("ip", &["route", "add", "default", "dev", "lo"]).ok();
    pod.netns.command("ip", &["link", "set", "eth0", "mtu", "1400"]).ok();
    in_case("a smaller MTU (tuning)", ok(node.plugin.check(&pod, &result)))?;
    let mac = "02:00:00:00:00:77";
    pod.netns.command("ip", &["link", "set", "eth0", "address", mac]).ok();
    for entry in result["interfaces"].as_array_mut().into_iter().flatten() {
        if entry["name"] == "eth0" {
            entry["mac"] = mac.into();
        }
    }
    in_case("another MAC (tuning)", ok(node.plugin.check(&pod, &result)))?;
    for route in pod.netns.routes("-4") {
        copy_to_table_100(&pod, &route);
    }
    pod.netns.command("ip", &["route", "delete", "default"]).ok();
    in_case("routes in another table (sbr)", ok(node.plugin.check(&pod, &result)))?;
    Ok(())
}

/// What sbr does with each route, before it removes the default route of the
/// main table.
fn copy_to_table_100(pod: &Pod, route: &Value) {
    let mut words = vec!["route", "add", route["dst"].as_str().unwrap_or_default()];
    for (key, word) in [("gateway", "via"), ("dev", "dev"), ("scope", "scope")] {
        words.extend(route[key].as_str().into_iter().flat_map(|value| [word, value]));
    }
    if route["gateway"].is_string() {
        words.push("onlink");
    }
    words.extend(["table", "100"]);
    pod.netns.command("ip", &words).ok();
}

/// Harms an attachment; false if there was nothing of the kind to harm.
type Harm = fn(&Node, &Pod, &Value) -> bool;

fn finds(suite: &Suite) -> Verdict {
    let harms: [(&str, Harm); 4] = [
        ("the pod's default route", |_, pod, _| {
            pod.netns.command("ip", &["route", "delete", "default"]).status == 0
        }),
        ("the pod's link, down", |_, pod, _| {
            pod.netns.command("ip", &["link", "set", "eth0", "down"]).status == 0
        }),
        ("the node's link, down", |node, _, _| {
            node.veths()
                .iter()
                .any(|veth| node.host.command("ip", &["link", "set", veth, "down"]).status == 0)
        }),
        ("the node's route to the pod", |node, _, result| {
            addresses(result).iter().any(|address| {
                node.host_route(address)
                    && node.host.command("ip", &["route", "delete", address]).status == 0
            })
        }),
    ];
    let mut missed = Vec::new();
    for (case, harm) in harms {
        let (node, pod, result) = attached(suite)?;
        if harm(&node, &pod, &result) && node.plugin.check(&pod, &result).status == 0 {
            missed.push(case);
        }
    }
    ensure!(missed.is_empty(), "CHECK passes without {}", missed.join(", "));
    Ok(())
}

fn after_add(suite: &Suite) -> Verdict {
    for version in ["0.4.0", "1.0.0", "1.1.0"] {
        let (node, pod) = (suite.node(), Pod::new("a"));
        let pools: &[&str] = if node.needs_pool().is_ok() { &[SUBNET, SUBNET6] } else { &[SUBNET] };
        let plugin = node.subnets(pools).with("cniVersion", version.into());
        for _ in 0..3 {
            let result = ok(plugin.add(&pod))?;
            in_case(version, ok(plugin.check(&pod, &result)))?;
            ok(plugin.del(&pod))?;
        }
    }
    Ok(())
}

fn asks_ipam(suite: &Suite) -> Verdict {
    let (node, pod) = (suite.node(), Pod::new("a"));
    let (plugin, ipam) = node.scripted();
    let result = ok(plugin.add(&pod))?;
    let reply = plugin.check(&pod, &result);
    ensure!(reply.stdout.is_empty(), "stdout holds {:?}", reply.stdout);
    ok(reply)?;
    ensure!(ipam.log() == ["ADD", "CHECK"], "IPAM saw {:?}", ipam.log());
    ipam.fails("CHECK", 111, "the lease is lost");
    let error = fails(plugin.check(&pod, &result))?;
    ensure!(words(&error).contains("the lease is lost"), "the cause is lost: {error}");
    Ok(())
}

fn changes_nothing(suite: &Suite) -> Verdict {
    let (node, pod, result) = attached(suite)?;
    // What the kernel itself still has to do is no change by CHECK.
    let settled = |netns: &Netns| netns.ip(&["-6", "address", "show", "tentative"]);
    let both = [&*node.host, &pod.netns];
    let quiet = || {
        both.iter().all(|netns| {
            list(&settled(netns))
                .all(|link| link["addr_info"].is_null() || link["addr_info"] == json!([]))
        })
    };
    ensure!(eventually(DEADLINE, quiet), "addresses stay tentative");
    let before = state(&node, &pod);
    ok(node.plugin.check(&pod, &result))?;
    same(&before, &state(&node, &pod))?;
    // Neither does it mend what it finds broken.
    pod.netns.command("ip", &["route", "delete", "default"]).ok();
    let before = state(&node, &pod);
    node.plugin.check(&pod, &result);
    same(&before, &state(&node, &pod))
}

fn same(before: &[String], after: &[String]) -> Verdict {
    for (old, new) in before.iter().zip(after) {
        ensure!(old == new, "CHECK changed {old} to {new}");
    }
    Ok(())
}

/// All that a namespace shows of its links, addresses, routes, permanent
/// neighbours, sysctls and rules, and the addresses allocated.
fn state(node: &Node, pod: &Pod) -> Vec<String> {
    let mut state: Vec<String> = node.leases().into_iter().collect();
    for netns in [&*node.host, &pod.netns] {
        for args in [
            &["-4", "route", "show", "table", "all"][..],
            &["-6", "route", "show", "table", "all"],
            &["neighbour", "show", "nud", "permanent"],
        ] {
            state.push(netns.ip(args).to_string());
        }
        // Without the details, among which are timers.
        state.push(netns.command("ip", &["-j", "link", "show"]).ok());
        // Lifetimes of addresses run; the addresses are what counts.
        let links = netns.ip(&["address", "show"]);
        let infos = list(&links).flat_map(|link| list(&link["addr_info"]));
        state.push(infos.map(|info| info["local"].to_string()).collect());
        state.push(netns.command("nft", &["list", "ruleset"]).stdout);
        state.push(
            netns.command("grep", &["-rs", ".", "/proc/sys/net/ipv4", "/proc/sys/net/ipv6"]).stdout,
        );
    }
    state.push(json!(node.veths()).to_string());
    state
}
