// SPDX-License-Identifier: Apache-2.0
//! The arguments of a subcommand.
//!
//! Each command declares its options as data, so that one loop reads them all
//! alike, a mistyped option is told the nearest one, and a test can hold the
//! help text against the declaration.

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

use lexopt::{Arg, Parser};

use crate::list::Gather;
pub(super) use crate::node::version::PLUGIN_DIRECTORY;
use crate::state::Root;
use crate::text::nearest;

/// What a command takes.
pub(super) struct Shape {
    /// Options without a value, without their dashes.
    pub(super) flags: &'static [&'static str],
    /// Options with a value.
    pub(super) values: &'static [&'static str],
    /// What is no option.
    pub(super) operands: Operands,
}

/// What a command takes besides options.
#[derive(Clone, Copy)]
pub(super) enum Operands {
    /// So many at most.
    AtMost(usize),
    /// One, and behind it a command line that is none of ours.
    OneThenCommand,
}

/// What was given.
#[derive(Debug, Default)]
pub(super) struct Args {
    flags: Vec<String>,
    values: Vec<(String, OsString)>,
    /// In their order.
    pub(super) operands: Vec<OsString>,
    /// What is behind the first operand, for [`Operands::OneThenCommand`].
    pub(super) command: Vec<OsString>,
}

impl Shape {
    /// The names of all options.
    pub(super) fn options(&self) -> impl Iterator<Item = &'static str> {
        self.flags.iter().chain(self.values).copied()
    }
}

impl Args {
    /// Reads the arguments; `None` if they ask for help.
    ///
    /// # Errors
    /// What is wrong with them, as a clause.
    pub(super) fn parse(arguments: Vec<OsString>, shape: &Shape) -> Result<Option<Self>, String> {
        let mut parser = Parser::from_args(arguments);
        let mut args = Self::default();
        while let Some(argument) = parser.next().map_err(|error| error.to_string())? {
            match argument {
                Arg::Short('h') | Arg::Long("help") => return Ok(None),
                Arg::Long(name) if shape.flags.contains(&name) => args.flags.push(name.to_owned()),
                Arg::Long(name) if shape.values.contains(&name) => {
                    let name = name.to_owned();
                    let value = parser.value().map_err(|error| error.to_string())?;
                    args.values.push((name, value));
                }
                Arg::Value(operand) => {
                    args.operands.push(operand);
                    if args.take_command(&mut parser, shape)? {
                        break;
                    }
                }
                Arg::Long(name) => {
                    let near = nearest::nearest(name, shape.options().chain(["help"]));
                    let hint = near.map(|near| format!(": did you mean --{near}?"));
                    return Err(format!("unknown option --{name}{}", hint.unwrap_or_default()));
                }
                Arg::Short(letter) => return Err(format!("unknown option -{letter}")),
            }
        }
        Ok(Some(args))
    }

    /// Checks the number of operands; true if the rest is a command's.
    fn take_command(&mut self, parser: &mut Parser, shape: &Shape) -> Result<bool, String> {
        match shape.operands {
            Operands::AtMost(count) if self.operands.len() > count => {
                let surplus = self.operands.last().map(|last| last.to_string_lossy().into_owned());
                Err(format!("unexpected argument {:?}", surplus.unwrap_or_default()))
            }
            Operands::AtMost(_) => Ok(false),
            Operands::OneThenCommand => {
                let rest = parser.raw_args().map_err(|error| error.to_string())?;
                self.command = rest.gather();
                if self.command.first().is_some_and(|first| first == "--") {
                    self.command.remove(0);
                }
                Ok(true)
            }
        }
    }

    /// Whether a flag was given.
    pub(super) fn flag(&self, name: &str) -> bool {
        self.flags.iter().any(|flag| flag == name)
    }

    /// The value of an option; the last one counts.
    pub(super) fn value(&self, name: &str) -> Option<&OsStr> {
        self.values
            .iter()
            .rev()
            .find(|(option, _)| option == name)
            .map(|(_, value)| value.as_os_str())
    }

    /// All values of an option, in their order.
    pub(super) fn values(&self, name: &str) -> impl Iterator<Item = &OsStr> {
        let values = self.values.iter().filter(move |(option, _)| option == name);
        values.map(|(_, value)| value.as_os_str())
    }

    /// The directory below which all is kept: `--root`, else `MANX_ROOT`, or `/`.
    pub(super) fn root(&self) -> Root {
        let variable = || std::env::var_os("MANX_ROOT").filter(|root| !root.is_empty());
        self.value("root").map(Into::into).or_else(variable).map(Root::new).unwrap_or_default()
    }

    /// Where plugins are: `--bin`, else `CNI_PATH`, else the usual directory.
    pub(super) fn plugin_path(&self, root: &Root) -> Vec<PathBuf> {
        if let Some(directory) = self.value("bin") {
            return vec![directory.into()];
        }
        let variable = std::env::var_os("CNI_PATH").unwrap_or_default();
        let directories = std::env::split_paths(&variable);
        let given: Vec<PathBuf> = directories.filter(|dir| *dir != Path::new("")).gather();
        if given.is_empty() { vec![root.path(PLUGIN_DIRECTORY)] } else { given }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape =
        Shape { flags: &["json"], values: &["root"], operands: Operands::AtMost(1) };
    const RUNNER: Shape =
        Shape { flags: &["json"], values: &["root"], operands: Operands::OneThenCommand };

    fn parse(arguments: &[&str], shape: &Shape) -> Result<Option<Args>, String> {
        Args::parse(arguments.iter().map(Into::into).collect(), shape)
    }

    #[test]
    fn options_may_stand_before_and_behind_an_operand() {
        for line in [["--json", "--root", "/r", "x"], ["x", "--root", "/r", "--json"]] {
            let args = parse(&line, &SHAPE).unwrap().unwrap();
            assert!(args.flag("json"));
            assert_eq!(args.value("root").unwrap(), "/r");
            assert_eq!(args.operands, ["x"]);
        }
        let args = parse(&["--root=/a", "--root=/b", "--", "--json"], &SHAPE).unwrap().unwrap();
        assert_eq!(args.root().path("/run"), Path::new("/b/run"));
        assert!(!args.flag("json") && args.operands == ["--json"]);
    }

    #[test]
    fn behind_a_pod_nothing_is_ours() {
        for line in
            [&["--json", "pod", "--", "ip", "--help"][..], &["--json", "pod", "ip", "--help"]]
        {
            let args = parse(line, &RUNNER).unwrap().unwrap();
            assert!(args.flag("json") && args.operands == ["pod"]);
            assert_eq!(args.command, ["ip", "--help"]);
        }
        let args = parse(&["pod", "--", "--", "x"], &RUNNER).unwrap().unwrap();
        assert_eq!(args.command, ["--", "x"]);
        assert!(parse(&["--help", "pod"], &RUNNER).unwrap().is_none());
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (line, words) in [
            (&["x", "y"][..], "\"y\""),
            (&["--rot", "/r"], "did you mean --root?"),
            (&["--root"], "--root"),
            (&["--json=1"], "--json"),
            (&["-x"], "-x"),
        ] {
            let problem = parse(line, &SHAPE).unwrap_err();
            assert!(problem.contains(words), "{problem}");
        }
    }
}
