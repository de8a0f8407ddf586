//! Objects that come one at a time, of a kind that is known. One that cannot be understood
//! keeps nobody from the others: of a pod it has no address then, and a policy isolates all
//! that it may be about.

use super::{form::Item, pod, policy};
use crate::{
    cni::cidr,
    policy::{Labels, Name, Pod, Policy, Selector},
};

impl Item {
    /// The name of the object in its namespace.
    pub(crate) fn name(&self) -> Name {
        let namespace = self.metadata.namespace.clone().unwrap_or_default();
        Name { namespace, name: self.metadata.name.clone() }
    }

    /// As of which version of the store it is so.
    pub(crate) fn version(&self) -> &str {
        &self.metadata.resource_version
    }

    /// The labels.
    pub(crate) fn into_labels(self) -> Labels {
        self.metadata.labels.unwrap_or_default()
    }

    /// The pod.
    pub(crate) fn into_pod(self) -> Pod {
        let name = self.name();
        let Self { metadata, spec, mut status, .. } = self;
        let is_address = |text: &str| cidr::parse_address(text).is_ok();
        status.pod_ip = status.pod_ip.filter(|text| is_address(text));
        status.pod_ips.iter_mut().for_each(|all| all.retain(|it| is_address(&it.ip)));
        pod(name.clone(), metadata, spec, status).unwrap_or_else(|_| Pod { name, ..Pod::default() })
    }

    /// The policy, and what of it could not be understood, a sentence each.
    pub(crate) fn into_policy(self) -> (Policy, Vec<String>) {
        let (name, mut spec, mut notes) = (self.name(), self.spec, Vec::new());
        let pods = spec.pod_selector.take();
        let mut read = policy(name.clone(), spec, &mut notes).unwrap_or_default();
        match super::selector(pods.unwrap_or_default()) {
            Ok(pods) => read.pods = pods,
            Err(problem) => {
                read.pods = Selector::default();
                read.ways.iter_mut().flatten().for_each(Vec::clear);
                let words = "all pods of its namespace are isolated, and it allows nothing";
                notes.push(format!("NetworkPolicy {name}: {problem}: {words}"));
            }
        }
        (read, notes)
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
    }
}
