//! `manx apply --watch`: repairs what others change, as soon as the kernel
//! tells of it.
//!
//! The configuration is read again when it may have changed: a watch that kept to
//! an old one would undo what the plugin does by the new one.
//!
//! Subscribes before the first full pass, so that nothing falls between. An
//! event is only a hint to compare: the pass that follows reads everything
//! itself, so lost events cost nothing but time, and a slow pass makes up for
//! them.

use std::{
    mem,
    os::fd::AsFd,
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use super::{
    super::{Args, Console, Failure, Status, failed},
    Node, Source,
    apply::{Report, pass, print, remark},
    awaited,
    files::Files,
    pace::Pace,
};
use crate::{
    net::{Monitor, Socket, monitor},
    node::repair::TableRepair,
    object::Told,
};

/// A pass without an event, in case one was lost.
const FULL_PASS: Duration = Duration::from_secs(60);
/// How long to gather events before a pass: a link that goes down tells of
/// each of its routes.
const SETTLE: Duration = Duration::from_millis(5);

/// A file that is written in place is whole after this.
const WRITTEN: Duration = Duration::from_millis(100);

/// What is said where the same is repaired again and again.
const CONTESTED: &str = "another program undoes what is repaired here, again and again: repairs \
     wait for up to 5 s from now on; ip monitor shows what changes, ps who may do it";

pub(super) fn watch(args: &Args, console: &mut Console<'_>) -> Result<Status, Failure> {
    let mut node = awaited::node(args, console);
    let mut events = Events::subscribe(&node, args, console)?;
    let mut unread = None;
    let mut socket = Socket::open()?;
    let mut told = Printed::default();
    let mut pace = Pace::new(Instant::now());
    loop {
        if mem::take(&mut events.files_changed) {
            match reread(args) {
                Ok(read) => {
                    unread = None;
                    if !read.is_same(&node) {
                        node = read;
                        events = Events::subscribe(&node, args, console)?;
                    }
                }
                Err(failure) => {
                    unread = Some(format!("{failure}; going on with the configuration as it was"));
                }
            }
        }
        let begin = Instant::now();
        let mut report = attempt(&node, &mut socket);
        pace.passed(Instant::now(), begin.elapsed(), !report.lines.is_empty());
        report.errors.extend(unread.clone());
        if pace.is_contested() {
            report.notes.push(CONTESTED.to_owned());
        }
        told.tell(report, console);
        if !events.wait(FULL_PASS)? {
            events.watch_files(&node, args);
            events.files_changed = true;
        }
        // Whatever happens until then is part of the same pass.
        thread::sleep(pace.delay(Instant::now()));
        events.settle()?;
    }
}

/// Reads the configuration; one that is being written is no good for a moment.
fn reread(args: &Args) -> Result<Node, Failure> {
    Node::read(args).or_else(|_| {
        thread::sleep(WRITTEN);
        Node::read(args)
    })
}

/// What cannot be repaired now is tried again on the next event. A file that is no
/// good does not let what was applied before fall to pieces.
fn attempt(node: &Node, socket: &mut Socket) -> Report {
    match pass(node, socket, Source::File) {
        Ok(report) => report,
        Err(failure) => {
            let mut report = pass(node, socket, Source::Last).unwrap_or_default();
            report.errors.push(failure.to_string());
            report
        }
    }
}

/// What was said last, which is not said again pass after pass.
#[derive(Default)]
struct Printed {
    lines: Vec<Told>,
    remarks: Vec<String>,
}

impl Printed {
    /// Says what is new of a report. That nobody listens is no reason to stop.
    fn tell(&mut self, report: Report, console: &mut Console<'_>) {
        if report.lines != self.lines {
            let _ = print(console, &report.lines);
        }
        let remarks = report.remarks();
        if remarks != self.remarks {
            let _ = remark(console, &remarks);
        }
        *self = Self { lines: report.lines, remarks };
    }
}

/// All that may tell of a change.
struct Events {
    /// Links, addresses, routes, neighbours.
    network: Monitor,
    /// The nftables tables of the network and of its fabric's tunnels.
    table: Option<Monitor>,
    /// The peers file and the configuration.
    files: Option<Files>,
    /// Whether these may be others.
    files_changed: bool,
}

impl Events {
    fn subscribe(node: &Node, args: &Args, console: &mut Console<'_>) -> Result<Self, Failure> {
        let network = monitor::subscribe()?;
        // A kernel that cannot tell of the table may well have routes to repair.
        let table = match TableRepair::monitor(&node.config) {
            Ok(table) => Some(table),
            Err(error) => {
                let _ = console.remark(format_args!("manx: {error}"));
                None
            }
        };
        // The node was read before.
        let mut events = Self { network, table, files: None, files_changed: true };
        if let Some(failure) = events.watch_files(node, args) {
            let seconds = FULL_PASS.as_secs();
            let words = "a change of the peers file or the configuration is noticed after";
            let _ = console.remark(format_args!("manx: {failure}; {words} {seconds} s at most"));
        }
        Ok(events)
    }

    /// Watches the peers file and the configuration, if that is not done. Where the
    /// node has no inotify instance left there will be another one: until then the
    /// peers file is read with each pass all the same.
    fn watch_files(&mut self, node: &Node, args: &Args) -> Option<Failure> {
        if self.files.is_some() {
            return None;
        }
        let paths = node.peers_file.clone().into_iter().chain([awaited::place(args)]);
        Files::watch(paths.collect()).map(|files| self.files = Some(files)).err()
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
        let table = self.table.as_mut().map_or(Ok(false), Monitor::drain)?;
        // The names do not matter: the pass looks at the file itself.
        let file = self.files.as_mut().is_some_and(Files::drain);
        self.files_changed |= file;
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
