// SPDX-License-Identifier: Apache-2.0
//! What the command line says of itself.

use std::{ffi::OsString, io::Write};

use super::{
    registry::{SUBCOMMANDS, find},
    subcommand::{Failure, Subcommand},
    table::Table,
};
use crate::cni::Version;

/// What one sees who starts the plugin by hand, as the reference plugins do it.
/// It goes to stderr: a runtime that forgot `CNI_COMMAND` must find no result.
pub(super) fn about(err: &mut dyn Write) -> Result<(), Failure> {
    writeln!(
        err,
        "manx {}: a CNI plugin that gives each pod a routed veth\n\
         supported CNI versions: {}\n\
         A container runtime starts it with CNI_COMMAND set; for the commands see manx --help.",
        env!("CARGO_PKG_VERSION"),
        Version::all(),
    )?;
    Ok(())
}

/// The list of commands.
pub(super) fn overview(out: &mut dyn Write) -> Result<(), Failure> {
    writeln!(
        out,
        "manx {}: a CNI plugin that gives each pod a routed veth\n\n\
         Usage: manx COMMAND [OPTION…]\n\
         With CNI_COMMAND set and no arguments it is the plugin itself.\n",
        env!("CARGO_PKG_VERSION"),
    )?;
    let mut table = Table::new(&["Commands:"]);
    for subcommand in SUBCOMMANDS {
        table.row([format!("  {}", subcommand.name), subcommand.summary.to_owned()]);
    }
    table.row(["  help [COMMAND]".to_owned(), "what a command does and takes".to_owned()]);
    table.print(out)?;
    writeln!(
        out,
        "\nExit status: 0 fine, 1 failed, 2 wrong usage, 3 findings (plan, validate,\n\
         status, doctor, probe, tune, ipam check and others).\n\
         Listings take --json. --root DIR, or MANX_ROOT, stands before every path of\n\
         the system."
    )?;
    Ok(())
}

/// `manx help [COMMAND]`.
pub(super) fn help(arguments: &[OsString], out: &mut dyn Write) -> Result<(), Failure> {
    match arguments {
        [] => overview(out),
        [name] if name == "--help" || name == "-h" || name == "help" => overview(out),
        [name] => of(find(name)?, out),
        _ => Err(Failure::Usage("help: one command at a time; see manx --help".to_owned())),
    }
}

/// One command's own help.
pub(super) fn of(subcommand: &Subcommand, out: &mut dyn Write) -> Result<(), Failure> {
    writeln!(out, "manx {}: {}\n\n{}", subcommand.name, subcommand.summary, subcommand.help)?;
    Ok(())
}
