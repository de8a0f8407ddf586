//! What `conf/kubernetes` ships, in the hands of the API server: that it takes every combination as
//! it is written, and that the rules in it let the agent do what it does and nothing else.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::control::Control;
use crate::enclosure::output;

/// The objects that are shipped.
const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/conf/kubernetes");

/// Those of which a cluster has one.
const MODES: [&str; 3] = ["direct", "ipip", "vxlan"];

const NAMESPACE: &str = "manx-system";

/// The agent as the API server knows it by its token.
const AGENT: &str = "system:serviceaccount:manx-system:manx-agent";

/// A ServiceAccount that nobody has given anything.
const NOBODY: &str = "system:serviceaccount:manx-system:default";

/// Runs kubectl to its end, without a warning: what is deprecated or ignored is a fault of ours.
fn kubectl(control: &Control, arguments: &[&str]) -> String {
    output(control.kubectl(arguments).arg("--warnings-as-errors"))
}

/// Writes a user's own kustomization below `directory`: the base, a component, and what else it says.
fn write_kustomization(directory: &Path, component: &str, rest: &str) {
    // Only relative paths may be named.
    let up = "../".repeat(directory.components().count() - 1);
    let shipped = format!("{up}{}", SHIPPED.trim_start_matches('/'));
    let text = format!(
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n\
         resources: [{shipped}/base]\ncomponents: [{shipped}/components/{component}]\n{rest}"
    );
    fs::create_dir_all(directory).expect("a directory in the enclosure");
    fs::write(directory.join("kustomization.yaml"), text).expect("a kustomization");
}

/// The DaemonSet among the objects of a kustomization, as the API server would keep it.
fn daemon_set(control: &Control, kustomization: &str) -> Value {
    let apply = ["apply", "--server-side", "--dry-run=server", "--output=json", "--kustomize"];
    let text = kubectl(control, &[&apply[..], &[kustomization]].concat());
    let objects: Value = serde_json::from_str(&text).expect("kubectl prints JSON");
    let objects = objects["items"].as_array().expect("several objects are a list");
    let found = objects.iter().find(|object| object["kind"] == "DaemonSet");
    found.expect("a DaemonSet").clone()
}

/// Every combination, as it would be applied.
pub(crate) fn every_combination(control: &Control) {
    // Objects of a namespace are not judged before it is there.
    kubectl(control, &["apply", "--filename", &format!("{SHIPPED}/base/namespace.yaml")]);
    for mode in MODES {
        let directory = Path::new("/run/kustomize").join(mode);
        write_kustomization(&directory, mode, "");
        let kept = daemon_set(control, &directory.display().to_string());
        let pod = &kept["spec"]["template"]["spec"];
        let arguments = pod["containers"][0]["args"].as_array().expect("arguments");
        let modes: Vec<&Value> = arguments
            .iter()
            .filter(|argument| argument.as_str().is_some_and(|text| text.starts_with("--mode")))
            .collect();
        assert_eq!(modes, [&json!(format!("--mode={mode}"))]);
        confined(pod);
    }
    // As it is, by the name of the directory alone.
    daemon_set(control, SHIPPED);
    other_directories(control);
}

/// A distribution with directories of its own, by the patch that the documentation shows.
fn other_directories(control: &Control) {
    let documented = include_str!("../../docs/kubernetes.md");
    let blocks = documented.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let patches = blocks.filter(|block| block.starts_with("patches:")).collect::<Vec<_>>();
    let directory = Path::new("/run/kustomize/directories");
    write_kustomization(directory, "vxlan", &patches.concat());
    let kept = daemon_set(control, &directory.display().to_string());
    let volumes = kept["spec"]["template"]["spec"]["volumes"].as_array().expect("volumes");
    let path = |name: &str| {
        let volume = volumes.iter().find(|volume| volume["name"] == name).expect("a volume");
        volume["hostPath"]["path"].as_str().expect("a path").to_owned()
    };
    assert_eq!(path("plugins"), "/var/lib/rancher/k3s/data/cni");
    assert_eq!(path("networks"), "/var/lib/rancher/k3s/agent/etc/cni/net.d");
    assert_eq!(path("run"), "/run/manx");
}

/// What the pod may do on its node: one capability, and none where it could plant a program.
fn confined(pod: &Value) {
    assert_eq!(pod["hostPID"], json!(null));
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    let containers = ["initContainers", "containers"]
        .map(|key| pod[key].as_array().expect("containers").clone())
        .concat();
    for container in &containers {
        let context = &container["securityContext"];
        assert_eq!(context["privileged"], json!(null), "{container}");
        assert_eq!(context["allowPrivilegeEscalation"], json!(false), "{container}");
        assert_eq!(context["readOnlyRootFilesystem"], json!(true), "{container}");
        assert_eq!(context["capabilities"]["drop"], json!(["ALL"]), "{container}");
    }
    let agent = &pod["containers"][0];
    assert_eq!(agent["securityContext"]["capabilities"]["add"], json!(["NET_ADMIN"]));
    let mounts = agent["volumeMounts"].as_array().expect("mounts");
    let plugins = |mount: &&Value| mount["name"] == "plugins";
    assert_eq!(mounts.iter().find(plugins), None, "the running agent reaches the plugins");
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
    let review = control.create(&json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": AGENT,
            "resourceAttributes": {"verb": verb, "resource": resource, "subresource": part},
        },
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
