// SPDX-License-Identifier: Apache-2.0
//! One containerd with directories of its own, and its CRI as crictl speaks it.
//!
//! Knows pods and containers; knows nothing of networks but where the configuration lies.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Map, Value, json};

use crate::enclosure::{PATIENCE, cgroup, image, missing_tool, output, until};

/// The name of containerd's configuration in its directory.
const CONFIGURATION: &str = "containerd.toml";

/// The command of a pod that only has to be there.
pub(crate) const SLEEP: [&str; 2] = ["/bin/sleep", "86400"];

/// Which containerd.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Release {
    /// That of the distribution, in PATH.
    Distribution,
    /// That which `hack/setup` builds, in a directory of its own.
    Newest,
}

impl Release {
    /// The directory of its programs, where they are not in PATH.
    fn programs(self) -> Option<PathBuf> {
        match self {
            Self::Distribution => None,
            Self::Newest => std::env::var_os("MANX_TEST_CONTAINERD").map(PathBuf::from),
        }
    }

    /// What it lacks on this machine, in words.
    pub(crate) fn missing(self) -> Option<String> {
        if self == Self::Newest && self.programs().is_none() {
            return Some("MANX_TEST_CONTAINERD is not set (hack/setup --print-env)".to_owned());
        }
        missing_tool(&["containerd", "crictl", "ctr"])
    }
}

/// A running containerd. Ends with this value.
pub(crate) struct Runtime {
    containerd: Child,
    release: Release,
    directory: PathBuf,
    state: PathBuf,
}

/// A pod sandbox with one container in it.
pub(crate) struct Pod {
    pub(crate) sandbox: String,
    pub(crate) container: String,
}

/// What a pod is made from.
#[derive(Default)]
pub(crate) struct PodSpec<'a> {
    pub(crate) name: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) command: &'a [&'a str],
    /// Pairs of node port and container port, TCP.
    pub(crate) ports: &'a [(u16, u16)],
    /// Of the pod, which a plugin gets that declares the capability.
    pub(crate) annotations: &'a [(&'a str, &'a str)],
}

impl Runtime {
    /// Starts containerd with everything it writes in `directory`, the plugins of `plugins` and
    /// these network configurations, of which a pod gets all. `state` is passed on to the plugins as
    /// MANX_ROOT.
    pub(crate) fn start(
        release: Release,
        directory: &Path,
        plugins: &Path,
        conflists: &[Value],
        state: &Path,
    ) -> Self {
        Self::start_by(release, directory, plugins, conflists, state, "")
    }

    /// The same with more lines in the part of its configuration that is about networks.
    pub(crate) fn start_by(
        release: Release,
        directory: &Path,
        plugins: &Path,
        conflists: &[Value],
        state: &Path,
        more: &str,
    ) -> Self {
        let networks = directory.join("net.d");
        fs::create_dir_all(&networks).expect("a directory for network configurations");
        for (number, conflist) in (10..).zip(conflists) {
            let file = networks.join(format!("{number}-test.conflist"));
            fs::write(file, conflist.to_string()).expect("a conflist");
        }
        let config = directory.join(CONFIGURATION);
        let text = configuration(directory, plugins, &networks) + more;
        fs::write(config, text).expect("a configuration");
        let archive = image::write(directory);

        let runtime = Self {
            containerd: spawn(release, directory, state),
            release,
            directory: directory.to_owned(),
            state: state.to_owned(),
        };
        let crictl = json!({
            "runtime-endpoint": format!("unix://{}", runtime.socket()),
            "image-endpoint": format!("unix://{}", runtime.socket()),
            "timeout": PATIENCE.as_secs(),
        });
        fs::write(directory.join("crictl.yaml"), crictl.to_string()).expect("crictl's settings");

        until("containerd answers", || runtime.ctr(&["version"]).output().is_ok_and(succeeded));
        let archive = archive.display().to_string();
        output(&mut runtime.ctr(&["--namespace", "k8s.io", "images", "import", &archive]));
        runtime
    }

    /// Tells it of the node's podCIDRs, as kubelet does.
    pub(crate) fn give_pod_cidrs(&self, pod_cidrs: &str) {
        self.crictl(&["update-runtime-config", "--pod-cidr", pod_cidrs]);
    }

    /// Waits until pods can be made.
    pub(crate) fn until_ready(&self) {
        until("CRI calls the network ready", || self.network_ready());
    }

    /// Kills containerd, as a crash would, and starts it again. Pods live on meanwhile.
    pub(crate) fn crash_and_restart(&mut self) {
        self.containerd.kill().expect("containerd was running");
        self.containerd.wait().expect("a killed process ends");
        self.containerd = spawn(self.release, &self.directory, &self.state);
        until("CRI is back", || self.network_ready());
    }

    /// Whether CRI answers and calls the network ready.
    pub(crate) fn network_ready(&self) -> bool {
        let Ok(text) = self.try_crictl(&["info"]) else { return false };
        let info: Value = serde_json::from_str(&text).expect("crictl info prints JSON");
        let conditions = info["status"]["conditions"].as_array().expect("CRI has conditions");
        let ready = |condition: &Value| {
            condition["type"] == "NetworkReady" && condition["status"] == json!(true)
        };
        conditions.iter().any(ready)
    }

    /// Makes a sandbox and starts a container in it.
    pub(crate) fn run(&self, spec: &PodSpec) -> Pod {
        let sandbox_file = self.write_sandbox(spec);
        let container_file = self.write(
            &format!("{}.container", spec.name),
            &json!({
                "metadata": {"name": "main", "attempt": 0},
                "image": {"image": image::NAME},
                "command": spec.command,
                "log_path": "main.log",
                "linux": {},
            }),
        );
        let sandbox = self.crictl(&["runp", &sandbox_file]).trim().to_owned();
        let created = self.crictl(&["create", &sandbox, &container_file, &sandbox_file]);
        let container = created.trim().to_owned();
        self.crictl(&["start", &container]);
        Pod { sandbox, container }
    }

    /// Tries to make a sandbox that must not come to be, and returns what CRI says about it.
    pub(crate) fn refusal(&self, spec: &PodSpec) -> String {
        match self.try_crictl(&["runp", &self.write_sandbox(spec)]) {
            Ok(sandbox) => panic!("{} was made: {sandbox}", spec.name),
            Err(why) => why,
        }
    }

    /// What CRI reports as the pod's address.
    pub(crate) fn address(&self, pod: &Pod) -> String {
        let status = self.crictl_json(&["inspectp", &pod.sandbox]);
        let address = status["status"]["network"]["ip"].as_str();
        address.unwrap_or_else(|| panic!("CRI reports no address: {status}")).to_owned()
    }

    /// Runs a command in the pod's container, and returns its stdout.
    pub(crate) fn exec(&self, pod: &Pod, command: &[&str]) -> String {
        let mut arguments = vec!["exec", "--sync", &pod.container];
        arguments.extend(command);
        self.crictl(&arguments)
    }

    /// Waits until a pod gets an answer from an address.
    pub(crate) fn pings(&self, pod: &Pod, address: &str) {
        let ping = ["exec", "--sync", &pod.container, "ping", "-c", "1", "-w", "5", address];
        until(&format!("the pod reaches {address}"), || self.try_crictl(&ping).is_ok());
    }

    /// Stops and removes the sandbox and what is in it.
    pub(crate) fn remove(&self, pod: &Pod) {
        self.crictl(&["stopp", &pod.sandbox]);
        self.crictl(&["rmp", &pod.sandbox]);
    }

    /// All that containerd has logged so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).expect("containerd's log")
    }

    /// Writes CRI's request for a sandbox, and returns the path.
    fn write_sandbox(&self, spec: &PodSpec) -> String {
        let port = |(host, container): &(u16, u16)| json!({"protocol": 0, "host_port": host, "container_port": container});
        let ports: Vec<Value> = spec.ports.iter().map(port).collect();
        let annotations: Map<String, Value> =
            spec.annotations.iter().map(|(name, text)| ((*name).into(), (*text).into())).collect();
        let sandbox = json!({
            "annotations": annotations,
            "metadata": {
                "name": spec.name,
                "namespace": spec.namespace,
                "uid": format!("uid-of-{}", spec.name),
                "attempt": 0,
            },
            "log_directory": self.directory.join("pods").join(spec.name),
            "port_mappings": ports,
            "linux": {"cgroup_parent": cgroup()},
        });
        self.write(&format!("{}.sandbox", spec.name), &sandbox)
    }

    fn write(&self, name: &str, content: &Value) -> String {
        let file = self.directory.join(format!("{name}.json"));
        fs::write(&file, content.to_string()).expect("a request for crictl");
        file.display().to_string()
    }

    fn crictl_json(&self, arguments: &[&str]) -> Value {
        let text = self.crictl(arguments);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("crictl: {error}: {text}"))
    }

    fn crictl(&self, arguments: &[&str]) -> String {
        self.try_crictl(arguments).unwrap_or_else(|why| panic!("crictl {arguments:?}: {why}"))
    }

    /// Calls crictl, with a limit of its own in case a call hangs in a plugin. Returns its stdout,
    /// or all that it said if it failed.
    fn try_crictl(&self, arguments: &[&str]) -> Result<String, String> {
        let seconds = PATIENCE.as_secs().to_string();
        let done = Command::new("timeout")
            .args([&seconds, "crictl", "--config"])
            .arg(self.directory.join("crictl.yaml"))
            .args(arguments)
            .output()
            .expect("timeout starts");
        let stdout = String::from_utf8_lossy(&done.stdout).into_owned();
        if done.status.success() {
            return Ok(stdout);
        }
        Err(format!("{}\n{stdout}{}", done.status, String::from_utf8_lossy(&done.stderr)))
    }

    fn ctr(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("ctr");
        command.args(["--address", &self.socket()]).args(arguments);
        command
    }

    fn socket(&self) -> String {
        self.directory.join("containerd.sock").display().to_string()
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read(self.directory.join("log")).unwrap_or_default();
            let _ = std::io::Write::write_all(&mut std::io::stderr(), &log);
        }
        let id = i32::try_from(self.containerd.id()).expect("process ids are small");
        // It may have ended by itself; then there is nothing to do. Should it ignore this, it is
        // killed with its namespace.
        let _ = kill(Pid::from_raw(id), Signal::SIGTERM);
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline && matches!(self.containerd.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Starts containerd on the configuration in `directory`, where its log goes as well.
fn spawn(release: Release, directory: &Path, state: &Path) -> Child {
    let log = File::options().create(true).append(true).open(directory.join("log"));
    let log = log.expect("a log file");
    // It looks for its shim in PATH, where that of another release must not be first.
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = release.programs().into_iter().chain(std::env::split_paths(&path));
    let program = release.programs().map_or("containerd".into(), |it| it.join("containerd"));
    Command::new(program)
        .env("PATH", std::env::join_paths(path).expect("directories of PATH"))
        .arg("--config")
        .arg(directory.join(CONFIGURATION))
        .env("MANX_ROOT", state)
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a second handle of the log"))
        .stderr(log)
        .spawn()
        .expect("containerd starts")
}

fn succeeded(output: std::process::Output) -> bool {
    output.status.success()
}

/// containerd's configuration. Two settings are for machines where root is not all-powerful or
/// where the runtime's defaults would outlive the test: without CAP_SYS_RESOURCE nobody can lower
/// a sandbox's OOM score, and a loaded AppArmor profile belongs to the whole kernel. In the form that
/// 1.6 reads, which later releases translate.
fn configuration(directory: &Path, plugins: &Path, networks: &Path) -> String {
    let directory = directory.display();
    let plugins = plugins.display();
    let networks = networks.display();
    let image = image::NAME;
    format!(
        r#"version = 2
root = "{directory}/root"
state = "{directory}/state"

[grpc]
address = "{directory}/containerd.sock"

[plugins."io.containerd.grpc.v1.cri"]
disable_apparmor = true
restrict_oom_score_adj = true
sandbox_image = "{image}"

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{plugins}"
conf_dir = "{networks}"
max_conf_num = 0
"#
    )
}
