// SPDX-License-Identifier: Apache-2.0
//! Where the other ends of a node's pairs are. A runtime's note tells a pod's link by its
//! name alone, and names are given again: the kernel tells which namespace it leads to.

use std::{
    collections::{HashMap, HashSet},
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
};

use super::cache::Cached;
use crate::list::{Gather, Ordered, PushAll};
use crate::net::{
    Error, Namespace, Socket, addr,
    link::{self, Link},
    ns::Identity,
    nsid,
};

/// Where runtimes keep namespaces: such a path lasts longer than a process.
const KEPT: [&str; 2] = ["/run/netns", "/run/docker/netns"];

/// The other end of a pair.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct End {
    /// The index of the link of the node.
    pub(super) host: u32,
    /// Its own name.
    pub(super) name: String,
    pub(super) addresses: Vec<IpAddr>,
    /// A path to its namespace, and what makes that the same one: device and inode.
    pub(super) netns: String,
    pub(super) identity: (u64, u64),
}

/// The other ends of these links, as far as their namespaces can be entered: those at
/// the `noted` paths, those that runtimes keep, and those of processes.
///
/// # Errors
/// Where this process cannot come home again.
pub(super) fn ends(links: &[Link], noted: &[Cached]) -> Result<Vec<End>, Error> {
    let home = Namespace::current()?;
    let mut host = Socket::open()?;
    let numbers: HashMap<u32, u32> = nsid::of_links(&mut host)?.into_iter().collect();
    let mut seen = HashSet::from([key(home.identity())]);
    let mut found = Vec::new();
    for path in paths(noted) {
        let Some(identity) = Identity::at(&path) else { continue };
        if !seen.insert(key(identity)) {
            continue;
        }
        let Ok(netns) = Namespace::open(&path) else { continue };
        let Some(number) = nsid::of_namespace(&mut host, &netns)? else { continue };
        let here: Vec<&Link> =
            links.iter().filter(|link| numbers.get(&link.index) == Some(&number)).gather();
        // What cannot be entered has no pod that is known, which is told.
        let Ok(mut socket) = within(&netns, &home)? else { continue };
        let (Ok(inside), Ok(addresses)) = (link::all(&mut socket), addr::all(&mut socket)) else {
            continue;
        };
        for end in inside {
            let Some(host) = here.iter().find(|host| is_pair(host, &end)) else { continue };
            let own = addresses.iter().filter(|(index, _)| *index == end.index);
            found.push(End {
                host: host.index,
                name: end.name,
                addresses: own.map(|(_, network)| network.ip()).gather(),
                netns: path.display().to_string(),
                identity: key(netns.identity()),
            });
        }
    }
    Ok(found)
}

/// Not to be in a namespace is no error, not to leave it is one.
fn within(netns: &Namespace, home: &Namespace) -> Result<Result<Socket, Error>, Error> {
    if let Err(error) = netns.enter() {
        return Ok(Err(error));
    }
    let socket = Socket::open();
    home.enter()?;
    Ok(socket)
}

/// Whether two links, of which one leads to the other's namespace, are a pair.
fn is_pair(host: &Link, end: &Link) -> bool {
    let is_veth = |link: &Link| link.kind.as_deref() == Some("veth");
    is_veth(host)
        && is_veth(end)
        && host.peer_index == Some(end.index)
        && end.peer_index == Some(host.index)
}

fn key(identity: Identity) -> (u64, u64) {
    (identity.device, identity.inode)
}

fn paths(noted: &[Cached]) -> Vec<PathBuf> {
    let of_notes = noted.iter().map(|cached| PathBuf::from(&cached.entry.netns));
    let mut paths: Vec<PathBuf> = of_notes.filter(|path| !path.as_os_str().is_empty()).gather();
    for directory in KEPT {
        paths.push_all(listed(Path::new(directory)));
    }
    let is_process = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.bytes().all(|byte| byte.is_ascii_digit())
    };
    let processes = listed(Path::new("/proc")).into_iter().filter(is_process);
    paths.push_all(processes.map(|process| process.join("ns/net")));
    paths
}

fn listed(directory: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(directory).into_iter().flatten().flatten().map(|file| file.path()).gather();
    paths.order();
    paths
}

impl Cached {
    /// Finds the pod's end among all, and with it the pod's link.
    ///
    /// Older versions of libcni note no namespace, and Calico's result names none. Then
    /// the pod's name of the interface and its addresses are what tells.
    pub(super) fn find_link(&mut self, ends: &[End], links: &[Link]) {
        let noted = Identity::at(&self.entry.netns).map(key);
        if noted.is_none() && !self.entry.netns.is_empty() {
            return;
        }
        let names_it = |end: &&End| {
            let host = links.iter().find(|link| link.index == end.host);
            host.is_some_and(|host| self.of_node.contains(&host.name))
        };
        let has_all = |end: &&End| {
            let addresses = &self.entry.addresses;
            !addresses.is_empty() && addresses.iter().all(|it| end.addresses.contains(it))
        };
        let same = |end: &&End| {
            noted.is_none_or(|noted| noted == end.identity) && end.name == self.entry.ifname
        };
        let found = ends.iter().filter(same).filter(names_it).find(has_all);
        if let Some(end) = found {
            self.entry.netns.clone_from(&end.netns);
            self.entry.netns_identity = end.identity;
            self.link = Some(end.host);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn veth(index: u32, name: &str, peer: u32) -> Link {
        let kind = Some("veth".to_owned());
        Link { index, name: name.to_owned(), peer_index: Some(peer), kind, ..Link::default() }
    }

    fn end(host: u32, address: &str, inode: u64) -> End {
        let addresses = vec![address.parse().unwrap(), "fe80::1".parse().unwrap()];
        let netns = format!("/run/netns/{inode}");
        End { host, name: "eth0".to_owned(), addresses, netns, identity: (4, inode) }
    }

    fn cached(link: &str, address: &str) -> Cached {
        let mut cached = Cached { of_node: vec![link.to_owned()], ..Cached::default() };
        cached.entry.ifname = "eth0".to_owned();
        cached.entry.addresses = vec![address.parse().unwrap()];
        cached
    }

    #[test]
    fn a_pair_names_each_other() {
        assert!(is_pair(&veth(7, "cali1", 2), &veth(2, "eth0", 7)));
        assert!(!is_pair(&veth(7, "cali1", 2), &veth(2, "eth0", 8)));
        assert!(!is_pair(&veth(7, "cali1", 3), &veth(2, "eth0", 7)));
    }

    #[test]
    fn a_pod_is_found_by_its_end_alone() {
        let links = [veth(7, "cali1", 2), veth(8, "cali2", 2)];
        let ends = [end(8, "10.1.0.8", 1), end(7, "10.1.0.7", 2)];
        let mut one = cached("cali1", "10.1.0.7");
        one.find_link(&ends, &links);
        assert_eq!((one.link, one.entry.netns.as_str()), (Some(7), "/run/netns/2"));
        assert_eq!(one.entry.netns_identity, (4, 2));
        // A former pod of the same name, with another address.
        for mut other in [cached("cali1", "10.1.0.6"), cached("cali3", "10.1.0.7")] {
            other.find_link(&ends, &links);
            assert_eq!(other.link, None);
        }
        // One whose namespace is gone.
        let mut gone = cached("cali1", "10.1.0.7");
        gone.entry.netns = "/nonexistent/netns".to_owned();
        gone.find_link(&ends, &links);
        assert_eq!(gone.link, None);
    }
}
