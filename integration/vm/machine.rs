// SPDX-License-Identifier: Apache-2.0
//! A virtual machine with a distribution's kernel, for what this one's lacks.
//!
//! virtme-ng boots the kernel with this machine's own file system, which it can
//! read but not write, under software emulation: no privilege and no hardware
//! support are needed. This test program runs inside, and what it says comes
//! back by files in a directory that the two share.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::cluster::MANX;
use crate::harness::{DEADLINE, Finished, Netns, Scratch, Stdin, plugin_dir, run};

/// Names the kernel image; `hack/setup --print-env` sets it where the running
/// kernel has no ipip.
const KERNEL: &str = "MANX_TEST_KERNEL";

/// All scenarios; emulation is slow and its host may be busy.
const LIMIT: Duration = Duration::from_secs(1500);
/// The same with the machine's boot.
const LIMIT_WITH_BOOT: Duration = Duration::from_secs(1600);

/// What the machine runs again and again. It keeps nothing of what it reads from
/// its host's file system, slowly, so each of these gets a copy in its memory.
const TOOLS: [&str; 4] = ["mount", "ip", "ping", "tcpdump"];

/// Whether the running kernel can make IPIP devices.
pub fn kernel_has_ipip() -> bool {
    let probe = ["link", "add", "probe", "type", "ipip", "remote", "192.0.2.1"];
    Netns::new().command("ip", &probe).status == 0
}

/// Whether this is the inside of the virtual machine, whose every namespace is
/// ours to change.
pub fn is_inside() -> bool {
    std::env::var_os("MANX_TEST_IN_MACHINE").is_some()
}

/// Runs the ignored tests of this program whose names start with `prefix`: here
/// or, as this very `test`, in a virtual machine whose kernel can run them; says
/// why where neither can be.
pub fn run_all(test: &str, prefix: &str) {
    let finished = if kernel_has_ipip() {
        let mut command = Command::new(program());
        // Two at once, as many as the machine has processors.
        command.args(["--ignored", "--nocapture", "--test-threads=2", prefix]);
        run(command, &Stdin::Null, LIMIT)
    } else {
        assert!(!is_inside(), "the machine's own kernel has no ipip");
        match obstacle() {
            Some(obstacle) => return eprintln!("SKIP {test}: {obstacle}"),
            None => boot(&format!("--ignored --nocapture --exact '{test}'")),
        }
    };
    eprintln!("{}\n{}", finished.stderr, finished.stdout);
    assert_eq!(finished.status, 0, "see above");
    // A filter that matches nothing is a success to a test program.
    assert!(!finished.stdout.contains("running 0 tests"), "no scenario ran");
}

/// Runs this program with these arguments, which a shell splits, here or in a
/// virtual machine.
///
/// # Errors
/// What keeps it from running in either.
#[allow(dead_code, reason = "for the benchmark, which includes this file")]
pub fn run_program(arguments: &str) -> Result<Finished, String> {
    if kernel_has_ipip() {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("'{}' {arguments}", program().display())]);
        return Ok(run(command, &Stdin::Null, LIMIT));
    }
    obstacle().map_or_else(|| Ok(boot(arguments)), Err)
}

fn program() -> PathBuf {
    std::env::current_exe().expect("the path of this program")
}

/// What keeps a virtual machine from running here, if anything.
fn obstacle() -> Option<String> {
    let kernel = std::env::var_os(KERNEL).map(PathBuf::from);
    if !kernel.as_deref().is_some_and(Path::is_file) {
        return Some(format!("no ipip in this kernel, and {KERNEL} names no other (hack/setup)"));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let missing = ["vng", "qemu-system-x86_64"]
        .into_iter()
        .find(|tool| !std::env::split_paths(&path).any(|dir| dir.join(tool).is_file()));
    missing.map(|tool| format!("no ipip in this kernel, and no {tool} in PATH (hack/setup)"))
}

/// Boots the machine, runs this program in it, and answers as if it had run here.
fn boot(arguments: &str) -> Finished {
    let shared = Scratch::new();
    let directory = shared.path().display();
    let kept = keep(&shared);
    let variables: String = ["PATH", "CNI_PLUGIN_DIR"]
        .iter()
        .filter_map(|name| Some(format!("export {name}='{}'\n", std::env::var(name).ok()?)))
        .collect();
    // The status is written last: without it the machine did not get that far.
    let script = format!(
        "#!/bin/sh\n{variables}export MANX_TEST_IN_MACHINE=1\n\
         cp -r {directory}/kept /run/kept\n{kept}\
         '{program}' {arguments} >{directory}/stdout 2>{directory}/stderr\n\
         echo $? >{directory}/status\n",
        program = program().display(),
    );
    let script = shared.script("run", &script);
    let mut command = Command::new("vng");
    command
        .args(["--verbose", "--disable-kvm", "--force-9p", "--user", "root"])
        .args(["--cpus", "2", "--memory", "1G"])
        .arg("--run")
        .arg(std::env::var_os(KERNEL).expect("checked by obstacle()"))
        .arg(format!("--rwdir={directory}"))
        .arg("--exec")
        .arg(script)
        .current_dir("/");
    let console = run(command, &Stdin::Null, LIMIT_WITH_BOOT);
    let said = |name: &str| fs::read_to_string(shared.path().join(name)).unwrap_or_default();
    let status = said("status").trim().parse().unwrap_or_else(|_| {
        panic!("the machine did not finish:\n{}\n{console:#?}", said("stdout"))
    });
    eprintln!("the virtual machine ran for {} s", console.took.as_secs());
    Finished { status, stdout: said("stdout"), stderr: said("stderr"), ..console }
}

/// Gathers what is to be copied, our own programs without debug information,
/// and gives the commands that put each copy in its original's place.
fn keep(shared: &Scratch) -> String {
    let directory = shared.dir("kept");
    let mut commands = String::new();
    for (number, path) in kept_files().iter().enumerate() {
        let copy = directory.join(number.to_string());
        let mut command = Command::new(if path.starts_with("/usr") { "cp" } else { "strip" });
        match path.starts_with("/usr") {
            true => command.arg(path).arg(&copy),
            false => command.arg("-o").arg(&copy).arg(path),
        };
        run(command, &Stdin::Null, DEADLINE).ok();
        commands += &format!("mount --bind /run/kept/{number} '{}'\n", path.display());
    }
    commands
}

/// The tools, our programs and the one delegate that is used, with the libraries
/// that they load; libraries first, for the very commands need them.
fn kept_files() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let find =
        |tool: &str| std::env::split_paths(&path).map(|d| d.join(tool)).find(|f| f.is_file());
    let mut programs: Vec<PathBuf> = TOOLS.iter().filter_map(|tool| find(tool)).collect();
    programs.extend([program(), PathBuf::from(MANX), plugin_dir().join("host-local")]);
    let mut files: Vec<PathBuf> = Vec::new();
    for program in &programs {
        let mut ldd = Command::new("ldd");
        ldd.arg(program);
        // It fails on a static program, which loads none.
        let said = run(ldd, &Stdin::Null, DEADLINE).stdout;
        let libraries = said.split_whitespace().filter(|word| word.starts_with('/'));
        files.extend(libraries.map(PathBuf::from));
    }
    files.extend(programs);
    let mut seen = std::collections::HashSet::new();
    let real = files.into_iter().filter_map(|file| fs::canonicalize(file).ok());
    real.filter(|file| seen.insert(file.clone())).collect()
}
