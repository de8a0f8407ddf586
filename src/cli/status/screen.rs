// SPDX-License-Identifier: Apache-2.0
//! The screen of `manx status`: a subject to a line, and below it what is wrong with it.

use std::io;

use super::Console;
use crate::{
    doctor::overview::{Enforcement, Overview, Way, cross_subnet, mode, mtu_of_pods, used},
    fabric::standing::State,
    finding::{Severity, is_bad},
    list::Gather,
    node::Network,
    text::few::{first_of, some_of},
};

/// So many nodes that are not reachable have a line each.
const WRONG_MAX: usize = 5;

pub(super) fn print(overview: &Overview<'_>, console: &mut Console<'_>) -> io::Result<()> {
    let networks = &overview.snapshot.networks;
    let node = overview.node().map_or_else(String::new, |name| format!("{name}, "));
    let version = &overview.snapshot.taken_by;
    let reason = match overview.reason.as_str() {
        "" => String::new(),
        reason => format!(": {reason}"),
    };
    let state = overview.state.as_str();
    let mut screen = Screen(console);
    screen.line("Node", format_args!("{node}manx {version}: {state}{reason}"))?;
    for network in networks {
        screen.line("Network", of_network(network))?;
    }
    for way in &overview.fabrics {
        screen.way(way)?;
    }
    if overview.fabrics.is_empty() {
        let without = networks.iter().all(|network| network.fabric.is_none());
        let words = if without { "none: no peersFile" } else { "not compared: see below" };
        screen.line("Routes", words)?;
    }
    for network in networks {
        let Some(words) = mtu_of_pods(network, overview.snapshot) else { continue };
        screen.line("MTU", words)?;
    }
    let states = overview.pods_by_state();
    let told = states.iter().filter(|(_, count)| *count > 0);
    let told: Vec<String> = told.map(|(state, count)| format!("{count} {state}")).gather();
    screen.line("Pods", if told.is_empty() { "none".to_owned() } else { told.join(", ") })?;
    for network in networks {
        screen.leases(network)?;
    }
    let agent = match &overview.snapshot.surroundings.agent {
        None => "none runs".to_owned(),
        Some(agent) => match agent.ready {
            Some(true) => "runs, and is ready".to_owned(),
            Some(false) => format!("runs, and is not ready: {}", agent.says),
            None => format!("runs, and does not say how it stands: {}", agent.says),
        },
    };
    screen.line("Agent", agent)?;
    let policy = match Enforcement::of(overview.snapshot) {
        Enforcement::Off => "off: nothing filters what pods may send and get",
        Enforcement::Awaited => {
            "awaited: nobody has applied any; networkPolicyMissing says what becomes of pods"
        }
        Enforcement::Lost => "lost: the table is not what it should be; manx doctor says how",
        Enforcement::Partly => {
            "partly: enforced for pods that were there when it was applied; later ones are open"
        }
        Enforcement::Enforced => "enforced; manx policy show lists it",
    };
    screen.line("Policy", policy)?;
    findings(overview, &mut screen)
}

fn findings(overview: &Overview<'_>, screen: &mut Screen<'_, '_>) -> io::Result<()> {
    let (errors, warnings) = (overview.count(Severity::Error), overview.count(Severity::Warning));
    let worst = overview.findings.first().filter(|_| is_bad(&overview.findings));
    let Some(worst) = worst else { return screen.line("Findings", "none") };
    let counted = format!("errors: {errors}, warnings: {warnings}; manx doctor lists them");
    screen.line("Findings", counted)?;
    let (severity, id, object) = (worst.severity.as_str(), worst.id, &worst.object);
    screen.below(format_args!("{severity}: {id}: {object}: {}", worst.evidence))?;
    if worst.fix.is_empty() { Ok(()) } else { screen.below(format_args!("fix: {}", worst.fix)) }
}

/// Lines with their subjects in a column.
struct Screen<'a, 'b>(&'a mut Console<'b>);

impl Screen<'_, '_> {
    fn line(&mut self, subject: &str, text: impl std::fmt::Display) -> io::Result<()> {
        self.0.line(format_args!("{:<10} {text}", format!("{subject}:")))
    }

    fn below(&mut self, text: impl std::fmt::Display) -> io::Result<()> {
        self.0.line(format_args!("{:13}{text}", ""))
    }

    fn way(&mut self, way: &Way<'_>) -> io::Result<()> {
        let (settings, networks) = (&way.seen.settings, way.seen.networks.join(", "));
        let own = settings.encapsulation().map(|one| one.own_keys(&settings.keys));
        let mode = own.filter(|own| !own.is_empty()).unwrap_or_else(|| mode(settings).to_owned());
        let subnets = match cross_subnet(settings) {
            None => String::new(),
            Some(word) => format!(", crossSubnet {word}"),
        };
        let protocol = settings.keys.protocol;
        self.line("Mode", format_args!("{mode}{subnets}, route protocol {protocol} ({networks})"))?;
        for size in &way.sizes {
            self.below(size)?;
        }
        let count = |state| way.count(state);
        let (reachable, degraded) = (count(State::Reachable), count(State::Degraded));
        let excluded = count(State::Excluded);
        let told = format!("{reachable} reachable, {degraded} degraded, {excluded} excluded");
        self.line("Peers", if way.standings.is_empty() { "none".to_owned() } else { told })?;
        for one in way.wrong().take(WRONG_MAX) {
            let (name, state) = (&one.name, one.state.as_str());
            self.below(format_args!("{name} {state}: {}", first_of(&one.why)))?;
        }
        match way.wrong().count().saturating_sub(WRONG_MAX) {
            0 => Ok(()),
            more => self.below(format_args!("{more} more; manx peers lists them")),
        }
    }

    fn leases(&mut self, network: &Network) -> io::Result<()> {
        let Some(pool) = &network.pool else { return Ok(()) };
        let told = |range| {
            let node_range: &crate::node::Range = range;
            let (first, last, size) = (node_range.first, node_range.last, &node_range.size);
            format!("{first}-{last} {} of {size} used", used(pool, range))
        };
        let ranges: Vec<String> = pool.ranges.iter().map(told).gather();
        let words = pool.problem.clone().unwrap_or_else(|| some_of(&ranges));
        self.line("Leases", format_args!("{}: {words}", network.name))
    }
}

fn of_network(network: &Network) -> String {
    let masquerade = if network.masquerades { ", masquerades" } else { "" };
    format!("{} ({}){masquerade}", network.name, network.file.display())
}
