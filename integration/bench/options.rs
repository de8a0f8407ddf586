// SPDX-License-Identifier: Apache-2.0
//! What the benchmark is asked for.

use std::path::PathBuf;

use crate::subjects::Programs;

/// The sections, in the order in which they run.
pub const SECTIONS: [&str; 11] = [
    "floor",
    "attach",
    "families",
    "burst",
    "overlay",
    "overlay-vm",
    "scale",
    "apply",
    "watch",
    "beside",
    "size",
];

/// What this program runs when it is in a virtual machine.
pub const INSIDE: &str = "overlay-inside";

/// The command line.
#[derive(Debug)]
pub struct Options {
    pub programs: Programs,
    pub sections: Vec<String>,
    /// Two minutes instead of twenty.
    pub quick: bool,
    /// Whether a missed target is a failure.
    pub check: bool,
    /// Where the report goes.
    pub out: PathBuf,
    /// Two things in turns, instead of any section.
    pub pair: Option<Pair>,
}

/// What is compared with the binary that was built.
#[derive(Debug)]
pub enum Pair {
    /// Another manx.
    Binary(PathBuf),
    /// The same without the source check.
    SourceCheck,
    /// Calico's layout of network policies.
    Policy,
}

const USAGE: &str = "usage: hack/bench [--quick] [--check] [--out DIR] [SECTION]...\n\
                     \x20      hack/bench [--quick] [--out DIR] --pair OLD_BINARY | --source-check |\n\
                     \x20                 --policy";

impl Options {
    /// Reads the arguments: `--manx FILE --tools DIR` from hack/bench, then the
    /// user's.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn read(args: impl Iterator<Item = String>) -> Result<Self, String> {
        let (mut manx, mut tools, mut out) = (None, None, None);
        let (mut quick, mut check, mut wanted) = (false, false, Vec::new());
        let mut pair = None;
        let mut args = args;
        while let Some(arg) = args.next() {
            let mut value =
                || args.next().map(PathBuf::from).ok_or(format!("{arg} what?\n{USAGE}"));
            match arg.as_str() {
                "--manx" => manx = Some(value()?),
                "--tools" => tools = Some(value()?),
                "--out" => out = Some(value()?),
                "--pair" => pair = Some(Pair::Binary(value()?)),
                "--source-check" => pair = Some(Pair::SourceCheck),
                "--policy" => pair = Some(Pair::Policy),
                "--quick" => quick = true,
                "--check" => check = true,
                // cargo says so to whatever it benchmarks.
                "--bench" => {}
                section if SECTIONS.contains(&section) || section == INSIDE => wanted.push(arg),
                _ => {
                    let known = SECTIONS.join(", ");
                    return Err(format!("{arg}: no such option or section ({known})\n{USAGE}"));
                }
            }
        }
        let missing = || "run hack/bench, which builds what is needed".to_owned();
        let tools = tools.ok_or_else(missing)?;
        // A virtual machine takes longer than a quick run does.
        let by_default =
            |name: &str| wanted.is_empty() && name != INSIDE && !(quick && name == "overlay-vm");
        let is_wanted = |name: &&&str| by_default(name) || wanted.iter().any(|w| w == **name);
        let known = SECTIONS.iter().chain([&INSIDE]);
        Ok(Self {
            programs: Programs {
                manx: manx.ok_or_else(missing)?,
                floor: tools.join("floor"),
                meter: tools.join("meter"),
            },
            sections: known.filter(is_wanted).map(|name| (*name).to_owned()).collect(),
            quick,
            check,
            out: out.ok_or_else(missing)?,
            pair,
        })
    }

    /// The first in a quick run, the second in a full one.
    pub fn pick<T>(&self, quick: T, full: T) -> T {
        if self.quick { quick } else { full }
    }
}
