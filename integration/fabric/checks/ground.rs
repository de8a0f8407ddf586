// SPDX-License-Identifier: Apache-2.0
//! A node on which things go wrong: with a pod and a peer, tunnels of VXLAN, and its
//! configuration where a runtime looks for it. Commands run there as they are printed.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::{Cluster, Families, MANX, Node, addresses, bare, batch};
use crate::doctor::besides_load;
use crate::harness::{DEADLINE, Finished, Pod, Stdin, eventually, plugin_dir, run};

pub(super) struct Ground {
    pub(super) cluster: Cluster,
    pub(super) pod: Pod,
    pub(super) root: PathBuf,
}

impl Ground {
    pub(super) fn new() -> Self {
        let keys = json!({"mode": "vxlan", "ipMasq": true, "ipam": {"type": "manx-ipam", "ranges":
            [[{"subnet": "usePodCidr"}]]}});
        let cluster = Cluster::new(2, Families::Ipv4, &keys);
        cluster.apply();
        let pod = cluster.nodes[0].attach("a");
        let host = &cluster.nodes[0].host;
        let root = host.scratch().dir("root");
        std::fs::create_dir_all(root.join("etc/cni/net.d")).unwrap();
        let bin = host.scratch().dir("bin");
        std::os::unix::fs::symlink(MANX, bin.join("manx")).unwrap();
        let ground = Self { cluster, pod, root };
        ground.configure(|_| ());
        ground
    }

    pub(super) fn node(&self) -> &Node {
        &self.cluster.nodes[0]
    }

    pub(super) fn net_d(&self, name: &str) -> PathBuf {
        self.root.join("etc/cni/net.d").join(name)
    }

    /// Writes the node's configuration with a change.
    pub(super) fn configure(&self, change: impl FnOnce(&mut Value)) {
        let mut plugin = self.node().plugin.conf.clone();
        let name = plugin["name"].take();
        plugin.as_object_mut().unwrap().remove("name");
        let mut list = json!({"cniVersion": "1.1.0", "name": name, "plugins": [plugin]});
        change(&mut list);
        std::fs::write(self.net_d("10-net.conflist"), list.to_string()).unwrap();
    }

    /// A plugin that does what a shell is told.
    pub(super) fn plugin(&self, name: &str, does: &str) {
        let path = self.node().host.scratch().path().join("bin").join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{does}\n")).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    }

    /// A command on the node, with manx and plugins where it looks for them.
    pub(super) fn command(&self, program: &str, args: &[&str]) -> Finished {
        let bin = self.node().host.scratch().path().join("bin");
        let beside = Path::new(MANX).parent().unwrap().to_owned();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path =
            std::env::join_paths([bin.clone()].into_iter().chain(std::env::split_paths(&path)));
        let mut command = Command::new(program);
        command.args(args).env("PATH", path.unwrap()).env("MANX_ROOT", &self.root);
        command.env("CNI_PATH", std::env::join_paths([bin, plugin_dir(), beside]).unwrap());
        self.node().host.enter(|| run(command, &Stdin::Null, DEADLINE))
    }

    /// As somebody types what was printed.
    #[track_caller]
    pub(super) fn sh(&self, command: &str) {
        let done = self.command("sh", &["-c", command]);
        assert!(done.status == 0, "{command}: {done:?}");
    }

    #[track_caller]
    pub(super) fn ip(&self, lines: &str) {
        batch(&self.node().host, lines);
    }

    pub(super) fn doctor(&self, args: &[&str]) -> Finished {
        let look = || self.command(MANX, &[&["doctor"], args].concat());
        if args.contains(&"--bundle") { look() } else { besides_load(look) }
    }

    #[track_caller]
    pub(super) fn checks(&self, args: &[&str]) -> Vec<Value> {
        listed(&self.doctor(args))
    }

    /// The first line, and how long it takes where the machine has no other work.
    pub(super) fn first_line(&self) -> (String, Duration) {
        let told = self.command(MANX, &["doctor"]);
        (told.stdout.lines().next().unwrap_or_default().to_owned(), told.alone)
    }

    pub(super) fn eventually_well(&self, id: &str) -> bool {
        eventually(DEADLINE, || {
            self.checks(&["--json", "--only", id]).iter().all(|check| check["status"] != "found")
        })
    }

    pub(super) fn bundle(&self) -> Value {
        let text = self.command(MANX, &["bundle", "--plain", "-"]).ok();
        serde_json::from_str(&text).unwrap()
    }

    #[track_caller]
    pub(super) fn of_bundle(&self, bundle: &Value, args: &[&str]) -> Vec<Value> {
        let file = self.node().host.scratch().file("altered.json", bundle.to_string());
        listed(&self.doctor(&[args, &["--bundle", file.to_str().unwrap()]].concat()))
    }

    /// The pod's address.
    pub(super) fn address(&self) -> String {
        bare(&addresses(&self.pod)[0]).to_owned()
    }

    /// The host's end of the pod's link.
    pub(super) fn link(&self) -> String {
        self.node().host.links().into_iter().find(|name| name.starts_with("cali")).unwrap()
    }

    pub(super) fn leases(&self) -> PathBuf {
        self.root.join("var/lib/cni/networks/net")
    }

    /// Writes the list of peers with a change.
    pub(super) fn change_peers(&self, change: impl FnOnce(&mut Value)) {
        let path = self.node().peers_file();
        let mut peers: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        change(&mut peers);
        self.node().write_peers(&peers.to_string());
    }
}

#[track_caller]
fn listed(told: &Finished) -> Vec<Value> {
    let document: Value = serde_json::from_str(&told.stdout).unwrap_or_else(|_| panic!("{told:?}"));
    document["checks"].as_array().unwrap().clone()
}
