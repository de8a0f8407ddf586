// SPDX-License-Identifier: Apache-2.0
//! Shuts a test into namespaces of its own, so that a whole container runtime can run as root
//! and leave no trace on the machine.
//!
//! A test process starts itself again, with only the one test to run, in a new network, mount and
//! PID namespace, where it is process 1. When it ends, however it ends, the kernel kills whatever
//! it started, unmounts whatever was mounted, and drops links, routes and rules. Only cgroups
//! outlive their namespace; they are removed from outside.
//!
//! It is included by path in the test crate of each runtime (`#[path = "../enclosure/mod.rs"] mod
//! enclosure;`), and knows none of them.

// Each runtime uses its own part of this module.
#![allow(dead_code)]

pub(crate) mod image;
pub(crate) mod remains;

use std::ffi::OsString;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};

/// Set for the process inside; its value is the name of the cgroup that the test may use.
const INSIDE: &str = "MANX_TEST_ENCLOSED";

/// The node's own address, from the range that is set aside for documentation.
pub(crate) const NODE_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// How long a runtime may take to start, to stop, or to see something: longer than a busy machine
/// needs, for only a failing test waits for it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(240);

/// Every cgroup hierarchy is mounted here or one level below.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Runs `body` in namespaces of its own. `test` is the full name of the calling test, `obstacle` what
/// is missing for its runtime. Prints why and returns where that cannot be had.
pub(crate) fn run(test: &str, missing: Option<String>, body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        furnish();
        body();
        return;
    }
    if let Some(obstacle) = obstacle().or(missing) {
        let line = format!("SKIP {test}: {obstacle}\n");
        std::io::stderr().write_all(line.as_bytes()).expect("stderr takes a line");
        return;
    }
    let cgroup = Cgroup { name: format!("manx-test-{}-{test}", std::process::id()) };
    // If this process is killed, setpriv's mark kills unshare, and --kill-child process 1 inside.
    let status = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "unshare", "--net", "--mount", "--pid", "--fork"])
        .args(["--kill-child", "--mount-proc"])
        .arg(std::env::current_exe().expect("the path of this test binary"))
        .args(["--ignored", "--exact", test, "--nocapture", "--test-threads=1"])
        .env(INSIDE, &cgroup.name)
        .status()
        .expect("setpriv starts");
    assert!(status.success(), "{test} failed inside its namespaces, {status}; see above");
}

/// The cgroup below which all of the test's containers belong, as a path from the root of each
/// hierarchy.
pub(crate) fn cgroup() -> String {
    format!("/{}", std::env::var(INSIDE).expect("called inside the enclosure"))
}

/// The reference plugins, as `hack/setup` provides them.
pub(crate) fn reference_plugins() -> PathBuf {
    std::env::var_os("CNI_PLUGIN_DIR").map(PathBuf::from).expect("checked by obstacle()")
}

/// What keeps the test from running here, if anything.
fn obstacle() -> Option<String> {
    let ids = fs::read_to_string("/proc/self/uid_map").expect("every process has a uid_map");
    let whole_range = ["0", "0", "4294967295"];
    if !nix::unistd::geteuid().is_root() || !ids.split_whitespace().eq(whole_range) {
        return Some("needs root outside of any user namespace".to_owned());
    }
    if !Path::new(CGROUPS).read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
        return Some(format!("no cgroup file system on {CGROUPS}"));
    }
    if std::env::var_os("CNI_PLUGIN_DIR").is_none() {
        return Some("CNI_PLUGIN_DIR is not set (hack/setup --print-env)".to_owned());
    }
    missing_tool(&["runc", "ip", "nft", "ping", "tar", "busybox"])
}

/// Which of these commands is not to be had, in words.
pub(crate) fn missing_tool(tools: &[&str]) -> Option<String> {
    let missing = tools.iter().find(|tool| find(tool).is_none())?;
    Some(format!("{missing} is not in PATH (hack/setup provides it)"))
}

/// Looks a command up in PATH.
pub(crate) fn find(command: &str) -> Option<PathBuf> {
    let path: OsString = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|directory| directory.join(command))
        .find(|file| file.is_file())
}

/// Gives the new namespaces what a node has: empty state directories, a loopback device that is
/// up, and an address that is not loopback's (without one, nothing can be sent to a pod).
fn furnish() {
    for directory in ["/run", "/var/lib"] {
        mount(Some("tmpfs"), directory, Some("tmpfs"), MsFlags::empty(), None::<&str>)
            .unwrap_or_else(|errno| panic!("mount tmpfs on {directory}: {errno}"));
    }
    output(Command::new("ip").args(["link", "set", "lo", "up"]));
    let node = format!("{NODE_ADDRESS}/32");
    output(Command::new("ip").args(["address", "add", &node, "dev", "lo"]));
}

/// Makes `directory` hold the reference plugins and, under another name, the one under test, as
/// runtimes want it.
pub(crate) fn collect_plugins(directory: &Path, subject: Option<(&str, &str)>) {
    fs::create_dir_all(directory).expect("a directory in the enclosure");
    for plugin in fs::read_dir(reference_plugins()).expect("the reference plugins").flatten() {
        symlink(plugin.path(), directory.join(plugin.file_name())).expect("a link");
    }
    if let Some((binary, name)) = subject {
        symlink(binary, directory.join(name)).expect("a link to the subject");
    }
}

/// Waits for a condition, and panics when it takes too long.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "after {PATIENCE:?} not yet: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Waits until the node gets an answer from an address.
pub(crate) fn node_pings(address: &str) {
    let args = ["-n", "-q", "-c", "1", "-w", "5", address];
    let answers = || Command::new("ping").args(args).output().is_ok_and(|o| o.status.success());
    until(&format!("the node reaches {address}"), answers);
}

/// Asks a web server for its page.
pub(crate) fn page_from(server: SocketAddr) -> std::io::Result<String> {
    let mut connection = TcpStream::connect_timeout(&server, PATIENCE)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    let page = answer.split_once("\r\n\r\n").map(|(_, page)| page.to_owned());
    page.ok_or_else(|| std::io::Error::other(format!("not an answer: {answer:?}")))
}

/// Runs a command to its end and returns its stdout. Panics with all that it said if it failed.
pub(crate) fn output(command: &mut Command) -> String {
    let done = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let stdout = String::from_utf8_lossy(&done.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{command:?}: {}\n{stdout}{stderr}", done.status);
    stdout
}

/// Removes the cgroups of the test once its processes are gone.
struct Cgroup {
    name: String,
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // With cgroup v2 the root is a hierarchy itself, with v1 each of its entries is one.
        remove_cgroups(&Path::new(CGROUPS).join(&self.name));
        for hierarchy in fs::read_dir(CGROUPS).into_iter().flatten().flatten() {
            remove_cgroups(&hierarchy.path().join(&self.name));
        }
    }
}

/// Removes a cgroup and those below it. The files in it belong to the kernel and go with it.
fn remove_cgroups(cgroup: &Path) {
    for entry in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroups(&entry.path());
        }
    }
    match fs::remove_dir(cgroup) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            let line = format!("left behind: {}: {error}\n", cgroup.display());
            // Not fatal by itself, and a panic in drop would hide the test's own.
            let _ = std::io::stderr().write_all(line.as_bytes());
        }
        _ => {}
    }
}
