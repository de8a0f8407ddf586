// SPDX-License-Identifier: Apache-2.0
//! Containers of podman with its CNI backend, which was the only one until podman 4 and is in Debian
//! 12's: networks that are connected to and disconnected from a container that runs, addresses as
//! podman reports them, ports, and what is left.
//!
//! podman asks in version 1.0.0 at most, keeps results in libcni's cache, and knows neither STATUS
//! nor GC. Like the tests of containerd these need real root; `hack/test` runs them.

// Outside of #[test] functions clippy sees no test code, yet all of this crate is.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

#[path = "../enclosure/mod.rs"]
mod enclosure;
mod podman;
mod story;

#[test]
#[ignore = "needs root outside of any user namespace: hack/test runs it"]
fn podman_containers_live_and_go_with_manx() {
    let test = "podman_containers_live_and_go_with_manx";
    enclosure::run(test, podman::missing(), story::two_containers);
}

#[test]
#[ignore = "needs root outside of any user namespace: hack/test runs it"]
fn podman_networks_come_and_go_while_a_container_runs() {
    let test = "podman_networks_come_and_go_while_a_container_runs";
    enclosure::run(test, podman::missing(), story::networks_come_and_go);
}

#[test]
#[ignore = "needs root outside of any user namespace: hack/test runs it"]
fn podman_cleans_up_after_a_container_that_ends_by_itself() {
    let test = "podman_cleans_up_after_a_container_that_ends_by_itself";
    enclosure::run(test, podman::missing(), story::ends_by_itself);
}

#[test]
#[ignore = "needs root outside of any user namespace: hack/test runs it"]
fn podman_gives_the_addresses_that_were_asked_for() {
    let test = "podman_gives_the_addresses_that_were_asked_for";
    enclosure::run(test, podman::missing(), story::asked_for);
}
