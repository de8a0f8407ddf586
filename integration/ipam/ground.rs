// SPDX-License-Identifier: Apache-2.0
//! What the tests of this crate have in common: a node with a store of leases,
//! the programs that serve it, and what may be left in it.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{Call, DEADLINE, Finished, Host, Netns, Plugin, Pod, Stdin, plugin_dir, run};

/// The binary under test.
pub const MANX: &str = env!("CARGO_BIN_EXE_manx");

/// The network of all tests.
pub const NETWORK: &str = "net";

/// Our name as an IPAM plugin.
pub const MANX_IPAM: &str = "manx-ipam";

/// The two programs that serve one store.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Program {
    /// The binary under test, under the name that IPAM plugins are called by.
    Manx,
    /// The reference plugin.
    HostLocal,
}

/// A node with a store.
#[derive(Clone, Debug)]
pub struct Ground {
    pub host: Host,
    /// The namespace of containers for which nobody makes a link.
    nowhere: Netns,
    /// Where an uplink leads to, if there is one.
    _outside: Option<Netns>,
}

impl Ground {
    /// A node without an uplink.
    pub fn new() -> Self {
        Self::on(Host::new(), None)
    }

    /// A node with an uplink that keeps still: its link-local address and the
    /// routes of it would appear in the midst of a comparison.
    pub fn with_uplink() -> Self {
        let (host, outside) = Host::with_uplink();
        host.command("ip", &["link", "set", "eth0", "addrgenmode", "none"]).ok();
        host.command("ip", &["-6", "address", "flush", "dev", "eth0", "scope", "link"]).ok();
        Self::on(host, Some(outside))
    }

    fn on(host: Host, outside: Option<Netns>) -> Self {
        let link = host.scratch().dir("bin").join(MANX_IPAM);
        symlink(MANX, link).expect("a link to the binary");
        Self { host, nowhere: Netns::new(), _outside: outside }
    }

    /// An IPAM section for this store, with an address from each subnet.
    pub fn ipam(&self, subnets: &[&str]) -> Value {
        let ranges: Vec<Value> = subnets.iter().map(|subnet| json!([{"subnet": subnet}])).collect();
        self.ipam_of(json!(ranges))
    }

    /// An IPAM section for this store with these sets of ranges.
    pub fn ipam_of(&self, ranges: Value) -> Value {
        json!({"type": MANX_IPAM, "dataDir": self.data_dir(), "ranges": ranges})
    }

    /// An IPAM plugin by itself. host-local does not look at `ipam.type`.
    pub fn ipam_plugin(&self, program: Program, ipam: &Value) -> Plugin {
        let binary = match program {
            Program::Manx => self.bin().join(MANX_IPAM),
            Program::HostLocal => plugin_dir().join("host-local"),
        };
        Plugin::new(&self.host, binary).config(conf(ipam))
    }

    /// manx with this IPAM section.
    pub fn manx(&self, ipam: &Value) -> Plugin {
        Plugin::new(&self.host, MANX).config(conf(ipam))
    }

    /// The directory of [`MANX_IPAM`], for CNI_PATH.
    pub fn bin(&self) -> PathBuf {
        self.host.scratch().path().join("bin")
    }

    /// A container in name only: enough for an IPAM plugin by itself.
    pub fn container(&self, id: &str, ifname: &str) -> Pod {
        Pod { id: id.into(), netns: self.nowhere.clone(), ifname: ifname.into(), args: None }
    }

    /// `dataDir` of the sections.
    pub fn data_dir(&self) -> PathBuf {
        self.host.scratch().path().join("leases")
    }

    /// The store.
    pub fn store(&self) -> PathBuf {
        self.data_dir().join(NETWORK)
    }

    /// Everything in the store but its lock, with contents.
    pub fn files(&self) -> BTreeMap<String, String> {
        let files = fs::read_dir(self.store()).into_iter().flatten().flatten();
        let mut found: BTreeMap<String, String> = files
            .map(|file| {
                let name = file.file_name().into_string().expect("names are UTF-8");
                let content = fs::read_to_string(file.path())
                    .unwrap_or_else(|e| panic!("{name} is not readable: {e}"));
                (name, content)
            })
            .collect();
        found.remove("lock");
        found
    }

    /// The files of addresses, with contents.
    pub fn leases(&self) -> BTreeMap<String, String> {
        let mut files = self.files();
        files.retain(|name, _| name.parse::<IpAddr>().is_ok());
        files
    }

    /// Replaces a file of the store, as an editor does.
    pub fn put(&self, name: &str, content: &str) {
        self.write(".edited", content);
        fs::rename(self.store().join(".edited"), self.store().join(name)).unwrap();
    }

    /// Writes a file of the store, as somebody else would.
    pub fn write(&self, name: &str, content: &str) {
        fs::create_dir_all(self.store()).unwrap();
        fs::write(self.store().join(name), content).unwrap();
    }
}

fn conf(ipam: &Value) -> Value {
    json!({"cniVersion": "1.1.0", "name": NETWORK, "type": "manx", "ipam": ipam})
}

/// What a lease's file holds.
pub fn content(pod: &Pod) -> String {
    format!("{}\r\n{}", pod.id, pod.ifname)
}

/// The addresses of a result in the newest form, without their lengths.
pub fn addresses(result: &Value) -> Vec<String> {
    let ips = result["ips"].as_array().unwrap_or_else(|| panic!("no ips: {result}"));
    let address = |ip: &Value| Some(ip["address"].as_str()?.split('/').next()?.to_owned());
    ips.iter().map(|ip| address(ip).unwrap_or_else(|| panic!("no address: {ip}"))).collect()
}

/// The first address of a result.
pub fn address(result: &Value) -> String {
    addresses(result).remove(0)
}

/// Runs a call under strace with these arguments, in its plugin's host.
pub fn strace(host: &Host, call: &Call, args: &[&str]) -> Finished {
    let plain = call.command();
    let mut command = Command::new("strace");
    command.env_clear().args(args).arg(plain.get_program());
    for (name, value) in plain.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    let stdin = Stdin::Bytes(call.conf().to_string().into());
    host.enter(|| run(command, &stdin, DEADLINE))
}
