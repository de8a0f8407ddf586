// SPDX-License-Identifier: Apache-2.0
//! What a node itself knows of its pods: which addresses they have. It knows that before
//! the API server does, and for longer.

use std::{net::IpAddr, sync::Arc};

use super::{Assigned, Compiled, Known, Name, World};
use crate::list::{Gather, Sorted};

/// A pod that was attached on this node, and on which policies are enforced.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Attached {
    /// Its name, where the runtime gave one.
    pub name: Option<Name>,
    /// By what the runtime knows it from others of its name; empty where it does not say.
    pub uid: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Its numbers where nobody knows it.
    pub otherwise: Assigned,
}

impl Attached {
    /// Whether it is the pod of that name. Another one had the name before, or will have it,
    /// where both say a uid and it is not the same.
    pub fn is(&self, name: &Name, uid: &str) -> bool {
        let is_same = self.uid.is_empty() || uid.is_empty() || self.uid == uid;
        is_same && self.name.as_ref() == Some(name)
    }
}

impl World {
    /// Gives the pods of a node the addresses that they were attached with; of several with
    /// one address the last has it. Returns the addresses of those that the world does not
    /// know.
    pub fn locate<'a>(
        &mut self,
        node: &str,
        attached: &'a [Attached],
    ) -> Vec<(IpAddr, &'a Attached)> {
        let mut owners = Sorted::default();
        for (place, one) in (0u64..).zip(attached) {
            for address in &one.addresses {
                owners.insert(*address, place);
            }
        }
        let is_owned = |address: &IpAddr| owners.has(address);
        let mut local = Vec::new();
        for (place, pod) in self.pods.iter_mut().enumerate() {
            if pod.addresses.iter().any(is_owned) {
                Arc::make_mut(pod).addresses.retain(|address| !is_owned(address));
            }
            if *pod.node == *node && pod.is_subject() {
                local.push(place);
            }
        }
        let mut unknown = Vec::new();
        for (address, one) in &owners {
            let Some(one) = attached.get(*one as usize) else { continue };
            let is_it = |place: &usize| {
                self.pods.get(*place).is_some_and(|pod| one.is(&pod.name, &pod.uid))
            };
            match local.iter().copied().find(is_it).and_then(|place| self.pods.get_mut(place)) {
                Some(pod) => Arc::make_mut(pod).addresses.push(*address),
                None => unknown.push((*address, one)),
            }
        }
        unknown
    }
}

impl Compiled {
    /// Puts those attachments into the table of which the world knows nothing, as they are while
    /// nobody knows them. One that was known `before` is closed then, whatever it would be: who
    /// deletes a pod in the API takes it out of its policies, and it may run on.
    pub fn settle(
        &mut self,
        unknown: &[(IpAddr, &Attached)],
        attached: &[Attached],
        before: &[Known],
    ) {
        let is_known = |one: &Attached| self.pods.iter().any(|pod| one.is(&pod.name, &pod.uid));
        let would_open = |one: &&Attached| one.otherwise != Assigned::CLOSED && !is_known(one);
        let open: Vec<&Attached> = attached.iter().filter(would_open).gather();
        let is_former = |known: &&Known| open.iter().any(|one| one.is(&known.name, &known.uid));
        let former = before.iter().filter(is_former);
        self.former = former.map(|it| Known::closed(it.name.clone(), it.uid.clone())).gather();
        for (address, one) in unknown {
            let is_former = self.former.iter().any(|known| one.is(&known.name, &known.uid));
            let assigned = if is_former { &Assigned::CLOSED } else { &one.otherwise };
            self.policies.assign(*address, assigned);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Pod, Policy, compile};

    fn name(name: &str) -> Name {
        Name { namespace: "x".to_owned(), name: name.to_owned() }
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn pod(of: &str, uid: &str, addresses: &[u8]) -> Pod {
        let addresses = addresses.iter().copied().map(address).collect();
        Pod { name: name(of), uid: uid.to_owned(), node: "n".into(), addresses, ..Pod::default() }
    }

    fn attached(of: &str, uid: &str, last: u8) -> Attached {
        let (name, otherwise) = (Some(name(of)), Assigned::CLOSED);
        Attached { name, uid: uid.to_owned(), addresses: vec![address(last)], otherwise }
    }

    /// Where each address of the table leads to: no class, that of the policy, or the closed one.
    fn classes(mut world: World, attached: &[Attached]) -> Vec<(u8, &'static str)> {
        world.policies.push(Arc::new(Policy {
            name: name("p"),
            ways: [None, Some(vec![crate::policy::Rule::default()])],
            ..Policy::default()
        }));
        let unknown = world.locate("n", attached);
        let mut compiled = compile(&world, "n", &[7; 16]);
        compiled.settle(&unknown, attached, &[]);
        let policies = compiled.policies;
        let [egress, ingress] = &policies.ways;
        let all = 1..=9;
        all.filter_map(|last| {
            let class = *ingress.classes.get(&address(last))?;
            let is_closed = egress.classes.has(&address(last));
            assert_eq!((class == 1, policies.own.has(&address(last))), (is_closed, true));
            Some((last, if is_closed { "closed" } else { "policy" }))
        })
        .collect()
    }

    #[test]
    fn an_attachment_knows_its_address_better_than_the_api_server() {
        let world = |pods: &[Pod]| {
            let pods = pods.iter().cloned().map(Arc::new).collect();
            World { pods, ..World::default() }
        };
        for (pods, all, expected) in [
            // It has no address there yet, or that of its sandbox before.
            (vec![pod("a", "u1", &[])], vec![attached("a", "u1", 2)], vec![(2, "policy")]),
            (
                vec![pod("a", "u1", &[1])],
                vec![attached("a", "u1", 2)],
                vec![(1, "policy"), (2, "policy")],
            ),
            // Another one of its name is not known yet.
            (
                vec![pod("a", "u1", &[1])],
                vec![attached("a", "u2", 2)],
                vec![(1, "policy"), (2, "closed")],
            ),
            // Or has the address already.
            (vec![pod("a", "u1", &[2])], vec![attached("a", "u2", 2)], vec![(2, "closed")]),
            (vec![pod("b", "u3", &[2])], vec![attached("a", "u2", 2)], vec![(2, "closed")]),
            // Who says no uid is known by name alone.
            (vec![pod("a", "u1", &[])], vec![attached("a", "", 2)], vec![(2, "policy")]),
            (vec![pod("a", "", &[])], vec![attached("a", "u1", 2)], vec![(2, "policy")]),
            // The last one has the address.
            (
                vec![pod("a", "u1", &[]), pod("b", "u2", &[])],
                vec![attached("gone", "u0", 2), attached("a", "u1", 2)],
                vec![(2, "policy")],
            ),
            (vec![], vec![attached("a", "u1", 2)], vec![(2, "closed")]),
        ] {
            assert_eq!(classes(world(&pods), &all), expected, "{pods:?} {all:?}");
        }
        let open = Attached { otherwise: Assigned::default(), ..attached("a", "u1", 2) };
        assert_eq!(classes(World::default(), &[open]), []);
        // One of another node is not ours to know.
        let elsewhere = Pod { node: "m".into(), ..pod("a", "u1", &[2]) };
        assert_eq!(classes(world(&[elsewhere]), &[attached("a", "u1", 2)]), [(2, "closed")]);
        let finished = Pod { finished: true, ..pod("a", "u1", &[2]) };
        assert_eq!(classes(world(&[finished]), &[attached("a", "u1", 2)]), [(2, "closed")]);
    }

    /// Who is not known any more is not as one whom nobody ever knew.
    #[test]
    fn a_pod_that_is_not_known_any_more_is_closed_though_unknown_ones_are_open() {
        let open = |of: &str, uid: &str, last| Attached {
            otherwise: Assigned::default(),
            ..attached(of, uid, last)
        };
        let known =
            |of: &str, uid: &str| Known { name: name(of), uid: uid.to_owned(), ..Known::default() };
        let settled = |pods: &[Pod], attached: &[Attached], before: &[Known]| {
            let pods = pods.iter().cloned().map(Arc::new).collect();
            let mut world = World { pods, ..World::default() };
            let unknown = world.locate("n", attached);
            let mut compiled = compile(&world, "n", &[7; 16]);
            compiled.settle(&unknown, attached, before);
            let closed: Vec<IpAddr> = compiled.policies.own.keys().copied().collect();
            (closed, compiled.former)
        };
        let (a, before) = (open("a", "u1", 2), [known("a", "u1"), known("b", "u2")]);
        let (closed, former) = settled(&[], std::slice::from_ref(&a), &before);
        assert_eq!(closed, [address(2)]);
        assert_eq!(former, [Known::closed(name("a"), "u1".to_owned())]);
        // And stays so, whoever asks next.
        assert_eq!(settled(&[], std::slice::from_ref(&a), &former), (closed, former.clone()));
        // Another one of its name is not it, and nobody ever knew this one.
        let next = [pod("a", "u9", &[3])];
        assert_eq!(settled(&next, std::slice::from_ref(&a), &before).0, [address(2)]);
        assert_eq!(settled(&[], &[open("a", "u7", 2)], &before), (vec![], vec![]));
        assert_eq!(settled(&[], &[open("c", "u3", 2)], &before), (vec![], vec![]));
        // Known again, or not attached any more.
        let again = [pod("a", "u1", &[])];
        assert_eq!(settled(&again, std::slice::from_ref(&a), &former), (vec![], vec![]));
        assert_eq!(settled(&[], &[], &former), (vec![], vec![]));
    }
}
