// SPDX-License-Identifier: Apache-2.0
//! Man pages and completions against the help that they are made of.

use std::{fs, path::Path};

use crate::{MANX, harness::Scratch, says};

/// A command, with the names of its options, as its help has them.
struct Described {
    name: String,
    options: Vec<String>,
}

fn described() -> Vec<Described> {
    let overview = says(MANX, &["--help"]);
    let listed = overview.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names =
        listed.map_while(|line| line.split_whitespace().next().filter(|_| line.starts_with("  ")));
    let found: Vec<Described> = names
        .filter(|name| *name != "help")
        .map(|name| {
            let help = says(MANX, &[name, "--help"]);
            let word =
                |line: &str| Some(line.strip_prefix("  --")?.split_whitespace().next()?.to_owned());
            Described { name: name.to_owned(), options: help.lines().filter_map(word).collect() }
        })
        .collect();
    assert!(found.len() > 15, "{overview}");
    found
}

/// Man pages and completions of this build, in a directory.
fn made() -> Scratch {
    let scratch = Scratch::new();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("integration/release/pages.py");
    let directory = scratch.dir("pages");
    says("python3", &[script.to_str().unwrap(), directory.to_str().unwrap(), MANX]);
    scratch
}

fn text(scratch: &Scratch, file: &str) -> String {
    fs::read_to_string(scratch.dir("pages").join(file)).unwrap()
}

#[test]
fn every_command_and_option_has_its_entry_in_the_man_pages() {
    let made = made();
    let overview = text(&made, "man/man8/manx.8");
    for command in described() {
        let name = &command.name;
        assert!(overview.contains(&format!("\n.TP\n\\fBmanx\\-{name}\\fR(8)\n")), "{name}");
        let page = text(&made, &format!("man/man8/manx-{name}.8"));
        for option in command.options {
            let entry = format!("\n.TP\n\\fB\\-\\-{}\\fR", option.replace('-', "\\-"));
            assert!(page.contains(&entry), "{name} --{option}: {page}");
        }
    }
}

#[test]
fn groff_has_no_complaint_of_any_man_page() {
    let made = made();
    let pages = fs::read_dir(made.dir("pages/man/man8")).unwrap();
    for page in pages.map(|entry| entry.unwrap().path()) {
        let shown = says("groff", &["-ww", "-man", "-Tutf8", "-P-cbou", page.to_str().unwrap()]);
        for heading in ["NAME", "SYNOPSIS"] {
            assert!(shown.contains(heading), "{}: {shown}", page.display());
        }
    }
}

/// What bash completes of a line whose last word is at the cursor.
const OF_BASH: &str = r#"
source "$1"
shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
# Which is a part of completion alone.
compopt() { [ "$*" = "-o filenames" ]; }
_manx
printf '%s\n' "${COMPREPLY[@]}"
"#;

fn bash(made: &Scratch, words: &[&str]) -> Vec<String> {
    let file = made.dir("pages").join("completions/manx.bash");
    let arguments = ["--norc", "-c", OF_BASH, "bash", file.to_str().unwrap(), "manx"];
    let said = says("bash", &[&arguments, words].concat());
    said.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[test]
fn bash_completes_every_command_and_option() {
    let made = made();
    let all = described();
    let mut names: Vec<String> = all.iter().map(|command| command.name.clone()).collect();
    names.push("help".to_owned());
    assert_eq!(bash(&made, &[""]), names);
    assert_eq!(bash(&made, &["help", "app"]), ["apply"]);
    for command in all {
        let mut options: Vec<String> =
            command.options.iter().map(|name| format!("--{name}")).collect();
        options.push("--help".to_owned());
        assert_eq!(bash(&made, &[&command.name, "--"]), options, "{}", command.name);
    }
    assert_eq!(bash(&made, &["ipam", ""]), ["show", "check"]);
    assert_eq!(bash(&made, &["adopt", "c"]), ["calico"]);
    assert_eq!(bash(&made, &["unknown", ""]), [""; 0]);
}

#[test]
fn bash_completes_files_where_one_is_taken_and_nowhere_else() {
    let made = made();
    let directory = made.dir("pages/completions");
    let start = directory.join("manx.f");
    let start = start.to_str().unwrap();
    let file = [format!("{}/manx.fish", directory.display())];
    assert_eq!(bash(&made, &["plan", "--bundle", start]), file);
    assert_eq!(bash(&made, &["validate", start]), file);
    assert_eq!(bash(&made, &["policy", "apply", start]), file);
    assert_eq!(bash(&made, &["pods", start]), [""; 0]);
    assert_eq!(bash(&made, &["status", "--timeout", start]), [""; 0]);
}

#[test]
fn fish_completes_every_command_and_option() {
    let made = made();
    let file = made.dir("pages").join("completions/manx.fish");
    let complete = |line: &str| -> Vec<String> {
        let script = "source $argv[1]; complete -C $argv[2]";
        let arguments = ["--no-config", "-c", script, file.to_str().unwrap(), line];
        let said = says("fish", &arguments);
        said.lines().filter_map(|line| Some(line.split('\t').next()?.to_owned())).collect()
    };
    let names = complete("manx ");
    for command in described() {
        assert!(names.contains(&command.name), "{}: {names:?}", command.name);
        let options = complete(&format!("manx {} --", command.name));
        for option in command.options {
            assert!(options.contains(&format!("--{option}")), "{}: {options:?}", command.name);
        }
    }
    assert!(complete("manx policy ").contains(&"remove".to_owned()));
}

/// What the completions hand to zsh's own functions, which work at a terminal alone: of the words behind
/// manx.
const OF_ZSH: &str = r#"
_describe() { print -r -- "describe $*" }
_arguments() { if [[ "$1" = -C ]]; then state=arguments; else print -rl -- "$@"; fi }
file="$1"
shift
words=("$@")
source "$file"
"#;

#[test]
fn zsh_is_told_of_every_option() {
    let made = made();
    let file = made.dir("pages").join("completions/_manx");
    let told = |name: &str| -> String {
        says("zsh", &["-f", "-c", OF_ZSH, "zsh", file.to_str().unwrap(), name])
    };
    for command in described() {
        let specs = told(&command.name);
        assert!(specs.contains("--help["), "{}: {specs}", command.name);
        for option in command.options {
            let spec = format!("*--{option}[");
            assert!(specs.lines().any(|line| line.starts_with(&spec)), "--{option}: {specs}");
        }
    }
    assert!(told("ipam").contains("1:what:(show check)"));
    assert!(told("plan").contains(":FILE:_files"));
    assert_eq!(told("help"), "describe command commands\n");
}
