// SPDX-License-Identifier: Apache-2.0
//! Objects that come one at a time, of a kind that is known. One that cannot be understood
//! keeps nobody from the others: of a pod it has no address then, and a policy isolates all
//! that it may be about.

use serde::Deserialize;
use serde_json::Value;

use super::{
    address_texts,
    fields::{Fields, reading},
    pod, policy, selected,
};
use crate::{
    cni::cidr,
    list::Gather,
    policy::{Labels, Name, Pod, Policy, Selector},
};

/// An object, which has a name.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Value")]
pub(crate) struct Item(Value);

impl TryFrom<Value> for Item {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        let name =
            |problem: &_| Fields::of(&value, problem).required_within("metadata").required("name");
        reading(name).map(drop)?;
        Ok(Self(value))
    }
}

impl Item {
    fn metadata(&self, key: &str) -> &str {
        let value = self.0.get("metadata").and_then(|metadata| metadata.get(key));
        value.and_then(Value::as_str).unwrap_or_default()
    }

    /// The name of the object in its namespace.
    pub(crate) fn name(&self) -> Name {
        let text = |key| self.metadata(key).to_owned();
        Name { namespace: text("namespace"), name: text("name") }
    }

    /// As of which version of the store it is so.
    pub(crate) fn version(&self) -> &str {
        self.metadata("resourceVersion")
    }

    /// The labels.
    pub(crate) fn into_labels(self) -> Labels {
        let labels = |problem: &_| Fields::of(&self.0, problem).within("metadata").labels("labels");
        reading(labels).unwrap_or_default()
    }

    /// The pod.
    pub(crate) fn into_pod(self) -> Pod {
        let name = self.name();
        let texts = reading(|problem| address_texts(Fields::of(&self.0, problem)));
        let texts = texts.unwrap_or_default();
        let addresses = texts.iter().filter_map(|text| cidr::parse_address(text).ok()).gather();
        let read = reading(|problem| pod(name.clone(), addresses, Fields::of(&self.0, problem)));
        read.unwrap_or_else(|_| Pod { name, ..Pod::default() })
    }

    /// The policy, and what of it could not be understood, a sentence each.
    pub(crate) fn into_policy(self) -> (Policy, Vec<String>) {
        let (name, mut notes) = (self.name(), Vec::new());
        let failed = |problem: String| format!("NetworkPolicy {name}: {problem}");
        let pods = reading(|problem| selected(Fields::of(&self.0, problem)));
        let (selects, problem) = match pods {
            Ok(pods) => (pods, None),
            Err(problem) => (Selector::default(), Some(problem)),
        };
        let mut note = |problem: String| notes.push(failed(problem));
        let read = reading(|problem| {
            policy(name.clone(), selects.clone(), Fields::of(&self.0, problem), &mut note)
        });
        let (mut policy, is_whole) = match read {
            Ok(policy) => (policy, true),
            Err(problem) => {
                note(format!("{problem}: it isolates its pods, and allows nothing"));
                let ways = [Some(Vec::new()), Some(Vec::new())];
                (Policy { name: name.clone(), pods: selects, ways }, false)
            }
        };
        if let Some(problem) = problem.filter(|_| is_whole) {
            policy.ways.iter_mut().flatten().for_each(Vec::clear);
            let words = "all pods of its namespace are isolated, and it allows nothing";
            note(format!("{problem}: {words}"));
        }
        (policy, notes)
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use serde_json::{Value, json};

    use super::*;

    fn item(value: Value) -> Item {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_pod_without_an_address_that_can_be_read_has_none() {
        let pod = item(json!({"metadata": {"namespace": "x", "name": "a", "resourceVersion": "7"},
            "status": {"podIPs": [{"ip": "10.0.0"}, {"ip": "fd00::1"}], "podIP": "10.0.0"}}));
        assert_eq!((pod.version(), pod.name().to_string().as_str()), ("7", "x/a"));
        assert_eq!(pod.into_pod().addresses, ["fd00::1".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn a_policy_that_cannot_be_understood_isolates_and_allows_nothing() {
        let policy = |selector: Value| {
            item(json!({"metadata": {"namespace": "x", "name": "p"}, "spec": {
                "podSelector": selector, "policyTypes": ["Ingress", "Egress"],
                "ingress": [{}], "egress": [{"to": [{}]}]}}))
            .into_policy()
        };
        let (read, notes) = policy(json!({"matchLabels": {"app": "a"}}));
        assert_eq!((read.pods.0.len(), notes.len()), (1, 1), "{notes:?}");
        assert!(read.ways.iter().all(|way| way.as_ref().is_some_and(|rules| rules.len() == 1)));
        let newer = json!({"matchExpressions": [{"key": "k", "operator": "Like"}]});
        let (read, notes) = policy(newer);
        assert_eq!((read.pods, notes.len()), (Selector::default(), 2), "{notes:?}");
        assert_eq!(read.ways, [Some(Vec::new()), Some(Vec::new())]);
        // What would be taken for nothing.
        let broken = json!({"metadata": {"namespace": "x", "name": "p"}, "spec": {"ingress": [5]}});
        let (read, notes) = item(broken).into_policy();
        assert_eq!((read.name.name.as_str(), notes.len()), ("p", 1), "{notes:?}");
        assert_eq!(read.ways, [Some(Vec::new()), Some(Vec::new())]);
        serde_json::from_value::<Item>(json!({"metadata": {}})).unwrap_err();
    }
}
