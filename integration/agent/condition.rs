// SPDX-License-Identifier: Apache-2.0
//! The component `condition` on a real API server: the agent sets NetworkUnavailable of its own Node to
//! False, and its token is good for nothing else.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::control::{self, Control};
use crate::enclosure::{self, NODE_ADDRESS, output, until};
use crate::real::{ROOT, kubeconfig, node, start, uplink};

/// The objects that are shipped.
pub(crate) const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/conf/kubernetes");
pub(crate) const NAMESPACE: &str = "manx-system";

/// As another network leaves it behind.
fn left_behind(number: u8) -> Value {
    let mut node = node(number);
    node["metadata"]["labels"] = json!({"kind": "small"});
    node["status"]["conditions"] = json!([
        {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "ready"},
        {"type": "NetworkUnavailable", "status": "True", "reason": "CalicoIsDown", "message": "down"},
    ]);
    node
}

/// Applies what is shipped, with the component.
fn apply(control: &Control, called: &str) {
    let directory = Path::new("/run/kustomize");
    fs::create_dir_all(directory).unwrap();
    let shipped = format!("../..{SHIPPED}");
    let text = format!(
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n\
         resources: [{shipped}]\ncomponents: [{shipped}/components/condition]\n{called}"
    );
    fs::write(directory.join("kustomization.yaml"), text).unwrap();
    let arguments =
        ["apply", "--server-side", "--warnings-as-errors", "--kustomize", "/run/kustomize"];
    output(&mut control.kubectl(&arguments));
}

/// A token as the agent's pod on that node gets it.
pub(crate) fn token(control: &Control, node: &str) -> String {
    token_of(control, (NAMESPACE, "manx-agent"), node)
}

fn token_of(control: &Control, (namespace, account): (&str, &str), node: &str) -> String {
    let pod = control.create(&json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("agent-{node}"), "namespace": namespace},
        "spec": {"nodeName": node, "serviceAccountName": account, "hostNetwork": true,
            "containers": [{"name": "agent", "image": "localhost/manx:0"}]}}));
    let (name, uid) = (pod["metadata"]["name"].as_str().unwrap(), &pod["metadata"]["uid"]);
    let bound =
        ["create", "token", account, "--bound-object-kind=Pod", "--bound-object-name", name];
    let uid = format!("--bound-object-uid={}", uid.as_str().unwrap());
    let arguments = [&["--namespace", namespace][..], &bound, &[&uid]].concat();
    output(&mut control.kubectl(&arguments)).trim().to_owned()
}

/// Patches the status of a Node by a token; the answer's code, and what it says.
///
/// kubectl would get the Node first, which the agent may not.
fn patch(control: &Control, token: &str, node: &str, patch: &Value) -> (u16, String) {
    let (body, host) = (patch.to_string(), SocketAddr::from((NODE_ADDRESS, 6443)).to_string());
    let request = format!(
        "PATCH /api/v1/nodes/{node}/status HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\
         Authorization: Bearer {token}\r\nContent-Type: application/strategic-merge-patch+json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut client = Command::new("openssl");
    client.args(["s_client", "-quiet", "-verify_return_error", "-connect", &host, "-CAfile"]);
    client.arg(control.authority()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut client = client.stderr(Stdio::null()).spawn().unwrap();
    let mut pipe = client.stdin.take().unwrap();
    pipe.write_all(request.as_bytes()).unwrap();
    let answer = client.wait_with_output().unwrap();
    drop(pipe);
    let answer = String::from_utf8(answer.stdout).unwrap();
    let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
    (code.unwrap_or_else(|| panic!("no answer: {answer:?}")), answer)
}

/// The condition of the Node, and its reason.
fn held(control: &Control, node: &str) -> (String, String) {
    let text = output(&mut control.kubectl(&["get", "node", node, "--output=json"]));
    let node: Value = serde_json::from_str(&text).unwrap();
    let conditions = node["status"]["conditions"].as_array().unwrap();
    let one = conditions.iter().find(|one| one["type"] == "NetworkUnavailable").unwrap();
    let text = |key: &str| one[key].as_str().unwrap().to_owned();
    (text("status"), text("reason"))
}

fn cleared(status: &str, reason: &str) -> Value {
    let kind = "NetworkUnavailable";
    json!({"status": {"conditions": [{"type": kind, "status": status, "reason": reason}]}})
}

/// What the token of the agent on node-1 is not good for.
fn refused(control: &Control, token: &str) {
    let condition = cleared("False", "ManxIsReady");
    let with = |key: &str, value: Value| {
        let mut patch = condition.clone();
        patch["status"][key] = value;
        patch
    };
    let metadata = |key: &str| {
        let mut patch = condition.clone();
        patch["metadata"] = json!({key: {"kind": "large"}});
        patch
    };
    // It takes the API server a moment to go by a policy that is new. Until then it goes through.
    let of_another = || patch(control, token, "node-3", &condition);
    until("the token is refused for another node", || of_another().0 == 422);
    let mut both = condition["status"]["conditions"].clone();
    let ready = json!({"type": "Ready", "status": "False", "reason": "No"});
    both.as_array_mut().unwrap().push(ready);
    let address = json!([{"type": "InternalIP", "address": "192.0.2.2"}]);
    for (node, patch_of, words) in [
        ("node-2", condition.clone(), "of the node that it runs on, and of no other"),
        ("node-1", cleared("True", "ManxIsReady"), "to False"),
        ("node-1", cleared("False", "CalicoIsUp"), "with the reason ManxIsReady"),
        ("node-1", with("conditions", both), "no condition but NetworkUnavailable"),
        ("node-1", with("addresses", address), "nothing of the status but"),
        ("node-1", with("capacity", json!({"cpu": "64"})), "nothing of the status but"),
        ("node-1", metadata("labels"), "nothing of the metadata"),
        ("node-1", metadata("annotations"), "nothing of the metadata"),
    ] {
        let (code, answer) = patch(control, token, node, &patch_of);
        assert!(code == 422 && answer.contains(words), "{patch_of}: {code}, not {words}: {answer}");
    }
    assert_eq!(held(control, "node-2"), ("True".to_owned(), "CalicoIsDown".to_owned()));
}

/// A token that is not of a pod on a node is one of nobody's.
fn unbound(control: &Control) {
    let token = control.token(NAMESPACE, "manx-agent");
    let (code, answer) = patch(control, &token, "node-1", &cleared("False", "ManxIsReady"));
    assert_eq!(code, 422, "{answer}");
}

fn condition_is_set(control: &Control) {
    fs::create_dir_all(ROOT).unwrap();
    uplink();
    for number in [1, 2, 3] {
        control.create(&left_behind(number));
    }
    apply(control, "");
    let own = token(control, "node-1");
    refused(control, &own);
    unbound(control);
    let _agent = start(&kubeconfig(control, &own), &["--condition"]);
    let now = || held(control, "node-1");
    let wanted = ("False".to_owned(), "ManxIsReady".to_owned());
    until("the condition is set", || now() == wanted);
    let said = fs::read_to_string(Path::new(ROOT).join("log")).unwrap();
    assert!(said.contains("NetworkUnavailable is False now (it was True, CalicoIsDown)"), "{said}");
    assert_eq!(held(control, "node-2").0, "True");
    typed(control);
    renamed(control);
}

/// Who calls the objects otherwise is confined as well.
fn renamed(control: &Control) {
    apply(control, "namePrefix: prod-\nnameSuffix: -x\nnamespace: nets\n");
    let token = token_of(control, ("nets", "prod-manx-agent-x"), "node-1");
    let condition = cleared("False", "ManxIsReady");
    until("the token is refused for another node", || {
        patch(control, &token, "node-3", &condition).0 == 422
    });
    assert_eq!(patch(control, &token, "node-1", &condition).0, 200);
}

/// What the API server itself finds to say of the policy.
fn typed(control: &Control) {
    let arguments = ["get", "validatingadmissionpolicy", "manx-agent-condition", "--output=json"];
    let policy: Value = serde_json::from_str(&output(&mut control.kubectl(&arguments))).unwrap();
    let warnings = &policy["status"]["typeChecking"]["expressionWarnings"];
    assert_eq!(*warnings, json!(null));
}

#[test]
#[ignore = "needs root outside of any user namespace: hack/test runs it"]
fn an_agent_sets_one_condition_of_its_own_node() {
    let name = "condition::an_agent_sets_one_condition_of_its_own_node";
    enclosure::run(name, control::missing(), || {
        condition_is_set(&Control::start(Path::new("/run/cluster"), NODE_ADDRESS));
    });
}
