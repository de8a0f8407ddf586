//! The commands about the routes between nodes: `plan` shows what they would
//! change, `apply` makes it so.

pub(super) mod apply;
mod awaited;
mod files;
mod pace;
pub(super) mod plan;
mod watch;

use std::path::PathBuf;

use serde_json::Value;

use super::{
    Args, Failure, attachments,
    conflist::{self, DIRECTORY},
};
use crate::{
    cni::Document,
    conf::Config,
    doctor,
    fabric::{self, Settings, pools::Misfit},
    finding::Finding,
    net::Socket,
    node::{
        self,
        fabric::{Ground, Pass, Removal, Stamp, resolved, tunnel::TunnelTable},
        former, link_mtus,
        repair::{self, Repair, TableRepair},
        tables,
    },
    object::{Action, Kind, Told},
    state::{Journal, Root},
};

/// A node whose configuration asks for routes to other nodes, or for none.
pub(super) struct Node {
    root: Root,
    document: Document,
    /// The configuration.
    pub(super) config: Config,
    /// The peers file, from this root.
    pub(super) peers_file: Option<PathBuf>,
}

/// What is to be changed on a node: the fabric, and what attachments lack.
pub(super) struct Changes {
    fabric: Option<Pass>,
    /// What there is of a fabric that is not asked for any more.
    removal: Option<Removal>,
    /// Its tables.
    removed: Vec<String>,
    repairs: Vec<Repair>,
    table: Option<TableRepair>,
    /// Networks that are gone and have a table left.
    former: Vec<String>,
    /// Why there is no fabric.
    without: Option<String>,
    misfits: Vec<Misfit>,
    /// Of pods whose MTU the node does not carry any more.
    too_wide: Vec<Finding>,
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
        attachments::require_readable(&root)?;
        let path = match args.value("conf") {
            Some(path) => PathBuf::from(path),
            None => conflist::ours(&root.path(DIRECTORY))?,
        };
        let (document, config) = conflist::plugin(&path)?;
        let config = resolved(config, &root);
        let peers_file = config.fabric.peers_file.as_ref().map(|path| root.path(path));
        Ok(Self { root, document, config, peers_file })
    }

    /// Whether it was read from the same text, and its peers file says the same.
    fn is_same(&self, other: &Self) -> bool {
        let said = |node: &Self| node.config.fabric.file.clone();
        self.document.object == other.document.object && said(self) == said(other)
    }

    /// The fabric's part of the configuration.
    pub(super) fn settings(&self) -> Settings {
        Settings::of_config(&self.config)
    }

    fn ground(&self) -> Ground {
        Ground::new(&self.root, self.config.fabric.protocol)
    }

    /// Whether this network has a fabric, or had one when it was applied last.
    fn has_fabric(&self) -> bool {
        let had = |stamp: Stamp| stamp.network == self.config.name;
        self.peers_file.is_some() || self.ground().stamp().is_some_and(had)
    }

    /// Compares the node with what it should be.
    fn compare(&self, socket: &mut Socket, source: Source) -> Result<Changes, Failure> {
        let (config, root) = (&self.config, &self.root);
        let fabric = match (&self.peers_file, source) {
            (Some(path), Source::File) => Some(Pass::of_file(config, root, socket, path)?),
            (Some(_), Source::Last) => Pass::of_last(config, root, socket)?,
            (None, _) => None,
        };
        let removal = Removal::of(config, root, socket, &self.asking())?;
        let removed = removal.as_ref().map(Removal::tables).transpose()?.unwrap_or_default();
        let misfits =
            fabric.as_ref().map(|pass| pass.misfits(&self.ground(), &self.document, config));
        let mut repairs = repair::lacking(&self.root, socket)?;
        let known = fabric.as_ref().map(|pass| pass.plan.desired.objects.sysctls.as_slice());
        let known = known.unwrap_or_default();
        repairs.extend(repair::forwarding::lacking(root, socket, &self.managing(), known)?);
        let stamp = fabric.as_ref().map(|fabric| &fabric.stamp);
        let table = TableRepair::lacking(&self.config, &self.root, socket, stamp)?;
        let misfits = misfits.unwrap_or_default();
        let too_wide = self.too_wide(socket, stamp)?;
        let configured = self.configured().into_iter().map(|config| config.name);
        let former = former::networks(root, socket, &configured.collect::<Vec<_>>())?;
        Ok(Changes {
            fabric,
            removal,
            removed,
            repairs,
            table,
            former,
            without: self.without_fabric(),
            misfits,
            too_wide,
        })
    }

    /// Live pods whose MTU the node does not carry any more: what is in a pod is the
    /// pod's.
    fn too_wide(
        &self,
        socket: &mut Socket,
        stamp: Option<&Stamp>,
    ) -> Result<Vec<Finding>, Failure> {
        let name = &self.config.name;
        let entries = Journal::new(&self.root, name).entries();
        if self.config.mtu.is_some() || entries.is_empty() {
            return Ok(Vec::new());
        }
        let mtu = Some(link_mtus(socket, &self.config, &self.root, stamp)?);
        let network = node::Network { name: name.clone(), mtu, ..node::Network::default() };
        Ok(doctor::of_wide_pods(&network, entries.iter().map(|entry| (entry, entry.mtu))))
    }

    /// The configurations of this node's networks.
    fn configured(&self) -> Vec<Config> {
        let files = conflist::files(&self.root.path(DIRECTORY)).unwrap_or_default();
        let others = files.iter().filter_map(|path| conflist::plugin(path).ok());
        others.map(|(_, config)| config).chain([self.config.clone()]).collect()
    }

    /// Whether the node's forwarding is a network's to turn on: as its configuration
    /// says, else as this one does.
    fn managing(&self) -> impl Fn(&str) -> bool {
        let configured = self.configured();
        let own = self.config.manage_forwarding;
        move |network| {
            let config = configured.iter().find(|config| config.name == network);
            config.map_or(own, |config| config.manage_forwarding)
        }
    }

    /// Whether another network needs its routes to other nodes: it is configured to
    /// have some, or has a name of before and its pods live.
    fn asking(&self) -> impl Fn(&str) -> bool {
        let configured = self.configured();
        let root = self.root.clone();
        move |network| match configured.iter().find(|config| config.name == network) {
            Some(config) => config.fabric.peers_file.is_some(),
            None => Journal::new(&root, network).has_entries(),
        }
    }

    /// Says that a configuration asks for no routes to other nodes: who expects
    /// some should not have to guess.
    fn without_fabric(&self) -> Option<String> {
        if self.peers_file.is_some() {
            return None;
        }
        let network = &self.config.name;
        let mut words =
            format!("network {network} has no peersFile, and with it no routes to other nodes");
        if self.has_fabric() {
            words += "; those of its former configuration go, as with manx apply --undo";
        }
        Some(words)
    }
}

/// The removal of a table of ours.
fn removed_table(name: &str) -> Told {
    Told {
        kind: Kind::Table,
        action: Action::Delete,
        object: format!("nftables table {name}"),
        before: Some("ours".to_owned()),
        after: None,
    }
}

/// The changes for programs.
fn encode(changes: &[Told]) -> Vec<Value> {
    changes.iter().map(Told::encode).collect()
}

impl Changes {
    /// All changes, as they are told.
    fn told(&self) -> Vec<Told> {
        let fabric = self.fabric.iter().flat_map(|fabric| &fabric.plan.changes);
        let fabric = fabric.map(fabric::Change::told);
        let removal = self.removal.iter().flat_map(Removal::changes).map(fabric::Change::told);
        let fabric =
            fabric.chain(removal).chain(self.removed.iter().map(|name| removed_table(name)));
        let repairs = self.repairs.iter().map(Repair::told);
        let tunnel = self.fabric.iter().filter_map(Pass::tunnel).map(TunnelTable::told);
        let former = self.former.iter().map(|name| removed_table(&tables::table(name)));
        let table = self.table().map(TableRepair::told);
        fabric.chain(tunnel).chain(repairs).chain(table).chain(former).collect()
    }

    /// What apply cannot mend: ranges that are not this node's, and what is wanting
    /// in spite of all changes.
    fn errors(&self) -> Vec<String> {
        let sentence = |misfit: &Misfit| doctor::of_misfit(&node::Misfit::from(misfit)).sentence();
        let misfits = self.misfits.iter().map(sentence);
        let desired = self.fabric.iter().map(|fabric| &fabric.plan.desired);
        let wanting = desired.flat_map(|desired| {
            desired.unfit.iter().chain(&desired.excluded).chain(&desired.wanting)
        });
        misfits.chain(wanting.cloned()).collect()
    }

    /// Whether this node's own pods have IPv6.
    fn serves_ipv6(&self) -> bool {
        self.fabric.as_ref().is_some_and(|pass| pass.stamp.serves_ipv6)
    }

    /// What an operator should know besides.
    fn notes(&self) -> Vec<String> {
        let desired = self.fabric.iter().map(|fabric| &fabric.plan.desired);
        let table = self.table.iter().flat_map(TableRepair::note);
        let fabric = desired.flat_map(|desired| &desired.notes);
        let fabric = fabric.chain(&self.without).cloned();
        let wide = self.too_wide.iter().map(Finding::sentence);
        fabric.chain(wide).chain(table.cloned()).collect()
    }

    /// The table, if it is known to differ.
    fn table(&self) -> impl Iterator<Item = &TableRepair> {
        self.table.iter().filter(|table| table.differs())
    }
}
