// SPDX-License-Identifier: Apache-2.0
//! A routing daemon on a node; ended on drop.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::cluster::Node;

/// A running daemon.
#[derive(Debug)]
pub struct Daemon {
    process: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts a program on a node. What it says goes to a file of that name.
    pub fn start(node: &Node, name: &str, mut command: Command) -> Self {
        let log = node.host.scratch().path().join(format!("{name}.log"));
        let file = File::create(&log).expect("make a log file");
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a second handle"))
            .stderr(file);
        let process = node.host.enter(|| command.spawn().expect("start a daemon"));
        Self { process, log }
    }

    /// What it has said so far.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Ends it without a chance to tidy up, and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Where a program is: in PATH, or where FRR's package puts its daemons.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path);
    let directories =
        directories.chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/lib/frr")]);
    directories.map(|directory| directory.join(program)).find(|file| Path::is_file(file))
}
