// SPDX-License-Identifier: Apache-2.0
//! All subcommands.

use std::ffi::OsStr;

use super::{
    adopt, bundle, capture, doctor, exec, explain, export, fabric, gc, install, ipam, peers, pods,
    policy, probe, report, status,
    subcommand::{Failure, Subcommand},
    tune, uninstall, validate, version,
};
use crate::text::nearest;

/// All subcommands, in the order of the help text.
pub(super) const SUBCOMMANDS: &[Subcommand] = &[
    install::SUBCOMMAND,
    validate::SUBCOMMAND,
    status::SUBCOMMAND,
    doctor::SUBCOMMAND,
    probe::SUBCOMMAND,
    bundle::SUBCOMMAND,
    report::SUBCOMMAND,
    tune::SUBCOMMAND,
    fabric::plan::SUBCOMMAND,
    fabric::apply::SUBCOMMAND,
    adopt::SUBCOMMAND,
    export::SUBCOMMAND,
    peers::SUBCOMMAND,
    explain::SUBCOMMAND,
    pods::SUBCOMMAND,
    exec::SUBCOMMAND,
    capture::SUBCOMMAND,
    ipam::SUBCOMMAND,
    policy::SUBCOMMAND,
    gc::SUBCOMMAND,
    uninstall::SUBCOMMAND,
    version::SUBCOMMAND,
];

/// The subcommand of that name.
pub(super) fn find(name: &OsStr) -> Result<&'static Subcommand, Failure> {
    if let Some(found) = SUBCOMMANDS.iter().find(|subcommand| name == subcommand.name) {
        return Ok(found);
    }
    let name = name.to_string_lossy();
    let kind = if name.starts_with('-') { "option" } else { "command" };
    let names = SUBCOMMANDS.iter().map(|subcommand| subcommand.name).chain(["help"]);
    let hint = nearest::hint(&name, names);
    Err(Failure::Usage(format!("unknown {kind} {name:?}{hint}; see manx --help")))
}
