// SPDX-License-Identifier: Apache-2.0
//! What `conf/kubernetes` ships, in the hands of the API server: that it takes every combination as
//! it is written, and that the rules in it let the agent do what it does and nothing else.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::confined::{confined, more_is_noticed};
use crate::control::Control;
use crate::enclosure::output;

/// The objects that are shipped.
pub(crate) const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/conf/kubernetes");

/// Those of which a cluster has one.
const MODES: [&str; 3] = ["direct", "ipip", "vxlan"];

/// What is shipped, and the right to clear a condition.
const CONDITION: &str = "resources: [shipped]\ncomponents: [shipped/components/condition]\n";

/// What is shipped, with network policies.
const POLICY: &str = "resources: [shipped]\ncomponents: [shipped/components/network-policy]\n";

pub(crate) const NAMESPACE: &str = "manx-system";

/// What is shipped for a cluster whose other nodes run Calico.
const CALICO: &str = "resources: [shipped/base]\ncomponents: [shipped/components/calico-read]\n";

/// The agent as the API server knows it by its token.
const AGENT: &str = "system:serviceaccount:manx-system:manx-agent";

/// A ServiceAccount that nobody has given anything.
const NOBODY: &str = "system:serviceaccount:manx-system:default";

/// Runs kubectl to its end, without a warning: what is deprecated or ignored is a fault of ours.
pub(crate) fn kubectl(control: &Control, arguments: &[&str]) -> String {
    output(control.kubectl(arguments).arg("--warnings-as-errors"))
}

/// Writes a kustomization of a user's own below `directory`. `shipped` in it is where ours are.
pub(crate) fn write_kustomization(directory: &Path, text: &str) {
    // Only relative paths may be named.
    let up = "../".repeat(directory.components().count() - 1);
    let text = text.replace("shipped", &format!("{up}{}", SHIPPED.trim_start_matches('/')));
    let head = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n";
    fs::create_dir_all(directory).expect("a directory in the enclosure");
    fs::write(directory.join("kustomization.yaml"), format!("{head}{text}"))
        .expect("a kustomization");
}

/// The objects of a kustomization, as the API server would keep them.
pub(crate) fn objects(control: &Control, kustomization: &str) -> Vec<Value> {
    let apply = ["apply", "--server-side", "--dry-run=server", "--output=json", "--kustomize"];
    let text = kubectl(control, &[&apply[..], &[kustomization]].concat());
    let objects: Value = serde_json::from_str(&text).expect("kubectl prints JSON");
    objects["items"].as_array().expect("several objects are a list").clone()
}

fn of_kind<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    objects.iter().find(|object| object["kind"] == kind).expect("one of each kind")
}

/// The configuration that is shipped for nodes without an agent, with what the agent knows.
fn conflist() -> Value {
    let text = include_str!("../../conf/10-manx.conflist");
    let mut conflist: Value = serde_json::from_str(text).expect("it is JSON");
    let plugin = &mut conflist["plugins"][0];
    plugin["peersFile"] = json!("/var/lib/manx/peers.json");
    plugin["ipam"]["ranges"] = json!([[{"subnet": "usePodCidr"}]]);
    conflist
}

/// Every combination, as it would be applied.
pub(crate) fn every_combination(control: &Control) {
    // Objects of a namespace are not judged before it is there.
    kubectl(control, &["apply", "--filename", &format!("{SHIPPED}/base/namespace.yaml")]);
    // No controller makes the one that a pod of that namespace has.
    kubectl(control, &["create", "serviceaccount", "default"]);
    let debug = include_str!("../../conf/debug/node.yaml").replace("NODE", "node-a");
    fs::write("/run/debug.yaml", debug).expect("a file in the enclosure");
    kubectl(
        control,
        &["apply", "--server-side", "--dry-run=server", "--filename", "/run/debug.yaml"],
    );
    for mode in MODES {
        let directory = Path::new("/run/kustomize").join(mode);
        let text = format!("resources: [shipped/base]\ncomponents: [shipped/components/{mode}]\n");
        write_kustomization(&directory, &text);
        let objects = objects(control, &directory.display().to_string());
        let pod = &of_kind(&objects, "DaemonSet")["spec"]["template"]["spec"];
        confined(pod);
        more_is_noticed(pod);

        let configuration = of_kind(&objects, "ConfigMap");
        let mounted = pod["volumes"].as_array().expect("volumes").iter();
        let mounted =
            mounted.filter(|it| it["configMap"]["name"] == configuration["metadata"]["name"]);
        assert_eq!(mounted.count(), 1, "{configuration}");
        let text = configuration["data"]["agent.json"].as_str().expect("a file");
        let told: Value = serde_json::from_str(text).expect("the agent's configuration is JSON");
        assert_eq!(told["fabric"], json!({"mode": mode}));
        assert_eq!(told["conflist"], conflist());
    }
    // As it is, by the name of the directory alone.
    objects(control, SHIPPED);
    with_condition(control);
    beside_a_mode(control);
    with_calico(control);
    of_ones_own(control);
}

/// The agent is told to write where it may.
fn with_condition(control: &Control) {
    let directory = Path::new("/run/kustomize/condition");
    write_kustomization(directory, CONDITION);
    let objects = objects(control, &directory.display().to_string());
    let pod = &of_kind(&objects, "DaemonSet")["spec"]["template"]["spec"];
    confined(pod);
    let arguments = pod["containers"][0]["args"].as_array().expect("arguments");
    assert!(arguments.contains(&json!("--condition")), "{arguments:?}");
    of_kind(&objects, "ValidatingAdmissionPolicyBinding");
}

/// Components that change one thing each.
fn beside_a_mode(control: &Control) {
    let with = |component: &str| {
        let directory = Path::new("/run/kustomize").join(component);
        let text = format!("resources: [shipped]\ncomponents: [shipped/components/{component}]\n");
        write_kustomization(&directory, &text);
        let objects = objects(control, &directory.display().to_string());
        let pod = of_kind(&objects, "DaemonSet")["spec"]["template"]["spec"].clone();
        confined(&pod);
        pod
    };
    let pod = with("selinux");
    assert_eq!(pod["securityContext"]["seLinuxOptions"], json!({"type": "spc_t"}));
    let agent = &with("metrics")["containers"][0];
    assert_eq!(agent["args"][1], "--listen=$(HOST_IP):9641");
    for probe in ["livenessProbe", "readinessProbe"] {
        assert_eq!(agent[probe]["httpGet"]["host"], json!(null), "{probe} asks where it listens");
        assert_eq!(agent[probe]["httpGet"]["port"], 9641);
    }
    let agent = &with("network-policy")["containers"][0];
    assert_eq!(agent["args"][1], "--network-policy");
    // Of each distribution as the documentation has it.
    let rows = include_str!("../../docs/kubernetes.md").lines();
    let rows = rows
        .filter_map(|row| row.split_once("| `directories/"))
        .map(|(row, rest)| (row, rest.split_once('`').expect("a component ends").0));
    let mut documented = BTreeSet::new();
    for (row, name) in rows {
        let pod = with(&format!("directories/{name}"));
        for volume in ["plugins", "networks"] {
            let path = path(&pod, volume);
            assert!(row.contains(&format!("| {path} ")), "{path}: {row}");
        }
        documented.insert(name.to_owned());
    }
    let shipped = fs::read_dir(format!("{SHIPPED}/components/directories")).expect("components");
    let shipped = shipped.map(|entry| entry.expect("a component").file_name());
    let shipped: BTreeSet<_> = shipped.filter_map(|name| name.into_string().ok()).collect();
    assert_eq!(documented, shipped);
}

/// Where a volume of the pod is on the node.
fn path(pod: &Value, volume: &str) -> String {
    let mut volumes = pod["volumes"].as_array().expect("volumes").iter();
    let volume = volumes.find(|one| one["name"] == volume).expect("a volume");
    volume["hostPath"]["path"].as_str().expect("a path").to_owned()
}

/// The agent goes by Calico's objects, and sees whether Calico's plugin is there.
fn with_calico(control: &Control) {
    let directory = Path::new("/run/kustomize/calico");
    let more = "calico-read, shipped/components/calico-ipam, shipped/components/calico-annotate]";
    let all = CALICO.replace("calico-read]", more);
    for (text, policies) in [(CALICO, 0), (all.as_str(), 4)] {
        write_kustomization(directory, text);
        let objects = objects(control, &directory.display().to_string());
        let pod = &of_kind(&objects, "DaemonSet")["spec"]["template"]["spec"];
        confined(pod);
        let mounts = pod["containers"][0]["volumeMounts"].as_array().expect("mounts");
        assert!(mounts.iter().any(|mount| mount["mountPath"] == "/opt/cni/bin"), "{mounts:?}");
        let configuration = of_kind(&objects, "ConfigMap")["data"]["agent.json"].as_str();
        let told: Value = serde_json::from_str(configuration.expect("a file")).expect("it is JSON");
        assert_eq!(told, json!({"calico": "calico-ipam"}));
        let of_kind = objects.iter().filter(|one| one["kind"] == "ValidatingAdmissionPolicy");
        assert_eq!(of_kind.count(), policies);
    }
}

/// What the documentation shows for other distributions and other configurations.
fn of_ones_own(control: &Control) {
    let documented = include_str!("../../docs/kubernetes.md");
    let blocks = documented.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let shown: String =
        blocks.filter_map(|block| block.split_once("patches:\n")).map(|it| it.1).collect();
    let text = format!(
        "resources: [shipped]\nconfigMapGenerator:\n- {{name: manx-agent, \
         namespace: {NAMESPACE}, behavior: replace, files: [agent.json]}}\npatches:\n{shown}"
    );
    assert!(documented.contains("behavior: replace, files: [agent.json]"));
    let directory = Path::new("/run/kustomize/own");
    write_kustomization(directory, &text);
    fs::write(directory.join("agent.json"), "{}").expect("a configuration");

    let objects = objects(control, &directory.display().to_string());
    assert_eq!(of_kind(&objects, "ConfigMap")["data"], json!({"agent.json": "{}"}));
    let pod = &of_kind(&objects, "DaemonSet")["spec"]["template"]["spec"];
    assert_eq!(path(pod, "plugins"), "/srv/plugins");
    assert_eq!(path(pod, "networks"), "/srv/networks");
    assert_eq!(path(pod, "run"), "/run/manx");
}

/// What the agent may do is what it needs.
pub(crate) fn rights(control: &Control) {
    kubectl(control, &["apply", "--server-side", "--kustomize", SHIPPED]);
    let given: BTreeSet<String> = rules(control, AGENT);
    let anyone: BTreeSet<String> = rules(control, NOBODY);
    let own: Vec<&String> = given.difference(&anyone).collect();
    assert_eq!(own, ["list nodes", "watch nodes"]);

    for (verb, resource, allowed) in [
        ("list", "nodes", true),
        ("watch", "nodes", true),
        ("get", "nodes", false),
        ("patch", "nodes", false),
        ("update", "nodes/status", false),
        ("list", "pods", false),
        ("get", "secrets", false),
        ("create", "serviceaccounts/token", false),
    ] {
        assert_eq!(is_allowed(control, verb, resource), allowed, "{verb} {resource}");
    }
    with_token(control);

    let directory = Path::new("/run/kustomize/condition");
    write_kustomization(directory, CONDITION);
    kubectl(control, &["apply", "--server-side", "--kustomize", &directory.display().to_string()]);
    let given: BTreeSet<String> = rules(control, AGENT);
    let own: Vec<&String> = given.difference(&anyone).collect();
    assert_eq!(own, ["list nodes", "patch nodes/status", "watch nodes"]);

    let directory = Path::new("/run/kustomize/policy");
    write_kustomization(directory, POLICY);
    kubectl(control, &["apply", "--server-side", "--kustomize", &directory.display().to_string()]);
    let given: BTreeSet<String> = rules(control, AGENT);
    let own: Vec<&String> = given.difference(&anyone).collect();
    let resources = ["namespaces", "networkpolicies", "nodes", "pods"];
    let both = ["list", "watch"].map(|verb| resources.map(|one| format!("{verb} {one}"))).concat();
    assert!(own.into_iter().eq(&both), "{given:?}");

    let directory = Path::new("/run/kustomize/calico");
    write_kustomization(directory, CALICO);
    kubectl(control, &["apply", "--server-side", "--kustomize", &directory.display().to_string()]);
    let given: BTreeSet<String> = rules(control, AGENT);
    let own: Vec<&String> = given.difference(&anyone).collect();
    let resources = ["clusterinformations", "ipamblocks", "ippools", "nodes"];
    let both = ["list", "watch"].map(|verb| resources.map(|one| format!("{verb} {one}"))).concat();
    assert!(own.into_iter().eq(&both), "{given:?}");

    // Calico's plugin has an account of its own, and the agent may ask for tokens of that one.
    let with_ipam = CALICO.replace("calico-read]", "calico-read, shipped/components/calico-ipam]");
    write_kustomization(directory, &with_ipam);
    kubectl(control, &["apply", "--server-side", "--kustomize", &directory.display().to_string()]);
    let more: BTreeSet<String> = rules(control, AGENT);
    let more: Vec<&String> = more.difference(&given).collect();
    assert_eq!(more, ["create serviceaccounts/token"]);
    for (name, allowed) in [("manx-calico-ipam", true), ("manx-agent", false), ("", false)] {
        let attributes = json!({"verb": "create", "resource": "serviceaccounts",
            "subresource": "token", "namespace": NAMESPACE, "name": name});
        assert_eq!(is_given(control, attributes), allowed, "{name}");
    }
}

/// What a user may do, each as "verb resource", in the agent's namespace and in the cluster.
fn rules(control: &Control, user: &str) -> BTreeSet<String> {
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": NAMESPACE},
    });
    // Validation would ask what such a user may not see.
    let arguments = ["create", "--validate=false", "--filename=-", "--output=json", "--as", user];
    let done = control.tell(&arguments, &review.to_string());
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let answer: Value = serde_json::from_slice(&done.stdout).expect("kubectl prints JSON");
    assert_eq!(answer["status"]["incomplete"], json!(false), "{answer}");
    let mut rules = BTreeSet::new();
    for rule in answer["status"]["resourceRules"].as_array().expect("rules") {
        for verb in texts(&rule["verbs"]) {
            for resource in texts(&rule["resources"]) {
                rules.insert(format!("{verb} {resource}"));
            }
        }
    }
    for rule in answer["status"]["nonResourceRules"].as_array().expect("rules") {
        for url in texts(&rule["nonResourceURLs"]) {
            rules.insert(format!("get {url}"));
        }
    }
    rules
}

fn texts(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// What the API server answers when it is asked whether the agent may do this.
fn is_allowed(control: &Control, verb: &str, resource: &str) -> bool {
    let (resource, part) = resource.split_once('/').unwrap_or((resource, ""));
    is_given(control, json!({"verb": verb, "resource": resource, "subresource": part}))
}

fn is_given(control: &Control, attributes: Value) -> bool {
    let review = control.create(&json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": AGENT, "resourceAttributes": attributes},
    }));
    review["status"]["allowed"].as_bool().expect("an answer")
}

/// A token of the account, and nothing else, is what a request needs.
fn with_token(control: &Control) {
    let token = control.token(NAMESPACE, "manx-agent");
    let ask = |resource: &str| -> Command {
        let mut command = control.kubectl(&["get", resource, "--output=name"]);
        // The token counts where no certificate is shown.
        command.args(["--kubeconfig=/dev/null", "--token", &token]);
        command.arg("--server").arg(control.address()).arg("--certificate-authority");
        command.arg(control.authority());
        command
    };
    assert_eq!(output(&mut ask("nodes")), "");
    let refused = ask("pods").output().expect("kubectl starts");
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(why.contains("Forbidden") && why.contains(AGENT), "{why}");
}
