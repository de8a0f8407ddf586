// SPDX-License-Identifier: Apache-2.0
//! The base chains that forwarded packets pass, and their rules, as nf_tables has them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{
    Barrier, Base, Length, Links, Maker, Point, Rule, length::Chains, lookup::Decoder, save, walk,
};
use crate::{
    list::{Gather, PushAll},
    netlink::attribute::{Attribute, attributes, find, number, string},
    nft::{
        ATTEMPTS,
        abi::*,
        error::Error,
        message::{object as object_of, of_family},
        snapshot::ask,
        socket::{Reply, Socket},
    },
};

/// Families that see packets of IP, with nft's words for them.
const FAMILIES: [(u8, &str); 3] =
    [(NFPROTO_INET, "inet"), (NFPROTO_IPV4, "ip"), (NFPROTO_IPV6, "ip6")];

/// The kernel's rules, each read when it is asked for, and once.
#[derive(Debug)]
pub struct Ruleset {
    socket: Socket,
    /// The chains of each family.
    chains: Vec<(u8, &'static str, Vec<Vec<u8>>)>,
    /// Whether tables of a family see nothing.
    dormant: HashMap<(u8, String), bool>,
    /// The rules of chains of a family's tables.
    rules: HashMap<(u8, String, String), Vec<Rule>>,
}

impl Ruleset {
    /// Reads which chains there are.
    ///
    /// # Errors
    /// Of the kernel's answers.
    pub fn read() -> Result<Self, Error> {
        let mut socket = Socket::open()?;
        let mut chains = Vec::new();
        for (family, word) in FAMILIES {
            let object = format!("chains of {word}");
            chains.push((family, word, dump(&mut socket, family, NFT_MSG_GETCHAIN, &object, [])?));
        }
        Ok(Self { socket, chains, dormant: HashMap::new(), rules: HashMap::new() })
    }

    /// All chains: of each the family, the table and the name.
    pub fn names(&self) -> impl Iterator<Item = (&'static str, String, String)> + '_ {
        self.chains.iter().flat_map(|(_, word, chains)| {
            chains
                .iter()
                .map(|chain| (*word, text(chain, NFTA_CHAIN_TABLE), text(chain, NFTA_CHAIN_NAME)))
        })
    }

    /// Tables with rules that give packets another destination: of each the family, the
    /// name, and how many such rules it has.
    ///
    /// # Errors
    /// Of the kernel's answers.
    pub fn translations(&mut self) -> Result<Vec<(&'static str, String, usize)>, Error> {
        let mut found = Vec::new();
        for (family, word, chains) in &self.chains {
            let translating = chains.iter().filter(|chain| text(chain, NFTA_CHAIN_TYPE) == "nat");
            let tables: BTreeSet<String> =
                translating.map(|chain| text(chain, NFTA_CHAIN_TABLE)).gather_set();
            for table in tables {
                let of = [Attribute::string(NFTA_RULE_TABLE, &table)];
                let object = format!("rules of table {word} {table}");
                let rules = dump(&mut self.socket, *family, NFT_MSG_GETRULE, &object, of)?;
                let count = rules.iter().filter(|rule| is_translation(rule)).count();
                found.push_all((count > 0).then_some((*word, table, count)));
            }
        }
        Ok(found)
    }

    /// Looks for base chains that drop pods' packets, or may.
    ///
    /// # Errors
    /// Of the kernel's answers.
    pub fn look(&mut self, links: &Links<'_>) -> Result<Vec<Barrier>, Error> {
        let mut barriers = Vec::new();
        let mut bases = Vec::new();
        for (family, word, chains) in &self.chains {
            for chain in chains.iter().filter(|chain| !translates(chain)) {
                let Some(base) = base(word, chain) else { continue };
                let names =
                    chains.iter().filter(|object| text(object, NFTA_CHAIN_TABLE) == base.table);
                let names: Vec<String> = names.map(|object| text(object, NFTA_CHAIN_NAME)).gather();
                let maker = maker(&base, &names);
                bases.push((*family, base, maker));
            }
        }
        for (family, base, maker) in bases {
            if (links.is_ours)(&base.table) || self.is_dormant(family, &base)? {
                continue;
            }
            for packets in base.families() {
                let mut rules = |name: &str| self.rules_of(family, &base.table, name, links.names);
                barriers.push_all(walk::judge(&base, *packets, maker, links, &mut rules)?);
            }
        }
        Ok(barriers)
    }

    /// How many rules of others a packet may meet from each base chain on.
    ///
    /// # Errors
    /// Of the kernel's answers.
    pub fn lengths(
        &mut self,
        is_ours: fn(&str) -> bool,
        names: &HashMap<u32, String>,
    ) -> Result<Vec<Length>, Error> {
        let mut tables: BTreeMap<(u8, &str, String), Vec<Base>> = BTreeMap::new();
        for (family, word, chains) in &self.chains {
            for base in chains.iter().filter_map(|chain| base(word, chain)) {
                let key = (*family, *word, base.table.clone());
                tables.entry(key).or_default().push(base);
            }
        }
        let mut lengths = Vec::new();
        for ((family, word, table), bases) in tables {
            if is_ours(&table) {
                continue;
            }
            let mut chains = Chains::default();
            let of = [Attribute::string(NFTA_RULE_TABLE, &table)];
            let object = format!("rules of table {table}");
            let question = of_family(family, NFT_MSG_GETRULE, NLM_F_DUMP, object, of);
            // One by one: there may be tens of thousands.
            self.socket.ask(&[question], &mut |_, answer| {
                let (_, rule) = object_of(answer)?;
                let expressions = find(rule, NFTA_RULE_EXPRESSIONS).unwrap_or_default();
                let rules = Decoder::new(0, names).rules(expressions, &mut |_| Ok(Vec::new()));
                chains.chain(&text(rule, NFTA_RULE_CHAIN)).add(&rules.unwrap_or_default());
                Ok(())
            })?;
            let table = format!("table {word} {table}");
            lengths.push_all(bases.iter().map(|base| chains.length(&table, &base.chain)));
        }
        Ok(lengths)
    }

    /// The chains of a dormant table see nothing.
    fn is_dormant(&mut self, family: u8, chain: &Base) -> Result<bool, Error> {
        let key = (family, chain.table.clone());
        if let Some(dormant) = self.dormant.get(&key) {
            return Ok(*dormant);
        }
        let name = Attribute::string(NFTA_TABLE_NAME, &chain.table);
        let object = format!("table {} {}", chain.family, chain.table);
        let question = of_family(family, NFT_MSG_GETTABLE, 0, object, [name]);
        let [reply] = ask(&mut self.socket, [question])?;
        let flags = reply.objects.first().and_then(|table| find(table, NFTA_TABLE_FLAGS));
        let dormant = flags.and_then(number).is_some_and(|flags| flags & NFT_TABLE_F_DORMANT != 0);
        self.dormant.insert(key, dormant);
        Ok(dormant)
    }

    fn rules_of(
        &mut self,
        family: u8,
        table: &str,
        chain: &str,
        names: &HashMap<u32, String>,
    ) -> Result<Vec<Rule>, Error> {
        let key = (family, table.to_owned(), chain.to_owned());
        if let Some(rules) = self.rules.get(&key) {
            return Ok(rules.clone());
        }
        let of =
            [Attribute::string(NFTA_RULE_TABLE, table), Attribute::string(NFTA_RULE_CHAIN, chain)];
        let object = format!("rules of chain {chain}");
        let objects = dump(&mut self.socket, family, NFT_MSG_GETRULE, &object, of)?;
        let mut rules = Vec::new();
        for (object, number) in objects.iter().zip(1..) {
            let mut elements = |set: &str| {
                let of = [
                    Attribute::string(NFTA_SET_ELEM_LIST_TABLE, table),
                    Attribute::string(NFTA_SET_ELEM_LIST_SET, set),
                ];
                let object = format!("elements of set {set}");
                dump(&mut self.socket, family, NFT_MSG_GETSETELEM, &object, of)
            };
            let expressions = find(object, NFTA_RULE_EXPRESSIONS).unwrap_or_default();
            rules.push_all(Decoder::new(number, names).rules(expressions, &mut elements)?);
        }
        self.rules.insert(key, rules.clone());
        Ok(rules)
    }
}

/// Whether a rule gives packets another destination.
pub(super) fn is_translation(rule: &[u8]) -> bool {
    let expressions = find(rule, NFTA_RULE_EXPRESSIONS).unwrap_or_default();
    attributes(expressions).any(|(_, expression)| {
        let data = find(expression, NFTA_EXPR_DATA).unwrap_or_default();
        match text(expression, NFTA_EXPR_NAME).as_str() {
            "nat" => find(data, NFTA_NAT_TYPE).and_then(number) == Some(NFT_NAT_DNAT),
            "redir" => true,
            "target" => {
                ["DNAT", "REDIRECT", "NETMAP"].contains(&text(data, NFTA_TARGET_NAME).as_str())
            }
            _ => false,
        }
    })
}

/// Who made a table with chains of these names, one of them such a base chain.
pub(super) fn maker(base: &Base, names: &[String]) -> Maker {
    let is_of_iptables = save::BASES.iter().any(|(name, _)| *name == base.chain);
    match (base.family, base.table.as_str()) {
        (_, "firewalld") => Maker::Firewalld,
        ("ip" | "ip6", "filter" | "mangle" | "raw" | "security") if is_of_iptables => {
            save::maker(names.iter().map(String::as_str), false)
        }
        _ => Maker::Nft,
    }
}

fn text(object: &[u8], kind: u16) -> String {
    find(object, kind).map(string).unwrap_or_default()
}

/// Those that translate addresses see first packets alone, and are not there to drop.
pub(super) fn translates(chain: &[u8]) -> bool {
    text(chain, NFTA_CHAIN_TYPE) == "nat"
}

/// A chain as a base chain that forwarded packets pass, if it is one.
pub(super) fn base(family: &'static str, object: &[u8]) -> Option<Base> {
    let hook = find(object, NFTA_CHAIN_HOOK)?;
    let point = match find(hook, NFTA_HOOK_HOOKNUM).and_then(number)? {
        NF_INET_PRE_ROUTING => Point::Prerouting,
        NF_INET_FORWARD => Point::Forward,
        NF_INET_POST_ROUTING => Point::Postrouting,
        _ => return None,
    };
    let priority = find(hook, NFTA_HOOK_PRIORITY).and_then(number).unwrap_or_default();
    let policy = find(object, NFTA_CHAIN_POLICY).and_then(number);
    Some(Base {
        family,
        table: text(object, NFTA_CHAIN_TABLE),
        chain: text(object, NFTA_CHAIN_NAME),
        point,
        early: point == Point::Prerouting && priority.cast_signed() <= NF_IP_PRI_CONNTRACK,
        drops: policy == Some(NF_DROP),
    })
}

/// A list that held still, or the last try.
fn dump(
    socket: &mut Socket,
    family: u8,
    kind: u16,
    object: &str,
    of: impl Into<Vec<Attribute>>,
) -> Result<Vec<Vec<u8>>, Error> {
    let of = of.into();
    let mut objects = Vec::new();
    for _ in 0..ATTEMPTS {
        let question = of_family(family, kind, NLM_F_DUMP, object, &of);
        let [reply] = ask(socket, [question])?;
        let whole = !reply.is_torn();
        Reply { objects, .. } = reply;
        if whole {
            break;
        }
    }
    Ok(objects)
}
