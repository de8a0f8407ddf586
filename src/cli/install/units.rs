// SPDX-License-Identifier: Apache-2.0
//! What makes a node right at boot and keeps it so where no agent does: units of systemd,
//! and the name that `ip` has for the routes. The shipped files are of the default places;
//! what is installed is of the node's.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::dropin::{DropIn, configs, marked};
use crate::{conf::ROUTE_PROTOCOL, list::Gather, state::Root};

/// The units, by whoever put them there.
const UNITS: [&str; 3] = [WATCH, "manx-apply.path", "manx-apply.service"];

/// The one that takes the place of the others.
pub(super) const WATCH: &str = "manx-watch.service";

pub(super) const RELOAD: &str = "systemctl daemon-reload";

const fn unit(path: &'static str, text: &'static str) -> DropIn {
    DropIn { daemon: "", path, text, reload: RELOAD }
}

/// The files.
pub(in crate::cli) const FILES: [DropIn; 4] = [
    unit(
        "/etc/systemd/system/manx-watch.service",
        include_str!("../../../conf/systemd/system/manx-watch.service"),
    ),
    unit(
        "/etc/systemd/system/manx-apply.service",
        include_str!("../../../conf/systemd/system/manx-apply.service"),
    ),
    unit(
        "/etc/systemd/system/manx-apply.path",
        include_str!("../../../conf/systemd/system/manx-apply.path"),
    ),
    DropIn {
        daemon: "",
        path: "/etc/iproute2/rt_protos.d/manx.conf",
        text: include_str!("../../../conf/iproute2/manx.conf"),
        reload: "",
    },
];

/// What the shipped files say of the plugin and of the list of nodes.
const PROGRAM: &str = "/opt/cni/bin/manx";
const PEERS_FILE: &str = "/etc/manx/peers.json";

/// What the files are made for.
#[derive(Debug)]
pub(super) struct Facts {
    /// The program, as this node has it.
    program: PathBuf,
    /// The lists of nodes that the configurations name.
    peers_files: Vec<String>,
    /// Their route protocols.
    protocols: Vec<u8>,
}

impl Facts {
    /// Those of the configurations of a directory.
    pub(super) fn of_directory(directory: &Path, root: &Root, program: PathBuf) -> Self {
        let mut facts = Self { program, peers_files: Vec::new(), protocols: Vec::new() };
        for config in configs(directory, root) {
            let named = config.fabric.peers_file.as_ref();
            let file = named.map(|path| Root::default().path(path).display().to_string());
            facts.add(file, config.fabric.protocol);
        }
        if facts.peers_files.is_empty() {
            facts.add(Some(PEERS_FILE.to_owned()), ROUTE_PROTOCOL);
        }
        facts
    }

    fn add(&mut self, peers_file: Option<String>, protocol: u8) {
        let Some(file) = peers_file else { return };
        if !self.peers_files.contains(&file) {
            self.peers_files.push(file);
        }
        if !self.protocols.contains(&protocol) {
            self.protocols.push(protocol);
        }
    }

    /// A shipped file for this node, with its mark.
    pub(super) fn render(&self, file: &DropIn) -> String {
        let mut text = String::new();
        for line in file.text.lines() {
            for line in self.lines(line) {
                text += &line;
                text.push('\n');
            }
        }
        marked(text)
    }

    /// What becomes of a line.
    fn lines(&self, line: &str) -> Vec<String> {
        let files = || self.peers_files.iter().map(|file| escaped(file));
        match line.split_once('=') {
            Some(("ExecStart", command)) => {
                let arguments = command.strip_prefix(PROGRAM).unwrap_or_default();
                vec![format!("ExecStart={}{arguments}", quoted(&self.program))]
            }
            Some((key @ "PathChanged", _)) => files().map(|file| format!("{key}={file}")).gather(),
            Some((key @ "ConditionPathExists", _)) => {
                // Of several one is enough, which the sign says.
                let sign = if self.peers_files.len() > 1 { "|" } else { "" };
                files().map(|file| format!("{key}={sign}{file}")).gather()
            }
            _ if line.starts_with('#') => {
                vec![line.replace(PEERS_FILE, &self.peers_files.join(", "))]
            }
            _ if line == format!("{ROUTE_PROTOCOL}\tmanx") => {
                // A name is one protocol's: the first has the usual one.
                let names = self.protocols.iter().enumerate().map(|(at, protocol)| match at {
                    0 => format!("{protocol}\tmanx"),
                    _ => format!("{protocol}\tmanx-{protocol}"),
                });
                names.gather()
            }
            _ => vec![line.to_owned()],
        }
    }
}

/// A path in a unit file, where `%` begins a specifier (systemd.unit(5)).
fn escaped(path: &str) -> String {
    path.replace('%', "%%")
}

/// A program in a command line of a unit file (systemd.service(5), "Command lines").
fn quoted(program: &Path) -> String {
    let text = escaped(&program.display().to_string());
    match text.contains(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '\\' | ';')) {
        true => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
        false => text,
    }
}

/// The units of ours that systemd starts at boot, or has started.
pub(in crate::cli) fn enabled(root: &Root) -> Vec<&'static str> {
    let directory = root.path("/etc/systemd/system");
    let inside = fs::read_dir(&directory).into_iter().flatten().flatten();
    let wanting = inside.map(|entry| entry.path()).filter(|path| {
        let kind = path.extension().and_then(|extension| extension.to_str());
        matches!(kind, Some("wants" | "requires" | "upholds"))
    });
    let wanting: Vec<PathBuf> = wanting.gather();
    let names = UNITS.into_iter().filter(|name| {
        let is_wanted = wanting.iter().any(|path| path.join(name).symlink_metadata().is_ok());
        is_wanted || root.path("/sys/fs/cgroup/system.slice").join(name).is_dir()
    });
    names.gather()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(program: &str, named: &[(&str, u8)]) -> [String; 4] {
        let mut facts =
            Facts { program: program.into(), peers_files: Vec::new(), protocols: Vec::new() };
        for (file, protocol) in named {
            facts.add(Some((*file).to_owned()), *protocol);
        }
        FILES.map(|file| facts.render(&file))
    }

    #[test]
    fn the_shipped_files_are_of_the_default_places() {
        let files = rendered(PROGRAM, &[(PEERS_FILE, ROUTE_PROTOCOL)]);
        for (text, file) in files.iter().zip(&FILES) {
            assert!(text.starts_with(file.text), "{}: {text}", file.path);
            assert!(file.may_replace(text.as_bytes()), "{text}");
            assert!(!file.may_replace(format!("{text}\n#").as_bytes()), "{text}");
        }
    }

    #[test]
    fn what_is_installed_is_of_the_nodes_places() {
        let lists = [("/srv/50%/peers.json", 77), ("/b.json", 78), ("/b.json", 77)];
        let [watch, apply, path, protocols] = rendered("/srv/my cni/manx", &lists);
        assert!(watch.contains("\nExecStart=\"/srv/my cni/manx\" apply --watch\n"), "{watch}");
        assert!(apply.contains("\nExecStart=\"/srv/my cni/manx\" apply\n"), "{apply}");
        let both = "\nConditionPathExists=|/srv/50%%/peers.json\nConditionPathExists=|/b.json\n";
        assert!(apply.contains(both), "{apply}");
        let both = "\nPathChanged=/srv/50%%/peers.json\nPathChanged=/b.json\n";
        assert!(path.contains(both) && !path.contains(PEERS_FILE), "{path}");
        assert!(protocols.contains("\n77\tmanx\n78\tmanx-78\n"), "{protocols}");
        let [watch, apply, ..] = rendered("/usr/libexec/cni/manx", &[("/a.json", 109)]);
        assert!(watch.contains("\nExecStart=/usr/libexec/cni/manx apply --watch\n"), "{watch}");
        assert!(apply.contains("\nConditionPathExists=/a.json\n"), "{apply}");
    }
}
