// SPDX-License-Identifier: Apache-2.0
//! Objects of a cluster that say what pods may do, and that no table of ours is made of: what
//! they say has no effect under manx. NetworkPolicy of networking.k8s.io/v1 is the same under
//! any plugin.
//!
//! Kinds and their fields: Calico's API v3 (api/pkg/apis/projectcalico/v3), and
//! policy.networking.k8s.io.

use serde_json::Value;

use crate::list::Gather;

/// The API group of what is read.
pub(super) const OURS: &str = "networking.k8s.io";
/// Calico's, as its API server and as its custom resources have them.
const CALICO: [&str; 2] = ["projectcalico.org", "crd.projectcalico.org"];
/// What Calico's policies are sorted by of themselves, in any cluster.
const TIERS_OF_ALL: [&str; 4] =
    ["default", "adminnetworkpolicy", "baselineadminnetworkpolicy", "kube-baseline"];
/// An annotation of a namespace from before there was a kind for it.
const ISOLATION: &str = "net.beta.kubernetes.io/network-policy";

/// An object that would have no effect.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Unread {
    /// Its kind, namespace and name.
    pub object: String,
    /// What is lost with it.
    pub what: String,
    /// What says the same under manx, or who must do what.
    pub instead: &'static str,
}

/// What a list of objects comes to.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Unreads {
    /// How many policies of networking.k8s.io it has, which stay in force.
    pub read: usize,
    /// What would have no effect, in its order.
    pub unread: Vec<Unread>,
}

/// Looks through the text of a List of objects of any kinds.
///
/// # Errors
/// What keeps it from being one.
pub fn unread(text: &[u8]) -> Result<Unreads, String> {
    let list: Value = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let Some(items) = list.get("items").and_then(Value::as_array) else {
        return Err(format!("it is a {}, not a List", list.get("kind").unwrap_or(&Value::Null)));
    };
    let mut found = Unreads::default();
    for item in items {
        let text = |path: &str| item.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let (version, kind) = (text("/apiVersion"), text("/kind"));
        let group = group(version);
        if (group, kind) == (OURS, "NetworkPolicy") {
            found.read += 1;
        } else if let Some((what, instead)) = lost(item, group, kind) {
            let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
            let name = match namespace.is_empty() {
                true => name.to_owned(),
                false => format!("{namespace}/{name}"),
            };
            found.unread.push(Unread { object: format!("{kind} {name}"), what, instead });
        }
    }
    Ok(found)
}

/// The group of a version of the API; empty for the oldest one's.
pub(super) fn group(version: &str) -> &str {
    version.split_once('/').map_or("", |(group, _)| group)
}

/// What is lost of an object; `None` where nothing is.
fn lost(item: &Value, group: &str, kind: &str) -> Option<(String, &'static str)> {
    let spec = |field: &str| item.get("spec").and_then(|spec| spec.get(field));
    let name = item.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    let is_calicos = CALICO.contains(&group);
    let (what, instead) = match kind {
        "Namespace" => {
            item.pointer("/metadata/annotations")?.get(ISOLATION)?;
            ("its annotation isolates its pods", "a NetworkPolicy with an empty podSelector")
        }
        // What Calico makes of each NetworkPolicy of Kubernetes, or only rehearses.
        "NetworkPolicy" if is_calicos && name.starts_with("knp.") => return None,
        _ if kind.starts_with("Staged") => return None,
        "NetworkPolicy" if is_calicos => {
            let beyond = ["order", "tier", "serviceAccountSelector", "performanceHints"];
            let used: Vec<&str> = beyond.into_iter().filter(|it| spec(it).is_some()).gather();
            let what = match used.is_empty() {
                true => "a policy of Calico's own kind".to_owned(),
                false => format!("a policy of Calico's own kind, with {}", used.join(", ")),
            };
            let instead = "NetworkPolicy of networking.k8s.io/v1, which has no deny, no order and no \
                           tier: what it does not name is denied";
            return Some((what, instead));
        }
        "GlobalNetworkPolicy" if is_calicos => {
            let what = match () {
                () if is_true(spec("doNotTrack")) => "a policy before connection tracking",
                () if is_true(spec("preDNAT")) => "a policy before DNAT, for hosts",
                () if is_true(spec("applyOnForward")) => "a policy for hosts and what they forward",
                () => "a policy for all namespaces",
            };
            (
                what,
                "a NetworkPolicy in each namespace; what it says of hosts, a firewall of the host",
            )
        }
        "Tier" if is_calicos && !TIERS_OF_ALL.contains(&name) => {
            ("a tier that orders policies", "policies that do not depend on an order")
        }
        "NetworkSet" | "GlobalNetworkSet" if is_calicos => {
            ("networks that policies name by a label", "their CIDRs as ipBlock in each policy")
        }
        "HostEndpoint" if is_calicos => {
            ("a host's interface that policies are about", "a firewall of the host")
        }
        "FelixConfiguration" if is_calicos => {
            let action = spec("defaultEndpointToHostAction")?.as_str()?;
            if action.eq_ignore_ascii_case("accept") {
                return None;
            }
            let what = format!(
                "defaultEndpointToHostAction {action}: under manx a pod may always speak to its own \
                 node"
            );
            return Some((what, "rules in the hook input of the node's firewall"));
        }
        _ if group == "policy.networking.k8s.io" || group == "cilium.io" => {
            if !kind.ends_with("Policy") {
                return None;
            }
            return Some((
                format!("a policy of {group}, which manx does not read"),
                "a NetworkPolicy of networking.k8s.io/v1 in each namespace",
            ));
        }
        _ => return None,
    };
    Some((what.to_owned(), instead))
}

fn is_true(value: Option<&Value>) -> bool {
    value.and_then(Value::as_bool).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_only_others_read_is_told_with_what_to_write_instead() {
        let one = |version: &str, kind: &str, name: &str, spec: Value| json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec});
        let crd = "crd.projectcalico.org/v1";
        for (item, words) in [
            (one("networking.k8s.io/v1", "NetworkPolicy", "a", json!({})), None),
            (one(crd, "NetworkPolicy", "knp.default.a", json!({})), None),
            (one(crd, "StagedNetworkPolicy", "a", json!({})), None),
            (one(crd, "Tier", "default", json!({})), None),
            (one(crd, "IPPool", "pool", json!({})), None),
            (one("v1", "Pod", "a", json!({})), None),
            (
                one(
                    crd,
                    "FelixConfiguration",
                    "default",
                    json!({"defaultEndpointToHostAction": "ACCEPT"}),
                ),
                None,
            ),
            (
                one(crd, "NetworkPolicy", "a", json!({"order": 1, "tier": "x"})),
                Some("with order, tier"),
            ),
            (
                one("projectcalico.org/v3", "GlobalNetworkPolicy", "a", json!({"preDNAT": true})),
                Some("before DNAT"),
            ),
            (one(crd, "GlobalNetworkPolicy", "a", json!({})), Some("for all namespaces")),
            (one(crd, "Tier", "security", json!({})), Some("orders policies")),
            (one(crd, "NetworkSet", "a", json!({})), Some("by a label")),
            (one(crd, "GlobalNetworkSet", "a", json!({})), Some("by a label")),
            (one(crd, "HostEndpoint", "a", json!({})), Some("host's interface")),
            (
                one(
                    crd,
                    "FelixConfiguration",
                    "default",
                    json!({"defaultEndpointToHostAction": "Drop"}),
                ),
                Some("may always speak to its own node"),
            ),
            (
                one("policy.networking.k8s.io/v1alpha1", "AdminNetworkPolicy", "a", json!({})),
                Some("which manx does not read"),
            ),
            (one("cilium.io/v2", "CiliumNetworkPolicy", "a", json!({})), Some("of cilium.io")),
            (one("cilium.io/v2", "CiliumNode", "a", json!({})), None),
        ] {
            let found = unread(json!({"kind": "List", "items": [item]}).to_string().as_bytes());
            let found = found.unwrap().unread;
            match words {
                None => assert_eq!(found, [], "{item}"),
                Some(words) => assert!(found[0].what.contains(words), "{found:?}"),
            }
        }
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {
            "name": "shop", "annotations": {ISOLATION: "{\"ingress\": {}}"}}});
        let policy = one("networking.k8s.io/v1", "NetworkPolicy", "a", json!({}));
        let list = json!({"kind": "List", "items": [namespace, policy]}).to_string();
        let found = unread(list.as_bytes()).unwrap();
        assert_eq!((found.read, found.unread[0].object.as_str()), (1, "Namespace shop"));
        for text in ["[]", "{\"kind\": \"Pod\"}", "kind: List"] {
            assert!(unread(text.as_bytes()).is_err(), "{text}");
        }
    }
}
