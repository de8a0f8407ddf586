// SPDX-License-Identifier: Apache-2.0
//! The commands about the routes between nodes: `plan` shows what they would
//! change, `apply` makes it so.

pub(super) mod apply;
pub(super) mod plan;
mod remarks;

use std::path::Path;

use serde_json::Value;

use super::{Args, Failure};
use crate::{list::Gather, node::configured::Networks, object::Told};

/// Reads the configuration that the options name, or all of the directory that are
/// ours.
fn networks(args: &Args) -> Result<Networks, Failure> {
    Ok(Networks::read(&args.root(), args.value("conf").map(Path::new))?)
}

/// The changes for programs.
fn encode(changes: &[Told]) -> Vec<Value> {
    changes.iter().map(Told::encode).gather()
}
