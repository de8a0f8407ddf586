// SPDX-License-Identifier: Apache-2.0
//! The peers file that a configuration names: without a valid one an ADD fails.

use std::path::Path;

use super::{
    Node,
    finding::{Findings, member},
};
use crate::{
    cni,
    conf::Config,
    doctor,
    finding::{Finding, Severity},
    net::Socket,
    node::fabric::read_peers,
};

/// Says what is wrong with the file, where the machine may be looked at.
pub(super) fn lint(at: &str, config: &Config, node: &Node, findings: &mut Findings) {
    let (Some(given), Some(root)) = (&config.fabric.peers_file, &node.root) else { return };
    let (path, file) = (member(at, "peersFile"), root.path(given));
    if !Path::new(given).is_absolute() {
        let message = format!("{given:?} is relative, and is read as {}", file.display());
        findings.warning(&path, message, "give an absolute path");
    }
    let Ok(mut socket) = Socket::open() else { return };
    match read_peers(&file, config, &mut socket) {
        Ok((peers, _)) => {
            for excluded in &peers.excluded {
                let found = doctor::of_excluded(&file, excluded);
                // The others are served.
                let severity = found.severity.max(Severity::Warning);
                findings.place(&path, Finding { severity, ..found });
            }
            if let Some(unread) = &peers.unread {
                findings.place(&path, doctor::of_unread(&file, unread));
            }
            for contradiction in config.contradictions(&peers.fabric) {
                let at = member(at, contradiction.key);
                let check = ("fabric-contradiction", Severity::Error);
                let message = format!("{contradiction}: ADD fails with code 7");
                let fix = "leave the key out here: the file speaks for all";
                findings.add(check, &at, message, fix);
            }
        }
        Err(error) => {
            let error = cni::Error::from(error);
            let message = format!("{}: ADD fails with code {}", error.msg, error.code.0);
            let fix = "put a valid list of all nodes there (conf/peers.schema.json), the same on \
                       every node; manx plan shows then what it makes";
            findings.add(("fabric-stale", Severity::Error), &path, message, fix);
        }
    }
}
