// SPDX-License-Identifier: Apache-2.0
//! Promises of manx alone, tested with the suite's means. Other plugins are not
//! asked.

use serde_json::{Value, json};
use sha1_smol::Sha1;

use crate::harness::Pod;
use crate::ipam::ScriptIpam;
use crate::rule::Level::Own;
use crate::rule::{Rule, Verdict, ensure, fails, ok, rule, words};
use crate::suite::{SUBNET, SUBNET6, Suite, addresses};

pub const RULES: &[Rule] = &[
    rule("o1", Own, "the host link has Calico's name and MAC, and both ends one MTU", host_link),
    rule("o2", Own, "the pod has host addresses and a permanent neighbour for its gateway", routed),
    rule(
        "o3",
        Own,
        "a host name that a foreign link holds is an error, without a trace",
        name_taken,
    ),
    rule("o4", Own, "a newer sandbox replaces the older, whose late DEL harms nothing", replaced),
    rule("o5", Own, "DEL needs neither namespace nor CNI_ARGS", del_without_args),
    rule("o6", Own, "a second interface leaves the routes of the first alone", second_interface),
    rule("o7", Own, "addresses without a gateway and of full length are served", full_length),
];

/// Calico's name for the host link of a Kubernetes pod.
fn calico_name(namespace: &str, name: &str) -> String {
    let hex = Sha1::from(format!("{namespace}.{name}")).digest().to_string();
    format!("cali{}", &hex[..11])
}

fn host_link(suite: &Suite) -> Verdict {
    let (node, pod) = (suite.node(), Pod::new("a").kubernetes("space", "pod"));
    ok(node.plugin.add(&pod))?;
    let name = calico_name("space", "pod");
    let link = node.host.link(&name).unwrap_or_default();
    ensure!(link["address"] == "ee:ee:ee:ee:ee:ee", "{name}: {link}");
    let inside = pod.netns.link("eth0").unwrap_or_default();
    ensure!(link["mtu"] == inside["mtu"], "MTU {} and {}", link["mtu"], inside["mtu"]);
    Ok(())
}

fn routed(suite: &Suite) -> Verdict {
    let (node, pod) = (suite.node(), Pod::new("a"));
    node.needs_pool()?;
    let result = ok(node.subnets(&[SUBNET, SUBNET6]).add(&pod))?;
    node.alive(&pod, &result)?;
    for address in addresses(&result) {
        let length = if address.contains(':') { 128 } else { 32 };
        let here = pod.netns.addresses("eth0");
        ensure!(here.contains(&format!("{address}/{length}")), "{here:?}");
        ensure!(node.host_route(&address), "the node has no route to {address}");
    }
    for (family, gateway) in [("-4", "169.254.1.1"), ("-6", "fe80::ecee:eeff:feee:eeee")] {
        let routes = pod.netns.routes(family);
        let default = routes.iter().find(|route| route["dst"] == "default");
        let via = default.map(|route| route["gateway"].clone()).unwrap_or_default();
        ensure!(via == gateway, "the default route goes via {via}, not {gateway}");
        let known = pod.netns.ip(&[family, "neighbour", "show", "nud", "permanent"]);
        let known = known.as_array().into_iter().flatten();
        let mut entry = known.filter(|entry| entry["dst"] == gateway);
        let mac = entry.next().map(|entry| entry["lladdr"].clone()).unwrap_or_default();
        ensure!(mac == "ee:ee:ee:ee:ee:ee", "the neighbour {gateway} has the MAC {mac}");
    }
    Ok(())
}

fn name_taken(suite: &Suite) -> Verdict {
    let (node, pod) = (suite.node(), Pod::new("a").kubernetes("space", "pod"));
    let name = calico_name("space", "pod");
    node.host.command("ip", &["link", "add", &name, "type", "veth", "peer", "x"]).ok();
    let error = fails(node.plugin.add(&pod))?;
    ensure!(words(&error).contains(&name), "the error does not name {name}: {error}");
    ensure!(node.leases().is_empty(), "an address is left allocated");
    ok(node.plugin.del(&pod))?;
    ensure!(node.host.links().contains(&name), "the foreign link is gone");
    Ok(())
}

fn replaced(suite: &Suite) -> Verdict {
    let node = suite.node();
    node.needs_pool()?;
    let old = Pod::new("old").kubernetes("space", "pod");
    let new = Pod::new("new").kubernetes("space", "pod");
    ok(node.plugin.add(&old))?;
    let result = ok(node.plugin.add(&new))?;
    node.alive(&new, &result)?;
    ok(node.plugin.del(&old))?;
    node.alive(&new, &result)?;
    ok(node.plugin.del(&new))?;
    node.clean(&new)
}

fn del_without_args(suite: &Suite) -> Verdict {
    let (node, pod) = (suite.node(), Pod::new("a").kubernetes("space", "pod"));
    ok(node.plugin.add(&pod))?;
    ok(node.plugin.call("DEL").pod(&pod).without("CNI_NETNS").without("CNI_ARGS").run())?;
    node.clean(&pod)
}

/// Of table main, by which the pod's own packets go: what else a plugin makes for
/// answers to leave by the interface they belong to is its own matter.
fn second_interface(suite: &Suite) -> Verdict {
    let (node, pod) = (suite.node(), Pod::new("a"));
    node.needs_pool()?;
    let result = ok(node.plugin.add(&pod))?;
    let main = || -> Vec<Value> {
        let all = pod.netns.routes("-4").into_iter();
        all.filter(|route| route.get("table").is_none_or(|table| table == "main")).collect()
    };
    let routes = main();
    ok(node.plugin.add(&pod.interface("net1")))?;
    let both = main();
    ensure!(routes.iter().all(|route| both.contains(route)), "{routes:?} became {both:?}");
    ok(node.plugin.del(&pod.interface("net1")))?;
    let now = main();
    ensure!(now == routes, "{routes:?} became {now:?}");
    node.alive(&pod, &result)
}

fn full_length(suite: &Suite) -> Verdict {
    let (node, pod) = (suite.node(), Pod::new("a"));
    let (plugin, ipam) = node.scripted();
    let mut answer = ScriptIpam::result();
    answer["ips"] = json!([{"address": "10.244.9.2/32"}, {"address": "2001:db8:9::2/128"}]);
    answer["routes"] = json!([]);
    ipam.answers("ADD", &answer);
    let result = ok(plugin.add(&pod))?;
    node.alive(&pod, &result)
}
