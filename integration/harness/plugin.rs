// SPDX-License-Identifier: Apache-2.0
//! A plugin binary, run as a runtime runs it.
//!
//! The caller decides every variable of the environment and every byte of
//! standard input; the defaults are what a well-behaved runtime sends.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::{DEADLINE, Finished, Host, Netns, Stdin, run};

/// The directory of the reference plugins, as `hack/setup` exports it.
pub fn plugin_dir() -> PathBuf {
    std::env::var_os("CNI_PLUGIN_DIR")
        .map(PathBuf::from)
        .filter(|dir| dir.is_dir())
        .unwrap_or_else(|| panic!("CNI_PLUGIN_DIR names no directory: run hack/setup"))
}

/// A container: an id, a namespace and the name of its interface.
#[derive(Clone, Debug)]
pub struct Pod {
    /// CNI_CONTAINERID.
    pub id: String,
    /// The namespace.
    pub netns: Netns,
    /// CNI_IFNAME.
    pub ifname: String,
    /// CNI_ARGS, if any.
    pub args: Option<String>,
}

impl Pod {
    /// A new namespace under an id that starts with `name` and is unique.
    pub fn new(name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let id = format!("{name}{}x{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Self { id, netns: Netns::new(), ifname: "eth0".into(), args: None }
    }

    /// The same container with another interface name.
    pub fn interface(&self, ifname: &str) -> Self {
        Self { ifname: ifname.into(), ..self.clone() }
    }

    /// The same container with CNI_ARGS as a Kubernetes runtime sends them.
    pub fn kubernetes(&self, namespace: &str, name: &str) -> Self {
        let args = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name};\
             K8S_POD_INFRA_CONTAINER_ID={}",
            self.id
        );
        Self { args: Some(args), ..self.clone() }
    }
}

/// A plugin binary with the configuration of one network.
#[derive(Clone, Debug)]
pub struct Plugin {
    host: Host,
    binary: PathBuf,
    path: Vec<PathBuf>,
    env: BTreeMap<String, String>,
    /// What goes to standard input; `cni.dev/…` and `prevResult` are added by
    /// the verbs that carry them.
    pub conf: Value,
}

impl Plugin {
    /// A plugin that runs on `host`, stores below the host's directory
    /// (MANX_ROOT) and finds delegates in the reference plugins' directory, if
    /// there is one, and beside itself.
    pub fn new(host: &Host, binary: impl AsRef<Path>) -> Self {
        let binary = binary.as_ref().to_path_buf();
        let beside = binary.parent().map(Path::to_path_buf);
        let reference = std::env::var_os("CNI_PLUGIN_DIR").map(PathBuf::from);
        let root = host.scratch().dir("root").display().to_string();
        Self {
            host: host.clone(),
            path: reference.into_iter().chain(beside).collect(),
            binary,
            env: BTreeMap::from([("MANX_ROOT".into(), root)]),
            conf: json!({}),
        }
    }

    /// The same plugin with this network configuration.
    #[must_use]
    pub fn config(mut self, conf: Value) -> Self {
        self.conf = conf;
        self
    }

    /// The same plugin with one key of the configuration changed; `Null`
    /// removes it.
    #[must_use]
    pub fn with(mut self, key: &str, value: Value) -> Self {
        let conf = self.conf.as_object_mut().expect("the configuration is an object");
        if value.is_null() {
            conf.remove(key);
        } else {
            conf.insert(key.into(), value);
        }
        self
    }

    /// The same plugin with this CNI_PATH.
    #[must_use]
    pub fn path(mut self, path: impl IntoIterator<Item = PathBuf>) -> Self {
        self.path = path.into_iter().collect();
        self
    }

    /// The same plugin with one more variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// The node that it runs on.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The binary.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// ADD.
    pub fn add(&self, pod: &Pod) -> Reply {
        self.call("ADD").pod(pod).run()
    }

    /// ADD behind another plugin, whose result is `previous`.
    pub fn add_after(&self, pod: &Pod, previous: &Value) -> Reply {
        self.call("ADD").pod(pod).key("prevResult", previous.clone()).run()
    }

    /// DEL without a previous result.
    pub fn del(&self, pod: &Pod) -> Reply {
        self.call("DEL").pod(pod).run()
    }

    /// CHECK of what ADD answered.
    pub fn check(&self, pod: &Pod, previous: &Value) -> Reply {
        self.call("CHECK").pod(pod).key("prevResult", previous.clone()).run()
    }

    /// GC with these attachments valid.
    pub fn gc(&self, valid: &[&Pod]) -> Reply {
        let valid: Vec<Value> =
            valid.iter().map(|p| json!({"containerID": p.id, "ifname": p.ifname})).collect();
        self.call("GC").key("cni.dev/valid-attachments", valid.into()).run()
    }

    /// STATUS.
    pub fn status(&self) -> Reply {
        self.call("STATUS").run()
    }

    /// VERSION, asked as libcni asks it.
    pub fn version(&self) -> Reply {
        self.call("VERSION").text(r#"{"cniVersion":"1.1.0"}"#).run()
    }

    /// Any verb, to be refined before it runs.
    pub fn call(&self, verb: &str) -> Call {
        let path = std::env::join_paths(&self.path).expect("no colon in a plugin directory");
        let mut env = self.env.clone();
        env.insert("PATH".into(), std::env::var("PATH").unwrap_or_default());
        env.insert("CNI_COMMAND".into(), verb.into());
        env.insert("CNI_PATH".into(), path.to_string_lossy().into_owned());
        Call {
            host: self.host.clone(),
            binary: self.binary.clone(),
            env,
            conf: self.conf.clone(),
            stdin: None,
            deadline: DEADLINE,
        }
    }
}

/// One run of a plugin, before it starts.
#[derive(Clone, Debug)]
pub struct Call {
    host: Host,
    binary: PathBuf,
    env: BTreeMap<String, String>,
    conf: Value,
    stdin: Option<Stdin>,
    deadline: Duration,
}

impl Call {
    /// Sets CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME and CNI_ARGS.
    #[must_use]
    pub fn pod(self, pod: &Pod) -> Self {
        let call = self
            .env("CNI_CONTAINERID", &pod.id)
            .env("CNI_NETNS", &pod.netns.path().display().to_string())
            .env("CNI_IFNAME", &pod.ifname);
        match &pod.args {
            Some(args) => call.env("CNI_ARGS", args),
            None => call,
        }
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// Removes a variable.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.env.remove(name);
        self
    }

    /// Sets a key of the configuration for this run.
    #[must_use]
    pub fn key(mut self, key: &str, value: Value) -> Self {
        self.conf.as_object_mut().expect("an object").insert(key.into(), value);
        self
    }

    /// Sends this text instead of the configuration.
    #[must_use]
    pub fn text(self, text: &str) -> Self {
        self.stdin(Stdin::Bytes(text.as_bytes().to_vec()))
    }

    /// Sends this instead of the configuration.
    #[must_use]
    pub fn stdin(mut self, stdin: Stdin) -> Self {
        self.stdin = Some(stdin);
        self
    }

    /// Ends the run, and with it the test's patience, after `deadline`.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// The command as it would run, for a test that starts and ends it itself.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command.env_clear().envs(&self.env);
        command
    }

    /// The configuration as it would be sent.
    pub fn conf(&self) -> &Value {
        &self.conf
    }

    /// Runs the plugin in the host's namespace, to its end.
    pub fn run(self) -> Reply {
        let stdin =
            self.stdin.clone().unwrap_or_else(|| Stdin::Bytes(self.conf.to_string().into()));
        let verb = self.env.get("CNI_COMMAND").cloned().unwrap_or_default();
        let finished = self.host.enter(|| run(self.command(), &stdin, self.deadline));
        Reply::new(verb, finished)
    }
}

/// What a plugin answered.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The verb that was asked.
    pub verb: String,
    /// The exit status; 128 + n for a death by signal n.
    pub status: i32,
    /// All of standard output.
    pub stdout: String,
    /// All of standard error.
    pub stderr: String,
    /// Standard output, if it is exactly one JSON document.
    pub json: Option<Value>,
    /// From start to exit.
    pub took: Duration,
    /// The deadline passed and the plugin was killed.
    pub timed_out: bool,
}

impl Reply {
    /// The answer in what a program printed.
    pub fn new(verb: String, finished: Finished) -> Self {
        let Finished { status, stdout, stderr, took, timed_out, .. } = finished;
        let json = serde_json::from_str(&stdout).ok();
        Self { verb, status, stdout, stderr, json, took, timed_out }
    }

    /// Whether the plugin says that it succeeded.
    pub fn succeeded(&self) -> bool {
        self.status == 0 && !self.timed_out
    }

    /// The document on stdout (`Null` where there is none) of a verb that must
    /// succeed.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert!(self.succeeded(), "{} failed: {self:#?}", self.verb);
        assert!(self.json.is_some() || self.stdout.is_empty(), "not one JSON document: {self:#?}");
        self.json.unwrap_or_default()
    }

    /// The error object of a verb that must fail.
    #[track_caller]
    pub fn error(self) -> Value {
        assert!(self.status != 0 && !self.timed_out, "{} did not fail: {self:#?}", self.verb);
        self.json.clone().unwrap_or_else(|| panic!("no error object: {self:#?}"))
    }

    /// The code of the error object, if there is one.
    pub fn code(&self) -> Option<u64> {
        self.json.as_ref()?["code"].as_u64()
    }
}
