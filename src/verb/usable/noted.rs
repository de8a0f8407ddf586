// SPDX-License-Identifier: Apache-2.0
//! The next hops that lie in the ranges of a network, noted for a minute: to find them
//! takes all routes of the node, and an ADD asks the kernel by key.
//!
//! The note is a symbolic link whose target is the list: read by one system call, and
//! never half-written. Where it cannot be written, each ADD reads the routes.

use std::{fs, net::IpAddr, os::unix::fs::symlink, path::Path, time::Duration};

use super::super::kernel;
use crate::{
    cni::Error,
    conf::Config,
    list::Gather,
    net::{Socket, next_hops as kernels},
    state::Root,
};

/// The note's name in the network's directory.
const NOTE: &str = ".next-hops";
/// The target of a link may not be empty.
const NONE: &str = "none";
/// How long a note is believed.
const GOOD: Duration = Duration::from_secs(60);

/// The next hops of the node's routes that lie in the network's ranges; none on a node
/// where the network has no state yet.
///
/// # Errors
/// Of the kernel's answers.
pub(super) fn next_hops(
    root: &Root,
    config: &Config,
    host: &mut Socket,
) -> Result<Vec<IpAddr>, Error> {
    let directory = root.network(&config.name);
    let note = directory.join(NOTE);
    if let Some(noted) = read(&note) {
        return Ok(noted);
    }
    if !directory.is_dir() {
        return Ok(Vec::new());
    }
    let in_a_range = |address: &IpAddr| config.own_ranges.iter().any(|net| net.contains(*address));
    let all = kernels::all(host).map_err(kernel)?;
    let found: Vec<IpAddr> = all.into_iter().filter(in_a_range).gather();
    let words: Vec<String> = found.iter().map(ToString::to_string).gather();
    let target = if words.is_empty() { NONE.to_owned() } else { words.join(" ") };
    let _ = fs::remove_file(&note);
    if let Err(error) = symlink(target, &note) {
        log::debug!("note the next hops in {}: {error}", note.display());
    }
    Ok(found)
}

/// What is noted, unless that is old. A clock that was set back makes it old.
fn read(note: &Path) -> Option<Vec<IpAddr>> {
    let written = fs::symlink_metadata(note).and_then(|data| data.modified()).ok()?;
    written.elapsed().ok().filter(|age| *age < GOOD)?;
    let target = fs::read_link(note).ok()?;
    match target.to_str()? {
        NONE => Some(Vec::new()),
        words => words.split(' ').map(|word| word.parse().ok()).collect(),
    }
}
