// SPDX-License-Identifier: Apache-2.0
//! What a bundle holds for people: files and ends of logs, as they can be read. Nothing of it is
//! needed by a check, so that what cannot be had is told and no failure.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use nix::unistd::gethostname;

use crate::{
    cli::{Args, conflist, version::REVISION},
    cni::printed,
    doctor::RELEASE,
    list::{Gather, Ordered, PushAll},
    node::{
        Snapshot, Support, Text, Versions,
        configured::{AGENTS_PEERS_FILE, Networks},
        version,
    },
    state::{
        Root,
        file::{TEXT_BYTES_MAX, is_anothers, read_end},
        read_text,
    },
    text::{
        moment::timestamp,
        secrets::{redacted, redacted_document},
    },
};

/// So much of the end of each log, in bytes.
const LOG_BYTES_MAX: u64 = 128 << 10;
/// So many logs of the agent's pods, the newest.
const AGENT_LOGS_MAX: usize = 3;
/// So many lines of the journal.
const LINES_MAX: &str = "2000";

/// How long the journal may take.
const JOURNAL_LIMIT: Duration = Duration::from_secs(10);

/// Where an administrator sets parameters of the kernel, and we do.
const SYSCTLS: &str = "/etc/sysctl.d";
/// Where the runtime of a cluster keeps the logs of pods.
const POD_LOGS: &str = "/var/log/pods";
/// How the directory of an agent's pod goes on behind its namespace.
const AGENT_POD: &str = "_manx-agent-";

/// Units that run us.
const OWN_UNITS: [&str; 2] = ["manx-apply.service", "manx-watch.service"];
/// Units that run us for pods, and of which only what is of networks is of interest.
const RUNTIMES: [&str; 6] = [
    "containerd.service",
    "crio.service",
    "docker.service",
    "kubelet.service",
    "k3s.service",
    "k3s-agent.service",
];

/// All of it.
pub(super) fn support(args: &Args, snapshot: &Snapshot) -> Support {
    let root = args.root();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut support = Support {
        taken_at: timestamp(now.as_secs(), now.subsec_millis()),
        host: gethostname().unwrap_or_default().to_string_lossy().into_owned(),
        versions: versions(&root, snapshot),
        ..Support::default()
    };
    let conf = args.value("conf").map(Path::new);
    for path in texts(&root, conf, snapshot) {
        match read_text(&path, TEXT_BYTES_MAX) {
            Ok(text) => support
                .texts
                .push(Text { source: path.display().to_string(), text: redacted_document(&text) }),
            Err(error) => support.leave_out(path.display(), &error),
        }
    }
    for path in logs(&root, conf) {
        support.add_log(path.display().to_string(), end_of(&path));
    }
    let units = OWN_UNITS.join(" and ");
    support.add_log(format!("journal of {units}"), journal(&root, &OWN_UNITS));
    let of_runtimes = journal(&root, &RUNTIMES).map(|text| of_networks(&text));
    support.add_log("journal of the container runtime and kubelet".to_owned(), of_runtimes);
    support
}

impl Support {
    fn leave_out(&mut self, source: impl std::fmt::Display, error: &io::Error) {
        if error.kind() != io::ErrorKind::NotFound {
            self.left_out.push(format!("{source}: {error}"));
        }
    }

    fn add_log(&mut self, source: String, text: io::Result<String>) {
        match text {
            Ok(text) if text.is_empty() => {}
            Ok(text) => self.logs.push(Text { source, text: redacted(&text) }),
            Err(error) => self.leave_out(source, &error),
        }
    }
}

fn versions(root: &Root, snapshot: &Snapshot) -> Versions {
    let system = read_text(&root.path("/etc/os-release"), TEXT_BYTES_MAX).unwrap_or_default();
    let system = system.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    Versions {
        manx: env!("CARGO_PKG_VERSION").to_owned(),
        revision: REVISION.map(str::to_owned),
        installed: version::noted(root).map(|noted| noted.version),
        kernel: snapshot.kernel.sysctls.get(RELEASE).cloned().unwrap_or_default(),
        system: system.unwrap_or_default().trim_matches('"').to_owned(),
        machine: std::env::consts::ARCH.to_owned(),
    }
}

/// The files of configuration, each once.
fn texts(root: &Root, conf: Option<&Path>, snapshot: &Snapshot) -> Vec<PathBuf> {
    let mut all = match conf {
        Some(conf) => vec![conf.to_owned()],
        None => conflist::files(&root.path(conflist::DIRECTORY)).unwrap_or_default(),
    };
    let fabrics = snapshot.networks.iter().filter_map(|network| network.fabric.as_ref());
    all.push_all(fabrics.map(|fabric| fabric.peers_file.clone()));
    all.push(root.path(AGENTS_PEERS_FILE));
    all.push_all(files(&root.path(SYSCTLS), |name| name.contains("manx")));
    let mut seen = BTreeSet::new();
    all.retain(|path| seen.insert(path.clone()));
    all
}

/// The logs that are files, each once.
fn logs(root: &Root, conf: Option<&Path>) -> BTreeSet<PathBuf> {
    let networks = Networks::read(root, conf).map(|networks| networks.all).unwrap_or_default();
    let own = networks.iter().filter_map(|network| network.config.log_file.as_deref());
    let own = own.filter(|path| !path.is_empty()).map(|path| root.path(path));
    let pods = files(&root.path(POD_LOGS), |name| name.contains(AGENT_POD));
    let containers = pods.iter().flat_map(|pod| files(pod, |_| true));
    let of_agent =
        containers.flat_map(|container| files(&container, |name| name.ends_with(".log")));
    let mut of_agent: Vec<(SystemTime, PathBuf)> = of_agent
        .filter_map(|path| Some((fs::metadata(&path).ok()?.modified().ok()?, path)))
        .gather();
    of_agent.order();
    let newest = of_agent.into_iter().rev().take(AGENT_LOGS_MAX).map(|(_, path)| path);
    own.chain(newest).gather_set()
}

/// What a directory has, by name; nothing where it cannot be read.
fn files(directory: &Path, is_one: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let named = entries.filter(|entry| is_one(&entry.file_name().to_string_lossy()));
    let mut all: Vec<PathBuf> = named.map(|entry| entry.path()).gather();
    all.order();
    all
}

/// The last lines of a log. A link of somebody else's may lead to what root alone may read.
fn end_of(path: &Path) -> io::Result<String> {
    let link = fs::symlink_metadata(path)?;
    if link.is_symlink() && is_anothers(&link) {
        return Err(io::Error::other("it is a symbolic link of another user"));
    }
    Ok(String::from_utf8_lossy(&read_end(path, LOG_BYTES_MAX)?).into_owned())
}

/// The last lines of units in the journal of systemd.
fn journal(root: &Root, units: &[&str]) -> io::Result<String> {
    let mut command = Command::new("journalctl");
    command.args(["--quiet", "--no-pager", "--output=short-iso-precise", "--lines", LINES_MAX]);
    if *root != Root::default() {
        command.arg("--root").arg(root.path("/"));
    }
    for unit in units {
        command.args(["--unit", unit]);
    }
    let bytes = printed(&mut command, JOURNAL_LIMIT)
        .ok_or_else(|| io::Error::other("journalctl does not answer"))?;
    let from = bytes.len().saturating_sub(usize::try_from(LOG_BYTES_MAX).unwrap_or(usize::MAX));
    Ok(String::from_utf8_lossy(bytes.get(from..).unwrap_or_default()).into_owned())
}

/// The lines that are about networks of pods.
fn of_networks(log: &str) -> String {
    let is_one =
        |line: &&str| ["manx", "cni", "CNI", "network"].iter().any(|word| line.contains(word));
    log.lines().filter(is_one).map(|line| format!("{line}\n")).collect()
}
