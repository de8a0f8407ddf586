// SPDX-License-Identifier: Apache-2.0
//! The same policies in the layout of Calico's Felix for nftables: a map of links to two chains
//! for each pod, a chain for each policy and direction, a set for each selector.
//!
//! What is left out of it costs nothing here: tiers beyond the first, profiles, host endpoints,
//! and the tables for other hooks. Its rules come from one `nft -f`, for what is measured is the
//! kernel and not the program that speaks to it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::world::{JOINS, PRIVATE, Peer, Pod, Policy, Rule, Selector, World};

/// Marks of a packet that is accepted, and of one that the next tier is to judge.
const ACCEPTED: &str = "0x10000";
const PASSED: &str = "0x20000";
const NEITHER: &str = "0xfffcffff";

/// Statements for `nft -f`, each one line.
pub struct Calico {
    lines: Vec<String>,
}

/// What is of traffic from a pod, and what of traffic to it.
#[derive(Clone, Copy)]
enum Direction {
    From,
    To,
}

impl Direction {
    const BOTH: [Self; 2] = [Self::From, Self::To];

    fn of_pod(self) -> &'static str {
        match self {
            Self::From => "fw",
            Self::To => "tw",
        }
    }

    fn of_policy(self) -> &'static str {
        match self {
            Self::From => "po",
            Self::To => "pi",
        }
    }

    fn rules(self, policy: &Policy) -> Option<&[Rule]> {
        match self {
            Self::From => policy.egress.as_deref(),
            Self::To => Some(&policy.ingress),
        }
    }

    fn peer(self) -> &'static str {
        match self {
            Self::From => "daddr",
            Self::To => "saddr",
        }
    }
}

impl Calico {
    fn new() -> Self {
        Self { lines: Vec::new() }
    }

    fn say(&mut self, line: String) {
        self.lines.push(line);
    }

    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    pub fn text(&self) -> String {
        self.lines.join("\n") + "\n"
    }

    /// All of it. The two pods that are there have these links.
    pub fn load(world: &World, links: &[(String, String)]) -> Self {
        let mut made = Self::new();
        made.say("add table ip calico".into());
        let active = active(world);
        made.sets(world, &active);
        for policy in &active {
            for direction in Direction::BOTH {
                made.policy(policy, direction);
            }
        }
        let named: BTreeMap<&str, &str> =
            links.iter().map(|(address, link)| (address.as_str(), link.as_str())).collect();
        for direction in Direction::BOTH {
            made.say(format!(
                "add map ip calico {}-dispatch {{ type ifname : verdict; }}",
                direction.of_pod()
            ));
        }
        for pod in local(world) {
            let link = named.get(pod.address.as_str()).map_or_else(|| link(pod), |it| (*it).into());
            made.pod(pod, &link, &active);
        }
        for direction in Direction::BOTH {
            let (of, name) = (
                if matches!(direction, Direction::From) { "iifname" } else { "oifname" },
                direction.of_pod(),
            );
            made.say(format!("add chain ip calico {name}-dispatch"));
            made.say(format!("add rule ip calico {name}-dispatch {of} vmap @{name}-dispatch"));
            made.say(format!("add rule ip calico {name}-dispatch drop"));
        }
        made.say(
            "add chain ip calico FORWARD { type filter hook forward priority 0; policy accept; }"
                .into(),
        );
        made.say(format!("add rule ip calico FORWARD meta mark set meta mark and {NEITHER}"));
        made.say("add rule ip calico FORWARD iifname \"cali*\" jump fw-dispatch".into());
        made.say("add rule ip calico FORWARD oifname \"cali*\" jump tw-dispatch".into());
        made
    }

    /// One more pod, the last of this world, which was not in what was loaded.
    pub fn join(world: &World) -> Self {
        let mut made = Self::new();
        let pod = joined(world);
        let active = active(world);
        for selector in selectors(&active).into_iter().filter(|it| it.selects(pod)) {
            made.say(format!("add element ip calico {} {{ {} }}", set(selector), pod.address));
        }
        made.pod(pod, &link(pod), &active);
        made
    }

    /// The same pod goes again.
    pub fn leave(world: &World) -> Self {
        let mut made = Self::new();
        let pod = joined(world);
        let link = link(pod);
        for direction in Direction::BOTH {
            let name = direction.of_pod();
            made.say(format!("delete element ip calico {name}-dispatch {{ \"{link}\" }}"));
            made.say(format!("flush chain ip calico {name}-{link}"));
            made.say(format!("delete chain ip calico {name}-{link}"));
        }
        let active = active(world);
        for selector in selectors(&active).into_iter().filter(|it| it.selects(pod)) {
            made.say(format!("delete element ip calico {} {{ {} }}", set(selector), pod.address));
        }
        made
    }

    /// The rules of one policy as this world has them; Felix writes chains whole.
    pub fn rewrite(policy: &Policy) -> Self {
        let mut made = Self::new();
        for direction in Direction::BOTH {
            if direction.rules(policy).is_some() {
                made.say(format!(
                    "flush chain ip calico {}-{}",
                    direction.of_policy(),
                    policy.name
                ));
                made.rules(policy, direction);
            }
        }
        made
    }

    fn sets(&mut self, world: &World, active: &[&Policy]) {
        for selector in selectors(active) {
            let name = set(selector);
            self.say(format!("add set ip calico {name} {{ type ipv4_addr; }}"));
            let members: Vec<&str> = world
                .pods
                .iter()
                .filter(|pod| selector.selects(pod))
                .map(|pod| pod.address.as_str())
                .collect();
            for part in members.chunks(500) {
                self.say(format!("add element ip calico {name} {{ {} }}", part.join(", ")));
            }
        }
    }

    fn policy(&mut self, policy: &Policy, direction: Direction) {
        if direction.rules(policy).is_some() {
            self.say(format!("add chain ip calico {}-{}", direction.of_policy(), policy.name));
            self.rules(policy, direction);
        }
    }

    fn rules(&mut self, policy: &Policy, direction: Direction) {
        let chain = format!("{}-{}", direction.of_policy(), policy.name);
        for rule in direction.rules(policy).unwrap_or_default() {
            let field = direction.peer();
            let peer = match &rule.peer {
                Peer::Pods(selector) => format!("ip {field} @{}", set(*selector)),
                Peer::Outside => format!("ip {field} != {{ {} }}", PRIVATE.join(", ")),
            };
            let (protocol, mut ports) = (rule.protocol.to_lowercase(), String::new());
            for port in &rule.ports {
                write!(ports, "{}{port}", if ports.is_empty() { "" } else { ", " })
                    .expect("a text");
            }
            self.say(format!(
                "add rule ip calico {chain} {peer} {protocol} dport {{ {ports} }} meta mark set meta mark or {ACCEPTED}"
            ));
            self.say(format!(
                "add rule ip calico {chain} meta mark and {ACCEPTED} == {ACCEPTED} return"
            ));
        }
    }

    fn pod(&mut self, pod: &Pod, link: &str, active: &[&Policy]) {
        for direction in Direction::BOTH {
            let chain = format!("{}-{link}", direction.of_pod());
            let mut rules = vec![
                "ct state established,related accept".to_owned(),
                "ct state invalid drop".to_owned(),
                format!("meta mark set meta mark and {NEITHER}"),
            ];
            if matches!(direction, Direction::From) {
                // No tunnels from pods.
                rules.push("udp dport 4789 drop".to_owned());
                rules.push("ip protocol 4 drop".to_owned());
            }
            let of_it: Vec<&&Policy> = active
                .iter()
                .filter(|policy| policy.subject.selects(pod) && direction.rules(policy).is_some())
                .collect();
            for policy in &of_it {
                let name = format!("{}-{}", direction.of_policy(), policy.name);
                rules.push(format!("meta mark and {PASSED} == 0 jump {name}"));
                rules.push(format!("meta mark and {ACCEPTED} == {ACCEPTED} return"));
            }
            rules.push(match of_it.is_empty() {
                // A profile that allows everything.
                true => format!("meta mark set meta mark or {ACCEPTED}"),
                false => "drop".to_owned(),
            });
            self.say(format!("add chain ip calico {chain}"));
            for rule in rules {
                self.say(format!("add rule ip calico {chain} {rule}"));
            }
            let name = direction.of_pod();
            self.say(format!(
                "add element ip calico {name}-dispatch {{ \"{link}\" : goto {chain} }}"
            ));
        }
    }
}

fn local(world: &World) -> impl Iterator<Item = &Pod> {
    world.pods.iter().filter(|pod| pod.is_local)
}

/// The policies of pods of this node.
fn active(world: &World) -> Vec<&Policy> {
    let selects = |policy: &&Policy| local(world).any(|pod| policy.subject.selects(pod));
    world.policies.iter().filter(selects).collect()
}

fn joined(world: &World) -> &Pod {
    world.pods.iter().find(|pod| pod.address == JOINS).expect("a world with one more pod")
}

/// A name as short as that of a link.
fn link(pod: &Pod) -> String {
    let parts: Vec<&str> = pod.address.split('.').collect();
    format!("cali{}", parts[1..].join("x"))
}

fn set(Selector { namespace, app }: Selector) -> String {
    app.map_or_else(|| format!("ns-{namespace}"), |app| format!("ns-{namespace}-app-{app}"))
}

/// Those that policies of pods of this node look at.
fn selectors(active: &[&Policy]) -> BTreeSet<Selector> {
    let rules = active
        .iter()
        .flat_map(|policy| policy.ingress.iter().chain(policy.egress.iter().flatten()));
    rules
        .filter_map(|rule| match rule.peer {
            Peer::Pods(selector) => Some(selector),
            Peer::Outside => None,
        })
        .collect()
}
