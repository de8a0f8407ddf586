// SPDX-License-Identifier: Apache-2.0
//! All that there is of Calico's.

use std::{net::IpAddr, sync::Arc};

use super::{blocks::Block, nodes::CalicoNode, pools::Pool};

/// What the list of nodes is made of.
pub(crate) struct Input<'a> {
    /// The name of this node.
    pub(crate) own: &'a str,
    pub(crate) nodes: &'a [Arc<CalicoNode>],
    pub(crate) pools: &'a [Arc<Pool>],
    /// None where pods are in the podCIDRs of Nodes.
    pub(crate) blocks: Option<&'a [Arc<Block>]>,
    /// The group and version of Calico's objects.
    pub(crate) group: &'a str,
    /// Whether a family may travel plainly beside one that is carried: the plugin has to know
    /// of that.
    pub(crate) plain: bool,
    /// The prefix length of the network that an address of this node is in.
    pub(crate) prefix: &'a dyn Fn(IpAddr) -> Option<u8>,
}
