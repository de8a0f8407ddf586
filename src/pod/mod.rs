// SPDX-License-Identifier: Apache-2.0
//! The desired state of one attachment, as data.
//!
//! Pure: names, MTU and the objects on both sides of the veth follow from the
//! configuration, the IPAM result and the facts given. ADD applies the
//! description, CHECK compares it with the kernel. Nothing here opens a socket
//! or a file.

pub mod attachment;
pub mod identity;
pub mod mtu;
pub mod reserved;
pub mod routing;
pub mod several;
pub mod side;
mod spec;

pub use attachment::Attachment;
pub use identity::Identity;
pub use routing::PodFacts;
pub use side::Side;
