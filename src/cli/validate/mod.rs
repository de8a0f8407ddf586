// SPDX-License-Identifier: Apache-2.0
//! `manx validate`: finds in a configuration what a runtime or the plugin would
//! refuse, and what was hardly meant, before a pod does.

mod addresses;
mod finding;
mod list;
mod peers;
mod peersfile;
mod plugin;
mod policies;
mod pool;
#[cfg(test)]
mod tests;
mod versions;

use std::path::{Path, PathBuf};

use finding::Placed;
use serde_json::{Value, json};

use super::{
    Args, Console, Failure, Status, Subcommand,
    args::{Operands, Shape},
    conflist,
    forward::Firewall,
    table::Table,
};
pub(super) use list::{Linted, lint};
pub(super) use versions::{versions, versions_of};

use crate::{
    doctor,
    finding::{Finding, Severity, is_bad, unfound},
    net::Socket,
    node,
    pod::mtu::Uplink,
    state::{Root, file::TEXT_BYTES_MAX, read},
};

pub(super) const SUBCOMMAND: Subcommand = Subcommand {
    name: "validate",
    summary: "look for mistakes in network configurations",
    help: "\
Usage: manx validate [FILE|DIR] [--conf FILE] [--bin DIR] [--json]
                     [--root DIR]
       manx validate --policies FILE [--json]

Reads one configuration, or all .conf, .conflist and .json files of a directory
(/etc/cni/net.d) in the order in which runtimes do, and says which one counts.
Reads the peers files that they name, and runs each plugin that they name with
VERSION, which tells what it speaks and does nothing. Checks whether the node's
firewall forwards the pods' packets (nf_tables, and iptables-legacy by its own
tool). Exit status 3 where there are warnings or errors.

  --conf FILE  the same as FILE
  --bin DIR    where plugins are (CNI_PATH, else /opt/cni/bin)
  --json       as of manx doctor; the object of a finding is the file and, after
               a blank, the place in it
  --root DIR   put DIR before the directories above
  --policies FILE
               look instead for policies of a cluster that manx does not read
               and that would have no effect: of Calico's own kinds, tiers,
               sets of networks, host endpoints. FILE is a List in JSON as
               kubectl get prints it, or - for stdin",
    shape: Shape {
        flags: &["json"],
        values: &["conf", "bin", "policies", "root"],
        operands: Operands::AtMost(1),
    },
    run,
};

/// What a linter may know of the machine that the configuration is for.
#[derive(Clone, Debug, Default)]
pub(super) struct Node {
    /// Where plugins are, or `None` not to look.
    pub(super) plugin_path: Option<Vec<PathBuf>>,
    /// The device that packets leave by.
    pub(super) uplink: Option<Uplink>,
    /// Where its files are, or `None` not to look at those that are named.
    pub(super) root: Option<Root>,
}

fn run(args: &Args, console: &mut Console<'_>) -> Result<Status, Failure> {
    let root = args.root();
    let named = args.value("conf").map(PathBuf::from);
    let given = args.operands.first().map(PathBuf::from);
    if let Some(file) = args.value("policies") {
        if named.is_some() || given.is_some() {
            return Err(SUBCOMMAND.usage("--policies is about no configuration: give it alone"));
        }
        return policies::run(file, args.flag("json"), console);
    }
    if named.is_some() && given.is_some() {
        return Err(SUBCOMMAND.usage("give one file, with --conf or without"));
    }
    let subject = given.or(named).unwrap_or_else(|| root.path(conflist::DIRECTORY));
    let plugin_path = Some(args.plugin_path(&root));
    let node = Node { plugin_path, uplink: uplink(), root: Some(root.clone()) };
    let files = if subject.is_dir() {
        conflist::files(&subject).map_err(|error| crate::node::unreadable(&subject, &error))?
    } else {
        vec![subject.clone()]
    };
    if files.is_empty() {
        let words = "holds no .conflist, .conf or .json file; manx install writes one";
        return Err(Failure::Failed(format!("{} {words}", subject.display())));
    }
    let findings = all(&files, subject.is_dir(), &node, &root)?;
    if args.flag("json") {
        console.json(&json!({"checks": encode(&findings)}))?;
    } else {
        print(&findings, &files, console)?;
    }
    let bad = is_bad(findings.iter().map(|placed| &placed.finding));
    Ok(if bad { Status::Findings } else { Status::Fine })
}

/// Without a way to ask the kernel there is less to say, and that is all.
fn uplink() -> Option<Uplink> {
    node::uplink(&mut Socket::open().ok()?, None).ok()?
}

fn all(
    files: &[PathBuf],
    directory: bool,
    node: &Node,
    root: &Root,
) -> Result<Vec<Placed>, Failure> {
    let mut all: Vec<(&Path, Linted)> = Vec::new();
    for file in files {
        let bytes =
            read(file, TEXT_BYTES_MAX).map_err(|error| crate::node::unreadable(file, &error))?;
        all.push((file, lint(file, &bytes, node)));
    }
    let peers = peers::all(all.iter().map(|(_, linted)| linted), root);
    let mut findings = Vec::new();
    for (index, (file, linted)) in all.iter().enumerate() {
        let mut own = finding::Findings::of(*file);
        if directory && index == 0 {
            own.info("", "runtimes use this file, the first in lexical order");
        }
        for (other, before) in all.iter().take(index) {
            compare(linted, before, other, &mut own);
        }
        peers::compare(linted, root, &peers, &mut own);
        firewall(linted, root, &mut own);
        findings.extend(own.all);
        findings.extend(linted.findings.iter().cloned());
        let mut last = finding::Findings::of(*file);
        unenforced(linted, &mut last);
        findings.extend(last.all);
    }
    Ok(findings)
}

/// That policies are objects that anybody can make says nothing of whether they are in force.
fn unenforced(linted: &Linted, findings: &mut finding::Findings) {
    if linted.ours.iter().any(|ours| !ours.config.enforces_policy) {
        let words = "no NetworkPolicy is enforced for pods of this network: networkPolicy is off";
        findings.add((finding::UNENFORCED, Severity::Info), "networkPolicy", words, "");
    }
}

/// Says what this node's firewall does with the packets of a file's pods.
fn firewall(linted: &Linted, root: &Root, findings: &mut finding::Findings) {
    if linted.ours.is_empty() {
        return;
    }
    let mut seen = Firewall::read(None);
    for ours in &linted.ours {
        for barrier in seen.look(&ours.config, peers::serve_ipv6(ours, root)) {
            let found = doctor::of_barrier(&barrier);
            // The file is not what is wrong.
            findings
                .place("", Finding { severity: found.severity.max(Severity::Warning), ..found });
        }
    }
}

/// Says what a file has in common with an earlier one. Networks of one name
/// share their leases, so that their ranges may overlap.
fn compare(linted: &Linted, before: &Linted, other: &Path, findings: &mut finding::Findings) {
    let other = name(other);
    if linted.network.is_some() && linted.network == before.network {
        let message = format!("the network's name is that of {other} as well");
        findings.warning("name", message, "give each network a name of its own");
        return;
    }
    for pool in linted.pools() {
        for earlier in before.pools().filter(|earlier| pool.overlaps(earlier)) {
            let subnets = format!("{} overlaps {}", pool.subnet(), earlier.subnet());
            let message = format!("{subnets} at {} of {other}, another network", earlier.path);
            let overlap = ("pool-overlap", Severity::Warning);
            let fix = "make the ranges disjoint, or remove a file";
            findings.add(overlap, &pool.path, message, fix);
        }
    }
}

/// The findings, and the checks that found nothing.
fn encode(findings: &[Placed]) -> Vec<Value> {
    let has_none = |id: &&&str| findings.iter().all(|placed| placed.finding.id != **id);
    let fine = finding::CHECKS.iter().filter(has_none);
    let fine = fine.map(|id| unfound(id, None));
    findings.iter().map(|placed| placed.finding.encode()).chain(fine).collect()
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// One row for what is wrong and one below it for what to do.
fn print(findings: &[Placed], files: &[PathBuf], console: &mut Console<'_>) -> Result<(), Failure> {
    if !findings.is_empty() {
        console.table(&rows(findings))?;
    }
    let count =
        |severity| findings.iter().filter(|placed| placed.finding.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    let files = files.len();
    console.line(format_args!("files: {files}, errors: {errors}, warnings: {warnings}"))?;
    Ok(())
}

/// The findings as a table.
fn rows(findings: &[Placed]) -> Table {
    let mut table = Table::new(&["SEVERITY", "FILE", "PATH", "MESSAGE"]);
    for Placed { file, path, finding } in findings {
        let path = if path.is_empty() { "-" } else { path };
        table.row([
            finding.severity.as_str().to_owned(),
            name(file),
            path.to_owned(),
            finding.evidence.clone(),
        ]);
        if !finding.fix.is_empty() {
            let empty = String::new;
            table.row([empty(), empty(), empty(), format!("fix: {}", finding.fix)]);
        }
    }
    table
}
