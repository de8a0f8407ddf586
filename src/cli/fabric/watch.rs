//! `manx apply --watch`: repairs what others change, as soon as the kernel
//! tells of it.
//!
//! Subscribes before the first full pass, so that nothing falls between. An
//! event is only a hint to compare: the pass that follows reads everything
//! itself, so lost events cost nothing but time, and a slow pass makes up for
//! them.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::inotify::{AddWatchFlags, InitFlags, Inotify},
};

use super::{
    super::{Console, Failure, Status, failed},
    Node, Source,
    apply::apply,
};
use crate::net::{Socket, monitor::Monitor};

/// A pass without an event, in case one was lost.
const FULL_PASS: Duration = Duration::from_secs(60);
/// How long to gather events before a pass: a link that goes down tells of
/// each of its routes.
const SETTLE: Duration = Duration::from_millis(5);

pub(super) fn watch(node: &Node, console: &mut Console<'_>) -> Result<Status, Failure> {
    let mut monitor = Monitor::open()?;
    let files = node.peers_file.as_deref().map(watch_directory).transpose()?;
    let mut socket = Socket::open()?;
    let mut told = None;
    loop {
        // What cannot be repaired now is tried again on the next event. A file
        // that is no good does not let what was applied before fall to pieces.
        let failure = pass(node, &mut socket, Source::File, console).err();
        if failure.is_some() {
            let _ = pass(node, &mut socket, Source::Last, console);
        }
        if let Some(failure) = failure.as_ref().filter(|_| failure != told) {
            writeln!(console.err, "manx: {failure}")?;
            console.err.flush()?;
        }
        told = failure;
        wait(&mut monitor, files.as_ref(), FULL_PASS)?;
        settle(&mut monitor, files.as_ref())?;
    }
}

fn pass(
    node: &Node,
    socket: &mut Socket,
    source: Source,
    console: &mut Console<'_>,
) -> Result<(), String> {
    apply(node, socket, source, console).map(|_| ()).map_err(|failure| failure.to_string())
}

/// The directory, for the file is replaced by a rename.
fn watch_directory(path: &Path) -> Result<Inotify, Failure> {
    let told = |errno: Errno| failed("watch the peers file", &errno.into());
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).map_err(told)?;
    let events =
        AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_DELETE;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    inotify.add_watch(directory.unwrap_or(Path::new(".")), events).map_err(told)?;
    Ok(inotify)
}

/// Waits for an event, for at most `limit`; true if there was one.
fn wait(monitor: &mut Monitor, files: Option<&Inotify>, limit: Duration) -> Result<bool, Failure> {
    use std::os::fd::AsFd;
    let mut sources = vec![PollFd::new(monitor.as_fd(), PollFlags::POLLIN)];
    sources.extend(files.map(|files| PollFd::new(files.as_fd(), PollFlags::POLLIN)));
    let millis = u16::try_from(limit.as_millis()).unwrap_or(u16::MAX);
    match poll(&mut sources, PollTimeout::from(millis)) {
        Ok(0) | Err(Errno::EINTR) => return Ok(false),
        Ok(_) => {}
        Err(errno) => return Err(failed("wait for events", &errno.into())),
    }
    drop(sources);
    monitor.drain()?;
    if let Some(files) = files {
        // The names do not matter: the pass looks at the file itself.
        let _ = files.read_events();
    }
    Ok(true)
}

/// Gathers what belongs together.
fn settle(monitor: &mut Monitor, files: Option<&Inotify>) -> Result<(), Failure> {
    let deadline = Instant::now() + SETTLE;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || !wait(monitor, files, left)? {
            return Ok(());
        }
    }
}
