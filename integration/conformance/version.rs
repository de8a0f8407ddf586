// SPDX-License-Identifier: Apache-2.0
//! Rules 19 to 27: versions, and the shape of a result in each.

use std::time::Duration;

use serde_json::{Value, json};

use crate::cnitool::Cnitool;
use crate::harness::{Pod, Stdin};
use crate::rule::Level::{DeFacto, Must, Should};
use crate::rule::{
    Rule, Stop, Verdict, brief, ensure, fails, fails_with, in_case, ok, rule, words,
};
use crate::suite::{SUBNET, SUBNET6, Suite, VERSIONS, bare, list};

pub const RULES: &[Rule] = &[
    rule("19", Must, "VERSION needs nothing but CNI_COMMAND and waits for no input", bare_version),
    rule("20", Should, "VERSION answers the cniVersion that libcni asks with", echo),
    rule("21", DeFacto, "every version from 0.1.0 to 1.1.0 is listed literally", all_versions),
    rule("22", Must, "an unknown cniVersion is code 1 and names both sides", unknown_version),
    rule("23", Must, "no cniVersion, or an empty one, means 0.1.0", unstated),
    rule("24", Must, "CHECK below 0.4.0, GC and STATUS below 1.1.0 are code 1", too_old),
    rule("25", Must, "of cniVersions the runtime picks one, and the result is in it", picked),
    rule("26", Must, "a result is encoded in the configuration's version", encodings),
    rule("27", Must, "unknown keys are tolerated, or refused with code 2", unknown_keys),
];

fn bare_version(suite: &Suite) -> Verdict {
    let plugin = suite.node().plugin;
    for (case, stdin) in [("a silent pipe", Stdin::Silent), ("/dev/null", Stdin::Null)] {
        let call = plugin.call("VERSION").without("CNI_PATH").without("PATH").stdin(stdin);
        let said = in_case(case, ok(call.deadline(Duration::from_secs(10)).run()))?;
        let complete = said["cniVersion"].is_string() && said["supportedVersions"].is_array();
        ensure!(complete, "{case}: {said}");
    }
    Ok(())
}

fn echo(suite: &Suite) -> Verdict {
    let said = ok(suite.node().plugin.version())?;
    ensure!(said["cniVersion"] == "1.1.0", "asked with 1.1.0: {said}");
    Ok(())
}

fn all_versions(suite: &Suite) -> Verdict {
    let said = ok(suite.node().plugin.version())?;
    let listed: Vec<&str> = list(&said["supportedVersions"]).filter_map(Value::as_str).collect();
    for version in VERSIONS {
        ensure!(listed.contains(&version), "{version} is not in {listed:?}");
    }
    Ok(())
}

fn unknown_version(suite: &Suite) -> Verdict {
    let (node, pod) = (suite.node(), Pod::new("a"));
    for version in ["0.9.9", "1.1", "garbage"] {
        let plugin = node.version(version);
        for call in [plugin.call("ADD").pod(&pod), plugin.call("DEL").pod(&pod)] {
            let error = in_case(version, fails(call.run()))?;
            // What is no version at all may also be called undecodable.
            ensure!(error["code"] == 1 || version == "garbage", "{version}: {error}");
            let both = [version, "1.1.0"].iter().all(|v| words(&error).contains(v));
            ensure!(both || version != "0.9.9", "not both versions in {error}");
        }
    }
    Ok(())
}

fn unstated(suite: &Suite) -> Verdict {
    for version in [Value::Null, json!("")] {
        let (node, pod) = (suite.node(), Pod::new("a"));
        let plugin = node.plugin.clone().with("cniVersion", version);
        let result = ok(plugin.add(&pod))?;
        shape("0.1.0", &result)?;
        ok(plugin.del(&pod))?;
        node.clean(&pod)?;
    }
    Ok(())
}

fn too_old(suite: &Suite) -> Verdict {
    let (node, pod) = (suite.node(), Pod::new("a"));
    for version in VERSIONS {
        let plugin = node.version(version);
        if version < "0.4.0" {
            in_case(version, fails_with(1, plugin.check(&pod, &json!({}))))?;
        }
        if version < "1.1.0" {
            in_case(version, fails_with(1, plugin.gc(&[])))?;
            in_case(version, fails_with(1, plugin.status()))?;
        }
    }
    Ok(())
}

fn picked(suite: &Suite) -> Verdict {
    let (node, pod) = (suite.node(), Pod::new("a"));
    let tool = Cnitool::new(suite, &node)?;
    let plugin = tool.list(&json!({"cniVersion": "0.3.1", "cniVersions": ["0.4.0", "1.0.0"]}));
    let result = ok(plugin.run("add", &pod, &[]))?;
    shape("1.0.0", &result)?;
    ok(plugin.run("check", &pod, &[]))?;
    ok(plugin.run("del", &pod, &[]))?;
    node.clean(&pod)
}

fn encodings(suite: &Suite) -> Verdict {
    for version in VERSIONS {
        for subnets in [&[SUBNET][..], &[SUBNET, SUBNET6]] {
            let (node, pod) = (suite.node(), Pod::new("a"));
            if subnets.len() > 1 && node.needs_pool().is_err() {
                continue;
            }
            let plugin = node.subnets(subnets).with("cniVersion", version.into());
            let case = format!("{version}, {} families", subnets.len());
            let result = in_case(&case, ok(plugin.add(&pod)))?;
            in_case(&case, shape(version, &result))?;
            let families = crate::suite::addresses(&result).len();
            ensure!(families == subnets.len(), "{case}: {families} addresses: {result}");
            in_case(&case, ok(plugin.del(&pod)))?;
            in_case(&case, node.clean(&pod))?;
        }
    }
    Ok(())
}

fn unknown_keys(suite: &Suite) -> Verdict {
    let node = suite.node();
    for version in VERSIONS {
        let pod = Pod::new("a");
        let plugin = node.version(version).with("zzz", json!({"y": [1]}));
        let reply = plugin.add(&pod);
        ensure!(reply.status == 0 || reply.code() == Some(2), "{version}: {}", brief(&reply));
        ok(plugin.del(&pod))?;
    }
    Ok(())
}

/// Ends the test unless `result` has the shape that `version` gives to results.
pub fn shape(version: &str, result: &Value) -> Result<(), Stop> {
    ensure!(result["cniVersion"] == version, "cniVersion should be {version}: {result}");
    if version < "0.3.0" {
        return old_shape(result);
    }
    ensure!(result["ip4"].is_null() && result["ip6"].is_null(), "ip4, ip6 are of 0.2.0: {result}");
    let (interfaces, ips) = (&result["interfaces"], &result["ips"]);
    ensure!(interfaces.as_array().is_some_and(|list| !list.is_empty()), "interfaces: {result}");
    ensure!(ips.as_array().is_some_and(|list| !list.is_empty()), "ips: {result}");
    for ip in list(ips) {
        let address = ip["address"].as_str().unwrap_or_default();
        ensure!(address.contains('/'), "not in CIDR notation: {ip}");
        let family = if address.contains(':') { "6" } else { "4" };
        if version < "1.0.0" {
            ensure!(ip["version"] == family, "version {family:?} expected: {ip}");
        } else {
            ensure!(ip.get("version").is_none(), "version was removed in 1.0.0: {ip}");
        }
    }
    for interface in list(interfaces) {
        let new = ["mtu", "socketPath", "pciID"].iter().any(|key| interface.get(key).is_some());
        ensure!(version >= "1.1.0" || !new, "keys of 1.1.0: {interface}");
    }
    // The libraries of these versions read dns without asking whether it is there.
    ensure!(version >= "1.0.0" || result["dns"].is_object(), "no dns object: {result}");
    routes(&result["routes"])
}

fn old_shape(result: &Value) -> Result<(), Stop> {
    for key in ["interfaces", "ips", "routes"] {
        ensure!(result.get(key).is_none(), "{key} came with 0.3.0: {result}");
    }
    ensure!(result["ip4"].is_object() || result["ip6"].is_object(), "no address: {result}");
    for (family, sign) in [("ip4", '.'), ("ip6", ':')] {
        let Some(part) = result.get(family).filter(|part| !part.is_null()) else { continue };
        let address = part["ip"].as_str().unwrap_or_default();
        ensure!(address.contains(sign) && address.contains('/'), "{family}.ip: {result}");
        routes(&part["routes"])?;
    }
    Ok(())
}

fn routes(routes: &Value) -> Result<(), Stop> {
    ensure!(routes.is_null() || routes.is_array(), "routes: {routes}");
    for route in list(routes) {
        let dst = route["dst"].as_str().unwrap_or_default();
        ensure!(dst.contains('/') && bare(dst) != dst, "a route's dst: {route}");
    }
    Ok(())
}
