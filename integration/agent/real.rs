// SPDX-License-Identifier: Apache-2.0
//! The agent and a real API server: TLS, a token that may do what is documented and no more, and a list
//! that comes as a stream.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::control::{self, Control};
use crate::enclosure::{self, NODE_ADDRESS, until};
use crate::ground::{AGENT, CONFLIST, conflist, note_plugin};

/// Where the agent keeps its files and its state.
pub(crate) const ROOT: &str = "/run/node";

/// An agent that ends with this value.
pub(crate) struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Node 1 is this one.
pub(crate) fn node(number: u8) -> Value {
    let [a, b, c, _] = NODE_ADDRESS.octets();
    let address = Ipv4Addr::new(a, b, c, number);
    let pods = format!("10.244.{number}.0/24");
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": format!("node-{number}")},
        "spec": {"podCIDR": pods, "podCIDRs": [pods]},
        "status": {"addresses": [{"type": "InternalIP", "address": address}]}})
}

/// An account that may list and watch nodes.
fn account(control: &Control) -> PathBuf {
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": "manx-agent", "namespace": "kube-system"}});
    control.create(&account);
    control.create(&json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": "manx-agent"},
        "rules": [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["list", "watch"]}]}));
    control.create(&json!({"apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding", "metadata": {"name": "manx-agent"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole",
            "name": "manx-agent"},
        "subjects": [{"kind": "ServiceAccount", "name": "manx-agent",
            "namespace": "kube-system"}]}));
    kubeconfig(control, &control.token("kube-system", "manx-agent"))
}

/// What an agent with this token finds the API server by.
pub(crate) fn kubeconfig(control: &Control, token: &str) -> PathBuf {
    let file = Path::new(ROOT).join("token");
    fs::write(&file, token).unwrap();
    let kubeconfig = json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": control.address(),
            "certificate-authority": control.authority()}}],
        "users": [{"name": "u", "user": {"tokenFile": file}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]});
    let path = Path::new(ROOT).join("kubeconfig");
    fs::write(&path, kubeconfig.to_string()).unwrap();
    path
}

/// The device that leads to other nodes.
pub(crate) fn uplink() {
    let uplink = format!("{NODE_ADDRESS}/24");
    for arguments in [
        &["link", "add", "uplink", "up", "type", "veth", "peer", "name", "far"][..],
        &["link", "set", "far", "up"],
        &["address", "add", &uplink, "dev", "uplink"],
    ] {
        assert!(Command::new("ip").args(arguments).status().unwrap().success());
    }
}

pub(crate) fn start(kubeconfig: &Path, options: &[&str]) -> Agent {
    start_by(|agent| _ = agent.arg("--kubeconfig").arg(kubeconfig), options)
}

/// Starts an agent that is told otherwise how to reach the API server.
pub(crate) fn start_by(reach: impl FnOnce(&mut Command), options: &[&str]) -> Agent {
    let config = Path::new(ROOT).join("agent.json");
    let text = json!({"fabric": {"mode": "vxlan"}, "conflist": conflist()});
    fs::write(&config, text.to_string()).unwrap();
    note_plugin(Path::new(ROOT), 3);
    let log = fs::File::create(log()).unwrap();
    let mut command = Command::new(AGENT);
    command.args(["--node", "node-1", "--root", ROOT, "--config"]).arg(config);
    reach(&mut command);
    command.args(options).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    Agent(command.spawn().unwrap())
}

pub(crate) fn log() -> PathBuf {
    Path::new(ROOT).join("log")
}

/// The peers file.
pub(crate) fn peers_file() -> Value {
    let bytes = fs::read(Path::new(ROOT).join("var/lib/manx/peers.json")).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

/// The names in the peers file.
fn peers() -> Vec<String> {
    let nodes = peers_file()["nodes"].as_array().cloned().unwrap_or_default();
    let mut names: Vec<String> =
        nodes.iter().map(|node| node["name"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

fn await_peers(expected: &[&str]) {
    let what = format!("{expected:?}, but {:?}: {}", peers(), fs::read_to_string(log()).unwrap());
    until(&what, || peers() == expected);
}

fn node_follows(control: &Control) {
    fs::create_dir_all(ROOT).unwrap();
    uplink();
    for number in [1, 2] {
        control.create(&node(number));
    }
    let kubeconfig = account(control);
    let _agent = start(&kubeconfig, &[]);
    await_peers(&["node-1", "node-2"]);
    until("the configuration is in place", || Path::new(ROOT).join(CONFLIST).exists());
    control.create(&node(3));
    await_peers(&["node-1", "node-2", "node-3"]);
    let deleted = control.kubectl(&["delete", "node", "node-2"]).output().unwrap();
    assert!(deleted.status.success());
    await_peers(&["node-1", "node-3"]);
    let said = fs::read_to_string(log()).unwrap();
    assert!(!said.contains("listed in pages"), "this server sends a list as a stream: {said}");
}

#[test]
#[ignore = "needs root outside of any user namespace: hack/test runs it"]
fn a_node_follows_a_real_api_server() {
    let name = "real::a_node_follows_a_real_api_server";
    enclosure::run(name, control::missing(), || {
        node_follows(&Control::start(Path::new("/run/cluster"), NODE_ADDRESS));
    });
}
