// SPDX-License-Identifier: Apache-2.0
//! A network of manx on a node of namespaces, and what is left of it.

use std::fs;
use std::ops::Deref;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::harness::{Host, Netns, Plugin, Pod, plugin_dir};

/// The name of the network.
pub(crate) const NAME: &str = "net";
/// The IPv4 next hop of every pod.
pub(crate) const GATEWAY: &str = "169.254.1.1";
/// The IPv6 next hop of every pod: the link-local address of [`HOST_MAC`].
pub(crate) const GATEWAY_IPV6: &str = "fe80::ecee:eeff:feee:eeee";
/// The MAC address of every host link.
pub(crate) const HOST_MAC: &str = "ee:ee:ee:ee:ee:ee";

/// manx with one configuration, on one node.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    plugin: Plugin,
    /// The other end of the node's uplink, which lives as long as this does.
    _outside: Option<Netns>,
}

impl Network {
    /// An IPv4 network on a node with an uplink.
    pub(crate) fn new() -> Self {
        let (host, outside) = Host::with_uplink();
        // Else the uplink's own link-local address and its routes appear some
        // time later, in the midst of a comparison.
        host.command("ip", &["link", "set", "eth0", "addrgenmode", "none"]).ok();
        host.command("ip", &["-6", "address", "flush", "dev", "eth0", "scope", "link"]).ok();
        Self { _outside: Some(outside), ..Self::on(&host) }
    }

    /// An IPv4 network on this node.
    pub(crate) fn on(host: &Host) -> Self {
        Self::of_binary(host, env!("CARGO_BIN_EXE_manx"))
    }

    /// The same with another name for the binary.
    pub(crate) fn of_binary(host: &Host, binary: impl Into<PathBuf>) -> Self {
        let plugin = Plugin::new(host, binary.into()).config(json!({
            "cniVersion": "1.1.0",
            "name": NAME,
            "type": "manx",
        }));
        Self { plugin, _outside: None }.ranges(&["10.1.0.0/24"])
    }

    /// The same with both families.
    pub(crate) fn dual(self) -> Self {
        self.ranges(&["10.1.0.0/24", "fd00:1::/64"])
    }

    /// The same with host-local and these subnets, one address from each.
    pub(crate) fn ranges(self, subnets: &[&str]) -> Self {
        let ranges: Vec<Value> = subnets.iter().map(|net| json!([{"subnet": net}])).collect();
        self.ipam(json!({"type": "host-local", "ranges": ranges}))
    }

    /// The same with this `ipam` section; host-local's leases lie below the
    /// node's directory.
    pub(crate) fn ipam(self, mut ipam: Value) -> Self {
        if ipam["type"] == "host-local" {
            // To be told here what is missing, and not by every test in its own way.
            plugin_dir();
            ipam["dataDir"] = self.host().scratch().dir("leases").display().to_string().into();
        }
        self.with("ipam", ipam)
    }

    /// The same with a key added to the `ipam` section.
    pub(crate) fn with_ipam(self, key: &str, value: Value) -> Self {
        let mut ipam = self.plugin.conf["ipam"].clone();
        ipam[key] = value;
        self.with("ipam", ipam)
    }

    /// The same with one key changed; null removes it.
    pub(crate) fn with(self, key: &str, value: Value) -> Self {
        Self { plugin: self.plugin.with(key, value), ..self }
    }

    /// The same with an IPAM plugin that is this shell script. It finds the
    /// reference plugins in `$REFERENCE`, its own directory in `$HERE`, and
    /// notes each verb in a file (see [`Network::asked`]).
    pub(crate) fn script(self, body: &str) -> Self {
        let directory = self.host().scratch().dir("bin");
        let here = self.host().scratch().path().display().to_string();
        let reference = plugin_dir().display().to_string();
        let script = format!(
            "#!/bin/sh\nHERE={here}\nREFERENCE={reference}\n\
             echo \"$CNI_COMMAND\" >>$HERE/asked\n{body}\n"
        );
        self.host().scratch().script("bin/scripted", &script);
        let this = Self { plugin: self.plugin.clone().path([directory]), ..self };
        this.ipam(json!({"type": "scripted"}))
    }

    /// The same with an IPAM plugin that gives this result, always.
    pub(crate) fn gives(self, result: &Value) -> Self {
        let mut result = result.clone();
        result["cniVersion"] = "1.1.0".into();
        self.script(&format!(
            "cat >/dev/null\ntest $CNI_COMMAND != ADD || cat <<'END'\n{result}\nEND"
        ))
    }

    /// The same, called through a shell script that may arrange things before
    /// it replaces itself by `"$MANX"`.
    pub(crate) fn wrapped(self, body: &str) -> Self {
        let binary = self.host().scratch().script("wrapper", &format!("#!/bin/sh\n{body}\n"));
        let plugin = Plugin::new(self.host(), binary).config(self.plugin.conf.clone());
        Self { plugin: plugin.env("MANX", env!("CARGO_BIN_EXE_manx")), ..self }
    }

    /// The same network with one more variable.
    pub(crate) fn env(self, name: &str, value: &str) -> Self {
        Self { plugin: self.plugin.env(name, value), ..self }
    }

    /// The verbs that the scripted IPAM plugin was called for.
    pub(crate) fn asked(&self) -> Vec<String> {
        let text = fs::read_to_string(self.host().scratch().path().join("asked"));
        text.unwrap_or_default().lines().map(str::to_owned).collect()
    }

    /// The addresses that host-local holds, sorted.
    pub(crate) fn leases(&self) -> Vec<String> {
        let mut names = files(&self.host().scratch().path().join("leases").join(NAME));
        names.retain(|name| name != "lock" && !name.starts_with("last_reserved_ip"));
        names
    }

    /// A path below the directory that manx takes for `/`.
    pub(crate) fn root(&self, path: &str) -> PathBuf {
        self.host().scratch().path().join("root").join(path)
    }

    /// The journal's entries, sorted.
    pub(crate) fn journal(&self) -> Vec<String> {
        let mut names = files(&self.root("run/manx").join(NAME));
        names.retain(|name| !name.starts_with('.'));
        names
    }

    /// All that attachments leave on a node while they live, and must not
    /// after: to be compared before and after.
    pub(crate) fn remains(&self) -> Value {
        let routes = ["-4", "-6"].map(|family| {
            let mut all = lines(self.host(), &[family, "route", "show", "table", "all"]);
            // The kernel's own entries: a node has more once it forwards, and those
            // of a link-local address appear when they please.
            all.retain(|line| !line.contains("table local") && !line.starts_with("fe80::/64"));
            all
        });
        json!({
            "links": self.host().links(),
            "routes": routes,
            "neighbours": lines(self.host(), &["neighbour", "show", "nud", "permanent"]),
            "leases": self.leases(),
            "journal": self.journal(),
        })
    }
}

impl Deref for Network {
    type Target = Plugin;

    fn deref(&self) -> &Plugin {
        &self.plugin
    }
}

/// The lines that `ip ARGS` prints, with single spaces, sorted. Without the mark
/// that a route has until the kernel has told itself of a new link's carrier.
#[track_caller]
pub(crate) fn lines(netns: &Netns, args: &[&str]) -> Vec<String> {
    let said = netns.command("ip", args).ok();
    let words = |line: &str| {
        let words = line.split_whitespace().filter(|word| *word != "linkdown");
        words.collect::<Vec<_>>().join(" ")
    };
    let mut lines: Vec<String> = said.lines().map(words).collect();
    lines.sort();
    lines
}

/// The host link of an ADD's result.
#[track_caller]
pub(crate) fn host_link(result: &Value) -> String {
    text(&result["interfaces"][0]["name"])
}

/// The address of that position in an ADD's result, without its prefix length.
#[track_caller]
pub(crate) fn address(result: &Value, position: usize) -> String {
    let address = text(&result["ips"][position]["address"]);
    address.split('/').next().unwrap().to_owned()
}

/// A JSON string.
#[track_caller]
pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no string")).to_owned()
}

/// The same container under another CNI_CONTAINERID.
pub(crate) fn renamed(pod: &Pod, id: &str) -> Pod {
    Pod { id: id.into(), ..pod.clone() }
}

/// The names in a directory, sorted; none if it is not there.
fn files(directory: &std::path::Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
