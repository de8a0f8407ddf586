// SPDX-License-Identifier: Apache-2.0
//! Pods with several networks of ours: containerd attaches all networks of a pod at the same time,
//! against the specification, and calls each DEL twice.

use std::path::Path;
use std::thread;

use serde_json::{Value, json};

use crate::enclosure::remains::Network;
use crate::enclosure::{collect_plugins, node_pings};
use crate::runtime::{Pod, PodSpec, Release, Runtime, SLEEP};
use crate::story::{Places, no_complaint, nothing_is_left};

/// How many networks, and how many pods with all of them, half of which come at the same time.
const NETWORKS: usize = 4;
const PODS: usize = 6;

/// The subnets of network number `number`.
fn subnets(number: usize) -> [String; 2] {
    [format!("10.{}.0.0/24", 90 + number), format!("fd00:{}::/64", 90 + number)]
}

/// A network of ours with both families.
pub(crate) fn conflist(number: usize, leases: &Path) -> Value {
    let ranges: Vec<Value> =
        subnets(number).iter().map(|subnet| json!([{"subnet": subnet}])).collect();
    json!({
        "cniVersion": "1.0.0",
        "cniVersions": ["1.0.0", "1.1.0"],
        "name": format!("net{number}"),
        "plugins": [{
            "type": "manx",
            "mtu": 1500,
            "ipam": {"type": "manx-ipam", "ranges": ranges, "dataDir": leases},
        }],
    })
}

pub(crate) fn attached_at_once() {
    let places = Places::new(Path::new("/run/manx-test"));
    collect_plugins(&places.plugins, Some((env!("CARGO_BIN_EXE_manx"), "manx")));
    let before = Network::now();
    let conflists: Vec<Value> =
        (0..NETWORKS).map(|number| conflist(number, &places.leases)).collect();
    let (directory, plugins, state) = (&places.runtime, &places.plugins, &places.state);
    let runtime = Runtime::start(Release::Newest, directory, plugins, &conflists, state);
    runtime.until_ready();

    let names: Vec<String> = (0..PODS).map(|number| format!("pod{number}")).collect();
    let run = |name: &String| {
        let spec = PodSpec { name, namespace: "several", command: &SLEEP, ..PodSpec::default() };
        runtime.run(&spec)
    };
    let (apart, together) = names.split_at(PODS / 2);
    let mut pods: Vec<Pod> = apart.iter().map(run).collect();
    thread::scope(|scope| {
        let runs: Vec<_> = together.iter().map(|name| scope.spawn(|| run(name))).collect();
        pods.extend(runs.into_iter().map(|run| run.join().expect("the pod runs")));
    });
    let mut words: Vec<String> = pods.iter().map(|pod| pod.sandbox.clone()).collect();
    for pod in &pods {
        let addresses = addresses(&runtime, pod);
        // Each answers where it was asked, by whatever way.
        for address in &addresses {
            node_pings(address);
            runtime.pings(&pods[0], address);
        }
        words.extend(addresses);
    }
    let log = runtime.log();
    for pod in &pods {
        runtime.remove(pod);
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    nothing_is_left(&before, &places, &words);
    no_complaint(&runtime.log());
    let deletions = |pod: &Pod| {
        let all = runtime.log()[log.len()..].to_owned();
        all.lines().filter(|l| l.contains(" DEL ") && l.contains(&pod.sandbox)).count()
    };
    // That it asks again is no promise of containerd's; but if it did not, nothing here would show
    // that the second DEL succeeds.
    assert!(pods.iter().all(|pod| deletions(pod) == 2 * NETWORKS), "{}", runtime.log());
}

/// The addresses of a pod: one of each subnet, on the interface of that network.
fn addresses(runtime: &Runtime, pod: &Pod) -> Vec<String> {
    let mut found = Vec::new();
    for number in 0..NETWORKS {
        let device = format!("eth{number}");
        let shown = runtime.exec(pod, &["ip", "-o", "address", "show", "dev", &device]);
        for subnet in subnets(number) {
            let prefix = subnet.split("0/").next().unwrap_or_default().split("/").next();
            let prefix = prefix.unwrap_or_default();
            let address = shown
                .split_whitespace()
                .find(|word| word.starts_with(prefix))
                .unwrap_or_else(|| panic!("no address of {subnet} on {device}: {shown}"));
            found.push(address.split('/').next().unwrap_or_default().to_owned());
        }
    }
    found
}
