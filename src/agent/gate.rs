//! When pods may come: the configuration of the container runtime is written once this
//! node can serve them.
//!
//! A runtime that finds a configuration starts pods at once, and a kubelet tells the
//! cluster that the node is ready. So the file is put in place when this node has its
//! podCIDR and all that every peer needs is made, and it is not taken away again: pods
//! could not be removed without it.

use std::path::PathBuf;

use serde_json::Value;

use crate::{
    fabric::list,
    net::Socket,
    node::{
        apply::{Report, apply},
        changes::Source,
        configured::Networks,
        conflist::DIRECTORY,
        fabric::{FabricState, State},
    },
    state::{
        Root,
        file::{PEERS_BYTES_MAX, TEXT_BYTES_MAX},
        read, readable_directory, replace, replace_synced,
    },
};

/// What is put in place, and where.
pub(crate) struct Gate {
    root: Root,
    node: String,
    peers_file: PathBuf,
    /// The configuration, as it is written.
    text: String,
    target: PathBuf,
    /// Where it lies before: the node is made ready by it.
    staged: PathBuf,
}

/// Whether pods may come.
pub(crate) enum Outcome {
    Open,
    /// They may not, for this reason; the pass that was made, if it came to that.
    Closed(String, Option<Box<Report>>),
}

impl Gate {
    /// Of the configuration that is to be in the file `name`.
    pub(crate) fn new(
        root: &Root,
        node: &str,
        peers_file: PathBuf,
        (name, conflist): (&str, &Value),
    ) -> Self {
        Self {
            node: node.to_owned(),
            peers_file,
            text: format!("{conflist:#}\n"),
            target: root.path(DIRECTORY).join(name),
            staged: root.runtime().join(".agent").join(name),
            root: root.clone(),
        }
    }

    /// Whether the configuration is in place.
    fn is_open(&self) -> bool {
        let held = read(&self.target, TEXT_BYTES_MAX);
        held.is_ok_and(|held| held == self.text.as_bytes())
    }

    /// Makes the node ready for pods, and lets them come if it is.
    pub(crate) fn attempt(&self) -> Outcome {
        if self.is_open() {
            return Outcome::Open;
        }
        let closed = |reason: String| Outcome::Closed(reason, None);
        match self.own_pod_cidrs() {
            Err(reason) => return closed(reason),
            Ok(pods) if pods.is_empty() => {
                return closed(format!("node {} has no podCIDR yet", self.node));
            }
            Ok(_) => {}
        }
        match self.pass() {
            Err(reason) => closed(reason),
            Ok((Some(reason), report)) => Outcome::Closed(reason, Some(Box::new(report))),
            Ok((None, _)) => match self.place() {
                Ok(()) => Outcome::Open,
                Err(reason) => closed(reason),
            },
        }
    }

    /// The podCIDRs that the peers file gives to this node.
    fn own_pod_cidrs(&self) -> Result<Vec<String>, String> {
        let path = self.peers_file.display();
        let bytes = read(&self.peers_file, PEERS_BYTES_MAX)
            .map_err(|error| format!("the cluster's nodes are not known yet: {path}: {error}"))?;
        list::pod_cidrs(&bytes, &self.node)
            .ok_or_else(|| format!("{path} does not have node {}", self.node))
    }

    /// A pass by the configuration that is not in place yet; what is wanting of it for all.
    fn pass(&self) -> Result<(Option<String>, Report), String> {
        let staged = || -> std::io::Result<()> {
            if let Some(directory) = self.staged.parent() {
                crate::state::directory(directory)?;
            }
            replace(&self.staged, self.text.as_bytes())
        };
        staged().map_err(|error| format!("write {}: {error}", self.staged.display()))?;
        let networks = Networks::read(&self.root, Some(&self.staged));
        let networks = networks.map_err(|error| error.to_string())?;
        let socket = Socket::open();
        let mut socket = socket.map_err(|error| error.to_string())?;
        let report = apply(&networks, &mut socket, Source::FileOrLast);
        let report = report.map_err(|error| error.to_string())?;
        let wanting = networks.all.iter().find_map(|network| {
            let state = FabricState::new(&self.root, network.config.fabric.protocol);
            match state.applied().map(|applied| applied.state) {
                Some(State::Ready | State::Degraded(_)) => None,
                Some(State::NotReady(reasons)) => Some(reasons.join("; ")),
                Some(State::InProgress) | None => Some(match report.errors.is_empty() {
                    true => "the routes to other nodes are not made".to_owned(),
                    false => report.errors.join("; "),
                }),
            }
        });
        Ok((wanting, report))
    }

    fn place(&self) -> Result<(), String> {
        let write = || -> std::io::Result<()> {
            if let Some(directory) = self.target.parent() {
                readable_directory(directory)?;
            }
            replace_synced(&self.target, self.text.as_bytes())
        };
        let target = self.target.display();
        write().map_err(|error| format!("write {target}: {error}"))?;
        log::info!("{target} is written: pods may come");
        Ok(())
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.staged);
    }
}
