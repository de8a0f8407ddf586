// SPDX-License-Identifier: Apache-2.0
//! A real Kubernetes: what manx takes from its API, and what it gives to it.
//!
//! The API server is one of the newest release, built by `hack/setup`, with certificates of its own
//! in namespaces of its own. That needs real root, as the tests in `integration/containerd` do;
//! `hack/test` runs them.

// Outside of #[test] functions clippy sees no test code, yet all of this crate is.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod chart;
mod confined;
mod control;
#[path = "../enclosure/mod.rs"]
mod enclosure;
mod manifests;
mod streaming;
mod traffic;

use std::path::Path;

use crate::control::Control;

/// Runs `body` with an API server of its own.
fn with_control(test: &str, body: impl FnOnce(&Control)) {
    enclosure::run(test, control::missing(), || {
        body(&Control::start(Path::new("/run/cluster"), enclosure::NODE_ADDRESS));
    });
}

#[test]
#[ignore = "needs root outside of any user namespace: hack/test runs it"]
fn nodes_are_served_as_a_streaming_list() {
    with_control("nodes_are_served_as_a_streaming_list", streaming::nodes);
}

#[test]
#[ignore = "needs root outside of any user namespace: hack/test runs it"]
fn the_api_server_takes_what_is_shipped() {
    with_control("the_api_server_takes_what_is_shipped", manifests::every_combination);
}

#[test]
#[ignore = "needs root outside of any user namespace: hack/test runs it"]
fn the_agent_may_do_what_it_does_and_no_more() {
    with_control("the_agent_may_do_what_it_does_and_no_more", manifests::rights);
}

#[test]
#[ignore = "needs root outside of any user namespace: hack/test runs it"]
fn the_chart_gives_what_the_manifests_give() {
    let missing = control::missing().or_else(chart::missing);
    enclosure::run("the_chart_gives_what_the_manifests_give", missing, || {
        chart::gives_the_same(&Control::start(Path::new("/run/cluster"), enclosure::NODE_ADDRESS));
    });
}

#[test]
#[ignore = "needs root outside of any user namespace: hack/test runs it"]
fn a_lost_packet_is_noticed_and_a_late_one_is_not_lost() {
    let test = "a_lost_packet_is_noticed_and_a_late_one_is_not_lost";
    enclosure::run(test, traffic::missing(), traffic::judges);
}
