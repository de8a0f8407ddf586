// SPDX-License-Identifier: Apache-2.0
//! What fuzz targets ask of this module: in no build but theirs.

use std::{collections::BTreeSet, fs, path::Path};

use super::{
    Compiled,
    state::{self, denial, denial_file, note_denial, pods, pods_file, table, table_file},
};
use crate::state::{Root, directory};

fn write(path: &Path, content: &[u8]) {
    directory(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// The numbers of pods, in their file below a root.
pub fn numbers(root: &Root, content: &[u8]) {
    write(&pods_file(root), content);
    let Ok(Some(all)) = pods(root, None) else { return };
    // What others have written in lines may be no document with one of them alone.
    if let Ok(none) = pods(root, Some("nobody")) {
        assert!(none.is_some_and(|none| none.iter().all(|one| one.name.name == "nobody")));
    }
    // Where a file has a name twice, the later one is written.
    let names: BTreeSet<_> = all.iter().map(|one| one.name.clone()).collect();
    if names.len() == all.len() {
        state::write(root, "node-a", &Compiled { pods: all.clone(), ..Compiled::default() })
            .unwrap();
        assert_eq!(pods(root, None).unwrap(), Some(all));
    }
}

/// What the table held, in its file below a root.
pub fn held(root: &Root, content: &[u8]) {
    write(&table_file(root), content);
    if let Ok(policies) = table(root) {
        crate::nft::policy::fuzzing::document(&policies);
    }
}

/// How packets are denied, in its file below a root.
pub fn denied(root: &Root, content: &[u8]) {
    write(&denial_file(root), content);
    if let Ok(noted) = denial(root) {
        fs::remove_file(denial_file(root)).unwrap();
        note_denial(root, noted).unwrap();
        assert_eq!(denial(root).unwrap(), noted);
    }
}
