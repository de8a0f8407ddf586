// SPDX-License-Identifier: Apache-2.0
//! What unit tests of the difference begin with: bundles of nodes that are as they should be.
//! `MANX_FIXTURES=1 hack/test fabric fixtures` (or cargo test) writes them anew.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use crate::cluster::{Cluster, Families};
use crate::doctor::bundle;

/// Where they are.
const DIRECTORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/node/snapshot/fixtures");

/// The places in a document, whatever number they have in a list.
fn places(value: &Value, place: &str, all: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                // Addresses and names are no fields.
                let is_name = key.contains(['.', ':', '/']) || place.ends_with("indexes");
                let key = if is_name { "NAME" } else { key.as_str() };
                places(member, &format!("{place}.{key}"), all);
            }
        }
        Value::Array(items) => {
            items.iter().for_each(|item| places(item, &format!("{place}[]"), all));
        }
        _ => drop(all.insert(place.to_owned())),
    }
}

/// Members in their order, so that a fixture that is made anew differs in little.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let mut members: Vec<(String, Value)> = members.into_iter().collect();
            members.sort_by(|(one, _), (other, _)| one.cmp(other));
            members.into_iter().map(|(key, member)| (key, sorted(member))).collect()
        }
        Value::Array(items) => items.into_iter().map(sorted).collect(),
        other => other,
    }
}

/// A field that is new, or gone, is no longer what the unit tests begin with.
#[test]
fn the_fixtures_are_what_a_bundle_is() {
    for mode in ["direct", "vxlan"] {
        let keys = json!({"mode": mode, "ipMasq": true});
        let cluster = Cluster::new(2, Families::Ipv4, &keys);
        let node = &cluster.nodes[0];
        let _pod = node.attach("a");
        node.apply().ok();
        let bundle: Value = serde_json::from_str(&bundle(node)).unwrap();
        let kept = ["kind", "version", "takenBy", "compared"];
        let kept: Value =
            kept.map(|key| (key.to_owned(), sorted(bundle[key].clone()))).into_iter().collect();
        let path = Path::new(DIRECTORY).join(format!("{mode}.json"));
        if std::env::var_os("MANX_FIXTURES").is_some() {
            std::fs::create_dir_all(DIRECTORY).unwrap();
            let text = serde_json::to_string_pretty(&kept).unwrap();
            let root = node.host.scratch().dir("root");
            let text = text.replace(root.to_str().unwrap(), "");
            std::fs::write(&path, text + "\n").unwrap();
        }
        let fixture: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let [mut there, mut here] = [BTreeSet::new(), BTreeSet::new()];
        places(&fixture["compared"], "", &mut there);
        places(&kept["compared"], "", &mut here);
        assert_eq!(there, here, "{mode}: MANX_FIXTURES=1 cargo test --test fabric fixtures");
    }
}
