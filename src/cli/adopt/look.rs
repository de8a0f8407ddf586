// SPDX-License-Identifier: Apache-2.0
//! Looks at this node, and changes nothing.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use nix::unistd::gethostname;
use serde_json::Value;

use super::{
    cache::{self, Cached},
    ends, firewall,
    found::{BRIDGE, proxy_arp},
    programs,
    site::{Former, NodeObject, Ours, Site},
};
use crate::{
    cli::{Args, Failure, doctor::look},
    cni::json::{field, member},
    list::{Gather, Ordered},
    net::sysctl,
    node::{File, conflist},
    state::{
        Root,
        file::{TEXT_BYTES_MAX, read_own, read_text},
    },
};

/// The type of our plugin; under Calico's own name it serves Calico's configuration.
const OURS: &str = "manx";

/// Processes that have flannel in themselves, and the configuration that they write then.
const K3S: &[&str] = &["k3s-server", "k3s-agent", "k3s"];
const OF_K3S: &str = "/var/lib/rancher/k3s/agent/etc/cni/net.d/10-flannel.conflist";

/// Where kubelets keep how they reach the API server.
const KUBECONFIGS: [&str; 3] = [
    "/etc/kubernetes/kubelet.conf",
    "/var/lib/kubelet/kubeconfig",
    "/var/lib/rancher/k3s/agent/kubelet.kubeconfig",
];

/// # Errors
/// Of the kernel's answers.
pub(super) fn site(former: Former, args: &Args) -> Result<Site, Failure> {
    let root = args.root();
    crate::node::require_readable(&root)?;
    let directory = directory(args, &root);
    let files = files(&directory);
    let named = args.value("conf").map(PathBuf::from);
    let first = || {
        let is_ours = |file: &&File| file.plugins.iter().any(|kind| kind == OURS);
        files.iter().find(is_ours).map(|file| file.path.clone())
    };
    let (ours, config) = match named.or_else(first) {
        Some(path) => {
            let (document, config) = conflist::plugin(&path)?;
            let (network, ipam) = (config.name.clone(), document.ipam().clone());
            let serves_sources = config.sources_served;
            let real = fs::canonicalize(&path).ok();
            let is_same =
                |file: &&File| real.is_some() && fs::canonicalize(&file.path).ok() == real;
            let listed = files.iter().find(is_same).map(|file| file.path.clone());
            (Some(Ours { path, listed, network, ipam, serves_sources }), Some(config))
        }
        None => (None, None),
    };
    let conf = ours.as_ref().map(|ours| ours.path.as_path());
    let snapshot = look::of_network(args, conf)?;
    let links = &snapshot.kernel.links;
    let mut cached = cached(&root);
    let ends = ends::ends(links, &cached)?;
    cached.iter_mut().for_each(|cached| cached.find_link(&ends, links));
    Ok(Site {
        former,
        cached,
        ends,
        firewall: firewall::read(former, config.as_ref()),
        programs: programs::read(former, links, &root)?,
        snapshot,
        ours,
        directory,
        files,
        agents: agents(former, &root),
        proxy_arp: sysctl::read(&proxy_arp(BRIDGE)).is_ok_and(|value| value == "1"),
        node: node(args, &root),
    })
}

/// Where runtimes look for configurations.
fn directory(args: &Args, root: &Root) -> PathBuf {
    let named = args.value("conf-dir").map(PathBuf::from);
    named.unwrap_or_else(|| root.path(conflist::DIRECTORY))
}

fn files(directory: &Path) -> Vec<File> {
    let paths = conflist::files(directory).unwrap_or_default();
    paths.iter().map(|path| look::file_at(path)).gather()
}

/// The attachments that libcni noted.
fn cached(root: &Root) -> Vec<Cached> {
    let directory = root.path(cache::DIRECTORY);
    let mut paths: Vec<PathBuf> =
        fs::read_dir(directory).into_iter().flatten().flatten().map(|file| file.path()).gather();
    paths.order();
    let read = |path: &PathBuf| cache::parse(&read_own(path, TEXT_BYTES_MAX).ok()?);
    paths.iter().filter_map(read).gather()
}

/// The processes of the agent that are in the node's network. K3s has flannel in itself,
/// and writes its configuration where it runs it.
fn agents(former: Former, root: &Root) -> Vec<(u32, String)> {
    let inside = (former == Former::Flannel && root.path(OF_K3S).exists()).then_some(K3S);
    let names = [former.agents(), inside.unwrap_or_default()].concat();
    let namespace = |pid: &str| {
        let data = fs::metadata(format!("/proc/{pid}/ns/net")).ok()?;
        Some((data.dev(), data.ino()))
    };
    let own = namespace("self");
    let mut found: Vec<(u32, String)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
            let name = read_text(Path::new(&format!("/proc/{pid}/comm")), TEXT_BYTES_MAX).ok()?;
            let name = name.trim().to_owned();
            let is_one = names.contains(&name.as_str()) && namespace(&pid.to_string()) == own;
            is_one.then_some((pid, name))
        })
        .gather();
    found.order();
    found
}

/// Asks the API server with the kubelet's own rights, by kubectl.
fn node(args: &Args, root: &Root) -> Result<NodeObject, String> {
    let name = match args.value("node") {
        Some(name) => name.to_string_lossy().into_owned(),
        None => gethostname().unwrap_or_default().to_string_lossy().to_ascii_lowercase(),
    };
    let known = KUBECONFIGS.into_iter().map(|path| root.path(path)).find(|path| path.is_file());
    let config = known.ok_or("this node has no kubelet's kubeconfig")?;
    let mut command = Command::new("kubectl");
    command.arg("--kubeconfig").arg(&config);
    command.args(["--request-timeout=5s", "get", "node", &name, "-o", "json"]);
    let done =
        command.stdin(Stdio::null()).output().map_err(|error| format!("kubectl: {error}"))?;
    if !done.status.success() {
        return Err(format!("kubectl: {}", String::from_utf8_lossy(&done.stderr).trim()));
    }
    parse(&done.stdout, name).ok_or_else(|| "kubectl printed no node".to_owned())
}

pub(super) fn parse(json: &[u8], name: String) -> Option<NodeObject> {
    let node: Value = serde_json::from_slice(json).ok()?;
    let conditions = member(member(&node, "status")?, "conditions").and_then(Value::as_array);
    let text = |value: &Value, key| member(value, key).and_then(Value::as_str).map(str::to_owned);
    let unavailable = conditions.into_iter().flatten().find(|one| {
        text(one, "type").as_deref() == Some("NetworkUnavailable")
            && text(one, "status").as_deref() == Some("True")
    });
    let spec = member(&node, "spec")?.as_object()?;
    Some(NodeObject {
        name,
        unavailable: unavailable.map(|one| text(one, "reason").unwrap_or_default()),
        cordoned: field(spec, "unschedulable").and_then(Value::as_bool).unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_tells_whether_its_network_is_unavailable() {
        let of = |status: &str| {
            let condition =
                json!({"type": "NetworkUnavailable", "status": status, "reason": "CalicoIsDown"});
            let node =
                json!({"spec": {"unschedulable": true}, "status": {"conditions": [condition]}});
            parse(node.to_string().as_bytes(), "a".to_owned()).unwrap()
        };
        let down = NodeObject {
            name: "a".to_owned(),
            unavailable: Some("CalicoIsDown".to_owned()),
            cordoned: true,
        };
        assert_eq!(of("True"), down);
        assert_eq!(of("False").unavailable, None);
        assert_eq!(parse(b"{}", String::new()), None);
    }
}
