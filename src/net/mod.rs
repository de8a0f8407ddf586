// SPDX-License-Identifier: Apache-2.0
//! The kernel's network objects: links, addresses, routes, rules, neighbours,
//! namespaces and sysctls, each as a plain type with requests to make it and
//! queries to read it.
//!
//! Requests are built first and sent in batches ([`netlink`]): one system call for
//! several messages. The types of the netlink crates stay inside this module, whose
//! callers see names, numbers and addresses. It knows nothing of CNI.

pub mod addr;
pub mod classifier;
pub mod conntrack;
pub mod devconf;
pub mod fdb;
pub mod forwarding;
#[cfg(fuzzing)]
pub mod fuzzing;
pub mod icmp;
pub mod link;
mod mac;
mod message;
pub mod monitor;
pub mod neigh;
pub mod next_hops;
pub mod ns;
pub mod nsid;
mod raw;
pub mod route;
pub mod rule;
pub mod sysctl;
mod tables;
pub mod tunnel;
pub mod way;

#[cfg(test)]
mod tests;

pub use crate::netlink::{Error, Failed, Monitor, Refusal, Request};
pub use mac::Mac;
pub use monitor::Event;
pub use ns::Namespace;
pub use tables::Tables;

use crate::netlink::{self, Answer, Reading};

/// A socket for all of these.
pub type Socket = netlink::Socket<netlink::Route>;
