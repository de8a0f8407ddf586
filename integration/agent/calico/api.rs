// SPDX-License-Identifier: Apache-2.0
//! Calico's own custom resource definitions in a real API server, objects as Calico's plugins write them,
//! and the shipped components with their policies.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::condition::{NAMESPACE, SHIPPED, token};
use crate::control::{self, Control};
use crate::enclosure::{self, NODE_ADDRESS, find, output, until};
use crate::ground::CONFLIST;
use crate::real::{ROOT, log, node, peers_file, start_by, uplink};

/// Those of Calico's definitions that are asked for or written.
const DEFINITIONS: [&str; 7] = [
    "blockaffinities",
    "clusterinformations",
    "ipamblocks",
    "ipamconfigs",
    "ipamhandles",
    "ippools",
    "ipreservations",
];

/// Where a pod has its account.
const OWN: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// The account that Calico's plugin has tokens of.
const PLUGINS: &str = "manx-calico-ipam";

fn definitions() -> Option<PathBuf> {
    std::env::var_os("MANX_TEST_CALICO").map(PathBuf::from)
}

fn missing() -> Option<String> {
    control::missing().or_else(|| match definitions() {
        Some(directory) if directory.is_dir() => None,
        _ => Some("MANX_TEST_CALICO names no directory (hack/setup --print-env)".to_owned()),
    })
}

fn calico(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "crd.projectcalico.org/v1", "kind": kind, "metadata": {"name": name},
        "spec": spec})
}

/// A block with the tunnel's address and a pod.
fn block(cidr: &str, node: &str) -> Value {
    let name = cidr.replace(['.', ':', '/'], "-");
    let allocations: Vec<Value> =
        (0..64).map(|at| if at < 2 { json!(at) } else { Value::Null }).collect();
    calico(
        "IPAMBlock",
        &name,
        json!({"cidr": cidr, "affinity": format!("host:{node}"), "allocations": allocations,
            "unallocated": (2..64).collect::<Vec<_>>(), "deleted": false, "strictAffinity": false,
            "sequenceNumber": 1_795_000_000_000_000_u64,
            "sequenceNumberForAllocation": {"0": 1_795_000_000_000_000_u64, "1": 1_795_000_000_000_001_u64},
            "attributes": [
                {"handle_id": format!("vxlan-tunnel-addr-{node}"),
                    "secondary": {"node": node, "type": "vxlanTunnelAddress"}},
                {"handle_id": "k8s-pod-network.0123456789abcdef",
                    "secondary": {"namespace": "default", "node": node, "pod": "web-0",
                        "timestamp": "2026-11-27 09:00:00 +0000 UTC"}}]}),
    )
}

fn affinity(cidr: &str, node: &str) -> Value {
    let name = format!("{node}-{}", cidr.replace(['.', '/'], "-"));
    let spec = json!({"cidr": cidr, "deleted": "false", "node": node, "state": "confirmed"});
    calico("BlockAffinity", &name, spec)
}

fn handle(name: &str) -> Value {
    let spec = json!({"handleID": name, "block": {"10.65.2.64/26": 1}, "deleted": false});
    calico("IPAMHandle", name, spec)
}

/// Calico's definitions, and its role for its plugins.
fn install(control: &Control) {
    let directory = definitions().unwrap();
    for plural in DEFINITIONS {
        let path = directory.join(format!("crd.projectcalico.org_{plural}.yaml"));
        let path = path.to_str().unwrap();
        output(&mut control.kubectl(&["apply", "--server-side", "--filename", path]));
    }
    output(&mut control.kubectl(&["wait", "--for=condition=Established", "crd", "--all"]));
    control.create(&json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": "calico-cni-plugin"},
        "rules": [
            {"apiGroups": [""], "resources": ["pods", "nodes", "namespaces"], "verbs": ["get"]},
            {"apiGroups": [""], "resources": ["pods/status"], "verbs": ["patch"]},
            {"apiGroups": ["crd.projectcalico.org"],
                "resources": ["blockaffinities", "ipamblocks", "ipamhandles", "clusterinformations",
                    "ippools", "ipreservations", "ipamconfigs"],
                "verbs": ["get", "list", "create", "update", "delete"]}]}));
}

/// Applies what is shipped for such a cluster.
fn apply(control: &Control) {
    let directory = Path::new("/run/kustomize");
    fs::create_dir_all(directory).unwrap();
    let shipped = format!("../..{SHIPPED}");
    let components = ["calico-read", "calico-ipam", "calico-annotate"]
        .map(|name| format!("{shipped}/components/{name}"));
    let text = format!(
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n\
         resources: [{shipped}/base]\ncomponents: [{}]\n",
        components.join(", ")
    );
    fs::write(directory.join("kustomization.yaml"), text).unwrap();
    let arguments =
        ["apply", "--server-side", "--warnings-as-errors", "--kustomize", "/run/kustomize"];
    output(&mut control.kubectl(&arguments));
}

/// What Kubernetes gives to the agent's pod, where the pod has it.
fn in_a_pod(control: &Control) {
    let own = Path::new(OWN);
    fs::create_dir_all(own).unwrap();
    fs::copy(control.authority(), own.join("ca.crt")).unwrap();
    fs::write(own.join("namespace"), NAMESPACE).unwrap();
    fs::write(own.join("token"), token(control, "node-1")).unwrap();
}

/// kubectl, for who has that token, in a directory of this name.
fn wrapper(control: &Control, name: &str, token: &Path) -> PathBuf {
    let directory = Path::new(ROOT).join(name);
    fs::create_dir_all(&directory).unwrap();
    let kubectl = control.kubectl(&[]).get_program().to_owned();
    let path = directory.join("kubectl");
    let script = format!(
        "#!/bin/sh\nexec {} --kubeconfig /dev/null --server {} --certificate-authority {} \\\n\
         --token \"$(cat {})\" \"$@\"\n",
        Path::new(&kubectl).display(),
        control.address(),
        control.authority().display(),
        token.display()
    );
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    directory
}

/// Runs a command line with that kubectl; whether it succeeded, and what it said.
fn shell(bin: &Path, command: &str) -> (bool, String) {
    let mut paths = vec![bin.to_owned()];
    paths.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap()));
    let done = Command::new("sh")
        .args(["-c", command])
        .env("PATH", std::env::join_paths(paths).unwrap())
        .output()
        .unwrap();
    let said = [done.stdout, done.stderr].concat();
    (done.status.success(), String::from_utf8(said).unwrap())
}

fn said() -> String {
    fs::read_to_string(log()).unwrap_or_default()
}

/// The commands that the agent has printed.
fn printed() -> Option<String> {
    let said = said();
    let (_, rest) = said.split_once("fix: echo ")?;
    Some(format!("echo {}", rest.lines().next()?))
}

/// What the peers file has of a node, without its addresses.
fn entry(name: &str) -> Value {
    let file = peers_file();
    let nodes = file["nodes"].as_array().cloned().unwrap_or_default();
    let mut node = nodes.into_iter().find(|node| node["name"] == name).unwrap_or_default();
    if let Some(node) = node.as_object_mut() {
        let _ = node.remove("addresses");
    }
    node
}

fn await_entry(name: &str, expected: &Value) {
    let what = format!("{expected}, but {}: {}", peers_file(), said());
    until(&what, || entry(name) == *expected);
}

fn noted(number: u8, tunnel: &str) -> Value {
    let mut node = node(number);
    let address = node["status"]["addresses"][0]["address"].as_str().unwrap().to_owned();
    node["metadata"]["annotations"] = json!({
        "projectcalico.org/IPv4Address": format!("{address}/24"),
        "projectcalico.org/IPv4VXLANTunnelAddr": tunnel});
    node
}

fn create(object: &Value) -> String {
    format!("echo '{object}' | kubectl create --validate=false -f -")
}

#[track_caller]
fn is_refused(bin: &Path, command: &str, words: &str) {
    let (done, said) = shell(bin, command);
    assert!(!done && said.contains(words), "{command}: not {words}: {said}");
}

/// What the token of the agent on node-1 is not good for.
fn refused(bin: &Path) {
    let patch = |object: &str, patch: Value| {
        format!("kubectl patch {object} --type=merge --patch '{patch}'")
    };
    let note = |key: &str| json!({"metadata": {"annotations": {key: "10.65.9.9"}}});
    let tunnel = "projectcalico.org/IPv4VXLANTunnelAddr";
    let reserve = |name: &str, cidr: &str| {
        create(&calico("IPReservation", name, json!({"reservedCIDRs": [cidr]})))
    };
    let token = |account: &str, bound: &str| {
        format!("kubectl --namespace {NAMESPACE} create token {account} {bound}")
    };
    let to_another = token(PLUGINS, "--bound-object-kind Node --bound-object-name node-2");
    // It takes the API server a moment to go by a policy that is new. Until then it goes through.
    let of_another = patch("node node-3", note(tunnel));
    until("the token is refused for another node", || !shell(bin, &of_another).0);
    let others = reserve("manx-tunnel-node-3", "10.65.9.9/32");
    until("the token is refused for another's tunnel", || !shell(bin, &others).0);
    until("no token is had for another node", || !shell(bin, &to_another).0);
    for (command, words) in [
        (patch("node node-2", note(tunnel)), "the node that it runs on, and no other"),
        (patch("node node-1", note("kubernetes.io/x")), "no annotation but those"),
        (
            patch("node node-1", json!({"metadata": {"labels": {"a": "b"}}})),
            "nothing of a Node but",
        ),
        (patch("node node-1", json!({"spec": {"unschedulable": true}})), "nothing of a Node but"),
        (reserve("manx-tunnel-node-2", "10.65.9.9/32"), "the tunnel of the node that it runs on"),
        (reserve("manx-tunnel-node-1", "10.65.0.0/16"), "one address of each family"),
        (to_another, "the node that it runs on, and for no other"),
        (token(PLUGINS, ""), "the node that it runs on, and for no other"),
        (
            token(PLUGINS, "--bound-object-kind Node --bound-object-name node-1 --duration 24h"),
            "twelve hours, and for no longer",
        ),
        (
            token(PLUGINS, "--bound-object-kind Pod --bound-object-name agent-node-1"),
            "the node that it runs on, and for no other",
        ),
        (token("default", ""), "cannot create resource"),
        (create(&block("10.65.1.0/26", "node-1")), "cannot create resource"),
        ("kubectl delete node node-2".to_owned(), "cannot delete resource"),
        ("kubectl get secrets --all-namespaces".to_owned(), "cannot list resource"),
    ] {
        is_refused(bin, &command, words);
    }
}

/// What the token for Calico's plugin on node-1 is not good for.
fn plugin_refused(bin: &Path) {
    let reserved = json!({"reservedCIDRs": ["10.65.9.9/32"]});
    let pool = json!({"cidr": "0.0.0.0/1", "vxlanMode": "Always"});
    let edit = |object: &str, words: &str| {
        format!(
            "kubectl get {object} -o json | sed {words} | kubectl replace --validate=false -f -"
        )
    };
    let others = "ipamblock 10-65-2-64-26";
    let named = |name: &str, cidr: &str| {
        let mut block = block(cidr, "node-1");
        block["metadata"]["name"] = name.into();
        block
    };
    let strict = json!({"strictAffinity": true, "autoAllocateBlocks": false});
    let blocks = create(&affinity("10.65.8.0/26", "node-3"));
    until("the token is refused for another's block", || !shell(bin, &blocks).0);
    for (command, words) in [
        (create(&affinity("10.65.9.0/26", "node-2")), "the agent of its own node alone"),
        (create(&block("10.65.9.0/26", "node-2")), "the agent of its own node alone"),
        (format!("kubectl delete {others}"), "the agent of its own node alone"),
        (
            edit(others, "'s/\"deleted\": false/\"deleted\": true/'"),
            "a block may be deleted by the agent of its own node alone",
        ),
        (
            edit(others, "'s,\"10.65.2.64/26\",\"10.65.2.0/26\",'"),
            "that a block is of do not change",
        ),
        (create(&named("10-65-9-0-26", "10.65.8.0/26")), "the name of its addresses"),
        (create(&named("10-65-0-0-16", "10.65.0.0/16")), "no more of them than Calico gives"),
        ("kubectl delete ippool default-ipv4-ippool".to_owned(), "changed by nobody here"),
        (edit("ippool default-ipv4-ippool", "s/Always/Never/"), "changed by nobody here"),
        (create(&calico("IPPool", "half", pool)), "changed by nobody here"),
        (create(&calico("ClusterInformation", "default", json!({}))), "changed by nobody here"),
        (create(&calico("IPReservation", "some", reserved.clone())), "no plugin may change"),
        (create(&calico("IPReservation", "manx-tunnel-node-1", reserved)), "no plugin may change"),
        (create(&calico("IPAMConfig", "other", strict)), "said by nobody here"),
        ("kubectl delete ipamhandle vxlan-tunnel-addr-node-2".to_owned(), "handle of a tunnel"),
        ("kubectl get secrets --all-namespaces".to_owned(), "cannot list resource"),
    ] {
        is_refused(bin, &command, words);
    }
    // What it does itself.
    let usual = json!({"strictAffinity": false, "autoAllocateBlocks": true});
    for (command, is_let) in [
        (create(&block("10.65.6.0/26", "node-1")), true),
        (create(&block("fd00:65::40/122", "node-1")), true),
        ("kubectl delete ipamblocks 10-65-6-0-26 fd00-65--40-122".to_owned(), true),
        (create(&calico("IPAMConfig", "default", usual)), true),
        (edit("ipamconfig default", "s/true/false/"), false),
        ("kubectl delete ipamconfig default".to_owned(), false),
        (create(&handle("k8s-pod-network.0123456789abcdef")), true),
        (
            "kubectl delete ipamhandle k8s-pod-network.0123456789abcdef --wait=false".to_owned(),
            true,
        ),
    ] {
        let (done, said) = shell(bin, &command);
        assert_eq!(done, is_let, "{command}: {said}");
    }
}

/// The plugin's token outlives the agent, and not the Node.
fn token_is_of_the_node(control: &Control, agents: &Path, plugins: &Path) {
    let look = "kubectl get ippool default-ipv4-ippool --output=name";
    let ask = |bin: &Path| shell(bin, "kubectl auth whoami --output=name").0;
    let delete = |arguments: &[&str]| drop(output(&mut control.kubectl(arguments)));
    assert!(ask(agents) && ask(plugins));
    let pod = ["--namespace", NAMESPACE, "delete", "pod", "agent-node-1", "--grace-period=0"];
    delete(&[&pod[..], &["--force"]].concat());
    until("the agent's token has ended", || !ask(agents));
    let (done, answer) = shell(plugins, look);
    assert!(done, "{answer}");
    let (done, answer) = shell(plugins, &create(&affinity("10.65.1.0/26", "node-1")));
    assert!(done, "{answer}");
    // That of another node.
    let arguments = ["--namespace", NAMESPACE, "create", "token", PLUGINS];
    let bound = ["--bound-object-kind", "Node", "--bound-object-name", "node-2"];
    let file = Path::new(ROOT).join("token-2");
    fs::write(&file, output(&mut control.kubectl(&[&arguments[..], &bound].concat())).trim())
        .unwrap();
    let others = wrapper(control, "of-node-2", &file);
    is_refused(&others, "kubectl delete ipamblock 10-65-1-0-26", "its own node alone");
    delete(&["delete", "node", "node-1"]);
    until("the plugin's token has ended", || !ask(plugins));
}

fn follows_calico(control: &Control) {
    fs::create_dir_all(ROOT).unwrap();
    uplink();
    install(control);
    control.create(&node(1));
    control.create(&noted(2, "10.65.2.64"));
    control.create(&node(3));
    let pool = json!({"cidr": "10.65.0.0/16", "blockSize": 26, "ipipMode": "Never",
        "vxlanMode": "Always", "natOutgoing": true, "nodeSelector": "all()",
        "allowedUses": ["Workload", "Tunnel"]});
    control.create(&calico("IPPool", "default-ipv4-ippool", pool));
    control.create(&block("10.65.2.64/26", "node-2"));
    control.create(&affinity("10.65.2.64/26", "node-2"));
    control.create(&handle("vxlan-tunnel-addr-node-2"));
    apply(control);
    in_a_pod(control);
    let bin = wrapper(control, "bin", &Path::new(OWN).join("token"));
    let plugins = Path::new(ROOT).join("plugins");
    fs::create_dir_all(&plugins).unwrap();
    fs::write(Path::new(ROOT).join("calico.json"), json!({"calico": "calico-ipam"}).to_string())
        .unwrap();
    let options = ["--config", "/run/node/calico.json", "--plugin-dir", plugins.to_str().unwrap()];
    let server = |agent: &mut Command| {
        let _ = agent.env("KUBERNETES_SERVICE_HOST", NODE_ADDRESS.to_string());
        let _ = agent.env("KUBERNETES_SERVICE_PORT", "6443");
    };
    let _agent = start_by(server, &options);

    let theirs = |pods: &[&str]| json!({"name": "node-2", "podCIDRs": pods, "tunnelAddresses": ["10.65.2.64"]});
    await_entry("node-2", &theirs(&["10.65.2.64/26"]));
    assert_eq!(peers_file()["fabric"], json!({"mode": "vxlan"}));
    until("the commands are printed", || printed().is_some());
    refused(&bin);
    // They work as they are printed, by who may do no more.
    let command = printed().unwrap();
    let (done, answer) = shell(&bin, &command);
    assert!(done, "{command}: {answer}");
    until("Calico's plugin is asked for", || said().contains("there is no /run/node/plugins"));
    assert!(!Path::new(ROOT).join(CONFLIST).exists());
    fs::copy(find("true").unwrap(), plugins.join("calico-ipam")).unwrap();
    until("the configuration is in place", || Path::new(ROOT).join(CONFLIST).exists());
    // Its own block, by the token that its plugin has.
    let file = Path::new(ROOT).join("var/lib/manx/calico/token");
    until("the plugin has a token", || file.exists());
    let of_plugin = wrapper(control, "of-plugin", &file);
    plugin_refused(&of_plugin);
    let (done, answer) = shell(&of_plugin, &create(&block("10.65.1.0/26", "node-1")));
    assert!(done, "{answer}");
    until("the own block is known", || entry("node-1")["podCIDRs"] == json!(["10.65.1.0/26"]));

    let cross = r#"{"spec": {"vxlanMode": "CrossSubnet"}}"#;
    output(&mut control.kubectl(&[
        "patch",
        "ippool",
        "default-ipv4-ippool",
        "--type=merge",
        "--patch",
        cross,
    ]));
    let fabric = json!({"mode": "vxlan", "crossSubnet": true});
    let what = format!("the pool has changed: {}: {}", peers_file(), said());
    until(&what, || peers_file()["fabric"] == fabric);
    output(&mut control.kubectl(&["delete", "ipamblock", "10-65-2-64-26"]));
    await_entry("node-2", &theirs(&[]));
    assert!(!said().contains("listed in pages"), "{}", said());
    typed(control);
    token_is_of_the_node(control, &bin, &of_plugin);
}

/// What the API server itself finds to say of the policies.
fn typed(control: &Control) {
    let arguments = ["get", "validatingadmissionpolicy", "--output=json"];
    let policies: Value = serde_json::from_str(&output(&mut control.kubectl(&arguments))).unwrap();
    for policy in policies["items"].as_array().unwrap() {
        let warnings = &policy["status"]["typeChecking"]["expressionWarnings"];
        assert_eq!(*warnings, json!(null), "{}", policy["metadata"]["name"]);
    }
}

#[test]
#[ignore = "needs root outside of any user namespace: hack/test runs it"]
fn an_agent_follows_calicos_objects() {
    let name = "calico::api::an_agent_follows_calicos_objects";
    enclosure::run(name, missing(), || {
        follows_calico(&Control::start(Path::new("/run/cluster"), NODE_ADDRESS));
    });
}
