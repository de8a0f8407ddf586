// SPDX-License-Identifier: Apache-2.0
//! manx: a CNI plugin that gives each pod a routed veth, and a tool that says
//! what it did.
//!
//! Desired state is data. Pure functions turn a configuration, an IPAM result
//! and the facts of this node into a description; everything else applies that
//! description, compares it with the kernel, or prints it.
//!
//! Dependencies point downwards only, and the lowest row knows nothing of
//! itself:
//!
//! | layer | modules |
//! |---|---|
//! | commands, the agent | [`cli`], [`agent`] |
//! | verbs, checks | [`verb`], [`doctor`] |
//! | the node | [`node`] |
//! | the node, described | [`fabric`], [`policy`] |
//! | an attachment, described | [`pod`] |
//! | what can be on a node | [`object`] |
//! | our configuration | [`conf`] |
//! | foundations | [`cni`], [`ipam`], [`net`], [`nft`] |
//! | messages to the kernel | [`netlink`] |
//! | files | [`state`] |
//! | text, families of addresses, findings | [`text`], [`family`], [`finding`] |
//! | lists, errors by a pointer | [`list`], [`boxed`] |

#[cfg(feature = "agent")]
pub mod agent;
pub mod boxed;
pub mod cli;
pub mod cni;
pub mod conf;
pub mod doctor;
pub mod fabric;
pub mod family;
pub mod finding;
pub mod ipam;
pub mod list;
pub mod net;
pub mod netlink;
pub mod nft;
pub mod node;
pub mod object;
pub mod pod;
pub mod policy;
pub mod state;
pub mod text;
pub mod verb;
