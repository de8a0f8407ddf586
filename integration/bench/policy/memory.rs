// SPDX-License-Identifier: Apache-2.0
//! The kernel's memory for policies: what a control group of its own is charged with, in which
//! the programs have run that made the tables.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::calico::Calico;
use super::world::{Change, World};
use super::{MEMORY_KIB, MIDDLE, alone, apply};
use crate::harness::Host;
use crate::measure::Job;
use crate::pair::Row;
use crate::ratio::Ratio;
use crate::subjects::Programs;

/// Of the two versions of control groups, where there is one and what it is charged with.
const PLACES: [(&str, &str); 2] =
    [("/sys/fs/cgroup/memory", "memory.kmem.usage_in_bytes"), ("/sys/fs/cgroup", "memory.stat")];
/// Lines of one `nft -f`, which is sent as one message.
const LINES: usize = 100;
/// What the kernel frees later it has freed then.
const REST: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(20);

/// Calico's layout ("old") and manx's.
///
/// # Errors
/// Where there can be no control group.
pub fn row(programs: &Programs) -> Result<Row, String> {
    crate::progress("memory");
    let pair = ["10.88.0.2", "10.88.0.3"].map(str::to_owned);
    let world = World::new(MIDDLE, &pair, Change::default());
    let (calico, manx) = (Host::new(), Host::new());
    let lines = Calico::load(&world, &[]);
    let parts: Vec<String> = lines
        .lines()
        .chunks(LINES)
        .enumerate()
        .map(|(number, part)| {
            let file = calico.scratch().file(&format!("part-{number}"), part.join("\n") + "\n");
            format!("nft -f {}", file.display())
        })
        .collect();
    let script = calico.scratch().file("load", format!("set -e\n{}\n", parts.join("\n")));
    let job = |program: &str, args: &[&str]| Job {
        program: program.into(),
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        env: vec![("PATH".into(), std::env::var("PATH").unwrap_or_default())],
        stdin: None,
        output: None,
    };
    let nothing = charged(&calico, &job("true", &[]))?;
    let theirs = charged(&calico, &job("sh", &[script.to_str().expect("a path of ASCII")]))?;
    let file = manx.scratch().file("world.json", world.encode().to_string());
    let ours = charged(&manx, &apply(&manx, programs, file))?;
    let kib = |bytes: f64| (bytes - nothing).max(0.0) / 1024.0;
    let ratio = Ratio::of(&[(kib(theirs), kib(ours))]);
    let most = MEMORY_KIB / ratio.old_p50;
    Ok(alone("the kernel's memory, KiB", ratio, Some(most)))
}

/// Bytes that are left charged after the job.
fn charged(host: &Host, job: &Job) -> Result<f64, String> {
    let (group, file) = Group::new()?;
    let procs = group.0.join("cgroup.procs").display().to_string();
    let inside = ["-c", "echo $$ >\"$0\" && exec \"$@\"", &procs];
    host.enter(|| job.behind(Path::new("/bin/sh"), &inside).run());
    let begin = Instant::now();
    let mut last = f64::NAN;
    while begin.elapsed() < PATIENCE {
        let found = read(&group.0.join(file))?;
        if found == last {
            return Ok(found);
        }
        last = found;
        thread::sleep(REST);
    }
    Err(format!("what is charged to {} does not come to rest", group.0.display()))
}

/// A control group that goes with this.
struct Group(PathBuf);

impl Group {
    fn new() -> Result<(Self, &'static str), String> {
        let mut why = String::new();
        for (place, file) in PLACES {
            let path = Path::new(place).join(format!("manx-bench-{}", std::process::id()));
            match fs::create_dir(&path) {
                Ok(()) if path.join(file).exists() => return Ok((Self(path), file)),
                Ok(()) => drop(Self(path)),
                Err(error) => why = format!("{}: {error}", path.display()),
            }
        }
        Err(format!("no control group of memory, which root can make: {why}"))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

/// The number in a file, or in its line of slabs.
fn read(path: &Path) -> Result<f64, String> {
    let text = fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let line = text.lines().find_map(|line| line.strip_prefix("slab ")).unwrap_or(&text);
    line.trim().parse().map_err(|_| format!("{}: no number: {text}", path.display()))
}
