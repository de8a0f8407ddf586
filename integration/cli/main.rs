// SPDX-License-Identifier: Apache-2.0
//! The command line as an operator has it: the real binary, on pods that it
//! attached itself, in namespaces that play the node.

// Outside of #[test] functions clippy sees no test code, yet all of this crate is.
#![allow(missing_docs)]
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

#[path = "../harness/mod.rs"]
mod harness;

mod bundle;
mod capture;
mod dns;
mod gc;
mod idle;
mod install;
mod peers;
mod pods;
mod revision;
mod uninstall;
mod unreadable;

// README and docs/ beside the command line.
mod pages;

use std::{
    fs,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use harness::{DEADLINE, Finished, Host, Plugin, Pod, Stdin, plugin_dir, run};

const MANX: &str = env!("CARGO_BIN_EXE_manx");

/// A node with the plugin configured, whose state and leases lie in its scratch.
struct Node {
    host: Host,
    plugin: Plugin,
}

impl Node {
    fn new() -> Self {
        let host = Host::new();
        let leases = host.scratch().dir("leases");
        let plugin = Plugin::new(&host, MANX).config(json!({
            "cniVersion": "1.1.0", "name": "net", "type": "manx",
            "ipam": {"type": "host-local", "dataDir": leases,
                     "ranges": [[{"subnet": "10.9.0.0/24"}], [{"subnet": "fd00:9::/64"}]]},
        }));
        Self { host, plugin }
    }

    /// Attaches a pod of the default Kubernetes namespace.
    fn pod(&self, name: &str) -> Pod {
        let pod = Pod::new(name).kubernetes("default", name);
        self.plugin.add(&pod).ok();
        pod
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let (first, rest) = arguments.split_first().unwrap();
        let mut command = Command::new(MANX);
        command.arg(first).arg("--root").arg(self.host.scratch().dir("root")).args(rest);
        command.env("CNI_PATH", plugin_dir());
        command
    }

    fn manx(&self, arguments: &[&str]) -> Finished {
        self.with_stdin(arguments, &Stdin::Null)
    }

    fn with_stdin(&self, arguments: &[&str], stdin: &Stdin) -> Finished {
        self.host.enter(|| run(self.command(arguments), stdin, DEADLINE))
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.manx(arguments).ok()).unwrap()
    }

    fn pods(&self) -> Vec<Value> {
        self.json(&["pods", "--json"])["pods"].as_array().unwrap().clone()
    }

    fn leases(&self) -> usize {
        let files = fs::read_dir(self.host.scratch().dir("leases").join("net")).unwrap().flatten();
        let parses = |name: String| name.parse::<std::net::IpAddr>().is_ok();
        files.filter(|file| parses(file.file_name().into_string().unwrap())).count()
    }
}

#[test]
fn without_arguments_it_is_a_plugin_or_says_what_it_is() {
    let start = |verb: Option<&str>| {
        let mut command = Command::new(MANX);
        command.env_clear().envs(verb.map(|verb| ("CNI_COMMAND", verb)));
        run(command, &Stdin::Null, DEADLINE)
    };
    for verb in [None, Some("")] {
        let said = start(verb);
        assert_eq!((said.status, said.stdout.as_str()), (0, ""));
        assert!(said.stderr.contains("manx --help") && said.stderr.contains("1.1.0"), "{said:?}");
    }
    assert!(start(Some("VERSION")).ok().contains("supportedVersions"));
}

#[test]
fn a_reader_that_left_is_no_failure() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut child = Command::new(MANX)
        .args(["help"])
        .stdout(Stdio::from(writer))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    assert!(child.wait().unwrap().success());
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = Command::new(MANX).arg("help").stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(!output.stderr.is_empty());
}
