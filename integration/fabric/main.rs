// SPDX-License-Identifier: Apache-2.0
//! Pods reach pods on other nodes: two to four nodes, each a namespace with its
//! own manx, joined by a router between two subnets.
//!
//! Every test makes its own cluster; see the harness.

#![allow(missing_docs, unreachable_pub)]
// What tests share is no test in clippy's eyes; a failed expectation is a failed test, and how long
// something took is told.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

#[path = "../harness/mod.rs"]
mod harness;

mod accepts;
mod adopt;
mod blackhole;
mod browser;
mod bundle;
mod capture;
mod checks;
mod cluster;
mod conflict;
mod doctor;
mod document;
mod dropped;
mod examples;
mod explain;
mod fallback;
mod faults;
mod firewall;
mod fixtures;
mod former;
mod forwarding;
mod idle;
mod interop;
mod intruders;
mod killed;
mod left_behind;
mod left_by_flannel;
mod masquerade;
mod monitor;
mod networks;
mod pages;
mod path_mtu;
mod peers;
mod pools;
mod probe;
mod reach;
mod report;
mod route_mtu;
mod same_key;
mod scale;
mod stamp;
mod status;
mod steady;
mod told;
mod traffic;
mod transition;
mod tune;
mod tunnel;
mod unadopted;
mod undo;
mod unusable;
mod uplinks;
mod watch;
mod wire;
mod writer;
