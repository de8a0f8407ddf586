// SPDX-License-Identifier: Apache-2.0
//! The plugin under a real runtime library: cnitool, where it is installed.

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{DEADLINE, Host, Pod, Reply, Stdin, run};
use crate::rule::Stop;
use crate::suite::{NETWORK, Node, Suite};

/// Runs "$@" while `/var/lib/cni`, where libcni keeps its results, is the
/// directory $0. The mounts go with the mount namespace.
const WITH_OWN_CACHE: &str = r#"
mount -t tmpfs -o mode=755 none /mnt && mkdir /mnt/cni && mount --bind "$0" /mnt/cni &&
mount --rbind /mnt /var/lib && exec "$@""#;

/// cnitool with the network of a node.
#[derive(Clone, Debug)]
pub struct Cnitool {
    program: PathBuf,
    host: Host,
    conf: Value,
    path: String,
}

impl Cnitool {
    /// Ends the test as skipped where cnitool is not among the delegates.
    pub fn new(suite: &Suite, node: &Node) -> Result<Self, Stop> {
        let on_path = || {
            let dirs = std::env::var_os("PATH").unwrap_or_default();
            std::env::split_paths(&dirs).map(|dir| dir.join("cnitool")).find(|path| path.is_file())
        };
        let program = suite.find("cnitool").or_else(on_path);
        let program = program.ok_or_else(|| Stop::Skip("cnitool is not installed".into()))?;
        let beside = suite.binary.parent().map(PathBuf::from);
        let scripts = node.host.scratch().dir("bin");
        let dirs = [scripts].into_iter().chain(beside).chain(suite.delegates.clone());
        let path = std::env::join_paths(dirs).expect("no colon in a plugin directory");
        Ok(Self {
            program,
            host: node.host.clone(),
            conf: node.plugin.conf.clone(),
            path: path.to_string_lossy().into_owned(),
        })
    }

    /// The same with another plugin configuration.
    pub fn conf(mut self, conf: Value) -> Self {
        self.conf = conf;
        self
    }

    /// Writes a list that holds the plugin alone, with these keys besides.
    pub fn list(self, keys: &Value) -> Self {
        let mut plugin = self.conf.clone();
        for key in ["cniVersion", "name"] {
            plugin.as_object_mut().expect("an object").remove(key);
        }
        let mut list = json!({"cniVersion": "1.1.0", "name": NETWORK, "plugins": [plugin]});
        for (key, value) in keys.as_object().into_iter().flatten() {
            list[key] = value.clone();
        }
        self.host.scratch().dir("net.d");
        self.host.scratch().file("net.d/10-test.conflist", list.to_string());
        self
    }

    /// Runs a verb (`add`, `check`, `del`).
    pub fn run(&self, verb: &str, pod: &Pod, env: &[(&str, &str)]) -> Reply {
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", WITH_OWN_CACHE]);
        command.arg(self.host.scratch().dir("libcni"));
        command.arg(&self.program).args([verb, NETWORK]).arg(pod.netns.path());
        let root = self.host.scratch().dir("root");
        command.env("NETCONFPATH", self.host.scratch().dir("net.d"));
        command.env("CNI_PATH", &self.path).env("MANX_ROOT", root);
        command.env("CNI_IFNAME", &pod.ifname).envs(env.iter().copied());
        let done = self.host.enter(|| run(command, &Stdin::Null, DEADLINE));
        Reply::new(format!("cnitool {verb}"), done)
    }
}
