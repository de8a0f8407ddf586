// SPDX-License-Identifier: Apache-2.0
//! The revision that a build carries.

use std::{fs, path::Path, process::Command};

use crate::harness::{DEADLINE, Host, Stdin, run};

/// `hack/revision` in directories of its own: without git, in a repository, in one
/// with changes, and in an archive that lies in somebody else's.
#[test]
fn the_revision_is_that_of_the_source_tree_alone() {
    let scratch = Host::new();
    let root = scratch.scratch().dir("tree");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("hack/revision");
    for directory in ["hack", "src", "vendor/manx/hack"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    for copy in ["hack/revision", "vendor/manx/hack/revision"] {
        scratch.scratch().program(&format!("tree/{copy}"), &script);
    }
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        command.args(["-C", root.to_str().unwrap(), "-c", "user.name=a", "-c", "user.email=a@b"]);
        command.args(arguments).env("GIT_CEILING_DIRECTORIES", root.parent().unwrap());
        run(command, &Stdin::Null, DEADLINE).ok()
    };
    let revision = |path: &str| {
        let mut command = Command::new(root.join(path));
        command.env("GIT_CEILING_DIRECTORIES", root.parent().unwrap());
        run(command, &Stdin::Null, DEADLINE).ok()
    };
    assert_eq!(revision("hack/revision"), "", "there is no repository");
    git(&["init", "--quiet"]);
    assert_eq!(revision("hack/revision"), "", "there is no commit");
    fs::write(root.join("src/main.rs"), "fn main() {}").unwrap();
    git(&["add", "."]);
    git(&["commit", "--quiet", "-m", "one"]);
    let commit = git(&["rev-parse", "HEAD"]);
    assert_eq!(revision("hack/revision"), commit);
    // A report is no part of the binary.
    fs::write(root.join("report.md"), "").unwrap();
    assert_eq!(revision("hack/revision"), commit);
    fs::write(root.join("src/main.rs"), "fn main() { }").unwrap();
    assert_eq!(revision("hack/revision"), commit.trim().to_owned() + "+\n");
    assert_eq!(revision("vendor/manx/hack/revision"), "", "the repository is another's");
}
