// SPDX-License-Identifier: Apache-2.0
//! What happens to containers and their networks.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::enclosure::image::PAGE;
use crate::enclosure::remains::{Network, attachments_in, firewall_lines, processes};
use crate::enclosure::{NODE_ADDRESS, collect_plugins, node_pings, page_from, until};
use crate::podman::Podman;

const NODE_PORT: u16 = 18080;
const POD_PORT: &str = "8080";

const SLEEP: [&str; 2] = ["/bin/sleep", "86400"];

/// podman on a node with two networks, and what the node was before.
struct Scene {
    podman: Podman,
    leases: PathBuf,
    state: PathBuf,
    before: Network,
}

/// Both addresses of a container in a network, as podman tells them.
struct Addresses([String; 2]);

impl Scene {
    fn new() -> Self {
        let base = Path::new("/run/manx-test");
        let [plugins, leases, directory, state] =
            ["bin", "leases", "podman", "state"].map(|name| base.join(name));
        for directory in [&leases, &directory, &state] {
            fs::create_dir_all(directory).expect("a directory in the enclosure");
        }
        collect_plugins(&plugins, Some((env!("CARGO_BIN_EXE_manx"), "manx")));
        let before = Network::now();
        let conflists = [0, 1].map(|number| conflist(number, &leases));
        let podman = Podman::new(&directory, &plugins, &conflists, &state);
        Self { podman, leases, state, before }
    }

    /// Where podman says that a container is, which is where it is.
    fn addresses(&self, name: &str, network: usize, device: &str) -> Addresses {
        let told = self.podman.attachment(name, &format!("net{network}"));
        let shown = self.podman.exec(name, &["ip", "-o", "address", "show", "dev", device]);
        let link = self.podman.exec(name, &["ip", "link", "show", "dev", device]);
        let mac = told["MacAddress"].as_str().unwrap_or_default();
        assert!(!mac.is_empty() && link.contains(mac), "{told} {link}");
        Addresses(["IPAddress", "GlobalIPv6Address"].map(|key| {
            let address = told[key].as_str().unwrap_or_default().to_owned();
            assert!(shown.contains(&format!(" {address}/")), "{told}: {shown}");
            address
        }))
    }

    /// The node and another container reach it, and it reaches them.
    fn reaches(&self, name: &str, addresses: &Addresses, other: &str, theirs: &Addresses) {
        for (own, their) in addresses.0.iter().zip(&theirs.0) {
            node_pings(own);
            self.podman.pings(other, own);
            self.podman.pings(name, their);
        }
        self.podman.pings(name, &NODE_ADDRESS.to_string());
    }

    fn nothing_is_left(&self, words: &[&str]) {
        assert_eq!(Network::now(), self.before, "links, addresses or routes are left");
        let namespaces: Vec<_> =
            fs::read_dir("/run/netns").into_iter().flatten().flatten().collect();
        assert!(namespaces.is_empty(), "network namespaces are left: {namespaces:?}");
        let rules = firewall_lines(words);
        assert!(rules.is_empty(), "firewall rules are left: {rules:#?}");
        // The address files, the plugin's own state, and libcni's cache of results.
        let directories = [&self.leases, &self.state, Path::new("/var/lib/cni")];
        let files = attachments_in(&directories, words);
        assert!(files.is_empty(), "files are left: {files:#?}");
        until("conmon and containers are gone", || {
            processes("conmon").is_empty() && processes("sleep").is_empty()
        });
    }
}

/// A network of ours with both families and ports. In the newest version that podman 4.3 speaks.
fn conflist(number: usize, leases: &Path) -> Value {
    let ranges = json!([
        [{"subnet": format!("10.{}.0.0/24", 80 + number)}],
        [{"subnet": format!("fd00:{}::/64", 80 + number)}],
    ]);
    json!({
        "cniVersion": "1.0.0",
        "name": format!("net{number}"),
        "plugins": [
            {
                "type": "manx",
                "mtu": 1500,
                "capabilities": {"ips": true, "mac": true},
                "ipam": {"type": "manx-ipam", "ranges": ranges, "dataDir": leases},
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    })
}

fn page() -> std::io::Result<String> {
    page_from(SocketAddr::new(IpAddr::V4(NODE_ADDRESS), NODE_PORT))
}

/// Two containers of one network: they reach each other, and one is reached through a port of the
/// node, before and after it was restarted.
pub(crate) fn two_containers() {
    let scene = Scene::new();
    let podman = &scene.podman;
    let port = format!("{NODE_PORT}:{POD_PORT}");
    let serve = ["/bin/httpd", "-f", "-p", POD_PORT, "-h", "/www"];
    podman.run("server", &["--publish", &port], &serve);
    podman.run("client", &[], &SLEEP);
    for name in ["server", "client"] {
        assert_eq!(podman.attachment(name, "net0")["NetworkID"], "net0");
    }
    let client = scene.addresses("client", 0, "eth0");
    let mut words = client.0.to_vec();
    for round in ["started", "restarted"] {
        let server = scene.addresses("server", 0, "eth0");
        scene.reaches("server", &server, "client", &client);
        until(&format!("the server answers, {round}"), || page().is_ok());
        assert_eq!(page().expect("it has answered"), PAGE);
        let url = format!("http://{}:{POD_PORT}/", server.0[0]);
        assert_eq!(podman.exec("client", &["wget", "-q", "-O", "-", &url]).trim(), PAGE.trim());
        words.extend(server.0);
        if round == "started" {
            podman.ok(&["restart", "--time", "0", "server"]);
        }
    }
    for name in ["server", "client"] {
        podman.ok(&["stop", "--time", "0", name]);
        podman.ok(&["rm", name]);
    }
    scene.nothing_is_left(&words.iter().map(String::as_str).collect::<Vec<_>>());
}

/// A second network is connected, the first one is disconnected and comes back: what is connected
/// can be reached and reaches others, whichever came first.
pub(crate) fn networks_come_and_go() {
    let scene = Scene::new();
    let podman = &scene.podman;
    podman.run("other", &[], &SLEEP);
    podman.run("moving", &[], &SLEEP);
    let other = scene.addresses("other", 0, "eth0");
    let first = scene.addresses("moving", 0, "eth0");
    scene.reaches("moving", &first, "other", &other);

    podman.ok(&["network", "connect", "net1", "moving"]);
    let second = scene.addresses("moving", 1, "eth1");
    scene.reaches("moving", &first, "other", &other);
    scene.reaches("moving", &second, "other", &other);

    podman.ok(&["network", "disconnect", "net0", "moving"]);
    assert_eq!(podman.attachment("moving", "net0"), Value::Null);
    scene.reaches("moving", &second, "other", &other);

    podman.ok(&["network", "connect", "net0", "moving"]);
    let again = scene.addresses("moving", 0, "eth0");
    scene.reaches("moving", &again, "other", &other);
    scene.reaches("moving", &second, "other", &other);

    // The other order: the second goes, and the first is as it was.
    podman.ok(&["network", "disconnect", "net1", "moving"]);
    scene.reaches("moving", &again, "other", &other);

    for name in ["moving", "other"] {
        podman.ok(&["rm", "--force", "--time", "0", name]);
    }
    let words = [other, first, second, again].map(|addresses| addresses.0).concat();
    scene.nothing_is_left(&words.iter().map(String::as_str).collect::<Vec<_>>());
}

/// No podman runs when the container ends: conmon calls one, which has nothing but the note of the
/// ADD's result.
pub(crate) fn ends_by_itself() {
    let scene = Scene::new();
    let podman = &scene.podman;
    // Without these names podman deals out eth0 and eth1 as its map of networks happens to be walked.
    let [first, second] = ["net0:interface_name=eth0", "net1:interface_name=eth1"];
    let options = ["--rm", "--network", first, "--network", second];
    podman.run("brief", &options, &["/bin/sh", "-c", "while ! test -e /done; do sleep 0.1; done"]);
    let words = [0, 1].map(|n| scene.addresses("brief", n, &format!("eth{n}")).0).concat();
    podman.last_word("brief", &["/bin/touch", "/done"]);
    until("the container is gone", || !podman.knows("brief"));
    scene.nothing_is_left(&words.iter().map(String::as_str).collect::<Vec<_>>());
}

/// An address and a MAC address that were asked for, on the command line and while it runs.
pub(crate) fn asked_for() {
    let scene = Scene::new();
    let podman = &scene.podman;
    podman.run("other", &[], &SLEEP);
    let other = scene.addresses("other", 0, "eth0");
    let (address, mac) = ("10.80.0.77", "02:00:00:00:00:77");
    podman.run("fixed", &["--ip", address, "--mac-address", mac], &SLEEP);
    let fixed = scene.addresses("fixed", 0, "eth0");
    assert_eq!(fixed.0[0], address);
    assert_eq!(podman.attachment("fixed", "net0")["MacAddress"], mac);
    podman.ok(&["network", "connect", "--ip", "10.81.0.78", "net1", "fixed"]);
    let second = scene.addresses("fixed", 1, "eth1");
    assert_eq!(second.0[0], "10.81.0.78");
    scene.reaches("fixed", &fixed, "other", &other);
    for name in ["fixed", "other"] {
        podman.ok(&["rm", "--force", "--time", "0", name]);
    }
    let words = [other, fixed, second].map(|addresses| addresses.0).concat();
    scene.nothing_is_left(&words.iter().map(String::as_str).collect::<Vec<_>>());
}
