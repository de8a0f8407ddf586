// SPDX-License-Identifier: Apache-2.0
//! Rules 46 to 54: DEL.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{Plugin, Pod};
use crate::rule::Level::{DeFacto, Must, Should};
use crate::rule::{Rule, Verdict, elsewhere, ensure, fails, in_case, ok, rule, words};
use crate::suite::{Node, Suite, addresses};

pub const RULES: &[Rule] = &[
    rule("46", Must, "DEL succeeds any number of times, and for what never was", repeated),
    rule("47", Must, "DEL without a namespace succeeds and releases the address", no_namespace),
    rule(
        "47b",
        DeFacto,
        "DEL without a namespace also removes what is on the node",
        no_namespace_node,
    ),
    rule("48", DeFacto, "a CNI_NETNS that is no namespace counts as gone", not_a_namespace),
    rule("49", DeFacto, "DEL touches no link where CNI_NETNS is the node's namespace", host_netns),
    rule("50", Must, "DEL needs no previous result, and takes any", previous_results),
    rule("51", Should, "DEL works although the configuration changed", changed_configuration),
    rule("51b", Should, "a broken configuration keeps no link alive", broken_configuration),
    rule("52", Must, "DEL runs IPAM's DEL and reports its failure", ipam_failure),
    rule("52b", DeFacto, "a failing or missing IPAM plugin keeps no link alive", ipam_last),
    rule("53", Should, "DEL prints nothing", silent),
    elsewhere("54", Must, "in a list DEL runs in reverse order", "the runtime library's to keep"),
];

/// A node with one attachment.
fn attached(suite: &Suite) -> Result<(Node, Pod, Value), crate::rule::Stop> {
    let (node, pod) = (suite.node(), Pod::new("a"));
    let result = ok(node.plugin.add(&pod))?;
    Ok((node, pod, result))
}

fn repeated(suite: &Suite) -> Verdict {
    let (node, pod, _) = attached(suite)?;
    for _ in 0..3 {
        ok(node.plugin.del(&pod))?;
        node.clean(&pod)?;
    }
    in_case("never added", ok(node.plugin.del(&Pod::new("never"))))?;
    Ok(())
}

/// DEL as a runtime sends it when the namespace is gone.
fn dels_without_namespace(plugin: &Plugin, pod: &Pod) -> Vec<(&'static str, crate::harness::Call)> {
    let del = || plugin.call("DEL").pod(pod);
    vec![
        ("unset", del().without("CNI_NETNS")),
        ("empty", del().env("CNI_NETNS", "")),
        ("no such file", del().env("CNI_NETNS", "/no/such/namespace")),
    ]
}

fn no_namespace(suite: &Suite) -> Verdict {
    for at in 0..3 {
        let (node, pod, _) = attached(suite)?;
        let (case, call) = dels_without_namespace(&node.plugin, &pod).swap_remove(at);
        in_case(case, ok(call.run()))?;
        ensure!(node.leases().is_empty(), "{case}: {:?} are left allocated", node.leases());
    }
    Ok(())
}

fn no_namespace_node(suite: &Suite) -> Verdict {
    for at in 0..3 {
        let (node, pod, result) = attached(suite)?;
        let (case, call) = dels_without_namespace(&node.plugin, &pod).swap_remove(at);
        in_case(case, ok(call.run()))?;
        in_case(case, node.clean(&pod))?;
        for address in addresses(&result) {
            ensure!(!node.host_route(&address), "{case}: the route to {address} is left");
        }
    }
    Ok(())
}

fn not_a_namespace(suite: &Suite) -> Verdict {
    for case in ["a file", "a directory", "a dangling link"] {
        let (node, pod, _) = attached(suite)?;
        let path = node.host.scratch().path().join("netns");
        match case {
            "a file" => fs::write(&path, "").expect("write a file"),
            "a directory" => fs::create_dir(&path).expect("make a directory"),
            _ => std::os::unix::fs::symlink("/no/such/namespace", &path).expect("make a link"),
        }
        let path = path.display().to_string();
        in_case(case, ok(node.plugin.call("DEL").pod(&pod).env("CNI_NETNS", &path).run()))?;
        ensure!(node.leases().is_empty(), "{case}: {:?} are left allocated", node.leases());
    }
    Ok(())
}

fn host_netns(suite: &Suite) -> Verdict {
    let (node, pod) = (suite.node(), Pod::new("a"));
    node.host.command("ip", &["link", "add", "eth0", "type", "veth", "peer", "uplink"]).ok();
    let node_itself = Pod { netns: (*node.host).clone(), ..pod };
    // Whether this succeeds is not the rule; that the node survives it is.
    node.plugin.del(&node_itself);
    node.plugin.add(&node_itself);
    node.plugin.check(&node_itself, &json!({}));
    ensure!(node.host.link("eth0").is_some(), "the node's own eth0 is gone");
    Ok(())
}

fn previous_results(suite: &Suite) -> Verdict {
    let old = json!({"cniVersion": "0.2.0", "ip4": {"ip": "10.244.7.2/24"}});
    let future = json!({"cniVersion": "9.9.9", "ips": 5});
    let cases = [("null", Value::Null), ("of 0.2.0", old), ("of 9.9.9", future)];
    for (case, previous) in cases {
        let (node, pod, _) = attached(suite)?;
        in_case(case, ok(node.plugin.call("DEL").pod(&pod).key("prevResult", previous).run()))?;
        in_case(case, node.clean(&pod))?;
    }
    let (node, pod, result) = attached(suite)?;
    ok(node.plugin.clone().with("prevResult", result).del(&pod))?;
    node.clean(&pod)
}

fn changed_configuration(suite: &Suite) -> Verdict {
    let (node, pod, _) = attached(suite)?;
    node.needs_pool()?;
    in_case("another subnet", ok(node.subnets(&["10.99.0.0/24"]).del(&pod)))?;
    in_case("another subnet", node.clean(&pod))?;
    let (node, pod, _) = attached(suite)?;
    in_case("an older version", ok(node.version("0.3.1").del(&pod)))?;
    in_case("an older version", node.clean(&pod))
}

fn broken_configuration(suite: &Suite) -> Verdict {
    let (node, pod, _) = attached(suite)?;
    node.needs_pool()?;
    let wrong = node.plugin.clone().with("mtu", "many".into()).with("ipMasq", 5.into());
    in_case("keys of a wrong type", ok(wrong.del(&pod)))?;
    in_case("keys of a wrong type", node.clean(&pod))?;
    let (node, pod, _) = attached(suite)?;
    // Whether IPAM takes it is IPAM's affair.
    node.subnets(&["garbage"]).del(&pod);
    ensure!(pod.netns.link("eth0").is_none(), "an unreadable range: eth0 is left");
    ensure!(node.veths().is_empty(), "an unreadable range: {:?} are left", node.veths());
    Ok(())
}

fn ipam_failure(suite: &Suite) -> Verdict {
    let (node, pod) = (suite.node(), Pod::new("a"));
    let (plugin, ipam) = node.scripted();
    ok(plugin.add(&pod))?;
    ipam.fails("DEL", 111, "the pool is locked");
    let error = fails(plugin.del(&pod))?;
    ensure!(words(&error).contains("the pool is locked"), "the cause is lost: {error}");
    ensure!(ipam.log() == ["ADD", "DEL"], "IPAM saw {:?}", ipam.log());
    Ok(())
}

fn ipam_last(suite: &Suite) -> Verdict {
    let (node, pod) = (suite.node(), Pod::new("a"));
    let (plugin, ipam) = node.scripted();
    ok(plugin.add(&pod))?;
    ipam.fails("DEL", 111, "the pool is locked");
    in_case("failing", fails(plugin.del(&pod)))?;
    in_case("failing", node.clean(&pod))?;
    let (node, pod) = (suite.node(), Pod::new("a"));
    let (plugin, _ipam) = node.scripted();
    ok(plugin.add(&pod))?;
    fs::remove_file(node.host.scratch().path().join("bin/script-ipam")).expect("remove a script");
    in_case("missing", fails(plugin.del(&pod)))?;
    in_case("missing", node.clean(&pod))
}

fn silent(suite: &Suite) -> Verdict {
    let (node, pod, _) = attached(suite)?;
    for _ in 0..2 {
        let reply = node.plugin.del(&pod);
        ensure!(reply.stdout.is_empty(), "stdout holds {:?}", reply.stdout);
    }
    Ok(())
}
