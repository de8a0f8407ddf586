//! The commands about the routes between nodes: `plan` shows what they would
//! change, `apply` makes it so.

pub(super) mod apply;
pub(super) mod plan;
mod watch;

use std::path::PathBuf;

use super::{
    Args, Failure,
    conflist::{self, DIRECTORY},
};
use crate::{
    cni::{Config, Document, Version, json::field},
    fabric::{Peers, Plan, Settings},
    net::Socket,
    state::Root,
    verb::{
        fabric::{Ground, read_peers},
        repair::{self, Repair},
    },
};

/// A node whose configuration asks for routes to other nodes, or for none.
pub(super) struct Node {
    root: Root,
    /// The configuration.
    pub(super) config: Config,
    /// The peers file, from this root.
    pub(super) peers_file: Option<PathBuf>,
}

/// What is to be changed on a node: the fabric, and what attachments lack.
pub(super) struct Changes {
    peers: Option<(Peers, Vec<u8>)>,
    fabric: Option<Plan>,
    repairs: Vec<Repair>,
}

impl Node {
    /// Reads the configuration that the options name, or the first one of the
    /// directory that is ours.
    pub(super) fn read(args: &Args) -> Result<Self, Failure> {
        let root = args.root();
        let path = match args.value("conf") {
            Some(path) => PathBuf::from(path),
            None => conflist::ours(&root.path(DIRECTORY))?,
        };
        let config = configuration(&path)?;
        let peers_file = config.fabric.peers_file.as_ref().map(|path| root.path(path));
        Ok(Self { root, config, peers_file })
    }

    /// The fabric's part of the configuration.
    pub(super) fn settings(&self) -> Settings {
        Settings::of_config(&self.config)
    }

    fn ground(&self) -> Ground {
        Ground::new(&self.root, self.config.fabric.protocol)
    }

    /// Compares the node with what it should be.
    fn compare(&self, socket: &mut Socket) -> Result<Changes, Failure> {
        let peers = match &self.peers_file {
            Some(path) => Some(read_peers(path, &self.config, socket)?),
            None => None,
        };
        let fabric = match &peers {
            Some((peers, _)) => Some(Plan::make(socket, &self.settings(), peers)?),
            None => None,
        };
        let repairs = repair::lacking(&self.root, socket)?;
        Ok(Changes { peers, fabric, repairs })
    }
}

impl Changes {
    /// The lines of the diff.
    fn lines(&self) -> Vec<String> {
        let fabric = self.fabric.iter().flat_map(|plan| &plan.changes).map(ToString::to_string);
        fabric.chain(self.repairs.iter().map(ToString::to_string)).collect()
    }

    /// The changes as JSON.
    fn encode(&self) -> Vec<serde_json::Value> {
        let fabric = self.fabric.iter().flat_map(|plan| &plan.changes);
        let fabric = fabric.map(crate::fabric::Change::encode);
        fabric.chain(self.repairs.iter().map(Repair::encode)).collect()
    }

    /// What an operator should know besides.
    fn notes(&self) -> &[String] {
        self.fabric.as_ref().map(|plan| plan.desired.notes.as_slice()).unwrap_or_default()
    }
}

/// Our part of a conflist, or a single configuration, with the values that a
/// runtime would insert.
fn configuration(path: &std::path::Path) -> Result<Config, Failure> {
    let wrong = |reason: String| Failure::Failed(format!("{}: {reason}", path.display()));
    let bytes = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let list = Document::parse(bytes).map_err(|error| wrong(error.to_string()))?;
    let plugins = field(&list.object, "plugins").and_then(serde_json::Value::as_array);
    let object = match plugins {
        None => Some(&list.object),
        Some(plugins) => plugins
            .iter()
            .filter_map(serde_json::Value::as_object)
            .find(|plugin| conflist::is_ours(plugin)),
    };
    let mut object = object.cloned().ok_or_else(|| wrong("it names no plugin of ours".into()))?;
    object.insert("name".into(), list.name.clone().into());
    let bytes = serde_json::Value::Object(object).to_string().into_bytes();
    let document = Document::parse(bytes).map_err(|error| wrong(error.to_string()))?;
    let (config, complaints) = Config::read(&document, Version::NEWEST);
    match complaints.first() {
        Some(complaint) => Err(wrong(complaint.to_string())),
        None => Ok(config),
    }
}
