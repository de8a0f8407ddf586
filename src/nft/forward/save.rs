// SPDX-License-Identifier: Apache-2.0
//! The text that `iptables-save` prints, as far as forwarding goes.

use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
};

use ipnetwork::IpNetwork;

use super::{
    Barrier, Base, Length, Links, Maker, Pattern, Point, Rule, TCP, Test, UDP, Verdict, address,
    length::Chains, walk,
};
use crate::family::{Family, HasFamily};
use crate::list::PushAll;

/// The base chains of iptables' tables, and their hooks.
pub(super) const BASES: [(&str, Point); 3] = [
    ("PREROUTING", Point::Prerouting),
    ("FORWARD", Point::Forward),
    ("POSTROUTING", Point::Postrouting),
];

/// The table that sees first packets alone, and drops none.
const NAT: &str = "nat";
/// The table before connections are known.
const RAW: &str = "raw";

/// Reads what `iptables-legacy-save` or `ip6tables-legacy-save` printed: the
/// base chains that drop pods' packets, or may.
pub fn of_save(text: &str, family: Family, links: &Links<'_>) -> Vec<Barrier> {
    let mut barriers = Vec::new();
    let tables = tables(text).into_iter().filter(|(table, _)| table != NAT);
    for (table, chains) in tables {
        for (name, point) in BASES {
            let Some(chain) = chains.get(name) else { continue };
            let base = Base {
                family: family.word(),
                table: table.clone(),
                chain: name.to_owned(),
                point,
                early: table == RAW,
                drops: chain.drops,
            };
            let maker = maker(chains.keys().map(String::as_str), true);
            let mut rules = |name: &str| {
                let rules = chains.get(name).map(|chain| chain.rules.clone());
                Ok::<_, Infallible>(rules.unwrap_or_default())
            };
            let Ok(found) = walk::judge(&base, family, maker, links, &mut rules);
            barriers.push_all(found);
        }
    }
    barriers
}

/// How many rules a packet may meet from each base chain on.
pub fn lengths_of_save(text: &str, family: Family) -> Vec<Length> {
    let mut lengths = Vec::new();
    for (table, chains) in tables(text) {
        let mut counted = Chains::default();
        for (name, chain) in &chains {
            let counted = counted.chain(name);
            chain.rules.iter().for_each(|rule| counted.add(std::slice::from_ref(rule)));
        }
        let table = format!("table {} {table} (iptables-legacy)", family.word());
        let bases = BASES.into_iter().filter(|(name, _)| chains.contains_key(*name));
        lengths.push_all(bases.map(|(name, _)| counted.length(&table, name)));
    }
    lengths
}

/// Who made a table of iptables' with these chains.
pub(super) fn maker<'a>(mut chains: impl Iterator<Item = &'a str>, legacy: bool) -> Maker {
    let telling = |name: &str| match name {
        "DOCKER-USER" => Some(Maker::Docker { legacy }),
        "ufw-user-forward" | "ufw6-user-forward" => Some(Maker::Ufw),
        _ if name.starts_with("FWDI_") => Some(Maker::Firewalld),
        _ => None,
    };
    chains.find_map(telling).unwrap_or(Maker::Iptables { legacy })
}

#[derive(Default)]
struct Chain {
    drops: bool,
    rules: Vec<Rule>,
}

fn tables(text: &str) -> BTreeMap<String, HashMap<String, Chain>> {
    let mut tables: BTreeMap<String, HashMap<String, Chain>> = BTreeMap::new();
    let mut table = String::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('*') {
            table = name.trim().to_owned();
        } else if let Some(chain) = line.strip_prefix(':') {
            let mut words = chain.split_whitespace();
            let name = words.next().unwrap_or_default().to_owned();
            let drops = words.next() == Some("DROP");
            tables.entry(table.clone()).or_default().entry(name).or_default().drops = drops;
        } else if line.starts_with("-A ") {
            let words = words(line);
            let name = words.get(1).cloned().unwrap_or_default();
            let rules =
                &mut tables.entry(table.clone()).or_default().entry(name).or_default().rules;
            rules.push(rule(rules.len() + 1, words.get(2..).unwrap_or_default()));
        }
    }
    tables
}

/// Words as iptables-save quotes them.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => word.extend(letters.next()),
            '"' => quoted = !quoted,
            ' ' if !quoted => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            letter => word.push(letter),
        }
    }
    words.push(word);
    words
}

fn rule(number: usize, words: &[String]) -> Rule {
    let mut rule = Rule { number, tests: Vec::new(), verdict: Verdict::Continue };
    let (mut negated, mut rest) = (false, words.iter().map(String::as_str));
    let mut module = String::new();
    while let Some(word) = rest.next() {
        let mut value = || rest.next().unwrap_or_default().to_owned();
        match word {
            "!" => {
                negated = true;
                continue;
            }
            "-i" | "-o" => {
                let name = value();
                let (text, open) = match name.strip_suffix('+') {
                    Some(text) => (text.to_owned(), true),
                    None => (name, false),
                };
                let patterns = vec![Pattern { text, open }];
                rule.tests.push(Test::Name { incoming: word == "-i", patterns, negated });
            }
            "--ctstate" | "--state" => {
                let states = value();
                let has = |name| states.split(',').any(|state| state == name) != negated;
                let (new, established) = (has("NEW"), has("ESTABLISHED"));
                rule.tests.push(Test::State { new, established });
            }
            "--comment" => drop(value()),
            // What a module asks follows.
            "-m" => {
                module = value();
                if !matches!(module.as_str(), "comment" | "conntrack" | "state" | "mark") {
                    rule.tests.push(Test::Unknown);
                }
            }
            "-p" => rule.tests.push(protocol(&value(), negated)),
            "-s" | "-d" => rule.tests.push(match value().parse::<IpNetwork>() {
                Ok(network) => Test::Address {
                    source: word == "-s",
                    family: network.family(),
                    ranges: vec![address::ends(&network)],
                    negated,
                },
                Err(_) => Test::Unknown,
            }),
            "--mark" if module == "mark" => rule.tests.push(mark(&value(), negated)),
            "-g" => {
                rule.verdict = Verdict::Goto(value());
                break;
            }
            "-j" => {
                rule.verdict = verdict(value(), &mut rule.tests);
                break;
            }
            // What modules ask.
            _ => rule.tests.push(Test::Unknown),
        }
        negated = false;
    }
    rule
}

fn protocol(name: &str, negated: bool) -> Test {
    let number = match name {
        "icmp" => 1,
        "tcp" => TCP,
        "udp" => UDP,
        "icmpv6" | "ipv6-icmp" => 58,
        _ => match name.parse() {
            Ok(number) => number,
            Err(_) => return Test::Unknown,
        },
    };
    Test::Protocol { numbers: vec![number], negated }
}

/// A mark, or some of its bits behind a slash.
fn mark(text: &str, negated: bool) -> Test {
    let number = |text: &str| match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    };
    match number(text.split('/').next().unwrap_or_default()) {
        Some(value) => Test::Mark { holds: (value == 0) != negated },
        None => Test::Unknown,
    }
}

/// Extensions are the targets that are no chains.
fn verdict(target: String, tests: &mut Vec<Test>) -> Verdict {
    match target.as_str() {
        "ACCEPT" => Verdict::Accept,
        "DROP" | "REJECT" => Verdict::Drop,
        "RETURN" => Verdict::Return,
        "MARK" | "CONNMARK" => Verdict::Mark,
        // Whoever reads the queue decides.
        "QUEUE" | "NFQUEUE" => {
            tests.push(Test::Unknown);
            Verdict::Accept
        }
        // No rules are found by the names of other extensions, and the next one's
        // turn it is.
        _ => Verdict::Jump(target),
    }
}
