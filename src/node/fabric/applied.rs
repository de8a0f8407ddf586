// SPDX-License-Identifier: Apache-2.0
//! What was applied of a fabric: its form in the file that remembers it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::cidrs::PodCidrs;
use crate::{
    conf::{Config, FabricPart},
    fabric::{Added, Settings, digest, observed::Scope, ways::Ways},
    net::Socket,
    nft,
    pod::mtu::Uplink,
};

/// The form of [`Applied`] that is written; those below are read as well.
pub(super) const VERSION: u32 = 1;

/// What was applied of a fabric, and what an attachment has to know of it.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Applied {
    /// The form of this note, which rises when a field changes its meaning.
    #[serde(default)]
    pub(super) version: u32,
    /// The route protocol; it is in the note's name.
    #[serde(skip)]
    pub protocol: u8,
    /// The network whose configuration was applied.
    pub network: String,
    /// All networks whose configurations were, with the same settings of the fabric.
    #[serde(default)]
    pub(super) sharers: BTreeSet<String>,
    /// What networks have asked for instead, and were refused for others' sake.
    #[serde(default)]
    pub(super) asked: BTreeMap<String, String>,
    /// The settings of the fabric, for a message and to compare.
    pub summary: String,
    /// The configuration as it was.
    pub(super) settings: String,
    /// The configuration's name of the peers file.
    #[serde(default)]
    pub(super) peers_file: Option<String>,
    /// What the list of peers said of the fabric; none where an earlier version noted it.
    #[serde(default)]
    pub(super) said: Option<Value>,
    /// The peers file as it was.
    pub(super) file: String,
    /// Whether that is all.
    pub state: State,
    /// Whether a pass came to its end since boot, whatever was begun since.
    #[serde(default)]
    pub(super) applied: bool,
    /// The kernel's state when a comparison found nothing to change.
    pub(super) digest: Option<u64>,
    /// What the digest is of.
    pub(super) scope: Scope,
    /// What was added to devices of others.
    #[serde(default)]
    pub(super) added: Added,
    /// The narrowest device towards a peer, and its MTU in bytes.
    pub(super) uplink: Option<(String, u32)>,
    /// What that was derived from.
    #[serde(default)]
    pub(super) ways: Ways,
    /// The version of the plugin, as far as it was noted.
    #[serde(default)]
    pub(in crate::node) plugin: Option<String>,
    /// Whether the list names other nodes.
    #[serde(default)]
    pub(super) has_peers: bool,
    /// A number for the addresses that the tunnels' table lists.
    #[serde(default)]
    pub(super) tunnel_listed: Option<u64>,
    /// What is wrong with the peers file, if the last valid one has to do.
    #[serde(default)]
    pub(super) refused_file: Option<String>,
    /// What was told of the fabric as it is, and need not be told again.
    #[serde(default)]
    pub(super) told: Vec<String>,
    /// The pod CIDRs of all nodes.
    #[serde(skip)]
    pub(super) pod_cidrs: PodCidrs,
    /// Those of this node.
    pub own_cidrs: Vec<IpNetwork>,
    /// The addresses of this node's tunnels.
    pub tunnel_addresses: Vec<IpAddr>,
    /// Addresses of other nodes inside this node's own pod CIDRs.
    #[serde(default)]
    pub peers_inside: Vec<IpAddr>,
    /// Whether this node's pods have IPv6.
    pub serves_ipv6: bool,
}

/// How far a fabric has come.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// A change was begun; whoever made it did not live to tell, or failed.
    #[default]
    #[serde(alias = "begun")]
    InProgress,
    /// This stands in the way of all; the rest was done.
    #[serde(alias = "unfit")]
    NotReady(Vec<String>),
    /// All was done but this, which single peers want.
    #[serde(alias = "wanting")]
    Degraded(Vec<String>),
    /// All was done.
    #[serde(alias = "whole")]
    Ready,
}

impl Applied {
    /// The device from which the pods' MTU follows.
    pub fn uplink(&self) -> Option<Uplink> {
        let (device, mtu) = self.uplink.clone()?;
        Some(Uplink { device, mtu })
    }

    /// What the list of peers said of the fabric. The file may say something else by now,
    /// and be no good.
    pub fn said(&self) -> Option<FabricPart> {
        let (part, complaints, _) = FabricPart::of_file(self.said.as_ref()?.as_object()?);
        complaints.is_empty().then_some(part)
    }

    /// The pod CIDRs of all nodes.
    pub fn pod_cidrs(&self) -> Vec<IpNetwork> {
        self.pod_cidrs.all()
    }

    /// A digest of them, at the same cost however many they are.
    pub fn pod_cidrs_digest(&self) -> Option<nft::Digest> {
        self.pod_cidrs.digest()
    }

    /// The networks whose fabric it is besides this one.
    pub(super) fn others<'a>(&'a self, network: &'a str) -> impl Iterator<Item = &'a str> {
        let all = self.sharers.iter().chain([&self.network]);
        all.map(String::as_str).filter(move |name| *name != network)
    }

    /// Whether a network is noted as one of those that agree: if not, a pass of
    /// its own notes it, also where there is nothing else to do.
    pub(super) fn is_of(&self, network: &str) -> bool {
        self.names(network) && !self.asked.contains_key(network)
    }

    /// Whether a network had this fabric, maybe with others.
    pub(super) fn names(&self, network: &str) -> bool {
        self.network == network || self.sharers.contains(network)
    }

    /// Whether a pass came to its end since boot.
    pub fn was_applied(&self) -> bool {
        self.applied || self.state != State::InProgress
    }

    /// Whether another network has these settings in mind.
    pub(super) fn agrees(&self, other: &str, summary: &str) -> bool {
        self.asked.get(other).unwrap_or(&self.summary) == summary
    }

    /// Whether it is this network's fabric and nobody else's.
    pub(super) fn is_only(&self, network: &str) -> bool {
        self.others(network).next().is_none()
    }

    /// Whether nobody needs it any more where this network is served by another route
    /// protocol: nobody shares it, or all who do go by the peers file that names the one
    /// or the other.
    pub(super) fn goes_with(&self, config: &Config) -> bool {
        let keys = &config.fabric;
        let names_one = |part: &FabricPart| part.gives("routeProtocol");
        let of_file = || {
            self.peers_file == keys.peers_file
                && (names_one(&keys.file) || self.said().as_ref().is_some_and(names_one))
        };
        self.is_only(&config.name) || self.names(&config.name) && of_file()
    }

    /// Whether the ways to the peers are what they were. Another MTU on them is
    /// one for tunnels and pods as well.
    pub(super) fn ways_hold(&self, host: &mut Socket) -> bool {
        self.ways.hold(host).unwrap_or_else(|error| {
            log::debug!("the ways to the peers: {error}");
            false
        })
    }

    /// Whether the kernel has all that it had when there was nothing to change.
    pub(super) fn digest_holds(&self, host: &mut Socket, settings: &Settings) -> bool {
        let now = digest::of_kernel(host, settings, &self.scope);
        self.digest.is_some() && self.digest == now.ok()
    }
}
