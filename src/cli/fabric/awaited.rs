//! A watch that is started before there is a configuration, or with one that
//! cannot be read, waits for it: a node may get its configuration after its
//! units, and a unit that failed would be started again every second.

use std::{os::fd::AsFd, path::PathBuf, thread, time::Duration};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{
    super::{Args, Console, conflist::DIRECTORY},
    Node,
    files::Files,
};

/// How often to look where the kernel tells of no files, and in case it lost an
/// event.
const LOOK: Duration = Duration::from_secs(10);

/// Where the configuration that the options name is, or comes.
pub(super) fn place(args: &Args) -> PathBuf {
    match args.value("conf") {
        Some(path) => PathBuf::from(path),
        // Whichever file appears there.
        None => args.root().path(DIRECTORY).join("any"),
    }
}

/// Reads the configuration that the options name as soon as there is one. Why
/// there is none is said once.
pub(super) fn node(args: &Args, console: &mut Console<'_>) -> Node {
    let path = place(args);
    // Before the first look, so that nothing falls between.
    let mut files = Files::watch(vec![path]).ok();
    let mut told = String::new();
    loop {
        let reason = match Node::read(args) {
            Ok(node) => return node,
            Err(failure) => failure.to_string(),
        };
        if reason != told {
            let _ = console.remark(format_args!("manx: {reason}; waiting for a configuration"));
            told = reason;
        }
        let Some(files) = &mut files else {
            thread::sleep(LOOK);
            continue;
        };
        let timeout = PollTimeout::try_from(LOOK).unwrap_or(PollTimeout::MAX);
        let _ = poll(&mut [PollFd::new(files.as_fd(), PollFlags::POLLIN)], timeout);
        files.drain();
    }
}
