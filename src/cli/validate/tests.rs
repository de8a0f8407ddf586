// SPDX-License-Identifier: Apache-2.0
use std::{fs, os::unix::fs::PermissionsExt, process};

use serde_json::{Map, json};

use super::*;
use crate::cli::tests::manx;

mod addresses;
mod plugins;

/// What is said of a list with these keys in the plugin's own object.
fn lint_plugin(keys: Value, node: &Node) -> Vec<Placed> {
    let mut plugin: Map<String, Value> = serde_json::from_value(json!({
        "type": "manx",
        "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.1.0.0/24"}]]},
    }))
    .unwrap();
    plugin.extend(keys.as_object().unwrap().clone());
    plugin.retain(|_, value| !value.is_null());
    lint_list(json!({"cniVersion": "1.1.0", "name": "net", "plugins": [plugin]}), node)
}

fn lint_list(list: Value, node: &Node) -> Vec<Placed> {
    lint(Path::new("10-net.conflist"), list.to_string().as_bytes(), node).findings
}

/// That there is one finding, of this severity and path, with these words.
#[track_caller]
fn one(findings: &[Placed], severity: Severity, path: &str, words: &str) {
    let [found] = findings else { panic!("not one finding: {findings:#?}") };
    assert_eq!((found.finding.severity, found.path.as_str()), (severity, path), "{found:?}");
    let text = found.finding.sentence();
    assert!(text.contains(words), "{found:?}");
}

use Severity::{Error, Info, Warning};

#[test]
fn a_sound_configuration_has_no_findings() {
    assert_eq!(lint_plugin(json!({}), &Node::default()), []);
    let keys = json!({"mode": "ipip", "crossSubnet": "route", "vxlan": {"vni": 1}, "MTU": 1400});
    assert_eq!(lint_plugin(keys, &Node::default()), []);
}

#[test]
fn what_is_no_json_is_told_with_its_place() {
    let text = b"{\n  \"name\": \"net\",\n  \"plugins\": [}\n}";
    let linted = lint(Path::new("a.conflist"), text, &Node::default());
    one(&linted.findings, Error, "", "line 3 column 15");
    assert_eq!(linted.network, None);
    one(&lint_list(json!([]), &Node::default()), Error, "", "no JSON object");
}

#[test]
fn the_shape_of_a_list() {
    let plugin = json!({"type": "loopback"});
    for (list, severity, path, words) in [
        (json!({"cniVersion": "1.0.0", "plugins": [plugin]}), Error, "name", "no name"),
        (json!({"cniVersion": "1.0.0", "name": "a b", "plugins": [plugin]}), Error, "name", "a b"),
        (json!({"name": "n", "plugins": [plugin]}), Warning, "cniVersion", "0.1.0"),
        (json!({"cniVersion": 1, "name": "n", "plugins": [plugin]}), Error, "cniVersion", "1"),
        (
            json!({"cniVersion": "2.0.0", "name": "n", "plugins": [plugin]}),
            Error,
            "cniVersion",
            "2",
        ),
        (
            json!({"cniVersions": "1.0.0", "name": "n", "plugins": [plugin]}),
            Error,
            "cniVersions",
            "",
        ),
        (json!({"cniVersions": ["3"], "name": "n", "plugins": [plugin]}), Error, "cniVersions", ""),
        (json!({"cniVersion": "1.0.0", "name": "n"}), Error, "plugins", "missing"),
        (json!({"cniVersion": "1.0.0", "name": "n", "plugins": []}), Error, "plugins", "[]"),
        (json!({"cniVersion": "1.0.0", "name": "n", "plugins": [1]}), Error, "plugins[0]", "1"),
        (
            json!({"cniVersion": "1.0.0", "name": "n", "plugins": [{}]}),
            Error,
            "plugins[0].type",
            "",
        ),
        (
            json!({"cniVersion": "0.2.0", "name": "n", "plugins": [plugin, plugin]}),
            Error,
            "cniVersion",
            "0.3.0",
        ),
        (
            json!({"cniVersion": "1.0.0", "name": "n", "plugin": 1, "plugins": [plugin]}),
            Warning,
            "plugin",
            "did you mean plugins?",
        ),
    ] {
        one(&lint_list(list, &Node::default()), severity, path, words);
    }
    let newest = json!({"cniVersions": ["9.0.0", "1.1.0"], "name": "n", "plugins": [plugin]});
    assert_eq!(lint_list(newest, &Node::default()), []);
}

#[test]
fn a_list_is_read_from_a_conflist_only() {
    let list = br#"{"cniVersion": "1.0.0", "name": "n", "plugins": [{"type": "manx"}]}"#;
    one(&lint(Path::new("a.conf"), list, &Node::default()).findings, Error, "plugins", "rename");
    let single = br#"{"cniVersion": "1.1.0", "name": "n", "type": "manx", "mtu": "big",
        "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.1.0.0/24"}]]}}"#;
    one(&lint(Path::new("a.conf"), single, &Node::default()).findings, Error, "mtu", "big");
    let none = br#"{"cniVersion": "1.0.0", "name": "n"}"#;
    one(&lint(Path::new("a.json"), none, &Node::default()).findings, Error, "type", "no plugin");
}

#[test]
fn every_complaint_of_the_plugins_reader_has_its_path() {
    for (keys, path) in [
        (json!({"mode": "warp"}), "plugins[0].mode"),
        (json!({"mtu": 12}), "plugins[0].mtu"),
        (json!({"gateway": "0.0.0.0"}), "plugins[0].gateway"),
        (json!({"clusterCIDRs": ["10.0.0.0"]}), "plugins[0].clusterCIDRs"),
        (json!({"hostPrefix": "toolong"}), "plugins[0].hostPrefix"),
        (json!({"ipam": {}}), "plugins[0].ipam.type"),
        (json!({"ipam": {"type": "host-local", "subnet": "10.1"}}), "plugins[0].ipam.subnet"),
        (
            json!({"ipam": {"type": "host-local", "subnet": "usePodCidrs"}}),
            "plugins[0].ipam.subnet",
        ),
        (
            json!({"ipam": {"type": "manx-ipam", "subnet": "10.1.0.0/24", "routes": [{"dst": ""}]}}),
            "plugins[0].ipam.routes[0].dst",
        ),
        (json!({"dns": {"search": "x"}}), "plugins[0].dns.search"),
        (json!({"crossSubnet": "sometimes"}), "plugins[0].crossSubnet"),
        (json!({"vxlan": {"port": 0}}), "plugins[0].vxlan.port"),
        (json!({"args": {"cni": {"mac": 5}}}), "plugins[0].args.cni.mac"),
    ] {
        let findings = lint_plugin(keys.clone(), &Node::default());
        one(&findings, Error, path, "");
        assert!(!findings[0].finding.fix.is_empty(), "{keys}: {findings:?}");
    }
}

#[test]
fn a_mistyped_key_is_told_the_nearest() {
    for (keys, path, words) in [
        (json!({"ipMsaq": true}), "plugins[0].ipMsaq", "did you mean ipMasq?"),
        (json!({"somethingElse": 1}), "plugins[0].somethingElse", "leave it out"),
        (json!({"vxlan": {"vnid": 1}}), "plugins[0].vxlan.vnid", "did you mean vni?"),
        (
            json!({"ipam": {"type": "host-local", "ranges": [[{"subnet": "10.1.0.0/24"}]],
                "datadir": "/x", "resolvconf": "/x", "rotes": []}}),
            "plugins[0].ipam.rotes",
            "did you mean routes?",
        ),
    ] {
        one(&lint_plugin(keys, &Node::default()), Warning, path, words);
    }
    let calicos = lint_plugin(json!({"nodename": "a", "policy": {}}), &Node::default());
    one(&calicos, Info, "plugins[0]", "nodename, policy");
    assert_eq!(lint_plugin(json!({"cni.dev/x": 1}), &Node::default()), []);
}

#[test]
fn ranges_that_the_ipam_plugin_refuses() {
    let at = |rest: &str| format!("plugins[0].ipam.ranges[0][0]{rest}");
    for (ranges, path, words) in [
        (json!([[{"subnet": "10.1.0.5/24"}]]), at(".subnet"), "10.1.0.0/24"),
        (json!([[{"subnet": "10.1.0.0"}]]), at(".subnet"), "10.1.0.0"),
        (json!([[{}]]), at(".subnet"), "missing"),
        (json!([[{"subnet": "10.1.0.0/31"}]]), at(".subnet"), "too small"),
        (json!([[{"subnet": "fd00::/127"}]]), at(".subnet"), "126"),
        (json!([[{"subnet": "10.1.0.0/24", "rangeEnd": "10.2.0.1"}]]), at(".rangeEnd"), "10.2.0.1"),
        (
            json!([[{"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.9", "rangeEnd": "10.1.0.3"}]]),
            at(".rangeEnd"),
            "before it starts",
        ),
        (
            json!([[{"subnet": "10.1.0.0/24"}, {"subnet": "fd00::/64"}]]),
            "plugins[0].ipam.ranges[0]".into(),
            "family",
        ),
        (json!([]), "plugins[0].ipam".into(), "no range"),
    ] {
        for kind in ["host-local", "manx-ipam"] {
            let keys = json!({"ipam": {"type": kind, "ranges": ranges}});
            one(&lint_plugin(keys, &Node::default()), Error, &path, words);
        }
    }
    let filled = json!({"ipam": {"type": "manx-ipam", "subnet": "usePodCidr"}});
    assert_eq!(lint_plugin(filled, &Node::default()), []);
    let dynamic = json!({"ipam": {"type": "host-local"}, "capabilities": {"ipRanges": true}});
    assert_eq!(lint_plugin(dynamic, &Node::default()), []);
    let strange = json!({"ipam": {"type": "my-ipam", "ranges": [[{"subnet": "10.1.0.5/24"}]]}});
    assert_eq!(lint_plugin(strange, &Node::default()), []);
}

#[test]
fn ranges_that_have_addresses_in_common() {
    let ranges = |one: Value, other: Value| {
        let ipam = json!({"type": "host-local", "ranges": [[one], [other]]});
        lint_plugin(json!({"ipam": ipam}), &Node::default())
    };
    let findings = ranges(json!({"subnet": "10.1.0.0/16"}), json!({"subnet": "10.1.7.0/24"}));
    one(&findings, Error, "plugins[0].ipam.ranges[1][0]", "10.1.0.0/16");
    let low = json!({"subnet": "10.1.0.0/24", "rangeEnd": "10.1.0.99"});
    let high = json!({"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.100"});
    assert_eq!(ranges(low.clone(), high), []);
    let touching = json!({"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.99"});
    assert_eq!(ranges(low, touching).len(), 1);
    assert_eq!(ranges(json!({"subnet": "0.0.0.0/0"}), json!({"subnet": "::/0"})), []);
}

#[test]
fn mtu_against_families_overhead_and_the_device() {
    let device =
        |mtu| Node { uplink: Some(Uplink { device: "eth0".into(), mtu }), ..Node::default() };
    let ipv6 = json!({"type": "host-local", "ranges": [[{"subnet": "fd00::/64"}]]});
    let low = json!({"mtu": 1200, "ipam": ipv6});
    one(&lint_plugin(low, &Node::default()), Error, "plugins[0].mtu", "fd00::/64");
    let fixed = json!({"type": "static", "addresses": [{"address": "fd00::5/64"}]});
    let low = json!({"mtu": 1279, "ipam": fixed});
    one(&lint_plugin(low, &Node::default()), Error, "plugins[0].mtu", "1280");
    let derived = json!({"mode": "vxlan", "ipam": ipv6});
    one(&lint_plugin(derived, &device(1300)), Error, "plugins[0].mtu", "1230");
    assert_eq!(lint_plugin(json!({"mtu": 1200}), &Node::default()), []);
    let above = json!({"mode": "vxlan", "mtu": 1500});
    one(&lint_plugin(above, &device(1500)), Warning, "plugins[0].mtu", "1450");
    assert_eq!(lint_plugin(json!({"mode": "vxlan", "mtu": 1450}), &device(1500)), []);
    let both = json!({"mode": "ipip", "mtu": 1400, "overhead": 50});
    one(&lint_plugin(both, &Node::default()), Warning, "plugins[0].overhead", "1400");
    assert_eq!(lint_plugin(json!({"overhead": 50}), &Node::default()), []);
    let direct = lint_plugin(json!({"crossSubnet": true}), &Node::default());
    one(&direct, Warning, "plugins[0].crossSubnet", "direct");
    assert_eq!(lint_plugin(json!({"crossSubnet": false}), &Node::default()), []);
}

/// A directory that goes with its owner.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("manx-validate-{}-{name}", process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> String {
        fs::write(self.0.join(name), text).unwrap();
        self.0.join(name).to_str().unwrap().to_owned()
    }

    /// A plugin that knows nothing but which versions it speaks.
    fn plugin(&self, name: &str, versions: &[&str]) {
        let answer = json!({"supportedVersions": versions});
        self.script(name, &format!("[ $CNI_COMMAND = VERSION ] && echo '{answer}'"));
    }

    fn script(&self, name: &str, body: &str) {
        let path = self.write(name, &format!("#!/bin/sh\n{body}\n"));
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn validate(&self, arguments: &[&str]) -> (u8, Vec<Value>) {
        let path = self.0.to_str().unwrap();
        let (code, out, _) = manx(&[&["validate", "--json", path], arguments].concat());
        let json: Value = serde_json::from_str(&out).unwrap();
        (code, found(&json))
    }
}

/// What was found, of all checks that were made.
fn found(document: &Value) -> Vec<Value> {
    let checks = document["checks"].as_array().unwrap();
    let fine = checks.iter().filter(|check| check["status"] == "ok");
    assert!(fine.clone().all(|check| check["evidence"] == ""), "{document}");
    assert!(checks.iter().all(|check| check["why"] != ""), "{document}");
    checks.iter().filter(|check| check["status"] == "found").cloned().collect()
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn binaries_that_are_missing() {
    let directory = Directory::new("binaries");
    directory.write("calico", "");
    let node = Node { plugin_path: Some(vec![directory.0.clone()]), ..Node::default() };
    let list = json!({"cniVersion": "1.1.0", "name": "n", "plugins": [
        {"type": "bridge", "ipam": {"type": "dhcp"}}, {"type": "../x"}, {"type": "calico",
        "ipam": {"type": "static"}}]});
    let findings = lint_list(list, &node);
    let said: Vec<_> = findings.iter().map(|f| (f.path.as_str(), f.finding.severity)).collect();
    let path = ["[0].type", "[0].ipam.type", "[1].type", "[2].type", "[2].ipam.type"];
    let path = path.map(|path| format!("plugins{path}"));
    assert_eq!(said, path.iter().map(|path| (path.as_str(), Error)).collect::<Vec<_>>());
    assert!(findings[3].finding.evidence.contains("not executable"), "{findings:?}");
}

#[test]
fn a_peers_file_that_is_missing_or_broken_or_relative() {
    let root = Directory::new("peers");
    let node = Node { root: Some(Root::new(&root.0)), ..Node::default() };
    let lint = |path: &str| lint_plugin(json!({"peersFile": path}), &node);
    one(&lint("/peers.json"), Error, "plugins[0].peersFile", "No such file");
    for text in ["", "{", "[]", r#"{"nodes": []}"#, r#"{"nodes": [{"name": "a"}]}"#] {
        root.write("peers.json", text);
        one(&lint("/peers.json"), Error, "plugins[0].peersFile", "fails with code 50");
    }
    let good = r#"{"self": "a", "nodes": [
        {"name": "a", "addresses": ["192.0.2.11"], "podCIDRs": ["10.1.0.0/24"]}]}"#;
    root.write("peers.json", good);
    one(&lint("peers.json"), Warning, "plugins[0].peersFile", "relative");
    assert_eq!(lint("/peers.json"), []);
    // What the file says is no key of the configuration.
    let fabric = r#"{"fabric": {"crossSubnet": true}, "self""#;
    root.write("peers.json", &good.replacen("{\"self\"", fabric, 1));
    one(&lint("/peers.json"), Warning, "plugins[0].peersFile", "crossSubnet says nothing");
    // Another node's mistake is its alone.
    let one_bad =
        good.replace("}]}", r#"}, {"name": "b", "addresses": ["192.0.2.300"], "podCIDRs": []}]}"#);
    root.write("peers.json", &one_bad);
    one(&lint("/peers.json"), Warning, "plugins[0].peersFile", "b is left out: ");
}

#[test]
fn a_file_may_be_named_by_an_option() {
    let directory = Directory::new("option");
    let file = directory.write("a.conflist", r#"{"cniVersion": "1.0.0", "name": "n"}"#);
    let by_option = manx(&["validate", "--conf", &file]);
    assert_eq!(by_option, manx(&["validate", &file]));
    assert_eq!(by_option.0, 3);
    assert_eq!(manx(&["validate", "--conf", &file, &file]).0, 2);
}

#[test]
fn a_directory_is_read_in_order_and_files_are_compared() {
    let directory = Directory::new("directory");
    let conf = |name: &str, subnet: &str| {
        json!({"cniVersion": "1.1.0", "name": name, "type": "manx",
            "ipam": {"type": "host-local", "subnet": subnet}})
        .to_string()
    };
    directory.write("20-b.conf", &conf("b", "10.1.2.0/24"));
    directory.write("10-a.json", &conf("a", "10.1.0.0/16"));
    directory.write("30-a.conf", &conf("a", "10.1.0.0/16"));
    directory.write("00-ignored.txt", "");
    let bin = Directory::new("directory-bin");
    for name in ["manx", "host-local"] {
        bin.plugin(name, &["1.0.0", "1.1.0"]);
    }
    let (code, findings) = directory.validate(&["--bin", bin.0.to_str().unwrap()]);
    assert_eq!(code, 3);
    let said: Vec<_> = findings
        .iter()
        .map(|finding| {
            let object = finding["object"].as_str().unwrap();
            let (file, path) = object.split_once(' ').unwrap_or((object, ""));
            let name = Path::new(file).file_name().unwrap().to_str().unwrap();
            (name, finding["severity"].as_str().unwrap(), path)
        })
        .collect();
    let expected = [
        ("10-a.json", "info", ""),
        ("10-a.json", "info", "networkPolicy"),
        ("20-b.conf", "warning", "ipam"),
        ("20-b.conf", "info", "networkPolicy"),
        ("30-a.conf", "warning", "name"),
        ("30-a.conf", "warning", "ipam"),
        ("30-a.conf", "info", "networkPolicy"),
    ];
    assert_eq!(said, expected, "{findings:#?}");
    fs::remove_file(directory.0.join("20-b.conf")).unwrap();
    fs::remove_file(directory.0.join("30-a.conf")).unwrap();
    assert_eq!(directory.validate(&["--bin", bin.0.to_str().unwrap()]).0, 0);
}

#[test]
fn the_table_names_file_path_and_fix() {
    let directory = Directory::new("table");
    let file = directory.write("a.conflist", r#"{"cniVersion": "1.0.0", "name": "n"}"#);
    let (code, out, _) = manx(&["validate", &file]);
    assert_eq!(code, 3);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[1], "error     a.conflist  plugins  plugins is missing");
    assert!(lines[2].trim_start().starts_with("fix: give a list"), "{out}");
    assert_eq!(lines[3], "files: 1, errors: 1, warnings: 0");
    assert_eq!(manx(&["validate", "/nowhere/at/all"]).0, 1);
    let empty = Directory::new("empty");
    let (code, _, err) = manx(&["validate", empty.0.to_str().unwrap()]);
    assert!(code == 1 && err.contains("manx install"), "{err}");
}

/// Every configuration that is shipped.
#[test]
fn the_shipped_configurations_are_sound() {
    let conf = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf");
    let mut files = conflist::files(&conf).unwrap();
    files.extend(conflist::files(&conf.join("examples")).unwrap());
    files.retain(|file| file.extension().is_some_and(|extension| extension == "conflist"));
    assert!(files.len() >= 5, "{files:?}");
    let mut findings = all(&files, false, &Node::default(), &Root::new("/nonexistent")).unwrap();
    // Of these one is chosen, so each is looked at by itself.
    for file in conflist::files(&conf.join("two-nodes")).unwrap() {
        if file.ends_with("peers.json") {
            continue;
        }
        findings.extend(all(&[file], false, &Node::default(), &Root::new("/nonexistent")).unwrap());
    }
    for finding in findings {
        assert_eq!(finding.finding.severity, Info, "{finding:?}");
        let is_of_policies = finding.finding.id == finding::UNENFORCED;
        assert!(is_of_policies || finding.file.ends_with("10-calico.conflist"), "{finding:?}");
    }
}

#[test]
fn policies_without_effect_are_told_and_end_with_3() {
    let path = std::env::temp_dir().join(format!("manx-policies-{}.json", process::id()));
    let file = path.display().to_string();
    let kubernetes = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
                            "metadata": {"namespace": "shop", "name": "web"}, "spec": {}});
    let tier = json!({"apiVersion": "crd.projectcalico.org/v1", "kind": "Tier",
                      "metadata": {"name": "security"}, "spec": {"order": 1}});
    for (items, code, said) in [
        (json!([kubernetes]), 0, "policies that manx reads: 1, objects without effect: 0"),
        (json!([kubernetes, tier]), 3, "Tier security"),
    ] {
        fs::write(&path, json!({"kind": "List", "items": items}).to_string()).unwrap();
        let (ended, told, _) = manx(&["validate", "--policies", &file]);
        assert!(ended == code && told.contains(said), "{told}");
        let (_, told, _) = manx(&["validate", "--policies", &file, "--json"]);
        let told: Value = serde_json::from_str(&told).unwrap();
        assert_eq!(told["checks"][0]["id"], "policy-unenforced");
        let status = if code == 3 { "found" } else { "ok" };
        assert_eq!(told["checks"][0]["status"], status);
    }
    fs::write(&path, "kind: List").unwrap();
    let (ended, _, problem) = manx(&["validate", "--policies", &file]);
    assert!(ended == 1 && problem.contains("kubectl get"), "{problem}");
    assert_eq!(manx(&["validate", "--policies", &file, "--conf", &file]).0, 2);
    fs::remove_file(&path).unwrap();
}
