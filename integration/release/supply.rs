// SPDX-License-Identifier: Apache-2.0
//! The part of `cargo deny check` that needs no program and no network: licences, bans and sources of all
//! that cargo resolves, by deny.toml. Advisories are looked up by hack/release.

use std::{collections::BTreeSet, env};

use serde_json::Value;

use crate::says;

const DENY: &str = include_str!("../../deny.toml");

/// The quoted texts of one line `key = …` of deny.toml.
fn quoted(key: &str) -> Vec<&'static str> {
    let start = format!("{key} = [");
    let mut lines = DENY.lines().filter_map(|line| line.strip_prefix(start.as_str()));
    let line = lines.next().unwrap_or_else(|| panic!("deny.toml has no line {start}"));
    assert!(line.trim_end().ends_with(']') && lines.next().is_none(), "one line {start}…]");
    line.split('"').skip(1).step_by(2).collect()
}

/// All packages that some build, test or feature asks for, on the targets of deny.toml.
fn packages() -> Vec<Value> {
    let cargo = env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let mut arguments =
        vec!["metadata", "--quiet", "--locked", "--format-version=1", "--all-features"];
    arguments.extend(["--manifest-path", manifest]);
    for target in quoted("targets") {
        arguments.extend(["--filter-platform", target]);
    }
    let told: Value = serde_json::from_str(&says(&cargo, &arguments)).unwrap();
    let packages = told["packages"].as_array().unwrap().clone();
    assert!(packages.len() > 100, "{} packages", packages.len());
    packages
}

/// Whether an SPDX expression is satisfied by what is allowed; an expression that is none of AND, OR, WITH,
/// names and brackets is not.
fn is_allowed(expression: &str, allowed: &[&str]) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut words = spaced.split_whitespace().peekable();
    any_of(&mut words, allowed) && words.next().is_none()
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn any_of(words: &mut Words<'_>, allowed: &[&str]) -> bool {
    let mut holds = all_of(words, allowed);
    while words.next_if_eq(&"OR").is_some() {
        // Both sides are read.
        holds |= all_of(words, allowed);
    }
    holds
}

fn all_of(words: &mut Words<'_>, allowed: &[&str]) -> bool {
    let mut holds = one(words, allowed);
    while words.next_if_eq(&"AND").is_some() {
        holds &= one(words, allowed);
    }
    holds
}

fn one(words: &mut Words<'_>, allowed: &[&str]) -> bool {
    match words.next() {
        Some("(") => {
            let holds = any_of(words, allowed);
            words.next() == Some(")") && holds
        }
        Some(name) if words.next_if_eq(&"WITH").is_some() => {
            let exception = words.next().unwrap_or_default();
            allowed.contains(&format!("{name} WITH {exception}").as_str())
        }
        Some(name) => allowed.contains(&name),
        None => false,
    }
}

#[test]
fn expressions_of_licences_are_read() {
    let allowed = ["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"];
    for (expression, expected) in [
        ("MIT", true),
        ("GPL-3.0-only", false),
        ("GPL-3.0-only OR MIT", true),
        ("GPL-3.0-only/MIT", true),
        ("MIT AND GPL-3.0-only", false),
        ("MIT AND ISC", true),
        ("(GPL-3.0-only OR MIT) AND ISC", true),
        ("ISC AND (GPL-3.0-only AND MIT)", false),
        ("GPL-3.0-only AND MIT OR ISC", true),
        ("MIT WITH LLVM-exception", false),
        ("Apache-2.0", false),
        ("GPL-3.0-only OR Apache-2.0 WITH LLVM-exception AND ISC", true),
        ("(MIT", false),
        ("", false),
    ] {
        assert_eq!(is_allowed(expression, &allowed), expected, "{expression}");
    }
}

#[test]
fn every_dependency_has_a_licence_that_is_allowed() {
    let allowed = quoted("allow");
    for package in packages() {
        let licence = package["license"].as_str().unwrap_or_default();
        assert!(is_allowed(licence, &allowed), "{}: {licence:?}", package["name"]);
    }
}

#[test]
fn nothing_that_is_banned_is_a_dependency() {
    let banned = quoted("deny");
    assert!(banned.len() > 1, "{banned:?}");
    for package in packages() {
        assert!(!banned.contains(&package["name"].as_str().unwrap()), "{}", package["name"]);
    }
}

#[test]
fn every_dependency_is_of_one_registry() {
    assert!(
        DENY.contains("unknown-registry = \"deny\"") && DENY.contains("unknown-git = \"deny\"")
    );
    let mut sources = BTreeSet::new();
    for package in packages() {
        match package["source"].as_str() {
            Some(source) => drop(sources.insert(source.to_owned())),
            None => assert_eq!(
                package["name"], "manx",
                "a dependency that lies somewhere on this machine"
            ),
        }
    }
    assert!(
        sources.len() == 1 && sources.iter().all(|one| one.starts_with("registry+")),
        "{sources:?}"
    );
}
