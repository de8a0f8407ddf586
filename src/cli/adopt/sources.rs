// SPDX-License-Identifier: Apache-2.0
//! What pods may send from besides their addresses, by Calico's annotation
//! allowedSourcePrefixes: no runtime notes it, but Felix's rules tell. Pure.

use std::collections::BTreeSet;

use ipnetwork::IpNetwork;

use super::site::Site;
use crate::{
    conf,
    finding::{Finding, Severity},
    list::Gather,
    node::table,
    text::few::some_of,
};

impl Site {
    /// What a link may send from besides, as far as our configuration lets it.
    pub(super) fn sources(&self, link: &str) -> Vec<IpNetwork> {
        let serves = self.ours.as_ref().is_some_and(|ours| ours.serves_sources);
        if serves { self.allowed(link) } else { Vec::new() }
    }

    fn allowed(&self, link: &str) -> Vec<IpNetwork> {
        let all = self.firewall.sources.iter().filter(|(name, _)| name == link);
        conf::outermost(all.map(|(_, network)| *network).gather())
    }
}

/// What Felix lets through our check drops, unless the configuration lets pods ask for it.
pub(super) fn lost(site: &Site) -> Option<Finding> {
    let ours = site.ours.as_ref().filter(|ours| !ours.serves_sources)?;
    let links: BTreeSet<&str> = site.firewall.sources.iter().map(|(link, _)| &**link).gather_set();
    let allowed: Vec<(&str, IpNetwork)> = links
        .into_iter()
        .flat_map(|link| site.allowed(link).into_iter().map(move |network| (link, network)))
        .gather();
    if allowed.is_empty() {
        return None;
    }
    let pod = |link: &str| {
        let is_own = |name: &String| name == link;
        let mut own = site.cached.iter().filter(|cached| cached.of_node.iter().any(is_own));
        let name = own.find_map(|cached| cached.entry.pod());
        name.map_or_else(|| link.to_owned(), |name| format!("{name} ({link})"))
    };
    let told: Vec<String> =
        allowed.iter().map(|(link, network)| format!("{} from {network}", pod(link))).gather();
    let evidence = format!("Felix lets these send, and our check drops it: {}", some_of(&told));
    let table = table::name(&ours.network);
    let mut commands = Vec::new();
    for (set, ipv6) in [("allowed4", false), ("allowed6", true)] {
        let own = allowed.iter().filter(|(_, network)| network.is_ipv6() == ipv6);
        let pairs: Vec<String> = own.map(|(link, it)| format!("\"{link}\" . {it}")).gather();
        if !pairs.is_empty() {
            let pairs = pairs.join(", ");
            commands.push(format!("nft add element inet {table} {set} '{{ {pairs} }}'"));
        }
    }
    let fix = format!(
        "put \"sourceSpoofing\": \"annotation\" into {} before --apply, which then keeps them; or \
         afterwards: {}",
        ours.path.display(),
        commands.join("; ")
    );
    let (severity, object) = (Severity::Warning, "allowedSourcePrefixes");
    Some(Finding { fix, ..Finding::new("sources-lost", severity, object, evidence) })
}
