// SPDX-License-Identifier: Apache-2.0
//! A node joins a cluster, others come and go, and the API server and the agent go away.

use std::fs;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::answers::ask;
use crate::ground::{AGENT, CONFLIST, Ground, MANX, conflist, node, note_plugin};
use crate::harness::{DEADLINE, Pod, eventually};

/// An address at which nobody answers.
const NOBODY: &str = "http://127.0.0.1:1";

#[test]
fn a_node_follows_those_that_come_and_go() {
    let ground = Ground::new();
    let (server, api) = ground.api(&[node(1), node(2)]);
    let mut agent = ground.agent(&server.url(), &[]);
    agent.api = Some(api);
    ground.await_file(CONFLIST);
    ground.await_routes(&[1, 2]);
    agent.tell("ADDED", node(3));
    ground.await_routes(&[1, 2, 3]);
    agent.tell("DELETED", node(2));
    ground.await_routes(&[1, 3]);
    // One that changes its mind about where its pods are was made anew.
    let mut moved = node(3);
    moved["spec"] = json!({"podCIDRs": ["10.244.4.0/24"]});
    agent.tell("MODIFIED", moved);
    ground.await_routes(&[1, 4]);
    assert_eq!(ground.manx(&["plan"]).status, 0, "{}", ground.manx(&["plan"]).stdout);
}

/// A node that does not answer comes back, or its Node goes.
#[test]
fn a_node_that_is_not_ready_keeps_its_routes() {
    let ground = Ground::new();
    let (server, api) = ground.api(&[node(1), node(2)]);
    let mut agent = ground.agent(&server.url(), &[]);
    agent.api = Some(api);
    ground.await_routes(&[1, 2]);
    let mut away = node(2);
    away["status"]["conditions"] = json!([{"type": "Ready", "status": "Unknown"}]);
    away["spec"]["taints"] =
        json!([{"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}]);
    away["spec"]["unschedulable"] = json!(true);
    agent.tell("MODIFIED", away);
    agent.tell("ADDED", node(3));
    ground.await_routes(&[1, 2, 3]);
}

/// The configuration that was put in place is one that a pod gets its network by.
#[test]
fn pods_get_their_addresses_of_the_nodes_pod_cidr() {
    let ground = Ground::new();
    let (server, _api) = ground.api(&[node(1), node(2)]);
    let _agent = ground.agent(&server.url(), &[]);
    ground.await_file(CONFLIST);
    let root = ground.host.scratch().path().to_str().unwrap().to_owned();
    let plugin = ground.plugin(&root);
    plugin.status().ok();
    let pod = Pod::new("a");
    let result = plugin.add(&pod).ok();
    let address = result["ips"][0]["address"].as_str().unwrap();
    assert!(address.starts_with("10.244.1."), "{address}");
    plugin.del(&pod).ok();
}

/// The Node was deleted and made again, with a pod on it: that one keeps its address and its routes,
/// new ones come by the new podCIDR.
#[test]
fn a_pod_of_a_former_pod_cidr_is_reached_until_it_is_gone() {
    let ground = Ground::new();
    let (server, api) = ground.api(&[node(1), node(2)]);
    let mut agent = ground.agent(&server.url(), &[]);
    agent.api = Some(api);
    ground.await_file(CONFLIST);
    let root = ground.host.scratch().path().to_str().unwrap().to_owned();
    let plugin = ground.plugin(&root);
    let (old, new) = (Pod::new("old"), Pod::new("new"));
    let first = plugin.add(&old).ok()["ips"][0]["address"].as_str().unwrap().to_owned();
    let mut again = node(1);
    again["metadata"]["uid"] = json!("again");
    again["spec"] = json!({"podCIDRs": ["10.244.7.0/24"]});
    agent.tell("DELETED", node(1));
    ground.await_log("the API server has no Node node-1");
    ground.await_routes(&[1, 2]);
    agent.tell("ADDED", again);
    ground.await_networks(&["10.244.1.0/24", "10.244.2.0/24", "10.244.7.0/24"]);
    ground.await_log("pod-cidr-changed: Node node-1: pods still have addresses of 10.244.1.0/24");
    ground.await_log("kubectl drain node-1");
    let second = plugin.add(&new).ok()["ips"][0]["address"].as_str().unwrap().to_owned();
    assert!(first.starts_with("10.244.1.") && second.starts_with("10.244.7."), "{first} {second}");
    let address = first.trim_end_matches("/24").trim_end_matches("/32");
    ground.host.command("ping", &["-c1", "-W10", address]).ok();
    plugin.del(&old).ok();
    agent.tell("ADDED", node(3));
    ground.await_networks(&["10.244.2.0/24", "10.244.3.0/24", "10.244.7.0/24"]);
    plugin.del(&new).ok();
}

#[test]
fn no_pods_come_before_the_node_has_a_pod_cidr() {
    let ground = Ground::new();
    let mut bare = node(1);
    bare["spec"] = json!({});
    let (server, api) = ground.api(&[bare, node(2)]);
    let mut agent = ground.agent(&server.url(), &[]);
    agent.api = Some(api);
    ground.await_log("node node-1 has no podCIDR yet");
    ground.await_log("--allocate-node-cidrs");
    assert!(!ground.path(CONFLIST).exists());
    agent.tell("MODIFIED", node(1));
    ground.await_file(CONFLIST);
    ground.await_routes(&[1, 2]);
}

/// A plugin that notes nothing, as those of 0.1, reads no peers file that says what the fabric is. The one
/// that is installed does, until another program is put in its place.
#[test]
fn no_file_is_written_that_the_plugin_may_not_read() {
    let ground = Ground::new();
    fs::remove_dir_all(ground.path("run")).unwrap();
    // By one of before, the plugin may be called.
    ground.host.scratch().dir("etc/cni/net.d");
    ground.host.scratch().file(CONFLIST, conflist().to_string());
    let plugins = ground.path("bin");
    let plugins_option = format!("--plugin-dir={}", plugins.display());
    let (server, api) = ground.api(&[node(1), node(2)]);
    let mut agent = ground.agent(&server.url(), &[&plugins_option]);
    agent.api = Some(api);
    ground.await_log("peers.json is not written: the plugin of this node may be of a version");
    ground.await_log("version-skew: the version of the plugin of this node is not known");
    assert!(!ground.path("var/lib/manx/peers.json").exists());
    let installed = ["install", "--no-conf", "--no-dropins", "--bin-dir", "/bin"];
    assert_eq!(ground.manx(&installed).status, 0);
    agent.tell("ADDED", node(3));
    ground.await_routes(&[1, 2, 3]);
    ground.await_log("version-skew: no more");
    fs::remove_file(plugins.join("manx")).unwrap();
    fs::write(plugins.join("manx"), "of long ago").unwrap();
    agent.tell("ADDED", node(4));
    ground.await_log("another program than the one that noted itself");
    ground.await_routes(&[1, 2, 3, 4]);
}

/// A node that is new, whose plugin came with the machine: one that cannot read the peers file would fail
/// each pod.
#[test]
fn no_pods_come_to_a_new_node_by_a_plugin_that_may_not_read_the_file() {
    let ground = Ground::new();
    fs::remove_dir_all(ground.path("run")).unwrap();
    let plugins = ground.host.scratch().dir("bin");
    let plugins_option = format!("--plugin-dir={}", plugins.display());
    let (server, api) = ground.api(&[node(1), node(2)]);
    let mut agent = ground.agent(&server.url(), &[&plugins_option]);
    agent.api = Some(api);
    ground.await_log("no pods may come yet: it is not known whether the plugin of this node reads");
    let put = |program: &Path| {
        ground.host.scratch().program("bin/new", program);
        fs::rename(plugins.join("new"), plugins.join("manx")).unwrap();
    };
    let old = "#!/bin/sh\necho '{\"version\": \"0.1.0\", \"revision\": null}'\n";
    put(&ground.host.scratch().script("old", old));
    agent.tell("ADDED", node(3));
    ground.await_log("version-skew: the plugin of this node is manx 0.1.0");
    ground.await_log("the plugin of this node is manx 0.1.0, which reads peers files of form 1");
    assert!(!ground.path(CONFLIST).exists());
    // This one says what it reads, though nobody has called it yet.
    put(Path::new(MANX));
    agent.tell("ADDED", node(4));
    ground.await_file(CONFLIST);
    ground.await_routes(&[1, 2, 3, 4]);
}

#[test]
fn what_is_known_is_applied_before_anybody_is_asked() {
    let ground = Ground::new();
    let (server, api) = ground.api(&[node(1), node(2)]);
    let agent = ground.agent(&server.url(), &[]);
    ground.await_file(CONFLIST);
    // A boot: what the kernel had is gone, and the API server is away. Whoever installs the plugin comes first.
    agent.end(Signal::SIGKILL);
    drop(api);
    fs::remove_dir_all(ground.path("run")).unwrap();
    note_plugin(ground.host.scratch().path(), 3);
    fs::remove_file(ground.path(CONFLIST)).unwrap();
    ground.host.command("ip", &["route", "del", "10.244.2.0/24"]).ok();
    let _agent = ground.agent(NOBODY, &[]);
    ground.await_routes(&[1, 2]);
    ground.await_file(CONFLIST);
}

#[test]
fn nothing_is_taken_away_when_the_api_server_or_the_agent_goes() {
    let ground = Ground::new();
    let (server, api) = ground.api(&[node(1), node(2)]);
    let agent = ground.agent(&server.url(), &[]);
    ground.await_routes(&[1, 2]);
    ground.await_file(CONFLIST);
    drop(api);
    let peers = fs::read(ground.path("var/lib/manx/peers.json")).unwrap();
    let lost = || ask(&ground, "/metrics").contains("manx_agent_api_connected 0\n");
    assert!(eventually(DEADLINE, lost), "{}", ground.log());
    // It goes on: a route that somebody removes comes back, and pods come and go.
    ground.host.command("ip", &["route", "del", "10.244.2.0/24"]).ok();
    ground.await_routes(&[1, 2]);
    let plugin = ground.plugin(ground.host.scratch().path().to_str().unwrap());
    let pod = Pod::new("a");
    plugin.add(&pod).ok();
    plugin.del(&pod).ok();
    assert!(ask(&ground, "/readyz").starts_with("HTTP/1.1 200 "), "{}", ask(&ground, "/readyz"));
    assert_eq!(agent.end(Signal::SIGTERM), Some(0));
    assert!(ground.log().contains("the node stays as it is"), "{}", ground.log());
    ground.await_routes(&[1, 2]);
    assert!(ground.path(CONFLIST).exists());
    assert_eq!(fs::read(ground.path("var/lib/manx/peers.json")).unwrap(), peers);
}

#[test]
fn one_nodes_mistake_is_that_nodes_alone() {
    let ground = Ground::new();
    let mut twin = node(3);
    twin["spec"] = node(2)["spec"].clone();
    twin["metadata"]["creationTimestamp"] = json!("2026-11-27T00:00:01Z");
    let (server, _api) = ground.api(&[node(1), node(2), twin, node(4)]);
    let _agent = ground.agent(&server.url(), &[]);
    ground.await_routes(&[1, 2, 4]);
    ground.await_log("peer-excluded: Node node-3: podCIDR 10.244.2.0/24 is that of node-2");
}

/// What the plugin reads is for the plugin to say.
#[test]
fn the_plugins_note_of_its_version_is_left_to_the_plugin() {
    let ground = Ground::new();
    let old = "{\"version\": \"0.0.1\", \"schemas\": {\"peers\": 2}}";
    fs::create_dir_all(ground.path("run/manx")).unwrap();
    ground.host.scratch().file("run/manx/plugin.json", old);
    let note = || fs::read_to_string(ground.path("run/manx/plugin.json")).unwrap();
    let (server, api) = ground.api(&[node(1), node(2)]);
    let mut agent = ground.agent(&server.url(), &[]);
    agent.api = Some(api);
    ground.await_file(CONFLIST);
    ground.await_log("version-skew: the plugin of this node is manx 0.0.1");
    agent.tell("ADDED", node(3));
    ground.await_routes(&[1, 2, 3]);
    assert_eq!(note(), old);
    // The plugin that was installed meanwhile is another one. It has no pass to make.
    ground.plugin(ground.host.scratch().path().to_str().unwrap()).status().ok();
    assert!(note().contains(env!("CARGO_PKG_VERSION")), "{}", note());
    agent.tell("ADDED", node(4));
    ground.await_log("version-skew: no more");
}

#[test]
fn a_route_that_somebody_removes_comes_back() {
    let ground = Ground::new();
    let (server, _api) = ground.api(&[node(1), node(2)]);
    let _agent = ground.agent(&server.url(), &[]);
    ground.await_file(CONFLIST);
    ground.await_routes(&[1, 2]);
    ground.host.command("ip", &["route", "del", "10.244.2.0/24"]).ok();
    ground.await_routes(&[1, 2]);
}

/// A wrong configuration is waited for: who is started again and again asks again and again.
#[test]
fn a_configuration_that_cannot_be_used_is_told_and_ends_nothing() {
    let ground = Ground::new();
    ground.host.scratch().file("agent.json", "{\"fabric\": {\"mode\": \"warp\"}}");
    let agent = ground.agent(NOBODY, &[]);
    ground.await_log("fabric.mode");
    let answers = |path: &str| ask(&ground, path);
    let lives = || answers("/healthz").starts_with("HTTP/1.1 200 ");
    assert!(eventually(DEADLINE, lives), "{}", answers("/healthz"));
    assert!(answers("/readyz").contains("fabric.mode"), "{}", answers("/readyz"));
    let told = ground.manx(&["status"]).stdout;
    assert!(told.contains("runs, and is not ready: ") && told.contains("fabric.mode"), "{told}");
    assert_eq!(agent.end(Signal::SIGTERM), Some(0));
}

/// In a container /proc/sys is read-only, and another mount of it is given beside.
#[test]
fn parameters_are_set_where_they_can_be() {
    let ground = Ground::new();
    ground.host.set_sysctl("ipv4/ip_forward", "0");
    let (server, _api) = ground.api(&[node(1), node(2)]);
    let writable = ground.host.scratch().dir("sys");
    let script = format!(
        "mount --make-rprivate / && mount --bind /proc/sys {sys} && mount --bind /proc/sys /proc/sys \
         && mount -o remount,bind,ro /proc/sys && exec \"$@\"",
        sys = writable.display()
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script, "sh", AGENT]);
    command.args(ground.arguments(&server.url()));
    command.arg(format!("--sysctl-dir={}", writable.display()));
    let _agent = ground.start(command);
    ground.await_file(CONFLIST);
    assert_eq!(ground.host.sysctl("ipv4/ip_forward"), "1");
}

/// An agent is in a container: what it does not see is not gone, and pods are the plugin's.
#[test]
fn an_agent_leaves_leases_links_and_namespaces_of_pods_alone() {
    let ground = Ground::new();
    let (server, _api) = ground.api(&[node(1), node(2)]);
    let _agent = ground.agent(&server.url(), &[]);
    ground.await_file(CONFLIST);
    let root = ground.host.scratch().path().to_str().unwrap().to_owned();
    let (plugin, pod) = (ground.plugin(&root), Pod::new("a"));
    let result = plugin.add(&pod).ok();
    let link = result["interfaces"][0]["name"].as_str().unwrap();
    // A lease that nobody seems to have, and a pod that manx 0.1 attached.
    let lease = ground.path("var/lib/cni/networks/pods/10.244.1.77");
    fs::write(&lease, "gone\neth0").unwrap();
    let entry = ground.path(&format!("run/manx/pods/{}:eth0", pod.id));
    let mut noted: serde_json::Value = serde_json::from_slice(&fs::read(&entry).unwrap()).unwrap();
    assert!(noted.as_object_mut().unwrap().remove("table").is_some(), "{noted}");
    fs::write(&entry, noted.to_string()).unwrap();
    // The table is made again without what would need a look into the pod.
    ground.host.command("nft", &["delete", "table", "inet", "manx-pods"]).ok();
    ground.await_log("an agent does not look into it");
    ground.host.command("ip", &["route", "del", "10.244.2.0/24"]).ok();
    ground.await_networks(&["10.244.1.0/24", "10.244.2.0/24"]);
    assert!(lease.exists() && entry.exists());
    assert!(ground.host.links().contains(&link.to_owned()));
    plugin.del(&pod).ok();
}

/// What is known is applied from memory, and written as soon as there is room.
#[test]
fn a_full_disk_costs_nothing_but_what_would_be_on_it() {
    let ground = Ground::new();
    let (server, api) = ground.api(&[node(1), node(2)]);
    let (state, free) = (ground.host.scratch().dir("var/lib/manx"), ground.path("free"));
    let script = format!(
        "mount -t tmpfs -o size=64k tmpfs {state} && cd {state} && ! cat /dev/zero >filler 2>&- && cd / \
         || exit 1; (while [ ! -e {free} ]; do sleep 0.1; done; rm {state}/filler) & exec \"$@\"",
        state = state.display(),
        free = free.display()
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script, "sh", AGENT]);
    command.args(ground.arguments(&server.url()));
    let mut agent = ground.start(command);
    agent.api = Some(api);
    ground.await_log("No space left on device (os error 28); until there is room");
    ground.await_routes(&[1, 2]);
    ground.await_file(CONFLIST);
    agent.tell("ADDED", node(3));
    ground.await_routes(&[1, 2, 3]);
    fs::write(&free, "").unwrap();
    ground.await_log("var/lib/manx/peers.json is written");
    ground.await_routes(&[1, 2, 3]);
}

/// Without it no pod could be deleted.
#[test]
fn a_configuration_that_somebody_takes_away_comes_back() {
    let ground = Ground::new();
    let (server, _api) = ground.api(&[node(1), node(2)]);
    let _agent = ground.agent(&server.url(), &[]);
    ground.await_file(CONFLIST);
    // The watch has begun.
    ground.host.command("ip", &["route", "del", "10.244.2.0/24"]).ok();
    ground.await_routes(&[1, 2]);
    let before = fs::read(ground.path(CONFLIST)).unwrap();
    fs::remove_file(ground.path(CONFLIST)).unwrap();
    ground.await_file(CONFLIST);
    assert_eq!(fs::read(ground.path(CONFLIST)).unwrap(), before);
}

/// As Kubernetes puts another ConfigMap in place. One that is no good changes nothing.
#[test]
fn a_configuration_that_changes_is_read_again() {
    let ground = Ground::new();
    let list = || vec![node(1), node(2)];
    let (server, _api) = ground.apis(&[&list(), &list()]);
    let _agent = ground.agent(&server.url(), &[]);
    ground.await_file(CONFLIST);
    ground.host.scratch().file("agent.json", "{\"fabric\": {\"mode\": \"warp\"}}");
    ground.await_log("going on with the configuration as it was");
    let mut conflist = conflist();
    conflist["plugins"][0]["ipMasq"] = json!(false);
    let config = json!({"fabric": {"mode": "direct"}, "conflist": conflist}).to_string();
    let new = ground.host.scratch().file("agent.json.new", config);
    fs::rename(new, ground.path("agent.json")).unwrap();
    let replaced = || fs::read_to_string(ground.path(CONFLIST)).unwrap().contains("false");
    assert!(eventually(DEADLINE, replaced), "{}", ground.log());
    ground.await_log("it has changed: the agent begins anew");
    ground.await_routes(&[1, 2]);
}

/// Nobody knows of the node: it is not ready, and says why, and nothing ends.
#[test]
fn without_an_api_server_and_a_file_no_pods_come() {
    let ground = Ground::new();
    let agent = ground.agent(NOBODY, &[]);
    ground.await_log("no pods may come yet: the cluster's nodes are not known yet");
    ground.await_log("Connection refused");
    assert!(!ground.path(CONFLIST).exists() && ground.routes().is_empty());
    assert_eq!(agent.end(Signal::SIGTERM), Some(0));
}

/// The nodes of a cluster get it one after the other.
#[test]
fn a_mode_that_changed_is_taken_before_it_is_used_and_after() {
    let ground = Ground::new();
    let says = |fabric: &serde_json::Value| {
        ground.host.scratch().file("agent.json", json!({"fabric": fabric}).to_string());
    };
    let file = || -> serde_json::Value {
        let bytes = fs::read(ground.path("var/lib/manx/peers.json")).unwrap();
        serde_json::from_slice::<serde_json::Value>(&bytes).unwrap()["fabric"].clone()
    };
    let flannels =
        json!({"mode": "vxlan", "vxlan": {"device": "flannel.1", "port": 8472, "vni": 1}});
    let calicos =
        json!({"mode": "vxlan", "vxlan": {"device": "vxlan.calico", "port": 4789, "vni": 4096}});
    let with = |fabric: &serde_json::Value, accepts: &serde_json::Value| {
        let mut fabric = fabric.clone();
        fabric["accepts"] = accepts.clone();
        fabric
    };
    says(&flannels);
    let (server, _api) = ground.api(&[node(1), node(2)]);
    let agent = ground.agent(&server.url(), &[]);
    ground.await_routes(&[1, 2]);
    agent.end(Signal::SIGTERM);
    says(&calicos);
    let both = || {
        let links = ground.host.links();
        ["flannel.1", "vxlan.calico"].map(|name| links.contains(&name.to_owned()))
    };
    let await_file = |fabric: &serde_json::Value| {
        let came = eventually(DEADLINE, || file() == *fabric);
        assert!(came, "{}, not {fabric}: {}", file(), ground.log());
    };
    // A start begins where the one before was.
    let (server, _api) = ground.api(&[node(1), node(2)]);
    let agent = ground.agent(&server.url(), &["--accept-former=3600"]);
    await_file(&with(&flannels, &calicos));
    assert!(eventually(DEADLINE, || both() == [true, true]), "{:?}", both());
    agent.end(Signal::SIGTERM);
    let (server, _api) = ground.api(&[node(1), node(2)]);
    let agent = ground.agent(&server.url(), &["--accept-former=1"]);
    assert!(eventually(DEADLINE, || both() == [false, true]), "{:?}: {}", both(), ground.log());
    await_file(&calicos);
    ground.await_routes(&[1, 2]);
    agent.end(Signal::SIGTERM);
}

/// All that has to be said is how packets get to other nodes.
#[test]
fn an_agent_without_a_configuration_brings_the_usual_one() {
    let ground = Ground::new();
    let (server, _api) = ground.api(&[node(1), node(2)]);
    let _agent = ground.bare_agent(&server.url(), &["--mode=vxlan"]);
    ground.await_file(CONFLIST);
    ground.await_routes(&[1, 2]);
    assert!(ground.host.links().contains(&"vxlan.calico".to_owned()));
    // No plugin is installed on this node, and nothing else is wrong.
    let checked = ground.manx(&["validate"]).stdout;
    let wrong = |line: &&str| line.starts_with("error") || line.starts_with("warning");
    assert!(checked.lines().filter(wrong).all(|line| line.contains("no plugin")), "{checked}");
}

/// Another version of the agent, or of its configuration, brings another conflist.
#[test]
fn a_configuration_that_changed_takes_the_place_of_the_old_one() {
    let ground = Ground::new();
    let (server, _api) = ground.api(&[node(1), node(2)]);
    let agent = ground.agent(&server.url(), &[]);
    ground.await_file(CONFLIST);
    agent.end(Signal::SIGTERM);
    let mut conflist = conflist();
    conflist["plugins"][0]["ipMasq"] = json!(false);
    let config = json!({"fabric": {"mode": "vxlan"}, "conflist": conflist});
    ground.host.scratch().file("agent.json", config.to_string());
    let (server, _api) = ground.api(&[node(1), node(2)]);
    let _agent = ground.agent(&server.url(), &[]);
    let replaced = || fs::read_to_string(ground.path(CONFLIST)).unwrap().contains("false");
    assert!(eventually(DEADLINE, replaced), "{}", ground.log());
    let tunnel = || ground.host.links().contains(&"vxlan.calico".to_owned());
    assert!(eventually(DEADLINE, tunnel), "{}", ground.log());
    ground.await_routes(&[1, 2]);
}
