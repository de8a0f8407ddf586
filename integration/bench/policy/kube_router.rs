// SPDX-License-Identifier: Apache-2.0
//! Kube-router's own controller, which a program of ours runs once (integration/bench/kube-router):
//! iptables, and a set of ipset for each selector.

use std::env;
use std::path::Path;

use super::world::{NODE, World};
use crate::harness::Host;
use crate::measure::Job;

/// As hack/setup exports them.
const PROGRAM: &str = "MANX_BENCH_POLICIES";
const TOOLS: &str = "MANX_BENCH_AGENTS";

/// Whether there is one to compare with. Not every machine can build it.
pub fn is_built() -> bool {
    env::var_os(PROGRAM).is_some()
}

/// Makes its rules.
pub fn enforce(host: &Host, world: &World) {
    let tools = env::var(TOOLS).expect("run hack/bench, which builds what is needed");
    let tools = Path::new(&tools).join("tools/usr");
    let libraries = tools.join("lib").join(format!("{}-linux-gnu", env::consts::ARCH));
    let path = env::var("PATH").unwrap_or_default();
    let lock = host.scratch().path().join("xtables.lock");
    let file = host.scratch().file("world.json", world.encode().to_string());
    let variable = |name: &str, value: String| (name.to_owned(), value);
    let job = Job {
        program: env::var_os(PROGRAM).expect("it is built").into(),
        args: vec![file.display().to_string(), NODE.into(), "192.0.2.11".into()],
        env: vec![
            variable("PATH", format!("{}:{path}", tools.join("sbin").display())),
            variable("LD_LIBRARY_PATH", libraries.display().to_string()),
            variable("XTABLES_LOCKFILE", lock.display().to_string()),
        ],
        stdin: None,
        output: Some(host.scratch().path().join("said")),
    };
    host.enter(|| job.run());
}
