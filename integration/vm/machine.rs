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
use crate::harness::{Finished, Netns, Scratch, Stdin, run};

/// Names the kernel image; `hack/setup --print-env` sets it where the running
/// kernel has no ipip.
const KERNEL: &str = "MANX_TEST_KERNEL";

/// Boot and all scenarios; emulation is slow and its host may be busy.
const LIMIT: Duration = Duration::from_secs(420);

/// A shell function that puts a copy in memory in the place of each program and
/// of the libraries that it loads. The machine keeps nothing of what it reads
/// from its host's file system, and would fetch them anew for every process.
const CACHE: &str = r#"
mkdir -p /run/kept && mount -t tmpfs kept /run/kept
keep() {
  for name in "$@"; do
    file="$(readlink -f "$(command -v "$name")")"
    for part in "$file" $(ldd "$file" 2>/dev/null | grep -o '/[^ )]*'); do
      part="$(readlink -f "$part")"
      copy="/run/kept/$(echo "$part" | tr / _)"
      [ -e "$copy" ] || { cp "$part" "$copy" && mount --bind "$copy" "$part"; }
    done
  done
}
"#;

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

/// Runs the ignored tests of this program whose names start with `prefix`, here
/// or in a virtual machine; says why, as `test`, where neither can be.
pub fn run_all(test: &str, prefix: &str) {
    let finished = if kernel_has_ipip() {
        let mut command = Command::new(program());
        command.args(["--ignored", "--nocapture", prefix]);
        run(command, &Stdin::Null, LIMIT)
    } else {
        match obstacle() {
            Some(obstacle) => return eprintln!("SKIP {test}: {obstacle}"),
            None => boot(prefix),
        }
    };
    eprintln!("{}", finished.stdout);
    assert_eq!(finished.status, 0, "{}", finished.stderr);
    // A filter that matches nothing is a success to a test program.
    let count = finished.stdout.matches("test scenario::").count();
    let passed = format!("test result: ok. {count} passed");
    assert!(count > 0 && finished.stdout.contains(&passed), "not all ran");
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

/// Boots the machine, runs the tests in it, and answers as if they had run here.
fn boot(prefix: &str) -> Finished {
    let shared = Scratch::new();
    let directory = shared.path().display();
    let variables: String = ["PATH", "CNI_PLUGIN_DIR"]
        .iter()
        .filter_map(|name| Some(format!("export {name}='{}'\n", std::env::var(name).ok()?)))
        .collect();
    // The status is written last: without it the machine did not get that far.
    let script = format!(
        "#!/bin/sh\n{variables}export MANX_TEST_IN_MACHINE=1\n{CACHE}\
         keep '{program}' '{MANX}' \"$CNI_PLUGIN_DIR/host-local\" ip ping tcpdump\n\
         '{program}' --ignored --nocapture --test-threads=2 '{prefix}' \
           >{directory}/stdout 2>{directory}/stderr\n\
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
    let console = run(command, &Stdin::Null, LIMIT);
    let said = |name: &str| fs::read_to_string(shared.path().join(name)).unwrap_or_default();
    let status = said("status").trim().parse().unwrap_or_else(|_| {
        panic!("the machine did not finish:\n{}\n{console:#?}", said("stdout"))
    });
    eprintln!("the virtual machine ran for {} s", console.took.as_secs());
    Finished { status, stdout: said("stdout"), stderr: said("stderr"), ..console }
}
