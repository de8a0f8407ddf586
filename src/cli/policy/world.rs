// SPDX-License-Identifier: Apache-2.0
//! The cluster that a file gives, and what it means for this node.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

use nix::unistd::gethostname;

use super::super::{Args, Failure};
use crate::{
    list::PushAll,
    node::unreadable,
    policy::{self, Read, World},
    state::file::{CLUSTER_BYTES_MAX, read_stream},
};

/// Reads a file of a cluster's objects; returns which one it is as well.
pub(in crate::cli) fn read_world(file: &OsStr) -> Result<(PathBuf, Read), Failure> {
    let file = PathBuf::from(file);
    let file = if file == Path::new("-") { "/dev/stdin".into() } else { file };
    let text = read_stream(&file, CLUSTER_BYTES_MAX);
    let text = text.map_err(|error| unreadable(&file, &error))?;
    let read = policy::read(&text).map_err(|problem| {
        Failure::Failed(format!(
            "{}: {problem}; give what kubectl get namespaces,pods,networkpolicies -A -o json \
             prints",
            file.display()
        ))
    })?;
    Ok((file, read))
}

/// What a file gives.
pub(super) struct Given {
    pub(super) world: World,
    /// What this node is called there.
    pub(super) node: String,
    pub(super) notes: Vec<String>,
}

impl Given {
    /// Reads the file, for the node that the options name.
    pub(super) fn read(file: &OsStr, args: &Args) -> Result<Self, Failure> {
        let (file, read) = read_world(file)?;
        let node = match args.value("node") {
            Some(name) => name.to_string_lossy().into_owned(),
            None => gethostname().unwrap_or_default().to_string_lossy().to_ascii_lowercase(),
        };
        // A wrong name would open all pods.
        if !read.world.pods.iter().any(|pod| *pod.node == node) {
            return Err(Failure::Failed(format!(
                "{}: no pod runs on node {node}; name this node by --node, or end enforcement by \
                 manx policy remove",
                file.display()
            )));
        }
        let Read { world, mut notes } = read;
        notes.push_all(world.note_of_unknown());
        Ok(Self { world, node, notes })
    }
}
