// SPDX-License-Identifier: Apache-2.0
//! A node as one thing: the configuration of all its networks, its fabrics, its
//! attachments, what it has at one moment, and the pass that makes it what it should
//! be. Verbs and commands stand on it, and it knows neither.

pub mod allowed;
pub(crate) mod apply;
mod attachment;
pub(crate) mod changes;
mod complete;
pub(crate) mod configured;
pub(crate) mod conflist;
mod error;
pub mod fabric;
pub mod facts;
pub mod former;
#[cfg(fuzzing)]
pub mod fuzzing;
pub(crate) mod lasting;
pub mod liveness;
pub(crate) mod ownership;
pub mod pod_side;
pub mod policy;
pub mod pools;
mod readable;
pub mod repair;
pub mod sandbox;
pub mod side;
mod snapshot;
pub mod table;
pub mod tables;
pub mod upgrade;
pub(crate) mod version;
pub(crate) mod watch;

pub use attachment::Attachment;
pub(crate) use complete::complete;
pub use error::{Error, Kind, Object};
pub(crate) use error::{file, kernel, no_pair, refusal, refused};
pub use facts::{link_mtus, uplink};
pub(crate) use readable::{require_readable, unreadable};
pub use snapshot::*;
