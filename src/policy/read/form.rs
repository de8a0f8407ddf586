//! Objects as they stand in the text: the fields that count, and no others.

use serde::Deserialize;
use serde_json::Value;

use super::super::Labels;

#[derive(Deserialize)]
pub(super) struct List {
    pub(super) kind: String,
    pub(super) items: Vec<Item>,
}

/// Of any kind.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Item {
    /// Not where all of a list are of one.
    #[serde(default)]
    pub(super) kind: String,
    pub(super) metadata: Metadata,
    #[serde(default)]
    pub(super) spec: Spec,
    #[serde(default)]
    pub(super) status: Status,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Metadata {
    pub(super) name: String,
    pub(super) namespace: Option<String>,
    pub(super) uid: Option<String>,
    pub(super) labels: Option<Labels>,
    pub(super) annotations: Option<Annotations>,
    pub(super) creation_timestamp: Option<String>,
    pub(super) deletion_timestamp: Option<String>,
    #[cfg(feature = "agent")]
    #[serde(default)]
    pub(super) resource_version: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Annotations {
    /// What a node knows a pod by that no API server gave it: the object is but an image of it.
    #[serde(rename = "kubernetes.io/config.mirror")]
    pub(super) mirror: Option<String>,
}

/// That of a Pod, and that of a NetworkPolicy: no field has the name of another's.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Spec {
    pub(super) node_name: Option<String>,
    pub(super) host_network: Option<bool>,
    pub(super) containers: Option<Vec<Container>>,
    pub(super) init_containers: Option<Vec<Container>>,
    pub(super) pod_selector: Option<Selector>,
    pub(super) policy_types: Option<Vec<String>>,
    pub(super) ingress: Option<Vec<Rule>>,
    pub(super) egress: Option<Vec<Rule>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Container {
    pub(super) ports: Option<Vec<ContainerPort>>,
    pub(super) restart_policy: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ContainerPort {
    pub(super) name: Option<String>,
    pub(super) protocol: Option<String>,
    pub(super) container_port: u16,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Status {
    pub(super) phase: Option<String>,
    #[serde(rename = "podIP")]
    pub(super) pod_ip: Option<String>,
    #[serde(rename = "podIPs")]
    pub(super) pod_ips: Option<Vec<PodAddress>>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct PodAddress {
    pub(super) ip: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Selector {
    pub(super) match_labels: Option<Labels>,
    pub(super) match_expressions: Option<Vec<Expression>>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Expression {
    pub(super) key: String,
    pub(super) operator: String,
    pub(super) values: Option<Vec<String>>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Rule {
    pub(super) from: Option<Vec<Peer>>,
    pub(super) to: Option<Vec<Peer>>,
    pub(super) ports: Option<Vec<Port>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Peer {
    pub(super) pod_selector: Option<Selector>,
    pub(super) namespace_selector: Option<Selector>,
    pub(super) ip_block: Option<Block>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Block {
    pub(super) cidr: String,
    pub(super) except: Option<Vec<String>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Port {
    pub(super) protocol: Option<String>,
    /// A number, or a name.
    pub(super) port: Option<Value>,
    pub(super) end_port: Option<Value>,
}
