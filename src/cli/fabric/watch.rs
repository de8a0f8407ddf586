//! `manx apply --watch`: repairs what others change, as soon as the kernel
//! tells of it.
//!
//! Subscribes before the first full pass, so that nothing falls between. An
//! event is only a hint to compare: the pass that follows reads everything
//! itself, so lost events cost nothing but time, and a slow pass makes up for
//! them.

use std::{
    os::fd::AsFd,
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
use crate::{
    net::{Socket, monitor::Monitor},
    nft,
    verb::repair::TableRepair,
};

/// A pass without an event, in case one was lost.
const FULL_PASS: Duration = Duration::from_secs(60);
/// How long to gather events before a pass: a link that goes down tells of
/// each of its routes.
const SETTLE: Duration = Duration::from_millis(5);

pub(super) fn watch(node: &Node, console: &mut Console<'_>) -> Result<Status, Failure> {
    let mut events = Events::subscribe(node, console)?;
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
        events.wait(FULL_PASS)?;
        events.settle()?;
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

/// All that may tell of a change.
struct Events {
    /// Links, addresses, routes, neighbours.
    network: Monitor,
    /// The masquerade table.
    table: Option<nft::Monitor>,
    /// The peers file's directory.
    files: Option<Inotify>,
}

impl Events {
    fn subscribe(node: &Node, console: &mut Console<'_>) -> Result<Self, Failure> {
        let network = Monitor::open()?;
        let files = node.peers_file.as_deref().map(watch_directory).transpose()?;
        // A kernel that cannot tell of the table may well have routes to repair.
        let table = match TableRepair::monitor(&node.config) {
            Ok(table) => table,
            Err(error) => {
                writeln!(console.err, "manx: {error}")?;
                None
            }
        };
        Ok(Self { network, table, files })
    }

    /// Waits for an event that matters, for at most `limit`; true if there was
    /// one.
    fn wait(&mut self, limit: Duration) -> Result<bool, Failure> {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            if self.poll(left)? {
                return Ok(true);
            }
        }
    }

    /// Waits for any event, and tells whether it matters.
    fn poll(&mut self, limit: Duration) -> Result<bool, Failure> {
        let mut sources = vec![PollFd::new(self.network.as_fd(), PollFlags::POLLIN)];
        sources.extend(self.table.iter().map(|it| PollFd::new(it.as_fd(), PollFlags::POLLIN)));
        sources.extend(self.files.iter().map(|it| PollFd::new(it.as_fd(), PollFlags::POLLIN)));
        // Rounded up, or the last part of a millisecond would be spent turning.
        let millis = u16::try_from(limit.as_millis() + 1).unwrap_or(u16::MAX);
        match poll(&mut sources, PollTimeout::from(millis)) {
            Ok(0) | Err(Errno::EINTR) => return Ok(false),
            Ok(_) => {}
            Err(errno) => return Err(failed("wait for events", &errno.into())),
        }
        drop(sources);
        let network = self.network.drain()?;
        let table = self.table.as_mut().map_or(Ok(false), nft::Monitor::drain);
        let table = table.map_err(|error| Failure::Failed(error.to_string()))?;
        // The names do not matter: the pass looks at the file itself.
        let file = self.files.as_ref().is_some_and(|files| files.read_events().is_ok());
        Ok(network || table || file)
    }

    /// Gathers what belongs together.
    fn settle(&mut self) -> Result<(), Failure> {
        let deadline = Instant::now() + SETTLE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || !self.wait(left)? {
                return Ok(());
            }
        }
    }
}
