// SPDX-License-Identifier: Apache-2.0
//! The bill of materials against what cargo says of each program.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::Path,
    process::Command,
};

use serde_json::Value;

use crate::{
    MANX,
    harness::{DEADLINE, Scratch, Stdin, run},
    says,
};

const TARGET: &str = "x86_64-unknown-linux-musl";

/// Of the program of that name, for which this build's plugin stands in: what a program is made of is asked of cargo,
/// by its name.
fn bill(name: &str) -> Value {
    let programs = Scratch::new();
    fs::copy(MANX, programs.dir("x86_64").join(name)).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("integration/release/sbom.py");
    let mut command = Command::new("python3");
    command.arg(script).args([name, "1.2.3", "abc"]).arg(programs.path()).arg("x86_64");
    command.env("SOURCE_DATE_EPOCH", "86400");
    serde_json::from_str(&run(command, &Stdin::Null, DEADLINE).ok()).unwrap()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

/// All that the edges of the bill lead to from the program and that is in it, as purls.
fn made_of(bill: &Value) -> BTreeSet<String> {
    let edges: BTreeMap<String, &Value> = bill["dependencies"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| (text(&entry["ref"]), &entry["dependsOn"]))
        .collect();
    let components = bill["components"].as_array().unwrap();
    let excluded: BTreeSet<String> = components
        .iter()
        .filter(|component| component["scope"] == "excluded")
        .map(|component| text(&component["bom-ref"]))
        .collect();
    let (mut found, mut ahead) =
        (BTreeSet::new(), vec![text(&bill["metadata"]["component"]["bom-ref"])]);
    while let Some(at) = ahead.pop() {
        // Libraries of the compiler's own have no edges.
        for other in edges.get(&at).into_iter().flat_map(|others| others.as_array().unwrap()) {
            let other = text(other);
            if !excluded.contains(&other) && found.insert(other.clone()) {
                ahead.push(other);
            }
        }
    }
    found.retain(|found| found.starts_with("pkg:cargo/"));
    found
}

/// The same by cargo itself.
fn of_cargo(features: &[&str]) -> BTreeSet<String> {
    let cargo = env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let mut arguments = vec!["tree", "--quiet", "--locked", "--manifest-path", manifest];
    arguments.extend(["--target", TARGET, "--edges", "normal,no-proc-macro", "--prefix", "none"]);
    arguments.extend(["--no-dedupe", "--format", "{p}"]);
    arguments.extend(features);
    let told = says(&cargo, &arguments);
    let own = |line: &str| line.starts_with("manx ");
    let purl = |line: &str| {
        let mut words = line.split(' ');
        let (name, version) = (words.next()?, words.next()?.strip_prefix('v')?);
        Some(format!("pkg:cargo/{name}@{version}"))
    };
    told.lines().filter(|line| !own(line)).filter_map(purl).collect()
}

#[test]
fn a_program_is_made_of_what_cargo_says() {
    for (program, features, some) in [
        ("manx", &[][..], "pkg:cargo/rtnetlink@"),
        ("manx-agent", &["--features", "agent"][..], "pkg:cargo/kube-client@"),
    ] {
        let expected = of_cargo(features);
        assert!(expected.iter().any(|purl| purl.starts_with(some)), "{expected:?}");
        assert_eq!(made_of(&bill(program)), expected, "{program}");
    }
}

/// What CycloneDX 1.5 asks for, and who reads it.
#[test]
fn every_component_says_what_it_is() {
    let bill = bill("manx-agent");
    assert_eq!((&bill["bomFormat"], &bill["specVersion"]), (&"CycloneDX".into(), &"1.5".into()));
    assert_eq!(bill["metadata"]["timestamp"], "1970-01-02T00:00:00Z");
    assert_eq!(bill["metadata"]["component"]["version"], "1.2.3");
    let mut refs = BTreeSet::from(["manx-agent".to_owned()]);
    for component in bill["components"].as_array().unwrap() {
        assert!(refs.insert(text(&component["bom-ref"])), "twice: {component}");
        assert!(component["version"].is_string(), "{component}");
        let licence = &component["licenses"][0];
        assert!(licence["expression"].is_string() ^ licence["license"]["id"].is_string());
        if text(&component["bom-ref"]).starts_with("pkg:cargo/") {
            assert_eq!(component["purl"], component["bom-ref"]);
            let hash = &component["hashes"][0];
            assert!(hash["alg"] == "SHA-256" && text(&hash["content"]).len() == 64, "{component}");
        }
    }
    for entry in bill["dependencies"].as_array().unwrap() {
        assert!(refs.contains(&text(&entry["ref"])), "{entry}");
        for other in entry["dependsOn"].as_array().unwrap() {
            assert!(refs.contains(&text(other)), "{entry}");
        }
    }
    // Of the tests alone.
    assert!(!refs.iter().any(|one| one.contains("proptest")), "{refs:?}");
}

#[test]
fn the_same_programs_have_the_same_bill() {
    assert_eq!(bill("manx").to_string(), bill("manx").to_string());
}
