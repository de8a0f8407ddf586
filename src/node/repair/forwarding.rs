//! That the node forwards the packets of its live pods, and heeds its routers all the
//! same: no pod's link shows it, and anybody may reset it.

use super::Repair;
use crate::{
    family::{Family, HasFamily},
    net::{
        Tables, forwarding,
        sysctl::{self, Sysctl},
    },
    object::{Change, Step},
    pod::Identity,
    state::{Entry, Root, journal},
};

/// What live attachments lack of it: those of networks that `manage` forwarding, and
/// nothing that is `known` elsewhere.
pub fn lacking(
    root: &Root,
    tables: &Tables,
    manage: &dyn Fn(&str) -> bool,
    known: &[Sysctl],
) -> Vec<Repair> {
    let mut entries = journal::all(root);
    entries.retain(|entry| manage(&entry.network));
    let mut repairs = Vec::new();
    for family in Family::BOTH {
        let key = forwarding::key(family);
        let mut of_family = entries.iter().filter(|entry| has_family(entry, family)).peekable();
        if of_family.peek().is_none() || known.iter().any(|sysctl| sysctl.key == key) {
            continue;
        }
        // First: a router that begins to forward forgets what it was told.
        let mut wanted = if family == Family::V6 { heeding(tables) } else { Vec::new() };
        wanted.push(Sysctl::new(key, 1));
        wanted.retain(|wanted| !sysctl::holds(wanted));
        if wanted.is_empty() {
            continue;
        }
        let lives = |entry: &&Entry| {
            let alias = Identity::from(*entry).alias();
            tables.links.iter().any(|link| link.alias.as_deref() == Some(&alias))
        };
        if let Some(entry) = of_family.find(lives) {
            repairs.extend(wanted.into_iter().map(|sysctl| Repair {
                network: entry.network.clone(),
                link: String::new(),
                index: 0,
                change: Change::Sysctl(Step::Create(sysctl)),
            }));
        }
    }
    repairs
}

fn heeding(tables: &Tables) -> Vec<Sysctl> {
    let learned = forwarding::learned(tables.advertised.iter().copied(), tables.routes(Family::V6));
    forwarding::heeding_all(&tables.links, &learned)
}

fn has_family(entry: &Entry, family: Family) -> bool {
    entry.addresses.iter().any(|address| address.family() == family)
}
