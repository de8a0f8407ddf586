//! Pods of a real containerd, through its CRI, with the plugin under test in its chain.
//!
//! What is shown here cannot be shown by calling the binary: that a runtime accepts our result as
//! a pod address, passes us what we need to name things, and has nothing left when the pod is
//! gone. The same story is told with the reference `ptp` plugin, so that a failure tells whether
//! the machine or manx is to blame.
//!
//! These tests need real root (mounts, cgroups), which the user namespace of the ordinary test
//! runner does not give. They are therefore ignored by `cargo test`; `hack/test` runs them.

// Outside of #[test] functions clippy sees no test code, yet all of this crate is.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod enclosure;
mod image;
mod remains;
mod runtime;
mod story;

use serde_json::json;
use sha1_smol::Sha1;

use crate::story::Subject;

#[test]
#[ignore = "needs root outside of any user namespace: hack/test runs it"]
fn containerd_pods_live_and_go_with_manx() {
    enclosure::run("containerd_pods_live_and_go_with_manx", || {
        story::tell(&Subject {
            binary: Some(env!("CARGO_BIN_EXE_manx")),
            plugin: "manx",
            routes: json!([]),
            host_link: Some(calico_name),
        });
    });
}

#[test]
#[ignore = "needs root outside of any user namespace: hack/test runs it"]
fn containerd_pods_live_and_go_with_ptp() {
    enclosure::run("containerd_pods_live_and_go_with_ptp", || {
        story::tell(&Subject {
            binary: None,
            plugin: "ptp",
            routes: json!([{"dst": "0.0.0.0/0"}]),
            host_link: None,
        });
    });
}

/// Calico's name for the host end of a pod's link. A runtime that passes the pod's name and
/// namespace in CNI_ARGS makes this name come out; anything else gives another one.
fn calico_name(namespace: &str, pod: &str) -> String {
    let hex = Sha1::from(format!("{namespace}.{pod}")).digest().to_string();
    format!("cali{}", &hex[..11])
}
