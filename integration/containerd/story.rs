// SPDX-License-Identifier: Apache-2.0
//! The life of two pods on one node, told for any plugin: they come up, reach each other, are
//! reached from the node and through a host port, take the only addresses there are, outlive a
//! crash of the runtime, and go without a trace.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::enclosure::image::PAGE;
use crate::enclosure::remains::{
    Network, attachments_in, files_mentioning, firewall_lines, processes,
};
use crate::enclosure::{NODE_ADDRESS, collect_plugins, node_pings, page_from, until};
use crate::runtime::{Pod, PodSpec, Release, Runtime, SLEEP};

const POD_NAMESPACE: &str = "story";
/// All the addresses there are, the first and the last of the range.
const RANGE: [&str; 2] = ["10.88.0.2", "10.88.0.3"];

/// The pod for which there is no address.
const SURPLUS: &str = "surplus";

const NODE_PORT: u16 = 18080;
const POD_PORT: u16 = 8080;

/// Which plugin the story is about.
pub(crate) struct Subject {
    /// Its file, where it is none of the reference plugins.
    pub(crate) binary: Option<&'static str>,
    /// Its type in the configuration.
    pub(crate) plugin: &'static str,
    /// The routes that IPAM must give it; manx has its own default route, ptp has none.
    pub(crate) routes: Value,
    /// The name that it promises for the host link of (namespace, pod).
    pub(crate) host_link: Option<fn(&str, &str) -> String>,
}

/// Where one story keeps its files, all of them in the enclosure's private memory.
pub(crate) struct Places {
    pub(crate) plugins: PathBuf,
    pub(crate) leases: PathBuf,
    pub(crate) runtime: PathBuf,
    pub(crate) state: PathBuf,
}

/// Tells the story. Must be called inside an enclosure.
pub(crate) fn tell(release: Release, subject: &Subject) {
    let places = Places::new(Path::new("/run/manx-test"));
    collect_plugins(&places.plugins, subject.binary.map(|binary| (binary, subject.plugin)));
    let before = Network::now();
    let conflists = [subject.conflist(&places.leases)];
    let mut runtime =
        Runtime::start(release, &places.runtime, &places.plugins, &conflists, &places.state);
    runtime.until_ready();

    let port = POD_PORT.to_string();
    let server = runtime.run(&PodSpec {
        name: "server",
        namespace: POD_NAMESPACE,
        command: &["/bin/httpd", "-f", "-p", &port, "-h", "/www"],
        ports: &[(NODE_PORT, POD_PORT)],
        ..PodSpec::default()
    });
    let client = runtime.run(&PodSpec {
        name: "client",
        namespace: POD_NAMESPACE,
        command: &SLEEP,
        ..PodSpec::default()
    });
    let addresses = [runtime.address(&server), runtime.address(&client)];
    pods_have_their_addresses(&runtime, [&server, &client], &addresses);
    pods_reach_each_other(&runtime, &server, &client, &addresses);
    node_reaches_pods(&addresses);
    if let Some(name) = subject.host_link {
        marks_of_manx(&places, name, [("server", &server), ("client", &client)]);
    }

    a_pod_too_many(&runtime);
    runtime.crash_and_restart();
    pods_reach_each_other(&runtime, &server, &client, &addresses);

    runtime.remove(&server);
    runtime.remove(&client);
    let words = [&server.sandbox, &client.sandbox, &addresses[0], &addresses[1]];
    nothing_is_left(&before, &places, &words.map(String::as_str));
    no_complaint(&runtime.log());
}

/// CRI reports an address of the subnet, and it is what the pod's interface has.
fn pods_have_their_addresses(runtime: &Runtime, pods: [&Pod; 2], addresses: &[String; 2]) {
    assert_ne!(addresses[0], addresses[1], "two pods, one address");
    for (pod, address) in pods.into_iter().zip(addresses) {
        assert!(RANGE.contains(&address.as_str()), "{address} is not of the range");
        let shown = runtime.exec(pod, &["ip", "-o", "-4", "address", "show", "dev", "eth0"]);
        assert!(shown.contains(&format!(" {address}/")), "eth0 has not {address}: {shown}");
    }
}

fn pods_reach_each_other(
    runtime: &Runtime,
    server: &Pod,
    client: &Pod,
    [server_address, client_address]: &[String; 2],
) {
    runtime.pings(client, server_address);
    runtime.pings(server, client_address);
    let listener = SocketAddr::new(server_address.parse().expect("an address"), POD_PORT);
    until("the server listens", || page_from(listener).is_ok());
    let url = format!("http://{server_address}:{POD_PORT}/");
    let page = runtime.exec(client, &["wget", "-q", "-O", "-", &url]);
    assert_eq!(page.trim(), PAGE.trim());
}

/// By address, and through the port that portmap opened on the node.
fn node_reaches_pods(addresses: &[String; 2]) {
    for address in addresses {
        node_pings(address);
    }
    let page = page_from(SocketAddr::new(IpAddr::V4(NODE_ADDRESS), NODE_PORT))
        .unwrap_or_else(|error| panic!("{NODE_ADDRESS}:{NODE_PORT}: {error}"));
    assert_eq!(page, PAGE);
}

/// The host link has the promised name, and the journal knows the pod. The latter also shows that
/// the journal's emptiness at the end means something.
fn marks_of_manx(places: &Places, name: fn(&str, &str) -> String, pods: [(&str, &Pod); 2]) {
    let node = Network::now();
    for (pod_name, pod) in pods {
        let link = name(POD_NAMESPACE, pod_name);
        assert!(node.has_link(&link), "no {link}: {node:?}");
        let entries = files_mentioning(&places.state, &[&pod.sandbox]);
        assert!(!entries.is_empty(), "no journal entry of {pod_name} in {:?}", places.state);
    }
}

/// With the range used up a third pod is refused for that reason, and changes nothing.
fn a_pod_too_many(runtime: &Runtime) {
    let before = Network::now();
    let spec = PodSpec { name: SURPLUS, namespace: POD_NAMESPACE, ..PodSpec::default() };
    let why = runtime.refusal(&spec);
    assert!(why.contains(RANGE[0]), "the reason does not name the range: {why}");
    assert_eq!(Network::now(), before, "the refused pod has changed the node");
}

pub(crate) fn nothing_is_left(before: &Network, places: &Places, words: &[&str]) {
    assert_eq!(&Network::now(), before, "links, addresses or routes are left");
    let namespaces: Vec<_> = fs::read_dir("/run/netns").into_iter().flatten().flatten().collect();
    assert!(namespaces.is_empty(), "network namespaces are left: {namespaces:?}");
    let rules = firewall_lines(words);
    assert!(rules.is_empty(), "firewall rules are left: {rules:#?}");
    // The address files, the plugin's own state, and libcni's cache of results.
    let directories = [&places.leases, &places.state, Path::new("/var/lib/cni")];
    let files = attachments_in(&directories, words);
    assert!(files.is_empty(), "files are left: {files:#?}");
    until("shims and containers are gone", || {
        processes("containerd-shim").is_empty() && processes("sleep").is_empty()
    });
}

/// containerd logged no error that has to do with pods or networks, but for the refused pod.
pub(crate) fn no_complaint(log: &str) {
    let complaints: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("level=error") && !line.contains(SURPLUS))
        .filter(|line| {
            let line = line.to_lowercase();
            ["cni", "network", "sandbox"].iter().any(|word| line.contains(word))
        })
        .collect();
    assert!(complaints.is_empty(), "containerd complains: {complaints:#?}");
}

impl Subject {
    fn conflist(&self, leases: &Path) -> Value {
        let [first, last] = RANGE;
        let range = json!({"subnet": "10.88.0.0/24", "rangeStart": first, "rangeEnd": last});
        let plugin = json!({
            "type": self.plugin,
            "ipam": {
                "type": "host-local",
                "ranges": [[range]],
                "routes": self.routes,
                "dataDir": leases,
            },
        });
        json!({
            // containerd 1.6 reads the first key alone and speaks no newer version; 2.0 chooses
            // the newest of the list.
            "cniVersion": "1.0.0",
            "cniVersions": ["1.0.0", "1.1.0"],
            "name": "manx-test",
            "plugins": [plugin, {"type": "portmap", "capabilities": {"portMappings": true}}],
        })
    }
}

impl Places {
    pub(crate) fn new(base: &Path) -> Self {
        let places = Self {
            plugins: base.join("bin"),
            leases: base.join("leases"),
            runtime: base.join("containerd"),
            state: base.join("state"),
        };
        for directory in [&places.plugins, &places.leases, &places.runtime, &places.state] {
            fs::create_dir_all(directory).expect("a directory in the enclosure");
        }
        places
    }
}
