// SPDX-License-Identifier: Apache-2.0
//! What becomes of a packet on this node, step by step, each with what decides it: a pure
//! function of the [`Snapshot`]. No packet is sent, and what lies beyond the node is not
//! known.

mod back;
mod place;
mod policy;
mod source;
mod special;
#[cfg(test)]
mod tests;
mod walk;
mod way;

use crate::{node::Snapshot, policy::World};
use place::Place;
use walk::{Drop, Walk};
use way::Way;

pub use walk::{Question, Step};

/// Where it ends, as far as this node is concerned.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// At a pod of this node, or at the node.
    Delivered,
    /// It leaves the node.
    Leaves,
    /// It is dropped.
    Dropped,
}

impl Outcome {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Leaves => "leaves",
            Self::Dropped => "dropped",
        }
    }
}

/// What becomes of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Verdict {
    /// Where it ends.
    pub outcome: Outcome,
    /// In words.
    pub text: String,
    /// The check of doctor that concerns it, where there is one.
    pub check: Option<&'static str>,
}

/// All of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Explanation {
    /// In the order in which the packet meets them.
    pub steps: Vec<Step>,
    /// What comes of them.
    pub verdict: Verdict,
}

/// Explains what becomes of a packet; where the policies of the cluster are given, also what
/// they say of it.
pub fn explain(snapshot: &Snapshot, question: Question, world: Option<&World>) -> Explanation {
    if let Some(explanation) = special::explain(question) {
        return explanation;
    }
    let [source, destination] =
        [question.source, question.destination].map(|address| Place::of(snapshot, address));
    let (steps, dropped) = (Vec::new(), None);
    let mut walk = Walk { snapshot, question, source, destination, steps, dropped };
    walk.source_check();
    walk.translation();
    let way = walk.way();
    walk.sizes(&way);
    walk.masquerade(&way);
    walk.firewall(&way);
    walk.policy(&way);
    if let Some(world) = world {
        walk.policies_say(world);
    }
    let unanswered = walk.way_back(&way);
    let verdict = walk.verdict(&way, unanswered);
    Explanation { steps: walk.steps, verdict }
}

impl Walk<'_> {
    fn verdict(&self, way: &Way<'_>, unanswered: Option<Drop>) -> Verdict {
        if let Some((why, check)) = &self.dropped {
            let (outcome, text) = (Outcome::Dropped, format!("dropped: {why}"));
            return Verdict { outcome, text, check: *check };
        }
        let (outcome, text) = match (way.is_local, &self.destination) {
            (true, _) => (Outcome::Delivered, "delivered to this node".to_owned()),
            (false, Place::Pod(entry, _)) => {
                let text = format!("delivered to {} by {}", place::pod(entry), way.device);
                (Outcome::Delivered, text)
            }
            (false, Place::PeerPods(node, cidr)) => {
                let text =
                    format!("leaves by {} to {}, whose pods are {cidr}", way.device, node.name);
                (Outcome::Leaves, text)
            }
            (false, Place::PeerNode(node)) => {
                (Outcome::Leaves, format!("leaves by {} to {}", way.device, node.name))
            }
            (false, _) => {
                let via = way.gateway.map_or_else(String::new, |hop| format!(" via {hop}"));
                (Outcome::Leaves, format!("leaves by {}{via}", way.device))
            }
        };
        let (text, check) = match unanswered {
            None => (text, None),
            Some((why, check)) => (format!("{text}; its answers are dropped: {why}"), check),
        };
        Verdict { outcome, text, check }
    }
}
