// SPDX-License-Identifier: Apache-2.0
//! Whether files know each other in circles: whoever reads one of a circle has to read
//! all of them, and no part of it can be tested or taken away alone.
//!
//! A file knows another if it names something that is defined there: in a `use`, or in a
//! path. A name that a module only passes on (`pub use`) is its definer's. That a module
//! declares its children makes it know none of them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::{Source, sources};

type Path = Vec<String>;

/// What a source file names.
#[derive(Default)]
struct File {
    uses: Vec<Use>,
    /// Paths outside of `use`.
    paths: Vec<Path>,
}

/// One name that a `use` brings in.
struct Use {
    path: Path,
    name: String,
    is_public: bool,
}

/// The files, by their module's path.
struct Files(BTreeMap<Path, File>);

impl Files {
    fn of(sources: &[Source]) -> Self {
        let mut files = BTreeMap::new();
        for source in sources {
            let text = source.path.display().to_string();
            let inside = text.rsplit_once("/src/").unwrap().1.trim_end_matches(".rs");
            let mut path: Path = inside.split('/').map(str::to_owned).collect();
            path.retain(|part| part != "mod" && part != "lib");
            if path.iter().all(|part| part != "tests" && part != "main") {
                files.insert(path, File::of(&source.code));
            }
        }
        Self(files)
    }

    fn is_module(&self, path: &[String]) -> bool {
        self.0.contains_key(path)
    }

    /// The module that a path starts at, and what follows; nothing for what is
    /// another crate's.
    fn start<'a>(&self, at: &[String], path: &'a [String]) -> Option<(Path, &'a [String])> {
        let first = path.first()?;
        if first == "crate" {
            return Some((Vec::new(), &path[1..]));
        }
        let up = path.iter().take_while(|part| *part == "super").count();
        if first == "self" || up > 0 {
            let own = &at[..at.len().checked_sub(up)?];
            return Some((own.to_vec(), &path[up.max(1)..]));
        }
        let child = [at, std::slice::from_ref(first)].concat();
        self.is_module(&child).then(|| (at.to_vec(), path))
    }

    /// The file that defines what a path names, as `at` understands it.
    fn definer(&self, at: &[String], path: &[String], depth: usize) -> Option<Path> {
        let depth = depth.checked_sub(1)?;
        let Some((mut module, rest)) = self.start(at, path) else {
            let first = path.first()?;
            let brought = self.0[at].uses.iter().find(|one| one.name == *first)?;
            let whole = [&brought.path, &path[1..]].concat();
            let known = ["crate", "self", "super"].contains(&brought.path[0].as_str())
                || self.start(at, &brought.path).is_some();
            return known.then(|| self.definer(at, &whole, depth)).flatten();
        };
        for (place, part) in rest.iter().enumerate() {
            let child = [&module[..], std::slice::from_ref(part)].concat();
            if self.is_module(&child) {
                module = child;
                continue;
            }
            let passed = self.0.get(&module)?.uses.iter().find(|one| one.name == *part);
            let Some(passed) = passed else { break };
            let whole = [&passed.path, &rest[place + 1..]].concat();
            return self.definer(&module, &whole, depth);
        }
        Some(module)
    }

    /// Which files a file knows.
    fn known_to(&self, at: &Path) -> BTreeSet<Path> {
        let file = &self.0[at];
        let brought = file.uses.iter().filter(|one| !one.is_public).map(|one| &one.path);
        let named = brought.chain(&file.paths).filter_map(|path| self.definer(at, path, 16));
        named.filter(|known| known != at && self.is_module(known)).collect()
    }
}

impl File {
    fn of(code: &str) -> Self {
        let code = code.split("#[cfg(test)]\nmod tests").next().unwrap();
        let mut file = Self::default();
        let mut statements = String::new();
        let mut in_use = None;
        for line in code.lines() {
            let trimmed = line.trim();
            let begins = trimmed.starts_with("use ")
                || trimmed.starts_with("pub") && trimmed.contains(" use ");
            if in_use.is_none() && begins {
                in_use = Some(trimmed.starts_with("pub"));
            }
            match in_use {
                None => file.paths.extend(paths(without_visibility(line))),
                Some(is_public) => {
                    statements.push_str(trimmed);
                    if trimmed.ends_with(';') {
                        let (_, tree) = statements.split_once("use ").unwrap();
                        let mut add = |path: Path, name| {
                            file.uses.push(Use { path, name, is_public });
                        };
                        expand(&[], tree.trim_end_matches(';'), &mut add);
                        (in_use, statements) = (None, String::new());
                    }
                }
            }
        }
        file
    }
}

/// A line from where it says who may know of what it defines.
fn without_visibility(line: &str) -> &str {
    let inside = line.trim_start().strip_prefix("pub(in ");
    inside.and_then(|rest| rest.split_once(')')).map_or(line, |(_, rest)| rest)
}

/// The names that a tree of a `use` brings in.
fn expand(prefix: &[String], tree: &str, add: &mut impl FnMut(Path, String)) {
    let tree = tree.trim();
    if tree.is_empty() {
        return;
    }
    let (head, group) = tree.split_once('{').map_or((tree, None), |(head, rest)| {
        (head, Some(rest.trim_end().strip_suffix('}').unwrap()))
    });
    let (head, alias) = head.split_once(" as ").map_or((head, None), |(h, a)| (h, Some(a)));
    let parts = head.split("::").map(str::trim).filter(|part| !part.is_empty());
    let mut path: Path = prefix.iter().cloned().chain(parts.map(str::to_owned)).collect();
    let Some(group) = group else {
        if path.last().is_some_and(|last| last == "self") {
            path.pop();
        }
        if let Some(last) = path.last().cloned() {
            add(path, alias.map_or(last, |alias| alias.trim().to_owned()));
        }
        return;
    };
    let (mut depth, mut from) = (0, 0);
    for (at, character) in group.char_indices().chain([(group.len(), ',')]) {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                expand(&path, &group[from..at], add);
                from = (at + 1).min(group.len());
            }
            _ => {}
        }
    }
}

/// The paths of more than one segment in a line of code.
fn paths(line: &str) -> Vec<Path> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let words = line.split(|c| !is_part(c)).filter(|word| word.contains("::"));
    let path = |word: &str| -> Path {
        word.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect()
    };
    words.map(path).filter(|path| path.len() > 1).collect()
}

/// The shortest way from a file back to itself.
fn circle(from: &Path, known: &BTreeMap<Path, BTreeSet<Path>>) -> Option<Vec<Path>> {
    let mut ways = VecDeque::from([vec![from.clone()]]);
    let mut seen = BTreeSet::new();
    while let Some(way) = ways.pop_front() {
        for next in &known[way.last().unwrap()] {
            let longer = [&way[..], std::slice::from_ref(next)].concat();
            if next == from {
                return Some(longer);
            }
            if seen.insert(next.clone()) {
                ways.push_back(longer);
            }
        }
    }
    None
}

/// As it is told: the files of a circle, in its order.
fn circles(files: &Files) -> BTreeSet<String> {
    let known = files.0.keys().map(|path| (path.clone(), files.known_to(path)));
    let known: BTreeMap<Path, BTreeSet<Path>> = known.collect();
    let found = known.keys().filter_map(|from| circle(from, &known));
    found
        .map(|way| way.iter().map(|path| path.join("/")).collect::<Vec<_>>().join(" -> "))
        .collect()
}

#[test]
fn no_file_knows_one_that_knows_it() {
    let files = Files::of(&sources());
    let links: usize = files.0.keys().map(|path| files.known_to(path).len()).sum();
    assert!(links > 700, "only {links} files are seen to know another");
    let found = circles(&files);
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn a_circle_is_found_in_every_form() {
    let of = |texts: &[(&str, &str)]| {
        let file = |(path, code): &(&str, &str)| {
            (path.split('/').map(str::to_owned).collect(), File::of(code))
        };
        let mut files: BTreeMap<Path, File> = texts.iter().map(file).collect();
        files.entry(Vec::new()).or_default();
        circles(&Files(files)).into_iter().collect::<Vec<_>>()
    };
    // A module and its child, by a name that is used and by one in a path.
    let parent = ("a", "pub struct A;\nfn f() { b::g() }");
    assert_eq!(of(&[parent, ("a/b", "use super::A;")]), ["a -> a/b -> a", "a/b -> a -> a/b"]);
    assert!(of(&[parent, ("a/b", "    pub(in crate::a) fn g() {}")]).is_empty());
    // To pass a name on is no knowledge, and it is the definer's.
    let facade = ("a", "mod b;\npub use b::B;\npub use c::C;");
    assert!(of(&[facade, ("a/b", "use super::C;"), ("a/c", "")]).is_empty());
    let both =
        [facade, ("a/b", "use super::{\n    C,\n    c::D,\n};"), ("a/c", "use crate::a::B as X;")];
    assert_eq!(of(&both), ["a/b -> a/c -> a/b", "a/c -> a/b -> a/c"]);
    // Through a module that was brought in, over lines.
    let modules = [
        ("x", "use crate::{\n    y,\n    z::{self},\n};\nfn f() -> y::Y {}"),
        ("y", "use std::fmt;\nuse crate::z::Z;"),
        ("z", "pub struct Z;\nfn f() { crate::x::f() }"),
    ];
    assert_eq!(of(&modules).len(), 3);
    assert!(of(&modules[..2]).is_empty());
}
