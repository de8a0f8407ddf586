// SPDX-License-Identifier: Apache-2.0
//! Nodes as they are watched.

use super::watched::{Kind, Sent};
use crate::fabric::nodes::Record;

pub(crate) use crate::fabric::nodes::object::Object;

/// Where Nodes are.
pub(crate) const PATH: &str = "/api/v1/nodes";

/// Nodes whose pods have addresses of their podCIDRs, as in a cluster without Calico.
#[derive(Debug)]
pub(crate) struct Nodes;

impl<A: Default> Sent for Object<A> {
    fn key(&self) -> Box<str> {
        self.metadata().name.clone()
    }

    fn version(&self) -> &str {
        &self.metadata().resource_version
    }
}

impl Kind for Nodes {
    type Object = Object;
    type Value = Record;
    const NAME: &'static str = "Nodes";
    const RESOURCE: &'static str = "nodes";

    fn value(object: Object) -> Record {
        object.into_parts().0
    }
}
