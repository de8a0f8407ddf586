// SPDX-License-Identifier: Apache-2.0
//! Of what `hack/release` makes no release.

use std::{path::Path, process::Command};

use crate::harness::{DEADLINE, Finished, Scratch, Stdin, run};

/// A checkout of nothing but the script and what has a version.
struct Checkout(Scratch);

impl Checkout {
    fn new() -> Self {
        let checkout = Self(Scratch::new());
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("hack/release");
        checkout.0.dir("hack");
        checkout.0.program("hack/release", script);
        checkout.0.dir("conf/helm/manx");
        checkout.0.dir("conf/kubernetes/base");
        checkout.0.file("Cargo.toml", "version = \"1.2.3\"\n");
        checkout.0.file("conf/helm/manx/Chart.yaml", "version: 1.2.3\nappVersion: 1.2.2\n");
        checkout.git(&["init", "--quiet"]);
        checkout.git(&["add", "."]);
        checkout.git(&["commit", "--quiet", "--message", "one"]);
        checkout
    }

    fn run(&self, program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> Finished {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.0.path());
        command.env("GIT_CEILING_DIRECTORIES", self.0.path().parent().unwrap());
        run(command, &Stdin::Null, DEADLINE)
    }

    fn git(&self, arguments: &[&str]) {
        self.run("git", &[&["-c", "user.name=a", "-c", "user.email=a@b"], arguments].concat()).ok();
    }

    /// Why there is no release.
    #[track_caller]
    fn refusal(&self, arguments: &[&str]) -> String {
        let said = self.run(self.0.path().join("hack/release"), arguments);
        assert!(said.status != 0 && said.stdout.is_empty(), "{said:?}");
        said.stderr
    }
}

#[test]
fn a_release_is_of_a_commit_that_bears_its_version() {
    let checkout = Checkout::new();
    let said = checkout.refusal(&[]);
    assert!(said.contains("does not bear the tag v1.2.3") && said.contains("--snapshot"), "{said}");
    checkout.git(&["tag", "v1.2.2"]);
    assert!(checkout.refusal(&[]).contains("does not bear the tag v1.2.3"));
    checkout.git(&["tag", "v1.2.3"]);
    // The next thing that is wrong with this one.
    for arguments in [&[][..], &["--snapshot"]] {
        let said = checkout.refusal(arguments);
        assert!(said.contains("Chart.yaml has no line \"appVersion: 1.2.3\""), "{said}");
    }
}

#[test]
fn a_release_is_of_nothing_that_is_not_committed() {
    let checkout = Checkout::new();
    checkout.git(&["tag", "v1.2.3"]);
    checkout.0.file("new", "");
    for arguments in [&[][..], &["--snapshot"], &["--check"]] {
        let said = checkout.refusal(arguments);
        assert!(said.contains("differs from its commit") && said.contains("--local"), "{said}");
    }
    // It may be tried out.
    assert!(checkout.refusal(&["--local"]).contains("Chart.yaml"));
}
