// SPDX-License-Identifier: Apache-2.0
//! As much of JSON Schema as the schemas in conf/ are written in.

use std::io::Write;

use serde_json::{Map, Value};

/// Whether `value` is as `schema` wants it. Panics on words of the schema that
/// it does not know, so that none is passed over.
pub fn agrees(schema: &Value, value: &Value) -> bool {
    schema.as_object().unwrap().iter().all(|(word, wanted)| match word.as_str() {
        "$schema" | "title" | "description" | "default" => true,
        "type" => match wanted.as_str().unwrap() {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "integer" => value.is_i64() || value.is_u64(),
            other => panic!("type {other}"),
        },
        "required" => items(wanted).iter().all(|key| value.get(key.as_str().unwrap()).is_some()),
        "additionalProperties" => {
            assert_eq!(wanted, false);
            members(value).iter().all(|(key, _)| is_described(schema, key))
        }
        "properties" => members(wanted)
            .iter()
            .all(|(key, schema)| value.get(key).is_none_or(|value| agrees(schema, value))),
        // Said of keys that may be anything.
        "patternProperties" => {
            members(wanted).iter().all(|(_, schema)| **schema == Value::from(Map::new()))
        }
        "items" => items(value).iter().all(|item| agrees(wanted, item)),
        "minItems" => items(value).len() as u64 >= wanted.as_u64().unwrap(),
        "minLength" => {
            value.as_str().is_none_or(|text| text.len() as u64 >= wanted.as_u64().unwrap())
        }
        "pattern" => value.as_str().is_none_or(|text| matches(wanted.as_str().unwrap(), text)),
        "minimum" => value.as_f64().is_none_or(|number| number >= wanted.as_f64().unwrap()),
        "maximum" => value.as_f64().is_none_or(|number| number <= wanted.as_f64().unwrap()),
        "enum" => items(wanted).contains(value),
        "const" => wanted == value,
        "anyOf" => items(wanted).iter().any(|schema| agrees(schema, value)),
        "not" => !agrees(wanted, value),
        "if" => !agrees(wanted, value) || agrees(&schema["then"], value),
        "then" => schema.get("if").is_some(),
        other => panic!("the schema says {other:?}"),
    })
}

fn is_described(schema: &Value, key: &str) -> bool {
    let patterns = schema.get("patternProperties").map(members).unwrap_or_default();
    schema["properties"].get(key).is_some()
        || patterns.iter().any(|(pattern, _)| matches(pattern, key))
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn members(value: &Value) -> Vec<(&String, &Value)> {
    value.as_object().into_iter().flatten().collect()
}

fn matches(pattern: &str, text: &str) -> bool {
    let status = std::process::Command::new("grep")
        .args(["-qE", "-e", pattern])
        .stdin({
            let (reader, mut writer) = std::io::pipe().unwrap();
            // An empty text is a line as well.
            writeln!(writer, "{text}").unwrap();
            reader
        })
        .status();
    status.unwrap().success()
}
