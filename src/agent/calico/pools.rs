// SPDX-License-Identifier: Apache-2.0
//! Calico's pools of addresses, and what follows from them for all nodes together.

use std::{collections::BTreeMap, net::IpAddr};

use ipnetwork::IpNetwork;
use serde::Deserialize;

use super::{
    super::watched::{Kind, Metadata, Sent},
    nodes::CalicoNode,
};
use crate::{
    cni::cidr,
    conf::Mode,
    fabric::faults::contains,
    family::{Family, HasFamily},
    list::{Gather, Ordered, PushAll},
};

/// IPPools.
#[derive(Debug)]
pub(crate) struct Pools;

/// A pool, as far as anything here depends on it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Pool {
    pub(crate) name: Box<str>,
    created: Box<str>,
    /// None where it is no network.
    pub(crate) cidr: Option<IpNetwork>,
    pub(crate) mode: Mode,
    /// Packets to a node of the same subnet travel as they are.
    cross_subnet: bool,
    masquerade: bool,
    disabled: bool,
    /// Pods and tunnels have addresses of it.
    serves_nodes: bool,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Object {
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    cidr: String,
    ipip_mode: Option<String>,
    vxlan_mode: Option<String>,
    nat_outgoing: Option<bool>,
    disabled: Option<bool>,
    allowed_uses: Option<Vec<String>>,
}

impl Sent for Object {
    fn key(&self) -> Box<str> {
        self.metadata.name.clone()
    }

    fn version(&self) -> &str {
        &self.metadata.resource_version
    }
}

impl Kind for Pools {
    type Object = Object;
    type Value = Pool;
    const NAME: &'static str = "IPPools";
    const RESOURCE: &'static str = "ippools of Calico";

    fn value(object: Object) -> Pool {
        let Object { metadata, spec } = object;
        let given = |mode: &Option<String>| {
            mode.as_deref().filter(|mode| !matches!(*mode, "" | "Never")).map(str::to_owned)
        };
        let (mode, word) = match (given(&spec.vxlan_mode), given(&spec.ipip_mode)) {
            (Some(word), _) => (Mode::Vxlan, word),
            (None, Some(word)) => (Mode::Ipip, word),
            (None, None) => (Mode::Direct, String::new()),
        };
        let uses = spec.allowed_uses.unwrap_or_default();
        Pool {
            name: metadata.name,
            created: metadata.creation_timestamp.unwrap_or_default(),
            cidr: cidr::parse(&spec.cidr).ok(),
            mode,
            cross_subnet: word == "CrossSubnet",
            masquerade: spec.nat_outgoing == Some(true),
            disabled: spec.disabled == Some(true),
            serves_nodes: uses.is_empty() || uses.iter().any(|use_| use_ != "LoadBalancer"),
        }
    }
}

/// What the pools say together. A cluster may have several, and a node has one fabric.
#[derive(Debug)]
pub(super) struct Choice<'a> {
    pools: Vec<&'a Pool>,
    pub(super) mode: Mode,
    /// The families that travel as they are beside one that does not.
    pub(super) plain: Vec<Family>,
    /// Whether one would, but that the plugin does not know of that.
    pub(super) is_held_back: bool,
    pub(super) cross_subnet: bool,
    pub(super) masquerade: bool,
    /// Pools with pods that cannot be reached in this mode.
    pub(super) unserved: Vec<&'a Pool>,
    /// Pools with pods of which some are masqueraded and others are not.
    pub(super) divided: Vec<&'a Pool>,
}

impl<'a> Choice<'a> {
    /// Where blocks are counts. The oldest of the pools with blocks says the mode, for one
    /// that was just made is what a cluster moves to, and not yet where it is. A family may
    /// travel as it is beside one that does not, where `plain` allows it.
    pub(super) fn of(
        pools: impl IntoIterator<Item = &'a Pool>,
        blocks: &[IpNetwork],
        plain: bool,
    ) -> Option<Self> {
        let mut pools: Vec<&Pool> =
            pools.into_iter().filter(|pool| pool.serves_nodes && pool.cidr.is_some()).gather();
        pools.order_by_key(|pool| (&pool.created, &pool.name));
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for block in blocks {
            if let Some(pool) = around(&pools, block) {
                *counts.entry(&pool.name).or_default() += 1;
            }
        }
        let mut used: Vec<&Pool> =
            pools.iter().copied().filter(|pool| counts.contains_key(&*pool.name)).gather();
        let of_family = |used: &[&Pool], family| used.iter().any(|pool| pool.is_of(family));
        // Before the first pod of a family, those that addresses are given out of.
        for family in Family::BOTH {
            if !of_family(&used, family) {
                let open = |pool: &&Pool| pool.is_of(family) && !pool.disabled;
                used.push_all(pools.iter().copied().filter(open));
            }
        }
        let lead = |family| used.iter().find(|pool| pool.is_of(family)).map(|pool| pool.mode);
        let leads = Family::BOTH.map(lead);
        let (mode, aside) = match leads {
            [Some(Mode::Vxlan), Some(Mode::Direct)] => (Mode::Vxlan, Some(Family::V6)),
            [Some(Mode::Direct), Some(Mode::Vxlan)] if plain => (Mode::Vxlan, Some(Family::V4)),
            _ => (leads.into_iter().flatten().next()?, None),
        };
        let is_held_back =
            !plain && leads.contains(&Some(Mode::Direct)) && leads.contains(&Some(Mode::Vxlan));
        let plain = aside.filter(|_| plain).into_iter().collect::<Vec<Family>>();
        let (served, unserved): (Vec<&Pool>, Vec<&Pool>) =
            used.into_iter().partition(|pool| pool.is_served_by(mode, &plain));
        let encapsulated = || served.iter().filter(|pool| pool.mode == mode);
        let masquerade = served.iter().any(|pool| pool.masquerade);
        let divided = match served.iter().all(|pool| pool.masquerade == masquerade) {
            true => Vec::new(),
            false => served.clone(),
        };
        Some(Self {
            mode,
            is_held_back,
            // What is wrapped without need arrives, what is not wrapped may not.
            cross_subnet: mode != Mode::Direct && encapsulated().all(|pool| pool.cross_subnet),
            masquerade,
            unserved,
            divided,
            plain,
            pools,
        })
    }

    /// How packets of a family travel. IP in IP carries no IPv6.
    pub(super) fn mode_of(&self, family: Family) -> Mode {
        mode_of(self.mode, &self.plain, family)
    }

    /// Whether there are routes to pods of this network.
    pub(super) fn serves(&self, network: &IpNetwork) -> bool {
        around(&self.pools, network).is_some_and(|pool| pool.is_served_by(self.mode, &self.plain))
    }

    /// The families that pods get addresses of; none while a pool is being replaced by one of another
    /// mode. A pod that comes then would be without a family for as long as it lives, or have an
    /// address that no route leads to.
    pub(super) fn families(&self) -> Vec<Family> {
        let has = |family, suits: &dyn Fn(&Pool) -> bool| {
            self.pools.iter().any(|pool| pool.is_of(family) && suits(pool))
        };
        let is_served = |pool: &Pool| pool.is_served_by(self.mode, &self.plain);
        let is_open = |family: &Family| has(*family, &|pool| is_served(pool) && !pool.disabled);
        let is_replaced = |family: &Family| {
            !is_open(family) && has(*family, &is_served) && has(*family, &|pool| !pool.disabled)
        };
        if Family::BOTH.iter().any(is_replaced) {
            return Vec::new();
        }
        Family::BOTH.into_iter().filter(is_open).gather()
    }

    /// The end of a node's tunnels of a family, where there are such tunnels.
    pub(super) fn tunnel(&self, node: &CalicoNode, family: Family) -> Option<IpAddr> {
        let noted = match self.mode_of(family) {
            Mode::Vxlan => node.vxlan(family),
            Mode::Ipip => node.ipip(),
            Mode::Direct => None,
        };
        noted.filter(|_| self.of_tunnels(family).is_some())
    }

    /// Whether it is an address of a pool that tunnels have theirs of.
    pub(super) fn is_of_tunnels(&self, address: IpAddr) -> bool {
        let mode = self.mode_of(address.family());
        around(&self.pools, &address.into()).is_some_and(|pool| pool.mode == mode)
    }

    /// The pool out of which a tunnel of a family may have its address.
    pub(super) fn of_tunnels(&self, family: Family) -> Option<&'a Pool> {
        let suits = |pool: &&&Pool| pool.is_of(family) && pool.mode == self.mode_of(family);
        let open = self.pools.iter().filter(suits).find(|pool| !pool.disabled);
        open.or_else(|| self.pools.iter().find(suits)).copied()
    }
}

/// The smallest pool around a network.
fn around<'a>(pools: &[&'a Pool], network: &IpNetwork) -> Option<&'a Pool> {
    let around = |pool: &&&Pool| pool.cidr.is_some_and(|cidr| contains(&cidr, network));
    pools.iter().filter(around).max_by_key(|pool| pool.cidr.map(|cidr| cidr.prefix())).copied()
}

impl Pool {
    fn is_of(&self, family: Family) -> bool {
        self.cidr.is_some_and(|cidr| cidr.family() == family)
    }

    fn is_served_by(&self, mode: Mode, plain: &[Family]) -> bool {
        self.cidr.is_some_and(|cidr| self.mode == mode_of(mode, plain, cidr.family()))
    }
}

fn mode_of(mode: Mode, plain: &[Family], family: Family) -> Mode {
    match (mode, family) {
        (Mode::Ipip, Family::V6) => Mode::Direct,
        _ if plain.contains(&family) => Mode::Direct,
        _ => mode,
    }
}
