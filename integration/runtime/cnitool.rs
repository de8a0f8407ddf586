// SPDX-License-Identifier: Apache-2.0
//! cnitool, which is libcni with a command line: configuration directory,
//! result cache and all.

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{DEADLINE, Finished, Host, Netns, Stdin, plugin_dir, run};
use crate::node::{MANX, NETWORK, assert_clean, fixed, host_local, leases};

/// Binds directories of the node over /var/lib and /run, where libcni and the
/// reference plugins store, for the command behind them.
const PRIVATE: &str =
    r#"mount --bind "$0" /var/lib && mount --bind "$1" /run && shift && exec "$@""#;

/// A runtime on a node, with a directory of network configurations.
pub struct Cnitool {
    host: Host,
    capabilities: Value,
}

impl Cnitool {
    pub fn new(host: &Host) -> Self {
        Self { host: host.clone(), capabilities: json!({}) }
    }

    /// Writes a configuration file.
    pub fn configure(&self, file: &str, conf: &Value) {
        self.host.scratch().dir("net.d");
        self.host.scratch().file(&format!("net.d/{file}"), conf.to_string());
    }

    /// The same with capability arguments, such as port mappings.
    pub fn with(mut self, capabilities: Value) -> Self {
        self.capabilities = capabilities;
        self
    }

    /// Runs a verb for the network of these tests.
    pub fn run(&self, verb: &str, pod: &Netns) -> Finished {
        let scratch = self.host.scratch();
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", PRIVATE]);
        command.arg(scratch.dir("var")).arg(scratch.dir("run"));
        // From the PATH that hack/setup gives.
        command.arg("cnitool").args([verb, NETWORK]).arg(pod.path());
        let ours = PathBuf::from(MANX).parent().unwrap().to_path_buf();
        let path = std::env::join_paths([ours, plugin_dir()]).unwrap();
        command
            .env("NETCONFPATH", scratch.dir("net.d"))
            .env("CNI_PATH", path)
            .env("CAP_ARGS", self.capabilities.to_string())
            .env("MANX_ROOT", scratch.dir("root"));
        self.host.enter(|| run(command, &Stdin::Null, DEADLINE))
    }

    /// The result of an ADD.
    #[track_caller]
    pub fn add(&self, pod: &Netns) -> Value {
        let said = self.run("add", pod).ok();
        serde_json::from_str(&said).unwrap_or_else(|e| panic!("{said:?}: {e}"))
    }

    /// The results that libcni keeps.
    fn cache(&self) -> Vec<PathBuf> {
        crate::node::files(&self.host.scratch().dir("var/cni/results"))
    }
}

const VERSIONS: [&str; 7] = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// A pod's life in one version: its result is in that version, it answers, and
/// it goes without a trace.
fn live_in(version: &str, file: &str, conf: impl Fn(&Host) -> Value) {
    let (host, _outside) = Host::with_uplink();
    let runtime = Cnitool::new(&host);
    let mut conf = conf(&host);
    conf["cniVersion"] = version.into();
    conf["name"] = NETWORK.into();
    runtime.configure(file, &conf);
    let pod = Netns::new();
    let result = runtime.add(&pod);
    assert_eq!(result["cniVersion"], version, "{result}");
    let address = match version {
        "0.1.0" | "0.2.0" => result["ip4"]["ip"].as_str(),
        _ => result["ips"][0]["address"].as_str(),
    };
    assert_eq!(address, Some("10.1.0.2/32"), "{version}: {result}");
    assert!(host.pings("10.1.0.2"), "{version}");
    let check = runtime.run("check", &pod);
    let has_check = !matches!(version, "0.1.0" | "0.2.0" | "0.3.0" | "0.3.1");
    assert_eq!(check.status == 0, has_check, "{version}: {check:?}");
    runtime.run("status", &pod).ok();
    runtime.run("del", &pod).ok();
    assert_clean(&host);
    assert_eq!(pod.links(), [""; 0], "{version}");
    assert_eq!(runtime.cache(), [""; 0].map(PathBuf::from), "{version}");
}

fn manx_conf(host_local: &Value) -> Value {
    json!({"type": "manx", "mode": "ipip", "ipam": host_local})
}

#[test]
fn a_pod_lives_and_dies_by_a_list_of_every_version() {
    for version in VERSIONS {
        live_in(
            version,
            "10-net.conflist",
            |host| json!({"plugins": [manx_conf(&host_local(host, &["10.1.0.0/24"]))]}),
        );
    }
}

#[test]
fn a_pod_lives_and_dies_by_a_single_configuration_of_every_version() {
    for version in VERSIONS {
        live_in(version, "10-net.conf", |host| manx_conf(&host_local(host, &["10.1.0.0/24"])));
    }
}

#[test]
fn status_of_a_list_without_its_delegate_fails() {
    let host = Host::new();
    let runtime = Cnitool::new(&host);
    let plugin = json!({"type": "manx", "ipam": {"type": "no-such-plugin"}});
    let conf = json!({"cniVersion": "1.1.0", "name": NETWORK, "plugins": [plugin]});
    runtime.configure("10-net.conflist", &conf);
    let status = runtime.run("status", &Netns::new());
    let said = status.stderr + &status.stdout;
    assert!(status.status != 0 && said.contains("no-such-plugin"), "{said}");
}

#[test]
fn check_fails_when_the_host_route_is_gone() {
    let host = Host::new();
    let runtime = Cnitool::new(&host);
    let plugin = json!({"type": "manx", "ipam": fixed(&["10.1.0.7/24"])});
    let conf = json!({"cniVersion": "1.1.0", "name": NETWORK, "plugins": [plugin]});
    runtime.configure("10-net.conflist", &conf);
    let pod = Netns::new();
    runtime.add(&pod);
    runtime.run("check", &pod).ok();
    host.command("ip", &["route", "del", "10.1.0.7"]).ok();
    let check = runtime.run("check", &pod);
    let said = check.stderr + &check.stdout;
    assert!(check.status != 0 && said.contains("10.1.0.7"), "{said}");
    runtime.run("del", &pod).ok();
    assert_clean(&host);
}

/// cnitool brings no list of valid attachments, which for libcni means to delete
/// all that its cache has, and for a plugin to remove nothing by itself.
#[test]
fn gc_removes_what_libcni_knows_and_nothing_else() {
    let (host, _outside) = Host::with_uplink();
    let runtime = Cnitool::new(&host);
    let mut plugin = manx_conf(&host_local(&host, &["10.1.0.0/24"]));
    plugin["ipMasq"] = true.into();
    let conf = json!({"cniVersion": "1.1.0", "name": NETWORK, "plugins": [plugin]});
    runtime.configure("10-net.conflist", &conf);
    let (known, forgotten) = (Netns::new(), Netns::new());
    runtime.add(&forgotten);
    std::fs::remove_dir_all(host.scratch().dir("var/cni/results")).unwrap();
    runtime.add(&known);
    assert_eq!((runtime.cache().len(), leases(&host).len()), (1, 2));
    runtime.run("gc", &known).ok();
    assert_eq!(leases(&host), ["10.1.0.2"]);
    assert!(host.pings("10.1.0.2") && known.links().is_empty());
    runtime.run("del", &forgotten).ok();
    assert_clean(&host);
}
