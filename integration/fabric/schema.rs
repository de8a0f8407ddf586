//! As much of JSON Schema as conf/peers.schema.json is written in.

use serde_json::Value;

use crate::cluster::entries;

/// Whether `value` is as `schema` wants it. Panics on words of the schema that
/// it does not know, so that none is passed over.
pub fn agrees(schema: &Value, value: &Value) -> bool {
    schema.as_object().unwrap().iter().all(|(word, wanted)| match word.as_str() {
        "$schema" | "title" | "description" => true,
        "type" => match wanted.as_str().unwrap() {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            other => panic!("type {other}"),
        },
        "required" => entries(wanted).iter().all(|key| value.get(key.as_str().unwrap()).is_some()),
        "additionalProperties" => {
            assert_eq!(wanted, false);
            let known = schema["properties"].as_object().unwrap();
            value.as_object().is_none_or(|object| object.keys().all(|key| known.contains_key(key)))
        }
        "properties" => wanted
            .as_object()
            .unwrap()
            .iter()
            .all(|(key, schema)| value.get(key).is_none_or(|value| agrees(schema, value))),
        "items" => entries(value).iter().all(|item| agrees(wanted, item)),
        "minItems" => entries(value).len() as u64 >= wanted.as_u64().unwrap(),
        "minLength" => {
            value.as_str().is_none_or(|text| text.len() as u64 >= wanted.as_u64().unwrap())
        }
        "pattern" => value.as_str().is_none_or(|text| matches(wanted.as_str().unwrap(), text)),
        other => panic!("the schema says {other:?}"),
    })
}

fn matches(pattern: &str, text: &str) -> bool {
    let status = std::process::Command::new("grep")
        .args(["-qE", "-e", pattern])
        .stdin({
            let (reader, mut writer) = std::io::pipe().unwrap();
            std::io::Write::write_all(&mut writer, text.as_bytes()).unwrap();
            reader
        })
        .status();
    status.unwrap().success()
}
