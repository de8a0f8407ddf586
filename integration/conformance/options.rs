// SPDX-License-Identifier: Apache-2.0
//! The command line of the suite.
//!
//! An argument with a slash is a plugin, any other one chooses rules, so that
//! `cargo test WORD`, which hands WORD to every test program, does no harm here.

use std::fs;
use std::path::{Path, PathBuf};

use lexopt::prelude::*;
use serde_json::Value;

use crate::rule::Rule;
use crate::suite::{Suite, template};

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Options {
    /// The plugins to test.
    pub suites: Vec<Suite>,
    /// Print the usage and test nothing.
    pub help: bool,
    /// Print the rules and test nothing.
    pub list: bool,
    /// Print the differences as a document.
    pub markdown: bool,
    /// Broken rules are what is looked for: they do not fail the run.
    pub reference: bool,
    words: Vec<String>,
}

/// The IPAM plugin where none is named.
pub const DEFAULT_IPAM: &str = "host-local";

/// The usage.
pub const USAGE: &str = "usage: conformance [BINARY…] [--ipam TYPE] [--conf FILE] [--reference] \
                     [--markdown] [--list] [RULE…]
  BINARY       a plugin, with a slash in its path (default: manx as built)
  --ipam TYPE  the IPAM plugin (default host-local; static, or one with host-local's keys)
  --conf FILE  a JSON object of keys that the plugin needs in its configuration
  --reference  exit 0 although rules are broken
  --markdown   print the differences of all plugins as a document
  --list       print the rules
  RULE         a number, or a word of the sentence";

impl Options {
    /// Reads the arguments of the process.
    pub fn parse() -> Result<Self, String> {
        let mut parser = lexopt::Parser::from_env();
        let mut binaries: Vec<PathBuf> = Vec::new();
        let (mut ipam, mut conf) = (String::from(DEFAULT_IPAM), None);
        let (mut help, mut list, mut markdown, mut reference) = (false, false, false, false);
        let mut words = Vec::new();
        while let Some(argument) = parser.next().map_err(|e| e.to_string())? {
            match argument {
                Long("ipam") => ipam = text(&mut parser)?,
                Long("conf") => conf = Some(object(Path::new(&text(&mut parser)?))?),
                Long("help") | Short('h') => help = true,
                Long("list") => list = true,
                Long("markdown") => markdown = true,
                Long("reference") => reference = true,
                // Of cargo test, for programs with the usual test runner.
                Long("nocapture" | "no-capture" | "quiet") | Short('q') => {}
                Long("test-threads") => drop(text(&mut parser)?),
                Value(word) => {
                    let word = word.to_string_lossy().into_owned();
                    if word.contains('/') { binaries.push(word.into()) } else { words.push(word) }
                }
                _ => return Err(USAGE.into()),
            }
        }
        let own = binaries.is_empty();
        if own {
            binaries.push(env!("CARGO_BIN_EXE_manx").into());
        }
        let suites = binaries.iter().map(|path| suite(path, &ipam, conf.clone(), own));
        let suites = suites.collect::<Result<_, _>>()?;
        Ok(Self { suites, help, list, markdown, reference, words })
    }

    /// Whether a rule was asked for.
    pub fn chooses(&self, rule: &Rule) -> bool {
        let number = rule.number.trim_end_matches(|c: char| c.is_ascii_lowercase());
        self.words.is_empty()
            || self.words.iter().any(|word| {
                let numeric = word.starts_with(|c: char| c.is_ascii_digit());
                word == rule.number || word == number || (!numeric && rule.title.contains(word))
            })
    }
}

/// A suite for a binary that exists, with its delegates.
fn suite(path: &Path, ipam: &str, conf: Option<Value>, own: bool) -> Result<Suite, String> {
    let binary = fs::canonicalize(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let named = std::env::var_os("CNI_PLUGIN_DIR").map(PathBuf::from);
    let beside = binary.parent().map(Path::to_path_buf);
    let delegates = named.into_iter().chain(beside).collect();
    let kind = binary.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let extra = conf.unwrap_or_else(|| template(&kind));
    let suite = Suite { binary, ipam: ipam.into(), delegates, extra, own };
    if suite.find(ipam).is_none() && !own {
        return Err(format!(
            "no IPAM plugin {ipam} beside {} nor in CNI_PLUGIN_DIR: run hack/setup",
            path.display()
        ));
    }
    Ok(suite)
}

fn text(parser: &mut lexopt::Parser) -> Result<String, String> {
    parser.value().and_then(|value| value.string()).map_err(|e| e.to_string())
}

fn object(path: &Path) -> Result<Value, String> {
    let text = fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let value: Value =
        serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))?;
    if value.is_object() { Ok(value) } else { Err(format!("{}: not an object", path.display())) }
}
