// SPDX-License-Identifier: Apache-2.0
//! The cases of this directory: worlds, and what is allowed in them.

use serde_json::{Value, json};

/// Steps that follow each other on one node.
pub struct Case {
    pub name: String,
    pub steps: Vec<Step>,
}

/// A cluster, and connections in it.
pub struct Step {
    /// A List of Namespaces, Pods and NetworkPolicies.
    pub world: Value,
    pub probes: Vec<Probe>,
}

/// A connection between two pods.
#[derive(Clone, Debug)]
pub struct Probe {
    /// `NAMESPACE/NAME`, or an address of the pod where it has several.
    pub from: String,
    pub to: String,
    pub protocol: String,
    pub port: u16,
    pub allowed: bool,
}

/// All of them, those of another evaluator first.
pub fn all() -> Vec<Case> {
    let given = [include_str!("cases.json"), include_str!("own.json")];
    given.iter().flat_map(|text| of(&serde_json::from_str(text).unwrap())).collect()
}

fn of(document: &Value) -> Vec<Case> {
    let step = |step: &Value| {
        let items: Vec<&Value> = list(&step["items"])
            .iter()
            .map(|at| &document["objects"][at.as_u64().unwrap() as usize])
            .collect();
        let common = list(&document["flows"]);
        let probes = match step["flows"].as_array() {
            Some(flows) => flows.iter().map(|flow| probe(flow, flow[4] == 1)).collect(),
            None => {
                let bits = bits(step["allowed"].as_str().unwrap());
                assert_eq!(bits.len(), common.len());
                common.iter().zip(bits).map(|(flow, allowed)| probe(flow, allowed)).collect()
            }
        };
        let world = json!({"apiVersion": "v1", "kind": "List", "items": items});
        Step { world, probes }
    };
    let case = |case: &Value| Case {
        name: case["case"].to_string(),
        steps: list(&case["steps"]).iter().map(step).collect(),
    };
    list(&document["cases"]).iter().map(case).collect()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn probe(flow: &Value, allowed: bool) -> Probe {
    let text = |at: usize| flow[at].as_str().unwrap().to_owned();
    let port = flow[3].as_u64().unwrap() as u16;
    Probe { from: text(0), to: text(1), protocol: text(2), port, allowed }
}

/// The bits of a number in base 16, the highest first.
fn bits(number: &str) -> Vec<bool> {
    let digits = number.chars().map(|digit| digit.to_digit(16).unwrap());
    digits.flat_map(|digit| (0..4).rev().map(move |bit| digit >> bit & 1 == 1)).collect()
}
