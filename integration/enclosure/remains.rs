// SPDX-License-Identifier: Apache-2.0
//! What pods leave behind: compares the node before them with the node after them.
//!
//! Asks the kernel and the file system, never the plugin or the runtime.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::output;

/// The node's links, and its addresses and routes in all tables. Without the link-local ones of
/// IPv6, which the kernel adds and changes by itself while a link comes up.
#[derive(Debug, PartialEq)]
pub(crate) struct Network {
    links: Vec<String>,
    addresses: Vec<String>,
    routes: Vec<String>,
}

impl Network {
    /// The network namespace of the caller as it is now.
    pub(crate) fn now() -> Self {
        let mut routes = list(&["-4", "route", "show", "table", "all"]);
        routes.extend(list(&["-6", "route", "show", "table", "all"]));
        Self { links: link_names(), addresses: list(&["address", "show"]), routes }
    }

    /// Whether a link of this name exists.
    pub(crate) fn has_link(&self, name: &str) -> bool {
        self.links.iter().any(|link| link == name)
    }
}

/// What `ip` lists, line by line, sorted.
fn list(arguments: &[&str]) -> Vec<String> {
    let text = output(Command::new("ip").arg("-oneline").args(arguments));
    let settled = |line: &&str| !line.contains("fe80:") && !line.contains("ff00::");
    let mut lines: Vec<String> =
        text.lines().filter(settled).map(|line| line.trim().to_owned()).collect();
    lines.sort();
    lines
}

fn link_names() -> Vec<String> {
    let links = output(Command::new("ip").args(["-json", "link", "show"]));
    let links: Vec<Value> = serde_json::from_str(&links).expect("ip prints JSON");
    links.iter().map(|link| link["ifname"].as_str().expect("links have names").to_owned()).collect()
}

/// The lines of the node's firewall, by nftables or iptables, that mention one of `words`.
pub(crate) fn firewall_lines(words: &[&str]) -> Vec<String> {
    let rules = output(Command::new("nft").args(["list", "ruleset"]));
    let mentions = |line: &&str| words.iter().any(|word| line.contains(word));
    rules.lines().filter(mentions).map(str::to_owned).collect()
}

/// The files below these directories that still say of one of `words` that it is attached. Notes of
/// where to go on searching, and of an address that rests before it is given out again, do not.
pub(crate) fn attachments_in(directories: &[&Path], words: &[&str]) -> Vec<String> {
    let files = directories.iter().flat_map(|directory| files_mentioning(directory, words));
    let note = |file: &String| file.contains("/last_reserved_ip.") || file.ends_with("/.resting");
    files.filter(|file| !note(file)).collect()
}

/// The files below `directory` whose path or content mentions one of `words`.
pub(crate) fn files_mentioning(directory: &Path, words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(directory) else { return found };
    for entry in entries.flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(files_mentioning(&path, words));
            continue;
        }
        let content = fs::read(&path).unwrap_or_default();
        let text = format!("{}\n{}", path.display(), String::from_utf8_lossy(&content));
        if words.iter().any(|word| text.contains(word)) {
            found.push(path.display().to_string());
        }
    }
    found
}

/// The living processes of this PID namespace that are called `prefix` or longer. A dead one
/// that nobody has waited for does not count.
pub(crate) fn processes(prefix: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc is mounted").flatten() {
        let Ok(status) = fs::read_to_string(entry.path().join("status")) else { continue };
        let value = |key: &str| status.lines().find_map(|line| line.strip_prefix(key));
        let name = value("Name:").map_or("", str::trim);
        let dead = value("State:").is_some_and(|state| state.trim().starts_with(['Z', 'X']));
        if name.starts_with(prefix) && !dead {
            found.push(format!("{} ({name})", entry.path().display()));
        }
    }
    found
}
