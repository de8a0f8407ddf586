// SPDX-License-Identifier: Apache-2.0
//! Rules 28 to 36 and 43 to 45: what ADD makes and what it says of it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::Pod;
use crate::ipam::ScriptIpam;
use crate::rule::Level::{DeFacto, Must, Should};
use crate::rule::{Rule, Verdict, ensure, fails, in_case, ok, rule};
use crate::suite::{Suite, addresses, list};

pub const RULES: &[Rule] = &[
    rule("28", Must, "ADD makes CNI_IFNAME in CNI_NETNS", makes_the_interface),
    rule("29", Must, "ADD fails where the interface exists", exists),
    rule("29b", DeFacto, "such a failure harms neither link nor address", exists_unharmed),
    rule("30", Must, "a previous result is passed on or changed, never dropped", passes_on),
    rule("31", Must, "the result lists every interface made, as the kernel has it", interfaces),
    rule("32", Should, "the result of 1.1.0 gives the MTU of interfaces", mtu),
    rule("33", Must, "ips are addresses with prefix, and index the pod's interface", ips),
    rule("34", Must, "interfaces and indexes are added to what IPAM says", completes_ipam),
    rule("35", Must, "routes of IPAM are made and echoed with their attributes", routes),
    rule("36", Should, "dns is IPAM's unless the configuration has any key of it", dns),
    rule("43", Should, "one container may have several interfaces", several),
    rule("44", DeFacto, "a missing namespace is an error before any allocation", no_namespace),
    rule("45", DeFacto, "keys of the configuration match in any case", key_case),
];

fn makes_the_interface(suite: &Suite) -> Verdict {
    for ifname in ["eth0", "net1"] {
        let (node, pod) = (suite.node(), Pod::new("a").interface(ifname));
        let result = ok(node.plugin.add(&pod))?;
        let link = pod.netns.link(ifname).unwrap_or_default();
        let up = list(&link["flags"]).any(|flag| flag == "UP");
        ensure!(up, "{ifname} is not up: {link}");
        node.alive(&pod, &result)?;
        ok(node.plugin.del(&pod))?;
        node.clean(&pod)?;
    }
    Ok(())
}

fn exists(suite: &Suite) -> Verdict {
    let (node, pod) = (suite.node(), Pod::new("a"));
    ok(node.plugin.add(&pod))?;
    fails(node.plugin.add(&pod))?;
    let other = Pod::new("b");
    other.netns.command("ip", &["link", "add", "eth0", "type", "veth", "peer", "x"]).ok();
    fails(node.plugin.add(&other))?;
    Ok(())
}

fn exists_unharmed(suite: &Suite) -> Verdict {
    let (node, pod) = (suite.node(), Pod::new("a"));
    let result = ok(node.plugin.add(&pod))?;
    let (link, leases, veths) = (pod.netns.link("eth0"), node.leases(), node.veths());
    fails(node.plugin.add(&pod))?;
    let now = pod.netns.link("eth0");
    ensure!(now.is_some(), "the live interface is gone");
    ensure!(index(&now) == index(&link), "the live interface was replaced");
    ensure!(node.leases() == leases, "addresses {leases:?} became {:?}", node.leases());
    ensure!(node.veths() == veths, "the node's links {veths:?} became {:?}", node.veths());
    node.alive(&pod, &result)?;
    let other = Pod::new("b");
    other.netns.command("ip", &["link", "add", "eth0", "type", "veth", "peer", "x"]).ok();
    fails(node.plugin.add(&other))?;
    ensure!(other.netns.links() == ["eth0", "x"], "a foreign link is gone");
    ensure!(node.leases() == leases, "an address is left: {:?}", node.leases());
    Ok(())
}

fn index(link: &Option<Value>) -> Option<&Value> {
    link.as_ref().map(|link| &link["ifindex"])
}

fn passes_on(suite: &Suite) -> Verdict {
    for version in ["0.4.0", "1.1.0"] {
        let (node, pod) = (suite.node(), Pod::new("a"));
        let mut ip = json!({"address": "203.0.113.7/24", "interface": 0});
        if version < "1.0.0" {
            ip["version"] = "4".into();
        }
        let sandbox = pod.netns.path();
        let previous = json!({
            "cniVersion": version,
            "interfaces": [{"name": "other0", "mac": "02:00:00:00:00:01", "sandbox": sandbox}],
            "ips": [ip],
            "dns": {},
        });
        let result = in_case(version, ok(node.version(version).add_after(&pod, &previous)))?;
        let kept = list(&result["interfaces"]).any(|interface| interface["name"] == "other0");
        ensure!(kept, "{version}: the interface of the previous result is dropped: {result}");
        let kept = list(&result["ips"]).any(|ip| ip["address"] == "203.0.113.7/24");
        ensure!(kept, "{version}: the address of the previous result is dropped: {result}");
    }
    Ok(())
}

fn interfaces(suite: &Suite) -> Verdict {
    let (node, pod) = (suite.node(), Pod::new("a"));
    let before: BTreeSet<String> = node.host.links().into_iter().collect();
    let result = ok(node.plugin.add(&pod))?;
    let sandbox = pod.netns.path().display().to_string();
    let made = node.host.links().into_iter().filter(|link| !before.contains(link));
    let made = made.map(|link| (link, String::new()));
    let made: BTreeSet<_> =
        made.chain(pod.netns.links().into_iter().map(|link| (link, sandbox.clone()))).collect();
    let said: BTreeSet<(String, String)> = list(&result["interfaces"])
        .map(|entry| {
            let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
            (text("name"), text("sandbox"))
        })
        .collect();
    ensure!(said == made, "made {made:?}, listed {said:?}");
    for entry in list(&result["interfaces"]) {
        let name = entry["name"].as_str().unwrap_or_default();
        let inside = entry["sandbox"].as_str().is_some_and(|sandbox| !sandbox.is_empty());
        let link = if inside { pod.netns.link(name) } else { node.host.link(name) };
        let mac = link.unwrap_or_default()["address"].clone();
        ensure!(entry["mac"] == mac, "{name} has the MAC {mac}, the result says {entry}");
    }
    Ok(())
}

fn mtu(suite: &Suite) -> Verdict {
    let (node, pod) = (suite.node(), Pod::new("a"));
    let result = ok(node.plugin.add(&pod))?;
    let mtu = pod.netns.link("eth0").unwrap_or_default()["mtu"].clone();
    let said = list(&result["interfaces"]).find(|entry| entry["name"] == "eth0");
    let said = said.map(|entry| entry["mtu"].clone()).unwrap_or_default();
    ensure!(said == mtu, "eth0 has the MTU {mtu}, the result says {said}");
    Ok(())
}

fn ips(suite: &Suite) -> Verdict {
    for version in ["0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        let (node, pod) = (suite.node(), Pod::new("a"));
        let result = in_case(version, ok(node.version(version).add(&pod)))?;
        in_case(version, indexed(&pod, &result))?;
    }
    Ok(())
}

/// Ends the test unless every address of a result is the pod's and points to
/// its interface.
fn indexed(pod: &Pod, result: &Value) -> Verdict {
    for ip in list(&result["ips"]) {
        let address = ip["address"].as_str().unwrap_or_default();
        let here = pod.netns.addresses(&pod.ifname);
        ensure!(here.iter().any(|have| have == address), "{address} is not in {here:?}");
        let at = ip["interface"].as_u64();
        ensure!(at.is_some(), "no index of an interface: {ip}");
        let entry = at.and_then(|at| list(&result["interfaces"]).nth(usize::try_from(at).ok()?));
        let ours = entry.is_some_and(|entry| {
            entry["name"] == *pod.ifname && entry["sandbox"] == *pod.netns.path().to_string_lossy()
        });
        ensure!(ours, "the index is not of {}: {result}", pod.ifname);
        ensure!(ip.get("gateway").is_none_or(Value::is_string), "gateway: {ip}");
    }
    Ok(())
}

fn completes_ipam(suite: &Suite) -> Verdict {
    let (node, pod) = (suite.node(), Pod::new("a"));
    let (plugin, _ipam) = node.scripted();
    let result = ok(plugin.add(&pod))?;
    ensure!(addresses(&result) == ["10.244.9.2"], "IPAM said 10.244.9.2: {result}");
    indexed(&pod, &result)
}

fn routes(suite: &Suite) -> Verdict {
    let (node, pod) = (suite.node(), Pod::new("a"));
    let (plugin, ipam) = node.scripted();
    let extras = json!({
        "dst": "198.51.100.0/24", "mtu": 1400, "advmss": 1360, "priority": 50, "table": 100,
        "scope": 0,
    });
    let plain = json!({"dst": "203.0.113.0/24", "gw": "10.244.9.1"});
    let mut answer = ScriptIpam::result();
    answer["routes"] = json!([{"dst": "0.0.0.0/0"}, extras, plain]);
    ipam.answers("ADD", &answer);
    let result = ok(plugin.add(&pod))?;
    let made = pod.netns.routes("-4");
    let find = |dst: &str| made.iter().find(|route| route["dst"] == dst).cloned();
    ensure!(find("default").is_some(), "no default route in {made:?}");
    ensure!(find("203.0.113.0/24").is_some(), "no route with a gateway in {made:?}");
    let route = find("198.51.100.0/24").unwrap_or_default();
    let metrics = &route["metrics"][0];
    let as_asked = metrics["mtu"] == 1400
        && metrics["advmss"] == 1360
        && route["metric"] == 50
        && route["table"] == "100";
    ensure!(as_asked, "asked for {extras}, the kernel has {route}");
    let echoed = list(&result["routes"]).find(|route| route["dst"] == "198.51.100.0/24");
    for key in ["mtu", "advmss", "priority", "table", "scope"] {
        let said = echoed.map(|route| route[key].clone()).unwrap_or_default();
        ensure!(said == extras[key], "{key} is {said} in the result, not {}", extras[key]);
    }
    Ok(())
}

fn dns(suite: &Suite) -> Verdict {
    let theirs = json!({"nameservers": ["192.0.2.53"], "domain": "ipam.example"});
    let ours = json!({"nameservers": ["192.0.2.54"]});
    let cases = [
        ("no dns", Value::Null, json!(["192.0.2.53"])),
        ("empty object", json!({}), json!(["192.0.2.53"])),
        ("one key", ours.clone(), json!(["192.0.2.54"])),
        ("an empty list", json!({"nameservers": []}), Value::Null),
    ];
    for (case, conf, servers) in cases {
        let (node, pod) = (suite.node(), Pod::new("a"));
        let (plugin, ipam) = node.scripted();
        let mut answer = ScriptIpam::result();
        answer["dns"] = theirs.clone();
        ipam.answers("ADD", &answer);
        let result = in_case(case, ok(plugin.with("dns", conf).add(&pod)))?;
        let said = &result["dns"]["nameservers"];
        let none = said.is_null() || *said == json!([]);
        ensure!(*said == servers || (servers.is_null() && none), "{case}: {result}");
        let whole = result["dns"]["domain"].is_string() == (servers == json!(["192.0.2.53"]));
        ensure!(whole, "{case}: the object is replaced as a whole or not at all: {result}");
    }
    Ok(())
}

fn several(suite: &Suite) -> Verdict {
    let node = suite.node();
    node.needs_pool()?;
    let first = Pod::new("a");
    let second = first.interface("net1");
    let one = in_case("eth0", ok(node.plugin.add(&first)))?;
    let mut plugin = node.other_network();
    plugin.conf["ipam"]["routes"] = json!([]);
    let two = in_case("net1", ok(plugin.add(&second)))?;
    node.alive(&second, &two)?;
    node.alive(&first, &one)?;
    ok(plugin.del(&second))?;
    ensure!(second.netns.link("net1").is_none(), "net1 is left");
    node.alive(&first, &one)?;
    ok(node.plugin.del(&first))?;
    node.clean(&first)
}

fn no_namespace(suite: &Suite) -> Verdict {
    let (node, pod) = (suite.node(), Pod::new("a"));
    let file = node.host.scratch().file("no-namespace", "");
    for path in ["/no/such/namespace", file.to_str().unwrap_or_default(), "/tmp"] {
        fails(node.plugin.call("ADD").pod(&pod).env("CNI_NETNS", path).run())?;
        in_case(path, node.clean(&pod))?;
    }
    let (plugin, ipam) = node.scripted();
    fails(plugin.call("ADD").pod(&pod).env("CNI_NETNS", "/no/such/namespace").run())?;
    ensure!(!ipam.log().contains(&"ADD".into()), "IPAM was asked: {:?}", ipam.log());
    Ok(())
}

fn key_case(suite: &Suite) -> Verdict {
    let (node, pod) = (suite.node(), Pod::new("a"));
    let mut conf = node.plugin.conf.clone();
    let keys = conf.as_object_mut().expect("an object");
    for (key, odd) in [("ipam", "IPAM"), ("name", "Name"), ("cniVersion", "CNIVersion")] {
        let value = keys.remove(key).unwrap_or_default();
        keys.insert(odd.into(), value);
    }
    let ports = json!([{"HostPort": 8080, "ContainerPort": 80, "Protocol": "tcp", "HostIP": ""}]);
    keys.insert("runtimeConfig".into(), json!({"portMappings": ports}));
    let plugin = node.plugin.clone().config(conf);
    let result = ok(plugin.add(&pod))?;
    ensure!(result["cniVersion"] == "1.1.0", "CNIVersion was not seen: {result}");
    ok(plugin.del(&pod))?;
    node.clean(&pod)
}
