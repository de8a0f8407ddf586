// SPDX-License-Identifier: Apache-2.0
//! Where leases and the notes about them are.

use std::path::PathBuf;

use serde_json::Value;

use crate::{
    cni::json::member,
    conf::HOST_LOCAL,
    ipam::store::{self, DATA_DIR},
    state::Root,
};

/// Where the notes of all stores are.
pub(super) fn all_hints(root: &Root) -> PathBuf {
    root.runtime().join(".leases")
}

/// Removes the notes of stores that are no more.
pub(in crate::verb) fn sweep(root: &Root) {
    store::sweep_hints(&all_hints(root));
}

/// Where an IPAM section has its stores. host-local knows no root of ours, so
/// what the section says is taken as it is.
pub(super) fn data_dir(root: &Root, ipam: &Value) -> PathBuf {
    let given = member(ipam, "dataDir").and_then(Value::as_str).filter(|path| !path.is_empty());
    match (given, member(ipam, "type").and_then(Value::as_str)) {
        (Some(given), _) => PathBuf::from(given),
        (None, Some(HOST_LOCAL)) => PathBuf::from(DATA_DIR),
        (None, _) => root.path(DATA_DIR),
    }
}
