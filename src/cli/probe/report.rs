// SPDX-License-Identifier: Apache-2.0
//! What was measured and found, for people and for programs.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    cli::{Console, Failure, findings, table::Table},
    doctor::probe::{CHECKS, Carrier, Found, Peer, Sizes, Skipped},
    finding::{Finding, unfound},
    list::Gather,
    net::icmp::SMALL,
    text::few::some_of,
};

/// The mean of some times.
pub(super) fn mean(times: &[Duration]) -> Option<Duration> {
    let count = u32::try_from(times.len()).ok().filter(|count| *count > 0)?;
    Some(times.iter().sum::<Duration>() / count)
}

/// Of echo requests, in per cent.
fn loss(found: &Found) -> Option<u32> {
    let seen = &found.seen;
    (seen.sent.saturating_sub(seen.received) * 100).checked_div(seen.sent)
}

pub(super) fn print(
    peers: &[Peer],
    found: &[Finding],
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    findings::print(found, console)?;
    let summary = findings::health(found, &format!("nodes probed: {}", peers.len()));
    let is_first = found.is_empty();
    if is_first {
        console.line(&summary)?;
    }
    if peers.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(&["NODE", "PATH", "ADDRESS", "DEVICE", "RTT", "LOSS", "MTU"]);
    for peer in peers {
        for found in &peer.paths {
            table.row(row(peer, found));
        }
    }
    console.table(&table)?;
    print_skipped(peers, console)?;
    if !is_first {
        console.line(&summary)?;
    }
    Ok(())
}

fn row(peer: &Peer, found: &Found) -> [String; 7] {
    let none = || "-".to_owned();
    let path = &found.path;
    let time = mean(&found.seen.times);
    [
        peer.name.clone(),
        format!("{} {}", path.side(), path.family),
        path.address.to_string(),
        path.device.0.clone(),
        time.map_or_else(none, |time| format!("{:.2} ms", time.as_secs_f64() * 1000.0)),
        loss(found).map_or_else(none, |loss| format!("{loss} %")),
        found.sizes().map_or_else(none, |sizes| match sizes.lost {
            Some(_) => format!("{} of {}", sizes.passed, path.limit),
            None => sizes.passed.to_string(),
        }),
    ]
}

/// Each reason once, with the nodes that it is about.
fn print_skipped(peers: &[Peer], console: &mut Console<'_>) -> Result<(), Failure> {
    let mut told: Vec<&str> = Vec::new();
    for Skipped { reason, .. } in peers.iter().flat_map(|peer| &peer.skipped) {
        if told.contains(&reason.as_str()) {
            continue;
        }
        told.push(reason);
        let is_same = |peer: &&Peer| peer.skipped.iter().any(|other| other.reason == *reason);
        let names: Vec<&str> = peers.iter().filter(is_same).map(|peer| peer.name.as_str()).gather();
        console.line(format_args!("not probed: pods of {}: {reason}", some_of(&names)))?;
    }
    Ok(())
}

pub(super) fn encode(me: &str, peers: &[Peer], found: &[Finding]) -> Value {
    let paths = || peers.iter().flat_map(|peer| &peer.paths);
    let skipped = |id: &str| match id {
        "protocol-filtered" if !paths().any(|found| found.path.inner) => {
            Some("no path to pods was probed")
        }
        "path-mtu" if !paths().any(|found| found.sizes().is_some()) => Some("nothing was answered"),
        _ => None,
    };
    let rest = CHECKS.into_iter().filter(|id| found.iter().all(|one| one.id != *id));
    let rest = rest.map(|id| unfound(id, skipped(id)));
    let checks: Vec<Value> = found.iter().map(Finding::encode).chain(rest).gather();
    let peers: Vec<Value> = peers.iter().map(peer).gather();
    json!({"node": me, "checks": checks, "peers": peers})
}

fn peer(peer: &Peer) -> Value {
    let paths: Vec<Value> = peer.paths.iter().map(path).gather();
    let skipped = peer.skipped.iter().map(|Skipped { family, inner, reason, .. }| {
        let side = if *inner { "inner" } else { "outer" };
        json!({"side": side, "family": family.to_string(), "reason": reason})
    });
    json!({"name": peer.name, "paths": paths, "skipped": skipped.gather()})
}

fn path(found: &Found) -> Value {
    let Found { path, seen, remembered, .. } = found;
    let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let times = mean(&seen.times).map(|mean| {
        let (least, most) = (seen.times.iter().min(), seen.times.iter().max());
        let of = |time: Option<&Duration>| time.copied().map(micros);
        json!({"min": of(least), "mean": micros(mean), "max": of(most)})
    });
    let carrier = path.carrier.as_ref().map(|carrier| match carrier {
        Carrier::Ipip => "ipip",
        Carrier::Vxlan(_) => "vxlan",
    });
    let told = found.sizes().and_then(|sizes| sizes.told);
    let udp = seen.datagram.as_ref().filter(|sizes: &&Sizes| sizes.passed > SMALL);
    json!({
        "side": path.side(), "family": path.family.to_string(),
        "address": path.address.to_string(), "source": path.source.to_string(),
        "device": path.device.0, "carrier": carrier,
        "sent": seen.sent, "received": seen.received, "rttMicroseconds": times,
        "udpAnswered": seen.datagrams, "heard": seen.heard,
        "mtu": {
            "device": path.limit, "needed": path.needed,
            "passed": found.sizes().map(|sizes| sizes.passed),
            "lost": found.sizes().and_then(|sizes| sizes.lost),
            "udpPassed": udp.map(|sizes| sizes.passed),
            "told": told.map(|(mtu, _)| mtu), "toldBy": told.map(|(_, by)| by.to_string()),
            "kernel": remembered,
        },
    })
}
