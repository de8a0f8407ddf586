// SPDX-License-Identifier: Apache-2.0
//! A cluster whose other nodes are Calico's: its pools, its blocks of addresses and what
//! it notes on Nodes, as a list of nodes.
//!
//! Nothing of it is written. What Calico's own agent makes of the same objects is made
//! here: which routes there are follows from the blocks, how packets travel from the pool
//! around each block, and where tunnels end from the annotations of the Nodes.
//! `settle.rs` and what it calls is pure; `watch.rs` has the objects, and `delegate.rs` and
//! `credentials.rs` what Calico's IPAM plugin needs on this node.

mod believed;
mod blocks;
mod credentials;
mod delegate;
mod input;
mod jwt;
mod needs;
mod nodes;
mod pools;
mod settle;
mod watch;
mod wish;

pub(crate) use credentials::{Credentials, kubeconfig, token};
pub(crate) use delegate::Delegate;
pub(crate) use watch::Calico;
pub(crate) use wish::Wish;
