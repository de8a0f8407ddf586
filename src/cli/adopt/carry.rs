// SPDX-License-Identifier: Apache-2.0
//! Carries the steps out. Whatever fails ends it: what was done stays, serves, and is found
//! done the next time.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use nix::errno::Errno;
use serde_json::{Value, json};

use super::{
    findings::{blocks, is_mended},
    found::{found, proxy_arp},
    site::Site,
    steps::{Pod, Step, steps},
};
use crate::{
    cli::{Console, Failure, Status, failed, findings as printed},
    finding::{Finding, Severity},
    list::{Gather, PushAll},
    net::{
        Socket, link,
        sysctl::{self, Sysctl},
    },
    node::{allowed, apply, changes::Source, configured::Networks},
    object,
    state::{
        Entry, Journal, Root,
        lock::{self, ATTACHMENT_LIMIT},
    },
    verb::{give_back, lease},
};

/// Seconds that a tool waits for others that change the firewall.
const WAIT: &str = "--wait=10";

/// # Errors
/// Where something has to be done before, and of the first step that fails.
pub(super) fn carry_out(
    site: &Site,
    findings: &[Finding],
    steps: &[Step],
    root: &Root,
    told: &mut Told<'_, '_>,
) -> Result<Status, Failure> {
    if let Some(first) = findings.iter().find(|finding| blocks(finding)) {
        let Finding { object, evidence, fix, .. } = first;
        let message = format!("nothing was changed: {object}: {evidence}; {fix}");
        return Err(Failure::Failed(message));
    }
    told.findings(findings)?;
    let mut host = Socket::open()?;
    for step in steps {
        match step {
            Step::Pod(pod) => adopt(pod, site, root, &mut host)?,
            Step::ProxyArp(bridge) => {
                sysctl::ensure(&Sysctl::new(proxy_arp(bridge), 1)).map(drop)?;
            }
            Step::Tunnel { index, name, alias, group } => {
                host.apply(&[link::set_mark(*index, name, alias, *group)])?;
            }
            Step::Route { route, index, .. } => host.apply(&[route.replace(*index)])?,
            Step::Pass => pass(site, root, told)?,
            Step::Rules { object, program, text, .. } => restore(object, program, text)?,
            Step::Table { family, name } => {
                run(
                    &format!("table {family} {name}"),
                    "nft",
                    &["delete", "table", family, name],
                    "",
                )?;
            }
            Step::File { from, to } => {
                std::fs::rename(from, to).map_err(|error| failed(from, &error))?;
            }
        }
        told.line(step.told())?;
    }
    Ok(Status::Fine)
}

/// Notes the pod before its link is marked: a mark without a note is nobody's.
fn adopt(pod: &Pod, site: &Site, root: &Root, host: &mut Socket) -> Result<(), Failure> {
    let Pod { entry, leases, mark } = pod;
    let journal = Journal::new(root, &entry.network);
    let failed_lock = |error| failed(journal.directory().display(), &error);
    // A DEL of ours waits, and finds it whole.
    let lock = lock::shared(journal.directory()).map_err(failed_lock)?;
    lock.attachment(&entry.container_id, &entry.ifname, ATTACHMENT_LIMIT).map_err(failed_lock)?;
    if let Some(ours) = &site.ours {
        lease(root, entry, &ours.ipam, leases)?;
    }
    let written = journal.write(entry);
    written.map_err(|error| failed(journal.directory().display(), &error))?;
    let Some((index, alias, group)) = mark else { return Ok(()) };
    // Before the check holds for the link.
    allowed::give(&journal, &entry.network, &entry.host_link, &entry.sources)?;
    match host.apply(&[link::set_mark(*index, &entry.host_link, alias, *group)]) {
        // Its DEL came first, and found nothing of ours.
        Err(error) if error.errno == Errno::ENODEV => forget(entry, root),
        done => Ok(done?),
    }
}

fn forget(entry: &Entry, root: &Root) -> Result<(), Failure> {
    give_back(root, entry)?;
    let journal = Journal::new(root, &entry.network);
    let forgotten = journal.remove(&entry.container_id, &entry.ifname);
    forgotten.map_err(|error| failed(journal.directory().display(), &error))
}

/// Until its configuration was moved away, the other plugin attached pods, and detached
/// them without a word to us.
///
/// # Errors
/// Of the first step that fails.
pub(super) fn catch_up(
    site: &Site,
    done: &[Step],
    root: &Root,
    told: &mut Told<'_, '_>,
) -> Result<Status, Failure> {
    let mut host = Socket::open()?;
    for step in done {
        let Step::Pod(pod) = step else { continue };
        let links = &site.snapshot.kernel.links;
        let noted = site.noted(&pod.entry);
        let is_gone = |entry: &&Entry| !links.iter().any(|link| link.name == entry.host_link);
        if let Some(entry) = noted.filter(is_gone) {
            forget(entry, root)?;
        }
    }
    let remains = found(site);
    for step in steps(site, &remains) {
        if let Step::Pod(pod) = &step {
            adopt(pod, site, root, &mut host)?;
            told.line(step.told())?;
        }
    }
    for link in remains.unknown.iter().chain(&remains.disputed) {
        told.notes.push(format!("{} came meanwhile, and whose it is is not known", link.name));
    }
    Ok(Status::Fine)
}

/// What `manx apply` does. Where it leaves an error, pods may not reach others: then nothing
/// that still serves them is taken away.
fn pass(site: &Site, root: &Root, told: &mut Told<'_, '_>) -> Result<(), Failure> {
    let conf = site.ours.as_ref().map(|ours| ours.path.as_path());
    let networks = Networks::read(root, conf)?;
    let report = apply::apply(&networks, &mut Socket::open()?, Source::File)?;
    report.lines.iter().try_for_each(|line| told.line(Some(line.clone())))?;
    let wanting = report.wanting.iter().chain(report.notes.iter().flatten());
    wanting.for_each(|note| told.notes.push(note.clone()));
    match report.errors.first() {
        None => Ok(()),
        Some(error) => Err(Failure::Failed(format!(
            "{error}; the firewall and the configuration of {} stay until that is mended: see manx \
             plan, then run this again",
            site.former.name()
        ))),
    }
}

fn restore(object: &str, program: &str, text: &str) -> Result<(), Failure> {
    run(&format!("rules {object}"), program, &["--noflush", WAIT], text)
}

/// Runs a program to its end.
fn run(object: &str, program: &str, arguments: &[&str], stdin: &str) -> Result<(), Failure> {
    let start = || -> std::io::Result<std::process::Output> {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let written =
            child.stdin.take().map_or(Ok(()), |mut pipe| pipe.write_all(stdin.as_bytes()));
        let done = child.wait_with_output()?;
        // One that does not read all of it has its reason, and tells it.
        match written {
            Err(error) if done.status.success() => Err(error),
            _ => Ok(done),
        }
    };
    let done = start().map_err(|error| failed(format!("{object}: run {program}"), &error))?;
    if done.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&done.stderr).trim().to_owned();
    Err(Failure::Failed(format!(
        "{object}: {program}: {words}; somebody else may have changed them: run this again"
    )))
}

/// What was done, as it is told: at once, or as one document.
pub(super) struct Told<'a, 'b> {
    console: &'a mut Console<'b>,
    json: bool,
    findings: Vec<Value>,
    lines: Vec<object::Told>,
    notes: Vec<String>,
}

impl<'a, 'b> Told<'a, 'b> {
    pub(super) fn new(console: &'a mut Console<'b>, json: bool) -> Self {
        Self { console, json, findings: Vec::new(), lines: Vec::new(), notes: Vec::new() }
    }

    /// What has to be known of what is done: that nobody enforces policies any more.
    fn findings(&mut self, findings: &[Finding]) -> Result<(), Failure> {
        let is_told =
            |finding: &&Finding| finding.severity != Severity::Info && !is_mended(finding);
        let found: Vec<&Finding> = findings.iter().filter(is_told).gather();
        if self.json {
            self.findings.push_all(found.iter().map(|finding| finding.encode()));
            return Ok(());
        }
        printed::print(found, self.console)?;
        Ok(self.console.flush()?)
    }

    fn line(&mut self, line: Option<object::Told>) -> Result<(), Failure> {
        let Some(line) = line else { return Ok(()) };
        if !self.json {
            self.console.line(&line)?;
            self.console.flush()?;
        }
        self.lines.push(line);
        Ok(())
    }

    /// What is left to whoever did this.
    pub(super) fn next(&mut self, site: &Site) {
        if let Ok(node) = &site.node
            && node.cordoned
        {
            let name = &node.name;
            self.notes
                .push(format!("kubectl uncordon {name} lets new pods come, which are manx's"));
        }
    }

    /// Tells the rest, also where not all was done.
    pub(super) fn conclude(self) -> Result<(), Failure> {
        if self.json {
            let changes: Vec<Value> = self.lines.iter().map(object::Told::encode).gather();
            let (checks, notes) = (self.findings, self.notes);
            let told = json!({"checks": checks, "changes": changes, "notes": notes});
            return Ok(self.console.json(&told)?);
        }
        for note in &self.notes {
            self.console.remark(format_args!("note: {note}"))?;
        }
        Ok(())
    }
}
