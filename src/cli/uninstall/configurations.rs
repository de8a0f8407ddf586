// SPDX-License-Identifier: Apache-2.0
//! The configurations of the node that name the plugin.

use std::path::PathBuf;

use serde_json::{Map, Value};

use super::{
    files,
    progress::{Order, Progress},
};
use crate::{
    cli::{Failure, conflist, failed},
    cni::{
        Document,
        json::{field, member},
    },
    conf::{BUILT_IN, CALICO, Config},
    list::{Gather, distinct},
    node::fabric::resolved,
    state::{file::TEXT_BYTES_MAX, read},
};

/// A configuration that names the plugin.
pub(super) struct Configuration {
    pub(super) path: PathBuf,
    /// The plugin is behind another one, whose network it is.
    pub(super) is_chained: bool,
    /// What it says, where the plugin would take it.
    pub(super) part: Option<(Document, Config)>,
}

/// Those that name this plugin, under Calico's name only where that is a copy of ours.
pub(super) fn of_ours(order: &Order) -> Result<Vec<Configuration>, Failure> {
    let serves_calico = files::is_ours(&order.bin_dir.join(CALICO));
    let kind_is_ours = |plugin: &Map<String, Value>| match kind(plugin) {
        Some(CALICO) => serves_calico,
        _ => conflist::is_ours(plugin),
    };
    let mut found = Vec::new();
    for (path, object) in all(order)? {
        let at = conflist::objects(&object).into_iter().position(kind_is_ours);
        let Some(at) = at else { continue };
        let part = conflist::plugin(&path).ok();
        let part = part.map(|(document, config)| (document, resolved(config, &order.root)));
        found.push(Configuration { path, is_chained: at > 0, part });
    }
    Ok(found)
}

/// The configurations of others whose addresses come from this plugin's allocator.
pub(super) fn served(order: &Order, ours: &[Configuration]) -> Result<Vec<PathBuf>, Failure> {
    let asks = |plugin: &Map<String, Value>| {
        let ipam = field(plugin, "ipam").and_then(|ipam| member(ipam, "type")?.as_str());
        ipam == Some(BUILT_IN)
    };
    let all = all(order)?.into_iter();
    let others = all.filter(|(path, _)| ours.iter().all(|one| one.path != *path));
    let served = others.filter(|(_, object)| conflist::objects(object).into_iter().any(asks));
    Ok(served.map(|(path, _)| path).gather())
}

fn kind(plugin: &Map<String, Value>) -> Option<&str> {
    field(plugin, "type").and_then(Value::as_str)
}

/// A file, and its object.
type Read = (PathBuf, Map<String, Value>);

/// All configurations that can be read.
fn all(order: &Order) -> Result<Vec<Read>, Failure> {
    let mut found = Vec::new();
    for path in conflist::files(&order.conf_dir).unwrap_or_default() {
        let bytes = read(&path, TEXT_BYTES_MAX).map_err(|error| failed(path.display(), &error))?;
        // What is no JSON may be anybody's.
        if let Ok(Value::Object(object)) = serde_json::from_slice(&bytes) {
            found.push((path, object));
        }
    }
    Ok(found)
}

/// Removes them.
pub(super) fn remove(
    order: &Order,
    configurations: &[Configuration],
    progress: &mut Progress<'_, '_>,
) -> Result<(), Failure> {
    for Configuration { path, .. } in configurations {
        match order.keep_conf {
            true => progress.kept(path.display(), "as asked for")?,
            false => files::remove(path, progress)?,
        }
    }
    Ok(())
}

/// Where an operator's list of nodes is by default.
const OPERATORS_PEERS_FILE: &str = "/etc/manx/peers.json";

/// Lists of nodes that somebody wrote.
pub(super) fn peers(
    order: &Order,
    configurations: &[Configuration],
    progress: &mut Progress<'_, '_>,
) -> Result<(), Failure> {
    let parts = configurations.iter().filter_map(|one| one.part.as_ref());
    let named = parts.filter_map(|(_, config)| config.fabric.peers_file.as_deref());
    let mut files: Vec<PathBuf> = named.chain([OPERATORS_PEERS_FILE]).map(PathBuf::from).gather();
    files.retain(|path| !path.starts_with(files::LASTING));
    let files = distinct(files);
    for path in files.iter().map(|path| order.root.path(path)).filter(|path| path.exists()) {
        progress.kept(path.display(), "it is the operator's")?;
    }
    Ok(())
}
