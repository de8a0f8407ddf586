// SPDX-License-Identifier: Apache-2.0
//! What can be on a node, and what can be done to it. One file for each kind of object
//! has its key, whose it is, its form as wanted and as held, how it is told and the
//! messages that make it; the list in `kinds.rs` has the order of all kinds. Pure: how the
//! kernel is asked is not known here, nor who wants what.

mod address;
pub mod diff;
pub mod fib;
mod forwarding;
mod kinds;
pub mod link;
mod lookup;
mod managed;
mod neighbour;
pub mod route;
mod rule;
mod setting;
mod sysctl;
mod table;
mod told;

pub use address::Address;
pub use diff::{Held, Step};
pub use forwarding::Forwarding;
pub use kinds::{Change, HeldObjects, Objects, Part, difference};
pub use link::Tunnel;
pub use lookup::{Diversion, Lookup};
pub use managed::{Indexes, Making, Managed, Work};
pub use neighbour::Neighbour;
pub use route::{HeldRoute, Route};
pub use setting::{LOOSE, Mark, Setting, Value, reverse_path};
pub use table::{HeldTable, Table};
pub use told::{Action, Kind, Told};

pub use crate::net::{rule::Rule, sysctl::Sysctl};
