// SPDX-License-Identifier: Apache-2.0
//! What fuzz targets ask of this module: in no build but theirs.

use super::{
    counted::counted,
    monitor::is_about,
    open::pairs_of,
    policy::Policies,
    snapshot::{generation_of, rule_differences},
    socket::Reply,
};
use crate::list::Gather as _;
use crate::netlink::{
    Answers,
    attribute::{Attribute, emitted},
};

/// Answers about objects of nf_tables: what they hold, and how rules differ from ours.
pub fn objects(datagram: &[u8]) {
    let mut reply = Reply::default();
    for answer in Answers(datagram) {
        let _ = reply.add(&answer);
        let _ = is_about(&answer, &["manx".to_owned()]);
    }
    let _ = (generation_of(&reply), reply.is_of(0));
    let table = Policies { table: "manx.policy".to_owned(), ..Policies::default() };
    let table = table.describe().unwrap();
    let seal = table.seal();
    let _ = seal.holds(&reply.objects);
    let found: Vec<&Vec<u8>> = reply.objects.iter().gather();
    for chain in table.chains.iter().take(4) {
        let told = rule_differences(&chain.rules, 0, &found);
        assert!(!told.is_empty() || found.len() == chain.rules.len(), "{}", chain.name);
        let own: Vec<Vec<u8>> = chain
            .rules
            .iter()
            .map(|rule| {
                emitted(&[Attribute::nest(super::abi::NFTA_RULE_EXPRESSIONS, rule.expressions())])
            })
            .gather();
        assert!(rule_differences(&chain.rules, 0, &own.iter().gather()).is_empty());
    }
    for object in &reply.objects {
        let _ = (counted(object).count(), pairs_of(object).count());
    }
}
