// SPDX-License-Identifier: Apache-2.0
use std::io::{self, Write};

use super::{Console, conclude, registry::SUBCOMMANDS};

/// Exit code, stdout and stderr of a command line.
pub(super) fn manx(arguments: &[&str]) -> (u8, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut console = Console::new(&mut out, &mut err);
    let code = conclude(arguments.iter().map(Into::into).collect(), &mut console);
    (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

#[test]
fn without_arguments_it_says_what_it_is_and_stdout_stays_empty() {
    let (code, out, err) = manx(&[]);
    assert_eq!((code, out.as_str()), (0, ""));
    assert!(err.contains(env!("CARGO_PKG_VERSION")) && err.contains("1.1.0"), "{err}");
    assert!(err.contains("manx --help"), "{err}");
}

#[test]
fn an_unknown_command_is_told_the_nearest() {
    let (code, out, err) = manx(&["pdos"]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.contains("\"pdos\"") && err.contains("did you mean pods?"), "{err}");
    let (code, _, err) = manx(&["frobnicate"]);
    assert!(code == 2 && !err.contains("did you mean"), "{err}");
    let (code, _, err) = manx(&["--frobnicate"]);
    assert!(code == 2 && err.contains("unknown option"), "{err}");
}

#[test]
fn an_unknown_option_is_told_the_nearest() {
    let (code, _, err) = manx(&["pods", "--jsno"]);
    assert!(code == 2 && err.contains("--jsno") && err.contains("did you mean --json?"), "{err}");
    for arguments in [&["pods", "--root"][..], &["pods", "--json=yes"], &["pods", "extra"]] {
        let (code, out, err) = manx(arguments);
        assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}: {err}");
        assert!(err.contains("manx pods --help"), "{err}");
    }
}

#[test]
fn help_is_the_same_by_every_way_and_names_every_option() {
    for subcommand in SUBCOMMANDS {
        let (code, help, _) = manx(&["help", subcommand.name]);
        assert_eq!(code, 0);
        assert_eq!(manx(&[subcommand.name, "--help"]).1, help);
        assert_eq!(manx(&[subcommand.name, "-h"]).1, help);
        for option in subcommand.shape.options() {
            assert!(help.contains(&format!("--{option}")), "{option}: {help}");
        }
        assert!(help.lines().all(|line| line.chars().count() <= 80), "{help}");
        assert!(manx(&["--help"]).1.contains(subcommand.summary));
    }
    assert_eq!(manx(&["help"]).1, manx(&["--help"]).1);
    assert_eq!(manx(&["help", "pdos"]).0, 2);
    assert_eq!(manx(&["help", "pods", "version"]).0, 2);
}

#[test]
fn an_option_that_the_help_names_exists() {
    for subcommand in SUBCOMMANDS {
        let named = subcommand.help.split(|c: char| !(c.is_ascii_lowercase() || c == '-'));
        for option in named.filter_map(|word| word.strip_prefix("--")).filter(|o| !o.is_empty()) {
            let mut known = subcommand.shape.options().chain(["help"]);
            assert!(known.any(|known| known == option), "{}: --{option}", subcommand.name);
        }
    }
}

/// Fails every write.
struct Closed(io::ErrorKind);

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(self.0.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_reader_that_left_is_no_failure_and_a_full_disk_is() {
    for (kind, expected) in [(io::ErrorKind::BrokenPipe, 0), (io::ErrorKind::StorageFull, 1)] {
        let mut err = Vec::new();
        let mut closed = Closed(kind);
        let mut console = Console::new(&mut closed, &mut err);
        assert_eq!(conclude(vec!["version".into()], &mut console), expected);
        assert_eq!(err.is_empty(), expected == 0);
    }
}
