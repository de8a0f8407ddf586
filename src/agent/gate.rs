// SPDX-License-Identifier: Apache-2.0
//! When pods may come: the configuration of the container runtime is written once this
//! node can serve them.
//!
//! A runtime that finds a configuration starts pods at once, and a kubelet tells the
//! cluster that the node is ready. So the file is put in place when this node has its
//! podCIDR and all that every peer needs is made, and it is not taken away again: pods
//! could not be removed without it. It outlives a boot, and the kernel's routes do not: so
//! that it is there says nothing, and the agent is ready after a pass of its own.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::{Map, Value, json};

use super::{calico::Delegate, options::Options, plugin::Installed, status::Status};
use crate::{
    conf::PLUGIN_TYPES,
    fabric::{list, nodes::form_of},
    list::Gather,
    net::Socket,
    node::{
        apply::{Report, apply},
        changes::Source,
        configured::Networks,
        conflist::{DIRECTORY, files, names_us, objects},
    },
    state::{
        Root,
        file::{PEERS_BYTES_MAX, TEXT_BYTES_MAX},
        read, readable_directory, replace, replace_synced,
    },
};

/// What is put in place, and where.
pub(crate) struct Gate {
    root: Root,
    node: String,
    /// As plugins have it in their configuration.
    peers_file: PathBuf,
    /// Else the usual one.
    conflist: Option<Value>,
    /// Where Calico's IPAM plugin gives out addresses.
    delegate: Option<Delegate>,
    /// Where network policies are enforced, whether they are by now.
    policies: Option<Arc<Status>>,
    /// By which pods come.
    plugin: Arc<Installed>,
    target: PathBuf,
    /// Where it lies before: the node is made ready by it.
    staged: PathBuf,
}

/// Whether pods may come.
pub(crate) enum Outcome {
    /// They may, by the network of this name, if a pass was whole since the agent was
    /// started: `passed` tells that this was one.
    Open { network: String, passed: bool },
    /// They may not, for this reason; the pass that was made, if it came to that.
    Closed(String, Option<Box<Report>>),
}

impl Gate {
    /// Of this configuration, or the usual one.
    pub(crate) fn new(
        options: &Options,
        conflist: Option<Value>,
        delegate: Option<Delegate>,
        plugin: Arc<Installed>,
    ) -> Self {
        let Options { root, node, peers_file, conflist_name, .. } = options;
        Self {
            root: root.clone(),
            node: node.clone(),
            peers_file: peers_file.clone(),
            conflist,
            delegate,
            policies: None,
            plugin,
            target: root.path(DIRECTORY).join(conflist_name),
            staged: root.runtime().join(".agent").join(conflist_name),
        }
    }

    /// The same where network policies are enforced: pods come by a configuration that says so
    /// once what they may do is known.
    pub(crate) fn enforcing(mut self, status: &Arc<Status>) -> Self {
        self.policies = Some(Arc::clone(status));
        self
    }

    /// Makes the node ready for pods, and lets them come if it is.
    pub(crate) fn attempt(&self) -> Outcome {
        let closed = |reason: String| Outcome::Closed(reason, None);
        let pods = match self.own_pod_cidrs() {
            Err(reason) => return closed(reason),
            // A block is taken with the first pod.
            Ok(pods) if pods.is_empty() && self.delegate.is_none() => {
                return closed(format!("node {} has no podCIDR yet", self.node));
            }
            Ok(pods) => pods,
        };
        let mut conflist = match &self.delegate {
            None => self.conflist.clone().unwrap_or_else(|| usual(&self.peers_file, &pods)),
            Some(delegate) => {
                let given = self.conflist.as_ref();
                match delegate.complete(given, &self.peers_file, &self.target) {
                    Ok(conflist) => conflist,
                    Err(reason) => return closed(reason),
                }
            }
        };
        if self.policies.is_some() {
            enforce(&mut conflist);
        }
        let text = format!("{conflist:#}\n");
        let network = conflist.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        if read(&self.target, TEXT_BYTES_MAX).is_ok_and(|held| held == text.as_bytes()) {
            return Outcome::Open { network, passed: false };
        }
        // Pods that came by it before would all be closed.
        if let Some(reason) = self.policies.as_ref().and_then(|status| status.unenforced()) {
            return closed(reason);
        }
        match self.pass(&text) {
            Err(reason) => closed(reason),
            Ok((Some(reason), report)) => Outcome::Closed(reason, Some(Box::new(report))),
            Ok((None, _)) => {
                let unfit = self.of_plugin().filter(|_| !self.is_in_place());
                match unfit.map_or_else(|| self.place(&text), Err) {
                    Ok(()) => Outcome::Open { network, passed: true },
                    Err(reason) => closed(reason),
                }
            }
        }
    }

    /// How often something else was wanted of the configuration than before.
    pub(crate) fn wishes(&self) -> u64 {
        let wishes = self.delegate.as_ref().map_or(0, |delegate| delegate.wish.changes());
        let enforced = |status: &Arc<Status>| status.unenforced().is_none();
        wishes + u64::from(self.policies.as_ref().is_some_and(enforced))
    }

    /// Whether that is there which gives out addresses.
    pub(crate) fn is_supplied(&self) -> bool {
        self.delegate.as_ref().is_none_or(Delegate::is_supplied)
    }

    /// Whether the container runtime has a configuration of this name.
    pub(crate) fn is_in_place(&self) -> bool {
        self.target.exists()
    }

    /// The network of the configuration that is in place, or of another of ours where that
    /// cannot be used: pods may have come by it.
    pub(crate) fn held(&self) -> Option<String> {
        let networks = Networks::read(&self.root, Some(&self.target));
        let networks = networks.or_else(|_| Networks::read(&self.root, None)).ok()?;
        networks.all.first().map(|network| network.name().to_owned())
    }

    /// The configuration that the container runtime takes instead, if there is one. One that
    /// hands on to others, as Multus does, is meant to come first.
    pub(crate) fn hidden_by(&self) -> Option<PathBuf> {
        let first = files(self.target.parent()?).ok()?.into_iter().next()?;
        let serves = |bytes: &[u8]| names_us(bytes) || hands_on(bytes);
        let serves =
            first == self.target || read(&first, TEXT_BYTES_MAX).is_ok_and(|bytes| serves(&bytes));
        (!serves).then_some(first)
    }

    /// The podCIDRs that the peers file gives to this node.
    pub(crate) fn own_pod_cidrs(&self) -> Result<Vec<String>, String> {
        let path = self.root.path(&self.peers_file);
        let bytes = read(&path, PEERS_BYTES_MAX).map_err(|error| {
            format!("the cluster's nodes are not known yet: {}: {error}", path.display())
        })?;
        list::pod_cidrs(&bytes, &self.node)
            .map(|(own, _)| own)
            .ok_or_else(|| format!("{} does not have node {}", path.display(), self.node))
    }

    /// Why the plugin cannot serve pods.
    fn of_plugin(&self) -> Option<String> {
        let held = read(&self.root.path(&self.peers_file), PEERS_BYTES_MAX).unwrap_or_default();
        self.plugin.known().hindrance(form_of(&held))
    }

    /// A pass by the configuration that is not in place yet; what is wanting of it for all.
    fn pass(&self, text: &str) -> Result<(Option<String>, Report), String> {
        let staged = || -> std::io::Result<()> {
            if let Some(directory) = self.staged.parent() {
                crate::state::directory(directory)?;
            }
            replace(&self.staged, text.as_bytes())
        };
        staged().map_err(|error| format!("write {}: {error}", self.staged.display()))?;
        let networks = Networks::read(&self.root, Some(&self.staged));
        let networks = networks.map_err(|error| error.to_string())?;
        let socket = Socket::open();
        let mut socket = socket.map_err(|error| error.to_string())?;
        let report = apply(&networks, &mut socket, Source::FileOrLast);
        let report = report.map_err(|error| error.to_string())?;
        let wanting = networks.all.iter().find_map(|network| report.hindrance(network.name()));
        Ok((wanting, report))
    }

    fn place(&self, text: &str) -> Result<(), String> {
        let write = || -> std::io::Result<()> {
            if let Some(directory) = self.target.parent() {
                readable_directory(directory)?;
            }
            replace_synced(&self.target, text.as_bytes())
        };
        let target = self.target.display();
        write().map_err(|error| format!("write {target}: {error}"))?;
        log::info!("{target} is written: pods may come");
        Ok(())
    }
}

/// Pods get an address of each family that the node has pods of.
fn usual(peers_file: &Path, pods: &[String]) -> Value {
    let of_family = |ipv6: bool| pods.iter().any(|cidr| cidr.contains(':') == ipv6);
    let families = [(false, "usePodCidr"), (true, "usePodCidrIPv6")];
    let families = families.into_iter().filter(|(ipv6, _)| of_family(*ipv6));
    let ranges: Vec<Value> = families.map(|(_, subnet)| json!([{"subnet": subnet}])).gather();
    json!({
        "cniVersion": "1.0.0",
        "cniVersions": ["1.0.0", "1.1.0"],
        "name": "manx",
        "plugins": [
            {
                "type": "manx",
                "peersFile": peers_file,
                "ipMasq": true,
                "capabilities": {"io.kubernetes.cri.pod-annotations": true},
                "ipam": {"type": "manx-ipam", "ranges": ranges}
            },
            {"type": "portmap", "snat": true, "capabilities": {"portMappings": true}}
        ]
    })
}

/// Lets our plugins of a configuration enforce network policies.
fn enforce(conflist: &mut Value) {
    let plugins = conflist.get_mut("plugins").and_then(Value::as_array_mut);
    for plugin in plugins.into_iter().flatten().filter_map(Value::as_object_mut) {
        let kind = plugin.get("type").and_then(Value::as_str).unwrap_or_default();
        if PLUGIN_TYPES.contains(&kind) {
            plugin.insert("networkPolicy".to_owned(), "enforce".into());
        }
    }
}

/// Whether a configuration names others to be called.
fn hands_on(bytes: &[u8]) -> bool {
    let Ok(Value::Object(document)) = serde_json::from_slice(bytes) else { return false };
    let keys = ["delegates", "clusterNetwork"];
    let names = |plugin: &&Map<String, Value>| {
        keys.iter().any(|key| plugin.contains_key(*key))
            || plugin
                .get("type")
                .and_then(Value::as_str)
                .is_some_and(|kind| kind.contains("multus"))
    };
    objects(&document).iter().any(names)
}

impl Drop for Gate {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.staged);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_that_hands_on_names_others() {
        for (text, expected) in [
            (r#"{"type": "multus-shim", "name": "m"}"#, true),
            (r#"{"type": "x", "delegates": [{"type": "manx"}]}"#, true),
            (r#"{"name": "k8s-pod-network", "plugins": [{"type": "calico"}]}"#, false),
            ("{", false),
        ] {
            assert_eq!(hands_on(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn the_usual_configuration_has_the_families_that_the_node_has() {
        for (pods, subnets) in [
            (&["10.244.1.0/24"][..], &["usePodCidr"][..]),
            (&["fd00:1::/64"], &["usePodCidrIPv6"]),
            (&["fd00:1::/64", "10.244.1.0/24"], &["usePodCidr", "usePodCidrIPv6"]),
        ] {
            let pods: Vec<String> = pods.iter().copied().map(String::from).collect();
            let conflist = usual(Path::new("/var/lib/manx/peers.json"), &pods);
            let ranges = conflist["plugins"][0]["ipam"]["ranges"].as_array().unwrap();
            let has: Vec<&Value> = ranges.iter().map(|range| &range[0]["subnet"]).collect();
            assert_eq!(has, subnets);
            assert_eq!(conflist["plugins"][0]["peersFile"], "/var/lib/manx/peers.json");
        }
    }

    #[test]
    fn only_our_plugins_are_told_to_enforce_network_policies() {
        let mut conflist = usual(Path::new("/p"), &["10.244.1.0/24".to_owned()]);
        enforce(&mut conflist);
        let said = |place: usize| conflist["plugins"][place].get("networkPolicy").cloned();
        assert_eq!((said(0), said(1)), (Some(json!("enforce")), None));
    }
}
