// SPDX-License-Identifier: Apache-2.0
//! The plugin under test, and nodes to run it on.
//!
//! Every rule makes its own node: a namespace, a store directory and a network
//! configuration that the plugin must accept. What is known here of particular
//! plugins is only the keys without which they make no usable network.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::harness::{Host, Plugin, Pod};
use crate::ipam::ScriptIpam;
use crate::rule::{Stop, Verdict, ensure};

/// The versions of the specification, oldest first.
pub const VERSIONS: [&str; 7] = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// The network of every configuration.
pub const NETWORK: &str = "conformance";

/// The v4 pool of every configuration.
pub const SUBNET: &str = "10.244.7.0/24";

/// The v6 pool of a dual-stack configuration.
pub const SUBNET6: &str = "2001:db8:7::/64";

/// The plugin under test.
#[derive(Clone, Debug)]
pub struct Suite {
    /// The binary.
    pub binary: PathBuf,
    /// The `type` of the IPAM plugin.
    pub ipam: String,
    /// Where delegates are.
    pub delegates: Vec<PathBuf>,
    /// Keys that every configuration gets besides.
    pub extra: Value,
    /// The plugin is manx, so that its own promises are tested too.
    pub own: bool,
}

impl Suite {
    /// The plugin's `type`: the name of its binary.
    pub fn kind(&self) -> String {
        self.binary.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// A file among the delegates.
    pub fn find(&self, name: &str) -> Option<PathBuf> {
        self.delegates.iter().map(|dir| dir.join(name)).find(|path| path.is_file())
    }

    /// A node without any link, that has addresses to speak from.
    pub fn node(&self) -> Node {
        let host = Host::new();
        for address in ["192.0.2.11/32", "2001:db8::11/128"] {
            host.command("ip", &["address", "add", address, "dev", "lo"]).ok();
        }
        self.node_on(host)
    }

    /// A network on this host.
    pub fn node_on(&self, host: Host) -> Node {
        let data = host.scratch().dir("ipam");
        let scripts = host.scratch().dir("bin");
        let mut conf = json!({
            "cniVersion": "1.1.0",
            "name": NETWORK,
            "type": self.kind(),
            "ipam": ipam(&self.ipam, &data, &[SUBNET]),
        });
        for (key, value) in self.extra.as_object().into_iter().flatten() {
            conf[key] = value.clone();
        }
        let path = [scripts.clone()].into_iter().chain(self.delegates.clone());
        let plugin = Plugin::new(&host, &self.binary).path(path).config(conf);
        let before = veths(&host);
        let pool = self.ipam != "static";
        Node { host, plugin, data, scripts, before, ipam: self.ipam.clone(), pool }
    }
}

/// Keys that a plugin known by name needs to make a network in which the node
/// reaches its pods.
pub fn template(kind: &str) -> Value {
    match kind {
        "bridge" => json!({"isGateway": true, "ipMasqBackend": "nftables"}),
        "ptp" => json!({"ipMasqBackend": "nftables"}),
        _ => json!({}),
    }
}

/// An `ipam` section with one range set per subnet and a default route for each
/// family.
fn ipam(kind: &str, data: &Path, subnets: &[&str]) -> Value {
    if kind == "static" {
        return json!({
            "type": kind,
            "addresses": [{"address": "10.244.7.2/24", "gateway": "10.244.7.1"}],
            "routes": [{"dst": "0.0.0.0/0"}],
        });
    }
    let ranges: Vec<Value> = subnets.iter().map(|subnet| json!([{"subnet": subnet}])).collect();
    let routes: Vec<Value> = subnets
        .iter()
        .map(|subnet| json!({"dst": if subnet.contains(':') { "::/0" } else { "0.0.0.0/0" }}))
        .collect();
    json!({"type": kind, "dataDir": data, "ranges": ranges, "routes": routes})
}

/// One network on one node.
#[derive(Clone, Debug)]
pub struct Node {
    /// Where the plugin runs.
    pub host: Host,
    /// The plugin with a configuration of version 1.1.0.
    pub plugin: Plugin,
    data: PathBuf,
    scripts: PathBuf,
    ipam: String,
    before: BTreeSet<String>,
    pool: bool,
}

impl Node {
    /// The plugin with a configuration of another version.
    pub fn version(&self, version: &str) -> Plugin {
        self.plugin.clone().with("cniVersion", version.into())
    }

    /// The plugin with other pools.
    pub fn subnets(&self, subnets: &[&str]) -> Plugin {
        self.plugin.clone().with("ipam", ipam(&self.ipam, &self.data, subnets))
    }

    /// Another network on the same node, with the same store directory.
    pub fn other_network(&self) -> Plugin {
        let other = self.subnets(&["10.245.7.0/24"]).with("name", "other".into());
        // Of two bridge networks each has its own bridge, if it is told so.
        if self.plugin.conf["type"] == "bridge" {
            other.with("bridge", "cni1".into())
        } else {
            other
        }
    }

    /// The same node with an IPAM script in place of a real IPAM plugin.
    pub fn scripted(&self) -> (Plugin, ScriptIpam) {
        let ipam = ScriptIpam::new(self.host.scratch(), &self.scripts, "script-ipam");
        (self.plugin.clone().with("ipam", json!({"type": "script-ipam"})), ipam)
    }

    /// Ends the test unless the IPAM plugin hands out addresses from a pool.
    pub fn needs_pool(&self) -> Verdict {
        if self.pool {
            return Ok(());
        }
        Err(Stop::Skip(format!("{} has no pool of addresses", self.ipam)))
    }

    /// The addresses that a network holds in host-local's store.
    pub fn leases_of(&self, network: &str) -> BTreeSet<String> {
        let entries = fs::read_dir(self.data.join(network)).into_iter().flatten().flatten();
        entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| name.parse::<IpAddr>().is_ok())
            .collect()
    }

    /// An address and what its file in the store says of its holder.
    fn held(&self, address: &str) -> String {
        let holder = fs::read_to_string(self.data.join(NETWORK).join(address)).unwrap_or_default();
        match holder.split_whitespace().collect::<Vec<_>>().join(" ").as_str() {
            "" => format!("{address} by nobody (an empty file)"),
            holder => format!("{address} by {holder}"),
        }
    }

    /// The addresses that the network holds.
    pub fn leases(&self) -> BTreeSet<String> {
        self.leases_of(NETWORK)
    }

    /// The veth links that came to the node since the test began.
    pub fn veths(&self) -> BTreeSet<String> {
        veths(&self.host).difference(&self.before).cloned().collect()
    }

    /// Whether the node has a route to exactly this address.
    pub fn host_route(&self, address: &str) -> bool {
        let family = if address.contains(':') { "-6" } else { "-4" };
        self.host.routes(family).iter().any(|route| route["dst"] == address)
    }

    /// Ends the test if anything of an attachment is left: its link, a veth of
    /// the node, an address.
    pub fn clean(&self, pod: &Pod) -> Verdict {
        ensure!(pod.netns.link(&pod.ifname).is_none(), "{} is left in the pod", pod.ifname);
        let veths = self.veths();
        ensure!(veths.is_empty(), "{veths:?} are left on the node");
        let leases: Vec<String> = self.leases().into_iter().map(|ip| self.held(&ip)).collect();
        ensure!(leases.is_empty(), "addresses are left allocated: {}", leases.join(", "));
        Ok(())
    }

    /// Ends the test unless the attachment works: the link is up in the pod,
    /// carries the result's addresses, and the node reaches them.
    pub fn alive(&self, pod: &Pod, result: &Value) -> Verdict {
        let link = pod.netns.link(&pod.ifname);
        ensure!(link.is_some(), "{} is not in the pod", pod.ifname);
        for address in addresses(result) {
            let here = pod.netns.addresses(&pod.ifname);
            ensure!(
                here.iter().any(|have| bare(have) == address),
                "{} has {here:?}, the result says {address}",
                pod.ifname
            );
            ensure!(self.host.pings(&address), "the node does not reach {address}");
        }
        Ok(())
    }
}

fn veths(host: &Host) -> BTreeSet<String> {
    list(&host.ip(&["link", "show"]))
        .filter(|link| link["linkinfo"]["info_kind"] == "veth")
        .filter_map(|link| Some(link["ifname"].as_str()?.to_owned()))
        .collect()
}

/// The addresses of a result in any version, without prefix lengths.
pub fn addresses(result: &Value) -> Vec<String> {
    let new = result["ips"].as_array().into_iter().flatten().map(|ip| &ip["address"]);
    let old = ["ip4", "ip6"].map(|family| &result[family]["ip"]);
    new.chain(old).filter_map(Value::as_str).map(|text| bare(text).to_owned()).collect()
}

/// An address without its prefix length.
pub fn bare(cidr: &str) -> &str {
    cidr.split_once('/').map_or(cidr, |(address, _)| address)
}

/// The elements of a JSON array; none for anything else.
pub fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
