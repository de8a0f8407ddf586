//! The commands about the routes between nodes: `plan` shows what they would
//! change, `apply` makes it so.

pub(super) mod apply;
pub(super) mod plan;
mod watch;

use std::path::{Path, PathBuf};

use super::{
    Args, Failure,
    conflist::{self, DIRECTORY},
};
use crate::{
    cni::Config,
    fabric::{Change, Plan, Settings},
    net::Socket,
    state::Root,
    verb::{
        fabric::{self, Ground, Stamp, read_peers, require_same_fabric},
        repair::{self, Repair, TableRepair},
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
    fabric: Option<Fabric>,
    repairs: Vec<Repair>,
    table: Option<TableRepair>,
}

/// What is to be changed of the fabric, and what is to be noted then.
struct Fabric {
    plan: Plan,
    stamp: Stamp,
    /// The peers file; none where the last valid one had to do.
    file: Option<Vec<u8>>,
}

/// Which peers serve.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Source {
    /// Those of the file, or none.
    File,
    /// The last valid ones.
    Last,
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
        let (_, config) = conflist::plugin(&path)?;
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
    fn compare(&self, socket: &mut Socket, source: Source) -> Result<Changes, Failure> {
        let fabric = match &self.peers_file {
            Some(path) => self.compare_fabric(path, socket, source)?,
            None => None,
        };
        let repairs = repair::lacking(&self.root, socket)?;
        let stamp = fabric.as_ref().map(|fabric| &fabric.stamp);
        let table = TableRepair::lacking(&self.config, &self.root, stamp)?;
        Ok(Changes { fabric, repairs, table })
    }

    fn compare_fabric(
        &self,
        path: &Path,
        socket: &mut Socket,
        source: Source,
    ) -> Result<Option<Fabric>, Failure> {
        require_same_fabric(&self.config, &self.root)?;
        // Before the file is read: a file that is replaced meanwhile must not
        // pass for the one that was applied.
        let fingerprint = fabric::fingerprint(&self.config, path);
        let (peers, file) = match source {
            Source::File => {
                let (peers, bytes) = read_peers(path, &self.config, socket)?;
                (peers, Some(bytes))
            }
            Source::Last => match self.ground().peers(socket)? {
                Some(peers) => (peers, None),
                None => return Ok(None),
            },
        };
        let plan = Plan::make(socket, &self.settings(), &peers)?;
        let stamp = fabric::stamp(&self.config, &peers, &plan, fingerprint);
        Ok(Some(Fabric { plan, stamp, file }))
    }
}

impl Changes {
    /// The lines of the diff.
    fn lines(&self) -> Vec<String> {
        let fabric = self.fabric.iter().flat_map(|fabric| &fabric.plan.changes);
        let repairs = self.repairs.iter().map(ToString::to_string);
        fabric
            .map(ToString::to_string)
            .chain(repairs)
            .chain(self.table.iter().map(ToString::to_string))
            .collect()
    }

    /// The changes as JSON.
    fn encode(&self) -> Vec<serde_json::Value> {
        let fabric = self.fabric.iter().flat_map(|fabric| &fabric.plan.changes);
        fabric
            .map(Change::encode)
            .chain(self.repairs.iter().map(Repair::encode))
            .chain(self.table.iter().map(TableRepair::encode))
            .collect()
    }

    /// What an operator should know besides.
    fn notes(&self) -> &[String] {
        self.fabric.as_ref().map(|fabric| fabric.plan.desired.notes.as_slice()).unwrap_or_default()
    }
}
