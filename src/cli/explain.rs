// SPDX-License-Identifier: Apache-2.0
//! `manx explain`: what becomes of a packet on this node.

use std::{net::IpAddr, sync::Arc};

use serde_json::{Value, json};

use super::{
    Args, Console, Failure, Status, Subcommand,
    args::{Operands, Shape},
    attachments,
    doctor::look,
    policy::read_world,
};
use crate::{
    cni::cidr,
    doctor::explain::{Explanation, Outcome, Question, explain},
    family::{Family, HasFamily},
    list::{Gather, Ordered, PushAll},
    node::{Attachment, Snapshot},
    pod::identity::HostLinks,
    policy::{self, World, protocol_name},
    state::Entry,
};

/// A port, and its protocol by its number within IP.
type Port = (u16, u8);

/// The number of the protocol of a port that is given without one.
const TCP: u8 = 6;

pub(super) const SUBCOMMAND: Subcommand = Subcommand {
    name: "explain",
    summary: "say what becomes of a packet on this node, and what decides it",
    help: "\
Usage: manx explain [--json] [--policies WORLD] [--bundle FILE | OPTION…]
                    SRC DST[:PORT[/PROTOCOL]]

Follows a packet from SRC to DST through this node, as its rules, routes and
tables are: whether its source is accepted, which rule and route decide, the
next hop, what carries it and how large it may be, whether it leaves with the
node's address, whether network policies allow it, and whether its answers are
let in; each step with the object that decides. The last line says where it
ends, and names the check of manx doctor that concerns it. No packet is sent:
what other nodes do is not known. Ends with 3 where the packet or its answers
are dropped.

SRC and DST are a pod (namespace/name, or the beginning of a container id), an
address, or the name of a node in the peers file. PROTOCOL is tcp (without it),
udp or sctp; network policies alone look at ports.

  --policies WORLD
               say as well which policies of WORLD allow or deny it, for pods of
               any node, and know those by their names: what kubectl get
               namespaces,pods,networkpolicies -A -o json prints, - for stdin
  --json       {\"source\", \"destination\", \"steps\": [{\"step\", \"text\", \"by\"}],
               \"outcome\": delivered, leaves or dropped, \"verdict\", \"check\"}
  --bundle FILE
               look at a node by what manx bundle wrote, not at this one
  --conf FILE  look at this configuration alone (default: all of /etc/cni/net.d)
  --bin DIR    where plugins are (CNI_PATH, else /opt/cni/bin)
  --root DIR   read files and state below DIR

Example: manx explain default/web 10.244.2.7:80",
    shape: Shape {
        flags: &["json"],
        values: &["bundle", "conf", "bin", "policies", "root"],
        operands: Operands::AtMost(2),
    },
    run,
};

fn run(args: &Args, console: &mut Console<'_>) -> Result<Status, Failure> {
    look::require_one_node(args, &SUBCOMMAND)?;
    let [source, destination] = args.operands.as_slice() else {
        return Err(SUBCOMMAND.usage("name where the packet comes from, and where it is to go"));
    };
    let (source, destination) = (source.to_string_lossy(), destination.to_string_lossy());
    let snapshot = look::for_packets(args)?;
    let (destination, port) = with_port(&destination)?;
    let world = args.value("policies").map(read_world).transpose()?;
    let world = world.map(|(_, read)| located(read.world, &snapshot));
    let pods = Attachment::all_of(&snapshot);
    let of = |word| addresses(word, &pods, &snapshot, world.as_ref());
    let question = question((&source, &of(&source)?), (destination, &of(destination)?), port)?;
    let explanation = explain(&snapshot, question, world.as_ref());
    match args.flag("json") {
        true => console.json(&encode(question, &explanation))?,
        false => print(&explanation, console)?,
    }
    let verdict = &explanation.verdict;
    let is_fine = verdict.outcome != Outcome::Dropped && verdict.check.is_none();
    Ok(if is_fine { Status::Fine } else { Status::Findings })
}

/// The cluster, in which this node's pods have the addresses that they were attached with, and
/// nobody else has those: the node knows that before the API server does. Which node of the
/// cluster this one is does not matter for that, and a file need not tell.
fn located(mut world: World, snapshot: &Snapshot) -> World {
    let links = HostLinks::new(&snapshot.kernel.links);
    let mut entries: Vec<&Entry> = snapshot.journal.iter().gather();
    // Of two with one address it is the one's that has a link.
    entries.order_by_key(|entry| links.of(entry).is_some());
    for entry in entries {
        let name = entry.pod();
        for pod in &mut world.pods {
            let is_it = name.as_ref() == Some(&pod.name.to_string());
            let has = |address: &IpAddr| pod.addresses.contains(address);
            if is_it && !entry.addresses.iter().all(has) {
                let new = entry.addresses.iter().filter(|address| !has(address)).copied();
                let new: Vec<IpAddr> = new.gather();
                Arc::make_mut(pod).addresses.push_all(new);
            } else if !is_it && entry.addresses.iter().any(has) {
                Arc::make_mut(pod).addresses.retain(|address| !entry.addresses.contains(address));
            }
        }
    }
    world
}

/// A destination, and the port behind it with its protocol.
fn with_port(text: &str) -> Result<(&str, Option<Port>), Failure> {
    let (name, rest) = match text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        Some((address, rest)) => (address, rest.strip_prefix(':')),
        None => match text.rsplit_once(':') {
            // Of an address of IPv6 the end is a part of it.
            Some((name, port)) if !name.contains(':') => (name, Some(port)),
            _ => (text, None),
        },
    };
    let Some(port) = rest else { return Ok((name, None)) };
    let (port, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
    let Some(protocol) = policy::protocol(&protocol.to_ascii_uppercase()) else {
        let message =
            format!("{protocol:?} behind {name} is no protocol: those are tcp, udp, sctp");
        return Err(SUBCOMMAND.usage(&message));
    };
    let number = port.parse::<u16>().ok().filter(|number| *number > 0);
    let number = number.ok_or_else(|| {
        SUBCOMMAND.usage(&format!("{port:?} behind {name} is no port: those are 1 to 65535"))
    })?;
    Ok((name, Some((number, protocol))))
}

/// The addresses that a word means: its own, those of a pod, or those of a node.
fn addresses(
    word: &str,
    pods: &[Attachment],
    snapshot: &Snapshot,
    world: Option<&World>,
) -> Result<Vec<IpAddr>, Failure> {
    if let Ok(address) = cidr::parse_address(word) {
        return Ok(vec![address]);
    }
    let key = |pod: &Attachment| pod.entry.netns_identity;
    let chosen = attachments::choose(pods, word, key).map_err(|words| SUBCOMMAND.usage(&words))?;
    let no_pod = match chosen {
        Ok(pod) => return Ok(pod.entry.addresses.clone()),
        Err(failure) => failure,
    };
    let lists = snapshot.compared.fabrics.iter().map(|fabric| &fabric.peers);
    let mut nodes = lists
        .flat_map(|peers| std::iter::once(&peers.me).chain(&peers.others).chain(&peers.left_out));
    let node = nodes.find(|node| node.name == word);
    if let Some(node) = node {
        return Ok(node.addresses.clone());
    }
    let of_world = world.and_then(|world| world.addresses_of(word));
    of_world.map(<[IpAddr]>::to_vec).ok_or_else(|| match no_pod {
        Failure::Failed(words) if world.is_none() => Failure::Failed(format!(
            "{words}; one of another node is named by its address, or by its name with --policies"
        )),
        other => other,
    })
}

/// A packet between the two, of the first family that both have.
fn question(
    (source, from): (&str, &[IpAddr]),
    (destination, to): (&str, &[IpAddr]),
    port: Option<Port>,
) -> Result<Question, Failure> {
    let of = |all: &[IpAddr], family| all.iter().copied().find(|one| one.family() == family);
    let pair = |family| Some((of(from, family)?, of(to, family)?));
    let Some((source, destination)) = Family::BOTH.into_iter().find_map(pair) else {
        let message = format!("{source} and {destination} have no family of addresses in common");
        return Err(Failure::Failed(message));
    };
    let protocol = port.map_or(TCP, |(_, protocol)| protocol);
    Ok(Question { source, destination, protocol, port: port.map(|(port, _)| port) })
}

fn print(explanation: &Explanation, console: &mut Console<'_>) -> Result<(), Failure> {
    for step in &explanation.steps {
        let by = if step.by.is_empty() { String::new() } else { format!(" [{}]", step.by) };
        console.line(format_args!("{:<12} {}{by}", step.what, step.text))?;
    }
    let verdict = &explanation.verdict;
    let check = verdict.check.map_or_else(String::new, |id| format!(" [manx doctor --only {id}]"));
    console.line(format_args!("{:<12} {}{check}", "verdict", verdict.text))?;
    Ok(())
}

fn encode(question: Question, explanation: &Explanation) -> Value {
    let verdict = &explanation.verdict;
    let steps: Vec<Value> = explanation.steps.iter().map(|step| step.encode()).gather();
    json!({
        "source": question.source,
        "destination": question.destination,
        "port": question.port,
        "protocol": question.port.map(|_| protocol_name(question.protocol)),
        "steps": steps,
        "outcome": verdict.outcome.as_str(),
        "verdict": verdict.text,
        "check": verdict.check,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_stands_behind_a_colon_or_a_bracket() {
        for (text, name, port) in [
            ("10.0.0.1", "10.0.0.1", None),
            ("10.0.0.1:80", "10.0.0.1", Some((80, 6))),
            ("default/web:8080", "default/web", Some((8080, 6))),
            ("fd00::1", "fd00::1", None),
            ("[fd00::1]:53/udp", "fd00::1", Some((53, 17))),
            ("shop/db:5000/sctp", "shop/db", Some((5000, 132))),
            ("[fd00::1]", "fd00::1", None),
        ] {
            assert_eq!(with_port(text).unwrap(), (name, port), "{text}");
        }
        for text in [
            "node-b:80/icmp",
            "node-b:80/",
            "node-b:http",
            "10.0.0.1:99999",
            "10.0.0.1:0",
            "10.0.0.1:",
            "[fd00::1]:x",
        ] {
            let Err(Failure::Usage(_)) = with_port(text) else { panic!("{text}") };
        }
    }

    #[test]
    fn a_packet_is_of_one_family() {
        let ips =
            |all: &[&str]| -> Vec<IpAddr> { all.iter().map(|ip| ip.parse().unwrap()).collect() };
        let both = ips(&["fd00::1", "10.0.0.1"]);
        let of = |to: &[&str]| question(("a", &both), ("b", &ips(to)), None).map(|one| one.source);
        assert_eq!(of(&["fd00::2"]).unwrap(), both[0]);
        assert_eq!(of(&["fd00::2", "10.0.0.2"]).unwrap(), both[1]);
        assert!(question(("a", &both[..1]), ("b", &ips(&["10.0.0.2"])), None).is_err());
    }

    /// The journal knows better than the cluster whose an address is, also where the cluster
    /// has most of its pods elsewhere by now, or not scheduled yet.
    #[test]
    fn an_address_that_is_used_again_is_the_pods_that_has_it() {
        let pod = |name: &str, node: &str, ip: &str| {
            json!({"kind": "Pod", "metadata": {"namespace": "x", "name": name},
                   "spec": {"nodeName": node}, "status": {"podIPs": [{"ip": ip}]}})
        };
        let list = json!({"kind": "List", "items": [
            pod("gone", "here", "10.0.0.5"),
            pod("old", "here", "10.0.0.7"),
            pod("web", "here", "10.0.0.4"),
            pod("db", "", "10.0.0.6"),
            pod("moved", "there", "10.1.0.9"),
            pod("too", "there", "10.1.0.8"),
        ]});
        let entry = |name: &str, link: &str, ip: &str| Entry {
            pod_namespace: Some("x".to_owned()),
            pod_name: Some(name.to_owned()),
            host_link: link.to_owned(),
            addresses: vec![ip.parse().unwrap()],
            ..Entry::default()
        };
        let journal = vec![
            entry("db", "cali2", "10.0.0.6"),
            entry("unknown", "cali3", "10.0.0.7"),
            entry("web", "cali1", "10.0.0.5"),
            // Their links are gone with them, and web has the address of one.
            entry("moved", "cali4", "10.0.0.5"),
            entry("too", "cali5", "10.0.0.9"),
        ];
        let group = crate::pod::identity::group("net");
        let link = |name: &str| crate::net::link::Link {
            name: name.to_owned(),
            group,
            ..Default::default()
        };
        let mut snapshot = Snapshot { journal, ..Snapshot::default() };
        snapshot.kernel.links = ["cali1", "cali2", "cali3"].map(link).into();
        for at in 0..snapshot.journal.len() {
            snapshot.journal.rotate_left(at);
            let world = policy::read(list.to_string().as_bytes()).unwrap().world;
            let located = located(world, &snapshot);
            for (name, expected) in [
                ("gone", &[][..]),
                ("old", &[]),
                ("web", &["10.0.0.4", "10.0.0.5"]),
                ("db", &["10.0.0.6"]),
                ("moved", &["10.1.0.9"]),
                ("too", &["10.1.0.8", "10.0.0.9"]),
            ] {
                let all = located.addresses_of(&format!("x/{name}")).unwrap_or_default();
                let all: Vec<String> = all.iter().map(ToString::to_string).collect();
                assert_eq!(all, expected, "{name}");
            }
        }
    }
}
