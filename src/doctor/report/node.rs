// SPDX-License-Identifier: Apache-2.0
//! What a page says of one node.

use std::fmt::{self, Write};

use super::{
    cluster::{Cluster, End},
    finding,
    html::{CLOSE_TABLE, Text, count, joined, mark, open_details, open_table, remark, row},
    probed::{Path, Probed},
    view::{Peer, Pod, View, Way},
};
use crate::{
    fabric::standing::State,
    list::{Gather, Ordered},
    text::few::first_of,
};

/// How many rows the tables of one node may have.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    pods: usize,
    peers: usize,
}

impl Rows {
    /// With so many nodes on one page.
    pub(super) fn of(nodes: usize) -> Self {
        let share = |all: usize, most: usize| (all / nodes.max(1)).clamp(20, most);
        Self { pods: share(4000, 500), peers: share(2000, 200) }
    }
}

/// A section of its own.
pub(super) fn draw(out: &mut String, cluster: &Cluster, place: usize, rows: Rows) -> fmt::Result {
    let Some(view) = cluster.views.get(place) else { return Ok(()) };
    write!(out, r#"<section class="node" id="node-{place}"><h3>{} "#, Text(&view.name))?;
    mark(out, view.mark(), view.state.as_str())?;
    out.write_str("</h3>\n")?;
    if !view.reason.is_empty() {
        writeln!(out, r#"<p class="reason">{}</p>"#, Text(&view.reason))?;
    }
    facts(out, view)?;
    let probed: Vec<&Probed> =
        cluster.probes.iter().filter(|one| cluster.prober(one) == Some(End::View(place))).gather();
    let (made, skipped) = view.checks;
    if view.groups.is_empty() {
        remark(
            out,
            &format!(
                "Doctor found nothing: {made} checks were made, {skipped} could not be made by a bundle or are not for this node."
            ),
        )?;
    }
    finding::draw(out, &view.groups)?;
    for one in &probed {
        finding::draw(out, &one.groups)?;
    }
    for way in &view.ways {
        peers(out, way, rows.peers)?;
    }
    for one in &probed {
        paths(out, one, rows.peers)?;
    }
    pods(out, view, rows.pods)?;
    out.write_str("</section>\n")
}

fn facts(out: &mut String, view: &View) -> fmt::Result {
    out.write_str(r#"<dl class="facts">"#)?;
    let mut fact =
        |name: &str, text: &str| writeln!(out, "<div><dt>{name}</dt><dd>{}</dd></div>", Text(text));
    fact("Addresses", &joined(&view.own_addresses()))?;
    for way in &view.ways {
        let subnets = match way.cross_subnet {
            "false" => String::new(),
            word => format!(", crossSubnet {word}"),
        };
        let (protocol, networks) = (way.keys.protocol, joined(&way.networks));
        fact("Mode", &format!("{}{subnets}, route protocol {protocol} ({networks})", way.told))?;
        fact("Pod CIDRs", &joined(&way.me.pod_cidrs))?;
        for size in &way.sizes {
            fact("MTU", &size.to_string())?;
        }
    }
    for net in &view.networks {
        let masquerades = if net.masquerades { ", masquerades" } else { "" };
        fact("Network", &format!("{} ({}){masquerades}", net.name, net.file))?;
        for words in net.mtu.iter().chain(&net.leases) {
            fact(if Some(words) == net.leases.as_ref() { "Leases" } else { "Pods' MTU" }, words)?;
        }
    }
    let states = view.states.iter().filter(|(_, count)| *count > 0);
    let states: Vec<String> = states.map(|(state, count)| format!("{count} {state}")).gather();
    fact("Pods", if states.is_empty() { "none".to_owned() } else { joined(&states) }.as_str())?;
    fact("Agent", &view.agent)?;
    fact("Policies", view.policies.as_str())?;
    if !view.system.is_empty() {
        fact("System", &view.system)?;
    }
    let at = if view.taken_at.is_empty() { "" } else { ", written at " };
    fact("Bundle", &format!("{}, by manx {}{at}{}", view.file, view.taken_by, view.taken_at))?;
    out.write_str("</dl>\n")
}

/// Those first that are not reachable.
fn peers(out: &mut String, way: &Way, max: usize) -> fmt::Result {
    let is_wrong = |peer: &&Peer| peer.standing.state != State::Reachable;
    let (wrong, fine): (Vec<&Peer>, Vec<&Peer>) = way.peers.iter().partition(is_wrong);
    let summary = format!(
        "Other nodes: {}, {} of them reachable (by this node's tables; no packet was sent)",
        count(way.peers.len(), "node", "nodes"),
        fine.len()
    );
    if way.peers.is_empty() {
        return remark(out, &format!("No other nodes are in {}.", way.peers_file));
    }
    open_details(out, &summary, !wrong.is_empty())?;
    open_table(out, "other nodes", &["Node", "State", "Why", "Addresses", "Pod CIDRs", "Device"])?;
    for Peer { standing, .. } in wrong.iter().chain(&fine).take(max) {
        row(
            out,
            &[
                &standing.name,
                standing.state.as_str(),
                &first_of(&standing.why),
                &joined(&standing.addresses),
                &joined(&standing.pod_cidrs),
                standing.device.as_deref().unwrap_or("-"),
            ],
        )?;
    }
    out.write_str(CLOSE_TABLE)?;
    if way.peers.len() > max {
        let more = way.peers.len() - max;
        let wrong = wrong.len().saturating_sub(max);
        remark(
            out,
            &format!("{}, {wrong} of them not reachable.", count(more, "more node", "more nodes")),
        )?;
    }
    out.write_str("</details>\n")
}

/// Those first that do not answer.
fn paths(out: &mut String, probed: &Probed, max: usize) -> fmt::Result {
    let paths =
        probed.peers.iter().flat_map(|(name, paths)| paths.iter().map(move |path| (name, path)));
    let mut paths: Vec<(&String, &Path)> = paths.gather();
    paths.order_by_key(|(name, path)| (path.answers() && !path.is_narrow(), *name));
    let answers = paths.iter().filter(|(_, path)| path.answers()).count();
    let summary =
        format!("Probed: {}, {answers} of them answer", count(paths.len(), "path", "paths"));
    open_details(out, &summary, false)?;
    open_table(out, "paths", &["Node", "Path", "Address", "Device", "RTT", "Loss", "MTU"])?;
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    for (name, path) in paths.iter().take(max) {
        let time = path.rtt_us.map(|time| format!("{}.{:02} ms", time / 1000, time % 1000 / 10));
        let mtu = path.passed.map(|passed| match path.needed {
            Some(needed) if path.is_narrow() => format!("{passed} of {needed}"),
            _ => passed.to_string(),
        });
        let loss = or_dash(path.loss().map(|loss| format!("{loss} %")));
        let (side, time, mtu) = (path.side(), or_dash(time), or_dash(mtu));
        row(out, &[name, &side, &path.address, &path.device, &time, &loss, &mtu])?;
    }
    out.write_str(CLOSE_TABLE)?;
    if paths.len() > max {
        remark(out, &format!("{}.", count(paths.len() - max, "more path", "more paths")))?;
    }
    out.write_str("</details>\n")
}

/// Those first that are not up.
fn pods(out: &mut String, view: &View, max: usize) -> fmt::Result {
    let (up, other): (Vec<&Pod>, Vec<&Pod>) = view.pods.iter().partition(|pod| pod.state == "up");
    if view.pods.is_empty() {
        return remark(out, "No pods.");
    }
    let summary =
        format!("Pods: {}, {} up", count(view.pods.len(), "attachment", "attachments"), up.len());
    open_details(out, &summary, !other.is_empty())?;
    let headers = ["Pod", "State", "Addresses", "Network", "Host link", "MTU", "Container"];
    open_table(out, "pods", &headers)?;
    for pod in other.iter().chain(&up).take(max) {
        let (addresses, mtu) = (joined(&pod.addresses), pod.mtu.to_string());
        let id: String = pod.container_id.chars().take(13).collect();
        row(out, &[&pod.name, pod.state, &addresses, &pod.network, &pod.link, &mtu, &id])?;
    }
    out.write_str(CLOSE_TABLE)?;
    if view.pods.len() > max {
        let other = other.len().saturating_sub(max);
        let more = count(view.pods.len() - max, "more", "more");
        remark(out, &format!("{more}, {other} of them not up."))?;
    }
    out.write_str("</details>\n")
}
