// SPDX-License-Identifier: Apache-2.0
//! This node's own Node, asked for before all others.
//!
//! Agents of many nodes that are started together ask for the list of all one after the
//! other. Meanwhile pods get addresses by the peers file of before. Where this node was
//! registered anew in the meantime, these are of a podCIDR that may be another node's by now,
//! so that such a node does not wait.

use std::time::Duration;

use ipnetwork::IpNetwork;
use kube::{Client, Error, api::ListParams, core::Request};
use serde::{Deserialize, de::DeserializeOwned};
use tokio::time::timeout;

use super::{
    connect::{Access, UNANSWERED},
    metrics::Api,
    nodes::{Nodes, Object, PATH},
    watched::Kind,
};
use crate::list::Gather;

/// For no longer than others wait for their turn.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Deserialize)]
struct List<T> {
    items: Vec<T>,
}

/// Whether the Node of this name has podCIDRs that are not those of the file that is there.
/// Not where that cannot be told.
pub(crate) async fn has_moved(access: &Access, name: &str, held: &[IpNetwork], api: &Api) -> bool {
    let asked = async {
        let client = access.client(UNANSWERED).await;
        let client = client.map_err(|words| Error::Service(words.into()))?;
        listed::<Object>(&client, name).await
    };
    let answer = timeout(PATIENCE, asked).await;
    api.answered("list", &answer);
    let Ok(Ok(Some(node))) = answer else { return false };
    let node = Nodes::value(node);
    let pods: Vec<IpNetwork> = node.pod_cidrs.iter().filter_map(|text| text.parse().ok()).gather();
    let moved = !pods.is_empty() && pods.iter().any(|cidr| !held.contains(cidr));
    if moved {
        log::info!("Node {name} has other podCIDRs than before: the list is asked for at once");
    }
    moved
}

/// The Node of this name, from a list of one, which the right to list allows.
pub(super) async fn listed<T: DeserializeOwned>(
    client: &Client,
    name: &str,
) -> Result<Option<T>, Error> {
    let params = ListParams::default().fields(&format!("metadata.name={name}")).match_any();
    let request = Request::new(PATH).list(&params).map_err(Error::BuildRequest)?;
    let list: List<T> = client.request(request).await?;
    Ok(list.items.into_iter().next())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        agent::server::{Answer, Server},
        net::{Socket, link},
    };

    fn list(items: &Value) -> Answer {
        let list = json!({"kind": "NodeList", "apiVersion": "v1", "metadata": {}, "items": items});
        Answer::json(&list)
    }

    #[test]
    fn a_node_that_was_registered_anew_is_known_by_its_own_node() {
        let _ = Socket::open().unwrap().apply(&[link::set_up("lo")]);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let path = std::env::temp_dir().join(format!("manx-own-{}", std::process::id()));
        let node =
            |cidrs: &[&str]| json!([{"metadata": {"name": "n1"}, "spec": {"podCIDRs": cidrs}}]);
        for (answer, moved) in [
            (list(&node(&["10.0.1.0/24", "fd00:1::/64"])), false),
            (list(&node(&["10.0.7.0/24", "fd00:1::/64"])), true),
            (list(&node(&[])), false),
            (list(&json!([])), false),
            (Answer::refusal(500, "ill"), false),
        ] {
            let server = Server::start(vec![answer]);
            let kubeconfig = json!({"current-context": "c",
                "clusters": [{"name": "c", "cluster": {"server": server.url()}}],
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": ""}}]});
            std::fs::write(&path, kubeconfig.to_string()).unwrap();
            let access = Access { kubeconfig: Some(path.clone()) };
            let held = ["10.0.1.0/24", "fd00:1::/64"].map(|text| text.parse().unwrap());
            let told = runtime.block_on(has_moved(&access, "n1", &held, &Api::default()));
            assert_eq!(told, moved, "{:?}", server.requests());
            let asked = server.requests().concat();
            assert!(asked.contains("fieldSelector=metadata.name%3Dn1"), "{asked}");
            assert!(asked.contains("resourceVersion=0"), "{asked}");
        }
        std::fs::remove_file(&path).unwrap();
    }
}
