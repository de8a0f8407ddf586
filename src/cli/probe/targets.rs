// SPDX-License-Identifier: Apache-2.0
//! Which nodes are probed, and between which addresses: as the kernel would send to them
//! now.

use std::{collections::HashMap, net::IpAddr, path::Path as FilePath};

use ipnetwork::IpNetwork;

use crate::{
    cli::{Args, Failure},
    conf::CrossSubnet,
    doctor::probe::{Carrier, Path, Skipped},
    fabric::{Peers, Settings, encapsulation, peers::Node},
    family::{Family, HasFamily},
    list::{Gather, Ordered, PushAll},
    net::{
        Socket, Tables,
        link::Link,
        route::{self, Found},
    },
    node::{
        configured::Networks,
        fabric::{last_applied, read_peers_by},
        facts,
    },
    text::nearest,
};

/// What is to be probed.
pub(super) struct Targets {
    /// This node's name.
    pub(super) me: String,
    pub(super) targets: Vec<Target>,
}

/// A node that is to be probed.
#[derive(Default)]
pub(super) struct Target {
    pub(super) name: String,
    pub(super) paths: Vec<Path>,
    /// What is not probed.
    pub(super) skipped: Vec<Skipped>,
}

/// A node that was asked for, with the addresses of pods by which it was.
type Chosen<'a> = (&'a Node, Vec<IpAddr>);

/// By the peers file and the kernel.
pub(super) fn read(args: &Args) -> Result<Targets, Failure> {
    let root = args.root();
    let networks = Networks::read(&root, args.value("conf").map(FilePath::new))?;
    let with_list = networks.all.iter().find_map(|one| Some((one, one.heeds(&root)?)));
    let Some((network, file)) = with_list else {
        let why = "no configuration names a peersFile: no other node is known";
        return Err(Failure::Failed(why.to_owned()));
    };
    let mut socket = Socket::open()?;
    let tables = Tables::of_kernel(&mut socket)?;
    let (peers, _) = read_peers_by(&file, &network.config, &tables)?;
    let chosen = chosen(args, &peers)?;
    let applied = last_applied(&network.config, &root);
    let mtu = facts::mtu(
        &mut socket,
        &network.config,
        &root,
        applied.as_ref(),
        Family::V4,
        (&[], Some(&tables)),
    )?;
    let settings = Settings::of_config(&network.config);
    let mut around =
        Around { peers: &peers, settings, tables: &tables, pods: mtu.mtu, ways: HashMap::new() };
    let asked: Vec<IpAddr> = chosen.iter().flat_map(|one| around.addresses(one)).gather();
    let found = route::resolve(&mut socket, &asked)?;
    around.ways =
        asked.iter().copied().zip(found).filter_map(|(ip, way)| Some((ip, way?))).collect();
    let targets = chosen.iter().map(|one| around.target(one)).gather();
    Ok(Targets { me: peers.me.name.clone(), targets })
}

fn chosen<'a>(args: &Args, peers: &'a Peers) -> Result<Vec<Chosen<'a>>, Failure> {
    if args.operands.is_empty() {
        return Ok(peers.others.iter().map(|node| (node, Vec::new())).gather());
    }
    let choose = |operand: &std::ffi::OsString| -> Result<(&'a Node, Option<IpAddr>), Failure> {
        let text = operand.to_string_lossy();
        let address: Option<IpAddr> = text.parse().ok();
        let find = |is_it: &dyn Fn(&Node) -> bool| peers.others.iter().find(|node| is_it(node));
        let by_name = find(&|node| node.name == text);
        let by_address = |ip: IpAddr| find(&|node| node.addresses.contains(&ip));
        let by_pod = |ip: IpAddr| find(&|node| node.pod_cidrs.iter().any(|cidr| cidr.contains(ip)));
        if let Some(node) = by_name.or_else(|| address.and_then(by_address)) {
            return Ok((node, None));
        }
        if let Some(node) = address.and_then(by_pod) {
            return Ok((node, address));
        }
        let names = peers.others.iter().map(|node| node.name.as_str());
        let hint = nearest::hint(&text, names);
        let problem = format!("probe: the peers file has no other node {text:?}{hint}");
        Err(Failure::Usage(problem + "; see manx probe --help"))
    };
    // What was seen of a node is judged together, by whichever names it was asked for.
    let mut all: Vec<Chosen<'a>> = Vec::new();
    for operand in &args.operands {
        let (node, pod) = choose(operand)?;
        let known = all.iter_mut().find(|(known, _)| known.name == node.name);
        match known.map(|(_, pods)| pods) {
            Some(pods) => pods.push_all(pod.filter(|pod| !pods.contains(pod))),
            None => all.push((node, Vec::from_iter(pod))),
        }
    }
    Ok(all)
}

/// What the paths depend on.
struct Around<'a> {
    peers: &'a Peers,
    settings: Settings,
    tables: &'a Tables,
    /// MTU of pods in bytes.
    pods: u32,
    ways: HashMap<IpAddr, Found>,
}

impl Around<'_> {
    /// The ends of the outer path of a family, where there is one.
    fn outer(&self, node: &Node, family: Family) -> Option<(IpAddr, IpAddr)> {
        Some((self.peers.me.address(family)?, node.address(family)?))
    }

    /// The node's end of a tunnel, where there is one.
    fn end(&self, node: &Node, family: Family) -> Option<IpAddr> {
        let is_given = node.tunnel_addresses.iter().any(|given| given.family() == family);
        let has_tunnel = is_given || self.settings.carrying(family).is_some();
        node.tunnel_address(family).filter(|_| has_tunnel)
    }

    /// Addresses of this family where the node's pods are: its end of a tunnel first, by which
    /// what is seen of pods is judged.
    fn inside(&self, (node, pods): &Chosen<'_>, family: Family) -> Vec<IpAddr> {
        let end = self.end(node, family);
        let pods = pods.iter().filter(|pod| pod.family() == family && Some(**pod) != end);
        end.into_iter().chain(pods.copied()).gather()
    }

    fn addresses(&self, chosen: &Chosen<'_>) -> Vec<IpAddr> {
        let of_family = |family| {
            let outer = self.outer(chosen.0, family).map(|(_, there)| there);
            let inside = outer.map(|_| self.inside(chosen, family));
            outer.into_iter().chain(inside.into_iter().flatten())
        };
        Family::BOTH.into_iter().flat_map(of_family).gather()
    }

    fn target(&self, chosen: &Chosen<'_>) -> Target {
        let (node, pods) = chosen;
        let mut target = Target { name: node.name.clone(), ..Target::default() };
        for family in Family::BOTH {
            let Some(ends) = self.outer(node, family) else { continue };
            let mut overhead = 0;
            let carried = self.is_carried(family);
            let skipped = |inner, is_cut, reason| Skipped { family, inner, reason, is_cut };
            let inside = self.inside(chosen, family);
            if inside.is_empty() && node.pod_cidrs(family).next().is_some() {
                let reason = "packets travel as they are, and no address there is known to \
                              answer: name that of a pod, as in manx probe ADDRESS";
                target.skipped.push(skipped(true, false, reason.to_owned()));
            }
            for address in inside {
                match self.path(family, address, Some(ends)) {
                    Ok(mut path) => {
                        path.pod = self.end(node, family) != Some(address);
                        let is_named = pods.contains(&address);
                        path.expected = path.carrier.is_some() || carried || is_named;
                        overhead = overhead.max(path.overhead);
                        target.paths.push(path);
                    }
                    Err(reason) => target.skipped.push(skipped(true, carried, reason)),
                }
            }
            match self.path(family, ends.1, None) {
                Ok(mut path) => {
                    path.overhead = overhead;
                    path.needed += overhead;
                    target.paths.push(path);
                }
                Err(reason) => target.skipped.push(skipped(false, true, reason)),
            }
        }
        // The outer one of a family first.
        target.paths.order_by_key(|path| (path.family, path.inner));
        target
    }

    /// Whether all packets of a family to other nodes are carried, whatever routes say now.
    fn is_carried(&self, family: Family) -> bool {
        self.settings.carrying(family).is_some()
            && self.settings.keys.cross_subnet == CrossSubnet::Off
    }

    /// The path to an address; an inner one where its outer ends are given.
    fn path(
        &self,
        family: Family,
        address: IpAddr,
        outer: Option<(IpAddr, IpAddr)>,
    ) -> Result<Path, String> {
        let of_way = || {
            let way = self.ways.get(&address)?;
            let index = way.device()?;
            Some((way, self.tables.links.iter().find(|link| link.index == index)?))
        };
        let (way, link) =
            of_way().ok_or_else(|| format!("no route leads to {address}: see manx doctor"))?;
        let carrier = outer.and_then(|_| carrier(link));
        let own = self.peers.me.address(family);
        let source = match (&carrier, outer) {
            (_, None) => own.filter(|own| self.has(*own)).or(way.source),
            (Some(_), _) => self.of_device(link, family).or(way.source),
            (None, _) => way.source,
        };
        let source = source.or(own).ok_or_else(|| format!("this node has no {family} address"))?;
        Ok(Path {
            family,
            inner: outer.is_some(),
            pod: false,
            address,
            source,
            device: (link.name.clone(), link.index),
            next_hop: way.route.gateway.unwrap_or(address),
            outer: outer.unwrap_or((source, address)),
            limit: link.mtu.min(way.route.mtu.unwrap_or(u32::MAX)).min(u16::MAX.into()),
            needed: self.pods,
            overhead: carrier.as_ref().map_or(0, |_| overhead(link, family)),
            expected: true,
            carrier,
        })
    }

    fn has(&self, address: IpAddr) -> bool {
        self.tables.addresses.iter().any(|(_, own)| own.ip() == address)
    }

    /// This node's end of a tunnel.
    fn of_device(&self, link: &Link, family: Family) -> Option<IpAddr> {
        let all = self.tables.addresses_of(link.index);
        let mut all = all.iter().filter(|own| own.family() == family).map(IpNetwork::ip);
        let wanted = self.peers.me.tunnel_address(family);
        let first = all.next();
        first
            .filter(|first| Some(*first) == wanted)
            .or_else(|| all.find(|ip| Some(*ip) == wanted))
            .or(first)
    }
}

fn carrier(link: &Link) -> Option<Carrier> {
    match (link.kind.as_deref(), &link.vxlan) {
        (Some("ipip"), _) => Some(Carrier::Ipip),
        (_, Some(vxlan)) => Some(Carrier::Vxlan(vxlan.port)),
        _ => None,
    }
}

fn overhead(link: &Link, family: Family) -> u32 {
    let all = encapsulation::ALL.into_iter();
    let mut of_kind = all.filter(|one| link.kind.as_deref() == Some(one.name()));
    of_kind.next().map_or(0, |one| one.overhead(family))
}
