// SPDX-License-Identifier: Apache-2.0
//! Network policies of Kubernetes: what they say, and the table that says the same to the
//! kernel.
//!
//! A [`World`] is all namespaces, pods and policies of a cluster. [`World::verdict`] answers
//! for one connection what they say, with the names of the policies. [`compile`] makes of a
//! world what the table of one node holds ([`Policies`]) and which numbers its pods have
//! there; [`allows`] answers by that as the kernel does, and [`granted`] lists it for people.
//! The two know nothing of each other, so that tests hold one against the other.
//!
//! Pure: no file, no socket, and no types of a client of the API server.

mod attached;
mod changes;
mod class;
mod compile;
#[cfg(fuzzing)]
pub mod fuzzing;
mod granted;
mod live;
mod lookup;
mod numbers;
mod read;
mod scope;
mod selector;
#[cfg(feature = "agent")]
mod shared;
mod unread;
mod verdict;
mod world;

pub use attached::Attached;
pub use changes::changes;
pub use compile::{Compiled, Known, TABLE, compile};
pub use granted::{Granted, granted};
pub use lookup::allows;
pub use numbers::Key;
#[cfg(any(feature = "agent", fuzzing))]
pub(crate) use read::Item;
pub(crate) use read::{Fields, reading};
pub use read::{Read, protocol, protocol_name, read};
pub use selector::{Labels, Requirement, Selector, Test};
#[cfg(feature = "agent")]
pub(crate) use shared::Shared;
pub use unread::{Unread, Unreads, unread};
pub use verdict::{Judgement, Verdict};
pub use world::{Block, Flow, Name, NamedPort, Peer, Pod, Policy, Port, Ports, Rule, World};

pub use crate::nft::policy::{Assigned, Denial, Direction, Dropped, Policies};

#[cfg(test)]
mod tests;
