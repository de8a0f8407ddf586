// SPDX-License-Identifier: Apache-2.0
//! What follows from the answers. Pure.
//!
//! | outer | inner | else | it is |
//! |---|---|---|---|
//! | silent | answers | | nothing, the node ignores what asks |
//! | silent | silent | its own requests arrive | the way there that is cut |
//! | silent | silent | no neighbour | a node that is down, or elsewhere |
//! | silent | silent | it is a neighbour that answers on its link | a firewall, and no more is known |
//! | silent | silent | somebody refuses | that one |
//! | answers | silent | a router refuses the tunnel | the tunnel's protocol that is filtered |
//! | answers | silent | the node has no such port or protocol | a node without the tunnel |
//! | answers | silent | nothing is said | a filter there or back, which only the other end can tell |
//! | | silent | another address by the same way answers | that address alone |

use std::collections::BTreeMap;

use super::{Carrier, Found, Path, Peer, Refusal, Sizes, Skipped};
use crate::{
    finding::{Finding, Severity},
    list::{Gather, PushAll},
    net::icmp::Why,
    text::few::some_of,
};

const UNREACHABLE: &str = "peer-unreachable";
const FILTERED: &str = "protocol-filtered";
const MTU: &str = "path-mtu";

/// From this many nodes on that have the same, one finding is about all of them.
const ALIKE_MIN: usize = 4;

/// A finding about one node.
struct Verdict {
    id: &'static str,
    severity: Severity,
    /// What is the same for all nodes that have it, with the MTU that it comes to.
    cause: (&'static str, u32),
    evidence: String,
    fix: String,
}

/// The same of many nodes: severity, place among the checks, and cause.
type Alike<'a> = BTreeMap<(Severity, usize, (&'static str, u32)), Vec<(&'a str, Verdict)>>;

impl Verdict {
    fn new(id: &'static str, severity: Severity, cause: &'static str, evidence: String) -> Self {
        Self { id, severity, cause: (cause, 0), evidence, fix: String::new() }
    }

    fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = fix.into();
        self
    }

    /// It would be mended by this MTU of pods.
    fn mended_by(mut self, mtu: u32) -> Self {
        self.cause.1 = mtu;
        self.fix(format!(
            "set mtu to {mtu}, in the configuration or in fabric of the peers file, and recreate \
             the pods; or let ICMP (type 3 code 4, of IPv6 type 2) pass on the way"
        ))
    }
}

/// What is wrong, the worst first.
pub fn findings(me: &str, peers: &[Peer]) -> Vec<Finding> {
    let mut alike = Alike::new();
    for peer in peers {
        for verdict in verdicts(me, peer) {
            let rank = super::CHECKS.iter().position(|id| *id == verdict.id).unwrap_or_default();
            let key = (verdict.severity, rank, verdict.cause);
            alike.entry(key).or_default().push((&peer.name, verdict));
        }
    }
    let mut all = Vec::new();
    for group in alike.into_values() {
        let mut names: Vec<&str> = group.iter().map(|(name, _)| *name).gather();
        // Of several pods of a node.
        names.dedup();
        let count = names.len();
        for (name, verdict) in group {
            let Verdict { id, severity, evidence, fix, .. } = verdict;
            let (object, evidence) = match count >= ALIKE_MIN {
                true => (format!("nodes {}", some_of(&names)), format!("{name}: {evidence}")),
                false => (format!("node {name}"), evidence),
            };
            all.push(Finding { fix, ..Finding::new(id, severity, object, evidence) });
            if count >= ALIKE_MIN {
                break;
            }
        }
    }
    all
}

fn verdicts(me: &str, peer: &Peer) -> Vec<Verdict> {
    let cut = |skipped: &&Skipped| skipped.is_cut;
    let is_first = |skipped: &&Skipped| {
        let mut outer = peer.skipped.iter().filter(cut).filter(|other| !other.inner);
        !skipped.inner || !outer.any(|other| other.family == skipped.family)
    };
    let told = peer.skipped.iter().filter(cut).filter(is_first).map(|skipped| {
        Verdict::new(UNREACHABLE, Severity::Error, "no way", skipped.reason.clone())
            .fix("manx doctor says what is wrong with the links, rules and routes of this node")
    });
    let mut all: Vec<Verdict> = told.gather();
    for outer in peer.paths.iter().filter(|found| !found.path.inner) {
        let family = outer.path.family;
        let inner = peer.paths.iter().filter(|it| it.path.inner && it.path.family == family);
        let inner: Vec<&Found> = inner.gather();
        if !outer.answers() {
            all.push(unreachable(me, peer, outer, &inner));
        }
        let silent = inner.iter().filter(|it| !it.answers() && it.path.expected);
        for (place, one) in silent.clone().enumerate() {
            let is_beside = |other: &&&Found| other.path.is_beside(&one.path);
            // A tunnel that lets nothing pass is one fault, however many addresses it leads to.
            let mut before = silent.clone().take(place).filter(is_beside);
            let is_told = one.path.carrier.is_some() && before.next().is_some();
            match inner.iter().filter(is_beside).find(|other| other.answers()) {
                Some(other) => all.push(silent_alone(me, peer, one, other)),
                None if outer.answers() && !is_told => {
                    all.push(silent_inside(me, peer, outer, one));
                }
                None => {}
            }
        }
        let narrow = inner.iter().filter(|it| it.answers()).find_map(|it| narrow_inside(it));
        match narrow {
            Some(narrow) => all.push(narrow),
            None => all.push_all(narrow_outside(outer, &inner)),
        }
    }
    all
}

/// Who says why, in words.
fn said(refusal: &Refusal) -> String {
    let Refusal { why, by, .. } = refusal;
    let words = match why {
        Why::Network => "that it has no route",
        Why::Host => "that nobody there has the address",
        Why::Protocol => "that it does not know the protocol",
        Why::Port => "that nobody listens at the port",
        Why::Prohibited => "that it is not allowed",
        Why::Loop => "that the packet went in a circle",
        Why::TooBig(_) => "that it is too large",
    };
    format!("{by} says {words}")
}

fn unreachable(me: &str, peer: &Peer, outer: &Found, inner: &[&Found]) -> Verdict {
    let Path { address, device, next_hop, family, .. } = &outer.path;
    let seen = &outer.seen;
    let name = &peer.name;
    let silent = format!(
        "{address} answers none of {} echo requests, and no UDP to a closed port",
        seen.sent
    );
    if inner.iter().any(|it| it.answers()) {
        let evidence = format!("{silent}, and its pods' network is reached: it drops what asks");
        return Verdict::new(UNREACHABLE, Severity::Info, "ignores", evidence);
    }
    let of = |cause, more: String| {
        Verdict::new(UNREACHABLE, Severity::Error, cause, format!("{silent}: {more}"))
    };
    if let Some(words) = &seen.unsent {
        let more = format!("this node does not send them ({words})");
        return of("unsent", more).fix("look for a rule or a route of this node that refuses them");
    }
    let heard = seen.heard || inner.iter().any(|it| it.seen.heard);
    if heard {
        let more = format!(
            "its own echo requests arrive here, so the way from {name} to {me} works, and the way \
             from {me} to {name} does not"
        );
        let fix = format!("let packets from {me} to {address} pass, on the way or on {name}");
        return of("one way", more).fix(fix);
    }
    // What this node says itself comes of a neighbour that does not answer.
    let is_own = |refusal: &&Refusal| refusal.by == outer.path.source;
    if let Some(refusal) = seen.refusals.iter().find(|refusal| !is_own(refusal)) {
        let fix = format!("ask {}, which stands in the way", refusal.by);
        return of("refused", said(refusal)).fix(fix);
    }
    let asked = if family.version() == 4 { "ARP" } else { "neighbour solicitations" };
    if outer.neighbour == Some(false) || seen.refusals.iter().any(|refusal| is_own(&refusal)) {
        let what = if next_hop == address { "it" } else { "the router" };
        let more = format!("{what} ({next_hop}) does not answer {asked} on {}", device.0);
        return of("no neighbour", more).fix("see whether it runs, and its link is up");
    }
    if outer.neighbour == Some(true) && next_hop == address {
        let evidence = format!(
            "{silent}: it answers {asked} on {}, so it is there: its firewall drops what asks, and \
             whether pods' packets pass is not told by that",
            device.0
        );
        return Verdict::new(UNREACHABLE, Severity::Warning, "there", evidence)
            .fix(format!("let ICMP from {me} pass on {name}, or ask from a pod to a pod of it"));
    }
    let router = match outer.neighbour {
        Some(true) => format!("the router ({next_hop}) answers {asked} on {}, so ", device.0),
        _ => String::new(),
    };
    let more = format!(
        "{router}all ICMP may be dropped on the way or by {name}, or it is gone: whether its packets \
         arrive here can be told while manx probe {me} runs there"
    );
    of("silent", more).fix(format!("run manx probe {me} on {name} at the same time"))
}

/// An address does not answer, and another one does to which packets take the same way.
fn silent_alone(me: &str, peer: &Peer, silent: &Found, other: &Found) -> Verdict {
    let (address, name, answers) = (silent.path.address, &peer.name, other.path.address);
    if !silent.path.pod {
        let evidence = format!(
            "{address} answers none of {} echo requests, and {answers} by the same way is reached: \
             it drops what asks",
            silent.seen.sent
        );
        return Verdict::new(UNREACHABLE, Severity::Info, "ignores inside", evidence);
    }
    let refusal = silent.seen.refusals.iter().find(|refusal| !refusal.of_carrier);
    let more = refusal.map_or_else(String::new, |refusal| format!(": {}", said(refusal)));
    let evidence = format!(
        "{answers} answers, and {address} by the same way does not{more}: no pod with that address \
         answers"
    );
    Verdict::new(UNREACHABLE, Severity::Warning, "alone", evidence).fix(format!(
        "see whether manx pods on {name} lists it; where it does, a policy or a firewall may drop \
         what asks: manx explain {me} {address} on {name}"
    ))
}

/// The node answers, and its pods' network does not.
fn silent_inside(me: &str, peer: &Peer, outside: &Found, inner: &Found) -> Verdict {
    let Path { address, outer: (_, node), carrier, .. } = &inner.path;
    let name = &peer.name;
    let silent = format!("{node} answers, {address} behind it does not");
    let Some(carrier) = carrier else { return silent_plainly(peer, inner, &silent) };
    let (what, instead) = match carrier {
        Carrier::Ipip => ("IP protocol 4".to_owned(), "; or set mode to vxlan"),
        Carrier::Vxlan(port) => (format!("UDP {port}"), ""),
    };
    let allow = |whom: String| -> String {
        format!("let {what} pass both ways between {me} and {name}{whom}{instead}")
    };
    let filtered = |cause, more: String| {
        let evidence = format!("{silent}: {what} is filtered: {more}");
        Verdict::new(FILTERED, Severity::Error, cause, evidence)
    };
    let is_nodes = |refusal: &&Refusal| refusal.by == *node;
    let of_carrier = || inner.seen.refusals.iter().filter(|refusal| refusal.of_carrier);
    if let Some(refusal) = of_carrier().find(|refusal| !is_nodes(refusal)) {
        return filtered("refused", said(refusal)).fix(allow(format!(", at {}", refusal.by)));
    }
    if let Some(refusal) = of_carrier().next() {
        if refusal.why == Why::Prohibited {
            let fix = allow(format!(", in the firewall of {name}"));
            return filtered("refused by the node", said(refusal)).fix(fix);
        }
        let evidence = format!("{silent}: {}: it has no tunnel device", said(refusal));
        let verdict = Verdict::new(UNREACHABLE, Severity::Error, "no tunnel", evidence);
        return verdict
            .fix(format!("manx apply on {name}, or see that its firewall lets {what} in"));
    }
    if let Some(words) = &inner.seen.unsent {
        let more = format!("this node does not send it ({words})");
        return filtered("unsent", more).fix(allow(", in the firewall of this node".to_owned()));
    }
    if inner.seen.heard {
        let more = format!(
            "what {name} sends through the tunnel arrives here, so it is dropped on the way from \
             {me} to {name}"
        );
        return filtered("one way", more).fix(allow(String::new()));
    }
    let rest = match (carrier, outside.seen.datagrams) {
        (Carrier::Vxlan(_), Some(true)) => "other UDP is answered, and nobody refuses it",
        (Carrier::Vxlan(_), _) => "no UDP is answered at all, and nobody refuses it",
        (Carrier::Ipip, _) => "nobody refuses it",
    };
    if outside.seen.received == 0 {
        let evidence = format!(
            "{silent}, and {name} answers no echo requests at all: whether {what} passes is not told \
             by that"
        );
        return Verdict::new(FILTERED, Severity::Warning, "mute", evidence)
            .fix(format!("let ICMP from {me} pass on {name}, or ask from a pod to a pod of it"));
    }
    let more = format!(
        "{rest}; whether it is lost there or back, or {name} does not know this node, cannot be \
         told apart from here: run manx probe {me} on {name} at the same time"
    );
    filtered("silent", more).fix(allow(", and run manx apply on both".to_owned()))
}

/// As [`silent_inside`], where packets travel as they are.
fn silent_plainly(peer: &Peer, inner: &Found, silent: &str) -> Verdict {
    let name = &peer.name;
    let by_node = |refusal: &&Refusal| refusal.by == inner.path.outer.1;
    if let Some(refusal) = inner.seen.refusals.iter().find(by_node) {
        let evidence = format!("{silent}: {}: no pod has it", said(refusal));
        let verdict = Verdict::new(UNREACHABLE, Severity::Warning, "no pod", evidence);
        return verdict.fix(format!("name an address that manx pods on {name} lists"));
    }
    if let Some(refusal) = inner.seen.refusals.first() {
        let evidence = format!("{silent}: {}", said(refusal));
        let fix = format!("give {} a route to the pods of every node", refusal.by);
        return Verdict::new(FILTERED, Severity::Error, "plain refused", evidence).fix(fix);
    }
    let evidence = format!(
        "{silent}: the network between drops addresses that it does not know (source and \
         destination check of a cloud), a router has no route back, or the pod is gone"
    );
    Verdict::new(FILTERED, Severity::Error, "plain silent", evidence).fix(
        "turn the source and destination check of the machines off, or set mode to vxlan or ipip",
    )
}

/// What becomes of larger packets that pods send, with the cause where somebody says so,
/// or where nobody does.
fn larger(sizes: &Sizes, causes: [&'static str; 2]) -> (Severity, &'static str, String) {
    let [told, hole] = causes;
    match sizes.told {
        Some((_, by)) => {
            let rest = format!("{by} says so, and connections lose packets until they know");
            (Severity::Warning, told, rest)
        }
        None => {
            let rest = "larger ones are lost and no ICMP says so: a black hole".to_owned();
            (Severity::Error, hole, rest)
        }
    }
}

/// The tunnel, or whatever leads to the pods, carries less than they send.
fn narrow_inside(inner: &Found) -> Option<Verdict> {
    let Path { address, needed, .. } = &inner.path;
    let sizes = inner.sizes().filter(|sizes| sizes.passed < *needed && sizes.lost.is_some())?;
    let passed = sizes.passed;
    let (severity, cause, rest) = larger(sizes, ["inner told", "inner hole"]);
    let evidence = format!(
        "pods send up to {needed} bytes, and to {address} no more than {passed} pass; {rest}"
    );
    Some(Verdict::new(MTU, severity, cause, evidence).mended_by(passed))
}

/// The path between the nodes carries less than leaves here.
fn narrow_outside(outer: &Found, inner: &[&Found]) -> Option<Verdict> {
    let Path { address, device, limit, needed, overhead, .. } = &outer.path;
    let sizes = outer.sizes().filter(|sizes| sizes.passed < *limit && sizes.lost.is_some())?;
    let passed = sizes.passed;
    let mut most = match outer.remembered {
        Some(mtu) => format!(" (the kernel remembers {mtu})"),
        None => String::new(),
    };
    let datagram = outer.seen.datagram.as_ref().map_or(0, |sizes| sizes.passed);
    if outer.seen.echo.is_some() && datagram > passed {
        most += &format!(" and come back (UDP of {datagram} arrives: it is the way back)");
    }
    let pass = format!(
        "{} sends up to {limit} bytes, and to {address} no more than {passed} pass{most}",
        device.0
    );
    let fitting = passed.saturating_sub(*overhead);
    let whole =
        |found: &&Found| found.sizes().is_some_and(|sizes| sizes.passed >= found.path.needed);
    if passed >= *needed {
        // Who sends such packets learns it, as the path MTU of a connection.
        if sizes.told.is_some() {
            return None;
        }
        let evidence = format!(
            "{pass}; larger ones are lost and no ICMP says so: a black hole for what the node \
             itself sends, pods send no more than {needed} with the tunnel's headers"
        );
        let name = &device.0;
        let verdict = Verdict::new(MTU, Severity::Warning, "node's hole", evidence);
        return Some(verdict.fix(format!(
            "ip link set {name} mtu {passed}; or let ICMP (type 3 code 4, of IPv6 type 2) pass"
        )));
    }
    let pods = format!("pods' packets come to {needed} bytes there");
    if *overhead > 0 && inner.iter().any(whole) {
        let evidence = format!("{pass}; {pods}, and are cut into fragments on the way");
        return Some(
            Verdict::new(MTU, Severity::Warning, "fragments", evidence).mended_by(fitting),
        );
    }
    let (severity, cause, rest) = larger(sizes, ["outer told", "outer hole"]);
    let evidence = format!("{pass}; {rest}; {pods}");
    Some(Verdict::new(MTU, severity, cause, evidence).mended_by(fitting))
}
