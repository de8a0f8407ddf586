//! What the kernel has of a rule set, compared with what is wanted. Only reads.
//!
//! Everything is compared, not a stamp: a table that somebody emptied keeps its
//! stamp. Only what the sets hold is not read as long as nobody can have changed
//! it ([`seal`]). It is one message then, whatever the number of pods and peers.

use std::collections::BTreeSet;

use super::abi::*;
use super::attribute::{Attribute, Besides, attributes, find, number, says};
use super::error::Error;
use super::interval::Element;
use super::message::Request;
use super::ruleset::{CHAIN, Ruleset, Set, chain_kind};
use super::seal;
use super::socket::{Reply, Socket};

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
    /// Sentences for people; empty if all is as wanted.
    pub(super) differences: Vec<String>,
}

impl Snapshot {
    /// Looks.
    pub(super) fn take(socket: &mut Socket, wanted: &Ruleset) -> Result<Self, Error> {
        let [generation, table, chain, set4, set6, rules] = ask(socket, questions(wanted))?;
        let mut look = Self {
            generation: generation_of(&generation)?,
            table_exists: !table.absent,
            consistent: true,
            differences: Vec::new(),
        };
        look.note_consistency(&[&table, &chain, &set4, &set6, &rules]);
        if table.absent {
            look.differences.push(format!("table inet {} is missing", wanted.table));
            return Ok(look);
        }
        if !matches(&table, &Ruleset::table_kind()) {
            look.differences.push(format!("table inet {} is dormant or owned", wanted.table));
        }
        look.compare_chain(wanted, &chain, &rules);
        let sets = [set4, set6];
        let sound = look.differences.is_empty();
        let sealed = sound && seal::holds(wanted, &chain, &sets, &rules);
        for (set, found) in wanted.sets.iter().zip(&sets) {
            look.compare_set(socket, wanted, set, found, sealed)?;
        }
        Ok(look)
    }

    fn note_consistency(&mut self, replies: &[&Reply]) {
        self.consistent &= replies.iter().all(|reply| reply.is_of(self.generation));
    }

    fn compare_chain(&mut self, wanted: &Ruleset, chain: &Reply, rules: &Reply) {
        let name = wanted.object(&format!("chain {CHAIN}"));
        if chain.absent {
            self.differences.push(format!("{name} is missing"));
            return;
        }
        if !matches(chain, &chain_kind()) {
            let kind = "of type nat, hook postrouting, priority srcnat, policy accept";
            self.differences.push(format!("{name} is not {kind}"));
        }
        self.differences.extend(
            rule_differences(wanted, &rules.objects)
                .into_iter()
                .map(|what| format!("{name} {what}")),
        );
    }

    fn compare_set(
        &mut self,
        socket: &mut Socket,
        wanted: &Ruleset,
        set: &Set,
        found: &Reply,
        sealed: bool,
    ) -> Result<(), Error> {
        let name = wanted.object(&format!("set {}", set.name()));
        if found.absent {
            self.differences.push(format!("{name} is missing"));
            return Ok(());
        }
        if !matches(found, &set.kind()) {
            self.differences.push(format!("{name} is not a constant set of address intervals"));
            return Ok(());
        }
        if sealed {
            return Ok(());
        }
        let [elements] = ask(socket, [elements_question(wanted, set)])?;
        self.note_consistency(&[&elements]);
        self.differences.extend(
            element_differences(set, &elements).into_iter().map(|what| format!("{name} {what}")),
        );
        Ok(())
    }
}

/// The number of changes to the rule set of the namespace.
pub(super) fn generation_of(reply: &Reply) -> Result<u32, Error> {
    reply.objects.first().and_then(|object| number(find(object, NFTA_GEN_ID)?)).ok_or_else(|| {
        Error::Unanswered { operation: "read", object: "the rule set's generation".into() }
    })
}

/// [`Socket::ask`] for a known number of questions.
pub(super) fn ask<const N: usize>(
    socket: &mut Socket,
    questions: [Request; N],
) -> Result<[Reply; N], Error> {
    socket.ask(&questions)?.try_into().map_err(|_| Error::Unanswered {
        operation: "read",
        object: questions.first().map_or_else(String::new, |question| question.object.clone()),
    })
}

fn questions(wanted: &Ruleset) -> [Request; 6] {
    let table = &wanted.table;
    let set = |set: &Set| {
        Request::new(
            NFT_MSG_GETSET,
            0,
            wanted.object(&format!("set {}", set.name())),
            [
                Attribute::string(NFTA_SET_TABLE, table),
                Attribute::string(NFTA_SET_NAME, set.name()),
            ],
        )
    };
    let [set4, set6] = &wanted.sets;
    [
        Request::generation(),
        Request::new(
            NFT_MSG_GETTABLE,
            0,
            format!("table inet {table}"),
            [Attribute::string(NFTA_TABLE_NAME, table)],
        ),
        Request::new(
            NFT_MSG_GETCHAIN,
            0,
            wanted.object(&format!("chain {CHAIN}")),
            [Attribute::string(NFTA_CHAIN_TABLE, table), Attribute::string(NFTA_CHAIN_NAME, CHAIN)],
        ),
        set(set4),
        set(set6),
        Request::new(
            NFT_MSG_GETRULE,
            NLM_F_DUMP,
            wanted.object(&format!("rules of chain {CHAIN}")),
            [Attribute::string(NFTA_RULE_TABLE, table), Attribute::string(NFTA_RULE_CHAIN, CHAIN)],
        ),
    ]
}

fn elements_question(wanted: &Ruleset, set: &Set) -> Request {
    Request::new(
        NFT_MSG_GETSETELEM,
        NLM_F_DUMP,
        wanted.object(&format!("elements of set {}", set.name())),
        [
            Attribute::string(NFTA_SET_ELEM_LIST_TABLE, &wanted.table),
            Attribute::string(NFTA_SET_ELEM_LIST_SET, set.name()),
        ],
    )
}

fn matches(reply: &Reply, kind: &[Attribute]) -> bool {
    reply.objects.iter().all(|object| says(object, kind, Besides::Anything))
}

fn rule_differences(wanted: &Ruleset, found: &[Vec<u8>]) -> Vec<String> {
    let expressions: Vec<Vec<Attribute>> =
        wanted.rules.iter().map(super::ruleset::Rule::expressions).collect();
    let is = |object: &[u8], expressions: &[Attribute]| {
        find(object, NFTA_RULE_EXPRESSIONS)
            .is_some_and(|dump| says(dump, expressions, Besides::Zeros))
    };
    let in_place = found.iter().zip(&expressions).all(|(object, wanted)| is(object, wanted));
    if in_place && found.len() == expressions.len() {
        return Vec::new();
    }
    let mut differences = Vec::new();
    for ((rule, wanted), place) in wanted.rules.iter().zip(&expressions).zip(1..) {
        if !found.iter().any(|object| is(object, wanted)) {
            differences.push(format!("lost rule {place} ({})", rule.text()));
        }
    }
    for object in found {
        let handle = |object: &[u8]| seal::handle(object, NFTA_RULE_HANDLE).unwrap_or_default();
        if !expressions.iter().any(|wanted| is(object, wanted)) {
            differences.push(format!("has a foreign rule (handle {})", handle(object)));
        }
    }
    if differences.is_empty() {
        differences.push("has its rules doubled or in another order".into());
    }
    differences
}

fn element_differences(set: &Set, reply: &Reply) -> Vec<String> {
    let found: BTreeSet<Element> =
        reply.objects.iter().flat_map(|object| elements_of(object)).collect();
    let mut foreign = found.clone();
    let mut lost = Vec::new();
    for (elements, text) in set.intervals.elements().zip(set.intervals.texts()) {
        if !elements.iter().all(|element| found.contains(element)) {
            lost.push(text);
        }
        for element in &elements {
            foreign.remove(element);
        }
    }
    let mut differences = Vec::new();
    if !lost.is_empty() {
        differences.push(format!("lost {}", some_of(&lost)));
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

fn some_of(names: &[String]) -> String {
    let named = names.get(..NAMED_MAX).unwrap_or(names).join(", ");
    match names.len().checked_sub(NAMED_MAX) {
        None | Some(0) => named,
        Some(more) => format!("{named} and {more} more"),
    }
}
