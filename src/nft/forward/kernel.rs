//! The base chains of the hook forward, and their rules, as nf_tables has them.

use std::collections::HashMap;

use super::{Barrier, Base, Links, Maker, Rule, lookup::Decoder, save, walk};
use crate::{
    netlink::attribute::{Attribute, find, number, string},
    nft::{
        ATTEMPTS,
        abi::*,
        error::Error,
        message::of_family,
        snapshot::ask,
        socket::{Reply, Socket},
    },
};

/// Families that see packets of IP, with nft's words for them.
const FAMILIES: [(u8, &str); 3] =
    [(NFPROTO_INET, "inet"), (NFPROTO_IPV4, "ip"), (NFPROTO_IPV6, "ip6")];

/// Looks for chains of the hook forward that drop pods' packets, or may.
///
/// # Errors
/// Of the kernel's answers.
pub fn look(links: &Links<'_>) -> Result<Vec<Barrier>, Error> {
    let mut socket = Socket::open()?;
    let mut barriers = Vec::new();
    for (family, word) in FAMILIES {
        let chains = dump(&mut socket, family, NFT_MSG_GETCHAIN, &format!("chains of {word}"), [])?;
        for chain in chains.iter().filter_map(|chain| base(word, chain)) {
            if is_dormant(&mut socket, family, &chain)? {
                continue;
            }
            let names =
                chains.iter().filter(|object| text(object, NFTA_CHAIN_TABLE) == chain.table);
            let names: Vec<String> = names.map(|object| text(object, NFTA_CHAIN_NAME)).collect();
            let maker = match (word, chain.table.as_str()) {
                (_, "firewalld") => Maker::Firewalld,
                ("ip" | "ip6", "filter" | "mangle" | "security") if chain.chain == "FORWARD" => {
                    save::maker(names.iter().map(String::as_str), false)
                }
                _ => Maker::Nft,
            };
            let mut reader = Reader { socket: &mut socket, family, links, read: HashMap::new() };
            for packets in chain.families() {
                let mut rules = |name: &str| reader.rules(&chain.table, name);
                barriers.extend(walk::judge(&chain, *packets, maker, links, &mut rules)?);
            }
        }
    }
    Ok(barriers)
}

fn text(object: &[u8], kind: u16) -> String {
    find(object, kind).map(string).unwrap_or_default()
}

/// A chain as a base chain of the hook forward, if it is one.
fn base(family: &'static str, object: &[u8]) -> Option<Base> {
    let hook = find(object, NFTA_CHAIN_HOOK)?;
    let hook = find(hook, NFTA_HOOK_HOOKNUM).and_then(number)?;
    let policy = find(object, NFTA_CHAIN_POLICY).and_then(number);
    (hook == NF_INET_FORWARD).then(|| Base {
        family,
        table: text(object, NFTA_CHAIN_TABLE),
        chain: text(object, NFTA_CHAIN_NAME),
        drops: policy == Some(NF_DROP),
    })
}

/// The chains of a dormant table see nothing.
fn is_dormant(socket: &mut Socket, family: u8, chain: &Base) -> Result<bool, Error> {
    let name = Attribute::string(NFTA_TABLE_NAME, &chain.table);
    let object = format!("table {} {}", chain.family, chain.table);
    let question = of_family(family, NFT_MSG_GETTABLE, 0, object, [name]);
    let [reply] = ask(socket, [question])?;
    let flags = reply.objects.first().and_then(|table| find(table, NFTA_TABLE_FLAGS));
    Ok(flags.and_then(number).is_some_and(|flags| flags & NFT_TABLE_F_DORMANT != 0))
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

/// Reads chains when they are asked for, each once.
struct Reader<'a> {
    socket: &'a mut Socket,
    family: u8,
    links: &'a Links<'a>,
    read: HashMap<String, Vec<Rule>>,
}

impl Reader<'_> {
    fn rules(&mut self, table: &str, chain: &str) -> Result<Vec<Rule>, Error> {
        if let Some(rules) = self.read.get(chain) {
            return Ok(rules.clone());
        }
        let of =
            [Attribute::string(NFTA_RULE_TABLE, table), Attribute::string(NFTA_RULE_CHAIN, chain)];
        let object = format!("rules of chain {chain}");
        let objects = dump(self.socket, self.family, NFT_MSG_GETRULE, &object, of)?;
        let mut rules = Vec::new();
        for (object, number) in objects.iter().zip(1..) {
            let mut elements = |set: &str| {
                let of = [
                    Attribute::string(NFTA_SET_ELEM_LIST_TABLE, table),
                    Attribute::string(NFTA_SET_ELEM_LIST_SET, set),
                ];
                let object = format!("elements of set {set}");
                dump(self.socket, self.family, NFT_MSG_GETSETELEM, &object, of)
            };
            let expressions = find(object, NFTA_RULE_EXPRESSIONS).unwrap_or_default();
            rules.extend(Decoder::new(number, self.links.names).rules(expressions, &mut elements)?);
        }
        self.read.insert(chain.to_owned(), rules.clone());
        Ok(rules)
    }
}
