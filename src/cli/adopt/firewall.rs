// SPDX-License-Identifier: Apache-2.0
//! What an agent left in this node's firewall, by the tools of iptables' backends and by the
//! kernel's own list of chains. What cannot be read is said, and is not taken for nothing.

use std::{
    collections::BTreeSet,
    path::Path,
    process::{Command, Stdio},
};

use super::{
    chains,
    site::{Backend, Former, HOST_LINK, Remainder, Rules},
};
use crate::{
    cli::forward::Firewall,
    conf::Config,
    family::Family,
    list::{Gather, PushAll},
    nft::forward::Ruleset,
    state::{file::TEXT_BYTES_MAX, read_text},
};

/// The table that Felix makes where it does without iptables.
const OWN: &str = "calico";

/// Reads it. With a configuration of ours, what pods would meet without it is judged.
pub(super) fn read(former: Former, ours: Option<&Config>) -> Remainder {
    let mut found = Remainder::default();
    let firewall = Firewall::read(None);
    for family in Family::BOTH {
        for backend in [Backend::Nft, Backend::Legacy] {
            let text = match text(backend, family) {
                Ok(text) => text,
                Err(reason) => {
                    found.unread.push(reason);
                    continue;
                }
            };
            let Some((tool, text)) = text else { continue };
            let left = chains::left(&text, former.marks());
            if left.is_empty() {
                continue;
            }
            found.sources.push_all(left.iter().flat_map(|left| left.sources.iter().cloned()));
            let rest = chains::without(&text, former.marks());
            let legacy = backend == Backend::Legacy;
            let judged = ours.into_iter().flat_map(|config| networks(former, config));
            let barriers =
                judged.flat_map(|config| firewall.judge((&rest, family, legacy), &config));
            let barriers = barriers.gather();
            let restore = format!("{tool}-restore");
            found.rules.push(Rules { backend, family, left, barriers, restore });
        }
    }
    of_kernel(former, &mut found);
    found
}

/// Links of pods that stay have the other plugin's names.
fn networks(former: Former, config: &Config) -> Vec<Config> {
    let mut all = vec![config.clone()];
    let prefix = HOST_LINK;
    if former == Former::Calico && config.host_prefix != prefix {
        all.push(Config { host_prefix: prefix.to_owned(), ..config.clone() });
    }
    all
}

/// The tool of a backend, and what it prints. The plain name is either's.
fn text(backend: Backend, family: Family) -> Result<Option<(String, String)>, String> {
    let tool = format!("{}tables", family.word());
    let own = match backend {
        Backend::Nft => format!("{tool}-nft"),
        Backend::Legacy => format!("{tool}-legacy"),
    };
    let used = match backend {
        // Which chains there are tells the kernel.
        Backend::Nft => String::new(),
        // Its tool would load the kernel's module.
        Backend::Legacy => {
            let path = format!("/proc/net/{}_tables_names", family.word());
            let used = match read_text(Path::new(&path), TEXT_BYTES_MAX) {
                Ok(used) => used,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
                Err(error) => return Err(format!("{path}: {error}")),
            };
            if used.trim().is_empty() {
                return Ok(None);
            }
            used
        }
    };
    let saved = [own.clone(), tool].into_iter().find_map(|tool| {
        let text = saved(&format!("{tool}-save"), backend)?;
        Some((tool, text))
    });
    if saved.is_none() && backend == Backend::Legacy {
        let used = used.split_whitespace().gather().join(", ");
        return Err(format!("{own} has tables ({used}), and there is no {own}-save to read them"));
    }
    Ok(saved)
}

/// What a tool prints, if it is of that backend.
fn saved(tool: &str, backend: Backend) -> Option<String> {
    let version = output(Command::new(tool).arg("--version"))?;
    let is_nft = version.contains("nf_tables");
    (is_nft == (backend == Backend::Nft)).then(|| output(&mut Command::new(tool)))?
}

fn output(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Asks the kernel which chains there are: a tool that is missing, or that finds a table
/// which it does not understand, shows none of them.
fn of_kernel(former: Former, found: &mut Remainder) {
    let chains: Vec<(&str, String, String)> = match Ruleset::read() {
        Ok(ruleset) => ruleset.names().gather(),
        Err(error) if error.is_without_tables() => return,
        Err(error) => {
            found.unread.push(format!("nf_tables: {}", error.cause()));
            return;
        }
    };
    let marks = former.marks();
    let mut unseen: BTreeSet<String> = BTreeSet::new();
    for (family, table, chain) in &chains {
        if former == Former::Calico && table == OWN {
            let own = ((*family).to_owned(), table.clone());
            if !found.tables.contains(&own) {
                found.tables.push(own);
            }
            if chains::is_of_sources(chain) {
                let mut list = Command::new("nft");
                let text = output(list.args(["list", "chain", family, table, chain]));
                found.sources.push_all(chains::sources_of_nft(&text.unwrap_or_default()));
            }
        } else if chain.starts_with(marks.chain) && !found.has(family, table, chain) {
            unseen.insert(format!("table {family} {table}"));
        }
    }
    found.unread.push_all(unseen.into_iter().map(|table| {
        format!("{table} has chains of {}, and iptables-nft-save shows none of them", former.name())
    }));
    if !found.tables.is_empty() && output(Command::new("nft").arg("--version")).is_none() {
        found.unread.push("tables of calico are there, and no nft to remove them".to_owned());
    }
}

impl Remainder {
    /// Whether a chain was read.
    fn has(&self, family: &str, table: &str, chain: &str) -> bool {
        let same = |rules: &&Rules| rules.backend == Backend::Nft && rules.family.word() == family;
        let left = self.rules.iter().filter(same).flat_map(|rules| &rules.left);
        left.filter(|left| left.table == table)
            .any(|left| left.chains.iter().any(|name| name == chain))
    }
}
