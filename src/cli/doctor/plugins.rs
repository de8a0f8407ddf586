// SPDX-License-Identifier: Apache-2.0
//! The plugins that configurations name, and what they say that they speak.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Map, Value};

use crate::{
    cli::{conflist, validate::versions_of},
    cni::{
        Code, Delegate, Version,
        json::{field, member},
    },
    conf::BUILT_IN,
    list::{Gather, distinct},
    node::Plugin,
};

/// For how long all plugins together are waited for, to say what they speak: it takes some
/// milliseconds, and whoever looks at a broken node waits for the rest.
const VERSION_LIMIT: Duration = Duration::from_millis(500);

/// The plugins that a file names, ours among them.
pub(super) fn plugins(path: &Path, object: &Map<String, Value>) -> Vec<Plugin> {
    let offered = offered(object);
    let mut kinds: BTreeMap<String, ()> = BTreeMap::new();
    for one in conflist::objects(object) {
        let own = field(one, "type").and_then(Value::as_str);
        let ipam = field(one, "ipam").and_then(|ipam| member(ipam, "type")?.as_str());
        // Ours gives addresses itself.
        let ipam = ipam.filter(|kind| !(*kind == BUILT_IN && conflist::is_ours(one)));
        let named = own.into_iter().chain(ipam).filter(|kind| !kind.is_empty());
        kinds.extend(named.map(|kind| (kind.to_owned(), ())));
    }
    let plugin = |kind| {
        let (file, offered) = (path.to_owned(), offered.clone());
        Plugin { kind, file, offered, ..Plugin::default() }
    };
    kinds.into_keys().map(plugin).gather()
}

/// With where they are and what they speak: each is asked once, and all at once.
pub(super) fn asked(mut plugins: Vec<Plugin>, plugin_path: &[PathBuf]) -> Vec<Plugin> {
    let kinds: BTreeSet<&str> = plugins.iter().map(|plugin| plugin.kind.as_str()).gather_set();
    let found: BTreeMap<String, Result<Delegate, String>> = kinds
        .into_iter()
        .map(|kind| {
            let found = Delegate::find(kind, plugin_path).map_err(|error| error.msg.clone());
            (kind.to_owned(), found)
        })
        .gather_map();
    let asked: Vec<&Delegate> = found.values().flatten().gather();
    let told = versions_of(&asked, plugin_path, VERSION_LIMIT);
    let told: BTreeMap<&str, _> =
        asked.iter().map(|one| one.plugin_type.as_str()).zip(told).gather_map();
    for plugin in &mut plugins {
        match found.get(&plugin.kind) {
            Some(Ok(found)) => plugin.path = Some(found.binary.clone()),
            Some(Err(problem)) => plugin.problem = Some(problem.clone()),
            None => {}
        }
        match told.get(plugin.kind.as_str()) {
            Some(Ok(versions)) => {
                plugin.versions = versions.iter().map(ToString::to_string).gather();
            }
            Some(Err(error)) if error.code == Code::TRY_AGAIN => {
                plugin.silent = Some(error.msg.clone());
            }
            Some(Err(error)) => plugin.problem = Some(error.msg.clone()),
            None => {}
        }
    }
    plugins
}

/// The versions that a file offers and that exist.
fn offered(object: &Map<String, Value>) -> Vec<String> {
    let single = field(object, "cniVersion").and_then(Value::as_str);
    let several = field(object, "cniVersions").and_then(Value::as_array);
    let several = several.into_iter().flatten().filter_map(Value::as_str);
    let all: Vec<Version> =
        single.into_iter().chain(several).filter_map(|text| Version::parse(text).ok()).gather();
    let all = distinct(all);
    all.iter().map(ToString::to_string).gather()
}
