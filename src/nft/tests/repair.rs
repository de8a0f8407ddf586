// SPDX-License-Identifier: Apache-2.0
//! Whatever happens to the table, CHECK names it and the next ADD mends it.

use super::{Namespace, but, differences, ensure, guarded, wanted};
use crate::nft::{self, Ensured, Network, Table};

/// Damages an installed table, and expects these words about it, then a repair
/// that leaves nothing of the damage.
fn assert_mended(damage: &str, expected: &[&str], done: Ensured) {
    let namespace = Namespace::new();
    namespace.run(|| assert_eq!(ensure(&wanted()), Ok(Ensured::Installed)));
    let before = namespace.ruleset();
    damage.split(THEN).for_each(|step| namespace.load(step));
    let found = namespace.run(|| differences(&wanted())).unwrap();
    assert_eq!(found, expected, "{damage}");
    assert_eq!(namespace.run(|| ensure(&wanted())), Ok(done), "{damage}");
    assert_eq!(namespace.run(|| differences(&wanted())), Ok(Vec::new()), "{damage}");
    assert_eq!(namespace.run(|| ensure(&wanted())), Ok(Ensured::Unchanged), "{damage}");
    assert_eq!(namespace.ruleset(), before, "{damage}");
}

/// Between changes that the kernel does not take in one transaction.
const THEN: &str = "\nTHEN\n";

fn assert_repaired(damage: &str, expected: &[&str]) {
    assert_mended(damage, expected, Ensured::Repaired);
}

const CHAIN: &str = "chain postrouting of table inet manx-blue";
const OUR_RULES: [&str; 4] = [
    "lost rule 1 (oifgroup 1835073536-1835139071 return)",
    "lost rule 2 (ip daddr @never4 return)",
    "lost rule 3 (ip6 daddr @never6 return)",
    "lost rule 4 (iifgroup 1835073537 masquerade fully-random)",
];

#[test]
fn a_table_that_is_gone_is_installed_again() {
    for damage in ["delete table inet manx-blue", "flush ruleset"] {
        assert_mended(damage, &["table inet manx-blue is missing"], Ensured::Installed);
    }
}

#[test]
fn a_flushed_table_gets_its_rules_back() {
    let expected = OUR_RULES.map(|rule| format!("{CHAIN} {rule}"));
    let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
    assert_repaired("flush table inet manx-blue", &expected);
}

/// Adds all our rules, behind those that are there.
fn all_rules() -> String {
    let rules = OUR_RULES.map(|rule| {
        let (_, rule) = rule.split_once('(').unwrap();
        format!("add rule inet manx-blue postrouting {}", rule.trim_end_matches(')'))
    });
    rules.join("\n")
}

/// What nft has to do before it may change a set, and afterwards.
fn in_the_hands_of_no_rule(change: &str) -> String {
    let rules = all_rules();
    format!("flush chain inet manx-blue postrouting{THEN}{change}{THEN}{rules}")
}

const SET_CHANGES: [&str; 3] = [
    "flush set inet manx-blue never4",
    "delete element inet manx-blue never6 { fd00:244::/48 }",
    "add element inet manx-blue never4 { 203.0.113.0/24 }",
];

/// What the sets hold is not read as long as the kernel keeps it as it is.
#[test]
fn a_set_that_a_rule_asks_cannot_be_changed() {
    let namespace = Namespace::new();
    namespace.run(|| assert_eq!(ensure(&wanted()), Ok(Ensured::Installed)));
    let before = namespace.ruleset();
    for change in SET_CHANGES {
        assert!(namespace.refuses(change), "{change}");
    }
    assert_eq!(namespace.ruleset(), before);
}

#[test]
fn a_flushed_or_thinned_set_gets_its_elements_back() {
    let [flushed, thinned, _] = SET_CHANGES.map(in_the_hands_of_no_rule);
    assert_repaired(
        &flushed,
        &["set never4 of table inet manx-blue lost 10.244.0.0-10.245.127.255, 169.254.1.1, \
           198.51.100.7 and 2 more"],
    );
    assert_repaired(&thinned, &["set never6 of table inet manx-blue lost fd00:244::/48"]);
}

#[test]
fn an_added_element_is_foreign() {
    assert_repaired(
        &in_the_hands_of_no_rule(SET_CHANGES[2]),
        &["set never4 of table inet manx-blue holds 2 foreign interval bounds"],
    );
}

#[test]
fn rules_and_sets_that_are_gone_or_changed() {
    let empty_chain = "flush chain inet manx-blue postrouting\n";
    let lost = |places: &[usize]| -> Vec<String> {
        places.iter().map(|place| format!("{CHAIN} {}", OUR_RULES[place - 1])).collect()
    };
    let cases: [(&str, Vec<String>); 5] = [
        (
            "add rule inet manx-blue postrouting oifgroup 1835073536-1835139071 return
          add rule inet manx-blue postrouting ip daddr @never4 return
          add rule inet manx-blue postrouting ip6 daddr @never6 return",
            lost(&[4]),
        ),
        // The masquerade alone, of another group and without random ports.
        (
            "add rule inet manx-blue postrouting iifgroup 1835073538 masquerade fully-random
          add rule inet manx-blue postrouting iifgroup 1835073537 masquerade",
            [
                lost(&[1, 2, 3, 4]),
                vec![
                    format!("{CHAIN} has a foreign rule (handle 8)"),
                    format!("{CHAIN} has a foreign rule (handle 9)"),
                ],
            ]
            .concat(),
        ),
        // A set that is asked the other way round.
        (
            "add rule inet manx-blue postrouting oifgroup 1835073536-1835139071 return
          add rule inet manx-blue postrouting ip daddr != @never4 return
          add rule inet manx-blue postrouting ip6 daddr @never6 return
          add rule inet manx-blue postrouting iifgroup 1835073537 masquerade fully-random",
            [lost(&[2]), vec![format!("{CHAIN} has a foreign rule (handle 9)")]].concat(),
        ),
        // All there, in the wrong order.
        (
            "add rule inet manx-blue postrouting iifgroup 1835073537 masquerade fully-random
          add rule inet manx-blue postrouting oifgroup 1835073536-1835139071 return
          add rule inet manx-blue postrouting ip daddr @never4 return
          add rule inet manx-blue postrouting ip6 daddr @never6 return",
            vec![format!("{CHAIN} has its rules doubled or in another order")],
        ),
        (
            "delete set inet manx-blue never4
          delete set inet manx-blue never6",
            [
                lost(&[1, 2, 3, 4]),
                vec![
                    "set never4 of table inet manx-blue is missing".into(),
                    "set never6 of table inet manx-blue is missing".into(),
                ],
            ]
            .concat(),
        ),
    ];
    for (damage, expected) in cases {
        let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
        assert_repaired(&format!("{empty_chain}{damage}"), &expected);
    }
}

#[test]
fn a_doubled_rule_set_is_made_single() {
    assert_repaired(&all_rules(), &[&format!("{CHAIN} has its rules doubled or in another order")]);
}

#[test]
fn a_chain_or_table_of_another_kind_is_replaced() {
    let without_chain = "delete chain inet manx-blue postrouting\n";
    let lost = OUR_RULES.map(|rule| format!("{CHAIN} {rule}"));
    let lost: Vec<&str> = lost.iter().map(String::as_str).collect();
    let kind = "is not of type nat hook postrouting priority srcnat; policy accept";
    let kind = format!("{CHAIN} {kind}");
    let mut expected = vec![&*kind];
    expected.extend(&lost);
    assert_repaired(without_chain, &[&format!("{CHAIN} is missing")]);
    for chain in [
        "type nat hook postrouting priority srcnat + 1",
        "type nat hook prerouting priority 100",
        "type filter hook postrouting priority srcnat",
        "type nat hook postrouting priority srcnat; policy drop",
    ] {
        let damage = format!("{without_chain}add chain inet manx-blue postrouting {{ {chain}; }}");
        assert_repaired(&damage, &expected);
    }
    // A chain without a hook sees no packet.
    let unhooked = format!("{without_chain}add chain inet manx-blue postrouting");
    assert_repaired(&unhooked, &expected);
    assert_repaired(
        "add table inet manx-blue { flags dormant; }",
        &["table inet manx-blue is dormant or owned"],
    );
}

#[test]
fn a_new_wish_replaces_the_old_and_foreign_tables_stay() {
    let namespace = Namespace::new();
    namespace.load(
        "table inet kube-proxy { chain c { type nat hook postrouting priority srcnat; counter; }; }",
    );
    let foreign = namespace.ruleset();
    let other = Network { group: 5, masquerade: Some(but(&["192.0.2.0/24"])), ..wanted() };
    namespace.run(|| {
        assert_eq!(ensure(&wanted()), Ok(Ensured::Installed));
        assert_eq!(ensure(&other), Ok(Ensured::Repaired));
        assert_eq!(ensure(&other), Ok(Ensured::Unchanged));
    });
    let all = namespace.ruleset();
    assert!(all.starts_with(&foreign), "{all}");
    assert!(all.contains("192.0.2.0/24") && !all.contains("10.244."), "{all}");
    assert_eq!(all.matches("masquerade fully-random").count(), 1, "{all}");
}

/// A table that does without something is told from one that the kernel would have
/// better.
#[test]
fn what_the_kernel_would_take_is_known_without_a_change() {
    let namespace = Namespace::new();
    let good = guarded().describe().unwrap();
    let bad = Table { comment: "x".repeat(300), ..good.clone() };
    for before in ["", "table inet manx-blue { chain forward { counter; }; }"] {
        namespace.load(before);
        let ruleset = namespace.ruleset();
        namespace.run(|| {
            assert_eq!(nft::accepts(&good), Ok(()));
            assert!(nft::accepts(&bad).is_err());
        });
        assert_eq!(namespace.ruleset(), ruleset);
    }
}
