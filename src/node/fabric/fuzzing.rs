// SPDX-License-Identifier: Apache-2.0
//! What fuzz targets ask of this module: in no build but theirs.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt, fs::symlink},
};

use super::{Applied, FabricState, cidrs::PodCidrs, document::noted, state::node_in};
use crate::state::{Root, directory};

/// What was applied of a fabric, in its file below a root.
pub fn applied(root: &Root, content: &[u8]) {
    let state = FabricState::new(root, 109);
    let path = state.path("json");
    directory(path.parent().unwrap()).unwrap();
    fs::write(&path, content).unwrap();
    let Ok(Some(applied)) = state.read() else { return };
    state.note(&applied, None).unwrap();
    let again = state.read().unwrap().unwrap();
    // The version is that of who writes.
    let told = |applied: &Applied| {
        let mut told = serde_json::to_value(applied).unwrap();
        told.as_object_mut().unwrap().remove("version");
        told
    };
    assert_eq!(told(&again), told(&applied));
}

/// The networks of a fabric, in their file, and those of a list beside it.
pub fn cidrs(root: &Root, content: &[u8]) {
    let state = FabricState::new(root, 108);
    let path = state.path("cidrs");
    directory(path.parent().unwrap()).unwrap();
    fs::write(&path, content).unwrap();
    fs::write(state.path("peers"), content).unwrap();
    let found = PodCidrs::Noted(path.clone()).all();
    let _ = PodCidrs::Noted(path.clone()).digest();
    PodCidrs::Known(found.clone()).note(&path).unwrap();
    assert_eq!(PodCidrs::Noted(path).all(), found);
    for cidr in found {
        let _ = node_in(content, cidr);
    }
}

/// The note of what a peers file said: the target of a link.
pub fn document(root: &Root, target: &[u8]) {
    directory(&root.runtime()).unwrap();
    let path = root.runtime().join("document");
    let _ = fs::remove_file(&path);
    if symlink(OsStr::from_bytes(target), &path).is_err() {
        return;
    }
    if let Some((version, part)) = noted(&path) {
        fs::remove_file(&path).unwrap();
        symlink(format!("{version}\n{}", part.encode()), &path).unwrap();
        assert_eq!(noted(&path), Some((version, part)));
    }
}
