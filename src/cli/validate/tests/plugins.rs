// SPDX-License-Identifier: Apache-2.0
//! The plugins of a list: which versions they speak, and which cannot work.

use super::*;

/// A list of ours and portmap's, with these versions on offer.
fn offering(single: &str, several: Value) -> Value {
    json!({"cniVersion": single, "cniVersions": several, "name": "n", "plugins": [
        {"type": "manx", "ipam": {"type": "host-local", "subnet": "10.1.0.0/24"}},
        {"type": "portmap"}]})
}

#[test]
fn a_plugin_that_does_not_speak_what_is_offered() {
    let bin = Directory::new("versions");
    let node = Node { plugin_path: Some(vec![bin.0.clone()]), ..Node::default() };
    let new = ["0.4.0", "1.0.0", "1.1.0"];
    bin.plugin("manx", &new);
    bin.plugin("host-local", &new);
    bin.plugin("portmap", &new[..2]);
    let findings = lint_list(offering("1.0.0", json!(["1.0.0", "1.1.0"])), &node);
    one(&findings, Error, "cniVersions", "portmap does not speak");
    assert!(findings[0].finding.fix.contains("0.4.0, 1.0.0"), "{findings:?}");
    // In the other key, and of an IPAM plugin.
    bin.plugin("portmap", &new);
    bin.plugin("host-local", &["0.4.0"]);
    let findings = lint_list(offering("1.0.0", json!([])), &node);
    assert_eq!((findings[0].finding.severity, findings[0].path.as_str()), (Error, "cniVersion"));
    assert!(findings[0].finding.evidence.contains("host-local does not speak"), "{findings:?}");
    bin.plugin("portmap", &["1.0.0"]);
    let findings = lint_list(offering("1.1.0", json!(["0.4.0"])), &node);
    assert!(findings.iter().all(|found| found.finding.fix.contains("no version is spoken by all")));
    // All speak all of it; what does not exist yet concerns nobody.
    bin.plugin("host-local", &new);
    bin.plugin("portmap", &new);
    assert_eq!(lint_list(offering("1.0.0", json!(["1.0.0", "1.1.0", "7.0.0"])), &node), []);
}

#[test]
fn a_plugin_that_does_not_say_what_it_speaks() {
    let bin = Directory::new("speechless");
    let node = Node { plugin_path: Some(vec![bin.0.clone()]), ..Node::default() };
    bin.plugin("manx", &["1.1.0"]);
    bin.plugin("host-local", &["1.1.0"]);
    for body in ["exit 1", "echo hello", "echo '{}'", "kill -9 $$"] {
        bin.script("portmap", body);
        let findings = lint_list(offering("1.1.0", json!(["1.1.0"])), &node);
        one(&findings, Warning, "plugins[1].type", "portmap: VERSION");
    }
}

#[test]
fn versions_without_gc_and_status() {
    let node = Node::default();
    for (single, several, at) in
        [("1.0.0", json!([]), "cniVersions"), ("0.4.0", json!(["1.0.0"]), "cniVersions")]
    {
        one(&lint_list(offering(single, several), &node), Warning, at, "neither GC nor STATUS");
    }
    let mut alone = offering("1.0.0", json!([]));
    alone.as_object_mut().unwrap().remove("cniVersions");
    one(&lint_list(alone.clone(), &node), Warning, "cniVersion", "cniVersions");
    // As Calico's installer writes it, and where a plugin speaks nothing newer.
    alone["plugins"][0]["type"] = json!("calico");
    one(&lint_list(alone.clone(), &node), Info, "cniVersion", "GC");
    alone["plugins"][0]["type"] = json!("manx");
    let bin = Directory::new("nothing-newer");
    for name in ["manx", "host-local", "portmap"] {
        bin.plugin(name, &["1.0.0"]);
    }
    let node = Node { plugin_path: Some(vec![bin.0.clone()]), ..Node::default() };
    one(&lint_list(alone, &node), Info, "cniVersion", "GC");
}

#[test]
fn an_ipam_plugin_that_cannot_work() {
    let node = Node::default();
    for (kind, words) in [("dhcp", "routed link"), ("manx", "itself"), ("calico", "itself")] {
        let findings = lint_plugin(json!({"ipam": {"type": kind}}), &node);
        one(&findings, Error, "plugins[0].ipam.type", words);
        assert!(findings[0].finding.fix.contains("manx-ipam"), "{findings:?}");
    }
}

#[test]
fn an_overhead_that_is_less_than_the_encapsulation() {
    for (mode, overhead, words) in
        [("vxlan", 0, "50 bytes"), ("vxlan", 49, "50 bytes"), ("ipip", 19, "20 bytes")]
    {
        let keys = json!({"mode": mode, "overhead": overhead});
        one(&lint_plugin(keys, &Node::default()), Warning, "plugins[0].overhead", words);
    }
    let ipv6 = json!({"type": "host-local", "ranges": [[{"subnet": "fd00::/64"}]]});
    let keys = json!({"mode": "vxlan", "overhead": 50, "ipam": ipv6});
    one(&lint_plugin(keys, &Node::default()), Warning, "plugins[0].overhead", "70 bytes");
    for keys in [json!({"mode": "vxlan", "overhead": 50}), json!({"overhead": 0})] {
        assert_eq!(lint_plugin(keys, &Node::default()), []);
    }
}
