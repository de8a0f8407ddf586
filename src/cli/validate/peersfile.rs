//! The peers file that a configuration names: without a valid one an ADD fails.

use std::path::Path;

use super::{
    Node,
    finding::{Findings, member},
};
use crate::{
    conf::Config,
    doctor,
    finding::{Finding, Severity},
    net::Socket,
    node::fabric::read_peers,
};

/// Says what is wrong with the file, where the machine may be looked at.
pub(super) fn lint(path: &str, config: &Config, node: &Node, findings: &mut Findings) {
    let (Some(given), Some(root)) = (&config.fabric.peers_file, &node.root) else { return };
    let (path, file) = (member(path, "peersFile"), root.path(given));
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
        }
        Err(error) => {
            let message = format!("{}: ADD fails with code {}", error.msg, error.code.0);
            let fix = "put a valid list of all nodes there (conf/peers.schema.json), the same on \
                       every node; manx plan shows then what it makes";
            findings.add(("fabric-stale", Severity::Error), &path, message, fix);
        }
    }
}
