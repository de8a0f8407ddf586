// SPDX-License-Identifier: Apache-2.0
//! Pods of a real containerd, through its CRI, with the plugin under test in its chain.
//!
//! What is shown here cannot be shown by calling the binary: that a runtime accepts our result as
//! a pod address, passes us what we need to name things, and has nothing left when the pod is
//! gone. The same story is told with the reference `ptp` plugin, so that a failure tells whether
//! the machine or manx is to blame; and with the distribution's containerd and the newest one, which
//! asks for STATUS, takes the newest version that a list offers, and attaches a pod's networks at
//! the same time.
//!
//! These tests need real root (mounts, cgroups), which the user namespace of the ordinary test
//! runner does not give. They are therefore ignored by `cargo test`; `hack/test` runs them.

// Outside of #[test] functions clippy sees no test code, yet all of this crate is.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod annotated;
#[path = "../enclosure/mod.rs"]
mod enclosure;
mod polled;
mod runtime;
mod several;
mod story;
mod template;

use serde_json::json;
use sha1_smol::Sha1;

use crate::runtime::Release;
use crate::story::Subject;

/// Tells the story of manx with a containerd.
fn story_of_manx(test: &str, release: Release) {
    enclosure::run(test, release.missing(), || {
        story::tell(
            release,
            &Subject {
                binary: Some(env!("CARGO_BIN_EXE_manx")),
                plugin: "manx",
                routes: json!([]),
                host_link: Some(calico_name),
            },
        );
    });
}

/// The same of ptp.
fn story_of_ptp(test: &str, release: Release) {
    enclosure::run(test, release.missing(), || {
        story::tell(
            release,
            &Subject {
                binary: None,
                plugin: "ptp",
                routes: json!([{"dst": "0.0.0.0/0"}]),
                host_link: None,
            },
        );
    });
}

#[test]
#[ignore = "needs root outside of any user namespace: hack/test runs it"]
fn containerd_pods_live_and_go_with_manx() {
    story_of_manx("containerd_pods_live_and_go_with_manx", Release::Distribution);
}

#[test]
#[ignore = "needs root outside of any user namespace: hack/test runs it"]
fn containerd_pods_live_and_go_with_ptp() {
    story_of_ptp("containerd_pods_live_and_go_with_ptp", Release::Distribution);
}

#[test]
#[ignore = "needs root outside of any user namespace: hack/test runs it"]
fn newest_containerd_pods_live_and_go_with_manx() {
    story_of_manx("newest_containerd_pods_live_and_go_with_manx", Release::Newest);
}

#[test]
#[ignore = "needs root outside of any user namespace: hack/test runs it"]
fn newest_containerd_pods_live_and_go_with_ptp() {
    story_of_ptp("newest_containerd_pods_live_and_go_with_ptp", Release::Newest);
}

#[test]
#[ignore = "needs root outside of any user namespace: hack/test runs it"]
fn several_networks_of_a_pod_are_attached_at_once() {
    let test = "several_networks_of_a_pod_are_attached_at_once";
    enclosure::run(test, Release::Newest.missing(), several::attached_at_once);
}

#[test]
#[ignore = "needs root outside of any user namespace: hack/test runs it"]
fn a_full_pool_leaves_the_node_ready() {
    let test = "a_full_pool_leaves_the_node_ready";
    enclosure::run(test, Release::Newest.missing(), polled::full_pool);
}

#[test]
#[ignore = "needs root outside of any user namespace: hack/test runs it"]
fn a_condition_that_lasts_is_logged_once() {
    let test = "a_condition_that_lasts_is_logged_once";
    enclosure::run(test, Release::Newest.missing(), polled::missing_peers_file);
}

#[test]
#[ignore = "needs root outside of any user namespace: hack/test runs it"]
fn annotations_of_a_pod_reach_the_plugin() {
    let test = "annotations_of_a_pod_reach_the_plugin";
    enclosure::run(test, Release::Distribution.missing(), || {
        annotated::pods_get_what_they_name(Release::Distribution);
    });
}

#[test]
#[ignore = "needs root outside of any user namespace: hack/test runs it"]
fn newest_annotations_of_a_pod_reach_the_plugin() {
    let test = "newest_annotations_of_a_pod_reach_the_plugin";
    enclosure::run(test, Release::Newest.missing(), || {
        annotated::pods_get_what_they_name(Release::Newest);
    });
}

#[test]
#[ignore = "needs root outside of any user namespace: hack/test runs it"]
fn a_template_is_filled_with_the_nodes_pod_cidrs() {
    let test = "a_template_is_filled_with_the_nodes_pod_cidrs";
    enclosure::run(test, Release::Newest.missing(), template::is_filled_in);
}

/// Calico's name for the host end of a pod's link. A runtime that passes the pod's name and
/// namespace in CNI_ARGS makes this name come out; anything else gives another one.
fn calico_name(namespace: &str, pod: &str) -> String {
    let hex = Sha1::from(format!("{namespace}.{pod}")).digest().to_string();
    format!("cali{}", &hex[..11])
}
