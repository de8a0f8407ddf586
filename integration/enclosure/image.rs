// SPDX-License-Identifier: Apache-2.0
//! A container image made on the spot: no registry is asked for one.
//!
//! It is one layer with a static busybox, and serves both as the sandbox image and as that of the
//! containers. Knows nothing of runtimes beyond the archive format that all of them import,
//! which is that of `docker save`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use super::{find, output};

/// What the web server in a pod serves.
pub(crate) const PAGE: &str = "a page from the pod\n";

/// What the image is called. The name has a registry part, so that no runtime puts one before it.
pub(crate) const NAME: &str = "localhost/manx-test:1";

/// The applets that the tests call.
const APPLETS: [&str; 7] = ["httpd", "ip", "ping", "sh", "sleep", "touch", "wget"];

/// Writes the image into `directory` and returns the path of the archive.
pub(crate) fn write(directory: &Path) -> PathBuf {
    let root = directory.join("rootfs");
    fs::create_dir_all(root.join("bin")).expect("directories of the image");
    let busybox = find("busybox").expect("looked for before");
    fs::copy(&busybox, root.join("bin/busybox")).expect("a copy of busybox");
    for applet in APPLETS {
        symlink("busybox", root.join("bin").join(applet)).expect("a link to busybox");
    }
    fs::create_dir(root.join("www")).expect("a directory to serve");
    fs::write(root.join("www/index.html"), PAGE).expect("a page to serve");

    tar(&root, "layer.tar", directory, &["."]);
    let sums = output(Command::new("sha256sum").arg(directory.join("layer.tar")));
    let digest = sums.split_whitespace().next().expect("sha256sum prints a digest");

    let config = json!({
        "architecture": architecture(),
        "os": "linux",
        "config": {"Entrypoint": ["/bin/sleep", "86400"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
    });
    let manifest = json!([{"Config": "config.json", "RepoTags": [NAME], "Layers": ["layer.tar"]}]);
    fs::write(directory.join("config.json"), config.to_string()).expect("the image's config");
    fs::write(directory.join("manifest.json"), manifest.to_string()).expect("the manifest");
    tar(directory, "image.tar", directory, &["manifest.json", "config.json", "layer.tar"]);
    directory.join("image.tar")
}

fn tar(from: &Path, archive: &str, to: &Path, members: &[&str]) {
    output(Command::new("tar").arg("-C").arg(from).arg("-cf").arg(to.join(archive)).args(members));
}

/// This machine's architecture as images name it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
