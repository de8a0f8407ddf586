// SPDX-License-Identifier: Apache-2.0
//! `manx report`: one page about the nodes of several bundles.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

use super::{
    Args, Console, Failure, Status, Subcommand,
    args::{Operands, Shape},
    doctor::look::bundled,
    subcommand::failed,
};
use crate::{
    doctor::report::{Cluster, Probed, View, page},
    state::{
        file::{PEERS_BYTES_MAX, require_no_other_kind},
        read, replace,
    },
};

pub(super) const SUBCOMMAND: Subcommand = Subcommand {
    name: "report",
    summary: "make one page of HTML of the bundles of one or several nodes",
    help: "\
Usage: manx report BUNDLE… [--probe FILE]… [--output FILE]

Reads what manx bundle wrote on one or several nodes of a cluster, and writes
one page of HTML: how the cluster stands, in what the nodes do not agree, a
drawing of nodes, pods and tunnels, where MTUs come from, what probes measured,
and of each node what manx doctor finds, the other nodes, and the pods. The page
needs no network and no other file, and runs no script. Nodes that gave no
bundle are known by what the others have of them. This node is not looked at.

  --probe FILE   the JSON that manx probe printed on one of the nodes; once for
                 each file
  --output FILE  write the page into FILE, with mode 0600; default, and -, is
                 stdout

Example: manx report node-*.gz --output report.html",
    shape: Shape {
        flags: &[],
        values: &["probe", "output"],
        operands: Operands::AtMost(usize::MAX),
    },
    run,
};

fn run(args: &Args, console: &mut Console<'_>) -> Result<Status, Failure> {
    if args.operands.is_empty() {
        return Err(SUBCOMMAND.usage("name the bundles to read"));
    }
    let output = args.value("output").map(Path::new);
    let output = output.filter(|path| ![Path::new("-"), Path::new("/dev/stdout")].contains(path));
    let not_written = |error| {
        failed(format_args!("write {}", output.unwrap_or(Path::new("-")).display()), &error)
    };
    if let Some(path) = output {
        require_no_other_kind(path).map_err(not_written)?;
    }
    // One after the other: a bundle may have as much as the node's memory.
    let views: Result<Vec<View>, Failure> = args
        .operands
        .iter()
        .map(|file| Ok(View::of(&file.to_string_lossy(), &bundled(file)?)))
        .collect();
    let probes: Result<Vec<Probed>, Failure> = args.values("probe").map(probed).collect();
    let cluster = Cluster::of(views?, probes?);
    if let Some((one, other)) = cluster.twice() {
        let message = format!("{one} and {other} are of the same node; give one of them");
        return Err(Failure::Failed(message));
    }
    if let Some(file) = cluster.unknown_probe() {
        let message = format!(
            "{file}: no bundle, and no list of nodes in one, has the node that measured this; \
             give that node's bundle"
        );
        return Err(Failure::Failed(message));
    }
    let page = page(&cluster);
    let Some(path) = output else {
        console.verbatim().write_all(page.as_bytes())?;
        return Ok(Status::Fine);
    };
    let absolute = std::path::absolute(path);
    absolute.and_then(|path| replace(&path, page.as_bytes())).map_err(not_written)?;
    console.line(format_args!("{}: written; a browser shows it", path.display()))?;
    Ok(Status::Fine)
}

fn probed(file: &OsStr) -> Result<Probed, Failure> {
    let path = PathBuf::from(file);
    let bytes = read(&path, PEERS_BYTES_MAX);
    let bytes = bytes.map_err(|error| crate::node::unreadable(&path, &error))?;
    Probed::decode(&file.to_string_lossy(), &bytes)
        .map_err(|problem| Failure::Failed(format!("{}: {problem}", path.display())))
}
