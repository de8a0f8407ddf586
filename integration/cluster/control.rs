// SPDX-License-Identifier: Apache-2.0
//! A real Kubernetes API server, with an etcd that serves streaming lists, and kubectl to ask it.
//!
//! It is started in the network namespace of the caller, which has a PID namespace of its own: what
//! this cannot end any more ends with that. Knows no test; other test crates include it by path.

// Each crate uses its own part of this module.
#![allow(dead_code)]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// What starts it, and writes certificates and kubeconfigs.
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/hack/cluster-control");

/// Its programs, where they are.
fn programs() -> Option<PathBuf> {
    std::env::var_os("MANX_TEST_KUBERNETES").map(PathBuf::from)
}

/// What it lacks on this machine, in words.
pub(crate) fn missing() -> Option<String> {
    let Some(programs) = programs() else {
        return Some("MANX_TEST_KUBERNETES is not set (hack/setup --print-env)".to_owned());
    };
    let absent = ["etcd", "kube-apiserver", "kubectl"].map(|name| programs.join(name));
    let absent = absent.iter().find(|program| !program.is_file())?;
    Some(format!("{} is not there (hack/setup provides it)", absent.display()))
}

/// A running API server. Ends with this value.
pub(crate) struct Control {
    process: Child,
    directory: PathBuf,
    address: Ipv4Addr,
}

impl Control {
    /// Starts it on an address of this network namespace with all that it writes in `directory`.
    /// In one that an earlier one has left it is the same cluster as before.
    pub(crate) fn start(directory: &Path, address: Ipv4Addr) -> Self {
        let mut process = Command::new(SCRIPT)
            .arg(directory)
            .arg(address.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the script starts");
        let mut line = String::new();
        let stdout = process.stdout.take().expect("stdout is a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("a line or the end");
        assert_eq!(line, "ready\n", "the API server does not start; see above");
        Self { process, directory: directory.to_owned(), address }
    }

    /// Where it is asked.
    pub(crate) fn address(&self) -> String {
        format!("https://{}:6443", self.address)
    }

    /// The certificate of the authority that the API server's own is signed by.
    pub(crate) fn authority(&self) -> PathBuf {
        self.directory.join("pki/ca.crt")
    }

    /// kubectl with every right.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> Command {
        let programs = programs().expect("checked by missing()");
        let mut command = Command::new(programs.join("kubectl"));
        command.arg("--kubeconfig").arg(self.directory.join("admin.conf"));
        // What it finds out of the API it keeps there.
        command.arg("--cache-dir").arg(self.directory.join("kubectl")).args(arguments);
        command
    }

    /// Runs kubectl with `object` as its input, and returns all that it said.
    pub(crate) fn tell(&self, arguments: &[&str], object: &str) -> Output {
        let mut command = self.kubectl(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("kubectl starts");
        let mut pipe = child.stdin.take().expect("stdin is a pipe");
        pipe.write_all(object.as_bytes()).expect("kubectl reads");
        drop(pipe);
        child.wait_with_output().expect("kubectl ends")
    }

    /// Makes an object, or several in a list, and returns it as it is then.
    pub(crate) fn create(&self, object: &Value) -> Value {
        let arguments = ["create", "--filename=-", "--output=json"];
        let done = self.tell(&arguments, &object.to_string());
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        serde_json::from_slice(&done.stdout).expect("kubectl prints JSON")
    }

    /// A token of a ServiceAccount, as a pod of it gets.
    pub(crate) fn token(&self, namespace: &str, account: &str) -> String {
        let mut command = self.kubectl(&["--namespace", namespace, "create", "token", account]);
        let done = command.output().expect("kubectl starts");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).expect("a token is text").trim().to_owned()
    }

    /// What a program of it has said.
    pub(crate) fn log(&self, program: &str) -> String {
        fs::read_to_string(self.directory.join("log").join(program)).unwrap_or_default()
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // The script ends its own on this signal.
        let _ = kill(Pid::from_raw(self.process.id().cast_signed()), Signal::SIGTERM);
        let _ = self.process.wait();
    }
}
