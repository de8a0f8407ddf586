// SPDX-License-Identifier: Apache-2.0
//! The configuration of the container runtime where Calico's IPAM plugin gives out the
//! addresses. manx delegates to it, so that its blocks, its reservations and its garbage
//! collection go on as they are; without it no pod gets an address.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::{Map, Value, json};

use super::wish::{Wanted, Wish};
use crate::{
    conf::PLUGIN_TYPES,
    family::Family,
    list::Gather,
    state::{file::TEXT_BYTES_MAX, read},
};

/// The IPAM plugin.
pub(crate) const PLUGIN: &str = "calico-ipam";

/// What makes a configuration whole.
pub(crate) struct Delegate {
    pub(crate) node: String,
    /// Where the container runtime finds plugins.
    pub(crate) plugin_dir: PathBuf,
    /// By which the IPAM plugin asks the API server, as it is on the node.
    pub(crate) kubeconfig: PathBuf,
    /// The token of that, where the agent keeps it.
    pub(crate) token: Option<PathBuf>,
    pub(crate) wish: Arc<Wish>,
}

impl Delegate {
    /// Makes a configuration whole, or the usual one. `held` is the one that is in place.
    ///
    /// # Errors
    /// Why no pods may come yet.
    pub(crate) fn complete(
        &self,
        conflist: Option<&Value>,
        peers_file: &Path,
        held: &Path,
    ) -> Result<Value, String> {
        let wanted = match self.wish.get() {
            Some(wanted) => wanted,
            None => of_held(held).ok_or("Calico's pools are not known yet")?,
        };
        if let Some(words) = wanted.trouble {
            return Err(words);
        }
        self.require_plugin()?;
        self.require_token()?;
        let mut conflist = conflist.cloned().unwrap_or_else(|| usual(peers_file, &wanted.families));
        let plugins = conflist.get_mut("plugins").and_then(Value::as_array_mut);
        for plugin in plugins.into_iter().flatten().filter_map(Value::as_object_mut) {
            if is_ours(plugin) {
                self.fill_in(plugin, wanted.masquerade);
            }
        }
        Ok(conflist)
    }

    fn fill_in(&self, plugin: &mut Map<String, Value>, masquerade: bool) {
        let mut give = |key: &str, value: Value| {
            let _ = plugin.entry(key).or_insert(value);
        };
        give("ipMasq", masquerade.into());
        give("nodename", self.node.clone().into());
        give("datastore_type", "kubernetes".into());
        give("kubernetes", json!({"kubeconfig": self.kubeconfig}));
    }

    /// Whether the plugin and its token are there.
    pub(crate) fn is_supplied(&self) -> bool {
        self.require_plugin().and_then(|()| self.require_token()).is_ok()
    }

    fn require_plugin(&self) -> Result<(), String> {
        let path = self.plugin_dir.join(PLUGIN);
        let is_program = fs::metadata(&path)
            .is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0);
        if is_program {
            return Ok(());
        }
        Err(format!(
            "there is no {} on this node, which gives out the addresses of Calico's pools: Calico's \
             install-cni puts it there",
            path.display()
        ))
    }

    fn require_token(&self) -> Result<(), String> {
        match &self.token {
            Some(path) if !path.exists() => Err(format!(
                "there is no token for Calico's IPAM plugin yet ({}): the agent asks the API server \
                 for one",
                path.display()
            )),
            _ => Ok(()),
        }
    }
}

fn is_ours(plugin: &Map<String, Value>) -> bool {
    let kind = plugin.get("type").and_then(Value::as_str);
    kind.is_some_and(|kind| PLUGIN_TYPES.contains(&kind))
}

/// While the API server is away, what is in place holds.
fn of_held(held: &Path) -> Option<Wanted> {
    let held: Value = serde_json::from_slice(&read(held, TEXT_BYTES_MAX).ok()?).ok()?;
    let mut plugins = held.get("plugins")?.as_array()?.iter().filter_map(Value::as_object);
    let plugin = plugins.find(|plugin| is_ours(plugin))?;
    let assigns = |key: &str| plugin.get("ipam").and_then(|ipam| ipam.get(key)?.as_str());
    let families = [(Family::V4, "assign_ipv4"), (Family::V6, "assign_ipv6")];
    let families = families.into_iter().filter(|(_, key)| assigns(key) == Some("true"));
    Some(Wanted {
        masquerade: plugin.get("ipMasq").and_then(Value::as_bool).unwrap_or(false),
        families: families.map(|(family, _)| family).gather(),
        trouble: None,
    })
}

/// The network has the name that Calico's own has: by it and the container, Calico's IPAM
/// finds an address again. Its versions of the protocol end with 1.0.0.
fn usual(peers_file: &Path, families: &[Family]) -> Value {
    let assigns = |family: Family| families.contains(&family).to_string();
    json!({
        "cniVersion": "1.0.0",
        "name": "k8s-pod-network",
        "plugins": [
            {
                "type": "manx",
                "peersFile": peers_file,
                "capabilities": {"io.kubernetes.cri.pod-annotations": true},
                "ipam": {
                    "type": PLUGIN,
                    "assign_ipv4": assigns(Family::V4),
                    "assign_ipv6": assigns(Family::V6)
                }
            },
            {"type": "portmap", "snat": true, "capabilities": {"portMappings": true}}
        ]
    })
}

#[cfg(test)]
mod tests;
