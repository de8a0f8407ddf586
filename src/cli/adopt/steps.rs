// SPDX-License-Identifier: Apache-2.0
//! What is done with what was found, in the order in which it is: first what lets the pods
//! go on, last what gives new ones to us. Pure. Each step may have been done before.

use std::net::IpAddr;

use serde_json::Value;

use super::{
    chains::removal,
    found::{OldPod, Remains, proxy_arp},
    site::{Former, Ours, Rules, Site},
};
use crate::{
    conf::{CALICO_IPAM, has_store},
    list::{Gather, PushAll},
    net::{
        link::Link,
        route::{Found, Route, TABLE_MAIN},
    },
    object::{
        Action, Kind, Told,
        link::{marked, tunnel_alias, tunnel_group},
    },
    pod::{Identity, identity::group},
    state::Entry,
};

/// One step.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// A pod that lives is noted as ours, with its link and its addresses.
    Pod(Box<Pod>),
    /// Pods behind the bridge find new ones, which are not.
    ProxyArp(String),
    /// A tunnel is ours.
    Tunnel { index: u32, name: String, alias: String, group: u32 },
    /// A route is ours, so that it is kept true and replaced without a gap.
    Route { was: String, route: Route, index: u32 },
    /// The node becomes what its configuration asks for.
    Pass,
    /// What an agent left in a firewall goes.
    Rules { object: String, program: String, text: String, count: usize },
    /// A table of nf_tables goes.
    Table { family: String, name: String },
    /// A configuration of the other plugin is kept from runtimes.
    File { from: String, to: String },
}

/// A pod as it is to be noted.
#[derive(Clone, Debug)]
pub(super) struct Pod {
    pub(super) entry: Entry,
    /// The addresses that our own pool has to know.
    pub(super) leases: Vec<IpAddr>,
    /// Its link, and its marks; none where it stays behind a bridge.
    pub(super) mark: Option<(u32, String, u32)>,
}

/// What is to be done; nothing without a configuration of ours.
pub(super) fn steps(site: &Site, remains: &Remains<'_>) -> Vec<Step> {
    let Some(ours) = &site.ours else { return Vec::new() };
    let mut steps: Vec<Step> =
        remains.pods.iter().map(|pod| Step::Pod(Box::new(noted(site, ours, *pod)))).gather();
    let bridge = remains.bridge.filter(|_| remains.has_pods());
    let unproxied = bridge.filter(|_| !site.proxy_arp);
    steps.push_all(unproxied.map(|bridge| Step::ProxyArp(bridge.name.clone())));
    if let Some(protocol) = site.protocol() {
        steps.push_all(remains.tunnels.iter().filter_map(|link| tunnel(site, link, protocol)));
        let covered = remains.routes.iter().filter(|found| site.covers(found.route.destination));
        steps.push_all(covered.filter_map(|found| route(site, found, protocol)));
    }
    let firewall = &site.firewall;
    let rules: Vec<Step> = match remains.needs_rules(site) {
        true => Vec::new(),
        false => firewall.rules.iter().map(rules).chain(firewall.tables.iter().map(table)).gather(),
    };
    let files = remains.files.iter().map(|file| {
        let from = file.path.display().to_string();
        Step::File { to: format!("{from}.disabled"), from }
    });
    let last: Vec<Step> = rules.into_iter().chain(files).gather();
    if !steps.is_empty() || !last.is_empty() {
        steps.push(Step::Pass);
    }
    steps.push_all(last);
    steps
}

/// What was noted before is kept, and what lacks is added.
fn noted(site: &Site, ours: &Ours, pod: OldPod<'_>) -> Pod {
    let before = site.noted(&pod.cached.entry);
    let bridged = before.map_or(site.former == Former::Flannel, |entry| entry.bridged);
    let addresses = &pod.cached.entry.addresses;
    let is_of_ours = before.is_none_or(|entry| entry.network == ours.network);
    let leases = if is_of_ours { site.in_range(addresses) } else { Vec::new() };
    // Whose DEL is to take the addresses back; of others nobody here can.
    let ipam = match ours.ipam_type() {
        CALICO_IPAM => ours.ipam.clone(),
        kind if has_store(kind) && !leases.is_empty() => ours.ipam.clone(),
        _ => Value::Null,
    };
    let fresh = Entry {
        network: ours.network.clone(),
        host_link: pod.link.name.clone(),
        lease: addresses.iter().map(|address| ((*address).into(), None)).gather(),
        mtu: pod.link.mtu,
        table: Some(TABLE_MAIN),
        ipam,
        bridged,
        ..pod.cached.entry.clone()
    };
    let mut entry = match before {
        None => fresh,
        Some(entry) if entry.ipam.is_null() => Entry { ipam: fresh.ipam, ..entry.clone() },
        Some(entry) => entry.clone(),
    };
    let sources = site.sources(&pod.link.name);
    if !sources.is_empty() {
        entry.sources = sources;
    }
    let mark =
        (!bridged).then(|| (pod.link.index, Identity::from(&entry).alias(), group(&entry.network)));
    Pod { entry, leases, mark }
}

/// Only one of the name that the fabric asks for; others stay until nobody needs them.
fn tunnel(site: &Site, link: &Link, protocol: u8) -> Option<Step> {
    let plans = site.snapshot.compared.plans();
    let wanted = plans.iter().flat_map(|plan| &plan.desired.objects.tunnels);
    let is_wanted = wanted.into_iter().any(|tunnel| tunnel.name == link.name);
    (is_wanted && marked(link).is_none()).then(|| Step::Tunnel {
        index: link.index,
        name: link.name.clone(),
        alias: tunnel_alias(protocol),
        group: tunnel_group(protocol),
    })
}

/// One with more to it than we would give one stays as it is.
fn route(site: &Site, found: &Found, protocol: u8) -> Option<Step> {
    let is_plain = found.source.is_none() && !found.fixed_mtu && found.route.tos == 0;
    let index = found.device().or(found.devices.is_empty().then_some(0))?;
    is_plain.then(|| Step::Route {
        was: site.words(found),
        route: Route { protocol, ..found.route.clone() },
        index,
    })
}

fn rules(rules: &Rules) -> Step {
    let tables: Vec<&str> = rules.left.iter().map(|left| left.table.as_str()).gather();
    let family = rules.family.word();
    Step::Rules {
        object: format!("{} {family} {}", rules.backend.name(), tables.join(",")),
        program: rules.restore.clone(),
        text: removal(&rules.left),
        count: rules.left.iter().map(|left| left.chains.len()).sum(),
    }
}

fn table((family, name): &(String, String)) -> Step {
    Step::Table { family: family.clone(), name: name.clone() }
}

impl Step {
    /// The step as `manx plan` would tell it; the pass has lines of its own.
    pub(super) fn told(&self) -> Option<Told> {
        let line = |kind, action, object: String, before: Option<&str>, after: Option<String>| {
            Some(Told { kind, action, object, before: before.map(str::to_owned), after })
        };
        match self {
            Self::Pod(pod) => {
                let entry = &pod.entry;
                let name = entry.pod().unwrap_or_else(|| entry.container_id.clone());
                let place = if pod.mark.is_some() { "" } else { ", behind its bridge" };
                let after = format!("{name} of network {}{place}", entry.network);
                let object = format!("link {}", entry.host_link);
                line(Kind::Link, Action::Replace, object, Some("another plugin's"), Some(after))
            }
            Self::ProxyArp(bridge) => {
                let object = format!("sysctl {}", proxy_arp(bridge));
                line(Kind::Sysctl, Action::Replace, object, Some("0"), Some("1".to_owned()))
            }
            Self::Tunnel { name, alias, .. } => {
                let object = format!("link {name}");
                line(
                    Kind::Link,
                    Action::Replace,
                    object,
                    Some("another agent's"),
                    Some(alias.clone()),
                )
            }
            Self::Route { was, route, .. } => {
                let object = format!("route {}", route.destination);
                let after = format!("the same of proto {}", route.protocol);
                line(Kind::Route, Action::Replace, object, Some(was), Some(after))
            }
            Self::Pass => None,
            Self::Rules { object, count, .. } => {
                let before = format!("chains: {count}, and what leads to them");
                line(Kind::Table, Action::Delete, format!("rules {object}"), Some(&before), None)
            }
            Self::Table { family, name } => {
                line(Kind::Table, Action::Delete, format!("table {family} {name}"), None, None)
            }
            Self::File { from, to } => line(
                Kind::Link,
                Action::Replace,
                format!("file {from}"),
                Some("in use"),
                Some(to.clone()),
            ),
        }
    }
}
