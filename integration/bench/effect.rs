// SPDX-License-Identifier: Apache-2.0
//! What a verb has to have done, looked at outside of what is timed: after ADD
//! the links, the addresses, the routes and the leases are there, after DEL they
//! are gone. A plugin that answers and does nothing would be the fastest.
//!
//! It reads the kernel's own tables below /proc, for to start a program for each
//! question would disturb what is measured next.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::harness::Netns;

/// What an attachment consists of.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Attachment {
    pub host_link: String,
    pub pod_link: String,
    pub addresses: Vec<IpAddr>,
    /// Whether the node has a route to each address. A bridge needs none.
    pub is_routed: bool,
    /// The file of each address, for subjects that keep leases.
    pub leases: Vec<PathBuf>,
}

impl Attachment {
    /// What the result of an ADD says, of a plugin whose bridge has this name.
    ///
    /// # Errors
    /// What the result does not say.
    pub fn of_result(result: &Value, bridge: Option<&str>, leases: &Path) -> Result<Self, String> {
        let links = result["interfaces"].as_array().cloned().unwrap_or_default();
        let is_in_pod =
            |link: &Value| link["sandbox"].as_str().is_some_and(|path| !path.is_empty());
        let name = |link: &Value| link["name"].as_str().unwrap_or_default().to_owned();
        let pod_link = links.iter().find(|link| is_in_pod(link)).map(name);
        let host_link =
            links.iter().map(|link| (is_in_pod(link), name(link))).find_map(|(in_pod, name)| {
                (!in_pod && bridge.is_none_or(|bridge| bridge != name)).then_some(name)
            });
        let cidrs = result["ips"].as_array().into_iter().flatten();
        let addresses: Vec<IpAddr> = cidrs
            .filter_map(|ip| ip["address"].as_str()?.split('/').next()?.parse().ok())
            .collect();
        let (Some(host_link), Some(pod_link)) = (host_link, pod_link) else {
            return Err(format!("the result names no two links: {result}"));
        };
        if addresses.is_empty() {
            return Err(format!("the result has no address: {result}"));
        }
        Ok(Self {
            host_link,
            pod_link,
            leases: addresses.iter().map(|address| leases.join(address.to_string())).collect(),
            addresses,
            is_routed: bridge.is_none(),
        })
    }

    /// What of it is not there; nothing after an ADD that did its work.
    pub fn missing(&self, host: &Netns, pod: &Netns) -> Vec<String> {
        self.facts(host, pod).into_iter().filter(|(_, is)| !is).map(|(what, _)| what).collect()
    }

    /// What of it is there; nothing after a DEL that did its work.
    pub fn left(&self, host: &Netns, pod: &Netns) -> Vec<String> {
        self.facts(host, pod).into_iter().filter(|(_, is)| *is).map(|(what, _)| what).collect()
    }

    /// Each object of it and whether it is there.
    fn facts(&self, host: &Netns, pod: &Netns) -> Vec<(String, bool)> {
        let (host, pod) = (Tables::of(host, &self.host_link), Tables::of(pod, &self.pod_link));
        let mut facts = vec![
            (format!("link {} of the node", self.host_link), host.has_link),
            (format!("link {} of the pod", self.pod_link), pod.has_link),
        ];
        for address in &self.addresses {
            facts.push((format!("address {address}"), pod.has_address(*address)));
            let default = pod.has_route(&self.pod_link, None, address.is_ipv4());
            facts.push((format!("default route of the pod beside {address}"), default));
            if self.is_routed {
                let route = host.has_route(&self.host_link, Some(*address), address.is_ipv4());
                facts.push((format!("route of the node to {address}"), route));
            }
        }
        let leases = self.leases.iter();
        facts.extend(leases.map(|file| (format!("lease {}", file.display()), file.is_file())));
        facts
    }
}

/// The kernel's tables of one namespace, as text.
struct Tables {
    has_link: bool,
    fib_trie: String,
    route: String,
    if_inet6: String,
    ipv6_route: String,
}

impl Tables {
    fn of(netns: &Netns, link: &str) -> Self {
        // /proc/net is the first thread's; /proc/sys/net is the reader's.
        let read = |name: &str| {
            let path = format!("/proc/thread-self/net/{name}");
            // There is none of IPv6 on a kernel without it.
            fs::read_to_string(path).unwrap_or_default()
        };
        netns.enter(|| Self {
            has_link: Path::new("/proc/sys/net/ipv4/conf").join(link).exists(),
            fib_trie: read("fib_trie"),
            route: read("route"),
            if_inet6: read("if_inet6"),
            ipv6_route: read("ipv6_route"),
        })
    }

    fn has_address(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(_) => {
                let leaf = format!("|-- {address}\n");
                let after = self.fib_trie.split(&leaf).skip(1);
                after.filter_map(|rest| rest.lines().next()).any(|line| line.contains("host LOCAL"))
            }
            IpAddr::V6(v6) => {
                let digits = format!("{:032x}", v6.to_bits());
                self.if_inet6.lines().any(|line| line.starts_with(&digits))
            }
        }
    }

    /// Whether there is a route on the link to this address alone or, for none,
    /// to everywhere.
    fn has_route(&self, link: &str, to: Option<IpAddr>, ipv4: bool) -> bool {
        if ipv4 {
            // Interface, destination, gateway, flags, and as the eighth the mask.
            let destination = match to {
                Some(IpAddr::V4(v4)) => u32::from_ne_bytes(v4.octets()),
                _ => 0,
            };
            let mask = if to.is_some() { "FFFFFFFF" } else { "00000000" };
            let words = [link, &format!("{destination:08X}"), mask];
            return self.route.lines().any(|line| {
                let line: Vec<&str> = line.split_whitespace().collect();
                [0, 1, 7].map(|at| line.get(at).copied().unwrap_or_default()) == words
            });
        }
        // Destination and length come first, the interface last.
        let destination = match to {
            Some(IpAddr::V6(v6)) => v6.to_bits(),
            _ => 0,
        };
        let length = if to.is_some() { "80" } else { "00" };
        let start = format!("{destination:032x} {length} ");
        self.ipv6_route.lines().any(|line| {
            line.starts_with(&start) && line.split_whitespace().next_back() == Some(link)
        })
    }
}
