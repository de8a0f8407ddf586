//! The kernel's network objects: links, addresses, routes, rules, neighbours,
//! namespaces and sysctls, each as a plain type with requests to make it and
//! queries to read it.
//!
//! Requests are built first and sent in batches: one system call for several
//! messages. The types of the netlink crates stay inside this module, whose
//! callers see names, numbers and addresses. It knows nothing of CNI.

pub mod addr;
mod answer;
pub mod devconf;
mod error;
pub mod fdb;
pub mod forwarding;
pub mod link;
mod mac;
pub mod monitor;
pub mod neigh;
pub mod next_hops;
pub mod ns;
mod request;
pub mod route;
pub mod rule;
mod socket;
pub mod sysctl;
pub mod tunnel;
pub mod way;

pub use error::Error;
pub use mac::Mac;
pub use ns::Namespace;
pub use request::Request;
pub use socket::{Failed, Socket};
