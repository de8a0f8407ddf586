// SPDX-License-Identifier: Apache-2.0
//! The condition NetworkUnavailable of this node's Node, for whoever asks for it.
//!
//! Where it is True no pod is scheduled to the node, and nobody clears it but who set it: a
//! node that comes here from another network, or whose cloud has routes of its own, may
//! keep it for ever (CalicoIsDown, NoRouteCreated). Once pods may come it is set to False,
//! and it is looked at again, for others may set it again. It is never set to True: a node
//! whose agent is away serves its pods.

use std::{convert::Infallible, sync::Arc, time::Duration};

use k8s_openapi::jiff::Timestamp;
use kube::{
    Client, Error,
    api::{Patch, PatchParams},
    core::Request,
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::{
    backoff::{Backoff, part_of},
    connect::{Access, SILENCE, SILENT, UNANSWERED, chain},
    metrics::Api,
    nodes::PATH,
    own,
    status::Status,
};

const KIND: &str = "NetworkUnavailable";
const REASON: &str = "ManxIsReady";
const MESSAGE: &str = "manx serves pods on this node";
/// How often to look whether pods may come.
const SOON: Duration = Duration::from_secs(1);
/// How often to look whether somebody has set it to something else, and up to a fifth more.
const LOOK: Duration = Duration::from_secs(300);
const RETRY: Duration = Duration::from_secs(2);
const RETRY_MAX: Duration = Duration::from_secs(120);

#[derive(Debug, Deserialize)]
struct Node {
    #[serde(default)]
    status: NodeStatus,
}

#[derive(Debug, Default, Deserialize)]
struct NodeStatus {
    #[serde(default)]
    conditions: Option<Vec<Condition>>,
}

#[derive(Debug, Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    #[serde(default)]
    reason: Option<String>,
}

/// Keeps the condition of the node of this name, and comes to no end.
pub(crate) async fn keep(access: Access, node: String, status: Arc<Status>) -> Infallible {
    let mut backoff = Backoff::new(RETRY, RETRY_MAX);
    let mut said = String::new();
    loop {
        if status.unready().is_some() {
            sleep(SOON).await;
            continue;
        }
        match look(&access, &node, &status.api()).await {
            Ok(()) => {
                backoff.reset();
                said.clear();
                sleep(LOOK + part_of(LOOK / 5)).await;
            }
            Err(words) => {
                if words != said {
                    log::warn!("the condition {KIND} of Node {node} is not set: {words}");
                    said = words;
                }
                sleep(backoff.failed(Duration::ZERO)).await;
            }
        }
    }
}

/// Looks at the condition, and sets it where it is something else.
async fn look(access: &Access, node: &str, api: &Api) -> Result<(), String> {
    let client = access.client(UNANSWERED).await?;
    let asked = timeout(SILENCE, own::listed::<Node>(&client, node)).await;
    api.answered("list", &asked);
    let held = asked.map_err(|_| SILENT.to_owned())?.map_err(|error| refused(&error))?;
    let Some(held) = held else {
        return Err("the API server does not have this Node".to_owned());
    };
    let conditions = held.status.conditions.unwrap_or_default();
    let Some(before) = wanting(&conditions) else { return Ok(()) };
    let patched = timeout(SILENCE, set(&client, node)).await;
    api.answered("patch", &patched);
    patched.map_err(|_| SILENT.to_owned())?.map_err(|error| refused(&error))?;
    log::info!("Node {node}: {KIND} is False now ({before}): pods may be scheduled");
    Ok(())
}

/// What the condition was, where it has to be set.
fn wanting(conditions: &[Condition]) -> Option<String> {
    let Some(held) = conditions.iter().find(|condition| condition.kind == KIND) else {
        return Some("there was none".to_owned());
    };
    let reason = held.reason.as_deref().unwrap_or_default();
    (held.status != "False").then(|| format!("it was {}, {reason}", held.status))
}

async fn set(client: &Client, node: &str) -> Result<(), Error> {
    let patch = Patch::Strategic(patch(Timestamp::now()));
    let request = Request::new(PATH).patch_subresource("status", node, &params(), &patch);
    client.request::<Value>(request.map_err(Error::BuildRequest)?).await.map(|_| ())
}

fn params() -> PatchParams {
    PatchParams { field_manager: Some("manx-agent".to_owned()), ..PatchParams::default() }
}

/// Conditions are merged by their types.
fn patch(now: Timestamp) -> Value {
    let whole = Timestamp::from_second(now.as_second()).unwrap_or_default().to_string();
    json!({"status": {"conditions": [{
        "type": KIND, "status": "False", "reason": REASON, "message": MESSAGE,
        "lastHeartbeatTime": whole, "lastTransitionTime": whole,
    }]}})
}

fn refused(error: &Error) -> String {
    match error {
        Error::Api(status) if status.code == 403 => format!(
            "the API server answers 403: {}; conf/kubernetes/components/condition has the role \
             that allows it",
            status.message
        ),
        other => chain(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conditions(list: Value) -> Vec<Condition> {
        let node: Node = serde_json::from_value(json!({"status": {"conditions": list}})).unwrap();
        node.status.conditions.unwrap_or_default()
    }

    #[test]
    fn the_condition_is_set_where_it_is_not_false() {
        let ready = json!({"type": "Ready", "status": "True", "reason": "KubeletReady"});
        let of = |status: &str| json!([ready, {"type": KIND, "status": status, "reason": "CalicoIsDown"}]);
        for (list, words) in [
            (json!(null), Some("there was none")),
            (json!([ready]), Some("there was none")),
            (of("True"), Some("it was True, CalicoIsDown")),
            (of("Unknown"), Some("it was Unknown, CalicoIsDown")),
            // Somebody else's False is as good.
            (of("False"), None),
            (json!([{"type": KIND, "status": "False"}]), None),
        ] {
            assert_eq!(wanting(&conditions(list.clone())).as_deref(), words, "{list}");
        }
    }

    #[test]
    fn one_condition_is_written_and_nothing_else() {
        let patch = patch(Timestamp::from_second(1_764_201_600).unwrap());
        let conditions = patch["status"]["conditions"].as_array().unwrap();
        assert_eq!(conditions.len(), 1);
        assert_eq!(conditions[0]["lastTransitionTime"], "2025-11-27T00:00:00Z");
        assert_eq!(
            (patch.as_object().unwrap().len(), patch["status"].as_object().unwrap().len()),
            (1, 1)
        );
    }

    #[test]
    fn the_status_of_this_nodes_node_is_patched() {
        let patch = Patch::Strategic(json!({}));
        let asked = Request::new(PATH).patch_subresource("status", "n1", &super::params(), &patch);
        let asked = asked.unwrap();
        assert_eq!(
            (asked.method().as_str(), asked.uri().path()),
            ("PATCH", "/api/v1/nodes/n1/status")
        );
    }
}
