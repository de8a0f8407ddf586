// SPDX-License-Identifier: Apache-2.0
//! What is taken means the same to a library that reads all of YAML.

use proptest::prelude::*;
use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Value, json};

use super::{documents, plain};

/// The documents of a text as the library has them; of words what [`plain::resolve`] makes.
fn by_library(text: &str) -> Result<Vec<Value>, String> {
    let mut events = Vec::new();
    for event in Parser::new_from_str(text) {
        events.push(event.map_err(|error| error.to_string())?.0);
    }
    let mut events = events.into_iter().peekable();
    let mut found = Vec::new();
    while let Some(event) = events.next() {
        if matches!(event, Event::DocumentStart(_)) {
            found.push(node(&mut events)?);
        }
    }
    Ok(found)
}

fn node<'a>(events: &mut impl Iterator<Item = Event<'a>>) -> Result<Value, String> {
    let event = events.next().ok_or("it ends")?;
    value(event, events)
}

fn value<'a>(
    event: Event<'a>,
    events: &mut impl Iterator<Item = Event<'a>>,
) -> Result<Value, String> {
    match event {
        Event::Scalar(text, ScalarStyle::Plain, 0, None) => {
            plain::resolve(&text).ok_or_else(|| format!("{text} has two meanings"))
        }
        Event::Scalar(text, _, 0, None) => Ok(Value::String(text.into_owned())),
        Event::SequenceStart(0, None) => {
            let mut items = Vec::new();
            loop {
                match events.next().ok_or("it ends")? {
                    Event::SequenceEnd => return Ok(Value::Array(items)),
                    event => items.push(value(event, events)?),
                }
            }
        }
        Event::MappingStart(0, None) => {
            let mut members = Map::new();
            loop {
                match events.next().ok_or("it ends")? {
                    Event::MappingEnd => return Ok(Value::Object(members)),
                    event => {
                        let Value::String(key) = value(event, events)? else {
                            return Err("a key that is no text".into());
                        };
                        members.insert(key, node(events)?);
                    }
                }
            }
        }
        other => Err(format!("{other:?}")),
    }
}

/// Documents of nothing are left out.
fn assert_same(text: &str) {
    let Ok(read) = documents(text) else { return };
    let library = by_library(text).unwrap_or_else(|error| panic!("{error}:\n{text}\n{read:?}"));
    let library: Vec<Value> = library.into_iter().filter(|it| !it.is_null()).collect();
    let read: Vec<Value> = read.into_iter().filter(|it| !it.is_null()).collect();
    assert_eq!(read, library, "{text}");
}

const POLICY: &str = r#"# Who may ask the database.
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: db
  namespace: shop   # of all
  creationTimestamp: "2026-01-02T03:04:05Z"
  generation: 1
  annotations:
    kubectl.kubernetes.io/last-applied-configuration: |
      {"apiVersion":"networking.k8s.io/v1"}
    note: >-
      folded over
      two lines

      and a paragraph
    'quoted ''key''': "a \"b\" \u00e9 \
      is not read"
spec:
  podSelector: {matchLabels: {app: db, "tier": 'back end'}}
  policyTypes: [Ingress, Egress]
  ingress:
  - from:
    - podSelector:
        matchLabels:
          app: web
    - ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16,
        10.2.0.0/16]}
    ports:
      - {protocol: TCP, port: 5432}
      -
        port: web
  - {}
  egress: []
status: {}
---
kind: Namespace
metadata: {name: shop, labels: null}
...
"#;

#[test]
fn a_manifest_is_read_as_it_is_meant() {
    let text =
        POLICY.replace("\"a \\\"b\\\" \\u00e9 \\\n      is not read\"", "\"a \\\"b\\\" \\u00e9\"");
    let read = documents(&text).unwrap();
    assert_eq!(read.len(), 2);
    let spec = &read[0]["spec"];
    assert_eq!(spec["podSelector"], json!({"matchLabels": {"app": "db", "tier": "back end"}}));
    assert_eq!(
        spec["ingress"],
        json!([
            {"from": [{"podSelector": {"matchLabels": {"app": "web"}}},
                      {"ipBlock": {"cidr": "10.0.0.0/8",
                                   "except": ["10.1.0.0/16", "10.2.0.0/16"]}}],
             "ports": [{"protocol": "TCP", "port": 5432}, {"port": "web"}]},
            {}
        ])
    );
    let notes = &read[0]["metadata"]["annotations"];
    assert_eq!(notes["note"], "folded over two lines\nand a paragraph");
    assert_eq!(notes["quoted 'key'"], "a \"b\" é");
    assert_eq!(read[1], json!({"kind": "Namespace", "metadata": {"name": "shop", "labels": null}}));
    assert_same(&text);
}

/// Blanks are spaces and tabs alone; what else looks like one is a part of the text.
#[test]
fn other_blanks_than_yamls_are_text() {
    for blank in ['\u{a0}', '\u{2003}', '\u{3000}', '\u{feff}'] {
        for text in
            ["a: [x_]", "a: x_", "x_: a", "a: {x_: y}", "a: [-_]", "-_: x", "a:\n- x_\n  y_"]
        {
            assert_same(&text.replace('_', &blank.to_string()));
        }
    }
    assert_eq!(documents("a: [x\u{a0}]").unwrap(), [json!({"a": ["x\u{a0}"]})]);
}

#[test]
fn what_may_mean_something_else_is_refused_by_its_line() {
    for (text, line) in [
        ("a: &x 1", 1),
        ("a: *x", 1),
        ("a: !!str 1", 1),
        ("a: 1\n<<: {b: 1}", 2),
        ("a: yes", 1),
        ("a: On", 1),
        ("a: yes\n\n\nb: 1", 1),
        ("a: {b: 1, b: [1,\n  2]}", 1),
        ("a: {b 1}", 1),
        ("# x\n\n%YAML 1.1", 3),
        ("a: 010", 1),
        ("a: 0x1f", 1),
        ("a: 1_000", 1),
        ("a: 12:30", 1),
        ("a: .inf", 1),
        ("a: +1", 1),
        ("80: x", 1),
        ("true: x", 1),
        ("? a\n: b", 1),
        ("a: 1\na: 2", 2),
        ("a: {b: 1, b: 2}", 1),
        ("a:\n\tb: 1", 2),
        ("a: b: c", 1),
        ("a: - b", 1),
        ("a: 1\n  b: 2", 2),
        ("a:\n    b: 1\n  c: 2", 3),
        ("a: [1, 2", 1),
        ("a: \"b", 1),
        ("a: 'b' c", 1),
        ("a: [b] c", 1),
        ("a: |22\n   b", 1),
        ("--- a", 1),
        ("%YAML 1.1\n---\na: 1", 1),
        ("a: @b", 1),
        ("- a\nb: 1", 2),
        ("a: \"\\q\"", 1),
        ("a: \"\\ud800\"", 1),
    ] {
        let refused = documents(text).expect_err(text);
        assert!(refused.starts_with(&format!("line {line}: ")), "{text:?}: {refused}");
    }
    let deep = "[".repeat(100_000);
    assert!(documents(&deep).is_err() && documents(&"- ".repeat(100_000)).is_err());
}

/// Lines of a manifest and of what may stand in one, put together at random.
fn line() -> impl Strategy<Value = String> {
    let content = prop_oneof![
        "[a-c]: ?",
        "[a-c]: [a-z0-9 .'\"#:-]{0,8}",
        "- ?",
        "- [a-c]: [a-z]{0,3}",
        "- - [a-z]{0,3}",
        "[a-c]: [|>][+-]?",
        "[a-c]: [|>]{1,2}[+-1-3]{0,3}",
        "- [|>][1-3]?[+-]?",
        "--?[a-z]{1,3}",
        "[a-c]: ['\"][a-z \\\\'\"n#:]{0,6}['\"]?",
        "[a-c]: [\\[{][a-c,:\"' 1\\[\\]{}]{0,10}[\\]}]?",
        "[a-z# ]{0,6}",
        "[\\]}'\"]",
        "---",
        "#.{0,3}",
        "[ -~]{0,10}",
    ];
    (0..6usize, content).prop_map(|(indent, content)| " ".repeat(indent) + &content)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn what_is_read_is_what_the_library_reads(lines in prop::collection::vec(line(), 1..8)) {
        assert_same(&(lines.join("\n") + "\n"));
    }

    /// A manifest that was damaged.
    #[test]
    fn and_of_a_manifest_with_a_change(place in 0..POLICY.len(), by in "[ -~\n]{0,3}", cut in 0..3usize) {
        let end = (place + cut).min(POLICY.len());
        assert_same(&format!("{}{by}{}", &POLICY[..place], &POLICY[end..]));
    }
}
