// SPDX-License-Identifier: Apache-2.0
//! The agent's own configuration: what the cluster's nodes have in common.

use std::{io::ErrorKind, path::Path};

use ipnetwork::IpNetwork;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::options::Options;
use crate::{
    cni::cidr,
    conf::{FabricPart, PLUGIN_TYPES, Unknown},
    state::{file::TEXT_BYTES_MAX, read},
    text::json,
};

/// The configuration.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Config {
    /// What the peers file is to say of the fabric.
    pub(crate) fabric: FabricPart,
    /// Where all pods are, if that is said.
    pub(crate) cluster_cidrs: Option<Vec<IpNetwork>>,
    /// What the container runtime gets, if that is said.
    pub(crate) conflist: Option<Value>,
    /// Who gives out addresses, if the other nodes are Calico's.
    pub(crate) calico: Option<Ipam>,
}

/// Who gives out addresses where other nodes run Calico.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Ipam {
    /// Calico's own, out of its blocks.
    CalicoIpam,
    /// Each node, out of its podCIDRs.
    HostLocal,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    #[serde(default)]
    fabric: Map<String, Value>,
    #[serde(default, rename = "clusterCIDRs")]
    cluster_cidrs: Option<Vec<String>>,
    #[serde(default)]
    conflist: Option<Map<String, Value>>,
    #[serde(default)]
    calico: Option<Ipam>,
}

impl Config {
    /// Reads the configuration of an agent.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence.
    pub(crate) fn read(options: &Options) -> Result<Self, String> {
        let path = options.config_path();
        let bytes = match read(&path, TEXT_BYTES_MAX) {
            Err(error) if error.kind() == ErrorKind::NotFound && options.config.is_none() => {
                Ok(b"{}".to_vec())
            }
            outcome => outcome.map_err(|error| error.to_string()),
        };
        let mode = options.mode.as_deref();
        let config = bytes.and_then(|bytes| Self::parse(&bytes, mode, &options.peers_file));
        let config = config.and_then(|config| match options.network_policy {
            true => config.enforcing(),
            false => Ok(config),
        });
        config.map_err(|error| format!("configuration {}: {error}", path.display()))
    }

    fn parse(bytes: &[u8], mode: Option<&str>, peers_file: &Path) -> Result<Self, String> {
        let mut file: File = json::read(bytes).map_err(|error| error.to_string())?;
        if let Some(mode) = mode {
            file.fabric.insert("mode".to_owned(), mode.into());
        }
        let (fabric, complaints, unknown) = FabricPart::of_file(&file.fabric);
        if let Some(complaint) = complaints.first() {
            return Err(complaint.error.to_string());
        }
        if let Some(Unknown { section, key, meant }) = unknown.first() {
            let hint = meant.map(|meant| format!(": did you mean {meant}?")).unwrap_or_default();
            return Err(format!("there is no key {section}.{key}{hint}"));
        }
        let said = ["mode", "crossSubnet"].into_iter().find(|key| fabric.gives(key));
        if let Some(key) = said.filter(|_| file.calico.is_some()) {
            return Err(format!("fabric.{key} is what Calico's IPPools say: leave it out"));
        }
        let is_none = |other: &FabricPart| fabric.excludes(other) || other.way() == fabric.way();
        if fabric.accepts().is_some_and(is_none) {
            return Err("fabric.accepts is of the same device as fabric, or of the same vni and \
                 port, and the kernel has one of both"
                .to_owned());
        }
        let cluster_cidrs = file.cluster_cidrs.map(|texts| {
            let parsed = texts.iter().map(|text| cidr::parse(text));
            parsed.collect::<Result<Vec<_>, _>>()
        });
        let cluster_cidrs =
            cluster_cidrs.transpose().map_err(|error| format!("clusterCIDRs: {error}"))?;
        if let Some(conflist) = &file.conflist {
            require_peers_file(conflist, peers_file)?;
        }
        let conflist = file.conflist.map(Value::Object);
        Ok(Self { fabric, cluster_cidrs, conflist, calico: file.calico })
    }
}

impl Config {
    /// The same where network policies are enforced.
    fn enforcing(self) -> Result<Self, String> {
        let plugins = self.conflist.as_ref().and_then(|conflist| conflist.get("plugins"));
        let mut plugins = plugins.and_then(Value::as_array).into_iter().flatten();
        let is_off = plugins.any(|plugin| plugin.get("networkPolicy") == Some(&"off".into()));
        match is_off {
            true => Err("networkPolicy of its conflist is off, and --network-policy enforces it: \
                         leave one of them out"
                .to_owned()),
            false => Ok(self),
        }
    }
}

/// Pods would be given addresses by another list than the one that is kept.
fn require_peers_file(conflist: &Map<String, Value>, peers_file: &Path) -> Result<(), String> {
    let text = |plugin: &Value, key: &str| plugin.get(key)?.as_str().map(str::to_owned);
    let plugins = conflist.get("plugins").and_then(Value::as_array).into_iter().flatten();
    let is_ours = |plugin: &&Value| {
        text(plugin, "type").is_some_and(|kind| PLUGIN_TYPES.contains(&kind.as_str()))
    };
    let mut ours = plugins.filter(is_ours);
    let plugin = ours.next().ok_or("no plugin of its conflist is of type manx")?;
    let named = text(plugin, "peersFile");
    if named.as_deref().map(Path::new) != Some(peers_file) {
        let peers_file = peers_file.display();
        return Err(format!(
            "peersFile of its conflist is to be {peers_file}, which the agent writes, and is {}",
            named.as_deref().unwrap_or("not there")
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(value: &Value) -> Result<Config, String> {
        Config::parse(value.to_string().as_bytes(), None, Path::new("/var/lib/manx/peers.json"))
    }

    fn conflist(peers_file: &str) -> Value {
        json!({"cniVersion": "1.0.0", "name": "pods", "plugins": [
            {"type": "portmap"}, {"type": "manx", "peersFile": peers_file}]})
    }

    #[test]
    fn what_nodes_have_in_common_is_read() {
        let config = parse(&json!({
            "fabric": {"mode": "vxlan"},
            "clusterCIDRs": ["10.244.0.0/16", "fd00::/48"],
            "conflist": conflist("/var/lib/manx/peers.json")
        }));
        let config = config.unwrap();
        assert_eq!(config.fabric.encode(), json!({"mode": "vxlan"}));
        assert_eq!(config.cluster_cidrs.unwrap().len(), 2);
        assert!(config.conflist.is_some());
        for (word, ipam) in [("calico-ipam", Ipam::CalicoIpam), ("host-local", Ipam::HostLocal)] {
            assert_eq!(parse(&json!({"calico": word})).unwrap().calico, Some(ipam));
        }
        let list = parse(&json!([{}, []])).unwrap_err();
        assert!(list.contains("invalid type: sequence"), "{list}");
        let empty = parse(&json!({})).unwrap();
        assert!(empty.fabric.is_empty() && empty.cluster_cidrs.is_none());
    }

    #[test]
    fn an_option_says_the_mode_and_no_file_is_needed() {
        let options = |arguments: &[&str]| {
            let arguments = ["--root", "/nonexistent"].iter().chain(arguments);
            Options::read(arguments.map(Into::into), None).unwrap().unwrap()
        };
        let config = Config::read(&options(&["--mode", "ipip"])).unwrap();
        assert_eq!(config.fabric.encode(), json!({"mode": "ipip"}));
        assert!(Config::read(&options(&[])).unwrap().fabric.is_empty());
        let said = Config::read(&options(&["--mode", "warp"])).unwrap_err();
        assert!(said.contains("fabric.mode"), "{said}");
        let said = Config::read(&options(&["--config", "/nonexistent/agent.json"])).unwrap_err();
        assert!(said.contains("No such file"), "{said}");
        let both = Config::parse(
            b"{\"fabric\": {\"mode\": \"vxlan\", \"mtu\": 1400}}",
            Some("ipip"),
            Path::new("/x"),
        );
        assert_eq!(both.unwrap().fabric.encode(), json!({"mode": "ipip", "mtu": 1400}));
    }

    #[test]
    fn network_policies_are_not_enforced_and_off_at_once() {
        let enforcing = |word: &str| {
            let mut conflist = conflist("/var/lib/manx/peers.json");
            conflist["plugins"][1]["networkPolicy"] = json!(word);
            parse(&json!({"conflist": conflist})).unwrap().enforcing()
        };
        assert!(enforcing("enforce").is_ok());
        assert!(enforcing("off").unwrap_err().contains("--network-policy"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (value, words) in [
            (json!(7), "invalid type"),
            (json!({"fabrik": {}}), "unknown field"),
            (json!({"fabric": {"mode": "warp"}}), "fabric.mode"),
            (json!({"fabric": {"mtuu": 1400}}), "did you mean mtu"),
            (json!({"clusterCIDRs": ["10.0.0.0"]}), "prefix length"),
            (json!({"calico": "ipam"}), "unknown variant"),
            (json!({"calico": "calico-ipam", "fabric": {"mode": "ipip"}}), "fabric.mode"),
            (json!({"conflist": {"plugins": []}}), "no plugin of its conflist"),
            (json!({"conflist": conflist("/etc/manx/peers.json")}), "/etc/manx/peers.json"),
        ] {
            let said = parse(&value).unwrap_err();
            assert!(said.contains(words), "{value}: {said}");
        }
    }
}
