// SPDX-License-Identifier: Apache-2.0
//! What the agent's pod may do on its node: everything else of a pod that would give it more is a fault.

use serde_json::{Value, json};

/// Directories of the node, and where each is: that of the plugins and of their configurations is the
/// distribution's.
const DIRECTORIES: [(&str, Option<&str>); 6] = [
    ("plugins", None),
    ("networks", None),
    ("run", Some("/run/manx")),
    ("state", Some("/var/lib/manx")),
    ("leases", Some("/var/lib/cni/networks")),
    ("sysctls", Some("/proc/sys/net")),
];

/// Nobody keeps plugins or their configurations in one of these themselves.
const NEVER: [&str; 8] = ["/", "/etc", "/opt", "/usr", "/usr/bin", "/var", "/var/lib", "/run"];

/// Of each container: its mounts, and which of them it may write to.
const MOUNTS: [(&str, &[(&str, bool)]); 2] = [
    // It notes the version that it installed.
    ("install", &[("plugins", true), ("run", true)]),
    (
        "agent",
        &[
            ("configuration", false),
            ("networks", true),
            ("run", true),
            ("state", true),
            ("leases", false),
            ("sysctls", true),
            // Only whether Calico's are there, and of which version ours is.
            ("plugins", false),
        ],
    ),
];

fn list<'a>(object: &'a Value, key: &str) -> &'a [Value] {
    object[key].as_array().map_or(&[], Vec::as_slice)
}

/// The pod is confined.
pub(crate) fn confined(pod: &Value) {
    assert_eq!(faults(pod), Vec::<String>::new());
}

/// By what the pod has more than it needs.
fn faults(pod: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let mut expect = |holds: bool, what: &Value| {
        if !holds {
            faults.push(what.to_string());
        }
    };
    for key in ["hostPID", "hostIPC", "shareProcessNamespace", "ephemeralContainers"] {
        expect(pod[key].is_null(), &json!({key: pod[key]}));
    }
    let mut context = pod["securityContext"].clone();
    let selinux = context.as_object_mut().and_then(|context| context.remove("seLinuxOptions"));
    expect(
        selinux.is_none_or(|options| options == json!({"type": "spc_t"})),
        &pod["securityContext"],
    );
    let seccomp = json!({"type": "RuntimeDefault"});
    let least = json!({"runAsUser": 0, "runAsGroup": 0, "seccompProfile": seccomp});
    expect(context == least, &context);

    for volume in list(pod, "volumes") {
        expect(is_known(volume), volume);
    }
    for (key, name) in [("initContainers", "install"), ("containers", "agent")] {
        let containers = list(pod, key);
        expect(containers.len() == 1 && containers[0]["name"] == name, &pod[key]);
        for container in containers {
            let mut least = json!({"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                "capabilities": {"drop": ["ALL"]}});
            if name == "agent" {
                least["capabilities"]["add"] = json!(["NET_ADMIN"]);
            }
            expect(container["securityContext"] == least, &container["securityContext"]);
            expect(list(container, "volumeDevices").is_empty(), container);
            for mount in list(container, "volumeMounts") {
                expect(is_allowed(name, mount), mount);
            }
        }
    }
    faults
}

/// A directory of the node that is known, or what Kubernetes makes of its own objects.
fn is_known(volume: &Value) -> bool {
    if volume["hostPath"].is_null() {
        return !volume["configMap"].is_null() || !volume["projected"].is_null();
    }
    let Some(path) = volume["hostPath"]["path"].as_str() else { return false };
    DIRECTORIES.iter().any(|(name, place)| {
        volume["name"] == *name && place.map_or(!NEVER.contains(&path), |place| place == path)
    })
}

fn is_allowed(container: &str, mount: &Value) -> bool {
    let known =
        MOUNTS.iter().filter(|(name, _)| *name == container).flat_map(|(_, mounts)| *mounts);
    let writes = mount["readOnly"] != json!(true);
    let plain =
        ["subPath", "subPathExpr", "mountPropagation"].iter().all(|key| mount[key].is_null());
    plain
        && known
            .into_iter()
            .any(|(name, may_write)| mount["name"] == *name && (*may_write || !writes))
}

/// Whatever is added to a pod that is confined is noticed.
pub(crate) fn more_is_noticed(pod: &Value) {
    let more: [(&str, Value); 16] = [
        ("/initContainers/0/securityContext/capabilities/add", json!(["NET_RAW"])),
        ("/initContainers/0/securityContext/privileged", json!(true)),
        ("/initContainers/0/volumeMounts/-", json!({"name": "sysctls", "mountPath": "/host"})),
        ("/initContainers/-", pod["initContainers"][0].clone()),
        ("/containers/0/securityContext/capabilities/add/-", json!("SYS_ADMIN")),
        ("/containers/0/securityContext/procMount", json!("Unmasked")),
        ("/containers/0/securityContext/seccompProfile", json!({"type": "Unconfined"})),
        ("/containers/0/volumeMounts/-", json!({"name": "plugins", "mountPath": "/opt/cni/bin"})),
        ("/containers/0/volumeMounts/2/mountPropagation", json!("Bidirectional")),
        ("/containers/0/volumeMounts/4/readOnly", json!(false)),
        ("/containers/-", json!({"name": "more", "image": "localhost/more"})),
        ("/volumes/-", json!({"name": "all", "hostPath": {"path": "/"}})),
        ("/volumes/1/hostPath/path", json!("/usr/bin")),
        ("/volumes/3/hostPath/path", json!("/run")),
        ("/hostPID", json!(true)),
        ("/securityContext/seccompProfile/type", json!("Unconfined")),
    ];
    for (place, value) in more {
        let mut pod = pod.clone();
        let (parent, key) = place.rsplit_once('/').expect("a pointer");
        let parent = pod.pointer_mut(parent).unwrap_or_else(|| panic!("no {parent}"));
        match parent.as_array_mut() {
            Some(list) => list.push(value.clone()),
            None => parent[key] = value.clone(),
        }
        assert_ne!(faults(&pod), Vec::<String>::new(), "{place} {value}");
    }
}
