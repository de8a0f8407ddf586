// SPDX-License-Identifier: Apache-2.0
//! That the Helm chart gives what `conf/kubernetes` gives, to the API server's eyes.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::control::Control;
use crate::enclosure::output;
use crate::manifests::{NAMESPACE, SHIPPED, kubectl, objects, write_kustomization};

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/conf/helm/manx");

/// Values of the chart, and the components that say the same.
const PAIRS: [(&str, &[&str]); 10] = [
    ("mode=direct", &["direct"]),
    ("mode=ipip", &["ipip"]),
    ("mode=vxlan", &["vxlan"]),
    ("metrics.enabled=true", &["vxlan", "metrics"]),
    ("selinux=true", &["vxlan", "selinux"]),
    ("condition=true", &["vxlan", "condition"]),
    ("networkPolicy=true", &["vxlan", "network-policy"]),
    ("mode=calico", &["calico-read"]),
    (
        "mode=calico,calico.ipam=true,calico.annotate=true",
        &["calico-read", "calico-ipam", "calico-annotate"],
    ),
    (
        "metrics.enabled=true,directories.plugins=/var/lib/rancher/k3s/data/cni,\
         directories.networks=/var/lib/rancher/k3s/agent/etc/cni/net.d",
        &["vxlan", "directories/k3s", "metrics"],
    ),
];

/// What it lacks on this machine.
pub(crate) fn missing() -> Option<String> {
    let helm = Command::new("helm").arg("version").output();
    helm.is_err().then(|| "there is no helm (hack/setup provides it)".to_owned())
}

/// The objects of the chart, as the API server would keep them.
fn of_chart(control: &Control, values: &str) -> Vec<Value> {
    let mut helm = Command::new("helm");
    helm.args(["template", "manx", CHART, "--namespace", NAMESPACE, "--set", values]);
    let text = output(&mut helm);
    let apply = ["apply", "--server-side", "--dry-run=server", "--output=json", "--filename=-"];
    let done = control.tell(&apply, &text);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let objects: Value = serde_json::from_slice(&done.stdout).expect("kubectl prints JSON");
    objects["items"].as_array().expect("several objects are a list").clone()
}

/// By kind and name, without what is each request's own. The digest in a name is made otherwise.
fn comparable(objects: Vec<Value>) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    for mut object in objects {
        let name = object["metadata"]["name"].as_str().expect("a name").to_owned();
        for own in ["uid", "creationTimestamp", "managedFields", "resourceVersion", "generation"] {
            object["metadata"].as_object_mut().expect("metadata").remove(own);
        }
        let mut text = object.to_string();
        if object["kind"] == "ConfigMap" {
            text = text.replace(&name, "manx-agent");
        }
        if let Some((before, rest)) =
            text.split_once("\"configMap\":{\"defaultMode\":420,\"name\":\"")
        {
            let after = rest.split_once('"').expect("a name ends").1;
            text = format!("{before}\"configMap\":{{\"name\":\"manx-agent\"{after}");
        }
        let mut object: Value = serde_json::from_str(&text).expect("it is JSON still");
        // A patch that names some of them puts these first.
        if let Some(volumes) = object.pointer_mut("/spec/template/spec/volumes") {
            let volumes = volumes.as_array_mut().expect("volumes");
            volumes.sort_by_key(|volume| volume["name"].to_string());
        }
        let key = format!("{} {}", object["kind"], object["metadata"]["name"]);
        all.insert(key, object);
    }
    all
}

pub(crate) fn gives_the_same(control: &Control) {
    kubectl(control, &["apply", "--filename", &format!("{SHIPPED}/base/namespace.yaml")]);
    for (number, (values, components)) in PAIRS.into_iter().enumerate() {
        let directory = Path::new("/run/kustomize").join(number.to_string());
        let components: Vec<String> =
            components.iter().map(|name| format!("shipped/components/{name}")).collect();
        let text = format!("resources: [shipped/base]\ncomponents: [{}]\n", components.join(", "));
        write_kustomization(&directory, &text);
        let mut shipped = comparable(objects(control, &directory.display().to_string()));
        // Whoever installs a chart has made its namespace.
        shipped.retain(|key, _| !key.starts_with("\"Namespace\""));
        let chart = comparable(of_chart(control, values));
        assert_eq!(chart.keys().collect::<Vec<_>>(), shipped.keys().collect::<Vec<_>>());
        for (key, object) in &shipped {
            assert_eq!(&chart[key], object, "{values}: {key}");
        }
    }
    says_where_pods_are(control);
}

/// Beside all else that a mode's configuration says.
fn says_where_pods_are(control: &Control) {
    let objects = of_chart(control, "mode=ipip,clusterCIDRs={10.244.0.0/16,fd00::/48}");
    let mut maps = objects.iter().filter_map(|object| object["data"]["agent.json"].as_str());
    let said: Value = serde_json::from_str(maps.next().expect("agent.json")).expect("JSON");
    let shipped = std::fs::read(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/conf/kubernetes/components/ipip/agent.json"
    ));
    let mut expected: Value = serde_json::from_slice(&shipped.expect("it is there")).expect("JSON");
    expected["clusterCIDRs"] = serde_json::json!(["10.244.0.0/16", "fd00::/48"]);
    assert_eq!(said, expected);
}
