// SPDX-License-Identifier: Apache-2.0
//! One node and nine pods of it, each a namespace, with addresses of both families.

use std::fs;
use std::net::IpAddr;

use serde_json::Value;

use crate::harness::{DEADLINE, Finished, Netns, Scratch, eventually};

pub const MANX: &str = env!("CARGO_BIN_EXE_manx");
/// The node whose pods all worlds have.
pub const NODE: &str = "node-a";
/// The last part of both addresses of each pod.
const PODS: std::ops::RangeInclusive<u8> = 10..=18;
const HOST_MAC: &str = "ee:ee:ee:ee:ee:ee";

pub struct Cluster {
    pub host: Netns,
    pub pods: Vec<Pod>,
    scratch: Scratch,
}

pub struct Pod {
    pub netns: Netns,
    pub addresses: [IpAddr; 2],
}

impl Cluster {
    pub fn new() -> Self {
        let (host, scratch) = (Netns::new(), Scratch::new());
        for family in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            host.set_sysctl(family, "1");
        }
        let pods = PODS.map(|number| Pod::new(number, &host, &scratch)).collect();
        Self { host, pods, scratch }
    }

    /// Where the binary keeps its state.
    pub fn root(&self) -> std::path::PathBuf {
        self.scratch.dir("root")
    }

    /// A file of its own.
    pub fn file(&self) -> String {
        self.scratch.path().join("killed.json").to_str().unwrap().to_owned()
    }

    /// Runs the binary on the node. WORLD stands for a file with that.
    pub fn manx(&self, args: &[&str], world: &Value) -> Finished {
        let (file, root) = (self.scratch.path().join("world.json"), self.root());
        fs::write(&file, world.to_string()).unwrap();
        let mut all = vec!["policy"];
        all.extend(args.iter().map(|arg| match *arg {
            "WORLD" => file.to_str().unwrap(),
            other => other,
        }));
        all.extend(["--root", root.to_str().unwrap()]);
        self.host.command(MANX, &all)
    }

    pub fn apply(&self, world: &Value) -> Finished {
        self.manx(&["apply", "WORLD", "--node", NODE], world)
    }

    /// The same with options.
    pub fn apply_with(&self, options: &[&str], world: &Value) -> Finished {
        self.manx(&[&["apply", "WORLD", "--node", NODE], options].concat(), world)
    }

    /// The same, and connections that are established stay.
    pub fn apply_and_keep(&self, world: &Value) -> Finished {
        self.apply_with(&["--keep-connections"], world)
    }

    /// The pod with that address.
    pub fn pod(&self, address: IpAddr) -> &Pod {
        self.pods.iter().find(|pod| pod.addresses.contains(&address)).unwrap()
    }
}

impl Pod {
    /// Neighbours are known beforehand, so that no packet waits for one.
    fn new(number: u8, host: &Netns, scratch: &Scratch) -> Self {
        let netns = Netns::new();
        let (v4, v6) = (format!("10.244.1.{number}"), format!("fd00:244:1::{number}"));
        let (link, mac) = (format!("cali{number}"), format!("02:00:00:00:00:{number}"));
        let path = netns.path();
        let outside = format!(
            "link add {link} address {HOST_MAC} type veth peer name eth0 address {mac} netns {}\n\
             link set {link} up\n\
             address add 169.254.1.1/32 dev {link}\n\
             address add fe80::1/64 dev {link} nodad\n\
             route add {v4}/32 dev {link}\n\
             route add {v6}/128 dev {link}\n\
             neigh add {v4} lladdr {mac} dev {link} nud permanent\n\
             neigh add {v6} lladdr {mac} dev {link} nud permanent\n",
            path.display()
        );
        let inside = format!(
            "link set eth0 up\n\
             address add {v4}/32 dev eth0\n\
             address add {v6}/128 dev eth0 nodad\n\
             route add default via 169.254.1.1 dev eth0 onlink\n\
             route add default via fe80::1 dev eth0 onlink\n\
             neigh add 169.254.1.1 lladdr {HOST_MAC} dev eth0 nud permanent\n\
             neigh add fe80::1 lladdr {HOST_MAC} dev eth0 nud permanent\n"
        );
        for (at, commands) in [(host, outside), (&netns, inside)] {
            let file = scratch.path().join("commands");
            fs::write(&file, commands).unwrap();
            at.command("ip", &["-batch", file.to_str().unwrap()]).ok();
        }
        let is_up = || host.command("ip", &["-o", "link", "show", &link]).ok().contains("state UP");
        assert!(eventually(DEADLINE, is_up), "{link} has no carrier");
        Self { netns, addresses: [v4.parse().unwrap(), v6.parse().unwrap()] }
    }
}
