// SPDX-License-Identifier: Apache-2.0
//! Whether the modules know only what the table in `src/lib.rs` lets them know.
//!
//! It reads source text, not the compiler's mind: paths that begin with
//! `crate::`, on their own or in a `use`, and paths that climb out of a module
//! by `super::`.

#![allow(missing_docs)]
// What tests share is no test in clippy's eyes.
#![allow(clippy::indexing_slicing, clippy::unwrap_used)]

mod circles;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Above this a file holds more than one subject.
const LINES_MAX: usize = 500;

/// Crates whose types stay inside the modules named with them.
const CONFINED: [(&str, &[&str]); 8] = [
    ("kube::", &["agent"]),
    ("tokio::", &["agent"]),
    ("hyper::", &["agent"]),
    ("prometheus_client", &["agent"]),
    ("netlink_packet_route", &["net"]),
    ("rtnetlink", &["net"]),
    ("netlink_packet_core", &["net", "netlink"]),
    ("netlink_sys", &["netlink"]),
];

/// A source file below `src/`.
struct Source {
    path: PathBuf,
    /// The first directory or file below `src/`.
    module: String,
    /// Without comments.
    code: String,
    lines: usize,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut directories = vec![root.clone()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let inside = path.strip_prefix(&root).unwrap();
                let first = Path::new(inside.components().next().unwrap().as_os_str());
                let text = fs::read_to_string(&path).unwrap();
                found.push(Source {
                    module: first.file_stem().unwrap().to_string_lossy().into_owned(),
                    code: without_comments(&text),
                    lines: text.lines().count(),
                    path,
                });
            }
        }
    }
    assert!(found.len() > 30, "only {} files below {}", found.len(), root.display());
    found
}

fn without_comments(text: &str) -> String {
    let code = |line: &str| line.split("//").next().unwrap_or_default().to_owned() + "\n";
    text.lines().map(code).collect()
}

/// The rows of the table in `src/lib.rs`, the highest first.
fn layers() -> Vec<Vec<String>> {
    let text = include_str!("../../src/lib.rs");
    let rows = text.lines().filter_map(|line| line.strip_prefix("//! | ")?.split(" | ").nth(1));
    let names = |cell: &str| -> Vec<String> {
        cell.split('`').skip(1).step_by(2).map(String::from).collect()
    };
    rows.map(names).filter(|row| !row.is_empty()).collect()
}

/// The modules of this crate that `code` names in paths from its root.
fn named_modules(code: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, root) in code.match_indices("crate::") {
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = &code[at + root.len()..];
        match rest.strip_prefix('{') {
            Some(group) => names.extend(first_segments(group)),
            None => names.push(identifier(rest)),
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

/// The first segments of the paths in a `use` group, up to its closing brace.
fn first_segments(group: &str) -> Vec<String> {
    let (mut depth, mut at_start, mut names) = (0, true, Vec::new());
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => at_start = true,
            c if c.is_whitespace() => {}
            _ if at_start => {
                names.push(identifier(&group[at..]));
                at_start = false;
            }
            _ => {}
        }
    }
    names
}

fn identifier(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

#[test]
fn paths_are_read_in_every_form() {
    let code = "use crate::{\n    cni::{AddResult, Code},\n    net,\n    nft::{self, X}\n};
        fn f() -> crate::pod::Y { crate::state::z() }
        use other_crate::cli;";
    assert_eq!(named_modules(code), ["cni", "net", "nft", "pod", "state"]);
}

#[test]
fn modules_know_only_the_layers_below_them() {
    let layers = layers();
    let row = |module: &str| layers.iter().position(|layer| layer.iter().any(|m| m == module));
    let mut wrong = BTreeMap::new();
    for source in sources() {
        let Some(own) = row(&source.module) else { continue };
        for name in named_modules(&source.code) {
            let below = row(&name).is_some_and(|row| row > own);
            if name != source.module && !below {
                wrong.insert(source.path.display().to_string(), name);
            }
        }
    }
    assert!(wrong.is_empty(), "against the table in src/lib.rs: {wrong:#?}");
}

/// The configuration is read from a document and from nothing else.
#[test]
fn the_configuration_knows_no_kernel() {
    for source in sources().iter().filter(|source| source.module == "conf") {
        for name in named_modules(&source.code) {
            let path = source.path.display();
            assert!(
                ["cni", "conf", "family", "list", "text"].contains(&name.as_str()),
                "{path} names {name}"
            );
        }
    }
}

/// Each door has its own words for what goes wrong.
#[test]
fn the_node_knows_no_codes_of_cni() {
    for source in sources().iter().filter(|source| source.module == "node") {
        let path = source.path.display();
        for word in ["Code::", "cni::Error", "cni::error", "cni::{self"] {
            assert!(!source.code.contains(word), "{path} names {word}");
        }
    }
}

#[test]
fn every_module_has_its_row() {
    let declared: Vec<&str> = include_str!("../../src/lib.rs")
        .lines()
        .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'))
        .collect();
    let mut rows: Vec<String> = layers().concat();
    rows.sort();
    assert_eq!(rows, declared, "the table in src/lib.rs names every module once");
}

#[test]
fn nobody_climbs_out_of_a_module() {
    let modules = layers().concat();
    for source in sources() {
        for module in modules.iter().filter(|module| **module != source.module) {
            let directory = source.path.parent().unwrap();
            let is_sibling = directory.join(module).with_extension("rs").exists()
                || directory.join(module).is_dir();
            let climbs = source.code.contains(&format!("super::{module}::"));
            let path = source.path.display();
            assert!(is_sibling || !climbs, "{path} reaches {module} by super::");
        }
    }
}

#[test]
fn netlink_types_stay_where_the_kernel_is_spoken_to() {
    for source in sources() {
        for (name, modules) in CONFINED {
            let allowed = modules.contains(&source.module.as_str());
            let path = source.path.display();
            assert!(allowed || !source.code.contains(name), "{path} names {name}");
        }
    }
}

/// Others speak to the kernel by the objects of net/ and nft/.
#[test]
fn sockets_of_netlink_have_two_users() {
    for source in sources() {
        let is_user = ["net", "netlink", "nft"].contains(&source.module.as_str());
        let names = named_modules(&source.code).iter().any(|name| name == "netlink");
        assert!(is_user || !names, "{} names netlink", source.path.display());
    }
}

#[test]
fn no_file_is_too_long() {
    for source in sources() {
        let (path, lines) = (source.path.display(), source.lines);
        assert!(lines <= LINES_MAX, "{path} has {lines} lines: give its subjects files");
    }
}

/// Whether a file is source: by its name, by its place, or by a first line that names what runs it.
fn is_source(path: &Path, text: &[u8]) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    let place = path.parent().and_then(Path::file_name).unwrap_or_default();
    ["rs", "py", "go", "ld", "yml"].contains(&ending) || place == "hack" || text.starts_with(b"#!")
}

/// In the form that programs look for, which read licences of files.
#[test]
fn every_source_says_its_licence() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut ahead: Vec<PathBuf> = [
        "src",
        "integration",
        "hack",
        ".ci",
        ".github",
        "fuzz/fuzz_targets",
        "fuzz/src",
        "fuzz/seeds.py",
    ]
    .map(|name| root.join(name))
    .into();
    let (mut count, mut wrong) = (0, Vec::new());
    while let Some(path) = ahead.pop() {
        if path.is_dir() {
            ahead.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let text = fs::read(&path).unwrap();
        if !is_source(&path, &text) {
            continue;
        }
        count += 1;
        let text = String::from_utf8_lossy(&text);
        if !text.lines().take(3).any(|line| line.contains("SPDX-License-Identifier: Apache-2.0")) {
            wrong.push(path);
        }
    }
    assert!(count > 500, "only {count} files are source");
    assert!(wrong.is_empty(), "without \"SPDX-License-Identifier: Apache-2.0\": {wrong:#?}");
}

/// The modules of `fabric` that ask the kernel, or tell it something.
const EDGE: [&str; 7] = ["apply", "digest", "inquiry", "observe", "reconcile", "uplink", "ways"];

/// Describing, comparing and judging is done without a socket and without a file: all
/// that counts is handed in.
#[test]
fn what_is_pure_opens_nothing() {
    for source in sources() {
        let path = source.path.display().to_string();
        let is_edge = |name: &&str| path.ends_with(&format!("fabric/{name}.rs"));
        let pure = match source.module.as_str() {
            "doctor" | "object" | "pod" | "policy" => true,
            "agent" => {
                let calico = ["blocks", "input", "needs", "nodes", "pools", "settle"];
                path.ends_with("/agent/belief.rs")
                    || calico.iter().any(|name| path.ends_with(&format!("calico/{name}.rs")))
            }
            "fabric" => !EDGE.iter().any(&is_edge) && !path.contains("/observe/"),
            _ => false,
        };
        if !pure || path.contains("/tests") {
            continue;
        }
        let code = source.code.split("#[cfg(test)]").next().unwrap();
        for opens in
            ["Socket", "File::", "fs::", "sysctl::ensure(", "sysctl::holds(", "sysctl::read("]
        {
            assert!(!code.contains(opens), "{path} has {opens}");
        }
    }
}

/// What lies at a path may be a pipe or have no end: state/ has the function that knows.
#[test]
fn files_are_read_by_one_function() {
    for source in sources() {
        let path = source.path.display().to_string();
        if source.module == "state" || path.contains("/tests") {
            continue;
        }
        let code = source.code.split("#[cfg(test)]").next().unwrap();
        for call in ["fs::read(", "fs::read_to_string(", "create_dir_all("] {
            assert!(!code.contains(call), "{path} calls {call}…): state/file.rs has its like");
        }
    }
}
