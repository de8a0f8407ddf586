// SPDX-License-Identifier: Apache-2.0
//! podman with directories of its own. Knows containers; knows nothing of networks but where their
//! configuration lies.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::enclosure::image;
use crate::enclosure::{PATIENCE, cgroup, find, missing_tool, output, until};

/// One podman and all that it stores.
pub(crate) struct Podman {
    program: PathBuf,
    directory: PathBuf,
    state: PathBuf,
}

/// Where `hack/setup` has unpacked it, if it is not installed.
fn unpacked() -> Option<PathBuf> {
    std::env::var_os("MANX_TEST_PODMAN").map(PathBuf::from)
}

/// One of podman's programs.
fn program(name: &str) -> Option<PathBuf> {
    unpacked().map(|root| root.join("usr/bin").join(name)).or_else(|| find(name))
}

/// What podman lacks on this machine, in words.
pub(crate) fn missing() -> Option<String> {
    match unpacked() {
        Some(_) => None,
        None => missing_tool(&["podman", "conmon"]),
    }
}

/// The directories of the libraries that came with podman, as the dynamic linker wants them.
fn libraries() -> String {
    let lib = unpacked().map(|root| root.join("usr/lib"));
    let directories = lib.iter().flat_map(fs::read_dir).flatten().flatten();
    let directories =
        directories.filter(|entry| entry.file_name().to_string_lossy().contains("-linux-"));
    directories.map(|entry| entry.path().display().to_string()).collect::<Vec<_>>().join(":")
}

impl Podman {
    /// podman with everything it writes in `directory`, the plugins of `plugins` and these networks.
    /// `state` is passed on to the plugins as MANX_ROOT.
    pub(crate) fn new(directory: &Path, plugins: &Path, conflists: &[Value], state: &Path) -> Self {
        let networks = directory.join("net.d");
        // Whether an image may be used is asked of a file in the home directory.
        let settings = directory.join("home/.config/containers");
        for directory in [&networks, &settings] {
            fs::create_dir_all(directory).expect("a directory in the enclosure");
        }
        let policy = json!({"default": [{"type": "insecureAcceptAnything"}]});
        fs::write(settings.join("policy.json"), policy.to_string()).expect("a policy");
        for (number, conflist) in (10..).zip(conflists) {
            let file = networks.join(format!("{number}-test.conflist"));
            fs::write(file, conflist.to_string()).expect("a conflist");
        }
        let podman = Self {
            program: program("podman").expect("looked for before"),
            directory: directory.to_owned(),
            state: state.to_owned(),
        };
        podman.configure(plugins, &networks);
        let backend = podman.ok(&["info", "--format", "{{.Host.NetworkBackend}}"]);
        assert_eq!(backend.trim(), "cni", "this podman has no CNI");
        let archive = image::write(directory).display().to_string();
        podman.ok(&["load", "--input", &archive]);
        podman
    }

    /// Writes podman's settings. What calls it when a container ends gets its environment from them.
    fn configure(&self, plugins: &Path, networks: &Path) {
        let directory = self.directory.display();
        let conmon = program("conmon").expect("looked for before");
        let runc = find("runc").expect("looked for before");
        let (conmon, runc) = (conmon.display(), runc.display());
        let (plugins, networks) = (plugins.display(), networks.display());
        let environment: Vec<String> =
            self.environment().iter().map(|(name, value)| format!("\"{name}={value}\"")).collect();
        let environment = environment.join(", ");
        let containers = format!(
            r#"[network]
network_backend = "cni"
cni_plugin_dirs = ["{plugins}"]
network_config_dir = "{networks}"
default_network = "net0"

[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
conmon_path = ["{conmon}"]
conmon_env_vars = [{environment}]
runtime = "runc"
tmp_dir = "{directory}/tmp"
volume_path = "{directory}/volumes"

[engine.runtimes]
runc = ["{runc}"]

[containers]
apparmor_profile = "unconfined"
seccomp_profile = "unconfined"
"#
        );
        let storage = format!(
            "[storage]\ndriver = \"overlay\"\nrunroot = \"{directory}/runroot\"\n\
             graphroot = \"{directory}/graphroot\"\n"
        );
        for (name, content) in [
            ("containers.conf", &containers),
            ("storage.conf", &storage),
            ("registries.conf", &String::new()),
        ] {
            fs::write(self.directory.join(name), content).expect("a file of settings");
        }
    }

    /// What its processes need to know.
    fn environment(&self) -> Vec<(&'static str, String)> {
        let path = |name: &str| self.directory.join(name).display().to_string();
        vec![
            ("PATH", std::env::var("PATH").expect("PATH is text")),
            ("HOME", path("home")),
            ("LD_LIBRARY_PATH", libraries()),
            ("CONTAINERS_CONF", path("containers.conf")),
            ("CONTAINERS_STORAGE_CONF", path("storage.conf")),
            ("CONTAINERS_REGISTRIES_CONF", path("registries.conf")),
            ("MANX_ROOT", self.state.display().to_string()),
        ]
    }

    /// Starts a container with these options and this command. The limits are as they are, for
    /// podman's own are above what root may have on every machine, and conmon needs no cgroup.
    pub(crate) fn run(&self, name: &str, options: &[&str], command: &[&str]) {
        let parent = cgroup();
        let fixed =
            ["run", "--detach", "--name", name, "--ulimit", "host", "--cgroups", "no-conmon"];
        let cgroup = ["--cgroup-parent", &parent];
        self.ok(
            &[&fixed[..], &cgroup, options, &["--entrypoint", "", image::NAME], command].concat()
        );
    }

    /// Runs a command in a container.
    pub(crate) fn exec(&self, name: &str, command: &[&str]) -> String {
        self.ok(&[&["exec", name][..], command].concat())
    }

    /// Runs a command that ends a container: podman may find it gone before it has told
    /// how the command ended.
    pub(crate) fn last_word(&self, name: &str, command: &[&str]) {
        self.command(&[&["exec", name][..], command].concat()).output().expect("podman starts");
    }

    /// Waits until a container gets an answer from an address.
    pub(crate) fn pings(&self, name: &str, address: &str) {
        let ping = ["exec", name, "ping", "-c", "1", "-w", "5", address];
        until(&format!("{name} reaches {address}"), || {
            self.command(&ping).output().is_ok_and(|done| done.status.success())
        });
    }

    /// What podman tells of a container's attachment to a network.
    pub(crate) fn attachment(&self, name: &str, network: &str) -> Value {
        let told = self.ok(&["inspect", name, "--format", "{{json .NetworkSettings.Networks}}"]);
        let told: Value = serde_json::from_str(&told).expect("podman prints JSON");
        told[network].clone()
    }

    /// Whether the container is known.
    pub(crate) fn knows(&self, name: &str) -> bool {
        self.command(&["container", "exists", name]).status().expect("podman starts").success()
    }

    /// Runs podman, which must succeed. Returns its stdout.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        output(&mut self.command(arguments))
    }

    /// podman, with a limit of its own in case a call hangs in a plugin.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        command.arg(PATIENCE.as_secs().to_string()).arg(&self.program).args(arguments);
        command.envs(self.environment());
        command
    }
}
