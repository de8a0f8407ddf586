//! One rule's expressions, as the kernel dumps them, in the words of a walk.
//!
//! Expressions load something into a register and compare it there. What is not
//! understood may hold or not.

use std::collections::HashMap;

use super::{Pattern, Rule, Test, Verdict};
use crate::{
    netlink::attribute::{attributes, find, number, string},
    nft::{abi::*, error::Error},
};

/// The bits of a new and of an established connection in `ct state`
/// (NF_CT_STATE_BIT, include/uapi/linux/netfilter/nf_conntrack_common.h).
const NEW: u32 = 1 << 3;
const ESTABLISHED: u32 = 1 << 1;
/// IPS_SRC_NAT and IPS_DST_NAT of `ct status`.
const TRANSLATED: u32 = 1 << 4 | 1 << 5;
/// Longest name of a device with its NUL (IFNAMSIZ).
const NAME_BYTES_MAX: usize = 16;
/// Where `struct xt_conntrack_mtinfo3` has match_flags, invert_flags and
/// state_mask, and the bit of the state among the flags
/// (include/uapi/linux/netfilter/xt_conntrack.h).
const XT_CONNTRACK_FLAGS: usize = 146;
const XT_CONNTRACK_STATE: u16 = 1;

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
                "meta" | "ct" | "payload" | "bitwise" | "cmp" => {
                    self.compare(&name, data);
                    continue;
                }
                "lookup" if of(NFTA_LOOKUP_DREG) == Some(NFT_REG_VERDICT) => {
                    rules.extend(self.map(data, elements)?);
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
                    self.tests.extend(xt_match(data));
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
            "payload" => Some(Load::Other),
            "bitwise" => {
                let source = of(NFTA_BITWISE_SREG).and_then(|source| self.registers.get(&source));
                let mask = find(data, NFTA_BITWISE_MASK).and_then(native);
                Some(match (source, mask) {
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
                let patterns = name.map(|text| Pattern { text, open: false }).into_iter().collect();
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
                Some(&NFPROTO_IPV4) => Test::Family { ipv6: false, negated },
                Some(&NFPROTO_IPV6) => Test::Family { ipv6: true, negated },
                _ => Test::Unknown,
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
        if !matches!(load, Load::Name { .. } | Load::State(_)) {
            return Ok(Test::Unknown);
        }
        let Some(members) = members(&elements(&set)?) else { return Ok(Test::Unknown) };
        let keys = || members.iter().map(|(key, _)| key.as_slice());
        Ok(match load {
            Load::Name { incoming } if keys().all(|key| key.len() <= NAME_BYTES_MAX) => {
                Test::Name { incoming, patterns: keys().map(pattern).collect(), negated }
            }
            Load::State(u32::MAX) if keys().all(|key| native_bytes(key).is_some()) => {
                state(|bit| keys().filter_map(native_bytes).any(|key| key == bit) != negated)
            }
            _ => Test::Unknown,
        })
    }

    /// A rule for each element of a map of verdicts.
    fn map(&self, data: &[u8], elements: Elements<'_>) -> Result<Vec<Rule>, Error> {
        let load = self.loaded(data);
        let set = find(data, NFTA_LOOKUP_SET).map(string).unwrap_or_default();
        let objects = elements(&set)?;
        let known = members(&objects).filter(|_| load != Load::Other);
        let certain = known.is_some();
        let members = known.unwrap_or_else(|| all_members(&objects));
        let rules = members.into_iter().filter_map(|(key, data)| {
            let test = match certain {
                true => self.test(load, &key, false),
                false => Test::Unknown,
            };
            let verdict = verdict(find(&data, NFTA_DATA_VERDICT)?)?;
            Some(Rule {
                number: self.number,
                tests: [self.tests.as_slice(), &[test]].concat(),
                verdict,
            })
        });
        Ok(rules.collect())
    }
}

/// A test that holds for connections of these states.
fn state(holds: impl Fn(u32) -> bool) -> Test {
    Test::State { new: holds(NEW), established: holds(ESTABLISHED) }
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
        _ => Load::Other,
    }
}

/// A name ends with a NUL, unless it is the beginning of one.
fn pattern(value: &[u8]) -> Pattern {
    Pattern { text: string(value), open: !value.contains(&0) }
}

/// A number of the machine's own byte order in a value's attribute.
fn native(data: &[u8]) -> Option<u32> {
    native_bytes(find(data, NFTA_DATA_VALUE)?)
}

fn native_bytes(value: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(value.try_into().ok()?))
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

/// The keys of a set with their data; `None` where they are ends of intervals.
fn members(objects: &[Vec<u8>]) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    let flags = objects.iter().flat_map(|object| {
        attributes(find(object, NFTA_SET_ELEM_LIST_ELEMENTS).unwrap_or_default())
            .filter_map(|(_, element)| find(element, NFTA_SET_ELEM_FLAGS).and_then(number))
    });
    let plain = flags.into_iter().all(|flags| flags & NFT_SET_ELEM_INTERVAL_END == 0);
    plain.then(|| all_members(objects))
}

fn all_members(objects: &[Vec<u8>]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut members = Vec::new();
    for object in objects {
        let list = find(object, NFTA_SET_ELEM_LIST_ELEMENTS).unwrap_or_default();
        for (_, element) in attributes(list) {
            let key = find(element, NFTA_SET_ELEM_KEY).and_then(|key| find(key, NFTA_DATA_VALUE));
            let data = find(element, NFTA_SET_ELEM_DATA).unwrap_or_default();
            members.extend(key.map(|key| (key.to_vec(), data.to_vec())));
        }
    }
    members
}

/// A match of iptables'; `None` for one that always holds.
fn xt_match(data: &[u8]) -> Option<Test> {
    let info = find(data, NFTA_MATCH_INFO).unwrap_or_default();
    let short = |at: usize| {
        let bytes = info.get(at..at + 2)?;
        Some(u16::from_ne_bytes(bytes.try_into().ok()?))
    };
    let revision = find(data, NFTA_MATCH_REV).and_then(number);
    match (find(data, NFTA_MATCH_NAME).map(string).as_deref(), revision) {
        (Some("comment"), _) => None,
        (Some("conntrack"), Some(3)) => {
            let at = XT_CONNTRACK_FLAGS;
            let fields = (short(at), short(at + 2), short(at + 4));
            let (Some(XT_CONNTRACK_STATE), Some(inverted), Some(states)) = fields else {
                return Some(Test::Unknown);
            };
            let inverted = inverted & XT_CONNTRACK_STATE != 0;
            Some(state(|bit| (u32::from(states) & bit != 0) != inverted))
        }
        _ => Some(Test::Unknown),
    }
}

/// A target of iptables' that is no chain; `None` where somebody else decides.
fn xt_target(name: &str) -> Option<Verdict> {
    match name {
        "REJECT" | "DROP" => Some(Verdict::Drop),
        "QUEUE" | "NFQUEUE" => None,
        _ => Some(Verdict::Continue),
    }
}
