// SPDX-License-Identifier: Apache-2.0
//! The JSON of `manx status`.

use serde_json::{Value, json};

use crate::{
    cli::{doctor, ipam::integer},
    doctor::overview::{Enforcement, Overview, Size, State, Way, cross_subnet, mode, used},
    fabric::standing::{self, Standing},
    list::Gather,
    node::Network,
};

pub(super) fn document(overview: &Overview<'_>) -> Value {
    let snapshot = overview.snapshot;
    let pods = overview.pods_by_state().map(|(state, count)| (state.to_owned(), json!(count)));
    let agent = snapshot.surroundings.agent.as_ref();
    json!({
        "checks": doctor::encode(&overview.examined, &overview.findings),
        "state": match overview.state { State::NotReady => "notReady", other => other.as_str() },
        "reason": overview.reason,
        "node": overview.node(),
        "version": snapshot.taken_by,
        "networks": snapshot.networks.iter().map(network).gather(),
        "fabrics": overview.fabrics.iter().map(way).gather(),
        "pods": Value::Object(pods.into_iter().collect()),
        "agent": agent.map(|agent| json!({"ready": agent.ready, "says": agent.says})),
        "policy": Enforcement::of(snapshot).as_str(),
    })
}

fn network(network: &Network) -> Value {
    let mtu = network.mtu.map(|(ipv4, ipv6)| json!({"IPv4": ipv4, "IPv6": ipv6}));
    let leases = network.pool.iter().flat_map(|pool| {
        pool.ranges.iter().map(|range| {
            json!({"first": range.first, "last": range.last, "size": integer(range.size()),
                   "used": used(pool, range)})
        })
    });
    json!({
        "name": network.name,
        "file": network.file,
        "masquerade": network.masquerades,
        "mtu": mtu,
        "configuredMtu": network.configured_mtu,
        "leases": leases.gather(),
    })
}

fn way(way: &Way<'_>) -> Value {
    let settings = &way.seen.settings;
    let count = |state| way.count(state);
    json!({
        "networks": way.seen.networks,
        "mode": mode(settings),
        "crossSubnet": cross_subnet(settings).unwrap_or("false"),
        "mtu": way.sizes.iter().map(size).gather(),
        "peers": {
            "reachable": count(standing::State::Reachable),
            "degraded": count(standing::State::Degraded),
            "excluded": count(standing::State::Excluded),
            "wrong": way.wrong().map(wrong).gather(),
        },
    })
}

fn size(size: &Size) -> Value {
    json!({"family": size.family.to_string(), "device": size.uplink.device,
           "deviceMtu": size.uplink.mtu, "overhead": size.overhead, "mtu": size.mtu()})
}

fn wrong(one: &Standing) -> Value {
    json!({"name": one.name, "state": one.state.as_str(), "why": one.why})
}
