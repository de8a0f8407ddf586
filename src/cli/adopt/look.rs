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
    chains,
    found::{BRIDGE, proxy_arp},
    site::{Backend, Former, NodeObject, Ours, Rules, Site},
};
use crate::{
    cli::{Args, Failure, doctor::look},
    cni::json::{field, member},
    family::Family,
    net::{Namespace, sysctl},
    node::{File, conflist},
    state::{
        Root,
        file::{TEXT_BYTES_MAX, read_own, read_text},
    },
};

/// The type of our plugin; under Calico's own name it serves Calico's configuration.
const OURS: &str = "manx";

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
    let files = files(&root);
    let named = args.value("conf").map(PathBuf::from);
    let first = || {
        let is_ours = |file: &&File| file.plugins.iter().any(|kind| kind == OURS);
        files.iter().find(is_ours).map(|file| file.path.clone())
    };
    let ours = match named.or_else(first) {
        Some(path) => {
            let (document, config) = conflist::plugin(&path)?;
            let ipam = document.ipam().clone();
            Some(Ours { path, network: config.name, ipam })
        }
        None => None,
    };
    let conf = ours.as_ref().map(|ours| ours.path.as_path());
    Ok(Site {
        former,
        snapshot: look::of_network(args, conf)?,
        ours,
        files,
        cached: cached(&root),
        rules: rules(former),
        tables: if former == Former::Calico { own_tables() } else { Vec::new() },
        agents: agents(former.agents()),
        proxy_arp: sysctl::read(&proxy_arp(BRIDGE)).is_ok_and(|value| value == "1"),
        node: node(args, &root),
    })
}

fn files(root: &Root) -> Vec<File> {
    let paths = conflist::files(&root.path(conflist::DIRECTORY)).unwrap_or_default();
    paths.iter().map(|path| look::file_at(path)).collect()
}

/// The attachments that libcni noted, with what the kernel has of their namespaces.
fn cached(root: &Root) -> Vec<Cached> {
    let directory = root.path(cache::DIRECTORY);
    let mut paths: Vec<PathBuf> =
        fs::read_dir(directory).into_iter().flatten().flatten().map(|file| file.path()).collect();
    paths.sort_unstable();
    let parsed =
        paths.iter().filter_map(|path| cache::parse(&read_own(path, TEXT_BYTES_MAX).ok()?));
    parsed
        .map(|mut cached| {
            if let Ok(netns) = Namespace::open(&cached.entry.netns) {
                let identity = netns.identity();
                cached.entry.netns_identity = (identity.device, identity.inode);
                cached.alive = true;
            }
            cached
        })
        .collect()
}

/// The programs of each backend. The plain name is either's.
fn rules(former: Former) -> Vec<Rules> {
    let mut found = Vec::new();
    for family in Family::BOTH {
        let tool = format!("{}tables", family.word());
        for backend in [Backend::Nft, Backend::Legacy] {
            // Its tool would load the kernel's module.
            let names = format!("/proc/net/{}_tables_names", family.word());
            let in_use = || read_text(Path::new(&names), TEXT_BYTES_MAX).unwrap_or_default();
            if backend == Backend::Legacy && in_use().trim().is_empty() {
                continue;
            }
            let own = match backend {
                Backend::Nft => format!("{tool}-nft"),
                Backend::Legacy => format!("{tool}-legacy"),
            };
            let text = [own, tool.clone()].into_iter().find_map(|tool| {
                let text = saved(&format!("{tool}-save"), backend)?;
                Some((tool, text))
            });
            let Some((tool, text)) = text else { continue };
            let left = chains::left(&text, former.marks());
            if !left.is_empty() {
                found.push(Rules { backend, family, left, restore: format!("{tool}-restore") });
            }
        }
    }
    found
}

/// What a tool prints, if it is of that backend.
fn saved(tool: &str, backend: Backend) -> Option<String> {
    let version = output(Command::new(tool).arg("--version"))?;
    let is_nft = version.contains("nf_tables");
    (is_nft == (backend == Backend::Nft)).then(|| output(&mut Command::new(tool)))?
}

fn output(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Those of Felix where it does without iptables.
fn own_tables() -> Vec<(String, String)> {
    let text = output(Command::new("nft").args(["list", "tables"])).unwrap_or_default();
    let words = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let table = |words: Vec<&str>| match words[..] {
        ["table", family, "calico"] => Some((family.to_owned(), "calico".to_owned())),
        _ => None,
    };
    words.filter_map(table).collect()
}

/// The processes of these names that are in the node's network, as its agents are.
fn agents(names: &[&str]) -> Vec<(u32, String)> {
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
        .collect();
    found.sort_unstable();
    found
}

/// Asks the API server with the kubelet's own rights, by kubectl.
fn node(args: &Args, root: &Root) -> Result<NodeObject, String> {
    let name = match args.value("node") {
        Some(name) => name.to_string_lossy().into_owned(),
        None => gethostname().unwrap_or_default().to_string_lossy().to_lowercase(),
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

fn parse(json: &[u8], name: String) -> Option<NodeObject> {
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
