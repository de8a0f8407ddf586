// SPDX-License-Identifier: Apache-2.0
//! Rules 37 to 42: the IPAM plugin that ADD delegates to, and the undoing of an
//! ADD that fails after it.

use serde_json::{Value, json};

use crate::harness::Pod;
use crate::ipam::ScriptIpam;
use crate::rule::Level::{DeFacto, Must, Should};
use crate::rule::{Rule, Verdict, brief, ensure, fails, fails_with, in_case, ok, rule, words};
use crate::suite::Suite;

pub const RULES: &[Rule] = &[
    rule("37", Must, "the IPAM plugin gets the whole input and environment", whole_input),
    rule("37b", Must, "the IPAM plugin is the first of its name on CNI_PATH", first_on_path),
    rule("38", Should, "IPAM's stderr is forwarded, its error kept with the code", its_error),
    rule("39", Must, "a type with a path separator is refused, a directory passed over", types),
    rule("40", Should, "after a failing ADD of IPAM its DEL is called", del_after_failure),
    rule("41", DeFacto, "an ADD that fails after IPAM undoes everything", undo),
    rule("42", DeFacto, "a failing undo hides no cause", cause),
];

fn whole_input(suite: &Suite) -> Verdict {
    let (node, pod) = (suite.node(), Pod::new("a").kubernetes("space", "name"));
    let (plugin, ipam) = node.scripted();
    let plugin = plugin.with("zzz", json!({"y": 1})).env("TRACEPARENT", "00-1-2-01");
    let result = ok(plugin.add(&pod))?;
    let with_result = plugin.clone().with("prevResult", result.clone());
    ok(plugin.check(&pod, &result))?;
    ok(with_result.del(&pod))?;
    for verb in ["ADD", "CHECK", "DEL"] {
        let env = ipam.env(verb);
        let netns = pod.netns.path().display().to_string();
        let expected = [
            ("CNI_COMMAND", verb),
            ("CNI_CONTAINERID", &pod.id),
            ("CNI_NETNS", &netns),
            ("CNI_IFNAME", "eth0"),
            ("CNI_ARGS", pod.args.as_deref().unwrap_or_default()),
            ("TRACEPARENT", "00-1-2-01"),
        ];
        for (name, value) in expected {
            let got = env.get(name).map(String::as_str);
            ensure!(got == Some(value), "{verb}: {name} is {got:?}, not {value:?}");
        }
        ensure!(env.contains_key("CNI_PATH"), "{verb}: no CNI_PATH");
        let sent = if verb == "ADD" { &plugin.conf } else { &with_result.conf };
        for (key, value) in sent.as_object().into_iter().flatten() {
            let got = ipam.stdin(verb)[key].clone();
            ensure!(got == *value, "{verb}: {key} is {got}, not {value}");
        }
    }
    Ok(())
}

fn first_on_path(suite: &Suite) -> Verdict {
    let (node, pod) = (suite.node(), Pod::new("a"));
    let (plugin, first) = node.scripted();
    let elsewhere = node.host.scratch().dir("elsewhere");
    let second = ScriptIpam::new(node.host.scratch(), &elsewhere, "script-ipam");
    let bin = node.host.scratch().dir("bin");
    ok(plugin.clone().path([bin.clone(), elsewhere.clone()]).add(&pod))?;
    ensure!(first.log() == ["ADD"] && second.log().is_empty(), "the second was asked");
    ok(plugin.clone().path([bin.clone(), elsewhere.clone()]).del(&pod))?;
    ok(plugin.path([elsewhere, bin]).add(&pod))?;
    ensure!(second.log() == ["ADD"], "the order of CNI_PATH was not kept");
    Ok(())
}

fn its_error(suite: &Suite) -> Verdict {
    let (node, pod) = (suite.node(), Pod::new("a"));
    let (plugin, ipam) = node.scripted();
    ipam.fails("ADD", 11, "the pool is being moved");
    ipam.complains("ADD", "a complaint\n");
    let reply = plugin.add(&pod);
    let heard = reply.stderr.contains("a complaint");
    let error = fails_with(11, reply)?;
    ensure!(words(&error).contains("the pool is being moved"), "the message is lost: {error}");
    ensure!(heard, "what a failing IPAM plugin says on stderr is not forwarded");
    ipam.answers("ADD", &ScriptIpam::result());
    let reply = plugin.add(&pod);
    ensure!(reply.stderr.contains("a complaint"), "stderr is not forwarded");
    ok(reply)?;
    Ok(())
}

fn types(suite: &Suite) -> Verdict {
    let node = suite.node();
    let (plugin, ipam) = node.scripted();
    let inside = node.host.scratch().dir("bin/inside");
    let path = |dir| plugin.clone().path([dir]);
    // A namespace each, all alive to the end: bridge stumbles over a port that
    // dies beside it, which is not what is asked here.
    let pods = [Pod::new("a"), Pod::new("b"), Pod::new("c"), Pod::new("d")];
    for (kind, pod) in ["../script-ipam", "./script-ipam", "/script-ipam"].iter().zip(&pods) {
        let plugin = path(inside.clone()).with("ipam", json!({"type": kind}));
        in_case(kind, fails(plugin.add(pod)))?;
        ensure!(ipam.log().is_empty(), "{kind} was run");
    }
    let decoy = node.host.scratch().dir("decoy");
    node.host.scratch().dir("decoy/script-ipam");
    let bin = node.host.scratch().dir("bin");
    in_case("a directory of that name", ok(plugin.path([decoy, bin]).add(&pods[3])))?;
    Ok(())
}

fn del_after_failure(suite: &Suite) -> Verdict {
    let (node, pod) = (suite.node(), Pod::new("a"));
    let (plugin, ipam) = node.scripted();
    ipam.fails("ADD", 111, "no");
    fails(plugin.add(&pod))?;
    ensure!(ipam.log() == ["ADD", "DEL"], "it was called with {:?}", ipam.log());
    node.clean(&pod)
}

/// Answers of IPAM that have ADD fail after the allocation.
fn impossible() -> [(&'static str, Value); 3] {
    let mut broadcast = ScriptIpam::result();
    broadcast["routes"] = json!([{"dst": "198.51.100.0/24", "gw": "255.255.255.255"}]);
    let mut garbage = ScriptIpam::result();
    garbage["ips"][0]["address"] = "10.244.9.999/24".into();
    let empty = json!({"cniVersion": "1.1.0", "ips": []});
    [("a gateway that is none", broadcast), ("no address at all", empty), ("not a result", garbage)]
}

fn undo(suite: &Suite) -> Verdict {
    for (case, answer) in impossible() {
        let (node, pod) = (suite.node(), Pod::new("a"));
        let (plugin, ipam) = node.scripted();
        ipam.answers("ADD", &answer);
        let reply = plugin.add(&pod);
        if reply.succeeded() {
            // A plugin that routes in its own way may have no use for a gateway.
            ensure!(case == "a gateway that is none", "{case}: {}", brief(&reply));
            continue;
        }
        in_case(case, fails(reply))?;
        ensure!(ipam.log() == ["ADD", "DEL"], "{case}: IPAM saw {:?}", ipam.log());
        in_case(case, node.clean(&pod))?;
    }
    let (node, pod) = (suite.node(), Pod::new("a"));
    let (plugin, ipam) = node.scripted();
    // Between the plugin's look and its creation of the link, somebody else
    // takes the name.
    ipam.does("ADD", r#"nsenter --net="$CNI_NETNS" ip link add eth0 type veth peer x"#);
    let reply = plugin.add(&pod);
    if pod.netns.link("x").is_none() {
        // A plugin that makes its link before it asks was there first.
        return Ok(());
    }
    in_case("the name is taken meanwhile", fails(reply))?;
    ensure!(ipam.log() == ["ADD", "DEL"], "the name is taken: IPAM saw {:?}", ipam.log());
    ensure!(pod.netns.links() == ["eth0", "x"], "the name is taken: a foreign link is gone");
    ensure!(node.veths().is_empty(), "the name is taken: {:?} are left", node.veths());
    Ok(())
}

fn cause(suite: &Suite) -> Verdict {
    let (node, pod) = (suite.node(), Pod::new("a"));
    let (plugin, ipam) = node.scripted();
    ipam.fails("ADD", 111, "the first cause");
    ipam.fails("DEL", 142, "the second fault");
    let reply = plugin.add(&pod);
    let all = format!("{}{}", reply.stdout, reply.stderr);
    let error = fails_with(111, reply)?;
    ensure!(words(&error).contains("the first cause"), "the cause is lost: {error}");
    ensure!(all.contains("the second fault"), "the failing undo is told nowhere: {all}");
    Ok(())
}
