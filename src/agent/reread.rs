// SPDX-License-Identifier: Apache-2.0
//! The agent's configuration is read again when it changes.
//!
//! All threads go by it, one of them in the middle of a watch of the API server. So the
//! agent begins anew by it, in the same process: what it knows lies in its files, and
//! nothing of the node is taken back when it ends.

use std::time::Duration;
use std::{env, io, os::fd::AsFd, os::unix::process::CommandExt, process::Command, thread};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{config::Config, options::Options};
use crate::node::watch::Files;

/// How often to look where the kernel tells of no files, and in case it lost an event.
const LOOK: Duration = Duration::from_secs(60);
/// A file that is written in place is whole after this.
const WRITTEN: Duration = Duration::from_millis(100);

/// Waits until the configuration is another one that can be used, and begins anew by it.
pub(super) fn follow(options: &Options, now: &Config) {
    let mut files = Files::watch(vec![options.config_path()]).ok();
    let mut told = String::new();
    loop {
        match Config::read(options) {
            Ok(read) if read == *now => told.clear(),
            Ok(_) => {
                log::info!(
                    "{}: it has changed: the agent begins anew",
                    options.config_path().display()
                );
                let error = begin_anew();
                log::error!("begin anew: {error}; going on with the configuration as it was");
                return;
            }
            Err(words) if words != told => {
                log::error!("{words}; going on with the configuration as it was");
                told = words;
            }
            Err(_) => {}
        }
        match &mut files {
            Some(files) => {
                let limit = PollTimeout::try_from(LOOK).unwrap_or(PollTimeout::MAX);
                let _ = poll(&mut [PollFd::new(files.as_fd(), PollFlags::POLLIN)], limit);
                thread::sleep(WRITTEN);
                files.drain();
            }
            None => thread::sleep(LOOK),
        }
    }
}

/// Comes back with the reason why it did not come to that.
fn begin_anew() -> io::Error {
    let mut arguments = env::args_os();
    let mut command = Command::new("/proc/self/exe");
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    command.args(arguments).exec()
}
