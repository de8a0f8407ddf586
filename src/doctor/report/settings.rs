// SPDX-License-Identifier: Apache-2.0
//! What of the nodes' settings has to be, or should be, the same on all of them.

use std::collections::BTreeMap;

use super::{
    cluster::Cluster,
    html::joined,
    said::{Said, finding, told, way},
    view::Way,
};
use crate::{
    family::Family,
    finding::{Finding, Severity},
};

/// What of a way has to be, or should be, the same on all nodes.
struct Rule {
    id: &'static str,
    severity: Severity,
    what: &'static str,
    of: fn(&Way) -> Option<String>,
    why: &'static str,
    fix: &'static str,
}

fn of_vxlan(way: &Way, value: String) -> Option<String> {
    (way.mode == "vxlan").then_some(value)
}

fn mtu(way: &Way, family: Family) -> Option<String> {
    way.sizes.iter().find(|size| size.family == family).map(|size| size.mtu().to_string())
}

const RULES: [Rule; 7] = [
    Rule {
        id: "mode-differs",
        severity: Severity::Error,
        what: "mode",
        of: |way| Some(way.mode.to_owned()),
        why: "a node takes packets of pods by its own mode alone, and drops what others send by theirs",
        fix: "write one mode into \"fabric\" of all peers files; then manx apply on each node",
    },
    Rule {
        id: "vni-differs",
        severity: Severity::Error,
        what: "VXLAN VNI",
        of: |way| of_vxlan(way, way.keys.vni.to_string()),
        why: "a VXLAN device drops packets of another VNI",
        fix: "write one vxlan.vni into \"fabric\" of all peers files; then manx apply on each node",
    },
    Rule {
        id: "port-differs",
        severity: Severity::Error,
        what: "VXLAN port",
        of: |way| of_vxlan(way, way.keys.port.to_string()),
        why: "nobody listens at a node on the port that others send to",
        fix: "write one vxlan.port into \"fabric\" of all peers files; then manx apply on each node",
    },
    Rule {
        id: "plain-differs",
        severity: Severity::Error,
        what: "families that no tunnel carries",
        of: |way| {
            Some(if way.keys.plain.is_empty() {
                "none".to_owned()
            } else {
                joined(&way.keys.plain)
            })
        },
        why: "packets leave one node without a tunnel, and the other sends them by one",
        fix: "write one list fabric.plain into all peers files; then manx apply on each node",
    },
    Rule {
        id: "cross-subnet-differs",
        severity: Severity::Warning,
        what: "crossSubnet",
        of: |way| (way.mode != "direct").then(|| way.cross_subnet.to_owned()),
        why: "packets go by the tunnel and their answers without it: what a firewall lets pass, and how large they may be, differs by the direction",
        fix: "write one crossSubnet into \"fabric\" of all peers files; then manx apply on each node",
    },
    Rule {
        id: "mtu-differs",
        severity: Severity::Warning,
        what: "MTU of IPv4 packets between nodes",
        of: |way| mtu(way, Family::V4),
        why: "what one node sends at its MTU another one may not take, and drops",
        fix: "set the MTU of the narrow node's device, or \"mtu\" in \"fabric\" of all peers files to the smallest; then manx apply on each node",
    },
    Rule {
        id: "mtu-differs",
        severity: Severity::Warning,
        what: "MTU of IPv6 packets between nodes",
        of: |way| mtu(way, Family::V6),
        why: "what one node sends at its MTU another one may not take, and drops",
        fix: "set the MTU of the narrow node's device, or \"mtu\" in \"fabric\" of all peers files to the smallest; then manx apply on each node",
    },
];

/// What the nodes' ways of one route protocol are.
pub(super) fn of_ways(cluster: &Cluster, protocol: u8, found: &mut Vec<Finding>) {
    let ways = || {
        let views = cluster.views.iter().enumerate();
        views.filter_map(|(place, view)| Some((place, way(view, protocol)?)))
    };
    // While a mode changes by steps, nodes take packets of both.
    let accepts = ways().any(|(_, way)| way.accepts);
    for Rule { id, severity, what, of, why, fix } in RULES {
        let mut said = Said::new();
        for (place, value) in ways().filter_map(|(place, way)| Some((place, of(way)?))) {
            said.entry(value).or_default().push(place);
        }
        let severity = if accepts { severity.max(Severity::Warning) } else { severity };
        differs(cluster, (id, severity), what, &said, (why, fix), found);
    }
}

fn differs(
    cluster: &Cluster,
    kind: (&'static str, Severity),
    what: &str,
    said: &Said,
    (why, fix): (&'static str, &str),
    found: &mut Vec<Finding>,
) {
    if said.len() > 1 {
        let evidence = told(cluster, said, "on");
        found.push(finding(kind, what.to_owned(), evidence, why, fix.to_owned()));
    }
}

/// What is of nodes and networks, and not of a fabric.
pub(super) fn of_nodes(cluster: &Cluster, found: &mut Vec<Finding>) {
    let (mut versions, mut policies, mut lists) = (Said::new(), Said::new(), Said::new());
    let mut masquerades: BTreeMap<&str, Said> = BTreeMap::new();
    let switch = |is_on: bool| if is_on { "on" } else { "off" }.to_owned();
    for (place, view) in cluster.views.iter().enumerate() {
        versions.entry(view.taken_by.clone()).or_default().push(place);
        policies.entry(view.policies.as_str().to_owned()).or_default().push(place);
        let list = if view.ways.is_empty() { "none" } else { "one" };
        lists.entry(list.to_owned()).or_default().push(place);
        for net in &view.networks {
            let said = masquerades.entry(&net.name).or_default();
            said.entry(switch(net.masquerades)).or_default().push(place);
        }
    }
    differs(
        cluster,
        ("list-missing", Severity::Warning),
        "list of nodes",
        &lists,
        (
            "without a list that it can use a node makes no routes to the pods of others",
            "name a peersFile in the configuration of the nodes without one; doctor says what is wrong with it where there is one",
        ),
        found,
    );
    for (network, said) in &masquerades {
        differs(
            cluster,
            ("masquerade-differs", Severity::Warning),
            &format!("ipMasq of network {network}"),
            said,
            (
                "others see some pods by their own addresses and some by their node's",
                "write one ipMasq into the configurations of all nodes",
            ),
            found,
        );
    }
    differs(
        cluster,
        ("policy-differs", Severity::Warning),
        "network policies",
        &policies,
        (
            "a policy that is enforced on some nodes protects some of its pods",
            "manx status on each node says how they stand there. For enforced on all of them: \
             networkPolicy in each configuration, and the agent or manx policy apply; for off on all \
             of them: the key away, and then manx policy remove",
        ),
        found,
    );
    differs(
        cluster,
        ("version-differs", Severity::Info),
        "version of manx",
        &versions,
        (
            "an older one may refuse, or leave out, what a newer one writes and asks for",
            "install one version on all nodes",
        ),
        found,
    );
}
