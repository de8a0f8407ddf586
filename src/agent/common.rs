// SPDX-License-Identifier: Apache-2.0
//! What holds for all nodes together, where that is said by the cluster and not by the
//! agent's own configuration.

use serde_json::{Value, json};

use crate::{
    conf::{FabricPart, Mode},
    family::Family,
    finding::Finding,
};

/// What follows for all nodes together.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Common {
    pub(crate) mode: Mode,
    /// The families that travel as they are beside one that does not.
    pub(crate) plain: Vec<Family>,
    pub(crate) cross_subnet: bool,
    /// Whether what leaves the pods' networks bears the node's address.
    pub(crate) masquerade: bool,
    /// The families that pods get addresses of.
    pub(crate) families: Vec<Family>,
    pub(crate) findings: Vec<Finding>,
    /// Why this node should have no pods yet, and what changes that.
    pub(crate) trouble: Option<Finding>,
}

impl Common {
    /// The fabric of this, with what the agent's configuration says of it.
    pub(crate) fn fabric(&self, configured: &FabricPart) -> FabricPart {
        let mut object = match configured.encode() {
            Value::Object(object) => object,
            _ => serde_json::Map::new(),
        };
        object.insert("mode".to_owned(), json!(word(self.mode)));
        object.remove("plain");
        if !self.plain.is_empty() {
            object.insert("plain".to_owned(), json!(self.plain));
        }
        if self.cross_subnet {
            object.insert("crossSubnet".to_owned(), json!(true));
        }
        FabricPart::of_file(&object).0
    }
}

/// A mode, as a configuration has it.
pub(crate) fn word(mode: Mode) -> &'static str {
    match mode {
        Mode::Direct => "direct",
        Mode::Ipip => "ipip",
        Mode::Vxlan => "vxlan",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_cluster_says_is_added_to_what_is_configured() {
        let configured = json!({"vxlan": {"vni": 7}, "mtu": 1400});
        let (configured, ..) = FabricPart::of_file(configured.as_object().unwrap());
        let common = |mode, cross_subnet| Common {
            mode,
            plain: if cross_subnet { vec![Family::V6] } else { Vec::new() },
            cross_subnet,
            masquerade: true,
            families: Vec::new(),
            findings: Vec::new(),
            trouble: None,
        };
        let fabric = common(Mode::Vxlan, true).fabric(&configured).encode();
        let expected = json!({"mode": "vxlan", "crossSubnet": true, "vxlan": {"vni": 7}, "mtu": 1400,
                "plain": ["IPv6"]});
        assert_eq!(fabric, expected);
        let fabric = common(Mode::Direct, false).fabric(&FabricPart::default()).encode();
        assert_eq!(fabric, json!({"mode": "direct"}));
    }
}
