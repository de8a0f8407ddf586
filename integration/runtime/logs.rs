// SPDX-License-Identifier: Apache-2.0
//! What is said, where, and what never.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{Host, Plugin, Pod, Reply};
use crate::node::{fixed, manx, script};

fn plugin(host: &Host) -> Plugin {
    manx(host, &fixed(&["10.1.0.2/24"]))
}

fn one_line(reply: &Reply) -> &str {
    let lines: Vec<&str> = reply.stderr.lines().collect();
    assert_eq!(lines.len(), 1, "{lines:#?}");
    lines[0]
}

#[test]
fn add_and_del_are_one_line_each() {
    let (host, _outside) = Host::with_uplink();
    let pod = Pod::new("a").kubernetes("shop", "web-0");
    let plugin = plugin(&host);
    let reply = plugin.add(&pod);
    let line = one_line(&reply);
    let link = reply.json.as_ref().unwrap()["interfaces"][0]["name"].as_str().unwrap();
    let container = format!("container={}", pod.id);
    let facts = [" INFO ADD ", "network=net", &container, "ifname=eth0", "pod=shop/web-0", link];
    for fact in facts.iter().chain(&["addresses=10.1.0.2", "mtu=1500", "took_ms="]) {
        assert!(line.contains(fact), "no {fact} in {line:?}");
    }
    let del = plugin.del(&pod);
    assert!(one_line(&del).contains(" INFO DEL "), "{del:?}");
    // Nothing to do is told as briefly.
    assert!(one_line(&plugin.del(&pod)).contains(" INFO DEL "));
}

#[test]
fn check_status_and_version_say_nothing_when_all_is_well() {
    let (host, _outside) = Host::with_uplink();
    let (plugin, pod) = (plugin(&host), Pod::new("a"));
    let result = plugin.add(&pod).ok();
    let replies = [plugin.check(&pod, &result), plugin.status(), plugin.version()];
    for reply in replies {
        assert!(reply.succeeded() && reply.stderr.is_empty(), "{reply:?}");
    }
    host.command("ip", &["route", "del", "10.1.0.2"]).ok();
    assert!(one_line(&plugin.check(&pod, &result)).contains(" ERROR CHECK "));
}

#[test]
fn a_failure_is_one_line_with_its_code() {
    let host = Host::new();
    let reply = manx(&host, &json!({"type": "no-such-plugin"})).add(&Pod::new("a"));
    let line = one_line(&reply).to_owned();
    assert!(line.contains(" ERROR ADD ") && line.contains("no-such-plugin"), "{line}");
    assert!(line.contains(&format!("code={}", reply.code().unwrap())), "{line}");
}

/// The log file of a plugin with these keys, after an ADD; and the answer.
fn logged(keys: &Value, file: &str) -> (String, Reply) {
    let (host, _outside) = Host::with_uplink();
    let mut plugin = plugin(&host);
    for (key, value) in keys.as_object().unwrap() {
        plugin = plugin.with(key, value.clone());
    }
    let reply = plugin.add(&Pod::new("a"));
    assert!(reply.succeeded(), "{reply:?}");
    let path = host.scratch().path().join("root").join(file);
    (fs::read_to_string(path).unwrap_or_default(), reply)
}

#[test]
fn the_log_goes_to_a_file_as_well_by_our_name_and_by_calicos() {
    for key in ["logFile", "log_file_path"] {
        let (file, reply) =
            logged(&json!({key: "/var/log/calico/cni/cni.log"}), "var/log/calico/cni/cni.log");
        assert_eq!(file, reply.stderr, "{key}");
        assert_eq!(file.lines().count(), 1, "{key}");
    }
}

#[test]
fn the_level_is_heeded_by_our_name_and_by_calicos() {
    for key in ["logLevel", "log_level"] {
        for level in ["error", "ERROR", "Warn", "warn"] {
            assert_eq!(logged(&json!({key: level}), "").1.stderr, "", "{key} {level}");
        }
        for level in ["info", "Info", "debug", "TRACE"] {
            let (_, reply) = logged(&json!({key: level}), "");
            assert!(reply.stderr.contains(" INFO ADD "), "{key} {level}: {reply:?}");
        }
    }
}

#[test]
fn a_log_file_that_cannot_be_written_costs_a_warning_only() {
    let (host, _outside) = Host::with_uplink();
    host.scratch().dir("root");
    host.scratch().file("root/blocked", "");
    let plugin = plugin(&host).with("logFile", "/blocked/log".into());
    let reply = plugin.add(&Pod::new("a"));
    assert!(reply.succeeded() && reply.stderr.contains(" WARN logFile"), "{reply:?}");
}

/// What a terminal obeys, and what begins another line.
const HOSTILE: &str = "web\n2026-01-01T00:00:00.000Z INFO DEL link=none\u{1b}[2J\u{202e}\u{9b}m";

/// That a text has so many lines and nothing in it that a terminal obeys.
#[track_caller]
fn harmless(text: &str, lines: usize) {
    assert_eq!(text.lines().count(), lines, "{text:?}");
    let hostile = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
    assert!(!text.contains(hostile), "{text:?}");
}

#[test]
fn what_a_pod_is_called_makes_no_line_and_no_sequence() {
    let (host, _outside) = Host::with_uplink();
    let pod = Pod::new("a").kubernetes("default", HOSTILE);
    let plugin = plugin(&host).with("logFile", "/log".into());
    let reply = plugin.add(&pod);
    assert!(reply.succeeded(), "{reply:?}");
    harmless(&reply.stderr, 1);
    assert!(reply.stderr.contains(r"web\n2026"), "{reply:?}");
    harmless(&fs::read_to_string(host.scratch().path().join("root/log")).unwrap(), 1);
    let id = format!("x{HOSTILE}");
    let names = ["e\u{1b}[31m", "e\u{202e}x", "-eth0"].map(|name| ("CNI_IFNAME", name));
    for (name, value) in [("CNI_CONTAINERID", &*id)].into_iter().chain(names) {
        let reply = plugin.call("ADD").pod(&pod).env(name, value).run();
        assert_eq!(reply.code(), Some(4), "{name}: {reply:?}");
        harmless(&reply.stderr, reply.stderr.lines().count().min(1));
    }
}

#[test]
fn what_a_delegate_says_makes_no_line_and_no_sequence() {
    let host = Host::new();
    let answer = json!({"code": 120, "msg": HOSTILE, "details": HOSTILE}).to_string();
    let words = host.scratch().file("words", format!("first\u{1b}[2J\r\nsecond {}\u{202e}\n", 5));
    let body = format!("cat {} >&2; cat <<'E'\n{answer}\nE\nexit 1", words.display());
    script(&host, "hostile", &body);
    let reply = manx(&host, &json!({"type": "hostile"})).status();
    // Two lines of its stderr, each with its name before it, and ours.
    harmless(&reply.stderr, 3);
    assert!(reply.stderr.lines().all(|line| line.contains(" ERROR ")), "{reply:?}");
    assert!(reply.stderr.contains("hostile: second"), "{reply:?}");
    // JSON is told as it was said.
    assert_eq!(reply.error()["msg"], format!("hostile: {HOSTILE}"));
}

const SECRET: &str = "hunter2-4e1c";

/// Everything that a plugin said anywhere about a configuration which holds the
/// secret in many places.
fn said(mutate: impl Fn(&mut Value)) -> String {
    let (host, _outside) = Host::with_uplink();
    script(
        &host,
        "silent",
        r#"cat >/dev/null; [ $CNI_COMMAND != ADD ] || echo '{"ips":[{"address":"10.1.0.2/24"}]}'"#,
    );
    let ipam = json!({"type": "silent", "password": SECRET, "deep": [{"token": SECRET}]});
    let mut plugin = manx(&host, &ipam)
        .with("logLevel", "trace".into())
        .with("logFile", "/log".into())
        .with("kubernetes", json!({"k8s_auth_token": SECRET}))
        .with("etcd_key_file", SECRET.into())
        .with("args", json!({"cni": {"secret": SECRET}}))
        .with("runtimeConfig", json!({"credentials": SECRET}))
        .with("ipMasq", true.into());
    mutate(&mut plugin.conf);
    let pod = Pod::new("a");
    let mut texts = Vec::new();
    let mut note = |reply: Reply| {
        assert!(!reply.stderr.contains("panicked"), "{reply:?}");
        assert!(reply.json.is_some() || reply.stdout.is_empty(), "{reply:?}");
        texts.push(reply.stderr + &reply.stdout);
        reply.json.unwrap_or_default()
    };
    let result = note(plugin.add(&pod));
    note(plugin.add(&pod));
    note(plugin.check(&pod, &result));
    note(plugin.check(&pod, &json!({"ips": [[{"secret": SECRET}]]})));
    note(plugin.status());
    note(plugin.gc(&[&pod]));
    note(plugin.del(&pod));
    texts.push(fs::read_to_string(host.scratch().path().join("root/log")).unwrap_or_default());
    texts.concat()
}

#[test]
fn no_level_tells_what_is_in_the_configuration() {
    let said = said(|_| ());
    assert!(said.contains("ADD") && said.contains(" DEBUG "), "{said}");
    assert!(!said.contains(SECRET), "{said}");
}

/// An error names the key and the value that is wrong; a whole section is no
/// value.
#[test]
fn no_error_tells_what_is_in_a_section() {
    let mutations: [fn(&mut Value); 7] = [
        |conf| drop(conf["ipam"].as_object_mut().unwrap().remove("type")),
        |conf| conf["ipam"] = json!([{"type": "silent", "password": SECRET}]),
        |conf| conf["mtu"] = json!({"secret": SECRET}),
        |conf| conf["clusterCIDRs"] = json!([{"secret": SECRET}]),
        |conf| conf["mode"] = json!([{"secret": SECRET}]),
        |conf| conf["name"] = json!({"secret": SECRET}),
        |conf| conf["cniVersion"] = json!([{"secret": SECRET}]),
    ];
    for mutate in mutations {
        let said = said(mutate);
        assert!(!said.contains(SECRET), "{said}");
    }
    let (host, _outside) = Host::with_uplink();
    let plugin = plugin(&host);
    for text in [format!("[{{\"token\":\"{SECRET}\"}}]"), format!("{{\"token\":\"{SECRET}\",}}")] {
        let reply = plugin.call("ADD").pod(&Pod::new("a")).text(&text).run();
        assert_eq!(reply.code(), Some(6), "{reply:?}");
        assert!(!(reply.stdout + &reply.stderr).contains(SECRET));
    }
}
