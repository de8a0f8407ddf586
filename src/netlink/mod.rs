// SPDX-License-Identifier: Apache-2.0
//! Netlink, for every protocol alike: one blocking socket, batches, dumps, events,
//! attributes and errors. What messages mean is known above; here are no links and
//! no tables.
//!
//! The kernel handles a request within `send`, so all answers are there when `send`
//! returns. Reading therefore never waits, and a missing answer is an error rather
//! than a hang. A plugin lives for a few milliseconds and asks a handful of questions
//! in a fixed order; a runtime and a reactor would cost it more than the questions do.

mod answer;
pub(crate) mod attribute;
mod channel;
mod error;
#[cfg(fuzzing)]
pub mod fuzzing;
mod monitor;
mod request;
mod socket;
#[cfg(test)]
mod tests;

pub(crate) use answer::{Answer, Answers, Reading};
pub use channel::Failed;
pub(crate) use channel::{BATCH, Batch};
pub use error::{Error, Refusal};
pub use monitor::Monitor;
pub(crate) use netlink_packet_core::DecodeError;
pub use request::Request;
pub(crate) use request::Words;
pub use socket::Socket;

/// One of the kernel's netlink protocols.
pub trait Protocol {
    /// Its number (include/uapi/linux/netlink.h).
    const NUMBER: isize;
    /// What a socket of it is called in an error.
    const NAME: &'static str;
    /// The kernel can be told to refuse a dump whose filter it does not know
    /// (`NETLINK_GET_STRICT_CHK`). Without that it ignores the filter.
    const STRICT: bool = false;
}

/// Links, addresses, routes, rules, neighbours.
#[derive(Debug)]
pub enum Route {}

/// nf_tables and its like.
#[derive(Debug)]
pub enum Netfilter {}

/// Families that have a name instead of a number.
#[derive(Debug)]
pub enum Generic {}

impl Protocol for Route {
    const NUMBER: isize = netlink_sys::protocols::NETLINK_ROUTE;
    const NAME: &'static str = "netlink";
    const STRICT: bool = true;
}

impl Protocol for Netfilter {
    const NUMBER: isize = netlink_sys::protocols::NETLINK_NETFILTER;
    const NAME: &'static str = "netfilter";
}

impl Protocol for Generic {
    const NUMBER: isize = netlink_sys::protocols::NETLINK_GENERIC;
    const NAME: &'static str = "generic netlink";
}
