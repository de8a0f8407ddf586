// SPDX-License-Identifier: Apache-2.0
//! The configurations of a node: those of all its networks that are ours.

use std::path::{Path, PathBuf};

use super::{
    Error, Kind,
    conflist::{self, DIRECTORY, may_name_us},
    fabric::{read_peers, resolved},
    readable::{require_readable, unreadable},
};
use crate::{
    cni::Document,
    conf::{Config, fill_in, has_placeholder},
    list::{Gather, Ordered, PushAll},
    net::Socket,
    state::{Journal, Root, file::TEXT_BYTES_MAX, read},
};

/// The peers file of a configuration that names none: the agent's.
pub(crate) const AGENTS_PEERS_FILE: &str = "/var/lib/manx/peers.json";

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
    /// Configurations that are or may be ours and cannot be used, each with the reason.
    pub(crate) unusable: Vec<(PathBuf, Error)>,
    /// The first that cannot be used, named or not: what it asks for is not known.
    unknown: Option<PathBuf>,
    /// Of every network of the node, also where one alone is looked after.
    configs: Vec<Config>,
}

impl Configured {
    fn of(path: &Path, (document, config): (Document, Config), root: &Root) -> Self {
        let config = with_own(resolved(config, root), &document, root);
        let peers_file = config.fabric.peers_file.as_ref().map(|path| root.path(path));
        Self { path: path.to_owned(), document, config, peers_file }
    }

    /// The peers file that it goes by, from the root: of one that names none, the agent's,
    /// where that says which addresses pods have.
    pub(crate) fn heeds(&self, root: &Root) -> Option<PathBuf> {
        let of_agent = || {
            has_placeholder(self.document.ipam()).then(|| root.path(Path::new(AGENTS_PEERS_FILE)))
        };
        self.peers_file.clone().or_else(of_agent)
    }

    pub(crate) fn name(&self) -> &str {
        &self.config.name
    }

    /// With what the peers file says by now.
    fn again(&self, root: &Root) -> Self {
        let config = with_own(resolved(self.config.clone(), root), &self.document, root);
        Self { config, ..self.clone() }
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
        let directory = root.path(DIRECTORY);
        let (mut all, mut unusable, mut configs) = (Vec::new(), Vec::new(), Vec::new());
        match conf {
            Some(path) => all.push(Configured::of(path, conflist::plugin(path)?, root)),
            // Says why there is none, and of which it cannot be told whether it is the first.
            None => conflist::ours(&directory).map(drop).or_else(|error| match error.kind {
                Kind::Configuration => Ok(()),
                _ => Err(error),
            })?,
        }
        let files = conflist::files(&directory).unwrap_or_default();
        for path in files.into_iter().filter(|path| conf != Some(path)) {
            match of_ours(&path) {
                None => {}
                Some(Err(error)) => unusable.push((path, error)),
                Some(Ok((_, config))) if conf.is_some() => configs.push(config),
                Some(Ok(part)) => all.push(Configured::of(&path, part, root)),
            }
        }
        let unknown = unusable.first().map(|(path, _)| path.clone());
        match unusable.first() {
            Some((_, error)) if all.is_empty() => return Err(error.clone()),
            // Says why there is none.
            None if all.is_empty() => drop(conflist::ours(&directory)?),
            _ => {}
        }
        // Whoever names one configuration asks for nothing about others.
        unusable.retain(|_| conf.is_none());
        configs.push_all(all.iter().map(|one| one.config.clone()));
        // Runtimes take the first of a name.
        let mut names: Vec<String> = Vec::new();
        all.retain(|one| {
            let is_new = !names.iter().any(|name| name == one.name());
            names.push(one.name().to_owned());
            is_new
        });
        Ok(Self { root: root.clone(), all, unusable, unknown, configs })
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
            let is_new = |one: &&Configured| self.all.iter().all(|two| two.name() != one.name());
            let kept = before.all.iter().filter(|one| one.path == *path).find(is_new);
            if let Some(kept) = kept.map(|one| one.again(&self.root)) {
                self.configs.push(kept.config.clone());
                self.all.push(kept);
            }
        }
        self.all.order_by(|one, other| one.path.file_name().cmp(&other.path.file_name()));
    }

    /// Whether a list of peers means the same to all networks that have one.
    pub(crate) fn share_a_list(&self) -> bool {
        let with_list = self.all.iter().filter(|one| one.peers_file.is_some());
        let mut read = with_list.map(|one| (&one.peers_file, &one.config.fabric.cluster_cidrs));
        read.next().is_some_and(|first| read.all(|other| other == first))
    }

    /// The same, with what the peers files say by now.
    pub(crate) fn again(&self) -> Self {
        let root = &self.root;
        let all = self.all.iter().map(|one| one.again(root)).gather();
        let configs = self.configs.iter().map(|one| resolved(one.clone(), root)).gather();
        Self { all, configs, ..self.clone() }
    }

    /// The names of all networks of the node, where they are known.
    pub(crate) fn names(&self) -> Option<Vec<String>> {
        let names = self.configs.iter().map(|config| config.name.clone());
        self.unknown.is_none().then(|| names.gather())
    }

    /// Whether the node's forwarding is a network's to turn on: as its configuration
    /// says, or, of a network that has none any more, as the first one does.
    pub(crate) fn manages_forwarding(&self, network: &str) -> bool {
        let own = self.configs.iter().find(|config| config.name == network);
        let first = self.all.first().map(|one| &one.config);
        let config = own.or(first.filter(|_| self.unknown.is_none()));
        config.is_some_and(|config| config.manage_forwarding)
    }

    /// The configuration by which it is not known whether anybody asks for the fabric
    /// that a network had.
    pub(crate) fn unknown(&self) -> Option<&Path> {
        self.unknown.as_deref()
    }

    /// Whether a network needs its routes to other nodes: it is configured to have
    /// some, or has a name of before and its pods live. One whose configuration may be
    /// among those that cannot be used keeps what it has.
    pub(crate) fn asks_for_routes(&self, network: &str) -> bool {
        match self.configs.iter().find(|config| config.name == network) {
            Some(config) => config.fabric.peers_file.is_some(),
            None => self.unknown.is_some() || Journal::new(&self.root, network).has_entries(),
        }
    }
}

/// With what `usePodCidr` stands for, as a pod's ADD has it, where no fabric says it.
fn with_own(config: Config, document: &Document, root: &Root) -> Config {
    if !has_placeholder(document.ipam()) || config.fabric.peers_file.is_some() {
        return config;
    }
    let path = root.path(Path::new(AGENTS_PEERS_FILE));
    let read = |mut host| read_peers(&path, &config, &mut host).ok();
    let Some((peers, _)) = Socket::open().ok().and_then(read) else { return config };
    let mut filled = document.clone();
    filled.set_ipam(fill_in(document.ipam(), &peers.me.given_pod_cidrs()));
    Config::read(&filled, config.version).0
}

/// A file that is or may be ours; `None` for one of others, and for one that is gone.
fn of_ours(path: &Path) -> Option<Result<(Document, Config), Error>> {
    let kept = "while it cannot be used, nothing is removed that its network may have";
    let part = match read(path, TEXT_BYTES_MAX) {
        Ok(bytes) => may_name_us(&bytes).then(|| conflist::plugin(path))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => return Some(Err(unreadable(path, &error))),
    };
    Some(part.map_err(|error| match error.next.as_str() {
        "" => error.next(kept),
        _ => error,
    }))
}
