// SPDX-License-Identifier: Apache-2.0
//! What is made from the definition of the keys, by tests: the JSON Schema of a
//! configuration, and the table of docs/configuration.md.

mod told;

use std::{env, fmt::Write, fs, path::Path};

use serde_json::{Map, Value, json};

use super::{
    Config, FabricPart,
    keys::{CALICOS, PLUGIN, WITHOUT_EFFECT},
    part::FILE_KEYS,
    shape::{Described, Fallback, Property},
};
use crate::cni::{Document, Version};

/// Our part of a configuration, as JSON Schema. Keys and the words of some of them match
/// without regard to case; the schema has them as they are documented.
fn plugin() -> Value {
    let mut properties = properties(PLUGIN);
    let without_effect = json!({"description": WITHOUT_EFFECT});
    properties.extend(CALICOS.iter().map(|key| ((*key).to_owned(), without_effect.clone())));
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "manx network configuration",
        "description": "The object of a network configuration whose type is manx: one of the \
                        plugins of a .conflist, or all of a .conf.",
        "type": "object",
        "required": required(PLUGIN),
        "additionalProperties": false,
        "properties": properties,
        // What runtimes tell each other.
        "patternProperties": {"^cni\\.dev/": {}},
    })
}

/// An object of these keys and no others.
fn object(keys: &[&dyn Described]) -> Value {
    json!({
        "type": "object",
        "required": required(keys),
        "additionalProperties": false,
        "properties": properties(keys),
    })
}

/// A schema with more words; they replace those that it has already.
fn with(schema: Value, words: Value) -> Value {
    match (schema, words) {
        (Value::Object(mut schema), Value::Object(words)) => {
            schema.extend(words);
            schema.into()
        }
        (schema, _) => schema,
    }
}

fn required(keys: &[&dyn Described]) -> Vec<&'static str> {
    let is_required = |key: &&&dyn Described| matches!(key.told().fallback, Fallback::Required);
    keys.iter().filter(is_required).map(|key| key.name()).collect()
}

fn properties(keys: &[&dyn Described]) -> Map<String, Value> {
    let mut properties = Map::new();
    for key in keys {
        let told = key.told();
        properties.insert(key.name().to_owned(), property(&told, told.meaning));
        if let Some(name) = key.calicos() {
            let meaning = format!("Calico's name of `{}`", key.name());
            properties.insert(name.to_owned(), property(&told, &meaning));
        }
    }
    properties
}

/// The schema of a key's value, with what is said of it.
fn property(told: &Property, meaning: &str) -> Value {
    let words = match &told.fallback {
        Fallback::Value(value) => json!({"description": meaning, "default": value}),
        Fallback::Words(words) if !words.is_empty() => {
            json!({"description": format!("{meaning}; default: {words}")})
        }
        Fallback::Words(_) | Fallback::Required => json!({"description": meaning}),
    };
    with(words, told.schema.clone())
}

/// The table of docs/configuration.md.
fn table() -> String {
    let mut text = "| key | meaning | default |\n|---|---|---|\n".to_owned();
    rows(PLUGIN, "", &mut text);
    text
}

fn rows(keys: &[&dyn Described], section: &str, text: &mut String) {
    for key in keys {
        let name = format!("{section}{}", key.name());
        let told = key.told();
        if told.in_table {
            let default = match told.fallback {
                Fallback::Value(Value::String(word)) => format!("`{word}`"),
                Fallback::Value(value) => format!("`{value}`"),
                Fallback::Words(words) => words.to_owned(),
                Fallback::Required => "required".to_owned(),
            };
            let _ = writeln!(text, "| `{name}` | {} | {default} |", told.meaning);
        }
        if let Some(members) = key.members(&Value::Null) {
            rows(&members, &format!("{name}."), text);
        }
    }
}

/// Calico's names of our keys.
fn calicos() -> Vec<String> {
    let named = PLUGIN.iter().filter_map(|key| key.calicos()).map(str::to_owned);
    named.collect()
}

/// That a file of this repository is as it should be; written where that is asked for.
#[track_caller]
fn compare(name: &str, now: &str, wanted: &str) {
    if env::var_os("MANX_WRITE_CONF").is_some() {
        return fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join(name), wanted).unwrap();
    }
    let how = "MANX_WRITE_CONF=1 cargo test --lib conf:: writes it";
    assert!(now == wanted, "{name} is not as src/conf/keys.rs says; {how}");
}

#[test]
fn the_schema_is_that_of_the_keys() {
    let wanted = serde_json::to_string_pretty(&plugin()).unwrap() + "\n";
    compare("conf/config.schema.json", include_str!("../../conf/config.schema.json"), &wanted);
}

#[test]
fn the_table_of_the_page_is_that_of_the_keys() {
    let now = include_str!("../../docs/configuration.md");
    let start = now.find("| key | meaning | default |").unwrap();
    let end = start + now[start..].find("\n\n").unwrap() + 1;
    compare("docs/configuration.md", now, &(now[..start].to_owned() + &table() + &now[end..]));
    for name in calicos() {
        assert!(now.contains(&format!("`{name}`")), "docs/configuration.md names no {name}");
    }
}

/// Lets an object, and those in it, have other keys.
fn open(schema: &mut Value) {
    if let Some(object) = schema.as_object_mut() {
        object.remove("additionalProperties");
        object.values_mut().for_each(open);
    }
}

/// The peers file may have some of them.
#[test]
fn the_schema_of_the_peers_file_has_the_keys_of_the_fabric() {
    let peers: Value = serde_json::from_str(include_str!("../../conf/peers.schema.json")).unwrap();
    let words = "How packets reach the pods of other nodes, for all networks of the node that name \
                 this file. A configuration may say the same, or nothing; its mtu may be smaller.";
    let mut wanted = with(object(FILE_KEYS), json!({"description": words}));
    // A newer writer may say more, which is told and ignored.
    open(&mut wanted);
    let now = &peers["properties"]["fabric"];
    assert_eq!(*now, wanted, "wanted is {}", serde_json::to_string_pretty(&wanted).unwrap());
}

/// The schema and the page tell what is read, not what somebody thinks is.
#[test]
fn a_default_that_is_written_means_the_same_as_none() {
    let read = |plugin: &Value| {
        let document = Document::parse(plugin.to_string().into_bytes()).unwrap();
        let (mut config, complaints) = Config::read(&document, Version::NEWEST);
        assert_eq!(complaints, []);
        // That it is written matters beside a peers file that says something else.
        config.own = FabricPart::default();
        format!("{config:?}")
    };
    let defaults = |schema: &Value| {
        let properties = schema["properties"].as_object().unwrap();
        let default =
            |(key, schema): (&String, &Value)| Some((key.clone(), schema.get("default")?.clone()));
        properties.iter().filter_map(default).collect::<Map<_, _>>()
    };
    let bare = json!({"name": "n", "type": "manx", "ipam": {"type": "manx-ipam"}});
    let (mut full, schema) = (bare.clone(), plugin());
    full["vxlan"] = defaults(&schema["properties"]["vxlan"]).into();
    full.as_object_mut().unwrap().extend(defaults(&schema));
    assert!(full["vxlan"]["vni"] == 4096 && full["hostPrefix"] == "cali", "{full}");
    assert_eq!(read(&full), read(&bare));
}
