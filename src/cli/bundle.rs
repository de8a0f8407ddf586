//! `manx bundle`: a node at one moment, in a file that is read elsewhere.

use std::path::PathBuf;

use super::{
    args::{Args, Operands, Shape},
    console::Console,
    doctor::look::taken,
    subcommand::{Failure, Status, Subcommand, failed},
};
use crate::state::replace;

pub(super) const SUBCOMMAND: Subcommand = Subcommand {
    name: "bundle",
    summary: "write what doctor looks at into a file, to be read elsewhere",
    help: "\
Usage: manx bundle FILE [OPTION…]

Writes what manx doctor looks at into FILE, with mode 0600, and changes nothing
else. On any machine, manx doctor says by it what it says here. It holds the
names and addresses of pods, nodes and links, routes, rules, leases, and what
the configurations come to, but not their text, nor what runtimes and IPAM
plugins were told besides.

  --conf FILE  look at this configuration alone (default: all of /etc/cni/net.d)
  --bin DIR    where plugins are (CNI_PATH, else /opt/cni/bin)
  --root DIR   read files and state below DIR",
    shape: Shape { flags: &[], values: &["conf", "bin", "root"], operands: Operands::AtMost(1) },
    run,
};

fn run(args: &Args, console: &mut Console<'_>) -> Result<Status, Failure> {
    let Some(file) = args.operands.first().map(PathBuf::from) else {
        return Err(SUBCOMMAND.usage("name the file to write"));
    };
    let snapshot = taken(args)?.without_secrets();
    let write = || {
        let mut bytes = serde_json::to_vec(&snapshot)?;
        bytes.push(b'\n');
        replace(&std::path::absolute(&file)?, &bytes)
    };
    write().map_err(|error| failed(format_args!("write {}", file.display()), &error))?;
    console.line(format_args!("{}: written; manx doctor --bundle reads it", file.display()))?;
    Ok(Status::Fine)
}
