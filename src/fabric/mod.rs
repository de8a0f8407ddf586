// SPDX-License-Identifier: Apache-2.0
//! The node's part of the cluster network: which links, addresses, routes,
//! neighbours and forwarding entries make this node's pods reach the pods of
//! every other node.
//!
//! Desired state is one pure function of the configuration, the peers and the facts of
//! this node ([`describe()`], in the words of [`object`](crate::object)). A pure
//! comparison with what the kernel has ([`diff`]) gives the changes, which `plan` prints
//! and `apply` carries out. The kernel is asked by [`observe`], by [`digest`] and [`ways`]
//! whether anything has happened, and by [`apply`] to make what is wanted.

pub mod amend;
pub mod answers;
pub mod apply;
mod clash;
mod describe;
pub mod desired;
pub mod diff;
pub mod digest;
pub mod divert;
pub mod encapsulation;
pub mod faults;
#[cfg(fuzzing)]
pub mod fuzzing;
mod inquiry;
pub mod ledger;
pub mod list;
pub mod nodes;
pub mod observe;
pub mod observed;
pub mod peers;
pub mod pools;
mod read;
pub mod reconcile;
mod refusal;
pub mod settings;
pub mod site;
pub mod standing;
pub mod text;
pub mod trouble;
pub mod uplink;
pub mod ways;

pub use amend::Settled;
pub use answers::Answers;
pub use clash::Bounds;
pub use describe::describe;
pub use desired::Desired;
pub use inquiry::Inquiry;
pub use ledger::{Added, Ledger};
pub use observed::Observed;
pub use peers::Peers;
pub use read::{heir, holder};
pub use reconcile::Plan;
pub use settings::Settings;
pub use site::Site;

pub use crate::object::Change;
