// SPDX-License-Identifier: Apache-2.0
//! What fuzz targets ask of this module: in no build but theirs.

use crate::list::PushAll as _;
use std::{collections::HashMap, convert::Infallible};

use ipnetwork::IpNetwork;

use super::{
    Base, Links, Point, elements,
    kernel::{base, is_translation, maker, translates},
    length::Chains,
    lengths_of_save,
    lookup::Decoder,
    of_save, walk,
};
use crate::{family::Family, netlink::attribute::find, nft::abi::NFTA_RULE_EXPRESSIONS};

fn links(check: impl FnOnce(&Links<'_>)) {
    let pods: [IpNetwork; 2] = ["10.1.0.0/24", "fd00:1::/64"].map(|text| text.parse().unwrap());
    check(&Links {
        prefix: "cali",
        groups: 10..=20,
        others: &["eth0".to_owned(), "vxlan.manx".to_owned()],
        tunnels: &[("vxlan.manx".to_owned(), Family::V4)],
        pods: &pods,
        names: &HashMap::from([(1, "lo".to_owned()), (2, "eth0".to_owned())]),
        is_ours: |name| name.starts_with("manx"),
    });
}

/// Rules, chains and elements of others as the kernel tells them: each object is all three.
pub fn objects(objects: &[Vec<u8>]) {
    let _ = (elements::members(objects), elements::named(objects));
    for family in Family::BOTH {
        for (first, last) in elements::ranges(objects, family).unwrap_or_default() {
            // A range that ends before it begins holds nothing; it is not to be taken for all.
            let _ = first <= last;
        }
    }
    links(|links| {
        let (mut rules, mut chains) = (Vec::new(), Chains::default());
        for (object, number) in objects.iter().zip(1..) {
            let _ = (is_translation(object), translates(object));
            if let Some(base) = base("inet", object) {
                let _ = maker(&base, &[base.chain.clone()]);
            }
            let expressions = find(object, NFTA_RULE_EXPRESSIONS).unwrap_or(object);
            let found =
                Decoder::new(number, links.names).rules(expressions, &mut |_| Ok(objects.to_vec()));
            let found = found.unwrap_or_default();
            assert!(!found.is_empty(), "a rule has its place");
            chains.chain("forward").add(&found);
            rules.push_all(found);
        }
        let counted = chains.length("filter", "forward");
        assert_eq!(counted.rules, objects.len() as u64);
        let point = [Point::Prerouting, Point::Forward, Point::Postrouting][objects.len() % 3];
        let base = Base {
            family: "inet",
            table: "filter".to_owned(),
            chain: "forward".to_owned(),
            point,
            early: false,
            drops: true,
        };
        let maker = maker(&base, &[]);
        // Each chain has a half of the other's rules: they lead to each other in circles.
        let mut of = |name: &str| {
            let (first, second) = rules.split_at(rules.len() / 2);
            Ok::<_, Infallible>(if name == "forward" {
                rules.clone()
            } else {
                [second, first].concat()
            })
        };
        for family in Family::BOTH {
            let Ok(barriers) = walk::judge(&base, family, maker, links, &mut of);
            assert!(barriers.iter().all(|one| !one.by.is_empty() && !one.to_string().is_empty()));
        }
    });
}

/// What iptables-save printed.
pub fn saved(text: &str) {
    links(|links| {
        for family in Family::BOTH {
            let barriers = of_save(text, family, links);
            assert!(barriers.iter().all(|one| !one.by.is_empty() && !one.to_string().is_empty()));
            let lines = text.lines().filter(|line| line.starts_with("-A ")).count() as u64;
            assert!(lengths_of_save(text, family).iter().all(|one| one.of_longest <= lines));
        }
    });
}
