//! The configurations of a node: those of all its networks that are ours.

use std::path::{Path, PathBuf};

use super::{
    Error,
    conflist::{self, DIRECTORY, names_us},
    fabric::resolved,
    readable::{require_readable, unreadable},
};
use crate::{
    cni::Document,
    conf::Config,
    state::{Journal, Root, file::TEXT_BYTES_MAX, read},
};

/// A network as it is configured.
#[derive(Clone, Debug)]
pub(crate) struct Configured {
    /// The file.
    pub(crate) path: PathBuf,
    pub(crate) document: Document,
    /// With what the peers file says.
    pub(crate) config: Config,
    /// The peers file, from the root.
    pub(crate) peers_file: Option<PathBuf>,
}

/// What is to be looked after.
#[derive(Clone, Debug)]
pub(crate) struct Networks {
    pub(crate) root: Root,
    /// In the order in which runtimes read their files. There is one at least.
    pub(crate) all: Vec<Configured>,
    /// Configurations of ours that cannot be used, each with the reason.
    pub(crate) unusable: Vec<(PathBuf, Error)>,
    /// Of every network of the node, also where one alone is looked after.
    configs: Vec<Config>,
}

impl Configured {
    fn read(path: &Path, root: &Root) -> Result<Self, Error> {
        let (document, config) = conflist::plugin(path)?;
        let config = resolved(config, root);
        let peers_file = config.fabric.peers_file.as_ref().map(|path| root.path(path));
        Ok(Self { path: path.to_owned(), document, config, peers_file })
    }

    pub(crate) fn name(&self) -> &str {
        &self.config.name
    }

    /// Whether it was read from the same text, and its peers file says the same.
    fn is_same(&self, other: &Self) -> bool {
        (&self.path, &self.document.object, &self.config.fabric.file)
            == (&other.path, &other.document.object, &other.config.fabric.file)
    }
}

impl Networks {
    /// Reads the one that `conf` names, else all of the node's directory.
    ///
    /// # Errors
    /// If there is none that can be used, and for state that is hidden from us.
    pub(crate) fn read(root: &Root, conf: Option<&Path>) -> Result<Self, Error> {
        require_readable(root)?;
        let files = conflist::files(&root.path(DIRECTORY)).unwrap_or_default();
        let (mut all, mut unusable) = (Vec::new(), Vec::new());
        match conf {
            Some(path) => all.push(Configured::read(path, root)?),
            None => {
                // Says why there is none.
                conflist::ours(&root.path(DIRECTORY))?;
                for path in &files {
                    match of_ours(path, root) {
                        Some(Ok(one)) => all.push(one),
                        Some(Err(error)) => unusable.push((path.clone(), error)),
                        None => {}
                    }
                }
            }
        }
        if let (true, Some((_, error))) = (all.is_empty(), unusable.first()) {
            return Err(error.clone());
        }
        let others = files.iter().filter(|path| all.iter().all(|one| one.path != **path));
        let others = others.filter_map(|path| conflist::plugin(path).ok());
        let mut configs: Vec<Config> = others.map(|(_, config)| config).collect();
        configs.extend(all.iter().map(|one| one.config.clone()));
        // Runtimes take the first of a name.
        let mut names: Vec<String> = Vec::new();
        all.retain(|one| {
            let is_new = !names.iter().any(|name| name == one.name());
            names.push(one.name().to_owned());
            is_new
        });
        Ok(Self { root: root.clone(), all, unusable, configs })
    }

    /// The first one: what a command asks that is about one network.
    pub(crate) fn first(self) -> Option<Configured> {
        self.all.into_iter().next()
    }

    /// Whether the same is to be looked after.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let same = |(one, other): (&Configured, &Configured)| one.is_same(other);
        self.all.len() == other.all.len() && self.all.iter().zip(&other.all).all(same)
    }

    /// Goes on with what `before` had of files that cannot be used now.
    pub(crate) fn keep(&mut self, before: &Self) {
        for (path, _) in &self.unusable {
            self.all.extend(before.all.iter().filter(|one| one.path == *path).cloned());
        }
    }

    /// The names of all networks of the node.
    pub(crate) fn names(&self) -> Vec<String> {
        self.configs.iter().map(|config| config.name.clone()).collect()
    }

    /// Whether the node's forwarding is a network's to turn on: as its configuration
    /// says, else as the first one does.
    pub(crate) fn manages_forwarding(&self, network: &str) -> bool {
        let own = self.configs.iter().find(|config| config.name == network);
        let config = own.or(self.all.first().map(|one| &one.config));
        config.is_some_and(|config| config.manage_forwarding)
    }

    /// Whether a network needs its routes to other nodes: it is configured to have
    /// some, or has a name of before and its pods live.
    pub(crate) fn asks_for_routes(&self, network: &str) -> bool {
        match self.configs.iter().find(|config| config.name == network) {
            Some(config) => config.fabric.peers_file.is_some(),
            None => Journal::new(&self.root, network).has_entries(),
        }
    }
}

/// A file of ours; `None` for one of others, and for one that is gone.
fn of_ours(path: &Path, root: &Root) -> Option<Result<Configured, Error>> {
    match read(path, TEXT_BYTES_MAX) {
        Ok(bytes) => names_us(&bytes).then(|| Configured::read(path, root)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => Some(Err(unreadable(path, &error))),
    }
}
