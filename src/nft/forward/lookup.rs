// SPDX-License-Identifier: Apache-2.0
//! One rule's expressions, as the kernel dumps them, in the words of a walk.
//!
//! Expressions load something into a register and compare it there. What is not
//! understood may hold or not.

use std::collections::HashMap;

use super::{
    Pattern, Rule, Test, Verdict, address,
    elements::{NAME_BYTES_MAX, all_members, members, named, pattern, ranges},
    state::{native_bytes, state},
    xtables::{xt_match, xt_target},
};
use crate::{
    family::Family,
    list::{Gather, PushAll},
    netlink::attribute::{attributes, find, number, string},
    nft::{abi::*, error::Error},
};

/// IPS_SRC_NAT and IPS_DST_NAT of `ct status`.
const TRANSLATED: u32 = 1 << 4 | 1 << 5;
/// What a register holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Load {
    Name {
        incoming: bool,
    },
    Index {
        incoming: bool,
    },
    Group {
        incoming: bool,
    },
    /// `ct state`, of which these bits are left.
    State(u32),
    /// `ct status`.
    Status,
    /// The bits of `ct status` that say that a connection is translated. Pods'
    /// own are not.
    Translated,
    Family,
    Protocol,
    /// The first bytes of an address.
    Address {
        source: bool,
        family: Family,
    },
    /// What a packet's mark comes to, where nobody has set one.
    Mark(u32),
    Other,
}

/// Gives the elements of a set by its name.
pub(super) type Elements<'a> = &'a mut dyn FnMut(&str) -> Result<Vec<Vec<u8>>, Error>;

/// Reads one rule.
pub(super) struct Decoder<'a> {
    number: usize,
    names: &'a HashMap<u32, String>,
    registers: HashMap<u32, Load>,
    tests: Vec<Test>,
}

impl<'a> Decoder<'a> {
    pub(super) fn new(number: usize, names: &'a HashMap<u32, String>) -> Self {
        Self { number, names, registers: HashMap::new(), tests: Vec::new() }
    }

    /// The rule; several where it has a map of verdicts.
    pub(super) fn rules(
        mut self,
        expressions: &[u8],
        elements: Elements<'_>,
    ) -> Result<Vec<Rule>, Error> {
        let mut rules = Vec::new();
        for (_, expression) in attributes(expressions) {
            let name = find(expression, NFTA_EXPR_NAME).map(string).unwrap_or_default();
            let data = find(expression, NFTA_EXPR_DATA).unwrap_or_default();
            let of = |kind| find(data, kind).and_then(number);
            let verdict = match name.as_str() {
                "meta" if of(NFTA_META_SREG).is_some() => {
                    if of(NFTA_META_KEY) != Some(NFT_META_MARK) {
                        continue;
                    }
                    Some(Verdict::Mark)
                }
                "meta" | "ct" | "payload" | "bitwise" | "cmp" => {
                    self.compare(&name, data);
                    continue;
                }
                "lookup" if of(NFTA_LOOKUP_DREG) == Some(NFT_REG_VERDICT) => {
                    rules.push_all(self.map(data, elements)?);
                    continue;
                }
                "lookup" => {
                    let test = self.set(data, elements)?;
                    self.tests.push(test);
                    continue;
                }
                "immediate" => find(data, NFTA_IMMEDIATE_DATA)
                    .and_then(|data| verdict(find(data, NFTA_DATA_VERDICT)?)),
                "reject" => Some(Verdict::Drop),
                "match" => {
                    self.tests.push_all(xt_match(data));
                    continue;
                }
                "target" => {
                    xt_target(&find(data, NFTA_TARGET_NAME).map(string).unwrap_or_default())
                }
                "queue" => None,
                "counter" | "log" | "notrack" | "objref" | "dynset" | "last" => continue,
                _ => {
                    self.unknown(data);
                    continue;
                }
            };
            rules.push(match verdict {
                Some(verdict) => Rule { number: self.number, tests: self.tests.clone(), verdict },
                // Somebody else decides.
                None => {
                    self.tests.push(Test::Unknown);
                    Rule {
                        number: self.number,
                        tests: self.tests.clone(),
                        verdict: Verdict::Accept,
                    }
                }
            });
        }
        // One without a verdict has its place in the chain all the same.
        if rules.is_empty() {
            rules.push(Rule { number: self.number, tests: Vec::new(), verdict: Verdict::Continue });
        }
        Ok(rules)
    }

    /// What is not known here compares something, or loads it.
    fn unknown(&mut self, data: &[u8]) {
        // Loads have their register first (NFTA_FIB_DREG, NFTA_RT_DREG and so on).
        if let Some(register) = find(data, 1).and_then(number) {
            self.registers.insert(register, Load::Other);
        }
        self.tests.push(Test::Unknown);
    }

    fn compare(&mut self, name: &str, data: &[u8]) {
        let of = |kind| find(data, kind).and_then(number);
        let load = match name {
            "meta" => of(NFTA_META_KEY).map(meta),
            "ct" => Some(match of(NFTA_CT_KEY) {
                Some(NFT_CT_STATE) => Load::State(u32::MAX),
                Some(NFT_CT_STATUS) => Load::Status,
                _ => Load::Other,
            }),
            "payload" => Some(payload(data)),
            "bitwise" => {
                let source = of(NFTA_BITWISE_SREG).and_then(|source| self.registers.get(&source));
                let mask = find(data, NFTA_BITWISE_MASK).and_then(native);
                Some(match (source, mask) {
                    (Some(Load::Mark(value)), Some(mask)) => {
                        let flipped = find(data, NFTA_BITWISE_XOR).and_then(native);
                        Load::Mark((value & mask) ^ flipped.unwrap_or_default())
                    }
                    (Some(Load::State(bits)), Some(mask)) => Load::State(bits & mask),
                    (Some(Load::Status), Some(mask)) if mask & !TRANSLATED == 0 => Load::Translated,
                    _ => Load::Other,
                })
            }
            _ => {
                let source = of(NFTA_CMP_SREG).and_then(|source| self.registers.get(&source));
                let source = source.copied().unwrap_or(Load::Other);
                let value = find(data, NFTA_CMP_DATA).and_then(|data| find(data, NFTA_DATA_VALUE));
                let test = match of(NFTA_CMP_OP) {
                    Some(NFT_CMP_EQ) => self.test(source, value.unwrap_or_default(), false),
                    Some(NFT_CMP_NEQ) => self.test(source, value.unwrap_or_default(), true),
                    _ => Test::Unknown,
                };
                self.tests.push(test);
                None
            }
        };
        // The register of all that load; those that set something have none.
        let register = match name {
            "bitwise" => of(NFTA_BITWISE_DREG),
            _ => of(NFTA_META_DREG),
        };
        if let (Some(load), Some(register)) = (load, register) {
            self.registers.insert(register, load);
        }
    }

    fn test(&self, load: Load, value: &[u8], negated: bool) -> Test {
        let whole = native_bytes(value);
        match load {
            // A longer one is joined with something else.
            Load::Name { incoming } if value.len() <= NAME_BYTES_MAX => {
                Test::Name { incoming, patterns: vec![pattern(value)], negated }
            }
            Load::Index { incoming } => {
                let name = whole.and_then(|index| self.names.get(&index)).cloned();
                // No packet comes by a device that is gone.
                let patterns = name.map(|text| Pattern { text, open: false }).into_iter().gather();
                Test::Name { incoming, patterns, negated }
            }
            Load::Group { incoming } => match whole {
                Some(number) => Test::Group { incoming, number, negated },
                None => Test::Unknown,
            },
            Load::State(bits) => match whole {
                Some(value) => state(|bit| (bit & bits == value) != negated),
                None => Test::Unknown,
            },
            Load::Family => match value.first() {
                Some(&NFPROTO_IPV4) => Test::Family { family: Family::V4, negated },
                Some(&NFPROTO_IPV6) => Test::Family { family: Family::V6, negated },
                _ => Test::Unknown,
            },
            Load::Address { source, family } => match address::beginning(value, family) {
                Some(range) => Test::Address { source, family, ranges: vec![range], negated },
                None => Test::Unknown,
            },
            Load::Protocol => match value {
                [number] => Test::Protocol { numbers: vec![*number], negated },
                _ => Test::Unknown,
            },
            Load::Mark(none) => match whole {
                Some(value) => Test::Mark { holds: (value == none) != negated },
                None => Test::Unknown,
            },
            Load::Translated => match whole {
                Some(value) => state(|_| (value == 0) != negated),
                None => Test::Unknown,
            },
            Load::Name { .. } | Load::Status | Load::Other => Test::Unknown,
        }
    }

    fn loaded(&self, data: &[u8]) -> Load {
        let source = find(data, NFTA_LOOKUP_SREG).and_then(number);
        source.and_then(|source| self.registers.get(&source)).copied().unwrap_or(Load::Other)
    }

    /// Whether what is loaded is in a set.
    fn set(&self, data: &[u8], elements: Elements<'_>) -> Result<Test, Error> {
        let flags = find(data, NFTA_LOOKUP_FLAGS).and_then(number).unwrap_or_default();
        let (load, negated) = (self.loaded(data), flags & NFT_LOOKUP_F_INV != 0);
        let set = find(data, NFTA_LOOKUP_SET).map(string).unwrap_or_default();
        if matches!(load, Load::Other) {
            return Ok(Test::Unknown);
        }
        let objects = elements(&set)?;
        if let Load::Name { incoming } = load {
            let patterns =
                named(&objects).map(|named| named.into_iter().map(|(name, _)| name).gather());
            return Ok(patterns.map_or(Test::Unknown, |patterns| Test::Name {
                incoming,
                patterns,
                negated,
            }));
        }
        if let Load::Address { source, family } = load {
            return Ok(ranges(&objects, family).map_or(Test::Unknown, |ranges| Test::Address {
                source,
                family,
                ranges,
                negated,
            }));
        }
        let Some(members) = members(&objects) else { return Ok(Test::Unknown) };
        let keys = || members.iter().map(|(key, _)| key.as_slice());
        let are_numbers = keys().all(|key| native_bytes(key).is_some());
        let has = |number| keys().filter_map(native_bytes).any(|key| key == number);
        Ok(match load {
            Load::State(u32::MAX) if are_numbers => state(|bit| has(bit) != negated),
            Load::Mark(none) if are_numbers => Test::Mark { holds: has(none) != negated },
            Load::Protocol if keys().all(|key| key.len() == 1) => {
                Test::Protocol { numbers: keys().flatten().copied().gather(), negated }
            }
            _ => Test::Unknown,
        })
    }

    /// A rule for each element of a map of verdicts.
    fn map(&self, data: &[u8], elements: Elements<'_>) -> Result<Vec<Rule>, Error> {
        let load = self.loaded(data);
        let set = find(data, NFTA_LOOKUP_SET).map(string).unwrap_or_default();
        let objects = elements(&set)?;
        let known: Option<Vec<(Test, Vec<u8>)>> = match load {
            Load::Other => None,
            Load::Name { incoming } => named(&objects).map(|named| {
                let test = |name| Test::Name { incoming, patterns: vec![name], negated: false };
                named.into_iter().map(|(name, data)| (test(name), data)).gather()
            }),
            _ => members(&objects).map(|members| {
                let test = |(key, data): (Vec<u8>, _)| (self.test(load, &key, false), data);
                members.into_iter().map(test).gather()
            }),
        };
        let members = known.unwrap_or_else(|| {
            let all = all_members(&objects).into_iter();
            all.map(|element| (Test::Unknown, element.data)).gather()
        });
        let rules = members.into_iter().filter_map(|(test, data)| {
            let verdict = verdict(find(&data, NFTA_DATA_VERDICT)?)?;
            Some(Rule {
                number: self.number,
                tests: [self.tests.as_slice(), &[test]].concat(),
                verdict,
            })
        });
        Ok(rules.gather())
    }
}

fn meta(key: u32) -> Load {
    match key {
        NFT_META_IIFNAME => Load::Name { incoming: true },
        NFT_META_OIFNAME => Load::Name { incoming: false },
        NFT_META_IIF => Load::Index { incoming: true },
        NFT_META_OIF => Load::Index { incoming: false },
        NFT_META_IIFGROUP => Load::Group { incoming: true },
        NFT_META_OIFGROUP => Load::Group { incoming: false },
        NFT_META_NFPROTO => Load::Family,
        NFT_META_L4PROTO => Load::Protocol,
        NFT_META_MARK => Load::Mark(0),
        _ => Load::Other,
    }
}

/// The protocol as `ip protocol` and `ip6 nexthdr` ask for it, or something else.
fn payload(data: &[u8]) -> Load {
    let of = |kind| find(data, kind).and_then(number);
    match (of(NFTA_PAYLOAD_BASE), of(NFTA_PAYLOAD_OFFSET), of(NFTA_PAYLOAD_LEN)) {
        (Some(NFT_PAYLOAD_NETWORK_HEADER), Some(6 | 9), Some(1)) => Load::Protocol,
        (Some(NFT_PAYLOAD_NETWORK_HEADER), Some(at @ (12 | 16)), Some(1..=4)) => {
            Load::Address { source: at == 12, family: Family::V4 }
        }
        (Some(NFT_PAYLOAD_NETWORK_HEADER), Some(at @ (8 | 24)), Some(1..=16)) => {
            Load::Address { source: at == 8, family: Family::V6 }
        }
        _ => Load::Other,
    }
}

/// A number of the machine's own byte order in a value's attribute.
fn native(data: &[u8]) -> Option<u32> {
    native_bytes(find(data, NFTA_DATA_VALUE)?)
}

fn verdict(data: &[u8]) -> Option<Verdict> {
    let code = find(data, NFTA_VERDICT_CODE).and_then(number)?.cast_signed();
    let chain = || find(data, NFTA_VERDICT_CHAIN).map(string).unwrap_or_default();
    Some(match code {
        0 => Verdict::Drop,
        1 => Verdict::Accept,
        NFT_CONTINUE | NFT_BREAK => Verdict::Continue,
        NFT_JUMP => Verdict::Jump(chain()),
        NFT_GOTO => Verdict::Goto(chain()),
        NFT_RETURN => Verdict::Return,
        _ => return None,
    })
}
