// SPDX-License-Identifier: Apache-2.0
//! Rules 69 to 76: configuration, capabilities, arguments.

use std::net::UdpSocket;
use std::time::Duration;

use serde_json::{Value, json};

use crate::cnitool::Cnitool;
use crate::harness::{Host, Pod, uninterrupted};
use crate::rule::Level::{Convention, Must};
use crate::rule::{Rule, Stop, Verdict, elsewhere, ensure, in_case, ok, rule};
use crate::suite::{NETWORK, Suite, addresses};

pub const RULES: &[Rule] = &[
    rule("69", Must, "capabilities left in the input are ignored", capabilities),
    rule("70", Must, "runtimeConfig has the declared capabilities and reaches IPAM", declared),
    rule("71", Must, "ipMasq hides the pod behind the node, and only if it is true", masquerade),
    rule("71b", Must, "the reserved keys args and cni.dev/ are tolerated", reserved),
    rule("72", Convention, "well-known capabilities are accepted, ips is obeyed", well_known),
    rule("73", Convention, "a capability goes before args.cni, that before CNI_ARGS", precedence),
    rule("74", Convention, "an unknown key of CNI_ARGS is ignored", unknown_args),
    elsewhere("75", Must, "a list without plugins is invalid", "the runtime library's to keep"),
    elsewhere("76", Must, "disableCheck is a boolean or a string", "the runtime library's to keep"),
];

fn capabilities(suite: &Suite) -> Verdict {
    let (node, pod) = (suite.node(), Pod::new("a"));
    let declared = json!({"portMappings": true, "bandwidth": true, "ips": false});
    let plugin = node.plugin.clone().with("capabilities", declared);
    let result = ok(plugin.add(&pod))?;
    ok(plugin.check(&pod, &result))?;
    ok(plugin.del(&pod))?;
    node.clean(&pod)
}

fn declared(suite: &Suite) -> Verdict {
    let (node, pod) = (suite.node(), Pod::new("a"));
    let (plugin, ipam) = node.scripted();
    let conf = plugin.with("capabilities", json!({"portMappings": true, "mac": false})).conf;
    let tool = Cnitool::new(suite, &node)?.conf(conf).list(&json!({}));
    let values = json!({
        "portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}],
        "mac": "02:00:00:00:00:01",
    });
    let values = values.to_string();
    ok(tool.run("add", &pod, &[("CAP_ARGS", &values)]))?;
    let got = ipam.stdin("ADD")["runtimeConfig"].clone();
    ensure!(got["portMappings"][0]["hostPort"] == 8080, "portMappings did not reach IPAM: {got}");
    ensure!(got.get("mac").is_none(), "mac was not declared: {got}");
    ok(tool.run("del", &pod, &[]))?;
    node.clean(&pod)
}

fn masquerade(suite: &Suite) -> Verdict {
    for masquerade in [true, false] {
        let (host, outside) = Host::with_uplink();
        let node = suite.node_on(host);
        // Not every plugin turns forwarding on by itself.
        node.host.set_sysctl("ipv4/ip_forward", "1");
        let pod = Pod::new("a");
        let plugin = node.plugin.clone().with("ipMasq", masquerade.into());
        let result = in_case(&format!("ipMasq {masquerade}"), ok(plugin.add(&pod)))?;
        let pod_address = addresses(&result).into_iter().next().unwrap_or_default();
        let expected = if masquerade { "192.0.2.11" } else { &pod_address };
        let seen = source_seen(&pod, &outside).unwrap_or_default();
        ensure!(seen == expected, "ipMasq {masquerade}: the outside sees {seen:?}, not {expected}");
        ok(plugin.del(&pod))?;
        node.clean(&pod)?;
    }
    Ok(())
}

/// The source address of a datagram from the pod, as the outside gets it.
fn source_seen(pod: &Pod, outside: &crate::harness::Netns) -> Option<String> {
    let receiver = outside.enter(|| UdpSocket::bind("192.0.2.1:5000")).ok()?;
    receiver.set_read_timeout(Some(Duration::from_millis(200))).ok()?;
    let sender = pod.netns.enter(|| UdpSocket::bind("0.0.0.0:0")).ok()?;
    let mut buffer = [0; 16];
    // The first datagram may be lost while neighbours are found.
    (0..100).find_map(|_| {
        sender.send_to(b"x", "192.0.2.1:5000").ok()?;
        uninterrupted(|| receiver.recv_from(&mut buffer))
            .ok()
            .map(|(_, from)| from.ip().to_string())
    })
}

fn reserved(suite: &Suite) -> Verdict {
    let (node, pod) = (suite.node(), Pod::new("a"));
    let plugin = node
        .plugin
        .clone()
        .with("args", json!({"cni": {"labels": [{"key": "app", "value": "x"}]}, "org.example": 1}))
        .with("cni.dev/future", json!({"x": 1}))
        .with("runtimeConfig", json!({}));
    let result = ok(plugin.add(&pod))?;
    ok(plugin.check(&pod, &result))?;
    ok(plugin.del(&pod))?;
    node.clean(&pod)
}

fn well_known(suite: &Suite) -> Verdict {
    let (node, pod) = (suite.node(), Pod::new("a"));
    node.needs_pool()?;
    let runtime = json!({
        "portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": ""}],
        "bandwidth": {"ingressRate": 1000, "ingressBurst": 1000},
        "dns": {"servers": ["192.0.2.53"], "searches": ["example"], "options": ["ndots:5"]},
        "ips": ["10.244.7.77/24"],
        "deviceID": "",
        "aliases": {NETWORK: ["web"]},
        "cgroupPath": "/kubepods/pod1",
        "io.kubernetes.cri.pod-annotations": {"a": "b"},
    });
    let result = ok(node.plugin.clone().with("runtimeConfig", runtime).add(&pod))?;
    ensure!(addresses(&result) == ["10.244.7.77"], "10.244.7.77 was asked for: {result}");
    node.alive(&pod, &result)
}

fn precedence(suite: &Suite) -> Verdict {
    if suite.find("static").is_none() {
        return Err(Stop::Skip("no IPAM plugin static in CNI_PLUGIN_DIR".into()));
    }
    let bare = json!({"type": "static", "addresses": [{"address": "10.244.9.2/24"}]});
    let without_gateway = suite.node().plugin.with("ipam", bare).add(&Pod::new("a"));
    if !without_gateway.succeeded() {
        let why = "the plugin needs a gateway, and static gives none to addresses asked for";
        return Err(Stop::Skip(why.into()));
    }
    let runtime = json!({"ips": ["10.244.9.3/24"]});
    let args = json!({"cni": {"ips": ["10.244.9.4/24"]}});
    let cases = [
        (runtime, args.clone(), "10.244.9.3"),
        (Value::Null, args, "10.244.9.4"),
        (Value::Null, Value::Null, "10.244.9.5"),
    ];
    for (runtime, args, expected) in cases {
        let node = suite.node();
        let pod = Pod { args: Some("IgnoreUnknown=1;IP=10.244.9.5/24".into()), ..Pod::new("a") };
        let capabilities = json!({"ips": true});
        let plugin = node
            .plugin
            .clone()
            .with("capabilities", capabilities)
            .with("ipam", json!({"type": "static"}))
            .with("runtimeConfig", runtime)
            .with("args", args);
        let result = in_case(expected, ok(plugin.add(&pod)))?;
        ensure!(addresses(&result) == [expected], "{expected} goes first: {result}");
    }
    Ok(())
}

fn unknown_args(suite: &Suite) -> Verdict {
    for args in ["FOO=1", "IgnoreUnknown=1;FOO=1;K8S_POD_NAME=x", "IgnoreUnknown=0;FOO=1"] {
        let node = suite.node();
        // A script, since real IPAM plugins have their own opinion.
        let (plugin, _ipam) = node.scripted();
        let pod = Pod { args: Some(args.into()), ..Pod::new("a") };
        in_case(args, ok(plugin.add(&pod)))?;
        in_case(args, ok(plugin.del(&pod)))?;
    }
    Ok(())
}
