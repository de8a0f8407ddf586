// SPDX-License-Identifier: Apache-2.0
//! From the rules of a base chain to what they do with pods' packets.

use std::collections::BTreeSet;

use super::{
    Barrier, Base, Links, Maker, Pattern, Point, Rule, TCP, Test, Truth, UDP, Verdict, Way, address,
};
use crate::family::Family;
use crate::list::{Gather, PushAll};

/// Jumps go no deeper (NFT_JUMP_STACK_SIZE, include/net/netfilter/nf_tables.h).
const DEPTH_MAX: usize = 16;
/// A rule set of which more would have to be read is not judged.
const RULES_MAX: usize = 20_000;

/// Gives the rules of a chain by its name; nothing where there is none.
pub(super) type Chains<'a, E> = &'a mut dyn FnMut(&str) -> Result<Vec<Rule>, E>;

/// What a chain does with the packets that come to it.
enum Flow {
    Accepted,
    Dropped(String),
    /// They go on behind it.
    Through,
}

/// What a walk is about, and what it has met.
struct Walk<'a> {
    base: &'a Base,
    links: &'a Links<'a>,
    end: End<'a>,
    way: Way,
    packets: Family,
    protocol: u8,
    /// A rule may have set the packet's mark. Before that it has none.
    marked: bool,
    /// The first rule that accepts some of the packets, maybe all.
    may: Option<String>,
    /// How many rules may still be looked at.
    left: usize,
    /// The host links that rules name.
    named: &'a mut BTreeSet<String>,
}

/// Which of the links at the ends of a way is asked for.
#[derive(Clone, Copy)]
enum End<'a> {
    /// Any of them: what is closed to one of them alone is not closed.
    Any,
    /// This device by which packets of other nodes come.
    Other(&'a str),
    /// This host link.
    HostLink(&'a str),
}

impl<'a> End<'a> {
    /// The ways that have such an end, and that are closed to nobody else.
    fn ways(self, links: &Links<'_>) -> &'static [Way] {
        match self {
            Self::Any => &Way::ALL,
            // Where pods are reached through a tunnel, nothing has to reach them beside it.
            Self::Other(name) if !links.tunnels.iter().any(|(one, _)| one == name) => {
                &[Way::Out, Way::Answers]
            }
            Self::Other(_) | Self::HostLink(_) => &[Way::Out, Way::Answers, Way::In],
        }
    }

    fn name(self) -> Option<&'a str> {
        match self {
            Self::Any => None,
            Self::Other(name) | Self::HostLink(name) => Some(name),
        }
    }
}

/// More host links that rules name one by one are not judged.
const HOST_LINKS_MAX: usize = 16;

/// Judges a base chain for all links, then for each that it may be closed to alone. Nothing
/// where all passes it.
///
/// # Errors
/// Of reading chains.
pub(super) fn judge<E>(
    base: &Base,
    packets: Family,
    maker: Maker,
    links: &Links<'_>,
    chains: Chains<'_, E>,
) -> Result<Vec<Barrier>, E> {
    let others = links.others.iter().filter(|name| links.carries(name, packets));
    let others: Vec<String> = others.cloned().gather();
    let links = &Links { others: &others, ..links.clone() };
    let mut named = BTreeSet::new();
    let all = judge_end(base, packets, maker, (links, End::Any), chains, &mut named)?;
    let is_open = |way: &Way| all.as_ref().is_none_or(|all| !all.closed.contains(way));
    let others = links.others.iter().filter(|_| links.others.len() > 1);
    let others = others.map(|name| End::Other(name));
    let host_links = named.iter().take(HOST_LINKS_MAX).map(|name| End::HostLink(name));
    let mut of_ends = Vec::new();
    for end in others.chain(host_links) {
        // What may be closed to some is told of all.
        let found = judge_end(base, packets, maker, (links, end), chains, &mut BTreeSet::new())?;
        let Some(mut found) = found else { continue };
        found.doubtful.clear();
        found.closed.retain(is_open);
        found.device = end.name().map(str::to_owned);
        of_ends.push_all(Some(found).filter(|found| !found.closed.is_empty()));
    }
    Ok(all.into_iter().chain(of_ends).gather())
}

/// The same for one end; the host links that rules name are `named`.
fn judge_end<E>(
    base: &Base,
    packets: Family,
    maker: Maker,
    (links, end): (&Links<'_>, End<'_>),
    chains: Chains<'_, E>,
    named: &mut BTreeSet<String>,
) -> Result<Option<Barrier>, E> {
    let mut barrier = Barrier {
        packets,
        family: base.family,
        table: base.table.clone(),
        chain: base.chain.clone(),
        point: base.point,
        maker,
        device: None,
        by: String::new(),
        closed: Vec::new(),
        doubtful: Vec::new(),
    };
    for way in end.ways(links).iter().copied() {
        let (mut lost, mut doubtful) = (Vec::new(), None);
        for (protocol, word) in [(TCP, "TCP"), (UDP, "UDP")] {
            // Rules of the hooks before this one are not looked at for marks.
            let (marked, may) = (base.point == Point::Postrouting, None);
            let (left, named) = (RULES_MAX, &mut *named);
            let mut walk =
                Walk { base, links, end, way, packets, protocol, marked, may, left, named };
            let by = match walk.chain(&base.chain, 0, Truth::Yes, chains)? {
                Flow::Dropped(by) => by,
                Flow::Through if base.drops => "its policy".to_owned(),
                Flow::Accepted | Flow::Through => continue,
            };
            match walk.may {
                Some(rule) => doubtful = doubtful.or(Some((by, rule))),
                None => lost.push((by, word)),
            }
        }
        let by = match (lost.as_slice(), doubtful) {
            ([], None) => continue,
            ([], Some((by, rule))) => {
                barrier.doubtful.push((way, rule));
                by
            }
            ([(by, word)], _) => {
                barrier.closed.push(way);
                format!("{by} (packets of {word})")
            }
            ([(by, _), ..], _) => {
                barrier.closed.push(way);
                by.clone()
            }
        };
        if barrier.by.is_empty() {
            barrier.by = by;
        }
    }
    Ok((!barrier.by.is_empty()).then_some(barrier))
}

impl Walk<'_> {
    /// Follows a chain that the packets come to for certain, or that some may.
    fn chain<E>(
        &mut self,
        name: &str,
        depth: usize,
        mut reached: Truth,
        chains: Chains<'_, E>,
    ) -> Result<Flow, E> {
        if depth > DEPTH_MAX {
            return Ok(Flow::Through);
        }
        for rule in &chains(name)? {
            let here = format!("rule {} of chain {name}", rule.number);
            let Some(left) = self.left.checked_sub(1) else {
                self.may.get_or_insert(here);
                return Ok(Flow::Through);
            };
            self.left = left;
            let matches = match (self.matches(rule), reached) {
                (Truth::Yes, reached) => reached,
                (matches, _) => matches,
            };
            if matches == Truth::No {
                continue;
            }
            let certain = matches == Truth::Yes;
            let flow = match &rule.verdict {
                Verdict::Continue => continue,
                Verdict::Mark => {
                    self.marked = true;
                    continue;
                }
                Verdict::Return if certain => return Ok(Flow::Through),
                // Some go back, and do not meet what is further on here.
                Verdict::Return => {
                    reached = Truth::Maybe;
                    continue;
                }
                Verdict::Accept => Flow::Accepted,
                Verdict::Drop => Flow::Dropped(here.clone()),
                Verdict::Jump(to) => self.chain(to, depth + 1, matches, chains)?,
                Verdict::Goto(to) => {
                    let flow = self.chain(to, depth + 1, matches, chains)?;
                    if certain {
                        return Ok(flow);
                    }
                    flow
                }
            };
            match flow {
                Flow::Accepted if certain => return Ok(Flow::Accepted),
                Flow::Accepted => {
                    self.may.get_or_insert(here);
                }
                Flow::Dropped(by) if certain => return Ok(Flow::Dropped(by)),
                // Some are dropped: which, nobody can say.
                Flow::Dropped(_) | Flow::Through => {}
            }
        }
        Ok(Flow::Through)
    }

    fn matches(&mut self, rule: &Rule) -> Truth {
        let mut all = Truth::Yes;
        for test in &rule.tests {
            match self.holds(test) {
                Truth::Yes => {}
                Truth::No => return Truth::No,
                Truth::Maybe => all = Truth::Maybe,
            }
        }
        all
    }

    fn holds(&mut self, test: &Test) -> Truth {
        match test {
            Test::Unknown => Truth::Maybe,
            Test::State { .. } if self.base.early => Truth::Maybe,
            // What is not known yet is neither a name nor another.
            Test::Name { incoming: false, .. } | Test::Group { incoming: false, .. }
                if self.base.point == Point::Prerouting =>
            {
                Truth::No
            }
            Test::State { new, established } => {
                Truth::of(if self.way == Way::Answers { *established } else { *new })
            }
            Test::Family { family, negated } => Truth::of(*family == self.packets).unless(*negated),
            Test::Protocol { numbers, negated } => {
                Truth::of(numbers.contains(&self.protocol)).unless(*negated)
            }
            Test::Address { source, family, ranges, negated } if *family == self.packets => {
                let is_pod = self.way.is_host_link(*source);
                let hold = if is_pod { address::hold } else { address::hold_elsewhere };
                hold(ranges, self.links.pods, *family).unless(*negated)
            }
            Test::Address { .. } => Truth::Maybe,
            Test::Mark { .. } if self.marked => Truth::Maybe,
            Test::Mark { holds } => Truth::of(*holds),
            Test::Group { incoming, number, negated } => {
                let ours = self.links.groups.contains(number);
                let truth = match (self.way.is_host_link(*incoming), ours) {
                    (true, true) => Truth::Maybe,
                    (true, false) | (false, true) => Truth::No,
                    (false, false) => Truth::Maybe,
                };
                truth.unless(*negated)
            }
            Test::Name { incoming, patterns, negated } => {
                if self.way.is_host_link(*incoming) {
                    self.note(patterns);
                }
                let all = patterns.iter().map(|pattern| self.names(*incoming, pattern));
                let any = all.fold(Truth::No, |one, other| match (one, other) {
                    (Truth::Yes, _) | (_, Truth::Yes) => Truth::Yes,
                    (Truth::Maybe, _) | (_, Truth::Maybe) => Truth::Maybe,
                    (Truth::No, Truth::No) => Truth::No,
                });
                any.unless(*negated)
            }
        }
    }

    /// Notes the host links that are there and that these are for, and not for all.
    fn note(&mut self, patterns: &[Pattern]) {
        let Links { prefix, names, .. } = self.links;
        let few = patterns.iter().filter(|pattern| pattern.text.starts_with(prefix));
        for pattern in few.filter(|pattern| pattern.text.len() > prefix.len() || !pattern.open) {
            let has = names.values().filter(|name| pattern.has(name));
            self.named.extend(has.take(HOST_LINKS_MAX).cloned());
        }
    }

    /// Whether the device of that end has such a name.
    fn names(&self, incoming: bool, pattern: &Pattern) -> Truth {
        let Links { prefix, others, .. } = self.links;
        let Pattern { text, open } = pattern;
        let has = |name: &String| pattern.has(name);
        match (self.way.is_host_link(incoming), self.end) {
            (true, End::HostLink(name)) | (false, End::Other(name)) => {
                return Truth::of(pattern.has(name));
            }
            _ => {}
        }
        if self.way.is_host_link(incoming) {
            return match () {
                () if *open && prefix.starts_with(text.as_str()) => Truth::Yes,
                () if text.starts_with(prefix) => Truth::Maybe,
                () => Truth::No,
            };
        }
        match others.iter().filter(|name| has(name)).count() {
            _ if *open && text.is_empty() => Truth::Yes,
            _ if text.starts_with(prefix) => Truth::No,
            _ if others.is_empty() => Truth::Maybe,
            0 => Truth::No,
            count => {
                if count == others.len() {
                    Truth::Yes
                } else {
                    Truth::Maybe
                }
            }
        }
    }
}
