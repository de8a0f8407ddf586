// SPDX-License-Identifier: Apache-2.0
//! Whether the node lets in what answers a packet.

use super::{
    place::Place,
    walk::{Drop, Walk},
    way::{Way, look_up},
};
use crate::{family::Family, family::HasFamily, object::reverse_path};

/// `rp_filter`: only the device by which the way back leads.
const STRICT: u64 = 1;
/// No device at all is looked at.
const OFF: u64 = 0;

impl Walk<'_> {
    /// The filter of packets by the way back to their source, for what answers; why it
    /// drops that, where it does.
    pub(super) fn way_back(&mut self, way: &Way<'_>) -> Option<Drop> {
        if way.is_local || way.route.is_none() {
            return None;
        }
        if let Place::Pod(_, link) = self.destination {
            let name = link.map(|link| link.name.as_str()).unwrap_or_default();
            self.note(
                "way back",
                format!("answers come by {name}, and are checked as its pod's"),
                "",
            );
            return None;
        }
        // As the list has it; what the kernel has may be another way.
        let expected = self.expected().unwrap_or_else(|| way.device.clone());
        if self.question.destination.family() == Family::V6 {
            let text = format!("answers come by {expected}; no filter by the way back for IPv6");
            self.note("way back", text, "");
            return None;
        }
        let number = |name: &str| self.snapshot.kernel.number(&reverse_path(name));
        let own = number(&expected).unwrap_or_default();
        let value = number("all").unwrap_or_default().max(own);
        let word = match value {
            OFF => "off",
            STRICT => "strict",
            _ => "loose",
        };
        let by = format!("sysctl {}, {}", reverse_path(&expected), reverse_path("all"));
        let answer = look_up(self.snapshot, Some(self.question.source), self.question.destination);
        let devices = answer.route.map(|found| self.snapshot.kernel.devices(found));
        let leads = devices.unwrap_or_default().contains(&expected.as_str());
        if value == STRICT && !leads {
            let text =
                format!("answers come by {expected}, which is strict, and lead by {}", way.device);
            self.note("way back", text, by);
            let why = format!("{expected} filters strictly by the way back");
            return Some((why, Some("rp-filter")));
        }
        self.note("way back", format!("answers come by {expected}, whose filter is {word}"), by);
        None
    }

    /// The device by which packets of the destination come, as the list of nodes has it.
    fn expected(&self) -> Option<String> {
        let Place::PeerPods(node, cidr) = self.destination else { return None };
        let fabrics = self.snapshot.compared.fabrics.iter();
        let mut of_node =
            fabrics.filter(|fabric| fabric.peers.others.iter().any(|one| one == node));
        let desired = of_node.next()?.plan().desired;
        let mut routes = desired.objects.routes.iter();
        let route = routes.find(|route| route.destination() == cidr)?;
        crate::object::Managed::device(route).map(str::to_owned)
    }
}
