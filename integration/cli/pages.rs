// SPDX-License-Identifier: Apache-2.0
//! README.md and the pages of docs/ against what they tell of: commands and options that exist, links that lead to a
//! file and to a heading in it, files of this repository that are there, JSON that can be read.
//!
//! That a command prints what a page says is for `integration/fabric/pages.rs`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::MANX;
use crate::harness::{DEADLINE, Scratch, Stdin, run};

/// Where files of this repository are that pages name without a link.
const FOLDERS: [&str; 6] = ["conf/", "docs/", "hack/", "integration/", "results/", "src/"];
/// What ends a command of a shell; behind `--` the words are another program's.
const ENDS: [&str; 10] = ["|", "||", "&&", ";", "&", ">", ">>", "<", "--", "#"];
/// Words in front of a command, besides its beginning, a prompt and a variable.
const FRONTS: [&str; 5] = ["--", "|", "&&", ";", "sudo"];

/// A subcommand, as its help has it.
#[derive(Default)]
struct Described {
    /// Of each option, without dashes, whether a value follows.
    options: BTreeMap<String, bool>,
    /// What its first operand has to be, where that is one of a few words.
    words: Vec<String>,
}

type Commands = BTreeMap<String, Described>;

fn says(arguments: &[&str]) -> String {
    let mut command = Command::new(MANX);
    command.args(arguments);
    run(command, &Stdin::Null, DEADLINE).ok()
}

fn commands() -> Commands {
    let overview = says(&["--help"]);
    let listed = overview.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names = listed.map_while(|line| line.strip_prefix("  ")?.split_whitespace().next());
    let found: Commands = names.map(|name| (name.to_owned(), described(name))).collect();
    assert!(found.len() > 15, "{overview}");
    found
}

fn described(name: &str) -> Described {
    let mut found = Described::default();
    if name == "help" {
        return found;
    }
    for line in says(&[name, "--help"]).lines() {
        if let Some(option) = line.strip_prefix("  --") {
            let mut words = option.split("  ").next().unwrap().split(' ');
            let option = words.next().unwrap();
            found.options.insert(option.to_owned(), words.next().is_some());
        }
        let usage = line
            .split_once(&format!("manx {name} "))
            .filter(|(before, _)| ["Usage: ", "       "].contains(before));
        let first = usage.and_then(|(_, rest)| rest.split(' ').next()).unwrap_or_default();
        if !first.is_empty() && first.chars().all(|c| c.is_ascii_lowercase() || c == '|') {
            found.words.extend(first.split('|').map(str::to_owned));
        }
    }
    found
}

/// Lines of a page, and whether they are code: indented by four or between fences.
fn lines(text: &str) -> Vec<(bool, &str)> {
    let mut is_fenced = false;
    let kind = |line| {
        let is_fence = str::starts_with(line, "```");
        is_fenced ^= is_fence;
        (is_fenced || is_fence || line.starts_with("    "), line)
    };
    text.lines().map(kind).collect()
}

/// What a line has between backquotes, and what it has besides.
fn spans(line: &str) -> (Vec<&str>, String) {
    let parts: Vec<&str> = line.split('`').collect();
    let spans = parts.iter().copied().skip(1).step_by(2).collect();
    let besides: Vec<&str> = parts.iter().copied().step_by(2).collect();
    (spans, besides.join(" "))
}

/// The arguments of each manx in a line of shell.
fn calls(line: &str) -> Vec<Vec<&str>> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let is_call = |at: usize| {
        let before = at.checked_sub(1).map(|before| words[before]);
        let is_begun = before.is_none_or(|before| {
            FRONTS.contains(&before) || before.ends_with(['#', ':']) || before.contains('=')
        });
        words[at].ends_with("/manx") || words[at] == "manx" && is_begun
    };
    let arguments = |at: usize| {
        let rest = words[at + 1..].iter().copied();
        rest.take_while(|word| !ENDS.contains(word)).collect()
    };
    (0..words.len()).filter(|at| is_call(*at)).map(arguments).collect()
}

/// What is wrong with the arguments of one manx. In prose an option may be named without its value.
fn misuse(arguments: &[&str], is_code: bool, commands: &Commands) -> Option<String> {
    // `manx egress: ` begins a line of a log.
    arguments.first().filter(|name| !name.ends_with(':'))?;
    let plain = |word: &&str| word.trim_end_matches([',', ';', ':', '.', ')']).to_owned();
    let words: Vec<String> = arguments.iter().map(plain).collect();
    let (name, rest) = words.split_first()?;
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_lowercase()) {
        return None;
    }
    let Some(known) = commands.get(name) else { return Some(format!("there is no manx {name}")) };
    let mut operands = 0;
    let mut rest = rest.iter().peekable();
    while let Some(word) = rest.next() {
        let Some(option) = word.strip_prefix("--") else {
            let is_word = word.chars().all(|c| c.is_ascii_lowercase());
            if operands == 0 && is_word && !known.words.is_empty() && !known.words.contains(word) {
                return Some(format!("there is no manx {name} {word}"));
            }
            operands += 1;
            // The rest is another program's.
            if name == "exec" {
                return None;
            }
            continue;
        };
        match known.options.get(option) {
            None if option == "help" => {}
            None => return Some(format!("manx {name} has no --{option}")),
            Some(true) if rest.next().is_none() && is_code => {
                return Some(format!("--{option} of manx {name} wants a value"));
            }
            Some(_) => {}
        }
    }
    None
}

/// Files of this repository that a line names.
fn files(line: &str) -> Vec<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "_./*-".contains(c);
    let mut found = Vec::new();
    for (at, _) in FOLDERS.iter().flat_map(|folder| line.match_indices(folder)) {
        let before = &line[..at];
        let of_checkout = before.strip_suffix("manx/").unwrap_or(before);
        if of_checkout.ends_with(is_part) {
            continue;
        }
        let end = line[at..].find(|c| !is_part(c)).map_or(line.len(), |length| at + length);
        let path = line[at..end].trim_end_matches(['.', '/', '-']);
        let whole = path.split_once('*').and_then(|(whole, _)| whole.rsplit_once('/'));
        found.push(whole.map_or(path, |(folder, _)| folder).to_owned());
    }
    found
}

/// What links and pictures of a line lead to, but for other sites.
fn links(line: &str) -> Vec<&str> {
    let ends = [("](", ')'), ("src=\"", '"'), ("srcset=\"", '"')];
    let targets = ends.iter().flat_map(|(begin, end)| {
        line.split(begin).skip(1).filter_map(|rest| Some(rest.split_once(*end)?.0))
    });
    targets.filter(|target| !target.contains("://")).collect()
}

/// The anchor of a heading, as forges make it.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn anchors(text: &str) -> Vec<String> {
    let lines = lines(text).into_iter().filter(|(is_code, _)| !is_code);
    let headings =
        lines.filter_map(|(_, line)| Some(line.strip_prefix('#')?.trim_start_matches('#')));
    headings.map(|heading| anchor(heading.trim())).collect()
}

/// A path without `.` and `..`; `None` outside of the repository.
fn plain(path: &Path) -> Option<PathBuf> {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => plain.push(name),
            Component::ParentDir if plain.pop() => {}
            Component::CurDir => {}
            _ => return None,
        }
    }
    Some(plain)
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What is wrong with a link of the page of that name.
fn astray(page: &str, text: &str, link: &str) -> Option<String> {
    let (path, wanted) = link.split_once('#').map_or((link, None), |(path, at)| (path, Some(at)));
    let target = plain(&Path::new(page).parent()?.join(path))
        .filter(|target| path.is_empty() || root().join(target).exists());
    let Some(target) = target else { return Some(format!("{link}: there is no such file")) };
    let wanted = wanted?;
    let there = match path.is_empty() {
        true => anchors(text),
        false => anchors(&fs::read_to_string(root().join(target)).unwrap_or_default()),
    };
    (!there.iter().any(|one| one == wanted)).then(|| format!("{link}: no such heading"))
}

/// The fenced blocks of JSON that leave nothing out.
fn documents(text: &str) -> impl Iterator<Item = &str> {
    let blocks =
        text.split("```json\n").skip(1).filter_map(|rest| Some(rest.split_once("\n```")?.0));
    blocks.filter(|block| !block.contains('…') && !block.contains("{{"))
}

/// All that is wrong with a page.
fn faults(page: &str, text: &str, commands: &Commands) -> Vec<String> {
    let mut faults = Vec::new();
    for (number, (is_code, line)) in lines(text).into_iter().enumerate() {
        let (spans, besides) = if is_code { (vec![line], String::new()) } else { spans(line) };
        let calls = spans.iter().flat_map(|span| calls(span));
        let mut found: Vec<String> =
            calls.filter_map(|call| misuse(&call, is_code, commands)).collect();
        let missing =
            |path: &String| ["", "src"].iter().all(|at| !root().join(at).join(path).exists());
        let missing = files(line).into_iter().filter(missing);
        found.extend(missing.map(|path| format!("{path}: there is no such file")));
        found.extend(links(&besides).into_iter().filter_map(|link| astray(page, text, link)));
        faults.extend(found.into_iter().map(|fault| format!("{page}:{}: {fault}", number + 1)));
    }
    let wrong = documents(text).filter_map(|block| serde_json::from_str::<Value>(block).err());
    faults.extend(wrong.map(|error| format!("{page}: a block of JSON: {error}")));
    faults
}

/// README and the pages, by their names in the repository.
fn pages() -> Vec<(String, String)> {
    let entries = fs::read_dir(root().join("docs")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let docs = names.filter(|name| name.ends_with(".md")).map(|name| format!("docs/{name}"));
    let others = ["README.md", "CONTRIBUTING.md", "SECURITY.md"].map(str::to_owned);
    let read = |name: String| (name.clone(), fs::read_to_string(root().join(name)).unwrap());
    others.into_iter().chain(docs).map(read).collect()
}

#[test]
fn what_the_pages_name_is_there() {
    let commands = commands();
    let pages = pages();
    assert!(pages.len() > 15);
    let faults: Vec<String> =
        pages.iter().flat_map(|(page, text)| faults(page, text, &commands)).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// README's pictures, light and dark. The charts are of what was measured last.
#[test]
fn pictures_are_what_their_scripts_draw() {
    let scratch = Scratch::new();
    let directory = scratch.dir("pictures");
    let report = root().join("results/report.json");
    for (script, reads, pictures) in [
        ("datapath.py", None, &["datapath"][..]),
        ("charts.py", Some(&report), &["attach", "tunnel"]),
    ] {
        let mut command = Command::new(root().join("integration/docs").join(script));
        command.args(reads).arg(&directory);
        run(command, &Stdin::Null, DEADLINE).ok();
        let names =
            pictures.iter().flat_map(|name| ["light", "dark"].map(|of| format!("{name}-{of}.svg")));
        for name in names {
            let drawn = fs::read_to_string(directory.join(&name)).unwrap();
            let held = fs::read_to_string(root().join("docs").join(&name)).unwrap();
            let reads = reads.map_or("", |_| "results/report.json ");
            assert!(
                drawn == held,
                "docs/{name}: integration/docs/{script} {reads}docs draws another one"
            );
        }
    }
}

#[test]
fn readme_leads_to_every_page() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    for (page, _) in pages().iter().filter(|(page, _)| page != "README.md") {
        assert!(readme.contains(&format!("]({page})")), "README.md has no link to {page}");
    }
}

#[test]
fn what_a_page_names_wrongly_is_found() {
    let commands = commands();
    for (text, expected) in [
        ("    manx plan --json # all", ""),
        ("    manx plann", "there is no manx plann"),
        ("    node-a# manx plan --jsn", "manx plan has no --jsn"),
        ("    x | manx pods --frob", "manx pods has no --frob"),
        ("    fix: manx aply", "there is no manx aply"),
        ("    A=b manx aply", "there is no manx aply"),
        ("    kubectl exec -it shell -- manx doctr", "there is no manx doctr"),
        ("    ExecStart=/opt/cni/bin/manx gcc", "there is no manx gcc"),
        ("```\nmanx stauts\n```", "there is no manx stauts"),
        ("see `manx tune --aply`.", "manx tune has no --aply"),
        ("see manx tune --aply.", ""),
        ("    manx doctor --only", "--only of manx doctor wants a value"),
        ("say `manx doctor --only`", ""),
        ("    manx doctor --only # one", "--only of manx doctor wants a value"),
        ("    manx ipam shwo", "there is no manx ipam shwo"),
        ("    manx policy apply world.json", ""),
        ("    manx policy aply world.json", "there is no manx policy aply"),
        ("    manx exec default/web -- ss --frob", ""),
        ("    manx exec default/web ss --frob", ""),
        ("    ip route show proto manx onlink", ""),
        ("    manx SUBCOMMAND --help", ""),
        ("    hack/frob", "hack/frob: there is no such file"),
        ("by `conf/frob.json`.", "conf/frob.json: there is no such file"),
        ("by `conf/kubernetes`, conf/systemd/system/*, hack/test.", ""),
        ("conf/frob/*", "conf/frob: there is no such file"),
        ("- manx/conf/kubernetes/frob", "conf/kubernetes/frob: there is no such file"),
        ("/usr/share/conf/frob and conf/keys.rs", ""),
        ("[a](kubernetes.md) [b](../README.md#install) [c](#here)\n\n## Here", ""),
        ("[a](frob.md)", "frob.md: there is no such file"),
        ("[a](../../README.md)", "../../README.md: there is no such file"),
        ("[a](policy.md#frob)", "policy.md#frob: no such heading"),
        ("[a](#here)\n\n    ## Here", "#here: no such heading"),
        ("<img src=\"frob.svg\">", "frob.svg: there is no such file"),
        ("<source srcset=\"frob.svg\">", "frob.svg: there is no such file"),
        ("```json\n{\"a\": 1}\n```", ""),
        ("```json\n{\"a\": 1,}\n```", "a block of JSON"),
        ("```json\n{\"a\": …}\n```", ""),
    ] {
        let found = faults("docs/page.md", text, &commands);
        match expected {
            "" => assert!(found.is_empty(), "{text}: {found:?}"),
            _ => assert!(found.len() == 1 && found[0].contains(expected), "{text}: {found:?}"),
        }
    }
    assert_eq!(anchor("2. The MTU leaves `mtu` room, too"), "2-the-mtu-leaves-mtu-room-too");
}
