//! What is made from the definition of the keys: the JSON Schema of a configuration, and
//! the table of the README.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use super::{
    key::Described,
    keys::{CALICOS, PLUGIN, WITHOUT_EFFECT},
    shape::Fallback,
};

/// Our part of a configuration, as JSON Schema. Keys and the words of some of them match
/// without regard to case; the schema has them as they are documented.
pub fn plugin() -> Value {
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
pub(super) fn object(keys: &[&dyn Described]) -> Value {
    json!({
        "type": "object",
        "required": required(keys),
        "additionalProperties": false,
        "properties": properties(keys),
    })
}

/// A schema with more words; they replace those that it has already.
pub(super) fn with(schema: Value, words: Value) -> Value {
    match (schema, words) {
        (Value::Object(mut schema), Value::Object(words)) => {
            schema.extend(words);
            schema.into()
        }
        (schema, _) => schema,
    }
}

fn required(keys: &[&dyn Described]) -> Vec<&'static str> {
    let is_required = |key: &&&dyn Described| matches!(key.fallback(), Fallback::Required);
    keys.iter().filter(is_required).map(|key| key.name()).collect()
}

fn properties(keys: &[&dyn Described]) -> Map<String, Value> {
    let mut properties = Map::new();
    for key in keys {
        properties.insert(key.name().to_owned(), property(*key, key.meaning()));
        if let Some(name) = key.calicos() {
            let meaning = format!("Calico's name of `{}`", key.name());
            properties.insert(name.to_owned(), property(*key, &meaning));
        }
    }
    properties
}

/// The schema of a key's value, with what is said of it.
fn property(key: &dyn Described, meaning: &str) -> Value {
    let told = match key.fallback() {
        Fallback::Value(value) => json!({"description": meaning, "default": value}),
        Fallback::Words(words) if !words.is_empty() => {
            json!({"description": format!("{meaning}; default: {words}")})
        }
        Fallback::Words(_) | Fallback::Required => json!({"description": meaning}),
    };
    with(told, key.schema())
}

/// The rows of the README's table.
pub fn table() -> String {
    let mut text = "| key | meaning | default |\n|---|---|---|\n".to_owned();
    rows(PLUGIN, "", &mut text);
    text
}

fn rows(keys: &[&dyn Described], section: &str, text: &mut String) {
    for key in keys {
        let name = format!("{section}{}", key.name());
        if key.in_table() {
            let default = match key.fallback() {
                Fallback::Value(Value::String(word)) => format!("`{word}`"),
                Fallback::Value(value) => format!("`{value}`"),
                Fallback::Words(words) => words.to_owned(),
                Fallback::Required => "required".to_owned(),
            };
            let _ = writeln!(text, "| `{name}` | {} | {default} |", key.meaning());
        }
        if let Some(members) = key.members(&Value::Null) {
            rows(&members, &format!("{name}."), text);
        }
    }
}

/// Calico's names of our keys.
pub fn calicos() -> Vec<String> {
    let named = PLUGIN.iter().filter_map(|key| key.calicos()).map(str::to_owned);
    named.collect()
}

#[cfg(test)]
mod tests {
    use std::{env, fs, path::Path};

    use super::*;
    use crate::{
        cni::{Document, Version},
        conf::Config,
    };

    /// The text that a file of this repository should have; written where that is asked for.
    #[track_caller]
    fn compare(path: &Path, now: &str, wanted: &str) {
        if env::var_os("MANX_WRITE_CONF").is_some() {
            return fs::write(path, wanted).unwrap();
        }
        let how = "MANX_WRITE_CONF=1 cargo test --lib conf:: writes it";
        assert!(now == wanted, "{} is not as src/conf/keys.rs says; {how}", path.display());
    }

    #[test]
    fn the_schema_is_that_of_the_keys() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/config.schema.json");
        let wanted = serde_json::to_string_pretty(&plugin()).unwrap() + "\n";
        compare(&path, &fs::read_to_string(&path).unwrap_or_default(), &wanted);
    }

    #[test]
    fn the_table_of_the_readme_is_that_of_the_keys() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
        let now = fs::read_to_string(&path).unwrap();
        let start = now.find("| key | meaning | default |").unwrap();
        let end = start + now[start..].find("\n\n").unwrap() + 1;
        compare(&path, &now, &(now[..start].to_owned() + &table() + &now[end..]));
        for name in calicos() {
            assert!(now.contains(&format!("`{name}`")), "README names no {name}");
        }
    }

    /// The schema and the README tell what is read, not what somebody thinks is.
    #[test]
    fn a_default_that_is_written_means_the_same_as_none() {
        let read = |plugin: &Value| {
            let document = Document::parse(plugin.to_string().into_bytes()).unwrap();
            let (config, complaints) = Config::read(&document, Version::NEWEST);
            assert_eq!(complaints, []);
            format!("{config:?}")
        };
        let defaults = |schema: &Value| {
            let properties = schema["properties"].as_object().unwrap();
            let default = |(key, schema): (&String, &Value)| {
                Some((key.clone(), schema.get("default")?.clone()))
            };
            properties.iter().filter_map(default).collect::<Map<_, _>>()
        };
        let bare = json!({"name": "n", "type": "manx", "ipam": {"type": "manx-ipam"}});
        let (mut full, schema) = (bare.clone(), plugin());
        full["vxlan"] = defaults(&schema["properties"]["vxlan"]).into();
        full.as_object_mut().unwrap().extend(defaults(&schema));
        assert!(full["vxlan"]["vni"] == 4096 && full["hostPrefix"] == "cali", "{full}");
        assert_eq!(read(&full), read(&bare));
    }
}
