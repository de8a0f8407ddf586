// SPDX-License-Identifier: Apache-2.0
//! What the kernel has of a table, compared with what is wanted. Only reads.
//!
//! Everything is compared, not a stamp: a table that somebody emptied keeps its
//! stamp. Only what constant sets hold is not read as long as nobody can have
//! changed it ([`seal`]). It is one message then, whatever the number of pods.

use std::collections::BTreeSet;

use super::abi::*;
use super::error::Error;
use super::interval::{Element, Intervals};
use super::message::{generation, request};
use super::ruleset::Kept;
use super::seal::{self, Seal};
use super::set::{Content, Elements, Set, changes};
use super::socket::{Reply, Socket, head};
use super::table::{Chain, Rule, Table, number_of};
use crate::list::{Gather, PushAll};
use crate::netlink::{
    self, Request,
    attribute::{Attribute, Besides, attributes, find, number, says, string},
};

/// Of many lost or foreign intervals, so many are named.
const NAMED_MAX: usize = 3;

/// One look at a table.
#[derive(Debug)]
pub(super) struct Snapshot {
    /// The number of changes when the look began. A batch that is bound to it
    /// fails if anything changed since, here or elsewhere in the firewall.
    pub(super) generation: u32,
    /// There is a table of the name.
    pub(super) table_exists: bool,
    /// Nothing changed while we looked.
    pub(super) consistent: bool,
    /// There are rules, or are to be none.
    has_rules: bool,
    /// Sentences for people; empty if all is as wanted.
    pub(super) differences: Vec<String>,
    /// Nothing differs but elements that follow the description.
    pub(super) only_elements: bool,
    /// All that is constant is as described, and the seal does not hold: there is no note, or
    /// another one, or rules have other numbers. Elements may differ besides.
    pub(super) only_seal: bool,
    /// What sets hold whose elements follow the description.
    pub(super) held: Vec<(&'static str, Elements)>,
    /// What open sets hold.
    pub(super) kept: Kept,
}

/// Whether a table is as it was made, by one message. A chain's policy, the
/// table's flags and addresses that follow something are not looked at.
pub(super) fn is_sealed(seal: &Seal) -> Result<bool, Error> {
    let reply = head(&rules_question(&seal.table), seal.rules)?;
    Ok(seal.holds(&reply.objects))
}

/// The number for what the table's sets hold that follow something.
pub(super) fn followed(wanted: &Table) -> Result<u64, Error> {
    let mut socket = Socket::open()?;
    let mut held = Vec::new();
    for set in wanted.sets.iter().filter(|set| set.content.following().is_some()) {
        let [reply] = ask(&mut socket, [elements_question(wanted, set)])?;
        held.push((set.name, set.held(wanted, &reply.objects)));
    }
    Ok(number_of(held.iter().map(|(name, elements)| (*name, elements))))
}

impl Snapshot {
    /// Looks. Twice where a table is there and none of its rules: while the kernel puts one
    /// table in the place of another of the same name, a dump of the rules by that name is of
    /// the one that goes, whose rules count no more (nf_tables_api.c, nf_tables_dump_rules),
    /// and an empty dump does not tell of which generation it is.
    pub(super) fn take(socket: &mut Socket, wanted: &Table) -> Result<Self, Error> {
        let found = Self::look(socket, wanted)?;
        if found.has_rules || !found.table_exists { Ok(found) } else { Self::look(socket, wanted) }
    }

    fn look(socket: &mut Socket, wanted: &Table) -> Result<Self, Error> {
        let hooked = wanted.chains.iter().filter(|chain| chain.hook.is_some());
        let mut questions = vec![generation(), table_question(&wanted.name)];
        questions.push_all(hooked.map(|it| question(wanted, NFT_MSG_GETCHAIN, it.name)));
        questions.push(rules_question(&wanted.name));
        let mut replies = socket.replies(&questions)?.into_iter();
        let (generation, table) = (replies.next(), replies.next().unwrap_or_default());
        let rules = replies.next_back().unwrap_or_default();
        let seal = wanted.seal();
        let sealed = seal.holds(&rules.objects);
        let (chains, sets) = rest(socket, wanted, sealed, replies)?;
        let mut look = Self {
            generation: generation_of(&generation.unwrap_or_default())?,
            table_exists: !table.absent,
            consistent: true,
            has_rules: !rules.objects.is_empty() || seal.rules == 0,
            differences: Vec::new(),
            held: Vec::new(),
            only_elements: false,
            only_seal: false,
            kept: Kept::new(),
        };
        look.note_consistency([&table, &rules].into_iter().chain(&chains).chain(&sets));
        if table.absent {
            look.differences.push(format!("table inet {} is missing", wanted.name));
            return Ok(look);
        }
        if !matches(&table, &Table::kind()) {
            look.differences.push(format!("table inet {} is dormant or owned", wanted.name));
        }
        look.compare_chains(wanted, &chains, &rules.objects);
        let sealed = sealed && look.differences.is_empty();
        let mut present = Vec::new();
        for (set, found) in wanted.sets.iter().zip(&sets) {
            let name = wanted.object(&format!("set {}", set.name));
            if found.absent {
                look.differences.push(format!("{name} is missing"));
            } else if !is_of_kind(found, set) {
                look.differences.push(format!("{name} is of another kind"));
            } else {
                present.push(set);
            }
        }
        for set in &present {
            if let (Content::Constant(constant), false) = (&set.content, sealed) {
                let intervals = &constant.intervals;
                let elements = look.elements(socket, wanted, set)?;
                look.tell(wanted, set, interval_differences(intervals, &elements));
            }
        }
        let is_known = seal.rules == 0 || seal.holds(&rules.objects);
        look.only_elements = look.differences.is_empty() && is_known;
        look.only_seal = look.differences.is_empty() && !is_known;
        for set in present {
            match &set.content {
                Content::Constant(_) | Content::Passing(_) => {}
                Content::Following(elements) | Content::Counted(elements) => {
                    let held = set.held(wanted, &look.elements(socket, wanted, set)?);
                    look.compare_elements(wanted, set, elements, &held);
                    look.held.push((set.name, held));
                }
                Content::Open if look.only_elements => {}
                Content::Open => {
                    let elements = look.elements(socket, wanted, set)?;
                    look.kept.push((set.name, elements));
                }
            }
        }
        Ok(look)
    }

    fn note_consistency<'a>(&mut self, replies: impl IntoIterator<Item = &'a Reply>) {
        self.consistent &= replies.into_iter().all(|reply| reply.is_of(self.generation));
    }

    fn compare_chains(&mut self, wanted: &Table, chains: &[Reply], rules: &[Vec<u8>]) {
        let mut place = 0;
        for (chain, found) in wanted.chains.iter().zip(chains) {
            let name = wanted.object(&format!("chain {}", chain.name));
            let before = place;
            place += chain.rules.len();
            if found.absent {
                self.differences.push(format!("{name} is missing"));
                continue;
            }
            let kind = chain.hook.map(|hook| hook.attributes().to_vec()).unwrap_or_default();
            if !matches(found, &kind) {
                let kind = chain.hook.map(|hook| hook.text()).unwrap_or_default();
                self.differences.push(format!("{name} is not of {kind}"));
            }
            let within: Vec<&Vec<u8>> =
                rules.iter().filter(|rule| chain_of(rule) == chain.name).gather();
            let differing = rule_differences(&chain.rules, before, &within);
            self.differences.push_all(differing.into_iter().map(|what| format!("{name} {what}")));
        }
        let known = |rule: &&Vec<u8>| wanted.chains.iter().any(|it| it.name == chain_of(rule));
        let foreign: BTreeSet<String> =
            rules.iter().filter(|rule| !known(rule)).map(|rule| chain_of(rule)).gather_set();
        let foreign = foreign.iter().map(|name| wanted.object(&format!("chain {name}")));
        self.differences.push_all(foreign.map(|name| format!("{name} is foreign")));
    }

    /// What the set holds, as the kernel dumps it.
    fn elements(
        &mut self,
        socket: &mut Socket,
        wanted: &Table,
        set: &Set,
    ) -> Result<Vec<Vec<u8>>, Error> {
        let [reply] = ask(socket, [elements_question(wanted, set)])?;
        self.note_consistency([&reply]);
        Ok(reply.objects)
    }

    fn compare_elements(&mut self, wanted: &Table, set: &Set, all: &Elements, held: &Elements) {
        let (foreign, lost) = changes(held, all);
        let value = |key| held.get(key).and_then(Option::as_ref);
        let foreign: Vec<_> = foreign.into_iter().map(|key| (key, value(key))).gather();
        // A table of policies may lack ten thousand, of which a few are told.
        let told = [("lacks", lost), ("holds besides", foreign)].map(|(verb, elements)| {
            let named = elements.iter().take(NAMED_MAX);
            let named: Vec<String> =
                named.map(|(key, value)| set.element_text(key, *value)).gather();
            (!named.is_empty()).then(|| format!("{verb} {}", some_of(&named, elements.len())))
        });
        self.tell(wanted, set, told.into_iter().flatten());
    }

    /// What brings the elements up to date that follow the description.
    pub(super) fn updates(&self, wanted: &Table) -> Vec<Request> {
        let mut updates = Vec::new();
        for set in &wanted.sets {
            let held = self.held.iter().find(|(name, _)| *name == set.name);
            let (Some(all), Some((_, held))) = (set.content.following(), held) else { continue };
            let (foreign, lost) = changes(held, all);
            updates.push_all(wanted.removals(set, &foreign));
            updates.push_all(wanted.additions(set, lost));
        }
        updates
    }

    fn tell(&mut self, wanted: &Table, set: &Set, what: impl IntoIterator<Item = String>) {
        let name = wanted.object(&format!("set {}", set.name));
        self.differences.push_all(what.into_iter().map(|what| format!("{name} {what}")));
    }
}

/// The number of changes to the rule set of the namespace.
pub(super) fn generation_of(reply: &Reply) -> Result<u32, Error> {
    let number = reply.objects.first().and_then(|object| number(find(object, NFTA_GEN_ID)?));
    number.ok_or_else(|| netlink::Error::unanswered("read the rule set's generation").into())
}

/// [`Socket::replies`] for a known number of questions.
pub(super) fn ask<const N: usize>(
    socket: &mut Socket,
    questions: [Request; N],
) -> Result<[Reply; N], Error> {
    let what = questions.first().map_or("read nf_tables".into(), Request::what);
    let replies = socket.replies(&questions)?.try_into();
    replies.map_err(|_| netlink::Error::unanswered(what).into())
}

/// The answers about all chains and all sets, in their order; `hooked` are those about
/// chains with a hook. Of a table whose rules are those that it was made with, what a
/// rule leads to or asks is there as it was ([`seal`]): nobody is asked for it.
fn rest(
    socket: &mut Socket,
    wanted: &Table,
    sealed: bool,
    mut hooked: impl Iterator<Item = Reply>,
) -> Result<(Vec<Reply>, Vec<Reply>), Error> {
    let known = |name| sealed && wanted.has_rule_about(name);
    let is_asked = |chain: &&Chain| chain.hook.is_none() && !known(chain.name);
    let chains = wanted.chains.iter().filter(is_asked);
    let sets = wanted.sets.iter().filter(|set| !known(set.name));
    let mut questions: Vec<Request> =
        chains.map(|it| question(wanted, NFT_MSG_GETCHAIN, it.name)).gather();
    questions.push_all(sets.map(|it| question(wanted, NFT_MSG_GETSET, it.name)));
    let asked = if questions.is_empty() { Vec::new() } else { socket.replies(&questions)? };
    let mut asked = asked.into_iter();
    let chains = wanted.chains.iter().map(|chain| match chain.hook {
        Some(_) => hooked.next(),
        None if known(chain.name) => None,
        None => asked.next(),
    });
    let chains = chains.map(Option::unwrap_or_default).gather();
    let sets = wanted.sets.iter().map(|set| if known(set.name) { None } else { asked.next() });
    Ok((chains, sets.map(Option::unwrap_or_default).gather()))
}

pub(super) fn table_question(name: &str) -> Request {
    let named = [Attribute::string(NFTA_TABLE_NAME, name)];
    request(NFT_MSG_GETTABLE, 0, format!("table inet {name}"), named)
}

/// About one chain, or one set. Table and name stand under the same numbers for both.
pub(super) fn question(wanted: &Table, kind: u16, name: &str) -> Request {
    let is_set = kind == NFT_MSG_GETSET;
    let of = [
        Attribute::string(NFTA_CHAIN_TABLE, &wanted.name),
        Attribute::string(if is_set { NFTA_SET_NAME } else { NFTA_CHAIN_NAME }, name),
    ];
    let word = if is_set { "set" } else { "chain" };
    request(kind, 0, wanted.object(&format!("{word} {name}")), of)
}

/// All rules of the table, in the order of their chains.
pub(super) fn rules_question(table: &str) -> Request {
    let of = [Attribute::string(NFTA_RULE_TABLE, table)];
    request(NFT_MSG_GETRULE, NLM_F_DUMP, format!("rules of table inet {table}"), of)
}

pub(super) fn elements_question(wanted: &Table, set: &Set) -> Request {
    request(
        NFT_MSG_GETSETELEM,
        NLM_F_DUMP,
        wanted.object(&format!("elements of set {}", set.name)),
        [
            Attribute::string(NFTA_SET_ELEM_LIST_TABLE, &wanted.name),
            Attribute::string(NFTA_SET_ELEM_LIST_SET, set.name),
        ],
    )
}

pub(super) fn matches(reply: &Reply, kind: &[Attribute]) -> bool {
    reply.objects.iter().all(|object| says(object, kind, Besides::Anything))
}

/// A set without flags is dumped without the attribute.
fn is_of_kind(found: &Reply, set: &Set) -> bool {
    let attributes = set.attributes();
    let held = |object: &Vec<u8>| find(object, NFTA_SET_FLAGS).and_then(number).unwrap_or_default();
    matches(found, attributes.get(1..).unwrap_or_default())
        && found.objects.iter().all(|object| held(object) == set.flags())
}

fn chain_of(rule: &[u8]) -> String {
    find(rule, NFTA_RULE_CHAIN).map(string).unwrap_or_default()
}

/// The rules of one chain, of which the first has the number behind `before`.
pub(super) fn rule_differences(wanted: &[Rule], before: usize, found: &[&Vec<u8>]) -> Vec<String> {
    let expressions: Vec<Vec<Attribute>> = wanted.iter().map(Rule::expressions).gather();
    let is = |object: &[u8], expressions: &[Attribute]| {
        find(object, NFTA_RULE_EXPRESSIONS)
            .is_some_and(|dump| says(dump, expressions, Besides::Zeros))
    };
    let in_place = found.iter().zip(&expressions).all(|(object, wanted)| is(object, wanted));
    if in_place && found.len() == expressions.len() {
        return Vec::new();
    }
    let mut differences = Vec::new();
    for ((rule, wanted), place) in wanted.iter().zip(&expressions).zip(before + 1..) {
        if !found.iter().any(|object| is(object, wanted)) {
            differences.push(format!("lost rule {place} ({})", rule.text()));
        }
    }
    for object in found {
        if !expressions.iter().any(|wanted| is(object, wanted)) {
            let handle = seal::handle(object, NFTA_RULE_HANDLE).unwrap_or_default();
            differences.push(format!("has a foreign rule (handle {handle})"));
        }
    }
    if differences.is_empty() {
        differences.push("has its rules doubled or in another order".into());
    }
    differences
}

pub(super) fn interval_differences(intervals: &Intervals, elements: &[Vec<u8>]) -> Vec<String> {
    let found: BTreeSet<Element> =
        elements.iter().flat_map(|object| elements_of(object)).gather_set();
    let mut foreign = found.clone();
    let mut lost = Vec::new();
    for (elements, text) in intervals.elements().zip(intervals.texts()) {
        if !elements.iter().all(|element| found.contains(element)) {
            lost.push(text);
        }
        for element in &elements {
            foreign.remove(element);
        }
    }
    let mut differences = Vec::new();
    if !lost.is_empty() {
        differences.push(format!("lost {}", some_of(&lost, lost.len())));
    }
    if !foreign.is_empty() {
        differences.push(format!("holds {} foreign interval bounds", foreign.len()));
    }
    differences
}

fn elements_of(object: &[u8]) -> impl Iterator<Item = Element> {
    let list = find(object, NFTA_SET_ELEM_LIST_ELEMENTS).unwrap_or_default();
    attributes(list).filter_map(|(_, element)| {
        let key = find(find(element, NFTA_SET_ELEM_KEY)?, NFTA_DATA_VALUE)?;
        let flags = find(element, NFTA_SET_ELEM_FLAGS).and_then(number).unwrap_or_default();
        Some(Element { key: key.into(), end: flags & NFT_SET_ELEM_INTERVAL_END != 0 })
    })
}

/// The first few of so many, and how many more there are.
fn some_of(names: &[String], of: usize) -> String {
    let named = names.get(..NAMED_MAX).unwrap_or(names).join(", ");
    match of.checked_sub(NAMED_MAX) {
        None | Some(0) => named,
        Some(more) => format!("{named} and {more} more"),
    }
}
