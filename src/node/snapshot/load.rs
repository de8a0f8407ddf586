// SPDX-License-Identifier: Apache-2.0
//! What a node had to do up to one moment. Two such tell what it has to do now.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// All of them.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Load {
    /// Of each processor's queue of packets.
    pub backlog: Vec<Backlog>,
    /// What each processor did.
    pub processors: Vec<Processor>,
    /// Packets of UDP for this node that came with a wrong checksum.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wrong_checksums: Option<u64>,
    /// Packets that the source check dropped, with the names of our tables.
    pub sources: Vec<(String, u64)>,
    /// What network policies dropped, of pods of which they dropped anything.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub denied: Vec<Denied>,
}

/// What was dropped of a pod's packets in one direction, since the rules were made.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Denied {
    /// The pod's address.
    pub address: IpAddr,
    /// In which direction it is isolated: `egress` or `ingress`.
    pub direction: String,
    /// How many packets.
    pub packets: u64,
}

/// A processor's queue of packets.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Backlog {
    /// Packets for which there was no room.
    pub dropped: u64,
    /// How often its time was up with packets left.
    pub squeezed: u64,
}

/// What a processor did, in ticks of its clock.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Processor {
    /// All of its time.
    pub total: u64,
    /// When it served interrupts of devices and timers, packets among them.
    pub softirq: u64,
    /// When the machine's host gave it to others.
    pub steal: u64,
}
