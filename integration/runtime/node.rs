// SPDX-License-Identifier: Apache-2.0
//! What the tests of this crate have in common: manx on a node, its IPAM
//! sections, and what of it may be left on the node.

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::harness::{Call, DEADLINE, Finished, Host, Netns, Plugin, Stdin, run};

/// The binary under test.
pub const MANX: &str = env!("CARGO_BIN_EXE_manx");

/// The network of most tests.
pub const NETWORK: &str = "net";

/// manx with the newest version and this IPAM section, and with the directory
/// of [`script`] before those of other delegates.
pub fn manx(host: &Host, ipam: &Value) -> Plugin {
    let scripts = host.scratch().dir("bin");
    let reference = std::env::var_os("CNI_PLUGIN_DIR").map(PathBuf::from);
    Plugin::new(host, MANX).path(Some(scripts).into_iter().chain(reference)).config(json!({
        "cniVersion": "1.1.0", "name": NETWORK, "type": "manx", "ipam": ipam,
    }))
}

/// An IPAM section of the real host-local, with its leases below the node's
/// directory.
pub fn host_local(host: &Host, subnets: &[&str]) -> Value {
    let ranges: Vec<Value> = subnets.iter().map(|subnet| json!([{"subnet": subnet}])).collect();
    json!({"type": "host-local", "dataDir": host.scratch().dir("leases"), "ranges": ranges})
}

/// An IPAM section of the real static plugin.
pub fn fixed(addresses: &[&str]) -> Value {
    let addresses: Vec<Value> = addresses.iter().map(|a| json!({"address": a})).collect();
    json!({"type": "static", "addresses": addresses})
}

/// Installs a plugin that is a shell script.
pub fn script(host: &Host, name: &str, body: &str) {
    host.scratch().dir("bin");
    host.scratch().script(&format!("bin/{name}"), &format!("#!/bin/sh\n{body}\n"));
}

/// The addresses that host-local holds, of all networks, sorted.
pub fn leases(host: &Host) -> Vec<String> {
    let files = files(&host.scratch().dir("leases"));
    let names = files.iter().filter_map(|path| path.file_name()?.to_str().map(String::from));
    let mut leases: Vec<String> = names.filter(|n| n.parse::<IpAddr>().is_ok()).collect();
    leases.sort();
    leases
}

/// The journal's entries of all networks.
pub fn journal(host: &Host) -> Vec<PathBuf> {
    let mut entries = files(&host.scratch().dir("root/run/manx"));
    entries.retain(|path| !path.file_name().unwrap().to_string_lossy().starts_with('.'));
    entries
}

/// Whatever attachments left on the node: links, routes, leases, journal.
pub fn remains(host: &Host) -> Vec<String> {
    let mut found: Vec<String> = host.links().into_iter().filter(|name| name != "eth0").collect();
    for family in ["-4", "-6"] {
        let routes = host.routes(family);
        let foreign = routes.iter().filter(|route| !matches!(device(route), "eth0" | "lo"));
        found.extend(foreign.map(|route| settled(route).to_string()));
    }
    found.extend(leases(host));
    found.extend(journal(host).iter().map(|path| path.display().to_string()));
    found
}

/// A route without its flags: `linkdown` goes a moment after a pod's link is up.
fn settled(route: &Value) -> Value {
    let mut route = route.clone();
    route.as_object_mut().map(|keys| keys.remove("flags"));
    route
}

fn device(route: &Value) -> &str {
    route["dev"].as_str().unwrap_or_default()
}

/// Asserts that nothing is left of any attachment.
#[track_caller]
pub fn assert_clean(host: &Host) {
    assert_eq!(remains(host), [""; 0], "left behind");
}

/// All files below a directory.
pub fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![directory.to_path_buf()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            let into = path.is_dir() && !path.is_symlink();
            if into { directories.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

/// The first address of a result in the newest form, without its length.
pub fn address(result: &Value) -> String {
    let cidr = result["ips"][0]["address"].as_str().unwrap_or_else(|| panic!("no ip: {result}"));
    cidr.split('/').next().unwrap().to_owned()
}

/// The source address that `server` sees when `client` connects to `address`
/// there; `None` if no connection comes about.
pub fn seen(client: &Netns, server: &Netns, address: &str) -> Option<IpAddr> {
    let address: IpAddr = address.parse().unwrap();
    let listener = server.enter(|| TcpListener::bind(SocketAddr::new(address, 0)).unwrap());
    let to = listener.local_addr().unwrap();
    let _stream = client.enter(|| TcpStream::connect_timeout(&to, DEADLINE)).ok()?;
    Some(listener.accept().unwrap().1.ip())
}

/// Runs the call under `strace` with these arguments; gives what strace wrote.
pub fn strace(host: &Host, call: &Call, args: &[&str]) -> (Finished, String) {
    let trace = host.scratch().path().join("trace");
    let plain = call.command();
    let mut command = std::process::Command::new("strace");
    command.env_clear().args(args).arg("-o").arg(&trace).arg(plain.get_program());
    for (name, value) in plain.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    let stdin = Stdin::Bytes(call.conf().to_string().into());
    let finished = host.enter(|| run(command, &stdin, DEADLINE));
    (finished, fs::read_to_string(&trace).expect("strace wrote its output"))
}
