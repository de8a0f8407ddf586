// SPDX-License-Identifier: Apache-2.0
//! STATUS: would an ADD be served now?

use serde_json::{Value, json};

use crate::harness::{Host, Plugin, Pod, Reply};
use crate::node::{fixed, manx, script};

/// A plugin whose IPAM answers STATUS with this.
fn answering(host: &Host, status: i32, answer: &str) -> Plugin {
    let body = format!(
        "cat >/dev/null; [ $CNI_COMMAND = STATUS ] || exit 0; echo '{answer}'; exit {status}"
    );
    script(host, "answering", &body);
    manx(host, &json!({"type": "answering"}))
}

#[track_caller]
fn code(reply: Reply) -> Value {
    reply.error()["code"].clone()
}

#[test]
fn all_is_well_without_any_network_or_pod() {
    let host = Host::new();
    let plugin = manx(&host, &fixed(&["10.1.0.2/24"]));
    let reply = plugin.status();
    assert_eq!(reply.stdout, "", "success is silent");
    reply.ok();
    plugin.with("ipMasq", true.into()).status().ok();
}

#[test]
fn a_missing_delegate_is_unavailable() {
    let host = Host::new();
    let error = manx(&host, &json!({"type": "no-such-plugin"})).status().error();
    assert_eq!(error["code"], 50);
    assert!(error["msg"].as_str().unwrap().contains("no-such-plugin"), "{error}");
}

#[test]
fn a_delegates_own_codes_are_kept() {
    let host = Host::new();
    for told in [50, 51] {
        let answer = format!(r#"{{"cniVersion":"1.1.0","code":{told},"msg":"pool is empty"}}"#);
        let error = answering(&host, 1, &answer).status().error();
        assert_eq!(error["code"], told);
        assert_eq!(error["msg"], "answering: pool is empty");
    }
}

#[test]
fn a_delegate_that_never_heard_of_status_is_no_obstacle() {
    let host = Host::new();
    for answer in [
        r#"{"code":4,"msg":"unknown CNI_COMMAND: STATUS"}"#,
        r#"{"code":1,"msg":"incompatible CNI versions"}"#,
    ] {
        answering(&host, 1, answer).status().ok();
    }
    answering(&host, 0, "").status().ok();
}

#[test]
fn a_configuration_that_no_add_would_take_is_told() {
    let host = Host::new();
    let plugin = manx(&host, &fixed(&["10.1.0.2/24"]));
    assert_eq!(code(plugin.clone().with("mtu", 1.into()).status()), 7);
    assert_eq!(code(plugin.clone().with("cniVersion", "1.0.0".into()).status()), 1);
    assert_eq!(code(plugin.with("ipam", Value::Null).status()), 7);
}

#[test]
fn a_state_directory_that_cannot_be_made_is_unavailable() {
    let host = Host::new();
    let root = host.scratch().file("blocked", "").display().to_string();
    let plugin = manx(&host, &fixed(&["10.1.0.2/24"])).env("MANX_ROOT", &root);
    assert_eq!(code(plugin.status()), 50);
    assert_eq!(plugin.add(&Pod::new("a")).code(), Some(5));
}

/// A kubelet and a runtime ask several times a second.
#[test]
fn a_condition_that_lasts_is_logged_when_it_begins_changes_and_ends() {
    let host = Host::new();
    let answer = |text: &str| format!(r#"{{"cniVersion":"1.1.0","code":50,"msg":"{text}"}}"#);
    let said = |plugin: &Plugin| {
        let reply = plugin.status();
        let code = reply.code();
        (code, reply.stderr.lines().map(str::to_owned).collect::<Vec<_>>())
    };
    let plugin = answering(&host, 1, &answer("one"));
    let (code, lines) = said(&plugin);
    assert!(code == Some(50) && lines.len() == 1 && lines[0].contains("one"), "{lines:?}");
    assert_eq!(said(&plugin), (Some(50), Vec::new()), "told already");
    let (code, lines) = said(&answering(&host, 1, &answer("two")));
    assert_eq!(code, Some(50));
    assert!(lines[0].contains("ERROR") && lines[0].contains("two"), "{lines:?}");
    assert!(lines[1].contains("no longer") && lines[1].contains("one"), "{lines:?}");
    let (code, lines) = said(&answering(&host, 0, ""));
    assert!(code.is_none() && lines.len() == 1 && lines[0].contains("no longer"), "{lines:?}");
    assert_eq!(said(&plugin), (None, Vec::new()));
}
