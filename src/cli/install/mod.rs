// SPDX-License-Identifier: Apache-2.0
//! `manx install`: puts the plugin, its configuration and a few words to the
//! daemons of the node where each looks for it.
//!
//! It can be run again at any time, also after it was killed half-way: what is
//! there already is left alone, and what somebody else put there stays.

pub(super) mod dropin;
mod file;
mod shipped;
#[cfg(test)]
mod tests;
pub(super) mod units;

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

pub(super) use dropin::lacking;
use dropin::{DROP_INS, Names};
use file::Outcome;
use shipped::DEFAULT;
use units::Facts;

use super::{
    Args, Console, Failure, Status, Subcommand,
    args::{Operands, PLUGIN_DIRECTORY, Shape},
    conflist, failed, validate,
};
use crate::{
    conf::{BUILT_IN, PLUGIN_TYPES},
    finding::Severity,
    node::version,
    state::{
        Root,
        file::{PROGRAM_BYTES_MAX, TEXT_BYTES_MAX},
        read,
    },
};

pub(super) const SUBCOMMAND: Subcommand = Subcommand {
    name: "install",
    summary: "install the plugin and its configuration on this node",
    help: "\
Usage: manx install [OPTION…]

Copies itself to the plugins of the container runtime, also under the name of
its allocator, manx-ipam, notes its version in /run/manx, writes a configuration
and tells networkd, udev, NetworkManager and sysctl, where they are, to leave
pods' links alone. Replaces an earlier manx and those of its files that nobody
has edited; any other file that differs is kept. Can be run again.

  --bin-dir DIR   where plugins are (/opt/cni/bin)
  --conf-dir DIR  where configurations are (/etc/cni/net.d)
  --conf FILE     install this one, under its own name, instead of the default,
                  which is 10-manx.conflist, offers the versions that portmap
                  speaks, and is written only where no other configuration names
                  the plugin
  --no-conf       install no configuration
  --name NAME     manx, or calico to serve a configuration made for Calico; then
                  no configuration is written without --conf
  --no-dropins    leave the daemons' configuration alone
  --units         write units of systemd that bring up the routes to other nodes
                  at boot and keep them, for nodes without the agent, and ip's
                  name for these routes; a later install keeps them up to date
  --force         replace files that differ
  --root DIR      put DIR before every path that is written to",
    shape: Shape {
        flags: &["no-conf", "no-dropins", "units", "force"],
        values: &["bin-dir", "conf-dir", "conf", "name", "root"],
        operands: Operands::AtMost(0),
    },
    run,
};

/// Words that stand in every copy of this program, to know one by.
pub(super) const MARK: &str =
    "manx: a CNI plugin that gives each pod a routed veth (installed copy)";

fn run(args: &Args, console: &mut Console<'_>) -> Result<Status, Failure> {
    let order = Order::read(args)?;
    let configuration = order.configuration()?;
    let mut status = order.binary(console)?;
    if let Some((name, bytes)) = configuration {
        if order.write_configuration(&name, &bytes, console)? == Status::Failed {
            status = Status::Failed;
        }
    } else {
        let directory = order.conf_dir.display();
        console.line(format_args!("{directory}: no configuration written"))?;
    }
    if order.drop_ins {
        order.drop_ins(console)?;
    }
    order.units(console)?;
    Ok(status)
}

/// What was asked for.
struct Order {
    root: Root,
    name: &'static str,
    bin_dir: PathBuf,
    conf_dir: PathBuf,
    conf: Option<PathBuf>,
    default_conf: bool,
    /// The program as this node will see it.
    program: PathBuf,
    units: bool,
    drop_ins: bool,
    force: bool,
}

impl Order {
    fn read(args: &Args) -> Result<Self, Failure> {
        let root = args.root();
        let directory = |option, default| {
            root.path(args.value(option).map_or_else(|| Path::new(default), Path::new))
        };
        let name = match args.value("name").map(OsStr::to_string_lossy) {
            None => "manx",
            Some(name) => {
                PLUGIN_TYPES.into_iter().find(|known| *known == name).ok_or_else(|| {
                    SUBCOMMAND.usage(&format!("--name {name:?} is neither manx nor calico"))
                })?
            }
        };
        let conf = args.value("conf").map(PathBuf::from);
        if conf.is_some() && args.flag("no-conf") {
            return Err(SUBCOMMAND.usage("--conf and --no-conf contradict each other"));
        }
        let units = args.flag("units");
        if units && args.value("conf-dir").is_some() {
            let words = "--units and --conf-dir exclude each other: manx apply, which the units \
                         start, looks at /etc/cni/net.d";
            return Err(SUBCOMMAND.usage(words));
        }
        let bin_dir = args.value("bin-dir").map_or(Path::new(PLUGIN_DIRECTORY), Path::new);
        Ok(Self {
            name,
            program: Root::default().path(bin_dir).join(name),
            units,
            drop_ins: !args.flag("no-dropins"),
            bin_dir: directory("bin-dir", PLUGIN_DIRECTORY),
            conf_dir: directory("conf-dir", conflist::DIRECTORY),
            default_conf: conf.is_none() && !args.flag("no-conf") && name == "manx",
            conf,
            force: args.flag("force"),
            root,
        })
    }

    /// Name and content of the configuration to write. A given one is looked at
    /// before anything is touched: a runtime that finds a broken one stops all
    /// pods, those of other networks as well.
    fn configuration(&self) -> Result<Option<(String, Vec<u8>)>, Failure> {
        let Some(path) = &self.conf else {
            let text = || shipped::for_plugins(&self.bin_dir).0.into_bytes();
            return Ok(self.default_conf.then(|| (DEFAULT.0.to_owned(), text())));
        };
        let bytes = read(path, TEXT_BYTES_MAX).map_err(|error| failed(path.display(), &error))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !conflist::is_list(path) {
            let words = "runtimes read a list of plugins from a file that ends in .conflist";
            return Err(Failure::Failed(format!("{}: {words}", path.display())));
        }
        let linted = validate::lint(path, &bytes, &validate::Node::default());
        let mut errors = linted.findings.iter();
        match errors.find(|placed| placed.finding.severity == Severity::Error) {
            Some(error) if !self.force => Err(Failure::Failed(format!(
                "{}: {} {}; nothing was installed, see manx validate",
                path.display(),
                error.path,
                error.finding.evidence
            ))),
            _ => Ok(Some((name, bytes))),
        }
    }

    /// Copies this program. A program of that name that is none of ours stays:
    /// Calico's may be the only copy.
    fn binary(&self, console: &mut Console<'_>) -> Result<Status, Failure> {
        let own = "/proc/self/exe";
        let bytes = read(Path::new(own), PROGRAM_BYTES_MAX).map_err(|error| failed(own, &error))?;
        let path = self.bin_dir.join(self.name);
        let replaceable = |old: &[u8]| self.force || contains(old, MARK.as_bytes());
        let outcome = file::put(&path, &bytes, 0o755, replaceable)?;
        if outcome == Outcome::Kept {
            let words = "another program, kept; save it elsewhere, or replace it with --force";
            return Err(Failure::Failed(format!("{}: {words}", path.display())));
        }
        report(console, &path, outcome)?;
        // Before it is run for the first time: who writes files for it goes by that.
        if let Err(error) = version::note_file(&self.root, &path) {
            let path = path.display();
            console.line(format_args!("{path}: its version is not noted in /run/manx: {error}"))?;
        }
        self.allocator(console)?;
        Ok(Status::Fine)
    }

    /// The name under which other plugins delegate to this program.
    fn allocator(&self, console: &mut Console<'_>) -> Result<(), Failure> {
        let path = self.bin_dir.join(BUILT_IN);
        let serves = |target: &Path| {
            PLUGIN_TYPES.iter().any(|name| Path::new(name) == target)
                && self.bin_dir.join(target).is_file()
        };
        let outcome = file::link(&path, self.name, serves, self.force)?;
        report(console, &path, outcome)
    }

    fn write_configuration(
        &self,
        name: &str,
        bytes: &[u8],
        console: &mut Console<'_>,
    ) -> Result<Status, Failure> {
        let path = self.conf_dir.join(name);
        if self.default_conf
            && !self.force
            && let Some(other) = self.other_configuration(&path)
        {
            console.line(format_args!("{}: kept, it names the plugin already", other.display()))?;
            return Ok(Status::Fine);
        }
        let outcome = file::put(&path, bytes, 0o600, |_| self.force)?;
        report(console, &path, outcome)?;
        let older = self.default_conf.then(|| shipped::for_plugins(&self.bin_dir).1).flatten();
        if let Some(told) = older {
            console.line(format_args!("{}: note: {told}", path.display()))?;
        }
        if outcome == Outcome::Kept {
            // Asked for explicitly, it is missing; the default is only a default.
            return Ok(if self.default_conf { Status::Fine } else { Status::Failed });
        }
        file::touch(&path, bytes)?;
        let files = conflist::files(&self.conf_dir);
        let files = files.map_err(|error| failed(self.conf_dir.display(), &error))?;
        if let Some(first) = files.first().filter(|first| **first != path) {
            console
                .line(format_args!("{}: comes first, runtimes use that one", first.display()))?;
        }
        self.remarks(&path, bytes, console)
    }

    /// What the configuration still lacks on this node, such as a plugin of its
    /// chain that is installed later.
    fn remarks(
        &self,
        path: &Path,
        bytes: &[u8],
        console: &mut Console<'_>,
    ) -> Result<Status, Failure> {
        let node = validate::Node {
            plugin_path: Some(vec![self.bin_dir.clone()]),
            uplink: None,
            root: Some(self.root.clone()),
        };
        for placed in validate::lint(path, bytes, &node).findings {
            let (finding, at) = (placed.finding, placed.path);
            if finding.severity != Severity::Info {
                let (level, evidence) = (finding.severity.as_str(), finding.evidence);
                console.line(format_args!("{}: {level}: {at}: {evidence}", path.display()))?;
            }
        }
        Ok(Status::Fine)
    }

    /// A configuration of this plugin's under another name.
    fn other_configuration(&self, own: &Path) -> Option<PathBuf> {
        let files = conflist::files(&self.conf_dir).unwrap_or_default();
        let mut others = files.into_iter().filter(|path| path != own);
        others.find(|path| read(path, TEXT_BYTES_MAX).is_ok_and(|bytes| conflist::names_us(&bytes)))
    }

    /// Writes what the daemons are to know, for the names that the node's
    /// configurations give, and says how they are told.
    fn drop_ins(&self, console: &mut Console<'_>) -> Result<(), Failure> {
        let names = Names::of_directory(&self.conf_dir, &self.root);
        let mut reloads: Vec<&str> = Vec::new();
        for drop_in in DROP_INS {
            let path = self.root.path(drop_in.path);
            let daemon = drop_in.daemon;
            if !self.root.path(daemon).is_dir() && !dropin::runs(daemon, &self.root) {
                console.line(format_args!("{}: left out, there is no {daemon}", path.display()))?;
                continue;
            }
            let text = drop_in.render(&names);
            let replaceable = |old: &[u8]| self.force || drop_in.may_replace(old);
            let outcome = file::put(&path, text.as_bytes(), 0o644, replaceable)?;
            report(console, &path, outcome)?;
            let changed = matches!(outcome, Outcome::Installed | Outcome::Replaced);
            if changed && !reloads.contains(&drop_in.reload) {
                reloads.push(drop_in.reload);
            }
        }
        for reload in reloads {
            console.line(format_args!("to take effect: {reload}"))?;
        }
        Ok(())
    }

    /// Writes what starts manx at boot, if that is asked for or is there already, and says
    /// how it is started.
    fn units(&self, console: &mut Console<'_>) -> Result<(), Failure> {
        let facts = Facts::of_directory(&self.conf_dir, &self.root, self.program.clone());
        let mut has_changed = false;
        for unit in units::FILES {
            let path = self.root.path(unit.path);
            let is_kept_up = self.drop_ins && path.exists();
            if !self.units && !is_kept_up {
                continue;
            }
            let replaceable = |old: &[u8]| self.force || unit.may_replace(old);
            let outcome = file::put(&path, facts.render(&unit).as_bytes(), 0o644, replaceable)?;
            report(console, &path, outcome)?;
            has_changed |= matches!(outcome, Outcome::Installed | Outcome::Replaced)
                && unit.reload == units::RELOAD;
        }
        let enabled = units::enabled(&self.root);
        if has_changed {
            console.line(format_args!("to take effect: {}", units::RELOAD))?;
            if !enabled.is_empty() {
                let names = enabled.join(" ");
                console.line(format_args!("to take effect: systemctl try-restart {names}"))?;
            }
        }
        if self.units && enabled.is_empty() {
            let unit = units::WATCH;
            console.line(format_args!(
                "to start it now and at each boot: systemctl enable --now {unit}"
            ))?;
        }
        Ok(())
    }
}

fn report(console: &mut Console<'_>, path: &Path, outcome: Outcome) -> Result<(), Failure> {
    let words = match outcome {
        Outcome::Installed => "installed",
        Outcome::Replaced => "replaced",
        Outcome::Unchanged => "unchanged",
        Outcome::Kept => "kept, it differs; --force replaces it",
    };
    console.line(format_args!("{}: {words}", path.display()))?;
    Ok(())
}

pub(super) fn contains(bytes: &[u8], words: &[u8]) -> bool {
    bytes.windows(words.len()).any(|window| window == words)
}
