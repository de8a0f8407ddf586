// SPDX-License-Identifier: Apache-2.0
//! What network policies make of a packet: as the kernel's table has it on this node, and as
//! the policies say it, where somebody gives them.

use super::{
    place::{self, Place, pod},
    walk::{Question, Walk},
    way::Way,
};
use crate::{
    list::Gather,
    node::HeldPolicies,
    policy::{
        Direction, Flow, Granted, Judgement, Name, Policies, TABLE, World, granted, protocol_name,
    },
    text::few::some_of,
};

impl Walk<'_> {
    /// Whether network policies let it begin, as this node's table has it.
    pub(super) fn policy(&mut self, way: &Way<'_>) {
        let surroundings = &self.snapshot.surroundings;
        let table = format!("table inet {TABLE}");
        if !surroundings.enforces_policy {
            let text = "off: nothing filters what pods may send and get";
            return self.note("policy", text, format!("no {table}"));
        }
        let sets = surroundings.policies.as_ref();
        let Some((held, policies)) =
            sets.and_then(|held| Some((held, Policies::decode(TABLE, &held.sets)?)))
        else {
            let text = "network policies are enforced, and what they allow could not be read";
            return self.note("policy", text, table);
        };
        if way.is_local || matches!(self.source, Place::Here(_)) {
            let text = "a node and its own pods may always speak";
            return self.note("policy", text, "not forwarded");
        }
        for (at, direction) in Direction::BOTH.into_iter().enumerate() {
            let place = match direction {
                Direction::Egress => self.source,
                Direction::Ingress => self.destination,
            };
            let ends = (self.question.source, self.question.destination);
            match (granted(&policies, direction, ends), place) {
                (Some(all), _) => {
                    let by = isolated_by(held, &place, at);
                    self.judge(direction, &place, &all, &by);
                }
                (None, Place::Pod(entry, _)) => {
                    let text = format!("{} of {} is not isolated", direction.word(), pod(entry));
                    self.note("policy", text, table.clone());
                }
                (None, Place::PeerPods(node, _)) => {
                    let text = format!("{}: {} judges it", direction.word(), node.name);
                    self.note("policy", text, format!("table inet {TABLE} there"));
                }
                (None, _) => {}
            }
        }
    }

    /// Judges it by what a pod that is isolated may get or send.
    fn judge(&mut self, direction: Direction, of: &Place<'_>, all: &[Granted], by: &str) {
        let whose = match of {
            Place::Pod(entry, _) => pod(entry),
            _ => "an address that no pod has".to_owned(),
        };
        let subject = format!("{} of {whose}", direction.word());
        let table = format!("table inet {TABLE}, {by}");
        let allowed = match some_of(all) {
            _ if all.is_empty() => "nothing is allowed between the two".to_owned(),
            listed => format!("allowed between the two: {listed}"),
        };
        let Some(port) = self.question.port else {
            if all.is_empty() {
                self.drop(format!("no policy allows it: {subject} is {by}"), None);
            }
            self.note("policy", format!("{subject}: {allowed}"), table);
            if all.is_empty() {
                self.dropped_before(direction, &subject);
            }
            return;
        };
        let protocol = self.question.protocol;
        let asked = format!("{} {port}", protocol_name(protocol));
        if all.iter().any(|granted| granted.has(protocol, port)) {
            return self.note("policy", format!("{subject}: {asked} is allowed"), table);
        }
        self.note("policy", format!("{subject}: {asked} is not allowed; {allowed}"), table);
        self.drop(format!("no policy allows {asked}: {subject} is {by}"), None);
        self.dropped_before(direction, &subject);
    }

    /// How much was dropped already, of whatever the pod sent or got.
    fn dropped_before(&mut self, direction: Direction, subject: &str) {
        let Question { source, destination, .. } = self.question;
        let pod = match direction {
            Direction::Egress => source,
            Direction::Ingress => destination,
        };
        let held = self.snapshot.surroundings.policies.as_ref();
        let denied = held.map(|held| held.denied.as_slice()).unwrap_or_default();
        let mut denied = denied.iter().filter(|it| it.direction == direction.word());
        if let Some(denied) = denied.find(|denied| denied.address == pod) {
            let text = format!("{subject}: {} packets were dropped so far", denied.packets);
            self.note("policy", text, format!("table inet {TABLE}"));
        }
    }

    /// What the policies of a cluster say of it, whichever nodes the two are on.
    pub(super) fn policies_say(&mut self, world: &World) {
        const BY: &str = "the given policies";
        let Question { source, destination, protocol, port } = self.question;
        let is_dropped = self.dropped.is_some();
        for place in [self.source, self.destination] {
            let Place::Pod(entry, _) = place else { continue };
            let name = entry.pod();
            let is_known =
                world.pods.iter().any(|pod| name.as_ref() == Some(&pod.name.to_string()));
            if !is_known {
                self.note("policies", format!("they do not know {} yet", place::pod(entry)), BY);
            }
        }
        world.note_of_unknown().into_iter().for_each(|note| self.note("policies", note, BY));
        let verdict = world.verdict(&Flow { source, destination, protocol, port });
        for sentence in verdict.sentences() {
            self.note("policies", sentence, BY);
        }
        let denied = verdict.denied();
        let reasons = denied.iter().map(|(direction, judgement)| {
            let Judgement { pod, isolated_by, .. } = judgement;
            format!("{} of pod {pod} is isolated by {}", direction.word(), some_of(isolated_by))
        });
        let reasons: Vec<String> = reasons.gather();
        match (verdict.is_allowed(), self.snapshot.surroundings.enforces_policy) {
            (true, _) => {}
            (false, false) => self.note("policies", "nothing enforces them on this node", BY),
            (false, true) => {
                if !is_dropped {
                    let text = "this node's table does not deny it: the other node's does, or \
                                manx policy apply is due";
                    self.note("policies", text, BY);
                }
                self.drop(format!("no policy allows it: {}", reasons.join("; ")), None);
            }
        }
    }
}

/// What isolates a pod in a direction, as far as that is noted.
fn isolated_by(held: &HeldPolicies, place: &Place<'_>, at: usize) -> String {
    let Place::Pod(entry, _) = place else { return "isolated".to_owned() };
    let (Some(namespace), Some(name)) = (&entry.pod_namespace, &entry.pod_name) else {
        return "closed, as it has no name by which policies know it".to_owned();
    };
    let name = Name { namespace: namespace.clone(), name: name.clone() };
    let Some(known) = held.pods.iter().find(|pod| pod.name == name.to_string()) else {
        return "closed until somebody says which policies are about it".to_owned();
    };
    let policies = [&known.egress, &known.ingress];
    let names = policies.get(at).copied().into_iter().flatten();
    let names: Vec<String> = names.map(|policy| format!("{namespace}/{policy}")).gather();
    match names.is_empty() {
        true => "isolated".to_owned(),
        false => format!("isolated by {}", some_of(&names)),
    }
}
